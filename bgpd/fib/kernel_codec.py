"""Kernel notifications and dumps of links, addresses and routes as model.kernel values.

Links and addresses are decoded by pyroute2; routes by hand, because another program may bring a million of them.
Sans-IO.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from typing import Any

from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

from bgpd.fib.netlink import U32, MessageKind, attributes, message, messages
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

_IFF_UP = 0x1
_IFF_LOWER_UP = 0x10000
_IFA_F_DADFAILED = 0x08
_IFA_F_TENTATIVE = 0x40
_RTM_F_CLONED = 0x200
_RTA_VIA = 18
ROUTE_TYPES = frozenset({RTN_UNICAST, RTN_BLACKHOLE, 7, 8})
"""unicast, blackhole, unreachable, prohibit: what decides over a packet. Local, broadcast and multicast are the
host's.
"""


def read_link(data: bytes, name_of: Callable[[int], str]) -> Link:
    """The link of one RTM_NEWLINK or RTM_DELLINK message. `name_of` names its VRF device by index."""
    found = _decode(ifinfmsg, data)
    information = found.get_attr("IFLA_LINKINFO")
    kind = (information.get_attr("IFLA_INFO_KIND") or "") if information else ""
    slave = (information.get_attr("IFLA_INFO_SLAVE_KIND") or "") if information else ""
    mac = found.get_attr("IFLA_ADDRESS") or ""
    up = _IFF_UP | _IFF_LOWER_UP
    return Link(
        index=found["index"],
        name=found.get_attr("IFLA_IFNAME") or "",
        up=found["flags"] & up == up,
        mac=bytes.fromhex(mac.replace(":", "")) if len(mac) == 17 else b"",
        mtu=found.get_attr("IFLA_MTU") or 0,
        vrf=name_of(found.get_attr("IFLA_MASTER") or 0) if slave == "vrf" else "",
        kind=kind,
    )


def read_address(data: bytes, name_of: Callable[[int], str]) -> Address:
    """The address of one RTM_NEWADDR or RTM_DELADDR message; of a peer-to-peer one the local end."""
    found = _decode(ifaddrmsg, data)
    text = found.get_attr("IFA_LOCAL") or found.get_attr("IFA_ADDRESS")
    flags = found.get_attr("IFA_FLAGS") or found["flags"]
    family = socket.AF_INET if found["family"] == socket.AF_INET else socket.AF_INET6
    return Address(
        interface=name_of(found["index"]),
        packed=socket.inet_pton(family, text),
        prefix_length=found["prefixlen"],
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
    for kind, _flags, _sequence, start, end in messages(data):
        if kind == MessageKind.NEW_ROUTE and data[start + 5] != own_protocol:
            route = read_route(data, start, end, name_of)
            if route is not None:
                yield route


def encode_dump_request(kind: MessageKind, family: int = socket.AF_UNSPEC) -> bytes:
    """Ask for all links (ifinfomsg), addresses (ifaddrmsg) or routes (rtmsg) on a socket that is not strict."""
    size = {MessageKind.GET_LINK: 16, MessageKind.GET_ADDRESS: 8, MessageKind.GET_ROUTE: RTMSG.size}[kind]
    return message(kind, 0x301, bytes((family,)) + bytes(size - 1))


def _decode(kind: Any, data: bytes) -> Any:
    """A pyroute2 message; its classes carry no types."""
    found = kind(data)
    found.decode()
    return found


_FAMILIES = {socket.AF_INET: Family.IPV4_UNICAST, socket.AF_INET6: Family.IPV6_UNICAST}
