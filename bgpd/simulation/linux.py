"""Routes and nexthop objects as Linux keeps them, by the very bytes that bgpd sends: what is refused, what goes with
what."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping

from bgpd.config.schema import FibConfig
from bgpd.kernel.netlink import U32, KernelError, MessageFlag, MessageKind, attributes, messages
from bgpd.kernel.nexthop_messages import NexthopObject, read_id, read_objects
from bgpd.kernel.route_decoder import RouteRun
from bgpd.kernel.route_messages import (
    RTA_GATEWAY,
    RTA_MULTIPATH,
    RTA_NH_ID,
    RTA_OIF,
    RTA_PRIORITY,
    RTA_TABLE,
    RTMSG,
    RTN_BLACKHOLE,
    RTN_UNREACHABLE,
    RTNEXTHOP,
    UNKNOWN,
    RouteForm,
    read_key,
)
from bgpd.kernel.writer import Outcome
from bgpd.model.iana import Family
from bgpd.model.kernel import Link

Place = tuple[Family, int, bytes, int]
PROTOCOL, METRIC = FibConfig().protocol, FibConfig().metric
BLACKHOLE = 0
"""Target of a route that drops what it is for."""
_WITHOUT_INTERFACE = {RTN_BLACKHOLE: BLACKHOLE, RTN_UNREACHABLE: UNKNOWN}
FOREIGN = -(1 << 20)
"""Target of a route of another program: it leads to where none of bgpd's does."""


def _gateways(found: Mapping[int, bytes]) -> Iterator[tuple[bytes, int]]:
    """Those that the attributes of a route name, with the indexes of their interfaces."""
    if RTA_GATEWAY in found:
        yield found[RTA_GATEWAY], U32.unpack(found[RTA_OIF])[0]
    hops, at = found.get(RTA_MULTIPATH, b""), 0
    while at < len(hops):
        length, _flags, _weight, index = RTNEXTHOP.unpack_from(hops, at)
        yield attributes(hops, at + RTNEXTHOP.size, at + length)[RTA_GATEWAY], index
        at += length


class LinuxTables:
    """`routes`: (family, table, key, metric) -> (protocol, target) of the first route there; `objects`: nexthop objects
    by id. `behind`: further routes of the same prefix and metric, in the kernel's order. A target is a nexthop object,
    or the index of an interface with a minus, or BLACKHOLE, or UNKNOWN for what is unreachable.

    `refuse`: error numbers by key; `refuse_resilient`: one for resilient groups; `refuse_gateways`: those that are no
    host's, as a broadcast address. Not `permitted`, it refuses all.
    """

    def __init__(self) -> None:
        self.routes: dict[Place, tuple[int, int]] = {}
        self.behind: dict[Place, list[tuple[int, int]]] = {}
        self.objects: dict[int, NexthopObject] = {}
        self.gateways: dict[Place, frozenset[tuple[bytes, int]]] = {}
        """Of routes that name gateways, without a nexthop object: packed addresses and indexes of interfaces."""
        self.links: dict[int, Link] = {}
        self.refuse: dict[bytes, int] = {}
        self.refuse_resilient = 0
        self.refuse_gateways: set[bytes] = set()
        self.permitted = True

    def routes_of(self, family: Family, form: RouteForm) -> list[RouteRun]:
        """What a dump answers: a run for each route."""
        return [
            RouteRun(family, place[1], protocol, 1, [place[2]], [target], [place[3]])
            for place in self.routes
            for protocol, target in self._stack(place)
            if place[0] is family and form.table in (0, place[1]) and form.protocol in (0, protocol)
        ]

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
                self._ran(kind, identifier)
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
        if found.gateway in self.refuse_gateways:
            return errno.EINVAL
        if found.resilient and self.refuse_resilient:
            return self.refuse_resilient
        if found.members and found.id in self.objects and self.objects[found.id].resilient is not found.resilient:
            return errno.EINVAL
        if found.ifindex and not self.links[found.ifindex].up:
            return errno.ENETDOWN
        self._ran(MessageKind.NEW_NEXTHOP, found.id)
        is_other = found.id in self.objects
        self.objects[found.id] = found
        if is_other:
            self._regrouped()
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
                named = BLACKHOLE
            if not self._remove(place, protocol, named):
                return errno.ESRCH
            self._ran(kind, key)
            return 0
        if key in self.refuse:
            return self.refuse[key]
        if RTA_NH_ID in found:
            (target,) = U32.unpack(found[RTA_NH_ID])
            if target not in self.objects:
                return errno.EINVAL
        else:
            has_none = request[23] in _WITHOUT_INTERFACE
            gateways = frozenset(_gateways(found))
            index = next((index for _gateway, index in gateways), 0) or U32.unpack(found.get(RTA_OIF, bytes(4)))[0]
            target = _WITHOUT_INTERFACE[request[23]] if has_none else -index
            if not has_none and not self.links[-target].up:
                return errno.ENETDOWN
            if gateways:
                self.gateways[place] = gateways
        error = self._add(place, (protocol, target), flags)
        if not error:
            self._ran(kind, key)
        return error

    def _add(self, place: Place, route: tuple[int, int], flags: int) -> int:
        """As fib_table_insert and fib6_add_rt2node do: IPv6 takes a route by the same next hop for an equal one,
        whoever made it. REPLACE takes the place of the first, whoever made that.
        """
        stack = self._stack(place)
        if not stack:
            self._set_first(place, route)
            return 0
        if flags & MessageFlag.EXCLUSIVE:
            return errno.EEXIST
        if flags & MessageFlag.REPLACE:
            self._set_first(place, route)
            return 0
        ipv6 = place[0] is Family.IPV6_UNICAST
        if route in stack or (ipv6 and route[1] in [target for _protocol, target in stack]):
            return errno.EEXIST
        self.behind.setdefault(place, []).append(route)
        return 0

    def _set_first(self, place: Place, route: tuple[int, int] | None) -> None:
        if route is None:
            del self.routes[place]
        else:
            self.routes[place] = route

    def _stack(self, place: Place) -> list[tuple[int, int]]:
        return [self.routes[place], *self.behind.get(place, ())] if place in self.routes else []

    def _remove(self, place: Place, protocol: int, target: int | None) -> bool:
        """Remove the first route of a protocol, by a target if one is named; the next takes its place. For a deletion
        that names another target than a nexthop object, IPv6 also takes a route by any object (ip6_route_del).
        """
        stack = self._stack(place)
        is_vague = place[0] is Family.IPV6_UNICAST and target is not None and target <= 0
        for index, (of, found) in enumerate(stack):
            if of == protocol and (target in (None, found) or (is_vague and found > 0)):
                del stack[index]
                self._set_stack(place, stack)
                return True
        return False

    def _set_stack(self, place: Place, stack: list[tuple[int, int]]) -> None:
        self.behind.pop(place, None)
        self._set_first(place, stack[0] if stack else None)
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
                self._regrouped()
                if not left:
                    self._destroy(group.id)
        self._flush(identifier)

    def _regrouped(self) -> None:
        """A nexthop object that routes may use leads elsewhere."""

    def _ran(self, kind: MessageKind, what: object) -> None:
        """A request has changed something: a nexthop object's id, or a route's key."""
