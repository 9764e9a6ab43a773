"""What the kernel is known to hold, and the events that lead from one state to the next. Sans-IO.

Says each change once: a notification that repeats what is known makes no event.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec

from bgpd.model.iana import Family
from bgpd.model.kernel import Address, AddressChanged, KernelEvent, KernelRoute, Link, LinkChanged, RouteChanged

_Place = tuple[Family, int, bytes]


class KernelSnapshot(msgspec.Struct):
    """One reading of the kernel's tables."""

    links: dict[int, Link] = {}
    addresses: list[Address] = []
    routes: list[KernelRoute] = []

    def name_of(self, index: int) -> str:
        """Interface name of an index, "" if unknown."""
        link = self.links.get(index)
        return link.name if link else ""


class KernelState:
    """Links by index, addresses by (interface, packed, prefix length), routes by (family, table, key)."""

    def __init__(self, publish: Callable[[KernelEvent], None]) -> None:
        self.links: dict[int, Link] = {}
        self.addresses: dict[tuple[str, bytes, int], Address] = {}
        self.routes: dict[_Place, tuple[KernelRoute, ...]] = {}
        self._publish = publish
        self._touched: set[object] = set()
        self._reading = False

    def name_of(self, index: int) -> str:
        """Interface name of an index, "" if unknown."""
        link = self.links.get(index)
        return link.name if link else ""

    def events(self) -> Iterator[KernelEvent]:
        """All that is, as events."""
        yield from [LinkChanged(link) for link in self.links.values()]
        yield from [AddressChanged(address) for address in self.addresses.values()]
        yield from [RouteChanged(route) for routes in self.routes.values() for route in routes]

    def link(self, link: Link, *, gone: bool) -> None:
        """A notification about a link; a renamed one is gone by its old name first."""
        self._touch(link.index)
        before = self.links.get(link.index)
        if gone:
            if self.links.pop(link.index, None) is not None:
                self._publish(LinkChanged(link, gone=True))
            return
        if before == link:
            return
        if before is not None and before.name != link.name:
            self._publish(LinkChanged(before, gone=True))
        self.links[link.index] = link
        self._publish(LinkChanged(link))

    def address(self, address: Address, *, gone: bool) -> None:
        """A notification about an address."""
        place = (address.interface, address.packed, address.prefix_length)
        self._touch(place)
        if gone:
            if self.addresses.pop(place, None) is not None:
                self._publish(AddressChanged(address, gone=True))
        elif self.addresses.get(place) != address:
            self.addresses[place] = address
            self._publish(AddressChanged(address))

    def route(self, route: KernelRoute, *, gone: bool, replaces: bool = False) -> None:
        """A notification about a route. `replaces`: NLM_F_REPLACE was given, others of its metric are gone."""
        place = (route.family, route.table, route.key)
        self._touch(place)
        before = self.routes.get(place, ())
        if not before and not gone:
            self.routes[place] = (route,)
            self._publish(RouteChanged(route))
            return
        if gone:
            after = tuple(other for other in before if other != route)
        else:
            kept = (other for other in before if other != route and not (replaces and other.metric == route.metric))
            after = (*kept, route)
        self._set_routes(place, before, after)

    def begin_reading(self) -> None:
        """A reading of the tables starts: what is notified until `replace` is newer than it."""
        self._reading = True
        self._touched.clear()

    def replace(self, snapshot: KernelSnapshot) -> None:
        """Take over a reading: publishes the differences, in the order links, addresses, routes; gone ones first."""
        self._reading = False
        touched, self._touched = self._touched, set()
        for index in self.links.keys() - snapshot.links.keys() - touched:
            self.link(self.links[index], gone=True)
        for link in snapshot.links.values():
            if link.index not in touched:
                self.link(link, gone=False)
        addresses = {(found.interface, found.packed, found.prefix_length): found for found in snapshot.addresses}
        for place in self.addresses.keys() - addresses.keys() - touched:
            self.address(self.addresses[place], gone=True)
        for place, address in addresses.items():
            if place not in touched:
                self.address(address, gone=False)
        routes: dict[_Place, tuple[KernelRoute, ...]] = {}
        for route in snapshot.routes:
            at = (route.family, route.table, route.key)
            routes[at] = (*routes.get(at, ()), route)
        for at in (self.routes.keys() | routes.keys()) - touched:
            self._set_routes(at, self.routes.get(at, ()), routes.get(at, ()))

    def _set_routes(self, place: _Place, before: tuple[KernelRoute, ...], after: tuple[KernelRoute, ...]) -> None:
        if set(before) == set(after):
            return
        if after:
            self.routes[place] = after
        else:
            del self.routes[place]
        for route in before:
            if route not in after:
                self._publish(RouteChanged(route, gone=True))
        for route in after:
            if route not in before:
                self._publish(RouteChanged(route))

    def _touch(self, place: object) -> None:
        if self._reading:
            self._touched.add(place)
