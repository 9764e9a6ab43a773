"""VRF devices, policy rules and the unreachable default as netlink messages (linux/if_link.h, linux/fib_rules.h).

Decides nothing: what a VRF needs is fib/vrfs.py's.

Kernel notifications and dumps of links and addresses as model.kernel values (rtnetlink(7)).

By hand: of links and addresses a handful of attributes is wanted. A property test holds the readers equal to pyroute2,
which is no part of the daemon (docs/decisions/0005-what-the-daemon-loads.md). Sans-IO.

IPv6 addresses of an interface that is taken down for a moment: what the kernel drops then is given back.

Putting an interface into a VRF device takes it down, and by default its IPv6 addresses go, and static link-local ones
in any case. The setting `keep_addr_on_down` is out of reach of a service that may not write kernel settings; addresses
are not. Given back as they were, but for those with a lifetime, which come again by themselves.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager

import msgspec
import structlog

from bgpd.kernel.netlink import (
    NLA_F_NESTED,
    U32,
    KernelRequests,
    MessageFlag,
    MessageKind,
    attribute,
    attributes,
    message,
    messages,
)
from bgpd.kernel.route_messages import (
    LAST_RESORT_METRIC,
    RT_SCOPE_UNIVERSE,
    RTA_PRIORITY,
    RTA_TABLE,
    RTMSG,
)
from bgpd.model.iana import Family
from bgpd.model.kernel import Address, Link

log = structlog.get_logger()

_RULE = struct.Struct("=BBBBBBBBI")
"""fib_rule_hdr: family, dst_len, src_len, tos, table, reserved, reserved, action, flags."""
_IFLA_IFALIAS = 20
_INFO_KIND = 1
_INFO_DATA = 2
_VRF_TABLE = 1
_FRA_DST = 1
_FRA_IIFNAME = 3
_FRA_PRIORITY = 6
_FRA_TABLE = 15
_FRA_OIFNAME = 17
_FRA_L3MDEV = 19
_FRA_PROTOCOL = 21
_TO_TABLE = 1
_RTN_UNREACHABLE = 7
_RT_TABLE_MAIN = 254
_CREATE = MessageFlag.REQUEST | MessageFlag.ACK | MessageFlag.CREATE
_CHANGE = MessageFlag.REQUEST | MessageFlag.ACK


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """A policy rule: what enters by `iif`, leaves by `oif`, goes to `to` (a key), or belongs to a VRF device (`l3mdev`)
    is looked up in `table` (0: the device's). `protocol` is the rtproto of who made it.
    """

    family: Family
    priority: int
    protocol: int
    table: int = 0
    iif: str = ""
    oif: str = ""
    to: bytes = b""
    l3mdev: bool = False


class VrfDevice(msgspec.Struct, frozen=True):
    """What the kernel has under a VRF's name: its kind, its table if it is a VRF device, its alias."""

    index: int
    name: str
    kind: str
    table: int
    alias: str


def encode_vrf_device(name: str, table: int) -> bytes:
    """Create a VRF device that is up."""
    data = attribute(_VRF_TABLE, U32.pack(table))
    information = attribute(_INFO_KIND, b"vrf\0") + attribute(_INFO_DATA | NLA_F_NESTED, data)
    payload = (
        _IFINFOMSG.pack(socket.AF_UNSPEC, 0, 0, _IFF_UP, _IFF_UP)
        + attribute(_IFLA_IFNAME, name.encode() + b"\0")
        + attribute(_IFLA_LINKINFO | NLA_F_NESTED, information)
    )
    return message(MessageKind.NEW_LINK, _CREATE | MessageFlag.EXCLUSIVE, payload)


def encode_link_up(index: int) -> bytes:
    """Set a link up."""
    payload = _IFINFOMSG.pack(socket.AF_UNSPEC, 0, index, _IFF_UP, _IFF_UP)
    return message(MessageKind.NEW_LINK, _CHANGE, payload)


def encode_alias(index: int, alias: str) -> bytes:
    """Give a link an alias: a note on whose it is. (The kernel ignores one that comes with the creation.)"""
    payload = _IFINFOMSG.pack(socket.AF_UNSPEC, 0, index, 0, 0) + attribute(_IFLA_IFALIAS, alias.encode())
    return message(MessageKind.NEW_LINK, _CHANGE, payload)


def encode_master(index: int, master: int) -> bytes:
    """Put a link into a VRF device, or out of it (`master` 0)."""
    payload = _IFINFOMSG.pack(socket.AF_UNSPEC, 0, index, 0, 0) + attribute(_IFLA_MASTER, U32.pack(master))
    return message(MessageKind.NEW_LINK, _CHANGE, payload)


def encode_link_delete(index: int) -> bytes:
    """Delete a link."""
    return message(MessageKind.DEL_LINK, _CHANGE, _IFINFOMSG.pack(socket.AF_UNSPEC, 0, index, 0, 0))


def encode_rule(rule: Rule, *, delete: bool = False) -> bytes:
    """Create a rule, or delete the one that has all its properties."""
    payload = (
        _RULE.pack(_NUMBERS[rule.family], rule.to[0] if rule.to else 0, 0, 0, 0, 0, 0, _TO_TABLE, 0)
        + attribute(_FRA_PRIORITY, U32.pack(rule.priority))
        + attribute(_FRA_PROTOCOL, bytes((rule.protocol,)))
    )
    if rule.l3mdev:
        payload += attribute(_FRA_L3MDEV, b"\1")
    else:
        payload += attribute(_FRA_TABLE, U32.pack(rule.table))
    for kind, interface in ((_FRA_IIFNAME, rule.iif), (_FRA_OIFNAME, rule.oif)):
        if interface:
            payload += attribute(kind, interface.encode() + b"\0")
    if rule.to:
        payload += attribute(_FRA_DST, rule.to[1:].ljust(_SIZES[rule.family], b"\0"))
    if delete:
        return message(MessageKind.DEL_RULE, _CHANGE, payload)
    return message(MessageKind.NEW_RULE, _CREATE | MessageFlag.EXCLUSIVE, payload)


def encode_last_resort(family: Family, table: int, protocol: int, *, delete: bool = False) -> bytes:
    """The unreachable default that ends the table, so that nothing falls through to the next rule's; it takes nobody's
    place.
    """
    header = RTMSG.pack(
        _NUMBERS[family], 0, 0, 0, table if table < 256 else 0, protocol, RT_SCOPE_UNIVERSE, _RTN_UNREACHABLE, 0
    )
    payload = header + attribute(RTA_TABLE, U32.pack(table)) + attribute(RTA_PRIORITY, U32.pack(LAST_RESORT_METRIC))
    if delete:
        return message(MessageKind.DEL_ROUTE, _CHANGE, payload)
    return message(MessageKind.NEW_ROUTE, _CREATE | MessageFlag.EXCLUSIVE, payload)


def encode_rule_dump_request(family: Family) -> bytes:
    """Ask for all rules of a family."""
    payload = _RULE.pack(_NUMBERS[family], 0, 0, 0, 0, 0, 0, 0, 0)
    return message(MessageKind.GET_RULE, MessageFlag.REQUEST | MessageFlag.DUMP, payload)


def read_rules(family: Family, data: bytes) -> Iterator[Rule]:
    """The rules of one datagram of a dump that look up a table."""
    for kind, _flags, _sequence, start, end in messages(data):
        if kind != MessageKind.NEW_RULE or data[start + 7] != _TO_TABLE:
            continue
        found = attributes(data, start + _RULE.size, end)
        l3mdev = bool(found.get(_FRA_L3MDEV, b"\0")[0])
        length = data[start + 1]
        yield Rule(
            family=family,
            priority=_number(found.get(_FRA_PRIORITY)),
            protocol=found.get(_FRA_PROTOCOL, b"\0")[0],
            table=0 if l3mdev else _number(found.get(_FRA_TABLE)) or data[start + 4],
            iif=_text(found.get(_FRA_IIFNAME, b"")),
            oif=_text(found.get(_FRA_OIFNAME, b"")),
            to=bytes((length,)) + found[_FRA_DST][: (length + 7) >> 3] if length else b"",
            l3mdev=l3mdev,
        )


def read_device(data: bytes, start: int, end: int) -> VrfDevice:
    """What one RTM_NEWLINK payload says of a link as a VRF device."""
    _family, _type, index, _flags, _change = _IFINFOMSG.unpack_from(data, start)
    found = attributes(data, start + _IFINFOMSG.size, end)
    nested = found.get(_IFLA_LINKINFO, b"")
    information = attributes(nested, 0, len(nested))
    kind = _text(information.get(_INFO_KIND, b""))
    inner = information.get(_INFO_DATA, b"")
    table = _number(attributes(inner, 0, len(inner)).get(_VRF_TABLE)) if kind == "vrf" else 0
    name, alias = _text(found.get(_IFLA_IFNAME, b"")), _text(found.get(_IFLA_IFALIAS, b""))
    return VrfDevice(index, name, kind, table, alias)


def _number(value: bytes | None) -> int:
    """A 32-bit attribute; 0 where it is missing."""
    return int(U32.unpack(value)[0]) if value else 0


def _text(value: bytes) -> str:
    return value.rstrip(b"\0").decode(errors="surrogateescape")


_NUMBERS = {Family.IPV4_UNICAST: socket.AF_INET, Family.IPV6_UNICAST: socket.AF_INET6}
_SIZES = {Family.IPV4_UNICAST: 4, Family.IPV6_UNICAST: 16}


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
_IFLA_EXT_MASK = 29
_IFLA_LINK_NETNSID = 37
_SKIP_STATS = 8
_IFLA_INFO_KIND = 1
_IFLA_INFO_SLAVE_KIND = 4
_SUB_INTERFACES = ("vlan", "macvlan", "ipvlan")
"""Kinds whose IFLA_LINK is the interface below; a veth's is its other end."""
_IFADDRMSG = struct.Struct("=BBBBi")
"""Family, prefix length, flags, scope, interface index (linux/if_addr.h)."""
_IFA_ADDRESS = 1
_IFA_LOCAL = 2
_IFA_FLAGS = 8
_IFA_F_SECONDARY = 0x01
"""Of an IPv6 address: temporary."""
_IFA_F_DADFAILED = 0x08
_IFA_F_DEPRECATED = 0x20
_IFA_F_TENTATIVE = 0x40


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


def read_address(data: bytes, start: int, end: int) -> Address:
    """The address of one RTM_NEWADDR or RTM_DELADDR payload; of a peer-to-peer one the local end. Without a name."""
    _family, length, flags, _scope, index = _IFADDRMSG.unpack_from(data, start)
    found = attributes(data, start + _IFADDRMSG.size, end)
    flags |= _number(found.get(_IFA_FLAGS, b""))
    other = found.get(_IFA_ADDRESS, b"")
    own = found.get(_IFA_LOCAL) or other
    return Address(
        index=index,
        packed=own,
        prefix_length=length,
        peer=other if other != own else b"",
        usable=not flags & (_IFA_F_TENTATIVE | _IFA_F_DADFAILED),
        deprecated=bool(flags & _IFA_F_DEPRECATED),
        secondary=bool(flags & _IFA_F_SECONDARY),
    )


def encode_dump_request(kind: MessageKind, family: int = socket.AF_UNSPEC) -> bytes:
    """Ask for all links (ifinfomsg; without counters) or addresses (ifaddrmsg) on a socket that is not strict."""
    size = {MessageKind.GET_LINK: 16, MessageKind.GET_ADDRESS: 8}[kind]
    payload = bytes((family,)) + bytes(size - 1)
    if kind == MessageKind.GET_LINK:
        payload += attribute(_IFLA_EXT_MASK, U32.pack(_SKIP_STATS))
    return message(kind, 0x301, payload)


_PERMANENT = 0x80
_CREATE_EXCLUSIVE = MessageFlag.REQUEST | MessageFlag.ACK | MessageFlag.CREATE | MessageFlag.EXCLUSIVE


@asynccontextmanager
async def addresses_kept(requests: KernelRequests, index: int) -> AsyncIterator[None]:
    """After the block the link of this index has the permanent IPv6 addresses that it had before."""
    dump = await requests.dump(encode_dump_request(MessageKind.GET_ADDRESS, socket.AF_INET6))
    wanted = address_requests(dump, index)
    yield
    for request in wanted:
        error = await requests.send(request)
        if error is not None and error.code != errno.EEXIST:
            log.warning("vrf.address_lost", index=index, error=str(error))


def address_requests(dump: Iterable[bytes], index: int) -> list[bytes]:
    """What gives a link the permanent addresses again that a dump shows."""
    found = []
    for data in dump:
        for kind, _flags, _sequence, start, end in messages(data):
            if kind != MessageKind.NEW_ADDRESS:
                continue
            _family, _length, flags, _scope, link = _IFADDRMSG.unpack_from(data, start)
            more = attributes(data, start + _IFADDRMSG.size, end).get(_IFA_FLAGS)
            if link == index and (U32.unpack(more)[0] if more else flags) & _PERMANENT:
                found.append(message(MessageKind.NEW_ADDRESS, _CREATE_EXCLUSIVE, data[start:end]))
    return found
