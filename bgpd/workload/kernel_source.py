"""Workloads that other programs route: CNI plugins, libvirt, Calico's Felix ([workload.kernel]).

Decides which kernel routes are workloads: unicast routes in the table of a known VRF, to an interface whose name fits a
glob, not bgpd's own, and no default, link-local, loopback or multicast route. Also tells the table which directly
attached routes of others exist, so that bgpd leaves those alone. Never writes to the kernel.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import lru_cache

from bgpd.model.iana import Family
from bgpd.model.kernel import KernelEvent, KernelRoute, Link, LinkChanged, RouteChanged
from bgpd.model.prefix import format_key
from bgpd.model.workload import Claim
from bgpd.workload.standing import KERNEL, Foreign
from bgpd.workload.table import WorkloadTable

SOURCE = KERNEL
SLICE = 500
"""Events taken in one step, so that the loop is never held for 20 ms."""

_Route = tuple[int, Family, bytes, int]
"""Kernel table, family, key, metric: what tells two routes of a kernel table apart."""


class KernelSource:
    """Follows the kernel's links and routes for the table.

    `globs` may be empty: then only foreign routes are noted. `vrfs` names the VRF of each kernel table ("" for the main
    one). `own_protocol` and `own_metric` are those of bgpd's routes. `schedule()` asks that `drain` be called soon.

    Relies on the kernel's monitor: routes that the kernel dropped without a word, and lost events, it finds out itself.
    """

    def __init__(
        self,
        table: WorkloadTable,
        *,
        globs: Sequence[str],
        vrfs: Mapping[int, str],
        own_protocol: int,
        own_metric: int,
        schedule: Callable[[], None],
    ) -> None:
        self._table = table
        self._globs = tuple(globs)
        self._vrfs = dict(vrfs)
        self._own_protocol = own_protocol
        self._own_metric = own_metric
        self._schedule = schedule
        self._scheduled = False
        self._budget = SLICE
        self._backlog: deque[KernelEvent] = deque()
        self._replayed = False
        self._routes: dict[tuple[int, Family, bytes], dict[int, KernelRoute]] = {}
        self._on_interface: dict[str, set[_Route]] = {}
        self._links: dict[str, Link] = {}
        self._match = lru_cache(maxsize=65536)(self._matches)

    def _matches(self, interface: str) -> bool:
        return any(fnmatchcase(interface, glob) for glob in self._globs)

    def event(self, event: KernelEvent) -> None:
        """One change, as the kernel's monitor tells it: taken at once, or after those that wait already."""
        if not self._scheduled:
            self._scheduled = True
            self._schedule()
        if self._backlog or not self._budget:
            self._backlog.append(event)
        else:
            self._budget -= 1
            self._take(event)

    def replayed(self) -> None:
        """All that the kernel held at the start has been told by `event`."""
        self._replayed = True
        self._tell_replayed()

    def drain(self) -> None:
        """Take what waits, at most `SLICE`; asks to be called again if more does."""
        self._scheduled = False
        self._budget = SLICE
        while self._backlog and self._budget:
            self._budget -= 1
            self._take(self._backlog.popleft())
        if self._backlog:
            self._scheduled = True
            self._schedule()
        self._tell_replayed()

    def _tell_replayed(self) -> None:
        if self._replayed and not self._backlog:
            self._replayed = False
            self._table.source_synchronised(SOURCE)

    def reconfigure(self, globs: Sequence[str], vrfs: Mapping[int, str]) -> None:
        """Other globs and VRFs from now on: what is known is judged anew; routes of a new table come by `event`."""
        for table, family, key in [place for place in self._routes if place[0] not in vrfs]:
            for metric in list(self._routes[table, family, key]):
                self._forget(table, family, key, metric)
        self._vrfs = dict(vrfs)
        if tuple(globs) == self._globs:
            return
        self._globs = tuple(globs)
        self._match.cache_clear()
        for (table, family, key), by_metric in self._routes.items():
            self._tell(self._vrfs[table], family, key, by_metric)

    def _take(self, event: KernelEvent) -> None:
        if isinstance(event, RouteChanged):  # of nearly all events
            self._route_changed(event.route, gone=event.gone)
        elif isinstance(event, LinkChanged):
            self._link_changed(event.link, gone=event.gone)

    def _link_changed(self, link: Link, *, gone: bool) -> None:
        self._table.link_changed(LinkChanged(link, gone))
        before = self._links.get(link.name)
        if gone:
            if before is not None and before.index == link.index:
                del self._links[link.name]
                self._forget_all(link.name)
            return
        self._links[link.name] = link

    def _forget_all(self, interface: str) -> None:
        """Forget the routes of an interface that is gone; if they are many, the monitor's next reading does."""
        routes = list(self._on_interface.get(interface, ()))
        if len(routes) <= SLICE:
            for route in routes:
                self._forget(*route)

    def _route_changed(self, route: KernelRoute, *, gone: bool) -> None:
        vrf = self._vrfs.get(route.table)
        if vrf is None or route.protocol == self._own_protocol:
            return
        if gone or not route.interface or (route.gateway and not self._match(route.interface)):
            self._forget(route.table, route.family, route.key, route.metric)
            return
        place = (route.table, route.family, route.key)
        by_metric = self._routes.setdefault(place, {})
        old = by_metric.get(route.metric)
        if old is not None and old.interface != route.interface:
            self._leave(old)
        by_metric[route.metric] = route
        self._on_interface.setdefault(route.interface, set()).add((*place, route.metric))
        self._tell(vrf, route.family, route.key, by_metric)

    def _forget(self, table: int, family: Family, key: bytes, metric: int) -> None:
        by_metric = self._routes.get((table, family, key), {})
        old = by_metric.pop(metric, None)
        if old is None:
            return
        self._leave(old)
        if not by_metric:
            del self._routes[table, family, key]
        self._tell(self._vrfs[table], family, key, by_metric)

    def _leave(self, route: KernelRoute) -> None:
        names = self._on_interface[route.interface]
        names.discard((route.table, route.family, route.key, route.metric))
        if not names:
            del self._on_interface[route.interface]

    def _tell(self, vrf: str, family: Family, key: bytes, by_metric: dict[int, KernelRoute]) -> None:
        """Tell the table of the route that the kernel uses: the one with the lowest metric."""
        best = by_metric[min(by_metric)] if by_metric else None
        foreign = None
        if best is not None and not best.gateway:
            foreign = Foreign(best.interface, best.metric < self._own_metric)
        self._table.foreign_route_changed(vrf, family, key, foreign)
        prefix = format_key(family, key)
        id = f"{vrf}/{prefix}" if vrf else prefix
        if best is None or not self._match(best.interface) or not is_workload(family, key):
            self._table.claim(SOURCE, id)
            return
        self._table.claim(
            SOURCE, id, (Claim(source=SOURCE, id=id, family=family, key=key, interface=best.interface, vrf=vrf),)
        )


def is_workload(family: Family, key: bytes) -> bool:
    """Whether a prefix may be a workload's: no default route, not link-local, loopback or multicast."""
    if key[0] == 0:
        return False
    if family is Family.IPV4_UNICAST:
        return key[1] not in (0, 127) and key[1] < 224 and key[1:3] != b"\xa9\xfe"
    link_local = key[1] == 0xFE and len(key) > 2 and key[2] & 0xC0 == 0x80
    return key[1] != 0xFF and not link_local and key[1:16] != bytes(15)
