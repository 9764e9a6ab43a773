"""Messages of the tables by which bgpd asks service addresses of this host: their routes, and where answers arrive.

Few routes, written one by one: no templates. Routes of these tables are bgpd's alone, and the only ones that are
replaced (NLM_F_REPLACE). Decides nothing, sends nothing.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence

from bgpd.kernel.netlink import U32, MessageFlag, MessageKind, attribute, message
from bgpd.kernel.route_messages import (
    RTA_DST,
    RTA_GATEWAY,
    RTA_MULTIPATH,
    RTA_OIF,
    RTA_PRIORITY,
    RTA_TABLE,
    RTMSG,
    RTN_UNICAST,
    RTNEXTHOP,
    RouteForm,
)
from bgpd.model.iana import Family
from bgpd.model.prefix import key_address

_RTN_LOCAL = 2
_RT_SCOPE_UNIVERSE, _RT_SCOPE_HOST = 0, 254
_RT_SCOPE_NOWHERE = 255
_RTNH_F_ONLINK = 4
_MAX_WEIGHT = 256

Gateway = tuple[bytes, int, int]
"""Packed address, interface index, weight."""


def encode_probe_route(
    family: Family, key: bytes, gateways: Sequence[Gateway], form: RouteForm, *, sequence: int = 0
) -> bytes:
    """A route of an address over gateways that answer on their interfaces, in place of the one that is there."""
    if len(gateways) == 1:
        address, interface, _weight = gateways[0]
        way = attribute(RTA_GATEWAY, address) + attribute(RTA_OIF, U32.pack(interface))
        flags = _RTNH_F_ONLINK
    else:
        hops = [_next_hop(*one, most=max(weight for *_, weight in gateways)) for one in gateways]
        way, flags = attribute(RTA_MULTIPATH, b"".join(hops)), 0
    payload = _head(family, key, form, _RT_SCOPE_UNIVERSE, RTN_UNICAST, flags) + way
    return message(MessageKind.NEW_ROUTE, _REPLACE, payload, sequence=sequence)


def encode_arrival(family: Family, key: bytes, interface: int, form: RouteForm, *, sequence: int = 0) -> bytes:
    """Packets to these addresses are this host's own, although no interface has them."""
    payload = _head(family, key, form, _RT_SCOPE_HOST, _RTN_LOCAL, 0) + attribute(RTA_OIF, U32.pack(interface))
    return message(MessageKind.NEW_ROUTE, _REPLACE, payload, sequence=sequence)


def encode_no_probe_route(family: Family, key: bytes, form: RouteForm, *, sequence: int = 0) -> bytes:
    """Deletes the route of an address; refused with ESRCH where there is none."""
    payload = _head(family, key, form, _RT_SCOPE_NOWHERE, 0, 0)
    return message(MessageKind.DEL_ROUTE, MessageFlag.REQUEST, payload, sequence=sequence)


_REPLACE = MessageFlag.REQUEST | MessageFlag.CREATE | MessageFlag.REPLACE


def _next_hop(address: bytes, interface: int, weight: int, *, most: int) -> bytes:
    if most > _MAX_WEIGHT:
        weight = max(1, weight * _MAX_WEIGHT // most)
    gateway = attribute(RTA_GATEWAY, address)
    return RTNEXTHOP.pack(RTNEXTHOP.size + len(gateway), _RTNH_F_ONLINK, weight - 1, interface) + gateway


def _head(family: Family, key: bytes, form: RouteForm, scope: int, kind: int, flags: int) -> bytes:
    number = socket.AF_INET if family is Family.IPV4_UNICAST else socket.AF_INET6
    payload = RTMSG.pack(number, key[0], 0, 0, 0, form.protocol, scope, kind, flags)
    payload += attribute(RTA_DST, key_address(family, key)) + attribute(RTA_TABLE, U32.pack(form.table))
    return payload + attribute(RTA_PRIORITY, U32.pack(form.metric))
