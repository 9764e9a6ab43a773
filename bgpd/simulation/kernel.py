"""The kernel of a simulated host: it outlives the daemon, answers late, loses events, refuses, and forgets with a link.

Time passes between a request and its answer, between a change and its event, and in the middle of a dump.
"""

from __future__ import annotations

import asyncio
import errno
import math
import random
from collections import Counter
from collections.abc import Callable
from functools import partial

import msgspec

from bgpd.kernel.netlink import MessageKind
from bgpd.model.iana import Family
from bgpd.model.kernel import (
    Address,
    KernelRoute,
    Link,
)
from bgpd.model.prefix import family_of, network_key, parse_prefix
from bgpd.simulation.kernel_ports import Monitor, Writer
from bgpd.simulation.linux import FOREIGN, METRIC, PROTOCOL, LinuxTables, Place
from bgpd.simulation.loop import Process
from bgpd.simulation.vrfs import Vrfs

MAIN = 254
BY_KERNEL, BY_OTHERS = 2, 4
_V6_METRIC = 1024
"""What Linux takes where none is named."""
_GATEWAYS = {
    Family.IPV4_UNICAST: bytes((172, 16, 0, 1)),
    Family.IPV6_UNICAST: bytes.fromhex("fd000000000000000000000000000001"),
}


def _has_network(address: Address) -> bool:
    """Whether there is a route to it: fib_add_ifaddr makes none for a host address of IPv4."""
    return len(address.packed) == 16 or address.prefix_length < 32


class Kernel(LinuxTables):
    """One host's. `monitor`, `bulk` and `urgent` are those of the process that uses it now (`open`).

    Answers, events and dumps come at most `most_late_s` late. `refusing`: the share of route
    messages that it refuses for lack of memory; `losing`: of batches whose answer is lost; `unreadable`: of dumps that
    fail, as they change all the time or are interrupted.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, chance: random.Random, *, most_late_s: float) -> None:
        super().__init__()
        self._most_late_s = most_late_s
        self.loop = loop
        self.chance = chance
        self.refusing = 0.0
        self.losing = 0.0
        self.unreadable = 0.0
        self.addresses: list[Address] = []
        self.foreign: dict[KernelRoute, None] = {}
        self.is_followed = False
        self.noted: Callable[[], None] = lambda: None
        """Called when it may forward in another way."""
        self._metrics: dict[tuple[Family, int, bytes], list[int]] = {}
        """Of the routes of each prefix, by table."""
        self._lengths: dict[tuple[Family, int], Counter[int]] = {}
        """How many prefixes of each length a table has."""
        self.vrfs = Vrfs(self)

    def lateness(self) -> float:
        """How long something takes this time, in seconds."""
        return self.chance.uniform(0, self._most_late_s)

    def open(self, process: Process) -> None:
        """A process begins to use it."""
        self.monitor = Monitor(self, process)
        self.bulk, self.urgent = Writer(self, process), Writer(self, process)
        self.is_followed = True

    # The host

    def set_link(self, index: int, name: str, *, up: bool) -> None:
        """A link, and with it those that are above it, is up or down; it may be new."""
        former = self.links.get(index) or Link(index=index, name=name, up=up)
        self.change_link(msgspec.structs.replace(former, up=up))
        for one in [one for one in self.links.values() if one.parent == index and one.up != up]:
            self.set_link(one.index, one.name, up=up)

    def change_link(self, link: Link) -> None:
        """A link is like this from now on."""
        index = link.index
        self.links[index] = link
        if not link.up:
            for identifier in [found.id for found in self.objects.values() if found.ifindex == index]:
                if identifier in self.objects:
                    self._destroy(identifier)
            self._flush(-index)
            self._forget_foreign(link.name)
        self.noted()
        self._tell(lambda: self.monitor.host.link(link))

    def _forget_foreign(self, interface: str) -> None:
        """Routes of other programs to an interface that goes down go, too: those of IPv4 without a word."""
        for route in [one for one in self.foreign if one.interface == interface and one.protocol == BY_OTHERS]:
            del self.foreign[route]
            if route.family is not Family.IPV4_UNICAST:
                self._tell(partial(self.monitor.routes.changed, (route,), gone=True))
        self._tell(lambda: self.monitor.read_later())

    def remove_link(self, index: int) -> None:
        """A link is deleted; what led there has gone before."""
        link = self.links.pop(index)
        self._tell(lambda: self.monitor.host.link(link, gone=True))

    def add_address(self, index: int, packed: bytes, length: int) -> None:
        """An address, if the interface has it not, and the route to its network."""
        address = Address(index=index, interface=self.links[index].name, packed=packed, prefix_length=length)
        if address in self.addresses:
            return
        self.addresses.append(address)
        self._tell(lambda: self.monitor.host.address(address))
        if _has_network(address):
            self._add_route(self._connected(address, MAIN))

    def remove_address(self, index: int, packed: bytes) -> None:
        """It goes, if the interface has it."""
        for address in [one for one in self.addresses if (one.index, one.packed) == (index, packed)]:
            self.addresses.remove(address)
            self._tell(partial(self._forget_address, address))
            self.remove_route(self._connected(address, MAIN))

    def _forget_address(self, address: Address) -> None:
        self.monitor.host.address(address, gone=True)

    @staticmethod
    def _connected(address: Address, table: int) -> KernelRoute:
        is_v4 = len(address.packed) == 4
        return KernelRoute(
            family=Family.IPV4_UNICAST if is_v4 else Family.IPV6_UNICAST,
            key=address.network,
            table=table,
            protocol=BY_KERNEL,
            metric=0 if is_v4 else _V6_METRIC,
            interface=address.interface,
        )

    def move_connected(self, index: int, before: int, after: int) -> None:
        """The networks of a link are in another table from now on."""
        for address in [one for one in self.addresses if one.index == index and _has_network(one)]:
            self.remove_route(self._connected(address, before))
            self._add_route(self._connected(address, after))

    def add_workload_route(self, prefix: str, interface: str) -> None:
        """Another program, such as a container runtime, leads an address to an interface."""
        family, key = parse_prefix(prefix)
        metric = 0 if family is Family.IPV4_UNICAST else _V6_METRIC
        self._add_route(
            KernelRoute(family=family, key=key, table=MAIN, protocol=BY_OTHERS, metric=metric, interface=interface)
        )

    def add_foreign_route(self, prefix: str, *, metric: int, interface: str) -> None:
        """Another program has a route of its own to somewhere else."""
        family, key = parse_prefix(prefix)
        self._add_route(
            KernelRoute(
                family=family,
                key=key,
                table=MAIN,
                protocol=BY_OTHERS,
                metric=metric,
                interface=interface,
                gateway=_GATEWAYS[family],
            )
        )

    def foreign_routes(self, prefix: str) -> list[KernelRoute]:
        """What others have of a prefix."""
        family, key = parse_prefix(prefix)
        return [one for one in self.foreign if (one.family, one.key) == (family, key)]

    def best_foreign_route(self, prefix: str) -> KernelRoute | None:
        """The one that the kernel uses of what others have of a prefix: the first one of the lowest metric."""
        return min(self.foreign_routes(prefix), key=lambda one: one.metric, default=None)

    def _add_route(self, route: KernelRoute) -> None:
        place = (route.family, route.table, route.key, route.metric)
        index = next((link.index for link in self.links.values() if link.name == route.interface), 0)
        target = FOREIGN if route.gateway else -index
        if place in self.routes:  # `ip route add` behind what is there would be refused: it is appended
            self.behind.setdefault(place, []).append((route.protocol, target))
        else:
            self._set_first(place, (route.protocol, target))
        self.foreign[route] = None
        self._tell(lambda: self.monitor.routes.changed((route,), appends=place in self.behind))

    def remove_route(self, route: KernelRoute) -> None:
        """Another program deletes its route."""
        if route in self.foreign:
            del self.foreign[route]
            self._remove((route.family, route.table, route.key, route.metric), route.protocol, None)
            self._tell(lambda: self.monitor.routes.changed((route,), gone=True))

    def turn_by_other_hand(self, family: Family, key: bytes) -> None:
        """Another program has one of bgpd's routes lead elsewhere, and nobody is told."""
        place, target = (family, MAIN, key, METRIC), min(self.objects, default=0)
        if target and self.routes.get(place, (0, 0))[0] == PROTOCOL:
            self._set_first(place, (PROTOCOL, target))

    def delete_by_other_hand(self, family: Family, key: bytes, *, is_told: bool = True) -> None:
        """Another program deletes one of bgpd's routes."""
        place = (family, MAIN, key, METRIC)
        if not self._remove(place, PROTOCOL, None) or not is_told:
            return
        route = KernelRoute(family=family, key=key, table=MAIN, protocol=PROTOCOL, metric=METRIC)

        def tell() -> None:
            for callback in self.monitor.own_route_changed:
                callback(route, True)

        self._tell(tell)

    def delete_nexthop_by_other_hand(self, identifier: int) -> None:
        """Another program deletes one of bgpd's nexthop objects."""
        found = self.objects[identifier]
        self._destroy(identifier)

        def tell() -> None:
            for callback in self.monitor.nexthop_changed:
                callback(found)

        self._tell(tell)

    def forget_all(self) -> None:
        """The host is started anew."""
        self.routes.clear()
        self._metrics.clear()
        self._lengths.clear()
        self.behind.clear()
        self.objects.clear()
        self.foreign.clear()
        self.vrfs.forget_all()
        self.refusing = self.losing = self.unreadable = 0.0
        self.is_followed = False
        for address in list(self.addresses):
            self.addresses.remove(address)
            self.add_address(address.index, address.packed, address.prefix_length)

    def _tell(self, event: Callable[[], None]) -> None:
        if self.is_followed:
            self.monitor.enqueue(event)

    # Requests

    def _run_one(self, kind: MessageKind, flags: int, request: bytes) -> int:
        if self.refusing and kind == MessageKind.NEW_ROUTE and self.chance.random() < self.refusing:
            return errno.ENOMEM
        if kind in (MessageKind.NEW_RULE, MessageKind.DEL_RULE):
            return self.vrfs.change_rule(kind, request)
        return super()._run_one(kind, flags, request)

    # What forwards

    def targets(self) -> set[int]:
        """Where bgpd's routes of all tables lead."""
        return {target for place in self.routes for of, target in self._stack(place) if of == PROTOCOL}

    def own_routes(self, table: int = MAIN) -> dict[Place, int]:
        """bgpd's routes of a table and their targets."""
        found: dict[Place, int] = {}
        for place in [place for place in self.routes if place[1] == table]:
            for protocol, target in self._stack(place):
                if protocol == PROTOCOL:
                    found[place] = target
        return found

    def next_hops(self, target: int) -> set[tuple[bytes, int]]:
        """Where a nexthop group leads to: packed gateways and interface indexes."""
        return set(self.shares(target))

    def shares(self, target: int) -> dict[tuple[bytes, int], int]:
        """How much of the packets goes by each of these, in the smallest whole numbers."""
        members = [(self.objects[one], weight) for one, weight in self.objects[target].members if one in self.objects]
        found: Counter[tuple[bytes, int]] = Counter()
        for member, weight in members or [(self.objects[target], 1)]:
            found[member.gateway, member.ifindex] += weight
        least = math.gcd(*found.values())
        return {hop: weight // least for hop, weight in found.items()}

    def lookup(self, address: bytes, table: int = MAIN) -> tuple[int, int] | None:
        """(protocol, target) of the route for a packed address: the longest prefix, then the lowest metric."""
        family = family_of(address)
        for length in sorted(self._lengths.get((family, table), ()), reverse=True):
            key = network_key(address, length)
            metrics = self._metrics.get((family, table, key))
            if metrics:
                return self.routes[family, table, key, min(metrics)]
        return None

    def _set_first(self, place: Place, route: tuple[int, int] | None) -> None:
        family, table, key, metric = place
        if route is None or place not in self.routes:
            metrics = self._metrics.setdefault((family, table, key), [])
            lengths = self._lengths.setdefault((family, table), Counter())
            lengths[key[0]] -= bool(metrics)
            metrics.remove(metric) if route is None else metrics.append(metric)
            lengths[key[0]] += bool(metrics)
            if not lengths[key[0]]:
                del lengths[key[0]]
            if not metrics:
                del self._metrics[family, table, key]
        super()._set_first(place, route)
        self.noted()

    def _regrouped(self) -> None:
        self.noted()
