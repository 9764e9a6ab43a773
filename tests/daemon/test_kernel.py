"""The daemon and a kernel that others use too: drift is repaired, foreign routes stay, links and refusals are told."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bgpd.config.schema import FibConfig
from labs.daemons import Frr
from tests.daemon.fabric import (
    Fabric,
    Host,
    RouteWatch,
    announce,
    kernel_hops,
    kernel_routes,
    leaf,
    started,
    table,
)

pytestmark = pytest.mark.netns

METRIC = FibConfig().metric
BOTH = ("10.0.1.2%eth0", "10.0.2.2%eth1")
NETWORKS = ("10.9.0.0/16", "10.8.0.0/16", "2001:db8:9::/48")
POD = table("[[workload.static]]", prefix="10.64.1.5/32", interface="pod1")


@pytest.fixture(scope="module")
def leaf1(fabric: Fabric) -> Iterator[Frr]:
    with fabric.frr(1, networks=NETWORKS) as frr:
        yield frr


@pytest.fixture(scope="module")
def leaf2(fabric: Fabric) -> Iterator[Frr]:
    with fabric.frr(2, networks=NETWORKS) as frr:
        yield frr


@pytest.fixture(scope="module")
def host(fabric: Fabric, leaf1: Frr, leaf2: Frr) -> Iterator[Host]:
    with started(fabric, leaf(1), leaf(2), POD, table("[fib]", protect=["10.99.0.0/16"])) as host:
        host.wait_established("leaf1", "leaf2")
        host.wait_ready()
        yield host


@pytest.fixture(autouse=True)
def whole(host: Host) -> None:
    """Each test starts from the full tables."""
    host.wait_hops("10.9.0.0/16", *BOTH)
    host.wait_hops("10.8.0.0/16", *BOTH)
    host.wait_hops("10.64.1.5/32", "pod1")
    host.wait(lambda: len(kernel_hops(host.namespace, "2001:db8:9::/48")) == 2, "the IPv6 route")


def test_deleted_routes_come_back(fabric: Fabric, host: Host) -> None:
    repaired = host.metric("bgpd_fib_repaired_total", vrf="")
    fabric.host.ip("route", "del", "10.9.0.0/16")
    host.wait_hops("10.9.0.0/16", *BOTH)
    fabric.host.ip("route", "del", "10.64.1.5/32")
    host.wait_hops("10.64.1.5/32", "pod1")
    assert host.metric("bgpd_fib_repaired_total", vrf="") > repaired
    assert host.log("fib.repairing")


def test_replaced_route_is_set_right(fabric: Fabric, host: Host) -> None:
    fabric.host.ip("route", "replace", "10.9.0.0/16", "dev", "pod2", "proto", "217", "metric", str(METRIC))
    host.wait_hops("10.9.0.0/16", *BOTH)


def test_flushed_tables_come_back(fabric: Fabric, host: Host) -> None:
    fabric.host.ip("route", "flush", "proto", "217")
    fabric.host.ip("-6", "route", "flush", "proto", "217")
    for prefix in ("10.9.0.0/16", "10.8.0.0/16"):
        host.wait_hops(prefix, *BOTH)
    host.wait_hops("10.64.1.5/32", "pod1")
    host.wait(lambda: kernel_hops(fabric.host, "2001:db8:9::/48"), "the IPv6 route")


def test_deleted_group_comes_back_with_its_routes(fabric: Fabric, host: Host) -> None:
    group = kernel_routes(fabric.host)["10.9.0.0/16"]["nhid"]
    fabric.host.ip("nexthop", "del", "id", str(group))
    for prefix in ("10.9.0.0/16", "10.8.0.0/16"):
        host.wait_hops(prefix, *BOTH)


def test_all_next_hop_objects_flushed_come_back(fabric: Fabric, host: Host) -> None:
    fabric.host.ip("nexthop", "flush")
    for prefix in ("10.9.0.0/16", "10.8.0.0/16"):
        host.wait_hops(prefix, *BOTH)
    host.wait(lambda: len(kernel_hops(fabric.host, "2001:db8:9::/48")) == 2, "the IPv6 route")


def test_foreign_routes_are_not_touched(fabric: Fabric, host: Host, leaf1: Frr, tmp_path: Path) -> None:
    foreign = ("10.7.0.0/16", "10.9.5.0/24")
    for prefix in foreign:
        fabric.host.ip("route", "add", prefix, "dev", "pod2", "proto", "250")
    with RouteWatch(fabric.host, tmp_path) as watch:
        announce(leaf1, *foreign)
        host.wait(lambda: host.explain("10.7.1.1")["route"], "the leaf's route")
        host.wait(lambda: host.explain("10.7.1.1")["route"]["fib"] == "blocked", "it to be blocked")
        view = host.explain("10.7.1.1")
        assert view["agrees"]
        assert "not bgpd's" in view["verdict"]
        assert "protocol 250" in view["fib"]["error"]
        assert "dev pod2" in fabric.host.ip("route", "get", "10.7.1.1")
        fabric.host.ip("route", "del", "10.7.0.0/16", "proto", "250")
        host.wait_hops("10.7.0.0/16", "10.0.1.2%eth0")
        fabric.host.ip("route", "add", "10.7.0.0/16", "dev", "pod2", "proto", "250")
        host.wait_hops("10.7.0.0/16")
        announce(leaf1, *foreign, withdraw=True)
        host.wait(lambda: not host.get("routes", prefix="10.7.0.0/16"), "the withdrawal")
        assert [line for line in watch.lines(250) if "10.9.5.0" in line] == []
    for prefix in foreign:
        fabric.host.ip("route", "del", prefix, "proto", "250")


def test_own_connected_and_default_routes_are_not_overridden(fabric: Fabric, host: Host, leaf1: Frr) -> None:
    fabric.host.ip("route", "add", "default", "via", "10.0.2.2", "dev", "eth1")
    taken = ("0.0.0.0/0", "10.0.1.0/24", "10.0.2.0/24", "10.0.1.1/32", "10.99.1.0/24")
    announce(leaf1, *taken)
    host.wait(lambda: host.get("routes", prefix="0.0.0.0/0"), "the leaf's default route")
    host.wait(lambda: host.get("routes", prefix="10.99.1.0/24"), "the leaf's protected route")
    for prefix in taken:
        route = host.get("routes", prefix=prefix)[0]
        assert route["fib"] == "blocked", route
        assert kernel_hops(fabric.host, "default" if prefix == "0.0.0.0/0" else prefix) == []
    assert "via 10.0.2.2" in fabric.host.ip("route", "get", "198.51.100.1")
    assert host.metric("bgpd_fib_routes_blocked", vrf="") == len(taken)
    assert host.health()["ready"]
    fabric.host.ip("route", "del", "default")
    host.wait_hops("default", "10.0.1.2%eth0")
    announce(leaf1, *taken, withdraw=True)
    host.wait_hops("default")


def test_link_down_and_up(fabric: Fabric, host: Host) -> None:
    fabric.host.ip("link", "set", "eth1", "down")
    host.wait_hops("10.9.0.0/16", "10.0.1.2%eth0")
    host.wait(lambda: host.established() == ["leaf1"], "the session to fall", timeout_s=1)
    assert host.neighbor("leaf2")["last_error"] == "link eth1 went down"
    assert host.health()["ready"]
    fabric.host.ip("link", "set", "eth1", "up")
    fabric.host.addresses("eth1", "2001:db8:2::1/64")
    host.wait_hops("10.9.0.0/16", *BOTH)
    host.wait(lambda: len(kernel_hops(fabric.host, "2001:db8:9::/48")) == 2, "IPv6 over both")


def test_carrier_lost_and_back(fabric: Fabric, host: Host) -> None:
    fabric.leaf1.ip("link", "set", "swp1", "down")
    host.wait_hops("10.9.0.0/16", "10.0.2.2%eth1")
    fabric.leaf1.ip("link", "set", "swp1", "up")
    fabric.leaf1.addresses("swp1", "2001:db8:1::2/64")
    host.wait_hops("10.9.0.0/16", *BOTH)


def test_both_links_down_and_up(fabric: Fabric, host: Host) -> None:
    fabric.host.batch("link set eth0 down", "link set eth1 down")
    host.wait(lambda: host.established() == [], "the sessions to fall", timeout_s=1)
    host.wait_hops("10.9.0.0/16")
    assert not host.health()["ready"]
    assert host.explain("10.9.1.1")["verdict"].startswith("no route")
    fabric.host.batch("link set eth0 up", "link set eth1 up")
    fabric.host.addresses("eth0", "2001:db8:1::1/64")
    fabric.host.addresses("eth1", "2001:db8:2::1/64")
    host.wait_hops("10.9.0.0/16", *BOTH)
    host.wait_ready()


def test_removed_and_returned_address(fabric: Fabric, host: Host) -> None:
    fabric.host.ip("addr", "del", "10.0.2.1/24", "dev", "eth1")
    host.wait_hops("10.9.0.0/16", "10.0.1.2%eth0")
    fabric.host.ip("addr", "add", "10.0.2.1/24", "dev", "eth1")
    host.wait_hops("10.9.0.0/16", *BOTH)


def test_refused_route_is_reported_and_tried_again(fabric: Fabric, host: Host) -> None:
    """A device without IPv6 takes no IPv6 route."""
    before = host.config_path.read_text()
    fabric.host.set_sysctls({"net.ipv6.conf.pod2.disable_ipv6": "1"})
    workload = table("[[workload.static]]", prefix="2001:db8:64::5/128", interface="pod2")
    host.config_path.write_text(before + workload)
    host.cli("reload")
    host.wait(lambda: host.get("fib", state="failed"), "the refusal")
    (failed,) = host.get("fib", state="failed")
    assert failed["prefix"] == "2001:db8:64::5/128"
    assert failed["error"]
    (line,) = host.cli("show", "fib", "--state", "failed").splitlines()[1:]
    assert failed["error"] in line
    view = next(view for view in host.get("workloads") if view["prefix"] == failed["prefix"])
    assert view["announced"] is False
    assert failed["error"] in view["reason"]
    assert failed["error"] in host.explain("2001:db8:64::5")["verdict"]
    # It is tried again all the time, and waits for the kernel's answer meanwhile.
    reasons = ["the kernel refused 1 routes: bgpd show fib --state failed"]
    host.wait(lambda: (host.health()["ready"], host.health()["reasons"]) == (False, reasons), "health to tell")
    host.wait(lambda: host.metric("bgpd_fib_routes_failed", vrf="") == 1, "the metric to tell")
    assert kernel_hops(fabric.host, "10.9.0.0/16") == list(BOTH)
    fabric.host.set_sysctls({"net.ipv6.conf.pod2.disable_ipv6": "0"})
    host.wait_hops("2001:db8:64::5/128", "pod2")
    host.wait_ready()
    host.config_path.write_text(before)
    host.cli("reload")
    host.wait_hops("2001:db8:64::5/128")
