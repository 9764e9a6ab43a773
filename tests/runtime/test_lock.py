"""The lock that keeps two daemons from fighting over one kernel's routes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from bgpd.runtime.lock import AnotherRuns, NamespaceLock

PROTOCOL = 1_000_000 + os.getpid()
HOLDER = """
import socket, sys, time
held = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
held.bind(chr(0) + "bgpd/routes/" + sys.argv[1])
held.listen(1)
print("held", flush=True)
time.sleep(60)
"""


@contextlib.contextmanager
def holding(*command: str) -> Iterator[subprocess.Popen[bytes]]:
    """Another process that has the lock; killed in the end."""
    command = (*command, sys.executable, "-c", HOLDER, str(PROTOCOL))
    with subprocess.Popen(command, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        try:
            yield holder
        finally:
            holder.kill()


async def test_second_is_refused_and_told_which_process_has_it() -> None:
    first, second = NamespaceLock(PROTOCOL), NamespaceLock(PROTOCOL)
    await first.acquire()
    with pytest.raises(
        AnotherRuns, match=rf"another bgpd \(process {os.getpid()}\) keeps routes of protocol {PROTOCOL}"
    ):
        await second.acquire(0.1)
    other = NamespaceLock(PROTOCOL + 10_000_000)
    await other.acquire(0)
    other.release()
    first.release()
    await second.acquire(0)
    second.release()


async def test_one_that_is_ending_is_waited_for() -> None:
    first, second = NamespaceLock(PROTOCOL), NamespaceLock(PROTOCOL)
    await first.acquire()
    asyncio.get_running_loop().call_later(0.2, first.release)
    await second.acquire()
    second.release()


async def test_lock_is_free_when_its_holder_was_killed() -> None:
    lock = NamespaceLock(PROTOCOL)
    with holding() as holder, pytest.raises(AnotherRuns, match=f"process {holder.pid}"):
        await lock.acquire(0)
    await lock.acquire()
    lock.release()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become nobody")
async def test_a_user_who_may_keep_no_routes_keeps_nobody_from_starting() -> None:
    with holding("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"):
        await NamespaceLock(PROTOCOL).acquire(0)
