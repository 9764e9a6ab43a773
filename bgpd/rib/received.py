"""Enters what neighbors send into the tables: their routes, End-of-RIB, and what another process has left of them.

The routes of a session that ended are removed (removal.py), or kept while its neighbor restarts (stale.py): then
nothing moves, and what the next session says takes their place key by key, since both sources bear the neighbor's name.

One UPDATE's routes pass import policy (adj_rib_in.py) and enter the table of their VRF and family (loc_rib.py). Work
that may touch every route of a neighbor (its policy changed, stale routes) is a generator: each step takes a few
milliseconds, and batches may come in between two steps.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain

from bgpd.config.schema import RibConfig
from bgpd.config.schema_sessions import SessionConfig
from bgpd.config.sections import section_of
from bgpd.kernel.host import Host
from bgpd.message.open import Negotiated
from bgpd.model.iana import CeaseSubcode, Family
from bgpd.model.path import Path
from bgpd.model.prefix import parse_address
from bgpd.model.route_batch import RouteBatch
from bgpd.model.source import Source
from bgpd.rib.adj_rib_in import AdjRibIn, forbids_long_lived, revise
from bgpd.rib.adj_rib_out import AdjRibOut, Advertisements
from bgpd.rib.dissemination import Dissemination
from bgpd.rib.evpn_batches import enter_few_evpn
from bgpd.rib.guest_policy import import_policy
from bgpd.rib.loc_rib import LocRib
from bgpd.rib.neighbor_state import NeighborState, change_policies
from bgpd.rib.next_hops import allowed_next_hops
from bgpd.rib.policy import build_policy
from bgpd.rib.ports import Neighbors
from bgpd.rib.removal import Removal
from bgpd.rib.restore import Restored
from bgpd.rib.route_labels import labels_of
from bgpd.rib.saved import SavedRib
from bgpd.rib.small_batches import enter_few
from bgpd.rib.stale import SourceFamily, Stage
from bgpd.rib.tables import Tables
from bgpd.runtime.events import log
from bgpd.runtime.shared_state import SharedStateBroken

REPLAYED = 512
"""Keys of one step of `replay_evpn`."""


class ReceivedRoutes(Removal):
    """The routes of the established sessions, and of former ones whose neighbor restarts (`stale`).

    `host` has the networks of this host. `now()`: wall clock in seconds. `schedule(callback)` runs it soon. `neighbors`
    and `evpn` are to be set once before the first session.
    """

    neighbors: Neighbors

    def __init__(
        self,
        config: RibConfig,
        *,
        host: Host,
        tables: Tables,
        dissemination: Dissemination,
        now: Callable[[], float],
        schedule: Callable[[Callable[[], None]], object],
    ) -> None:
        super().__init__(tables=tables, dissemination=dissemination, now=now)
        self._config = config
        self._host = host
        self._now = now
        self._schedule = schedule
        self._ageing = 0
        self._advertisements = Advertisements()

    def neighbor_up(
        self, source: Source, negotiated: Negotiated, config: SessionConfig, *, is_adopted: bool = False
    ) -> None:
        """A session is established: its routes may come, and it is sent the table, then End-of-RIB.

        One that was adopted from another process is sent nothing before `restore` has told what it was sent, and then
        `Dissemination.release` is called.

        Raises: PolicyError: the configuration names a policy that cannot be used.
        """
        where, policies = f"neighbor {source.name}", self._config.policy
        adj_rib_in = self._adj_rib_in(source, negotiated, config)
        policy = build_policy(config.export, policies, where=f"{where}.export", exporting=True)
        state = NeighborState(source, negotiated, config=config, adj_rib_in=adj_rib_in)
        state.tables = {family: self._tables.of_session(config, family) for family in negotiated.families}
        self._states[source] = state
        if is_adopted:
            self._adopted[source] = state
        self.recorder.session_up(source, negotiated, config, adj_rib_in.allowed, is_adopted=is_adopted)
        for family, table in state.tables.items():
            table.interned[source] = adj_rib_in.interned(family)
            sent = self._tables.table(config.vrf, family)
            if policy.takes_learned:
                sent.exports_learned = sent.gathers_keys = True
            export = AdjRibOut(
                source,
                family,
                sent,
                policy=policy,
                local_asn=negotiated.local_asn,
                is_ibgp=negotiated.is_ibgp,
                takes_llgr_stale=negotiated.knows_long_lived,
                role=negotiated.role,
                advertisements=self._advertisements,
                drained=self._dissemination.drained,
                send=self._send_evpn if family is Family.L2VPN_EVPN else self.neighbors.send,
                told=partial(self.tell_recorder, source, sent),
            )
            state.exports[family] = export
            (self._dissemination.hold if is_adopted else self._dissemination.add)(config.vrf, export)

    def await_memberships(self, source: Source, *, until: float) -> None:
        """Send a neighbor no EVPN routes before it has said which route targets it wants, or `until` (RFC 4684).

        Only where it has said that it sends End-of-RIB: it may have kept routes of a former session of this host, and
        would be sent withdrawals of all that it has not asked for yet.
        """
        state = self._states.get(source)
        if state is None or Family.ROUTE_TARGET not in state.families or state.negotiated.graceful_restart is None:
            return
        if Family.L2VPN_EVPN in state.exports:
            self._dissemination.defer(state.exports[Family.L2VPN_EVPN], until=until)

    def end_of_rib_received(self, source: Source, family: Family) -> None:
        """The neighbor has sent all of a family."""
        state = self._states.get(source)
        if state is not None and family is Family.ROUTE_TARGET and Family.L2VPN_EVPN in state.exports:
            self._dissemination.resume(state.exports[Family.L2VPN_EVPN])

    def _adj_rib_in(self, source: Source, negotiated: Negotiated, config: SessionConfig) -> AdjRibIn:
        """Raises: PolicyError."""
        where = f"neighbor {source.name}.import"
        return AdjRibIn(
            source,
            policy=import_policy(config, self._config, where=where),
            local_asn=negotiated.local_asn,
            router_asn=self._config.router.asn,
            router_id=parse_address(self._config.router.router_id),
            allow_own_as=config.allow_own_as,
            now=self._now,
            allowed=allowed_next_hops(source, self._host, config),
            role=negotiated.role,
        )

    def _send_evpn(self, source: Source, batch: RouteBatch) -> None:
        for one in self.evpn.for_neighbor(source, batch):
            self.neighbors.send(source, one)

    def tell_recorder(self, source: Source, table: LocRib, batch: RouteBatch) -> None:
        """A neighbor was sent these routes of this host, or has them."""
        if not self.recorder.is_on:
            return
        spoken = batch.family
        for one in self.evpn.for_neighbor(source, batch) if spoken is Family.L2VPN_EVPN else (batch,):
            sent = self.neighbors.as_sent(source, one) if one.announced else None
            for keys, attributes, next_hop in ((one.withdrawn, None, b""), (one.announced, *(sent or (None, b"")))):
                for place, chosen in self._by_place(table, keys).items():
                    if source in self._states:
                        at = self._now() if attributes is None else None
                        self._states[source].told(place, chosen, at)
                    self.recorder.told(source, place, chosen, attributes, next_hop, spoken=spoken, overlay=one.overlay)

    def _by_place(self, table: LocRib, keys: Sequence[bytes]) -> dict[tuple[str, Family], list[bytes]]:
        """The prefixes that these routes of a table are about, by VRF and family."""
        if table.family is not Family.L2VPN_EVPN:
            return {(table.vrf, table.family): list(keys)} if keys else {}
        found: dict[tuple[str, Family], list[bytes]] = {}
        for key in keys:
            place = self.evpn.prefix_of(key)
            if place is not None:
                found.setdefault(place[:2], []).append(place[2])
        return found

    def become_long_lived(self, places: Collection[SourceFamily]) -> Iterator[None]:
        """The Restart Time of these is over: stepping marks them LLGR_STALE, which makes them the last choice, and
        removes those that forbid it (RFC 9494 section 4.2)."""
        walks = []
        for source, family in places:
            state = self._former[source]
            state.adj_rib_in.enter_long_lived(family)
            self.recorder.long_lived(source, family)
            walks.append(self._become_long_lived(state, state.tables[family]))
        self._ageing += len(walks)
        return chain.from_iterable(walks)

    def _become_long_lived(self, state: NeighborState, table: LocRib) -> Iterator[None]:
        for changes in table.walk(table.without_some(state.source, forbids_long_lived)):
            self._lost(state.source, table, changes)
            yield
        yield from self._revise({table: {state.source: state.adj_rib_in}})
        self._ageing -= 1

    def routes_received(self, source: Source, batches: Sequence[RouteBatch]) -> None:
        """Routes of consecutive UPDATEs, in order. Without effect after `neighbor_down` or for a family not negotiated.

        What it raises, but for SharedStateBroken, leaves the batches half taken; `neighbor_down` removes that too,
        since it goes by the source. What was changed is passed on in any case.
        """
        state = self._states.get(source)
        if state is None:
            return
        if self._restored is not None:
            for batch in batches:
                if batch.family in state.tables:
                    self._restored.demand(state.tables[batch.family], batch)
        changed: dict[LocRib, None] = {}
        most = sum([len(one.announced) for one in batches]) if state.watches_limit else 0
        at = 0
        self._tables.cause = source.name
        try:
            while at < len(batches):
                batch = batches[at]
                table = state.tables.get(batch.family)
                if table is None:
                    at += 1
                    continue
                if table not in changed:
                    changed[table] = None
                    self._tables.separate(table, (len(one.announced) + len(one.withdrawn) for one in batches))
                after = at
                if not state.watches_limit or state.has_room(table, most):
                    after = self._enter_few(state, table, batches, at)
                if after == at:
                    self._take(state, table, batch)
                    after += 1
                at = after
        except MemoryError as error:
            raise SharedStateBroken(f"routes of {source.name} half taken: {error!r}") from error
        finally:
            for table in changed:
                self._tables.gathered(table)
            self._tables.cause = ""
        self._look_at_limits(state, changed)

    def _look_at_limits(self, state: NeighborState, tables: Iterable[LocRib]) -> None:
        """End the session of a neighbor that has too much in these tables, with what is kept of its former sessions."""
        kept = self._former_of(state.source)
        for table in tables:
            count = table.received.get(state.source, 0)
            for former in kept:
                count += table.received.get(former.source, 0)
            self._end_if(state, state.why_too_many(table.family, count), CeaseSubcode.MAXIMUM_PREFIXES)
        bytes_kept = sum([former.bytes_kept for former in kept])
        self._end_if(state, state.why_out_of_resources(bytes_kept), CeaseSubcode.OUT_OF_RESOURCES)

    def _enter_few(self, state: NeighborState, table: LocRib, batches: Sequence[RouteBatch], at: int) -> int:
        if table.family is not Family.L2VPN_EVPN:
            return enter_few(table, state.adj_rib_in, batches, at)
        heard: list[tuple[Path, bytes]] = []
        after = enter_few_evpn(table, state.adj_rib_in, batches, at, heard)
        if heard:
            self.evpn.few_received(state.source, heard)
        return after

    def _take(self, state: NeighborState, table: LocRib, batch: RouteBatch) -> None:
        source, family, keys, changes = state.source, batch.family, batch.announced, table.pending
        paths: list[tuple[Path, Sequence[bytes]]] = []
        if batch.withdrawn:
            table.withdraw(batch.withdrawn, source.name, changes)
            if table.labels:
                table.labels.lost(source, batch.withdrawn)
            self._follow_evpn(source, family, batch.withdrawn, None)
        if state.watches_limit:
            keys = self._within_limit(state, table, batch)
        if keys and batch.attributes is not None:
            paths = state.adj_rib_in.paths(family, keys, batch.attributes, batch.next_hop, batch.overlay)
        if batch.labels is not None or table.labels:
            changes.keys += table.labels.announced(source, keys, labels_of(batch, keys))
        for path, chosen in paths:
            table.announce(chosen, path, changes)
            if family is Family.L2VPN_EVPN:
                self._follow_evpn(source, family, chosen, path)
        if keys and table.own_blocks:
            self._tables.aggregation.learned(table.vrf, family, keys)
        if family is Family.ROUTE_TARGET and self.evpn.memberships_received(source, batch):
            self.neighbors.refresh_wanted(source, Family.L2VPN_EVPN)

    def _within_limit(self, state: NeighborState, table: LocRib, batch: RouteBatch) -> Sequence[bytes]:
        """What of a batch is taken, once its withdrawals are: the announced keys but for those beyond the limit."""
        if batch.withdrawn:
            state.discarded.withdrawn(batch.family, batch.withdrawn)
        if state.discards and batch.announced:
            taken = state.within_limit(table, batch.announced)
            if len(taken) < len(batch.announced):
                self.recorder.discarded(state.source, batch.family, [*set(batch.announced).difference(taken)])
            return taken
        state.discarded.withdrawn(batch.family, batch.announced)
        return batch.announced

    def ask_for_discarded(self, now: float) -> None:
        """Have neighbors send again what was discarded, where there is room now; to be called every second or so.

        A neighbor that does not know route refresh cannot be asked: what is missing is shown. `now` is of a clock that
        only goes forward.
        """
        for source, state in self._states.items():
            for family in state.discarded.families if state.watches_limit else ():
                why = state.why_ask_again(family, now)
                if why and self.neighbors.ask_again(source, family):
                    log.info("prefix_limit.asked_again", neighbor=source.name, family=family, reason=why)
                    state.asked_again(family, now)

    def _end_if(self, state: NeighborState, reason: str, subcode: CeaseSubcode) -> None:
        """End the session of a neighbor that sent too much, if there is a reason, once it is no longer being heard."""
        if reason:
            name = state.source.name
            self._schedule(lambda: self.neighbors.reset(name, reason=reason, subcode=subcode))

    def networks_changed(self, interface: str) -> Iterator[None]:
        """The networks of an interface changed: stepping checks again the next hops that its neighbors name."""
        walks = []
        for state in self._all():
            source, adj_rib_in = state.source, state.adj_rib_in
            if (source.interface == interface or source.guest) and adj_rib_in.allowed is not None:
                allowed = allowed_next_hops(source, self._host, state.config)
                if allowed is None or allowed == adj_rib_in.allowed:
                    continue
                self.recorder.allowed_changed(source, allowed)
                if adj_rib_in.allow(allowed):
                    walks.append(self._revise({table: {source: adj_rib_in} for table in state.tables.values()}))
        return chain.from_iterable(walks)

    @property
    def is_sweeping(self) -> bool:
        """Whether some is still in the tables, since its removal goes on: of what a refresh has not named again, or of
        what must not be kept for long."""
        return self._ageing > 0 or any(family in state.tables for state in self._all() for family in state.sweeps)

    def refresh_requested(self, source: Source, family: Family) -> None:
        """The neighbor is to be sent a family again: it asked (RFC 2918), or is to know other next hops. Before
        End-of-RIB it is not told that this is all (RFC 7313 section 4): what it kept of a former session may come yet.
        """
        state = self._states.get(source)
        if state is not None and family in state.exports:
            if state.exports[family].end_of_rib_sent:
                self.neighbors.send_refresh_began(source, family)
            state.exports[family].resend_all()
            self._dissemination.look_at(state.exports[family])

    def restore_former(self, saved: SavedRib) -> dict[int, NeighborState]:
        """Keep what another process has kept of sessions that are over, by number; nothing of neighbors that are not
        configured any more, or otherwise, or whose restarts are not helped with. Their routes come by `restore`."""
        found: dict[int, NeighborState] = {}
        for number, neighbor in enumerate(saved.neighbors):
            former, source = neighbor.former, neighbor.former_source
            if former is None or source is None:
                continue
            config = section_of(self._config, source)
            if config is None or not config.graceful_restart.helps or not former.is_wanted(config):
                continue
            adj_rib_in = self._adj_rib_in(source, former.negotiated, config)
            state = NeighborState(source, former.negotiated, config=config, adj_rib_in=adj_rib_in)
            for family, kept in former.kept.items():
                table = state.tables[family] = self._tables.of_session(config, family)
                table.interned[source], table.stale[source] = adj_rib_in.interned(family), kept
                if kept.stage is Stage.LONG_LIVED:
                    adj_rib_in.enter_long_lived(family)
                self.stale.kept.setdefault(source, {})[family] = kept
            self._former[source] = found[number] = state
            self.recorder.session_up(
                source, former.negotiated, config, adj_rib_in.allowed, is_adopted=True, is_over=True
            )
            for family in adj_rib_in.long_lived:
                self.recorder.long_lived(source, family)
        return found

    def restore(self, saved: SavedRib, former: Mapping[int, NeighborState]) -> Iterator[None]:
        """Stepping takes up what another process has left of the sessions that were adopted, and of `former` ones."""
        yield from self.restore_sessions(saved, former)
        yield from self.restore_routes()

    def restore_sessions(self, saved: SavedRib, former: Mapping[int, NeighborState]) -> Iterator[None]:
        """Stepping takes up what they were sent; afterwards they may be heard, but for those that `must_wait`."""
        adopted, self._adopted = self._adopted, {}
        states = {source.name: state for source, state in adopted.items() if state in self._all()}
        self._restored = Restored(saved, states, former, tables=self._tables, evpn=self.evpn)
        self._tables.keeps_next_hops = True
        return self._restored.begin(self._advertisements)

    def restore_routes(self) -> Iterator[None]:
        """Then, stepping takes up what they had announced."""
        if self._restored is None:
            return
        yield from self._restored.walk()
        self._restored = None
        self._tables.keeps_next_hops = False
        for state in list(self._states.values()):
            self._look_at_limits(state, state.tables.values())

    def look_ahead(self, tables: Sequence[LocRib]) -> None:
        """Have these tables know decisions of routes that are not in them yet: next hops are lost meanwhile."""
        if self._restored is not None:
            self._restored.look_ahead(tables)

    def room_came(self, source: Source) -> None:
        """The connection to a neighbor takes more again."""
        state = self._states.get(source)
        if state is not None:
            self._dissemination.look_at(*state.exports.values())

    def replay_evpn(self) -> Iterator[None]:
        """Stepping gives EVPN all usable EVPN routes of the neighbors again."""
        table = self._tables.table("", Family.L2VPN_EVPN)
        for keys in table.routes.slices(REPLAYED):
            for path, chosen in table.by_path(keys).items():
                if not path.source.is_local:
                    self._follow_evpn(path.source, table.family, chosen, path)
            yield

    def reconfigure(self, config: RibConfig) -> Iterator[None]:
        """Use other policies; stepping applies changed ones for import to the routes that are there.

        Nothing resets: sessions whose policies changed keep running. Sessions that `config` lacks are left as they are.

        Raises: PolicyError: a session's policy cannot be used.
        """
        former, self._config = self._config, config
        return self._revise(change_policies(list(self._all()), former, config))

    def _revise(self, changed: dict[LocRib, dict[Source, AdjRibIn]]) -> Iterator[None]:
        for table, sources in changed.items():
            for changes in revise(table, table.family, sources, partial(self._replaced, table.family)):
                self._tables.commit(table, changes)
                yield

    def _replaced(self, family: Family, path: Path, keys: Sequence[bytes]) -> None:
        self._follow_evpn(path.source, family, keys, path)
