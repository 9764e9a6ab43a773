"""Follows the kernel: links, addresses and routes, first as they are, then as they change.

Decides nothing: it tells subscribers what is (model.kernel values). Routes of others are followed by
route_monitor.py. Events that the kernel could not deliver (ENOBUFS) are made up for by reading all again. bgpd's own
writes do not come back: a classic BPF filter drops what bears a writer's port id.

What the kernel is known to hold, and the events that lead from one state to the next. Sans-IO.

Says each change once: a notification that repeats what is known makes no event.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import socket
import struct
from collections.abc import Callable, Iterable, Iterator
from itertools import chain

import msgspec
import structlog

from bgpd.kernel.foreign_messages import read_routes
from bgpd.kernel.link_messages import encode_dump_request, read_address, read_link
from bgpd.kernel.netlink import DumpInterrupted, MessageFlag, MessageKind, dump, messages, open_socket
from bgpd.kernel.nexthop_messages import read_object
from bgpd.kernel.route_monitor import RouteMonitor
from bgpd.model.kernel import (
    Address,
    AddressChanged,
    KernelEvent,
    KernelResynchronised,
    KernelRoute,
    Link,
    LinkChanged,
)


class KernelSnapshot(msgspec.Struct):
    """One reading of the kernel's tables."""

    links: dict[int, Link] = {}
    addresses: list[Address] = []

    def name_of(self, index: int) -> str:
        """Interface name of an index, "" if unknown."""
        link = self.links.get(index)
        return link.name if link else ""


class KernelState:
    """Links by index, addresses by (interface, packed, prefix length)."""

    def __init__(self, publish: Callable[[KernelEvent], None]) -> None:
        self.links: dict[int, Link] = {}
        self.addresses: dict[tuple[str, bytes, int], Address] = {}
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

    def begin_reading(self) -> None:
        """A reading of the tables starts: what is notified until `replace` is newer than it."""
        self._reading = True
        self._touched.clear()

    def replace(self, snapshot: KernelSnapshot) -> None:
        """Take over a reading: publishes the differences, links first, then addresses; gone ones first."""
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
_REPLACE = int(MessageFlag.REPLACE)
_APPEND = int(MessageFlag.APPEND)
_SO_ATTACH_FILTER = 26
_DUMP_TRIES = 20
_REFRESH_DELAY_S = 0.1
"""What follows a link's fall has the CPU first."""
_UNREAD_PAUSE_S = 1.0


class KernelMonitor:
    """Links, addresses and foreign routes of the network namespace that `start` is called in.

    `own_protocol`: routes of this rtproto are bgpd's; others' changes to them go to `own_route_changed` only. `routes`
    are the others', compared with the kernel every `interval_s`.
    `events_told`: called when what could be read at once was told, for who acts on several events together.
    """

    def __init__(self, *, own_protocol: int = 197, interval_s: float = 60.0) -> None:
        self.state = KernelState(self._publish)
        self._route_monitor = RouteMonitor(
            self._publish,
            own_protocol=own_protocol,
            interval_s=interval_s,
            names=lambda: {link.index: link.name for link in self.state.links.values()},
            name_of=self.state.name_of,
            looked=self._routes_read,
        )
        self.routes = self._route_monitor.routes
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
        self.state.replace(await self._loop.run_in_executor(None, self._read_tables))
        await self._route_monitor.start()
        self._socket.setblocking(False)
        self._loop.add_reader(self._socket.fileno(), self._readable)

    async def stop(self) -> None:
        """Stop following."""
        self._loop.remove_reader(self._socket.fileno())
        if self._refreshing is not None:
            self._refreshing.cancel()
            await asyncio.gather(self._refreshing, return_exceptions=True)
        await self._route_monitor.stop()
        self._socket.close()
        self._dump_socket.close()

    def subscribe(self, subscriber: Subscriber, *, replay: bool = False) -> None:
        """Call `subscriber` for each event from now on; with `replay` first for all that is now."""
        self._subscribers.append(subscriber)
        if replay:
            for event in chain(self.state.events(), self.routes.events()):
                subscriber(event)

    def ignore(self, ports: Iterable[int]) -> None:
        """Drop what the sockets of these netlink port ids caused: bgpd's own writes."""
        self._ignored.update(ports)
        self._apply_filter()

    def _publish(self, event: KernelEvent) -> None:
        if isinstance(event, LinkChanged):
            self._route_monitor.link_changed(event.link.name)
            if event.gone or not event.link.up:
                self._refresh()
        elif isinstance(event, AddressChanged) and event.gone:
            self._route_monitor.address_gone(event.address)
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
                ways = read_routes(data, start, end, self.state.name_of)
                if not ways:
                    continue
                if ways[0].protocol == self._own_protocol:
                    for callback in self.own_route_changed:
                        callback(ways[0], kind == _DEL_ROUTE)
                else:
                    self.routes.changed(
                        ways, gone=kind == _DEL_ROUTE, replaces=bool(flags & _REPLACE), appends=bool(flags & _APPEND)
                    )
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
            case MessageKind.NEW_NEXTHOP | MessageKind.DEL_NEXTHOP:
                found = read_object(data, start, end)
                if found.protocol != self._own_protocol:
                    self.routes.nexthop(found, gone=kind == MessageKind.DEL_NEXTHOP)
                elif kind == MessageKind.DEL_NEXTHOP:
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
            try:
                self.state.replace(await self._loop.run_in_executor(None, self._read_tables))
            except OSError as error:
                log.warning("kernel.links_not_read", error=str(error))
                self._stale = True
                await asyncio.sleep(_UNREAD_PAUSE_S)
                continue
            if self._lost:
                self._route_monitor.look_at_all()

    def _routes_read(self) -> None:
        if self._lost:
            self._lost = False
            self._publish(KernelResynchronised())

    def _read_tables(self) -> KernelSnapshot:
        """Links and addresses; runs in a worker thread, on a socket of its own."""
        for _ in range(_DUMP_TRIES):
            try:
                return self._try_read_tables()
            except DumpInterrupted:
                continue
        raise OSError(errno.EBUSY, f"the kernel's tables changed during each of {_DUMP_TRIES} dumps")

    def _try_read_tables(self) -> KernelSnapshot:
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
        return snapshot


def _instruction(code: int, if_true: int, if_false: int, operand: int) -> bytes:
    """One classic BPF instruction (struct sock_filter)."""
    return struct.pack("=HBBI", code, if_true, if_false, operand)
