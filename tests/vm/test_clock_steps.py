"""The time of day is set while sessions run: nothing that the daemon or its BFD process waits for depends on it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from bgpd.bfd.packet import State
from labs.daemons import Bfd
from tests.bfd.daemon_side import DaemonSide, desired
from tests.daemon.fabric import Fabric, Host, kernel_routes, leaf, started, table
from tests.daemon.wire_peer import UPDATE, Restart, WirePeer, message, update

pytestmark = [
    pytest.mark.netns,
    pytest.mark.vm,
    pytest.mark.skipif(
        "User Mode Linux" not in Path("/proc/cpuinfo").read_text(),
        reason="sets the clock: only a guest's (make test-vm)",
    ),
]

HOUR_S = 3600.0
PREFIX = "10.9.0.0/16"


def step(seconds: float) -> None:
    """Set the guest's clock forward or back."""
    time.clock_settime(time.CLOCK_REALTIME, time.time() + seconds)


def bfd_view(host: Host) -> dict[str, Any]:
    found: dict[str, Any] = host.get("bfd")[0]
    return found


def test_sessions_and_what_is_kept_of_them_outlive_steps_of_the_clock() -> None:
    with (
        Fabric() as fabric,
        Bfd(fabric.host) as ours,
        Bfd(fabric.leaf1) as theirs,
        DaemonSide(theirs.socket_path) as far_end,
        WirePeer(fabric.leaf1) as peer,
    ):
        one = leaf(1, families=["ipv4-unicast"], hold_time_s=30).rstrip() + "\nbfd = { interval_ms = 500 }\n"
        far = desired("10.0.1.2", "10.0.1.1", interface="swp1", interval_ms=500)
        with started(fabric, one, table("[bfd]", socket=str(ours.socket_path)), wait=False) as host:
            peer.timeout(120)
            connection = peer.establish(hold_time_s=30, restart=Restart(time_s=12))
            connection.sendall(update((PREFIX,), asn=65201, next_hop="10.0.1.2") + message(UPDATE, b"\0\0\0\0"))
            host.wait(lambda: PREFIX in kernel_routes(fabric.host), "the route", timeout_s=60)
            far_end.want(far)
            far_end.wait_state(far, State.UP, 60)
            host.wait(lambda: bfd_view(host)["state"] == "up", "BFD to be Up", timeout_s=60)
            for seconds in (HOUR_S, -2 * HOUR_S, HOUR_S):
                heard = bfd_view(host)["packets_received"]
                step(seconds)
                host.wait(
                    lambda heard=heard: bfd_view(host)["packets_received"] > heard + 6, "more of BFD", timeout_s=60
                )
            assert (bfd_view(host)["downs"], far_end.reports[far.key].downs) == (0, 0)
            assert host.neighbor("leaf1")["established_count"] == 1
            connection.close()
            host.wait(lambda: host.neighbor("leaf1")["stale_routes"] == 1, "the neighbor to restart", timeout_s=60)
            step(HOUR_S)
            assert PREFIX in kernel_routes(fabric.host)
            step(-2 * HOUR_S)
            host.wait(lambda: PREFIX not in kernel_routes(fabric.host), "the Restart Time to be over", timeout_s=60)
