"""What follows from a fabric as it is: who announces a prefix, by which neighbors each router has it, and each host.

Worked out from the links and from who runs, by the rules of BGP alone (the shortest AS path, no path with the own AS
number), and not by what any part of the simulation has done. A value of one moment: make another one for the next.
"""

from __future__ import annotations

from typing import NamedTuple

from bgpd.simulation.fabric import Fabric


class Way(NamedTuple):
    """How a router has a prefix: the AS path of its best route, and all neighbors that are as good; "" is itself."""

    as_path: tuple[int, ...]
    neighbors: tuple[str, ...]


class Expected:
    """`owners`: the nodes that should announce each prefix, in order. Prefixes of the same owners go the same ways."""

    def __init__(self, fabric: Fabric) -> None:
        self._fabric = fabric
        self.owners: dict[str, tuple[str, ...]] = {}
        self._ways: dict[tuple[str, ...], dict[str, Way]] = {}
        self._nearest: dict[tuple[str, tuple[str, ...]], tuple[str, ...]] = {}
        self._connected = {names for names in fabric.links if fabric.is_connected(*names)}
        for name, router in fabric.routers.items():
            self._announce(name, router.own if router.is_running else ())
        for name, host in fabric.hosts.items():
            self._announce(name, sorted(host.announced))

    def _announce(self, name: str, prefixes: object) -> None:
        for prefix in prefixes:  # type: ignore[attr-defined]
            self.owners[prefix] = (*self.owners.get(prefix, ()), name)

    def is_connected(self, one: str, two: str) -> bool:
        """Whether a session between two has to be there, whichever is named first."""
        return (one, two) in self._connected or (two, one) in self._connected

    def ways(self, prefix: str) -> dict[str, Way]:
        """How each router that can reach a prefix has it."""
        owners = self.owners.get(prefix, ())
        found = self._ways.get(owners)
        if found is None:
            found = self._ways[owners] = self._spread(owners)
        return found

    def _spread(self, owners: tuple[str, ...]) -> dict[str, Way]:
        """From the owners on, one AS after the other."""
        routers = self._fabric.routers
        best = {name: Way((), ("",)) for name in owners if name in routers}
        for length in range(1, len(routers) + 2):
            found = {}
            for name, router in routers.items():
                if name in best or not router.is_running:
                    continue
                paths = {one: path for one in router.peers if (path := self._told(one, name, owners, best)) is not None}
                paths = {one: path for one, path in paths.items() if len(path) == length and router.asn not in path}
                if paths:
                    found[name] = Way(next(iter(paths.values())), tuple(paths))
            best |= found
        return best

    def _told(
        self, neighbor: str, router: str, owners: tuple[str, ...], best: dict[str, Way]
    ) -> tuple[int, ...] | None:
        """The AS path by which a neighbor announces it to a router."""
        if not self.is_connected(neighbor, router):
            return None
        if neighbor in self._fabric.hosts:
            return (self._fabric.hosts[neighbor].config.router.asn,) if neighbor in owners else None
        has = best.get(neighbor)
        if has is None or not self._fabric.routers[neighbor].passes_on(router, is_own=has.neighbors == ("",)):
            return None
        return self._fabric.routers[neighbor].asn, *has.as_path

    def nearest(self, host: str, prefix: str) -> tuple[str, ...]:
        """The routers by which a host should send to a prefix."""
        place = host, self.owners.get(prefix, ())
        found = self._nearest.get(place)
        if found is None:
            found = self._nearest[place] = self._nearest_to(host, prefix)
        return found

    def _nearest_to(self, name: str, prefix: str) -> tuple[str, ...]:
        config = self._fabric.hosts[name].config
        neighbors = {one.name: one for one in config.neighbor if one.import_ == "all"}
        paths = {}
        for router in self._fabric.routers_of(name):
            if router in neighbors and self.is_connected(router, name):
                path = self._told(router, name, self.owners.get(prefix, ()), self.ways(prefix))
                if path is not None and path.count(config.router.asn) <= neighbors[router].allow_own_as:
                    paths[router] = path
        least = min(map(len, paths.values()), default=0)
        return tuple(router for router, path in paths.items() if len(path) == least)
