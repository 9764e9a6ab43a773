"""A scripted kernel: takes the bytes that the FIB sends, keeps what Linux would keep, fails where it would fail.

It answers dumps, destroys nexthop objects with their link, and lets a test change anything by another hand.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from itertools import chain

import msgspec

from bgpd.kernel.foreign_routes import ForeignRoutes
from bgpd.kernel.host import Host
from bgpd.kernel.netlink import MessageKind
from bgpd.kernel.nexthop_messages import NexthopObject
from bgpd.kernel.route_decoder import RouteRun
from bgpd.kernel.route_messages import RouteForm
from bgpd.kernel.writer import Done, Outcome
from bgpd.model.iana import Family
from bgpd.model.kernel import Address, KernelEvent, KernelRoute, Link, RouteChanged, RoutingRule
from bgpd.model.prefix import parse_address, parse_prefix
from bgpd.runtime.rates import Share
from bgpd.simulation.linux import FOREIGN, METRIC, PROTOCOL, LinuxTables


class FakeWriter:
    """Runs a batch at once, as `send` does; its result arrives in a later step of the loop.

    After `hold` batches wait, as behind a large one, until `release`.
    """

    def __init__(self, kernel: FakeKernel) -> None:
        self.outstanding = 0
        self.sent_now = 0
        self._kernel = kernel
        self._held: list[tuple[bytes, Done]] | None = None

    def hold(self) -> None:
        """Let the kernel see nothing of what is submitted from now on."""
        self._held = []

    def release(self) -> None:
        """Run what was held."""
        held, self._held = self._held or [], None
        for data, done in held:
            self._run(data, done)

    def submit(self, data: bytes, done: Done) -> None:
        self.outstanding += 1
        if self._held is not None:
            self._held.append((data, done))
        else:
            self._run(data, done)

    def _run(self, data: bytes, done: Done) -> None:
        outcome = self._kernel.run(data)
        asyncio.get_running_loop().call_soon(self._deliver, done, outcome)

    def submit_now(self, data: bytes, done: Done) -> None:
        self.sent_now += 1
        self.submit(data, done)

    def _deliver(self, done: Done, outcome: Outcome) -> None:
        self.outstanding -= 1
        done(outcome)


class FakeMonitor:
    """Stands for KernelMonitor: a state whose events reach the subscribers at once."""

    def __init__(self) -> None:
        self.host = Host(self.publish)
        self.routes = ForeignRoutes(self.publish)
        self.own_route_changed: list[Callable[[KernelRoute, bool], None]] = []
        self.nexthop_changed: list[Callable[[NexthopObject], None]] = []
        self.rules_changed: list[Callable[[], None]] = []
        self._subscribers: list[Callable[[KernelEvent], None]] = []

    def subscribe(self, subscriber: Callable[[KernelEvent], None], *, replay: bool = False) -> None:
        self._subscribers.append(subscriber)
        for event in chain(self.host.events(), self.routes.events()) if replay else ():
            subscriber(event)

    def ignore(self, ports: object) -> None:
        """The scripted kernel never echoes."""

    def publish(self, event: KernelEvent) -> None:
        if isinstance(event, RouteChanged):
            self.host.route_changed(event.route, gone=event.gone)
        for subscriber in self._subscribers:
            subscriber(event)


class FakeKernel(LinuxTables):
    """`log`: what requests have changed: routes by their key, nexthop objects by their id."""

    def __init__(self) -> None:
        super().__init__()
        self.log: list[tuple[MessageKind, object]] = []
        self.monitor = FakeMonitor()
        self.bulk, self.urgent = FakeWriter(self), FakeWriter(self)

    # What a test does to the host.

    def add_link(self, index: int, name: str, *addresses: str) -> None:
        """An up interface with addresses such as "10.0.0.1/31"."""
        self.set_link(index, name, up=True)
        for text in addresses:
            address, length = text.split("/")
            found = Address(index=index, packed=parse_address(address), prefix_length=int(length))
            self.monitor.host.address(found)

    def set_link(self, index: int, name: str, *, up: bool) -> None:
        """Up or down; down destroys its nexthop objects, and IPv4 routes go without a word."""
        self.links[index] = Link(index=index, name=name, up=up)
        if not up:
            for identifier in [found.id for found in self.objects.values() if found.ifindex == index]:
                self._destroy(identifier)
            self._flush(-index)
        self.monitor.host.link(self.links[index])

    def rename_link(self, index: int, name: str) -> None:
        """Another name for a link, which keeps its routes and nexthop objects."""
        self.links[index] = msgspec.structs.replace(self.links[index], name=name)
        self.monitor.host.link(self.links[index])

    def add_foreign(
        self, prefix: str, *, metric: int = 100, protocol: int = 16, table: int = 254, told: bool = True
    ) -> KernelRoute:
        """Another program's route, as `ip route replace` makes it; unless `told`, the word on it is on its way."""
        family, key = parse_prefix(prefix)
        self.routes[family, table, key, metric] = (protocol, FOREIGN)
        route = KernelRoute(
            family=family, key=key, table=table, protocol=protocol, metric=metric, interface="x", gateway=b"\1\1\1\1"
        )
        if told:
            self.tell(route)
        return route

    def tell(self, route: KernelRoute) -> None:
        """The word on a foreign route arrives."""
        self.monitor.routes.changed((route,), replaces=True)

    def remove_foreign(self, route: KernelRoute) -> None:
        """The other program deletes it."""
        self._remove((route.family, route.table, route.key, route.metric), route.protocol, None)
        self.monitor.routes.changed((route,), gone=True)

    def all_at(self, family: Family, key: bytes, *, table: int = 254, metric: int = METRIC) -> list[tuple[int, int]]:
        """(protocol, target) of all routes of a prefix and metric, in the kernel's order."""
        return self._stack((family, table, key, metric))

    def delete_by_other_hand(self, family: Family, key: bytes, *, table: int = 254, metric: int = METRIC) -> None:
        """Another program deletes one of bgpd's routes, and the kernel says so."""
        found = self.routes.get((family, table, key, metric))
        if found is not None:
            self._remove((family, table, key, metric), found[0], None)
            self._tell_own(family, key, table, metric, gone=True)

    def replace_by_other_hand(
        self, family: Family, key: bytes, target: int, *, table: int = 254, metric: int = METRIC
    ) -> None:
        """Another program replaces one of bgpd's routes, by bgpd's own protocol, and the kernel says so."""
        self.routes[family, table, key, metric] = (PROTOCOL, target)
        self._tell_own(family, key, table, metric, gone=False)

    def _tell_own(self, family: Family, key: bytes, table: int, metric: int, *, gone: bool) -> None:
        route = KernelRoute(family=family, key=key, table=table, protocol=PROTOCOL, metric=metric)
        for callback in self.monitor.own_route_changed:
            callback(route, gone)

    def delete_nexthop_by_other_hand(self, identifier: int) -> None:
        """Another program deletes one of bgpd's nexthop objects."""
        found = self.objects[identifier]
        self._destroy(identifier)
        self._tell_nexthop(found)

    def replace_nexthop_by_other_hand(self, found: NexthopObject) -> None:
        """Another program gives one of bgpd's nexthop objects other contents."""
        self.objects[found.id] = found
        self._tell_nexthop(found)

    def _tell_nexthop(self, found: NexthopObject) -> None:
        for callback in self.monitor.nexthop_changed:
            callback(found)

    def hops_of(
        self, family: Family, key: bytes, *, table: int = 254, metric: int = METRIC
    ) -> set[tuple[bytes, int]] | None:
        """(gateway, interface index) of a route's group; None without the route."""
        found = self.routes.get((family, table, key, metric))
        if found is None:
            return None
        members = self.objects[found[1]].members
        return {(self.objects[single].gateway, self.objects[single].ifindex) for single, _weight in members}

    def _ran(self, kind: MessageKind, what: object) -> None:
        self.log.append((kind, what))

    # What it answers (KernelReader).

    def start(self) -> None:
        """Nothing to open."""

    def stop(self) -> None:
        """Nothing to close."""

    async def dumped(self, family: Family, form: RouteForm) -> list[RouteRun]:
        """A dump of routes."""
        runs = self.routes_of(family, form)
        await asyncio.sleep(0)
        return runs

    async def nexthops(self) -> list[NexthopObject]:
        objects = list(self.objects.values())
        await asyncio.sleep(0)
        return objects

    async def nexthops_gone(self, identifiers: Iterable[int]) -> list[int]:
        return [one for one in identifiers if one not in self.objects]


class FakeReader:
    """KernelReader over a FakeKernel."""

    def __init__(self, kernel: FakeKernel) -> None:
        self._kernel = kernel
        self.start, self.stop, self.nexthops = kernel.start, kernel.stop, kernel.nexthops
        self.nexthops_gone = kernel.nexthops_gone

    async def rules(self) -> set[RoutingRule]:
        """The scripted kernel has no policy rules."""
        return set()

    async def routes(
        self,
        family: Family,
        form: RouteForm,
        begin: Callable[[], Callable[[RouteRun], None]],
        *,
        share: Share | None = None,
    ) -> None:
        if share is not None:
            share.spend(lambda: None)
        consume = begin()
        for run in await self._kernel.dumped(family, form):
            consume(run)
