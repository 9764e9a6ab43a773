"""Says all that the tables have, as a part of the history, so that what was written before is not needed any more.

A walk, among what changes meanwhile: each part is as the tables are when it is said. Only reads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import repeat

from bgpd.history.gathered import saved_import
from bgpd.history.recorder import History
from bgpd.history.records import SavedPath, State
from bgpd.history.workload_records import WorkloadRecords
from bgpd.kernel.host import Host
from bgpd.model.iana import Family
from bgpd.model.next_hop import NextHop
from bgpd.model.path import Path
from bgpd.model.route_batch import Overlay, RouteBatch
from bgpd.model.source import SourceKind
from bgpd.rib.adj_rib_out import Advertisement
from bgpd.rib.loc_rib import LocRib
from bgpd.rib.rib import Rib
from bgpd.rib.shared_decisions import Entry

SLICE = 1024
"""Keys of one step: each may have paths of its own."""


def base(
    history: History, rib: Rib, host: Host, is_behind: Callable[[], bool], own: WorkloadRecords | None = None
) -> Iterator[bool]:
    """Stepping says all; a step answers whether the next one had better wait a moment. Nothing is said while
    `is_behind`: some of what is recorded has not come into the tables yet. `own`: who records workloads."""
    while is_behind():
        yield True
    history.base_began(next_hops_of(rib), addresses_of(host))
    yield False
    for (vrf, family), table in list(rib.tables.items()):
        if family is Family.ROUTE_TARGET:
            continue
        for keys in table.routes.slices(SLICE):
            while is_behind():
                yield True
            record = state(history, table, keys, place=(vrf, family))
            if record is not None:
                history.add(record, 16 * len(keys))
            yield False
    yield from _told(rib)
    if own is not None:
        yield from own.base()
    history.base_ended()


def _told(rib: Rib) -> Iterator[bool]:
    """What neighbors were sent of this host's own routes."""
    received = rib.received
    for state in received.states():
        for export in list(state.exports.values()):
            keys = list(export.advertised)
            for start in range(0, len(keys), SLICE):
                own: dict[Advertisement, list[bytes]] = {}
                for key in keys[start : start + SLICE]:
                    one = export.advertised.get(key)
                    if one is not None and not one.learned:
                        own.setdefault(one, []).append(key)
                for one, some in own.items():
                    batch = RouteBatch(export.family, (), some, one.attributes, overlay=one.overlay)
                    received.tell_recorder(state.source, export.table, batch)
                yield False


def next_hops_of(rib: Rib) -> list[tuple[str, NextHop, str]]:
    """What is known of next hops, by VRF."""
    vrfs = dict.fromkeys(vrf for vrf, _ in rib.tables)
    return [(vrf, hop, why) for vrf in vrfs for hop, why in rib.known_next_hops(vrf)]


def addresses_of(host: Host) -> Iterable[tuple[str, str, bytes]]:
    """This host's own addresses, by VRF and interface."""
    for vrf in dict.fromkeys(("", *host.vrf_by_interface().values())):
        for address in host.all_addresses(vrf):
            yield vrf, address.interface, address.packed


def state(history: History, table: LocRib, keys: Sequence[bytes], *, place: tuple[str, Family]) -> State | None:
    """All candidates of these keys; None: they have none that is recorded."""
    numbers: dict[tuple[Path, Overlay | None], int] = {}
    paths: list[SavedPath] = []
    entries: list[tuple[list[int], list[bytes]]] = []
    for (entry, overlays), chosen in _alike(table, keys).items():
        candidates = []
        for path, overlay in zip(entry.candidates, overlays or repeat(None)):
            if path.source in table.gone:
                continue
            number = numbers.get((path, overlay))
            if number is None:
                saved = _saved(history, path, place, overlay)
                if saved is None:
                    continue
                number = numbers[path, overlay] = len(paths)
                paths.append(saved)
            candidates.append(number)
        if candidates:
            entries.append((candidates, chosen))
    return State(history.now(), *place, paths, entries) if entries else None


def _alike(table: LocRib, keys: Sequence[bytes]) -> dict[tuple[Entry, tuple[Overlay | None, ...]], list[bytes]]:
    """Those that have the same candidates; of EVPN routes also the same labels, which are in these overlays."""
    found: dict[tuple[Entry, tuple[Overlay | None, ...]], list[bytes]] = {}
    labels, is_evpn = table.labels, table.family is Family.L2VPN_EVPN
    for key, entry in zip(keys, table.routes.get_all(keys)):
        if entry is not None:
            overlays = tuple([labels.overlay(path, key) for path in entry.candidates]) if is_evpn else ()
            found.setdefault((entry, overlays), []).append(key)
    return found


def _saved(history: History, path: Path, place: tuple[str, Family], overlay: Overlay | None) -> SavedPath | None:
    source, received = path.source, path.received
    if source.kind is SourceKind.EVPN:
        imported = history.number_of_import(source, place)
        return None if imported is None else saved_import(imported, path)
    local = (source.name, str(source.kind)) if source.is_local else None
    number = history.number_of(source)
    if local is None and number is None:
        return None
    hop = path.next_hop
    about = received.block, received.rank, received.is_simple, hop, path.heard_at
    return SavedPath(number or 0, local, *about, overlay=overlay)
