"""When to answer a neighbor's ROUTE-REFRESH requests (RFC 2918).

However often the neighbor asks, one answer is being sent and at most one is pending, since that one covers all later
requests. After an answer there is a pause in proportion to its length, so that a neighbor that asks without end gets a
fixed share of the time. Sans-IO and clockless. Decides nothing about routes.
"""

from __future__ import annotations

from bgpd.model.iana import Family
from bgpd.speaker.saved import SavedRequests

LEAST_PAUSE_S = 0.2
PAUSES_PER_ANSWER = 4
MOST_PAUSE_S = 60.0


class RefreshRequests:
    """The requests of one session. Times are seconds of a monotonic clock. `marked`: families of which the neighbor was
    told that all routes are sent again, and not yet that they were."""

    def __init__(self) -> None:
        self.marked: set[Family] = set()
        self._begun_at: dict[Family, float] = {}
        self._not_before: dict[Family, float] = {}
        self._waiting: set[Family] = set()

    @property
    def saved(self) -> SavedRequests:
        """What `restore` takes."""
        return SavedRequests(dict(self._begun_at), dict(self._not_before), list(self._waiting))

    def restore(self, saved: SavedRequests) -> None:
        """Go on as another process has left it: an answer that it had begun is begun anew (rib/adj_rib_out.py)."""
        self._begun_at, self._not_before = dict(saved.begun_at), dict(saved.not_before)
        self._waiting = set(saved.waiting)
        self.marked = set(saved.begun_at)

    def requested(self, family: Family, now: float) -> bool:
        """The neighbor asks: whether it is to be answered now. Otherwise the request waits, and is `due` later."""
        if family in self._begun_at or now < self._not_before.get(family, now):
            self._waiting.add(family)
            return False
        self._begun_at[family] = now
        return True

    def answered(self, family: Family, now: float) -> bool:
        """All routes of the family were sent; whether that is to be said, since their beginning was."""
        begun_at = self._begun_at.pop(family, None)
        if begun_at is not None:
            pause_s = PAUSES_PER_ANSWER * (now - begun_at)
            self._not_before[family] = now + min(max(LEAST_PAUSE_S, pause_s), MOST_PAUSE_S)
        was_marked = family in self.marked
        self.marked.discard(family)
        return was_marked

    def deadline(self) -> float | None:
        """When `due` wants to be asked; None: only after `requested` or `answered`."""
        return min((self._not_before[family] for family in self._waiting - self._begun_at.keys()), default=None)

    def due(self, now: float) -> list[Family]:
        """The families whose waiting request is to be answered now."""
        due = [family for family in self._waiting - self._begun_at.keys() if now >= self._not_before[family]]
        self._waiting.difference_update(due)
        self._begun_at.update(dict.fromkeys(due, now))
        return due
