"""The RIB: the routes of neighbors, of EVPN and of this host, and how their changes reach the kernel and the neighbors.

received.py enters the routes of neighbors; this module those of this host and of EVPN, and the kernel's answers. Work
that may touch every route (a next hop gone, a policy changed) is a generator: each step takes a few milliseconds, and
batches may come in between two steps.

Sans-IO: other parts are called through ports.py, `now` is passed in. Never decides how routes reach the kernel or the
wire.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from itertools import chain

from bgpd.config.schema import RibConfig
from bgpd.kernel.host import Host
from bgpd.model.attributes import Attributes
from bgpd.model.iana import Family
from bgpd.model.next_hop import NextHop, NextHops
from bgpd.model.path import Path
from bgpd.model.prefix import parse_address
from bgpd.model.route_batch import Overlay
from bgpd.model.source import Source, SourceKind
from bgpd.rib.adj_rib_in import AdjRibIn
from bgpd.rib.aggregates import Aggregation
from bgpd.rib.dissemination import Dissemination
from bgpd.rib.drained import DrainedRoutes
from bgpd.rib.evpn_batches import import_few
from bgpd.rib.intruders import ContestedAddresses, Intruders
from bgpd.rib.keyed_routes import Changes
from bgpd.rib.loc_rib import LocRib
from bgpd.rib.policy import BuiltInPolicy
from bgpd.rib.ports import EvpnRoutes, Guests, KernelRoutes, Neighbors, Workloads
from bgpd.rib.prepared import PreparedRib
from bgpd.rib.received import ReceivedRoutes
from bgpd.rib.recording import Recorder
from bgpd.rib.shared_decisions import Entry
from bgpd.rib.tables import Tables
from bgpd.rib.views import fallback


class Rib:
    """The tables by VRF ("" is the main one) and family, with all that is said of their routes.

    `received` are the routes of neighbors, `dissemination` what they are sent, `contested` the addresses of workloads
    that they announce, too, `guests` the tables of guests of this host, by their name and family. `host` has the
    networks of this host. `now()`: wall clock in seconds.
    `schedule(callback)`: run it soon, in the same thread (`turns.soon`). Call `connect` once before anything else.
    """

    def __init__(
        self,
        config: RibConfig,
        *,
        host: Host,
        now: Callable[[], float],
        schedule: Callable[[Callable[[], None]], object],
    ) -> None:
        self._config = config
        self._now = now
        self._local: dict[tuple[Source, str], AdjRibIn] = {}
        self._recorder = Recorder()
        self.dissemination = Dissemination(schedule=schedule)
        self._tables = Tables(self.dissemination, exports_learned=self._exports_learned, schedule=schedule)
        self.tables = self._tables.all
        self.table = self._tables.table
        self.guests = self._tables.guests
        self.drained = self.dissemination.drained = DrainedRoutes(self.tables)
        self.commit_gathered = self._tables.commit_gathered
        self.flush = self._tables.flush
        self.flush_after = self._tables.flush_after
        self.watch_decisions = self._tables.watch
        self.unwatch_decisions = self._tables.unwatch
        self.received = ReceivedRoutes(
            config, host=host, tables=self._tables, dissemination=self.dissemination, now=now, schedule=schedule
        )
        self._intruders = Intruders(config)
        self.aggregation = Aggregation(config, self, self._intruders)
        self.contested = ContestedAddresses(self._intruders)

    def connect(
        self,
        *,
        kernel: KernelRoutes,
        neighbors: Neighbors,
        evpn: EvpnRoutes,
        workloads: Workloads,
        guests: Guests | None = None,
        recorder: Recorder | None = None,
    ) -> None:
        """The parts that act on what the RIB decides, and who records what enters it."""
        if recorder is not None:
            self._recorder = self.received.recorder = self._tables.recorder = recorder
        self._tables.claims = guests
        self._evpn = self.received.evpn = self._tables.evpn = evpn
        self._tables.kernel = kernel
        self._tables.aggregation = self.aggregation
        self._tables.contested = self.contested
        self.received.neighbors = self.dissemination.neighbors = neighbors
        self.dissemination.wanted = self._tables.wanted
        self.drained.prefix_of = evpn.prefix_of
        self.aggregation.workloads = workloads

    @property
    def kernel(self) -> KernelRoutes:
        """The kernel's tables, as they are connected."""
        return self._tables.kernel

    def _exports_learned(self, vrf: str, family: Family) -> bool:
        return any(
            session.vrf == vrf and family in session.families and session.export not in ("local", "none")
            for session in chain(self.received.configs(), self._config.neighbor, self._config.listen)
        )

    def shrink(self) -> Iterator[None]:
        """Give back the room of tables that held far more, in steps; the FIB's do so after each comparison."""
        for table in list(self.tables.values()):
            yield from table.shrink()

    # VRF routes made from EVPN routes

    def import_routes(self, vrf: str, family: Family, keys: Sequence[bytes], path: Path) -> None:
        """Give `keys` of a VRF this path, in place of what its source (SourceKind.EVPN) had there.

        The caller interns paths and keeps at most one source per name in a table.
        """
        self._recorder.imported(vrf, family, keys, path)
        table = self.table(vrf, family)
        self._tables.separate(table, (len(keys),))
        try:
            table.announce(keys, path, table.pending)
            if table.own_blocks:
                self.aggregation.learned(vrf, family, keys)
        finally:
            self._tables.gathered(table)

    def import_few(self, vrf: str, family: Family, routes: Sequence[tuple[bytes, Path]]) -> None:
        """Give keys of a VRF these paths, as `import_routes` does, where hardly two share one."""
        self._recorder.imported_few(vrf, family, routes)
        table = self.table(vrf, family)
        try:
            import_few(table, routes)
            if table.own_blocks:
                self.aggregation.learned(vrf, family, [key for key, _ in routes])
        finally:
            self._tables.gathered(table)

    def withdraw_imported(self, vrf: str, family: Family, source: Source, keys: Sequence[bytes]) -> None:
        """Take what `import_routes` gave these keys from `source`."""
        self._recorder.imports_withdrawn(vrf, family, source, keys)
        table = self.table(vrf, family)
        self._tables.separate(table, (len(keys),))
        table.withdraw(keys, source.name, table.pending)
        self._tables.gathered(table)

    def remove_imported(self, vrf: str, family: Family, source: Source) -> Iterator[None]:
        """Stepping takes all routes of `source` from the table; a new source of that name may come meanwhile."""
        self._recorder.imports_removed(vrf, family, source)
        table = self.table(vrf, family)
        if table.received.get(source):
            for changes in table.walk(table.without(source)):
                self._tables.commit(table, changes)
                yield
        table.forget(source)

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
        is_service: bool = False,
    ) -> None:
        """Originate local routes; workload routes must be in the kernel already, blackholes are requested here.

        `next_hop` only for a blackhole (BLACKHOLE[0]) or EVPN. `exception`: no aggregate suppresses these, and they
        contribute to none. `is_service`: other hosts may announce them, too.
        """
        adj_rib_in = self._local.get((source, vrf))
        if adj_rib_in is None:
            adj_rib_in = self._local[source, vrf] = AdjRibIn(
                source,
                policy=BuiltInPolicy("all"),
                local_asn=self._config.router.asn,
                router_id=parse_address(self._config.router.router_id),
                allow_own_as=0,
                now=self._now,
            )
        self._recorder.local(source, (vrf, family), keys, attributes, next_hop, overlay)
        table = self.table(vrf, family)
        if source not in table.interned:
            table.interned[source] = adj_rib_in.interned(family)
        changes = Changes()
        for path, chosen in adj_rib_in.paths(family, keys, attributes, next_hop=next_hop, overlay=overlay):
            table.announce(chosen, path, changes)
        if source.kind is SourceKind.WORKLOAD:
            if exception or table.exceptions:
                table.mark_exceptions(keys, exception, changes)
            if is_service or table.services:
                table.mark_services(keys, is_service, changes)
        self._tables.commit(table, changes)

    def withdraw_local(self, source: Source, family: Family, keys: Sequence[bytes], *, vrf: str = "") -> None:
        """No longer originate these. Call `flush` to send the withdrawals before the kernel changes."""
        self._recorder.local(source, (vrf, family), keys, None)
        table = self.table(vrf, family)
        changes = Changes()
        table.withdraw(keys, source.name, changes)
        if source.kind is SourceKind.WORKLOAD:
            table.exceptions.difference_update(keys)
            table.services.difference_update(keys)
        self._tables.commit(table, changes)

    # The kernel

    def asked_next_hops(self, vrf: str) -> list[NextHop]:
        """The next hops of a VRF of which it is known whether they can be reached."""
        return self._tables.next_hops(vrf).asked

    def known_next_hops(self, vrf: str) -> list[tuple[NextHop, str]]:
        """The same, and why each cannot be, "" if it can."""
        return self._tables.next_hops(vrf).known

    def next_hop_changed(self, next_hop: NextHop, why: str, *, vrf: str = "") -> Iterator[None]:
        """A next hop became reachable (`why` is "") or not; stepping moves the routes that this concerns."""
        self._recorder.next_hop(vrf, next_hop, why)
        if not self._tables.next_hops(vrf).changed(next_hop, why):
            return iter(())
        tables = [table for table in self._tables.of_vrf(vrf) if table.checks_next_hops]
        walks = [(table, table.redecide(next_hop)) for table in tables]
        return self._redecide(walks)

    def _redecide(self, walks: list[tuple[LocRib, Iterator[Changes]]]) -> Iterator[None]:
        for table, walk in walks:
            for changes in walk:
                self._tables.commit(table, changes)
                yield

    def fib_acknowledged(self, vrf: str, family: Family, keys: Sequence[bytes]) -> None:
        """The kernel has the present routes of these keys: learned ones may be advertised to other neighbors now."""
        table = self.tables.get((vrf, family))
        if table is None or not (table.unacknowledged or table.refused):
            return
        back = table.refused.intersection(keys)
        if back:
            table.refused -= back
            self.dissemination.mark(vrf, family, list(back), local=False)
        waited = table.unacknowledged.intersection(keys).difference(table.pending.next_hops)
        if waited:
            table.unacknowledged -= waited
            self.dissemination.mark(vrf, family, list(waited), local=False)

    def fib_refused(self, vrf: str, family: Family, keys: Sequence[bytes]) -> None:
        """The kernel does not have the routes of these keys: learned ones are advertised to no other neighbor."""
        table = self.tables.get((vrf, family))
        if table is not None and table.exports_learned:
            table.refused.update([key for key in keys if self.desired(vrf, family, key) is not None])
            self.dissemination.mark(vrf, family, keys, local=False)

    def to_leave(self) -> PreparedRib:
        """For another process (ReceivedRoutes.restore): what neighbors announced and were sent."""
        return PreparedRib(self._tables, self.received)

    def guest_paths(self, guest: str, family: Family, key: bytes) -> Sequence[Path]:
        """The paths in use of one key of a guest's table, best first."""
        table = self.guests.get((guest, family))
        decision = None if table is None else table.routes.get(key)
        return () if decision is None else decision.multipath

    def desired(self, vrf: str, family: Family, key: bytes) -> NextHops | None:
        """What the kernel should forward `key` by; None: no route of ours. What sessions that have ended said does not
        count, though it may not be removed yet."""
        table = self.tables.get((vrf, family))
        decision = None if table is None else table.routes.get(key)
        return None if table is None or decision is None else table.next_hops_now(decision)

    def desired_all(self, vrf: str, family: Family, keys: Sequence[bytes]) -> list[NextHops | None]:
        """`desired` of each of these, which may be many."""
        table = self.tables.get((vrf, family))
        entries = [None] * len(keys) if table is None else table.routes.get_all(keys)
        if table is None or not table.gone:
            return [None if entry is None else entry.next_hops for entry in entries]
        return [None if entry is None else table.next_hops_now(entry) for entry in entries]

    def decision(self, vrf: str, family: Family, key: bytes) -> Entry | None:
        """The decision of one key."""
        table = self.tables.get((vrf, family))
        return None if table is None else table.routes.get(key)

    def fallback(self, vrf: str, lost: AbstractSet[NextHop]) -> Callable[[NextHops], NextHops | None]:
        """Says what most routes of a VRF would use in place of a set of next hops without those that are lost."""
        tables = self._tables.of_vrf(vrf)
        self.received.look_ahead(tables)
        return fallback(tables, lost)

    def reconfigure(self, config: RibConfig) -> Iterator[None]:
        """Use another configuration; stepping applies changed import policies to the routes that are there.

        Raises: PolicyError: a session's policy cannot be used.
        """
        revision = self.received.reconfigure(config)
        self._config = self._intruders.config = config
        self._recorder.configured(config)
        self._tables.exports_changed()
        self.dissemination.look_at_all()
        return chain(self.aggregation.reconfigure(config), revision)

    def export_changed(self, vrf: str, family: Family, keys: Sequence[bytes]) -> None:
        """These routes of this host may have to be advertised differently, though they are the same."""
        self.dissemination.mark(vrf, family, keys, local=True)
        self._evpn.local_changed(vrf, family, keys)
