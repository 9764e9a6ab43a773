"""Racks of hosts below leaves and spines: all that must hold of small fabrics holds of large ones."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from benchmarks.fabric_size import measure
from bgpd.simulation.loop import simulated_time
from bgpd.simulation.racks import Size, large_fabric
from bgpd.simulation.wire import Route
from tests.simulation.__main__ import quietly


@pytest.fixture(autouse=True)
def quiet() -> None:
    quietly()


@pytest.mark.parametrize("takes_all", [False, True], ids=["default route", "all routes"])
def test_racks_come_to_rest_as_they_should(takes_all: bool) -> None:
    result = measure(Size(hosts=9, workloads=3, hosts_per_rack=3, takes_all=takes_all))
    assert result.wrong == []
    assert (result.leaves, result.spines) == (6, 2)
    assert 8 < result.leaf.seconds < 10, "the hold time of who heard nothing, since its last keepalive"
    assert result.link.seconds < 1
    assert result.start.updates > result.leaf.updates > 0


def test_thousands_of_prefixes_that_go_at_once_are_withdrawn_in_messages_of_the_usual_size(tmp_path: Path) -> None:
    chance = random.Random(1)
    gone = [f"10.200.{number // 250}.{number % 250}/32" for number in range(15_000)]
    longest = 0

    async def work() -> None:
        nonlocal longest
        size = Size(hosts=1, workloads=1, spines=1, takes_all=True)
        fabric = large_fabric(size, loop, chance=chance, directory=tmp_path)
        leaf, peer = fabric.routers["leaf0"], fabric.routers["spine0"].peers["leaf0"]
        leaf.own.update(dict.fromkeys(gone, Route(peer=None)))
        fabric.start()
        await asyncio.sleep(12)
        assert len(peer.routes) == 15_001
        leaf.stack.count = noted  # type: ignore[method-assign]
        leaf.own.clear()
        leaf.changed(gone)
        await asyncio.sleep(1)
        assert len(peer.routes) == 1
        assert fabric.loop.errors == []

    def noted(data: bytes, _now: float) -> None:
        nonlocal longest
        longest = max(longest, len(data))

    with simulated_time(chance) as loop:
        loop.run_until_complete(work())
    assert 0 < longest <= 4096


@pytest.mark.long
def test_500_hosts_with_100_workloads_each_come_to_rest_as_they_should() -> None:
    assert measure(Size(hosts=500, workloads=100)).wrong == []
