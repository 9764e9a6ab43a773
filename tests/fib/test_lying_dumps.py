"""A dump that lacks what stands, as Linux gives them: nothing is written, rewritten, deleted or forgotten for it."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from bgpd.fib import batches
from bgpd.kernel.nexthop_messages import NexthopObject
from bgpd.kernel.route_decoder import RouteRun
from bgpd.kernel.route_messages import RouteForm
from bgpd.model.iana import Family
from tests.fib.fake_kernel import FakeKernel
from tests.fib.harness import LEAF1, LEAF2, V4, Harness, running, two_leaf_kernel

FAR = b"\x20\x0a\x09\xff\x01"
"""In another part of the table."""
KEYS = [b"\x20\x0a\x09\x00" + bytes((n,)) for n in range(50)]


class LyingKernel(FakeKernel):
    """Its next `lies` dumps of routes, or of nexthop objects, lack all of them."""

    lies = 0
    nexthop_lies = 0

    async def dumped(self, family: Family, form: RouteForm) -> list[RouteRun]:
        found = await super().dumped(family, form)
        if self.lies and found:
            self.lies -= 1
            return []
        return found

    async def nexthops(self) -> list[NexthopObject]:
        found = await super().nexthops()
        if self.nexthop_lies and found:
            self.nexthop_lies -= 1
            return []
        return found


def lying_kernel() -> LyingKernel:
    kernel = LyingKernel()
    kernel.links, kernel.monitor = (honest := two_leaf_kernel()).links, honest.monitor
    return kernel


async def reconciled(it: Harness) -> None:
    it.fib.upkeep.reconcile()
    await asyncio.sleep(0)
    await it.settle()


async def test_comparison_and_search_that_lack_routes_repair_nothing() -> None:
    kernel = lying_kernel()
    async with running(kernel) as it:
        it.want(dict.fromkeys(KEYS, (LEAF1,)))
        await it.settle()
        for lies in (1, 2):
            kernel.lies = lies
            await reconciled(it)
            assert not kernel.lies
        assert it.fib.counters.repaired == 0


async def test_route_that_is_gone_is_repaired_though_another_dump_lacks_more() -> None:
    kernel = lying_kernel()
    async with running(kernel) as it:
        it.want(dict.fromkeys(KEYS, (LEAF1,)))
        await it.settle()
        place = next(place for place in kernel.routes if place[2] == KEYS[7])
        del kernel.routes[place]
        kernel.lies = 2
        await reconciled(it)
        assert place in kernel.routes
        assert it.fib.counters.repaired == 1


async def test_nexthop_objects_that_a_dump_lacks_are_asked_for_by_id() -> None:
    kernel = lying_kernel()
    async with running(kernel) as it:
        it.want(dict.fromkeys(KEYS, (LEAF1,)))
        await it.settle()
        written, objects = it.fib.counters.messages, dict(kernel.objects)
        kernel.nexthop_lies = 1
        it.dataplane.upkeep.verify()
        await it.settle()
        await asyncio.sleep(0.05)
        assert not kernel.nexthop_lies
        assert kernel.objects == objects
        assert it.fib.counters.messages == written


async def test_what_the_dump_of_the_start_lacked_is_found_after_the_sweep() -> None:
    kernel = lying_kernel()
    async with running(kernel) as it:
        it.want(dict.fromkeys(KEYS, (LEAF1,)))
        await it.settle()
    hidden = {place: kernel.routes.pop(place) for place in list(kernel.routes) if place[2] in KEYS[:20]}
    second = Harness(kernel)
    await second.fib.start()
    try:
        kernel.routes.update(hidden)
        second.fib.sweep()
        for _ in range(5):
            await second.settle()
        assert not [place for place in kernel.routes if place[0] is V4 and place[2] in KEYS]
    finally:
        await second.fib.stop()


class ChangingKernel(LyingKernel):
    """One of which routes are dumped while neighbors change theirs."""

    during: Callable[[], None] | None = None
    dumps = 0

    async def dumped(self, family: Family, form: RouteForm) -> list[RouteRun]:
        self.dumps += family is V4
        during, self.during = self.during, None
        if during is None:
            return await super().dumped(family, form)
        found = await super().dumped(family, form)
        during()
        for _ in range(10):
            await asyncio.sleep(0)
        return found


def changing_kernel() -> ChangingKernel:
    kernel = ChangingKernel()
    kernel.links, kernel.monitor = (honest := two_leaf_kernel()).links, honest.monitor
    return kernel


@pytest.mark.parametrize("most", [1_000, 2])
async def test_what_neighbors_change_during_a_comparison_is_no_drift(
    most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "_WATCHED", most)
    kernel = changing_kernel()
    new = [bytes((32, 10, 99, 0, number)) for number in range(20)]
    async with running(kernel) as it:
        it.want(dict.fromkeys([*KEYS, FAR], (LEAF1,)))
        await it.settle()
        lost = next(place for place in kernel.routes if place[2] == FAR)
        del kernel.routes[lost]

        def change() -> None:
            it.want(dict.fromkeys(KEYS[:3], (LEAF2,)) | dict.fromkeys(KEYS[3:6]) | dict.fromkeys(new, (LEAF2,)))

        kernel.during = change
        await reconciled(it)
        await it.settle()
        assert it.fib.counters.repaired == 1
        assert lost in kernel.routes


def stream(it: Harness, number: int) -> Callable[[], None]:
    """What neighbors change during a comparison: another route comes, another one moves."""
    changes = {bytes((32, 10, 99, 0, number)): (LEAF2,), KEYS[1]: (LEAF1, LEAF2)[number % 2 :]}
    return functools.partial(it.want, changes)


@asynccontextmanager
async def one_is_lost() -> AsyncIterator[tuple[Harness, ChangingKernel, Callable[[], bool]]]:
    """A table of which the kernel has lost a route unheard, and whether it is there again."""
    kernel = changing_kernel()
    async with running(kernel) as it:
        it.want(dict.fromkeys(KEYS, (LEAF1,)))
        await it.settle()
        lost = next(place for place in kernel.routes if place[2] == KEYS[0])
        del kernel.routes[lost]
        yield it, kernel, lambda: lost in kernel.routes


async def test_routes_that_a_dump_lacks_since_they_came_during_it_are_searched_for_now_and_then_only() -> None:
    """In a steady stream each comparison would take three dumps; one that is really gone is found in the end."""
    async with one_is_lost() as (it, kernel, is_back):
        dumps = []
        for number in range(12):
            before = kernel.dumps
            kernel.during = stream(it, number)
            assert await it.fib.upkeep._compare(V4)
            await it.settle()
            dumps.append(kernel.dumps - before)
        assert dumps[:5] == dumps[6:11] == [1] * 5
        assert dumps[5] > 2
        assert dumps[11] > 1
        assert it.fib.counters.repaired == 1
        assert is_back()


async def test_comparisons_that_find_nothing_use_up_nothing_of_what_a_stream_may_explain() -> None:
    kernel = changing_kernel()
    async with running(kernel) as it:
        it.want(dict.fromkeys(KEYS, (LEAF1,)))
        await it.settle()
        for _ in range(6):
            assert await it.fib.upkeep._compare(V4)
        before = kernel.dumps
        kernel.during = stream(it, 0)
        assert await it.fib.upkeep._compare(V4)
        assert kernel.dumps == before + 1
        await it.settle()


async def test_what_is_missing_is_searched_for_in_a_stream_too_where_somebody_asked_for_the_comparison() -> None:
    """As after notifications that were lost, or for routes that another process has left."""
    async with one_is_lost() as (it, kernel, is_back):
        kernel.during = stream(it, 0)
        assert await it.fib.upkeep._compare(V4)
        await it.settle()
        assert not is_back()
        kernel.during = stream(it, 1)
        await reconciled(it)
        assert is_back()
        assert it.fib.counters.repaired == 1


async def test_what_is_on_its_way_when_a_comparison_begins_is_no_drift() -> None:
    kernel = lying_kernel()
    async with running(kernel) as it:
        it.want(dict.fromkeys(KEYS[:4], (LEAF1,)))
        await it.settle()
        kernel.bulk.hold()
        it.want(dict.fromkeys(KEYS[4:], (LEAF1,)) | {KEYS[0]: (LEAF2,), KEYS[1]: None})
        for _ in range(10):
            await asyncio.sleep(0)
        it.fib.upkeep.reconcile()
        for _ in range(30):
            await asyncio.sleep(0)
        kernel.bulk.release()
        await it.settle()
        assert it.fib.counters.repaired == 0
