"""A service address that goes down again and again is held back for longer and longer, until it stays up.

Counted as `damping` counts addresses, with a longer memory, since checks are slow: the first three times in a minute it
is announced as soon as it works again; after that it is held back for a quarter of a minute, then for more, at most two
minutes after it went down last. It always goes down at once, and what an orchestrator drains does not count. Held back
it serves what arrives all the same. Decides only that, of one address. Sans-IO.
"""

from __future__ import annotations

import time

import msgspec

from bgpd.workload.damping import Limits, Penalty

SUPPRESS, REUSE, CEILING = 3.0, 2.5, 10.0
_FORGOTTEN = 0.1
"""A count that is not worth keeping."""
_TICK = 1e-6
"""Timers may be so much too early."""


def limits_of(half_life_s: float) -> Limits | None:
    """The limits by the configured half life; None if nothing is held back."""
    if not half_life_s:
        return None
    return Limits(half_life_s=half_life_s, suppress=SUPPRESS, reuse=REUSE, ceiling=CEILING)


class Flapping(msgspec.Struct, eq=False):
    """One address. `is_fit`: nothing but this keeps it from being announced.

    While it is held back: `since` and `until` when (wall clock, seconds), and `downs`, how often it has gone down since
    it was last at rest.
    """

    is_fit: bool = False
    penalty: Penalty | None = None
    downs: int = 0
    since: float | None = None
    until: float | None = None

    def went_down(self, limits: Limits | None, *, counts: bool, now: float, wall: float) -> None:
        """It must not be announced now. `counts`: because something failed."""
        if self.is_fit and counts and limits is not None:
            if self.penalty is None or self.penalty.counted(now, limits) < _FORGOTTEN:
                self.penalty, self.downs = Penalty(at=now), 0
            self.penalty.gone(now, limits)
            self.downs += 1
            if self.since is not None:
                self.until = wall + self.penalty.until - now
        self.is_fit = False

    def came_up(self, limits: Limits | None, *, now: float, wall: float) -> bool:
        """It could be announced now; whether it begins to be held back. `look_at` says until when it is."""
        self.is_fit = True
        penalty = self.penalty
        if limits is None or penalty is None:
            self._end()
        elif self.since is not None:
            if now >= penalty.until - _TICK:
                self._end()
        elif penalty.counted(now, limits) > limits.suppress:
            penalty.hold_back(limits)
            self.since, self.until = wall, wall + penalty.until - now
            return True
        return False

    def _end(self) -> None:
        self.since = self.until = None
        if self.penalty is not None:
            self.penalty.until = 0.0

    @property
    def look_at(self) -> float | None:
        """When it is held back no longer (the clock that only goes forward); None if it is not."""
        return self.penalty.until if self.penalty is not None and self.since is not None else None

    @property
    def reason(self) -> str:
        """Why it is held back; "" if it is not."""
        if self.until is None:
            return ""
        at = time.strftime("%H:%M:%S UTC", time.gmtime(self.until))
        return f"it went down {self.downs} times lately: announced again at {at} if it stays up"
