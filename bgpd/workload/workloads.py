"""The sources of workloads and what they share: what the daemon starts, reloads and stops.

Only connects parts: the sources decide which claims exist, the table decides their state.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Protocol, TypeVar

from bgpd.config.schema import WorkloadsConfig
from bgpd.kernel.foreign_routes import ForeignRoutes
from bgpd.kernel.host import Host
from bgpd.model.kernel import AddressChanged, LinkChanged
from bgpd.runtime.events import log
from bgpd.runtime.programs import Programs
from bgpd.runtime.turns import LoopClock, soon
from bgpd.workload.events import WorkloadEvents
from bgpd.workload.feed.reports import Reports
from bgpd.workload.first_state import FirstState
from bgpd.workload.kernel_source import KernelSource
from bgpd.workload.presences import Endpoints, Presences
from bgpd.workload.service.address_probes import ProbeKernel
from bgpd.workload.service.checker import Checker
from bgpd.workload.service.probes import probe
from bgpd.workload.service.service_file import ServiceFile
from bgpd.workload.service.services import Services
from bgpd.workload.service.targets import CheckId
from bgpd.workload.settle import Announcer, KernelRoutes
from bgpd.workload.sources import ClaimSource, GuestRoutes, Sessions, SourceParts, kinds
from bgpd.workload.table import WorkloadTable
from bgpd.workload.ways_out import USUAL, WaysOut

INITIAL_WAIT_S = 10
"""How long to wait for the sources' first states if no source sets a time."""
STANDING = "service standing"
"""Among what is left to another process, the name of how services stand; no source has it."""
HEALTH = "service health"
"""Among what is left to another process, the name of what checks and probes have found out; no source has it."""


def _later(seconds: float, callback: Callable[[], None]) -> None:
    asyncio.get_running_loop().call_later(seconds, callback)


_Source = TypeVar("_Source", bound=ClaimSource)


class Owner(Announcer, Protocol):
    """Who announces addresses, and is notified when all are known (`routing.Routing`)."""

    def workloads_synchronised(self) -> None:
        """Once after a start: the first state of all sources has come, and is carried out."""


class WorkloadKernel(KernelRoutes, ProbeKernel, Protocol):
    """Who keeps the kernel routes of workloads and of probes (`fib.tables.KernelTables`)."""


class Workloads:
    """Starts, reloads and stops the sources of workloads; has what they share: `table`, `claims` and `services`.

    `kernel` is the source that follows the kernel's links and routes: there always is one.
    """

    def __init__(
        self,
        config: WorkloadsConfig,
        *,
        owner: Owner,
        kernel: WorkloadKernel,
        endpoints: Endpoints,
        sessions: Sessions,
        guests: GuestRoutes,
        host: Host,
        routes: ForeignRoutes,
        hostname: str,
        now: Callable[[], float] = time.time,
        ways_out: WaysOut = USUAL,
    ) -> None:
        self._now = now
        self._vrfs = config.vrfs
        self._has_started = False
        self.table = WorkloadTable(owner, kernel, host=host, schedule=lambda: soon(self._flush), clock=LoopClock())
        self.claims = self.table.claims
        self.presences = Presences(self.claims, endpoints)
        programs = Programs(config.workload.health.command_directory)
        self._checker = Checker(
            ways_out.probe or (lambda check, address, way: probe(check, address, way=way, programs=programs)),
            concurrency=config.workload.health.concurrency,
            result=self._check_result,
        )
        self.services = Services(
            self.claims,
            self._checker,
            schedule=soon,
            later=_later,
            clock=LoopClock().time,
            wall=now,
            bandwidth_per_weight=config.workload.services.link_bandwidth_per_weight,
            damping_half_life_s=config.workload.services.damping_half_life_s,
            kernel=kernel,
        )
        self._file = ServiceFile(config.state.directory, of=self.services.saved_of)
        self.services.listeners.append(self._service_changed)
        self._first_state = FirstState(
            self.table, self.services, order_known=self._order_known, reached=owner.workloads_synchronised
        )
        parts = SourceParts(
            claims=self.claims,
            table=self.table,
            presences=self.presences,
            services=self.services,
            first_state=self._first_state,
            reports=Reports(self.claims),
            sessions=sessions,
            guests=guests,
            host=host,
            routes=routes,
            config=config,
            hostname=hostname,
            ways_out=ways_out,
        )
        made = [kind.make(parts) for kind in kinds().values() if kind.make is not None]
        self._sources = [source for source in made if source is not None]
        for source in self._sources:
            self._first_state.wait_for(source.name)
            self.presences.listeners.append(source.presence_changed)
        self.table.listeners += [WorkloadEvents(_later), self.services, *self._sources]
        follower = self.find(KernelSource)
        assert follower is not None
        self.kernel = follower

    def use_kernel(self, kernel: WorkloadKernel) -> None:
        """In place of the one that they were made with."""
        self.table.use_kernel(kernel)
        self.services.probes.use_kernel(kernel)

    def settle(self) -> bool:
        """Carry out what has changed, and have it heard, at once; whether there was anything."""
        self.kernel.drain()
        was_marked = self.table.is_marked
        while self.table.is_marked:
            self.table.settle(self._now())
        self.report()
        return was_marked

    @property
    def dampings(self) -> int:
        """How often an address began to be held back because it comes and goes."""
        return self.table.damping.begun if self.table.damping is not None else 0

    def find(self, kind: type[_Source]) -> _Source | None:
        """The source of this type, if it is configured."""
        return next((source for source in self._sources if isinstance(source, kind)), None)

    @property
    def awaited(self) -> list[str]:
        """The sources whose first state has not come, since the start."""
        return self._first_state.awaited

    def _flush(self) -> None:
        if self._has_started:
            self.table.settle(self._now())
            self.report()

    def report(self) -> None:
        """Have those hear who want to know what became of claims."""
        self.table.report()
        self._first_state.look()

    def kernel_reported(self) -> bool:
        """All kernel events of this turn have come: settle now what they changed, not in the loop's next turn.

        Whether there was anything; then `report` is to be called, once the neighbors have heard of it.
        """
        if not self._has_started:
            self.kernel.drain()
            return False
        return self.table.settle_after(self.kernel.drain, self._now)

    def saved(self, *, is_complete: bool) -> dict[str, bytes]:
        """What orchestrators have said, by source, for another process: the disk may not have all of it yet. And what
        checks have found out, this process or the one before it: that alone until the first state is complete.
        """
        found = {source.name: source.save() for source in self._sources} if is_complete else {}
        left = {name: saved for name, saved in found.items() if saved is not None}
        return {**left, STANDING: self.services.save_standing(), HEALTH: self.services.save()}

    async def start(self, left: Mapping[str, bytes] = MappingProxyType({})) -> None:
        """Claim what configuration, state files and `left`, of another process, say; to be awaited before `run`."""
        if HEALTH in left:
            self.services.remember_standing(left.get(STANDING))
            self.services.remember(left[HEALTH])
        else:
            self.services.remember_crashed(await asyncio.to_thread(self._file.load))
        for source in self._sources:
            source.remember(left.get(source.name))
        for source in self._sources:
            await source.restore()
        self._has_started = True
        self.claims.started()
        soon(self._flush)

    def reconfigure(self, config: WorkloadsConfig) -> None:
        """Take over a new configuration; nothing that stays the same is touched.

        Of a new VRF's table, the kernel's routes must be reported to `kernel` anew.
        """
        before = {name: table for table, name in self._vrfs.items()}
        self._vrfs = config.vrfs
        for table, name in config.vrfs.items():
            if before.get(name, table) != table:
                self.table.kernel_table_changed(name)
        services = config.workload.services
        self.services.reconfigure(
            bandwidth_per_weight=services.link_bandwidth_per_weight, damping_half_life_s=services.damping_half_life_s
        )
        for source in self._sources:
            source.reconfigure(config)

    async def run(self) -> None:
        """Sources and checks, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._checker.run())
            group.create_task(self._file.run())
            group.create_task(self._wait_for_first_state())
            for source in self._sources:
                group.create_task(source.run())

    async def stop(self) -> None:
        """To be called before `run` is cancelled. Claims, routes and announcements stay."""
        for source in self._sources:
            await source.stop()

    async def _wait_for_first_state(self) -> None:
        waits = [source.initial_wait_s for source in self._sources if source.initial_wait_s is not None]
        await asyncio.sleep(max(waits, default=INITIAL_WAIT_S))
        missing = self._first_state.time_out()
        if missing:
            log.warning("workload.initial_state_missing", sources=missing)

    def _service_changed(self, name: str) -> None:
        """Until the first state is known, what the process before has left is the better part of it."""
        if self._first_state.is_order_known:
            self._file.note(name)

    def _order_known(self) -> None:
        for name in self.services.names():
            self._file.note(name)
        for source in self._sources:
            source.order_known()

    def _check_result(self, id: CheckId, reason: str) -> None:
        self.services.check_result(id, reason, self._now())
        self._first_state.look()

    def host_changed(self, event: LinkChanged | AddressChanged) -> None:
        """A link or an address of this host changed; `kernel` has been told already."""
        for source in self._sources:
            source.host_changed(event)

    def neighbors_changed(self) -> None:
        """Sessions changed their state, came or went."""
        for source in self._sources:
            source.neighbors_changed()

    def readiness_changed(self, reason: str) -> None:
        """Why the daemon is not ready now, "" if it is."""
        for source in self._sources:
            source.readiness_changed(reason)

    def errors(self) -> list[str]:
        """What is wrong with the sources, for `bgpd show`."""
        return [error for source in self._sources for error in source.errors()]
