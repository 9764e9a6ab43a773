"""All claims of all sources: by workload, as the sources name them, and by address, in the order of `claim_order`.

Sources write only here. `table` is notified of changed addresses and decides their state.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain

import msgspec

from bgpd.model.iana import Family
from bgpd.model.prefix import VrfFamily, format_key, parse_prefix
from bgpd.model.views.routes import WorkloadView
from bgpd.model.workload import Claim, WorkloadState
from bgpd.workload.claim_order import ClaimOrder
from bgpd.workload.foreign import ForeignRoutes
from bgpd.workload.sources import Restart, kinds
from bgpd.workload.standing import AddressKey, ClaimStatus, Entry, agree, view_of


class Claims:
    """Which claims there are, by workload and by address; `changed(place)` is called for each address with other ones.

    `foreign` is asked to follow the routes that cover an address whose claim rests on them.
    """

    def __init__(self, *, foreign: ForeignRoutes, changed: Callable[[AddressKey], None]) -> None:
        self.order = ClaimOrder()
        self._foreign = foreign
        self._changed = changed
        self._entries: dict[VrfFamily, dict[bytes, Entry]] = defaultdict(dict)
        self._workloads: dict[tuple[str, str], tuple[Claim, ...]] = {}
        self._on_interface: dict[str, dict[AddressKey, None]] = defaultdict(dict)
        self._states: Counter[tuple[str, WorkloadState]] = Counter()
        self._is_replaying = True

    # What sources say.

    def claim(self, source: str, id: str, claims: Sequence[Claim] = ()) -> None:
        """All that the workload `id` of `source` claims from now on; without claims it is gone. Idempotent."""
        name = (source, id)
        old = self._workloads.get(name, ())
        new = tuple(claims)
        if old == new:
            return
        if new:
            self._workloads[name] = new
        else:
            del self._workloads[name]
        if old:
            kept = set(map(place_of, new))
            for claim in old:
                if place_of(claim) not in kept:
                    self._remove(claim)
        for claim in new:
            self._add(claim)

    def _add(self, claim: Claim) -> None:
        table, key = place = (claim.vrf, claim.family), claim.key
        entry = self._entries[table].get(key)
        if entry is None:
            entry = self._entries[table][key] = Entry()
        for status in entry.claims:
            if status.is_of(claim.source, claim.id):
                if msgspec.structs.replace(status.claim, bandwidth=claim.bandwidth, note=claim.note) == claim:
                    status.claim = claim
                    self._changed(place)
                    return
                self._leave_interface(entry, status.claim, place)
                if status.claim.mac != claim.mac:
                    status.former = None
                status.claim, status.since = claim, 0.0
                entry.moved = ""
                break
        else:
            status = ClaimStatus(claim)
            self.order.enter(place, entry, status)
            self._states[claim.source, status.state] += 1
            if not self._is_replayed(claim):
                entry.moved = ""
        entry.error = ""
        if claim.interface:
            self._on_interface[claim.interface][place] = None
        if claim.needs_route:
            self._foreign.follow(table, key)
        self._changed(place)

    def _is_replayed(self, claim: Claim) -> bool:
        """Whether a claim may be as old as the restart: then it does not say that a workload came here."""
        return self.order.starting or (self._is_replaying and kinds()[claim.source].restart is Restart.REPLAYED)

    def _remove(self, claim: Claim) -> None:
        place = place_of(claim)
        entry = self._entries[place[0]][place[1]]
        index = 0
        while not entry.claims[index].is_of(claim.source, claim.id):
            index += 1
        status = entry.claims.pop(index)
        status.is_given_up = True
        entry.gone.append(status)
        self._states[claim.source, status.state] -= 1
        if index == 0 and entry.claims:
            self.order.holder_left(place, entry)
            if entry.claims[0].claim.mac != claim.mac:  # what is said of a MAC that moved does not concern another one
                entry.moved = ""
        self._leave_interface(entry, claim, place)
        self._changed(place)

    def _leave_interface(self, entry: Entry, claim: Claim, place: AddressKey) -> None:
        """Forget that an address is on an interface, unless another of its claims says so."""
        if not claim.interface:
            return
        for status in entry.claims:
            if status.claim is not claim and status.claim.interface == claim.interface:
                return
        places = self._on_interface[claim.interface]
        places.pop(place, None)
        if not places:
            del self._on_interface[claim.interface]

    # The order over a restart.

    def remember(self, source: str, id: str, vrf: str, ranks: Mapping[str, int]) -> None:
        """An earlier run gave these `ranks` to contested addresses ("10.64.1.5/32") of a workload that will come."""
        places: dict[AddressKey, int] = {}
        for prefix, rank in ranks.items():
            family, key = parse_prefix(prefix)
            places[(vrf, family), key] = rank
        self.order.remember(source, id, places)

    def started(self) -> None:
        """What was saved is restored, what the configuration says is claimed: what comes now, comes later."""
        self.order.starting = False

    def replayed(self) -> None:
        """All sources have sent their claims from before the start again."""
        self._is_replaying = False

    def order_known(self) -> None:
        """All sources have sent their first state: stop waiting for claims of an earlier run."""
        for place in self.order.known():
            entry = self.at(place)
            if entry is not None:
                self.order.renumber(entry)
                self._changed(place)

    def ranks(self, source: str, id: str) -> dict[str, int]:
        """What `remember` needs of a workload after a restart: its rank at each address that another claims too."""
        found = {}
        for claim in self._workloads.get((source, id), ()):
            claims = self._entries[claim.vrf, claim.family][claim.key].claims
            if len(claims) > 1 and not all(agree(claims[0].claim, status.claim) for status in claims):
                mine = next(status for status in claims if status.is_of(source, id))
                found[format_key(claim.family, claim.key)] = mine.rank
        return found

    def contested(self) -> set[tuple[str, str]]:
        """Source and id of all workloads and services with an address that others claim too."""
        entries = chain.from_iterable(table.values() for table in self._entries.values())
        return {(s.claim.source, s.claim.id) for entry in entries if len(entry.claims) > 1 for s in entry.claims}

    # What the table reads and writes.

    def at(self, place: AddressKey) -> Entry | None:
        """The entry of an address, None if nobody claims it."""
        table = self._entries.get(place[0])
        return table.get(place[1]) if table is not None else None

    def forget(self, place: AddressKey) -> None:
        """Nobody claims an address any more, and all that is to be done for that is done."""
        del self._entries[place[0]][place[1]]
        self._foreign.unfollow(*place)

    def enter(self, status: ClaimStatus, state: WorkloadState, reason: str, *, announced: bool, now: float) -> bool:
        """Set a claim's state; returns whether anything changed."""
        if status.since and status.state is state and status.reason == reason and status.announced is announced:
            return False
        if status.state is not state or not status.since:
            status.since = now
            source = status.claim.source
            self._states[source, status.state] -= 1
            self._states[source, state] += 1
        status.state, status.reason, status.announced = state, reason, announced
        return True

    def on_interface(self, interface: str) -> list[AddressKey]:
        """The addresses with a claim that names this interface."""
        return list(self._on_interface.get(interface, ()))

    # Questions.

    def claimed(self, source: str) -> list[str]:
        """Ids of the workloads that a source claims."""
        return [id for name, id in self._workloads if name == source]

    def statuses(self, source: str, id: str) -> list[ClaimStatus]:
        """The claims of one workload with their states, in the order it gave them; empty if it is unknown."""
        found = []
        for claim in self._workloads.get((source, id), ()):
            entry = self._entries[claim.vrf, claim.family][claim.key]
            found.append(next(status for status in entry.claims if status.is_of(source, id)))
        return found

    def claims_at(self, vrf: str, family: Family, key: bytes) -> list[Claim]:
        """The claims of one address, its holder first."""
        entry = self.at(((vrf, family), key))
        return [status.claim for status in entry.claims] if entry else []

    def tables(self) -> list[VrfFamily]:
        """The VRFs and families in which something is claimed, or was."""
        return sorted(self._entries)

    def keys(self, table: VrfFamily) -> list[bytes]:
        """The addresses of a VRF and family that are claimed."""
        return list(self._entries.get(table, ()))

    def count(self, table: VrfFamily) -> int:
        """How many addresses of a VRF and family are claimed."""
        return len(self._entries.get(table, ()))

    def interface_of(self, vrf: str, family: Family, key: bytes) -> str:
        """The interface on which this host has an address that it announces; "" if it has none such."""
        entry = self.at(((vrf, family), key))
        return entry.claims[0].claim.interface if entry and entry.claims and entry.info is not None else ""

    def interfaces(self, vrf: str) -> set[str]:
        """The interfaces that belong into a VRF since workloads are on them; not those that are in it for reasons of
        their own, and whose addresses are claimed for that (is_own)."""
        return {
            name
            for name, places in self._on_interface.items()
            if any(place[0][0] == vrf and self._leads(name, place) for place in places)
        }

    def _leads(self, interface: str, place: AddressKey) -> bool:
        entry = self.at(place)
        claims = [status.claim for status in entry.claims] if entry is not None else []
        return any(claim.interface == interface and not claim.is_own for claim in claims)

    def state_counts(self) -> Mapping[tuple[str, WorkloadState], int]:
        """How many claims of each source are in each state that has any; kept as they change, since anybody may ask
        often."""
        return +self._states

    def views_of(self, vrf: str, family: Family, key: bytes) -> list[WorkloadView]:
        """The claims of one address as they are shown, its holder first."""
        entry = self.at(((vrf, family), key))
        return [view_of(status) for status in entry.claims] if entry else []

    def views(self) -> Iterator[WorkloadView]:
        """Every claim, by VRF, family and address; lazily: what goes meanwhile is left out."""
        for vrf, family in self.tables():
            for key in sorted(self._entries[vrf, family]):
                yield from self.views_of(vrf, family, key)


def place_of(claim: Claim) -> AddressKey:
    """The address that a claim names."""
    return (claim.vrf, claim.family), claim.key
