"""A scripted kernel: takes the bytes that the FIB sends, keeps what Linux would keep, fails where it would fail.

It answers dumps, destroys nexthop objects with their link, and lets a test change anything by another hand.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Iterable
from itertools import chain

import msgspec

from bgpd.config.schema import FibConfig
from bgpd.kernel.foreign_routes import ForeignRoutes
from bgpd.kernel.host import Host
from bgpd.kernel.netlink import U32, KernelError, MessageFlag, MessageKind, attributes, messages
from bgpd.kernel.nexthop_messages import NexthopObject, read_id, read_objects
from bgpd.kernel.route_decoder import RouteRun
from bgpd.kernel.route_messages import (
    RTA_NH_ID,
    RTA_OIF,
    RTA_PRIORITY,
    RTA_TABLE,
    RTMSG,
    RTN_BLACKHOLE,
    RouteForm,
    read_key,
)
from bgpd.kernel.writer import Done, Outcome
from bgpd.model.iana import Family
from bgpd.model.kernel import Address, KernelEvent, KernelRoute, Link, RouteChanged, RoutingRule
from bgpd.model.prefix import parse_address, parse_prefix
from bgpd.runtime.rates import Share

Place = tuple[Family, int, bytes, int]
PROTOCOL, METRIC = FibConfig().protocol, FibConfig().metric
FOREIGN = -(1 << 20)
"""Target of a route of another program: it leads to where none of bgpd's does."""


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
        self.nexthop_deleted: list[Callable[[], None]] = []
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


class FakeKernel:
    """`routes`: (family, table, key, metric) -> (protocol, target) of the first route there; `objects`: nexthop objects
    by id. `behind`: further routes of the same prefix and metric, in the kernel's order.
    """

    def __init__(self) -> None:
        self.routes: dict[Place, tuple[int, int]] = {}
        self.behind: dict[Place, list[tuple[int, int]]] = {}
        self.objects: dict[int, NexthopObject] = {}
        self.links: dict[int, Link] = {}
        self.refuse: dict[bytes, int] = {}
        self.refuse_resilient = 0
        self.log: list[tuple[MessageKind, object]] = []
        self.permitted = True
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
        self._destroy(identifier)
        for callback in self.monitor.nexthop_deleted:
            callback()

    def hops_of(
        self, family: Family, key: bytes, *, table: int = 254, metric: int = METRIC
    ) -> set[tuple[bytes, int]] | None:
        """(gateway, interface index) of a route's group; None without the route."""
        found = self.routes.get((family, table, key, metric))
        if found is None:
            return None
        members = self.objects[found[1]].members
        return {(self.objects[single].gateway, self.objects[single].ifindex) for single, _weight in members}

    # What the kernel does.

    def run(self, data: bytes) -> Outcome:
        """Run one batch of messages; like Linux, later ones run whatever became of earlier ones."""
        errors = []
        for kind, flags, _sequence, start, end in messages(data):
            request = data[start - 16 : end]
            code = self._run_one(MessageKind(kind), flags, request) if self.permitted else errno.EPERM
            if code:
                errors.append(KernelError(code, "", request))
        return Outcome(errors)

    def _run_one(self, kind: MessageKind, flags: int, request: bytes) -> int:
        match kind:
            case MessageKind.NEW_NEXTHOP:
                return self._new_nexthop(flags, next(read_objects(request)))
            case MessageKind.DEL_NEXTHOP:
                identifier = read_id(request)
                if identifier not in self.objects:
                    return errno.ENOENT
                self.log.append((kind, identifier))
                self._destroy(identifier)
                return 0
            case _:
                return self._route(kind, flags, request)

    def _new_nexthop(self, flags: int, found: NexthopObject) -> int:
        if flags & MessageFlag.EXCLUSIVE and found.id in self.objects:
            return errno.EEXIST
        if not flags & MessageFlag.CREATE and found.id not in self.objects:
            return errno.ENOENT
        if any(member not in self.objects or self.objects[member].members for member, _weight in found.members):
            return errno.EINVAL
        if found.resilient and self.refuse_resilient:
            return self.refuse_resilient
        if found.members and found.id in self.objects and self.objects[found.id].resilient is not found.resilient:
            return errno.EINVAL
        if found.ifindex and not self.links[found.ifindex].up:
            return errno.ENETDOWN
        self.log.append((MessageKind.NEW_NEXTHOP, found.id))
        self.objects[found.id] = found
        return 0

    def _route(self, kind: MessageKind, flags: int, request: bytes) -> int:
        family, key = read_key(request)
        found = attributes(request, 16 + RTMSG.size, len(request))
        (table,), (metric,) = U32.unpack(found[RTA_TABLE]), U32.unpack(found[RTA_PRIORITY])
        place, protocol = (family, table, key, metric), request[21]
        if kind == MessageKind.DEL_ROUTE:
            group, way = found.get(RTA_NH_ID), found.get(RTA_OIF)
            named = U32.unpack(group)[0] if group else -U32.unpack(way)[0] if way else None
            if named is None and request[23] == RTN_BLACKHOLE and family is Family.IPV4_UNICAST:
                named = 0
            if not self._remove(place, protocol, named):
                return errno.ESRCH
            self.log.append((kind, key))
            return 0
        if key in self.refuse:
            return self.refuse[key]
        if RTA_NH_ID in found:
            (target,) = U32.unpack(found[RTA_NH_ID])
            if target not in self.objects:
                return errno.EINVAL
        else:
            target = 0 if request[23] == RTN_BLACKHOLE else -U32.unpack(found[RTA_OIF])[0]
            if target and not self.links[-target].up:
                return errno.ENETDOWN
        error = self._add(place, (protocol, target), flags)
        if not error:
            self.log.append((kind, key))
        return error

    def _add(self, place: Place, route: tuple[int, int], flags: int) -> int:
        """As fib_table_insert and fib6_add_rt2node do: IPv6 takes a route by the same next hop for an equal one,
        whoever made it. REPLACE takes the place of the first, whoever made that.
        """
        stack = self._stack(place)
        if not stack:
            self.routes[place] = route
            return 0
        if flags & MessageFlag.EXCLUSIVE:
            return errno.EEXIST
        if flags & MessageFlag.REPLACE:
            self.routes[place] = route
            return 0
        ipv6 = place[0] is Family.IPV6_UNICAST
        if route in stack or (ipv6 and route[1] in [target for _protocol, target in stack]):
            return errno.EEXIST
        self.behind.setdefault(place, []).append(route)
        return 0

    def _stack(self, place: Place) -> list[tuple[int, int]]:
        return [self.routes[place], *self.behind.get(place, ())] if place in self.routes else []

    def _remove(self, place: Place, protocol: int, target: int | None) -> bool:
        """Remove the first route of a protocol, by a target if one is named; the next takes its place."""
        stack = self._stack(place)
        for index, (of, found) in enumerate(stack):
            if of == protocol and target in (None, found):
                del stack[index]
                self._set_stack(place, stack)
                return True
        return False

    def _set_stack(self, place: Place, stack: list[tuple[int, int]]) -> None:
        self.behind.pop(place, None)
        if stack:
            self.routes[place] = stack[0]
        else:
            del self.routes[place]
        if stack[1:]:
            self.behind[place] = stack[1:]

    def _flush(self, target: int) -> None:
        """All routes by a target go without a word."""
        for place in list(self.routes):
            stack = self._stack(place)
            left = [route for route in stack if route[1] != target]
            if left != stack:
                self._set_stack(place, left)

    def _destroy(self, identifier: int) -> None:
        del self.objects[identifier]
        for group in [found for found in self.objects.values() if found.members]:
            left = tuple(member for member in group.members if member[0] != identifier)
            if left != group.members:
                self.objects[group.id] = NexthopObject(
                    id=group.id, protocol=group.protocol, members=left, resilient=group.resilient
                )
                if not left:
                    self._destroy(group.id)
        self._flush(identifier)

    # What it answers (KernelReader).

    def start(self) -> None:
        """Nothing to open."""

    def stop(self) -> None:
        """Nothing to close."""

    async def nexthops(self) -> list[NexthopObject]:
        objects = list(self.objects.values())
        await asyncio.sleep(0)
        return objects

    async def nexthops_gone(self, identifiers: Iterable[int]) -> list[int]:
        return [one for one in identifiers if one not in self.objects]

    async def routes_of(self, family: Family, form: RouteForm) -> list[RouteRun]:
        return [
            RouteRun(family, place[1], protocol, 1, [place[2]], [target], [place[3]])
            for place in self.routes
            for protocol, target in self._stack(place)
            if place[0] is family and place[1] == form.table and form.protocol in (0, protocol)
        ]


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
        runs = await self._kernel.routes_of(family, form)
        await asyncio.sleep(0)
        for run in runs:
            consume(run)
