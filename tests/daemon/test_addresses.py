"""Addresses that the host itself has are announced while it has them, and nothing of its uplinks is."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from bgpd.model.prefix import parse_prefix
from labs.daemons import Frr
from tests.daemon.fabric import Fabric, Host, heard_from_host, kernel_routes, leaf, started, table
from tests.daemon.managed import managed, said
from tests.daemon.wire_peer import END_OF_RIB, UPDATE, WirePeer

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


def updates(frr: Frr) -> int:
    """UPDATE messages that the leaf has received of the host."""
    views = frr.vtysh_json("show bgp neighbors json")
    return sum(int(view["messageStats"]["updatesRecv"]) for view in views.values())


def test_what_comes_and_goes_1000_times_is_damped_and_nothing_else_notices(
    fabric: Fabric, host: Host, frr: Frr
) -> None:
    """An address and a kernel route: 1,000 times each within seconds, and there in the end."""
    flapping, route, calm = "10.255.7.7/32", "10.64.2.7/32", "10.255.7.8/32"
    host.reload_with(leaf(1), leaf(2), addresses("lo"), table("[workload.kernel]", interfaces=["pod2"]))
    fabric.host.batch(
        f"addr add {flapping} dev lo", f"addr add {calm} dev lo", f"route add {route} dev pod2 proto static"
    )
    try:
        for prefix in (LOOPBACK, flapping, route, calm):
            wait_heard(host, frr, prefix)
        before = updates(frr)
        since = {view["prefix"]: view["since"] for view in host.get("workloads")}
        for _ in range(20):
            once = (
                f"addr del {flapping} dev lo",
                f"route del {route} dev pod2",
                f"addr add {flapping} dev lo",
                f"route add {route} dev pod2 proto static",
            )
            fabric.host.batch(*(once * 50))
            host.wait(lambda: host.get("neighbors")[0]["state"] == "established", "an answer")
        views = {view["prefix"]: view for view in host.get("workloads")}
        for prefix in (LOOPBACK, calm):
            assert (views[prefix]["state"], views[prefix]["since"]) == ("announced", since[prefix])
        for prefix in (flapping, route):
            wait_heard(host, frr, prefix)
            host.wait(lambda p=prefix: states_of_all(host)[p] == "announced", f"{prefix} to be announced")
        assert updates(frr) - before <= 60
        damped = host.log("workload.damped")
        assert len(damped) <= 4
        assert len(damped) == host.metric("bgpd_workload_dampings_total")
        assert all("comes and goes" in record["reason"] for record in damped)
        assert host.get("neighbors")[0]["flaps"] == 0
        assert len(host.log()) < 200
    finally:
        fabric.host.batch(f"addr del {flapping} dev lo", f"addr del {calm} dev lo", f"route del {route} dev pod2")


def states_of_all(host: Host) -> dict[str, str]:
    return {view["prefix"]: view["state"] for view in host.get("workloads")}


def test_addresses_follow_their_interface_into_a_vrf_that_is_kept_by_rules_and_back(fabric: Fabric) -> None:
    """No message of the kernel tells of it. The interface of a workload comes and goes with that."""
    blue = table("[[vrf]]", name="blue", table=1001, import_rt=["65201:1"], export_rt=["65201:1"], uplinks=["eth1"])
    machine = table("[[workload.static]]", prefix="10.9.8.1/32", interface="pod1", vrf="blue")
    fabric.host.batch("link set pod1 up", "addr add 10.70.0.1/24 dev pod1")
    own = addresses("pod1", "eth1", ipv6=False)
    with started(fabric, own) as host:

        def wait_vrfs(eth1: str, pod1: str) -> None:
            wanted = [("10.0.2.1/32", eth1), ("10.70.0.1/32", pod1)]

            def has() -> bool:
                return (
                    sorted((view["prefix"], view["vrf"]) for view in host.get("workloads", source="addresses"))
                    == wanted
                )

            host.wait(has, f"the addresses to be {wanted}")

        wait_vrfs("", "")
        for tables, eth1, pod1 in (
            ((blue,), "blue", ""),
            ((blue, machine), "blue", "blue"),
            ((blue,), "blue", ""),
            ((blue, machine), "blue", "blue"),
            ((), "", ""),
        ):
            host.reload_with(own, *tables)
            wait_vrfs(eth1, pod1)
    fabric.host.ip("addr", "del", "10.70.0.1/24", "dev", "pod1")


def test_hand_over_is_no_change_of_addresses_and_what_went_meanwhile_is_withdrawn(fabric: Fabric) -> None:
    gone = "10.255.7.9/32"
    fabric.host.batch(f"addr add {LOOPBACK} dev lo", f"addr add {gone} dev lo")
    session: dict[str, object] = {"families": ["ipv4-unicast"], "hold_time_s": 90}
    try:
        with (
            WirePeer(fabric.leaf2, "10.0.2.2", asn=65202) as peer,
            managed(fabric, leaf(2, **session), addresses("lo")) as host,
        ):
            connection = peer.establish(hold_time_s=90)
            connection.sendall(END_OF_RIB)
            host.wait_ready()
            host.wait(lambda: all(view["announced"] for view in host.get("workloads")), "the addresses to be announced")
            assert {view["prefix"] for view in host.get("workloads")} == {LOOPBACK, gone}
            said(connection)
            host.hand_over()
            assert said(connection) == []
            assert host.established() == ["leaf2"]
            converged = len(host.log("bgpd.converged"))
            host.processes[-1].send_signal(signal.SIGUSR1)
            fabric.host.ip("addr", "del", gone, "dev", "lo")
            host.wait(lambda: len(host.log("bgpd.converged")) > converged, "the next process", timeout_s=60)
            assert said(connection) == [(UPDATE, b"\0\5" + parse_prefix(gone)[1] + b"\0\0")]
            assert {view["prefix"] for view in host.get("workloads")} == {LOOPBACK}
    finally:
        fabric.host.batch(f"addr del {LOOPBACK} dev lo")
