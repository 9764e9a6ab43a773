"""What the guest kernel must offer to the tests of VRFs: the devices themselves, and FRR on top of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from labs.daemons import Frr
from labs.namespace import Namespace, link
from labs.process import wait_until

pytestmark = pytest.mark.vm

LEAF = """
vrf blue
 vni 5001
exit-vrf
router bgp 65201
 bgp router-id 10.255.0.1
 no bgp ebgp-requires-policy
 timers bgp 1 3
 neighbor 10.0.1.2 remote-as external
 neighbor 10.0.1.2 timers connect 1
 address-family l2vpn evpn
  neighbor 10.0.1.2 activate
  advertise-all-vni
 exit-address-family
router bgp 65201 vrf blue
 address-family ipv4 unicast
  redistribute connected
 exit-address-family
 address-family l2vpn evpn
  advertise ipv4 unicast
 exit-address-family
"""
PEER = """
router bgp 65202
 bgp router-id 10.255.0.2
 no bgp ebgp-requires-policy
 timers bgp 1 3
 neighbor 10.0.1.1 remote-as external
 neighbor 10.0.1.1 timers connect 1
 address-family l2vpn evpn
  neighbor 10.0.1.1 activate
 exit-address-family
"""


class Tenants:
    """host with VRFs blue and red on VLANs 101 and 102 of one link; the peers' addresses are the same in both."""

    def __init__(self, host: Namespace, peers: dict[str, Namespace]) -> None:
        self.host = host
        self.peers = peers


@pytest.fixture
def tenants() -> Iterator[Tenants]:
    with (
        Namespace("host", prefix="L") as host,
        Namespace("blue", prefix="L") as blue,
        Namespace("red", prefix="L") as red,
    ):
        peers = {"blue": blue, "red": red}
        for number, (name, peer) in enumerate(peers.items(), start=101):
            link(host, f"base-{name}", peer, "base")
            host.batch(
                f"link add {name} type vrf table {900 + number}",
                f"link set {name} up",
                f"link add link base-{name} name up.{number} type vlan id {number}",
                f"link set up.{number} master {name} up",
                f"addr add 10.1.0.1/24 dev up.{number}",
            )
            peer.batch(
                f"link add link base name base.{number} type vlan id {number}",
                f"link set base.{number} up",
                f"addr add 10.1.0.2/24 dev base.{number}",
            )
        yield Tenants(host, peers)


def test_one_l3mdev_rule_serves_all_vrfs(tenants: Tenants) -> None:
    assert "l3mdev" in tenants.host.ip("rule", "show")
    for name, peer in tenants.peers.items():
        tenants.host.run("ping", "-c", "1", "-W", "2", "-I", name, "10.1.0.2")
        peer.run("ping", "-c", "1", "-W", "2", "10.1.0.1")
    assert "10.1.0.0/24" not in tenants.host.ip("route", "show", "table", "main")


def test_frr_announces_a_vrf_by_its_vni() -> None:
    with Namespace("leaf", prefix="L") as leaf, Namespace("peer", prefix="L") as peer:
        link(leaf, "swp1", peer, "eth0")
        leaf.addresses("swp1", "10.0.1.1/24")
        peer.addresses("eth0", "10.0.1.2/24")
        leaf.batch(
            "link add blue type vrf table 1001",
            "link set blue up",
            "link add br5001 type bridge",
            "link set br5001 master blue up",
            "link add vx5001 type vxlan id 5001 dstport 4789 local 10.0.1.1 nolearning",
            "link set vx5001 master br5001 up",
            "link add lo-blue type dummy",
            "link set lo-blue master blue up",
            "addr add 10.64.1.1/32 dev lo-blue",
        )
        with Frr(leaf, LEAF), Frr(peer, PEER) as heard:
            wait_until(
                lambda: "10.64.1.1" in heard.vtysh("show bgp l2vpn evpn route type prefix"),
                20,
                "the type-5 route",
                logs=heard.logs,
            )
            assert "RT:65201:5001" in heard.vtysh("show bgp l2vpn evpn route type prefix")
