"""Routes that the kernel notifies and dumps: bgpd's own as columns, other programs' one by one (rtnetlink(7)).

The kernel writes the routes of one kind in one layout. Of bgpd's own, of which there may be a million, the first
message of a run is walked, the constant bytes of all others are compared by strided slices, and the fields are taken by
one `struct` over the run. Raw, since it runs once per route; tests hold it equal to pyroute2's reading. Decides
nothing, sans-IO.
"""

from __future__ import annotations

import operator
import socket
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence

import msgspec

from bgpd.kernel.netlink import ATTRIBUTE, HEADER, TYPE_MASK, U32, MessageKind, attributes
from bgpd.kernel.route_messages import (
    BLACKHOLE,
    ROUTE_HEAD,
    RTA_DST,
    RTA_GATEWAY,
    RTA_MULTIPATH,
    RTA_NH_ID,
    RTA_OIF,
    RTA_PREFSRC,
    RTA_PRIORITY,
    RTA_TABLE,
    RTMSG,
    RTN_BLACKHOLE,
    RTN_UNICAST,
    RTNEXTHOP,
    UNKNOWN,
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
_PROTOCOL_AT = 16 + 5
"""Offset of rtm_protocol from the message's header."""
_SOURCE_LENGTH_AT, _TOS_AT = 16 + 2, 16 + 3
"""Likewise of rtm_src_len and rtm_tos."""
_RTM_F_CLONED = 0x200
_RTA_CACHEINFO = 12
_RTA_VIA = 18
_RTA_PREF = 20
_RTNH_F_DEAD = 1
_PLAIN = frozenset({RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_PRIORITY, RTA_TABLE, _RTA_CACHEINFO, _RTA_PREF})
_NO_DETAILS = _PLAIN | {RTA_NH_ID, RTA_PREFSRC, RTA_MULTIPATH, _RTA_VIA}
_DIRECT = struct.Struct(f"={RTMSG.size}xII I4s II")
"""An IPv4 route to an interface and nothing more, as the kernel writes it: table, destination, interface, each with the
header of its attribute as one number. Most routes of workloads are."""
_DIRECT_HEADERS = tuple([U32.unpack(ATTRIBUTE.pack(8, kind))[0] for kind in (RTA_TABLE, RTA_DST, RTA_OIF)])
_FAMILIES = {socket.AF_INET: Family.IPV4_UNICAST, socket.AF_INET6: Family.IPV6_UNICAST}
_IPV4 = Family.IPV4_UNICAST
_HEADS = [bytes((length,)) for length in range(129)]


# Bgpd's own, in bulk.


class RouteRun(msgspec.Struct, frozen=True):
    """Routes of one family, table and protocol, as columns of equal length.

    `targets` are as route_messages says. `route_type` is the rtm_type. `interfaces` (indexes) and `gateways` are
    those of routes without a nexthop object. `sources` are the preferred sources, packed; none of the routes has one if
    it is empty.
    """

    family: Family
    table: int
    protocol: int
    route_type: int
    keys: Sequence[bytes]
    targets: Sequence[int]
    metrics: Sequence[int]
    interfaces: Sequence[int] = ()
    gateways: Sequence[bytes] = ()
    sources: Sequence[bytes] = ()


def read_runs(data: bytes) -> Iterator[RouteRun]:
    """The routes of one datagram of a dump, in order, as runs; without those for a type of service or for some sources,
    which bgpd never makes: beside one another route of the prefix and metric can be, and a deletion goes for that.
    """
    offset, total = 0, len(data)
    while offset + ROUTE_HEAD <= total:
        length, kind = HEADER.unpack_from(data, offset)[:2]
        if length < 16 or offset + length > total:
            return
        if kind != MessageKind.NEW_ROUTE:
            offset += (length + 3) & ~3
            continue
        stride = (length + 3) & ~3
        places = _places(data, offset, length)
        count = _run_length(data, offset, stride, places)
        if not (data[offset + _SOURCE_LENGTH_AT] or data[offset + _TOS_AT]):
            yield _read_run(data, offset, stride, count, places)
        offset += stride * count


def _places(data: bytes, offset: int, length: int) -> dict[int, tuple[int, int]]:
    """Attribute type -> (offset of its value within the message, length)."""
    places: dict[int, tuple[int, int]] = {}
    at = ROUTE_HEAD
    while at + 4 <= length:
        size, kind = ATTRIBUTE.unpack_from(data, offset + at)
        if size < 4 or at + size > length:
            break
        places[kind & TYPE_MASK] = (at + 4, size - 4)
        at += (size + 3) & ~3
    return places


def _run_length(data: bytes, offset: int, stride: int, places: dict[int, tuple[int, int]]) -> int:
    """How many messages from here have the layout, table, protocol and type of the first."""
    constant = [*range(8), 16, *range(18, 24)]
    for place, _size in places.values():
        constant.extend(range(place - 4, place))
    if RTA_TABLE in places:
        constant.extend(range(places[RTA_TABLE][0], places[RTA_TABLE][0] + 4))
    count = (len(data) - offset) // stride
    while count > 1:
        end = offset + stride * count
        for index in constant:
            column = data[offset + index : end : stride]
            if column.count(column[0]) != count:
                break
        else:
            return count
        count //= 2
    return 1


def _read_run(data: bytes, offset: int, stride: int, count: int, places: dict[int, tuple[int, int]]) -> RouteRun:
    number, _length, _src, _tos, table, protocol, _scope, route_type, _flags = RTMSG.unpack_from(data, offset + 16)
    if RTA_TABLE in places:
        (table,) = U32.unpack_from(data, offset + places[RTA_TABLE][0])
    part = data[offset : offset + stride * count]
    return RouteRun(
        Family.IPV4_UNICAST if number == socket.AF_INET else Family.IPV6_UNICAST,
        table,
        protocol,
        route_type,
        _keys(part, stride, count, places),
        _targets(part, stride, count, places, route_type),
        _numbers(part, stride, places, RTA_PRIORITY) or (0,) * count,
        () if RTA_NH_ID in places else _numbers(part, stride, places, RTA_OIF),
        _values(part, stride, places, RTA_GATEWAY) if RTA_GATEWAY in places and RTA_NH_ID not in places else (),
        _values(part, stride, places, RTA_PREFSRC) if RTA_PREFSRC in places else (),
    )


def _keys(part: bytes, stride: int, count: int, places: dict[int, tuple[int, int]]) -> Sequence[bytes]:
    lengths = part[17::stride]
    if RTA_DST not in places:
        return (b"\0",) * count
    place, size = places[RTA_DST]
    addresses = list(map(operator.itemgetter(0), struct.iter_unpack(f"={place}x{size}s{stride - place - size}x", part)))
    if lengths.count(lengths[0]) == count:
        head, width = lengths[:1], (lengths[0] + 7) >> 3
        if width == size:
            return list(map(head.__add__, addresses))
        return [head + address[:width] for address in addresses]
    return [_HEADS[length] + address[: (length + 7) >> 3] for length, address in zip(lengths, addresses)]


def _targets(
    part: bytes, stride: int, count: int, places: dict[int, tuple[int, int]], route_type: int
) -> Sequence[int]:
    groups = _numbers(part, stride, places, RTA_NH_ID)
    if groups:
        return groups
    if route_type == RTN_BLACKHOLE:
        return (BLACKHOLE,) * count
    if RTA_OIF in places and RTA_GATEWAY not in places:
        return [-index for index in _numbers(part, stride, places, RTA_OIF)]
    return (UNKNOWN,) * count


def _values(part: bytes, stride: int, places: dict[int, tuple[int, int]], kind: int) -> list[bytes]:
    """The column of an attribute's bytes."""
    place, size = places[kind]
    return list(map(operator.itemgetter(0), struct.iter_unpack(f"={place}x{size}s{stride - place - size}x", part)))


def _numbers(part: bytes, stride: int, places: dict[int, tuple[int, int]], kind: int) -> Sequence[int]:
    """The column of a 32-bit attribute; empty if the layout has none."""
    if kind not in places:
        return ()
    place = places[kind][0]
    return list(map(operator.itemgetter(0), struct.iter_unpack(f"={place}xI{stride - place - 4}x", part)))


# Other programs', one by one.


def read_routes(data: bytes, start: int, end: int, name_of: Callable[[int], str]) -> tuple[KernelRoute, ...]:
    """The route of one route message's payload, one way for each next hop that is not dead.

    () for what is no forwarding decision (cached, local, multicast). A route by a nexthop object names that only: see
    `expand`.
    """
    number, length, _src, tos, table, protocol, _scope, kind, flags = RTMSG.unpack_from(data, start)
    if kind not in ROUTE_TYPES or flags & _RTM_F_CLONED or number not in _FAMILIES:
        return ()
    if end - start == _DIRECT.size and number == socket.AF_INET and kind == RTN_UNICAST and not tos:
        first, number_of_table, second, address, third, index = _DIRECT.unpack_from(data, start)
        if (first, second, third) == _DIRECT_HEADERS:
            key = bytes((length,)) + address[: (length + 7) >> 3]
            interface = name_of(index)
            return (KernelRoute(family=_IPV4, key=key, table=number_of_table, protocol=protocol, interface=interface),)
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
    """Next hops of a route with further attributes (multipath, nexthop id, TOS, preferred source, type, metrics)."""
    by_object = RTA_NH_ID in found
    route = msgspec.structs.replace(
        route,
        interface="" if by_object else route.interface,
        gateway=b"" if by_object else _gateway(found),
        tos=tos,
        nexthop=U32.unpack(found[RTA_NH_ID])[0] if by_object else 0,
        source=found.get(RTA_PREFSRC, b""),
        details=_details(kind, found) if kind != RTN_UNICAST or not found.keys() <= _NO_DETAILS else b"",
    )
    if by_object or RTA_MULTIPATH not in found:
        return (route,)
    hops = [(name_of(index), gateway) for index, gateway in _living_hops(found[RTA_MULTIPATH])]
    return _ways(route, hops)


def expand(routes: Iterable[KernelRoute], hops_of: HopsOf) -> tuple[KernelRoute, ...]:
    """Routes with their nexthop ids replaced by the next hops of these objects; other routes unchanged."""
    found: list[KernelRoute] = []
    for route in routes:
        hops = hops_of(route.nexthop) if route.nexthop else None
        found += (route,) if hops is None else _ways(route, list(hops))
    return tuple(found)


def read_foreign_routes(data: bytes, own_protocol: int, name_of: Callable[[int], str]) -> Iterator[KernelRoute]:
    """The routes of one datagram of a dump that are not bgpd's; runs of bgpd's own are passed over whole."""
    offset, total = 0, len(data)
    while offset + ROUTE_HEAD <= total:
        length, kind = HEADER.unpack_from(data, offset)[:2]
        if length < 16 or offset + length > total:
            return
        stride = (length + 3) & ~3
        if kind == MessageKind.NEW_ROUTE:
            if data[offset + _PROTOCOL_AT] == own_protocol:
                offset += stride * _own_run_length(data, offset, stride)
                continue
            yield from read_routes(data, offset + 16, offset + length, name_of)
        offset += stride


def _own_run_length(data: bytes, offset: int, stride: int) -> int:
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
    while at + RTNEXTHOP.size <= len(multipath):
        length, flags, _hops, index = RTNEXTHOP.unpack_from(multipath, at)
        if length < RTNEXTHOP.size:
            return
        if not flags & _RTNH_F_DEAD:
            yield index, _gateway(attributes(multipath, at + RTNEXTHOP.size, min(at + length, len(multipath))))
        at += (length + 3) & ~3


def _ways(route: KernelRoute, hops: list[Hop]) -> tuple[KernelRoute, ...]:
    if not hops:
        return (route,)
    several = len(hops) > 1 and (route.family is Family.IPV4_UNICAST or bool(route.nexthop))
    return tuple(
        msgspec.structs.replace(route, interface=interface, gateway=gateway, multipath=several)
        for interface, gateway in hops
    )
