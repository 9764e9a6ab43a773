"""Workloads that other programs route: CNI plugins, libvirt, Calico's Felix ([workload.kernel]).

Decides which kernel routes are workloads: unicast routes in the table of a known VRF, to an interface whose name fits a
glob, not bgpd's own, and no default, link-local, loopback or multicast route. Also reports to the table which directly
attached routes of others exist, so that bgpd leaves those alone. Never writes to the kernel.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from functools import lru_cache

from bgpd.config.schema import WorkloadsConfig
from bgpd.config.schema_workloads import WorkloadConfig
from bgpd.model.iana import Family
from bgpd.model.kernel import AddressChanged, KernelEvent, KernelRoute, LinkChanged, RouteChanged
from bgpd.model.prefix import VrfFamily, format_key
from bgpd.model.workload import Claim, is_workload
from bgpd.runtime.turns import soon
from bgpd.workload.sources import ClaimSource, Restart, SourceKind, SourceParts
from bgpd.workload.standing import Foreign

KERNEL = "kernel"

SLICE = 500
"""Events taken in one step, so that the loop is never blocked for 20 ms."""

_Place = tuple[int, Family, bytes]
"""Kernel table, family, key: there may be several routes, and several of one metric."""


class KernelSource(ClaimSource):
    """Follows the kernel's links and routes, for claims and for the table.

    Without globs only foreign routes are noted. Relies on the kernel's monitor, which finds out itself that routes were
    dropped without a word, or events lost. So routes of an interface that is gone stay known until it says that they
    are gone: the interface may have been renamed.
    """

    name = KERNEL

    def __init__(self, parts: SourceParts, *, schedule: Callable[[Callable[[], None]], None] = soon) -> None:
        self._table = parts.table
        self._claims = parts.claims
        self._first_state = parts.first_state
        self._all_routes = parts.routes
        parts.table.foreign.leads_elsewhere = self._leads_elsewhere
        self._globs = _globs(parts.config.workload)
        self._vrfs = parts.config.vrfs
        self._own_protocol = parts.config.fib.protocol
        self._own_metric = parts.config.fib.metric
        self._schedule = schedule
        self._scheduled = False
        self._budget = SLICE
        self._backlog: deque[KernelEvent] = deque()
        self.gather: Callable[[KernelEvent], None] = self._backlog.append
        """Keeps an event for `drain`, which the caller calls when all of this burst have come."""
        self._replayed = False
        self._routes: dict[_Place, tuple[KernelRoute, ...]] = {}
        self._several: dict[_Place, None] = {}
        self._match = lru_cache(maxsize=65536)(self._matches)

    def _matches(self, interface: str) -> bool:
        return any(fnmatchcase(interface, glob) for glob in self._globs)

    def event(self, event: KernelEvent) -> None:
        """One change, as the kernel's monitor reports it: taken at once, or after those that wait already."""
        if self._backlog or not self._budget:
            self._backlog.append(event)
            self._plan_drain()
        else:
            self._budget -= 1
            self._take(event)

    def replayed(self) -> None:
        """All that the kernel had at the start has come by `event`."""
        self._replayed = True
        self._note_replayed()

    def _plan_drain(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._schedule(self.drain)

    def drain(self) -> None:
        """Take what waits, at most `SLICE`; plans a further step if more does."""
        self._scheduled = False
        self._budget = SLICE
        while self._backlog and self._budget:
            self._budget -= 1
            event = self._backlog.popleft()
            if isinstance(event, RouteChanged):  # nearly all are
                self._route_changed(event.route, gone=event.gone)
            else:
                self._take(event)
        if self._backlog:
            self._plan_drain()
        elif self._replayed:
            self._note_replayed()

    def _note_replayed(self) -> None:
        if self._replayed and not self._backlog:
            self._replayed = False
            self._first_state.heard(KERNEL)

    def reconfigure(self, config: WorkloadsConfig) -> None:
        """Set other globs and VRFs: known routes are judged again; routes of a new table arrive by `event`.

        A table may be another VRF's than before: what was said of its routes was said of that one.
        """
        moved = [place for place in self._routes if config.vrfs.get(place[0]) != self._vrfs[place[0]]]
        for place in moved:
            self._give_up(place)
        self._vrfs = config.vrfs
        for place in [place for place in moved if place[0] not in config.vrfs]:
            del self._routes[place]
            self._several.pop(place, None)
        globs = _globs(config.workload)
        if globs != self._globs:
            self._globs = globs
            self._match.cache_clear()
            moved = list(self._routes)
        for place in moved:
            if place in self._routes:
                self._report(place)

    def _take(self, event: KernelEvent) -> None:
        if isinstance(event, RouteChanged):  # of nearly all events
            self._route_changed(event.route, gone=event.gone)
        elif isinstance(event, LinkChanged):
            self._link_changed(event)
        elif isinstance(event, AddressChanged):
            self._table.address_changed(event)

    def _link_changed(self, event: LinkChanged) -> None:
        self._table.link_changed(event)
        for place in self._several:
            if any(route.interface == event.link.name for route in self._routes[place]):
                self._report(place)

    def _route_changed(self, route: KernelRoute, *, gone: bool) -> None:
        if route.table not in self._vrfs or route.protocol == self._own_protocol:
            return
        is_followed = self._is_followed(route)
        if gone or not is_followed:
            self._forget(route)
            if not is_followed:
                self._table.look_again((self._vrfs[route.table], route.family), (route.key,))
            return
        place = (route.table, route.family, route.key)
        routes = self._routes.get(place, ())
        if route in routes:
            return
        self._routes[place] = (*routes, route)
        if routes:
            self._several[place] = None
        self._report(place)

    def _forget(self, route: KernelRoute) -> None:
        """One route is gone; others of its prefix, of its metric too, stay."""
        place = (route.table, route.family, route.key)
        routes = self._routes.get(place, ())
        if route not in routes:
            if routes:  # it may be used in place of these
                self._report(place)
            return
        left = tuple(one for one in routes if one != route)
        if left:
            self._routes[place] = left
        else:
            del self._routes[place]
        if len(left) < 2:
            self._several.pop(place, None)
        self._report(place)

    def _leads_elsewhere(self, table: VrfFamily, key: bytes) -> bool:
        """Whether a prefix has a route that is none to an interface of this host, or to one of workloads."""
        vrf, family = table
        numbers = [number for number, name in self._vrfs.items() if name == vrf]
        routes = [route for number in numbers for route in self._all_routes.at((family, number, key))]
        return any(route.drops or not self._is_followed(route) for route in routes)

    def _is_followed(self, route: KernelRoute) -> bool:
        return bool(route.interface) and (not route.gateway or self._match(route.interface))

    def _give_up(self, place: _Place) -> None:
        """What was said of a prefix in the VRF that its table was of does not hold any more."""
        number, family, key = place
        vrf = self._vrfs[number]
        self._table.foreign_route_changed(vrf, family, key, None)
        self._claims.claim(KERNEL, _id(vrf, format_key(family, key)))

    def _report(self, place: _Place) -> None:
        """Note which route of a prefix the kernel uses: whether it is a workload's, and where it leads."""
        number, family, key = place
        vrf = self._vrfs[number]
        ways: Sequence[KernelRoute] = self._routes.get(place, ())
        if ways:
            ways = self._with_those_that_lead_elsewhere(place, ways)
        if len(ways) > 1:
            ways = _used(ways, self._table.is_up)
        best = ways[0] if ways else None
        foreign = None
        if best is not None and not (best.gateway or best.drops):
            foreign = Foreign(best.interface, best.metric < self._own_metric)
        self._table.foreign_route_changed(vrf, family, key, foreign)
        id, match = _id(vrf, format_key(family, key)), self._match
        if best is None or best.drops or not match(best.interface) or not is_workload(family, key):
            self._claims.claim(KERNEL, id)
            return
        if len(ways) > 1 and not all(match(way.interface) for way in ways):
            self._claims.claim(KERNEL, id)
            return
        self._claims.claim(
            KERNEL, id, (Claim(source=KERNEL, id=id, family=family, key=key, interface=best.interface, vrf=vrf),)
        )

    def _with_those_that_lead_elsewhere(self, place: _Place, ways: Sequence[KernelRoute]) -> Sequence[KernelRoute]:
        """With the routes of the prefix that are no workload's and are not kept here, since there may be a million of
        their kind: those that drop, and those by a gateway on another interface."""
        number, family, key = place
        present = self._all_routes.at((family, number, key))
        return present if len(present) > len(ways) else ways


def _id(vrf: str, prefix: str) -> str:
    """The name of a claim: its prefix, and the VRF that this is in."""
    return f"{vrf}/{prefix}" if vrf else prefix


def _globs(config: WorkloadConfig) -> tuple[str, ...]:
    return config.kernel.interfaces if config.kernel is not None else ()


def _used(routes: Sequence[KernelRoute], is_up: Callable[[str], bool]) -> Sequence[KernelRoute]:
    """Of several routes the one that the kernel uses, with all its next hops; those on interfaces that are up come
    first.

    Of several of the lowest metric the first that leads somewhere, since the kernel drops those of interfaces
    that go. IPv6 routes with a gateway are siblings if their metrics are equal (fib6_add_rt2node).
    """
    least = min((route.tos, route.metric) for route in routes)
    rivals = [route for route in routes if (route.tos, route.metric) == least]
    rivals.sort(key=lambda route: not (route.drops or is_up(route.interface)))
    first = rivals[0]
    if first.multipath:
        return [one for one in rivals if one.multipath and one.nexthop == first.nexthop]
    if first.gateway and first.family is Family.IPV6_UNICAST:
        return [one for one in rivals if one.gateway]
    return [first]


KIND = SourceKind(
    name=KERNEL,
    what="kernel routes of other programs, by `[workload.kernel]`",
    precedence=2,
    restart=Restart.REPLAYED,
    rank_at_start=2,
    is_own_word=True,
    is_kernel_route=True,
    is_damped=True,
    make=KernelSource,
)
