"""Announces and withdraws claimed addresses: announced after the kernel has the route, withdrawn before bgpd deletes
it.

The first claim of an address holds it (`claim_order`); a later claim that differs is a conflict, shown on both, and
waits. Level-triggered: inputs only record facts and mark addresses; `flush` compares the desired state with the one
last applied, and applies the differences in bulk. It never does I/O and never asks the time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice

from bgpd.kernel.host import Host
from bgpd.model.iana import Family
from bgpd.model.kernel import AddressChanged, LinkChanged
from bgpd.model.next_hop import NextHops
from bgpd.model.prefix import VrfFamily, format_key
from bgpd.model.workload import WorkloadState
from bgpd.runtime.turns import Clock
from bgpd.workload.claims import Claims
from bgpd.workload.damping import Damping
from bgpd.workload.foreign import ForeignRoutes
from bgpd.workload.settle import Announcer, KernelRoutes, Settlement, StateListener
from bgpd.workload.sources import kinds
from bgpd.workload.standing import (
    ANNOUNCED,
    AWAITING,
    AddressKey,
    ClaimStatus,
    Entry,
    Foreign,
    Judgement,
    agree,
    info_of,
    judge,
    name_of,
)

FLUSH_SLICE = 500
"""Addresses settled in one step, so that the loop is never blocked for 20 ms."""

RESERVED_ADVICE = "if it is meant, the host's configuration can say so ([[workload.static]])"


class WorkloadTable:
    """Keeps kernel routes and announcements equal to what the claims of this host ask for.

    `schedule()`: `flush` should be called soon; asked once until it is. `listeners` hear of the states of claims.
    Without a `clock` no address is damped.
    """

    def __init__(
        self,
        announcer: Announcer,
        kernel: KernelRoutes,
        *,
        host: Host,
        schedule: Callable[[], None],
        clock: Clock | None = None,
    ) -> None:
        self._announcer = announcer
        self._kernel = kernel
        self._host = host
        self._schedule_flush = schedule
        self.foreign = ForeignRoutes()
        self.damping = Damping(clock, look_again=self._look_again_at) if clock is not None else None
        self.claims = Claims(foreign=self.foreign, changed=self._mark)
        self.listeners: list[StateListener] = []
        self._dirty: dict[VrfFamily, dict[bytes, None]] = {}
        self._waiting: set[AddressKey] = set()
        self._scheduled = False
        self._is_settled_next = False
        self._unreported: list[ClaimStatus] = []

    def use_kernel(self, kernel: KernelRoutes) -> None:
        """In place of the one that it was made with."""
        self._kernel = kernel

    # What is known from elsewhere.

    def link_changed(self, event: LinkChanged) -> None:
        """An interface came, went, or changed: one that fell, went or came anew may have dropped its routes."""
        lost = event.is_another or not event.link.up
        if not lost and event.before is not None and event.before.up:
            return
        for place in self.claims.on_interface(event.link.name):
            entry = self.claims.at(place)
            if lost and entry is not None and any(hop.interface == event.link.name for hop in entry.route or ()):
                entry.lost = True
            self._mark(place)

    def address_changed(self, event: AddressChanged) -> None:
        """An address of this host came or went: a workload on its interface may be it."""
        for place in self.claims.on_interface(event.address.interface):
            if place[1][1:] == event.address.packed:
                self._mark(place)

    def look_again(self, table: VrfFamily, keys: Iterable[bytes]) -> None:
        """What other parts know of these addresses may have changed."""
        for key in keys:
            if self.claims.at((table, key)) is not None:
                self._mark((table, key))

    def _look_again_at(self, place: AddressKey) -> None:
        if self.claims.at(place) is not None:
            self._mark(place)

    def kernel_table_changed(self, vrf: str) -> None:
        """A VRF has another, empty kernel table: request its routes again."""
        for family in Family:
            for key in self.claims.keys((vrf, family)):
                entry = self.claims.at(((vrf, family), key))
                if entry is not None:
                    entry.lost = entry.route is not None
                    self._mark(((vrf, family), key))

    def foreign_route_changed(self, vrf: str, family: Family, key: bytes, foreign: Foreign | None) -> None:
        """Another program keeps a directly attached route of `key`, or none does any more."""
        table = (vrf, family)
        for one in self.foreign.set(table, key, foreign):
            place = (table, one)
            if self.claims.at(place) is not None:
                self._mark(place)

    def route_acknowledged(self, vrf: str, family: Family, keys: Iterable[bytes]) -> None:
        """The kernel has bgpd's own routes of `keys`; others are ignored."""
        for key in keys:
            entry = self.claims.at(((vrf, family), key))
            if entry is not None and entry.route is not None and (not entry.acknowledged or entry.error):
                entry.acknowledged, entry.error = True, ""
                self._mark(((vrf, family), key))

    def route_refused(self, vrf: str, family: Family, keys: Iterable[bytes], error: str) -> None:
        """The kernel did not take, or no longer has, bgpd's own routes of `keys`."""
        for key in keys:
            entry = self.claims.at(((vrf, family), key))
            if entry is not None and entry.route is not None:
                entry.acknowledged, entry.error = False, error or "the kernel refused the route"
                self._mark(((vrf, family), key))

    def suppressed(self, vrf: str, family: Family, keys: Iterable[bytes], by: str) -> None:
        """The aggregate `by` suppresses these keys towards the neighbors; "": none does any more."""
        for key in keys:
            entry = self.claims.at(((vrf, family), key))
            if entry is not None and entry.suppressed_by != by:
                entry.suppressed_by = by
                self._mark(((vrf, family), key))

    def moved(self, vrf: str, family: Family, keys: Iterable[bytes], reason: str) -> None:
        """Another host has these addresses now: withdrawn here until they are claimed again, or `reason` is ""."""
        for key in keys:
            entry = self.claims.at(((vrf, family), key))
            if entry is not None and entry.moved != reason:
                entry.moved = reason
                self._mark(((vrf, family), key))

    def is_up(self, interface: str) -> bool:
        """Whether there is such an interface, and it is up."""
        return self._host.is_up(interface)

    # Settling.

    def _mark(self, place: AddressKey) -> None:
        table, key = place
        keys = self._dirty.get(table)
        if keys is None:
            keys = self._dirty[table] = {}
            if not (self._scheduled or self._is_settled_next):
                self.schedule()
        keys[key] = None

    @property
    def is_marked(self) -> bool:
        """Whether `flush` has something to settle."""
        return bool(self._dirty)

    @property
    def settled(self) -> bool:
        """Whether nothing is marked, and the kernel has acknowledged every route or refused it."""
        return not self._dirty and not self._waiting

    def wait_no_longer(self) -> None:
        """Routes that the kernel has not acknowledged by now do not count for `settled`."""
        self._waiting.clear()

    def schedule(self) -> None:
        """Have `flush` called soon."""
        if not self._scheduled:
            self._scheduled = True
            self._schedule_flush()

    def settle_after(self, change: Callable[[], None], now: Callable[[], float]) -> bool:
        """Take what a source has to say, and `settle` what it marks, for which nothing is scheduled; a `flush` that it
        asks for itself is. Whether there was anything."""
        self._is_settled_next = True
        try:
            change()
        finally:
            self._is_settled_next = False
        if not self._dirty:
            return False
        self.settle(now())
        return True

    def flush(self, now: float) -> None:
        """`settle`, then `report`."""
        self.settle(now)
        self.report()

    def settle(self, now: float) -> None:
        """Settle marked addresses, at most `FLUSH_SLICE`; asks for a `flush` if more are left.

        `now` is the wall clock in seconds. `report` is to be called when neighbors have heard of it.
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
            settlement = Settlement()
            for key in keys:
                place = (table, key)
                entry = self.claims.at(place)
                if entry is not None:
                    self._settle(place, entry, settlement, now)
            settlement.carry_out(table, announcer=self._announcer, kernel=self._kernel)
            self._unreported += settlement.states
            if budget <= 0:
                break
        if self._dirty:
            self.schedule()

    def report(self) -> None:
        """Have the listeners hear of the states that changed."""
        states, self._unreported = self._unreported, []
        if states:
            for listener in self.listeners:
                listener.states_changed(states)

    def _settle(self, place: AddressKey, entry: Entry, settlement: Settlement, now: float) -> None:
        if entry.gone:
            for status in entry.gone:
                status.announced, status.reason = False, "it is not claimed any more"
            settlement.states += entry.gone
            entry.gone = []
        if not entry.claims:
            self._give_up(place, entry, settlement)
            return
        if len(entry.claims) > 1:
            self.claims.order.give_way(entry)
        judged = self._damp(place, entry, self._judge(place, entry))
        if judged is not ANNOUNCED or entry.route is not None:
            self._settle_route(place, entry, judged.route, settlement)
        info = info_of(entry.claims[0].claim) if judged.announce else None
        if info != entry.info:
            if info is None:
                settlement.withdrawn.append(place[1])
            else:
                settlement.announced.setdefault(info, []).append(place[1])
            entry.info = info
        if len(entry.claims) == 1:
            status = entry.claims[0]
            if self.claims.enter(status, judged.state, judged.reason, announced=judged.announce, now=now):
                settlement.states.append(status)
        else:
            self._settle_contest(place, entry, judged, settlement, now)

    def _give_up(self, place: AddressKey, entry: Entry, settlement: Settlement) -> None:
        """Nobody claims an address any more."""
        self.claims.forget(place)
        self._waiting.discard(place)
        settlement.gone.append(place[1])
        if entry.may_flap and self.damping is not None:
            self.damping.gone(place)
        if entry.info is not None:
            settlement.withdrawn.append(place[1])
        if entry.route is not None:
            settlement.routes[place[1]] = None

    def _judge(self, place: AddressKey, entry: Entry) -> Judgement:
        (vrf, family), key = place
        holder = entry.claims[0].claim
        reserved = "" if kinds()[holder.source].is_own_word else self._kernel.reserved(vrf, family, key)
        if reserved:
            why = f"this host itself needs {reserved}; {RESERVED_ADVICE}"
            return Judgement(WorkloadState.FAILED, why, None, False)
        if self.claims.order.waits_for(place, entry):
            return AWAITING
        return judge(entry, self._host, self.foreign.leading_to((vrf, family), key, holder))

    def _damp(self, place: AddressKey, entry: Entry, judged: Judgement) -> Judgement:
        """The judgement, unless the address has come and gone too often lately."""
        if self.damping is None:
            return judged
        if entry.may_flap and not judged.announce and judged.state is not WorkloadState.MOVED:
            self.damping.gone(place)
        entry.may_flap = judged.announce and kinds()[entry.claims[0].claim.source].is_damped
        why = self.damping.why_held_back(place) if entry.may_flap else ""
        return Judgement(WorkloadState.DAMPED, why, judged.route, False) if why else judged

    def _settle_route(self, place: AddressKey, entry: Entry, route: NextHops | None, settlement: Settlement) -> None:
        key = place[1]
        claim = entry.claims[0].claim
        yields = claim.yields and route is not None
        if route != entry.route or yields is not entry.yields or (route is not None and entry.lost):
            if route is None or entry.lost or entry.route is None or yields is not entry.yields:
                entry.acknowledged, entry.error = False, ""
            if route is not None and claim.members:
                settlement.services.append((key, route, claim))
            else:
                settlement.routes[key] = route
            entry.route, entry.yields = route, yields
        entry.lost = False
        if route is None or yields or entry.acknowledged or entry.error:
            self._waiting.discard(place)
        else:
            self._waiting.add(place)

    def _settle_contest(
        self, place: AddressKey, entry: Entry, judged: Judgement, settlement: Settlement, now: float
    ) -> None:
        """States where several claims name one address: those that agree share one, the others are in conflict."""
        first = entry.claims[0].claim
        prefix = format_key(place[0][1], place[1])
        against = [not agree(first, status.claim) for status in entry.claims]
        announced = entry.info is not None
        others = ", ".join(name_of(status.claim) for status, is_against in zip(entry.claims, against) if is_against)
        shared = judged._replace(announce=announced)
        if others and announced:
            why = f"{prefix} is also claimed by {others}; this claim came first and stays"
            shared = Judgement(WorkloadState.CONFLICT, why, None, True)
        why_not = f"{prefix} is held by {name_of(first)}, which came first"
        for index, is_against in enumerate(against):
            own = entry.claims[index].claim.withheld
            why = f"{own}; {prefix} is announced for {name_of(first)}" if own and not first.withheld else why_not
            judged = Judgement(WorkloadState.CONFLICT, why, None, False) if is_against else shared
            status = entry.claims[index]
            if self.claims.enter(status, judged.state, judged.reason, announced=judged.announce, now=now):
                settlement.states.append(status)

    # For the comparison of the parts with each other.

    def keys(self, table: VrfFamily) -> list[bytes]:
        """The addresses of a VRF and family that are claimed."""
        return self.claims.keys(table)

    def carried_out(self, table: VrfFamily, key: bytes) -> tuple[bool, bool]:
        """Whether an address is announced, and whether the kernel has said that it has its route."""
        entry = self.claims.at((table, key))
        if entry is None:
            return False, False
        return entry.info is not None, entry.route is not None and entry.acknowledged and not entry.error

    def carry_out_again(self, table: VrfFamily, keys: Iterable[bytes]) -> None:
        """Ask again for the routes and announcements of these addresses, whatever was asked for before."""
        unknown = []
        for key in keys:
            entry = self.claims.at((table, key))
            if entry is None or entry.info is None:
                unknown.append(key)
            if entry is not None:
                entry.info, entry.lost = None, entry.route is not None
                self._mark((table, key))
        if unknown:
            self._announcer.withdraw_workloads(*table, unknown)
