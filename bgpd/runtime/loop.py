"""How long the event loop is held: a selector that times what runs between two polls.

An asyncio loop polls, runs all that is ready, and polls again. The time from one poll's return to the next poll's call
is exactly how long nothing else could run: what a ticker would see as its delay, without a thousand wake-ups a second
in an idle daemon. It decides nothing; daemon_metrics.py exports it.
"""

from __future__ import annotations

import asyncio
import selectors
import time

BUCKETS_S = (0.001, 0.002, 0.005, 0.010, 0.020, 0.050, 0.100)
"""Upper bounds of the histogram of holds; the last bucket is everything above."""


class TimedSelector(selectors.EpollSelector):
    """An epoll selector that keeps the longest hold and a histogram of holds, in seconds."""

    def __init__(self) -> None:
        super().__init__()
        self.longest_s = 0.0
        self.holds = [0] * (len(BUCKETS_S) + 1)
        self.held_total_s = 0.0
        self._returned_at = time.perf_counter()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        held = time.perf_counter() - self._returned_at
        self.held_total_s += held
        if held > BUCKETS_S[0]:
            self.longest_s = max(self.longest_s, held)
            self.holds[next((i for i, bound in enumerate(BUCKETS_S) if held <= bound), len(BUCKETS_S))] += 1
        else:
            self.holds[0] += 1
        ready = super().select(timeout)
        self._returned_at = time.perf_counter()
        return ready

    def reset_longest(self) -> float:
        """The longest hold since the last call, in seconds; resets it."""
        longest, self.longest_s = self.longest_s, 0.0
        return longest


def new_event_loop() -> tuple[asyncio.SelectorEventLoop, TimedSelector]:
    """An event loop on a TimedSelector, and the selector."""
    selector = TimedSelector()
    return asyncio.SelectorEventLoop(selector), selector
