"""Nexthop objects as netlink messages: RTM_NEWNEXTHOP, RTM_DELNEXTHOP and their dumps (linux/nexthop.h).

Written as copies of prototypes, read in place: a failure may touch thousands. Decides nothing: which objects exist is
fib/nexthop_objects.py's.
"""

from __future__ import annotations

import functools
import socket
import struct
from collections.abc import Iterator, Sequence

import msgspec

from bgpd.kernel.netlink import NLA_F_NESTED, U32, MessageFlag, MessageKind, attribute, attributes, message, messages

_U16 = struct.Struct("=H")
NHMSG = struct.Struct("=BBBBI")
"""nhmsg: family, scope, protocol, reserved, flags."""
_GROUP_ENTRY = struct.Struct("=IBBH")
"""nexthop_grp: id, weight - 1 (low byte), weight high byte (Linux 6.12), reserved."""
NHA_ID = 1
NHA_GROUP = 2
_NHA_GROUP_TYPE = 3
NHA_OIF = 5
NHA_GATEWAY = 6
_NHA_RES_GROUP = 12
_NHA_RES_GROUP_BUCKETS = 1
_GROUP_TYPE_RESILIENT = 1
_BUCKETS = 512
"""Of a resilient group: how finely its flows are spread."""
_RTNH_F_ONLINK = 4
_REPLACE = MessageFlag.REQUEST | MessageFlag.REPLACE
_CREATE = MessageFlag.REQUEST | MessageFlag.CREATE | MessageFlag.EXCLUSIVE
_ID_AT = 28
"""Where NHA_ID's value is in each message; it comes first."""
_OIF_AT = _ID_AT + 8
_GROUP_AT = _ID_AT + 8
_NO_ID = attribute(NHA_ID, U32.pack(0))
"""How the attributes of a prototype begin."""
MAX_WEIGHT = 256
"""What every kernel takes; more needs Linux 6.12."""

Members = tuple[tuple[int, int], ...]
"""(single id, weight) of a group, ascending."""


class NexthopObject(msgspec.Struct, frozen=True, kw_only=True):
    """A nexthop object as the kernel has it: a group (`members`), or a single with gateway (packed) and interface
    index.
    """

    id: int
    protocol: int
    gateway: bytes = b""
    ifindex: int = 0
    members: Members = ()
    resilient: bool = False


def encode_nexthop(identifier: int, protocol: int, gateway: bytes, ifindex: int, *, replace: bool = False) -> bytes:
    """Create one gateway, or change an existing one.

    On-link: that the gateway is a neighbor on the interface is bgpd's decision; the kernel would ask its main table,
    which knows nothing of a VRF's routes and may hold a learned route to the gateway itself.
    """
    prototype = _nexthop_prototype(protocol, len(gateway), replace)
    ends = U32.pack(ifindex) + prototype[_OIF_AT + 4 : -len(gateway)] + gateway
    return prototype[:_ID_AT] + U32.pack(identifier) + prototype[_ID_AT + 4 : _OIF_AT] + ends


def encode_group(
    identifier: int, protocol: int, members: Members, *, replace: bool = False, resilient: bool = False
) -> bytes:
    """Create a group, or give an existing one new members.

    A resilient one (Linux 5.13) spreads flows by a table of buckets: those of members that stay keep their flows. Its
    timers are the kernel's: a bucket changes hands for balance only after 120 s without a packet.
    """
    entries = b"".join(
        _GROUP_ENTRY.pack(single, (weight - 1) & 0xFF, (weight - 1) >> 8, 0) for single, weight in members
    )
    prototype = _group_prototype(protocol, len(members), replace, resilient)
    rest = prototype[_ID_AT + 4 : _GROUP_AT] + entries + prototype[_GROUP_AT + len(entries) :]
    return prototype[:_ID_AT] + U32.pack(identifier) + rest


def encode_delete(identifiers: Sequence[int]) -> bytes:
    """Delete nexthop objects; a group loses a deleted member, and its routes go with the last."""
    prototype = _delete_prototype()
    return b"".join(prototype[:_ID_AT] + U32.pack(identifier) for identifier in identifiers)


@functools.lru_cache(maxsize=64)
def _nexthop_prototype(protocol: int, size: int, replace: bool) -> bytes:
    """Template with id, ifindex and gateway zero."""
    family = socket.AF_INET if size == 4 else socket.AF_INET6
    payload = NHMSG.pack(family, 0, protocol, 0, _RTNH_F_ONLINK) + _NO_ID
    payload += attribute(NHA_OIF, U32.pack(0)) + attribute(NHA_GATEWAY, bytes(size))
    return message(MessageKind.NEW_NEXTHOP, _REPLACE if replace else _CREATE, payload)


@functools.lru_cache(maxsize=1024)
def _group_prototype(protocol: int, count: int, replace: bool, resilient: bool) -> bytes:
    """Template of a group with `count` members; its id and the members are zero."""
    payload = NHMSG.pack(socket.AF_UNSPEC, 0, protocol, 0, 0) + _NO_ID
    payload += attribute(NHA_GROUP, bytes(count * _GROUP_ENTRY.size))
    if resilient:
        payload += attribute(_NHA_GROUP_TYPE, _U16.pack(_GROUP_TYPE_RESILIENT))
    if resilient and not replace:
        buckets = attribute(_NHA_RES_GROUP_BUCKETS, _U16.pack(_BUCKETS))
        payload += attribute(_NHA_RES_GROUP | NLA_F_NESTED, buckets)
    return message(MessageKind.NEW_NEXTHOP, _REPLACE if replace else _CREATE, payload)


@functools.lru_cache(maxsize=1)
def _delete_prototype() -> bytes:
    payload = NHMSG.pack(socket.AF_UNSPEC, 0, 0, 0, 0) + _NO_ID
    return message(MessageKind.DEL_NEXTHOP, MessageFlag.REQUEST, payload)


def encode_dump_request() -> bytes:
    """Ask for all nexthop objects."""
    return message(
        MessageKind.GET_NEXTHOP, MessageFlag.REQUEST | MessageFlag.DUMP, NHMSG.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
    )


def encode_get(identifier: int) -> bytes:
    """Ask for one nexthop object."""
    payload = NHMSG.pack(socket.AF_UNSPEC, 0, 0, 0, 0) + attribute(NHA_ID, U32.pack(identifier))
    return message(MessageKind.GET_NEXTHOP, MessageFlag.REQUEST, payload)


def read_id(request: bytes) -> int:
    """The object that a nexthop message is about; 0 if it names none."""
    value = attributes(request, 16 + NHMSG.size, len(request)).get(NHA_ID, b"")
    return int(U32.unpack(value)[0]) if len(value) == 4 else 0


def read_deleted(requests: bytes) -> list[int]:
    """The objects that a batch of messages deletes."""
    return [
        read_id(requests[start - 16 : end])
        for kind, _flags, _sequence, start, end in messages(requests)
        if kind == MessageKind.DEL_NEXTHOP
    ]


def read_objects(data: bytes) -> Iterator[NexthopObject]:
    """The nexthop objects of one datagram of a dump."""
    for kind, _flags, _sequence, start, end in messages(data):
        if kind == MessageKind.NEW_NEXTHOP and end - start >= NHMSG.size:
            yield read_object(data, start, end)


def read_object(data: bytes, start: int, end: int) -> NexthopObject:
    """The nexthop object of one RTM_NEWNEXTHOP or RTM_DELNEXTHOP payload."""
    found = attributes(data, start + NHMSG.size, end)
    entries = found.get(NHA_GROUP, b"")
    return NexthopObject(
        id=_number(found.get(NHA_ID)),
        protocol=data[start + 2],
        gateway=found.get(NHA_GATEWAY, b""),
        ifindex=_number(found.get(NHA_OIF)),
        members=tuple(
            sorted(
                (single, 1 + low + (high << 8)) for single, low, high, _reserved in _GROUP_ENTRY.iter_unpack(entries)
            )
        ),
        resilient=found.get(_NHA_GROUP_TYPE, b"\0\0") == _U16.pack(_GROUP_TYPE_RESILIENT),
    )


def _number(value: bytes | None) -> int:
    return int(U32.unpack(value)[0]) if value is not None and len(value) == 4 else 0
