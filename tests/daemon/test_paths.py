"""Routes of two leaves: one group over both, moved by one message when a leaf dies, and true after every change."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from labs.daemons import Frr
from tests.daemon.fabric import (
    Fabric,
    Host,
    RouteWatch,
    announce,
    frr_config,
    kernel_hops,
    kernel_routes,
    leaf,
    started,
    table,
)

pytestmark = pytest.mark.netns

BOTH = ("10.0.1.2%eth0", "10.0.2.2%eth1")


@pytest.fixture(scope="module")
def leaf1(fabric: Fabric) -> Iterator[Frr]:
    with fabric.frr(1, networks=("10.9.0.0/16", "10.8.1.0/24", "2001:db8:9::/48")) as frr:
        yield frr


@pytest.fixture(scope="module")
def leaf2(fabric: Fabric) -> Iterator[Frr]:
    with fabric.frr(2, networks=("10.9.0.0/16", "10.8.2.0/24", "2001:db8:9::/48")) as frr:
        yield frr


@pytest.fixture(scope="module")
def host(fabric: Fabric, leaf1: Frr, leaf2: Frr) -> Iterator[Host]:
    pod = table("[[workload.static]]", prefix="10.64.1.5/32", interface="pod1")
    with started(fabric, leaf(1), leaf(2), pod) as host:
        host.wait_established("leaf1", "leaf2")
        host.wait_ready()
        yield host


def test_both_leaves_are_one_group(fabric: Fabric, host: Host) -> None:
    host.wait_hops("10.9.0.0/16", *BOTH)
    assert {hop.partition("%")[2] for hop in kernel_hops(fabric.host, "2001:db8:9::/48")} == {"eth0", "eth1"}
    assert kernel_hops(fabric.host, "10.8.1.0/24") == ["10.0.1.2%eth0"]
    route = next(route for route in host.get("fib") if route["prefix"] == "10.9.0.0/16")
    assert route["state"] == "installed"
    assert kernel_routes(fabric.host)["10.9.0.0/16"]["nhid"] == route["group"]
    roles = [candidate["role"] for candidate in host.get("routes", prefix="10.9.0.0/16")[0]["candidates"]]
    assert sorted(roles) == ["best", "multipath"]


def test_routes_of_the_same_next_hops_share_their_group(fabric: Fabric, host: Host, leaf1: Frr, leaf2: Frr) -> None:
    for frr in (leaf1, leaf2):
        announce(frr, "10.7.0.0/16", "10.7.1.0/24")
    for prefix in ("10.7.0.0/16", "10.7.1.0/24"):
        host.wait_hops(prefix, *BOTH)
    routes = kernel_routes(fabric.host)
    assert len({routes[prefix]["nhid"] for prefix in ("10.7.0.0/16", "10.7.1.0/24", "10.9.0.0/16")}) == 1
    for frr in (leaf1, leaf2):
        announce(frr, "10.7.0.0/16", "10.7.1.0/24", withdraw=True)
    for prefix in ("10.7.0.0/16", "10.7.1.0/24"):
        host.wait_hops(prefix)


def test_withdrawal_of_one_leaf_leaves_the_other(fabric: Fabric, host: Host, leaf1: Frr) -> None:
    host.wait_hops("10.9.0.0/16", *BOTH)
    announce(leaf1, "10.9.0.0/16", withdraw=True)
    host.wait_hops("10.9.0.0/16", "10.0.2.2%eth1")
    announce(leaf1, "10.9.0.0/16")
    host.wait_hops("10.9.0.0/16", *BOTH)


def test_dead_leaf_costs_one_deletion_and_its_return_is_noticed(
    fabric: Fabric, host: Host, leaf1: Frr, leaf2: Frr, tmp_path: Path
) -> None:
    host.wait_hops("10.9.0.0/16", *BOTH)
    with RouteWatch(fabric.host, tmp_path) as watch:
        leaf2.kill()
        host.wait_hops("10.9.0.0/16", "10.0.1.2%eth0")
        host.wait_hops("10.8.2.0/24")
        assert host.log("fib.next_hops_lost")[-1]["deletes"] <= 2
        assert not [line for line in watch.lines() if "10.9.0.0/16" in line and "Deleted" in line]
        assert host.health()["ready"]
    leaf2.start_daemon("bgpd")
    leaf2.configure(frr_config(2, networks=("10.9.0.0/16", "10.8.2.0/24", "2001:db8:9::/48")))
    host.wait_hops("10.9.0.0/16", *BOTH)
    host.wait_hops("10.8.2.0/24", "10.0.2.2%eth1")
    host.wait(lambda: len(kernel_hops(fabric.host, "2001:db8:9::/48")) == 2, "IPv6 over both")


def test_sessions_that_flap_leave_the_truth(fabric: Fabric, host: Host, leaf1: Frr) -> None:
    for _ in range(5):
        leaf1.vtysh("clear bgp 10.0.1.1")
    host.wait_established("leaf1", "leaf2")
    host.wait_hops("10.9.0.0/16", *BOTH)
    host.wait_hops("10.8.1.0/24", "10.0.1.2%eth0")
