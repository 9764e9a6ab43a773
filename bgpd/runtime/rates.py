"""Rate limits for work and log lines that others can trigger at will.

A token bucket; a logger that uses one and counts the suppressed lines; and a limit on the share of a processor for work
that events trigger. Clockless, except for the processor time of that work.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

_T = TypeVar("_T")

BURST_LINES = 20
LINE_EVERY_S = 3.0


class Bucket:
    """`most` at once, then one every `every_s` seconds. Times are seconds of a monotonic clock."""

    def __init__(self, most: int, every_s: float) -> None:
        self._most = most
        self._every_s = every_s
        self._left = float(most)
        self._at: float | None = None

    def take(self, now: float) -> bool:
        """Whether one more is allowed now; it counts then."""
        if self._at is not None:
            self._left = min(self._left + (now - self._at) / self._every_s, self._most)
        self._at = now
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True


class LineBudget:
    """Log lines about one party: who connects, or flaps, without end fills no log."""

    def __init__(self) -> None:
        self._bucket = Bucket(BURST_LINES, LINE_EVERY_S)
        self._left_out = 0

    def write(self, line: Callable[..., object], event: str, /, *, now: float, **fields: object) -> None:
        """Write a line, with how many were left out before it, or leave it out."""
        if not self._bucket.take(now):
            self._left_out += 1
            return
        if self._left_out:
            fields["left_out"] = self._left_out
            self._left_out = 0
        line(event, **fields)


class Share:
    """Work takes at most one part in `parts` of the time: after it there is a rest of so many times what it took.

    Processor time counts, not the clock's: who was stopped, swapped out or kept waiting while it worked would rest for
    many times that, and know nothing of what happened meanwhile.
    """

    def __init__(self, parts: int) -> None:
        self._parts = parts
        self._spent_s = 0.0
        self._not_before = 0.0

    def spend(self, work: Callable[[], _T]) -> _T:
        """Do some work in the calling thread, and count what it takes."""
        started = time.thread_time()
        try:
            return work()
        finally:
            self._spent_s += time.thread_time() - started

    def rest(self, now: float) -> None:
        """The work is done: the next begins after a rest. Times are seconds of a monotonic clock."""
        self._not_before = now + self._parts * self._spent_s
        self._spent_s = 0.0

    def pause_s(self, now: float) -> float:
        """How long to wait until the next work may begin."""
        return max(0.0, self._not_before - now)
