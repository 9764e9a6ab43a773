"""The RIB as one process leaves it to the next: what neighbors announced, and what they were sent.

Routes stand by what they share, as in the tables: each path once, the keys by their candidates; and as columns, dict by
dict, so that a million of them cost both processes a few C calls. This host's own routes
and those that EVPN makes are not in here: they follow from their sources. Nor are routes that are being removed. Only
reads; restore.py takes it up again.
"""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence, Set
from functools import partial
from itertools import chain, compress, count, repeat

import msgspec

from bgpd.config.effects import GUESTS, resets_session
from bgpd.config.schema_sessions import ListenConfig, SessionConfig
from bgpd.config.schema_workloads import GuestConfig
from bgpd.message.open import Negotiated
from bgpd.model.containers import ShardedDict
from bgpd.model.iana import Family
from bgpd.model.next_hop import NextHop
from bgpd.model.path import Path
from bgpd.model.route_batch import Overlay
from bgpd.model.source import Source, SourceKind
from bgpd.model.unreadable import UNREADABLE
from bgpd.rib.adj_rib_in import forbids_long_lived
from bgpd.rib.adj_rib_out import AdjRibOut, Advertisement
from bgpd.rib.loc_rib import LocRib
from bgpd.rib.neighbor_state import NeighborState
from bgpd.rib.shared_decisions import Entry
from bgpd.rib.stale import Kept, StaleRoutes

NONE = -1
NO_ENTRY = (1 << 32) - 1
"""In place of an entry's number: no neighbor has a route of the key."""


class SavedPaths(msgspec.Struct, array_like=True, gc=False):
    """Paths as they were received, as columns of equal length. A path's number is its place in them.

    `sources`, `next_hops` and `overlays` are numbers in lists (NONE: it has none). `blocks`, `ranks` and `are_simple`
    are the attributes before policy. `stale`: the numbers of those that were not announced again since a refresh began.
    """

    sources: list[int] = []
    blocks: list[bytes] = []
    ranks: list[int] = []
    are_simple: list[bool] = []
    next_hops: list[int] = []
    heard_at: list[float] = []
    overlays: list[int] = []
    stale: list[int] = []


class SavedPart(msgspec.Struct, array_like=True, gc=False):
    """One of the dicts of a table: its keys, and for each the number of its entry (NO_ENTRY: it has none), packed as
    array("I")."""

    keys: list[bytes]
    numbers: bytes


class SavedTable(msgspec.Struct, array_like=True, gc=False):
    """The routes of neighbors in one table, or of a guest in its own. `entries`: the numbers of candidates among
    `paths`. `parts` are those of the table (model/containers.py). `instead`: the keys that it is about, in place of
    what the base says of them."""

    vrf: str
    family: Family
    paths: SavedPaths
    entries: list[tuple[int, ...]]
    parts: list[SavedPart]
    guest: str = ""
    instead: list[bytes] = []


class SavedExport(msgspec.Struct, array_like=True, gc=False):
    """What one neighbor was sent of a family. `advertised`: block, rank, is_simple, overlay, learned, and the keys."""

    family: Family
    advertised: list[tuple[bytes, int, bool, int, bool, list[bytes]]]
    withdrawing: list[bytes]
    end_of_rib_sent: bool
    refresh_owed: bool


class SavedFormer(msgspec.Struct, array_like=True, gc=False):
    """A session that is over, whose routes are kept while its neighbor restarts (stale.py): its Source, what it had
    negotiated, its section of the configuration (MessagePack), and what is kept of which family."""

    kind: SourceKind
    asn: int
    router_id: bytes
    address: bytes
    interface: str
    negotiated: Negotiated
    config: bytes
    kept: dict[Family, Kept]
    guest: str = ""

    def is_wanted(self, config: SessionConfig) -> bool:
        """Whether the neighbor is still the one that the routes are of: no session of it would have to begin anew."""
        try:
            before = msgspec.msgpack.decode(self.config, type=type(config))
        except UNREADABLE:  # of another section, or of a version that had other keys
            return False
        section = GUESTS if isinstance(config, GuestConfig) else "listen"
        return not resets_session(section if isinstance(config, ListenConfig) else "neighbor", before, config)


class SavedNeighbor(msgspec.Struct, array_like=True, gc=False):
    """One session. `refreshing`: families of which a refresh is in progress; `labels`: those of EVPN routes that are
    not their path's; `discarded`: keys beyond max_prefixes by family, how many more, and when they were asked for."""

    name: str
    exports: list[SavedExport]
    refreshing: list[Family]
    labels: dict[bytes, bytes]
    discarded: dict[Family, tuple[list[bytes], int, float | None]]
    former: SavedFormer | None = None

    @property
    def former_source(self) -> Source | None:
        """The session, if it is over."""
        former = self.former
        if former is None:
            return None
        return Source(
            name=self.name,
            kind=former.kind,
            asn=former.asn,
            router_id=former.router_id,
            address=former.address,
            interface=former.interface,
            guest=former.guest,
        )


class SavedRib(msgspec.Struct, array_like=True, gc=False):
    """`neighbors` are the sources of the paths, by number. `base`, which is written by itself (prepared.py), has the
    tables as they were a little earlier, for the same neighbors; what it says of the keys that a table is about here
    counts no more."""

    neighbors: list[SavedNeighbor]
    next_hops: list[NextHop]
    overlays: list[Overlay]
    tables: list[SavedTable]
    base: SavedRib | None = None


def columns(saved: SavedRib) -> dict[tuple[str, Family], list[list[bytes]]]:
    """The keys of each part of the tables of neighbors, by VRF and family; those of the base if there is one."""
    return {
        (table.vrf, table.family): [part.keys for part in table.parts]
        for table in (saved.base or saved).tables
        if not table.guest
    }


_ALL: Mapping[LocRib, Collection[bytes]] = {}


class _Numbers:
    """Numbers of values, in the order in which they are first asked for."""

    def __init__(self) -> None:
        self.known: dict[Hashable, int] = {}

    def of(self, value: Hashable | None) -> int:
        """The number of a value; NONE of None."""
        return NONE if value is None else self.known.setdefault(value, len(self.known))

    def of_all(self, values: Sequence[Hashable | None]) -> list[int]:
        """The numbers of values that are mostly the same few."""
        return list(map({value: self.of(value) for value in dict.fromkeys(values)}.__getitem__, values))


def save(
    tables: Iterable[LocRib],
    states: Iterable[NeighborState],
    stale: StaleRoutes,
    *,
    of: Mapping[LocRib, Collection[bytes]] = _ALL,
) -> SavedRib:
    """The routes of these sessions, and what they were sent. Those that `stale` has are over. Of a table that is in
    `of` only those keys are looked at."""
    kept = list(states)
    sources = {state.source: number for number, state in enumerate(kept)}
    next_hops, overlays = _Numbers(), _Numbers()
    by_source = {state.source: state for state in kept}
    saved = [_table(table, of.get(table), sources, by_source, next_hops, overlays) for table in tables]
    neighbors = [_neighbor(state, overlays, stale.kept.get(state.source)) for state in kept]
    return SavedRib(neighbors, list(next_hops.known), list(overlays.known), saved)  # type: ignore[arg-type]


def _table(
    table: LocRib,
    only: Collection[bytes] | None,
    sources: Mapping[Source, int],
    states: Mapping[Source, NeighborState],
    next_hops: _Numbers,
    overlays: _Numbers,
) -> SavedTable:
    distinct: dict[Entry, None] = {}
    found = table.routes.parts if only is None else _some(table.routes, only)
    for part in found:
        distinct.update(dict.fromkeys(part.values()))
    every = dict.fromkeys(chain.from_iterable([entry.candidates for entry in distinct]))
    stale = _stale(table.family, every, states)
    paths = [path for path in every if path.source in sources]
    if stale or any(table.family in state.adj_rib_in.long_lived for state in states.values()):
        staying = partial(_is_staying, states=states, family=table.family, stale=stale)
        paths = list(filter(staying, paths))
    numbers = dict(zip(paths, count()))
    candidates: Iterable[Sequence[Path]] = [entry.candidates for entry in distinct]
    if len(paths) != len(every):
        candidates = [[path for path in some if path in numbers] for some in candidates]
        distinct = dict.fromkeys(compress(distinct, candidates))
        candidates = filter(None, candidates)
    entries = [tuple(map(numbers.__getitem__, some)) for some in candidates]
    order = dict(zip(distinct, count()))
    columns = _columns(paths, sources, next_hops, overlays)
    columns.stale = [numbers[path] for path in stale if path in numbers]
    if table.vrf and not entries:  # what EVPN makes: of VRFs, what the kernel has is not handed over
        found = [{} for _ in found]
    parts = [SavedPart(list(part), _numbers(part.values(), order)) for part in found]
    return SavedTable(table.vrf, table.family, columns, entries, parts, table.guest, list(only or ()))


def _some(routes: ShardedDict[Entry], keys: Collection[bytes]) -> list[dict[bytes, Entry]]:
    """The parts of a table with no more than these keys."""
    chosen = {id(part): some for part, some in routes.split(list(keys))}
    return [{key: part[key] for key in chosen.get(id(part), ()) if key in part} for part in routes.parts]


def _numbers(entries: Iterable[Entry], order: Mapping[Entry, int]) -> bytes:
    return array("I", map(order.get, entries, repeat(NO_ENTRY))).tobytes()


def _columns(
    paths: Sequence[Path], sources: Mapping[Source, int], next_hops: _Numbers, overlays: _Numbers
) -> SavedPaths:
    received = [path.received for path in paths]
    return SavedPaths(
        sources=list(map(sources.__getitem__, [path.source for path in paths])),
        blocks=[one.block for one in received],
        ranks=[one.rank for one in received],
        are_simple=[one.is_simple for one in received],
        next_hops=next_hops.of_all([path.next_hop for path in paths]),
        heard_at=[path.heard_at for path in paths],
        overlays=overlays.of_all([path.overlay for path in paths]),
    )


def _stale(family: Family, paths: Iterable[Path], states: Mapping[Source, NeighborState]) -> set[Path]:
    """Those of the paths that were not announced again since a refresh began."""
    refreshed = {source: state.adj_rib_in.refreshed(family) for source, state in states.items()}
    going_on = {source: fresh for source, fresh in refreshed.items() if fresh is not None}
    if not going_on:
        return set()
    return {path for path in paths if path.source in going_on and path not in going_on[path.source]}


def _is_staying(path: Path, *, states: Mapping[Source, NeighborState], family: Family, stale: Set[Path]) -> bool:
    """Whether the routes of a path are not being removed: nothing else would tell the next process to."""
    state = states[path.source]
    is_forbidden = family in state.adj_rib_in.long_lived and forbids_long_lived(path)
    return not (is_forbidden or (path in stale and state.is_swept(family)))


def _neighbor(state: NeighborState, overlays: _Numbers, kept: Mapping[Family, Kept] | None) -> SavedNeighbor:
    refreshing = [family for family in state.families if state.adj_rib_in.refreshed(family) is not None]
    evpn = state.tables.get(Family.L2VPN_EVPN)
    return SavedNeighbor(
        state.source.name,
        [_export(export, overlays) for export in state.exports.values()],
        [family for family in refreshing if not state.is_swept(family)],
        dict(evpn.labels.of(state.source)) if evpn is not None else {},
        {family: state.discarded.saved(family) for family in state.discarded.families},
        None if kept is None else _former(state, kept),
    )


def _former(state: NeighborState, kept: Mapping[Family, Kept]) -> SavedFormer:
    source = state.source
    return SavedFormer(
        source.kind,
        source.asn,
        source.router_id,
        source.address,
        source.interface,
        state.negotiated,
        msgspec.msgpack.encode(state.config),
        dict(kept),
        source.guest,
    )


def _export(export: AdjRibOut, overlays: _Numbers) -> SavedExport:
    by_advertisement: defaultdict[Advertisement, list[bytes]] = defaultdict(list)
    for key, one in export.advertised.items():
        by_advertisement[one].append(key)
    advertised = []
    for one, keys in by_advertisement.items():
        sent = one.attributes
        advertised.append((sent.block, sent.rank, sent.is_simple, overlays.of(one.overlay), one.learned, keys))
    return SavedExport(export.family, advertised, export.withdrawing, export.end_of_rib_sent, export.refresh_owed)
