"""Kernel notifications and dumps of links, addresses and routes as model.kernel values (rtnetlink(7)).

By hand: another program may bring a million routes, and of links and addresses a handful of attributes is wanted. A
property test holds the readers equal to pyroute2, which is no part of the daemon
(docs/decisions/0005-what-the-daemon-does-not-load.md). Sans-IO.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterator

from bgpd.fib.netlink import HEADER, U32, MessageKind, attributes, message
from bgpd.fib.route_messages import (
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
from bgpd.model.kernel import Address, KernelRoute, Link

_IFINFOMSG = struct.Struct("=BxHiII")
"""Family, device type, index, flags, change mask (linux/rtnetlink.h)."""
_IFF_UP = 0x1
_IFF_LOWER_UP = 0x10000
_IFLA_ADDRESS = 1
_IFLA_IFNAME = 3
_IFLA_MTU = 4
_IFLA_LINK = 5
_IFLA_MASTER = 10
_IFLA_LINKINFO = 18
_IFLA_LINK_NETNSID = 37
_IFLA_INFO_KIND = 1
_IFLA_INFO_SLAVE_KIND = 4
_SUB_INTERFACES = ("vlan", "macvlan", "ipvlan")
"""Kinds whose IFLA_LINK is the interface below; a veth's is its other end."""
_IFADDRMSG = struct.Struct("=BBBBi")
"""Family, prefix length, flags, scope, interface index (linux/if_addr.h)."""
_IFA_ADDRESS = 1
_IFA_LOCAL = 2
_IFA_FLAGS = 8
_IFA_F_DADFAILED = 0x08
_IFA_F_TENTATIVE = 0x40
_ROUTE_HEAD = 16 + RTMSG.size
_PROTOCOL_AT = 16 + 5
"""Offset of rtm_protocol from the message's header."""
_RTM_F_CLONED = 0x200
_RTA_VIA = 18
ROUTE_TYPES = frozenset({RTN_UNICAST, RTN_BLACKHOLE, 7, 8})
"""unicast, blackhole, unreachable, prohibit: what decides over a packet. Local, broadcast and multicast are the
host's.
"""


def read_link(data: bytes, start: int, end: int, name_of: Callable[[int], str]) -> Link:
    """The link of one RTM_NEWLINK or RTM_DELLINK payload. `name_of` names its VRF device by index."""
    _family, _type, index, flags, _change = _IFINFOMSG.unpack_from(data, start)
    found = attributes(data, start + _IFINFOMSG.size, end)
    nested = found.get(_IFLA_LINKINFO, b"")
    information = attributes(nested, 0, len(nested))
    mac = found.get(_IFLA_ADDRESS, b"")
    up = _IFF_UP | _IFF_LOWER_UP
    link_kind = _text(information.get(_IFLA_INFO_KIND, b""))
    has_parent = link_kind in _SUB_INTERFACES and _IFLA_LINK_NETNSID not in found
    return Link(
        index=index,
        name=_text(found.get(_IFLA_IFNAME, b"")),
        up=flags & up == up,
        mac=mac if len(mac) == 6 else b"",
        mtu=_number(found.get(_IFLA_MTU, b"")),
        vrf=name_of(_number(found.get(_IFLA_MASTER, b"")))
        if information.get(_IFLA_INFO_SLAVE_KIND, b"").rstrip(b"\0") == b"vrf"
        else "",
        kind=link_kind,
        parent=_number(found.get(_IFLA_LINK, b"")) if has_parent else 0,
    )


def read_address(data: bytes, start: int, end: int, name_of: Callable[[int], str]) -> Address:
    """The address of one RTM_NEWADDR or RTM_DELADDR payload; of a peer-to-peer one the local end."""
    _family, length, flags, _scope, index = _IFADDRMSG.unpack_from(data, start)
    found = attributes(data, start + _IFADDRMSG.size, end)
    flags |= _number(found.get(_IFA_FLAGS, b""))
    return Address(
        interface=name_of(index),
        packed=found.get(_IFA_LOCAL) or found[_IFA_ADDRESS],
        prefix_length=length,
        usable=not flags & (_IFA_F_TENTATIVE | _IFA_F_DADFAILED),
    )


def read_route(data: bytes, start: int, end: int, name_of: Callable[[int], str]) -> KernelRoute | None:
    """The route of one route message's payload; None for what is no forwarding decision (cached, local, multicast)."""
    number, length, _src, _tos, table, protocol, _scope, kind, flags = RTMSG.unpack_from(data, start)
    if kind not in ROUTE_TYPES or flags & _RTM_F_CLONED or number not in _FAMILIES:
        return None
    found = attributes(data, start + RTMSG.size, end)
    outgoing = found.get(RTA_OIF)
    via = found.get(_RTA_VIA, b"")
    return KernelRoute(
        family=_FAMILIES[number],
        key=bytes((length,)) + found.get(RTA_DST, b"")[: (length + 7) >> 3],
        table=U32.unpack(found[RTA_TABLE])[0] if RTA_TABLE in found else table,
        protocol=protocol,
        metric=U32.unpack(found[RTA_PRIORITY])[0] if RTA_PRIORITY in found else 0,
        interface=name_of(U32.unpack(outgoing)[0]) if outgoing and RTA_NH_ID not in found else "",
        gateway=found.get(RTA_GATEWAY) or via[2:],
    )


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
            route = read_route(data, offset + 16, offset + length, name_of)
            if route is not None:
                yield route
        offset += stride


def _run_length(data: bytes, offset: int, stride: int) -> int:
    """How many messages from here have the length, type and protocol of the first."""
    count = (len(data) - offset) // stride
    for place in (*range(6), _PROTOCOL_AT):
        column = data[offset + place : offset + stride * count : stride]
        count -= len(column.lstrip(column[:1]))
    return count


def encode_dump_request(kind: MessageKind, family: int = socket.AF_UNSPEC) -> bytes:
    """Ask for all links (ifinfomsg), addresses (ifaddrmsg) or routes (rtmsg) on a socket that is not strict."""
    size = {MessageKind.GET_LINK: 16, MessageKind.GET_ADDRESS: 8, MessageKind.GET_ROUTE: RTMSG.size}[kind]
    return message(kind, 0x301, bytes((family,)) + bytes(size - 1))


def _number(value: bytes) -> int:
    """A 32-bit attribute; 0 where it is missing."""
    return int(U32.unpack(value)[0]) if value else 0


def _text(value: bytes) -> str:
    return value.rstrip(b"\0").decode(errors="surrogateescape")


_FAMILIES = {socket.AF_INET: Family.IPV4_UNICAST, socket.AF_INET6: Family.IPV6_UNICAST}
