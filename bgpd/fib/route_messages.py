"""Route messages in bulk: thousands of RTM_NEWROUTE or RTM_DELROUTE from one template in a few C calls.

A template is one message for (family, prefix length, target) in a table; the batch is that message repeated, with the
keys' address bytes laid over it by strided slices (DESIGN section 2, rule 5). Decides nothing, sends nothing.
A *target* is one integer, so that a route costs no object: a nexthop group's id (positive), an interface index negated
(directly attached), or BLACKHOLE.
"""

from __future__ import annotations

import functools
import operator
import socket
import struct
from collections.abc import Iterable, Sequence

import msgspec

from bgpd.fib.netlink import ATTRIBUTE, U32, MessageFlag, MessageKind, attribute, attributes, message
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
_LENGTH = operator.itemgetter(0)
_DST_OFFSET = 16 + RTMSG.size + ATTRIBUTE.size


class RouteForm(msgspec.Struct, frozen=True):
    """What all routes of one table share: kernel table, protocol and metric, which stand in deletes too."""

    table: int
    protocol: int
    metric: int


def encode_adds(family: Family, keys: Sequence[bytes], target: int, form: RouteForm) -> bytes:
    """RTM_NEWROUTE (create or replace) for each key, all by one target; any order and mix of prefix lengths."""
    return b"".join(_encode(_add_template(family, length, target, form), run) for length, run in _by_length(keys))


def encode_deletes(family: Family, keys: Sequence[bytes], form: RouteForm) -> bytes:
    """RTM_DELROUTE for each key in descending order: ascending ones are quadratic in the kernel's IPv4 trie."""
    descending = sorted(keys, reverse=True)
    return b"".join(_encode(_delete_template(family, length, form), run) for length, run in _by_length(descending))


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
def _add_template(family: Family, length: int, target: int, form: RouteForm) -> bytes:
    flags = MessageFlag.REQUEST | MessageFlag.CREATE | MessageFlag.REPLACE
    scope, kind = RT_SCOPE_UNIVERSE, RTN_UNICAST
    if target > 0:
        way = attribute(RTA_NH_ID, U32.pack(target))
    elif target == BLACKHOLE:
        way, kind = b"", RTN_BLACKHOLE
    else:
        way = attribute(RTA_OIF, U32.pack(-target))
        scope = RT_SCOPE_LINK if family is Family.IPV4_UNICAST else RT_SCOPE_UNIVERSE
    return _template(MessageKind.NEW_ROUTE, flags, family, length, form, scope, kind, way)


@functools.lru_cache(maxsize=1024)
def _delete_template(family: Family, length: int, form: RouteForm) -> bytes:
    return _template(MessageKind.DEL_ROUTE, MessageFlag.REQUEST, family, length, form, RT_SCOPE_NOWHERE, 0, b"")


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
