"""The RIB: what neighbors and this host say goes in, what the FIB and the neighbors must hear comes out.

Route batches run through import policy, decision and table, and leave as merged next hop changes for the FIB and as
marked keys for each neighbor's Adj-RIB-Out. Work that may touch every route (a session lost, a next hop gone, a policy
changed) is a generator: each step takes a few milliseconds, and batches may come in between two steps.

Sans-IO: callables out, `now` passed in. Never decides how routes reach the kernel or the wire.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from collections.abc import Set as AbstractSet
from functools import partial
from itertools import chain

import structlog

from bgpd.config.schema import RibConfig, SessionConfig
from bgpd.kernel.host import Host
from bgpd.message.open import Negotiated
from bgpd.model.attributes import Attributes
from bgpd.model.iana import CeaseSubcode, Family
from bgpd.model.path import NextHop, NextHops, Overlay, Path, RouteBatch, Source, SourceKind
from bgpd.model.prefix import parse_address
from bgpd.model.views import FamilyCounts
from bgpd.rib.adj_rib_in import AdjRibIn
from bgpd.rib.adj_rib_out import AdjRibOut, Advertisements
from bgpd.rib.aggregates import Aggregation
from bgpd.rib.decision_memo import Decision
from bgpd.rib.dissemination import Exports, Outlet
from bgpd.rib.loc_rib import Changes, LocRib, Tables
from bgpd.rib.neighbor_state import Session, change_policies, revise
from bgpd.rib.next_hops import allowed_next_hops
from bgpd.rib.policy import BuiltInPolicy, Policy, build_policy
from bgpd.rib.ports import EvpnRoutes, KernelRoutes, Neighbors, Workloads
from bgpd.rib.views import fallback
from bgpd.runtime.shared_state import SharedStateBroken, changes_shared_state

log = structlog.get_logger()

REPLAYED = 512
"""Keys of one step of `replay_evpn`."""


class Rib:
    """All tables, by VRF ("" is the main one) and family, with what neighbors and this host say of them.

    `host` has the networks of this host. `now()`: wall clock in seconds. `schedule(callback)`: run it soon, in the same
    thread (`turns.soon`). Call `connect` before anything is told.

    Raises: PolicyError: the configuration names a policy that cannot be used (also `neighbor_up`, `reconfigure`).
    """

    _kernel: KernelRoutes
    _neighbors: Neighbors
    _evpn: EvpnRoutes

    def __init__(
        self,
        config: RibConfig,
        *,
        host: Host,
        now: Callable[[], float],
        schedule: Callable[[Callable[[], None]], object],
    ) -> None:
        self._config = config
        self._host = host
        self._now = now
        self._schedule = schedule
        self._tables = Tables(
            resolve=self._why_unreachable, exports_learned=self._exports_learned, forgotten=self._next_hops_forgotten
        )
        self.tables = self._tables.all
        self.table = self._tables.table
        self._sessions: dict[Source, Session] = {}
        self._local: dict[Source, AdjRibIn] = {}
        self._advertisements = Advertisements()
        self.aggregation = Aggregation(config, self)

    def connect(self, *, kernel: KernelRoutes, neighbors: Neighbors, evpn: EvpnRoutes, workloads: Workloads) -> None:
        """Who hears what the RIB decides; to be called once."""
        self._kernel, self._neighbors, self._evpn = kernel, neighbors, evpn
        self.aggregation.workloads = workloads
        self._exports = Exports(neighbors, wanted=lambda: self._outlet.wanted(), schedule=self._schedule)
        self._outlet = Outlet(
            exports=self._exports, kernel=kernel, evpn=evpn, aggregation=self.aggregation, schedule=self._schedule
        )

    def _exports_learned(self, vrf: str, family: Family) -> bool:
        sessions = [session.config for session in self._sessions.values()]
        return any(
            session.vrf == vrf and family in session.families and session.export not in ("local", "none")
            for session in chain(sessions, self._config.neighbor, self._config.listen)
        )

    def _why_unreachable(self, vrf: str, next_hop: NextHop) -> str:
        answers = self._evpn if next_hop.is_recursive else self._kernel
        return answers.resolve(vrf, next_hop)

    def _next_hops_forgotten(self, vrf: str, next_hops: Collection[NextHop]) -> None:
        self._kernel.forget(vrf, next_hops)

    def _policy(self, name: str, *, where: str, exporting: bool) -> Policy:
        return build_policy(name, self._config.policy, where=where, exporting=exporting)

    # Sessions

    def neighbor_up(
        self,
        source: Source,
        negotiated: Negotiated,
        config: SessionConfig,
    ) -> None:
        """A session is established: its routes may come, and it is sent the table, then End-of-RIB."""
        where = f"neighbor {source.name}"
        adj_rib_in = AdjRibIn(
            source,
            policy=self._policy(config.import_, where=f"{where}.import", exporting=False),
            local_asn=negotiated.local_asn,
            router_id=parse_address(self._config.router.router_id),
            allow_own_as=config.allow_own_as,
            now=self._now,
            allowed=allowed_next_hops(source, self._host),
            received_bytes=self._neighbors.attribute_bytes(source),
        )
        policy = self._policy(config.export, where=f"{where}.export", exporting=True)
        session = Session(source, families=negotiated.families, config=config, adj_rib_in=adj_rib_in)
        session.tables = {family: self.table(config.vrf, family) for family in negotiated.families}
        self._sessions[source] = session
        for family, table in session.tables.items():
            if policy.takes_learned:
                table.exports_learned = table.gathers_keys = True
            export = AdjRibOut(
                source,
                family,
                table,
                policy=policy,
                local_asn=negotiated.local_asn,
                is_ibgp=negotiated.is_ibgp,
                advertisements=self._advertisements,
                send=self._send_evpn if family is Family.L2VPN_EVPN else self._neighbors.send,
            )
            session.exports[family] = export
            self._exports.add(config.vrf, export)

    def _send_evpn(self, source: Source, batch: RouteBatch) -> None:
        for one in self._evpn.for_neighbor(source, batch):
            self._neighbors.send(source, one)

    def neighbor_down(self, source: Source) -> Iterator[None]:
        """A session is gone: nothing is sent to it from now on; stepping removes its routes, slice by slice."""
        session = self._sessions.pop(source, None)
        if session is None:
            return iter(())
        for export in session.exports.values():
            self._exports.remove(session.config.vrf, export)
        return self._remove(source, list(session.tables.values()))

    def _remove(self, source: Source, tables: list[LocRib]) -> Iterator[None]:
        for table in tables:
            if table.received.get(source):
                for changes in table.walk(table.without(source)):
                    self._lost(source, table, changes)
                    yield
            table.forget(source)
        self._tables.prune()

    def _lost(self, source: Source, table: LocRib, changes: Changes) -> None:
        keys = changes.keys
        self._outlet.commit(table, changes)
        if keys:
            self._follow_evpn(source, table.family, keys, None)

    def _follow_evpn(self, source: Source, family: Family, keys: Sequence[bytes], path: Path | None) -> None:
        if family is Family.L2VPN_EVPN:
            self._evpn.evpn_received(source, keys, None if path is None or path.rejected else path)

    def routes_received(self, source: Source, *batches: RouteBatch) -> None:
        """Routes of consecutive UPDATEs, in order. Without effect after `neighbor_down` or for a family not negotiated.

        What it raises, but for SharedStateBroken, leaves the batches half taken; `neighbor_down` removes that too,
        since it goes by the source. What was changed is told in any case.
        """
        session = self._sessions.get(source)
        if session is None:
            return
        changed: dict[LocRib, None] = {}
        try:
            for batch in batches:
                table = session.tables.get(batch.family)
                if table is not None:
                    changed[table] = None
                    self._take(session, table, batch)
        except MemoryError as error:
            raise SharedStateBroken(f"routes of {source.name} half taken: {error!r}") from error
        finally:
            for table in changed:
                self._outlet.gathered(table)
        for table in changed:
            self._check_limits(session, table.family, table.received.get(source, 0))
        self._tables.prune()

    def _take(self, session: Session, table: LocRib, batch: RouteBatch) -> None:
        source, family, keys, changes = session.source, batch.family, batch.announced, table.pending
        paths: list[tuple[Path, Sequence[bytes]]] = []
        if keys and batch.attributes is not None:
            paths = session.adj_rib_in.paths(family, keys, batch.attributes, batch.next_hop, batch.overlay)
        if batch.withdrawn:
            table.withdraw(batch.withdrawn, source.name, changes)
            if family is Family.L2VPN_EVPN:
                self._follow_evpn(source, family, batch.withdrawn, None)
        for path, chosen in paths:
            table.announce(chosen, path, changes)
            if family is Family.L2VPN_EVPN:
                self._follow_evpn(source, family, chosen, path)
        if keys and self.aggregation.is_watched(table.vrf, family):
            self.aggregation.learned(table.vrf, family, keys)
        if family is Family.ROUTE_TARGET and self._evpn.memberships_received(source, batch):
            self._neighbors.refresh_wanted(source, Family.L2VPN_EVPN)

    def _check_limits(self, session: Session, family: Family, count: int) -> None:
        name = session.source.name
        reason = session.why_too_many(family, count)
        if reason:
            self._reset_soon(name, reason, CeaseSubcode.MAXIMUM_PREFIXES)
        reason = session.why_out_of_resources()
        if reason:
            self._reset_soon(name, reason, CeaseSubcode.OUT_OF_RESOURCES)

    def _reset_soon(self, name: str, reason: str, subcode: CeaseSubcode) -> None:
        self._schedule(lambda: self._neighbors.reset(name, reason=reason, subcode=subcode))

    def networks_changed(self, interface: str) -> Iterator[None]:
        """The networks of an interface are others: stepping judges anew the next hops that its neighbors name."""
        walks = []
        for source, session in self._sessions.items():
            adj_rib_in = session.adj_rib_in
            if source.interface == interface and adj_rib_in.allowed is not None:
                allowed = allowed_next_hops(source, self._host)
                if allowed not in (None, adj_rib_in.allowed):
                    adj_rib_in.allow(allowed)
                    walks.append(self._revise({table: {source: adj_rib_in} for table in session.tables.values()}))
        return chain.from_iterable(walks)

    def fallback(self, vrf: str, lost: AbstractSet[NextHop]) -> Callable[[NextHops], NextHops | None]:
        """Says what most routes of a VRF would use in place of a set of next hops without those that are lost."""
        return fallback([table for (name, _), table in self.tables.items() if name == vrf], lost)

    @changes_shared_state
    def refresh_began(self, source: Source, family: Family) -> None:
        """The neighbor starts to send all its routes of a family again: what it has said is stale (RFC 7313 BoRR)."""
        session = self._sessions.get(source)
        if session is not None and family in session.families:
            session.adj_rib_in.refresh_began(family)

    def refresh_ended(self, source: Source, family: Family) -> Iterator[None]:
        """The neighbor has sent all again (RFC 7313 EoRR): stepping removes what is still stale.

        However often a neighbor says so, one removal runs for a family; it begins anew if a refresh did meanwhile.
        """
        session = self._sessions.get(source)
        refreshed = None if session is None else session.adj_rib_in.refreshed(family)
        if session is None or refreshed is None:
            return iter(())
        is_running = family in session.sweeps
        session.sweeps[family] = refreshed
        return iter(()) if is_running else self._sweep(session, family)

    def _sweep(self, session: Session, family: Family) -> Iterator[None]:
        table, adj_rib_in = session.tables[family], session.adj_rib_in
        while (refreshed := session.sweeps[family]) is adj_rib_in.refreshed(family):
            for changes in table.walk(table.without_stale(session.source, refreshed)):
                self._lost(session.source, table, changes)
                yield
                if session.source not in self._sessions:
                    return
                if adj_rib_in.refreshed(family) is not refreshed:
                    break
            else:
                adj_rib_in.refresh_settled(family)
        del session.sweeps[family]

    def replay_evpn(self) -> Iterator[None]:
        """Stepping gives EVPN all usable EVPN routes of the neighbors again."""
        for table in self._tables.of_vrf(""):
            if table.family is Family.L2VPN_EVPN:
                for keys in table.routes.slices(REPLAYED):
                    for path, chosen in table.by_path(keys).items():
                        if not path.source.is_local:
                            self._follow_evpn(path.source, table.family, chosen, path)
                    yield

    # Routes that EVPN routes stand for

    def import_routes(self, vrf: str, family: Family, keys: Sequence[bytes], path: Path) -> None:
        """Give `keys` of a VRF this path, in place of what its source (SourceKind.EVPN) had there.

        The caller interns paths and keeps at most one source per name in a table.
        """
        table = self.table(vrf, family)
        try:
            table.announce(keys, path, table.pending)
            self.aggregation.learned(vrf, family, keys)
        finally:
            self._outlet.gathered(table)
        self._tables.prune()

    def withdraw_imported(self, vrf: str, family: Family, source: Source, keys: Sequence[bytes]) -> None:
        """Take what `import_routes` gave these keys from `source`."""
        table = self.table(vrf, family)
        table.withdraw(keys, source.name, table.pending)
        self._outlet.gathered(table)

    def remove_imported(self, vrf: str, family: Family, source: Source) -> Iterator[None]:
        """Stepping takes all routes of `source` from the table; a new source of that name may come meanwhile."""
        return self._remove(source, [self.table(vrf, family)])

    def refresh_requested(self, source: Source, family: Family) -> None:
        """The neighbor is to be sent a family again: it asked (RFC 2918), or is to know other next hops."""
        session = self._sessions.get(source)
        if session is not None and family in session.exports:
            self._neighbors.send_refresh_began(source, family)
            session.exports[family].resend_all()
            self._exports.look_at(session.exports[family])

    def room_came(self, source: Source) -> None:
        """The connection to a neighbor takes more again."""
        session = self._sessions.get(source)
        if session is not None:
            self._exports.look_at(*session.exports.values())

    def received(self, source: Source) -> int:
        """Routes that an established session has announced, of all families."""
        session = self._sessions.get(source)
        if session is None:
            return 0
        vrf = session.config.vrf
        return sum(self.table(vrf, family).received.get(source, 0) for family in session.families)

    def next_hops_of_only(self, source: Source) -> set[NextHop]:
        """The next hops that this established session has named, and no other has; none for any other."""
        session = self._sessions.get(source)
        if session is None:
            return set()
        others = [other.adj_rib_in.named for other in self._sessions.values() if other is not session]
        return session.adj_rib_in.named.difference(*others)

    def attribute_bytes(self, source: Source) -> int:
        """What the attributes of an established session's routes take in memory; 0 for any other."""
        session = self._sessions.get(source)
        return 0 if session is None else session.adj_rib_in.bytes_kept

    def counts(self, source: Source) -> dict[Family, FamilyCounts]:
        """Routes received, rejected and announced per family of an established session; empty for any other."""
        session = self._sessions.get(source)
        if session is None:
            return {}
        counts = {}
        for family, export in session.exports.items():
            table = session.tables[family]
            counts[family] = FamilyCounts(
                received=table.received.get(source, 0),
                rejected=table.rejected.get(source, 0),
                announced=len(export.advertised),
            )
        return counts

    # This host's own routes

    def announce_local(
        self,
        source: Source,
        family: Family,
        keys: Sequence[bytes],
        attributes: Attributes,
        *,
        vrf: str = "",
        next_hop: NextHop | None = None,
        overlay: Overlay | None = None,
        exception: bool = False,
    ) -> None:
        """Originate routes that the kernel already has. `next_hop` only for a blackhole (BLACKHOLE[0]) or EVPN.

        `exception`: no aggregate stands for them, and they bring none about.
        """
        adj_rib_in = self._local.get(source)
        if adj_rib_in is None:
            adj_rib_in = self._local[source] = AdjRibIn(
                source,
                policy=BuiltInPolicy("all"),
                local_asn=self._config.router.asn,
                router_id=parse_address(self._config.router.router_id),
                allow_own_as=0,
                now=self._now,
            )
        table = self.table(vrf, family)
        changes = Changes()
        for path, chosen in adj_rib_in.paths(family, keys, attributes, next_hop=next_hop, overlay=overlay):
            table.announce(chosen, path, changes)
        if source.kind is SourceKind.WORKLOAD:
            table.mark_exceptions(keys, exception, changes)
        self._outlet.commit(table, changes)

    def withdraw_local(self, source: Source, family: Family, keys: Sequence[bytes], *, vrf: str = "") -> None:
        """No longer originate these. To have the withdrawals out before the kernel changes, call `flush_exports`."""
        table = self.table(vrf, family)
        changes = Changes()
        table.withdraw(keys, source.name, changes)
        if source.kind is SourceKind.WORKLOAD:
            table.exceptions.difference_update(keys)
        self._outlet.commit(table, changes)

    def synchronised(self) -> None:
        """All sources of local routes have told their first state: End-of-RIB may be sent."""
        self._exports.synchronised()

    # The kernel

    def next_hop_changed(self, next_hop: NextHop, why: str, *, vrf: str = "") -> Iterator[None]:
        """A next hop became reachable (`why` is "") or not; stepping moves the routes that this concerns."""
        if not self._tables.next_hops(vrf).changed(next_hop, why):
            return iter(())
        return self._redecide(vrf, next_hop)

    def _redecide(self, vrf: str, next_hop: NextHop) -> Iterator[None]:
        for table in self._tables.of_vrf(vrf):
            for changes in table.walk(table.redecided(next_hop)):
                self._outlet.commit(table, changes)
                yield

    def fib_acknowledged(self, vrf: str, family: Family, keys: Sequence[bytes]) -> None:
        """The kernel has the present routes of these keys: learned ones may be told to other neighbors now."""
        table = self.tables.get((vrf, family))
        if table is None or not (table.unacknowledged or table.refused):
            return
        back = table.refused.intersection(keys)
        if back:
            table.refused -= back
            self._exports.mark(vrf, family, list(back), local=False)
        waited = table.unacknowledged.intersection(keys).difference(table.pending.next_hops)
        if waited:
            table.unacknowledged -= waited
            self._exports.mark(vrf, family, list(waited), local=False)

    def fib_refused(self, vrf: str, family: Family, keys: Sequence[bytes]) -> None:
        """The kernel does not have the routes of these keys: learned ones are told to no other neighbor."""
        table = self.tables.get((vrf, family))
        if table is not None and table.exports_learned:
            table.refused.update(keys)
            self._exports.mark(vrf, family, keys, local=False)

    def desired(self, vrf: str, family: Family, key: bytes) -> NextHops | None:
        """What the kernel should forward `key` by; None: no route of ours."""
        decision = self.decision(vrf, family, key)
        return None if decision is None else decision.next_hops

    def decision(self, vrf: str, family: Family, key: bytes) -> Decision | None:
        """The decision of one key."""
        table = self.tables.get((vrf, family))
        return None if table is None else table.routes.get(key)

    # Configuration

    def reconfigure(self, config: RibConfig) -> Iterator[None]:
        """Use another configuration; stepping applies changed import policies to the routes that are there.

        Nothing resets: sessions whose policies changed keep running. Sessions that `config` lacks are left as they are.
        """
        former, self._config = self._config, config
        changed = change_policies(self._sessions.values(), former, config)
        self._tables.look_at_exports()
        self._exports.look_at_all()
        return chain(self.aggregation.reconfigure(config), self._revise(changed))

    def _revise(self, changed: dict[LocRib, dict[Source, AdjRibIn]]) -> Iterator[None]:
        for table, sources in changed.items():
            for changes in revise(table, table.family, sources, partial(self._replaced, table.family)):
                self._outlet.commit(table, changes)
                yield

    def _replaced(self, family: Family, path: Path, keys: Sequence[bytes]) -> None:
        self._follow_evpn(path.source, family, keys, path)

    # What leaves

    def export_changed(self, vrf: str, family: Family, keys: Sequence[bytes]) -> None:
        """These routes of this host may have to be advertised differently, though they are the same."""
        self._exports.mark(vrf, family, keys, local=True)
        self._evpn.local_changed(vrf, family, keys)

    def exports(self) -> Iterator[AdjRibOut]:
        """The Adj-RIBs-Out of all sessions."""
        return self._exports.all()

    def tell_again(self, export: AdjRibOut, keys: Sequence[bytes]) -> None:
        """Tell a neighbor what these routes are now, if it was told something else."""
        export.mark(keys, local=True)
        self._exports.look_at(export)

    def tell_gathered(self) -> None:
        """Tell the FIB now what small batches changed, which else is told in the loop's next turn."""
        self._outlet.tell_gathered()

    def flush_exports(self) -> None:
        """Tell what changed: all to the FIB, one slice to the neighbors; the rest is scheduled.

        Runs by itself through `schedule`, once in a turn of the loop.
        """
        self._outlet.flush()
