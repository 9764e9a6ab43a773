"""How many changes of routes each neighbor has caused lately, and so whose changes the kernel gets first.

Changes wait for the kernel in the order in which they came, which is fair among neighbors that have equally much to
say. Who has had far less to say than the busiest one does not wait behind that one's changes. Sans-IO: told the time.
"""

from __future__ import annotations

HALF_LIFE_S = 1.0
"""What a neighbor has caused counts half as much after this."""
BUSIER, AHEAD = 4, 16_384
"""So many times as many changes, and so many more, a neighbor must have caused for another one's to overtake its own.
Of neighbors that send their whole tables at the same time none does, though not each route of the second one changes
anything."""


class RecentChanges:
    """Counts of changes by the name of who has caused them."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._halved_at = 0.0

    def add(self, cause: str, count: int, now: float) -> bool:
        """So many more, at a time in seconds; whether they are to be first: another one has caused far more. Those of
        several ("") never are, nor do they count: neighbors that send their tables at the same time cause many."""
        if not cause:
            return False
        if now - self._halved_at >= HALF_LIFE_S:
            halvings = int((now - self._halved_at) / HALF_LIFE_S)
            self._counts = {name: one >> halvings for name, one in self._counts.items() if one >> halvings}
            self._halved_at = now
        self._counts[cause] = self._counts.get(cause, 0) + count
        return not self._is_busy(cause)

    def busy(self) -> set[str]:
        """Who is not first."""
        return {name for name in self._counts if self._is_busy(name)}

    def _is_busy(self, cause: str) -> bool:
        return BUSIER * self._counts[cause] + AHEAD >= max(self._counts.values())
