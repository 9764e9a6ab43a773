"""Notices that a neighbor, whose session goes on, withdraws many of its routes: one event for all of them.

Goes by the number of its routes, looked at again and again; never sees a route.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

LEAST = 100
SHARE = 0.1
"""So many routes, and such a part of all that it had, are told of."""


class Loss(msgspec.Struct, frozen=True):
    """A neighbor had `before` routes at `since`, and has `now`."""

    neighbor: str
    before: int
    now: int
    since: float


class Losses:
    """What neighbors had at the last look, and since when it becomes less."""

    def __init__(self) -> None:
        self._last: dict[str, int] = {}
        self._falling: dict[str, tuple[int, float]] = {}
        self._looked_at = 0.0

    def look(self, counts: Mapping[str, int], now: float) -> list[Loss]:
        """These are the counts of the established sessions; what has fallen, and falls no more, is answered. A neighbor
        that is not among them any more has lost its session, which is told of otherwise."""
        found = []
        for name, count in counts.items():
            last = self._last.get(name, 0)
            if count < last:
                self._falling.setdefault(name, (last, self._looked_at))
            elif name in self._falling:
                before, since = self._falling.pop(name)
                if before - last >= max(LEAST, SHARE * before):
                    found.append(Loss(name, before, last, since))
        self._last = dict(counts)
        self._falling = {name: one for name, one in self._falling.items() if name in counts}
        self._looked_at = now
        return found
