"""What follows from a fabric as it is: who announces a prefix, by which neighbors each router has it, and each host.

Worked out from the links and from who runs, by the rules of BGP alone (the shortest AS path, no path with the own AS
number) and of policies, and not by what any part of the simulation has done. A value of one moment: make another one
for the next.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from bgpd.simulation import policies
from bgpd.simulation.fabric import Fabric
from bgpd.simulation.kept import last_choices
from bgpd.simulation.policies import PLAIN, Said, Sort
from bgpd.simulation.wire import DEFAULTS, EVPN, V6, Codes, codes_of

_Kind = tuple[tuple[str, ...], Codes, bool, Sort]
"""What prefixes that go the same ways have in common: owners, family, whether it is a default route, and what policies
see of it."""


_Rank = tuple[int, int]
"""Less is better: LOCAL_PREF with a minus, the length of the AS path."""


class Way(NamedTuple):
    """How a router has a prefix: the AS path of its best route, all neighbors that are as good ("" is itself), and
    whether that route is marked."""

    as_path: tuple[int, ...]
    neighbors: tuple[str, ...]
    is_marked: bool = False


class Expected:
    """`owners`: the nodes that should announce each prefix, in order. Prefixes of the same owners go the same ways."""

    def __init__(self, fabric: Fabric) -> None:
        self._fabric = fabric
        self.owners: dict[str, tuple[str, ...]] = {}
        self._preferred: dict[tuple[str, ...], tuple[str, ...]] = {}
        self._ways: dict[_Kind, dict[str, Way]] = {}
        self._nearest: dict[tuple[str, _Kind], tuple[str, ...]] = {}
        self._nearest_to_each: dict[tuple[str, tuple[str, ...], Codes], tuple[str, ...]] = {}
        self._last: dict[str, dict[str, tuple[str, ...]]] = {}
        self._policies = {name for name, host in fabric.hosts.items() if host.config.policy}
        """The hosts that have some."""
        self._connected = {names for names in fabric.links if fabric.is_connected(*names)}
        self._places = {
            name: {peer: place for place, peer in enumerate(router.peers)} for name, router in fabric.routers.items()
        }
        """Of the neighbors of each router, in order."""
        self._beside: dict[str, list[str]] = {}
        """The routers that have a session with each node."""
        for one, two in self._connected:
            self._beside.setdefault(two, []).append(one)
            if two in fabric.routers:
                self._beside.setdefault(one, []).append(two)
        for name, router in fabric.routers.items():
            own = (one for one in router.own if codes_of(one) != EVPN)
            self._announce(name, own if router.is_running else ())
        for name, host in fabric.hosts.items():
            self._announce(name, sorted(host.announced))
        self._prefixes: dict[_Kind, list[str]] = {}
        for prefix in self.owners:
            self._prefixes.setdefault(self._kind(prefix), []).append(prefix)

    def _announce(self, name: str, prefixes: Iterable[str]) -> None:
        for prefix in prefixes:
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
        owners = self.owners.get(prefix, ())
        preferred = self._preferred.get(owners)
        if preferred is None:
            preferred = self._preferred[owners] = self.preferred(owners)
        return preferred, codes_of(prefix), prefix in DEFAULTS, Sort.of(prefix) if self._policies else PLAIN

    def preferred(self, owners: tuple[str, ...]) -> tuple[str, ...]:
        """Those that routers prefer: others than hosts that are about to be drained (RFC 8326), if they know of any."""
        hosts = self._fabric.hosts
        others = tuple(one for one in owners if one not in hosts or not hosts[one].offers.is_lowered)
        return others if any(one not in hosts or self._fabric.leaves_of(one) for one in others) else owners

    def _spread(self, kind: _Kind) -> dict[str, Way]:
        """From the owners on, one AS after the other."""
        owners, routers = kind[0], self._fabric.routers
        best = {name: Way((), ("",)) for name in owners if name in routers}
        edges = {0: list(owners), 1: [one for one in owners if one in self._policies]}  # who may have prepended
        length = 0
        while edges:
            edge, length = edges.pop(length, []), length + 1
            heard: dict[str, list[str]] = {}
            for name in edge:
                for one in self._beside.get(name, ()):
                    if one not in best:
                        heard.setdefault(one, []).append(name)
            found = {}
            for name, neighbors in heard.items():  # paths of this length come from the edge only
                router, places = routers[name], self._places[name]
                neighbors.sort(key=places.__getitem__)
                told = {one: said for one in neighbors if (said := self._told(one, name, kind, best)) is not None}
                told = {
                    one: said
                    for one, said in told.items()
                    if len(said.as_path) == length and said.as_path.count(router.asn) <= router.peers[one].own_as
                }
                if told:
                    told = {one: told[one] for one in router.ways_of(list(told))}
                    first = next(iter(told.values()))
                    found[name] = Way(first.as_path, tuple(told), first.is_marked)
            best |= found
            if found:
                edges.setdefault(length, []).extend(found)
        return best

    def _told(self, neighbor: str, node: str, kind: _Kind, best: dict[str, Way]) -> Said | None:
        """How a neighbor announces it to a router or a host."""
        owners, codes, is_default, sort = kind
        is_host = neighbor in self._fabric.hosts
        if neighbor not in (owners if is_host else best):
            return None
        if not (self.is_connected(neighbor, node) and self._fabric.carries(neighbor, node, codes)):
            return None
        if is_host:
            host = self._fabric.hosts[neighbor]
            if neighbor in self._policies:
                return policies.said(host.config, host.neighbors[node].export, sort)
            return Said((host.config.router.asn,))
        router, has = self._fabric.routers[neighbor], best[neighbor]
        default = DEFAULTS[codes == V6] if is_default else ""
        if not router.passes_on(node, is_own=has.neighbors == ("",), default=default):
            return None
        return Said((router.asn, *has.as_path), has.is_marked)

    def nearest(self, host: str, prefix: str) -> tuple[str, ...]:
        """The routers by which a host should send to a prefix."""
        return self._nearest_of(host, self._kind(prefix)) or self._last_of(host).get(prefix, ())

    def _last_of(self, host: str) -> dict[str, tuple[str, ...]]:
        """By which routers that are away it should send where there is no other way."""
        found = self._last.get(host)
        if found is None:
            fabric, it = self._fabric, self._fabric.hosts[host]
            away = [one for one in it.kept if not self.is_connected(one, host)]
            found = self._last[host] = last_choices(it, away, fabric.loop.now)
        return found

    def reached_by(self, host: str) -> Iterator[tuple[str, tuple[str, ...]]]:
        """What a host should have routes to, each with the routers by which."""
        neighbors = self._fabric.hosts[host].neighbors.values()
        takes_all = any(one.import_ not in ("none", "default-only") for one in neighbors)
        last = dict(self._last_of(host))
        for kind, prefixes in self._prefixes.items():
            if not takes_all and not kind[2]:
                continue
            nearest = self._nearest_of(host, kind)
            if nearest:
                yield from ((prefix, nearest) for prefix in prefixes)
                if last:
                    last = {prefix: leaves for prefix, leaves in last.items() if prefix not in prefixes}
        yield from last.items()

    def alike(self) -> Iterator[list[str]]:
        """All prefixes, those that should go the same ways together."""
        yield from self._prefixes.values()

    def _nearest_of(self, host: str, kind: _Kind) -> tuple[str, ...]:
        place = host, kind
        found = self._nearest.get(place)
        if found is None:
            found = self._nearest[place] = _best(self._ranks(host, kind))
        return found

    def nearest_to(self, host: str, owners: Iterable[str], codes: Codes) -> tuple[str, ...]:
        """The routers by which a host should send to what these nodes announce, each by a route of its own."""
        place = host, tuple(owners), codes
        found = self._nearest_to_each.get(place)
        if found is None:
            ranks: dict[str, _Rank] = {}
            for owner in self.preferred(place[1]):
                for router, rank in self._ranks(host, ((owner,), codes, False, PLAIN)).items():
                    ranks[router] = min(rank, ranks.get(router, rank))
            found = self._nearest_to_each[place] = _best(ranks)
        return found

    def nearest_to_one(self, host: str, owners: Iterable[str], codes: Codes) -> tuple[str, ...]:
        """Likewise where it is one and the same prefix, of which each router tells its best route only."""
        return self._nearest_of(host, (self.preferred(tuple(owners)), codes, False, PLAIN))

    def brought_by(self, router: str, owners: Iterable[str], codes: Codes) -> str:
        """Which of these nodes a router has its best route of."""
        ways = self._ways_of((self.preferred(tuple(owners)), codes, False, PLAIN))
        while router in ways and ways[router].neighbors[0]:
            router = ways[router].neighbors[0]
        return router

    def _ranks(self, name: str, kind: _Kind) -> dict[str, _Rank]:
        """Of the routers that tell a host of it: how good what each says is there."""
        host = self._fabric.hosts[name]
        neighbors, config = host.neighbors, host.config
        ranks: dict[str, _Rank] = {}
        for router in self._fabric.routers_of(name):
            said = self._told(router, name, kind, self._ways_of(kind)) if router in neighbors else None
            if said is None or said.as_path.count(config.router.asn) > neighbors[router].allow_own_as:
                continue
            preference = policies.preference(
                config, neighbors[router].import_, kind[3], is_default=kind[2], is_marked=said.is_marked
            )
            if preference is not None:
                ranks[router] = (-preference if not self._is_lowered(kind[0]) else 0, len(said.as_path))
        return ranks

    def _is_lowered(self, owners: tuple[str, ...]) -> bool:
        """Whether all that announce it are about to be drained: then no policy prefers it (RFC 8326 section 4.2)."""
        hosts = self._fabric.hosts
        those = (one for one in owners if one not in hosts or self._fabric.leaves_of(one))
        return all(one in hosts and hosts[one].offers.is_lowered for one in those)


def _best(ranks: dict[str, _Rank]) -> tuple[str, ...]:
    best = min(ranks.values(), default=None)
    return tuple(router for router, rank in ranks.items() if rank == best)
