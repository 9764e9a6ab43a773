"""Which sessions have routes here, established ones and former ones whose routes are kept, and what each of them has.

Changes nothing: received.py enters and removes their routes, stale.py says how long those of former ones are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import chain

from bgpd.config.schema_sessions import SessionConfig
from bgpd.model.iana import Family
from bgpd.model.next_hop import NextHop
from bgpd.model.path import Path
from bgpd.model.source import Source
from bgpd.model.views.sessions import FamilyCounts, NeighborView
from bgpd.rib.neighbor_state import NeighborState
from bgpd.rib.policy import Trace
from bgpd.rib.restore import Restored
from bgpd.rib.stale import SourceFamily, StaleRoutes


class Sessions:
    """The sessions of a RIB. `stale`: of which former ones routes are kept, and how long."""

    def __init__(self, *, now: Callable[[], float]) -> None:
        self.stale = StaleRoutes(wall=now)
        self._states: dict[Source, NeighborState] = {}
        self._former: dict[Source, NeighborState] = {}
        self._adopted: dict[Source, NeighborState] = {}
        """Sessions of another process, until what it has left of them is begun to be taken up."""
        self._restored: Restored | None = None
        """What another process has left, as long as not all of it is in the tables."""

    # Which there are

    def states(self) -> list[NeighborState]:
        """The established sessions: their tables, and what they were sent."""
        return list(self._states.values())

    def state(self, source: Source) -> NeighborState | None:
        """An established session; None for any other."""
        return self._states.get(source)

    def configs(self) -> list[SessionConfig]:
        """The settings of the established sessions."""
        return [state.config for state in self._states.values()]

    def states_to_save(self) -> list[NeighborState]:
        """The established sessions, and the former ones whose routes are kept."""
        return [*self._states.values(), *(self._former[source] for source in self.stale.kept)]

    def is_kept(self, source: Source) -> bool:
        """Whether routes of a former session are kept."""
        return source in self.stale.kept

    def places(self, name: str) -> list[SourceFamily]:
        """All that a neighbor's sessions have said, the present one and former ones."""
        states = [state for state in self._all() if state.source.name == name]
        return [(state.source, family) for state in states for family in state.tables]

    def _all(self) -> Iterator[NeighborState]:
        return chain(self._states.values(), self._former.values())

    def _former_of(self, source: Source) -> Sequence[NeighborState]:
        """The former sessions of a neighbor whose routes are kept: nearly always none."""
        return [one for one in self._former.values() if one.source.name == source.name] if self._former else ()

    @property
    def is_complete(self) -> bool:
        """Whether the tables have all that another process has left."""
        return self._restored is None and not self._adopted

    def must_wait(self, source: Source) -> bool:
        """Whether a session cannot be heard before all is in the tables: its routes are counted one by one, or told
        apart by when they were announced."""
        state = self._states.get(source)
        if state is None or self.is_complete:
            return False
        return state.watches_limit or any(state.adj_rib_in.refreshed(one) is not None for one in state.tables)

    # What they have

    def count(self, source: Source) -> int:
        """Routes that an established session has announced, of all families."""
        state = self._states.get(source)
        return 0 if state is None else sum(table.received.get(source, 0) for table in state.tables.values())

    def counts(self, source: Source) -> dict[Family, FamilyCounts]:
        """Routes received, rejected and announced per family of an established session; empty for any other."""
        state = self._states.get(source)
        if state is None:
            return {}
        return {
            family: FamilyCounts(
                received=table.received.get(source, 0),
                rejected=table.rejected.get(source, 0),
                announced=len(state.exports[family].advertised),
                discarded=state.discarded.count(family) if state.watches_limit else 0,
            )
            for family, table in state.tables.items()
        }

    def stale_counts(self, name: str) -> dict[Family, int]:
        """How many routes of former sessions of a neighbor are kept, per family."""
        found: dict[Family, int] = {}
        for source, family, _ in self.stale.of(name):
            table = self._former[source].tables[family]
            found[family] = found.get(family, 0) + table.received.get(source, 0)
        return found

    def fill_stale(self, view: NeighborView) -> None:
        """Say what is kept of former sessions of a neighbor."""
        found = self.stale.of(view.name)
        if found:
            last = max([kept for _, _, kept in found], key=lambda kept: kept.ends_at)
            counts = self.stale_counts(view.name)
            view.stale_families = sorted(counts)
            view.stale_routes = sum(counts.values())
            view.stale_since = min(kept.since for _, _, kept in found)
            view.stale_until, view.stale_stage = last.ends_at, last.stage
            view.neighbor_graceful_restart = view.neighbor_graceful_restart or "both"

    def attribute_bytes(self, source: Source) -> int:
        """What the attributes of an established session's routes take in memory; 0 for any other."""
        state = self._states.get(source)
        return 0 if state is None else state.bytes_kept

    def judged_by(self, path: Path, family: Family, key: bytes) -> tuple[str, Trace] | None:
        """The import policy of a neighbor's route, and the rules of it that matched. None: it is no neighbor's."""
        state = self._states.get(path.source) or self._former.get(path.source)
        return None if state is None else state.adj_rib_in.judged_by(path, family, key)

    def kept_of(self, places: Collection[SourceFamily]) -> tuple[int, int]:
        """How many routes these are, and what their attributes take in memory."""
        states = {source: self._former[source] for source, _ in places}
        routes = sum(states[source].tables[family].received.get(source, 0) for source, family in places)
        size = sum(states[source].adj_rib_in.interned(family).bytes_kept for source, family in places)
        return routes, size

    def next_hops_of_only(self, places: Collection[SourceFamily]) -> dict[str, set[NextHop]]:
        """By VRF, the next hops that these routes have there, and no others, of sessions or kept of former ones. No
        learned route has those of guests."""
        chosen = set(places)
        mine: dict[str, set[NextHop]] = {}
        others: dict[str, set[NextHop]] = {}
        for state in self._all():
            for family in () if state.source.guest else state.tables:
                named: Iterable[NextHop] = state.adj_rib_in.interned(family).next_hops
                if self._restored is not None:
                    named = self._restored.next_hops(state, family).union(named)
                which = mine if (state.source, family) in chosen else others
                which.setdefault(state.config.vrf, set()).update(named)
        found = {vrf: named - others.get(vrf, set()) for vrf, named in mine.items()}
        return {vrf: named for vrf, named in found.items() if named}

    def discarded(self) -> Iterator[tuple[Source, Family, int]]:
        """The sessions and families of which something is beyond the limit and left out, and how much."""
        for source, state in self._states.items():
            for family in state.discarded.families if state.watches_limit else ():
                yield source, family, state.discarded.count(family)
