"""When a table is compared with the kernel, what is told of it, and what a kernel that refuses costs."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable

import pytest

from bgpd.fib import batches, reconcile
from bgpd.fib.batches import ChangedMeanwhile
from bgpd.kernel.route_decoder import RouteRun
from bgpd.kernel.route_messages import LAST_RESORT_METRIC, RouteForm
from bgpd.model.iana import Family
from bgpd.model.kernel import KernelRoute
from tests.fib.fake_kernel import METRIC, PROTOCOL, FakeKernel
from tests.fib.harness import LEAF1, V4, V6, Harness, running, two_leaf_kernel
from tests.fib.test_lying_dumps import changing_kernel
from tests.fib.test_reconcile import A, B, C, run
from tests.fib.test_saved import left, succeeded
from tests.logs import capture_logs
from tests.waiting import until

KEYS = [b"\x20\x0a\x09\x00" + bytes((number,)) for number in range(4)]


class Dumping(FakeKernel):
    """Counts dumps of routes; refuses the next `refusals`. `twice`: each route is in them twice."""

    def __init__(self) -> None:
        super().__init__()
        self.links, self.monitor = (like := two_leaf_kernel()).links, like.monitor
        self.dumps: list[Family] = []
        self.refusals = 0
        self.twice = False

    async def dumped(self, family: Family, form: RouteForm) -> list[RouteRun]:
        self.dumps.append(family)
        if self.refusals:
            self.refusals -= 1
            raise OSError(errno.ENOBUFS, "no room")
        found = await super().dumped(family, form)
        return found + found if self.twice else found


def lines(logs: list[dict[str, object]], event: str) -> list[dict[str, object]]:
    return [line for line in logs if line["event"] == event]


async def test_repairs_are_told_at_once_then_summed_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running() as it:
        it.want(dict.fromkeys(KEYS, (LEAF1,)))
        await it.settle()
        with capture_logs() as logs:
            it.fib.upkeep.write_again(V4, KEYS[:2])
            it.fib.upkeep.write_again(V4, KEYS[2:])
            it.fib.upkeep.write_again(V4, KEYS[:1])
            assert [line["routes"] for line in lines(logs, "fib.repairing")] == [2]
            monkeypatch.setattr(reconcile, "_REPAIRS_REPORTED_S", 0.0)
            it.fib.upkeep.write_again(V4, KEYS[:1])
        told = lines(logs, "fib.repairing")
        assert [line["routes"] for line in told] == [2, 4]
        assert {(line["family"], line["table"], line["log_level"]) for line in told} == {(V4.value, 254, "warning")}
        assert it.fib.counters.repaired == 6
        await it.settle()


async def test_a_dump_that_is_refused_is_told_and_the_next_comparison_repairs() -> None:
    kernel = Dumping()
    async with running(kernel) as it:
        it.want(dict.fromkeys(KEYS, (LEAF1,)))
        await it.settle()
        place = next(place for place in kernel.routes if place[2] == KEYS[1])
        del kernel.routes[place]
        kernel.refusals = 1
        with capture_logs() as logs:
            it.fib.upkeep.reconcile()
            await until(lambda: not kernel.refusals)
            await it.settle()
        assert [line["family"] for line in lines(logs, "fib.reconcile_failed")] == [V4.value]
        assert lines(logs, "fib.compared") == [], "no other process has left anything"
        assert place not in kernel.routes
        it.fib.upkeep.reconcile()
        await until(lambda: place in kernel.routes)
        assert it.fib.counters.repaired == 1


async def test_by_the_timer_nexthop_objects_are_compared_too_and_when_asked_routes_alone() -> None:
    kernel = Dumping()
    asked: list[None] = []
    async with running(kernel, reconcile_interval_s=3600) as it:
        it.dataplane.upkeep.verify = lambda: asked.append(None)  # type: ignore[method-assign]
        before = len(kernel.dumps)
        it.fib.upkeep.reconcile()
        await until(lambda: len(kernel.dumps) > before)
        assert asked == []
    async with running(kernel, reconcile_interval_s=0) as it:
        it.dataplane.upkeep.verify = lambda: asked.append(None)  # type: ignore[method-assign]
        await until(lambda: len(asked) > 1)


async def test_who_waits_for_a_comparison_that_is_none_waits_for_nothing() -> None:
    async with running() as it:
        assert not it.fib.upkeep.is_uncompared
        await asyncio.wait_for(it.fib.upkeep.compared(), 5)
        it.fib.upkeep.compare_known()
        assert it.fib.upkeep._waiting is None


async def test_who_waits_for_a_comparison_goes_on_once_all_families_were_compared() -> None:
    kernel = Dumping()
    async with succeeded(kernel, await left(kernel)) as it:
        waiting = asyncio.create_task(it.fib.upkeep.compared())
        kernel.refusals = 1
        with capture_logs() as logs:
            it.fib.upkeep.compare_known()
            await until(lambda: kernel.dumps[-2:] == [V4, V6] and not kernel.refusals)
            await it.settle()
            assert it.fib.upkeep.is_uncompared
            assert not waiting.done()
            it.fib.upkeep.reconcile()
            await until(waiting.done)
        assert not it.fib.upkeep.is_uncompared
        assert [line["table"] for line in lines(logs, "fib.compared")] == [254]


async def test_a_comparison_within_which_too_much_changed_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "_WATCHED", -1)
    kernel = changing_kernel()
    seen: list[bool] = []
    async with succeeded(kernel, await left(kernel)) as it:

        def change() -> None:
            """While the first family is dumped; the second one is left alone, and then the first comes again."""
            it.want(dict.fromkeys(KEYS, (LEAF1,)))
            kernel.during = leave

        def leave() -> None:
            kernel.during = lambda: seen.append(it.fib.upkeep.is_uncompared)

        kernel.during = change
        it.fib.upkeep.reconcile()
        await until(lambda: not it.fib.upkeep.is_uncompared)
        assert seen == [True]


async def test_what_is_written_after_a_comparison_is_kept_in_mind_no_more() -> None:
    async with running() as it:
        seen: list[ChangedMeanwhile] = []
        watch = it.fib.writer.watch

        def watched(family: Family) -> ChangedMeanwhile:
            seen.append(watch(family))
            return seen[-1]

        it.fib.writer.watch = watched  # type: ignore[method-assign]
        assert await it.fib.upkeep._compare(V4)
        it.want(dict.fromkeys(KEYS, (LEAF1,)))
        await it.settle()
        assert [one.keys for one in seen] == [set()]


async def test_only_what_an_earlier_run_has_left_is_compared_at_the_sweep() -> None:
    kernel = Dumping()
    async with running(kernel) as it:
        it.want(dict.fromkeys(KEYS, (LEAF1,)))
        await it.settle()
        before = len(kernel.dumps)
        it.fib.sweep()
        await it.settle()
        assert len(kernel.dumps) == before
    async with running(kernel) as it:
        it.want(dict.fromkeys(KEYS, (LEAF1,)))
        before = len(kernel.dumps)
        it.fib.sweep()
        await until(lambda: kernel.dumps[before:] == [V4, V6])


async def test_keys_that_are_read_twice_and_those_that_are_repaired_are_looked_at() -> None:
    kernel = Dumping()
    async with running(kernel) as it:
        it.want(dict.fromkeys(KEYS[:2], (LEAF1,)))
        await it.settle()
    for twice in (False, True):
        kernel.twice = twice
        it, asked = Harness(kernel), set[bytes]()
        it.fib.writer.examiner.add = lambda _family, keys, asked=asked: asked.update(keys)  # type: ignore[method-assign]
        await it.fib.start()
        assert asked == (set(KEYS[:2]) if twice else set())
        asked.clear()
        kernel.twice = False
        it.want(dict.fromkeys(KEYS[:2], (LEAF1,)))
        await it.settle()
        del kernel.routes[V4, 254, KEYS[1], METRIC]
        assert await it.fib.upkeep._compare(V4)
        assert asked == {KEYS[1]}
        await it.settle()
        await it.fib.stop()


async def test_before_the_sweep_what_is_known_or_wanted_is_repaired() -> None:
    kernel = Dumping()
    known, wanted, unknown = KEYS[:3]
    async with running(kernel) as it:
        it.want(dict.fromkeys((known, KEYS[3]), (LEAF1,)))
        await it.settle()
    async with running(kernel) as it:
        target = kernel.routes.pop((V4, 254, known, METRIC))
        assert await it.fib.upkeep._compare(V4)
        assert it.fib.counters.repaired == 1, "nobody wants it so far, but it was there"
        for key in (known, wanted, unknown):
            kernel.routes[V4, 254, key, METRIC] = target
        it.owner.wish("", V4, {wanted: (LEAF1,)})
        assert await it.fib.upkeep._compare(V4)
        assert it.fib.counters.repaired == 2
        await it.settle()
        assert (V4, 254, unknown, METRIC) in kernel.routes
        assert wanted in it.fib.families[V4].installed


async def test_what_waits_to_compare_ends_with_the_table() -> None:
    it = Harness(two_leaf_kernel())
    await it.fib.start()
    it.want(dict.fromkeys(KEYS, (LEAF1,)))
    it.fib.upkeep._compare_when_idle()
    first = it.fib.upkeep._waiting
    it.fib.upkeep._compare_when_idle()
    assert it.fib.upkeep._waiting is first, "one is enough"
    running_task = it.fib.upkeep._running
    await it.fib.stop()
    assert first is not None
    assert running_task is not None
    assert first.done()
    assert running_task.done()


async def stray_after(start: Callable[[Harness], None]) -> tuple[bool, Dumping]:
    """Whether a route of ours with another metric is left, once `start` was called."""
    kernel = Dumping()
    async with running(kernel, metric=50) as it:
        it.want({KEYS[0]: (LEAF1,)})
        await it.settle()
    it = Harness(kernel)
    await it.fib.start()
    start(it)
    await it.settle()
    await it.fib.stop()
    return any(place[2] == KEYS[0] for place in kernel.routes), kernel


async def test_routes_with_another_metric_go_with_the_sweep_and_not_before() -> None:
    assert (await stray_after(lambda it: it.fib.upkeep.reconcile()))[0]
    assert not (await stray_after(lambda it: it.fib.sweep()))[0]


async def test_a_stray_that_comes_later_is_found_and_deleted_once_and_not_before_the_sweep() -> None:
    kernel = Dumping()
    async with running(kernel) as it:
        it.want({KEYS[0]: (LEAF1,)})
        await it.settle()
        stray, like = (V4, 254, KEYS[1], 50), kernel.routes[V4, 254, KEYS[0], METRIC]
        kernel.routes[stray] = like
        assert await it.fib.upkeep._compare(V4)
        await it.settle()
        assert stray in kernel.routes
        sent = it.dataplane.messages
        for _ in range(2):
            it.fib.sweep()
            await it.settle()
            assert stray not in kernel.routes
            assert it.dataplane.messages == sent + 1
        kernel.routes[stray] = like
        assert await it.fib.upkeep._compare(V4)
        await it.settle()
        assert stray not in kernel.routes


async def test_a_stray_that_the_kernel_tells_of_is_deleted_at_once() -> None:
    """With a lower metric it would be used in place of bgpd's, until the next comparison."""
    kernel = Dumping()
    async with running(kernel) as it:
        it.want({KEYS[0]: (LEAF1,)})
        await it.settle()
        (_, target) = kernel.routes[V4, 254, KEYS[0], METRIC]

        async def is_left(table: int, metric: int) -> bool:
            kernel.replace_by_other_hand(V4, KEYS[0], target, table=table, metric=metric)
            await it.settle()
            return (V4, table, KEYS[0], metric) in kernel.routes

        assert await is_left(254, METRIC - 1), "before the sweep it may be of an earlier run"
        it.fib.sweep()
        await it.settle()
        assert not await is_left(254, METRIC - 1)
        assert await is_left(254, LAST_RESORT_METRIC)
        assert await is_left(99, METRIC - 1)
        sent = it.dataplane.messages
        of_a_type = KernelRoute(family=V4, key=KEYS[0], table=254, protocol=PROTOCOL, metric=METRIC - 1, tos=16)
        for callback in kernel.monitor.own_route_changed:
            callback(of_a_type, False)
        await it.settle()
        assert it.dataplane.messages == sent, "a deletion that names no type of service would be for another route"
        assert kernel.routes[V4, 254, KEYS[0], METRIC] == (PROTOCOL, target)


def test_routes_of_the_last_resort_are_no_strays() -> None:
    comparison = reconcile.Comparison(type(reconcile.Adoption(FORM).installed)(), FORM)
    comparison.add(run((A, 1), metric=LAST_RESORT_METRIC))
    comparison.add(run((B, 1), metric=50))
    assert comparison.strays == [(B, 50)]


FORM = RouteForm(254, 197, 20)


def test_runs_of_another_table_or_protocol_are_nothing_of_ours() -> None:
    for form in (RouteForm(255, 197, 20), RouteForm(254, 196, 20)):
        adoption = reconcile.Adoption(form)
        adoption.add(run((A, 1), (C, 2)))
        assert (dict(adoption.installed), adoption.strays) == ({}, [])


def test_a_run_of_both_metrics_is_divided() -> None:
    mixed = run((A, 1), (B, 2), (C, 3))
    mixed = type(mixed)(*[getattr(mixed, name) for name in mixed.__struct_fields__[:6]], [20, 50, 20])
    adoption = reconcile.Adoption(FORM)
    adoption.add(mixed)
    assert dict(adoption.installed) == {A: 1, C: 3}
    assert adoption.strays == [(B, 50)]
    assert adoption.counts() == {1: 1, 3: 1}
