"""Graceful restart (RFC 4724) with FRR as the leaf. A module of its own, since each leaf runs one FRR at a time."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from labs.daemons import Frr
from labs.process import wait_until
from tests.daemon.fabric import Fabric, RouteWatch, leaf, started, table

pytestmark = pytest.mark.netns

NETWORKS = ("10.9.0.0/16", "10.8.1.0/24", "2001:db8:9::/48")
POD = table("[[workload.static]]", prefix="10.64.1.5/32", interface="pod1")


def is_stale(frr: Frr, prefix: str) -> bool:
    """Whether the leaf keeps a route only because its neighbor restarts."""
    return bool(frr.vtysh_json(f"show bgp ipv4 unicast {prefix} json")["paths"][0].get("stale"))


@pytest.mark.interop("FRR", "host-restarts")
def test_leaf_keeps_the_pods_through_a_graceful_restart(fabric: Fabric, tmp_path: Path) -> None:
    """RFC 4724: neither a crash nor a stop for an upgrade takes a pod's route out of the leaf's kernel."""
    graceful = leaf(1) + "graceful_restart = { restart_time_s = 30 }\n"
    with fabric.frr(1, "bgp graceful-restart", networks=NETWORKS) as frr, started(fabric, graceful, POD) as host:
        host.wait_ready()
        wait_until(lambda: "10.64.1.5 " in fabric.leaf1.ip("route", "show"), 5, "the leaf's kernel to have the pod")
        with RouteWatch(fabric.leaf1, tmp_path) as watch:
            for end in (host.terminate, host.kill):
                end()
                time.sleep(0.3)
                host.start()
                host.wait_ready()
                # A route that is stale when the session ends again is to be deleted (RFC 4724 section 4.2).
                wait_until(lambda: not is_stale(frr, "10.64.1.5/32"), 5, "the leaf to have heard of the pod again")
            time.sleep(0.5)
            assert [line for line in watch.lines(186) if "10.64.1.5" in line and "Deleted" in line] == []


def test_leaf_is_told_of_a_stop_for_good(fabric: Fabric) -> None:
    """SIGINT, by the unit for `systemctl stop` and by Ctrl-C: the leaf keeps nothing, graceful restart or not."""
    graceful = leaf(1) + "graceful_restart = { restart_time_s = 30 }\n"
    with fabric.frr(1, "bgp graceful-restart", networks=NETWORKS) as frr, started(fabric, graceful, POD) as host:
        host.wait_ready()
        wait_until(lambda: "10.64.1.5 " in fabric.leaf1.ip("route", "show"), 5, "the leaf's kernel to have the pod")
        assert host.terminate(signal.SIGINT) == 0
        wait_until(lambda: "10.64.1.5 " not in fabric.leaf1.ip("route", "show"), 5, "the leaf to have withdrawn it")
        (neighbor,) = frr.vtysh_json("show bgp neighbors json").values()
        assert "Administrative Shutdown" in str(neighbor)
        host.start()
        host.wait_ready()
