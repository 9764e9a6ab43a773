"""What the kernel tells of links, addresses and routes: the same as pyroute2 reads, for any message."""

from __future__ import annotations

import ipaddress
import socket
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from bgpd.kernel.foreign_messages import read_foreign_routes, read_routes
from bgpd.kernel.link_messages import encode_dump_request, read_address, read_link
from bgpd.kernel.netlink import MessageKind, open_socket
from bgpd.kernel.netlink import dump as read_dump
from bgpd.kernel.netlink import messages as split
from bgpd.model.iana import Family
from bgpd.model.kernel import Address, KernelRoute, Link

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


def route_message(kind: int = 1, protocol: int = 4, flags: int = 0, attributes: Attributes | None = None) -> bytes:
    fields = {
        "family": socket.AF_INET,
        "dst_len": 24,
        "table": 254,
        "proto": protocol,
        "type": kind,
        "flags": flags,
    }
    data = bytearray(encoded(rtmsg, fields, attributes or [("RTA_DST", "10.1.2.0"), ("RTA_OIF", 7)]))
    data[4] = MessageKind.NEW_ROUTE
    return bytes(data)


def test_route_is_read() -> None:
    data = route_message(
        attributes=[
            ("RTA_DST", "10.1.2.0"),
            ("RTA_TABLE", 1001),
            ("RTA_PRIORITY", 50),
            ("RTA_GATEWAY", "10.0.0.1"),
            ("RTA_OIF", 7),
        ]
    )
    assert read_routes(data, 16, len(data), named) == (
        KernelRoute(
            family=Family.IPV4_UNICAST,
            key=b"\x18\x0a\x01\x02",
            table=1001,
            protocol=4,
            metric=50,
            interface="if7",
            gateway=b"\x0a\0\0\1",
        ),
    )


def test_multipath_route_is_a_way_for_each_next_hop_that_is_not_dead() -> None:
    data = route_message(
        attributes=[
            ("RTA_DST", "10.1.2.0"),
            (
                "RTA_MULTIPATH",
                [
                    {"oif": 7, "attrs": [("RTA_GATEWAY", "10.0.0.1")]},
                    {"oif": 8, "flags": 1, "attrs": [("RTA_GATEWAY", "10.0.1.1")]},
                    {"oif": 9},
                ],
            ),
        ]
    )
    ways = read_routes(data, 16, len(data), named)
    assert [(way.interface, way.gateway, way.multipath) for way in ways] == [
        ("if7", b"\x0a\0\0\1", True),
        ("if9", b"", True),
    ]


def test_routes_that_differ_in_anything_that_the_kernel_tells_apart_are_not_equal() -> None:
    plain: Attributes = [("RTA_DST", "10.1.2.0"), ("RTA_OIF", 7)]
    messages = [
        route_message(attributes=plain),
        route_message(attributes=[*plain, ("RTA_PREFSRC", "10.0.0.1")]),
        route_message(attributes=[*plain, ("RTA_FLOW", 5)]),
        route_message(attributes=[*plain, ("RTA_FLOW", 6)]),
        route_message(6, attributes=plain),
    ]
    assert len({read_routes(data, 16, len(data), named) for data in messages}) == len(messages)


@pytest.mark.parametrize(("kind", "flags"), [(2, 0), (3, 0), (5, 0), (1, 0x200)])
def test_what_is_no_forwarding_decision_is_no_route(kind: int, flags: int) -> None:
    data = route_message(kind, flags=flags)
    assert read_routes(data, 16, len(data), named) == ()


MANY = [
    *(route_message(protocol=197, attributes=[("RTA_DST", f"10.1.{n}.0")]) for n in range(2)),
    route_message(protocol=197, attributes=[("RTA_DST", "10.2.0.0"), ("RTA_PRIORITY", 20)]),
    *(route_message(protocol=4, attributes=[("RTA_DST", f"10.3.{n}.0")]) for n in range(2)),
    route_message(protocol=4, attributes=[("RTA_DST", "10.4.0.0"), ("RTA_PRIORITY", 20)]),
    b"\x14\0\0\0\x03\0\x02\0" + bytes(12),  # NLMSG_DONE
]


@given(st.lists(st.sampled_from(MANY), max_size=40))
def test_own_routes_are_passed_over(datagram: list[bytes]) -> None:
    data = b"".join(datagram)
    foreign = [
        route
        for kind, _, _, start, end in split(data)
        if kind == MessageKind.NEW_ROUTE and data[start + 5] == 4
        for route in read_routes(data, start, end, named)
    ]
    assert list(read_foreign_routes(data, 197, named)) == foreign
