"""Addresses that the host itself has are announced while it has them, and nothing of its uplinks is."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from labs.daemons import Frr
from tests.daemon.fabric import Fabric, Host, heard_from_host, kernel_routes, leaf, started, table

pytestmark = pytest.mark.netns

LOOPBACK, LOOPBACK6 = "10.255.0.1/32", "2001:db8:255::1/128"
SERVICE = "10.96.0.10/32"


def addresses(*interfaces: str, **fields: object) -> str:
    return table("[workload.addresses]", interfaces=list(interfaces), **fields)


@pytest.fixture
def host(fabric: Fabric, frr: Frr) -> Iterator[Host]:
    """The kernel of the tests has no dummy interfaces: a veth of that name, which stays down as kube-ipvs0 does."""
    used = fabric.host
    used.batch("link add kube-ipvs0 type veth peer name dummyp", f"addr add {LOOPBACK} dev lo")
    used.ip("-6", "addr", "add", LOOPBACK6, "dev", "lo")
    try:
        with started(fabric, leaf(1), leaf(2), addresses("lo", "kube*", "eth*")) as host:
            host.wait_established("leaf1")
            yield host
    finally:
        used.batch("link del kube-ipvs0", f"addr del {LOOPBACK} dev lo")
        used.ip("-6", "addr", "del", LOOPBACK6, "dev", "lo")


def states(host: Host) -> dict[str, str]:
    return {view["prefix"]: view["state"] for view in host.get("workloads", source="addresses")}


def wait_heard(host: Host, frr: Frr, prefix: str, *, heard: bool = True) -> None:
    host.wait(lambda: heard_from_host(frr, prefix) == heard, f"the leaf to {'hear' if heard else 'forget'} {prefix}")


def test_addresses_of_the_host_are_announced_live(fabric: Fabric, host: Host, frr: Frr) -> None:
    wait_heard(host, frr, LOOPBACK)
    wait_heard(host, frr, LOOPBACK6)
    host.wait_ready()
    assert states(host) == {LOOPBACK: "announced", LOOPBACK6: "announced"}
    assert not {LOOPBACK, LOOPBACK6} & set(kernel_routes(fabric.host))
    verdict = host.explain("10.255.0.1")["verdict"]
    assert verdict.startswith("10.255.0.1 is an address of this host: packets to it are delivered here; ")
    assert verdict.endswith("addresses workload 10.255.0.1/32 is announced to the neighbors leaf1")
    assert host.metric("bgpd_workloads", source="addresses", state="announced") == 2

    fabric.host.batch(
        f"addr add {SERVICE} dev kube-ipvs0", "addr add 10.255.0.9/24 dev lo", "addr add 169.254.7.1/32 dev lo"
    )
    wait_heard(host, frr, SERVICE)
    wait_heard(host, frr, "10.255.0.9/32")
    assert not heard_from_host(frr, "169.254.7.1/32")
    assert not heard_from_host(frr, "10.0.2.1/32")

    fabric.host.ip("addr", "del", "10.255.0.9/24", "dev", "lo")
    wait_heard(host, frr, "10.255.0.9/32", heard=False)

    host.reload_with(leaf(1), leaf(2), addresses("lo", "eth1", prefixes=["10.255.0.0/16", "10.0.2.0/24"], ipv6=False))
    wait_heard(host, frr, SERVICE, heard=False)
    wait_heard(host, frr, LOOPBACK6, heard=False)
    wait_heard(host, frr, "10.0.2.1/32")
    assert heard_from_host(frr, LOOPBACK)
    host.reload_with(leaf(1), leaf(2), addresses("lo", "kube-ipvs0"))
    wait_heard(host, frr, SERVICE)
    fabric.host.ip("link", "set", "kube-ipvs0", "name", "other0")
    wait_heard(host, frr, SERVICE, heard=False)
    fabric.host.ip("link", "set", "other0", "name", "kube-ipvs0")
    wait_heard(host, frr, SERVICE)
    fabric.host.batch("addr del 169.254.7.1/32 dev lo")
    assert host.get("neighbors")[0]["flaps"] == 0
