"""This host's own prefixes: announced once the kernel forwards to them, withdrawn when it no longer does."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from labs.daemons import Frr
from tests.daemon.fabric import (
    Fabric,
    Host,
    announce,
    config,
    frr_paths,
    heard_from_host,
    kernel_hops,
    leaf,
    started,
    table,
)

pytestmark = pytest.mark.netns


def static(prefix: str, interface: str, **fields: object) -> str:
    return table("[[workload.static]]", prefix=prefix, interface=interface, **fields)


TABLES = (
    leaf(1),
    static("10.64.1.5/32", "pod1"),
    static("10.64.1.6/32", "late1"),
    table("[workload.kernel]", interfaces=["pod2"]),
    table("[[aggregate]]", prefix="10.65.0.0/24", summary_only=True, blackhole=True),
)


@pytest.fixture(scope="module")
def host(fabric: Fabric, frr: Frr) -> Iterator[Host]:
    with started(fabric, *TABLES) as host:
        host.wait_established("leaf1")
        yield host


def workload(host: Host, prefix: str) -> dict[str, object]:
    found: dict[str, object] = next((view for view in host.get("workloads") if view["prefix"] == prefix), {})
    return found


def wait_heard(host: Host, frr: Frr, prefix: str) -> None:
    host.wait(lambda: heard_from_host(frr, prefix), f"the leaf to hear {prefix}")


def wait_forgotten(host: Host, frr: Frr, prefix: str) -> None:
    host.wait(lambda: not heard_from_host(frr, prefix), f"the leaf to forget {prefix}")


def test_static_workload_is_in_the_kernel_and_announced(fabric: Fabric, host: Host, frr: Frr) -> None:
    wait_heard(host, frr, "10.64.1.5/32")
    assert kernel_hops(fabric.host, "10.64.1.5/32") == ["pod1"]
    assert workload(host, "10.64.1.5/32")["state"] == "announced"


def test_static_workload_stays_announced_when_another_program_leads_it_to_its_interface(
    fabric: Fabric, host: Host, frr: Frr
) -> None:
    """Ours gives way to its route, which does as well; without it ours is there again."""
    wait_heard(host, frr, "10.64.1.5/32")
    fabric.host.ip("route", "add", "10.64.1.5/32", "dev", "pod1")
    host.wait(lambda: fabric.host.ip("route", "show", "10.64.1.5/32").count("pod1") == 1, "ours to give way")
    host.wait(lambda: workload(host, "10.64.1.5/32")["state"] == "announced", "the address to be announced")
    assert frr_paths(frr, "10.64.1.5/32")
    fabric.host.ip("route", "del", "10.64.1.5/32", "dev", "pod1", "metric", "0")
    host.wait_hops("10.64.1.5/32", "pod1")
    wait_heard(host, frr, "10.64.1.5/32")


def test_static_workload_waits_for_its_interface(fabric: Fabric, host: Host, frr: Frr) -> None:
    assert workload(host, "10.64.1.6/32")["announced"] is False
    assert "late1" in str(workload(host, "10.64.1.6/32")["reason"])
    assert not frr_paths(frr, "10.64.1.6/32")
    fabric.host.batch("link add late1 type veth peer name late1p", "link set late1p up", "link set late1 up")
    wait_heard(host, frr, "10.64.1.6/32")
    assert kernel_hops(fabric.host, "10.64.1.6/32") == ["late1"]
    fabric.host.ip("link", "del", "late1")
    wait_forgotten(host, frr, "10.64.1.6/32")
    assert kernel_hops(fabric.host, "10.64.1.6/32") == []


def test_static_workload_on_a_link_that_goes_down_is_withdrawn(fabric: Fabric, host: Host, frr: Frr) -> None:
    wait_heard(host, frr, "10.64.1.5/32")
    fabric.host.ip("link", "set", "pod1", "down")
    wait_forgotten(host, frr, "10.64.1.5/32")
    assert workload(host, "10.64.1.5/32")["announced"] is False
    fabric.host.ip("link", "set", "pod1", "up")
    wait_heard(host, frr, "10.64.1.5/32")
    assert kernel_hops(fabric.host, "10.64.1.5/32") == ["pod1"]


def test_route_of_another_program_is_announced_and_withdrawn_with_it(fabric: Fabric, host: Host, frr: Frr) -> None:
    for prefix in ("10.64.2.9/32", "2001:db8:64::9/128"):
        fabric.host.ip("route", "add", prefix, "dev", "pod2")
        wait_heard(host, frr, prefix)
        assert workload(host, prefix)["source"] == "kernel"
        fabric.host.ip("route", "del", prefix, "dev", "pod2")
        wait_forgotten(host, frr, prefix)
        assert not workload(host, prefix)


def test_route_on_another_interface_is_not_announced(fabric: Fabric, host: Host, frr: Frr) -> None:
    fabric.host.batch("route add 10.64.1.77/32 dev pod1", "route add 10.64.2.77/32 dev pod2")
    wait_heard(host, frr, "10.64.2.77/32")
    assert not frr_paths(frr, "10.64.1.77/32")
    fabric.host.batch("route del 10.64.1.77/32 dev pod1", "route del 10.64.2.77/32 dev pod2")
    wait_forgotten(host, frr, "10.64.2.77/32")


@pytest.mark.parametrize(
    ("prefix", "other"),
    [
        ("10.64.2.78/32", "route add blackhole 10.64.2.78/32 metric 5"),
        ("10.64.2.79/32", "route add 10.64.2.79/32 via 10.0.1.2 metric 5"),
        ("2001:db8:64::78/128", "route add unreachable 2001:db8:64::78/128 metric 5"),
    ],
)
def test_route_that_another_one_takes_the_place_of_is_not_announced(
    fabric: Fabric, host: Host, frr: Frr, prefix: str, other: str
) -> None:
    mine = f"{prefix} dev pod2 metric 9"
    fabric.host.ip("route", "add", *mine.split())
    wait_heard(host, frr, prefix)
    fabric.host.ip(*other.split())
    wait_forgotten(host, frr, prefix)
    fabric.host.ip(*other.replace("add", "del").split())
    wait_heard(host, frr, prefix)
    fabric.host.ip("route", "del", *mine.split())
    wait_forgotten(host, frr, prefix)


def test_kernel_routes_of_a_link_that_goes_down_are_withdrawn(fabric: Fabric, host: Host, frr: Frr) -> None:
    fabric.host.ip("route", "add", "10.64.2.9/32", "dev", "pod2")
    wait_heard(host, frr, "10.64.2.9/32")
    fabric.host.ip("link", "set", "pod2", "down")
    wait_forgotten(host, frr, "10.64.2.9/32")
    fabric.host.ip("link", "set", "pod2", "up")
    fabric.host.ip("route", "add", "10.64.2.9/32", "dev", "pod2")
    wait_heard(host, frr, "10.64.2.9/32")
    fabric.host.ip("route", "del", "10.64.2.9/32", "dev", "pod2")
    wait_forgotten(host, frr, "10.64.2.9/32")


def test_aggregate_stands_for_what_is_inside(fabric: Fabric, host: Host, frr: Frr) -> None:
    assert not frr_paths(frr, "10.65.0.0/24")
    fabric.host.ip("route", "add", "10.65.0.9/32", "dev", "pod2")
    wait_heard(host, frr, "10.65.0.0/24")
    assert not frr_paths(frr, "10.65.0.9/32")
    assert "blackhole 10.65.0.0/24" in fabric.host.ip("route", "show")
    view = next(view for view in host.get("aggregates") if view["prefix"] == "10.65.0.0/24")
    assert (view["contributors"], view["announced"]) == (1, ["10.65.0.0/24"])
    fabric.host.ip("route", "del", "10.65.0.9/32", "dev", "pod2")
    wait_forgotten(host, frr, "10.65.0.0/24")
    host.wait_hops("10.65.0.0/24")


def test_reload_adds_and_removes_static_workloads(fabric: Fabric, host: Host, frr: Frr) -> None:
    host.write_config(config(*TABLES, static("10.64.1.8/32", "pod1")))
    host.cli("reload")
    wait_heard(host, frr, "10.64.1.8/32")
    host.write_config(config(*TABLES))
    host.cli("reload")
    wait_forgotten(host, frr, "10.64.1.8/32")
    host.wait_hops("10.64.1.8/32")
    assert host.neighbor("leaf1")["established_count"] == 1


def test_address_of_the_host_on_lo_is_announced_and_needs_no_route(fabric: Fabric, host: Host, frr: Frr) -> None:
    """An anycast service of the host itself: its address is on lo, and the local table delivers."""
    fabric.host.ip("addr", "add", "10.64.99.1/32", "dev", "lo")
    host.write_config(config(*TABLES, static("10.64.99.1/32", "lo")))
    host.cli("reload")
    wait_heard(host, frr, "10.64.99.1/32")
    assert kernel_hops(fabric.host, "10.64.99.1/32") == []
    fabric.host.ip("addr", "del", "10.64.99.1/32", "dev", "lo")
    host.wait_hops("10.64.99.1/32", "lo")
    fabric.host.ip("addr", "add", "10.64.99.1/32", "dev", "lo")
    host.wait_hops("10.64.99.1/32")
    assert workload(host, "10.64.99.1/32")["state"] == "announced"
    host.write_config(config(*TABLES))
    host.cli("reload")
    wait_forgotten(host, frr, "10.64.99.1/32")
    fabric.host.ip("addr", "del", "10.64.99.1/32", "dev", "lo")


def test_prefix_that_the_leaf_announces_too_is_the_workload_s_as_long_as_it_is_here(
    fabric: Fabric, host: Host, frr: Frr
) -> None:
    """A pod that moves away: the way to it changes from its interface to the fabric, without a gap in between."""
    announce(frr, "10.64.2.9/32")
    host.wait_hops("10.64.2.9/32", "10.0.1.2%eth0")
    fabric.host.ip("route", "add", "10.64.2.9/32", "dev", "pod2")
    wait_heard(host, frr, "10.64.2.9/32")
    host.wait_hops("10.64.2.9/32")
    assert "dev pod2" in fabric.host.ip("route", "get", "10.64.2.9")
    fabric.host.ip("route", "del", "10.64.2.9/32", "dev", "pod2")
    host.wait_hops("10.64.2.9/32", "10.0.1.2%eth0")
    wait_forgotten(host, frr, "10.64.2.9/32")
    announce(frr, "10.64.2.9/32", withdraw=True)
    host.wait_hops("10.64.2.9/32")


def test_followed_interfaces_change_by_reload(fabric: Fabric, host: Host, frr: Frr) -> None:
    fabric.host.ip("route", "add", "10.64.1.44/32", "dev", "pod1")
    host.write_config(config(*TABLES[:3], table("[workload.kernel]", interfaces=["pod*"]), *TABLES[4:]))
    host.cli("reload")
    wait_heard(host, frr, "10.64.1.44/32")
    host.write_config(config(*TABLES))
    host.cli("reload")
    wait_forgotten(host, frr, "10.64.1.44/32")
    fabric.host.ip("route", "del", "10.64.1.44/32", "dev", "pod1")


def test_an_address_that_a_neighbor_announces_too_is_an_alarm(fabric: Fabric, host: Host, frr: Frr) -> None:
    wait_heard(host, frr, "10.64.1.5/32")
    gauge = "bgpd_workload_addresses_announced_by_neighbors"
    assert host.metric(gauge) == 0
    # The leaf prefers what it originates itself, and tells the host.
    announce(frr, "10.64.1.5/32")
    host.wait(lambda: host.metric(gauge) == 1, "the alarm")
    warning = "10.64.1.5/32 is a workload's here, and announced by leaf1, too"
    assert warning in host.get("health")["warnings"]
    assert any(one["event"] == "workload.foreign_announcement" for one in host.get("events"))
    assert workload(host, "10.64.1.5/32")["also_announced_by"] == ["leaf1"]
    assert "announced by leaf1, too" in " ".join(host.cli("show", "workloads").split())
    assert kernel_hops(fabric.host, "10.64.1.5/32") == ["pod1"]
    announce(frr, "10.64.1.5/32", withdraw=True)
    host.wait(lambda: host.metric(gauge) == 0, "the end of the alarm")
    assert warning not in host.get("health")["warnings"]
    assert host.log("workload.foreign_announcement_ended")[-1]["prefix"] == "10.64.1.5/32"
