"""Restarts, also by a crash, of hosts between which a VM moved: it stays where it is."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator

import pytest

from labs.daemons import Bgpd, Gobgp
from labs.process import wait_until
from tests.interop.evpn_fabric import MAC, EvpnFabric, add_vm, host_config, kernel_routes, vrf
from tests.interop.test_evpn_gobgp import gobgp_config, table
from tests.interop.test_evpn_tenants import VM, vm_state, watching

pytestmark = pytest.mark.netns

ADDRESS = "10.64.1.20"
WAIT_S = 30.0
HEARD_S = 3.0
"""Long enough for a session, and for what would be said in it."""
ENDS = pytest.mark.parametrize("end_by", [signal.SIGTERM, signal.SIGKILL], ids=["stopped", "crashed"])
GRACEFUL = "graceful_restart = { restart_time_s = 20 }"


@pytest.fixture(params=[False, True], ids=["plain", "graceful"])
def is_graceful(request: pytest.FixtureRequest) -> bool:
    """Whether the leaf keeps a host's routes while that restarts. It ends its initial table with End-of-RIB then."""
    return bool(request.param)


@pytest.fixture
def gobgp(fabric: EvpnFabric, is_graceful: bool) -> Iterator[Gobgp]:
    with Gobgp(fabric.leaf, gobgp_config("l2vpn-evpn", restart_time_s=20 if is_graceful else 0)) as made:
        yield made


@pytest.fixture
def hosts(fabric: EvpnFabric, gobgp: Gobgp, is_graceful: bool) -> Iterator[tuple[Bgpd, Bgpd]]:
    """Both hosts; the VM came to the first, and moved to the second."""
    neighbor = GRACEFUL if is_graceful else ""
    first, second = (fabric.bgpd(number, host_config(number, vrf(), neighbor=neighbor)) for number in (1, 2))
    with first as first, second as second:
        add_vm(first, VM)
        wait_until(lambda: ADDRESS in kernel_routes(fabric.hosts[2]), WAIT_S, "host2 to hear of it", logs=second.logs)
        add_vm(second, VM)
        wait_until(lambda: vm_state(first) == "moved", WAIT_S, "the move", logs=first.logs)
        wait_until(lambda: way(fabric, 1) == "there", WAIT_S, "the way there", logs=first.logs)
        yield first, second


def way(fabric: EvpnFabric, number: int) -> str:
    """Where the kernel of a host forwards the VM's traffic to."""
    route = kernel_routes(fabric.hosts[number]).get(ADDRESS, {})
    return "here" if route.get("dev") == "vm" else "there" if "nhid" in route else ""


def sequence(gobgp: Gobgp, number: int) -> int | None:
    """The sequence with which a host announces the VM to the leaf; None: it does not."""
    route = table(gobgp, f"10.0.{number}.1").get((2, MAC, ADDRESS))
    if route is None:
        return None
    return sum(one["sequence"] for one in route["communities"] if (one["type"], one["subtype"]) == (6, 0))


def end(bgpd: Bgpd, how: signal.Signals) -> None:
    bgpd.processes[-1].stop(how)


@ENDS
def test_vm_that_moved_away_is_never_taken_back_by_a_restart_of_the_host_that_it_left(
    fabric: EvpnFabric, gobgp: Gobgp, hosts: tuple[Bgpd, Bgpd], end_by: signal.Signals
) -> None:
    first, second = hosts
    watch = watching(first)
    end(first, end_by)
    fabric.leaf.ip("link", "set", "swp1", "down")
    try:
        first.start()
        began = time.monotonic()
        wait_until(lambda: vm_state(first), WAIT_S, "the VM to be claimed", logs=first.logs)
        while time.monotonic() - began < HEARD_S:
            assert vm_state(first) == "moved"
            assert way(fabric, 1) != "here"
    finally:
        fabric.leaf.ip("link", "set", "swp1", "up")
    wait_until(lambda: first.established() == ["leaf"], WAIT_S, "the session", logs=first.logs)
    wait_until(lambda: way(fabric, 1) == "there", WAIT_S, "the way there", logs=first.logs)
    assert vm_state(first) == "moved"
    watch.stop()
    assert not [line for line in watch.log_path.read_text().splitlines() if f"{ADDRESS} dev vm" in line]
    assert (sequence(gobgp, 1), sequence(gobgp, 2)) == (None, 1)
    assert "mobility.moved" not in second.log_path.read_text()
    # Only who says it anew brings it back.
    add_vm(first, VM, check=False)
    assert vm_state(first) == "moved"
    first.cli("workload", "del", "vm")
    add_vm(first, VM)
    wait_until(lambda: vm_state(second) == "moved", WAIT_S, "the move back", logs=second.logs)
    assert (sequence(gobgp, 1), sequence(gobgp, 2)) == (2, None)


@ENDS
@pytest.mark.parametrize("is_graceful", [True], indirect=True)
def test_vm_that_moved_away_is_taken_back_after_a_restart_once_no_other_host_announces_it(
    fabric: EvpnFabric, gobgp: Gobgp, hosts: tuple[Bgpd, Bgpd], end_by: signal.Signals
) -> None:
    first, second = hosts
    end(first, end_by)
    second.cli("workload", "del", "vm")
    wait_until(lambda: sequence(gobgp, 2) is None, WAIT_S, "host2's withdrawal", logs=second.logs)
    first.start()
    wait_until(lambda: vm_state(first) == "announced", WAIT_S, "the VM to be taken back", logs=first.logs)
    assert way(fabric, 1) == "here"
    log = first.log_path.read_text().rpartition("bgpd.starting")[2]
    assert log.index("bgpd.converged") < log.index("mobility.held")


@ENDS
def test_host_that_a_vm_moved_to_comes_back_with_its_sequence_and_keeps_the_vm(
    fabric: EvpnFabric, gobgp: Gobgp, hosts: tuple[Bgpd, Bgpd], end_by: signal.Signals
) -> None:
    first, second = hosts
    end(second, end_by)
    if end_by is signal.SIGTERM and "graceful" not in second.config_path.read_text():
        wait_until(lambda: vm_state(first) == "announced", WAIT_S, "the VM to be taken back", logs=first.logs)
    second.start()
    wait_until(lambda: second.established() == ["leaf"], WAIT_S, "the session", logs=second.logs)
    wait_until(lambda: sequence(gobgp, 2) == 1, WAIT_S, "its announcement", logs=second.logs)
    wait_until(lambda: vm_state(first) == "moved", WAIT_S, "the VM to be left to host2", logs=first.logs)
    time.sleep(1)
    assert (vm_state(first), vm_state(second)) == ("moved", "announced")
    assert (sequence(gobgp, 1), sequence(gobgp, 2)) == (None, 1)
    assert (way(fabric, 1), way(fabric, 2)) == ("there", "here")
