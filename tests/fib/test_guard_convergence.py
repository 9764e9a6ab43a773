"""What is guarded changes while routes are there: the kernel follows, over the scripted kernel."""

from __future__ import annotations

from bgpd.fib.guard import Dependencies
from bgpd.model.next_hop import NextHop
from bgpd.model.prefix import parse_address, parse_prefix
from tests.fib.harness import LEAF1, LEAF2, V4, Harness, running, two_leaf_kernel

LEAF1_ADDRESS = parse_address("10.0.0.0")
BROKER = parse_address("203.0.113.5")


def key(prefix: str) -> bytes:
    return parse_prefix(prefix)[1]


def written(it: Harness) -> set[bytes]:
    return {place[2] for place, (protocol, _target) in it.kernel.routes.items() if protocol == 217}


async def test_a_neighbor_s_address_is_given_back_when_it_becomes_one_and_taken_when_it_is_none() -> None:
    async with running() as it:
        it.want({key("10.0.0.0/32"): (LEAF2,), key("10.9.0.0/16"): (LEAF2,)})
        await it.settle()
        assert written(it) == {key("10.0.0.0/32"), key("10.9.0.0/16")}
        it.fib.events.depend_on(Dependencies(addresses={LEAF1_ADDRESS: "neighbor leaf1"}))
        await it.settle()
        assert written(it) == {key("10.9.0.0/16")}
        assert it.state_of("10.0.0.0/32")[0] == "blocked"
        it.fib.events.depend_on(Dependencies())
        await it.settle()
        assert written(it) == {key("10.0.0.0/32"), key("10.9.0.0/16")}


async def test_a_next_hop_is_given_back_when_it_comes_into_use() -> None:
    async with running() as it:
        it.want({key("10.0.0.0/32"): (LEAF2,)})
        await it.settle()
        assert written(it) == {key("10.0.0.0/32")}
        it.want({key("10.9.0.0/16"): (LEAF1,)})
        await it.settle()
        assert written(it) == {key("10.9.0.0/16")}


async def test_foreign_routes_begin_and_end_what_is_guarded() -> None:
    kernel = two_leaf_kernel()
    async with running(kernel) as it:
        it.fib.events.depend_on(Dependencies(addresses={BROKER: "the broker"}))
        taken = {key("203.0.113.5/32"), key("203.0.113.0/25"), key("203.0.112.0/23"), key("0.0.0.0/1")}
        it.want(dict.fromkeys(taken, (LEAF2,)))
        await it.settle()
        assert written(it) == taken
        kernel.add_foreign("203.0.113.0/24")
        await it.settle()
        assert written(it) == {key("203.0.112.0/23"), key("0.0.0.0/1")}
        kernel.add_foreign("0.0.0.0/0")
        await it.settle()
        assert written(it) == {key("203.0.112.0/23")}


async def test_workloads_and_services_are_written_whatever_is_guarded() -> None:
    async with running() as it:
        it.fib.events.depend_on(Dependencies(uplinks=frozenset({"eth0"}), addresses={LEAF1_ADDRESS: "neighbor leaf1"}))
        it.want({key("10.0.0.0/32"): (NextHop(b"", "eth1"),)})
        await it.settle()
        assert written(it) == {key("10.0.0.0/32")}
        hop = it.fib.update_service(V4, key("10.0.0.0/32"), (LEAF2,), resilient=False)
        it.wishes[V4, key("10.0.0.0/32")] = hop
        await it.settle()
        assert written(it) == {key("10.0.0.0/32")}
        assert it.state_of("10.0.0.0/32")[0] == "installed"
