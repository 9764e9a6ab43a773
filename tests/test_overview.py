"""`GET /v1/overview`: its sentence, its order, and its bounds."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from bgpd.kernel.host import Host
from bgpd.model.iana import Family
from bgpd.model.kernel import Address, Link
from bgpd.model.next_hop import NextHop
from bgpd.model.views.host import HealthView, OverviewView
from bgpd.model.views.orders import DrainView
from bgpd.model.views.sessions import NeighborView
from bgpd.model.workload import WorkloadState
from bgpd.overview import MOST_GROUPS, MOST_NEIGHBORS, overview

READY = HealthView(ready=True)


def neighbor(name: str, *, state: str = "established", interface: str = "", guest: str = "") -> NeighborView:
    return NeighborView(
        name=name, address="", interface=interface, asn=1, local_asn=2, state=state, since=0.0, guest=guest
    )


SPEEDS = {"eth0": 25_000}


def routing(groups: int = 0) -> Any:
    """Of a host with eth0 up and eth1 down, 3 prefixes in the main table, and so many nexthop groups."""
    host = Host(lambda event: None)
    host.link(Link(index=2, name="eth0", up=True))
    host.link(Link(index=3, name="eth1", up=False))
    hops = (NextHop(bytes((10, 0, 1, 2)), "eth0"),)
    objects = SimpleNamespace(
        groups={number: SimpleNamespace(id=number, routes=number) for number in range(groups)},
        next_hops=lambda identifier: hops,
    )
    fib = SimpleNamespace(
        counters=SimpleNamespace(desired=3, installed=2, pending=1, failed=0, blocked=0),
        dataplane=SimpleNamespace(objects=objects, host=host),
        targets=SimpleNamespace(resolve=lambda hop: (2, "")),
    )
    states = {("api", WorkloadState.ANNOUNCED): 5, ("api", WorkloadState.PENDING): 1, ("mqtt", WorkloadState.FAILED): 2}
    return SimpleNamespace(
        host=host,
        rib=SimpleNamespace(tables={("", Family.IPV4_UNICAST): SimpleNamespace(routes=[1, 2, 3])}),
        tables=SimpleNamespace(fibs={"": fib}),
        workloads=SimpleNamespace(
            claims=SimpleNamespace(state_counts=lambda: states),
            services=SimpleNamespace(state_counts=lambda: {"announced": 1}),
        ),
    )


def seen(host: Any, **of: Any) -> OverviewView:
    return overview(host, speed=SPEEDS.get, **of)


@pytest.mark.parametrize(
    ("health", "drain", "neighbors", "verdict"),
    [
        (READY, "off", [neighbor("a")], "ready"),
        (READY, "off", [neighbor("a", state="idle")], "ready, without a session with a"),
        (
            READY,
            "off",
            [neighbor(name, state="idle") for name in "cab"],
            "ready, without a session with a and 2 more",
        ),
        (READY, "off", [neighbor("guest", state="idle", guest="g")], "ready"),
        (HealthView(ready=True, warnings=["w"]), "off", [], "ready, with 1 warning"),
        (HealthView(ready=False, reasons=["a", "b"]), "off", [], "not ready: a; b"),
        (HealthView(ready=False, reasons=["drained"]), "drained", [], "drained: out of service by order"),
    ],
)
def test_verdict_says_what_is_wrong_first(
    health: HealthView, drain: str, neighbors: list[NeighborView], verdict: str
) -> None:
    assert seen(routing(), health=health, drain=DrainView(state=drain), neighbors=neighbors).verdict == verdict


def test_those_without_a_session_come_first_and_no_list_is_endless() -> None:
    neighbors = [neighbor(f"n{number:03}") for number in range(100)] + [neighbor("z", state="idle")]
    view = seen(routing(groups=1_000), health=READY, drain=DrainView(), neighbors=neighbors)
    assert (view.neighbors[0].name, len(view.neighbors), view.neighbors_total) == ("z", MOST_NEIGHBORS, 101)
    assert [group.routes for group in view.groups] == list(range(999, 999 - MOST_GROUPS, -1))
    assert view.groups[0].next_hops[0].address == "10.0.1.2"


def test_uplinks_are_interfaces_with_neighbors_and_claims_are_counted() -> None:
    neighbors = [neighbor("b", interface="eth1"), neighbor("a", interface="eth0"), neighbor("c", interface="eth1")]
    neighbors.append(neighbor("guest", interface="pod1", guest="g"))
    view = seen(routing(), health=READY, drain=DrainView(), neighbors=neighbors)
    assert [(one.interface, one.up, one.neighbors, one.speed_mbps) for one in view.uplinks] == [
        ("eth0", True, ["a"], 25_000),
        ("eth1", False, ["b", "c"], None),
    ]
    assert view.workloads == {"api": {"announced": 5, "pending": 1}, "mqtt": {"failed": 2}}
    assert (view.announced, view.withheld) == (5, 3)
    (table,) = view.tables
    assert (table.prefixes, table.desired, table.installed, table.pending) == ({"ipv4-unicast": 3}, 3, 2, 1)


def bfd_down(name: str) -> NeighborView:
    return msgspec.structs.replace(neighbor(name), bfd="down")


@pytest.mark.parametrize(
    ("health", "drain", "neighbors", "level", "where", "detail"),
    [
        (READY, "off", [neighbor("a"), neighbor("b")], "ok", "nowhere", "2 of 2 neighbors, 2 routes in the kernel"),
        (READY, "off", [neighbor("a"), neighbor("b", state="idle")], "warning", "fabric", "a left"),
        (READY, "off", [neighbor("a", state="idle")], "critical", "fabric", ""),
        (READY, "off", [neighbor("a", state="idle"), neighbor("b", state="idle")], "critical", "fabric", "a, b"),
        (READY, "off", [neighbor("a"), neighbor("q", state="idle", guest="g")], "ok", "nowhere", "1 of 1 neighbors, "),
        (READY, "off", [bfd_down("a")], "warning", "fabric", "BFD is not up with a, while BGP is"),
        (HealthView(ready=False, reasons=["x"]), "off", [neighbor("a")], "critical", "host", ""),
        (HealthView(ready=False, waiting_for=["x"]), "off", [neighbor("a")], "warning", "host", ""),
        (HealthView(ready=True, warnings=["w", "v"]), "off", [neighbor("a")], "warning", "host", "w"),
        (READY, "draining", [neighbor("a", state="idle")], "warning", "order", ""),
    ],
)
def test_level_and_place_say_how_bad_it_is_and_where_to_look(
    health: HealthView, drain: str, neighbors: list[NeighborView], level: str, where: str, detail: str
) -> None:
    view = seen(routing(), health=health, drain=DrainView(state=drain), neighbors=neighbors)
    assert (view.level, view.where, view.detail[: len(detail)]) == (level, where, detail)


def test_refused_routes_are_the_kernels_and_names_and_reasons_are_bounded() -> None:
    host = routing()
    many = [msgspec.structs.replace(neighbor(name, state="idle"), last_error="x" * 900) for name in "abcde"]
    detail = seen(host, health=READY, drain=DrainView(), neighbors=many).detail
    assert detail.endswith("and 2 more")
    assert len(detail) < 500
    host.tables.fibs[""].counters.failed = 4
    view = seen(host, health=READY, drain=DrainView(), neighbors=many)
    assert (view.level, view.where) == ("critical", "kernel")


def test_neighbor_by_its_address_has_the_uplink_that_leads_there() -> None:
    host = routing()
    host.host.address(Address(index=2, packed=bytes((10, 0, 1, 1)), prefix_length=24))
    view = msgspec.structs.replace(neighbor("leaf1"), address="10.0.1.2")
    (uplink,) = seen(host, health=READY, drain=DrainView(), neighbors=[view]).uplinks
    assert (uplink.interface, uplink.neighbors) == ("eth0", ["leaf1"])
