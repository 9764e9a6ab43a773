"""The RIB as one process leaves it to the next: what neighbors announced, and what they were sent.

Routes stand by what they share, as in the tables: each path once, the keys by their candidates. This host's own routes
and those that EVPN makes are not in here: they follow from their sources. Nor are routes that are being removed. Only
reads; restore.py takes it up again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping

import msgspec

from bgpd.config.effects import GUESTS, resets_session
from bgpd.config.schema import GuestConfig, ListenConfig, SessionConfig
from bgpd.message.open import Negotiated
from bgpd.model.iana import Family
from bgpd.model.path import NextHop, Overlay, Path, Source
from bgpd.rib.adj_rib_in import forbids_long_lived
from bgpd.rib.adj_rib_out import AdjRibOut, Advertisement
from bgpd.rib.loc_rib import LocRib
from bgpd.rib.neighbor_state import NeighborState
from bgpd.rib.shared_decisions import Entry
from bgpd.rib.stale import Kept, StaleRoutes

NONE = -1


class SavedPath(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A path as it was received: `source`, `next_hop` and `overlay` are numbers in lists (NONE: it has none).

    `is_stale`: it was not announced again since a refresh began. The attributes are those before policy.
    """

    source: int
    block: bytes
    rank: int
    is_simple: bool
    next_hop: int
    heard_at: float
    overlay: int
    is_stale: bool


class SavedTable(msgspec.Struct, array_like=True, gc=False):
    """The routes of neighbors in one table, or of a guest in its own. `entries`: the numbers of candidates among
    `paths`, and the keys."""

    vrf: str
    family: str
    paths: list[SavedPath]
    entries: list[tuple[list[int], list[bytes]]]
    guest: str = ""


class SavedExport(msgspec.Struct, array_like=True, gc=False):
    """What one neighbor was sent of a family. `advertised`: block, rank, is_simple, overlay, learned, and the keys."""

    family: str
    advertised: list[tuple[bytes, int, bool, int, bool, list[bytes]]]
    withdrawing: list[bytes]
    end_of_rib_sent: bool
    refresh_owed: bool


class SavedFormer(msgspec.Struct, array_like=True, gc=False):
    """A session that is over, whose routes are kept while its neighbor restarts (stale.py): its Source, what it had
    negotiated, its section of the configuration (MessagePack), and what is kept of which family."""

    kind: str
    asn: int
    router_id: bytes
    address: bytes
    interface: str
    negotiated: Negotiated
    config: bytes
    kept: dict[str, Kept]
    guest: str = ""

    def is_wanted(self, config: SessionConfig) -> bool:
        """Whether the neighbor is still the one that the routes are of: no session of it would have to begin anew."""
        try:
            before = msgspec.msgpack.decode(self.config, type=type(config))
        except msgspec.MsgspecError:  # of another section, or of a version that had other keys
            return False
        section = GUESTS if isinstance(config, GuestConfig) else "listen"
        return not resets_session(section if isinstance(config, ListenConfig) else "neighbor", before, config)


class SavedNeighbor(msgspec.Struct, array_like=True, gc=False):
    """One session. `refreshing`: families of which a refresh is in progress; `labels`: those of EVPN routes that are
    not their path's; `discarded`: keys beyond max_prefixes by family, and how many more."""

    name: str
    exports: list[SavedExport]
    refreshing: list[str]
    labels: dict[bytes, bytes]
    discarded: dict[str, tuple[list[bytes], int]]
    former: SavedFormer | None = None


class SavedRib(msgspec.Struct, array_like=True, gc=False):
    """`neighbors` are the sources of the paths, by number."""

    neighbors: list[SavedNeighbor]
    next_hops: list[NextHop]
    overlays: list[Overlay]
    tables: list[SavedTable]


class _Numbers:
    """Numbers of values, in the order in which they are first asked for."""

    def __init__(self) -> None:
        self.known: dict[Hashable, int] = {}

    def of(self, value: Hashable | None) -> int:
        """The number of a value; NONE of None."""
        return NONE if value is None else self.known.setdefault(value, len(self.known))


def save(tables: Iterable[LocRib], states: Iterable[NeighborState], stale: StaleRoutes) -> SavedRib:
    """The routes of these sessions, and what they were sent. Those that `stale` has are over."""
    kept = list(states)
    sources = {state.source: number for number, state in enumerate(kept)}
    next_hops, overlays = _Numbers(), _Numbers()
    by_source = {state.source: state for state in kept}
    saved = [_table(table, sources, by_source, next_hops, overlays) for table in tables]
    neighbors = [_neighbor(state, overlays, stale.kept.get(state.source)) for state in kept]
    return SavedRib(neighbors, list(next_hops.known), list(overlays.known), saved)  # type: ignore[arg-type]


def _table(
    table: LocRib,
    sources: Mapping[Source, int],
    states: Mapping[Source, NeighborState],
    next_hops: _Numbers,
    overlays: _Numbers,
) -> SavedTable:
    refreshed = {source: state.adj_rib_in.refreshed(table.family) for source, state in states.items()}
    numbers: dict[Path, int] = {}
    paths: list[SavedPath] = []
    entries: list[tuple[list[int], list[bytes]]] = []
    for entry, keys in _by_entry(table).items():
        candidates = []
        for path in entry.candidates:
            source = sources.get(path.source)
            if source is None:
                continue
            number = numbers.get(path)
            if number is None:
                fresh, received = refreshed[path.source], path.received
                is_stale = fresh is not None and path not in fresh
                if _is_going(path, states[path.source], table.family, is_stale=is_stale):
                    numbers[path] = NONE
                    continue
                number = numbers[path] = len(paths)
                hop, overlay = next_hops.of(path.next_hop), overlays.of(path.overlay)
                saved = (received.block, received.rank, received.is_simple, hop, path.heard_at, overlay, is_stale)
                paths.append(SavedPath(source, *saved))
            if number != NONE:
                candidates.append(number)
        if candidates:
            entries.append((candidates, keys))
    return SavedTable(table.vrf, str(table.family), paths, entries, table.guest)


def _is_going(path: Path, state: NeighborState, family: Family, *, is_stale: bool) -> bool:
    """Whether the routes of a path are being removed: nothing else would tell the next process to."""
    is_forbidden = family in state.adj_rib_in.long_lived and forbids_long_lived(path)
    return is_forbidden or (is_stale and state.is_swept(family))


def _by_entry(table: LocRib) -> dict[Entry, list[bytes]]:
    found: defaultdict[Entry, list[bytes]] = defaultdict(list)
    for part in table.routes.parts:
        distinct = set(part.values())
        if len(distinct) == 1:
            found[distinct.pop()] += part
            continue
        for key, entry in part.items():
            found[entry].append(key)
    return found


def _neighbor(state: NeighborState, overlays: _Numbers, kept: Mapping[Family, Kept] | None) -> SavedNeighbor:
    refreshing = [family for family in state.families if state.adj_rib_in.refreshed(family) is not None]
    evpn = state.tables.get(Family.L2VPN_EVPN)
    return SavedNeighbor(
        state.source.name,
        [_export(export, overlays) for export in state.exports.values()],
        [str(family) for family in refreshing if not state.is_swept(family)],
        dict(evpn.labels.of(state.source)) if evpn is not None else {},
        {str(family): state.discarded.saved(family) for family in state.discarded.families},
        None if kept is None else _former(state, kept),
    )


def _former(state: NeighborState, kept: Mapping[Family, Kept]) -> SavedFormer:
    source = state.source
    return SavedFormer(
        str(source.kind),
        source.asn,
        source.router_id,
        source.address,
        source.interface,
        state.negotiated,
        msgspec.msgpack.encode(state.config),
        {str(family): one for family, one in kept.items()},
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
    return SavedExport(str(export.family), advertised, export.withdrawing, export.end_of_rib_sent, export.refresh_owed)
