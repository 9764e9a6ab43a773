"""What should follow from a fabric, and where packets end in it: each looked at in a fabric at rest."""

from __future__ import annotations

import asyncio
import functools
import random
from collections.abc import Callable
from pathlib import Path

from bgpd.simulation.expected import Expected, Way
from bgpd.simulation.fabric import Fabric
from bgpd.simulation.loop import simulated_time
from bgpd.simulation.reach import Packets, lost
from bgpd.simulation.router import Style
from bgpd.simulation.run import START_S
from bgpd.simulation.shape import HOST_ASN, LEAF_ASN, SPINE_ASN, Shape, fabric_of
from tests.simulation.__main__ import quietly

Look = Callable[[Fabric], None]
OF_HOST0, OF_LEAF1 = "10.64.0.1/32", "198.51.101.0/24"


def at_rest(look: Look) -> Callable[[Path], None]:
    """A test of two hosts, two leaves and a spine, which have told each other all."""

    @functools.wraps(look)
    def test(tmp_path: Path) -> None:
        quietly()
        chance = random.Random(1)
        with simulated_time(chance) as loop:

            async def work() -> None:
                fabric = fabric_of(Shape(hosts=2, styles=(Style(), Style())), loop, chance=chance, directory=tmp_path)
                fabric.hosts["host0"].claim(OF_HOST0)
                fabric.start()
                await asyncio.sleep(START_S)
                look(fabric)

            loop.run_until_complete(work())

    del test.__wrapped__  # type: ignore[attr-defined]  # its argument is no fixture
    return test


@at_rest
def test_routers_have_a_prefix_by_the_shortest_path_and_all_that_are_as_good(fabric: Fabric) -> None:
    ways = Expected(fabric).ways(OF_HOST0)
    assert ways["leaf0"] == ways["leaf1"] == Way((HOST_ASN,), ("host0",))
    assert ways["spine"] == Way((LEAF_ASN, HOST_ASN), ("leaf0", "leaf1"))


@at_rest
def test_host_uses_the_nearest_leaves(fabric: Fabric) -> None:
    expected = Expected(fabric)
    assert expected.nearest("host1", OF_HOST0) == ("leaf0", "leaf1")
    assert expected.nearest("host1", OF_LEAF1) == ("leaf1",)


@at_rest
def test_what_is_cut_off_is_reached_another_way(fabric: Fabric) -> None:
    fabric.set_link(("leaf0", "host0"), up=False)
    expected = Expected(fabric)
    assert expected.ways(OF_HOST0)["leaf0"] == Way((SPINE_ASN, LEAF_ASN + 1, HOST_ASN), ("spine",))
    assert expected.nearest("host1", OF_HOST0) == ("leaf1",)
    fabric.set_link(("leaf1", "host0"), up=False)
    assert Expected(fabric).ways(OF_HOST0) == {}


@at_rest
def test_router_that_tells_a_neighbor_only_its_own_passes_nothing_on(fabric: Fabric) -> None:
    for leaf in ("leaf0", "leaf1"):
        fabric.routers[leaf].peers["host1"].sends_only_own = True
    expected = Expected(fabric)
    assert expected.nearest("host1", OF_HOST0) == ()
    assert expected.nearest("host1", OF_LEAF1) == ("leaf1",)


@at_rest
def test_packets_arrive(fabric: Fabric) -> None:
    assert lost(fabric, [OF_HOST0, OF_LEAF1]) == []


@at_rest
def test_packets_go_round_and_into_what_is_broken(fabric: Fabric) -> None:
    fabric.routers["leaf0"].fib[OF_HOST0] = ("spine",)
    fabric.routers["spine"].fib[OF_HOST0] = ("leaf0",)
    fabric.links["leaf1", "host0"].ports[0].is_deaf = True
    assert Packets(fabric, OF_HOST0).wrong_from("host1") == [
        "host1 leaf0 spine leaf0 again, a loop",
        "host1 leaf1 sends into the broken link to host0",
    ]


@at_rest
def test_router_forwards_by_the_longest_prefix_that_covers(fabric: Fabric) -> None:
    leaf = fabric.routers["leaf0"]
    leaf.fib |= {"10.64.0.0/16": ("spine",), "10.64.0.0/24": ("host0",)}
    assert leaf.ways_to(OF_HOST0) == ("host0",)
    assert leaf.ways_to("10.64.0.2/32") == ("host0",)
    assert leaf.ways_to("10.64.1.1/32") == ("spine",)
    assert leaf.ways_to("10.65.0.0/32") == ()


@at_rest
def test_host_forwards_by_the_longest_prefix_and_the_lowest_metric(fabric: Fabric) -> None:
    kernel = fabric.hosts["host1"].kernel
    kernel.add_foreign_route("10.64.0.0/16", metric=5, interface="mgmt0")
    assert Packets(fabric, OF_HOST0).wrong_from("host1") == []
    kernel.add_foreign_route(OF_HOST0, metric=5, interface="mgmt0")
    assert Packets(fabric, OF_HOST0).wrong_from("host1") == ["host1 has no route"]
    for route in kernel.foreign_routes(OF_HOST0):
        kernel.remove_route(route)
    assert Packets(fabric, OF_HOST0).wrong_from("host1") == []
