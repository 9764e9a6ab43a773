"""Routes by recursive next hops: their groups follow what those lead to, and no route is touched."""

from __future__ import annotations

import asyncio

import pytest

from bgpd.kernel.netlink import MessageKind
from bgpd.model.next_hop import NextHop, NextHops
from bgpd.model.prefix import parse_address, parse_prefix
from tests.fib.fake_kernel import METRIC
from tests.fib.harness import LEAF1, LEAF2, LEAF2_V6, V4, V6, Harness, running, two_leaf_kernel

GATEWAY = NextHop(parse_address("10.9.9.9"), "@blue/4:")
OTHER = NextHop(parse_address("10.9.9.8"), "@blue/4:")
PEER = NextHop(b"", "@blue/4:leaf1")
KEYS = [bytes((32, 10, 64, number >> 8, number & 255)) for number in range(3000)]
UP1, UP2 = NextHop(LEAF1.address, "eth0"), NextHop(LEAF2.address, "eth1")
ON_1, ON_2 = (LEAF1.address, 2), (LEAF2.address, 3)


def kinds(it: Harness) -> list[MessageKind]:
    return [kind for kind, _what in it.kernel.log]


async def test_what_a_next_hop_leads_to_changes_by_one_message_and_no_route_is_written() -> None:
    async with running() as it:
        it.expansions[GATEWAY] = (UP1,)
        it.want(dict.fromkeys(KEYS, (GATEWAY,)))
        await it.settle()
        assert it.kernel.hops_of(V4, KEYS[7]) == {ON_1}
        it.expansions[GATEWAY] = (UP1, UP2)
        it.kernel.log.clear()
        it.fib.resolution_changed(GATEWAY)
        await it.settle()
        assert kinds(it) == [MessageKind.NEW_NEXTHOP] * 2  # the second gateway, and the group
        assert it.kernel.hops_of(V4, KEYS[7]) == {ON_1, ON_2}
        it.expansions[GATEWAY] = (UP2,)
        it.kernel.log.clear()
        it.fib.resolution_changed(GATEWAY)
        it.want(dict.fromkeys(KEYS, (GATEWAY,)))
        await it.settle()
        assert kinds(it) == [MessageKind.NEW_NEXTHOP]
        assert it.kernel.hops_of(V4, KEYS[7]) == {ON_2}
        assert it.told == []


@pytest.mark.parametrize("asked", [True, False])
async def test_routes_go_with_the_last_gateway_and_come_again_with_the_next(asked: bool) -> None:
    async with running() as it:
        if asked:
            assert it.fib.targets.ask(GATEWAY) == f"next hop {GATEWAY} leads to no gateway"
        it.expansions[GATEWAY] = (UP1,)
        it.want(dict.fromkeys(KEYS, (GATEWAY,)))
        it.fib.resolution_changed(GATEWAY)
        await it.settle()
        it.expansions[GATEWAY] = ()
        it.kernel.log.clear()
        it.fib.resolution_changed(GATEWAY)
        await it.settle()
        assert kinds(it) == [MessageKind.DEL_NEXTHOP]
        assert it.kernel.routes == {}
        assert it.state_of("10.64.0.7/32") == ("blocked", f"next hop {GATEWAY} leads to no gateway")
        assert len(it.refused) == len(KEYS)
        it.expansions[GATEWAY] = (UP2,)
        it.fib.resolution_changed(GATEWAY)
        await it.settle()
        assert len(it.kernel.routes) == len(KEYS)
        assert it.kernel.hops_of(V4, KEYS[7]) == {ON_2}
        whys = ["", f"next hop {GATEWAY} leads to no gateway", ""]
        assert [why for _hop, why in it.told] == (whys if asked else [])
        assert not it.fib.counters.blocked


@pytest.mark.parametrize("meanwhile", [(UP1, UP2), (UP2,)])
async def test_change_of_a_group_does_not_overtake_an_earlier_one_that_is_queued(meanwhile: NextHops) -> None:
    async with running() as it:
        it.expansions[GATEWAY] = (UP1,)
        it.want(dict.fromkeys(KEYS, (GATEWAY,)))
        await it.settle()
        it.kernel.bulk.hold()
        it.want({parse_prefix("10.65.0.0/16")[1]: (LEAF2,)})
        for _ in range(60):
            await asyncio.sleep(0)
        assert it.kernel.bulk.outstanding, "the gateway of the other leaf is on its way"
        it.expansions[GATEWAY] = meanwhile
        it.fib.resolution_changed(GATEWAY)
        it.expansions[GATEWAY] = (UP1,)
        it.fib.resolution_changed(GATEWAY)
        it.kernel.bulk.release()
        await it.settle()
        assert it.kernel.hops_of(V4, KEYS[7]) == {ON_1}


async def test_wishes_with_equal_members_part_ways() -> None:
    async with running() as it:
        it.expansions = {GATEWAY: (UP1,), OTHER: (UP1,)}
        it.want({KEYS[0]: (GATEWAY,), KEYS[1]: (OTHER,), KEYS[2]: (LEAF1,), KEYS[3]: (GATEWAY, OTHER)})
        await it.settle()
        it.expansions[OTHER] = (UP2,)
        it.kernel.log.clear()
        it.fib.resolution_changed(OTHER)
        await it.settle()
        found = [it.kernel.hops_of(V4, key) for key in KEYS[:4]]
        assert found == [{ON_1}, {ON_2}, {ON_1}, {ON_1, ON_2}]
        assert MessageKind.NEW_ROUTE not in kinds(it)


async def test_dead_uplink_is_one_deletion_and_its_return_one_message_for_each_group() -> None:
    async with running() as it:
        it.expansions = {GATEWAY: (UP1, UP2), PEER: (UP1,)}
        it.want(dict.fromkeys(KEYS, (GATEWAY,)) | {KEYS[0]: (PEER, GATEWAY)})
        await it.settle()
        it.kernel.log.clear()
        it.fib.next_hops_lost([UP1], lambda _hops: None)
        it.expansions = {GATEWAY: (UP2,), PEER: ()}
        it.fib.resolution_changed(GATEWAY)
        it.fib.resolution_changed(PEER)
        await it.settle()
        assert kinds(it) == [MessageKind.DEL_NEXTHOP]
        assert it.kernel.hops_of(V4, KEYS[0]) == it.kernel.hops_of(V4, KEYS[5]) == {ON_2}
        it.kernel.log.clear()
        it.expansions = {GATEWAY: (UP1, UP2), PEER: (UP1,)}
        it.fib.resolution_changed(PEER)
        it.fib.resolution_changed(GATEWAY)
        await it.settle()
        assert kinds(it) == [MessageKind.NEW_NEXTHOP] * 3
        assert it.kernel.hops_of(V4, KEYS[0]) == it.kernel.hops_of(V4, KEYS[5]) == {ON_1, ON_2}


async def test_a_gateway_is_lost_in_its_own_vrf_only() -> None:
    async with running() as it:
        it.want({KEYS[0]: (LEAF1,)})
        await it.settle()
        objects = it.dataplane.objects
        other = objects.nexthop_of(LEAF1, 3)
        it.dataplane.assign({"eth1": "blue"})
        it.fib.next_hops_lost([LEAF1], lambda _hops: None)
        assert objects.nexthop_at(LEAF1.address, 2) is None
        assert objects.nexthop_at(LEAF1.address, 3) == other


async def test_link_that_goes_down_and_up_leaves_groups_as_wished() -> None:
    async with running() as it:
        it.expansions[GATEWAY] = (UP1, UP2)
        it.want(dict.fromkeys(KEYS, (GATEWAY,)))
        await it.settle()
        it.kernel.log.clear()
        it.kernel.set_link(2, "eth0", up=False)
        await it.settle()
        assert it.kernel.hops_of(V4, KEYS[7]) == {ON_2}
        it.kernel.set_link(2, "eth0", up=True)
        await it.settle()
        assert it.kernel.hops_of(V4, KEYS[7]) == {ON_1, ON_2}
        assert MessageKind.NEW_ROUTE not in kinds(it)


async def test_restart_takes_over_the_groups_and_rewrites_nothing() -> None:
    kernel = two_leaf_kernel()
    async with running(kernel) as before:
        before.expansions = {GATEWAY: (UP1, UP2), OTHER: (UP1, UP2)}
        before.want({KEYS[0]: (GATEWAY,), KEYS[1]: (OTHER,), KEYS[2]: (LEAF1, LEAF2)})
        await before.settle()
    kernel.log.clear()
    async with running(kernel) as it:
        it.expansions = {GATEWAY: (UP1, UP2), OTHER: (UP1, UP2)}
        it.want({KEYS[0]: (GATEWAY,)})
        it.want({KEYS[1]: (OTHER,), KEYS[2]: (LEAF1, LEAF2)})
        await it.settle()
        assert kernel.log == []
        it.expansions[OTHER] = (UP2,)
        it.fib.resolution_changed(OTHER)
        await it.settle()
        found = [kernel.hops_of(V4, key) for key in KEYS[:3]]
        assert found == [{ON_1, ON_2}, {ON_2}, {ON_1, ON_2}]


async def test_ipv6_route_leaves_out_ipv4_gateways() -> None:
    async with running() as it:
        key = parse_prefix("2001:db8:7::/48")[1]
        it.expansions[GATEWAY] = (UP1,)
        it.want({key: (GATEWAY,)}, V6)
        await it.settle()
        assert it.state_of("2001:db8:7::/48") == ("blocked", "an IPv6 route cannot have an IPv4 next hop")
        it.expansions[GATEWAY] = (UP1, LEAF2_V6)
        it.fib.resolution_changed(GATEWAY)
        it.want({key: (GATEWAY,)}, V6)
        await it.settle()
        assert it.kernel.hops_of(V6, key) == {(LEAF2_V6.address, 3)}


async def test_weights_are_multiplied_and_kept_within_what_kernels_take() -> None:
    async with running() as it:
        it.expansions[GATEWAY] = (NextHop(UP1.address, "eth0", 3), NextHop(UP2.address, "eth1", 1))
        it.want({KEYS[0]: (NextHop(GATEWAY.address, GATEWAY.interface, 1000),)})
        await it.settle()
        group = it.kernel.objects[it.kernel.routes[V4, 254, KEYS[0], METRIC][1]]
        assert sorted(weight for _single, weight in group.members) == [85, 256]


async def test_weighted_recursive_next_hops_follow_what_they_lead_to() -> None:
    weighted = (NextHop(OTHER.address, OTHER.interface, 1), NextHop(GATEWAY.address, GATEWAY.interface, 3))
    async with running() as it:
        it.expansions.update({GATEWAY: (UP1,), OTHER: (UP2,)})
        it.want({KEYS[0]: weighted})
        await it.settle()
        it.expansions[GATEWAY] = ()
        it.kernel.log.clear()
        it.fib.resolution_changed(GATEWAY)
        await it.settle()
        assert kinds(it) == [MessageKind.NEW_NEXTHOP]
        assert it.kernel.hops_of(V4, KEYS[0]) == {ON_2}


async def test_protected_prefix_takes_no_route_by_an_recursive_next_hop() -> None:
    async with running(protect=("10.64.0.0/16",)) as it:
        it.expansions[PEER] = (UP1,)
        it.want({KEYS[0]: (PEER,)})
        await it.settle()
        assert it.kernel.routes == {}
