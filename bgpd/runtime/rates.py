"""Limits for what others can bring about as often as they like: some at once, then so many in a time.

A token bucket, and log lines under one: those that are left out are counted. Clockless.
"""

from __future__ import annotations

from collections.abc import Callable

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
