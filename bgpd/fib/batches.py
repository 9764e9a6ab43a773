"""Slices of what waits for one table become batches of kernel messages, and the kernel's answers are attributed.

Decides which error belongs to which route, and when what failed is tried again. What a route should be, and what
follows from an answer, others decide (routes.py, table.py).

Keys whose wishes are to be asked for again: many at once, slice by slice, never ahead of the kernel by much.

Decides only the pace. What is asked of the RIB, and what is done with the answer, is the caller's.
"""

from __future__ import annotations

import asyncio
import functools
import sys
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Protocol

import structlog

from bgpd.fib.dataplane import Dataplane
from bgpd.fib.guard import Block
from bgpd.fib.routes import FamilyRoutes, Plan, WishOf
from bgpd.fib.views import FibCounters
from bgpd.kernel.netlink import MessageKind
from bgpd.kernel.route_messages import RouteForm, encode_adds, encode_deletes, read_key
from bgpd.kernel.writer import Outcome
from bgpd.model.iana import Family
from bgpd.runtime.turns import soon

log = structlog.get_logger()

BATCH = 2048
_RETRY_FIRST_S = 0.1
_RETRY_LAST_S = 30.0
_ESRCH = 3


class WriterEvents(Protocol):
    """What follows from the kernel's answers."""

    def acknowledged(self, family: Family, keys: Sequence[bytes]) -> None:
        """The kernel forwards these as wished."""

    def refused(self, family: Family, keys: Sequence[bytes], why: str) -> None:
        """These are wished and not written, or the kernel refused them."""

    def direct_routes_written(self) -> None:
        """The kernel has other directly attached routes of ours than before."""

    def fate_unknown(self, family: Family, keys: Sequence[bytes]) -> None:
        """Whether the kernel deleted these is unknown."""

    def try_again(self) -> None:
        """What failed is due to be tried again."""

    def batch_done(self) -> None:
        """A batch is done, and all that follows from it has been told."""


class TableWriter:
    """Writes one table. `in_flight` counts batches that the kernel has not answered."""

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
        self._retry_delay_s = _RETRY_FIRST_S

    def stop(self) -> None:
        """Try nothing again."""
        if self._retry is not None:
            self._retry.cancel()

    def write(
        self, family: Family, *, wish_of: WishOf, blocked: Callable[[Collection[bytes]], Mapping[bytes, Block]]
    ) -> None:
        """Take one slice of what waits, and submit what it needs."""
        plan = self._families[family].plan(BATCH, wish_of=wish_of, blocked=blocked)
        self.count()
        if plan.settled:
            self._events.acknowledged(family, plan.settled)
        if plan.adds or plan.deletes:
            self._submit(family, plan)
        for why, keys in plan.refused.items():
            if keys:
                self._events.refused(family, keys, why)

    def _submit(self, family: Family, plan: Plan) -> None:
        parts = []
        count = len(plan.deletes)
        if plan.deletes:
            parts.append(encode_deletes(family, plan.deletes, self._form))
        for target, keys in plan.adds:
            parts.append(encode_adds(family, keys, target, self._form))
            count += len(keys)
        self.in_flight += 1
        self._counters.batches += 1
        self._counters.messages += count
        self._dataplane.submit(b"".join(parts), count, functools.partial(self._written, family, plan))

    def _written(self, family: Family, plan: Plan, outcome: Outcome) -> None:
        """A batch is done: attribute its errors, tell what the kernel has."""
        self.in_flight -= 1
        failed = self._failed(family, plan, outcome)
        for target, keys in plan.adds:
            good: Sequence[bytes] = keys
            if failed:
                good = [key for key in keys if key not in failed]
                self._refuse(family, target, {key: failed[key] for key in keys if key in failed})
            if good:
                self._events.acknowledged(family, good)
        if any(target < 0 for target, _keys in plan.adds):
            self._events.direct_routes_written()
        if failed:
            key, why = next(iter(failed.items()))
            log.warning("fib.routes_failed", count=len(failed), first=key.hex(), error=why)
            self._retry_later()
        elif not any(table.failed for table in self._families.values()):
            self._retry_delay_s = _RETRY_FIRST_S
        self.count()
        self._events.batch_done()

    def _failed(self, family: Family, plan: Plan, outcome: Outcome) -> dict[bytes, str]:
        """Routes that were not written, and why; a route that was to go and was not there is gone."""
        failed: dict[bytes, str] = {}
        for error in outcome.errors:
            kind = int.from_bytes(error.request[4:6], sys.byteorder)
            if kind == MessageKind.NEW_ROUTE:
                failed[read_key(error.request)[1]] = str(error)
            elif kind == MessageKind.DEL_ROUTE and error.code != _ESRCH:
                log.warning("fib.delete_failed", key=read_key(error.request)[1].hex(), error=str(error))
                self._families[family].distrusted.add(read_key(error.request)[1])
        if outcome.lost:
            log.error("fib.batch_lost", error=outcome.lost)
            self._events.fate_unknown(family, plan.deletes)
            return dict.fromkeys([key for _target, keys in plan.adds for key in keys], outcome.lost)
        return failed

    def _refuse(self, family: Family, target: int, failed: Mapping[bytes, str]) -> None:
        """The kernel's words on routes by one target."""
        by_reason: dict[str, list[bytes]] = {}
        for key, why in failed.items():
            self._families[family].refuse(key, target, why)
            by_reason.setdefault(why, []).append(key)
        for why, keys in by_reason.items():
            self._events.refused(family, keys, why)

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
