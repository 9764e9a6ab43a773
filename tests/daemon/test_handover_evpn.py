"""EVPN over a hand-over: a tenant's routes stay in the kernel, and the leaf is told nothing."""

from __future__ import annotations

import contextlib
import signal
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

from bgpd.evpn.mac_mobility import MOVES_LIMIT
from labs.process import wait_until
from tests.daemon.managed import ManagedHost, said
from tests.daemon.planted import Planted
from tests.daemon.test_evpn_wire import (
    AFI_SAFI,
    END_OF_MEMBERSHIPS,
    EVERYTHING,
    announcement,
    in_kernel,
    mobile,
    prefix,
    withdrawal,
)
from tests.daemon.test_handover import STALLED
from tests.daemon.wire_peer import UPDATE, Restart, WirePeer, message
from tests.interop.evpn_fabric import MAC as VM_MAC
from tests.interop.evpn_fabric import EvpnFabric, add_vm, host_config, kernel_routes, vrf

pytestmark = pytest.mark.netns

WAIT_S = 30.0
AFI_SAFI_BYTES = b"\0\x19\x46"
END_OF_RIB = message(UPDATE, b"\0\0\0\6\x80\x0f\3\0\x19\x46")


def patient(*tables: str, **fields: Any) -> str:
    """A configuration with a hold time that no process needs for its start."""
    return host_config(1, *tables, **fields).replace("hold_time_s = 9", "hold_time_s = 90")


CONFIG = patient(vrf())


@contextlib.contextmanager
def leaf_and_host(config: str = CONFIG) -> Iterator[tuple[EvpnFabric, WirePeer, ManagedHost]]:
    """A leaf that the test plays, and bgpd on a host, which can be handed over."""
    with (
        EvpnFabric() as fabric,
        WirePeer(fabric.leaf, "10.0.1.0") as peer,
        ManagedHost(fabric.hosts[1], config) as host,
    ):
        yield fabric, peer, host


def spoken(peer: WirePeer, *routes: bytes, **fields: Any) -> socket.socket:
    """A session on which the leaf has announced these and End-of-RIB; `fields` are those of its OPEN."""
    connection = peer.establish(families=(AFI_SAFI,), hold_time_s=90, **fields)
    connection.sendall((announcement(*routes) if routes else b"") + END_OF_RIB)
    return connection


def test_routes_of_a_vrf_and_this_hosts_own_go_on() -> None:
    with leaf_and_host() as (fabric, peer, host):
        routes = [prefix("10.80.0.0/16"), prefix("10.81.0.0/16")]
        connection = spoken(peer, *routes)
        wait_until(lambda: in_kernel(fabric) == {"10.80.0.0/16", "10.81.0.0/16"}, WAIT_S, "the routes", logs=host.logs)
        add_vm(host, "10.1.1.5")
        host.wait_ready()
        sent = said(connection, 1.0)
        assert sent
        before, workloads, moment = host.show("evpn"), host.show("workloads"), time.time()
        host.hand_over()
        assert said(connection, 1.0) == []
        assert in_kernel(fabric) >= {"10.80.0.0/16", "10.81.0.0/16"}
        assert without_times(host.show("evpn")) == without_times(before)
        assert host.neighbor("leaf")["established_count"] == 1
        connection.sendall(withdrawal(routes[1]))
        wait_until(lambda: "10.81.0.0/16" not in in_kernel(fabric), WAIT_S, "the withdrawal", logs=host.logs)
        assert without_times(host.get("past/evpn", at=f"{moment:.6f}")["rows"]) == without_times(before)
        assert host.get("past/workloads", at=f"{moment:.6f}")["rows"] == workloads
        after = host.get("past/evpn", at=f"{time.time():.6f}", neighbor="leaf")["rows"]
        assert [one["prefix"] for one in after] == ["10.80.0.0/16"]


ENHANCED_REFRESH = bytes((70, 0))


def test_leaf_with_enhanced_route_refresh_is_told_nothing_either() -> None:
    """The beginning and the end of a refresh (RFC 7313) with nothing between them would withdraw all."""
    with leaf_and_host() as (_, peer, host):
        connection = spoken(peer, more=ENHANCED_REFRESH)
        add_vm(host, "10.1.1.5")
        host.wait_ready()
        assert said(connection)
        host.hand_over()
        assert said(connection) == []


def test_gateway_that_changes_while_the_processes_change_is_told(planted: Planted) -> None:
    """The uplink has another address when the next process looks: prefixes are announced again, with that."""
    planted.gate.touch()
    planted.code(WAITS_AT_ITS_START)
    with leaf_and_host() as (fabric, peer, host):
        connection = spoken(peer, more=ENHANCED_REFRESH)
        add_vm(host, "10.1.1.5")
        host.wait_ready()
        before = [body for _, body in said(connection) if prefix("10.1.1.5/32")[24:29] in body]
        assert any(socket.inet_aton("10.1.1.1") in body for body in before)
        planted.gate.unlink()
        left, ready = len(host.log("handover.left")), len(host.log("bgpd.converged"))
        host.processes[-1].send_signal(signal.SIGUSR1)
        host.wait(lambda: len(host.log("handover.left")) > left, "the process to leave", timeout_s=60)
        fabric.hosts[1].batch("address del 10.1.1.1/24 dev eth0.101", "address add 10.1.1.3/24 dev eth0.101")
        planted.gate.touch()
        host.wait(lambda: len(host.log("bgpd.converged")) > ready, "the next process to converge", timeout_s=60)
        after = [body for kind, body in said(connection, 1.0) if kind == UPDATE]
        assert any(prefix("10.1.1.5/32")[24:29] + socket.inet_aton("10.1.1.3") in body for body in after)


WAITS_AT_ITS_START = """
import os, time
from pathlib import Path

while not Path(os.environ["GATE"]).exists():
    time.sleep(0.01)
"""


def test_leaf_is_heard_while_its_routes_are_taken_up(planted: Planted) -> None:
    """What is new counts at once; what is gone leaves the kernel's table of the VRF when all is there."""
    planted.code(STALLED)
    with leaf_and_host() as (fabric, peer, host):
        planted.gate.touch()
        routes = [prefix(f"10.8{number}.0.0/16") for number in range(4)]
        connection = spoken(peer, *routes[:3])
        there = {"10.80.0.0/16", "10.81.0.0/16", "10.82.0.0/16"}
        wait_until(lambda: in_kernel(fabric) == there, WAIT_S, "the routes", logs=host.logs)
        add_vm(host, "10.1.1.5")
        host.wait_ready()
        said(connection, 1.0)
        planted.gate.unlink()
        heard, began = len(host.log("handover.heard")), len(host.log("bgpd.converged"))
        host.processes[-1].send_signal(signal.SIGUSR1)
        host.wait(lambda: len(host.log("handover.heard")) > heard, "the next process to hear", timeout_s=60)
        connection.sendall(withdrawal(routes[0]) + announcement(routes[1], routes[3]))
        wait_until(lambda: in_kernel(fabric) >= there - {"10.80.0.0/16"} | {"10.83.0.0/16"}, WAIT_S, "the new one")
        assert len(host.log("handover.complete")) == heard
        planted.gate.touch()
        host.wait(lambda: len(host.log("bgpd.converged")) > began, "the next process to converge", timeout_s=60)
        left = there - {"10.80.0.0/16"} | {"10.83.0.0/16"}
        wait_until(lambda: in_kernel(fabric) >= left, WAIT_S, "all others", logs=host.logs)
        wait_until(lambda: "10.80.0.0/16" not in in_kernel(fabric), WAIT_S, "the withdrawal", logs=host.logs)
        assert said(connection, 1.0) == []
        assert host.neighbor("leaf")["established_count"] == 1


def test_leaf_that_has_not_said_its_route_targets_yet_is_sent_nothing_by_the_next_process_either() -> None:
    """It may have restarted, and kept what it had of this host: nothing of that may be withdrawn."""
    families = (AFI_SAFI, (1, 132))
    config = patient(vrf(), families=("l2vpn-evpn", "route-target"))

    def evpn_said() -> list[bytes]:
        return [body for kind, body in said(connection, 1.0) if kind == UPDATE and AFI_SAFI_BYTES in body]

    with leaf_and_host(config) as (_, peer, host):
        connection = peer.establish(families=families, hold_time_s=90, restart=Restart(families=families))
        connection.sendall(END_OF_RIB)
        add_vm(host, "10.1.1.5")
        host.wait(lambda: host.get("workloads")[0]["state"] == "announced", "the VM", timeout_s=WAIT_S)
        announced = len(host.log("workload.announced"))
        host.processes[-1].send_signal(signal.SIGUSR1)
        host.wait(lambda: len(host.log("workload.announced")) > announced, "the next process", timeout_s=WAIT_S)
        assert evpn_said() == []
        connection.sendall(EVERYTHING + END_OF_MEMBERSHIPS)
        bodies: list[bytes] = []
        wait_until(lambda: bodies.extend(evpn_said()) or bodies, WAIT_S, "the VM's routes", logs=host.logs)
        assert not [body for body in bodies if b"\x90\x0f" in body or b"\x80\x0f" in body[:-6]], "nothing is withdrawn"


def without_times(routes: list[dict[str, object]]) -> list[str]:
    for route in routes:
        for candidate in route.get("candidates", []):  # type: ignore[attr-defined]
            candidate.pop("heard_at", None)
            candidate.pop("resolution", None)  # not kept of an earlier time
    return sorted(map(str, routes))


def test_duplicate_stays_frozen_for_the_time_that_is_left() -> None:
    """It is announced on as before, though another host announces it, too: nothing is said to the leaf."""
    address = "10.1.0.7"
    with leaf_and_host() as (_, peer, host):
        connection = spoken(peer)

        def standing() -> str:
            alarms = [alarm["standing"] for view in host.show("vrfs") for alarm in view["alarms"]]
            return next(iter(alarms), "")

        for move in range(1, MOVES_LIMIT + 1):
            add_vm(host, address, check=False)
            connection.sendall(mobile(address, 10 * move))
            wait_until(
                lambda: host.get("workloads")[0]["state"] == "moved" or standing() == "frozen",
                WAIT_S,
                "the VM to move or freeze",
                logs=host.logs,
            )
            if standing() == "frozen":
                break
            host.cli("workload", "del", "vm")
        host.wait_ready()
        said(connection, 1.0)
        before = host.get("workloads")
        host.hand_over()
        assert standing() == "frozen"
        assert host.get("workloads")[0]["state"] == before[0]["state"] == "announced"
        assert said(connection, 1.0) == []
        connection.sendall(mobile(address, 1000))
        host.cli("evpn", "clear", VM_MAC)
        host.wait(lambda: standing() == "", "the freeze to end")


def test_vrf_that_the_next_configuration_lacks_goes_and_the_session_stays() -> None:
    """Its routes leave the kernel, and what this host announced of it is withdrawn, once."""
    config = patient(vrf(), vrf("red"))
    with leaf_and_host(config) as (fabric, peer, host):
        connection = spoken(peer, prefix("10.80.0.0/16"))
        wait_until(lambda: in_kernel(fabric) == {"10.80.0.0/16"}, WAIT_S, "the route", logs=host.logs)
        add_vm(host, "10.1.1.5")
        host.wait_ready()
        assert said(connection, 1.0)
        host.write_config(patient(vrf("red")))
        host.hand_over()
        wait_until(lambda: in_kernel(fabric) == set(), WAIT_S, "its routes to go", logs=host.logs)
        heard: list[tuple[int, bytes]] = []
        wait_until(lambda: heard.extend(said(connection, 1.0)) or heard, WAIT_S, "the withdrawal", logs=host.logs)
        assert all(b"\x80\x0f" in body or b"\x90\x0f" in body for _, body in heard)
        assert host.neighbor("leaf")["established_count"] == 1
        assert [view["name"] for view in host.show("vrfs")] == ["red"]


@pytest.mark.parametrize(
    ("before", "after", "table", "routes"),
    [
        ('import_rt = ["65201:', 'import_rt = ["65999:', 1001, set()),
        ("table = 1001", "table = 1003", 1003, {"10.80.0.0/16"}),
        ('name = "blue"', 'name = "azure"', 1001, {"10.80.0.0/16"}),
        ("vni = 5001", "vni = 5011", 1001, {"10.80.0.0/16"}),
    ],
)
def test_vrf_that_is_another_one_in_the_next_configuration_has_what_it_imports(
    before: str, after: str, table: int, routes: set[str]
) -> None:
    """Each way back, too. The session goes on, and no table that is not its has a route of it."""
    assert before in CONFIG
    with leaf_and_host() as (fabric, peer, host):
        spoken(peer, prefix("10.80.0.0/16"))
        wait_until(lambda: in_kernel(fabric) == {"10.80.0.0/16"}, WAIT_S, "the route", logs=host.logs)
        host.wait_ready()
        tables = (1001, 1003)

        def are_right(wanted: dict[int, set[str]]) -> bool:
            found = {one: set(kernel_routes(fabric.hosts[1], one)) & {"10.80.0.0/16"} for one in tables}
            return found == wanted

        nothing: dict[int, set[str]] = {one: set() for one in tables}
        for text, wanted in (
            (CONFIG.replace(before, after), {**nothing, table: routes}),
            (CONFIG, {**nothing, 1001: {"10.80.0.0/16"}}),
        ):
            host.write_config(text)
            host.hand_over()
            wait_until(lambda: are_right(wanted), WAIT_S, f"{wanted}", logs=host.logs)  # noqa: B023
            assert host.neighbor("leaf")["established_count"] == 1
