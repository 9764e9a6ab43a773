"""The bare writer and the bare reader agree with each other and with `ip`, and what is wrong in the kernel is seen."""

from __future__ import annotations

import sys

import msgspec
import pytest

from benchmarks import raw_limit
from benchmarks.internet_table import InternetTable, Routes
from benchmarks.kernel_watch import NotReached, wait_for_count, wait_for_table
from benchmarks.routes import RouteSet, format_prefix
from benchmarks.topology import Topology

pytestmark = pytest.mark.netns
ABSENT = {"ipv4-unicast": b"\x20\xdf\xff\xff\xff", "ipv6-unicast": b"\x40\x2a\x01\0\0\0\0\0\0"}


def write(topology: Topology, routes: Routes, *, withdraw: bool = False) -> None:
    options = raw_limit.Options(
        routes=msgspec.to_builtins(routes),
        gateways=topology.gateways(routes.family),
        interfaces=[f"leaf{number}" for number in range(topology.count)],
        withdraw=withdraw,
    )
    topology.host.run(sys.executable, "-m", "benchmarks.raw_limit", msgspec.json.encode(options).decode())


@pytest.mark.parametrize("kind", ["v4-32", "v4-mix", "v6-64"])
def test_every_route_written_is_seen_with_both_next_hops(kind: str) -> None:
    routes = RouteSet(kind=kind, count=2000)
    with Topology(leaves=2) as topology:
        write(topology, routes)
        with topology.kernel_table(routes.family) as table:
            expected = topology.next_hops(routes.family)
            assert wait_for_table(table, routes.prefixes(), expected, timeout_s=2.0).routes == 2000
            prefixes = [*routes.prefixes()[:3], ABSENT[routes.family]]
            assert table.look(prefixes) == [expected, expected, expected, None]


def test_a_table_is_not_read_before_its_size_is_right() -> None:
    routes = RouteSet(count=2000)
    with Topology(leaves=2) as topology, topology.kernel_table(routes.family) as table:
        empty_size = table.size()
        assert empty_size is not None
        write(topology, routes)
        assert table.size() == empty_size + 2000
        prefixes, expected = routes.prefixes(), topology.next_hops(routes.family)
        assert wait_for_table(table, prefixes, expected, timeout_s=2.0, empty_size=empty_size).routes == 2000
        topology.host.ip("route", "del", format_prefix(prefixes[777]))
        with pytest.raises(NotReached, match=prefixes[777].hex()):
            wait_for_table(table, prefixes, expected, timeout_s=0.5, empty_size=empty_size)


def test_a_route_that_is_missing_or_goes_elsewhere_is_found() -> None:
    routes = RouteSet(count=2000)
    with Topology(leaves=2) as topology:
        write(topology, routes)
        prefixes = routes.prefixes()
        version = "-4"
        with topology.kernel_table(routes.family) as table:
            expected = topology.next_hops(routes.family)
            topology.host.ip(version, "route", "del", format_prefix(prefixes[777]))
            with pytest.raises(NotReached, match=prefixes[777].hex()):
                wait_for_table(table, prefixes, expected, timeout_s=0.5)
            topology.host.ip(version, "route", "add", format_prefix(prefixes[777]), "via", "10.0.0.2")
            with pytest.raises(NotReached, match=prefixes[777].hex()):
                wait_for_table(table, prefixes, expected, timeout_s=0.5)
            topology.host.batch(
                f"route replace {format_prefix(prefixes[777])} nexthop via 10.0.0.2 nexthop via 10.0.1.2"
            )
            wait_for_table(table, prefixes, expected, timeout_s=2.0)


@pytest.mark.parametrize("kind", ["internet-v4", "internet-v6"])
def test_prefixes_inside_each_other_are_seen_each_by_itself(kind: str) -> None:
    table = InternetTable(kind=kind, count=2000)
    with Topology(leaves=2) as topology, topology.kernel_table(table.family) as kernel:
        empty_size = kernel.size()
        write(topology, table)
        expected = dict.fromkeys(table.prefixes(), topology.next_hops(table.family))
        assert wait_for_table(kernel, table.prefixes(), expected, timeout_s=5.0, empty_size=empty_size).routes == 2000
        gone = max(table.prefixes())
        topology.host.ip("-6" if kind == "internet-v6" else "-4", "route", "del", format_prefix(gone, table.family))
        with pytest.raises(NotReached, match=gone.hex()):
            wait_for_table(kernel, table.prefixes(), expected, timeout_s=0.5)


def test_withdrawn_routes_are_seen_gone() -> None:
    routes = RouteSet(count=2000)
    with Topology() as topology:
        write(topology, routes, withdraw=True)
        with topology.kernel_table(routes.family) as table:
            wait_for_table(table, routes.prefixes(), None, timeout_s=2.0)


def test_a_dead_member_of_a_group_no_longer_counts() -> None:
    routes = RouteSet(count=500)
    with Topology(leaves=2) as topology:
        write(topology, routes)
        topology.host.ip("nexthop", "del", "id", "1")
        with topology.kernel_table(routes.family) as table:
            wait_for_table(table, routes.prefixes(), topology.next_hops(routes.family, 1), timeout_s=2.0)


def test_waiting_for_a_count_ends_with_what_was_found() -> None:
    with pytest.raises(NotReached, match="3 of 5"):
        wait_for_count(lambda: 3, 5, timeout_s=0.05)
