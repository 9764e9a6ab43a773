"""Next hops that are lost while batches with routes by them wait for the kernel: nothing is left of them there."""

from __future__ import annotations

import asyncio

import pytest

from bgpd.kernel.nexthop_messages import encode_delete
from bgpd.kernel.writer import Outcome
from tests.fib.fake_kernel import METRIC
from tests.fib.harness import LEAF1, LEAF2, V4, running
from tests.logs import capture_logs

KEYS = [bytes((32, 10, 64, 0, number)) for number in range(8)]
ON_2 = (LEAF2.address, 3)


@pytest.mark.parametrize("known", [False, True], ids=["first route", "more routes"])
@pytest.mark.parametrize("other", [False, True], ids=["gone", "by the other leaf"])
async def test_routes_of_a_lost_next_hop_that_are_on_their_way(known: bool, other: bool) -> None:
    with capture_logs() as logs:
        async with running() as it:
            it.fib.sweep()
            if known:
                it.want({KEYS[7]: (LEAF1,)})
                await it.settle()
            it.kernel.bulk.hold()
            it.want(dict.fromkeys(KEYS, (LEAF1,)))
            for _ in range(5):
                await asyncio.sleep(0)
            it.fib.next_hops_lost([LEAF1], lambda _hops: None)
            it.want(dict.fromkeys(KEYS, (LEAF2,) if other else None))
            for _ in range(5):
                await asyncio.sleep(0)
            it.kernel.bulk.release()
            await it.settle()
            for key in KEYS:
                assert it.kernel.hops_of(V4, key) == ({ON_2} if other else None)
            assert not it.refused
            assert not it.fib.families[V4].failed
            if other:
                assert {key for _family, key in it.acknowledged} == set(KEYS)
            else:
                assert not it.kernel.objects
    assert not [line for line in logs if line["log_level"] in ("warning", "error")]


async def test_routes_on_their_way_from_one_next_hop_to_another_that_is_lost() -> None:
    with capture_logs() as logs:
        async with running() as it:
            it.fib.sweep()
            it.want(dict.fromkeys(KEYS, (LEAF2,)))
            await it.settle()
            it.kernel.bulk.hold()
            it.want(dict.fromkeys(KEYS, (LEAF1,)))
            for _ in range(5):
                await asyncio.sleep(0)
            it.fib.next_hops_lost([LEAF1], lambda _hops: None)
            it.want(dict.fromkeys(KEYS, (LEAF2,)))
            it.kernel.bulk.release()
            await it.settle()
            assert all(it.kernel.hops_of(V4, key) == {ON_2} for key in KEYS)
            assert not it.refused
            assert not it.fib.families[V4].failed
    assert not [line for line in logs if line["log_level"] in ("warning", "error")]


async def test_routes_on_their_way_to_a_group_that_somebody_deletes_before_the_answer_is_heard() -> None:
    async with running() as it:
        it.fib.sweep()
        for leaf in (LEAF2, LEAF1):
            it.want(dict.fromkeys(KEYS, (leaf,)))
            await it.settle()
        unused = [group.id for group in it.dataplane.objects.groups.values() if not group.routes]
        it.kernel.bulk.hold()
        it.want(dict.fromkeys(KEYS, (LEAF2,)))
        for _ in range(5):
            await asyncio.sleep(0)
        for identifier in unused:
            it.kernel.run(encode_delete([identifier]))
        it.kernel.bulk.release()
        it.dataplane.objects.vanished(unused)
        it.fib.events.groups_changed()
        await it.settle()
        assert all(it.kernel.hops_of(V4, key) == {ON_2} for key in KEYS)


async def test_what_waits_with_a_lost_next_hop_is_asked_for_again() -> None:
    async with running() as it:
        it.fib.sweep()
        it.want({KEYS[7]: (LEAF2,)})
        await it.settle()
        it.want({KEYS[0]: (LEAF1,), KEYS[1]: (LEAF1, LEAF2), KEYS[2]: (LEAF2,), KEYS[3]: (LEAF1,)})
        it.fib.next_hops_lost([LEAF1], lambda _hops: None)
        it.owner.wish("", V4, {KEYS[0]: None, KEYS[1]: (LEAF2,)})  # KEYS[3]: a new session names it
        before = dict(it.kernel.objects)
        await it.settle()
        assert [it.kernel.hops_of(V4, key) for key in KEYS[:4]] == [None, {ON_2}, {ON_2}, {(LEAF1.address, 2)}]
        assert len(it.kernel.objects) == len(before) + 2  # the next hop and its group, none of both leaves
        it.want({KEYS[4]: (LEAF1,)})
        it.owner.wish("", V4, {KEYS[4]: None})  # nothing of before waits any more: what is said is taken
        await it.settle()
        assert it.kernel.hops_of(V4, KEYS[4]) == {(LEAF1.address, 2)}


@pytest.mark.parametrize("known", [False, True], ids=["first route", "by another leaf before"])
async def test_routes_by_a_group_whose_making_was_not_confirmed_go_by_another_one(
    known: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel has taken them. The group is forgotten and deleted later, which would flush them."""
    async with running() as it:
        it.fib.sweep()
        if known:
            it.want({KEYS[1]: (LEAF2,)})
            await it.settle()
        it.kernel.bulk.hold()
        for key in KEYS[:2]:
            it.want({key: (LEAF1,)})
            for _ in range(5):
                await asyncio.sleep(0)
        run, answers = it.kernel.run, []

        def lossy(data: bytes) -> Outcome:
            answers.append(run(data))
            return Outcome([], lost="No buffer space available") if len(answers) == 1 else answers[-1]

        monkeypatch.setattr(it.kernel, "run", lossy)
        it.kernel.bulk.release()
        await it.settle_retries()
        objects = it.dataplane.objects
        assert not objects.dead
        assert [objects.next_hops(target) for _protocol, target in it.kernel.routes.values()] == [(LEAF1,)] * 2
        assert not it.kernel.behind
        assert not it.fib.families[V4].failed


async def test_routes_by_a_group_that_the_kernel_would_not_move_are_written_again() -> None:
    async with running() as it:
        it.fib.sweep()
        it.want({KEYS[0]: (LEAF1,), KEYS[1]: (LEAF2,)})
        await it.settle()
        it.kernel.monitor.nexthop_changed.clear()  # the word on it is on its way
        it.kernel.delete_nexthop_by_other_hand(it.kernel.routes[V4, 254, KEYS[0], METRIC][1])
        it.owner.wish("", V4, {KEYS[0]: (LEAF2,)})
        it.fib.next_hops_lost([LEAF1], lambda _hops: (LEAF2,))
        await it.settle()
        assert it.kernel.hops_of(V4, KEYS[0]) == {ON_2}
