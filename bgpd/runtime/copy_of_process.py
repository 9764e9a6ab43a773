"""Works something out in a copy of this process (fork), which may change all that it sees: nothing of it comes back but
the answer.

For questions about a change of much state: the real code makes the change, in the copy. The copy cannot do harm: it has
no file descriptor that leads anywhere but its end of a pipe, and an event loop of its own. It runs last, unless it is
waited for, and the kernel ends it first when memory is short. It takes memory for what it touches, up to as much as
this process has.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import resource
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NoReturn

import structlog

from bgpd.runtime.programs import fork_own, reap_own

Work = Callable[[], bytes | Awaitable[bytes]]
"""What is worked out. What it schedules happens only if it waits."""
PATIENCE_S = 50.0
"""Less than the command line waits."""
LAST = 19
"""Niceness of what runs when nothing else does."""
_MOST_ERROR = 2_000
_DONE, _FAILED = b"+", b"-"
_LENGTH_BYTES = 8
"""The length of an answer stands before it: a copy that is ended while it answers has said only a part."""


class CopyFailed(Exception):
    """The copy has not answered: why."""


async def in_a_copy(work: Work, *, patience_s: float = PATIENCE_S, niceness: int = LAST) -> bytes:
    """What `work` answers in a copy of this process, as it is now. The loop is held while the process is copied, some
    20 us for each MiB. `niceness`: how far it steps back behind other processes.

    Raises: CopyFailed: `work` raised, took longer than `patience_s`, or there is no room for a copy.
    """
    ends: tuple[int, ...] = ()
    try:
        reader, writer = ends = os.pipe2(os.O_CLOEXEC)
        child = fork_own()
    except OSError as error:
        for end in ends:
            os.close(end)
        raise CopyFailed(f"the process cannot be copied: {error.strerror}") from error
    if not child:
        _work_in_copy(work, writer, niceness)
    os.close(writer)
    try:
        async with asyncio.timeout(patience_s):
            answer = await _read(reader)
    except TimeoutError:
        raise CopyFailed(f"it took longer than {patience_s:.0f} s") from None
    finally:
        os.close(reader)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        await asyncio.shield(asyncio.to_thread(reap_own, child))
    if answer.startswith(_FAILED):
        raise CopyFailed(answer[1:].decode(errors="replace"))
    head = 1 + _LENGTH_BYTES
    if not answer.startswith(_DONE) or len(answer) != head + int.from_bytes(answer[1:head]):
        raise CopyFailed("the copy was ended, for want of memory perhaps")
    return answer[head:]


async def _read(reader: int) -> bytes:
    """All that comes, until the other end is closed."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()
    parts: list[bytes] = []
    os.set_blocking(reader, False)

    def more() -> None:
        part = os.read(reader, 1 << 20)
        parts.append(part)
        if not part and not done.done():
            loop.remove_reader(reader)
            done.set_result(None)

    loop.add_reader(reader, more)
    try:
        await done
    finally:
        loop.remove_reader(reader)
    return b"".join(parts)


def _work_in_copy(work: Work, writer: int, niceness: int) -> NoReturn:
    """In a loop of its own, since what the work schedules must find one."""
    try:
        _give_up_all_but(writer)
        with contextlib.suppress(OSError):
            os.nice(niceness)
        asyncio.run(_work(work, writer))
    except BaseException as error:
        _write(writer, _FAILED + repr(error).encode(errors="replace")[:_MOST_ERROR])
    finally:
        os._exit(0)


async def _work(work: Work, writer: int) -> NoReturn:
    found = work()
    answer = found if isinstance(found, bytes) else await found
    _write(writer, _DONE + len(answer).to_bytes(_LENGTH_BYTES) + answer)
    os._exit(0)


def _write(writer: int, answer: bytes) -> None:
    view = memoryview(answer)
    while view:
        view = view[os.write(writer, view) :]


def _give_up_all_but(writer: int) -> None:
    gc.disable()
    logging.disable(logging.CRITICAL)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    signal.set_wakeup_fd(-1)
    for ending in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGALRM):
        signal.signal(ending, signal.SIG_DFL)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(nowhere, number)
    os.closerange(3, writer)
    os.closerange(writer + 1, most)
