"""Follows the kernel: links, addresses and routes, first as they are, then as they change.

Subscribers get events (model.kernel values); it decides nothing. host.py keeps links and addresses, which are compared
with a dump after each burst of events. foreign_monitor.py follows other programs' routes. When the kernel could not
deliver events (ENOBUFS), everything is read again. Notifications of bgpd's own writes are dropped by a classic BPF
filter on the writers' port ids.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import functools
import socket
import struct
from collections.abc import Callable, Collection, Iterable
from time import monotonic

from bgpd.kernel.foreign_monitor import ForeignMonitor
from bgpd.kernel.host import Host
from bgpd.kernel.link_messages import encode_dump_request, read_address, read_link
from bgpd.kernel.netlink import DumpInterrupted, MessageFlag, MessageKind, dump, messages, open_socket
from bgpd.kernel.nexthop_messages import NexthopObject, read_object
from bgpd.kernel.route_decoder import read_routes
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
from bgpd.runtime.background import start_in_background
from bgpd.runtime.events import log
from bgpd.runtime.rates import Share

_Reading = tuple[list[Link], list[Address]]
Subscriber = Callable[[KernelEvent], None]
_GROUPS = (1, 5, 7, 8, 9, 11, 19, 32)
"""RTNLGRP_LINK, IPV4_IFADDR, IPV4_ROUTE, IPV4_RULE, IPV6_IFADDR, IPV6_ROUTE, IPV6_RULE, NEXTHOP."""
_RECEIVE_BYTES = 32 << 20
_DATAGRAMS_PER_STEP = 128
_READ_S = 0.004
"""No datagram is read later than this in one step."""
_DATAGRAM_BYTES = 1 << 16
_DRAINED_PER_STEP = 4096
_DEL_ROUTE = int(MessageKind.DEL_ROUTE)
_ROUTES = (int(MessageKind.NEW_ROUTE), _DEL_ROUTE)
"""Of nearly all messages; plain numbers compare faster."""
_REPLACE = int(MessageFlag.REPLACE)
_APPEND = int(MessageFlag.APPEND)
_SO_ATTACH_FILTER = 26
_DUMP_TRIES = 20
_REFRESH_DELAY_S = 0.1
"""Delay: the work after a link failure gets the CPU first."""
_READING_SHARE = 10
"""Links and addresses are read a tenth of a processor's time at most, however many events there are."""
_UNREAD_PAUSE_S = 1.0


class KernelMonitor:
    """Links, addresses and foreign routes of the network namespace that `start` is called in.

    `own_protocol`: routes of this rtproto are bgpd's; others' changes to them go to `own_route_changed` only.
    `nexthop_changed` hears of nexthop objects that others made, changed or deleted. `routes` are the others', compared
    with the kernel every `interval_s`.
    `burst_ended`: called when all that could be read at once was published, for who acts on several events together.
    What is read first is a burst of its own, since mostly it comes alone, and what follows from it should not wait.
    `events_lost`: called when the kernel could not deliver events; `is_behind` until all was read again.
    """

    def __init__(self, *, own_protocol: int = 217, interval_s: float = 60.0) -> None:
        self.host = Host(self._publish)
        self._foreign = ForeignMonitor(
            self._publish,
            own_protocol=own_protocol,
            interval_s=interval_s,
            names=lambda: {link.index: link.name for link in self.host.links.values()},
            name_of=self.host.name_of,
            looked=self._routes_read,
        )
        self.routes = self._foreign.routes
        self.resynchronised = 0
        self.events_lost: list[Callable[[], None]] = []
        self.own_route_changed: list[Callable[[KernelRoute, bool], None]] = []
        self.nexthop_changed: list[Callable[[NexthopObject], None]] = []
        self.rules_changed: list[Callable[[], None]] = []
        self.burst_ended: list[Callable[[], None]] = []
        self._own_protocol = own_protocol
        self._subscribers: list[Subscriber] = []
        self._gatherers: list[Subscriber] = []
        self._later: list[Subscriber] = []
        self._is_in_burst = False
        self._postponed: list[RouteChanged] = []
        self._buffer = bytearray(_DATAGRAM_BYTES)
        self._view = memoryview(self._buffer)
        self._ignored: set[int] = set()
        self._refreshing: asyncio.Task[None] | None = None
        self._draining: asyncio.Handle | None = None
        self._losses_drained = 0
        self._losses_read = 0
        self._losses_settled = 0
        self._stale = False
        self._share = Share(_READING_SHARE)
        self._unread_pause_s = 0.0

    async def start(self, protocols: Collection[int] = ()) -> None:
        """Join the kernel's groups, read what is, then follow. `protocols`: as ForeignMonitor.start.

        Raises: OSError: the kernel refused.
        """
        self._loop = asyncio.get_running_loop()
        self._socket = open_socket(receive_bytes=_RECEIVE_BYTES, groups=_GROUPS)
        self._dump_socket = open_socket(receive_bytes=_RECEIVE_BYTES)
        self._dump_socket.settimeout(30)
        self._apply_filter()
        self.host.replace(*await self._loop.run_in_executor(None, self._read_host))
        await self._foreign.start(protocols)
        self._socket.setblocking(False)
        self._loop.add_reader(self._socket.fileno(), self._readable)

    async def stop(self) -> None:
        """Stop following."""
        self._loop.remove_reader(self._socket.fileno())
        if self._draining is not None:
            self._draining.cancel()
        if self._refreshing is not None:
            self._refreshing.cancel()
            await asyncio.gather(self._refreshing, return_exceptions=True)
        await self._foreign.stop()
        self._socket.close()
        self._dump_socket.close()

    def foreign_protocols(self) -> list[int]:
        """Those of other programs' routes."""
        return sorted(self._foreign.protocols())

    def look_at_all_routes(self) -> None:
        """Compare all routes of other programs with the kernel, soon."""
        self._foreign.look_at_all()

    def subscribe(
        self,
        subscriber: Subscriber,
        *,
        replay: bool = False,
        replay_routes: bool = False,
        gather: Subscriber | None = None,
    ) -> None:
        """Call `subscriber` for each event from now on, in order.

        `replay`: first for all links and addresses that are now; `replay_routes`: then for all routes, which may be
        a hundred thousand. `gather` is called in its place for the routes of a burst, before `burst_ended`; others
        may hear of them after it, so that they delay no announcement.
        """
        self._subscribers.append(subscriber)
        if gather is None:
            self._later.append(subscriber)
        else:
            self._gatherers.append(gather)
        if replay:
            for event in self.host.events():
                subscriber(event)
        if replay_routes:
            for event in self.routes.events():
                subscriber(event)

    def ignore(self, ports: Iterable[int]) -> None:
        """Drop what the sockets of these netlink port ids caused: bgpd's own writes."""
        self._ignored.update(ports)
        self._apply_filter()

    @property
    def is_behind(self) -> bool:
        """Whether events were lost, and not all was read again since."""
        return self._losses_settled != self.resynchronised

    def _publish(self, event: KernelEvent) -> None:
        if isinstance(event, RouteChanged):  # of nearly all events
            self.host.route_changed(event.route, gone=event.gone)
            if self._is_in_burst:
                self._postponed.append(event)
                for gather in self._gatherers:
                    gather(event)
                return
        elif self._postponed:
            self._hand_on_postponed()
        if isinstance(event, LinkChanged):
            self._foreign.link_changed(event.link.name)
        elif isinstance(event, AddressChanged) and event.gone:
            self._foreign.address_gone(event.address)
        for subscriber in self._subscribers:
            subscriber(event)

    def _hand_on_postponed(self) -> None:
        events, self._postponed = self._postponed, []
        for event in events:
            for subscriber in self._later:
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
        if self._read_burst(1):
            self._read_burst(_DATAGRAMS_PER_STEP)

    def _read_burst(self, most: int) -> bool:
        """Read up to `most` datagrams, and have acted on them; whether there was one."""
        self._is_in_burst = True
        try:
            is_read = self._read_some(most)
            if is_read:
                for callback in self.burst_ended:
                    callback()
        finally:
            self._is_in_burst = False
            self._hand_on_postponed()
        return is_read

    def _read_some(self, most: int) -> bool:
        if self._losses_drained != self.resynchronised:
            return False
        end = monotonic() + _READ_S
        for number in range(most):
            try:
                size = self._socket.recv_into(self._buffer)
            except BlockingIOError:
                return number > 0
            except OSError as error:
                self._events_lost(error)
                self._drain()
                return True
            self._read(bytes(self._view[:size]))
            if monotonic() > end:
                break
        return True

    def _events_lost(self, error: OSError) -> None:
        if error.errno != errno.ENOBUFS:
            raise error
        self.resynchronised += 1
        log.warning("kernel.events_lost", resynchronised=self.resynchronised)
        for notify in self.events_lost:
            notify()

    def _drain(self) -> None:
        """Throw away what is queued: until the queue is empty the kernel drops all events, and reports that only once.

        What is read before that may be older than a lost event, so everything is read again after it.
        """
        for _ in range(_DRAINED_PER_STEP):
            try:
                self._socket.recv(1)
            except BlockingIOError:
                self._losses_drained = self.resynchronised
                self._refresh()
                return
            except OSError as error:
                self._events_lost(error)
        self._draining = self._loop.call_soon(self._drain)  # also if the socket is not readable, as it is empty then

    def _read(self, data: bytes) -> None:
        for kind, flags, _sequence, start, end in messages(data):
            if kind in _ROUTES:
                ways = read_routes(data, start, end, self.host.name_of)
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
                    link = read_link(data, start, end, self.host.name_of)
                    self.host.link(link, gone=kind == MessageKind.DEL_LINK)
                    self._refresh()
            case MessageKind.NEW_ADDRESS | MessageKind.DEL_ADDRESS:
                self.host.address(read_address(data, start, end), gone=kind == MessageKind.DEL_ADDRESS)
                self._refresh()
            case MessageKind.NEW_NEXTHOP | MessageKind.DEL_NEXTHOP:
                found = read_object(data, start, end)
                if found.protocol != self._own_protocol:
                    self.routes.nexthop(found, gone=kind == MessageKind.DEL_NEXTHOP)
                for nexthop_changed in self.nexthop_changed:
                    nexthop_changed(found)
            case MessageKind.NEW_RULE | MessageKind.DEL_RULE:
                for notify in self.rules_changed:
                    notify()

    def _refresh(self) -> None:
        """Compare the host with a fresh reading, soon: events may have been missed, or have been older than a reading.

        One reading at a time, and one more if something happened during it.
        """
        self._stale = True
        if self._refreshing is None or self._refreshing.done():
            self._refreshing = start_in_background(self._read_again(), "reading links and addresses")

    async def _read_again(self) -> None:
        while self._stale:
            pause_s = max(_REFRESH_DELAY_S, self._unread_pause_s, self._share.pause_s(self._loop.time()))
            await asyncio.sleep(pause_s)
            self._stale, self._unread_pause_s = False, 0.0
            drained = self._losses_drained
            self.host.begin_reading()
            try:
                found = await self._loop.run_in_executor(None, self._share.spend, self._read_host)
            except OSError as error:
                log.warning("kernel.links_not_read", error=str(error))
                self._stale, self._unread_pause_s = True, _UNREAD_PAUSE_S
                continue
            self._share.spend(functools.partial(self.host.replace, *found))
            self._share.rest(self._loop.time())
            if self._losses_read != drained == self.resynchronised:
                self._losses_read = drained
                self._foreign.look_at_all()

    def _routes_read(self) -> None:
        if self.is_behind and self._losses_read == self.resynchronised:
            self._losses_settled = self._losses_read
            self._publish(KernelResynchronised())

    def _read_host(self) -> _Reading:
        """Links and addresses; runs in a worker thread, on a socket of its own.

        What one dump lacks is not gone for that: two in a row have to be equal. If they never do, since something
        changes all the time, the last one counts, and the next reading is due anyway.
        """
        former: list[list[bytes]] = []
        found: _Reading | None = None
        for _ in range(_DUMP_TRIES):
            try:
                payloads = [
                    self._payloads(MessageKind.GET_LINK, MessageKind.NEW_LINK),
                    self._payloads(MessageKind.GET_ADDRESS, MessageKind.NEW_ADDRESS),
                ]
            except DumpInterrupted:
                continue
            if found is not None and payloads == former:
                return found
            addresses = [read_address(payload, 0, len(payload)) for payload in payloads[1]]
            before, found, former = found, (_links_of(payloads[0]), addresses), payloads
            if found == before:
                return found
        if found is None:
            raise OSError(errno.EBUSY, f"links and addresses changed during each of {_DUMP_TRIES} dumps")
        return found

    def _payloads(self, request: MessageKind, answer: MessageKind) -> list[bytes]:
        """The payloads of a dump's messages."""
        return [
            data[start:end]
            for data in dump(self._dump_socket, encode_dump_request(request))
            for kind, _flags, _sequence, start, end in messages(data)
            if kind == answer
        ]


def _links_of(payloads: Iterable[bytes]) -> list[Link]:
    """The links of a dump. Decoded twice if a link precedes its VRF device in the dump: its name is known only then."""
    names: dict[int, str] = {}
    unnamed = True

    def name_of(index: int) -> str:
        nonlocal unnamed
        unnamed |= index not in names
        return names.get(index, "")

    links: list[Link] = []
    for _ in range(2):
        if unnamed:
            unnamed = False
            links = [read_link(payload, 0, len(payload), name_of) for payload in payloads]
            names = {link.index: link.name for link in links}
    return links


def _instruction(code: int, if_true: int, if_false: int, operand: int) -> bytes:
    """One classic BPF instruction (struct sock_filter)."""
    return struct.pack("=HBBI", code, if_true, if_false, operand)
