"""Resolution of next hops by what is connected."""

from __future__ import annotations

import msgspec
import pytest

from bgpd.fib.targets import interface_of
from bgpd.kernel.host import Host
from bgpd.kernel.route_messages import RTN_BLACKHOLE, RTN_UNREACHABLE
from bgpd.model.kernel import Address, KernelRoute, Link
from bgpd.model.next_hop import NextHop
from bgpd.model.prefix import parse_address, parse_prefix


def hop(address: str, interface: str = "") -> NextHop:
    return NextHop(parse_address(address) if address else b"", interface)


def attached(prefix: str, interface: str, *, gateway: str = "", table: int = 254) -> KernelRoute:
    family, key = parse_prefix(prefix)
    packed = parse_address(gateway) if gateway else b""
    return KernelRoute(family=family, key=key, table=table, protocol=2, interface=interface, gateway=packed)


@pytest.fixture
def host() -> Host:
    host = Host(lambda _: None)
    for index, name in ((2, "eth0"), (3, "eth1")):
        host.link(Link(index=index, name=name, up=True))
        host.address(Address(index=index, packed=parse_address(f"10.0.{index}.1"), prefix_length=30))
    return host


@pytest.mark.parametrize(
    ("next_hop", "expected"),
    [
        (hop("10.0.2.2"), (2, "")),
        (hop("10.0.3.2"), (3, "")),
        (hop("10.0.3.2", "eth1"), (3, "")),
        (hop("fe80::1", "eth1"), (3, "")),
        (hop("", "eth1"), (3, "")),
        (hop("10.0.2.1"), (0, "next hop 10.0.2.1 is this host's own address")),
        (hop("10.0.4.2"), (0, "next hop 10.0.4.2 is unreachable: no connected prefix contains it")),
        (hop("10.0.3.2", "eth0"), (0, "next hop 10.0.3.2 is unreachable: no connected prefix on eth0 contains it")),
        (hop("fe80::1"), (0, "link-local next hop fe80::1 names no interface")),
        (hop("fe80::1", "eth7"), (0, "interface eth7 does not exist")),
        (hop(""), (0, "a next hop needs an address or an interface")),
    ],
)
def test_next_hop_is_on_link_or_the_reason_is_given(host: Host, next_hop: NextHop, expected: tuple[int, str]) -> None:
    assert interface_of(host, next_hop, table=254) == expected


def test_own_link_local_address_counts_on_its_interface_only(host: Host) -> None:
    host.address(Address(index=2, packed=parse_address("fe80::1"), prefix_length=64))
    assert interface_of(host, hop("fe80::1", "eth0"), table=254)[1] == (
        "next hop fe80::1 is this host's own address on eth0"
    )
    assert interface_of(host, hop("fe80::1", "eth1"), table=254) == (3, "")


def test_interface_that_is_down_is_the_reason(host: Host) -> None:
    host.link(Link(index=2, name="eth0", up=False))
    assert interface_of(host, hop("10.0.2.2"), table=254)[1].endswith("interface eth0 is down")
    assert interface_of(host, hop("fe80::1", "eth0"), table=254) == (0, "interface eth0 is down")


def test_longest_attached_prefix_wins(host: Host) -> None:
    host.route_changed(attached("10.0.0.0/16", "eth1"), gone=False)
    assert interface_of(host, hop("10.0.2.2"), table=254) == (2, "")
    assert interface_of(host, hop("10.0.9.9"), table=254) == (3, "")
    host.route_changed(attached("10.0.2.2/32", "eth1"), gone=False)
    assert interface_of(host, hop("10.0.2.2"), table=254) == (3, "")


def test_route_with_a_gateway_and_a_default_attach_nothing(host: Host) -> None:
    host.route_changed(attached("10.9.0.0/16", "eth0", gateway="10.0.2.2"), gone=False)
    host.route_changed(attached("0.0.0.0/0", "eth0"), gone=False)
    assert interface_of(host, hop("10.9.0.1"), table=254)[0] == 0


@pytest.mark.parametrize("kind", [RTN_BLACKHOLE, RTN_UNREACHABLE, 8, 9])
def test_route_that_drops_attaches_nothing_though_ipv6_has_it_by_lo(host: Host, kind: int) -> None:
    host.link(Link(index=1, name="lo", up=True))
    drops = msgspec.structs.replace(attached("2001:db8::/32", "lo"), details=bytes((kind,)))
    host.route_changed(drops, gone=False)
    assert interface_of(host, hop("2001:db8::2"), table=254)[1].endswith("no connected prefix contains it")
    assert host.attaching(parse_address("2001:db8::2")) == ""


def test_routes_of_another_table_attach_only_there(host: Host) -> None:
    host.route_changed(attached("10.9.0.0/16", "eth0", table=1001), gone=False)
    assert interface_of(host, hop("10.9.0.1"), table=254)[0] == 0
    assert interface_of(host, hop("10.9.0.1"), table=1001) == (2, "")


def test_tentative_address_does_not_count(host: Host) -> None:
    tentative = Address(index=2, packed=parse_address("2001:db8::1"), prefix_length=64, usable=False)
    host.address(tentative)
    assert interface_of(host, hop("2001:db8::2"), table=254)[0] == 0


def test_removed_link_takes_its_addresses_along(host: Host) -> None:
    host.link(Link(index=2, name="eth0", up=False), gone=True)
    assert interface_of(host, hop("10.0.2.2"), table=254)[1].endswith("no connected prefix contains it")
