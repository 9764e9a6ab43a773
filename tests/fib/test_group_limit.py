"""The number of nexthop groups has a bound: beyond it routes keep one of their next hops, or are blocked."""

from __future__ import annotations

import asyncio

import pytest

from bgpd.fib import group_room, nexthop_objects, nexthop_upkeep
from bgpd.fib import views as fib_views
from bgpd.fib.group_room import NO_ROOM
from bgpd.fib.guard import Dependencies
from bgpd.fib.nexthop_objects import NexthopObjects
from bgpd.model.next_hop import NextHop
from bgpd.model.prefix import parse_address
from tests.fib.harness import LEAF1, LEAF2, V4, Harness, running

KEYS = [bytes((32, 10, 64, 0, number)) for number in range(8)]
GATEWAY, OTHER = (NextHop(parse_address(f"10.9.9.{last}"), "@blue/4:") for last in (8, 9))
ON_1, ON_2 = (LEAF1.address, 2), (LEAF2.address, 3)


@pytest.fixture(autouse=True)
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_room, "MOST_GROUPS", 2)
    monkeypatch.setattr(nexthop_upkeep, "_UNUSED_GRACE_S", 0.01)


async def until(condition: object, it: Harness) -> None:
    """Wait for what the collector of unused objects brings about."""
    assert callable(condition)
    for _ in range(500):
        if condition():
            return
        await asyncio.sleep(0.01)
        await it.settle()
    raise AssertionError("it did not come about")


async def test_a_route_beyond_the_bound_keeps_one_of_its_next_hops_until_there_is_room() -> None:
    async with running() as it:
        it.fib.sweep()
        it.want({KEYS[0]: (LEAF1,), KEYS[1]: (LEAF2,), KEYS[2]: (LEAF1, LEAF2)})
        await it.settle()
        assert it.kernel.hops_of(V4, KEYS[2]) in ({ON_1}, {ON_2})
        assert not it.refused
        absent = fib_views._absent(it.fib, set(), (LEAF1,))
        assert [hop.why for hop in absent] == [NO_ROOM], "bgpd explain"
        assert it.fib.differing(V4, KEYS[:3]) == []
        it.want({KEYS[0]: None, KEYS[1]: None})
        await until(lambda: it.kernel.hops_of(V4, KEYS[2]) == {ON_1, ON_2}, it)


async def test_one_that_can_have_none_is_blocked_until_there_is_room() -> None:
    async with running() as it:
        it.fib.sweep()
        it.expansions = {GATEWAY: (LEAF1,), OTHER: (LEAF2,)}
        it.want({KEYS[0]: (GATEWAY,), KEYS[1]: (OTHER,), KEYS[2]: (LEAF1,), KEYS[3]: (GATEWAY, OTHER)})
        await it.settle()
        for key in KEYS[2:4]:
            assert it.kernel.hops_of(V4, key) is None
            assert it.fib.families[V4].blocked[key] == NO_ROOM
        assert {why for _family, _key, why in it.refused} == {NO_ROOM}
        it.want({KEYS[1]: None, KEYS[3]: None})
        await until(lambda: it.kernel.hops_of(V4, KEYS[2]) == {ON_1}, it)
        assert not it.fib.families[V4].blocked


def test_no_set_of_next_hops_makes_more_groups_than_there_may_be() -> None:
    table = NexthopObjects(197)
    singles = [table.nexthop_of(NextHop(bytes((10, 0, 1, last))), 2) for last in range(5)]
    made = [table.group_of(((single, 1),)) for single in singles]
    assert None not in made[:2]
    assert made[2:] == [None] * 3
    assert table.make_bound(((singles[0], 1),)) is None
    assert len(table.groups) == 2
    assert table.nexthop_of(NextHop(bytes((10, 0, 1, 9))), 2) is None
    assert table.nexthop_of(NextHop(bytes((10, 0, 1, 0))), 2) == singles[0]


def test_unused_objects_are_deleted_some_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_room, "MOST_GROUPS", 100)
    monkeypatch.setattr(nexthop_objects, "MOST_COLLECTED", 8)
    table = NexthopObjects(197)
    for last in range(20):
        single = table.nexthop_of(NextHop(bytes((10, 0, 1, last))), 2)
        assert single is not None
        table.group_of(((single, 1),))
    table.acknowledged(table.take_created()[1])
    assert table.collect_unused(0.0, 10.0) == (b"", False)
    rounds = 0
    while table.collect_unused(20.0, 10.0)[1]:
        rounds += 1
    assert rounds == 5
    assert not table.groups
    assert not table.nexthops


async def test_no_neighbor_fills_with_named_next_hops_what_others_need(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_room, "MOST_GROUPS", 16)
    async with running() as it:
        it.fib.events.depend_on(Dependencies(leaves=frozenset((LEAF1.address, LEAF2.address))))
        weighted = [(LEAF1, NextHop(LEAF2.address, "", weight)) for weight in range(2, 40)]
        named = {bytes((32, 10, 65, 0, number)): weighted[number] for number in range(38)}
        it.learn(named)
        await it.settle()
        assert len(it.dataplane.objects.groups) <= 16 + 2
        assert it.fib.counters.blocked == 0
        it.learn({KEYS[0]: (LEAF1,), KEYS[1]: (LEAF2,)})
        await it.settle()
        assert it.kernel.hops_of(V4, KEYS[0]) == {ON_1}
        assert it.kernel.hops_of(V4, KEYS[1]) == {ON_2}


def test_beyond_the_bound_there_is_a_group_of_one_of_the_next_hops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_room, "MOST_GROUPS", 64)
    table = NexthopObjects(197)
    table.room.reserve_for("", frozenset((LEAF1.address, LEAF2.address)))
    named = [
        [table.nexthop_of(NextHop(bytes((10, 0, leaf, 100 + last))), leaf) for last in range(8)] for leaf in (2, 3)
    ]
    for first in named[0]:
        for second in named[1]:
            assert first is not None
            assert second is not None
            members = (first, 1), (second, 1)
            assert table.group_of(members) is not None or table.group_of_one(members) is not None
    reduced = [group for group in table.groups.values() if group.reduced]
    assert reduced
    assert len(table.groups) - len(reduced) == 56
    assert len(table.groups) < 64, "the rest is for sets of neighbors"


def test_named_next_hops_leave_room_for_sets_of_neighbors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_room, "MOST_GROUPS", 32)
    table = NexthopObjects(197)
    table.room.reserve_for("", frozenset((LEAF1.address,)))
    table.room.reserve_for("blue", frozenset((LEAF2.address,)))
    first, second = table.nexthop_of(LEAF1, 2), table.nexthop_of(LEAF2, 3)
    assert first is not None
    assert second is not None
    for last in range(40):
        named = table.nexthop_of(NextHop(bytes((10, 0, 1, 100 + last))), 2)
        if named is not None:
            table.group_of(((named, 1),))
    assert len(table.groups) == 30
    assert table.group_of(((first, 1), (second, 1))) is not None
    assert table.group_of(((first, 1), (second, 2))) is not None
    assert table.group_of(((first, 1), (second, 3))) is None
    assert table.group_of(((first, 1),)) is not None
    assert table.group_of(((second, 1),)) is not None
    table.room.reserve_for("blue", frozenset())
    assert table.nexthop_of(NextHop(LEAF2.address, "", 1), 9) is None
