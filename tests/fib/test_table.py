"""The Fib over a scripted kernel: from wishes to kernel state, through everything that gets in the way."""

from __future__ import annotations

import asyncio
import errno
import functools
import itertools
from collections.abc import Callable
from types import SimpleNamespace

import msgspec
import pytest

from bgpd.fib import dataplane
from bgpd.fib import views as fib_views
from bgpd.fib.dataplane import CannotWrite
from bgpd.kernel.netlink import KernelError, MessageKind, messages
from bgpd.kernel.nexthop_messages import NexthopObject
from bgpd.kernel.route_decoder import RouteRun
from bgpd.kernel.route_messages import RouteForm
from bgpd.kernel.writer import Outcome
from bgpd.model.iana import Family
from bgpd.model.next_hop import BLACKHOLE, NextHop
from bgpd.model.prefix import parse_address, parse_prefix
from bgpd.runtime import rates, turns
from bgpd.runtime.rates import Share
from bgpd.runtime.turns import soon
from tests.fib.fake_kernel import METRIC, PROTOCOL, FakeReader
from tests.fib.harness import LEAF1, LEAF1_V6, LEAF2, LEAF2_V6, V4, V6, running, two_leaf_kernel
from tests.logs import capture_logs
from tests.waiting import until

BOTH = (LEAF1, LEAF2)


def key(prefix: str) -> bytes:
    return parse_prefix(prefix)[1]


POD = key("10.64.1.0/24")


def hop_set(*hops: NextHop) -> set[tuple[bytes, int]]:
    index = {LEAF1: 2, LEAF2: 3, LEAF1_V6: 2, LEAF2_V6: 3}
    return {(hop.address, index[hop]) for hop in hops}


async def test_what_waits_is_told_as_it_becomes_less_also_for_withdrawals() -> None:
    keys = [bytes((32, 10, 64, number >> 8, number & 255)) for number in range(5000)]
    async with running() as harness:
        for wish in ((LEAF1,), None):
            harness.want(dict.fromkeys(keys, wish))
            await harness.settle()
            assert harness.backlogs == [5000 - 2048, 5000 - 2 * 2048, 0]
            harness.backlogs.clear()


async def test_wished_route_is_written_and_acknowledged() -> None:
    async with running() as it:
        it.want({POD: BOTH})
        await it.settle()
        assert it.kernel.hops_of(V4, POD) == hop_set(LEAF1, LEAF2)
        assert it.acknowledged == [(V4, POD)]
        assert it.state_of("10.64.1.0/24") == ("installed", "")


WAYS = [(LEAF1,), (LEAF2,), BOTH, BLACKHOLE]
MIXED = [
    bytes((length,)) + bytes((11 + number, number * 7 & 255, number, 0))[: (length + 7) >> 3]
    for number in range(200)
    for length in (8, 16, 20, 24)
    if length > 8 or number < 9
]
"""Prefixes of several lengths, in no order."""


async def test_next_hops_that_differ_from_route_to_route_cost_one_batch() -> None:
    """Also where one of them has no group, or a prefix may not be written: a batch goes the long way then."""
    unreachable = (NextHop(parse_address("10.9.9.9")),)
    for ways, keys in ((WAYS, MIXED), ([*WAYS, unreachable, None], MIXED), (WAYS, [*MIXED, key("10.0.0.0/31")])):
        wishes = {one: ways[number % len(ways)] for number, one in enumerate(keys)}
        async with running() as it:
            it.want(wishes)
            await it.settle()
            written = {one: hops for one, hops in wishes.items() if hops not in (None, unreachable) and one in MIXED}
            assert it.fib.counters.batches == 1
            assert sorted(it.acknowledged) == sorted((V4, one) for one in written)
            for one, hops in wishes.items():
                if hops == BLACKHOLE and one in written:
                    assert it.kernel.all_at(V4, one) == [(PROTOCOL, 0)]
                else:
                    assert it.kernel.hops_of(V4, one) == (hop_set(*hops) if one in written else None)
            assert dict(it.fib.families[V4].installed).keys() == written.keys()
            it.want(dict.fromkeys(keys))
            await it.settle()
            assert not any(it.kernel.all_at(V4, one) for one in MIXED)
            assert not any(group.routes for group in it.dataplane.objects.groups.values())


async def test_routes_by_other_next_hops_cost_two_batches_whatever_their_prefix_lengths() -> None:
    """New ones are appended, then all former ones go together."""
    async with running() as it:
        it.want({one: WAYS[number % 3] for number, one in enumerate(MIXED)})
        await it.settle()
        before = it.fib.counters.batches
        it.want({one: WAYS[(number + 1) % 3] for number, one in enumerate(MIXED)})
        await it.settle()
        assert it.fib.counters.batches == before + 2
        for number, one in enumerate(MIXED):
            assert it.kernel.hops_of(V4, one) == hop_set(*WAYS[(number + 1) % 3])
            assert len(it.kernel.all_at(V4, one)) == 1
        assert not it.fib.families[V4].changing


async def test_small_batches_wait_for_more_while_the_loop_is_busy_and_not_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(turns, "YOUNG_S", -1.0)  # each of the neighbor's messages takes a turn of its own
    async with running() as it:
        it.want({MIXED[0]: (LEAF1,)})
        await asyncio.sleep(0)
        assert it.kernel.all_at(V4, MIXED[0])  # nothing else is to be done

        def read_on(left: int) -> None:
            """A neighbor's messages: a route at each turn, and more behind it."""
            if left:
                it.want({MIXED[left]: (LEAF1,)})
                soon(functools.partial(read_on, left - 1))

        before = it.fib.counters.batches
        read_on(20)
        await asyncio.sleep(0)
        assert it.fib.counters.batches == before
        await it.settle()
        assert it.fib.counters.batches < before + 20
        assert all(it.kernel.all_at(V4, one) for one in MIXED[1:21])


async def test_a_busy_loop_holds_up_no_route_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataplane, "_GATHER_S", -1.0)
    async with running() as it:
        busy = [True]

        def work() -> None:
            if busy:
                soon(work)

        work()
        it.want({MIXED[0]: (LEAF1,)})
        await asyncio.sleep(0)
        assert it.kernel.all_at(V4, MIXED[0])
        busy.clear()


async def test_ipv4_route_by_ipv6_link_local_next_hop() -> None:
    async with running() as it:
        it.want({POD: (LEAF1_V6, LEAF2_V6)})
        it.want({key("2001:db8:1::/48"): (LEAF1_V6,)}, V6)
        await it.settle()
        assert it.kernel.hops_of(V4, POD) == hop_set(LEAF1_V6, LEAF2_V6)
        assert it.kernel.hops_of(V6, key("2001:db8:1::/48")) == hop_set(LEAF1_V6)


async def test_withdrawn_route_is_deleted() -> None:
    async with running() as it:
        it.want({POD: BOTH})
        await it.settle()
        it.want({POD: None})
        await it.settle()
        assert it.kernel.routes == {}
        assert it.state_of("10.64.1.0/24") == ("", "")


async def test_lost_next_hop_moves_all_routes_by_one_deletion_and_rewrites_none() -> None:
    async with running() as it:
        keys = [key(f"10.64.{number >> 8}.{number & 255}/32") for number in range(9000)]
        it.want(dict.fromkeys(keys, BOTH))
        await it.settle()
        it.kernel.log.clear()
        it.fib.next_hops_lost([LEAF1], lambda _hops: None)
        it.want(dict.fromkeys(keys, (LEAF2,)))
        await it.settle()
        assert [kind for kind, _what in it.kernel.log] == [MessageKind.DEL_NEXTHOP]
        assert it.kernel.hops_of(V4, keys[-1]) == hop_set(LEAF2)


async def test_lost_next_hop_is_deleted_without_waiting_for_a_thread_unless_routes_go_with_it() -> None:
    async with running() as it:
        it.want({POD: (LEAF1,)})
        await it.settle()
        it.want({POD: BOTH})
        it.dataplane.pump()
        it.fib.next_hops_lost([LEAF1], lambda _hops: None)
        assert it.kernel.urgent.sent_now == 0, "the kernel may not have heard that the group of one has no routes now"
        await it.settle()
        it.want({POD: BOTH})
        await it.settle()
        it.want({POD: (LEAF1,)})
        await it.settle()
        it.want({POD: BOTH})
        await it.settle()
        it.fib.next_hops_lost([LEAF1], lambda _hops: None)
        assert it.kernel.urgent.sent_now == 1
        await it.settle()
        it.fib.next_hops_lost([LEAF2], lambda _hops: None)
        await it.settle()
        assert it.kernel.routes == {}
        assert it.kernel.urgent.sent_now == 1


async def test_what_is_left_of_weighted_next_hops_needs_no_route_written_either() -> None:
    async with running() as it:
        keys = [key(f"10.64.{number >> 8}.{number & 255}/32") for number in range(3000)]
        it.want(dict.fromkeys(keys, (LEAF1, NextHop(LEAF2.address, LEAF2.interface, 5))))
        await it.settle()
        group = it.kernel.objects[it.kernel.routes[V4, 254, keys[0], METRIC][1]]
        assert sorted(weight for _single, weight in group.members) == [1, 5]
        it.kernel.log.clear()
        it.fib.next_hops_lost([LEAF1], lambda _hops: None)
        it.want(dict.fromkeys(keys, (LEAF2,)))
        await it.settle()
        assert [kind for kind, _what in it.kernel.log] == [MessageKind.DEL_NEXTHOP]
        assert it.kernel.hops_of(V4, keys[-1]) == hop_set(LEAF2)


async def test_group_that_would_be_left_empty_gets_the_fallback_first() -> None:
    async with running() as it:
        it.want({POD: (LEAF1,)})
        await it.settle()
        it.kernel.log.clear()
        it.fib.next_hops_lost([LEAF1], lambda _hops: (LEAF2,))
        assert it.kernel.urgent.sent_now == 1, "no thread is waited for"
        it.want({POD: (LEAF2,)})
        await it.settle()
        assert [kind for kind, _what in it.kernel.log] == [
            MessageKind.NEW_NEXTHOP,
            MessageKind.NEW_NEXTHOP,
            MessageKind.DEL_NEXTHOP,
        ]
        assert it.kernel.hops_of(V4, POD) == hop_set(LEAF2)


async def test_withdrawal_of_routes_whose_group_died_needs_no_message() -> None:
    async with running() as it:
        it.want({POD: (LEAF1,)})
        await it.settle()
        it.fib.next_hops_lost([LEAF1], lambda _hops: None)
        await it.settle()
        assert it.kernel.routes == {}
        assert it.state_of("10.64.1.0/24")[0] == "failed"
        it.kernel.log.clear()
        it.want({POD: None})
        await it.settle()
        assert it.kernel.log == []
        assert it.fib.counters.installed == 0


async def test_next_hop_that_returns_gets_its_routes_again() -> None:
    async with running() as it:
        it.want({POD: BOTH})
        await it.settle()
        it.fib.next_hops_lost([LEAF1], lambda _hops: None)
        it.want({POD: (LEAF2,)})
        await it.settle()
        it.want({POD: BOTH})
        await it.settle()
        assert it.kernel.hops_of(V4, POD) == hop_set(LEAF1, LEAF2)


async def test_link_down_tells_the_rib_and_link_up_restores_without_it() -> None:
    async with running() as it:
        assert it.fib.targets.ask(LEAF1) == ""
        it.want({POD: BOTH, key("10.65.0.0/16"): (LEAF1,)})
        await it.settle()
        it.kernel.set_link(2, "eth0", up=False)
        await it.settle()
        assert it.told == [(LEAF1, "next hop 10.0.0.0 is unreachable: interface eth0 is down")]
        assert it.kernel.hops_of(V4, POD) == hop_set(LEAF2)
        assert it.kernel.hops_of(V4, key("10.65.0.0/16")) is None
        it.kernel.set_link(2, "eth0", up=True)
        await it.settle()
        assert it.told[-1] == (LEAF1, "")
        assert it.kernel.hops_of(V4, POD) == hop_set(LEAF1, LEAF2)
        assert it.kernel.hops_of(V4, key("10.65.0.0/16")) == hop_set(LEAF1)


async def test_nexthop_deleted_by_another_program_is_made_again() -> None:
    async with running() as it:
        it.want({POD: BOTH})
        await it.settle()
        single = next(found.id for found in it.kernel.objects.values() if found.gateway == LEAF1.address)
        it.kernel.delete_nexthop_by_other_hand(single)
        await it.settle()
        assert it.kernel.hops_of(V4, POD) == hop_set(LEAF1, LEAF2)


@pytest.mark.parametrize("protocol", [PROTOCOL, 4], ids=["bgpd's protocol", "its own"])
@pytest.mark.parametrize("kind", ["gateway", "group"])
async def test_nexthop_changed_by_another_program_is_set_right(kind: str, protocol: int) -> None:
    """Not by timer only: until then all routes by it led elsewhere."""
    async with running() as it:
        it.fib.sweep()
        it.want({POD: (LEAF1,), key("10.64.2.0/24"): (LEAF2,)})
        await it.settle()
        objects = it.kernel.objects
        gateway = next(one for one in objects.values() if one.gateway == LEAF1.address)
        if kind == "gateway":
            other = msgspec.structs.replace(gateway, gateway=parse_address("10.0.0.99"), protocol=protocol)
        else:
            groups = [one for one in objects.values() if one.members]
            group, another = sorted(groups, key=lambda one: objects[one.members[0][0]].gateway)
            other = msgspec.structs.replace(group, members=another.members, protocol=protocol)
        it.kernel.replace_nexthop_by_other_hand(other)
        await it.settle()
        await until(lambda: it.kernel.hops_of(V4, POD) == hop_set(LEAF1))


@pytest.mark.parametrize("protocol", [PROTOCOL, 4], ids=["bgpd's protocol", "its own"])
async def test_nexthops_made_by_another_program_under_the_next_ids_carry_no_route_of_bgpd(protocol: int) -> None:
    async with running() as it:
        it.want({POD: (LEAF1,)})
        await it.settle()
        single, group = sorted(it.kernel.objects)
        gateway = NexthopObject(id=single + 1, protocol=protocol, gateway=parse_address("10.0.0.99"), ifindex=2)
        it.kernel.replace_nexthop_by_other_hand(gateway)
        members = ((gateway.id, 1),)
        it.kernel.replace_nexthop_by_other_hand(NexthopObject(id=group + 1, protocol=protocol, members=members))
        it.want({key("10.64.2.0/24"): (LEAF2,)})
        await it.settle()
        assert it.kernel.hops_of(V4, key("10.64.2.0/24")) == hop_set(LEAF2)
        assert {gateway.id, group + 1} <= it.kernel.objects.keys()


async def test_route_deleted_by_another_program_is_written_again() -> None:
    async with running() as it:
        it.want({POD: BOTH})
        await it.settle()
        it.kernel.delete_by_other_hand(V4, POD)
        await it.settle()
        assert it.kernel.hops_of(V4, POD) == hop_set(LEAF1, LEAF2)
        assert it.fib.counters.repaired == 1


async def test_reconciliation_repairs_what_no_event_told() -> None:
    async with running() as it:
        other = key("10.66.0.0/16")
        it.want({POD: BOTH, other: BOTH})
        await it.settle()
        del it.kernel.routes[V4, 254, POD, METRIC]
        it.kernel.routes[V4, 254, other, METRIC] = (217, 12345)
        it.kernel.routes[V4, 254, key("10.99.0.0/16"), METRIC] = (217, 12345)
        it.fib.sweep()
        await it.settle()
        it.fib.upkeep.reconcile()
        await it.settle()
        assert it.kernel.hops_of(V4, POD) == it.kernel.hops_of(V4, other) == hop_set(LEAF1, LEAF2)
        assert (V4, 254, key("10.99.0.0/16"), METRIC) not in it.kernel.routes


async def test_comparison_by_timer_rests_for_what_the_last_one_took(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a large table it would be a part of a core for ever. One that is asked for does not wait."""
    dumps: list[Share | None] = []
    read = FakeReader.routes

    async def routes(
        reader: FakeReader,
        family: Family,
        form: RouteForm,
        begin: Callable[[], Callable[[RouteRun], None]],
        *,
        share: Share | None = None,
    ) -> None:
        dumps.append(share)
        await read(reader, family, form, begin, share=share)

    monkeypatch.setattr(FakeReader, "routes", routes)
    took = itertools.count(0.0, 5.0)
    monkeypatch.setattr(rates, "time", SimpleNamespace(thread_time=lambda: next(took)))
    async with running(reconcile_interval_s=0.001) as it:
        await until(lambda: it.fib.upkeep._share.pause_s(asyncio.get_running_loop().time()))
        assert 900 < it.fib.upkeep._share.pause_s(asyncio.get_running_loop().time()) <= 1000
        compared = len(dumps)
        assert None not in dumps[-2:]
        await it.settle()
        assert len(dumps) == compared
        it.fib.upkeep.reconcile()
        await until(lambda: len(dumps) == compared + 2)


async def test_foreign_route_blocks_its_prefix_until_it_goes() -> None:
    kernel = two_leaf_kernel()
    default = kernel.add_foreign("0.0.0.0/0")
    async with running(kernel) as it:
        it.want({key("0.0.0.0/0"): BOTH})
        await it.settle()
        state, why = it.state_of("0.0.0.0/0")
        assert state == "blocked"
        assert "protocol 16" in why
        assert list(kernel.routes) == [(V4, 254, key("0.0.0.0/0"), 100)]
        kernel.remove_foreign(default)
        await it.settle()
        assert kernel.hops_of(V4, key("0.0.0.0/0")) == hop_set(LEAF1, LEAF2)


async def test_foreign_route_that_appears_makes_ours_withdraw() -> None:
    async with running() as it:
        it.want({POD: BOTH})
        await it.settle()
        it.kernel.add_foreign("10.64.1.0/24")
        await it.settle()
        assert list(it.kernel.routes) == [(V4, 254, POD, 100)]
        assert [(of, why.split(" (")[0]) for _family, of, why in it.refused] == [
            (POD, "another program's route to the prefix is in the kernel")
        ]


async def test_override_lets_a_prefix_be_written_beside_the_host_s_own() -> None:
    kernel = two_leaf_kernel()
    kernel.add_foreign("0.0.0.0/0")
    async with running(kernel, override=("0.0.0.0/0",)) as it:
        it.want({key("0.0.0.0/0"): BOTH})
        await it.settle()
        assert kernel.hops_of(V4, key("0.0.0.0/0")) == hop_set(LEAF1, LEAF2)
        assert len(kernel.routes) == 2


@pytest.mark.parametrize("prefix", ["10.0.0.0/31", "10.0.0.1/32"])
async def test_own_network_and_address_are_never_written(prefix: str) -> None:
    async with running() as it:
        it.want({key(prefix): (LEAF2,)})
        await it.settle()
        assert it.kernel.routes == {}
        assert it.state_of(prefix)[0] == "blocked"


async def test_protected_prefix_takes_workloads_but_no_learned_route() -> None:
    async with running(protect=("10.64.0.0/16",)) as it:
        it.want({POD: BOTH, key("10.64.2.1/32"): (NextHop(b"", "eth1"),), key("10.0.0.0/8"): BOTH})
        await it.settle()
        assert {place[2] for place in it.kernel.routes} == {key("10.64.2.1/32"), key("10.0.0.0/8")}


async def test_direct_and_blackhole_routes_need_no_nexthop_object() -> None:
    async with running() as it:
        it.want({key("10.64.2.1/32"): (NextHop(b"", "eth1"),), POD: BLACKHOLE})
        await it.settle()
        assert it.kernel.routes[V4, 254, key("10.64.2.1/32"), METRIC] == (217, -3)
        assert it.kernel.routes[V4, 254, POD, METRIC] == (217, 0)
        assert it.kernel.objects == {}


async def test_direct_route_returns_with_its_link() -> None:
    async with running() as it:
        it.want({key("10.64.2.1/32"): (NextHop(b"", "eth1"),)})
        await it.settle()
        it.kernel.set_link(3, "eth1", up=False)
        await it.settle()
        assert it.state_of("10.64.2.1/32") == ("blocked", "interface eth1 is down")
        it.kernel.set_link(3, "eth1", up=True)
        await it.settle()
        assert it.kernel.routes[V4, 254, key("10.64.2.1/32"), METRIC] == (217, -3)


async def test_next_hop_behind_a_workload_s_host_route_resolves() -> None:
    async with running() as it:
        router = NextHop(key("10.64.2.1/32")[1:])
        assert "no connected prefix contains it" in it.fib.targets.ask(router)
        it.want({key("10.64.2.1/32"): (NextHop(b"", "eth1"),)})
        await it.settle()
        assert it.told == [(router, "")]


async def test_refused_route_is_shown_and_tried_again() -> None:
    async with running() as it:
        it.kernel.refuse[POD] = errno.ENOSPC
        it.want({POD: BOTH})
        for _ in range(20):
            await asyncio.sleep(0)
        assert it.state_of("10.64.1.0/24") == ("failed", "No space left on device")
        assert it.acknowledged == []
        assert it.refused == [(V4, POD, "No space left on device")]
        it.kernel.refuse.clear()
        await asyncio.sleep(0.15)
        await it.settle()
        assert it.kernel.hops_of(V4, POD) == hop_set(LEAF1, LEAF2)
        assert it.acknowledged == [(V4, POD)]


@pytest.mark.parametrize("is_there", [False, True], ids=["new route", "route by the other leaf"])
async def test_a_gateway_that_the_kernel_refuses_costs_no_route_that_has_another(is_there: bool) -> None:
    """A neighbor may name a broadcast address: those whose prefixes it shares had no route."""
    async with running() as it:
        it.fib.sweep()
        it.fib.targets.ask(LEAF2)
        it.kernel.refuse_gateways.add(LEAF2.address)
        if is_there:
            it.want({POD: (LEAF1,)})
            await it.settle()
        it.want({POD: BOTH, key("10.64.2.0/24"): (LEAF2,)})
        await it.settle_retries()
        assert it.kernel.hops_of(V4, POD) == hop_set(LEAF1)
        assert it.state_of("10.64.1.0/24") == ("installed", "")
        state, why = it.state_of("10.64.2.0/24")
        assert (state, "the kernel refuses next hop 10.0.1.0" in why) == ("blocked", True)
        assert [bool(why) for hop, why in it.told] == [True]
        sent = it.fib.counters.messages
        it.fib.writer.try_again()
        await it.settle()
        assert it.fib.counters.messages == sent


async def test_a_gateway_that_the_kernel_has_refused_is_tried_again_when_its_interface_changes() -> None:
    async with running() as it:
        it.fib.sweep()
        it.fib.targets.ask(LEAF2)
        it.kernel.refuse_gateways.add(LEAF2.address)
        it.want({POD: BOTH})
        await it.settle_retries()
        it.kernel.refuse_gateways.clear()
        it.kernel.add_link(2, "eth0", "10.9.0.1/24")
        await it.settle()
        assert it.kernel.hops_of(V4, POD) == hop_set(LEAF1)
        it.kernel.add_link(3, "eth1", "10.8.0.1/24")
        await it.settle()
        assert it.kernel.hops_of(V4, POD) == hop_set(*BOTH)
        assert [bool(why) for hop, why in it.told] == [True, False]


async def test_a_gateway_that_the_kernel_has_refused_is_tried_again_now_and_then_without_a_route() -> None:
    async with running() as it:
        it.fib.sweep()
        it.fib.targets.ask(LEAF2)
        it.kernel.refuse_gateways.add(LEAF2.address)
        it.want({POD: BOTH})
        await it.settle_retries()
        sent = it.fib.counters.messages
        with capture_logs() as logs:
            it.dataplane.upkeep.collect_unused()
            assert it.fib.targets.all_changed() == []  # who asks meanwhile is told what was last known
            await it.settle()
        assert (it.fib.counters.messages, it.kernel.hops_of(V4, POD), logs) == (sent, hop_set(LEAF1), [])
        it.kernel.refuse_gateways.clear()
        it.dataplane.upkeep.collect_unused()
        await it.settle()
        assert it.kernel.hops_of(V4, POD) == hop_set(*BOTH)
        assert [bool(why) for hop, why in it.told] == [True, False]


async def test_restart_adopts_routes_and_rewrites_none_that_is_right() -> None:
    kernel = two_leaf_kernel()
    gone = key("10.70.0.0/16")
    async with running(kernel) as before:
        before.want({POD: BOTH, gone: (LEAF1,)})
        await before.settle()
    kernel.log.clear()
    async with running(kernel) as it:
        it.want({POD: BOTH})
        await it.settle()
        assert kernel.log == []
        assert it.acknowledged == [(V4, POD)]
        it.fib.sweep()
        await it.settle()
        assert kernel.log == [(MessageKind.DEL_ROUTE, gone)]


async def test_adopted_route_is_rewritten_by_what_neighbors_say_only_at_the_sweep() -> None:
    async with running() as it:
        it.want({POD: BOTH})
        await it.settle()
        kernel = it.kernel
    other = key("10.64.2.0/24")
    async with running(kernel) as it:
        it.wishes.update({(V4, POD): (LEAF1,), (V4, other): (LEAF1,)})
        it.fib.writer.update_learned(V4, {POD: (LEAF1,), other: (LEAF1,)})
        await it.settle()
        assert kernel.hops_of(V4, POD) == hop_set(LEAF1, LEAF2)
        assert kernel.hops_of(V4, other) == hop_set(LEAF1)
        it.fib.sweep()
        await it.settle()
        assert kernel.hops_of(V4, POD) == hop_set(LEAF1)


async def test_routes_of_an_earlier_metric_are_deleted_at_the_sweep() -> None:
    kernel = two_leaf_kernel()
    async with running(kernel, metric=50) as before:
        before.want({POD: BOTH})
        await before.settle()
    async with running(kernel) as it:
        it.want({POD: BOTH})
        await it.settle()
        it.fib.sweep()
        await it.settle()
        assert list(kernel.routes) == [(V4, 254, POD, METRIC)]


async def test_missing_capability_is_named() -> None:
    kernel = two_leaf_kernel()
    kernel.permitted = False
    with pytest.raises(CannotWrite, match="CAP_NET_ADMIN"):
        async with running(kernel):
            pass


async def test_nexthop_id_of_another_program_is_left_alone() -> None:
    kernel = two_leaf_kernel()
    kernel.objects[217_000_001] = NexthopObject(id=217_000_001, protocol=3, gateway=b"\1\1\1\1", ifindex=2)
    async with running(kernel) as it:
        it.want({POD: BOTH})
        await it.settle()
        assert kernel.hops_of(V4, POD) == hop_set(LEAF1, LEAF2)
        assert kernel.objects[217_000_001].protocol == 3


async def test_unreachable_next_hop_blocks_with_the_reason() -> None:
    async with running() as it:
        it.want({POD: (NextHop(bytes((9, 9, 9, 9))),)})
        await it.settle()
        assert it.state_of("10.64.1.0/24") == (
            "blocked",
            "next hop 9.9.9.9 is unreachable: no connected prefix contains it",
        )


async def test_withdraw_all_leaves_nothing() -> None:
    async with running() as it:
        it.want({POD: BOTH, key("10.65.0.0/16"): (LEAF1,)})
        await it.settle()
        await it.fib.withdraw_all()
        assert it.kernel.routes == {}


async def test_withdraw_all_ends_where_the_kernel_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running() as it:
        it.want({POD: BOTH})
        await it.settle()
        run = it.kernel.run
        monkeypatch.setattr(it.kernel, "run", lambda data: Outcome([], lost="No buffer space available"))
        with pytest.raises(OSError, match="does not say so"):
            await it.fib.withdraw_all()
        monkeypatch.setattr(it.kernel, "run", run)
        await it.fib.withdraw_all()
        assert it.kernel.routes == {}


async def test_a_deletion_whose_answer_is_lost_again_and_again_is_tried_again_in_pauses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with running() as it:
        it.want({POD: BOTH})
        await it.settle()
        run, lost = it.kernel.run, []

        def silent(data: bytes) -> Outcome:
            lost.append(data)
            return Outcome([], lost="No buffer space available")

        monkeypatch.setattr(it.kernel, "run", silent)
        it.want({POD: None})
        await it.settle()
        assert len(lost) < 10
        monkeypatch.setattr(it.kernel, "run", run)
        await until(lambda: not it.kernel.routes)


async def test_a_deletion_that_was_refused_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running() as it:
        it.want({POD: BOTH})
        await it.settle()
        run, refused = it.kernel.run, []

        def refuse(data: bytes) -> Outcome:
            found = [(kind, data[start - 16 : end]) for kind, _, _, start, end in messages(data)]
            deletions = [request for kind, request in found if kind == MessageKind.DEL_ROUTE]
            if deletions and not refused:
                refused.extend(deletions)
                return Outcome([KernelError(errno.ENOMEM, "", deletions[0])])
            return run(data)

        monkeypatch.setattr(it.kernel, "run", refuse)
        it.want({POD: None})
        await it.settle()
        assert refused
        await until(lambda: not it.kernel.routes)


async def test_table_that_is_as_wished_does_not_differ() -> None:
    async with running() as it:
        it.want({POD: BOTH, key("10.65.0.0/16"): (LEAF1,)})
        await it.settle()
        assert it.fib.differing(V4, [POD, key("10.65.0.0/16"), key("10.66.0.0/16")]) == []


async def test_wishes_that_the_table_was_never_told_differ_and_are_repaired() -> None:
    lost, changed, gone = key("10.65.0.0/16"), key("10.66.0.0/16"), key("10.67.0.0/16")
    async with running() as it:
        it.want({POD: BOTH, changed: (LEAF1,), gone: (LEAF1,)})
        await it.settle()
        it.wishes |= {(V4, lost): (LEAF2,), (V4, changed): (LEAF2,)}
        del it.wishes[V4, gone]
        keys = [POD, lost, changed, gone]
        assert it.fib.differing(V4, keys) == [lost, changed, gone]
        it.fib.upkeep.repair(V4, [lost, changed, gone])
        await it.settle()
        assert it.fib.differing(V4, keys) == []
        assert it.kernel.hops_of(V4, changed) == hop_set(LEAF2)
        assert (V4, gone) not in it.kernel.routes


async def test_route_that_is_known_to_be_kept_out_does_not_differ() -> None:
    unreachable = NextHop(parse_address("192.0.2.1"))
    async with running() as it:
        it.want({POD: (unreachable,)})
        await it.settle()
        assert it.state_of("10.64.1.0/24")[0] == "blocked"
        assert it.fib.differing(V4, [POD]) == []


async def test_next_hops_that_are_forgotten_are_neither_kept_nor_told_of() -> None:
    async with running() as it:
        hops = [NextHop(bytes((10, 0, 0, number))) for number in range(2, 250)]
        for hop in hops:
            it.fib.targets.ask(hop)
        it.fib.targets.ask(LEAF1)
        it.fib.targets.forget(hops)
        it.kernel.set_link(2, "eth0", up=False)
        await it.settle()
        assert [hop for hop, _why in it.told] == [LEAF1]
        assert it.fib.targets.asked == {LEAF1}


async def test_listing_outlives_changes_of_the_table() -> None:
    keys = [bytes((32, 10, 64, number >> 8, number & 255)) for number in range(3000)]
    async with running() as it:
        it.want(dict.fromkeys(keys, (LEAF1,)))
        await it.settle()
        listing = filter(None, fib_views.routes(it.fib, V4))
        first = next(listing)
        assert first.state == "installed"
        it.want(dict.fromkeys(keys))
        it.want({key("10.65.0.0/16"): (LEAF1,)})
        await it.settle()
        assert {view.state for view in listing} <= {"installed"}
        assert [view.prefix for view in filter(None, fib_views.routes(it.fib, V4))] == ["10.65.0.0/16"]


async def test_what_the_kernel_has_not_answered_is_pending_and_not_installed() -> None:
    keys = [bytes((32, 10, 64, 0, number)) for number in range(200)]
    async with running() as it:
        it.want({keys[0]: (LEAF1,), keys[1]: (LEAF1,)})
        await it.settle()
        it.kernel.bulk.hold()
        it.want(dict.fromkeys(keys[2:], (LEAF1,)) | {keys[0]: (LEAF2,), keys[1]: None})
        for _ in range(20):
            await asyncio.sleep(0)
        counters = it.fib.counters
        assert (counters.desired, counters.installed, counters.pending) == (199, 1, 200)
        states = {view.prefix: view.state for view in filter(None, fib_views.routes(it.fib))}
        assert states["10.64.0.2/32"] == states["10.64.0.0/32"] == "pending"
        assert fib_views.route(it.fib, V4, keys[5]).state == "pending"
        it.kernel.bulk.release()
        await it.settle()
        counters = it.fib.counters
        assert (counters.desired, counters.installed, counters.pending) == (199, 199, 0)
        assert {view.state for view in filter(None, fib_views.routes(it.fib))} == {"installed"}
