"""Brings the routes of one kernel table to what is desired, batch by batch.

Level-triggered: a change, a failure, a link event, another program's deletion and the timer all end in the same step,
which asks what is desired of a prefix now and writes what differs. targets.py decides what a route points at,
ownership.py whether it may be written, answers.py what the kernel's answers mean. Foreign routes are never touched.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Protocol

import msgspec

from bgpd.config.schema import FibConfig
from bgpd.fib.answers import Answers
from bgpd.fib.dataplane import Dataplane
from bgpd.fib.examine import Examiner
from bgpd.fib.ownership import Ownership
from bgpd.fib.plan import Plan
from bgpd.fib.rechecks import SLICE, Rechecks
from bgpd.fib.routes import FamilyRoutes
from bgpd.fib.targets import Targets
from bgpd.kernel.route_messages import RouteForm, encode_adds, encode_deletes
from bgpd.kernel.writer import Outcome
from bgpd.model.iana import Family
from bgpd.model.next_hop import NextHop, NextHops
from bgpd.model.prefix import format_key
from bgpd.runtime.events import log

BATCH = 2048
_WATCHED = 262_144
"""Written routes that a comparison keeps in mind: with more it would say little, and is done again later."""
_REPORTS_APART_S = 1.0
_BACKLOG = 65536
"""Pending prefixes above which the table stops asking for more by itself."""
_FAMILIES = (Family.IPV4_UNICAST, Family.IPV6_UNICAST)


class TableOwner(Protocol):
    """Who wants routes in tables and is notified of the kernel's answers; a table is named by its VRF."""

    def desired(self, vrf: str, family: Family, key: bytes) -> NextHops | None:
        """The desired next hops of a prefix now; None: no route of ours."""

    def desired_all(self, vrf: str, family: Family, keys: Sequence[bytes]) -> list[NextHops | None]:
        """`desired` of each of these, which may be many."""

    def resolve(self, next_hop: NextHop) -> NextHops:
        """The next hops that a recursive one resolves to now, () if none."""

    def acknowledged(self, vrf: str, family: Family, keys: Sequence[bytes]) -> None:
        """The kernel forwards these as desired."""

    def refused(self, vrf: str, family: Family, keys: Sequence[bytes], why: str) -> None:
        """These are desired, and the kernel does not forward them: it refused them (in its words), a foreign route is
        in their place, or no next hop can be reached. They are tried again, and `acknowledged` when that works."""

    def next_hop_changed(self, vrf: str, next_hop: NextHop, why: str) -> None:
        """A next hop that was asked about can be reached now (""), or no longer, and why."""

    def reserved_changed(self, vrf: str, family: Family, keys: Iterable[bytes]) -> None:
        """Whether the host needs these prefixes for itself may have changed."""

    def backlog_shrank(self) -> None:
        """The backlog became smaller."""


class ChangedMeanwhile(msgspec.Struct):
    """Keys written while the kernel's table was being read; `are_too_many`: `keys` is incomplete."""

    keys: set[bytes]
    are_too_many: bool = False

    def add(self, plan: Plan) -> None:
        """A batch is on its way to the kernel."""
        if len(self.keys) > _WATCHED:
            self.are_too_many = True
        else:
            self.keys.update(plan.written())


class FibCounters(msgspec.Struct):
    """Plain numbers for metrics. Routes: `installed` are those that the kernel has; `pending` wait to be written, or
    are on their way; `desired` are all that are installed, failed, blocked, or on their way.

    Since the start: `repaired` routes that the kernel had lost or held otherwise, `nexthop_deletes` lost gateways,
    `batches` and route `messages` sent.
    """

    desired: int = 0
    installed: int = 0
    pending: int = 0
    failed: int = 0
    blocked: int = 0
    repaired: int = 0
    nexthop_deletes: int = 0
    batches: int = 0
    messages: int = 0


class _Batch(msgspec.Struct, frozen=True, eq=False):
    """A batch that the kernel has not answered. `adds`: routes that it makes; `messages`: those and all others."""

    family: Family
    plan: Plan
    adds: int
    messages: int


class TableWriter:
    """Writes the routes of one kernel table as desired.

    `swept`: what an earlier run left, and nobody wants, is to be deleted. `in_flight` counts batches that the kernel
    has not answered. `kept`: routes that the table itself needs, whatever its owner desires. `source_refused` is called
    with what the kernel refused routes for: it may be their preferred source.
    """

    def __init__(self, config: FibConfig, dataplane: Dataplane, owner: TableOwner, *, vrf: str) -> None:
        self.vrf = vrf
        self.form = RouteForm(config.table, config.protocol, config.metric)
        self.families = {family: FamilyRoutes(dataplane.objects) for family in _FAMILIES}
        self._counters = FibCounters()
        direct = {family: routes.direct for family, routes in self.families.items()}
        self.targets = Targets(dataplane, config.table, direct, owner.resolve, vrf=vrf)
        self.ownership = Ownership(config, dataplane.host, vrf=vrf)
        self.rechecks = Rechecks(self.ask_again, has_room=lambda: self.has_room)
        self.examiner = Examiner(dataplane, self.form, self.families, self)
        self.kept: dict[Family, dict[bytes, NextHops]] = {family: {} for family in _FAMILIES}
        self.in_flight = 0
        self.swept = False
        self.withdrawing = False
        self._answers = Answers(self.form, self.families, dataplane.objects, self.examiner, self)
        self._dataplane = dataplane
        self._owner = owner
        self._batches: list[_Batch] = []
        self._watched: dict[Family, ChangedMeanwhile] = {}
        self._blocked_count = self._displaced_count = 0
        self._blocked_reported_at = -_REPORTS_APART_S
        self._blocked_report: asyncio.TimerHandle | None = None
        self._unsettled = False
        self._lost: frozenset[bytes] = frozenset()
        self._wrote: Family | None = None
        self._ended: asyncio.Future[None] | None = None
        self.source_refused: Callable[[Family, str], None] = lambda _family, _why: None
        self._idle_waiters: list[asyncio.Future[None]] = []

    async def stop(self) -> None:
        """Begin nothing more, and wait for what is under way: a change that is half done leaves two routes."""
        await self.examiner.stop()
        self.rechecks.clear()
        self._answers.stop()
        if self._blocked_report is not None:
            self._blocked_report.cancel()
        if self.in_flight:
            self._ended = asyncio.get_running_loop().create_future()
            await self._ended

    def forget(self) -> Iterator[None]:
        """Another one adopts the table: stepping, what is recorded here holds no group any more."""
        for routes in self.families.values():
            yield from routes.forget()

    # What is desired.

    def update(self, family: Family, changes: Mapping[bytes, NextHops | None], *, is_first: bool = False) -> None:
        """These are desired now (None: no route of ours). Written in the next turn, if there is room; `is_first`: ahead
        of what waits."""
        if self.families[family].adopted:
            self.families[family].unconfirmed.discard_all(list(changes))
        self.update_learned(family, changes, is_first=is_first)

    def update_learned(
        self, family: Family, changes: Mapping[bytes, NextHops | None], *, is_first: bool = False
    ) -> None:
        """`update`, for learned routes: until the sweep an adopted route keeps its next hops, since some neighbors may
        not have sent their routes yet. It follows once they agree with it.
        """
        if self.targets.services:
            self.targets.end_services(family, changes)
        kept = self.kept[family]
        if kept and not kept.keys().isdisjoint(changes):
            changes = {key: kept.get(key, hops) for key, hops in changes.items()}
        self.families[family].pending.merge(changes, is_first=is_first)
        self._dataplane.write_soon(self)

    def confirm(self, family: Family, changes: dict[bytes, NextHops | None]) -> dict[bytes, NextHops | None]:
        """`update_learned`, for keys of one part of the table of which most are there as they are desired to be, as
        another process has left them: answers the others, which are to be updated."""
        kept = self.kept[family]
        if self.withdrawing or self.targets.services or kept or self.ownership.blocked(family, changes.keys()):
            return changes
        return self.families[family].confirm(changes, self.targets.target_of(family))

    def keep(self, family: Family, routes: Mapping[bytes, NextHops]) -> None:
        """Routes that the table itself needs: the copies of a VRF's connected networks."""
        former, self.kept[family] = self.kept[family], dict(routes)
        self.requeue(family, [key for key in former.keys() | routes.keys() if former.get(key) != routes.get(key)])

    def desired(self, family: Family, key: bytes) -> NextHops | None:
        """What is desired of a prefix now: by the table itself, else by its owner."""
        if self.withdrawing:
            return None
        kept = self.kept[family].get(key)
        return self._owner.desired(self.vrf, family, key) if kept is None else kept

    def desired_all(self, family: Family, keys: Sequence[bytes]) -> list[NextHops | None]:
        """`desired` of each of these."""
        if self.withdrawing:
            return [None] * len(keys)
        desired, kept = self._owner.desired_all(self.vrf, family, keys), self.kept[family]
        if kept and not kept.keys().isdisjoint(keys):
            return [kept.get(key, hops) for key, hops in zip(keys, desired)]
        return desired

    def requeue(self, family: Family, keys: Iterable[bytes]) -> None:
        """Write what is desired of these now, also before the sweep."""
        chosen = list(keys)
        self.update(family, dict(zip(chosen, self.desired_all(family, chosen))))

    def ask_again(self, family: Family, keys: Sequence[bytes], *, distrust: bool = False) -> None:
        """Write what is desired of these; before the sweep, adopted routes that nobody wants stay.

        `distrust`: even if our record says that the kernel has it.
        """
        desired = dict(zip(keys, self.desired_all(family, keys)))
        unconfirmed = self.families[family].unconfirmed
        if not self.swept:
            desired = {key: hops for key, hops in desired.items() if hops is not None or key not in unconfirmed}
        if distrust:
            self.families[family].distrusted.update(desired)
        self.update_learned(family, desired)
        self.wake_idle()

    def try_again(self) -> None:
        """Failed routes are due for a retry, and those that the kernel may have otherwise than it is known."""
        for family, routes in self.families.items():
            if routes.failed or routes.distrusted:
                others = sorted(routes.distrusted.difference(routes.failed))
                self.rechecks.add(family, [[*routes.failed, *others]])

    def recheck_unsettled(self) -> None:
        """Routes by groups that died or lack members, failed ones and blocked ones: a link came up, next hops lead
        elsewhere, or objects vanished. In the loop's next turn, so that many such events are one.
        """
        if not self._unsettled:
            self._unsettled = True
            asyncio.get_running_loop().call_soon(self._recheck_unsettled_now)

    def _recheck_unsettled_now(self) -> None:
        self._unsettled = False
        unsettled = self._dataplane.objects.unsettled()
        for family, routes in self.families.items():
            if unsettled:
                self.rechecks.add(family, routes.by_targets(unsettled))
            if routes.blocked:
                self.rechecks.add(family, routes.blocked.slices(SLICE))
        self.try_again()
        self.wake_idle()

    def recheck_dead(self) -> None:
        """Write the routes by other groups that are recorded by groups that are no more: the kernel may have such a
        group for a while, and then flushes its routes with it."""
        for family, routes in self.families.items():
            self.rechecks.add(family, routes.by_targets(self._dataplane.objects.dead.keys()))

    def recheck_sources(self, family: Family, source: bytes) -> None:
        """Routes of a family that name another preferred source than this, and what was refused for it."""
        others = {group.id for group in self._dataplane.objects.groups.values() if group.source != source}
        self.rechecks.add(family, self.families[family].by_targets(others))
        self.try_again()

    def next_hops_lost(self, next_hops: Iterable[NextHop]) -> None:
        """Neighbors are dead: what waits and would go by them is asked for again when its turn comes."""
        if self.backlog:
            self._lost |= {hop.address for hop in next_hops}

    def next_hops_changed(self, changed: Sequence[tuple[NextHop, str]]) -> None:
        """Next hops can be reached now, no longer, or by another interface: the owner hears, and what waited, or has
        lost a next hop, is looked at."""
        for hop, why in changed:
            if hop in self.targets.asked:
                interface = self._dataplane.host.name_of(self.targets.resolve(hop)[0])
                log.info("fib.next_hop_changed", next_hop=str(hop), interface=interface, reachable=not why, why=why)
                self._owner.next_hop_changed(self.vrf, hop, why)
        if changed:
            self.recheck_unsettled()

    # What is written.

    @property
    def backlog(self) -> int:
        """Prefixes that wait: a reader that is far ahead of the kernel may pause on it."""
        return sum(len(routes.pending) for routes in self.families.values())

    @property
    def is_overtaken(self) -> bool:
        """Whether some of what waits has been overtaken by what is to be written first."""
        return any(routes.pending.are_overtaken for routes in self.families.values())

    @property
    def has_room(self) -> bool:
        """Whether more may be asked for by the table itself."""
        return self.backlog < _BACKLOG

    def write_pending(self) -> bool:
        """Take one slice of what waits and submit what it needs; False if nothing waited."""
        waiting = [family for family, routes in self.families.items() if len(routes.pending)]
        if not waiting:
            self._lost = frozenset()
            self.wake_idle()
            return False
        self._wrote = min(
            waiting, key=lambda family: (not self.families[family].pending.has_first, family is self._wrote)
        )
        self._write(self._wrote, self.families[self._wrote])
        self.rechecks.resume()
        if not self.has_room:
            self.rechecks.ask_once()
        self._owner.backlog_shrank()
        return True

    def _write(self, family: Family, routes: FamilyRoutes) -> None:
        blocked = functools.partial(self.ownership.blocked, family, kept=self.kept[family])
        desired = functools.partial(self.desired_all, family)
        current = functools.partial(self._current, family) if self._lost else None
        target_of = self.targets.target_of(family)
        plan = routes.plan(BATCH, target_of=target_of, blocked=blocked, desired=desired, current=current)
        if plan.adds or plan.changes or plan.deletes:
            self._submit_plan(family, plan)
        if plan.settled:
            self.acknowledged(family, plan.settled)
        if plan.newly_blocked:
            self._report_blocked(family, plan)
        for why, keys in plan.refused.items():
            if keys:
                self.refused(family, keys, why)

    def _current(self, family: Family, keys: list[bytes], values: list[NextHops | None]) -> list[NextHops | None]:
        """What is desired of these now, if what waited names a next hop that was lost meanwhile."""
        distinct = dict(zip(map(id, values), values))
        outdated = {one for one, value in distinct.items() if any(hop.address in self._lost for hop in value or ())}
        if not outdated:
            return values
        return [self.desired(family, key) if id(value) in outdated else value for key, value in zip(keys, values)]

    def _report_blocked(self, family: Family, plan: Plan) -> None:
        """Routes that must not be written, though they are desired, and those of them that were there until now.

        The first is reported at once; many, as at the start, in sums.
        """
        self._blocked_count += len(plan.newly_blocked)
        self._displaced_count += len(plan.displaced)
        loop = asyncio.get_running_loop()
        if loop.time() < self._blocked_reported_at + _REPORTS_APART_S:
            if self._blocked_report is None:
                report = functools.partial(self._write_report, family, plan)
                self._blocked_report = loop.call_at(self._blocked_reported_at + _REPORTS_APART_S, report)
        else:
            self._write_report(family, plan)

    def _write_report(self, family: Family, plan: Plan) -> None:
        first = next(iter(plan.displaced or plan.newly_blocked))
        log.warning(
            "fib.routes_blocked",
            vrf=self.vrf,
            routes=self._blocked_count,
            displaced=self._displaced_count,
            first=format_key(family, first),
            why=next(why for why, keys in plan.refused.items() if first in keys),
        )
        self._blocked_count = self._displaced_count = 0
        self._blocked_report = None
        self._blocked_reported_at = asyncio.get_running_loop().time()

    def _submit_plan(self, family: Family, plan: Plan) -> None:
        parts = []
        adds, changes = 0, 0
        sources = self._dataplane.objects.sources
        if plan.deletes:
            parts.append(encode_deletes(family, plan.deletes, self.form))
        for target, keys in plan.adds:
            parts.append(encode_adds(family, keys, target, self.form, source=sources.get(target, b"")))
            adds += len(keys)
        for change in plan.changes:
            source = sources.get(change.target, b"")
            parts.append(encode_adds(family, change.keys, change.target, self.form, append=True, source=source))
            changes += len(change.keys)
        batch = _Batch(family, plan, adds, adds + changes + len(plan.deletes))
        self._batches.append(batch)
        if family in self._watched:
            self._watched[family].add(plan)
        self.submit(parts, batch.messages, functools.partial(self._written, batch))

    def _written(self, batch: _Batch, outcome: Outcome) -> None:
        self._batches.remove(batch)
        self._answers.written(batch.family, batch.plan, outcome)

    def submit(self, parts: list[bytes], count: int, done: Callable[[Outcome], None]) -> None:
        """Send a batch of `count` messages."""
        self.in_flight += 1
        self._counters.batches += 1
        self._counters.messages += count
        self._dataplane.submit(b"".join(parts), count, functools.partial(self._answered, done))

    def _answered(self, done: Callable[[Outcome], None], outcome: Outcome) -> None:
        self.in_flight -= 1
        done(outcome)

    def being_written(self, family: Family) -> set[bytes]:
        """Keys of routes that are on their way to the kernel, which has not answered. For views only: costs a walk."""
        return {key for batch in self._batches if batch.family is family for key in batch.plan.written()}

    def watch(self, family: Family) -> ChangedMeanwhile:
        """The keys in flight and those written until `unwatch`: a comparison leaves them out."""
        self._watched[family] = ChangedMeanwhile(self.being_written(family))
        return self._watched[family]

    def unwatch(self, family: Family) -> None:
        """A comparison is done."""
        self._watched.pop(family, None)

    async def idle(self) -> None:
        """Wait until all that was asked for is written."""
        while not self.is_idle:
            waiter = asyncio.get_running_loop().create_future()
            self._idle_waiters.append(waiter)
            self._dataplane.pump()
            await waiter

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits, and nothing is under way."""
        return not (self.backlog or self.in_flight or self.rechecks or self._unsettled)

    @property
    def is_certain(self) -> bool:
        """Whether our record is what the kernel has, unless another program has changed that."""
        tables = self.families.values()
        return self.is_idle and not any(table.changing or table.deferred or table.distrusted for table in tables)

    def wake_idle(self) -> None:
        """Wake who waits for the table to be idle, if it is."""
        if not (self._idle_waiters or self._dataplane.objects.leftovers) or not self.is_idle:
            return
        self._dataplane.upkeep.delete_leftovers()
        for waiter in self._idle_waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._idle_waiters.clear()

    @property
    def counters(self) -> FibCounters:
        """The numbers of now; counted when somebody asks."""
        tables = self.families.values()
        counters = self._counters
        believed = sum(len(table.installed) for table in tables)
        counters.installed = believed - sum(batch.adds for batch in self._batches)
        counters.failed = sum(len(table.failed) for table in tables)
        counters.blocked = sum(len(table.blocked) for table in tables)
        counters.pending = self.backlog + sum(batch.messages for batch in self._batches)
        counters.desired = believed + counters.failed + counters.blocked
        counters.nexthop_deletes = self._dataplane.objects.deletes
        return counters

    # What follows from the kernel's answers and from looks at the kernel (AnsweredTable, ExaminedTable).

    def acknowledged(self, family: Family, keys: Sequence[bytes]) -> None:
        """The kernel forwards these as desired; but what is blocked meanwhile was refused, and is on its way out."""
        blocked = self.families[family].blocked
        if blocked:
            keys = [key for key in keys if key not in blocked]
        if keys:
            self._owner.acknowledged(self.vrf, family, keys)

    def refused(self, family: Family, keys: Sequence[bytes], why: str) -> None:
        """These are desired, and not in the kernel."""
        self.source_refused(family, why)
        self._owner.refused(self.vrf, family, keys, why)

    def blocks(self, family: Family, keys: Collection[bytes]) -> Collection[bytes]:
        """Those of the keys that are known to be blocked by a foreign route."""
        found = self.ownership.blocked(family, keys, kept=self.kept[family])
        return [key for key, block in found.items() if not block.learned_only]

    def direct_routes_written(self) -> None:
        """A host route to a workload may be what a next hop behind it waited for."""
        changed = self.targets.all_changed()
        if changed:
            self.targets.follow()
        self.next_hops_changed(changed)

    def batch_done(self) -> None:
        """A batch is answered, and all that follows from it is done."""
        self.rechecks.resume()
        self.wake_idle()
        if self._ended is not None and not self.in_flight and not self._ended.done():
            self._ended.set_result(None)
