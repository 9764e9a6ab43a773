"""What the daemon's libraries are loaded without: parts that they use if there are any, and that bgpd does not need.

Decides nothing at run time. Figures and reasons: docs/decisions/0005-what-the-daemon-does-not-load.md.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

_UNNEEDED = ("rich", "ssl", "frozenlist._frozenlist")
"""structlog draws tracebacks with rich where it is installed; a log wants plain text. asyncio, http.client and aiohttp
load ssl for TLS that bgpd does not leave to them: MQTT's library and HTTPS health checks (`workload.tls`) use it on
their own. frozenlist, of which aiohttp makes a handful of lists, has a C++ form that brings the C++ library with it.
"""
_OPENSSL_HASHES = "_hashlib"
"""hashlib, which aiohttp imports for WebSockets, loads OpenSSL, and does without it where Python has its own hashes."""
_OWN_HASHES = (
    ("_md5", "_sha1", "_sha2", "_sha3", "_blake2"),
    ("_md5", "_sha1", "_sha256", "_sha512", "_sha3", "_blake2"),
)
"""Of Python 3.12 and later, and before it; some distributions build Python without."""


def unneeded() -> tuple[str, ...]:
    """What to be `without` while the daemon is imported."""
    own_hashes = any(all(map(find_spec, modules)) for modules in _OWN_HASHES)
    return (*_UNNEEDED, _OPENSSL_HASHES) if own_hashes else _UNNEEDED


@contextmanager
def without(*names: str) -> Iterator[None]:
    """While inside, importing `names` fails as if they were not installed (ModuleNotFoundError).

    What is imported inside does without them for good; afterwards they can be imported as ever. Those that are
    loaded already stay.
    """
    hidden = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None: "there is no such module"
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]
