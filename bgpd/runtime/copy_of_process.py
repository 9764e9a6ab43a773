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
import mmap
import os
import resource
import signal
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NoReturn

from bgpd.runtime.events import NOTHING, log
from bgpd.runtime.programs import fork_own, reap_own

Work = Callable[[], bytes | Awaitable[bytes]]
"""What is worked out. What it schedules happens only if it waits."""
PATIENCE_S = 50.0
"""Less than the command line waits."""
LAST = 19
"""Niceness of what runs when nothing else does."""
_MOST_ERROR = 2_000
_DONE, _FAILED = b"+", b"-"
_HEAD = struct.Struct("!cQ")
"""Which of these it is, and the length of the answer that follows: a copy that is ended while it answers has said only
a part."""


class CopyFailed(Exception):
    """The copy has not answered: why."""


async def in_a_copy(work: Work, *, patience_s: float = PATIENCE_S, niceness: int = LAST) -> memoryview:
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
    if not answer.is_whole:
        raise CopyFailed("the copy was ended, for want of memory perhaps")
    if answer.kind != _DONE:
        raise CopyFailed(bytes(answer.view).decode(errors="replace"))
    return answer.view


class _Answer:
    """What the copy says, a piece in each turn of the loop. It is read to where it stays: an answer may have a hundred
    megabytes, and to copy them holds the loop, the more as nobody has touched that memory."""

    def __init__(self) -> None:
        self.kind = b""
        self.view = memoryview(b"")
        self._head = b""
        self._filled = 0

    @property
    def is_whole(self) -> bool:
        return bool(self.kind) and self._filled == len(self.view)

    def read_some(self, reader: int) -> bool:
        """Read what is there; whether there may be more. Raises: OSError: there is no memory for it."""
        if not self.kind:
            part = os.read(reader, _HEAD.size - len(self._head))
            self._head += part
            if len(self._head) == _HEAD.size:
                self.kind, size = _HEAD.unpack(self._head)
                self.view = memoryview(mmap.mmap(-1, size)) if size else self.view
            return bool(part) and not self.is_whole
        size = os.readv(reader, [self.view[self._filled :]])
        self._filled += size
        return size > 0 and not self.is_whole


async def _read(reader: int) -> _Answer:
    """All that comes. Raises: CopyFailed: there is no memory for it."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()
    answer = _Answer()
    os.set_blocking(reader, False)

    def more() -> None:
        if done.done():
            return
        try:
            if not answer.read_some(reader):
                done.set_result(None)
        except OSError as error:
            done.set_exception(CopyFailed(f"its answer cannot be read: {error.strerror}"))

    loop.add_reader(reader, more)
    try:
        await done
    finally:
        loop.remove_reader(reader)
    return answer


def _work_in_copy(work: Work, writer: int, niceness: int) -> NoReturn:
    """In a loop of its own, since what the work schedules must find one."""
    try:
        _give_up_all_but(writer)
        with contextlib.suppress(OSError):
            os.nice(niceness)
        asyncio.run(_work(work, writer))
    except BaseException as error:
        _write(writer, _FAILED, repr(error).encode(errors="replace")[:_MOST_ERROR])
    finally:
        os._exit(0)


async def _work(work: Work, writer: int) -> NoReturn:
    found = work()
    answer = found if isinstance(found, bytes) else await found
    _write(writer, _DONE, answer)
    os._exit(0)


def _write(writer: int, kind: bytes, answer: bytes) -> None:
    for part in (_HEAD.pack(kind, len(answer)), answer):
        view = memoryview(part)
        while view:
            view = view[os.write(writer, view) :]


def _give_up_all_but(writer: int) -> None:
    gc.disable()
    logging.disable(logging.CRITICAL)
    log.least = NOTHING
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
