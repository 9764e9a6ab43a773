"""Whether the disk answers. A process of which a thread waits for one that hangs ends only when that goes on: no signal
ends such a wait, and neither exec nor exit goes past it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

_OWN_THREADS = Path("/proc/self/task")
_LOOK_S = 0.05
"""Pause between two looks at threads."""


class Disk:
    """The disk of a directory, which is asked in a thread of its own."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="disk")
        self._asked: asyncio.Future[None] | None = None

    async def answers(self, directory: Path) -> None:
        """Returns once it has taken a change, or has said why it does not, and no thread of this process waits for any
        disk. One that hangs has one question, however often it is asked."""
        if self._asked is None or self._asked.done():
            self._asked = asyncio.get_running_loop().run_in_executor(self._thread, _touch, directory)
        await asyncio.shield(self._asked)
        await threads_are_free()


async def threads_are_free() -> None:
    """Returns once no thread of this process waits in the kernel so that nothing ends it."""
    while has_stuck_thread():  # noqa: ASYNC110 -- the kernel tells nobody
        await asyncio.sleep(_LOOK_S)


def has_stuck_thread(threads: Path = _OWN_THREADS) -> bool:
    """Whether a thread of this process waits so now: state D of proc(5). That may be for a moment only."""
    for thread in os.listdir(threads):
        with contextlib.suppress(OSError):  # it has ended
            if (threads / thread / "stat").read_text().rpartition(") ")[2].startswith("D"):
                return True
    return False


def _touch(directory: Path) -> None:
    with contextlib.suppress(OSError):  # it answers
        os.utime(directory)
