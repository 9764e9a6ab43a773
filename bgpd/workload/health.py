"""Whether a backend is healthy, from the results of its checks: rise and fall.

Sans-IO and clockless; `checker` runs the checks.
"""

from __future__ import annotations

import msgspec


class Health(msgspec.Struct, eq=False):
    """The health of one checked address.

    `healthy` is None until `rise` good or `fall` bad results came in a row. `reason` is the latest bad result's,
    `since` when `healthy` took its value (wall clock, seconds).
    """

    rise: int
    fall: int
    healthy: bool | None = None
    reason: str = "not checked yet"
    since: float = 0.0
    streak: int = 0

    def result(self, reason: str, now: float) -> bool:
        """Take one result, "" for a good one; whether `healthy` changed."""
        good = not reason
        self.streak = max(self.streak, 0) + 1 if good else min(self.streak, 0) - 1
        if not good or self.healthy is None:
            self.reason = reason
        if self.healthy is not True and self.streak >= self.rise:
            self._enter(True, now)
            self.reason = ""
            return True
        if self.healthy is not False and -self.streak >= self.fall:
            self._enter(False, now)
            return True
        return False

    def _enter(self, healthy: bool, now: float) -> None:
        self.healthy = healthy
        self.since = now
