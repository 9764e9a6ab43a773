"""All kernel tables as one object: the main one, and one for each VRF.

Combines the learned routes that the RIB wants with the routes of workloads; a workload's own route wins over a learned
one. Reports when neighbors are so far ahead of the kernel that they should wait. vrf_tables.py decides which VRFs have
a table, batches.py how routes are written.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import partial
from itertools import islice

from bgpd.config.schema import FibConfig, VrfConfig
from bgpd.fib.dataplane import Dataplane
from bgpd.fib.guard import Dependencies
from bgpd.fib.ports import KernelListener, LearnedRoutes, RecursiveNextHops, WorkloadAddresses
from bgpd.fib.probe_routes import ProbeRoutes
from bgpd.fib.recent_changes import RecentChanges
from bgpd.fib.saved import Columns, KnownTable, SavedKernelTable
from bgpd.fib.saved import save as save_table
from bgpd.fib.table import Fib
from bgpd.fib.targets import Service
from bgpd.fib.vrf_tables import ConfiguredVrfs
from bgpd.fib.workload_routes import WorkloadRoutes
from bgpd.model.iana import Family
from bgpd.model.next_hop import NextHop, NextHops
from bgpd.model.service import ProbedAddress
from bgpd.runtime.background import start_in_background
from bgpd.runtime.turns import Walks

_UNICAST = (Family.IPV4_UNICAST, Family.IPV6_UNICAST)
_FILL_SLICE = 2048
_READ_UNTIL = {Family.IPV4_UNICAST: 262_144, Family.IPV6_UNICAST: 8_192}
"""Pending kernel routes above which reading from neighbors stops, by the family of the latest. It goes on while the
trie of an IPv4 table doubles, and nothing is written for a third of a second. IPv6 has no such trie, and the sooner
reading stops, the less is one leaf ahead of another: what waits gets the next hops of both before it is written."""
_READ_AGAIN = {Family.IPV4_UNICAST: 131_072, Family.IPV6_UNICAST: 4_096}
"""Pending kernel routes below which reading goes on."""
_UNREAD_MOST_S = 1.0
"""Longest pause in reading: far shorter than a hold time, whatever delays the kernel."""


class KernelTables:
    """Keeps the routes of this host's kernel tables. `fibs` has these by VRF name ("" is the main table).

    `needs(vrf)`: what the host itself needs of a table. `interfaces(vrf)`: those of a VRF's workloads. `probe_sources`:
    where probes of service addresses come from. Call `connect` before `start`.
    """

    def __init__(
        self,
        config: FibConfig,
        *,
        dataplane: Dataplane,
        listener: KernelListener,
        walks: Walks,
        needs: Callable[[str], Dependencies],
        interfaces: Callable[[str], Iterable[str]],
        probe_sources: Sequence[str] = (),
    ) -> None:
        self._listener = listener
        self._host = dataplane.host
        self._walks = walks
        self._needs = needs
        self._workloads = WorkloadRoutes()
        self._waiting: dict[str, dict[tuple[Family, bytes], NextHops]] = {}
        self._behind: asyncio.TimerHandle | None = None
        self._read_again = 0
        self._recent = RecentChanges()
        self._comparing: asyncio.Task[None] | None = None
        self.fibs = {"": Fib(config, dataplane=dataplane, owner=self)}
        self.probes = ProbeRoutes(dataplane, protocol=config.protocol, metric=config.metric, sources=probe_sources)
        self.vrfs = ConfiguredVrfs(
            config,
            dataplane=dataplane,
            owner=self,
            fibs=self.fibs,
            needs=needs,
            interfaces=interfaces,
            probe_tables=self.probes.tables,
        )

    def connect(self, learned: LearnedRoutes, recursive: RecursiveNextHops, addresses: WorkloadAddresses) -> None:
        """The RIB, EVPN and workloads, which are made with this object in hand, are asked and answered from now on."""
        self._learned = learned
        self._recursive = recursive
        self._addresses = addresses

    async def start(self, vrfs: Sequence[VrfConfig], known: Mapping[str, KnownTable] | None = None) -> None:
        """Adopt what the kernel has, of `known` tables what another process has left of them; have these VRFs.

        Raises: CannotWrite: CAP_NET_ADMIN is missing. OSError: the kernel refused.
        """
        self.needs_changed()
        await self.fibs[""].start((known or {}).get(""))
        await self.vrfs.start(vrfs)

    async def stop(self) -> None:
        """Write what is queued and stop; everything stays in the kernel."""
        await self.vrfs.stop_trying()
        if self._comparing is not None:
            self._comparing.cancel()
        await self.probes.stop()
        for fib in self.fibs.values():
            await fib.stop()
        await self.vrfs.stop()

    def saved(self, columns: Mapping[tuple[str, Family], Columns]) -> dict[str, SavedKernelTable]:
        """What the kernel has, for another process, by VRF: of the main table, which learned routes fill. `columns` are
        keys that it knows."""
        main = {family: keys for (vrf, family), keys in columns.items() if not vrf}
        saved = save_table(self.fibs[""].writer, self.fibs[""].dataplane.objects, main)
        return {} if saved is None else {"": saved}

    def compare_known(self, then: Callable[[], None]) -> None:
        """Compare what another process has left with the kernel, once nothing is under way, and call `then`."""
        for fib in self.fibs.values():
            fib.upkeep.compare_known()
        self._comparing = start_in_background(
            self._after_comparison(then), "waiting for tables to be compared with the kernel"
        )

    async def _after_comparison(self, then: Callable[[], None]) -> None:
        await self.fibs[""].upkeep.compared()
        then()

    def sweep(self) -> None:
        """The first state is complete: delete what an earlier run left in the kernel and nobody wants.

        What the RIB has gathered comes first, or the sweep would write what was desired before the last neighbor spoke.
        """
        self._learned.commit_gathered()
        for fib in self.fibs.values():
            fib.sweep()
        self.vrfs.sweep()

    @property
    def installed(self) -> int:
        """Routes of ours in all tables."""
        return sum(fib.counters.installed for fib in self.fibs.values())

    @property
    def backlog(self) -> int:
        """Routes that wait to be written, in all tables."""
        return sum(fib.writer.backlog for fib in self.fibs.values())

    @property
    def pending(self) -> int:
        """Routes that wait to be written, or that the kernel has not answered for, in all tables."""
        return sum(fib.counters.pending for fib in self.fibs.values())

    @property
    def failed(self) -> int:
        """Routes that the kernel refused, in all tables."""
        return sum(len(table.failed) for fib in self.fibs.values() for table in fib.families.values())

    def warnings(self) -> list[str]:
        """What does not work of tables and VRFs, though routes are there, for the readiness report."""
        return [*self.fibs[""].source.warnings(), *self.vrfs.warnings()]

    def set_preferred_source(self, wanted: str | tuple[str, ...]) -> None:
        """Another value of [fib] preferred_source."""
        self.fibs[""].source.configure(wanted)

    def needs_changed(self) -> None:
        """The host's own dependencies changed, of any table."""
        for vrf, fib in self.fibs.items():
            fib.events.depend_on(self._needs(vrf))

    def main_needs_changed(self) -> None:
        """Sessions or servers changed, which are dependencies of the main table only."""
        self.fibs[""].events.depend_on(self._needs(""))

    def reserved(self, vrf: str, family: Family, key: bytes) -> str:
        """Which of the host's own dependencies a workload with this prefix would divert; "" if none."""
        fib = self.fibs.get(vrf)
        return fib.writer.ownership.reserved(family, key) if fib is not None else ""

    # Learned routes.

    def update_learned(
        self, vrf: str, family: Family, changes: dict[bytes, NextHops | None], *, cause: str = ""
    ) -> None:
        """The RIB wants these next hops now; None: no learned route. `cause`: the neighbor whose routes changed, "" if
        that were several or none. Changes of one that had little to say lately do not wait for those of busy ones."""
        fib = self.fibs.get(vrf)
        if fib is None:
            return
        loop = asyncio.get_running_loop()
        is_first = self._recent.add(cause, len(changes), loop.time())
        fib.writer.update_learned(family, self._workloads.overlay(vrf, family, changes), is_first=is_first)
        for key, service in self._workloads.yielding(vrf, family, changes).items():
            self._write_service(fib, family, key, service, changes[key], yields=True)
        if fib.writer.backlog > (_READ_UNTIL[family] if self._behind is None else self._read_again):
            if self._behind is None:
                self._read_again = _READ_AGAIN[family]
                self._behind = loop.call_later(_UNREAD_MOST_S, self._caught_up)
            self._listener.kernel_is_behind(self._recent.busy())

    def confirm(self, vrf: str, family: Family, changes: dict[bytes, NextHops | None]) -> dict[bytes, NextHops | None]:
        """As TableWriter.confirm. What workloads have a say in is among the others; so is all of a VRF, since EVPN
        hears of its routes."""
        fib = self.fibs.get(vrf)
        if vrf or fib is None or self._workloads.overlay(vrf, family, changes) is not changes:
            return changes
        return fib.writer.confirm(family, changes)

    def why_unreachable(self, vrf: str, next_hop: NextHop) -> str:
        """Why a next hop is unreachable, or ""; the listener is notified when that changes."""
        fib = self.fibs.get(vrf)
        if fib is not None:
            return fib.targets.ask(next_hop)
        problem = self.vrfs.problem(vrf)
        return f"VRF {vrf} has no kernel table: {problem}" if problem else f"there is no VRF {vrf}"

    def forget(self, vrf: str, next_hops: Iterable[NextHop]) -> None:
        """Stop notifying about these next hops (see `resolve`)."""
        fib = self.fibs.get(vrf)
        if fib is not None:
            fib.targets.forget(next_hops)

    def next_hops_lost(self, vrf: str, next_hops: AbstractSet[NextHop]) -> None:
        """Neighbors in a VRF are dead: their next hops leave the kernel in one message each, ahead of all that is
        queued. What recursive next hops lead to is not dead: the leaf has another session, by which EVPN reaches it."""
        fib = self.fibs.get(vrf)
        dead = next_hops - fib.targets.led_to(next_hops) if fib is not None else next_hops
        if fib is not None and dead:
            fib.next_hops_lost(dead, partial(self._instead, {}, vrf, dead))

    def _instead(
        self,
        asked: dict[str, Callable[[NextHops], NextHops | None]],
        vrf: str,
        lost: AbstractSet[NextHop],
        used: NextHops,
    ) -> NextHops | None:
        """What to use in place of a set of next hops in a VRF; only few VRFs have one that is asked for."""
        if vrf not in asked:
            asked[vrf] = self._learned.fallback(vrf, lost)
        return asked[vrf](used)

    def resolution_changed(self, vrf: str, next_hop: NextHop) -> None:
        """A recursive next hop leads elsewhere now: what uses it follows, by one message for each group."""
        fib = self.fibs.get(vrf)
        if fib is not None:
            fib.resolution_changed(next_hop)

    # Routes of workloads.

    def set_workload_routes(self, vrf: str, family: Family, changes: Mapping[bytes, NextHops | None]) -> None:
        """Workloads want these routes now; a learned route may follow one of theirs that goes.

        In a VRF, one to an interface waits until the kernel has that in the VRF. Else the address would be announced
        before it can be reached, and its route go when the interface enters.
        """
        self._workloads.set(vrf, family, changes)
        fib = self.fibs.get(vrf)
        if fib is None:
            return
        desired = {key: self.desired(vrf, family, key) for key in changes}
        if vrf:
            waiting = self._waiting.setdefault(vrf, {})
            for key in desired:
                waiting.pop((family, key), None)
            for key, hops in list(desired.items()):
                if hops is not None and not self.vrfs.reaches(vrf, hops):
                    waiting[family, key] = hops
                    del desired[key]
        fib.writer.update(family, desired, is_first=True)
        self.vrfs.interfaces_changed(vrf)

    def set_service_route(
        self, vrf: str, family: Family, key: bytes, members: NextHops, *, resilient: bool, yields: bool = False
    ) -> None:
        """Spread what arrives for a service's address over these backends, by weight.

        `yields`: this host has withdrawn the address, and goes by a learned route of it as long as there is one.
        """
        fib, service = self.fibs.get(vrf), Service(members, resilient)
        self._workloads.set_service(vrf, family, key, service, yields=yields)
        self._waiting.get(vrf, {}).pop((family, key), None)
        if fib is not None:
            learned = self._learned.desired(vrf, family, key) if yields else None
            self._write_service(fib, family, key, service, learned, yields=yields)

    @staticmethod
    def _write_service(
        fib: Fib, family: Family, key: bytes, service: Service, learned: NextHops | None, *, yields: bool
    ) -> None:
        """Where one yields, and the fabric has not told its route yet, that of an earlier run stays until the sweep."""
        if learned is None:
            fib.update_service(family, key, service.members, resilient=service.resilient, yields=yields)
        else:
            fib.writer.update(family, {key: learned})

    def set_probe_route(self, asked: ProbedAddress, members: NextHops | None, answered: Callable[[str], None]) -> None:
        """A service's probes of its address go to these members, () for where all goes, None: there are none.

        `answered` is called with "" when it is so, or with what the kernel says.
        """
        self.probes.set(asked, members, answered)

    def write_probe_route_again(self, asked: ProbedAddress) -> None:
        """A probe failed: its route may have gone."""
        self.probes.write_again(asked)

    def probe_way(self, asked: ProbedAddress) -> tuple[str, str, bool]:
        """The VRF device that probes are bound to ("" for none), their source, and whether the address is this host's
        own.
        """
        host, vrf = self._host, asked.vrf
        device = host.vrf_device(vrf) if vrf else ""
        return device, self.probes.source(asked), host.has_address(asked.key[1:], vrf=vrf)

    def waits(self, vrf: str, family: Family, key: bytes) -> bool:
        """Whether a route waits until the kernel has its interface in the VRF."""
        return (family, key) in self._waiting.get(vrf, ())

    def write_waiting(self, vrf: str) -> None:
        """The kernel has other interfaces in a VRF: what waited for them is written."""
        waiting = self._waiting.get(vrf, {}) if vrf in self.fibs else {}
        for family, key in [place for place, hops in waiting.items() if self.vrfs.reaches(vrf, hops)]:
            self.fibs[vrf].writer.update(family, {key: waiting.pop((family, key))})

    def fill(self, vrf: str) -> None:
        """Give a VRF's new kernel table all that the RIB and workloads have for it, in slices.

        What the RIB knows of next hops there, it knows of a table that is no more, or of the time without one.
        """
        self._waiting.pop(vrf, None)
        for next_hop in self._learned.asked_next_hops(vrf):
            self._listener.reachability_changed(vrf, next_hop, self.why_unreachable(vrf, next_hop))
        self._walks.run(self._fill(vrf))

    def _fill(self, vrf: str) -> Iterator[None]:
        for family in _UNICAST:
            keys = iter(list(self._learned.table(vrf, family).routes))
            while (chosen := list(islice(keys, _FILL_SLICE))) and vrf in self.fibs:
                learned = {key: self._learned.desired(vrf, family, key) for key in chosen}
                self.fibs[vrf].writer.update(family, self._workloads.overlay(vrf, family, learned))
                yield
            self.set_workload_routes(vrf, family, self._workloads.plain(vrf, family))
            for key, service, yields in self._workloads.services(vrf, family):
                self.set_service_route(vrf, family, key, service.members, resilient=service.resilient, yields=yields)

    # What the tables ask, and what they answer (TableOwner).

    def desired(self, vrf: str, family: Family, key: bytes) -> NextHops | None:
        """What the kernel should have for a prefix: the route of a workload, else the learned one."""
        own = self._workloads.get(vrf, family, key)
        if own is not None and not self._workloads.yielding(vrf, family, (key,)):
            return own
        learned = self._learned.desired(vrf, family, key)
        return own if learned is None else learned

    def desired_all(self, vrf: str, family: Family, keys: Sequence[bytes]) -> list[NextHops | None]:
        """`desired` of each of these, which may be many."""
        found = self._learned.desired_all(vrf, family, keys)
        own = frozenset(self._workloads.among(vrf, family, keys))
        if own:
            return [self.desired(vrf, family, key) if key in own else hops for key, hops in zip(keys, found)]
        return found

    def resolve(self, next_hop: NextHop) -> NextHops:
        return self._recursive.resolve(next_hop)

    def acknowledged(self, vrf: str, family: Family, keys: Sequence[bytes]) -> None:
        """RIB and EVPN have heard of a route when a workload hears that its own is there."""
        self._listener.kernel_acknowledged(vrf, family, keys)
        own = self._workloads.among(vrf, family, keys)
        if own:
            self._addresses.route_acknowledged(vrf, family, own)

    def refused(self, vrf: str, family: Family, keys: Sequence[bytes], why: str) -> None:
        self._learned.fib_refused(vrf, family, keys)
        own = self._workloads.among(vrf, family, keys)
        if own:
            self._addresses.route_refused(vrf, family, own, why)

    def next_hop_changed(self, vrf: str, next_hop: NextHop, why: str) -> None:
        self._listener.reachability_changed(vrf, next_hop, why)

    def reserved_changed(self, vrf: str, family: Family, keys: Iterable[bytes]) -> None:
        self._addresses.look_again((vrf, family), keys)

    def backlog_shrank(self) -> None:
        if self._behind is not None and all(fib.writer.backlog < self._read_again for fib in self.fibs.values()):
            self._caught_up()

    def _caught_up(self) -> None:
        if self._behind is not None:
            self._behind.cancel()
            self._behind = None
            self._listener.kernel_caught_up()
