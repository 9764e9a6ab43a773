"""What follows from a fabric as it is: who announces a prefix, by which neighbors each router has it, and each host.

Worked out from the links and from who runs, by the rules of BGP alone (the shortest AS path, no path with the own AS
number), and not by what any part of the simulation has done. A value of one moment: make another one for the next.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from bgpd.simulation.fabric import Fabric
from bgpd.simulation.wire import EVPN, Codes, codes_of

DEFAULTS = ("0.0.0.0/0", "::/0")
_Kind = tuple[tuple[str, ...], Codes]
"""What prefixes that go the same ways have in common: owners and family."""


class Way(NamedTuple):
    """How a router has a prefix: the AS path of its best route, and all neighbors that are as good; "" is itself."""

    as_path: tuple[int, ...]
    neighbors: tuple[str, ...]


class Expected:
    """`owners`: the nodes that should announce each prefix, in order. Prefixes of the same owners go the same ways."""

    def __init__(self, fabric: Fabric) -> None:
        self._fabric = fabric
        self.owners: dict[str, tuple[str, ...]] = {}
        self._ways: dict[_Kind, dict[str, Way]] = {}
        self._nearest: dict[tuple[str, object], tuple[str, ...]] = {}
        self._connected = {names for names in fabric.links if fabric.is_connected(*names)}
        for name, router in fabric.routers.items():
            own = (one for one in router.own if codes_of(one) != EVPN)
            self._announce(name, own if router.is_running else ())
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
        return self._ways_of(self._kind(prefix))

    def _ways_of(self, kind: _Kind) -> dict[str, Way]:
        found = self._ways.get(kind)
        if found is None:
            found = self._ways[kind] = self._spread(kind)
        return found

    def _kind(self, prefix: str) -> _Kind:
        return self.preferred(self.owners.get(prefix, ())), codes_of(prefix)

    def preferred(self, owners: tuple[str, ...]) -> tuple[str, ...]:
        """Those that routers prefer: others than hosts that are about to be drained (RFC 8326), if they know of any."""
        hosts = self._fabric.hosts
        others = tuple(one for one in owners if one not in hosts or not hosts[one].offers.is_lowered)
        return others if any(one not in hosts or self._fabric.leaves_of(one) for one in others) else owners

    def _spread(self, kind: _Kind) -> dict[str, Way]:
        """From the owners on, one AS after the other."""
        owners, routers = kind[0], self._fabric.routers
        best = {name: Way((), ("",)) for name in owners if name in routers}
        for length in range(1, len(routers) + 2):
            found = {}
            for name, router in routers.items():
                if name in best or not router.is_running:
                    continue
                paths = {one: path for one in router.peers if (path := self._told(one, name, kind, best)) is not None}
                paths = {one: path for one, path in paths.items() if len(path) == length and router.asn not in path}
                if paths:
                    found[name] = Way(next(iter(paths.values())), tuple(paths))
            best |= found
        return best

    def _told(self, neighbor: str, node: str, kind: _Kind, best: dict[str, Way]) -> tuple[int, ...] | None:
        """The AS path by which a neighbor announces it to a router or a host."""
        owners, codes = kind
        if not (self.is_connected(neighbor, node) and self._fabric.carries(neighbor, node, codes)):
            return None
        if neighbor in self._fabric.hosts:
            return (self._fabric.hosts[neighbor].config.router.asn,) if neighbor in owners else None
        has = best.get(neighbor)
        if has is None or not self._fabric.routers[neighbor].passes_on(node, is_own=has.neighbors == ("",)):
            return None
        return self._fabric.routers[neighbor].asn, *has.as_path

    def nearest(self, host: str, prefix: str) -> tuple[str, ...]:
        """The routers by which a host should send to a prefix."""
        place = host, (*self._kind(prefix), prefix in DEFAULTS)
        found = self._nearest.get(place)
        if found is None:
            found = self._nearest[place] = self._nearest_by(host, prefix, self._kind(prefix))
        return found

    def nearest_to(self, host: str, owners: Iterable[str], codes: Codes) -> tuple[str, ...]:
        """The routers by which a host should send to what these nodes announce."""
        return self._nearest_by(host, "", (self.preferred(tuple(owners)), codes))

    def _nearest_by(self, name: str, prefix: str, kind: _Kind) -> tuple[str, ...]:
        host = self._fabric.hosts[name]
        ways = self._ways_of(kind)
        taken = ("all", "default-only") if prefix in DEFAULTS else ("all",)
        neighbors = {router: one for router, one in host.neighbors.items() if one.import_ in taken}
        paths = {}
        for router in self._fabric.routers_of(name):
            if router in neighbors and self.is_connected(router, name):
                path = self._told(router, name, kind, ways)
                if path is not None and path.count(host.config.router.asn) <= neighbors[router].allow_own_as:
                    paths[router] = path
        least = min(map(len, paths.values()), default=0)
        return tuple(router for router, path in paths.items() if len(path) == least)
