"""When checks run, in simulated time; rise and fall."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections import Counter
from collections.abc import AsyncIterator

from hypothesis import given
from hypothesis import strategies as st

from bgpd.model.service import CheckType, HealthCheck
from bgpd.workload.service.checker import JITTER, Checker, Health
from bgpd.workload.service.probes import ANY_WAY, Way
from bgpd.workload.service.targets import CheckId
from tests.clocks import in_simulated_time

CHECK = HealthCheck(type=CheckType.TCP, port=1, interval_s=10.0, timeout_s=5.0)
ONE, OTHER = ("s", "a", "x"), ("s", "b", "y")


class Run:
    """A checker whose probes take `duration_s`, and what it told: when, what, which answer."""

    def __init__(self, *, concurrency: int = 64, duration_s: float = 0.0) -> None:
        self.results: list[tuple[float, CheckId, str]] = []
        self.now = self.most = 0
        self.duration_s = duration_s
        self.checker = Checker(self._probe, concurrency=concurrency, result=self._result)

    def _result(self, id: CheckId, reason: str) -> None:
        self.results.append((asyncio.get_running_loop().time(), id, reason))

    async def _probe(self, check: HealthCheck, address: str, way: Way) -> str:
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(self.duration_s)
        self.now -= 1
        return "" if address == "good" else "bad"

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.checker.run())
        yield
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def test_each_check_runs_at_its_interval_and_tells_its_result() -> None:
    async def work() -> Run:
        run = Run()
        async with run.running():
            run.checker.start(ONE, CHECK, "good", ANY_WAY)
            run.checker.start(OTHER, CHECK, "other", ANY_WAY)
            await asyncio.sleep(100)
        return run

    run = in_simulated_time(work())
    assert {(id, reason) for _, id, reason in run.results} == {(ONE, ""), (OTHER, "bad")}
    for check in (ONE, OTHER):
        times = [time for time, id, _ in run.results if id == check]
        pauses = [after - before for before, after in itertools.pairwise(times)]
        assert len(pauses) >= 8
        assert all(10 * (1 - JITTER) <= pause <= 10 * (1 + JITTER) for pause in pauses)
        assert len(set(pauses)) > 1


def test_stopped_check_tells_nothing_any_more() -> None:
    async def work() -> Run:
        run = Run(duration_s=5.0)
        async with run.running():
            run.checker.start(ONE, CHECK, "good", ANY_WAY)
            await asyncio.sleep(2)
            assert run.now == 1
            run.checker.stop(ONE)
            await asyncio.sleep(100)
        return run

    assert in_simulated_time(work()).results == []


def test_replaced_check_runs_once() -> None:
    async def work() -> Run:
        run = Run()
        async with run.running():
            for _ in range(3):
                run.checker.start(ONE, CHECK, "good", ANY_WAY)
            await asyncio.sleep(99)
        return run

    run = in_simulated_time(work())
    assert 9 <= Counter(id for _, id, _ in run.results)[ONE] <= 11


def test_only_so_many_run_at_once() -> None:
    async def work() -> Run:
        run = Run(concurrency=5, duration_s=0.5)
        async with run.running():
            for number in range(50):
                run.checker.start(("s", str(number), "x"), CHECK, "good", ANY_WAY)
            await asyncio.sleep(8)
        return run

    run = in_simulated_time(work())
    assert run.most == 5
    assert len({id for _, id, _ in run.results}) == 50


def test_rise_good_results_in_a_row_make_healthy_and_fall_bad_ones_unhealthy() -> None:
    health = Health(rise=2, fall=3)
    assert [health.result(r, now) for now, r in enumerate(["", "x", "", ""])] == [False, False, False, True]
    assert (health.healthy, health.reason, health.since) == (True, "", 3)
    assert [health.result("refused", now) for now in (4, 5, 6)] == [False, False, True]
    assert (health.healthy, health.reason, health.since) == (False, "refused", 6)


def test_unknown_until_enough_results_came() -> None:
    health = Health(rise=2, fall=2)
    health.result("", 1)
    assert health.healthy is None
    health.result("no", 2)
    assert (health.healthy, health.reason) == (None, "no")
    assert health.result("no", 3)
    assert health.healthy is False


@given(st.integers(1, 4), st.integers(1, 4), st.lists(st.booleans(), max_size=40))
def test_changes_only_after_as_many_results_in_a_row_as_configured(rise: int, fall: int, results: list[bool]) -> None:
    health = Health(rise=rise, fall=fall)
    for index, good in enumerate(results):
        before = health.healthy
        changed = health.result("" if good else "bad", index)
        assert changed is (health.healthy is not before)
        if changed:
            run = rise if health.healthy else fall
            assert results[index + 1 - run : index + 1] == [health.healthy] * run
