"""Next hops that an external neighbor may name: itself and others in the shared network (RFC 4271 section 6.3)."""

from __future__ import annotations

import pytest

from bgpd.model.path import NextHop
from bgpd.model.prefix import parse_address, parse_prefix
from bgpd.rib.next_hops import AllowedNextHops

NETWORKS = frozenset(
    parse_prefix(text) for text in ("10.0.1.0/24", "10.5.0.0/24", "2001:db8:1::/64", "2001:db8:5::/64", "fe80::/64")
)


def why(peer: str, hop: str, interface: str = "") -> str:
    allowed = AllowedNextHops(peer=parse_address(peer), interface="eth0", networks=NETWORKS)
    return allowed.why_not(NextHop(parse_address(hop), interface))


@pytest.mark.parametrize(
    ("peer", "hop", "interface"),
    [
        ("10.0.1.2", "10.0.1.2", ""),
        ("10.0.1.2", "10.0.1.77", ""),
        ("10.0.1.2", "2001:db8:5::9", ""),
        ("10.0.1.2", "fe80::9", "eth0"),
        ("2001:db8:1::2", "2001:db8:1::3", ""),
        ("2001:db8:1::2", "10.5.0.1", ""),
        ("fe80::2", "fe80::2", "eth0"),
        ("fe80::2", "fe80::3", "eth0"),
        ("fe80::2", "2001:db8:5::1", ""),
        ("172.16.0.1", "172.16.0.1", ""),
    ],
)
def test_the_neighbor_and_its_network_may_be_named(peer, hop, interface):
    assert why(peer, hop, interface) == ""


@pytest.mark.parametrize(
    ("peer", "hop", "interface"),
    [
        ("10.0.1.2", "10.0.2.2", ""),
        ("10.0.1.2", "10.5.0.1", ""),
        ("10.0.1.2", "192.168.5.254", ""),
        ("10.0.1.2", "2001:db8:2::2", ""),
        ("10.0.1.2", "fe80::9", "eth1"),
        ("2001:db8:1::2", "2001:db8:5::3", ""),
        ("2001:db8:1::2", "10.0.2.2", ""),
        ("fe80::2", "2001:db8:2::1", ""),
    ],
)
def test_other_networks_may_not(peer, hop, interface):
    assert "RFC 4271 section 5.1.3" in why(peer, hop, interface)


def test_who_is_in_no_network_is_further_away():
    def is_one_hop(peer: str) -> bool:
        return AllowedNextHops(peer=parse_address(peer), interface="eth0", networks=NETWORKS).is_one_hop

    assert is_one_hop("10.0.1.2")
    assert is_one_hop("fe80::2")
    assert not is_one_hop("10.77.0.1")
