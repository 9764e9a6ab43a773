"""Takes up the RIB that another process has left (saved.py): routes enter the tables as if they had been announced, by
the policies of now (restored_table.py), and what neighbors were sent counts as sent.

Decisions are made anew; the work is two walks. Between them neighbors may be heard again: what they name meanwhile
is taken up first. Sessions that were not adopted are left out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping

from bgpd.model.attributes import Attributes
from bgpd.model.iana import Family
from bgpd.model.next_hop import NextHop
from bgpd.model.route_batch import Overlay, RouteBatch
from bgpd.rib.adj_rib_out import AdjRibOut, Advertisements
from bgpd.rib.loc_rib import LocRib
from bgpd.rib.neighbor_state import NeighborState
from bgpd.rib.ports import EvpnRoutes
from bgpd.rib.restored_table import TableWalk
from bgpd.rib.saved import NONE, SavedExport, SavedNeighbor, SavedRib, SavedTable
from bgpd.rib.slices import SLICE
from bgpd.rib.tables import Tables


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
        self._walks: list[TableWalk] = []
        self._by_table: defaultdict[LocRib, list[TableWalk]] = defaultdict(list)

    def begin(self, advertisements: Advertisements) -> Iterator[None]:
        """Stepping takes up what sessions were sent, and all else that has to be known before they are heard; first of
        all what their routes lead to, since they may end meanwhile."""
        neighbors = [(saved, state) for saved, state in zip(self._saved.neighbors, self._states) if state is not None]
        for saved, state in neighbors:
            self._begin(saved, state)
        instead = {(table.vrf, table.family): table.instead for table in self._saved.tables if not table.guest}
        base = self._saved.base
        if base is not None:
            for table in base.tables:
                self._add(base, table, instead.get((table.vrf, table.family), ()))
                yield
        for table in self._saved.tables:
            self._add(self._saved, table)
        for saved, state in neighbors:
            for export in saved.exports:
                into = state.exports.get(export.family)
                if into is not None:
                    yield from self._export(export, into, advertisements)

    def walk(self) -> Iterator[None]:
        """Stepping takes up the routes."""
        while self._walks:
            walk = self._walks[0]
            yield from walk.walk()
            self._walks.remove(walk)
            self._by_table[walk.table].remove(walk)

    def demand(self, table: LocRib, batch: RouteBatch) -> None:
        """Take up at once what is left of these routes: a session is about to say something newer of them."""
        for walk in self._by_table.get(table, ()):
            walk.demand(batch.withdrawn)
            walk.demand(batch.announced)

    def look_ahead(self, tables: Iterable[LocRib]) -> None:
        """Make decisions that these tables will have: somebody asks what is in the place of next hops that are lost."""
        for table in tables:
            for walk in self._by_table.get(table, ()):
                walk.look_ahead()

    def next_hops(self, state: NeighborState, family: Family) -> set[NextHop]:
        """Those that the routes of a session had, also the routes that are not taken up yet."""
        table = state.tables.get(family)
        walks = self._by_table.get(table, ()) if table is not None else ()
        return set().union(*[walk.next_hops(state) for walk in walks])

    def _add(self, saved: SavedRib, table: SavedTable, skipped: Iterable[bytes] = ()) -> None:
        walk = TableWalk(saved, table, self._states, tables=self._tables, evpn=self._evpn, skipped=skipped)
        self._walks.append(walk)
        self._by_table[walk.table].append(walk)

    def _begin(self, saved: SavedNeighbor, state: NeighborState) -> None:
        evpn = state.tables.get(Family.L2VPN_EVPN)
        if saved.labels and evpn is not None:
            evpn.labels.announced(state.source, list(saved.labels), list(saved.labels.values()))
        for family, discarded in saved.discarded.items():
            state.discarded.restore(family, *discarded)
            state.watches_limit = True
        for family in saved.refreshing:
            state.adj_rib_in.refresh_began(family)

    def _export(self, saved: SavedExport, into: AdjRibOut, advertisements: Advertisements) -> Iterator[None]:
        work = 0
        for block, rank, is_simple, overlay, learned, keys in saved.advertised:
            attributes = Attributes.read(block, rank, is_simple)
            one = advertisements.of(attributes, self._overlay(overlay), learned)
            for start in range(0, len(keys), 8 * SLICE):
                into.advertised.update(dict.fromkeys(keys[start : start + 8 * SLICE], one))
                work += 32 + len(keys)
                if work > 8 * SLICE:
                    work = 0
                    yield
        into.resume(saved.withdrawing, end_of_rib_sent=saved.end_of_rib_sent, refresh_owed=saved.refresh_owed)

    def _overlay(self, number: int) -> Overlay | None:
        return None if number == NONE else self._saved.overlays[number]
