"""Whatever happens to recursive next hops, links and nexthop objects, the kernel ends with what they lead to."""

from __future__ import annotations

import asyncio

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bgpd.model.next_hop import NextHop, NextHops
from tests.fib.harness import LEAF1, LEAF2, V4, Harness, running, two_leaf_kernel

KEYS = [bytes((32, 10, 64, 0, number)) for number in range(5)]
GATEWAYS = [NextHop(bytes((10, 9, 9, number)), "@blue/4:") for number in range(3)]
UP = {"eth0": NextHop(LEAF1.address, "eth0"), "eth1": NextHop(LEAF2.address, "eth1")}
INDEX = {"eth0": 2, "eth1": 3}
gateway = st.sampled_from(GATEWAYS)
uplink = st.sampled_from(sorted(UP))
steps = st.lists(
    st.one_of(
        st.tuples(st.just("want"), st.sampled_from(KEYS), st.sets(gateway)),
        st.tuples(st.just("leads"), gateway, st.sets(uplink)),
        st.tuples(st.just("lose"), uplink),
        st.tuples(st.just("link"), uplink, st.booleans()),
        st.tuples(st.just("delete nexthop"), uplink),
        st.tuples(st.just("plain"), st.sampled_from(KEYS)),
        st.tuples(st.just("restart")),
        st.tuples(st.just("step"), st.integers(0, 4)),
    ),
    max_size=25,
)


class Tenant:
    """A RIB of recursive wishes over two uplinks."""

    def __init__(self) -> None:
        self.kernel = two_leaf_kernel()
        self.wishes: dict[bytes, NextHops] = {}
        self.expansions: dict[NextHop, NextHops] = {}
        self.down: set[str] = set()

    async def play(self, harness: Harness, step: tuple[object, ...]) -> None:
        match step:
            case ("want", key, gateways):
                wish = tuple(sorted(gateways)) or None
                self.want(harness, key, wish)
            case ("plain", key):
                self.want(harness, key, (LEAF1,))
            case ("leads", hop, names):
                self.expansions[hop] = tuple(UP[name] for name in sorted(names))
                harness.expansions = dict(self.expansions)
                harness.fib.resolution_changed(hop)
            case ("lose", name):
                harness.fib.next_hops_lost([UP[name]], lambda _hops: None)
                for hop, leads_to in self.expansions.items():
                    self.expansions[hop] = tuple(one for one in leads_to if one != UP[name])
                harness.expansions = dict(self.expansions)
                for hop in self.expansions:
                    harness.fib.resolution_changed(hop)
                for key, wish in list(self.wishes.items()):
                    if wish == (LEAF1,) and name == "eth0":
                        self.want(harness, key, None)
            case ("link", name, up):
                (self.down.discard if up else self.down.add)(name)
                self.kernel.set_link(INDEX[name], name, up=up)
            case ("delete nexthop", name):
                for found in [one.id for one in self.kernel.objects.values() if one.ifindex == INDEX[name]]:
                    self.kernel.delete_nexthop_by_other_hand(found)
            case ("step", count):
                for _ in range(count):
                    await asyncio.sleep(0)

    def want(self, harness: Harness, key: bytes, wish: NextHops | None) -> None:
        self.wishes.pop(key, None)
        if wish is not None:
            self.wishes[key] = wish
        harness.want({key: wish})

    def expected(self) -> dict[bytes, set[tuple[bytes, int]]]:
        found = {}
        for key, wish in self.wishes.items():
            leads_to = [one for hop in wish for one in self.expansions.get(hop, (UP["eth0"],) if hop == LEAF1 else ())]
            hops = {(one.address, INDEX[one.interface]) for one in leads_to if one.interface not in self.down}
            if hops:
                found[key] = hops
        return found


async def converge(given_steps: list[tuple[object, ...]]) -> None:
    tenant = Tenant()
    rest = list(given_steps)
    while True:
        async with running(tenant.kernel) as harness:
            harness.expansions = dict(tenant.expansions)
            harness.want(tenant.wishes)
            while rest and rest[0] != ("restart",):
                await tenant.play(harness, rest.pop(0))
            await harness.settle()
            if any(routes.failed for routes in harness.fib.families.values()):
                await harness.settle_retries()
            kernel = tenant.kernel
            assert {place[2]: kernel.hops_of(V4, place[2]) for place in kernel.routes} == tenant.expected()
            groups = harness.dataplane.objects.groups.values()
            assert sum(group.routes for group in groups) == len(kernel.routes)
        if not rest:
            return
        rest.pop(0)


@given(steps)
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_kernel_ends_with_what_next_hops_lead_to(given_steps: list[tuple[object, ...]]) -> None:
    asyncio.run(converge(given_steps))
