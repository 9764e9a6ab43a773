"""What the daemon loads, and what it does not: memory that every host would pay for, and the length of a restart."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

from bgpd import optional_libraries
from bgpd.optional_libraries import unneeded, without

CODE = """
import sys
from bgpd.__main__ import main
from bgpd.optional_libraries import unneeded, without
with without(*unneeded()):
    import bgpd.daemon
print(*sorted({name.partition(".")[0] for name in sys.modules}))
import hashlib
import hmac
import ssl
assert hashlib.sha1(b"x").digest() == hashlib.new("sha1", b"x").digest()
assert ssl.create_default_context()
assert hmac.digest(b"key", b"x", "sha256")
"""


def test_daemon_loads_nothing_that_is_not_configured() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    unwanted = {"ssl", "_ssl", "_hashlib", "rich", "pygments", "pyroute2", "netaddr", "sqlite3", "aiomqtt", "exabgp"}
    assert loaded & unwanted == set()
    assert loaded >= {"aiohttp", "asyncio", "structlog"}


def test_hidden_library_can_be_imported_afterwards() -> None:
    assert "this" not in sys.modules
    with without("this"), pytest.raises(ModuleNotFoundError):
        importlib.import_module("this")
    assert "this" not in sys.modules


def test_loaded_library_stays() -> None:
    with without("ast", "this"):
        importlib.import_module("ast")


def test_python_without_hashes_of_its_own_keeps_those_of_openssl(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "_hashlib" in unneeded()
    monkeypatch.setattr(optional_libraries, "find_spec", lambda name: None)
    assert "_hashlib" not in unneeded()
