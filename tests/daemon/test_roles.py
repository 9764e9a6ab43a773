"""Roles in the whole daemon: a host between two providers is no way through, and a leak is shown as one (RFC 9234)."""

from __future__ import annotations

import struct

import pytest

from labs.daemons import Frr
from tests.daemon.conftest import LEARNED
from tests.daemon.fabric import Fabric, Host, frr_paths, kernel_hops, leaf, started, table
from tests.daemon.wire_peer import WirePeer, attribute, update

pytestmark = pytest.mark.netns

STATIC = table("[[workload.static]]", prefix="10.64.1.5/32", interface="pod1")
CUSTOMER = "neighbor 10.0.1.1 local-role customer"
OTC = attribute(0xC0, 35, struct.pack("!I", 64999))


def candidate(host: Host, prefix: str) -> dict[str, object]:
    """The one candidate of a route."""
    (route,) = [one for one in host.get("routes") if one["prefix"] == prefix]
    (found,) = route["candidates"]
    return dict(found)


def test_a_host_below_two_leaves_is_no_way_from_one_to_the_other(fabric: Fabric, leaf2: Frr) -> None:
    """Though it exports all. What it is sent is marked; what is its own goes up."""
    uplinks = leaf(1, role="customer", export="all"), leaf(2, role="customer", export="all")
    with WirePeer(fabric.leaf1) as peer, started(fabric, *uplinks, STATIC) as host:
        leaf1 = peer.establish(more=bytes((9, 1, 0)))
        host.wait_established("leaf1", "leaf2")
        leaf1.sendall(update(("10.21.0.0/16",), asn=65201))
        host.wait(lambda: kernel_hops(fabric.host, "10.21.0.0/16"), "the route")
        host.wait(lambda: frr_paths(leaf2, "10.64.1.5/32"), "the host's own address at leaf2")
        assert candidate(host, "10.21.0.0/16")["only_to_customer"] == 65201
        assert (host.neighbor("leaf1")["role"], host.neighbor("leaf1")["neighbor_role"]) == ("customer", "provider")
        assert (host.neighbor("leaf2")["role"], host.neighbor("leaf2")["neighbor_role"]) == ("customer", "")
        explained = host.cli("explain", "10.21.0.1")
        assert "AS path 65201, OTC 65201" in explained
        assert "this host is its customer" in explained
        said = host.cli("why-not", "10.21.0.0/16", "--neighbor", "leaf2", check=False)
        assert "OTC is AS 65201: it goes to customers only" in said
        assert not frr_paths(leaf2, "10.21.0.0/16")


def test_a_leak_is_kept_and_shown_but_not_used(fabric: Fabric) -> None:
    with WirePeer(fabric.leaf1) as peer, started(fabric, leaf(1, role="provider")) as host:
        leaf1 = peer.establish(more=bytes((9, 1, 3)))
        leaf1.sendall(update(("10.22.0.0/16",), asn=65201, extra=OTC) + update(("10.23.0.0/16",), asn=65201))
        host.wait(lambda: kernel_hops(fabric.host, "10.23.0.0/16"), "the route that is no leak")
        assert not kernel_hops(fabric.host, "10.22.0.0/16")
        assert "route leak: OTC is AS 64999" in host.cli("explain", "10.22.0.1", check=False)
        assert host.neighbor("leaf1")["families"]["ipv4-unicast"]["rejected"] == 1


def test_a_customer_is_told_that_routes_go_no_further(fabric: Fabric) -> None:
    with fabric.frr(1, CUSTOMER, networks=(LEARNED,)) as frr, started(fabric, leaf(1, role="provider"), STATIC) as host:
        host.wait_established("leaf1")
        host.wait(lambda: frr_paths(frr, "10.64.1.5/32"), "the host's address")
        assert "otc 65203" in frr.vtysh("show bgp ipv4 unicast 10.64.1.5/32")
        host.wait(lambda: kernel_hops(fabric.host, LEARNED), "the customer's route")
        assert candidate(host, LEARNED)["only_to_customer"] is None
