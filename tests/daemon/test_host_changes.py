"""Links and addresses of the host change under live sessions: what leaves have follows, and nothing else is lost."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bgpd.kernel.netlink import open_socket
from bgpd.kernel.route_messages import RouteForm, encode_adds
from bgpd.model.iana import Family
from labs.daemons import Frr
from labs.namespace import Namespace, link
from tests.daemon.fabric import Fabric, Host, RouteWatch, frr_paths, heard_from_host, kernel_hops, leaf, started, table
from tests.daemon.wire_peer import WirePeer, attribute, update

pytestmark = pytest.mark.netns

POD4 = table("[[workload.static]]", prefix="10.64.1.5/32", interface="pod1")
POD6 = table("[[workload.static]]", prefix="2001:db8:64::5/128", interface="pod1")
V4, V6 = "10.64.1.5/32", "2001:db8:64::5/128"
NETWORKS = ("10.9.0.0/16", "2001:db8:9::/48")
EMPTY_PATH = attribute(0x40, 2, b"")


@pytest.fixture
def fabric() -> Iterator[Fabric]:
    """A fabric of its own for each test: they leave links and addresses changed."""
    with Fabric() as made:
        yield made


def link_local(namespace: Namespace, interface: str) -> str:
    found = json.loads(namespace.ip("-6", "-j", "addr", "show", "dev", interface, "scope", "link"))
    (address,) = [one["local"] for entry in found for one in entry.get("addr_info", ()) if "local" in one]
    return str(address)


def next_hops(frr: Frr, prefix: str) -> set[str]:
    """The next hops of the host's path that a leaf has, global and link-local ones."""
    paths: list[dict[str, Any]] = frr_paths(frr, prefix)
    return {hop["ip"] for path in paths for hop in path.get("nexthops", ())}


def wait_next_hop(host: Host, frr: Frr, prefix: str, wanted: str) -> None:
    host.wait(lambda: wanted in next_hops(frr, prefix), f"the leaf to have {prefix} by {wanted}")


def sessions(host: Host, name: str) -> int:
    count: int = host.neighbor(name)["established_count"]
    return count


def test_an_address_that_leaves_another_interface_costs_no_session(fabric: Fabric) -> None:
    neighbor = leaf(2, address=None, interface="eth1", asn="external")
    with fabric.frr(2, peer="swp1", networks=NETWORKS) as frr, started(fabric, neighbor, POD4) as host:
        host.wait(lambda: heard_from_host(frr, V4), "the leaf to hear the pod")
        own = link_local(fabric.host, "eth1")
        fabric.host.batch(f"addr add {own}/64 dev pod1 nodad", f"addr del {own}/64 dev pod1")
        fabric.host.batch("addr add 192.0.2.77/32 dev pod2")
        fabric.host.batch("addr del 192.0.2.77/32 dev pod2")
        fabric.host.batch(f"addr add {own}/128 dev eth0 nodad", f"addr del {own}/128 dev eth0")
        host.wait_ready()
        assert sessions(host, "leaf2") == 1
        assert kernel_hops(fabric.host, "10.9.0.0/16") == [f"{link_local(fabric.leaf2, 'swp1')}%eth1"]


def test_a_leaf_may_have_the_link_local_address_that_this_host_has_on_another_interface(fabric: Fabric) -> None:
    fabric.host.batch("addr add fe80::1/64 dev pod1 nodad")
    former = link_local(fabric.leaf2, "swp1")
    fabric.leaf2.batch("addr add fe80::1/64 dev swp1 nodad", f"addr del {former}/64 dev swp1")
    neighbor = leaf(2, address=None, interface="eth1", asn="external")
    with fabric.frr(2, peer="swp1", networks=NETWORKS) as frr, started(fabric, neighbor, POD4) as host:
        host.wait_hops("10.9.0.0/16", "fe80::1%eth1")
        host.wait(lambda: heard_from_host(frr, V4), "the leaf to hear the pod")


def test_another_mask_made_before_the_old_one_goes_costs_nothing(fabric: Fabric) -> None:
    with fabric.frr(1, networks=NETWORKS) as frr, started(fabric, leaf(1), POD4, POD6) as host:
        for prefix in (V4, V6):
            host.wait(lambda wanted=prefix: heard_from_host(frr, wanted), f"the leaf to hear {prefix}")
        fabric.host.batch("addr add 10.0.1.1/30 dev eth0", "addr del 10.0.1.1/24 dev eth0")
        host.wait(lambda: "10.0.1.0/30" in fabric.host.ip("route", "show", "dev", "eth0"), "the new network")
        host.wait_hops("10.9.0.0/16", "10.0.1.2%eth0")
        assert sessions(host, "leaf1") == 1
        assert next_hops(frr, V4) == {"10.0.1.1"}
        assert "2001:db8:1::1" in next_hops(frr, V6)
        fabric.host.batch("addr del 2001:db8:1::1/64 dev eth0", "addr add 2001:db8:1::1/80 dev eth0 nodad")
        wait_next_hop(host, frr, V6, "2001:db8:1::1")
        assert sessions(host, "leaf1") == 1


def test_another_mask_with_a_break_brings_all_families_back(fabric: Fabric) -> None:
    with fabric.frr(1, networks=NETWORKS) as frr, started(fabric, leaf(1), POD4, POD6) as host:
        host.wait(lambda: heard_from_host(frr, V6), "the leaf to hear the pod")
        fabric.host.batch("addr del 10.0.1.1/24 dev eth0", "addr add 10.0.1.1/30 dev eth0")
        host.wait(lambda: sessions(host, "leaf1") == 2, "another session")
        wait_next_hop(host, frr, V4, "10.0.1.1")
        wait_next_hop(host, frr, V6, "2001:db8:1::1")
        host.wait_hops("10.9.0.0/16", "10.0.1.2%eth0")


def test_ipv6_routes_of_an_ipv4_session_follow_the_address(fabric: Fabric) -> None:
    with fabric.frr(1, networks=NETWORKS) as frr, started(fabric, leaf(1), POD4, POD6) as host:
        wait_next_hop(host, frr, V6, "2001:db8:1::1")
        fabric.host.batch("addr add 2001:db8:1::a/64 dev eth0 nodad", "addr add 2001:db8:1::2222/64 dev eth0")
        fabric.host.batch("addr add 2001:db8:1::b/64 dev eth0 nodad preferred_lft 0")
        host.wait_ready()
        assert "2001:db8:1::1" in next_hops(frr, V6)
        fabric.host.batch("addr del 2001:db8:1::1/64 dev eth0")
        wait_next_hop(host, frr, V6, "2001:db8:1::a")
        fabric.host.batch("addr del 2001:db8:1::2222/64 dev eth0", "addr del 2001:db8:1::a/64 dev eth0")
        wait_next_hop(host, frr, V6, "2001:db8:1::b")
        fabric.host.batch("addr del 2001:db8:1::b/64 dev eth0", "addr add 2001:db8:1::c/64 dev eth0 nodad")
        wait_next_hop(host, frr, V6, "2001:db8:1::c")
        assert sessions(host, "leaf1") == 1


def test_ipv4_routes_of_an_ipv6_session_follow_the_address_and_are_withdrawn_without_one(fabric: Fabric) -> None:
    neighbor = leaf(1, address="2001:db8:1::2")
    with fabric.frr(1, peer="2001:db8:1::1") as frr, started(fabric, neighbor, POD4, POD6) as host:
        wait_next_hop(host, frr, V4, "10.0.1.1")
        fabric.host.batch("addr add 10.0.1.77/24 dev eth0", "addr add 10.0.1.7/25 dev eth0")
        fabric.host.set_sysctls({"net.ipv4.conf.eth0.promote_secondaries": "1"})
        fabric.host.batch("addr del 10.0.1.1/24 dev eth0")
        wait_next_hop(host, frr, V4, "10.0.1.7")
        fabric.host.batch("addr del 10.0.1.7/25 dev eth0")
        wait_next_hop(host, frr, V4, "10.0.1.77")
        fabric.host.batch("addr del 10.0.1.77/24 dev eth0")
        host.wait(lambda: not frr_paths(frr, V4), "the leaf to lose the IPv4 route")
        view = host.neighbor("leaf1")
        assert view["without_next_hop"] == ["ipv4-unicast"]
        assert [view["families"][family]["announced"] for family in ("ipv4-unicast", "ipv6-unicast")] == [0, 1]
        assert heard_from_host(frr, V6)
        fabric.host.batch("addr add 10.0.1.9/24 dev eth0")
        wait_next_hop(host, frr, V4, "10.0.1.9")
        assert host.neighbor("leaf1")["without_next_hop"] == []
        assert sessions(host, "leaf1") == 1


def test_a_link_renamed_and_renamed_back_is_used_as_before(fabric: Fabric) -> None:
    with (
        fabric.frr(1, networks=NETWORKS) as frr1,
        fabric.frr(2, networks=NETWORKS) as frr2,
        started(fabric, leaf(1), leaf(2), POD4, POD6) as host,
    ):
        host.wait_hops("10.9.0.0/16", "10.0.1.2%eth0", "10.0.2.2%eth1")
        fabric.host.batch("link set eth1 name x", "link set x name eth1")
        fabric.host.batch("link set pod1 name y", "link set y name pod1")
        host.wait_hops("10.9.0.0/16", "10.0.1.2%eth0", "10.0.2.2%eth1")
        for frr, prefix in ((frr1, V4), (frr2, V4), (frr1, V6), (frr2, V6)):
            host.wait(lambda frr=frr, wanted=prefix: heard_from_host(frr, wanted), f"both leaves to hear {prefix}")
        wait_next_hop(host, frr2, V6, "2001:db8:2::1")
        host.wait_ready()


def test_addresses_of_a_workloads_interface_come_and_go_and_no_leaf_loses_the_workload(
    fabric: Fabric, tmp_path: Path
) -> None:
    last = table("[[workload.static]]", prefix="10.64.1.6/32", interface="pod2")
    with fabric.frr(1) as frr, started(fabric, leaf(1), POD4, POD6, last) as host:
        for prefix in (V4, V6, "10.64.1.6/32"):
            host.wait(lambda wanted=prefix: heard_from_host(frr, wanted), f"the leaf to hear {prefix}")
        with RouteWatch(fabric.leaf1, tmp_path) as watch:
            fabric.host.batch("addr add 192.0.2.7/32 dev pod1", "addr add 2001:db8:7::1/64 dev pod1 nodad")
            fabric.host.batch("addr del 192.0.2.7/32 dev pod1", "addr del 2001:db8:7::1/64 dev pod1")
            fabric.host.batch("link set pod1 mtu 1400", "link set pod2 down")
            host.wait(lambda: not heard_from_host(frr, "10.64.1.6/32"), "the leaf to lose the pod that is down")
            deleted = [line for line in watch.lines(186) if line.startswith("Deleted")]
        assert [line.split()[1] for line in deleted] == ["10.64.1.6"]
        assert host.log("fib.route_exists") == []


def test_a_link_moved_to_another_namespace_and_back_is_used_again(fabric: Fabric) -> None:
    with (
        fabric.frr(1, networks=NETWORKS),
        fabric.frr(2, networks=NETWORKS) as frr2,
        started(fabric, leaf(1), leaf(2), POD4, POD6) as host,
    ):
        host.wait_hops("10.9.0.0/16", "10.0.1.2%eth0", "10.0.2.2%eth1")
        fabric.host.batch(f"link set eth1 netns {fabric.pods.name}")
        fabric.pods.batch(f"link set eth1 netns {fabric.host.name}")
        fabric.host.batch("link set eth1 up")
        fabric.host.addresses("eth1", "10.0.2.1/24", "2001:db8:2::1/64")
        host.wait(lambda: sessions(host, "leaf2") == 2, "another session", timeout_s=30)
        host.wait_hops("10.9.0.0/16", "10.0.1.2%eth0", "10.0.2.2%eth1")
        host.wait(lambda: heard_from_host(frr2, V4), "the leaf to hear the pod")
        wait_next_hop(host, frr2, V6, "2001:db8:2::1")
        host.wait_ready()


def test_a_link_that_keeps_another_name_is_used_by_it(fabric: Fabric) -> None:
    with (
        fabric.frr(1, networks=NETWORKS),
        fabric.frr(2, networks=NETWORKS) as frr2,
        started(fabric, leaf(1), leaf(2), POD4, POD6) as host,
    ):
        host.wait_hops("10.9.0.0/16", "10.0.1.2%eth0", "10.0.2.2%eth1")
        fabric.host.batch("link set eth1 name uplink2")
        host.wait_hops("10.9.0.0/16", "10.0.1.2%eth0", "10.0.2.2%uplink2")
        wait_next_hop(host, frr2, V4, "10.0.2.1")
        wait_next_hop(host, frr2, V6, "2001:db8:2::1")
        assert host.neighbor("leaf2")["interface"] == "uplink2"


def test_a_link_down_and_up_in_one_breath_and_another_mtu(fabric: Fabric) -> None:
    with (
        fabric.frr(1, networks=NETWORKS) as frr1,
        fabric.frr(2, networks=NETWORKS) as frr2,
        started(fabric, leaf(1), leaf(2), POD4, POD6) as host,
    ):
        host.wait_hops("10.9.0.0/16", "10.0.1.2%eth0", "10.0.2.2%eth1")
        fabric.host.batch("link set eth1 down", "link set eth1 up", "addr replace 2001:db8:2::1/64 dev eth1 nodad")
        fabric.host.batch("link set eth0 mtu 1400", "link set eth0 mtu 1500")
        host.wait(lambda: sessions(host, "leaf2") == 2, "another session", timeout_s=30)
        host.wait_hops("10.9.0.0/16", "10.0.1.2%eth0", "10.0.2.2%eth1")
        wait_next_hop(host, frr2, V4, "10.0.2.1")
        wait_next_hop(host, frr2, V6, "2001:db8:2::1")
        fabric.host.batch("link set eth0 mtu 1200")
        host.wait(lambda: not frr_paths(frr1, V6), "the leaf to lose the IPv6 route without IPv6 on the link")
        assert host.neighbor("leaf1")["without_next_hop"] == ["ipv6-unicast"]
        fabric.host.batch("link set eth0 mtu 1500", "addr add 2001:db8:1::1/64 dev eth0 nodad")
        wait_next_hop(host, frr1, V6, "2001:db8:1::1")
        assert sessions(host, "leaf1") == 1


def test_an_unnumbered_session_tells_global_addresses_that_come_and_go(fabric: Fabric) -> None:
    neighbor = leaf(2, address=None, interface="eth1", asn="external")
    with fabric.frr(2, peer="swp1") as frr, started(fabric, neighbor, POD4, POD6) as host:
        wait_next_hop(host, frr, V6, "2001:db8:2::1")
        wait_next_hop(host, frr, V4, "2001:db8:2::1")
        own = link_local(fabric.host, "eth1")
        fabric.host.batch("addr del 2001:db8:2::1/64 dev eth1", "addr del 10.0.2.1/24 dev eth1")
        for prefix in (V4, V6):
            host.wait(lambda wanted=prefix: next_hops(frr, wanted) == {own}, f"{prefix} by {own} alone")
        fabric.host.batch("addr add 2001:db8:2::5/64 dev eth1 nodad")
        for prefix in (V4, V6):
            wait_next_hop(host, frr, prefix, "2001:db8:2::5")
        assert sessions(host, "leaf2") == 1


def test_a_storm_of_renames_and_addresses_leaves_all_as_before(fabric: Fabric) -> None:
    with (
        fabric.frr(1, networks=NETWORKS) as frr1,
        fabric.frr(2, networks=NETWORKS) as frr2,
        started(fabric, leaf(1), leaf(2), POD4, POD6) as host,
    ):
        host.wait_hops("10.9.0.0/16", "10.0.1.2%eth0", "10.0.2.2%eth1")
        storm = []
        for number in range(60):
            name = ("eth0", "eth1", "pod1")[number % 3]
            storm += [f"link set {name} name x", f"link set x name {name}"]
            storm += [f"addr add 192.0.2.{number}/32 dev {name}", f"addr del 192.0.2.{number}/32 dev {name}"]
            storm.append(f"link set {name} mtu {1400 + number}")
        fabric.host.batch(*storm, "link set eth0 name x", "link set eth1 name eth0", "link set x name eth1")
        fabric.host.batch("link set eth0 name x", "link set eth1 name eth0", "link set x name eth1")
        host.wait_hops("10.9.0.0/16", "10.0.1.2%eth0", "10.0.2.2%eth1")
        for frr, number in ((frr1, 1), (frr2, 2)):
            wait_next_hop(host, frr, V4, f"10.0.{number}.1")
            wait_next_hop(host, frr, V6, f"2001:db8:{number}::1")
        host.wait_ready()
        for version, prefix in (("-4", "10.64.1.5"), ("-6", "2001:db8:64::5")):
            assert "dev pod1" in fabric.host.ip(version, "route", "show", prefix, "proto", "217")
        assert host.log("fib.route_exists") == []


def test_events_that_the_kernel_could_not_deliver_are_made_up_for(fabric: Fabric) -> None:
    kernel = table("[workload.kernel]", interfaces=["pod2"])
    with (
        fabric.frr(1, networks=NETWORKS) as frr,
        fabric.frr(2, networks=NETWORKS),
        started(fabric, leaf(1), leaf(2), POD4, kernel) as host,
    ):
        fabric.host.batch("route add 10.64.2.1/32 dev pod2")
        host.wait(lambda: heard_from_host(frr, "10.64.2.1/32"), "the leaf to hear pod2's address")
        host.wait_hops("10.9.0.0/16", "10.0.1.2%eth0", "10.0.2.2%eth1")
        os.kill(host.pid, signal.SIGSTOP)
        try:
            flood(fabric.host)
            fabric.host.batch("link del eth1", "link del pod1", "route del 10.64.2.1/32", "route flush proto 217")
            fabric.host.batch("nexthop flush proto 217", "route add throw 10.9.0.0/16 proto static metric 3")
            fabric.link_leaf(2)
            link(fabric.host, "pod1", fabric.pods, "pod1")
            fabric.host.batch("route add 10.64.2.2/32 dev pod2")
        finally:
            os.kill(host.pid, signal.SIGCONT)
        host.wait(lambda: host.log("kernel.events_lost"), "the daemon to hear that events were lost")
        host.wait(lambda: heard_from_host(frr, "10.64.2.2/32"), "the leaf to hear the new address", timeout_s=30)
        reasons = [record["reason"] for record in host.log("bgpd.readiness") if not record["ready"]]
        assert any("events of the kernel were lost" in reason for reason in reasons), "not ready until all is read"
        host.wait(lambda: not frr_paths(frr, "10.64.2.1/32"), "the leaf to lose the old one")
        host.wait(lambda: kernel_hops(fabric.host, V4) == ["pod1"], "pod1's route by the new interface")
        host.wait_ready()
        assert kernel_hops(fabric.host, "10.9.0.0/16") == []
        fabric.host.batch("route del throw 10.9.0.0/16 proto static metric 3")
        host.wait_hops("10.9.0.0/16", "10.0.1.2%eth0", "10.0.2.2%eth1")
        host.wait_ready()


def flood(namespace: Namespace) -> None:
    """More route events than the queue of a daemon that is stopped holds."""
    form = RouteForm(9999, 196, 20)
    keys = [b"\x20\x64" + number.to_bytes(3, "big") for number in range(60_000)]
    with namespace.entered(), open_socket(send_bytes=8 << 20) as opened:
        for start in range(0, len(keys), 1000):
            opened.send(encode_adds(Family.IPV4_UNICAST, keys[start : start + 1000], 0, form))
    namespace.ip("route", "flush", "table", "9999")


def test_routes_follow_a_next_hop_that_is_on_another_interface_than_before(fabric: Fabric) -> None:
    """Two interfaces in one network, as with two cables to one switch; the session of the AS is over another one."""
    fabric.host.batch("addr add 10.7.0.1/24 dev eth0", "addr add 10.7.0.2/24 dev eth1")
    neighbor = leaf(2, asn="internal")
    preference = attribute(0x40, 5, (100).to_bytes(4))
    with WirePeer(fabric.leaf2, "10.0.2.2", asn=65203) as peer, started(fabric, neighbor) as host:
        session = peer.establish()
        announced = update(("10.9.0.0/16",), asn=0, next_hop="10.7.0.9", as_path=EMPTY_PATH, extra=preference)
        session.sendall(announced)
        host.wait_hops("10.9.0.0/16", "10.7.0.9%eth0")
        fabric.host.batch("addr del 10.7.0.1/24 dev eth0")
        host.wait_hops("10.9.0.0/16", "10.7.0.9%eth1")
        fabric.host.batch("addr add 10.7.0.8/29 dev eth0")
        host.wait_hops("10.9.0.0/16", "10.7.0.9%eth0")
        fabric.host.batch("link set eth0 down")
        host.wait_hops("10.9.0.0/16", "10.7.0.9%eth1")
        assert sessions(host, "leaf2") == 1
