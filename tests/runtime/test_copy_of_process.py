"""Work in a copy of the process: its answer comes, what it changes does not, and whatever becomes of it is told."""

from __future__ import annotations

import asyncio
import errno
import mmap
import os
import signal
import socket
import time
from pathlib import Path

import pytest

from bgpd.config.schema import LogConfig
from bgpd.log import EventRing, set_up_logging
from bgpd.runtime import copy_of_process, programs
from bgpd.runtime.copy_of_process import _HEAD, CopyFailed, in_a_copy
from bgpd.runtime.events import log
from labs.process import wait_until
from tests.logs import log_plainly


@pytest.fixture
def others() -> set[int]:
    """The children that other tests have left to this process."""
    return set(programs._children())


async def test_answer_comes_and_changes_stay_in_the_copy() -> None:
    state = {"routes": 1}

    async def work() -> bytes:
        state["routes"] = 2
        return b"%d" % state["routes"] * 3_000_000

    assert await in_a_copy(work) == b"2" * 3_000_000
    assert state == {"routes": 1}


async def test_what_the_work_schedules_does_not_happen_unless_it_waits(tmp_path: Path) -> None:
    happened = tmp_path / "happened"

    async def work() -> bytes:
        asyncio.get_running_loop().call_soon(happened.touch)
        return b"done"

    assert await in_a_copy(work) == b"done"
    assert not happened.exists()

    async def waiting() -> bytes:
        happened: list[bytes] = []
        asyncio.get_running_loop().call_soon(happened.append, b"done")
        await asyncio.sleep(0)
        return happened[0]

    assert await in_a_copy(waiting) == b"done"


async def test_what_is_logged_in_the_copy_goes_nowhere() -> None:
    """Its outputs are closed, and another thread may have held the lock of the events when it was made."""
    ring = EventRing()
    reader, writer = os.pipe()
    set_up_logging(LogConfig(), ring, os.fdopen(writer, "w"))
    try:
        log.warning("here")

        async def work() -> bytes:
            log.error("there")
            return b"done"

        with ring._numbering:
            assert await in_a_copy(work) == b"done"
    finally:
        log_plainly()
        os.close(reader)


async def test_what_it_raises_is_told() -> None:
    async def work() -> bytes:
        raise ValueError("no such neighbor")

    with pytest.raises(CopyFailed, match="no such neighbor"):
        await in_a_copy(work)


async def test_sockets_of_the_process_cannot_be_used_by_the_copy() -> None:
    here, there = socket.socketpair()

    async def work() -> bytes:
        here.send(b"a message of the copy")
        return b""

    with pytest.raises(CopyFailed, match="Bad file descriptor"):
        await in_a_copy(work)
    there.setblocking(False)
    with pytest.raises(BlockingIOError):
        there.recv(1)
    here.close()
    there.close()


async def test_one_that_takes_too_long_is_ended_and_reaped(others: set[int]) -> None:
    async def work() -> bytes:
        time.sleep(60)  # noqa: ASYNC251
        return b""

    with pytest.raises(CopyFailed, match="longer than"):
        await in_a_copy(work, patience_s=0.1)
    assert set(programs._children()) <= others


async def test_one_that_is_killed_is_told() -> None:
    async def work() -> bytes:
        os.kill(os.getpid(), signal.SIGKILL)
        return b""

    with pytest.raises(CopyFailed, match="was ended"):
        await in_a_copy(work)


async def test_one_that_is_ended_while_it_answers_has_said_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def write(writer: int, kind: bytes, answer: bytes) -> None:
        os.write(writer, (_HEAD.pack(kind, len(answer)) + answer)[:-1])
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(copy_of_process, "_write", write)
    with pytest.raises(CopyFailed, match="was ended"):
        await in_a_copy(lambda: b"a route, another route")
    with pytest.raises(CopyFailed, match="was ended"):
        await in_a_copy(lambda: b"")


async def test_a_great_answer_is_read_in_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop turns between pieces, and the answer is never copied as a whole."""
    readv = os.readv
    pieces: list[int] = []

    def read(reader: int, room: list[memoryview]) -> int:
        pieces.append(readv(reader, room))
        return pieces[-1]

    monkeypatch.setattr(os, "readv", read)
    answer = await in_a_copy(lambda: b"x" * (4 << 20))
    assert answer == b"x" * (4 << 20)
    assert isinstance(answer.obj, mmap.mmap)
    assert max(pieces) <= 1 << 20


async def test_without_descriptors_there_is_no_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    def pipe(flags: int) -> tuple[int, int]:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(os, "pipe2", pipe)
    with pytest.raises(CopyFailed, match="Too many open files"):
        await in_a_copy(lambda: b"")


async def test_who_no_longer_waits_leaves_no_process_behind(tmp_path: Path, others: set[int]) -> None:
    begun = tmp_path / "begun"

    async def work() -> bytes:
        begun.touch()
        time.sleep(60)  # noqa: ASYNC251
        return b""

    asking = asyncio.ensure_future(in_a_copy(work))
    await asyncio.to_thread(wait_until, begun.exists, 20, "the copy")
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert set(programs._children()) <= others


async def test_copy_is_ended_first_and_runs_last() -> None:
    async def work() -> bytes:
        score = Path("/proc/self/oom_score_adj").read_text().strip()  # noqa: ASYNC240
        return f"{score} {os.nice(0)}".encode()

    assert await in_a_copy(work) == b"1000 19"


def test_the_unit_lets_the_copy_run_last() -> None:
    """nice(3) is setpriority(2), which @resources forbids."""
    unit = (Path(__file__).parents[2] / "systemd" / "bgpd.service").read_text()
    *_, allowed = [line for line in unit.splitlines() if line.startswith("SystemCallFilter=")]
    assert "setpriority" in allowed.partition("=")[2].split()
