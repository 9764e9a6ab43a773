"""The comparisons of `consistency`: which two parts must agree on a route, and how a difference is repaired.

Each compares the records of two parts. Nothing here asks the kernel, decides about a route, or keeps state.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bgpd.consistency import Check
from bgpd.fib.table import Fib
from bgpd.model.iana import UNICAST, Family
from bgpd.own_routes import WORKLOAD_SOURCE
from bgpd.rib.adj_rib_out import AdjRibOut
from bgpd.routing import Routing
from bgpd.workload.guest_source import GuestSource


def checks(routing: Routing) -> Iterator[Check]:
    """All comparisons that there are at present."""
    for vrf, fib in routing.tables.fibs.items():
        for family in UNICAST:
            yield InstalledRoutes(routing, fib, vrf, family)
            yield AnnouncedWorkloads(routing, vrf, family)
    for guest, family in routing.rib.guests:
        yield GuestClaims(routing, guest, family)
    for export in routing.rib.dissemination.all():
        yield AdvertisedRoutes(routing, export)


class InstalledRoutes:
    """Each route that the RIB or a workload wants is in the kernel table, on its way, or known to be kept out."""

    def __init__(self, routing: Routing, fib: Fib, vrf: str, family: Family) -> None:
        self._routing = routing
        self._fib = fib
        self._vrf = vrf
        self._family = family
        self.name = f"{family} routes in the kernel" + (f" of VRF {vrf}" if vrf else "")

    def slices(self, size: int) -> Iterator[list[bytes]]:
        table = self._routing.rib.tables.get((self._vrf, self._family))
        if table is not None:
            yield from table.routes.slices(size)
        yield from self._fib.families[self._family].installed.slices(size)

    def differing(self, keys: Sequence[bytes]) -> list[bytes]:
        waits = self._routing.tables.waits
        return [key for key in self._fib.differing(self._family, keys) if not waits(self._vrf, self._family, key)]

    def repair(self, keys: Sequence[bytes]) -> None:
        self._fib.upkeep.repair(self._family, list(keys))


class AnnouncedWorkloads:
    """The RIB has just those addresses that the workload table announced to it, and the kernel table their routes."""

    def __init__(self, routing: Routing, vrf: str, family: Family) -> None:
        self._routing = routing
        self._place = (vrf, family)
        self.name = f"{family} addresses of workloads" + (f" in VRF {vrf}" if vrf else "")

    def slices(self, size: int) -> Iterator[list[bytes]]:
        keys = self._routing.workloads.table.keys(self._place)
        table = self._routing.rib.tables.get(self._place)
        for start in range(0, len(keys), size):
            yield keys[start : start + size]
        own = list(table.local) if table is not None else []
        for start in range(0, len(own), size):
            yield [key for key in own[start : start + size] if self._in_rib(key)]

    def differing(self, keys: Sequence[bytes]) -> list[bytes]:
        workloads = self._routing.workloads.table
        if workloads.is_marked:
            return []
        vrf, family = self._place
        routes = self._routing.tables.fibs[vrf].families[family] if vrf in self._routing.tables.fibs else None
        found = []
        for key in keys:
            announced, has_route = workloads.carried_out(self._place, key)
            lacks_route = has_route and routes is not None and key not in routes.installed
            if announced is not self._in_rib(key) or lacks_route:
                found.append(key)
        return found

    def repair(self, keys: Sequence[bytes]) -> None:
        self._routing.workloads.table.carry_out_again(self._place, keys)

    def _in_rib(self, key: bytes) -> bool:
        decision = self._routing.rib.decision(*self._place, key)
        return decision is not None and decision.path_of(WORKLOAD_SOURCE.name) is not None


class GuestClaims:
    """What a guest announces, and may, is claimed, and nothing else for it."""

    def __init__(self, routing: Routing, guest: str, family: Family) -> None:
        source = routing.workloads.find(GuestSource)
        assert source is not None
        self._source = source
        self._table = routing.rib.guests[guest, family]
        self._guest, self._family = guest, family
        self.name = f"{family} routes of guest {guest}"

    def slices(self, size: int) -> Iterator[list[bytes]]:
        yield from self._table.routes.slices(size)
        keys = self._source.claimed(self._guest, self._family)
        for start in range(0, len(keys), size):
            yield keys[start : start + size]

    def differing(self, keys: Sequence[bytes]) -> list[bytes]:
        return self._source.differing(self._guest, self._family, keys)

    def repair(self, keys: Sequence[bytes]) -> None:
        self._source.routes_changed(self._guest, self._family, keys)


class AdvertisedRoutes:
    """What a neighbor was sent of each route is what the export policy gives now."""

    def __init__(self, routing: Routing, export: AdjRibOut) -> None:
        self._routing = routing
        self._export = export
        self.name = f"{export.family} routes sent to neighbor {export.source.name}"

    def slices(self, size: int) -> Iterator[list[bytes]]:
        yield from self._export.slices(size)

    def differing(self, keys: Sequence[bytes]) -> list[bytes]:
        return self._export.differing(keys)

    def repair(self, keys: Sequence[bytes]) -> None:
        self._routing.rib.dissemination.send_again(self._export, keys)
