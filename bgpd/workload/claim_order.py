"""Which of several claims of one address came first, also over a restart.

Every claim of an address has a rank; the lowest holds it. Feeds save the ranks of contested addresses. After a start
the claims come in another order than before: each takes its former place, and an address is given to nobody while the
claim that held it has not come yet, until the first state of all sources is known.

Decides nothing else; what follows from a conflict, `standing` and `table` do.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping

from bgpd.model.workload import Claim
from bgpd.workload.standing import KERNEL, Entry, Held, Table, agree

HOLDER = 0
_INITIAL = {"static": 1, KERNEL: 2}
"""Of what configuration and kernel say at the start, of which nothing is saved: after the holder that was restored,
before those that waited."""

WAITING = 3
"""The lowest of a claim that waits."""

_PRECEDENCE = {"static": 0, "api": 1, "mqtt": 1, "service": 1, KERNEL: 2}

Place = tuple[Table, bytes]
_Name = tuple[str, str]


class ClaimOrder:
    """Ranks of claims. `starting`: what is claimed now was there before the restart, or is the configuration's."""

    def __init__(self) -> None:
        self.starting = True
        self._remembered: dict[Place, dict[_Name, int]] = {}  # what has come is taken out, the place stays

    def remember(self, source: str, id: str, ranks: Mapping[Place, int]) -> None:
        """These ranks an earlier run gave to the claims of one workload or service."""
        for place, rank in ranks.items():
            self._remembered.setdefault(place, {})[source, id] = rank

    def enter(self, place: Place, entry: Entry, held: Held) -> None:
        """Put a new claim among those of its address. What is said of a kernel route that came first goes ahead of it:
        it tells the MAC and all else that the route does not.
        """
        claim = held.claim
        earlier = self._remembered.get(place)
        rank = earlier.pop((claim.source, claim.id), None) if earlier else None
        if rank is not None:
            held.rank = rank
        elif self.starting or (earlier is not None and claim.source in _INITIAL):
            held.rank = _INITIAL.get(claim.source, HOLDER)
        elif entry.claims and _tells_more(claim, entry.claims[0].claim):
            entry.claims.insert(0, held)
            self.renumber(entry)
            return
        elif entry.claims:
            held.rank = max(entry.claims[-1].rank + 1, WAITING)
        entry.claims.insert(bisect_right(entry.claims, held.rank, key=_rank), held)

    def holder_left(self, place: Place, entry: Entry) -> None:
        """Precedence decides who follows a holder that gave up; while claims are still to come, the ranks do."""
        if place not in self._remembered:
            entry.claims.sort(key=lambda held: _PRECEDENCE[held.claim.source])
            self.renumber(entry)

    @staticmethod
    def renumber(entry: Entry) -> None:
        """Ranks as the claims stand now: the first holds the address."""
        for index, held in enumerate(entry.claims):
            held.rank = index - 1 + WAITING if index else HOLDER

    def waits_for(self, place: Place, entry: Entry) -> bool:
        """Whether a claim that came before all of these may still come: it was there before the restart."""
        earlier = self._remembered.get(place)
        if earlier is None:
            return False
        first = entry.claims[0].rank
        return first >= WAITING or (bool(earlier) and min(earlier.values()) < first)

    def known(self) -> set[Place]:
        """What has not come by now is not waited for any more. Returns the addresses to be numbered anew."""
        self.starting = False
        places = set(self._remembered)
        self._remembered.clear()
        return places


def _tells_more(claim: Claim, holder: Claim) -> bool:
    return holder.source == KERNEL != claim.source and agree(holder, claim)


def _rank(held: Held) -> int:
    return held.rank
