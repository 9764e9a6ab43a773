"""Links, addresses and policy rules as netlink messages: what the kernel notifies and dumps (rtnetlink(7)).

Decoded without pyroute2, since all are read again after each burst of changes and a host may have thousands; tests
compare the results with pyroute2's. rtnl.py makes changes. Decides nothing, sans-IO.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterator

from bgpd.kernel.netlink import U32, MessageFlag, MessageKind, attribute, attributes, message, messages
from bgpd.model.iana import Family
from bgpd.model.kernel import Address, Link, RoutingRule
from bgpd.model.prefix import key_address

_RULE = struct.Struct("=BBBBBBBBI")
"""fib_rule_hdr: family, dst_len, src_len, tos, table, reserved, reserved, action, flags."""
_FRA_DST = 1
_FRA_SRC = 2
_FRA_IIFNAME = 3
_FRA_PRIORITY = 6
_FRA_TABLE = 15
_FRA_OIFNAME = 17
_FRA_L3MDEV = 19
_FRA_PROTOCOL = 21
_TO_TABLE = 1
_NUMBERS = {Family.IPV4_UNICAST: socket.AF_INET, Family.IPV6_UNICAST: socket.AF_INET6}
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
    _family, length, flags, scope, index = _IFADDRMSG.unpack_from(data, start)
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
        scope=scope,
    )


def encode_dump_request(kind: MessageKind, family: int = socket.AF_UNSPEC) -> bytes:
    """Ask for all links (ifinfomsg; without counters) or addresses (ifaddrmsg) on a socket that is not strict."""
    size = {MessageKind.GET_LINK: 16, MessageKind.GET_ADDRESS: 8}[kind]
    payload = bytes((family,)) + bytes(size - 1)
    if kind == MessageKind.GET_LINK:
        payload += attribute(_IFLA_EXT_MASK, U32.pack(_SKIP_STATS))
    return message(kind, MessageFlag.REQUEST | MessageFlag.DUMP, payload)


def encode_rule_dump_request(family: Family) -> bytes:
    """Ask for all rules of a family."""
    payload = _RULE.pack(_NUMBERS[family], 0, 0, 0, 0, 0, 0, 0, 0)
    return message(MessageKind.GET_RULE, MessageFlag.REQUEST | MessageFlag.DUMP, payload)


def encode_add_rule(rule: RoutingRule, *, sequence: int = 0) -> bytes:
    """RTM_NEWRULE; refused with EEXIST where the rule is."""
    flags = MessageFlag.REQUEST | MessageFlag.CREATE | MessageFlag.EXCLUSIVE
    return message(MessageKind.NEW_RULE, flags, _rule_payload(rule), sequence=sequence)


def encode_delete_rule(rule: RoutingRule, *, sequence: int = 0) -> bytes:
    """RTM_DELRULE of the rule that has all these properties."""
    return message(MessageKind.DEL_RULE, MessageFlag.REQUEST, _rule_payload(rule), sequence=sequence)


def _rule_payload(rule: RoutingRule) -> bytes:
    """The attribute FRA_TABLE has the table's number: the header's field is too small for most."""
    found = [
        _RULE.pack(
            _NUMBERS[rule.family],
            rule.to[0] if rule.to else 0,
            rule.source[0] if rule.source else 0,
            *(0, 0, 0, 0, _TO_TABLE, 0),
        ),
        attribute(_FRA_PRIORITY, U32.pack(rule.priority)),
        attribute(_FRA_PROTOCOL, bytes((rule.protocol,))),
    ]
    if rule.l3mdev:
        found.append(attribute(_FRA_L3MDEV, b"\1"))
    else:
        found.append(attribute(_FRA_TABLE, U32.pack(rule.table)))
    for kind, name in ((_FRA_IIFNAME, rule.iif), (_FRA_OIFNAME, rule.oif)):
        if name:
            found.append(attribute(kind, name.encode(errors="surrogateescape") + b"\0"))
    for kind, key in ((_FRA_DST, rule.to), (_FRA_SRC, rule.source)):
        if key:
            found.append(attribute(kind, key_address(rule.family, key)))
    return b"".join(found)


def read_rules(family: Family, data: bytes) -> Iterator[RoutingRule]:
    """The rules of one datagram of a dump that look up a table."""
    for kind, _flags, _sequence, start, end in messages(data):
        if kind != MessageKind.NEW_RULE:
            continue
        _family, to_length, source_length, _tos, table, _, _, action, _flags = _RULE.unpack_from(data, start)
        if action != _TO_TABLE:
            continue
        found = attributes(data, start + _RULE.size, end)
        l3mdev = any(found.get(_FRA_L3MDEV, b""))
        yield RoutingRule(
            family=family,
            priority=_number(found.get(_FRA_PRIORITY)),
            protocol=int.from_bytes(found.get(_FRA_PROTOCOL, b"")[:1]),
            table=0 if l3mdev else _number(found.get(_FRA_TABLE)) or table,
            iif=_text(found.get(_FRA_IIFNAME, b"")),
            oif=_text(found.get(_FRA_OIFNAME, b"")),
            to=_key(found.get(_FRA_DST, b""), to_length),
            source=_key(found.get(_FRA_SRC, b""), source_length),
            l3mdev=l3mdev,
        )


def _key(address: bytes, length: int) -> bytes:
    """A prefix as a key; b"" for the one of length 0, which selects nothing."""
    return bytes((length,)) + address[: (length + 7) >> 3] if length else b""


def _number(value: bytes | None) -> int:
    """A 32-bit attribute; 0 where it is missing."""
    return int(U32.unpack(value)[0]) if value else 0


def _text(value: bytes) -> str:
    return value.rstrip(b"\0").decode(errors="surrogateescape")
