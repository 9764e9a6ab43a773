"""Restarts: whichever way the daemon ends, its routes forward on, and its next run takes them over as they are."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bgpd.config.schema import FibConfig
from labs.daemons import Bird, Frr
from labs.process import wait_until
from tests.daemon.fabric import (
    Fabric,
    Host,
    RouteWatch,
    announce,
    config,
    heard_from_host,
    kernel_hops,
    kernel_routes,
    leaf,
    started,
    table,
)

pytestmark = pytest.mark.netns

NETWORKS = ("10.9.0.0/16", "10.8.1.0/24", "2001:db8:9::/48")
POD = table("[[workload.static]]", prefix="10.64.1.5/32", interface="pod1")
BOTH = ("10.0.1.2%eth0", "10.0.2.2%eth1")


@pytest.fixture(scope="module")
def leaves(fabric: Fabric) -> Iterator[tuple[Frr, Frr]]:
    with fabric.frr(1, networks=NETWORKS) as leaf1, fabric.frr(2, networks=NETWORKS) as leaf2:
        yield leaf1, leaf2


@pytest.fixture
def host(fabric: Fabric, leaves: tuple[Frr, Frr]) -> Iterator[Host]:
    with started(fabric, leaf(1), leaf(2), POD) as host:
        host.wait_ready()
        host.wait_hops("10.9.0.0/16", *BOTH)
        host.wait_hops("10.64.1.5/32", "pod1")
        yield host


@pytest.mark.parametrize(
    "end", [lambda host: host.kill(), lambda host: host.terminate(signal.SIGTERM)], ids=["kill -9", "SIGTERM"]
)
def test_no_route_leaves_the_kernel(
    fabric: Fabric, leaves: tuple[Frr, Frr], host: Host, end: Callable[[Host], object], tmp_path: Path
) -> None:
    before = kernel_routes(fabric.host), kernel_routes(fabric.host, ipv6=True)
    with RouteWatch(fabric.host, tmp_path) as watch:
        end(host)
        assert (kernel_routes(fabric.host), kernel_routes(fabric.host, ipv6=True)) == before
        host.start()
        host.wait_ready()
        assert [line for line in watch.lines() if "Deleted" in line] == []
    for prefix in ("10.9.0.0/16", "10.8.1.0/24"):
        host.wait_hops(prefix, *BOTH)
    host.wait_hops("10.64.1.5/32", "pod1")
    for frr in leaves:
        host.wait(lambda wanted=frr: heard_from_host(wanted, "10.64.1.5/32"), "the leaf to hear the pod again")
    assert sum(record["routes"] for record in host.log("fib.adopted")) == 4


def test_no_route_is_written_again(fabric: Fabric, host: Host, tmp_path: Path) -> None:
    before = kernel_routes(fabric.host), kernel_routes(fabric.host, ipv6=True)
    with RouteWatch(fabric.host, tmp_path) as watch:
        host.kill()
        host.start()
        host.wait_ready()
        assert watch.lines() == []
    assert (kernel_routes(fabric.host), kernel_routes(fabric.host, ipv6=True)) == before


def test_what_changed_meanwhile_is_corrected_once_all_is_heard(
    fabric: Fabric, leaves: tuple[Frr, Frr], host: Host
) -> None:
    host.kill()
    announce(leaves[0], "10.8.1.0/24", withdraw=True)
    announce(leaves[1], "10.8.1.0/24", withdraw=True)
    announce(leaves[0], "10.7.0.0/16")
    fabric.host.ip("route", "del", "10.9.0.0/16")
    host.write_config(config(leaf(1), leaf(2)))
    host.start()
    host.wait_hops("10.9.0.0/16", *BOTH)
    host.wait_hops("10.7.0.0/16", "10.0.1.2%eth0")
    host.wait_hops("10.8.1.0/24")
    host.wait_hops("10.64.1.5/32")
    announce(leaves[0], "10.7.0.0/16", withdraw=True)
    for frr in leaves:
        announce(frr, "10.8.1.0/24")


def test_old_routes_forward_on_while_no_leaf_answers(fabric: Fabric, leaves: tuple[Frr, Frr], host: Host) -> None:
    host.kill()
    host.write_config(config(leaf(1, port=1799), leaf(2, port=1799)))
    host.start()
    host.wait(lambda: host.neighbor("leaf1")["last_error"], "the refusal")
    assert not host.health()["ready"]
    assert kernel_hops(fabric.host, "10.9.0.0/16") == list(BOTH)


def test_link_lost_while_the_daemon_is_away(fabric: Fabric, leaves: tuple[Frr, Frr], host: Host) -> None:
    host.kill()
    fabric.leaf2.ip("link", "set", "swp1", "down")
    try:
        host.start()
        host.wait_established("leaf1")
        host.wait_hops("10.9.0.0/16", "10.0.1.2%eth0")
    finally:
        fabric.leaf2.ip("link", "set", "swp1", "up")
        fabric.leaf2.addresses("swp1", "2001:db8:2::2/64")
    host.wait_hops("10.9.0.0/16", *BOTH)


def test_routes_of_another_metric_are_replaced_after_a_restart(
    fabric: Fabric, leaves: tuple[Frr, Frr], host: Host
) -> None:
    host.terminate()
    host.write_config(config(leaf(1), leaf(2), POD, table("[fib]", metric=50)))
    host.start()
    host.wait_ready()
    host.wait(
        lambda: f"metric {FibConfig().metric}" not in fabric.host.ip("route", "show", "proto", "217"),
        "the old routes to go",
    )
    assert {route["metric"] for route in kernel_routes(fabric.host).values()} == {50}
    for prefix in ("10.9.0.0/16", "10.8.1.0/24"):
        assert kernel_hops(fabric.host, prefix) == list(BOTH)
    assert {route["metric"] for route in kernel_routes(fabric.host, ipv6=True).values()} == {50}


def test_thousand_routes_come_go_and_survive_a_crash(fabric: Fabric, leaves: tuple[Frr, Frr], tmp_path: Path) -> None:
    prefixes = [f"10.{128 + number // 250}.{number % 250}.0/24" for number in range(1000)]
    routes = "\n".join(f"route {prefix} unreachable;" for prefix in prefixes)
    text = f"""
router id 10.255.0.9;
protocol device {{ }}
protocol static many {{ ipv4; {routes} }}
protocol bgp host {{ local 10.0.1.2 port 1790 as 65211; neighbor 10.0.1.1 as 65203; passive yes;
  ipv4 {{ import all; export all; next hop self; }}; }}
"""
    neighbor = leaf(1, asn=65211, port=1790, families=["ipv4-unicast"])
    with Bird(fabric.leaf1, text) as bird, started(fabric, neighbor) as host:
        host.wait(lambda: set(prefixes) <= set(kernel_routes(fabric.host)), "all routes")
        assert host.metric("bgpd_fib_routes_installed", vrf="") == 1000
        assert host.neighbor("leaf1")["families"]["ipv4-unicast"]["received"] == 1000
        bird.birdc("disable many")
        host.wait(lambda: not kernel_routes(fabric.host), "all to be withdrawn")
        bird.birdc("enable many")
        host.wait(lambda: set(prefixes) <= set(kernel_routes(fabric.host)), "all to be back")
        with RouteWatch(fabric.host, tmp_path) as watch:
            host.kill()
            host.start()
            host.wait_ready()
            assert watch.lines() == []
        bird.kill()
        wait_until(lambda: not kernel_routes(fabric.host), 10, "all to be gone with the leaf", logs=host.logs)
