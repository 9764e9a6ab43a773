"""Leaves with FRR, BIRD and GoBGP restart their BGP while packets flow through them: none is lost, no route moves."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TypeVar

import pytest

from labs.daemons import Bird, Daemon, Gobgp
from labs.gobgp_config import GOBGP_KEPT, gobgp_graceful, gobgp_neighbor, gobgp_router
from labs.process import wait_until
from labs.traffic import Flow, Pair
from tests.daemon.fabric import Fabric, Host, RouteWatch, kernel_routes, leaf, started

pytestmark = pytest.mark.netns

D = TypeVar("D", bound=Daemon)
SERVED = "10.9.0.1"
NETWORKS = ("10.9.0.0/16", "10.8.1.0/24")
BIRD = """
router id 10.255.0.1;
protocol device { }
protocol static s4 { ipv4; route 10.9.0.0/16 unreachable; route 10.8.1.0/24 unreachable; }
protocol bgp host {
  local as 65201;
  neighbor 10.0.1.1 as 65203;
  connect delay time 1;
  connect retry time 1;
  error wait time 1, 2;
  graceful restart yes;
  ipv4 { import all; export all; next hop self; };
}
"""
GOBGP = gobgp_router(65201, "10.255.0.1") + gobgp_neighbor(
    "10.0.1.1",
    65203,
    gobgp_graceful(60, "deferral-time = 10\n"),
    families={"ipv4-unicast": GOBGP_KEPT},
    idle_hold_time_after_reset=1,
)


@pytest.fixture
def host(fabric: Fabric) -> Iterator[Host]:
    """The leaf forwards to what it announces, whatever becomes of its BGP."""
    fabric.leaf1.ip("addr", "replace", f"{SERVED}/32", "dev", "lo")
    fabric.leaf1.ip("link", "set", "lo", "up")
    graceful = f"{leaf(1, families=['ipv4-unicast']).rstrip()}\ngraceful_restart = {{}}\n"
    with started(fabric, graceful) as host:
        yield host


def lossless(fabric: Fabric, host: Host, tmp_path: Path, restart: Callable[[], None]) -> None:
    """Restart the leaf's BGP under a flow: nothing is lost, the kernel's routes do not move, nothing stays stale."""
    host.wait(lambda: set(NETWORKS) <= set(kernel_routes(host.namespace)), "the routes")
    host.wait(lambda: host.neighbor("leaf1")["neighbor_graceful_restart"] == "both", "graceful restart")
    flow = Flow(Pair(fabric.host, SERVED), tmp_path)
    wait_until(flow.has_reply, 10, "the flow")
    with RouteWatch(fabric.host, tmp_path) as watch:
        restart()
        host.wait(lambda: host.neighbor("leaf1")["established_count"] == 2, "the leaf to be back", timeout_s=40)
        host.wait(lambda: not host.neighbor("leaf1")["stale_families"], "its End-of-RIB", timeout_s=40)
        time.sleep(0.5)
        assert [line for line in watch.lines() if "Deleted" in line] == []
        assert watch.lines() == [], "not one message about a route"
    result = flow.stop()
    assert result.sent > 10
    assert result.lost == 0, result
    assert set(NETWORKS) <= set(kernel_routes(host.namespace))
    kept = host.log("graceful_restart.routes_kept")
    assert [record["routes"] for record in kept] == [len(NETWORKS)]


@pytest.mark.interop("FRR", "peer-restarts")
@pytest.mark.parametrize("signal_", ["killed", "stopped"])
def test_frr(fabric: Fabric, host: Host, tmp_path: Path, signal_: str) -> None:
    with fabric.frr(1, "bgp graceful-restart", "bgp graceful-restart preserve-fw-state", networks=NETWORKS) as frr:

        def restart() -> None:
            frr.kill() if signal_ == "killed" else frr.processes[-1].stop()
            host.wait(lambda: host.neighbor("leaf1")["stale_routes"] == len(NETWORKS), "the routes to be stale")
            frr.restart_bgpd()

        lossless(fabric, host, tmp_path, restart)
        assert frr.established() == ["10.0.1.1"]


def restarted_by(
    host: Host, first: Daemon, make: Callable[[], AbstractContextManager[D]], started_: list[D]
) -> Callable[[], None]:
    def restart() -> None:
        first.kill()
        host.wait(lambda: host.neighbor("leaf1")["stale_routes"] == len(NETWORKS), "the routes to be stale")
        started_.append(make().__enter__())

    return restart


@pytest.mark.interop("BIRD", "peer-restarts")
def test_bird(fabric: Fabric, host: Host, tmp_path: Path) -> None:
    again: list[Bird] = []
    try:
        with Bird(fabric.leaf1, BIRD) as bird:
            lossless(
                fabric, host, tmp_path, restarted_by(host, bird, lambda: Bird(fabric.leaf1, BIRD, recovers=True), again)
            )
            assert again[-1].established() == ["host"]
    finally:
        for daemon in again:
            daemon.stop()


@pytest.mark.interop("GoBGP", "peer-restarts")
def test_gobgp(fabric: Fabric, host: Host, tmp_path: Path) -> None:
    """Its routes come from outside: no session may begin before they are there, since it sends End-of-RIB at once."""
    again: list[Gobgp] = []

    def make(recovers: bool = True) -> Gobgp:
        host.processes[-1].send_signal(signal.SIGSTOP)
        try:
            gobgp = Gobgp(fabric.leaf1, GOBGP, recovers=recovers)
            for network in NETWORKS:
                gobgp.run("global", "rib", "add", network, "nexthop", "10.0.1.2")
        finally:
            host.processes[-1].send_signal(signal.SIGCONT)
        return gobgp

    try:
        with make(recovers=False) as gobgp:
            lossless(fabric, host, tmp_path, restarted_by(host, gobgp, make, again))
            assert again[-1].established() == ["10.0.1.1"]
    finally:
        for daemon in again:
            daemon.stop()
