"""Other programs' routes: our copy of what the kernel has, and events for its changes.

Routes are kept as the kernel keeps them: several may have one prefix, TOS and metric, and each is deleted on its own.
Each change is published once: a notification that repeats what is known makes no event. A new next hop is published
before an old one is removed, so that nobody sees the prefix without a route in between. A route that a dump lacks may
still exist: foreign_reader.py decides that. Sans-IO.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence

from bgpd.kernel.nexthop_messages import NexthopObject
from bgpd.kernel.route_decoder import Hop, expand
from bgpd.model.iana import Family
from bgpd.model.kernel import KernelRoute, RouteChanged

Place = tuple[Family, int, bytes]
"""Family, kernel table, key."""
Routes = tuple[KernelRoute, ...]
_MAIN = 254


class ForeignRoutes:
    """`routes` by place, in the kernel's order as far as known; those by nexthop objects as the ways these lead.

    `publish` is called with each change, `doubted` with an interface (and family) whose routes should be read again,
    since a message can mean several things. `name_of` names an interface.
    """

    def __init__(
        self,
        publish: Callable[[RouteChanged], None],
        *,
        name_of: Callable[[int], str] = lambda _index: "",
        doubted: Callable[[Family, str], None] = lambda _family, _interface: None,
    ) -> None:
        self.routes: dict[Place, Routes] = {}
        self.nexthops: dict[int, NexthopObject] = {}
        self._publish = publish
        self._name_of = name_of
        self._doubted = doubted
        self._touched: set[object] | None = None
        self._elsewhere: dict[int, dict[Place, None]] = {}
        self._by_nexthop: dict[int, set[Place]] = {}

    def events(self) -> Iterator[RouteChanged]:
        """All that is, as events."""
        for route in [route for routes in self.routes.values() for route in routes]:
            yield RouteChanged(route)

    def of_table(self, table: int) -> list[KernelRoute]:
        """All of one kernel table."""
        if table == _MAIN:
            return [route for place, routes in self.routes.items() if place[1] == table for route in routes]
        return [route for place in self._elsewhere.get(table, ()) for route in self.routes[place]]

    def at(self, place: Place) -> Routes:
        """All of one prefix in one table."""
        return self.routes.get(place, ())

    # What the kernel notifies.

    def changed(self, ways: Routes, *, gone: bool = False, replaces: bool = False, appends: bool = False) -> None:
        """A notification about a route: the ways of one message.

        `replaces`, `appends`: it bears NLM_F_REPLACE or NLM_F_APPEND. The kernel replaces the first of several routes
        of one TOS and metric.
        """
        first = ways[0]
        place = (first.family, first.table, first.key)
        if self._touched is not None:
            self._touched.add(place)
        before = self.routes.get(place, ())
        if first.nexthop and not gone:
            ways = expand(ways, self.hops_of)
        if not before and not gone:
            self._set(place, (), ways)
            return
        rest = list(before)
        if gone:
            for way in ways:
                _take_out(rest, way)
        elif replaces:
            self._replace(rest, ways)
        else:
            if first.family is Family.IPV6_UNICAST:
                self._rename(rest, ways)
            _add(rest, ways, before_others=not appends and first.family is Family.IPV4_UNICAST)
        self._set(place, before, tuple(rest))

    def _rename(self, rest: list[KernelRoute], ways: Routes) -> None:
        """Match IPv6 next hops ignoring the protocol: the kernel reports a multipath route of several with one of them.

        Until a dump decides, a known next hop takes the reported protocol.
        """
        for at, known in enumerate(rest):
            same = next((way for way in ways if not way.nexthop and _identity(way) == _identity(known)), known)
            if same != known:
                rest[at] = same
                self._doubted(same.family, same.interface)

    def _replace(self, rest: list[KernelRoute], ways: Routes) -> None:
        first = ways[0]
        rivals = [one for one in rest if (one.tos, one.metric) == (first.tos, first.metric)]
        if not rivals:
            rest.extend(ways)
            return
        replaced = _same_route(rivals)
        at = rest.index(replaced[0])
        for one in replaced:
            rest.remove(one)
        known = [way for way in ways if way not in rest]
        rest[at:at] = known
        if len(rivals) > len(replaced):
            for one in (*rivals, *ways):
                self._doubted(one.family, one.interface)

    def nexthop(self, found: NexthopObject, *, gone: bool = False) -> None:
        """A notification about another program's nexthop object; `gone`: its routes were deleted with it."""
        if self._touched is not None:
            self._touched.add(found.id)
        if gone:
            self.nexthops.pop(found.id, None)
        else:
            self.nexthops[found.id] = found
        self._nexthops_changed({found.id})

    def hops_of(self, identifier: int) -> list[Hop] | None:
        """Where a nexthop object leads to now."""
        return hops_of(self.nexthops, identifier, self._name_of)

    def _nexthops_changed(self, changed: set[int]) -> None:
        if not self._by_nexthop:
            return
        groups = {one.id for one in self.nexthops.values() if any(member in changed for member, _weight in one.members)}
        for identifier in (changed | groups) & self._by_nexthop.keys():
            for place in list(self._by_nexthop[identifier]):
                before = self.routes[place]
                if self._touched is not None:
                    self._touched.add(place)
                self._set(place, before, self._led_anew(before, identifier))

    def _led_anew(self, before: Routes, identifier: int) -> Routes:
        """The routes at a place after one of their nexthop objects changed."""
        hops = self.hops_of(identifier)
        after = [one for one in before if one.nexthop != identifier]
        if hops is not None:
            seen: set[KernelRoute] = set()
            for one in before:
                bare = _bare(one)
                if one.nexthop == identifier and bare not in seen:
                    seen.add(bare)
                    after += expand((bare,), lambda _identifier: hops)
        return tuple(after)

    # What a reading found.

    def begin_reading(self) -> dict[Place, Routes]:
        """A reading starts: what is notified until `settle` is newer than it. Answers what is known, as a copy."""
        self._touched = set()
        return self.routes.copy()

    def settle(self, changes: Mapping[Place, Routes], nexthops: Mapping[int, NexthopObject] | None = None) -> None:
        """Apply the differences that a dump found: the present routes of these places."""
        touched, self._touched = self._touched or set(), None
        for place, after in changes.items():
            before = self.routes.get(place, ())
            if place not in touched:
                self._set(place, before, after)
            else:
                for one in (*before, *after):
                    self._doubted(one.family, one.interface)
        if nexthops is not None:
            self._settle_nexthops(nexthops, touched)

    def _settle_nexthops(self, read: Mapping[int, NexthopObject], touched: Container[object]) -> None:
        known = self.nexthops
        changed = {one for one in known.keys() | read.keys() if known.get(one) != read.get(one) and one not in touched}
        for identifier in changed:
            if identifier in read:
                known[identifier] = read[identifier]
            else:
                del known[identifier]
        self._nexthops_changed(changed)

    def _set(self, place: Place, before: Routes, after: Routes) -> None:
        if before == after:
            return
        if after:
            self.routes[place] = after
        else:
            del self.routes[place]
        if place[1] != _MAIN:
            self._note_table(place, present=bool(after))
        left = list(before)
        for route in after:
            if route in left:
                left.remove(route)
            else:
                self._publish(RouteChanged(route))
        for route in left:
            self._publish(RouteChanged(route, gone=True))
        for route in before:
            if route.nexthop:
                self._leave_nexthop(route.nexthop, place)
        for route in after:
            if route.nexthop:
                self._by_nexthop.setdefault(route.nexthop, set()).add(place)

    def _note_table(self, place: Place, *, present: bool) -> None:
        """Who asks for a VRF's table does not walk through all routes. Of the main table, which has most, all know."""
        if present:
            self._elsewhere.setdefault(place[1], {})[place] = None
            return
        places = self._elsewhere[place[1]]
        del places[place]
        if not places:
            del self._elsewhere[place[1]]

    def _leave_nexthop(self, identifier: int, place: Place) -> None:
        places = self._by_nexthop.get(identifier)
        if places is not None:
            places.discard(place)
            if not places:
                del self._by_nexthop[identifier]


def hops_of(nexthops: Mapping[int, NexthopObject], identifier: int, name_of: Callable[[int], str]) -> list[Hop] | None:
    """Where a nexthop object leads to: interface and gateway of each member; None if it is unknown."""
    found = nexthops.get(identifier)
    if found is None:
        return None
    members = [nexthops[member] for member, _weight in found.members if member in nexthops] or [found]
    return [(name_of(one.ifindex), one.gateway) for one in members if one.ifindex]


def difference(
    known: Sequence[KernelRoute], found: Sequence[KernelRoute]
) -> tuple[list[KernelRoute], list[KernelRoute]]:
    """(what is known and not found, what is found and not known), each counted as often as it is there."""
    lacking = list(known)
    new = []
    for route in found:
        if route in lacking:
            lacking.remove(route)
        else:
            new.append(route)
    return lacking, new


def _take_out(rest: list[KernelRoute], way: KernelRoute) -> None:
    """Remove one next hop; among candidates equal but for source and MTU (the kernel may change these), the first."""
    if way.nexthop:
        rest[:] = [one for one in rest if _identity(_bare(one)) != _identity(way)]
    elif way in rest:
        rest.remove(way)
    else:
        alike = next((one for one in rest if _identity(one) == _identity(way)), None)
        if alike is not None:
            rest.remove(alike)


def _add(rest: list[KernelRoute], ways: Iterable[KernelRoute], *, before_others: bool) -> None:
    new = [way for way in ways if way not in rest]
    if not new:
        return
    at = len(rest)
    if before_others:
        rivals = [i for i, one in enumerate(rest) if (one.tos, one.metric) == (new[0].tos, new[0].metric)]
        at = rivals[0] if rivals else at
    rest[at:at] = new


def _same_route(rivals: list[KernelRoute]) -> list[KernelRoute]:
    """The first of these routes, with all its next hops."""
    first = rivals[0]
    if first.nexthop:
        return [one for one in rivals if one.nexthop == first.nexthop]
    if first.multipath:
        return [one for one in rivals if one.multipath and not one.nexthop]
    if first.gateway and first.family is Family.IPV6_UNICAST:
        return [one for one in rivals if one.gateway and not one.nexthop]
    return [first]


def _bare(route: KernelRoute) -> KernelRoute:
    """A way of a route by a nexthop object as the kernel's message has it."""
    if not route.nexthop:
        return route
    return KernelRoute(
        family=route.family,
        key=route.key,
        table=route.table,
        protocol=route.protocol,
        metric=route.metric,
        tos=route.tos,
        nexthop=route.nexthop,
        source=route.source,
        details=route.details,
    )


def _identity(route: KernelRoute) -> tuple[int, int, int, str, bytes, int]:
    """The fields that the kernel never changes silently: it may drop a preferred source address, and set an MTU.

    Two IPv6 routes never differ in protocol alone.
    """
    protocol = 0 if route.family is Family.IPV6_UNICAST and not route.nexthop else route.protocol
    return route.tos, route.metric, protocol, route.interface, route.gateway, route.nexthop
