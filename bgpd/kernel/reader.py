"""Reads the kernel's tables on demand, in worker threads: nexthop objects, policy rules, bgpd's own routes, and the
answer for an address.

Decides nothing. Each kind of reading has a socket of its own, opened in the namespace that `start` is called in.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable

from bgpd.kernel.link_messages import encode_rule_dump_request, read_rules
from bgpd.kernel.netlink import (
    DATAGRAM_PAUSE_S,
    U32,
    DumpInterrupted,
    MessageFlag,
    MessageKind,
    attribute,
    attributes,
    dump,
    message,
    messages,
    open_socket,
    read_error,
)
from bgpd.kernel.nexthop_messages import NexthopObject, encode_dump_request, encode_get, read_objects
from bgpd.kernel.route_decoder import RouteRun, read_runs
from bgpd.kernel.route_messages import (
    RTA_DST,
    RTA_OIF,
    RTMSG,
    RouteForm,
    encode_route_dump_request,
)
from bgpd.model.iana import UNICAST, Family
from bgpd.model.kernel import RoutingRule
from bgpd.model.prefix import socket_family
from bgpd.runtime.rates import Share

_NDMSG = struct.Struct("=B3xiHBB")
_NDA_DST, _NDA_LLADDR = 1, 2
_STATES = {
    0: "none",
    1: "incomplete",
    2: "reachable",
    4: "stale",
    8: "delay",
    16: "probe",
    32: "failed",
    64: "noarp",
    128: "permanent",
}
"""NUD_* of linux/neighbour.h. A stale one was heard once and is asked again when it is used."""
_TRIES = 20
_PAUSES = 3
"""A thread that reads beside a working loop pauses for so many times what a datagram takes: of four times that the loop
lets go of the interpreter, it then waits for it once at most."""
_RECEIVE_BYTES = 4 << 20
_RTM_F_LOOKUP_TABLE = 0x1000
_RTM_F_FIB_MATCH = 0x2000


class KernelReader:
    """Dumps and look-ups of one network namespace."""

    def start(self) -> None:
        """Open the sockets. Call in the event loop."""
        self._routes = open_socket(receive_bytes=_RECEIVE_BYTES, strict=True)
        self._small = open_socket(receive_bytes=_RECEIVE_BYTES)
        self._lookups = open_socket()
        self._locks = {opened: threading.Lock() for opened in (self._routes, self._small, self._lookups)}
        for opened in self._locks:
            opened.settimeout(30)

    def stop(self) -> None:
        """Close the sockets."""
        for opened in self._locks:
            opened.close()

    async def nexthops(self) -> list[NexthopObject]:
        """All nexthop objects. Raises: OSError: the kernel refused, or they changed too often."""
        return await asyncio.get_running_loop().run_in_executor(None, self._read_nexthops)

    async def rules(self) -> set[RoutingRule]:
        """All policy rules. Raises: OSError: as above."""
        return await asyncio.get_running_loop().run_in_executor(None, self._read_rules)

    async def nexthops_gone(self, identifiers: Iterable[int]) -> list[int]:
        """The nexthop ids that the kernel does not have, queried one by one."""
        return await asyncio.get_running_loop().run_in_executor(None, self._nexthops_gone, list(identifiers))

    async def routes(
        self,
        family: Family,
        form: RouteForm,
        begin: Callable[[], Callable[[RouteRun], None]],
        *,
        share: Share | None = None,
    ) -> None:
        """Give all routes of one table and protocol, run by run, to what `begin` returns, in a worker thread.

        `begin` is called again if the table changed so that the dump had to start over. With a `share` the loop has
        other things to do meanwhile, which come first, and what reading takes is counted there. Raises: OSError as
        above.
        """
        read = functools.partial(self._read_routes, family, form, begin, is_beside_work=share is not None)
        await asyncio.get_running_loop().run_in_executor(None, *((read,) if share is None else (share.spend, read)))

    async def lookup(self, address: bytes, ifindex: int) -> RouteRun | OSError:
        """The kernel's route for a packed address (RTM_GETROUTE), or its error; by a VRF device's index if not 0."""
        return await asyncio.get_running_loop().run_in_executor(None, self._look_up, address, ifindex)

    async def neighbor(self, address: bytes, ifindex: int) -> str:
        """What the kernel's neighbor table (ARP, NDP) has for a packed address on an interface: the state, and the MAC
        where there is one; "" if it has no entry."""
        return await asyncio.get_running_loop().run_in_executor(None, self._look_for_neighbor, address, ifindex)

    def _look_for_neighbor(self, address: bytes, ifindex: int) -> str:
        number = socket_family(address)
        payload = _NDMSG.pack(number, ifindex, 0, 0, 0) + attribute(_NDA_DST, address)
        with self._locks[self._lookups]:
            self._lookups.send(message(MessageKind.GET_NEIGHBOR, MessageFlag.REQUEST, payload))
            data = self._lookups.recv(1 << 16)
        kind, _, _, start, end = next(iter(messages(data)))
        if kind == MessageKind.ERROR:
            return ""
        state = _NDMSG.unpack_from(data, start)[2]
        mac = attributes(data, start + _NDMSG.size, end).get(_NDA_LLADDR, b"")
        return " ".join(filter(None, (_STATES.get(state, f"state {state}"), mac.hex(":"))))

    def _read_nexthops(self) -> list[NexthopObject]:
        with self._locks[self._small]:
            return _dump_nexthops(self._small)

    def _read_rules(self) -> set[RoutingRule]:
        """The kernel dumps rules by position and marks no dump during which some change: two in a row must agree."""
        before: set[RoutingRule] | None = None
        with self._locks[self._small]:
            for _ in range(_TRIES):
                try:
                    found = {
                        rule
                        for family in UNICAST
                        for data in dump(self._small, encode_rule_dump_request(family))
                        for rule in read_rules(family, data)
                    }
                except DumpInterrupted:
                    continue
                if found == before:
                    return found
                before = found
        raise OSError(errno.EBUSY, f"the policy rules changed during each of {_TRIES} dumps")

    def _nexthops_gone(self, identifiers: list[int]) -> list[int]:
        gone = []
        with self._locks[self._lookups]:
            for identifier in identifiers:
                self._lookups.send(encode_get(identifier))
                data = self._lookups.recv(1 << 16)
                for kind, flags, _sequence, start, end in messages(data):
                    error = read_error(data, start, end, flags) if kind == MessageKind.ERROR else None
                    if error is not None and error.code == errno.ENOENT:
                        gone.append(identifier)
        return gone

    def _read_routes(
        self, family: Family, form: RouteForm, begin: Callable[[], Callable[[RouteRun], None]], *, is_beside_work: bool
    ) -> None:
        request = encode_route_dump_request(family, table=form.table, protocol=form.protocol)
        with self._locks[self._routes]:
            for _ in range(_TRIES):
                consume = begin()
                try:
                    began = time.thread_time()
                    for data in dump(self._routes, request):
                        for run in read_runs(data):
                            consume(run)
                        if is_beside_work:
                            time.sleep(max(DATAGRAM_PAUSE_S, _PAUSES * (time.thread_time() - began)))
                            began = time.thread_time()
                except DumpInterrupted:
                    continue
                except FileNotFoundError:
                    pass  # the table does not exist yet: it has no routes
                return
        raise OSError(errno.EBUSY, f"table {form.table} changed during each of {_TRIES} dumps")

    def _look_up(self, address: bytes, ifindex: int) -> RouteRun | OSError:
        number = socket_family(address)
        flags = _RTM_F_LOOKUP_TABLE | _RTM_F_FIB_MATCH
        payload = RTMSG.pack(number, len(address) * 8, 0, 0, 0, 0, 0, 0, flags) + attribute(RTA_DST, address)
        if ifindex:
            payload += attribute(RTA_OIF, U32.pack(ifindex))
        with self._locks[self._lookups]:
            self._lookups.send(message(MessageKind.GET_ROUTE, MessageFlag.REQUEST, payload))
            data = self._lookups.recv(1 << 16)
        for kind, reply_flags, _sequence, start, end in messages(data):
            if kind == MessageKind.ERROR:
                error = read_error(data, start, end, reply_flags)
                if error is not None:
                    return OSError(error.code, str(error))
        return next(read_runs(data))


def read_nexthops() -> list[NexthopObject]:
    """All nexthop objects of this namespace, read at once: for the time before the event loop runs.

    Raises: OSError: the kernel has no nexthop objects, or they changed too often.
    """
    with open_socket(receive_bytes=_RECEIVE_BYTES) as opened:
        opened.settimeout(30)
        return _dump_nexthops(opened)


def has_routes(protocol: int) -> bool:
    """Whether any table of this namespace has a route of an rtproto, read at once as above. Raises: OSError."""
    with open_socket(receive_bytes=_RECEIVE_BYTES, strict=True) as opened:
        opened.settimeout(30)
        for family in UNICAST:
            with contextlib.suppress(DumpInterrupted):
                for data in dump(opened, encode_route_dump_request(family, protocol=protocol)):
                    if any(run.protocol == protocol and run.keys for run in read_runs(data)):
                        return True
    return False


def _dump_nexthops(opened: socket.socket) -> list[NexthopObject]:
    for _ in range(_TRIES):
        try:
            return [found for data in dump(opened, encode_dump_request()) for found in read_objects(data)]
        except DumpInterrupted:
            continue
    raise OSError(errno.EBUSY, f"the nexthop objects changed during each of {_TRIES} dumps")
