"""What the daemon loads, and what it does not: memory that every host would pay for, and the length of a restart."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

from bgpd.optional_libraries import without

CODE = """
import sys
from bgpd.__main__ import main
import bgpd.optional_libraries as libraries
with libraries.without(*libraries.UNNEEDED):
    import bgpd.daemon
print(*sorted({name.partition(".")[0] for name in sys.modules}))
import ssl
"""


def test_daemon_loads_nothing_that_is_not_configured() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert loaded & {"ssl", "rich", "pygments", "pyroute2", "netaddr", "sqlite3", "aiomqtt", "paho", "exabgp"} == set()
    assert loaded >= {"aiohttp", "asyncio", "structlog"}


def test_hidden_library_can_be_imported_afterwards() -> None:
    assert "this" not in sys.modules
    with without("this"), pytest.raises(ModuleNotFoundError):
        importlib.import_module("this")
    assert "this" not in sys.modules


def test_loaded_library_stays() -> None:
    with without("ast", "this"):
        importlib.import_module("ast")
