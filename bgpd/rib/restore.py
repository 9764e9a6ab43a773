"""Takes up the RIB that another process has left (saved.py): routes enter the tables as if they had been announced, by
the policies of now, and what neighbors were sent counts as sent.

Decisions are made anew; the work is a walk. Sessions that were not adopted are left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from bgpd.model.attributes import Attributes
from bgpd.model.iana import Family
from bgpd.model.path import Overlay, Path, RouteBatch
from bgpd.rib.adj_rib_out import AdjRibOut, Advertisements
from bgpd.rib.loc_rib import SLICE, Changes
from bgpd.rib.neighbor_state import NeighborState
from bgpd.rib.ports import EvpnRoutes
from bgpd.rib.saved import NONE, SavedExport, SavedNeighbor, SavedRib, SavedTable
from bgpd.rib.tables import Tables

_ENTRIES = 256
"""Entries of one step, since each may be a decision of its own."""


class Restored:
    """One snapshot of the RIB, for the adopted sessions. `states` are these by name; `former`, by number,
    those that are over and whose routes are kept.
    """

    def __init__(
        self,
        saved: SavedRib,
        states: Mapping[str, NeighborState],
        former: Mapping[int, NeighborState],
        *,
        tables: Tables,
        evpn: EvpnRoutes,
    ) -> None:
        self._saved = saved
        self._states: list[NeighborState | None] = [
            states.get(one.name) if one.former is None else former.get(number)
            for number, one in enumerate(saved.neighbors)
        ]
        self._tables = tables
        self._evpn = evpn

    def walk(self, advertisements: Advertisements) -> Iterator[None]:
        """Stepping takes all of it up."""
        for saved, state in zip(self._saved.neighbors, self._states):
            if state is not None:
                self._begin(saved, state)
                for export in saved.exports:
                    into = state.exports.get(Family(export.family))
                    if into is not None:
                        yield from self._export(export, into, advertisements)
        for table in self._saved.tables:
            yield from _TableWalk(self._saved, table, self._states, tables=self._tables, evpn=self._evpn).walk()

    def _begin(self, saved: SavedNeighbor, state: NeighborState) -> None:
        evpn = state.tables.get(Family.L2VPN_EVPN)
        if saved.labels and evpn is not None:
            evpn.labels.announced(state.source, list(saved.labels), saved.labels)
        for family, (keys, more) in saved.discarded.items():
            state.discarded.restore(Family(family), keys, more)
            state.watches_limit = True
        for family in saved.refreshing:
            state.adj_rib_in.refresh_began(Family(family))

    def _export(self, saved: SavedExport, into: AdjRibOut, advertisements: Advertisements) -> Iterator[None]:
        for block, rank, is_simple, overlay, learned, keys in saved.advertised:
            attributes = Attributes(block, rank, is_simple)
            one = advertisements.of(attributes, self._overlay(overlay), learned)
            for start in range(0, len(keys), 8 * SLICE):
                into.advertised.update(dict.fromkeys(keys[start : start + 8 * SLICE], one))
                yield
        into.resume(saved.withdrawing, end_of_rib_sent=saved.end_of_rib_sent, refresh_owed=saved.refresh_owed)

    def _overlay(self, number: int) -> Overlay | None:
        return None if number == NONE else self._saved.overlays[number]


_Groups = list[tuple[tuple[Path, ...], Sequence[bytes]]]


class _TableWalk:
    """The routes of one table."""

    def __init__(
        self,
        saved: SavedRib,
        table: SavedTable,
        states: Sequence[NeighborState | None],
        *,
        tables: Tables,
        evpn: EvpnRoutes,
    ) -> None:
        self._saved = saved
        self._entries = table.entries
        self._paths = table.paths
        self._states = states
        self._tables = tables
        self._evpn = evpn
        self._family = Family(table.family)
        self._table = (
            tables.guest_table(table.guest, self._family) if table.guest else tables.table(table.vrf, self._family)
        )
        self._whole: dict[int, Path] = {}
        """The path of each number, where the policy does not look at prefixes."""
        self._parts: dict[tuple[int, object], Path] = {}

    def walk(self) -> Iterator[None]:
        """Stepping enters some of the routes each time."""
        changes, work = Changes(), 0
        for candidates, keys in self._entries:
            for start in range(0, len(keys), SLICE):
                some = keys[start : start + SLICE]
                self._enter(candidates, some, changes)
                work += 8 + len(some)
                if work > SLICE:
                    self._tables.commit(self._table, changes)
                    changes, work = Changes(), 0
                    yield
        self._tables.commit(self._table, changes)
        self._end_refreshes()

    def _enter(self, candidates: Sequence[int], keys: Sequence[bytes], changes: Changes) -> None:
        groups: _Groups = [((), keys)]
        for number in candidates:
            state = self._states[self._paths[number].source]
            if state is None or self._family not in state.tables:
                continue
            whole = self._whole.get(number)
            if whole is not None:
                groups = [((*former, whole), chosen) for former, chosen in groups]
            else:
                groups = [
                    ((*former, path), part)
                    for former, chosen in groups
                    for path, part in self._divided(number, state, chosen)
                ]
        for paths, chosen in groups:
            if paths:
                self._table.load(chosen, paths, changes)
                for path in paths:
                    self._follow(path, chosen)

    def _divided(self, number: int, state: NeighborState, keys: Sequence[bytes]) -> list[tuple[Path, Sequence[bytes]]]:
        """The path that each of the keys gets of a saved one, by the policy of now."""
        saved, adj_rib_in = self._paths[number], state.adj_rib_in
        received = Attributes(saved.block, saved.rank, saved.is_simple)
        next_hop = None if saved.next_hop == NONE else self._saved.next_hops[saved.next_hop]
        overlay = None if saved.overlay == NONE else self._saved.overlays[saved.overlay]
        found: list[tuple[Path, Sequence[bytes]]] = []
        for trace, chosen in adj_rib_in.traces(self._family, keys, received, next_hop):
            path = self._parts.get((number, trace))
            if path is None:
                path = adj_rib_in.heard_before(self._family, received, next_hop, overlay, trace, saved.heard_at)
                self._parts[number, trace] = path
            if trace is None:
                self._whole[number] = path
            found.append((path, chosen))
        return found

    def _follow(self, path: Path, keys: Sequence[bytes]) -> None:
        if self._family is Family.L2VPN_EVPN and not path.rejected:
            self._evpn.evpn_received(path.source, keys, path)
        elif self._family is Family.ROUTE_TARGET:
            batch = RouteBatch(self._family, announced=keys, attributes=path.received, next_hop=path.next_hop)
            self._evpn.memberships_received(path.source, batch)

    def _end_refreshes(self) -> None:
        """What was not announced again since a refresh began is stale, as it was."""
        refreshed = {
            state.source: state.adj_rib_in.refreshed(self._family) for state in self._states if state is not None
        }
        for (number, _), path in self._parts.items():
            fresh = refreshed.get(path.source)
            if fresh is not None and self._paths[number].is_stale:
                fresh.discard(path)
