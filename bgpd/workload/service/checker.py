"""When health checks run, and whether a backend is healthy after so many good or bad results in a row.

Each check runs at its interval with jitter, spread over time, only so many at once: a thousand checks are one task and
a heap. `services` decides what health means for a service.
"""

from __future__ import annotations

import asyncio
import heapq
import random
from collections.abc import Awaitable, Callable
from typing import Protocol

import msgspec

from bgpd.model.service import HealthCheck
from bgpd.workload.service.probes import Way
from bgpd.workload.service.targets import CheckId

JITTER = 0.1
"""Part of the interval by which each pause is made shorter or longer."""

Probe = Callable[[HealthCheck, str, Way], Awaitable[str]]


class _Running:
    """A check that is being run at intervals."""

    __slots__ = ("address", "check", "way")

    def __init__(self, check: HealthCheck, address: str, way: Way) -> None:
        self.check = check
        self.address = address
        self.way = way


class Checks(Protocol):
    """Who runs checks (`Checker`). Results come back to who made it, by the id."""

    def start(self, id: CheckId, check: HealthCheck, address: str, way: Way) -> None:
        """Check from now on; the first time within one interval. Replaces a check of the same id."""

    def stop(self, id: CheckId) -> None:
        """No result of this check counts any more."""


class Checker:
    """Runs checks until cancelled: `result` gets what `probe(check, address, way)` answers, "" or why it failed."""

    def __init__(self, probe: Probe, *, concurrency: int, result: Callable[[CheckId, str], None]) -> None:
        self._probe = probe
        self._concurrency = concurrency
        self._result = result
        self._running: dict[CheckId, _Running] = {}
        self._due: list[tuple[float, CheckId, _Running]] = []
        self._wake = asyncio.Event()

    def start(self, id: CheckId, check: HealthCheck, address: str, way: Way) -> None:
        """Check from now on; the first time within one interval. Replaces a check of the same id."""
        running = self._running[id] = _Running(check, address, way)
        self._plan(id, running, random.uniform(0, min(check.interval_s, 1.0)))

    def stop(self, id: CheckId) -> None:
        """No result of this check counts any more."""
        self._running.pop(id, None)

    def _plan(self, id: CheckId, running: _Running, pause_s: float) -> None:
        heapq.heappush(self._due, (asyncio.get_running_loop().time() + pause_s, id, running))
        if self._due[0][1] == id:
            self._wake.set()

    async def run(self) -> None:
        """Run what is due, for ever."""
        slots = asyncio.Semaphore(self._concurrency)
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as group:
            while True:
                pause = self._due[0][0] - loop.time() if self._due else None
                if pause is None or pause > 0:
                    await self._sleep(pause)
                    continue
                _, id, running = heapq.heappop(self._due)
                if self._running.get(id) is running:
                    await slots.acquire()
                    group.create_task(self._check(id, running, slots))

    async def _sleep(self, pause: float | None) -> None:
        self._wake.clear()
        try:
            async with asyncio.timeout(pause):
                await self._wake.wait()
        except TimeoutError:
            pass

    async def _check(self, id: CheckId, running: _Running, slots: asyncio.Semaphore) -> None:
        try:
            reason = await self._probe(running.check, running.address, running.way)
        finally:
            slots.release()
        if self._running.get(id) is running:
            self._plan(id, running, running.check.interval_s * random.uniform(1 - JITTER, 1 + JITTER))
            self._result(id, reason)


class Health(msgspec.Struct, eq=False):
    """The health of one checked address.

    `healthy` is None until `rise` good or `fall` bad results came in a row. `reason` is the latest bad result's,
    `since` when `healthy` took its value (wall clock, seconds). `is_of_before`: a process that crashed has left it, and
    no check has said anything since.
    """

    rise: int
    fall: int
    healthy: bool | None = None
    reason: str = "not checked yet"
    since: float = 0.0
    streak: int = 0
    is_of_before: bool = False

    @property
    def is_decided(self) -> bool:
        """Whether checks have said something that counts."""
        return self.healthy is not None and not self.is_of_before

    def result(self, reason: str, now: float) -> bool:
        """Take one result, "" for a good one; whether `healthy` changed."""
        good = not reason
        self.is_of_before = False
        self.streak = max(self.streak, 0) + 1 if good else min(self.streak, 0) - 1
        if not good or self.healthy is None:
            self.reason = reason
        if self.healthy is not True and self.streak >= self.rise:
            self._enter(True, now)
            self.reason = ""
            return True
        if self.healthy is not False and -self.streak >= self.fall:
            self._enter(False, now)
            return True
        return False

    def _enter(self, healthy: bool, now: float) -> None:
        self.healthy = healthy
        self.since = now
