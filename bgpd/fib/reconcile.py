"""Reconciles one kernel table with our record of it: adopts routes of an earlier run, deletes those that nobody wants,
and compares by timer and on demand.

Only finds suspects: each is rewritten as it is desired now, so that a prefix that changed during the dump costs one
redundant write and never a wrong route. Routes are read and compared in a worker thread, run by run and as columns, so
that a million correct routes cost a few C calls.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import compress, repeat

import msgspec

from bgpd.fib.batches import ChangedMeanwhile, TableWriter
from bgpd.fib.dataplane import Dataplane
from bgpd.fib.group_sources import by_known_sources
from bgpd.fib.rechecks import SLICE
from bgpd.fib.routes import FamilyRoutes
from bgpd.fib.saved import KnownTable
from bgpd.kernel.route_decoder import RouteRun
from bgpd.kernel.route_messages import LAST_RESORT_METRIC, RouteForm, encode_deletes
from bgpd.model.containers import ShardedDict
from bgpd.model.iana import Family
from bgpd.model.kernel import KernelRoute
from bgpd.runtime.background import start_in_background
from bgpd.runtime.events import log
from bgpd.runtime.rates import Share

_REPAIRS_REPORTED_S = 10.0
"""Repairs are summed up for this time, so that a program that fights over a route for hours does not fill the log."""
_EXPLAINED_MOST = 5
"""So many comparisons by timer in a row may leave missing routes unsearched, since what was written during the dump may
explain how many they are. One that was asked for may not: there is a reason to think that some are missing."""
_PARTS = 100
"""Comparing by timer takes a hundredth of a processor at most: where a million routes take 2 s, they are not compared
each minute but every 200 s."""
_NONE: Mapping[int, bytes] = {}
Stray = tuple[bytes, int]
"""Key and metric of a route of ours with another metric than ours."""
Lacking = list[tuple[dict[bytes, int], int]]
"""Parts of our record, and how many routes of each were not in a dump."""


class Comparison:
    """Compares a dump with our record. `suspects`: keys whose target in the kernel differs from the recorded one, or
    whose preferred source is not that of its group in `sources`.
    """

    def __init__(self, installed: ShardedDict[int], form: RouteForm, sources: Mapping[int, bytes] = _NONE) -> None:
        self.suspects: list[bytes] = []
        self.strays: list[Stray] = []
        self._present = dict.fromkeys(map(id, installed.parts), 0)
        self._installed = installed
        self._form = form
        self._sources = sources

    def add(self, run: RouteRun) -> None:
        """Take in one run of the dump."""
        run = by_known_sources(_own_part(run, self._form, self.strays), self._sources)
        believed = self._installed.get_all(run.keys)
        known: Sequence[bytes] = run.keys
        if believed != list(run.targets):
            known = [key for key, belief in zip(run.keys, believed) if belief is not None]
            self.suspects += [key for key, target, belief in zip(run.keys, run.targets, believed) if belief != target]
        for part, chosen in self._installed.split(known):
            self._present[id(part)] += len(chosen)

    def lacking(self) -> Lacking:
        """Parts with fewer routes in the kernel than recorded, and by how many."""
        found = [(part, len(part) - self._present[id(part)]) for part in self._installed.parts]
        return [(part, lack) for part, lack in found if lack > 0]

    def unexplained(self, lacking: Lacking, changed: Sequence[bytes]) -> Lacking:
        """What lacks beyond as many routes of each part as there are among the `changed` keys, which were written
        during the dump. Takes a tenth of a second for very many: not for the event loop."""
        explained = {id(part): len(keys) for part, keys in self._installed.split(changed)}
        found = [(part, lack - explained.get(id(part), 0)) for part, lack in lacking]
        return [(part, lack) for part, lack in found if lack > 0]


def to_search(lacking: Lacking, flushed: int) -> list[dict[bytes, int]]:
    """The parts in which routes are missing; none if `flushed` (known to be gone) explains all."""
    return [part for part, _lack in lacking] if sum(lack for _part, lack in lacking) > flushed else []


class Search:
    """`missing`: recorded routes that no run of the dump had, of the parts that have fewer routes than recorded."""

    def __init__(self, installed: ShardedDict[int], form: RouteForm, parts: list[dict[bytes, int]]) -> None:
        self._installed = installed
        self._form = form
        self._unseen = {id(part): part.copy() for part in parts}

    def add(self, run: RouteRun) -> None:
        """Take in one run of the dump."""
        run = _own_part(run, self._form, [])
        for part, chosen in self._installed.split(run.keys):
            unseen = self._unseen.get(id(part))
            if unseen:
                deque(map(unseen.pop, chosen, repeat(None)), maxlen=0)

    def missing(self) -> list[bytes]:
        """Keys to be written again."""
        return [key for part in self._unseen.values() for key in part]


class Adoption:
    """What an earlier run left: the routes, `direct` ones by interface index, strays.

    `doubles`: keys that may have two routes of ours in the kernel; the last one read is used. `sources`: the preferred
    sources of the routes by each group.
    """

    def __init__(self, form: RouteForm) -> None:
        self.installed: ShardedDict[int] = ShardedDict()
        self.doubles: list[bytes] = []
        self._counts: Counter[int] = Counter()
        self.direct: defaultdict[int, set[bytes]] = defaultdict(set)
        self.strays: list[Stray] = []
        self.sources: defaultdict[int, set[bytes]] = defaultdict(set)
        self._form = form

    def add(self, run: RouteRun) -> None:
        """Take in one run of the dump."""
        run = _own_part(run, self._form, self.strays)
        for target, source in set(zip(run.targets, run.sources)):
            self.sources[target].add(source)
        for target, count in Counter(run.targets).items():
            keys = run.keys
            if count != len(keys):
                keys = [key for key, found in zip(keys, run.targets) if found == target]
            size = len(self.installed)
            self.installed.set_all(keys, target)
            if len(self.installed) - size < len(keys):
                self.doubles += keys
            self._counts[target] += count
            if not run.sources:
                self.sources[target].add(b"")
            if target < 0:
                self.direct[-target].update(keys)

    def tell(self, installed: ShardedDict[int], counts: Counter[int], sources: Mapping[int, bytes]) -> None:
        """These are the routes, by what another process knows."""
        self.installed, self._counts = installed, counts
        for target in counts:
            self.sources[target].add(sources.get(target, b""))
        for part in installed.parts:
            if any(target < 0 for target in set(part.values())):
                for key, target in part.items():
                    if target < 0:
                        self.direct[-target].add(key)

    def counts(self) -> Mapping[int, int]:
        """Routes per target."""
        return Counter(self.installed.values()) if self.doubles else self._counts


def _own_part(run: RouteRun, form: RouteForm, strays: list[Stray]) -> RouteRun:
    """The routes of a run that have our metric; the others of ours are appended to `strays`."""
    if run.protocol != form.protocol or run.table != form.table:
        return msgspec.structs.replace(run, keys=(), targets=(), metrics=(), sources=())
    if run.metrics.count(form.metric) == len(run.metrics):
        return run
    ours = [metric == form.metric for metric in run.metrics]
    strays += [
        (key, metric)
        for key, metric, own in zip(run.keys, run.metrics, ours)
        if not own and metric != LAST_RESORT_METRIC
    ]
    keys, targets = list(compress(run.keys, ours)), list(compress(run.targets, ours))
    sources = list(compress(run.sources, ours))
    return msgspec.structs.replace(run, keys=keys, targets=targets, metrics=(form.metric,) * len(keys), sources=sources)


class Upkeep:
    """Reconciles one table with the kernel: adoption, sweep, comparison and repair.

    `is_uncompared`: what another process has left was not compared with the kernel yet.
    """

    def __init__(self, writer: TableWriter, dataplane: Dataplane, interval_s: float) -> None:
        self._writer = writer
        self._form = writer.form
        self._families = writer.families
        self._dataplane = dataplane
        self._interval_s = interval_s
        self._share = Share(_PARTS)
        self._reconcile_now = asyncio.Event()
        self._running: asyncio.Task[None] | None = None
        self._waiting: asyncio.Task[None] | None = None
        self._strays: dict[Family, list[Stray]] = {}
        self._is_told = self.is_uncompared = False
        self._compared = asyncio.Event()
        self._explained: Counter[Family] = Counter()
        self._repairs_reported, self._repairs_reported_at = 0, -_REPAIRS_REPORTED_S

    # The start, and its end.

    async def adopt(self, known: KnownTable | None = None) -> None:
        """Adopt our routes that the kernel has, or that it has as far as another process knows. Raises: OSError: it
        refused a dump."""
        is_known = known is not None and known.is_of(self._form)
        self._is_told = self.is_uncompared = is_known
        self._dataplane.upkeep.unread.add(self._form.table)
        found = {
            family: self._known(known, family) if known is not None and is_known else await self._read(family)
            for family in self._families
        }
        former = self._dataplane.stopped.pop(self._form.table, None)
        for _ in () if former is None else former():
            await asyncio.sleep(0)
        for family, adoption in found.items():  # once all were read: a table that cannot be had holds no group
            self._take(family, adoption)
        self._dataplane.upkeep.unread.discard(self._form.table)

    def _known(self, known: KnownTable, family: Family) -> Adoption:
        objects = self._dataplane.objects
        adoption = Adoption(self._form)
        adoption.tell(*known.installed(family, objects.groups.keys() | objects.leftovers), known.saved.sources)
        return adoption

    async def _read(self, family: Family) -> Adoption:
        adoption = Adoption(self._form)

        def begin() -> Callable[[RouteRun], None]:
            nonlocal adoption
            adoption = Adoption(self._form)
            return adoption.add

        await self._dataplane.reader.routes(family, self._form, begin)
        return adoption

    def _take(self, family: Family, adoption: Adoption) -> None:
        routes = self._families[family]
        routes.installed = adoption.installed
        routes.direct.update(adoption.direct)
        self._dataplane.objects.sources_observed(adoption.sources)
        for target, count in adoption.counts().items():
            self._dataplane.objects.count_routes(target, count)
        if adoption.installed:
            routes.adopted, routes.unconfirmed = True, adoption.installed.copy()
            log.info("fib.adopted", family=family.value, table=self._form.table, routes=len(adoption.installed))
        if adoption.doubles:
            self._writer.examiner.add(family, adoption.doubles)
        self._strays[family] = adoption.strays

    def sweep(self) -> None:
        """The first state is complete: delete adopted routes that nobody wants, in slices."""
        writer = self._writer
        writer.swept = True
        if any(routes.adopted for routes in self._families.values()) and not self._is_told:
            self._compare_when_idle()  # the dump of the start may have lacked some
        for family, routes in self._families.items():
            if routes.unconfirmed:
                writer.rechecks.add(family, routes.unconfirmed.slices(SLICE))
                routes.unconfirmed = ShardedDict()
            routes.adopted = False
        for family, strays in self._strays.items():
            self._delete_strays(family, strays)
        self._strays.clear()

    def compare_known(self) -> None:
        """Compare what another process has left, if so, once what differs from what is desired now is written."""
        if self.is_uncompared:
            self._compare_when_idle()

    async def compared(self) -> None:
        """Wait until what another process has left, if so, was compared."""
        if self.is_uncompared:
            await self._compared.wait()

    def _compare_when_idle(self) -> None:
        if self._waiting is None or self._waiting.done():
            self._waiting = start_in_background(self._wait_until_idle(), "waiting to compare a table with the kernel")

    async def _wait_until_idle(self) -> None:
        await self._writer.idle()
        self.reconcile()

    def stray_made(self, route: KernelRoute) -> None:
        """Another program has made a route by our protocol, with another metric: a lower one would be used in place of
        ours. Before the sweep all are found by a comparison."""
        if self._writer.swept and route.metric != LAST_RESORT_METRIC:
            self._delete_strays(route.family, [(route.key, route.metric)])

    def _delete_strays(self, family: Family, strays: Iterable[Stray]) -> None:
        """Delete routes of ours with another metric than the configured one, once the first state is complete."""
        if not self._writer.swept:
            self._strays[family] = list(strays)
            return
        for key, metric in strays:
            form = RouteForm(self._form.table, self._form.protocol, metric)
            self._dataplane.submit(encode_deletes(family, [key], form), 1, lambda _outcome: None)

    # Comparison.

    def start(self) -> None:
        """Compare from now on, by timer and when asked to."""
        self._running = start_in_background(self._run(), "comparing a table with the kernel")

    async def stop(self) -> None:
        """Stop comparing."""
        tasks = [task for task in (self._running, self._waiting) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def reconcile(self) -> None:
        """Compare the kernel's table with our record, soon."""
        self._reconcile_now.set()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                async with asyncio.timeout(max(self._interval_s, self._share.pause_s(loop.time()))):
                    await self._reconcile_now.wait()
            except TimeoutError:
                self._dataplane.upkeep.verify()
            if self._reconcile_now.is_set():
                self._explained = Counter(dict.fromkeys(self._families, _EXPLAINED_MOST))
            self._reconcile_now.clear()
            are_compared = True
            for family in self._families:
                try:
                    are_compared &= await self._compare(family)
                except OSError as error:
                    are_compared = False
                    log.warning("fib.reconcile_failed", family=family.value, error=str(error))
                await self._shrink(self._families[family])
            self._share.rest(loop.time())
            if are_compared and self.is_uncompared:
                self.is_uncompared = False
                self._compared.set()
                log.info("fib.compared", table=self._form.table, repaired=self._writer.counters.repaired)

    async def _shrink(self, routes: FamilyRoutes) -> None:
        """Give back the room that a burst took. Never during a comparison, whose thread reads the same dicts."""
        for table in (routes.installed, routes.blocked):
            for _ in table.shrink():
                await asyncio.sleep(0)

    async def _compare(self, family: Family) -> bool:
        """Compare one family with the kernel, and repair what differs; False: too much changed meanwhile."""
        meanwhile = self._writer.watch(family)
        try:
            suspects, strays = await self._differences(family, meanwhile)
        finally:
            self._writer.unwatch(family)
        if meanwhile.are_too_many:
            self._compare_when_idle()
            return False
        suspects = [key for key in suspects if key not in meanwhile.keys]
        if suspects and not self._writer.swept:
            suspects = self._wanted_or_known(family, suspects)
        if suspects:
            self.repair(family, suspects)
        self._delete_strays(family, strays)
        return True

    def _wanted_or_known(self, family: Family, suspects: Sequence[bytes]) -> list[bytes]:
        """Without routes that nobody wants so far, and of which the former process did not know: a comparison after the
        sweep is for them."""
        installed = self._families[family].installed
        found = [key for key in suspects if key in installed or self._writer.desired(family, key) is not None]
        self._is_told &= len(found) == len(suspects)
        return found

    async def _differences(self, family: Family, meanwhile: ChangedMeanwhile) -> tuple[list[bytes], list[Stray]]:
        """Differences between the kernel and our record; both may change during the dump."""
        installed = self._families[family].installed
        sources = self._dataplane.objects.sources
        comparison = Comparison(installed, self._form, sources)

        def begin() -> Callable[[RouteRun], None]:
            nonlocal comparison
            comparison = Comparison(installed, self._form, sources)
            return comparison.add

        await self._dataplane.reader.routes(family, self._form, begin, share=self._share)
        suspects = comparison.suspects
        incomplete = await self._incomplete(family, comparison, meanwhile)
        if incomplete:
            suspects += await self._missing(family, incomplete)
        return suspects, comparison.strays

    async def _incomplete(
        self, family: Family, comparison: Comparison, meanwhile: ChangedMeanwhile
    ) -> list[dict[bytes, int]]:
        """The parts of the table to search for missing routes. In a steady stream of changes every dump lacks some that
        came during it: two further dumps for these, of a million routes each, would be most of what bgpd does."""
        if meanwhile.are_too_many:
            return []
        flushed, lacking = sum(self._dataplane.objects.dead.values()), comparison.lacking()
        parts = to_search(lacking, flushed)
        if parts and self._explained[family] < _EXPLAINED_MOST:
            left = await asyncio.to_thread(comparison.unexplained, lacking, list(meanwhile.keys))
            if not to_search(left, flushed):
                self._explained[family] += 1
                return []
            parts = to_search(left, flushed)
        self._explained[family] = 0
        return parts

    async def _missing(self, family: Family, parts: list[dict[bytes, int]]) -> list[bytes]:
        """Keys that several dumps in a row lack: a single dump may lack existing routes (decision 10)."""
        missing = await self._search(family, parts)
        if missing:
            again = frozenset(await self._search(family, parts))
            missing = [key for key in missing if key in again]
        return missing

    async def _search(self, family: Family, parts: list[dict[bytes, int]]) -> list[bytes]:
        installed = self._families[family].installed
        search = Search(installed, self._form, parts)

        def begin() -> Callable[[RouteRun], None]:
            nonlocal search
            search = Search(installed, self._form, parts)
            return search.add

        await self._dataplane.reader.routes(family, self._form, begin, share=self._share)
        return search.missing()

    def repair(self, family: Family, keys: list[bytes]) -> None:
        """The kernel has other routes for these than recorded: write them again, and examine them."""
        self.write_again(family, keys)
        self._writer.examiner.add(family, keys)

    def write_again(self, family: Family, keys: list[bytes]) -> None:
        """Another program changed these: write them as desired, whatever our record says."""
        counters, now = self._writer.counters, asyncio.get_running_loop().time()
        counters.repaired += len(keys)
        if now >= self._repairs_reported_at + _REPAIRS_REPORTED_S:
            routes = counters.repaired - self._repairs_reported
            self._repairs_reported, self._repairs_reported_at = counters.repaired, now
            log.warning("fib.repairing", family=family.value, table=self._form.table, routes=routes)
        self._writer.rechecks.add(family, [keys], distrust=True)
