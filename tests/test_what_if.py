"""`bgpd what-if --down`: who goes with an interface."""

from __future__ import annotations

import pytest

from bgpd.kernel.host import Host
from bgpd.model.iana import Family
from bgpd.model.kernel import Link
from bgpd.model.prefix import parse_prefix
from bgpd.model.views.sessions import NeighborView
from bgpd.rehearsal import behind
from bgpd.what_if import NothingSuch, gone_with
from tests.rib.build import hop, key

LINKS = (
    Link(index=1, name="lo", up=True),
    Link(index=2, name="eth0", up=True),
    Link(index=3, name="eth1", up=True),
    Link(index=4, name="eth0.101", up=True, kind="vlan", parent=2),
    Link(index=5, name="eth0.101.7", up=True, kind="vlan", parent=4),
)
NEIGHBORS = [
    NeighborView(
        name=f"leaf-{name}",
        address="",
        interface=name,
        vrf="",
        asn=65201,
        local_asn=65203,
        state="established",
        since=0,
    )
    for name in ("eth0.101", "eth0.101.7", "eth1")
]


@pytest.mark.parametrize(
    ("name", "down"),
    [
        ("eth0", ["leaf-eth0.101", "leaf-eth0.101.7"]),
        ("eth0.101", ["leaf-eth0.101", "leaf-eth0.101.7"]),
        ("eth0.101.7", ["leaf-eth0.101.7"]),
        ("eth1", ["leaf-eth1"]),
    ],
)
def test_with_an_interface_go_those_that_speak_by_it(name: str, down: list[str]) -> None:
    gone, interfaces = gone_with(name, host(), NEIGHBORS)
    assert [one.name for one in gone] == down
    assert interfaces == {one.partition("-")[2] for one in down} | {name}


def test_with_a_neighbor_go_no_interfaces() -> None:
    gone, interfaces = gone_with("leaf-eth1", host(), NEIGHBORS)
    assert ([one.name for one in gone], interfaces) == (["leaf-eth1"], frozenset())
    with pytest.raises(NothingSuch, match='no neighbor and no interface "eth9"'):
        gone_with("eth9", host(), NEIGHBORS)


@pytest.mark.parametrize(
    ("next_hop", "is_gone"),
    [("10.0.1.2", True), ("32.1.13.184", False), ("10.0.2.2", False), ("fe80::1%eth0", True), ("fe80::1%eth1", False)],
)
def test_behind_an_interface_are_next_hops_in_its_networks_of_their_family(next_hop: str, is_gone: bool) -> None:
    """2001:db8::/32 is filed under the bytes of 32.1.13.184/32."""
    networks = {(Family.IPV4_UNICAST, key("10.0.1.0/24")), (Family.IPV6_UNICAST, parse_prefix("2001:db8::/32")[1])}
    here = host()
    here.networks = lambda interface: networks if interface == "eth0" else set()  # type: ignore[method-assign]
    address, _, interface = next_hop.partition("%")
    assert behind({"eth0"}, here)(hop(address, interface)) is is_gone


def host() -> Host:
    found = Host(lambda event: None)
    for link in LINKS:
        found.link(link)
    return found
