"""What would become of the routes, and of what neighbors are told, by a change of the RIB: it is made, by the same code
as ever, in a RIB that is thrown away afterwards (runtime/copy_of_process.py).

Kernel and sessions stay out of it: what they would be asked for is noted, and counts as done.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

import msgspec

from bgpd.model.attributes import Attributes
from bgpd.model.iana import UNICAST, CeaseSubcode, Family
from bgpd.model.next_hop import NextHop, NextHops
from bgpd.model.path import Path
from bgpd.model.route_batch import RouteBatch
from bgpd.model.source import Source
from bgpd.rib.loc_rib import LocRib
from bgpd.rib.ports import EvpnRoutes, Guests, KernelRoutes, Workloads
from bgpd.rib.recording import Recorder
from bgpd.rib.rib import Rib
from bgpd.rib.shared_decisions import Entry
from bgpd.rib.what_if import Fate, Foreseen, fate_between

_SLICE = 2048
_OWN: NextHops = ()
"""Stands for the next hops of a route of this host itself."""


class Told(msgspec.Struct, kw_only=True):
    """What a neighbor would be sent, by family and key: the last word on each, whether it is announced (again, perhaps
    with other attributes) or withdrawn.
    """

    said: dict[tuple[Family, bytes], bool] = msgspec.field(default_factory=dict)

    def count(self, announced: bool) -> int:
        """How many are announced, or withdrawn."""
        return sum(one is announced for one in self.said.values())


class Outcome(msgspec.Struct, kw_only=True):
    """`tables` by VRF and family, `told` by the neighbor's name."""

    tables: dict[tuple[str, Family], Foreseen]
    told: dict[str, Told]


def outcome_of(change: Callable[[Rib], Iterator[None]], rib: Rib, *, with_fates: bool = False) -> Outcome:
    """Makes the change, to its end, of the RIB alone. The RIB cannot be used for anything else afterwards."""
    around = Around(rib.received.evpn, rib.kernel)
    around.take_place(rib, evpn=around, workloads=around)
    while around.settle(rib):
        pass
    around.told.clear()
    before = Before(rib)
    for _ in change(rib):
        pass
    while around.settle(rib):
        pass
    return before.compared(around.told, with_fates=with_fates)


class Before:
    """The tables as they are, for what they are later to be compared with."""

    def __init__(self, rib: Rib) -> None:
        self._rib = rib
        tables = {place: table for place, table in rib.tables.items() if place[1] in UNICAST}
        self._entries = {place: dict(_entries(table)) for place, table in tables.items()}
        self._hops = {place: _forwarding(tables[place], found.values()) for place, found in self._entries.items()}

    def compared(self, told: dict[str, Told], *, with_fates: bool = False) -> Outcome:
        """What has become of them since."""
        outcome = Outcome(tables={}, told=told)
        for place, table in self._rib.tables.items():
            if place[1] in UNICAST:
                found = Foreseen(counts=Counter(), examples={}, fates={} if with_fates else None)
                _compare(table, self._entries.get(place, {}), self._hops.get(place, {}), found)
                outcome.tables[place] = found
        return outcome


def _entries(table: LocRib) -> Iterator[tuple[bytes, Entry]]:
    for keys in table.routes.slices(_SLICE):
        for key in keys:
            entry = table.routes.get(key)
            if entry is not None:
                yield key, entry


def _forwarding(table: LocRib, entries: Collection[Entry]) -> dict[int, NextHops | None]:
    """By what each of these decisions forwards now, by identity: they are kept, so that none is another's later."""
    found: dict[int, NextHops | None] = {}
    for entry in entries:
        if id(entry) not in found:
            found[id(entry)] = _hops_of(table, entry)
    return found


def _hops_of(table: LocRib, entry: Entry) -> NextHops | None:
    return _OWN if entry.is_local else table.next_hops_now(entry)


def _compare(table: LocRib, before: Mapping[bytes, Entry], hops: Mapping[int, NextHops | None], into: Foreseen) -> None:
    after = dict(_entries(table))
    later = _forwarding(table, after.values())  # a path that is its own decision may be the same, and unusable now
    for key in before.keys() | after.keys():
        had, has = before.get(key), after.get(key)
        old = None if had is None else hops[id(had)]
        new = None if has is None else later[id(has)]
        into.take(key, Fate.MOVED if (old and new == _OWN) or (old == _OWN and new) else fate_between(old, new))


class Around:
    """What is around the RIB in a copy: nothing is written, though it counts as `written`, and what would be sent is
    noted.
    """

    def __init__(self, evpn: EvpnRoutes, kernel: KernelRoutes) -> None:
        self.told: dict[str, Told] = {}
        self.written: list[tuple[str, Family, list[bytes]]] = []
        self._evpn = evpn
        self._kernel = kernel

    def take_place(self, rib: Rib, *, evpn: EvpnRoutes, workloads: Workloads, guests: Guests | None = None) -> None:
        """Be what the RIB writes to, and sends by; nothing is recorded any more."""
        rib.connect(kernel=self, neighbors=self, evpn=evpn, workloads=workloads, guests=guests, recorder=Recorder())
        for export in rib.dissemination.all():
            if export.family is not Family.L2VPN_EVPN:  # those ask for the neighbors when they send
                export.send = self.send

    def settle(self, rib: Rib) -> bool:
        """Have what has changed sent and written, and acknowledge what was; whether there was anything."""
        rib.flush()
        written, self.written = self.written, []
        for vrf, family, keys in written:
            self.acknowledge(rib, vrf, family, keys)
        return rib.dissemination.is_due or bool(written)

    def acknowledge(self, rib: Rib, vrf: str, family: Family, keys: Sequence[bytes]) -> None:
        """The kernel would have these."""
        rib.fib_acknowledged(vrf, family, keys)

    # Kernel's tables

    def update_learned(
        self, vrf: str, family: Family, changes: dict[bytes, NextHops | None], *, cause: str = ""
    ) -> None:
        self.written.append((vrf, family, [key for key, hops in changes.items() if hops is not None]))

    def confirm(self, vrf: str, family: Family, changes: dict[bytes, NextHops | None]) -> dict[bytes, NextHops | None]:
        return changes

    def why_unreachable(self, vrf: str, next_hop: NextHop) -> str:
        return (self._evpn if next_hop.is_recursive else self._kernel).why_unreachable(vrf, next_hop)

    def forget(self, vrf: str, next_hops: Collection[NextHop]) -> None: ...

    # Sessions

    def send(self, source: Source, batch: RouteBatch) -> None:
        said = self.told.setdefault(source.name, Told()).said
        for key in batch.withdrawn:
            said[batch.family, key] = False
        for key in batch.announced:
            said[batch.family, key] = True

    def send_end_of_rib(self, source: Source, family: Family) -> None: ...

    def send_refresh_began(self, source: Source, family: Family) -> None: ...

    def send_refresh_ended(self, source: Source, family: Family) -> None: ...

    def ask_again(self, source: Source, family: Family) -> bool:
        return False

    def refresh_wanted(self, source: Source, family: Family) -> None: ...

    def as_sent(self, source: Source, batch: RouteBatch) -> tuple[Attributes, bytes] | None:
        return None

    def has_room(self, source: Source) -> bool:
        return True

    def reset(self, name: str, *, reason: str, subcode: CeaseSubcode) -> None: ...

    def fail(self, source: Source, error: Exception) -> None:
        raise error

    # EVPN, workloads

    def evpn_received(self, source: Source, keys: Sequence[bytes], path: Path | None) -> None: ...

    def few_received(self, source: Source, heard: Sequence[tuple[Path, bytes]]) -> None: ...

    def memberships_received(self, source: Source, batch: RouteBatch) -> bool:
        return False

    def for_neighbor(self, source: Source, batch: RouteBatch) -> Sequence[RouteBatch]:
        return (batch,)

    def received_keys(self, neighbors: Collection[str]) -> Callable[[Source, Family, bytes], tuple[str, bytes] | None]:
        return self._evpn.received_keys(neighbors)

    def forget_next_hops(self, vrf: str, next_hops: Collection[NextHop]) -> None: ...

    def prefix_of(self, key: bytes) -> tuple[str, Family, bytes] | None:
        return self._evpn.prefix_of(key)

    def local_changed(self, vrf: str, family: Family, keys: Sequence[bytes]) -> None: ...

    def routes_changed(self, vrf: str, family: Family, changes: Mapping[bytes, NextHops | None]) -> None: ...

    def suppressed(self, vrf: str, family: Family, keys: list[bytes], by: str) -> None: ...
