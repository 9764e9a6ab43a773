"""Links, addresses and policy rules as the kernel tells them: the same as pyroute2 reads, for any message."""

from __future__ import annotations

import ipaddress
import socket
import sys
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from pyroute2.netlink.rtnl.fibmsg import fibmsg
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

from bgpd.kernel.link_messages import encode_dump_request, encode_rule_dump_request, read_address, read_link, read_rules
from bgpd.kernel.netlink import MessageKind, attribute, open_socket
from bgpd.kernel.netlink import dump as read_dump
from bgpd.kernel.netlink import messages as split
from bgpd.model.iana import Family
from bgpd.model.kernel import Address, Link, RoutingRule
from bgpd.model.prefix import format_address, key_address, parse_prefix

Attributes = list[tuple[str, Any]]

INDEX = st.integers(1, 2**31 - 1)
NAME = st.text("abcdefghijklmnopqrstuvwxyz0123456789.@-_", min_size=1, max_size=15)
MAC = st.binary(min_size=6, max_size=6).map(lambda packed: packed.hex(":"))
IPV4 = st.binary(min_size=4, max_size=4).map(lambda packed: str(ipaddress.ip_address(packed)))
IPV6 = st.binary(min_size=16, max_size=16).map(lambda packed: str(ipaddress.ip_address(packed)))


def named(index: int) -> str:
    return f"if{index}" if index else ""


def encoded(kind: type[Any], fields: dict[str, int], attributes: Attributes) -> bytes:
    """A whole message as pyroute2 writes it."""
    message = kind()
    message["header"]["type"] = MessageKind.NEW_LINK
    for name, value in fields.items():
        message[name] = value
    message["attrs"] = attributes
    message.encode()
    return bytes(message.data)


def pyroute2_link(data: bytes) -> Link:
    """The link of a message as pyroute2 reads it."""
    found = ifinfmsg(data)
    found.decode()
    information = found.get_attr("IFLA_LINKINFO")
    slave = information.get_attr("IFLA_INFO_SLAVE_KIND") if information else None
    mac = found.get_attr("IFLA_ADDRESS") or ""
    kind = (information.get_attr("IFLA_INFO_KIND") or "") if information else ""
    parent = found.get_attr("IFLA_LINK")
    return Link(
        index=found["index"],
        name=found.get_attr("IFLA_IFNAME") or "",
        up=found["flags"] & 0x10001 == 0x10001,
        mac=bytes.fromhex(mac.replace(":", "")) if len(mac) == 17 else b"",
        mtu=found.get_attr("IFLA_MTU") or 0,
        vrf=named(found.get_attr("IFLA_MASTER") or 0) if slave == "vrf" else "",
        kind=kind,
        parent=parent or 0 if kind in ("vlan", "macvlan") and found.get_attr("IFLA_LINK_NETNSID") is None else 0,
    )


def pyroute2_address(data: bytes) -> Address:
    """The address of a message as pyroute2 reads it."""
    found = ifaddrmsg(data)
    found.decode()
    other = found.get_attr("IFA_ADDRESS")
    text = found.get_attr("IFA_LOCAL") or other
    flags = found["flags"] | (found.get_attr("IFA_FLAGS") or 0)
    return Address(
        index=found["index"],
        packed=ipaddress.ip_address(text).packed,
        prefix_length=found["prefixlen"],
        peer=b"" if other in (None, text) else ipaddress.ip_address(other).packed,
        usable=not flags & 0x48,
        deprecated=bool(flags & 0x20),
        secondary=bool(flags & 0x01),
        scope=found["scope"],
    )


@st.composite
def link_attributes(draw: st.DrawFn) -> Attributes:
    attributes: Attributes = [("IFLA_IFNAME", draw(NAME)), ("IFLA_TXQLEN", draw(st.integers(0, 10_000)))]
    attributes += draw(st.lists(st.tuples(st.just("IFLA_ADDRESS"), MAC), max_size=1))
    attributes += draw(st.lists(st.tuples(st.just("IFLA_BROADCAST"), MAC), max_size=1))
    attributes += draw(st.lists(st.tuples(st.just("IFLA_MTU"), st.integers(0, 2**32 - 1)), max_size=1))
    attributes += draw(st.lists(st.tuples(st.just("IFLA_MASTER"), INDEX), max_size=1))
    attributes += draw(st.lists(st.tuples(st.just("IFLA_LINK"), INDEX), max_size=1))
    attributes += draw(st.lists(st.tuples(st.just("IFLA_LINK_NETNSID"), st.integers(0, 9)), max_size=1))
    kinds = st.sampled_from(["vrf", "bridge", "veth", "vlan", "macvlan"])
    information: Attributes = draw(st.lists(st.tuples(st.just("IFLA_INFO_KIND"), kinds), max_size=1))
    information += draw(st.lists(st.tuples(st.just("IFLA_INFO_SLAVE_KIND"), kinds), max_size=1))
    if information:
        attributes.append(("IFLA_LINKINFO", {"attrs": information}))
    return draw(st.permutations(attributes))


@given(INDEX, st.integers(0, 2**32 - 1), link_attributes())
def test_links_are_what_pyroute2_reads(index: int, flags: int, attributes: Attributes) -> None:
    data = encoded(ifinfmsg, {"index": index, "flags": flags, "ifi_type": 1}, attributes)
    assert read_link(data, 16, len(data), named) == pyroute2_link(data)


@given(st.data(), INDEX, st.sampled_from([socket.AF_INET, socket.AF_INET6]), st.integers(0, 255))
def test_addresses_are_what_pyroute2_reads(data: st.DataObject, index: int, family: int, flags: int) -> None:
    text, longest = (IPV4, 32) if family == socket.AF_INET else (IPV6, 128)
    attributes: Attributes = [("IFA_ADDRESS", data.draw(text))]
    attributes += data.draw(st.lists(st.tuples(st.just("IFA_LOCAL"), text), max_size=1))
    attributes += data.draw(st.lists(st.tuples(st.just("IFA_LABEL"), NAME), max_size=1))
    attributes += data.draw(st.lists(st.tuples(st.just("IFA_FLAGS"), st.integers(0, 2**32 - 1)), max_size=1))
    fields = {"family": family, "prefixlen": data.draw(st.integers(0, longest)), "flags": flags, "index": index}
    message = encoded(ifaddrmsg, fields, data.draw(st.permutations(attributes)))
    assert read_address(message, 16, len(message)) == pyroute2_address(message)


def test_this_machines_links_and_addresses_are_what_pyroute2_reads() -> None:
    opened = open_socket()
    try:
        links = [
            (data[start - 16 : end], read_link(data, start, end, named))
            for data in read_dump(opened, encode_dump_request(MessageKind.GET_LINK))
            for kind, _flags, _sequence, start, end in split(data)
            if kind == MessageKind.NEW_LINK
        ]
        addresses = [
            (data[start - 16 : end], read_address(data, start, end))
            for data in read_dump(opened, encode_dump_request(MessageKind.GET_ADDRESS))
            for kind, _flags, _sequence, start, end in split(data)
            if kind == MessageKind.NEW_ADDRESS
        ]
    finally:
        opened.close()
    assert "lo" in {link.name for _, link in links}
    assert [link for _, link in links] == [pyroute2_link(data) for data, _ in links]
    assert [address for _, address in addresses] == [pyroute2_address(data) for data, _ in addresses]


NUMBERS = {Family.IPV4_UNICAST: socket.AF_INET, Family.IPV6_UNICAST: socket.AF_INET6}


@st.composite
def rules(draw: st.DrawFn) -> RoutingRule:
    family = draw(st.sampled_from(list(NUMBERS)))
    to = draw(st.sampled_from([b"", parse_prefix("10.8.0.0/13" if family is Family.IPV4_UNICAST else "fe80::/10")[1]]))
    is_devices = draw(st.booleans())
    return RoutingRule(
        family=family,
        priority=draw(st.integers(0, 2**32 - 1)),
        protocol=draw(st.integers(0, 255)),
        table=0 if is_devices else draw(st.integers(1, 2**32 - 1)),
        iif=draw(st.one_of(st.just(""), NAME)),
        oif=draw(st.one_of(st.just(""), NAME)),
        to=to,
        l3mdev=is_devices,
    )


def rule_message(rule: RoutingRule) -> bytes:
    """A rule as pyroute2 writes it."""
    table = rule.table if rule.table < 256 else 252
    fields = {"family": NUMBERS[rule.family], "action": 1, "table": table, "dst_len": rule.to[0] if rule.to else 0}
    attributes: Attributes = [("FRA_PRIORITY", rule.priority), ("FRA_PROTOCOL", rule.protocol)]
    attributes += [("FRA_L3MDEV", 1)] if rule.l3mdev else [("FRA_TABLE", rule.table)]
    attributes += [("FRA_IIFNAME", rule.iif)] if rule.iif else []
    attributes += [("FRA_OIFNAME", rule.oif)] if rule.oif else []
    attributes += [("FRA_DST", format_address(key_address(rule.family, rule.to)))] if rule.to else []
    data = bytearray(encoded(fibmsg, fields, [*attributes, ("FRA_SUPPRESS_PREFIXLEN", 2**32 - 1)]))
    data[4] = MessageKind.NEW_RULE
    return bytes(data)


@given(rules())
def test_rules_are_what_pyroute2_writes(rule: RoutingRule) -> None:
    assert list(read_rules(rule.family, rule_message(rule))) == [rule]


def test_rules_with_another_action_than_a_table_are_passed_over() -> None:
    data = bytearray(rule_message(RoutingRule(family=Family.IPV4_UNICAST, priority=5, protocol=4, table=7)))
    data[16 + 7] = 6
    assert list(read_rules(Family.IPV4_UNICAST, bytes(data))) == []


def test_empty_attributes_of_a_rule_are_none() -> None:
    rule = RoutingRule(family=Family.IPV4_UNICAST, priority=5, protocol=0, table=7)
    empty = b"".join(attribute(kind, b"") for kind in (19, 21))
    data = rule_message(rule) + empty
    assert list(read_rules(rule.family, len(data).to_bytes(4, sys.byteorder) + data[4:])) == [rule]


def test_this_machines_rules_are_read() -> None:
    opened = open_socket()
    try:
        data = b"".join(read_dump(opened, encode_rule_dump_request(Family.IPV4_UNICAST)))
    finally:
        opened.close()
    tables = {rule.table for rule in read_rules(Family.IPV4_UNICAST, data)}
    assert {254, 255} <= tables
