"""Which target a set of next hops means for routes of one table, given what is connected now.

A next hop must be on-link by a connected prefix of an up link, or link-local by interface; it is never resolved through
a learned route: whether a gateway is on-link must not depend on what neighbors advertise. Each VRF has its own
interfaces: the same address may be another host in another VRF. Every next hop that was asked about is remembered, so
that its owner is notified when the answer changes. A set with unreachable members uses the others; a set without a
reachable member has no target, but a reason.

Routes by recursive next hops (a gateway of another tenant network, a service) point at a group of their own. When what
the next hops lead to changes, one message gives the group its new members, however many routes use it. Groups of
recursive next hops with equal members stay apart, since they may part ways later. A group that an earlier run left is
taken over for the first next hops whose routes point at it and whose members it has. Sans-IO but for the dataplane.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterable, Mapping
from collections.abc import Set as AbstractSet

import msgspec

from bgpd.fib.dataplane import Dataplane
from bgpd.fib.group_room import NO_ROOM
from bgpd.fib.nexthop_values import Loss
from bgpd.fib.plan import SERVICE, Target, TargetOf
from bgpd.kernel.host import Host
from bgpd.kernel.nexthop_messages import MAX_WEIGHT, Members
from bgpd.kernel.route_messages import BLACKHOLE as BLACKHOLE_TARGET
from bgpd.model.iana import Family
from bgpd.model.kernel import KernelRoute
from bgpd.model.next_hop import BLACKHOLE, NextHop, NextHops
from bgpd.model.prefix import address_length, covers, format_address, is_link_local

Name = tuple[Family, NextHops]
"""What a group is used for: the next hops desired by routes of a family."""


class BoundGroups:
    """The bound groups of one table, by family and desired next hops."""

    def __init__(self, dataplane: Dataplane) -> None:
        self._dataplane = dataplane
        self._groups: dict[Name, set[int]] = {}
        self._names: dict[int, Name] = {}
        self._users: dict[NextHop, dict[Name, None]] = {}

    def target(
        self,
        name: Name,
        members: Members,
        before: Collection[int | None],
        *,
        resilient: bool = False,
        source: bytes = b"",
    ) -> tuple[int, AbstractSet[int]] | None:
        """(group for routes by these next hops, all groups that do as well); None if there is no room for one more.

        `before`: what its routes point at now.
        """
        objects = self._dataplane.objects
        groups = self._living(name)
        for identifier in before:
            if identifier is not None and objects.claim(identifier, members, resilient=resilient, source=source):
                self._bind(identifier, name)
        fitting = {
            identifier
            for identifier in groups
            if objects.groups[identifier].resilient is resilient and objects.groups[identifier].source == source
        }
        if not fitting:
            made = objects.make_bound(members, resilient=resilient, source=source)
            if made is None:
                return None
            fitting.add(made)
            self._bind(made, name)
        self.set_members(name, members)
        return min(fitting), fitting

    def set_members(self, name: Name, members: Members) -> None:
        """Give the groups of a name these members: one message each; without members they go, with their routes."""
        for identifier in list(self._living(name)):
            self._dataplane.replace_members(identifier, members)

    def name_of(self, group: int) -> Name | None:
        """What a group is used for; None if it is not a bound group of this table."""
        return self._names.get(group)

    def names(self, users_of: NextHop | None = None) -> Iterable[Name]:
        """What the groups are used for: all, or those with one next hop."""
        return list(self._groups if users_of is None else self._users.get(_unweighted(users_of), ()))

    def recursive(self) -> Iterable[NextHop]:
        """The recursive next hops that groups are used for."""
        return [hop for hop in self._users if hop.is_recursive]

    def prune(self) -> None:
        """Forget names whose groups are gone."""
        for name in [name for name in self._groups if not self._living(name)]:
            del self._groups[name]
            for hop in map(_unweighted, name[1]):
                self._users[hop].pop(name, None)
                if not self._users[hop]:
                    del self._users[hop]

    def _bind(self, identifier: int, name: Name) -> None:
        self._groups[name].add(identifier)
        self._names[identifier] = name

    def _living(self, name: Name) -> set[int]:
        """The groups of a name that exist now; the set stays the same object while there is one."""
        groups = self._groups.get(name)
        if groups is None:
            groups = self._groups[name] = set()
            for hop in map(_unweighted, name[1]):
                self._users.setdefault(hop, {})[name] = None
        for identifier in [one for one in groups if one not in self._dataplane.objects.groups]:
            groups.remove(identifier)
            del self._names[identifier]
        return groups


def _unweighted(hop: NextHop) -> NextHop:
    return hop if hop.weight == 1 else NextHop(hop.address, hop.interface)


class Service(msgspec.Struct, frozen=True):
    """The backends of a service address; `resilient`: flows keep their backend when others are added or removed."""

    members: NextHops
    resilient: bool


def service_hop(key: bytes) -> NextHop:
    """The recursive next hop of the route to a service's address."""
    return NextHop(key[1:], SERVICE)


class Targets:
    """Resolves next hops in one table, and remembers the answers until links, addresses or attached routes change.

    `direct` are the table's own directly attached routes: by family, interface index -> keys. `lookup` says which next
    hops a recursive one leads to. `services` are recursive next hops of this table's own. `asked`: next hops whose
    owner asked. `sources`: the preferred source that learned routes are to name now (preferred_source.py).
    """

    def __init__(
        self,
        dataplane: Dataplane,
        table: int,
        direct: Mapping[Family, Mapping[int, AbstractSet[bytes]]],
        lookup: Callable[[NextHop], NextHops],
        *,
        vrf: str = "",
    ) -> None:
        self.bound = BoundGroups(dataplane)
        self.services: dict[NextHop, Service] = {}
        self.asked: set[NextHop] = set()
        self.sources = {Family.IPV4_UNICAST: b"", Family.IPV6_UNICAST: b""}
        self._dataplane = dataplane
        self._table = table
        self._vrf = vrf
        self._direct = direct
        self._lookup = lookup
        self._answers: dict[NextHop, tuple[int, str]] = {}

    def ask(self, hop: NextHop) -> str:
        """Why a next hop cannot be reached, or "", for an owner that is to be notified when that changes."""
        self.asked.add(NextHop(hop.address, hop.interface))
        return self.resolve(hop)[1]

    def forget(self, hops: Iterable[NextHop]) -> None:
        """No owner waits for these any more: a neighbor may name ever new ones."""
        for hop in hops:
            self.asked.discard(hop)
            self._answers.pop(hop, None)

    def resolve(self, hop: NextHop) -> tuple[int, str]:
        """(interface index, "") or (0, why not); (0, "") for a recursive one that leads somewhere."""
        if hop.weight != 1:
            hop = NextHop(hop.address, hop.interface)
        answer = self._answers.get(hop)
        if answer is None:
            answer = self._answers[hop] = self._answer(hop)
        return answer

    def target_of(self, family: Family) -> TargetOf:
        """From next hops, and what adopted routes by them point at, to the target for routes of a family."""
        return functools.partial(self._target, family)

    def gateways(self, next_hops: NextHops) -> list[NextHop]:
        """The next hops with recursive ones replaced by those that they lead to, weights multiplied."""
        found = []
        for hop in next_hops:
            if hop.is_recursive:
                leads_to = self._leads_to(NextHop(hop.address, hop.interface))
                found += [NextHop(one.address, one.interface, one.weight * hop.weight) for one in leads_to]
            else:
                found.append(hop)
        return found

    def members(self, next_hops: NextHops, *, family: Family = Family.IPV4_UNICAST) -> Members:
        """The gateways for routes of the family, of those next hops that can be reached; made if need be."""
        objects = self._dataplane.objects
        found: dict[int, int] = {}
        for hop in self.gateways(next_hops):
            ifindex = self.resolve(hop)[0]
            if ifindex and hop.address and (len(hop.address) == 16 or family is Family.IPV4_UNICAST):
                nexthop = objects.nexthop_of(NextHop(hop.address, hop.interface), ifindex)
                if nexthop is None:
                    continue
                found[nexthop] = max(found.get(nexthop, 0), hop.weight)
        heaviest = max(found.values(), default=0)
        if heaviest > MAX_WEIGHT:
            found = {nexthop: max(1, weight * MAX_WEIGHT // heaviest) for nexthop, weight in found.items()}
        return tuple(sorted(found.items()))

    def lose(self, next_hops: Iterable[NextHop], fallback: Callable[[NextHops], NextHops | None]) -> Loss:
        """Dead next hops leave the kernel; what `fallback` answers replaces a set that would be left empty. Other VRFs
        may have the same addresses."""
        objects, host = self._dataplane.objects, self._dataplane.host
        vrfs = {one: host.vrf_of(host.name_of(objects.nexthops[one].ifindex)) for one in objects.nexthops_of(next_hops)}
        lost = dict.fromkeys(one for one, vrf in vrfs.items() if vrf == self._vrf)

        def replacement(group: int) -> Members | None:
            name = self.bound.name_of(group)
            if name is None and objects.groups[group].bound:
                return None
            family, hops = name or (Family.IPV4_UNICAST, objects.next_hops(group))
            instead = fallback(hops)
            members = self.members(instead, family=family) if instead else ()
            return tuple(member for member in members if member[0] not in lost) or None

        return self._dataplane.lose(lost, replacement) if lost else Loss()

    def led_to(self, next_hops: Iterable[NextHop]) -> set[NextHop]:
        """Those of these next hops that recursive ones lead to now, by whatever interface."""
        led = {one.address for hop in self.bound.recursive() for one in self._leads_to(hop)}
        return {hop for hop in next_hops if hop.address in led}

    def follow(self, hop: NextHop | None = None) -> None:
        """Give the groups of recursive next hops (of one, or all) the members that they lead to now."""
        for family, next_hops in self.bound.names(hop):
            self.bound.set_members((family, next_hops), self.members(next_hops, family=family))
        if hop is None:
            self.bound.prune()

    def resolution_changed(self, hop: NextHop) -> list[tuple[NextHop, str]]:
        """A recursive next hop leads elsewhere: its groups follow. Answers it if it can be reached now or no longer."""
        hop = NextHop(hop.address, hop.interface)
        changed = self._ask_again([hop] if hop in self._answers else [])
        self.follow(hop)
        return changed

    def route_changed(self, route: KernelRoute) -> list[tuple[NextHop, str]]:
        """A route of the kernel changed: next hops that it may attach and whose answer is another now."""
        if not self._answers or not route.interface or route.gateway or route.drops:
            return []
        size = 4 if route.family is Family.IPV4_UNICAST else 16
        host = bytes((size * 8,))
        return self._gateways_changed(
            hop for hop in self._answers if len(hop.address) == size and covers(route.key, host + hop.address)
        )

    def all_changed(self) -> list[tuple[NextHop, str]]:
        """Links or addresses changed: next hops whose answer is another now."""
        return self._gateways_changed(self._answers)

    def _gateways_changed(self, hops: Iterable[NextHop]) -> list[tuple[NextHop, str]]:
        """Ask for gateways again, then for the recursive next hops that may lead to them."""
        changed = self._ask_again([hop for hop in hops if not hop.is_recursive])
        if changed:
            changed += self._ask_again([hop for hop in self._answers if hop.is_recursive])
        return changed

    def _ask_again(self, hops: Iterable[NextHop]) -> list[tuple[NextHop, str]]:
        changed = []
        for hop in hops:
            before = self._answers[hop]
            answer = self._answer(hop)
            if answer != before:
                self._answers[hop] = answer
                changed.append((hop, answer[1]))
                self._leave(hop, before[0], answer[0])
        return changed

    def _leave(self, hop: NextHop, former: int, ifindex: int) -> None:
        """A gateway is not on its former interface any more, but on another one (0: on none): its object there goes. A
        group that is left without any member gets the one on the other interface first."""
        objects = self._dataplane.objects
        gone = objects.nexthop_at(hop.address, former) if hop.address and former else None
        if gone is None:
            return

        def elsewhere(_group: int) -> Members | None:
            there = objects.nexthop_of(NextHop(hop.address, hop.interface), ifindex) if ifindex else None
            return None if there is None else ((there, 1),)

        self._dataplane.lose([gone], elsewhere)

    def end_services(self, family: Family, changes: Mapping[bytes, NextHops | None]) -> None:
        """Forget the services of prefixes that are to lead elsewhere. An IPv6 /32 has the key of an IPv4 address."""
        size = address_length(family)
        if len(changes) < len(self.services):
            hops = [hop for hop in map(service_hop, changes) if hop in self.services]
        else:
            hops = list(self.services)
        for hop in [hop for hop in hops if len(hop.address) == size]:
            key = bytes((len(hop.address) * 8,)) + hop.address
            if key in changes and changes[key] != (hop,):
                del self.services[hop]

    def _leads_to(self, hop: NextHop) -> NextHops:
        service = self.services.get(hop)
        return self._lookup(hop) if service is None else service.members

    def is_resilient(self, next_hops: NextHops) -> bool:
        """Whether these next hops are a service whose flows are to keep their backend."""
        service = self.services.get(next_hops[0]) if self.services else None
        return service is not None and service.resilient

    def _answer(self, hop: NextHop) -> tuple[int, str]:
        if not hop.is_recursive:
            return self._interface_of(hop)
        whys = [self.resolve(one)[1] for one in self._leads_to(hop)]
        return 0, "" if "" in whys else next(iter(whys), f"next hop {hop} leads to no gateway")

    def _interface_of(self, hop: NextHop) -> tuple[int, str]:
        """By what is connected, or by a host route that bgpd itself keeps to a workload (router or backend); unless the
        kernel has refused it there."""
        ifindex, why = self._connected(hop)
        refused = self._dataplane.objects.refusals.why(hop.address, ifindex) if ifindex else None
        return (ifindex, why) if refused is None else (0, f"the kernel refuses next hop {hop}: {refused}")

    def _connected(self, hop: NextHop) -> tuple[int, str]:
        answer = interface_of(self._dataplane.host, hop, table=self._table, vrf=self._vrf)
        if not answer[1] or not hop.address:
            return answer
        key = bytes((len(hop.address) * 8,)) + hop.address
        family = Family.IPV4_UNICAST if len(hop.address) == 4 else Family.IPV6_UNICAST
        for ifindex, keys in self._direct[family].items():
            link = self._dataplane.host.links.get(ifindex)
            if key in keys and link is not None and link.up and hop.interface in ("", link.name):
                return ifindex, ""
        return answer

    def _target(self, family: Family, next_hops: NextHops, before: Collection[int | None]) -> Target:
        if next_hops == BLACKHOLE:
            return Target(BLACKHOLE_TARGET, frozenset((BLACKHOLE_TARGET,)))
        recursive = [self.resolve(hop) for hop in next_hops if hop.is_recursive]
        first = next_hops[0]
        if not first.address and not recursive:
            ifindex, why = self.resolve(first)
            return Target(-ifindex, frozenset((-ifindex,)), why)
        members = self.members(next_hops, family=family)
        objects = self._dataplane.objects
        if not members:
            return Target(why=self._why_none(next_hops))
        source = self.sources[family] if first.interface != SERVICE else b""
        if recursive:
            resilient = self.is_resilient(next_hops) and not objects.not_resilient
            bound = self.bound.target((family, next_hops), members, before, resilient=resilient, source=source)
            return Target(why=NO_ROOM) if bound is None else Target(*bound)
        target = objects.group_of(members, reduced=len(members) < len(next_hops), source=source)
        if target is not None:
            return Target(target, objects.same_as(members, source))
        target = objects.group_of_one(members, source)
        return Target(why=NO_ROOM) if target is None else Target(target, frozenset((target,)))

    def _why_none(self, next_hops: NextHops) -> str:
        whys = dict.fromkeys(filter(None, (self.resolve(hop)[1] for hop in next_hops)))
        no_room = self._dataplane.objects.room.wanted
        return "; ".join(whys) or (NO_ROOM if no_room else "an IPv6 route cannot have an IPv4 next hop")


def interface_of(host: Host, hop: NextHop, *, table: int, vrf: str = "") -> tuple[int, str]:
    """(interface index, "") of a next hop that can be reached in `table`, or (0, why it cannot)."""
    if hop.interface:
        return _scoped(host, hop, table, vrf)
    if not hop.address:
        return 0, "a next hop needs an address or an interface"
    if is_link_local(hop.address):
        return 0, f"link-local next hop {format_address(hop.address)} names no interface"
    if host.has_address(hop.address, vrf=vrf):
        return 0, f"next hop {format_address(hop.address)} is this host's own address"
    return _on_link(host, hop, table, vrf)


def _scoped(host: Host, hop: NextHop, table: int, vrf: str) -> tuple[int, str]:
    link = host.named(hop.interface)
    if link is None:
        return 0, f"interface {hop.interface} does not exist"
    if not link.up:
        return 0, f"interface {hop.interface} is down"
    owner = host.vrf_of(hop.interface)
    if owner != vrf:
        return 0, f"interface {hop.interface} is in {_named(owner)}, not in {_named(vrf)}"
    if host.bears(hop.interface, hop.address):
        return 0, f"next hop {format_address(hop.address)} is this host's own address on {hop.interface}"
    if not hop.address or is_link_local(hop.address):
        return link.index, ""
    return _on_link(host, hop, table, vrf)


def _on_link(host: Host, hop: NextHop, table: int, vrf: str) -> tuple[int, str]:
    """Longest connected prefix over the next hop; of equal ones the lowest interface index."""
    family, key = _host_key(hop.address)
    best: tuple[int, int] = (-1, 0)
    down = ""
    for place, name in host.attached(family, table, vrf=vrf):
        link = host.named(name)
        if not covers(place, key) or link is None or hop.interface not in ("", name):
            continue
        if link.up:
            best = max(best, (place[0], -link.index))
        else:
            down = name
    if best[0] >= 0:
        return -best[1], ""
    where = f" on {hop.interface}" if hop.interface else ""
    why = f"interface {down} is down" if down else f"no connected prefix{where} contains it"
    return 0, f"next hop {format_address(hop.address)} is unreachable: {why}"


def _named(vrf: str) -> str:
    return f"VRF {vrf}" if vrf else "the main table"


def _host_key(address: bytes) -> tuple[Family, bytes]:
    family = Family.IPV4_UNICAST if len(address) == 4 else Family.IPV6_UNICAST
    return family, bytes((len(address) * 8,)) + address
