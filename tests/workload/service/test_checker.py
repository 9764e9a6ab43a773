"""When checks run."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter

from bgpd.model.service import CheckType, HealthCheck
from bgpd.workload.service.checker import Checker, CheckId

CHECK = HealthCheck(type=CheckType.TCP, port=1, interval_s=0.1, timeout_s=0.1)


class Run:
    def __init__(self, *, concurrency: int = 64, duration_s: float = 0.0) -> None:
        self.results: list[tuple[CheckId, str]] = []
        self.now = self.most = 0
        self.duration_s = duration_s
        self.checker = Checker(
            self._probe, concurrency=concurrency, result=lambda id, reason: self.results.append((id, reason))
        )

    async def _probe(self, check: HealthCheck, address: str, device: str) -> str:
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(self.duration_s)
        self.now -= 1
        return "" if address == "good" else "bad"

    async def run(self, seconds: float) -> None:
        task = asyncio.create_task(self.checker.run())
        await asyncio.sleep(seconds)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_each_check_runs_at_its_interval_and_tells_its_result() -> None:
    run = Run()
    run.checker.start(("s", "a", "x"), CHECK, "good", "")
    run.checker.start(("s", "b", "y"), CHECK, "other", "")
    await run.run(0.65)
    assert dict(run.results) == {("s", "a", "x"): "", ("s", "b", "y"): "bad"}
    assert all(4 <= count <= 9 for count in Counter(id for id, _ in run.results).values())


async def test_stopped_check_tells_nothing_any_more() -> None:
    run = Run(duration_s=0.05)
    run.checker.start(("s", "a", "x"), CHECK, "good", "")
    task = asyncio.create_task(run.run(0.4))
    await asyncio.sleep(0.2)
    run.checker.stop(("s", "a", "x"))
    told = len(run.results)
    await task
    assert len(run.results) == told


async def test_replaced_check_runs_once() -> None:
    run = Run()
    for _ in range(3):
        run.checker.start(("s", "a", "x"), CHECK, "good", "")
    await run.run(0.35)
    assert len(run.results) <= 5


async def test_only_so_many_run_at_once() -> None:
    run = Run(concurrency=5, duration_s=0.02)
    for i in range(50):
        run.checker.start(("s", str(i), "x"), CHECK, "good", "")
    await run.run(0.4)
    assert run.most == 5
    assert len({id for id, _ in run.results}) == 50
