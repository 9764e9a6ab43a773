"""Route dumps, fast: runs of messages of one layout are read as columns, not attribute by attribute.

The kernel writes the routes of one kind in one layout, so the first message of a run is walked, the constant bytes of
all others are compared by strided slices, and the fields are taken by one `struct` over the run. Decides nothing.
"""

from __future__ import annotations

import operator
import socket
import struct
from collections.abc import Iterator, Sequence

import msgspec

from bgpd.fib.netlink import ATTRIBUTE, HEADER, TYPE_MASK, U32, MessageFlag, MessageKind, attribute, message
from bgpd.fib.route_messages import (
    BLACKHOLE,
    RTA_DST,
    RTA_GATEWAY,
    RTA_NH_ID,
    RTA_OIF,
    RTA_PRIORITY,
    RTA_TABLE,
    RTMSG,
    RTN_BLACKHOLE,
    UNKNOWN,
)
from bgpd.model.iana import Family

_HEAD = 16 + RTMSG.size


class RouteRun(msgspec.Struct, frozen=True):
    """Routes of one family, table and protocol, as columns of equal length.

    `targets` are as route_messages says. `route_type` is the rtm_type. `interfaces` (indexes) and `gateways` are
    those of routes without a nexthop object.
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


def encode_route_dump_request(family: Family, *, table: int, protocol: int) -> bytes:
    """Ask for the unicast routes of one table and protocol (needs a strict socket)."""
    number = socket.AF_INET if family is Family.IPV4_UNICAST else socket.AF_INET6
    payload = RTMSG.pack(number, 0, 0, 0, 0, protocol, 0, 0, 0) + attribute(RTA_TABLE, U32.pack(table))
    return message(MessageKind.GET_ROUTE, MessageFlag.REQUEST | MessageFlag.DUMP, payload)


def read_runs(data: bytes) -> Iterator[RouteRun]:
    """The routes of one datagram of a dump, in order, as runs."""
    offset, total = 0, len(data)
    while offset + _HEAD <= total:
        length, kind = HEADER.unpack_from(data, offset)[:2]
        if length < 16 or offset + length > total:
            return
        if kind != MessageKind.NEW_ROUTE:
            offset += (length + 3) & ~3
            continue
        stride = (length + 3) & ~3
        places = _places(data, offset, length)
        count = _run_length(data, offset, stride, places)
        yield _read_run(data, offset, stride, count, places)
        offset += stride * count


def _places(data: bytes, offset: int, length: int) -> dict[int, tuple[int, int]]:
    """Attribute type -> (offset of its value within the message, length)."""
    places: dict[int, tuple[int, int]] = {}
    at = _HEAD
    while at + 4 <= length:
        size, kind = ATTRIBUTE.unpack_from(data, offset + at)
        if size < 4:
            break
        places[kind & TYPE_MASK] = (at + 4, size - 4)
        at += (size + 3) & ~3
    return places


def _run_length(data: bytes, offset: int, stride: int, places: dict[int, tuple[int, int]]) -> int:
    """How many messages from here have the layout, table, protocol and type of the first."""
    constant = [*range(8), 16, *range(19, 24)]
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


_HEADS = [bytes((length,)) for length in range(129)]
