"""How long the event loop is held: a selector that times what runs between two polls.

An asyncio loop polls, runs all that is ready, and polls again. The time from one poll's return to the next poll's call
is exactly how long nothing else could run: what a ticker would see as its delay, without a thousand wake-ups a second
in an idle daemon. Each hold is timed twice: by the clock, as others saw it, and by the processor time of the loop's
thread, as the daemon caused it; what the first is longer, other processes, other threads or a hypervisor took.
It decides nothing; daemon_metrics.py exports it.
"""

from __future__ import annotations

import asyncio
import selectors
import time
from bisect import bisect_left
from itertools import accumulate

BUCKETS_S: tuple[float, ...] = tuple(one / 1000 for one in (*range(1, 21), 25, 30, 40, 50, 75, 100, 200, 500))
"""Upper bounds of the histogram of holds; the last bucket is everything above."""
FAR_OUT = 0.9999
"""The quantile that is shown: one hold of ten thousand is longer."""


class Holds:
    """Holds of the loop by one clock, in seconds: the longest, their sum, and how many are in each bucket."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget all."""
        self.longest_s = 0.0
        self.total_s = 0.0
        self.counts = [0] * (len(BUCKETS_S) + 1)

    def add(self, held_s: float) -> None:
        """The loop was held for so long."""
        self.total_s += held_s
        if held_s <= BUCKETS_S[0]:
            self.counts[0] += 1
            return
        self.counts[bisect_left(BUCKETS_S, held_s)] += 1
        if held_s > self.longest_s:
            self.longest_s = held_s

    def quantile(self, share: float) -> float:
        """At most so long were `share` of the holds: the bound of a bucket, or the longest if that is less."""
        wanted = share * sum(self.counts)
        bounds = (bound for bound, count in zip(BUCKETS_S, accumulate(self.counts)) if count >= wanted)
        return min(next(bounds, self.longest_s), self.longest_s)


class TimedSelector(selectors.EpollSelector):
    """An epoll selector that keeps the holds between its calls: `wall` by the clock, `cpu` by processor time.

    Processor time is asked for once per turn, since that is a system call: the poll's own, some microseconds, counts.
    """

    def __init__(self) -> None:
        super().__init__()
        self.wall = Holds()
        self.cpu = Holds()
        self._returned_at = time.perf_counter()
        self._cpu_at = time.thread_time()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.wall.add(time.perf_counter() - self._returned_at)
        cpu = time.thread_time()
        self.cpu.add(cpu - self._cpu_at)
        self._cpu_at = cpu
        ready = super().select(timeout)
        self._returned_at = time.perf_counter()
        return ready

    def reset(self) -> None:
        """Forget all holds so far: the daemon has started."""
        self.wall.reset()
        self.cpu.reset()


def new_event_loop() -> tuple[asyncio.SelectorEventLoop, TimedSelector]:
    """An event loop on a TimedSelector, and the selector."""
    selector = TimedSelector()
    return asyncio.SelectorEventLoop(selector), selector
