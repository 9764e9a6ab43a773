"""Which of several claims of one address came first, also over a restart.

Every claim of an address has a rank; the lowest rank holds the address. Feeds save the ranks of contested addresses.
After a restart claims arrive in another order than before: each takes its former rank, and a contested address stays
unassigned until the claim that held it arrives, or until the first state of all sources is complete.

Decides nothing else; `standing` and `table` decide what follows from a conflict.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping

from bgpd.model.workload import Claim
from bgpd.workload.sources import Restart, kinds
from bgpd.workload.standing import AddressKey, ClaimStatus, Entry, agree, is_kernel_route

HOLDER = 0
WAITING = 3
"""The lowest rank of a claim that waits: after what is claimed at the start and not saved (`SourceKind.rank_at_start`).
State files have such ranks."""

_Name = tuple[str, str]


class ClaimOrder:
    """Ranks of claims. `starting`: claims that arrive now existed before the restart or come from the configuration."""

    def __init__(self) -> None:
        self.starting = True
        self._remembered: dict[AddressKey, dict[_Name, int]] = {}  # what has come is taken out, the place stays

    def remember(self, source: str, id: str, ranks: Mapping[AddressKey, int]) -> None:
        """These ranks an earlier run gave to the claims of one workload or service."""
        for place, rank in ranks.items():
            self._remembered.setdefault(place, {})[source, id] = rank

    def enter(self, place: AddressKey, entry: Entry, status: ClaimStatus) -> None:
        """Put a new claim among those of its address.

        An orchestrator's claim for an address held by a kernel-route claim takes precedence, since it has the MAC.
        """
        claim = status.claim
        kind = kinds()[claim.source]
        earlier = self._remembered.get(place)
        rank = earlier.pop((claim.source, claim.id), None) if earlier else None
        if rank is not None:
            status.rank = rank
        elif self.starting or (earlier is not None and kind.restart is Restart.REPLAYED):
            status.rank = kind.rank_at_start
        elif entry.claims and _says_more(claim, entry.claims[0].claim):
            entry.claims.insert(0, status)
            self.renumber(entry)
            return
        elif entry.claims:
            status.rank = max(entry.claims[-1].rank + 1, WAITING)
        entry.claims.insert(bisect_right(entry.claims, status.rank, key=_rank), status)

    def holder_left(self, place: AddressKey, entry: Entry) -> None:
        """Precedence decides which claim follows a holder that gave up; while claims are still awaited, rank does."""
        if place not in self._remembered:
            entry.claims.sort(key=lambda status: kinds()[status.claim.source].precedence)
            self.renumber(entry)

    def give_way(self, entry: Entry) -> None:
        """A service without healthy backends gives its address to the first one that has some, which keeps it."""
        first = entry.claims[0].claim
        if not (first.withheld or first.is_last_resort):
            return
        for index, status in enumerate(entry.claims):
            claim = status.claim
            if claim.source == first.source and not (claim.withheld or claim.is_last_resort):
                entry.claims.insert(0, entry.claims.pop(index))
                self.renumber(entry)
                return

    @staticmethod
    def renumber(entry: Entry) -> None:
        """Assign ranks in the present order of the claims: the first holds the address."""
        for index, status in enumerate(entry.claims):
            status.rank = index - 1 + WAITING if index else HOLDER

    def waits_for(self, place: AddressKey, entry: Entry) -> bool:
        """Whether a claim that came before all of these may still come: it was there before the restart."""
        earlier = self._remembered.get(place)
        if earlier is None:
            return False
        first = entry.claims[0].rank
        return first >= WAITING or (bool(earlier) and min(earlier.values()) < first)

    def known(self) -> set[AddressKey]:
        """Stop waiting for claims of the earlier run. Returns the addresses to renumber."""
        self.starting = False
        places = set(self._remembered)
        self._remembered.clear()
        return places


def _says_more(claim: Claim, holder: Claim) -> bool:
    return is_kernel_route(holder) and not is_kernel_route(claim) and agree(holder, claim)


def _rank(status: ClaimStatus) -> int:
    return status.rank
