"""Slices of what waits for one table become batches of kernel messages, and the kernel's answers are attributed.

Decides which error belongs to which route, and when what failed is tried again. What a route should be, and what
follows from an answer, others decide (routes.py, table.py).

Keys whose wishes are to be asked for again: many at once, slice by slice, never ahead of the kernel by much.

Decides only the pace. What is asked of the RIB, and what is done with the answer, is the caller's.
"""

from __future__ import annotations

import asyncio
import errno
import functools
import itertools
import sys
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Protocol

import structlog

from bgpd.fib.dataplane import Dataplane
from bgpd.fib.guard import Block
from bgpd.fib.routes import Change, FamilyRoutes, Plan, WishOf
from bgpd.fib.views import FibCounters
from bgpd.kernel.netlink import MessageKind
from bgpd.kernel.route_messages import RouteForm, encode_adds, encode_deletes, is_there_already, read_key
from bgpd.kernel.writer import Outcome
from bgpd.model.iana import Family
from bgpd.model.prefix import format_key
from bgpd.runtime.turns import soon

log = structlog.get_logger()

BATCH = 2048
_RETRY_FIRST_S = 0.1
_RETRY_LAST_S = 30.0
_ESRCH = 3
OCCUPIED = "another route of the prefix and of bgpd's metric is in the kernel"


class WriterEvents(Protocol):
    """What follows from the kernel's answers."""

    def acknowledged(self, family: Family, keys: Sequence[bytes]) -> None:
        """The kernel forwards these as wished."""

    def refused(self, family: Family, keys: Sequence[bytes], why: str) -> None:
        """These are wished and not written, or the kernel refused them."""

    def direct_routes_written(self) -> None:
        """The kernel has other directly attached routes of ours than before."""

    def examine(self, family: Family, keys: Sequence[bytes]) -> None:
        """What the kernel has of these is not known: a route in their place, or the fate of ours."""

    def fate_unknown(self, family: Family, keys: Sequence[bytes]) -> None:
        """What the kernel made of these is unknown."""

    def ask_again(self, family: Family, keys: Sequence[bytes]) -> None:
        """What is wished of these waited for a change that is done."""

    def try_again(self) -> None:
        """What failed is due to be tried again."""

    def batch_done(self) -> None:
        """A batch is done, and all that follows from it has been told."""


class TableWriter:
    """Writes one table. `in_flight` counts batches that the kernel has not answered.

    A change of routes takes two: the new ones are appended, and those before them deleted when that has worked.
    """

    def __init__(
        self,
        dataplane: Dataplane,
        form: RouteForm,
        families: Mapping[Family, FamilyRoutes],
        counters: FibCounters,
        events: WriterEvents,
    ) -> None:
        self.in_flight = 0
        self._dataplane = dataplane
        self._form = form
        self._families = families
        self._counters = counters
        self._events = events
        self._retry: asyncio.TimerHandle | None = None
        self._ended: asyncio.Future[None] | None = None
        self._retry_delay_s = _RETRY_FIRST_S

    async def stop(self) -> None:
        """Try nothing again, and wait for what is under way: a change that is half done leaves two routes."""
        if self._retry is not None:
            self._retry.cancel()
        if self.in_flight:
            self._ended = asyncio.get_running_loop().create_future()
            await self._ended

    def write(
        self, family: Family, *, wish_of: WishOf, blocked: Callable[[Collection[bytes]], Mapping[bytes, Block]]
    ) -> None:
        """Take one slice of what waits, and submit what it needs."""
        plan = self._families[family].plan(BATCH, wish_of=wish_of, blocked=blocked)
        self.count()
        if plan.settled:
            self._events.acknowledged(family, plan.settled)
        if plan.adds or plan.changes or plan.deletes:
            self._submit_plan(family, plan)
        for why, keys in plan.refused.items():
            if keys:
                self._events.refused(family, keys, why)

    def _submit_plan(self, family: Family, plan: Plan) -> None:
        parts = []
        count = len(plan.deletes)
        if plan.deletes:
            parts.append(encode_deletes(family, plan.deletes, self._form))
        for target, keys in plan.adds:
            parts.append(encode_adds(family, keys, target, self._form))
            count += len(keys)
        for change in plan.changes:
            parts.append(encode_adds(family, change.keys, change.target, self._form, append=True))
            count += len(change.keys)
        self._submit(parts, count, functools.partial(self._written, family, plan))

    def _submit(self, parts: list[bytes], count: int, done: Callable[[Outcome], None]) -> None:
        self.in_flight += 1
        self._counters.batches += 1
        self._counters.messages += count
        self._dataplane.submit(b"".join(parts), count, done)

    def _written(self, family: Family, plan: Plan, outcome: Outcome) -> None:
        """A batch is done: attribute its errors, tell what the kernel has."""
        self.in_flight -= 1
        failed = self._failed(family, plan.deletes, outcome)
        if outcome.lost:
            written = [keys for _target, keys in plan.adds] + [change.keys for change in plan.changes]
            failed = dict.fromkeys(itertools.chain.from_iterable(written), outcome.lost)
            self._events.examine(family, list(failed))
        elif failed:
            self._pass_standing(family, plan.changes, failed)
        for target, keys in plan.adds:
            good: Sequence[bytes] = keys
            if failed:
                good = [key for key in keys if key not in failed]
                for key in () if outcome.lost else self._outdated(family, target, keys, failed):
                    del failed[key]
                self._refuse(family, {key: (failed[key], target, None) for key in keys if key in failed})
            if good:
                self._events.acknowledged(family, good)
        for change in plan.changes:
            self._appended(family, change, failed, lost=bool(outcome.lost))
        if any(target < 0 for target, _keys in plan.adds) or any(change.target < 0 for change in plan.changes):
            self._events.direct_routes_written()
        self._tell_failed(family, failed)
        if any(why != OCCUPIED for why in failed.values()):
            self._retry_later()
        elif not any(table.failed for table in self._families.values()):
            self._retry_delay_s = _RETRY_FIRST_S
        self._batch_done()

    def _outdated(self, family: Family, target: int, keys: Sequence[bytes], failed: Mapping[bytes, str]) -> list[bytes]:
        """Those of the failed routes that nobody waits for: another target was wished meanwhile, or theirs was lost
        before they came to the kernel. These are as routes that went with it: the wish that follows writes them.
        """
        found = [key for key in keys if failed.get(key, OCCUPIED) != OCCUPIED]
        if self._dataplane.nexthops.is_lost(target):
            return found
        installed = self._families[family].installed
        return [key for key in found if installed.get(key) != target]

    def _pass_standing(self, family: Family, changes: Iterable[Change], failed: dict[bytes, str]) -> None:
        """Take from `failed` what was written once more, in case that the kernel had dropped it, and still stands.

        IPv6 refuses a direct route where one by the same interface is, whoever made that. It is believed to be ours as
        before, and looked at.
        """
        for change in changes:
            rewritten = [key for key, before in zip(change.keys, change.before) if before == change.target]
            standing = [key for key in rewritten if failed.get(key) == OCCUPIED]
            for key in standing:
                del failed[key]
            if standing:
                self._events.examine(family, standing)

    def _tell_failed(self, family: Family, failed: Mapping[bytes, str]) -> None:
        for why in dict.fromkeys(failed.values()):
            keys = [key for key, found in failed.items() if found == why]
            event = "fib.routes_obstructed" if why == OCCUPIED else "fib.routes_failed"
            log.warning(event, count=len(keys), first=format_key(family, keys[0]), error=why)

    def _batch_done(self) -> None:
        self.count()
        self._events.batch_done()
        if self._ended is not None and not self.in_flight and not self._ended.done():
            self._ended.set_result(None)

    def _appended(self, family: Family, change: Change, failed: dict[bytes, str], *, lost: bool) -> None:
        """New routes stand behind those that they follow, which go now, each by its target."""
        pairs = list(zip(change.keys, change.before))
        if failed and not lost:
            outdated = set(self._outdated(family, change.target, change.keys, failed))
            for key, before in pairs:
                if key in outdated:
                    self._families[family].stay(key, before)
                    del failed[key]
            self._change_done(family, list(outdated))
            pairs = [(key, before) for key, before in pairs if key not in outdated]
        if failed:
            refused = {key: (failed[key], change.target, before) for key, before in pairs if key in failed}
            self._refuse(family, refused)
            self._change_done(family, list(refused))
            pairs = [(key, before) for key, before in pairs if key not in failed]
        former: dict[int, list[bytes]] = {}
        for key, before in pairs:
            former.setdefault(before, []).append(key)
        self._followed(family, former.pop(change.target, []))
        if former:
            parts = [encode_deletes(family, keys, self._form, before) for before, keys in former.items()]
            keys = list(itertools.chain.from_iterable(former.values()))
            self._submit(parts, len(keys), functools.partial(self._former_deleted, family, keys))

    def _former_deleted(self, family: Family, keys: list[bytes], outcome: Outcome) -> None:
        self.in_flight -= 1
        self._failed(family, keys, outcome)
        self._followed(family, keys)
        self._batch_done()

    def _followed(self, family: Family, keys: list[bytes]) -> None:
        """The kernel forwards by the new routes."""
        if keys:
            self._events.acknowledged(family, keys)
            self._change_done(family, keys)

    def _change_done(self, family: Family, keys: list[bytes]) -> None:
        deferred = self._families[family].change_done(keys)
        if deferred:
            self._events.ask_again(family, deferred)

    def _failed(self, family: Family, deletes: Sequence[bytes], outcome: Outcome) -> dict[bytes, str]:
        """Routes that were not written, and why; a route that was to go and was not there is gone."""
        failed: dict[bytes, str] = {}
        for error in outcome.errors:
            kind = int.from_bytes(error.request[4:6], sys.byteorder)
            key = read_key(error.request)[1]
            if kind == MessageKind.NEW_ROUTE and not is_there_already(error.request, error):
                failed[key] = OCCUPIED if error.code == errno.EEXIST else str(error)
            elif kind == MessageKind.DEL_ROUTE and error.code != _ESRCH:
                log.warning("fib.delete_failed", prefix=format_key(family, key), error=str(error))
                self._families[family].distrusted.add(key)
        if outcome.lost:
            log.error("fib.batch_lost", error=outcome.lost)
            self._events.fate_unknown(family, deletes)
        return failed

    def _refuse(self, family: Family, failed: Mapping[bytes, tuple[str, int, int | None]]) -> None:
        """The kernel refused routes: key -> why, the target, and the target before."""
        by_reason: dict[str, list[bytes]] = {}
        for key, (why, target, before) in failed.items():
            if why == OCCUPIED:
                self._families[family].obstruct(key, why, target=target, before=before)
            else:
                self._families[family].refuse(key, target, why, before=before)
            by_reason.setdefault(why, []).append(key)
        for why, keys in by_reason.items():
            self._events.refused(family, keys, why)
        if OCCUPIED in by_reason:
            self._events.examine(family, by_reason[OCCUPIED])

    def _retry_later(self) -> None:
        if self._retry is None:
            self._retry = asyncio.get_running_loop().call_later(self._retry_delay_s, self._retry_now)
            self._retry_delay_s = min(self._retry_delay_s * 2, _RETRY_LAST_S)

    def _retry_now(self) -> None:
        self._retry = None
        self._events.try_again()

    def count(self) -> None:
        """Bring the counters up to date."""
        tables = self._families.values()
        counters = self._counters
        counters.installed = sum(len(table.installed) for table in tables)
        counters.failed = sum(len(table.failed) for table in tables)
        counters.blocked = sum(len(table.blocked) for table in tables)
        counters.pending = sum(len(table.pending) for table in tables)
        counters.desired = counters.installed + counters.failed + counters.blocked
        counters.nexthop_deletes = self._dataplane.nexthops.deletes


SLICE = 1024
"""Keys asked for at once."""
_STEP_S = 0.002


class Rechecks:
    """`ask(family, keys, distrust)` is called for each slice while `has_room()`; `resume` after it had none."""

    def __init__(self, ask: Callable[[Family, list[bytes], bool], None], *, has_room: Callable[[], bool]) -> None:
        self._ask = ask
        self._has_room = has_room
        self._waiting: deque[tuple[Family, bool, Iterator[list[bytes]]]] = deque()
        self._scheduled = False

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def add(self, family: Family, batches: Iterable[list[bytes]], *, distrust: bool = False) -> None:
        """Ask for all keys of the batches, which are made lazily.

        `distrust`: the kernel holds something else than believed.
        """
        self._waiting.append((family, distrust, _slices(batches)))
        self.resume()

    def resume(self) -> None:
        """Go on, if there is something to ask and room for the answers."""
        if self._waiting and not self._scheduled and self._has_room():
            self._scheduled = True
            soon(self._step)

    def clear(self) -> None:
        """Forget all."""
        self._waiting.clear()

    def _step(self) -> None:
        self._scheduled = False
        deadline = time.perf_counter() + _STEP_S
        while self._waiting and self._has_room() and time.perf_counter() < deadline:
            family, distrust, slices = self._waiting[0]
            keys = next(slices, None)
            if keys is None:
                self._waiting.popleft()
            self._ask(family, keys or [], distrust)
        self.resume()


def _slices(batches: Iterable[list[bytes]]) -> Iterator[list[bytes]]:
    for batch in batches:
        for start in range(0, len(batch), SLICE):
            yield batch[start : start + SLICE]
        if not batch:
            yield batch
