"""Aggregates as a leaf hears them from the running daemon: attributes, exact covers, blackholes, alarms, changes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from labs.daemons import Frr
from tests.daemon.fabric import Fabric, Host, announce, config, frr_paths, heard_from_host, leaf, started
from tests.daemon.fabric import table as toml
from tests.daemon.feed import API

pytestmark = pytest.mark.netns

BLOCK = "10.66.0.0/24"
POOL = "10.67.0.0/24"
TABLES = (
    leaf(1),
    API,
    toml("[[aggregate]]", prefix=BLOCK, summary_only=True, blackhole=True),
    toml("[[aggregate]]", prefix=POOL, auto="exact", blackhole=True),
    toml("[[aggregate]]", prefix="2001:db8:66::/64", summary_only=True, blackhole=True),
)


@pytest.fixture(scope="module")
def shared(fabric: Fabric, frr: Frr) -> Iterator[Host]:
    with started(fabric, *TABLES) as host:
        host.wait_ready()
        yield host


@pytest.fixture
def host(shared: Host) -> Iterator[Host]:
    yield shared
    for id in {view["id"] for view in shared.get("workloads")}:
        shared.cli("workload", "del", id)
    shared.write_config(config(*TABLES))
    shared.cli("reload")


def claim(host: Host, id: str, *addresses: str, exception: bool = False) -> None:
    words = [word for address in addresses for word in ("--address", address)]
    host.cli("workload", "add", id, *words, "--interface", "pod1", *(["--exception"] if exception else []))


def heard(frr: Frr, inside: str) -> set[str]:
    """What the leaf has of the host inside a prefix."""
    found: dict[str, Any] = frr.vtysh_json(f"show bgp ipv4 unicast {inside} longer-prefixes json")
    return set(found.get("routes", {}))


def wait_heard(host: Host, frr: Frr, inside: str, *prefixes: str) -> None:
    host.wait(lambda: heard(frr, inside) == set(prefixes), f"the leaf to hear {prefixes} of {inside}")


def view(host: Host, prefix: str) -> dict[str, Any]:
    found: dict[str, Any] = next(view for view in host.get("aggregates") if view["prefix"] == prefix)
    return found


def test_first_contributor_creates_the_last_removes_and_exceptions_escape(host: Host, frr: Frr) -> None:
    assert heard(frr, BLOCK) == set()
    claim(host, "a", "10.66.0.1")
    wait_heard(host, frr, BLOCK, BLOCK)
    claim(host, "b", "10.66.0.2")
    claim(host, "moved", "10.66.0.3", exception=True)
    wait_heard(host, frr, BLOCK, BLOCK, "10.66.0.3/32")
    assert (view(host, BLOCK)["contributors"], view(host, BLOCK)["announced"]) == (2, [BLOCK])
    host.cli("workload", "del", "a")
    host.cli("workload", "del", "moved")
    wait_heard(host, frr, BLOCK, BLOCK)
    host.cli("workload", "del", "b")
    wait_heard(host, frr, BLOCK)


def test_aggregator_names_this_host_and_nothing_was_left_out_of_the_path(host: Host, frr: Frr) -> None:
    """RFC 4271 section 5.1.7; section 5.1.6 asks for ATOMIC_AGGREGATE only where an AS was left out of the path."""
    claim(host, "a", "10.66.0.1")
    wait_heard(host, frr, BLOCK, BLOCK)
    (path,) = frr_paths(frr, BLOCK)
    assert (path["aggregatorAs"], path["aggregatorId"]) == (65203, "10.255.1.1")
    assert (path["origin"], path["aspath"]["string"]) == ("IGP", "65203")
    assert not path.get("atomicAggregate")


def test_blackhole_lies_beneath_but_never_under_one_address(fabric: Fabric, host: Host, frr: Frr) -> None:
    claim(host, "a", "10.66.0.1", "10.67.0.2", "10.67.0.3", "10.67.0.9", "2001:db8:66::1")
    wait_heard(host, frr, BLOCK, BLOCK)
    host.wait(lambda: f"blackhole {BLOCK}" in fabric.host.ip("route", "show"), "the blackhole")
    host.wait(lambda: "blackhole 2001:db8:66::/64" in fabric.host.ip("-6", "route", "show"), "the blackhole")
    host.wait(lambda: "blackhole 10.67.0.2/31" in fabric.host.ip("route", "show"), "the blackhole of a cover")
    assert "blackhole 10.67.0.9" not in fabric.host.ip("route", "show")
    for address in ("10.66.0.1", "10.67.0.3", "10.67.0.9"):
        assert "dev pod1" in fabric.host.ip("route", "get", address)
    host.cli("workload", "del", "a")
    host.wait(lambda: "blackhole" not in fabric.host.ip("route", "show"), "the blackholes to go")


def test_exact_cover_has_all_that_is_announced_and_nothing_else(host: Host, frr: Frr) -> None:
    claim(host, "all", *(f"10.67.0.{number}" for number in range(8)))
    wait_heard(host, frr, POOL, "10.67.0.0/29")
    claim(host, "ninth", "10.67.0.8")
    wait_heard(host, frr, POOL, "10.67.0.0/29", "10.67.0.8/32")
    claim(host, "all", *(f"10.67.0.{number}" for number in range(8) if number != 5))
    wait_heard(host, frr, POOL, "10.67.0.0/30", "10.67.0.4/32", "10.67.0.6/31", "10.67.0.8/32")
    assert sorted(view(host, POOL)["announced"]) == ["10.67.0.0/30", "10.67.0.6/31"]
    host.cli("workload", "del", "all")
    wait_heard(host, frr, POOL, "10.67.0.8/32")


@pytest.mark.parametrize("prefix", [BLOCK, "10.66.0.128/25", "10.66.0.77/32"])
def test_neighbor_that_announces_our_block_or_part_of_it_raises_an_alarm_until_it_stops(
    host: Host, frr: Frr, prefix: str
) -> None:
    claim(host, "a", "10.66.0.1")
    announce(frr, prefix)
    host.wait(lambda: view(host, BLOCK)["alarms"], "the alarm")
    (alarm,) = view(host, BLOCK)["alarms"]
    assert prefix in alarm
    assert "leaf1" in alarm
    assert "leaf1" in host.cli("show", "aggregates")
    announce(frr, prefix, withdraw=True)
    host.wait(lambda: not view(host, BLOCK)["alarms"], "the end of the alarm")


def test_covering_route_comes_before_the_parts_go_when_aggregates_change(host: Host, frr: Frr) -> None:
    """The leaf is asked all the time: never is there a moment without a route."""
    claim(host, "a", "10.66.0.1", "10.66.0.2")
    wait_heard(host, frr, BLOCK, BLOCK)
    wider, narrow = "10.66.0.0/23", "10.66.0.0/30"
    for prefix, expected in ((wider, {wider}), ("10.99.0.0/24", {"10.66.0.1/32", "10.66.0.2/32"}), (narrow, {narrow})):
        tables = [table.replace(f'"{BLOCK}"', f'"{prefix}"') for table in TABLES]
        host.write_config(config(*tables))
        host.cli("reload")
        seen: list[set[str]] = []

        def settled(expected: set[str] = expected, seen: list[set[str]] = seen) -> bool:
            seen.append(heard(frr, "10.66.0.0/16"))
            return seen[-1] == expected

        host.wait(settled, f"the leaf to hear {expected}")
        assert all(seen)
    assert host.neighbor("leaf1")["established_count"] == 1
    assert heard_from_host(frr, narrow)


def test_an_aggregate_inside_a_summary_is_not_heard_by_the_leaf(fabric: Fabric, host: Host, frr: Frr) -> None:
    inner = toml("[[aggregate]]", prefix="10.66.0.64/26", blackhole=True)
    pool = toml("[[aggregate]]", prefix="10.66.0.128/26", auto="exact")
    host.write_config(config(*TABLES, inner, pool))
    host.cli("reload")
    claim(host, "w1", "10.66.0.65", "10.66.0.5", "10.66.0.130", "10.66.0.131")
    wait_heard(host, frr, BLOCK, BLOCK)
    assert view(host, "10.66.0.64/26")["announced"] == []
    assert "blackhole" in fabric.host.ip("route", "show", "10.66.0.64/26")
    host.write_config(config(*(one for one in TABLES if BLOCK not in one), inner))
    host.cli("reload")
    wait_heard(host, frr, BLOCK, "10.66.0.5/32", "10.66.0.64/26", *(f"10.66.0.{n}/32" for n in (65, 130, 131)))
