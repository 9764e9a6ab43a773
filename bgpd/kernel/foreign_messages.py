"""Other programs' routes as netlink messages: notifications and dumps as model.kernel values (rtnetlink(7)).

By hand, since another program may bring a million routes. Decides nothing, sans-IO.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterable, Iterator

import msgspec

from bgpd.kernel.netlink import HEADER, U32, MessageKind, attributes
from bgpd.kernel.route_messages import (
    RTA_DST,
    RTA_GATEWAY,
    RTA_NH_ID,
    RTA_OIF,
    RTA_PRIORITY,
    RTA_TABLE,
    RTMSG,
    RTN_BLACKHOLE,
    RTN_UNICAST,
)
from bgpd.model.iana import Family
from bgpd.model.kernel import KernelRoute

ROUTE_TYPES = frozenset({RTN_UNICAST, RTN_BLACKHOLE, 7, 8, 9})
"""unicast, blackhole, unreachable, prohibit, throw: what decides over a packet in its table. Local, broadcast and
multicast are the host's.
"""
Hop = tuple[str, bytes]
"""Interface and packed gateway (b"" if directly attached)."""
HopsOf = Callable[[int], Iterable[Hop] | None]
"""Where a nexthop object leads to by its id; None if it is unknown."""
_ROUTE_HEAD = 16 + RTMSG.size
_PROTOCOL_AT = 16 + 5
"""Offset of rtm_protocol from the message's header."""
_RTM_F_CLONED = 0x200
_RTA_PREFSRC = 7
_RTA_MULTIPATH = 9
_RTA_CACHEINFO = 12
_RTA_VIA = 18
_RTA_PREF = 20
_RTNH = struct.Struct("=HBBi")
"""rtnexthop: length, flags, hops, interface index (linux/rtnetlink.h)."""
_RTNH_F_DEAD = 1
_PLAIN = frozenset({RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_PRIORITY, RTA_TABLE, _RTA_CACHEINFO, _RTA_PREF})
_NO_DETAILS = _PLAIN | {RTA_NH_ID, _RTA_PREFSRC, _RTA_MULTIPATH, _RTA_VIA}
_FAMILIES = {socket.AF_INET: Family.IPV4_UNICAST, socket.AF_INET6: Family.IPV6_UNICAST}


def read_routes(data: bytes, start: int, end: int, name_of: Callable[[int], str]) -> tuple[KernelRoute, ...]:
    """The route of one route message's payload, one way for each next hop that is not dead.

    () for what is no forwarding decision (cached, local, multicast). A route by a nexthop object names that only: see
    `expand`.
    """
    number, length, _src, tos, table, protocol, _scope, kind, flags = RTMSG.unpack_from(data, start)
    if kind not in ROUTE_TYPES or flags & _RTM_F_CLONED or number not in _FAMILIES:
        return ()
    found = attributes(data, start + RTMSG.size, end)
    outgoing = found.get(RTA_OIF)
    route = KernelRoute(
        family=_FAMILIES[number],
        key=bytes((length,)) + found.get(RTA_DST, b"")[: (length + 7) >> 3],
        table=U32.unpack(found[RTA_TABLE])[0] if RTA_TABLE in found else table,
        protocol=protocol,
        metric=U32.unpack(found[RTA_PRIORITY])[0] if RTA_PRIORITY in found else 0,
        interface=name_of(U32.unpack(outgoing)[0]) if outgoing else "",
        gateway=found.get(RTA_GATEWAY, b""),
    )
    if kind == RTN_UNICAST and not tos and found.keys() <= _PLAIN:  # nearly all
        return (route,)
    return _with_more(route, tos, kind, found, name_of)


def _with_more(
    route: KernelRoute, tos: int, kind: int, found: dict[int, bytes], name_of: Callable[[int], str]
) -> tuple[KernelRoute, ...]:
    """The ways of a route that has more than an interface, a gateway and a metric."""
    by_object = RTA_NH_ID in found
    route = msgspec.structs.replace(
        route,
        interface="" if by_object else route.interface,
        gateway=b"" if by_object else _gateway(found),
        tos=tos,
        nexthop=U32.unpack(found[RTA_NH_ID])[0] if by_object else 0,
        source=found.get(_RTA_PREFSRC, b""),
        details=_details(kind, found) if kind != RTN_UNICAST or not found.keys() <= _NO_DETAILS else b"",
    )
    if by_object or _RTA_MULTIPATH not in found:
        return (route,)
    hops = [(name_of(index), gateway) for index, gateway in _living_hops(found[_RTA_MULTIPATH])]
    return _ways(route, hops)


def expand(routes: Iterable[KernelRoute], hops_of: HopsOf) -> tuple[KernelRoute, ...]:
    """Routes by nexthop objects as the ways that these lead; the others as they are."""
    found: list[KernelRoute] = []
    for route in routes:
        hops = hops_of(route.nexthop) if route.nexthop else None
        found += (route,) if hops is None else _ways(route, list(hops))
    return tuple(found)


def read_foreign_routes(data: bytes, own_protocol: int, name_of: Callable[[int], str]) -> Iterator[KernelRoute]:
    """The routes of one datagram of a dump that are not bgpd's; runs of bgpd's own are passed over whole."""
    offset, total = 0, len(data)
    while offset + _ROUTE_HEAD <= total:
        length, kind = HEADER.unpack_from(data, offset)[:2]
        if length < 16 or offset + length > total:
            return
        stride = (length + 3) & ~3
        if kind == MessageKind.NEW_ROUTE:
            if data[offset + _PROTOCOL_AT] == own_protocol:
                offset += stride * _run_length(data, offset, stride)
                continue
            yield from read_routes(data, offset + 16, offset + length, name_of)
        offset += stride


def _run_length(data: bytes, offset: int, stride: int) -> int:
    """How many messages from here have the length, type and protocol of the first."""
    count = (len(data) - offset) // stride
    for place in (*range(6), _PROTOCOL_AT):
        column = data[offset + place : offset + stride * count : stride]
        count -= len(column.lstrip(column[:1]))
    return count


def _gateway(found: dict[int, bytes]) -> bytes:
    return found.get(RTA_GATEWAY) or found.get(_RTA_VIA, b"")[2:]


def _details(kind: int, found: dict[int, bytes]) -> bytes:
    """What else a route has: its type, metrics, encapsulation, source prefix and so on."""
    others = sorted((number, value) for number, value in found.items() if number not in _NO_DETAILS)
    return bytes((kind,)) + b"".join(bytes((number & 0xFF,)) + value for number, value in others)


def _living_hops(multipath: bytes) -> Iterator[tuple[int, bytes]]:
    """Interface index and gateway of each next hop that the kernel has not marked dead."""
    at = 0
    while at + _RTNH.size <= len(multipath):
        length, flags, _hops, index = _RTNH.unpack_from(multipath, at)
        if length < _RTNH.size:
            return
        if not flags & _RTNH_F_DEAD:
            yield index, _gateway(attributes(multipath, at + _RTNH.size, min(at + length, len(multipath))))
        at += (length + 3) & ~3


def _ways(route: KernelRoute, hops: list[Hop]) -> tuple[KernelRoute, ...]:
    if not hops:
        return (route,)
    several = len(hops) > 1 and (route.family is Family.IPV4_UNICAST or bool(route.nexthop))
    return tuple(
        msgspec.structs.replace(route, interface=interface, gateway=gateway, multipath=several)
        for interface, gateway in hops
    )
