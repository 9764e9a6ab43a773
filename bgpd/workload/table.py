"""Which addresses this host has: the claims of all sources merged by VRF and address, and the life of each.

The first claim of an address holds it (`claim_order`); a later one that says otherwise is a conflict, shown on both,
and waits. When the holder goes, precedence decides who follows: static, then orchestrators (MQTT, API, services), then
the routes of others. An address is announced after the kernel has its route, and withdrawn before bgpd takes it away.

Level-triggered: inputs only note facts and mark addresses; `flush` compares what should be with what was last told, and
tells the differences in bulk. It never does I/O and never asks the time.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice

from bgpd.kernel.host import Host
from bgpd.model.iana import Family
from bgpd.model.kernel import LinkChanged
from bgpd.model.path import NextHops
from bgpd.model.prefix import format_key, parse_prefix
from bgpd.model.views import WorkloadView
from bgpd.model.workload import Claim, Presence, WorkloadState
from bgpd.workload.claim_order import ClaimOrder, Place
from bgpd.workload.foreign import ForeignRoutes
from bgpd.workload.settle import Changes, TableOutputs
from bgpd.workload.standing import (
    ANNOUNCED,
    AWAITING,
    Entry,
    Foreign,
    Held,
    Standing,
    Table,
    agree,
    info_of,
    judge,
    name_of,
    view_of,
)

FLUSH_SLICE = 500
"""Addresses settled in one step, so that the loop is never held for 20 ms."""


REPLAYED = ("static", "kernel")
"""Sources that tell at the start what they have told before it, in their own time."""

AskReserved = Callable[[str, Family, bytes], str]
"""VRF, family, key: what the host itself needs that a workload of this prefix would take; "" if nothing."""
RESERVED_ADVICE = "if it is meant, the host's configuration can say so ([[workload.static]])"

AskPresence = Callable[[str, Family, bytes], Presence | None]
"""VRF, family, key: what EVPN knows of an endpoint of this host."""


class WorkloadTable:
    """The claims of this host. `sources` are those whose first state is awaited before `synchronised` is told.

    `reserved`: asked of each address that an orchestrator claims; when its answer changes, `look_again` is called.
    """

    def __init__(
        self,
        outputs: TableOutputs,
        *,
        host: Host,
        sources: Iterable[str],
        reserved: AskReserved = lambda _vrf, _family, _key: "",
    ) -> None:
        self._outputs = outputs
        self._awaited = set(sources)
        self._synchronised = False
        self._entries: dict[Table, dict[bytes, Entry]] = defaultdict(dict)
        self._workloads: dict[tuple[str, str], tuple[Claim, ...]] = {}
        self._dirty: dict[Table, dict[bytes, None]] = {}
        self._waiting: set[tuple[Table, bytes]] = set()
        self._scheduled = False
        self._host = host
        self._reserved = reserved
        self._on_interface: dict[str, dict[tuple[Table, bytes], None]] = defaultdict(dict)
        self._foreign = ForeignRoutes()
        self._order = ClaimOrder()
        self._states: Counter[WorkloadState] = Counter()

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
            kept = {(claim.vrf, claim.family, claim.key) for claim in new}
            for claim in old:
                if (claim.vrf, claim.family, claim.key) not in kept:
                    self._drop(claim)
        for claim in new:
            self._hold(claim)

    def remember(self, source: str, id: str, vrf: str, ranks: Mapping[str, int]) -> None:
        """An earlier run gave these `ranks` to contested addresses ("10.64.1.5/32") of a workload that will come."""
        places: dict[Place, int] = {}
        for prefix, rank in ranks.items():
            family, key = parse_prefix(prefix)
            places[(vrf, family), key] = rank
        self._order.remember(source, id, places)

    def started(self) -> None:
        """Restored is what was saved, and claimed what the configuration says: what comes now, comes later."""
        self._order.starting = False

    def order_known(self) -> None:
        """All sources were heard: claims of an earlier run that have not come are not waited for any more."""
        for table, key in self._order.known():
            entry = self._entries[table].get(key)
            if entry is not None:
                self._order.renumber(entry)
                self._mark(table, key)

    def ranks(self, source: str, id: str) -> dict[str, int]:
        """What `remember` needs of a workload after a restart: its rank at each address that another claims too."""
        found = {}
        for claim in self._workloads.get((source, id), ()):
            claims = self._entries[claim.vrf, claim.family][claim.key].claims
            if len(claims) > 1 and not all(agree(claims[0].claim, held.claim) for held in claims):
                mine = next(h for h in claims if (h.claim.source, h.claim.id) == (source, id))
                found[format_key(claim.family, claim.key)] = mine.rank
        return found

    def contested(self) -> set[tuple[str, str]]:
        """Source and id of all workloads and services with an address that others claim too."""
        entries = chain.from_iterable(table.values() for table in self._entries.values())
        return {(h.claim.source, h.claim.id) for entry in entries if len(entry.claims) > 1 for h in entry.claims}

    def claimed(self, source: str) -> list[str]:
        """Ids of the workloads that a source claims."""
        return [id for name, id in self._workloads if name == source]

    def _hold(self, claim: Claim) -> None:
        table = (claim.vrf, claim.family)
        entry = self._entries[table].get(claim.key)
        if entry is None:
            entry = self._entries[table][claim.key] = Entry()
        for held in entry.claims:
            if held.claim.source == claim.source and held.claim.id == claim.id:
                self._leave_interface(entry, held.claim, table)
                if held.claim.mac != claim.mac:
                    held.former = None
                held.claim, held.since = claim, 0.0
                entry.moved = ""
                break
        else:
            held = Held(claim)
            self._order.enter((table, claim.key), entry, held)
            self._states[held.state] += 1
            if not self._is_replayed(claim):
                entry.moved = ""
        entry.error = ""
        if claim.interface:
            self._on_interface[claim.interface][table, claim.key] = None
        if claim.needs_route:
            self._foreign.follow(table, claim.key)
        self._mark(table, claim.key)

    def _is_replayed(self, claim: Claim) -> bool:
        """Whether a claim may be as old as the restart: then it does not say that a workload came here."""
        return self._order.starting or (claim.source in REPLAYED and not self._synchronised)

    def resume(self, source: str, id: str, known: Mapping[str, Presence], *, otherwise: Presence | None) -> None:
        """A workload is claimed as before a restart; `known` is what EVPN knew of its addresses ("10.64.1.5/32").

        `otherwise`: of those that `known` lacks. One that moved stays so; one that was announced is again, as before.
        """
        for claim in self._workloads.get((source, id), ()):
            presence = known.get(format_key(claim.family, claim.key), otherwise)
            if presence is None or not claim.vrf or not claim.mac:
                continue
            entry = self._entries[claim.vrf, claim.family][claim.key]
            if presence.moved:
                entry.moved = presence.moved
                self._outputs.resumed(claim.vrf, claim.family, claim.key, info_of(claim), presence)
            else:
                held = next(h for h in entry.claims if (h.claim.source, h.claim.id) == (source, id))
                held.former = presence.sequence

    def take_former(self, vrf: str, family: Family, key: bytes) -> int | None:
        """The sequence of a workload that comes back after a restart; asked once, None from then on."""
        entry = self._entries[vrf, family].get(key)
        if entry is None or not entry.claims:
            return None
        former, entry.claims[0].former = entry.claims[0].former, None
        return former

    def presences(self, source: str, id: str, ask: AskPresence) -> dict[str, Presence]:
        """What `resume` needs of a workload after a restart; `ask` is EVPN."""
        found = {}
        for held in self.held(source, id):
            claim = held.claim
            presence = None
            if held.former is not None:
                presence = Presence(sequence=held.former)
            elif claim.vrf and claim.mac and (held.announced or held.state is WorkloadState.MOVED):
                presence = ask(claim.vrf, claim.family, claim.key)
            if presence is not None:
                found[format_key(claim.family, claim.key)] = presence
        return found

    def claims_at(self, vrf: str, family: Family, key: bytes) -> list[Claim]:
        """The claims of one address, its holder first."""
        entry = self._entries[vrf, family].get(key)
        return [held.claim for held in entry.claims] if entry else []

    def _drop(self, claim: Claim) -> None:
        table = (claim.vrf, claim.family)
        entry = self._entries[table][claim.key]
        index = next(i for i, h in enumerate(entry.claims) if (h.claim.source, h.claim.id) == (claim.source, claim.id))
        held = entry.claims.pop(index)
        entry.gone.append(held)
        self._states[held.state] -= 1
        if index == 0 and entry.claims:
            self._order.holder_left((table, claim.key), entry)
        self._leave_interface(entry, claim, table)
        self._mark(table, claim.key)

    def _leave_interface(self, entry: Entry, claim: Claim, table: Table) -> None:
        """Forget that an address is on an interface, unless another of its claims says so."""
        if claim.interface and all(
            held.claim is claim or held.claim.interface != claim.interface for held in entry.claims
        ):
            places = self._on_interface[claim.interface]
            places.pop((table, claim.key), None)
            if not places:
                del self._on_interface[claim.interface]

    def _mark(self, table: Table, key: bytes) -> None:
        keys = self._dirty.get(table)
        if keys is None:
            keys = self._dirty[table] = {}
            self._schedule()
        keys[key] = None

    @property
    def is_marked(self) -> bool:
        """Whether `flush` has something to settle."""
        return bool(self._dirty)

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._outputs.schedule_flush()

    def link_changed(self, event: LinkChanged) -> None:
        """An interface came, went, or changed: one that fell, went or came anew may have dropped its routes."""
        lost = event.is_another or not event.link.up
        if not lost and event.before is not None and event.before.up:
            return
        for table, key in self._on_interface.get(event.link.name, ()):
            entry = self._entries[table][key]
            if lost and any(hop.interface == event.link.name for hop in entry.route or ()):
                entry.lost = True
            self._mark(table, key)

    def is_up(self, interface: str) -> bool:
        """Whether there is such an interface, and it is up."""
        return self._host.is_up(interface)

    def look_again(self, table: Table, keys: Iterable[bytes]) -> None:
        """What is known of these addresses from elsewhere may have changed."""
        entries = self._entries.get(table, {})
        for key in keys:
            if key in entries:
                self._mark(table, key)

    def kernel_table_changed(self, vrf: str) -> None:
        """A VRF has another, empty kernel table: its routes are asked for anew."""
        for table, entries in self._entries.items():
            if table[0] == vrf:
                for key, entry in entries.items():
                    entry.lost = entry.route is not None
                    self._mark(table, key)

    def foreign_route_changed(self, vrf: str, family: Family, key: bytes, foreign: Foreign | None) -> None:
        """Another program keeps a directly attached route of `key`, or none does any more."""
        table = (vrf, family)
        for affected in self._foreign.set(table, key, foreign):
            if affected in self._entries[table]:
                self._mark(table, affected)

    def route_acknowledged(self, vrf: str, family: Family, keys: Iterable[bytes]) -> None:
        """The kernel has bgpd's own routes of `keys`; others are ignored."""
        table = (vrf, family)
        entries = self._entries[table]
        for key in keys:
            entry = entries.get(key)
            if entry is not None and entry.route is not None and (not entry.acknowledged or entry.error):
                entry.acknowledged, entry.error = True, ""
                self._mark(table, key)

    def route_refused(self, vrf: str, family: Family, key: bytes, error: str) -> None:
        """The kernel did not take, or no longer has, bgpd's route of `key`."""
        entry = self._entries[vrf, family].get(key)
        if entry is not None and entry.route is not None:
            entry.acknowledged, entry.error = False, error or "the kernel refused the route"
            self._mark((vrf, family), key)

    def suppressed(self, vrf: str, family: Family, keys: Iterable[bytes], by: str) -> None:
        """The aggregate `by` stands for these keys towards the neighbors; "" if none does any more."""
        for key in keys:
            entry = self._entries[vrf, family].get(key)
            if entry is not None and entry.suppressed_by != by:
                entry.suppressed_by = by
                self._mark((vrf, family), key)

    def moved(self, vrf: str, family: Family, keys: Iterable[bytes], reason: str) -> None:
        """Another host has these addresses now: withdrawn here until they are claimed anew, or `reason` is ""."""
        for key in keys:
            entry = self._entries[vrf, family].get(key)
            if entry is not None and entry.moved != reason:
                entry.moved = reason
                self._mark((vrf, family), key)

    def source_synchronised(self, source: str) -> None:
        """A source has told its whole first state."""
        self._awaited.discard(source)
        self._schedule()

    def initial_state_timed_out(self) -> list[str]:
        """Wait no longer for the first states: `synchronised` is told at once. Returns the sources that are missing."""
        missing = sorted(self._awaited)
        self._awaited.clear()
        self._waiting.clear()
        self._tell_synchronised()
        return missing

    @property
    def settled(self) -> bool:
        """Whether nothing is marked, and the kernel has acknowledged every route or refused it."""
        return not self._dirty and not self._waiting

    def _tell_synchronised(self) -> None:
        if not self._synchronised and not self._awaited and self.settled:
            self._synchronised = True
            self._outputs.synchronised()

    def flush(self, now: float) -> None:
        """Settle marked addresses, at most `FLUSH_SLICE`; asks to be called again if more are left.

        `now` is the wall clock in seconds.
        """
        self._scheduled = False
        budget = FLUSH_SLICE
        for table in list(self._dirty):
            marked = self._dirty[table]
            keys = list(islice(marked, budget))
            if len(keys) == len(marked):
                del self._dirty[table]
            else:
                for key in keys:
                    del marked[key]
            budget -= len(keys)
            changes = Changes()
            for key in keys:
                self._settle(table, key, changes, now)
            changes.tell(table, self._outputs)
            if budget <= 0:
                break
        if self._dirty:
            self._schedule()
        else:
            self._tell_synchronised()

    def _settle(self, table: Table, key: bytes, changes: Changes, now: float) -> None:
        entry = self._entries[table].get(key)
        if entry is None:
            return
        if entry.gone:
            for held in entry.gone:
                held.announced = False
            changes.states += entry.gone
            entry.gone = []
        if not entry.claims:
            del self._entries[table][key]
            self._waiting.discard((table, key))
            self._foreign.unfollow(table, key)
            if entry.info is not None:
                changes.withdrawn.append(key)
            if entry.route is not None:
                changes.routes[key] = None
            return
        holder = entry.claims[0]
        reserved = "" if holder.claim.source in REPLAYED else self._reserved(*table, key)
        if reserved:
            why = f"this host itself needs {reserved}; {RESERVED_ADVICE}"
            standing = Standing(WorkloadState.FAILED, why, None, False)
        elif self._order.waits_for((table, key), entry):
            standing = AWAITING
        else:
            standing = judge(entry, self._host, self._foreign.leading_to(table, key, holder.claim))
        if standing is not ANNOUNCED or entry.route is not None:
            self._settle_route(table, key, entry, standing.route, changes)
        info = info_of(holder.claim) if standing.announce else None
        if info != entry.info:
            if info is None:
                changes.withdrawn.append(key)
            else:
                changes.announced.setdefault(info, []).append(key)
            entry.info = info
        if len(entry.claims) == 1:
            self._enter(holder, standing.state, standing.reason, standing.announce, changes, now)
        else:
            self._settle_claims(table, key, entry, standing.state, standing.reason, changes, now)

    def _settle_route(self, table: Table, key: bytes, entry: Entry, route: NextHops | None, changes: Changes) -> None:
        if route != entry.route or (route is not None and entry.lost):
            claim = entry.claims[0].claim
            if route is None or entry.lost or entry.route is None:
                entry.acknowledged, entry.error = False, ""
            if route is not None and claim.members:
                changes.services.append((key, route, claim.resilient))
            else:
                changes.routes[key] = route
            entry.route = route
        entry.lost = False
        if route is None or entry.acknowledged or entry.error:
            self._waiting.discard((table, key))
        else:
            self._waiting.add((table, key))

    def _settle_claims(
        self,
        table: Table,
        key: bytes,
        entry: Entry,
        state: WorkloadState,
        reason: str,
        changes: Changes,
        now: float,
    ) -> None:
        """States where several claims name one address: those that agree share one, the others are in conflict."""
        first = entry.claims[0].claim
        prefix = format_key(table[1], key)
        against = [held for held in entry.claims if not agree(first, held.claim)]
        announced = entry.info is not None
        held_by = f"{prefix} is held by {name_of(first)}, which came first"
        others = ", ".join(name_of(held.claim) for held in against)
        for held in entry.claims:
            if held in against:
                self._enter(held, WorkloadState.CONFLICT, held_by, False, changes, now)
            elif against and announced:
                why = f"{prefix} is also claimed by {others}; this claim came first and stays"
                self._enter(held, WorkloadState.CONFLICT, why, True, changes, now)
            else:
                self._enter(held, state, reason, announced, changes, now)

    def _enter(
        self, held: Held, state: WorkloadState, reason: str, announced: bool, changes: Changes, now: float
    ) -> None:
        if held.since and held.state is state and held.reason == reason and held.announced is announced:
            return
        if held.state is not state or not held.since:
            held.since = now
            self._states[held.state] -= 1
            self._states[state] += 1
        held.state, held.reason, held.announced = state, reason, announced
        changes.states.append(held)

    def held(self, source: str, id: str) -> list[Held]:
        """The claims of one workload with their states, in the order it gave them; empty if it is unknown."""
        found = []
        for claim in self._workloads.get((source, id), ()):
            entry = self._entries[claim.vrf, claim.family][claim.key]
            found.append(next(h for h in entry.claims if (h.claim.source, h.claim.id) == (source, id)))
        return found

    def keys(self, table: Table) -> list[bytes]:
        """The addresses of a VRF and family that are claimed."""
        return list(self._entries.get(table, ()))

    def told(self, table: Table, key: bytes) -> tuple[bool, bool]:
        """Whether the RIB was told that an address is here, and whether the kernel has said that it has its route."""
        entry = self._entries.get(table, {}).get(key)
        if entry is None:
            return False, False
        return entry.info is not None, entry.route is not None and entry.acknowledged and not entry.error

    def tell_again(self, table: Table, keys: Iterable[bytes]) -> None:
        """Tell the RIB and the kernel again what these addresses are, whatever they were told."""
        unknown = []
        for key in keys:
            entry = self._entries.get(table, {}).get(key)
            if entry is None or entry.info is None:
                unknown.append(key)
            if entry is not None:
                entry.info, entry.lost = None, entry.route is not None
                self._mark(table, key)
        if unknown:
            self._outputs.withdraw(*table, unknown)

    def interface_of(self, vrf: str, family: Family, key: bytes) -> str:
        """The interface on which this host has an address that it announces; "" if it has none such."""
        entry = self._entries[vrf, family].get(key)
        return entry.claims[0].claim.interface if entry and entry.claims and entry.info is not None else ""

    def state_counts(self) -> Mapping[WorkloadState, int]:
        """How many claims are in each state that has any; kept as they change, since anybody may ask often."""
        return +self._states

    def interfaces(self, vrf: str) -> set[str]:
        """The interfaces that claims of a VRF name."""
        return {name for name, places in self._on_interface.items() if any(table[0] == vrf for table, _ in places)}

    def views_of(self, vrf: str, family: Family, key: bytes) -> list[WorkloadView]:
        """The claims of one address, its holder first."""
        entry = self._entries[vrf, family].get(key)
        return [view_of(held) for held in entry.claims] if entry else []

    def views(self) -> Iterator[WorkloadView]:
        """Every claim, by VRF, family and address; lazily: what goes meanwhile is left out."""
        for vrf, family in sorted(self._entries):
            for key in sorted(self._entries[vrf, family]):
                yield from self.views_of(vrf, family, key)
