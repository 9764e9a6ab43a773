"""Which target a set of next hops means for routes of one table, given what is connected now.

Remembers every next hop that was asked about, so that its owner hears when its answer changes. A set with unreachable
members is served by the others; without any it has no target, and the reason. Sans-IO.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet

from bgpd.fib.dataplane import Dataplane
from bgpd.fib.family_routes import Wish
from bgpd.fib.nexthop_messages import Members
from bgpd.fib.route_messages import BLACKHOLE as BLACKHOLE_TARGET
from bgpd.model.iana import Family
from bgpd.model.kernel import KernelRoute
from bgpd.model.path import BLACKHOLE, NextHop, NextHops
from bgpd.model.prefix import covers


class NextHopWishes:
    """Resolution of next hops in one table, remembered until links, addresses or attached routes change.

    `direct` are the table's own directly attached routes: by family, interface index -> keys.
    """

    def __init__(
        self, dataplane: Dataplane, table: int, direct: Mapping[Family, Mapping[int, AbstractSet[bytes]]]
    ) -> None:
        self._dataplane = dataplane
        self._table = table
        self._direct = direct
        self._answers: dict[NextHop, tuple[int, str]] = {}

    def resolve(self, hop: NextHop) -> tuple[int, str]:
        """(interface index, "") or (0, why not)."""
        if hop.weight != 1:
            hop = NextHop(hop.address, hop.interface)
        answer = self._answers.get(hop)
        if answer is None:
            answer = self._answers[hop] = self._interface_of(hop)
        return answer

    def wish_for(self, family: Family) -> Callable[[NextHops], Wish]:
        """The function from next hops to target for routes of a family."""
        return functools.partial(self._wish, family)

    def members(self, next_hops: NextHops) -> Members:
        """The gateways of those next hops that can be reached, made if need be."""
        nexthops = self._dataplane.nexthops
        found: dict[int, int] = {}
        for hop in next_hops:
            ifindex = self.resolve(hop)[0]
            if ifindex and hop.address:
                single = nexthops.single_of(NextHop(hop.address, hop.interface), ifindex)
                found[single] = max(found.get(single, 0), hop.weight)
        return tuple(sorted(found.items()))

    def route_changed(self, route: KernelRoute) -> list[tuple[NextHop, str]]:
        """A route of the kernel changed: next hops that it may attach and whose answer is another now."""
        if not self._answers or not route.interface or route.gateway:
            return []
        size = 4 if route.family is Family.IPV4_UNICAST else 16
        host = bytes((size * 8,))
        return self._ask_again(
            hop for hop in self._answers if len(hop.address) == size and covers(route.key, host + hop.address)
        )

    def all_changed(self) -> list[tuple[NextHop, str]]:
        """Links or addresses changed: next hops whose answer is another now."""
        return self._ask_again(self._answers)

    def _ask_again(self, hops: Iterable[NextHop]) -> list[tuple[NextHop, str]]:
        changed = []
        for hop in list(hops):
            before = self._answers[hop]
            answer = self._interface_of(hop)
            if answer == before:
                continue
            self._answers[hop] = answer
            moved = self._dataplane.nexthops.single_at(hop.address, before[0]) if hop.address else None
            if moved is not None:
                self._dataplane.lose([moved], lambda _group: None)
            if answer[1] != before[1]:
                changed.append((hop, answer[1]))
        return changed

    def _interface_of(self, hop: NextHop) -> tuple[int, str]:
        """By what is connected, or by a host route that bgpd itself keeps to a workload (router or backend)."""
        connected = self._dataplane.connected
        answer = connected.interface_of(hop, table=self._table)
        if not answer[1] or not hop.address:
            return answer
        key = bytes((len(hop.address) * 8,)) + hop.address
        family = Family.IPV4_UNICAST if len(hop.address) == 4 else Family.IPV6_UNICAST
        for ifindex, keys in self._direct[family].items():
            link = connected.links.get(ifindex)
            if key in keys and link is not None and link.up and hop.interface in ("", link.name):
                return ifindex, ""
        return answer

    def _wish(self, family: Family, next_hops: NextHops) -> Wish:
        if next_hops == BLACKHOLE:
            return Wish(BLACKHOLE_TARGET, frozenset((BLACKHOLE_TARGET,)))
        first = next_hops[0]
        if not first.address:
            ifindex, why = self.resolve(first)
            return Wish(-ifindex, frozenset((-ifindex,)), why)
        if family is Family.IPV6_UNICAST and any(len(hop.address) == 4 for hop in next_hops):
            return Wish(why="an IPv6 route cannot have an IPv4 next hop")
        members = self.members(next_hops)
        if not members:
            return Wish(why="; ".join(filter(None, (self.resolve(hop)[1] for hop in next_hops))))
        nexthops = self._dataplane.nexthops
        target = nexthops.group_of(members, reduced=len(members) < len(next_hops))
        return Wish(target, nexthops.same_as(members))
