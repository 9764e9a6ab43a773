"""What a process of bgpd has of the kernel of a simulated host: writers, a monitor of what changes, and a reader."""

from __future__ import annotations

import asyncio
import errno
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import TYPE_CHECKING

from bgpd.kernel.foreign_routes import ForeignRoutes
from bgpd.kernel.host import Host
from bgpd.kernel.nexthop_messages import NexthopObject
from bgpd.kernel.route_decoder import RouteRun
from bgpd.kernel.route_messages import RouteForm
from bgpd.kernel.writer import Done, Outcome
from bgpd.model.iana import Family
from bgpd.model.kernel import KernelEvent, KernelResynchronised, KernelRoute, RouteChanged, RoutingRule
from bgpd.simulation.loop import Process

if TYPE_CHECKING:
    from bgpd.simulation.kernel import Kernel

_READ_AGAIN_S = 0.3


class Writer:
    """KernelWriter over the model: batches run in order, some time later; answers come later still."""

    def __init__(self, kernel: Kernel, process: Process) -> None:
        self.outstanding = 0
        self._kernel = kernel
        self._process = process
        self._jobs: deque[tuple[bytes, Done]] = deque()
        self._is_running = False

    def submit(self, data: bytes, done: Done) -> None:
        self.outstanding += 1
        self._jobs.append((data, done))
        if not self._is_running:
            self._is_running = True
            self._later(self._run)

    def submit_now(self, data: bytes, done: Done) -> None:
        if self.outstanding:
            self.submit(data, done)
            return
        self.outstanding += 1
        self._answer(data, done)

    def _later(self, work: Callable[..., object], *arguments: object) -> None:
        kernel = self._kernel
        self._process.call_later(kernel.lateness(), work, *arguments)

    def _run(self) -> None:
        data, done = self._jobs.popleft()
        self._answer(data, done)
        if self._jobs:
            self._later(self._run)
        else:
            self._is_running = False

    def _answer(self, data: bytes, done: Done) -> None:
        kernel = self._kernel
        if kernel.losing and kernel.chance.random() < kernel.losing:
            if kernel.chance.random() < 0.5:
                kernel.run(data)
            outcome = Outcome([], lost="No buffer space available")
        else:
            outcome = kernel.run(data)
        self._process.call_soon(self._deliver, done, outcome)

    def _deliver(self, done: Done, outcome: Outcome) -> None:
        self.outstanding -= 1
        done(outcome)


class Monitor:
    """KernelMonitor over the model: events come late, in order, and some are lost. What is read together is a burst."""

    def __init__(self, kernel: Kernel, process: Process) -> None:
        self.host = Host(self._publish)
        self.routes = ForeignRoutes(self._publish, name_of=self.host.name_of)
        self.own_route_changed: list[Callable[[KernelRoute, bool], None]] = []
        self.nexthop_changed: list[Callable[[NexthopObject], None]] = []
        self.rules_changed: list[Callable[[], None]] = []
        self.burst_ended: list[Callable[[], None]] = []
        self.events_lost: list[Callable[[], None]] = []
        self.is_behind = False
        self._kernel = kernel
        self._process = process
        self._subscribers: list[tuple[Callable[[KernelEvent], None], Callable[[KernelEvent], None] | None]] = []
        self._postponed: list[RouteChanged] = []
        self._waiting: deque[Callable[[], None]] = deque()
        self._is_due = self._is_in_burst = False

    async def start(self, _protocols: Iterable[int] = ()) -> None:
        await asyncio.sleep(self._kernel.lateness())
        self._waiting.clear()
        self._read()

    async def stop(self) -> None:
        self._kernel.is_followed = False

    def _read(self) -> None:
        kernel = self._kernel
        self.host.replace(list(kernel.links.values()), list(kernel.addresses))
        self._read_routes()

    def read_later(self) -> None:
        """A link went down: which routes went with it, a dump has to tell (foreign_monitor.py)."""
        self._later(self._kernel.lateness(), self._read_routes)

    def _read_routes(self) -> None:
        kernel = self._kernel
        known = self.routes.begin_reading()
        found: dict[tuple[Family, int, bytes], tuple[KernelRoute, ...]] = {}
        for route in kernel.foreign:
            place = (route.family, route.table, route.key)
            found[place] = (*found.get(place, ()), route)
        changes = {place: found.get(place, ()) for place in dict.fromkeys((*known, *found))}
        self.routes.settle({place: routes for place, routes in changes.items() if known.get(place, ()) != routes})

    def subscribe(
        self,
        subscriber: Callable[[KernelEvent], None],
        *,
        replay: bool = False,
        replay_routes: bool = False,
        gather: Callable[[KernelEvent], None] | None = None,
    ) -> None:
        """As `KernelMonitor.subscribe`."""
        self._subscribers.append((subscriber, gather))
        routes: Iterator[RouteChanged] = self.routes.events() if replay_routes else iter(())
        for event in chain(self.host.events() if replay else (), routes):
            subscriber(event)

    def foreign_protocols(self) -> list[int]:
        """The protocols of other programs' routes, ascending."""
        return sorted({route.protocol for route in self._kernel.foreign})

    def look_at_all_routes(self) -> None:
        """The model's events are never wrong."""

    def ignore(self, _ports: object) -> None:
        """The model never echoes."""

    def enqueue(self, event: Callable[[], None]) -> None:
        """Something has happened; the process reads of it later."""
        self._waiting.append(event)
        if not self._is_due:
            self._is_due = True
            self._later(self._kernel.lateness(), self._readable)

    def lose_events(self) -> None:
        """The kernel cannot deliver what waits, and what comes before the process has noticed."""
        self._waiting.clear()
        self.is_behind = True
        for notify in self.events_lost:
            notify()
        self._later(_READ_AGAIN_S, self._read_again)

    def _later(self, seconds: float, work: Callable[[], None]) -> None:
        self._process.call_later(seconds, work)

    def _read_again(self) -> None:
        self._waiting.clear()
        self._read()
        self.is_behind = False
        self._publish(KernelResynchronised())

    def _readable(self) -> None:
        self._is_due = False
        if self.is_behind:
            self._waiting.clear()
            return
        self._is_in_burst = True
        while self._waiting:
            self._waiting.popleft()()
        for callback in self.burst_ended:
            callback()
        self._is_in_burst = False
        self._hand_on_postponed()

    def _publish(self, event: KernelEvent) -> None:
        if isinstance(event, RouteChanged):
            self.host.route_changed(event.route, gone=event.gone)
            if self._is_in_burst:
                self._postponed.append(event)
                for _, gather in self._subscribers:
                    if gather is not None:
                        gather(event)
                return
        else:
            self._hand_on_postponed()
        for subscriber, _ in self._subscribers:
            subscriber(event)

    def _hand_on_postponed(self) -> None:
        events, self._postponed = self._postponed, []
        for event in events:
            for subscriber, gather in self._subscribers:
                if gather is None:
                    subscriber(event)


class Reader:
    """KernelReader over the model: a dump takes its time, and what changes meanwhile is in it or not."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel

    def start(self) -> None:
        """Nothing to open."""

    def stop(self) -> None:
        """Nothing to close."""

    async def _pause(self) -> None:
        kernel = self._kernel
        await asyncio.sleep(kernel.lateness())
        if kernel.unreadable and kernel.chance.random() < kernel.unreadable:
            raise OSError(errno.EBUSY, "it changed during each of 20 dumps")

    async def nexthops(self) -> list[NexthopObject]:
        """All nexthop objects; what changes meanwhile may or may not be among them."""
        await self._pause()
        objects = list(self._kernel.objects.values())
        await self._pause()
        return objects

    async def nexthops_gone(self, identifiers: Iterable[int]) -> list[int]:
        """Those of these nexthop objects that are not there."""
        await self._pause()
        return [one for one in identifiers if one not in self._kernel.objects]

    async def rules(self) -> set[RoutingRule]:
        """The policy rules."""
        await self._pause()
        return set(self._kernel.vrfs.rules)

    async def routes(
        self,
        family: Family,
        form: RouteForm,
        begin: Callable[[], Callable[[RouteRun], None]],
        *,
        share: float | None = None,
    ) -> None:
        consume = begin()
        await self._pause()
        runs = self._kernel.routes_of(family, form)
        await self._pause()
        for run in runs:
            consume(run)
