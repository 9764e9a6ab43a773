"""Takes routes of sessions out of the tables: of sessions that have ended, and what a refresh has not named again.

What is kept while a neighbor restarts is named by stale.py. Each removal is a walk: a step takes a few milliseconds,
and batches may come in between two steps.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import chain

from bgpd.config.schema_sessions import SessionConfig
from bgpd.message.open import Negotiated
from bgpd.model.iana import Family
from bgpd.model.path import Path
from bgpd.model.source import Source
from bgpd.rib.dissemination import Dissemination
from bgpd.rib.keyed_routes import Changes
from bgpd.rib.loc_rib import LocRib
from bgpd.rib.neighbor_state import NeighborState
from bgpd.rib.ports import EvpnRoutes
from bgpd.rib.recording import Recorder
from bgpd.rib.sessions import Sessions
from bgpd.rib.stale import SourceFamily, kept_families
from bgpd.rib.tables import Tables
from bgpd.runtime.shared_state import changes_shared_state


class Removal(Sessions):
    """Sessions whose routes can be removed. `evpn` is to be set once before the first session."""

    evpn: EvpnRoutes

    def __init__(self, *, tables: Tables, dissemination: Dissemination, now: Callable[[], float]) -> None:
        super().__init__(now=now)
        self._tables = tables
        self._dissemination = dissemination
        self.recorder = Recorder()

    def neighbor_down(self, source: Source) -> Iterator[None]:
        """A session is gone for good: nothing is sent to it from now on; stepping removes its routes."""
        return self.remove(self.session_lost(source, is_graceful=False, now=0.0))

    def session_lost(self, source: Source, *, is_graceful: bool, now: float) -> list[SourceFamily]:
        """A session is gone: nothing is sent to it from now on. What has to be removed (`remove`): all that it and
        former sessions of its neighbor said, but for what is kept while the neighbor restarts (`is_graceful`)."""
        state = self._states.pop(source, None)
        if state is None:
            return []
        for export in state.exports.values():
            self._dissemination.remove(state.config.vrf, export)
        state.exports.clear()
        self._former[source] = state
        helps, negotiated = state.config.graceful_restart, state.negotiated
        covered = kept_families(negotiated, long_lived_s=helps.long_lived_s) if is_graceful and helps.helps else {}
        if not covered:
            return (
                self.places(source.name) if self.stale.forget(source.name) else [(source, one) for one in state.tables]
            )
        is_taken_up = self._restored is not None or source in self._adopted
        holding = [one for one in covered if is_taken_up or state.tables[one].received.get(source)]
        going = self.stale.keep(source, negotiated, covered, holding=holding, now=now)
        for family in holding:
            state.tables[family].stale[source] = self.stale.kept[source][family]
        return [*going, *((source, family) for family in state.tables if family not in holding)]

    def neighbor_back(
        self, source: Source, negotiated: Negotiated, config: SessionConfig, *, now: float
    ) -> list[SourceFamily]:
        """A session is about to be established: what former ones of its neighbor said that has to be removed."""
        helps = config.graceful_restart
        if not helps.helps:
            return self.stale.forget(source.name)
        return self.stale.back(source, negotiated, stale_time_s=helps.stale_time_s, now=now)

    def remove(self, places: Collection[SourceFamily], *, is_back: bool = False) -> Iterator[None]:
        """Stepping removes these routes of former sessions, slice by slice; they are not used from now on, unless their
        neighbor `is_back` and forwards."""
        walks = []
        for source, family in places:
            state = self._former[source]
            table = state.tables.pop(family)
            self.recorder.removed(source, family)
            if not state.tables:
                del self._former[source]
                self.recorder.forgotten(source)
            if not is_back:
                table.leave(source)
            walks.append(self._remove(source, table))
        return chain.from_iterable(walks)

    def _remove(self, source: Source, table: LocRib) -> Iterator[None]:
        if table.received.get(source):
            for changes in table.walk(table.without(source)):
                self._lost(source, table, changes)
                yield
        table.forget(source)

    def _lost(self, source: Source, table: LocRib, changes: Changes) -> None:
        keys = changes.keys
        self._tables.commit(table, changes, cause=source.name)
        if keys:
            table.labels.lost(source, keys)
            self._follow_evpn(source, table.family, keys, None)

    def _follow_evpn(self, source: Source, family: Family, keys: Sequence[bytes], path: Path | None) -> None:
        if family is Family.L2VPN_EVPN:
            self.evpn.evpn_received(source, keys, None if path is None or path.rejected else path)

    @changes_shared_state
    def refresh_began(self, source: Source, family: Family) -> None:
        """The neighbor starts to send all its routes of a family again: the present ones are stale (RFC 7313 BoRR)."""
        state = self._states.get(source)
        if state is not None and family in state.families:
            state.adj_rib_in.refresh_began(family)
            self.recorder.refresh_began(source, family)

    def refresh_ended(self, source: Source, family: Family) -> Iterator[None]:
        """The neighbor has sent all again (RFC 7313 EoRR): stepping removes what is still stale.

        However often a neighbor says so, one removal runs for a family; it begins anew if a refresh did meanwhile.
        """
        state = self._states.get(source)
        refreshed = None if state is None else state.adj_rib_in.refreshed(family)
        if state is None or refreshed is None:
            return iter(())
        self.recorder.refresh_ended(source, family)
        is_running = family in state.sweeps
        state.sweeps[family] = refreshed
        return iter(()) if is_running else self._sweep(state, family)

    def _sweep(self, state: NeighborState, family: Family) -> Iterator[None]:
        """Goes on when the session ends, if routes of it are kept: what was not said again is none of them."""
        if family not in state.tables:
            return
        table, adj_rib_in = state.tables[family], state.adj_rib_in
        while (refreshed := state.sweeps[family]) is adj_rib_in.refreshed(family):
            for changes in table.walk(table.without_stale(state.source, refreshed)):
                self._lost(state.source, table, changes)
                yield
                if family not in state.tables:
                    return
                if adj_rib_in.refreshed(family) is not refreshed:
                    break
            else:
                adj_rib_in.refresh_settled(family)
        del state.sweeps[family]
