"""The whole daemon against real speakers: from their announcement to the kernel, and from a pod to their tables."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from bgpd.config.tcp_ao import has_tcp_ao
from bgpd.readiness import CONVERGENCE_CAP_S
from labs.daemons import Bird, Frr, Gobgp
from labs.process import LabError, wait_until
from tests.daemon.fabric import (
    Fabric,
    Host,
    announce,
    config,
    frr_paths,
    heard_from_host,
    kernel_hops,
    leaf,
    started,
    table,
)
from tests.daemon.wire_peer import WirePeer, update
from tests.interop.test_bird import bird_config
from tests.interop.test_gobgp import CONFIG as GOBGP_CONFIG

pytestmark = pytest.mark.netns

POD4 = table("[[workload.static]]", prefix="10.64.1.5/32", interface="pod1")
POD6 = table("[[workload.static]]", prefix="2001:db8:64::5/128", interface="pod1")
NETWORKS = ("10.9.0.0/16", "2001:db8:9::/48")


@pytest.fixture
def password(tmp_path: Path) -> Path:
    path = tmp_path / "leaf1.key"
    path.write_text("secret\n")
    return path


def test_frr_both_families_both_ways_and_withdrawn(fabric: Fabric) -> None:
    with fabric.frr(1, networks=NETWORKS) as frr, started(fabric, leaf(1), POD4, POD6) as host:
        host.wait_hops("10.9.0.0/16", "10.0.1.2%eth0")
        host.wait(lambda: kernel_hops(fabric.host, "2001:db8:9::/48"), "the IPv6 route")
        assert kernel_hops(fabric.host, "2001:db8:9::/48")[0].endswith("%eth0")
        for prefix in ("10.64.1.5/32", "2001:db8:64::5/128"):
            host.wait(lambda wanted=prefix: heard_from_host(frr, wanted), f"the leaf to hear {prefix}")
        wait_until(lambda: "10.64.1.5 " in fabric.leaf1.ip("route", "show"), 5, "the leaf's kernel to have the pod")
        host.wait_ready()
        announce(frr, *NETWORKS, withdraw=True)
        host.wait_hops("10.9.0.0/16")
        host.wait_hops("2001:db8:9::/48")
        assert host.health()["ready"]


@pytest.mark.interop("FRR", "rfc8950")
def test_frr_ipv4_over_a_numbered_ipv6_session(fabric: Fabric) -> None:
    peer = "2001:db8:1::1"
    lines = (f"neighbor {peer} capability extended-nexthop",)
    neighbor = leaf(1, address="2001:db8:1::2")
    with fabric.frr(1, *lines, peer=peer, networks=NETWORKS) as frr, started(fabric, neighbor, POD4) as host:
        host.wait(lambda: kernel_hops(fabric.host, "10.9.0.0/16"), "the IPv4 route")
        assert ":" in kernel_hops(fabric.host, "10.9.0.0/16")[0]
        assert "via inet6" in fabric.host.ip("route", "get", "10.9.1.1")
        host.wait(lambda: heard_from_host(frr, "10.64.1.5/32"), "the leaf to hear the pod")


def test_frr_unnumbered(fabric: Fabric) -> None:
    neighbor = leaf(2, address=None, interface="eth1", asn="external")
    with fabric.frr(2, peer="swp1", networks=NETWORKS) as frr, started(fabric, neighbor, POD4, POD6) as host:
        host.wait_established("leaf2")
        for prefix in NETWORKS:
            host.wait(lambda wanted=prefix: kernel_hops(fabric.host, wanted), f"the route to {prefix}")
            hop = kernel_hops(fabric.host, prefix)[0]
            assert hop.startswith("fe80:")
            assert hop.endswith("%eth1")
        assert "via inet6 fe80::" in fabric.host.ip("route", "get", "10.9.1.1")
        host.wait(lambda: heard_from_host(frr, "10.64.1.5/32"), "the leaf to hear the pod")
        host.wait(lambda: heard_from_host(frr, "2001:db8:64::5/128"), "the leaf to hear the pod")
        assert "via inet6 fe80::" in fabric.leaf2.ip("route", "get", "10.64.1.5")


def test_unnumbered_neighbor_behind_a_new_interface_or_another_mac_is_found_again(fabric: Fabric) -> None:
    neighbor = leaf(2, address=None, interface="eth1", asn="external")
    with fabric.frr(2, peer="swp1", networks=NETWORKS) as frr, started(fabric, neighbor) as host:
        host.wait(lambda: kernel_hops(fabric.host, "10.9.0.0/16"), "the route")
        fabric.host.ip("link", "del", "eth1")
        host.wait_hops("10.9.0.0/16")
        assert host.neighbor("leaf2")["last_error"].startswith("link eth1 ")
        host.wait(lambda: knows_no_neighbor(frr), "the leaf to notice")
        fabric.link_leaf(2)
        wait_found_again(fabric, frr, host)
        fabric.leaf2.batch("link set swp1 down", "link set swp1 address 02:00:00:00:00:99", "link set swp1 up")
        host.wait_hops("10.9.0.0/16")
        wait_found_again(fabric, frr, host)
        host.wait_hops("10.9.0.0/16", "fe80::ff:fe00:99%eth1")


def knows_no_neighbor(frr: Frr) -> bool:
    """Whether FRR's bgpd has no address of its neighbor behind swp1."""
    return "BGP neighbor on swp1: (unspec)" in frr.vtysh("show bgp neighbors swp1")


def wait_found_again(fabric: Fabric, frr: Frr, host: Host) -> None:
    """Wait for the route by the new address; the leaf's port is set down and up where FRR has forgotten the host.

    FRR 8.4 does so if its zebra works off the link's messages late: zebra has heard the host's Router Advertisements
    and counts more of them, but has not told its bgpd, and never does. Nothing that a host sends mends that.
    """
    for _ in range(4):
        try:
            host.wait(lambda: kernel_hops(fabric.host, "10.9.0.0/16"), "the route by the new address", timeout_s=8)
            return
        except LabError:
            if not ("Neighbor address(s):" in frr.vtysh("show interface swp1") and knows_no_neighbor(frr)):
                raise
            fabric.leaf2.batch("link set swp1 down")
            fabric.leaf2.batch("link set swp1 up")
    raise LabError("the leaf has forgotten the host four times")


def test_md5_wrong_then_right_password(fabric: Fabric, password: Path) -> None:
    password.write_text("other\n")
    neighbor = leaf(1, password_file=str(password))
    lines = ("neighbor 10.0.1.1 password secret",)
    with fabric.frr(1, *lines, networks=NETWORKS), started(fabric, neighbor) as host:
        host.wait(lambda: "is the password the same" in host.neighbor("leaf1")["last_error"], "the hint", 20)
        assert not host.health()["ready"]
        password.write_text("secret\n")
        host.wait_established("leaf1")
        host.wait_hops("10.9.0.0/16", "10.0.1.2%eth0")


@pytest.mark.skipif(has_tcp_ao(), reason="this kernel has TCP-AO")
@pytest.mark.parametrize("is_passive", [False, True])
def test_tcp_ao_without_a_kernel_that_has_it_keeps_the_neighbor_down_and_without_tcp_ao_it_comes_up(
    fabric: Fabric, password: Path, *, is_passive: bool
) -> None:
    """An unsigned session is made in neither direction; the leaf dials, and wants none signed."""
    ao = (
        leaf(1, passive=is_passive).rstrip()
        + f'\ntcp_ao = [{{ key_file = "{password}", send_id = 1, receive_id = 1 }}]\n'
    )
    with fabric.frr(1, "neighbor 10.0.1.1 timers connect 1", networks=NETWORKS), started(fabric, ao) as host:
        host.wait(lambda: "this kernel has no TCP-AO" in host.neighbor("leaf1")["last_error"], "the reason", 20)
        time.sleep(2.5)  # the leaf has dialed in vain
        view = host.neighbor("leaf1")
        assert (view["state"] == "established", view["established_count"]) == (False, 0)
        assert (view["authentication"], view["tcp_ao"]) == ("tcp-ao", None)
        host.write_config(config(leaf(1, passive=is_passive)))
        host.cli("reload")
        host.wait_established("leaf1")
        host.wait_hops("10.9.0.0/16", "10.0.1.2%eth0")
        assert host.neighbor("leaf1")["authentication"] == ""


def test_bird_both_families_both_ways(fabric: Fabric) -> None:
    with Bird(fabric.leaf1, bird_config()) as bird, started(fabric, leaf(1), POD4, POD6) as host:
        host.wait_hops("10.9.0.0/16", "10.0.1.2%eth0")
        host.wait(lambda: kernel_hops(fabric.host, "2001:db8:9::/48"), "the IPv6 route")
        for prefix in ("10.64.1.5/32", "2001:db8:64::5/128"):
            host.wait(lambda wanted=prefix: wanted in bird.birdc("show route protocol host"), f"BIRD to have {prefix}")


def test_gobgp_both_families_both_ways(fabric: Fabric) -> None:
    with Gobgp(fabric.leaf1, GOBGP_CONFIG) as gobgp, started(fabric, leaf(1), POD4, POD6) as host:
        host.wait_established("leaf1")
        gobgp.run("global", "rib", "add", "10.9.0.0/16", "nexthop", "10.0.1.2")
        gobgp.run("global", "rib", "add", "-a", "ipv6", "2001:db8:9::/48", "nexthop", "2001:db8:1::2")
        host.wait_hops("10.9.0.0/16", "10.0.1.2%eth0")
        host.wait_hops("2001:db8:9::/48", "2001:db8:1::2%eth0")
        host.wait(lambda: "10.64.1.5/32" in gobgp.run("global", "rib"), "GoBGP to have the pod")
        host.wait(lambda: "2001:db8:64::5/128" in gobgp.run("global", "rib", "-a", "ipv6"), "GoBGP to have the pod")
        gobgp.run("global", "rib", "del", "10.9.0.0/16")
        host.wait_hops("10.9.0.0/16")


def test_goodbye_is_told_to_the_leaf_and_routes_stay(fabric: Fabric) -> None:
    with fabric.frr(1, networks=NETWORKS) as frr, started(fabric, leaf(1), POD4) as host:
        host.wait_hops("10.9.0.0/16", "10.0.1.2%eth0")
        host.wait(lambda: heard_from_host(frr, "10.64.1.5/32"), "the leaf to hear the pod")
        assert host.terminate(signal.SIGINT) == 0
        wait_until(lambda: not frr_paths(frr, "10.64.1.5/32"), 2, "the leaf to forget the pod")
        view = frr.vtysh_json("show bgp neighbors 10.0.1.1 json")["10.0.1.1"]
        assert "bgpd is stopped" in str(view)
        assert kernel_hops(fabric.host, "10.9.0.0/16") == ["10.0.1.2%eth0"]
        assert kernel_hops(fabric.host, "10.64.1.5/32") == ["pod1"]


def test_neighbor_without_graceful_restart_is_not_waited_for_once_it_is_quiet(fabric: Fabric) -> None:
    """It need not send End-of-RIB (RFC 4724 section 4.1), and this one sends none; its table is waited for."""
    with WirePeer(fabric.leaf1) as peer, started(fabric, leaf(1)) as host:
        connection = peer.establish()
        connection.sendall(update(("10.9.0.0/16",), asn=65201))
        host.wait_ready()
        assert kernel_hops(fabric.host, "10.9.0.0/16") == ["10.0.1.2%eth0"]
        assert host.log("bgpd.converged")[0]["seconds"] < CONVERGENCE_CAP_S
