"""That only one bgpd keeps the routes of a protocol number in a network namespace: two would delete each other's.

The lock is an abstract unix socket, unix(7): its name is the namespace's own, and the kernel frees it with the process,
however that ends. A daemon that is just ending is waited for. A program that could keep no routes is not believed: any
user may take such a name. Decides nothing else.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
import struct
from pathlib import Path

import structlog

log = structlog.get_logger()

PATIENCE_S = 5.0
"""How long a daemon that is ending may take: it writes what is queued for the kernel."""

_PAUSE_S = 0.05
_CREDENTIALS = struct.Struct("3i")
_CAP_NET_ADMIN = 12


class AnotherRuns(Exception):
    """Another bgpd has these routes; the text says which process, and what to do."""


class NamespaceLock:
    """The lock for routes of `protocol` in this process's network namespace."""

    def __init__(self, protocol: int) -> None:
        self._protocol = protocol
        self._name = f"\0bgpd/routes/{protocol}"
        self._socket: socket.socket | None = None

    async def acquire(self, patience_s: float = PATIENCE_S) -> None:
        """Have the lock until `release`, or the end of the process.

        Raises: AnotherRuns: another bgpd has it, and did not end in time.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + patience_s
        pid = 0
        while not self._bind():
            if not pid:
                pid, uid = _holder(self._name)
                if pid and uid not in (0, os.geteuid()) and not _may_keep_routes(pid):
                    log.warning("bgpd.lock_ignored", pid=pid, uid=uid, reason="that process may keep no routes")
                    return
                log.info("bgpd.waiting_for_another", pid=pid)
            if loop.time() >= end:
                raise AnotherRuns(self._advice(pid))
            await asyncio.sleep(_PAUSE_S)

    def release(self) -> None:
        """Give the lock up."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _bind(self) -> bool:
        lock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            lock.bind(self._name)
            lock.listen(128)
        except OSError:
            lock.close()
            return False
        self._socket = lock
        return True

    def _advice(self, pid: int) -> str:
        which = f"process {pid}" if pid else "a process in another PID namespace"
        return (
            f"another bgpd ({which}) keeps routes of protocol {self._protocol} in this network namespace: "
            "stop it first; if both are meant to run, give this one another fib.protocol and fib.metric"
        )


def _holder(name: str) -> tuple[int, int]:
    """Process and user that listen at a name; (0, 0) if that cannot be told."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        try:
            probe.connect(name)
            found = probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        except OSError:
            return 0, 0
    pid, uid, _ = _CREDENTIALS.unpack(found)
    return pid, uid


def _may_keep_routes(pid: int) -> bool:
    """Whether a process has CAP_NET_ADMIN; False if it may not be looked at."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    found = re.search(r"^CapEff:\s*([0-9a-f]+)$", status, re.MULTILINE)
    return found is not None and bool(int(found[1], 16) >> _CAP_NET_ADMIN & 1)
