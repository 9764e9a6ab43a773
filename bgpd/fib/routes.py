"""The routes of one family of one table: installed routes, pending changes (pending.py) and failed writes.

Decides what needs a kernel message (plan.py): a route whose group already has the desired members is not written again.
Hot path: a route costs one entry of `installed`, and the usual batch takes a few C calls. Sans-IO.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from itertools import islice, repeat
from typing import cast

from bgpd.fib.guard import Block
from bgpd.fib.key_by_key import Way, sort_key_by_key
from bgpd.fib.nexthop_objects import NexthopObjects
from bgpd.fib.pending import PendingChanges
from bgpd.fib.plan import SERVICE, Plan, Target, TargetChange, TargetOf
from bgpd.model.containers import ShardedDict
from bgpd.model.next_hop import NextHops

_WALK = 8192
_FEW = 64
"""Keys with the same next hops up to which a loop costs less than passes."""


class FamilyRoutes:
    """`installed`: key -> target, as the kernel will hold it when the queued batches are written.

    `failed` and `blocked`: key -> why. `distrusted`: keys that the kernel may have lost, and that are written anyway.
    `obstructed`: blocked keys in whose place the kernel was found to have a route. `changing`: keys whose target
    changes, which is not done yet; what is desired of them meanwhile is in `deferred`.
    `direct`: interface index -> keys. `adopted`: an earlier run's keys may be there, as objects of their own.
    `unconfirmed`: key -> target of those that nobody has agreed with. They wait for the sweep as long as following
    what is desired would take a next hop from them.
    """

    def __init__(self, objects: NexthopObjects) -> None:
        self.installed: ShardedDict[int] = ShardedDict()
        self.pending = PendingChanges()
        self.failed: dict[bytes, str] = {}
        self.blocked: ShardedDict[str] = ShardedDict()
        self.obstructed: set[bytes] = set()
        self.distrusted: set[bytes] = set()
        self.changing: set[bytes] = set()
        self.deferred: set[bytes] = set()
        self.direct: dict[int, set[bytes]] = {}
        self.adopted = False
        self.unconfirmed: ShardedDict[int] = ShardedDict()
        self._objects = objects

    def plan(
        self,
        limit: int,
        *,
        target_of: TargetOf,
        blocked: Callable[[Collection[bytes]], Mapping[bytes, Block]],
        desired: Callable[[Sequence[bytes]], list[NextHops | None]],
        current: Callable[[list[bytes], list[NextHops | None]], list[NextHops | None]] | None = None,
    ) -> Plan:
        """Take up to `limit` changes and say what to write; `installed` holds the result from now on.

        `desired` gives the next hops of now, for those that were overtaken; so does `current` where those that waited
        may be outdated for another reason.
        """
        keys, values, overtaken = self.pending.take(limit)
        if overtaken:
            asked = list(overtaken)
            now = dict(zip(asked, desired(asked)))
            values = [now.get(key, value) for key, value in zip(keys, values)]
        if current is not None:
            values = current(keys, values)
        plan = Plan()
        if self.changing and not self.changing.isdisjoint(keys):
            keys, values = self._defer(keys, values)
        if not keys:
            return plan
        former = dict(zip(keys, self.blocked.get_all(keys))) if self.blocked else {}
        self._forget_reasons(keys)
        reasons = self._blocked_now(keys, values, blocked)
        plan.displaced = [key for key in reasons if key in self.installed]
        plan.newly_blocked = [key for key, why in reasons.items() if former.get(key) != why]
        if not reasons and self._plan_each(keys, values, target_of, plan):
            return plan
        for value, run in _by_next_hops(keys, values):
            if reasons:
                stopped = [key for key in run if key in reasons]
                for key in stopped:
                    plan.refused.setdefault(reasons[key], []).append(key)
                self.unconfirmed.discard_all(stopped)
                self._plan_deletes(stopped, plan)
                run = [key for key in run if key not in reasons]
            if value is None:
                self._plan_deletes(self._free_of(run, Target()), plan)
                continue
            wanted = target_of(value, set(self.installed.get_all(run)) if self.adopted else ())
            run = self._free_of(run, wanted)
            if wanted.why:
                self.blocked.set_all(run, wanted.why)
                plan.refused.setdefault(wanted.why, []).extend(run)
                self._plan_deletes(run, plan)
            elif run:
                self._plan_adds(run, wanted, plan)
        return plan

    def confirm(self, changes: dict[bytes, NextHops | None], target_of: TargetOf) -> dict[bytes, NextHops | None]:
        """Have those adopted routes confirmed that are as desired; answers the others. The keys are of one part."""
        if not (self.adopted and changes) or self._is_disturbed(changes):
            return changes
        part = self.installed.part(next(iter(changes)))
        values, targets = list(changes.values()), list(map(part.get, changes))
        if values.count(values[0]) == len(values) and targets.count(targets[0]) == len(targets):
            pairs = [(id(values[0]), targets[0])]  # as nearly always: all say the same
        else:
            pairs = list(zip(map(id, values), targets))
        distinct = set(pairs)
        fitting: set[tuple[int, int | None]] = set()
        different = values[:1] if len(pairs) == 1 else values
        for one, value in dict(zip(map(id, different), different)).items():
            its = {target for of, target in distinct if of == one and target is not None}
            if value is not None and its:
                wanted = target_of(value, its)
                fitting.update((one, target) for target in its if not wanted.why and target in wanted.same)
        others: dict[bytes, NextHops | None] = {}
        if not fitting >= distinct:
            if len(pairs) == 1:
                return changes
            others = {key: value for (key, value), pair in zip(changes.items(), pairs) if pair not in fitting}
        self._confirmed(changes, others)
        return others

    def _is_disturbed(self, changes: Mapping[bytes, object]) -> bool:
        """Whether something is under way with some of the keys, or known to be wrong."""
        places: tuple[Collection[bytes], ...] = (self.distrusted, self.changing, self.failed)
        return bool(self.blocked) or any(not changes.keys().isdisjoint(place) for place in places if place)

    def _confirmed(self, changes: Mapping[bytes, object], others: Mapping[bytes, object]) -> None:
        """All of the changed keys but for the others need not wait for the sweep."""
        unconfirmed = self.unconfirmed.part(next(iter(changes)))
        if not others and len(unconfirmed) == len(changes):
            unconfirmed.clear()
        else:
            deque(map(unconfirmed.pop, [key for key in changes if key not in others], repeat(None)), maxlen=0)

    def refuse(self, key: bytes, target: int, why: str, *, before: int | None = None) -> None:
        """The kernel refused a route: it holds none, or the one by `before`, unless it had dropped that silently."""
        if self.installed.get(key) == target:
            self.believe(key, before)
        if before is not None:
            self.distrusted.add(key)
        self.failed[key] = why

    def stay(self, key: bytes, before: int) -> None:
        """A route was not written by a target that was lost meanwhile: it is as before, unless that went, too."""
        self.believe(key, before)
        self.distrusted.add(key)

    def obstruct(self, key: bytes, why: str, *, target: int, before: int | None = None) -> None:
        """The kernel has a route in the place of one that was to be written by `target`, and ours by `before`."""
        if self.installed.get(key) == target:
            self.believe(key, before)
        self.blocked[key] = why
        self.obstructed.add(key)

    def believe(self, key: bytes, target: int | None) -> None:
        """Set our record: the kernel has this route of ours, or none."""
        former = self.installed.get(key)
        if former is not None:
            self._uncount((key,), (former,))
            del self.installed[key]
        if target is not None:
            self.installed[key] = target
            self._objects.count_routes(target, 1)
            if target < 0:
                self.direct.setdefault(-target, set()).add(key)

    def forget(self) -> Iterator[None]:
        """Stepping leaves no record, whatever the kernel has."""
        for part in self.installed.parts:
            for target, count in Counter(part.values()).items():
                self._objects.count_routes(target, -count)
            part.clear()
            yield

    def is_kept_out(self, key: bytes) -> bool:
        """Whether a desired route is not written for a known reason."""
        return key in self.failed or key in self.obstructed or key in self.blocked

    def is_left(self, key: bytes) -> bool:
        """Whether one that is kept out is there all the same, and nobody looks into it: what failed, or found another
        route in its place, stays until it works, or a look has shown what is in the way."""
        return key in self.installed and key not in self.failed and key not in self.obstructed

    def change_done(self, keys: Collection[bytes]) -> list[bytes]:
        """Changes are done, or were refused: those of the keys of which something else was desired meanwhile."""
        self.changing.difference_update(keys)
        if not self.deferred:
            return []
        waiting = self.deferred.intersection(keys)
        self.deferred -= waiting
        return list(waiting)

    def flushed(self, key: bytes) -> bool:
        """Whether the kernel is known to have dropped an installed route together with its group."""
        return self.installed.get(key) in self._objects.dead

    def by_targets(self, targets: AbstractSet[int]) -> Iterator[list[bytes]]:
        """Keys of installed routes that point at one of `targets`, in slices."""
        for keys in self.installed.slices(_WALK):
            yield [key for key, target in zip(keys, self.installed.get_all(keys)) if target in targets]

    def _free_of(self, keys: list[bytes], wanted: Target) -> list[bytes]:
        """The keys that may change now: all except unconfirmed ones that would lose a next hop."""
        if not (self.adopted and self.unconfirmed):
            return keys
        targets = self.unconfirmed.get_all(keys)
        losing = {
            target
            for target in set(targets)
            if target is not None and target not in wanted.same and not self._objects.is_within(target, wanted.id)
        }
        free = keys
        if losing:
            free = [key for key, target in zip(keys, targets) if target not in losing or key in self.distrusted]
        self.unconfirmed.discard_all(free)
        return free

    def _defer(self, keys: list[bytes], values: list[NextHops | None]) -> tuple[list[bytes], list[NextHops | None]]:
        """The keys that need not wait for a change in progress."""
        free = [(key, value) for key, value in zip(keys, values) if key not in self.changing]
        self.deferred.update(self.changing.intersection(keys))
        return [key for key, _value in free], [value for _key, value in free]

    def _forget_reasons(self, keys: Sequence[bytes]) -> None:
        if self.obstructed:
            self.obstructed.difference_update(keys)
        if self.failed:
            for key in self.failed.keys() & keys:
                del self.failed[key]
        if self.blocked:
            self.blocked.discard_all(keys)

    def _blocked_now(
        self,
        keys: Sequence[bytes],
        values: Sequence[NextHops | None],
        blocked: Callable[[Collection[bytes]], Mapping[bytes, Block]],
    ) -> Mapping[bytes, str]:
        reasons = blocked(keys)
        if not reasons:
            return {}
        found = {
            key: reasons[key].why
            for key, value in zip(keys, values)
            if key in reasons and value is not None and not (reasons[key].learned_only and _is_local(value))
        }
        self.blocked.update(found)
        return found

    def _plan_each(self, keys: list[bytes], values: list[NextHops | None], target_of: TargetOf, plan: Plan) -> bool:
        """Key by key: changes of any kind whose next hops differ from one to the next, as where a table comes from
        several neighbors or changes steadily, and few of any kind. Passes over the keys of each next hop and each part
        of the table cost several times as much. False if this is not the case at hand.
        """
        if self.adopted or self.distrusted or self._objects.dead:
            return False
        distinct = dict(zip(map(id, values), values))
        if len(distinct) == 1 and len(keys) > _FEW:
            return False
        targets = {one: target_of(value, ()) for one, value in distinct.items() if value is not None}
        if any(target.why for target in targets.values()):
            return False
        by_target = {target.id: Way(target.id, target.same) for target in targets.values()}
        ways = {one: by_target[target.id] for one, target in targets.items()}
        parts = cast("tuple[dict[bytes, object], ...]", self.installed.parts)
        done = sort_key_by_key(parts, keys, values, ways)
        plan.settled, plan.deletes = done.settled, done.deletes
        self._uncount(done.deletes, cast("list[int]", done.gone))
        for target, way in by_target.items():
            if way.changed:
                change = TargetChange(target, way.changed, cast("list[int]", way.before))
                self._note_change(change)
                plan.changes.append(change)
        for target, way in by_target.items():
            if way.added:
                self._count(way.added, target)
                plan.adds.append((target, way.added))
        return True

    def _note_change(self, change: TargetChange) -> None:
        """Routes are about to go from what they had to the target of a change."""
        self._uncount(change.keys, change.before)
        self._count(change.keys, change.target)
        self.changing.update(change.keys)

    def _plan_adds(self, keys: Sequence[bytes], wanted: Target, plan: Plan) -> None:
        """One pass looks the keys up and adds those that are new; the new ones are the last in the dict's order."""
        writes: list[bytes] = []
        change = TargetChange(wanted.id, [], [])
        for part, chosen in self.installed.split(keys):
            size = len(part)
            targets = list(map(part.setdefault, chosen, repeat(wanted.id)))
            added = len(part) - size
            if added == len(chosen):
                writes += chosen
            else:
                new = frozenset(islice(reversed(part), added))
                writes += self._plan_changes(part, chosen, targets, new, wanted, plan.settled, change)
        if change.keys:
            self._note_change(change)
            plan.changes.append(change)
        if writes:
            self._count(writes, wanted.id)
            plan.adds.append((wanted.id, writes))

    def _count(self, keys: list[bytes], target: int) -> None:
        """Routes are about to be written by a target."""
        self._objects.count_routes(target, len(keys))
        if target < 0:
            self.direct.setdefault(-target, set()).update(keys)
        if self.distrusted:
            self.distrusted.difference_update(keys)

    def _plan_changes(
        self,
        part: dict[bytes, int],
        keys: Sequence[bytes],
        targets: Sequence[int],
        new: AbstractSet[bytes],
        wanted: Target,
        settled: list[bytes],
        change: TargetChange,
    ) -> list[bytes]:
        """Those of the keys to be added: new ones, and those that the kernel dropped with their group. Others that are
        not as desired join the `change`, those that are, `settled`."""
        distrusted, dead = self.distrusted, self._objects.dead
        if not new and not distrusted and wanted.same >= set(targets):
            settled += keys
            if self.adopted:
                part.update(zip(keys, list(map(part.pop, keys))))  # these very objects, which the RIB has too
            return []
        writes: list[bytes] = []
        dropped: list[bytes] = []
        rewrites: list[bytes] = []
        for key, target in zip(keys, targets):
            if key in new:
                writes.append(key)
            elif target in dead:
                dropped.append(key)
                self._objects.count_routes(target, -1)
            elif target not in wanted.same or key in distrusted:
                rewrites.append(key)
                change.before.append(target)
            else:
                settled.append(key)
        part.update(dict.fromkeys((*dropped, *rewrites), wanted.id))
        change.keys.extend(rewrites)
        return writes + dropped

    def _plan_deletes(self, keys: list[bytes], plan: Plan) -> None:
        if not keys:
            return
        distrusted, dead = self.distrusted, self._objects.dead
        before = self.installed.get_all(keys)
        if distrusted or dead or None in before:
            plan.deletes += [
                key
                for key, target in zip(keys, before)
                if (target is not None and target not in dead) or key in distrusted
            ]
        else:
            plan.deletes += keys
        self._uncount(keys, before)
        self.installed.discard_all(keys)
        distrusted.difference_update(keys)

    def _uncount(self, keys: Sequence[bytes], before: Iterable[int | None]) -> None:
        """Routes leave the targets that they had before."""
        for target, count in Counter(before).items():
            if target is not None:
                self._objects.count_routes(target, -count)
                if target < 0:
                    self._forget_direct(keys, target)

    def _forget_direct(self, keys: Iterable[bytes], target: int) -> None:
        if target < 0 and -target in self.direct:
            self.direct[-target].difference_update(keys)


def _is_local(next_hops: NextHops) -> bool:
    """Whether the route is for a workload, a service or an aggregate of this host."""
    first = next_hops[0]
    return first.interface == SERVICE or (not first.address and not first.is_recursive)


def _by_next_hops(keys: list[bytes], values: list[NextHops | None]) -> Iterable[tuple[NextHops | None, list[bytes]]]:
    """Keys by next hops, by identity: these are interned, and equal ones that are not cost a second run only."""
    if values.count(values[0]) == len(values):
        return ((values[0], keys),)
    distinct = dict(zip(map(id, values), values))
    runs: dict[int, list[bytes]] = {identity: [] for identity in distinct}
    for key, value in zip(keys, values):
        runs[id(value)].append(key)
    return [(distinct[identity], run) for identity, run in runs.items()]
