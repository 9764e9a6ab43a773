"""Examines single keys in the kernel: which route blocks ours, and whether we have duplicate routes there.

Decides only what the kernel has, never what it should have: our record is corrected, duplicates of ours are deleted,
each by its target, and the RIB is asked again. The kernel cannot look a route up by prefix and metric, so the table is
dumped once for all keys; the longer a dump takes, the longer the pause after it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Protocol

import msgspec

from bgpd.fib.dataplane import Dataplane
from bgpd.fib.group_sources import by_known_sources
from bgpd.fib.ownership import describe
from bgpd.fib.routes import FamilyRoutes
from bgpd.kernel.route_decoder import RouteRun
from bgpd.kernel.route_messages import UNKNOWN, RouteForm, encode_deletes
from bgpd.model.iana import Family
from bgpd.model.kernel import KernelRoute
from bgpd.model.prefix import format_key
from bgpd.runtime.background import start_in_background
from bgpd.runtime.events import log

_FIRST_PAUSE_S = 0.02
"""By then the kernel's notifications have explained nearly all cases, and nothing is left to examine."""
_LAST_PAUSE_S = 30.0
_REST = 10
"""The pause after a dump, in multiples of the dump's length: bounds the cost of a program that fights over a route."""
_LONGEST_REST_S = 10.0
"""Limit of that pause: a dump may have taken long only because the process was stopped or the machine busy."""


class Sight:
    """Routes found in a dump for these keys at our metric: our targets in kernel order, and other programs' routes.
    Ours whose preferred source is not that of its group in `sources` is UNKNOWN.
    """

    def __init__(self, keys: Iterable[bytes], form: RouteForm, sources: Mapping[int, bytes]) -> None:
        self.own: dict[bytes, list[int]] = {}
        self.foreign: dict[bytes, KernelRoute] = {}
        self._keys = frozenset(keys)
        self._form = form
        self._sources = sources

    def add(self, run: RouteRun) -> None:
        """Take in one run of the dump."""
        if run.table != self._form.table or self._keys.isdisjoint(run.keys):
            return
        if run.protocol == self._form.protocol:
            run = by_known_sources(run, self._sources)
        for key, target, metric in zip(run.keys, run.targets, run.metrics):
            if key not in self._keys or metric != self._form.metric:
                continue
            if run.protocol == self._form.protocol:
                self.own.setdefault(key, []).append(target)
            else:
                self.foreign[key] = KernelRoute(
                    family=run.family, key=key, table=run.table, protocol=run.protocol, metric=metric
                )


class Findings(msgspec.Struct):
    """Result of a dump: keys to ask the RIB for, keys to examine again, and duplicate routes of ours by target."""

    asked: list[bytes] = []
    again: list[bytes] = []
    extra: dict[int, list[bytes]] = {}


class ExaminedTable(Protocol):
    """The table whose keys are examined."""

    def blocks(self, family: Family, keys: Collection[bytes]) -> Collection[bytes]:
        """Those of the keys that are known to be blocked by a foreign route."""

    def ask_again(self, family: Family, keys: Sequence[bytes]) -> None:
        """The kernel's routes of these keys are known now; write what is desired."""

    def refused(self, family: Family, keys: Sequence[bytes], why: str) -> None:
        """These are desired, and another route blocks them."""


class Examiner:
    """Keys to be looked at, of one table."""

    def __init__(
        self, dataplane: Dataplane, form: RouteForm, families: Mapping[Family, FamilyRoutes], table: ExaminedTable
    ) -> None:
        self._dataplane = dataplane
        self._form = form
        self._families = families
        self._table = table
        self._keys: dict[Family, set[bytes]] = {family: set() for family in families}
        self._later: dict[Family, set[bytes]] = {family: set() for family in families}
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def add(self, family: Family, keys: Iterable[bytes]) -> None:
        """Examine these keys soon."""
        self._keys[family].update(keys)
        if self._keys[family]:
            self._wake.set()
            if self._task is None:
                self._task = start_in_background(self._run(), "looking at routes again")

    async def stop(self) -> None:
        """Stop examining."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        again_s, rest_s = _FIRST_PAUSE_S, 0.0
        while True:
            try:
                async with asyncio.timeout(again_s if any(self._later.values()) else None):
                    await self._wake.wait()
            except TimeoutError:
                again_s = min(again_s * 2, _LAST_PAUSE_S)
                for family, keys in self._later.items():
                    self._keys[family] |= keys
                    keys.clear()
            self._wake.clear()
            await asyncio.sleep(max(_FIRST_PAUSE_S, rest_s))
            started = loop.time()
            for family in self._families:
                keys, self._keys[family] = self._keys[family], set()
                keys = self._unexplained(family, keys)
                if keys:
                    await self._look(family, keys)
            rest_s = min(_REST * (loop.time() - started), _LONGEST_REST_S)
            if not any(self._later.values()):
                again_s = _FIRST_PAUSE_S

    def _unexplained(self, family: Family, keys: set[bytes]) -> set[bytes]:
        """Without keys whose blocking route has been notified meanwhile."""
        obstructed = keys & self._families[family].obstructed
        known = set(self._table.blocks(family, obstructed)) if obstructed else set()
        if known:
            self._table.ask_again(family, list(known))
        return keys - known

    async def _look(self, family: Family, keys: set[bytes]) -> None:
        sources = self._dataplane.objects.sources
        sight = Sight(keys, self._form, sources)

        def begin() -> Callable[[RouteRun], None]:
            nonlocal sight
            sight = Sight(keys, self._form, sources)
            return sight.add

        everything = RouteForm(self._form.table, 0, self._form.metric)
        try:
            await self._dataplane.reader.routes(family, everything, begin)
        except OSError as error:
            log.warning("fib.dump_failed", family=family.value, error=str(error))
            self._later[family] |= keys
            return
        self._follow(family, self._compare(family, keys, sight))

    def _compare(self, family: Family, keys: Iterable[bytes], sight: Sight) -> Findings:
        routes, findings = self._families[family], Findings()
        dead = self._dataplane.objects.dead
        for key in keys:
            own = sight.own.get(key, [])
            if key in routes.changing:
                findings.again.append(key)
                continue
            believed = routes.installed.get(key)
            if believed is None and own:
                believed = own[0]
                routes.believe(key, believed)
                if routes.adopted:
                    routes.unconfirmed[key] = believed
                else:
                    routes.distrusted.add(key)  # it may have gone since the dump
                findings.asked.append(key)
            elif believed is not None and believed not in own and believed not in dead:
                if key in sight.foreign:
                    routes.believe(key, None)
                    routes.obstructed.add(key)
                    self._explain(family, key, sight.foreign[key], findings)
                    continue
                routes.distrusted.add(key)
                findings.asked.append(key)
                findings.again.append(key)
                if own[:1] == [UNKNOWN]:  # in the way of one by the same group: IPv6 knows no second one
                    findings.extra.setdefault(UNKNOWN, []).append(key)
                continue
            elif key in routes.obstructed:
                self._explain(family, key, sight.foreign.get(key), findings)
            extra = _extra(family, own, believed)
            for target in extra:
                findings.extra.setdefault(target, []).append(key)
            if extra:
                findings.again.append(key)
        return findings

    def _explain(self, family: Family, key: bytes, foreign: KernelRoute | None, findings: Findings) -> None:
        """A route that no notification reported blocks ours, or is gone again."""
        if foreign is None:
            findings.asked.append(key)
            return
        why = describe(foreign)
        if self._families[family].blocked.get(key) != why:
            log.warning("fib.blocked_by_other_route", prefix=format_key(family, key), route=why)
            self._families[family].blocked[key] = why
            self._table.refused(family, [key], why)
        findings.again.append(key)

    def _follow(self, family: Family, findings: Findings) -> None:
        if findings.extra:
            parts = [encode_deletes(family, keys, self._form, target) for target, keys in findings.extra.items()]
            count = sum(map(len, findings.extra.values()))
            log.warning("fib.duplicate_routes_deleted", family=family.value, table=self._form.table, count=count)
            self._dataplane.submit(b"".join(parts), count, lambda _outcome: None)
        if findings.asked:
            self._table.ask_again(family, findings.asked)
        self._later[family].update(findings.again)


def _extra(family: Family, own: Sequence[int], believed: int | None) -> list[int]:
    """Those of our routes of one prefix, in the kernel's order, that are to be deleted, each by its target.

    Of a route by a nexthop object IPv6 compares nothing but the id that a deletion names, if it names one: what has
    none and stands behind such a route cannot be named, and does nothing there.
    """
    by_object = next((index for index, target in enumerate(own) if target > 0), len(own))
    return [
        target
        for index, target in enumerate(own)
        if target != believed
        and (target != UNKNOWN or target == own[0])
        and (target > 0 or family is Family.IPV4_UNICAST or index < by_object)
    ]
