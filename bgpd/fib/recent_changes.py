"""How many changes of routes each neighbor has caused lately, and so whose changes the kernel gets first.

Changes wait for the kernel in the order in which they came, which is fair among neighbors that have equally much to
say. Who has had far less to say than the busiest one, or has far less waiting than another one though it is not much
busier, does not wait behind. Sans-IO: told the time.
"""

from __future__ import annotations

from collections import Counter

HALF_LIFE_S = 1.0
"""What a neighbor has caused counts half as much after this."""
AHEAD = 16_384
"""By so many changes a neighbor must be ahead of another one for that one's to overtake its own: neighbors that send
their whole tables at the same time are not."""
_BUSIER = 2
"""So many times as many changes as another one may have caused who has less waiting than that, and is first for it."""
_ABREAST = 4_096


class RecentChanges:
    """Counts of changes by the name of who has caused them; "" stands for several, and for this host. `waiting`: those
    that are not written."""

    def __init__(self, waiting: Counter[str]) -> None:
        self._waiting = waiting
        self._caused: Counter[str] = Counter()
        self._halved_at = 0.0

    def add(self, cause: str, count: int, now: float) -> bool:
        """So many more, at a time in seconds; whether they are to be first."""
        if now - self._halved_at >= HALF_LIFE_S:
            halvings = int((now - self._halved_at) / HALF_LIFE_S)
            self._caused = Counter({name: one >> halvings for name, one in self._caused.items() if one >> halvings})
            self._halved_at = now
        caused, waiting = self._caused, self._waiting
        caused[cause] += count
        if not waiting:
            return False
        longest = max(waiting, key=waiting.__getitem__)
        if longest == cause and waiting[cause] > AHEAD:
            return False
        is_quiet = caused[cause] + AHEAD < max(caused.values())
        return is_quiet or (waiting[cause] + AHEAD < waiting[longest] and caused[cause] < _BUSIER * caused[longest])

    def busiest(self) -> set[str]:
        """Who has the most waiting, and who has nearly as much."""
        least = max(self._waiting.values(), default=0) - _ABREAST
        return {name for name, count in self._waiting.items() if count >= least}
