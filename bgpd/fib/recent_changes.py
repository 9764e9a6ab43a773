"""How many changes of routes each neighbor has caused lately, and so whose changes the kernel gets first.

Changes wait for the kernel in the order in which they came, which is fair among neighbors that have equally much to
say. Who has had far less to say than the busiest one does not wait behind that one's changes. Sans-IO: told the time.
"""

from __future__ import annotations

HALF_LIFE_S = 1.0
"""What a neighbor has caused counts half as much after this."""
AHEAD = 16_384
"""By so many changes a neighbor must be busier than another one for that one's to overtake its own: neighbors that
send their whole tables at the same time do not."""
_ABREAST = 4_096


class RecentChanges:
    """Counts of changes by the name of who has caused them; "" stands for several, and for this host."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._halved_at = 0.0

    def add(self, source: str, count: int, now: float) -> bool:
        """So many more, at a time in seconds; whether they are to be first: others have caused far more."""
        halvings = int((now - self._halved_at) / HALF_LIFE_S)
        if halvings > 0:
            self._counts = {name: one >> halvings for name, one in self._counts.items() if one >> halvings}
            self._halved_at = now
        counts = self._counts
        mine = counts[source] = counts.get(source, 0) + count
        return mine + AHEAD < max(counts.values())

    def busiest(self) -> set[str]:
        """Who has caused the most, and who nearly as many."""
        least = max(self._counts.values(), default=0) - _ABREAST
        return {name for name, count in self._counts.items() if count >= least}
