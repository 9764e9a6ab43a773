"""When a table is compared with the kernel, what is told of it, and what a kernel that refuses costs."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable

import pytest

from bgpd.fib import reconcile
from bgpd.kernel.route_decoder import RouteRun
from bgpd.kernel.route_messages import LAST_RESORT_METRIC, RouteForm
from bgpd.model.iana import Family
from tests.fib.fake_kernel import FakeKernel
from tests.fib.harness import LEAF1, V4, Harness, running, two_leaf_kernel
from tests.fib.test_reconcile import A, B, C, run
from tests.logs import capture_logs
from tests.waiting import until

KEYS = [b"\x20\x0a\x09\x00" + bytes((number,)) for number in range(4)]


class Dumping(FakeKernel):
    """Counts dumps of routes; refuses the next `refusals`."""

    def __init__(self) -> None:
        super().__init__()
        self.links, self.monitor = (like := two_leaf_kernel()).links, like.monitor
        self.dumps: list[Family] = []
        self.refusals = 0

    async def dumped(self, family: Family, form: RouteForm) -> list[RouteRun]:
        self.dumps.append(family)
        if self.refusals:
            self.refusals -= 1
            raise OSError(errno.ENOBUFS, "no room")
        return await super().dumped(family, form)


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
        assert place not in kernel.routes
        it.fib.upkeep.reconcile()
        await until(lambda: place in kernel.routes)
        assert it.fib.counters.repaired == 1


async def test_by_the_timer_nexthop_objects_are_compared_too_and_when_asked_routes_alone() -> None:
    kernel = Dumping()
    asked: list[None] = []
    async with running(kernel, reconcile_interval_s=3600) as it:
        it.dataplane.verify = lambda: asked.append(None)  # type: ignore[method-assign]
        before = len(kernel.dumps)
        it.fib.upkeep.reconcile()
        await until(lambda: len(kernel.dumps) > before)
        assert asked == []
    async with running(kernel, reconcile_interval_s=0) as it:
        it.dataplane.verify = lambda: asked.append(None)  # type: ignore[method-assign]
        await until(lambda: len(asked) > 1)


async def test_who_waits_for_a_comparison_that_is_none_waits_for_nothing() -> None:
    async with running() as it:
        assert not it.fib.upkeep.is_uncompared
        await asyncio.wait_for(it.fib.upkeep.compared(), 5)
        it.fib.upkeep.compare_known()
        assert it.fib.upkeep._waiting is None


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
