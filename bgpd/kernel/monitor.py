"""Follows the kernel: links, addresses and routes, first as they are, then as they change.

Decides nothing: it tells subscribers what is (model.kernel values). Events that the kernel could not deliver
(ENOBUFS), and IPv4 routes that it flushes without a word when a link goes down, are found by reading the tables
again. bgpd's own writes do not come back: a classic BPF filter drops what bears a writer's port id.

What the kernel is known to hold, and the events that lead from one state to the next. Sans-IO.

Says each change once: a notification that repeats what is known makes no event.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import socket
import struct
import time
from collections.abc import Callable, Iterable, Iterator

import msgspec
import structlog

from bgpd.kernel.link_messages import encode_dump_request, read_address, read_foreign_routes, read_link, read_route
from bgpd.kernel.netlink import DumpInterrupted, MessageKind, dump, messages, open_socket
from bgpd.model.iana import Family
from bgpd.model.kernel import (
    Address,
    AddressChanged,
    KernelEvent,
    KernelResynchronised,
    KernelRoute,
    Link,
    LinkChanged,
    RouteChanged,
)

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


log = structlog.get_logger()

Subscriber = Callable[[KernelEvent], None]
_GROUPS = (1, 5, 7, 8, 9, 11, 19, 32)
"""RTNLGRP_LINK, IPV4_IFADDR, IPV4_ROUTE, IPV4_RULE, IPV6_IFADDR, IPV6_ROUTE, IPV6_RULE, NEXTHOP."""
_RECEIVE_BYTES = 32 << 20
_DATAGRAMS_PER_STEP = 128
_DEL_ROUTE = int(MessageKind.DEL_ROUTE)
_ROUTES = (int(MessageKind.NEW_ROUTE), _DEL_ROUTE)
"""Of nearly all messages; plain numbers compare faster."""
_SO_ATTACH_FILTER = 26
_DUMP_TRIES = 20
_REFRESH_DELAY_S = 0.1
"""What follows a link's fall has the CPU first."""
_DATAGRAM_PAUSE_S = 0.0002
"""Between the datagrams of a dump that is read beside a working loop. Reading one releases the GIL so often and so
briefly that a loop that waits for it would, with bad luck, not get it for 100 ms."""


class KernelMonitor:
    """Links, addresses and foreign routes of the network namespace that `start` is called in.

    `own_protocol`: routes of this rtproto are bgpd's; others' changes to them go to `own_route_changed` only.
    `events_told`: called when what could be read at once was told, for who acts on several events together.
    """

    def __init__(self, *, own_protocol: int = 197) -> None:
        self.state = KernelState(self._publish)
        self.resynchronised = 0
        self.own_route_changed: list[Callable[[KernelRoute, bool], None]] = []
        self.nexthop_deleted: list[Callable[[], None]] = []
        self.rules_changed: list[Callable[[], None]] = []
        self.events_told: list[Callable[[], None]] = []
        self._own_protocol = own_protocol
        self._subscribers: list[Subscriber] = []
        self._ignored: set[int] = set()
        self._refreshing: asyncio.Task[None] | None = None
        self._lost = False
        self._stale = False

    async def start(self) -> None:
        """Join the kernel's groups, read what is, then follow.

        Raises: OSError: the kernel refused.
        """
        self._loop = asyncio.get_running_loop()
        self._socket = open_socket(receive_bytes=_RECEIVE_BYTES, groups=_GROUPS)
        self._dump_socket = open_socket(receive_bytes=_RECEIVE_BYTES)
        self._dump_socket.settimeout(30)
        self._apply_filter()
        snapshot = await self._loop.run_in_executor(None, self._read_tables, 0.0)
        self.state.replace(snapshot)
        self._socket.setblocking(False)
        self._loop.add_reader(self._socket.fileno(), self._readable)

    async def stop(self) -> None:
        """Stop following."""
        self._loop.remove_reader(self._socket.fileno())
        if self._refreshing is not None:
            self._refreshing.cancel()
            await asyncio.gather(self._refreshing, return_exceptions=True)
        self._socket.close()
        self._dump_socket.close()

    def subscribe(self, subscriber: Subscriber, *, replay: bool = False) -> None:
        """Call `subscriber` for each event from now on; with `replay` first for all that is now."""
        self._subscribers.append(subscriber)
        if replay:
            for event in self.state.events():
                subscriber(event)

    def ignore(self, ports: Iterable[int]) -> None:
        """Drop what the sockets of these netlink port ids caused: bgpd's own writes."""
        self._ignored.update(ports)
        self._apply_filter()

    def _publish(self, event: KernelEvent) -> None:
        if isinstance(event, LinkChanged) and (event.gone or not event.link.up):
            self._refresh()
        for subscriber in self._subscribers:
            subscriber(event)

    def _apply_filter(self) -> None:
        if not self._ignored:
            return
        drop = len(self._ignored)
        code = [_instruction(0x20, 0, 0, 12)]
        for index, port in enumerate(sorted(self._ignored)):
            code.append(_instruction(0x15, drop - index, 0, socket.htonl(port)))
        code += [_instruction(0x06, 0, 0, 0xFFFFFFFF), _instruction(0x06, 0, 0, 0)]
        program = ctypes.create_string_buffer(b"".join(code))
        self._socket.setsockopt(
            socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("@HP", len(code), ctypes.addressof(program))
        )

    def _readable(self) -> None:
        self._read_some()
        for callback in self.events_told:
            callback()

    def _read_some(self) -> None:
        for _ in range(_DATAGRAMS_PER_STEP):
            try:
                data = self._socket.recv(1 << 16)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                self.resynchronised += 1
                log.warning("kernel.events_lost", resynchronised=self.resynchronised)
                self._lost = True
                self._refresh()
                return
            self._read(data)

    def _read(self, data: bytes) -> None:
        for kind, flags, _sequence, start, end in messages(data):
            if kind in _ROUTES:
                route = read_route(data, start, end, self.state.name_of)
                if route is None:
                    continue
                if route.protocol == self._own_protocol:
                    for callback in self.own_route_changed:
                        callback(route, kind == _DEL_ROUTE)
                else:
                    self.state.route(route, gone=kind == _DEL_ROUTE, replaces=bool(flags & 0x100))
            else:
                self._read_other(kind, data, start, end)

    def _read_other(self, kind: int, data: bytes, start: int, end: int) -> None:
        match kind:
            case MessageKind.NEW_LINK | MessageKind.DEL_LINK:
                if data[start] == socket.AF_UNSPEC:
                    link = read_link(data, start, end, self.state.name_of)
                    self.state.link(link, gone=kind == MessageKind.DEL_LINK)
            case MessageKind.NEW_ADDRESS | MessageKind.DEL_ADDRESS:
                address = read_address(data, start, end, self.state.name_of)
                self.state.address(address, gone=kind == MessageKind.DEL_ADDRESS)
            case MessageKind.DEL_NEXTHOP:
                for notify in self.nexthop_deleted:
                    notify()
            case MessageKind.NEW_RULE | MessageKind.DEL_RULE:
                for notify in self.rules_changed:
                    notify()

    def _refresh(self) -> None:
        """Read all tables again, soon; one reading at a time, and one more if something happened during it."""
        self._stale = True
        if self._refreshing is None or self._refreshing.done():
            self._refreshing = self._loop.create_task(self._read_again())

    async def _read_again(self) -> None:
        while self._stale:
            await asyncio.sleep(_REFRESH_DELAY_S)
            self._stale = False
            self.state.begin_reading()
            snapshot = await self._loop.run_in_executor(None, self._read_tables, _DATAGRAM_PAUSE_S)
            self.state.replace(snapshot)
            if self._lost:
                self._lost = False
                self._publish(KernelResynchronised())

    def _read_tables(self, pause_s: float) -> KernelSnapshot:
        """Links, addresses and foreign routes; runs in a worker thread, on a socket of its own."""
        for _ in range(_DUMP_TRIES):
            try:
                return self._try_read_tables(pause_s)
            except DumpInterrupted:
                continue
        raise OSError(errno.EBUSY, f"the kernel's tables changed during each of {_DUMP_TRIES} dumps")

    def _try_read_tables(self, pause_s: float) -> KernelSnapshot:
        snapshot = KernelSnapshot()
        links = list(dump(self._dump_socket, encode_dump_request(MessageKind.GET_LINK)))
        for data in (*links, *links):  # a link may come before the VRF device that its reading names
            for kind, _flags, _sequence, start, end in messages(data):
                if kind == MessageKind.NEW_LINK:
                    link = read_link(data, start, end, snapshot.name_of)
                    snapshot.links[link.index] = link
        for data in dump(self._dump_socket, encode_dump_request(MessageKind.GET_ADDRESS)):
            for kind, _flags, _sequence, start, end in messages(data):
                if kind == MessageKind.NEW_ADDRESS:
                    snapshot.addresses.append(read_address(data, start, end, snapshot.name_of))
        for family in (socket.AF_INET, socket.AF_INET6):
            for data in dump(self._dump_socket, encode_dump_request(MessageKind.GET_ROUTE, family)):
                snapshot.routes.extend(read_foreign_routes(data, self._own_protocol, snapshot.name_of))
                time.sleep(pause_s)
        return snapshot


def _instruction(code: int, if_true: int, if_false: int, operand: int) -> bytes:
    """One classic BPF instruction (struct sock_filter)."""
    return struct.pack("=HBBI", code, if_true, if_false, operand)
