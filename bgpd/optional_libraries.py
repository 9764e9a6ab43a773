"""What the daemon's libraries are loaded without: parts that they use if there are any, and that bgpd does not need.

Decides nothing at run time. Figures and reasons: docs/decisions/0004-what-the-daemon-does-not-load.md.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

UNNEEDED = ("rich", "ssl")
"""structlog draws tracebacks with rich where it is installed; a log wants plain text. asyncio, http.client and aiohttp
load ssl for TLS that bgpd does not leave to them: MQTT's library and HTTPS health checks (`workload.tls`) use it on
their own.
"""


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
