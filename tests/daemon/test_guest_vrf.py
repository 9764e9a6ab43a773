"""Guests inside a VRF that the kernel keeps by rules: what they announce is the tenant's."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from labs.daemons import Frr
from labs.namespace import link
from labs.process import LabError
from tests.daemon.fabric import Fabric, Host, frr_config, heard_from_host, leaf, started
from tests.daemon.fabric import table as toml
from tests.daemon.test_aggregates_vrf import EVPN, TABLES, heard
from tests.daemon.test_guest_sessions import guest
from tests.daemon.wire_guest import WireGuest

pytestmark = pytest.mark.netns

ADDRESS = "10.9.9.1/32"
VM = guest("vm", "10.70.0.2", vrf="blue", interface="pod1")
SECTIONS = (leaf(1, families=["ipv4-unicast", "l2vpn-evpn"]), TABLES[2], guest("own", "127.0.0.2"))
NO_INTERFACE = guest("lost", "10.70.0.3", vrf="blue")
RANGE = guest("many", "10.70.0.0/28", vrf="blue", interface="pod1", port=1790)


@pytest.fixture(scope="module")
def frr(fabric: Fabric) -> Iterator[Frr]:
    link(fabric.host, "blue0", fabric.leaf1, "blue0")
    fabric.host.addresses("blue0", "10.0.91.1/24")
    fabric.leaf1.addresses("blue0", "10.0.91.2/24")
    fabric.host.addresses("pod1", "10.70.0.1/24")
    fabric.pods.addresses("pod1", "10.70.0.2/24", "10.70.0.3/24")
    text = frr_config(1).removesuffix("exit\n") + EVPN + "exit\n"
    with Frr(fabric.leaf1, text) as frr:
        yield frr


def dial(fabric: Fabric, source: str = "10.70.0.2", **fields: int | float) -> WireGuest:
    return WireGuest(fabric.pods, asn=64512, source=source, to="10.70.0.1", router_id=(10, 1, 1, 2), **fields)


def kernel_has(fabric: Fabric) -> str:
    return fabric.host.ip("route", "show", "table", "1001", "proto", "217")


def test_guest_of_a_vrf_and_one_of_the_main_table_have_the_same_address(fabric: Fabric, frr: Frr) -> None:
    with started(fabric, *SECTIONS, VM, RANGE, NO_INTERFACE) as host:
        host.wait_established("leaf1")
        with dial(fabric) as vm, WireGuest(fabric.host, asn=64513, router_id=(10, 1, 1, 3)) as own:
            vm.announce(ADDRESS)
            own.announce(ADDRESS)
            host.wait(lambda: ADDRESS in heard(frr), "the leaf to hear the tenant's")
            host.wait(lambda: heard_from_host(frr, ADDRESS), "the leaf to hear the host's")
            assert [view["vrf"] for view in host.get("workloads") if view["announced"]] == ["", "blue"]
            assert "via 10.70.0.2 dev pod1" in from_the_leaf(fabric)
            vm.announce("10.9.9.2/32")
            host.wait(lambda: "10.9.9.2/32" in heard(frr), "the session to go on, now that its interface is of the VRF")
            with dial(fabric, "10.70.0.3", port=1790) as third:
                third.announce("10.9.9.3/32")
                host.wait(lambda: "10.9.9.3/32" in heard(frr), "one of a range, by a port of its own")
        host.wait(lambda: not heard(frr), "the tenant's to go with the guests")
        host.wait(lambda: "10.9.9." not in kernel_has(fabric), "its routes to go")
        cannot_connect(host, fabric)


def test_guest_of_a_vrf_may_name_addresses_that_the_host_has_in_it(fabric: Fabric, frr: Frr) -> None:
    """That of its interface at once, whether that is of the VRF yet or not; others once their interface is."""
    local = guest("vm", "10.70.0.2", vrf="blue", interface="pod1", next_hop="local")
    machine = toml("[[workload.static]]", prefix="10.9.8.1/32", interface="pod2", vrf="blue")
    fabric.host.batch("link set pod2 up", "addr add 10.71.0.1/24 dev pod2")
    with started(fabric, *SECTIONS, local) as host, dial(fabric) as vm:
        vm.announce("10.9.9.3/32", next_hop="10.70.0.1")
        host.wait(lambda: heard(frr) == {"10.9.9.3/32"}, "the leaf to hear it")
        vm.announce(ADDRESS)
        vm.announce("10.9.9.4/32", next_hop="10.71.0.1")
        host.wait(lambda: heard(frr) == {"10.9.9.3/32", ADDRESS}, "the interface to be of the VRF")
        host.reload_with(*SECTIONS, local, machine)
        host.wait(lambda: "10.9.9.4/32" in heard(frr), "that of the other interface to count")
        assert not host.log("workload.damped")
    fabric.host.ip("addr", "del", "10.71.0.1/24", "dev", "pod2")


def from_the_leaf(fabric: Fabric) -> str:
    """Where a packet of the tenant goes that arrives for the address."""
    return fabric.host.ip("route", "get", "10.9.9.1", "iif", "blue0", "from", "10.0.91.2")


def cannot_connect(host: Host, fabric: Fabric) -> None:
    """Who is not of the VRF by its interface is nobody; that is told where it is configured so."""
    (warning,) = host.health()["warnings"]
    why = "the kernel has no device of VRF blue, and no interface says by which one it comes in"
    assert warning == f"guest lost cannot connect: {why}"
    with pytest.raises((LabError, OSError)):
        dial(fabric, "10.70.0.3", patience_s=0.5)
    host.reload_with(*SECTIONS, toml("[workload.api]"))
    assert host.health()["warnings"] == []
    with pytest.raises((LabError, OSError)):
        dial(fabric, patience_s=0.5)
