"""From what an EVPN route names to the uplink gateways that packets leave by."""

from __future__ import annotations

import functools

import pytest

from bgpd.evpn.resolve import Resolver, Uplink, point_to_point_peer, vrf_of
from bgpd.evpn.resolve import recursive_next_hop as recursive_next_hop_in
from bgpd.model.next_hop import NextHop, NextHops
from bgpd.model.prefix import parse_address as ip

LEAF1 = Uplink(
    name="eth0.101", up=True, addresses=((ip("10.1.0.1"), 31),), neighbor="leaf1", gateways=(ip("10.1.0.0"),)
)
LEAF2 = Uplink(
    name="eth1.101", up=True, addresses=((ip("10.2.0.1"), 31),), neighbor="leaf2", gateways=(ip("10.2.0.0"),)
)
VIA1 = NextHop(ip("10.1.0.0"), "eth0.101")
VIA2 = NextHop(ip("10.2.0.0"), "eth1.101")


recursive_next_hop = functools.partial(recursive_next_hop_in, "blue")


class Table(dict[bytes, NextHops]):
    """The host routes of one VRF."""

    def host_route(self, vrf: str, address: bytes) -> NextHops | None:
        return self.get(address)


def resolver(routes: dict[str, NextHops], *uplinks: Uplink) -> Resolver:
    made = Resolver("blue", Table({ip(address): next_hops for address, next_hops in routes.items()}))
    made.uplinks_changed({uplink.name: uplink for uplink in uplinks})
    return made


def test_an_address_on_an_uplink_subnet_is_its_own_gateway() -> None:
    found = resolver({}, LEAF1, LEAF2).resolve(recursive_next_hop(ip("10.2.0.0")))
    assert found.next_hops == (VIA2,)


@pytest.mark.parametrize(
    ("own", "length", "inside", "outside"),
    [
        ("10.1.0.9", 24, ("10.1.0.1", "10.1.0.255", "10.1.0.0"), ("10.1.1.0", "10.0.255.255")),
        ("10.1.0.9", 29, ("10.1.0.8", "10.1.0.15"), ("10.1.0.7", "10.1.0.16")),
        ("10.1.0.1", 31, ("10.1.0.0",), ("10.1.0.2", "10.0.255.255")),
        ("10.1.0.1", 32, ("10.1.0.1",), ("10.1.0.0", "10.1.0.2")),
        ("10.1.0.1", 12, ("10.15.255.255",), ("10.16.0.0", "9.255.255.255")),
        ("2001:db8::9", 64, ("2001:db8::ffff:ffff:ffff:ffff",), ("2001:db8:0:1::", "2001:db7:ffff:ffff::1")),
        ("2001:db8::9", 127, ("2001:db8::8",), ("2001:db8::a", "2001:db8::7")),
        ("::10.1.0.9", 0, ("2001:db8::1",), ("10.1.0.9",)),
    ],
)
def test_an_address_just_outside_an_uplink_subnet_is_no_gateway(
    own: str, length: int, inside: tuple[str, ...], outside: tuple[str, ...]
) -> None:
    uplink = Uplink(name="eth0.101", up=True, addresses=((ip(own), length),), neighbor="leaf1")
    for address in inside:
        assert uplink.holds(ip(address)), address
    for address in outside:
        assert not uplink.holds(ip(address)), address
        assert resolver({}, uplink).resolve(recursive_next_hop(ip(address), ipv6=":" in address)).next_hops == ()


def test_the_other_end_of_a_point_to_point_subnet() -> None:
    for own, length, other in (
        ("10.0.0.0", 31, "10.0.0.1"),
        ("10.0.0.1", 31, "10.0.0.0"),
        ("10.0.0.1", 30, "10.0.0.2"),
        ("10.0.0.2", 30, "10.0.0.1"),
        ("2001:db8::", 127, "2001:db8::1"),
        ("2001:db8::2", 126, "2001:db8::1"),
    ):
        assert point_to_point_peer(ip(own), length) == ip(other)
    for own, length in (("10.0.0.0", 30), ("10.0.0.3", 30), ("10.0.0.1", 32), ("10.0.0.1", 29), ("2001:db8::3", 126)):
        assert point_to_point_peer(ip(own), length) == b""


def test_a_gateway_ip_resolves_through_its_type_2_route_over_both_leaves() -> None:
    type2 = (recursive_next_hop(ip("192.0.2.1"), peer="leaf1"), recursive_next_hop(ip("192.0.2.2"), peer="leaf2"))
    found = resolver({"10.3.0.1": type2}, LEAF1, LEAF2).resolve(recursive_next_hop(ip("10.3.0.1")))
    assert found.next_hops == (VIA1, VIA2)
    assert "10.3.0.1 has a type 2 route" in found.steps


def test_a_gateway_without_a_type_2_route_says_so() -> None:
    found = resolver({}, LEAF1).resolve(recursive_next_hop(ip("10.3.0.1")))
    assert found.next_hops == ()
    assert "no type 2 route announces it" in found.why


def test_type_2_routes_that_name_each_other_are_a_loop_with_a_reason() -> None:
    loop = resolver(
        {"10.3.0.1": (recursive_next_hop(ip("10.3.0.2")),), "10.3.0.2": (recursive_next_hop(ip("10.3.0.1")),)}
    )
    assert "resolves through itself" in loop.resolve(recursive_next_hop(ip("10.3.0.1"))).why


def test_the_advertising_leaf_is_the_last_resort_only_where_allowed() -> None:
    made = resolver({}, LEAF1)
    assert made.resolve(recursive_next_hop(ip("192.0.2.1"), peer="leaf1")).next_hops == (VIA1,)
    assert made.resolve(recursive_next_hop(ip("192.0.2.1"))).next_hops == ()
    assert "uplink_neighbors" in made.resolve(recursive_next_hop(b"", peer="leaf9")).why


def test_an_ipv6_route_never_leaves_by_an_ipv4_gateway() -> None:
    made = resolver({}, LEAF1)
    assert made.resolve(recursive_next_hop(b"", peer="leaf1", ipv6=True)).next_hops == ()
    dual = Uplink(
        name="eth0.101", up=True, neighbor="leaf1", gateways=(ip("10.1.0.0"), ip("fe80::1")), addresses=LEAF1.addresses
    )
    (now,) = made.uplinks_changed({"eth0.101": dual}).values()
    assert now.next_hops == (NextHop(ip("fe80::1"), "eth0.101"),)


def test_an_uplink_going_down_moves_what_leaned_on_it_and_nothing_else() -> None:
    type2 = (recursive_next_hop(b"", peer="leaf1"), recursive_next_hop(b"", peer="leaf2"))
    made = resolver({"10.3.0.1": type2}, LEAF1, LEAF2)
    gateway, onlink = recursive_next_hop(ip("10.3.0.1")), recursive_next_hop(ip("10.2.0.0"))
    made.resolve(gateway)
    made.resolve(onlink)
    down = Uplink(name="eth0.101", up=False, neighbor="leaf1", addresses=LEAF1.addresses, gateways=LEAF1.gateways)
    changed = made.uplinks_changed({"eth0.101": down, "eth1.101": LEAF2})
    assert list(changed) == [gateway]
    assert changed[gateway].next_hops == (VIA2,)


def test_a_type_2_route_that_appears_or_goes_re_resolves_its_watchers() -> None:
    routes = Table()
    made = Resolver("blue", routes)
    made.uplinks_changed({"eth0.101": LEAF1})
    gateway = recursive_next_hop(ip("10.3.0.1"))
    assert made.resolve(gateway).why
    routes[ip("10.3.0.1")] = (recursive_next_hop(b"", peer="leaf1"),)
    assert made.host_routes_changed([ip("10.9.9.9")]) == {}
    assert made.host_routes_changed([ip("10.3.0.1")])[gateway].next_hops == (VIA1,)
    del routes[ip("10.3.0.1")]
    assert made.host_routes_changed([ip("10.3.0.1")])[gateway].next_hops == ()
    assert made.rests_on(4) == {b"\x20" + ip("10.3.0.1")}


def test_equal_addresses_of_two_vrfs_are_two_next_hops() -> None:
    blue, red = recursive_next_hop(ip("10.1.0.1")), recursive_next_hop_in("red", ip("10.1.0.1"))
    assert blue != red
    assert (vrf_of(blue), vrf_of(red), vrf_of(VIA1)) == ("blue", "red", "")


def test_an_own_address_is_no_gateway() -> None:
    made = resolver({}, LEAF1)
    assert "is an address of this host" in made.resolve(recursive_next_hop(ip("10.1.0.1"))).why


def test_point_to_point_subnets_have_one_other_end() -> None:
    assert point_to_point_peer(ip("10.0.0.0"), 31) == ip("10.0.0.1")
    assert point_to_point_peer(ip("10.0.0.2"), 30) == ip("10.0.0.1")
    assert point_to_point_peer(ip("2001:db8::"), 127) == ip("2001:db8::1")
    assert point_to_point_peer(ip("10.0.0.2"), 24) == b""
    assert point_to_point_peer(ip("10.0.0.0"), 30) == b""
