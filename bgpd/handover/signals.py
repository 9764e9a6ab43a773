"""Signals that come while this process becomes another program: that one hears them.

An event loop that does not turn has not heard a signal whose handler ran, and execve(2) forgets it: only signals that
all threads block stay pending. So the handlers write into a pipe (signal.set_wakeup_fd) that the program inherits.
"""

from __future__ import annotations

import contextlib
import os
import signal
from types import TracebackType


class KeptSignals:
    """A context in which signals are not heard, but kept: by `descriptor` for another program (`raise_again`), else for
    this one at the end. Of the main thread, whose loop has to turn some times before it has heard all from before."""

    def __init__(self) -> None:
        self.descriptor, self._into = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def __enter__(self) -> KeptSignals:
        self._former = signal.set_wakeup_fd(self._into, warn_on_full_buffer=False)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        signal.set_wakeup_fd(self._former)
        os.close(self._into)
        raise_again(self.descriptor)


def raise_again(descriptor: int) -> None:
    """Have this process sent what a `KeptSignals` of it, or of the program that it was, has kept; closes it."""
    numbers = b""
    with contextlib.suppress(OSError):  # nothing is in it
        numbers = os.read(descriptor, 4096)
    os.close(descriptor)
    for number in dict.fromkeys(numbers):
        os.kill(os.getpid(), number)
