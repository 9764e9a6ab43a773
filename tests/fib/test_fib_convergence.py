"""Whatever happens in whatever order, the kernel ends as the RIB wishes (Hypothesis over the scripted kernel)."""

from __future__ import annotations

import asyncio

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from bgpd.model.next_hop import NextHop, NextHops
from tests.fib.harness import LEAF1, LEAF2, V4, Harness, running, two_leaf_kernel

KEYS = [bytes((32, 10, 64, 0, number)) for number in range(6)]
HOPS = {LEAF1: (2, "eth0"), LEAF2: (3, "eth1")}
key = st.sampled_from(KEYS)
leaf = st.sampled_from(sorted(HOPS))
steps = st.lists(
    st.one_of(
        st.tuples(st.just("want"), st.sets(key, min_size=1), st.sets(leaf)),
        st.tuples(st.just("lose"), leaf),
        st.tuples(st.just("return"), leaf),
        st.tuples(st.just("down"), leaf),
        st.tuples(st.just("up"), leaf),
        st.tuples(st.just("delete"), key),
        st.tuples(st.just("delete nexthop"), leaf),
        st.tuples(st.just("refuse"), key),
        st.tuples(st.just("step"), st.integers(0, 4)),
    ),
    max_size=25,
)


class Leaves:
    """A RIB of two leaves: each key is heard from some; a dead leaf or an unreachable next hop serves nothing."""

    def __init__(self, harness: Harness) -> None:
        self.harness = harness
        self.heard: dict[bytes, set[NextHop]] = {}
        self.alive = set(HOPS)
        self.down: set[NextHop] = set()

    def wish(self, of: bytes) -> NextHops | None:
        hops = tuple(sorted(self.heard.get(of, set()) & self.alive))
        return hops or None

    def tell(self) -> None:
        wishes = {of: self.wish(of) for of in KEYS}
        self.harness.want({of: wish for of, wish in wishes.items() if wish != self.harness.wishes.get((V4, of))})

    async def play(self, step: tuple[object, ...]) -> None:
        kernel = self.harness.kernel
        match step:
            case ("want", keys, hops):
                self.heard.update({of: set(hops) for of in keys})
                self.tell()
            case ("lose", hop):
                self.alive.discard(hop)
                others = tuple(sorted(self.alive))
                self.harness.fib.next_hops_lost([hop], lambda _hops: others or None)
                self.tell()
            case ("return", hop):
                self.alive.add(hop)
                self.tell()
            case ("down", hop):
                self.down.add(hop)
                kernel.set_link(*HOPS[hop], up=False)
            case ("up", hop):
                self.down.discard(hop)
                kernel.set_link(*HOPS[hop], up=True)
            case ("delete", of):
                kernel.delete_by_other_hand(V4, of)
            case ("delete nexthop", hop):
                for found in [found.id for found in kernel.objects.values() if found.gateway == hop.address]:
                    kernel.delete_nexthop_by_other_hand(found)
            case ("refuse", of):
                kernel.refuse[of] = 22
            case ("step", count):
                for _ in range(count):
                    await asyncio.sleep(0)

    def expected(self) -> dict[bytes, set[tuple[bytes, int]]]:
        found = {}
        for of in KEYS:
            hops = {hop for hop in self.wish(of) or () if hop not in self.down}
            if hops:
                found[of] = {(hop.address, HOPS[hop][0]) for hop in hops}
        return found


async def converge(given_steps: list[tuple[object, ...]]) -> None:
    async with running(two_leaf_kernel()) as harness:
        leaves = Leaves(harness)
        for step in given_steps:
            await leaves.play(step)
        harness.kernel.refuse.clear()
        await harness.settle()
        if any(routes.failed for routes in harness.fib.families.values()):
            await asyncio.sleep(0.35)
            await harness.settle()
        found = {place[2]: harness.kernel.hops_of(V4, place[2]) for place in harness.kernel.routes}
        assert found == leaves.expected()
        assert harness.fib.counters.installed >= len(found)
        harness.fib.sweep()
        harness.fib.upkeep.reconcile()
        await harness.settle()
        assert {place[2]: harness.kernel.hops_of(V4, place[2]) for place in harness.kernel.routes} == leaves.expected()
        groups = harness.dataplane.objects.groups.values()
        targets = [target for _protocol, target in harness.kernel.routes.values()]
        assert sum(group.routes for group in groups) == len(targets)


@given(steps)
@example(
    [
        ("want", {KEYS[0]}, {LEAF2}),
        ("step", 1),
        ("want", {KEYS[0]}, set()),
        ("down", LEAF1),
        ("step", 1),
        ("delete nexthop", LEAF2),
        ("want", {KEYS[0]}, {LEAF1, LEAF2}),
    ]
).via("a nexthop deleted while a dump that still shows it is under way")
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_kernel_ends_as_wished(given_steps: list[tuple[object, ...]]) -> None:
    asyncio.run(converge(given_steps))
