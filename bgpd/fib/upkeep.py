"""Keeps one table true to what is believed of it: takes over what an earlier run left, and compares on drift and by
timer.

Decides only which keys are suspect; what they should be is the RIB's, and the FIB writes it. A million routes are
read and compared in a worker thread, run by run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

import structlog

from bgpd.fib import reconciler
from bgpd.fib.dataplane import Dataplane
from bgpd.fib.dump import RouteRun
from bgpd.fib.family_routes import FamilyRoutes
from bgpd.fib.reconciler import Stray
from bgpd.fib.route_messages import RouteForm
from bgpd.model.iana import Family

log = structlog.get_logger()


class Repairs(Protocol):
    """What acts on what was found."""

    def repair(self, family: Family, keys: list[bytes]) -> None:
        """The kernel holds something else for these keys."""

    def delete_strays(self, family: Family, strays: Iterable[Stray]) -> None:
        """The kernel holds routes of ours with another metric: (key, metric)."""


class Upkeep:
    """Adoption and reconciliation of one table; set `reconcile_now` to compare soon."""

    def __init__(
        self,
        dataplane: Dataplane,
        form: RouteForm,
        families: Mapping[Family, FamilyRoutes],
        interval_s: float,
        repairs: Repairs,
    ) -> None:
        self.reconcile_now = asyncio.Event()
        self._dataplane = dataplane
        self._form = form
        self._families = families
        self._interval_s = interval_s
        self._repairs = repairs

    async def adopt(self, family: Family) -> list[Stray]:
        """Believe what the kernel holds of ours; returns (key, metric) of routes of ours with another metric."""
        adoption = reconciler.Adoption(self._form)

        def begin() -> Callable[[RouteRun], None]:
            nonlocal adoption
            adoption = reconciler.Adoption(self._form)
            return adoption.add

        await self._dataplane.reader.routes(family, self._form, begin)
        routes = self._families[family]
        routes.installed = adoption.installed
        routes.direct.update(adoption.direct)
        for target, count in adoption.counts.items():
            self._dataplane.nexthops.count_routes(target, count)
        if adoption.installed:
            routes.adopted = True
            log.info("fib.adopted", family=family.value, table=self._form.table, routes=len(adoption.installed))
        return adoption.strays

    async def run(self) -> None:
        """Compare whenever asked to, and at each interval; until cancelled."""
        while True:
            try:
                async with asyncio.timeout(self._interval_s):
                    await self.reconcile_now.wait()
            except TimeoutError:
                self._dataplane.verify()
            self.reconcile_now.clear()
            for family in self._families:
                try:
                    await self.reconcile(family)
                except OSError as error:
                    log.warning("fib.reconcile_failed", family=family.value, error=str(error))
                await self._shrink(self._families[family])

    async def _shrink(self, routes: FamilyRoutes) -> None:
        """Give back the room that a burst took. Never during a comparison, whose thread reads the same dicts."""
        for table in (routes.installed, routes.blocked):
            for _ in table.shrink():
                await asyncio.sleep(0)

    async def reconcile(self, family: Family) -> None:
        """Compare one family with the kernel, and have repaired what differs."""
        installed = self._families[family].installed
        comparison = reconciler.Comparison(installed, self._form)

        def begin() -> Callable[[RouteRun], None]:
            nonlocal comparison
            comparison = reconciler.Comparison(installed, self._form)
            return comparison.add

        await self._dataplane.reader.routes(family, self._form, begin)
        suspects = comparison.suspects
        incomplete = comparison.incomplete(sum(self._dataplane.nexthops.dead.values()))
        if incomplete:
            suspects += await self._search(family, incomplete)
        if suspects:
            self._repairs.repair(family, suspects)
        self._repairs.delete_strays(family, comparison.strays)

    async def _search(self, family: Family, parts: list[dict[bytes, int]]) -> list[bytes]:
        installed = self._families[family].installed
        search = reconciler.Search(installed, self._form, parts)

        def begin() -> Callable[[RouteRun], None]:
            nonlocal search
            search = reconciler.Search(installed, self._form, parts)
            return search.add

        await self._dataplane.reader.routes(family, self._form, begin)
        return search.missing()
