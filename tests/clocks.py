"""Clocks that tests set: one that stands still, and an event loop whose time passes only while it waits.

What a test takes on a busy machine changes nothing then.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import TypeVar

T = TypeVar("T")


class StoppedClock:
    """Takes the place of the module `time`; `now` and `cpu` (of the thread) change when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.cpu = 10.0

    def perf_counter(self) -> float:
        return self.now

    def thread_time(self) -> float:
        return self.cpu


class _WaitsNoTime(selectors.EpollSelector):
    """Answers at once; what the loop would have waited for is added to `now`."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and timeout is None:
            raise AssertionError("nothing is left that could happen")
        if not ready and timeout is not None:
            self.now += max(timeout, 0.0)
        return ready


class _SimulatedLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self.waits = _WaitsNoTime()
        super().__init__(self.waits)

    def time(self) -> float:
        return self.waits.now

    processor_time = time  # what is worked is all that takes time


def spend(seconds: float) -> None:
    """What runs in simulated time has worked for so long."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, _SimulatedLoop)
    loop.waits.now += seconds


def in_simulated_time(work: Coroutine[object, object, T]) -> T:
    """Result of `work`, run in a loop of its own whose time passes only by waiting. No threads, no child processes."""
    with asyncio.Runner(loop_factory=_SimulatedLoop) as runner:
        return runner.run(work)
