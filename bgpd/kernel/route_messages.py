"""Route messages in bulk: thousands of RTM_NEWROUTE or RTM_DELROUTE from one template in a few C calls.

A template is one message for (family, prefix length, target) in a table; the batch is that message repeated, with the
keys' address bytes laid over it by strided slices (DESIGN section 2, rule 5). Decides nothing, sends nothing.
A *target* is one integer, so that a route costs no object: a nexthop group's id (positive), an interface index negated
(directly attached), or BLACKHOLE.

Route dumps, fast: runs of messages of one layout are read as columns, not attribute by attribute.

The kernel writes the routes of one kind in one layout, so the first message of a run is walked, the constant bytes of
all others are compared by strided slices, and the fields are taken by one `struct` over the run. Decides nothing.
"""

from __future__ import annotations

import errno
import functools
import operator
import socket
import struct
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from bgpd.kernel.netlink import (
    ATTRIBUTE,
    HEADER,
    TYPE_MASK,
    U32,
    KernelError,
    MessageFlag,
    MessageKind,
    attribute,
    attributes,
    message,
)
from bgpd.model.iana import Family

BLACKHOLE = 0
"""Target of a route that drops."""
UNKNOWN = -(1 << 40)
"""Target of a route of ours in a form that bgpd never writes; equal to no wish, so it is rewritten."""

LAST_RESORT_METRIC = 4278198272
"""Metric of the unreachable default at the end of a VRF's table, which is not one of the routes kept here."""

RTMSG = struct.Struct("=BBBBBBBBI")
"""rtmsg: family, dst_len, src_len, tos, table, protocol, scope, type, flags."""

RTA_DST = 1
RTA_OIF = 4
RTA_GATEWAY = 5
RTA_PRIORITY = 6
RTA_TABLE = 15
RTA_NH_ID = 30
RTN_UNICAST = 1
RTN_BLACKHOLE = 6
RT_SCOPE_UNIVERSE = 0
RT_SCOPE_LINK = 253
RT_SCOPE_NOWHERE = 255
_FLAGS = struct.Struct("=H")
_LENGTH = operator.itemgetter(0)
_DST_OFFSET = 16 + RTMSG.size + ATTRIBUTE.size


class RouteForm(msgspec.Struct, frozen=True):
    """What all routes of one table share: kernel table, protocol and metric, which stand in deletes too."""

    table: int
    protocol: int
    metric: int


def encode_adds(family: Family, keys: Sequence[bytes], target: int, form: RouteForm, *, append: bool = False) -> bytes:
    """RTM_NEWROUTE for each key, all by one target; any order and mix of prefix lengths.

    Never NLM_F_REPLACE, which takes the place of any program's route of the prefix and metric. The kernel refuses with
    EEXIST where such a route is; `append` puts the new one behind it, and is refused only where an equal one is.
    """
    return b"".join(
        _encode(_add_template(family, length, target, form, append), run) for length, run in _by_length(keys)
    )


def encode_deletes(family: Family, keys: Sequence[bytes], form: RouteForm, target: int | None = None) -> bytes:
    """RTM_DELROUTE for each key, in descending order: ascending ones are quadratic in the kernel's IPv4 trie.

    Of several routes of ours the first goes, or with `target` the one by it.
    """
    descending = sorted(keys, reverse=True)
    return b"".join(
        _encode(_delete_template(family, length, form, target), run) for length, run in _by_length(descending)
    )


def is_there_already(request: bytes, error: KernelError) -> bool:
    """Whether a refused route message asked for a route that the kernel has, as bgpd's own.

    IPv6 compares without the protocol; a nexthop group of bgpd's is in no other program's route.
    """
    (flags,) = _FLAGS.unpack_from(request, 6)
    if error.code != errno.EEXIST or not flags & MessageFlag.APPEND:
        return False
    return request[16] == socket.AF_INET or RTA_NH_ID in attributes(request, _HEAD, len(request))


def read_key(request: bytes) -> tuple[Family, bytes]:
    """Family and key of a route message, such as the one that an error carries back."""
    family_number, length = request[16], request[17]
    family = Family.IPV4_UNICAST if family_number == socket.AF_INET else Family.IPV6_UNICAST
    address = attributes(request, 16 + RTMSG.size, len(request)).get(RTA_DST, b"")
    return family, bytes((length,)) + address[: (length + 7) >> 3]


def _by_length(keys: Sequence[bytes]) -> Iterable[tuple[int, Sequence[bytes]]]:
    if len(set(map(_LENGTH, keys))) == 1:
        return ((keys[0][0], keys),)
    buckets: dict[int, list[bytes]] = {}
    for key in keys:
        buckets.setdefault(key[0], []).append(key)
    return buckets.items()


def _encode(template: bytes, keys: Sequence[bytes]) -> bytearray:
    """The template once per key; its prefix length says how many address bytes each key has."""
    size, stride = len(template), len(keys[0])
    batch = bytearray(template * len(keys))
    joined = b"".join(keys)
    for index in range(1, stride):
        batch[_DST_OFFSET + index - 1 :: size] = joined[index::stride]
    return batch


@functools.lru_cache(maxsize=4096)
def _add_template(family: Family, length: int, target: int, form: RouteForm, append: bool) -> bytes:
    how = MessageFlag.APPEND if append else MessageFlag.EXCLUSIVE
    flags = MessageFlag.REQUEST | MessageFlag.CREATE | how
    kind, way = _way(target)
    scope = RT_SCOPE_LINK if target < 0 and family is Family.IPV4_UNICAST else RT_SCOPE_UNIVERSE
    return _template(MessageKind.NEW_ROUTE, flags, family, length, form, scope, kind, way)


@functools.lru_cache(maxsize=4096)
def _delete_template(family: Family, length: int, form: RouteForm, target: int | None) -> bytes:
    _kind, way = (0, b"") if target is None or target == UNKNOWN else _way(target)
    kind = RTN_BLACKHOLE if target == BLACKHOLE else 0
    return _template(MessageKind.DEL_ROUTE, MessageFlag.REQUEST, family, length, form, RT_SCOPE_NOWHERE, kind, way)


def _way(target: int) -> tuple[int, bytes]:
    """The route type of a target, and the attribute that names it."""
    if target > 0:
        return RTN_UNICAST, attribute(RTA_NH_ID, U32.pack(target))
    if target == BLACKHOLE:
        return RTN_BLACKHOLE, b""
    return RTN_UNICAST, attribute(RTA_OIF, U32.pack(-target))


def _template(
    kind: int, flags: int, family: Family, length: int, form: RouteForm, scope: int, route_type: int, way: bytes
) -> bytes:
    number, size = (socket.AF_INET, 4) if family is Family.IPV4_UNICAST else (socket.AF_INET6, 16)
    table = form.table if form.table < 256 else 0
    payload = (
        RTMSG.pack(number, length, 0, 0, table, form.protocol, scope, route_type, 0)
        + attribute(RTA_DST, bytes(size))
        + attribute(RTA_TABLE, U32.pack(form.table))
        + attribute(RTA_PRIORITY, U32.pack(form.metric))
        + way
    )
    return message(kind, flags, payload)


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


def encode_route_dump_request(family: Family, *, table: int = 0, protocol: int = 0, interface: int = 0) -> bytes:
    """Ask for routes of a table, of a protocol, by an interface, 0 meaning any (needs a strict socket)."""
    number = socket.AF_INET if family is Family.IPV4_UNICAST else socket.AF_INET6
    payload = RTMSG.pack(number, 0, 0, 0, 0, protocol, 0, 0, 0)
    if table:
        payload += attribute(RTA_TABLE, U32.pack(table))
    if interface:
        payload += attribute(RTA_OIF, U32.pack(interface))
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
