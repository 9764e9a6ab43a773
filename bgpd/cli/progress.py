"""A word on standard error for who waits longer than a second, on a terminal only.

A timer's signal writes it, whatever the command does meanwhile: wait for an answer, read a file, work.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from types import FrameType

PATIENCE_S = 1.0
EVERY_S = 0.25
_ERASE = b"\r\x1b[K"


class Progress:
    """`is_wanted`: whether this command may say it; not the daemon, and not what owns the screen."""

    def __init__(self) -> None:
        self.is_wanted = False
        self._is_said = False

    @contextlib.contextmanager
    def of(self, what: str | Callable[[], str]) -> Iterator[None]:
        """For as long as the block: what is waited for, or how far it is. The outermost block says it."""
        if not self.is_wanted or self._is_said or not sys.stderr.isatty():
            yield
            return
        import shutil

        began, has_written = time.monotonic(), False

        def write(number: int, frame: FrameType | None) -> None:
            nonlocal has_written
            has_written = True
            text = f"bgpd: {what if isinstance(what, str) else what()}, {time.monotonic() - began:.0f} s"
            width = max(shutil.get_terminal_size().columns - 1, 1)
            with contextlib.suppress(OSError):
                os.write(2, _ERASE + text[:width].encode(sys.stderr.encoding or "ascii", errors="replace"))

        self._is_said = True
        before = signal.signal(signal.SIGALRM, write)
        signal.setitimer(signal.ITIMER_REAL, PATIENCE_S, EVERY_S)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
            self._is_said = False
            if has_written:
                with contextlib.suppress(OSError):
                    os.write(2, _ERASE)


progress = Progress()
"""Of this process."""
