"""Notices that a neighbor, whose session goes on, withdraws many of its routes: one event for all of them.

Goes by the number of its routes, looked at again and again; never sees a route.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from bgpd.model.source import Source

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
    """What sessions had at the last look, and since when it becomes less."""

    def __init__(self) -> None:
        self._last: dict[Source, int] = {}
        self._falling: dict[Source, tuple[int, float]] = {}
        self._looked_at = 0.0

    def look(self, counts: Mapping[Source, int], now: float) -> list[Loss]:
        """These are the counts of the established sessions; what has fallen, and falls no more, is answered. A session
        that is not among them any more has ended, which is told of otherwise, though its neighbor has another one."""
        found = []
        for source, count in counts.items():
            last = self._last.get(source, 0)
            if count < last:
                self._falling.setdefault(source, (last, self._looked_at))
            elif source in self._falling:
                before, since = self._falling.pop(source)
                if before - last >= max(LEAST, SHARE * before):
                    found.append(Loss(source.name, before, last, since))
        self._last = dict(counts)
        self._falling = {source: one for source, one in self._falling.items() if source in counts}
        self._looked_at = now
        return found
