"""The routes of one table by key: which decision each key has, and how whole batches of keys move between decisions.

One table holds all of Adj-RIB-In and Loc-RIB (docs/decisions/0003): a key's value is its only candidate path, or the
`Decision` over its tuple of candidates, and keys with the same candidates share one. A batch therefore costs a few
passes of the interpreter's C loops and one computation for each distinct old decision, which is usually one. Nothing
here makes an object per route. The table is several dicts (model/containers.py), so that none of them holds the loop
when it grows. What keys get is computed before any of a part is stored, so that a decision that raises leaves a table
that is right.

Keys are counted: a decision is kept while a key has it, and the Adj-RIB-In of a path hears when the first key has it
among its candidates, and when the last one has lost it (interned_paths.py). Says in a `Changes` what changed for those
who follow the table.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import compress, islice, repeat
from typing import cast

from bgpd.model.containers import ShardedDict
from bgpd.model.next_hop import NextHops
from bgpd.model.path import Path
from bgpd.model.source import Source
from bgpd.rib.interned_paths import InternedPaths
from bgpd.rib.next_hops import NextHopTable
from bgpd.rib.shared_decisions import Decision, Decisions, Entry
from bgpd.runtime.shared_state import SharedStateBroken, changes_shared_state

Compute = Callable[[Entry | None], Entry | None]
"""From what a key has to what it gets; None is "no route". Must return its argument itself for "no change"."""


class Changes:
    """What a batch changed, or several, for those who follow the table.

    `next_hops`: keys whose next hops are another tuple now. `keys`: all keys whose decision changed, gathered only
    where the table is set to (`gathers_keys`). `local`: keys whose best path is or was this host's own.
    """

    def __init__(self) -> None:
        self.next_hops: dict[bytes, NextHops | None] = {}
        self.keys: list[bytes] = []
        self.local: list[bytes] = []
        self.decisions = 0

    def __bool__(self) -> bool:
        return bool(self.next_hops or self.keys or self.local)

    def rerouted(self, next_hops: dict[bytes, NextHops | None]) -> None:
        """Keys that have other next hops now; takes the dict over."""
        if self.next_hops:
            self.next_hops.update(next_hops)
        else:
            self.next_hops = next_hops

    def followed_by(self, later: Changes) -> Changes:
        """Append `later` and return self."""
        self.rerouted(later.next_hops)
        self.keys += later.keys
        self.local += later.local
        return self


class KeyedRoutes(Decisions):
    """`local`: keys whose best path is this host's own. `received`, `rejected`: routes per source. `gathers_keys`: see
    Changes. `pending`: what changed and was not passed on. `interned`: where the paths of each source are found, while
    keys have them. `redeciding`: how many walks of `redecide` run."""

    def __init__(self, next_hop_table: NextHopTable, *, is_unicast: bool) -> None:
        super().__init__(next_hop_table, checks_next_hops=is_unicast)
        self.routes: ShardedDict[Entry] = ShardedDict(of_prefixes=is_unicast)
        self.local: dict[bytes, None] = {}
        self.interned: dict[Source, InternedPaths] = {}
        self.redeciding = 0
        self.received: dict[Source, int] = {}
        self.rejected: dict[Source, int] = {}
        self.gathers_keys = False
        self.pending = Changes()

    def announce(self, keys: Sequence[bytes], path: Path, into: Changes) -> None:
        """Give `keys` this path of its source, in place of what that source's name had.

        One pass looks the keys up and adds those that are new, since a pass over a table that no cache holds is what
        costs; the new ones are the last in the dict's order.
        """

        if len(keys) == 1:
            self._announce_one(keys[0], path, into)
            return

        def compute(old: Entry | None) -> Entry | None:
            if old is not None and self._is_repeated(path, old):
                return old
            return self.decision(with_path(path, old))

        alone = self.alone(path)
        for part, chosen in self.routes.split(keys):
            rest, olds = self._store_new(part, chosen, alone, into)
            if rest:
                self._apply(part, rest, olds, compute, into)

    def load(self, keys: Sequence[bytes], paths: tuple[Path, ...], into: Changes) -> None:
        """Give `keys`, which are distinct and new but for this host's own routes, these paths of several sources."""
        new = self.decision(paths)
        for part, chosen in self.routes.split(keys):
            if not part.keys().isdisjoint(chosen):
                for path in paths:
                    self.announce(chosen, path, into)
            elif len(chosen) == 1:
                self._store_one(part, chosen[0], None, new, into)
            else:
                self._store_uniform(part, chosen, None, new, into)

    @changes_shared_state
    def fill(self, part: dict[bytes, Entry], keys: Sequence[bytes], entries: Sequence[Entry], into: Changes) -> None:
        """Give each of `keys`, which are of one part, distinct and new, its entry of neighbors' paths."""
        part.update(zip(keys, entries))
        new: dict[Source, list[Path]] = {}
        received: Counter[Source] = Counter()
        for entry, count in Counter(entries).items():
            entry.routes += count
            for path in (entry,) if isinstance(entry, Path) else entry.candidates:
                received[path.source] += count
                if path.rejected:
                    self.rejected[path.source] = self.rejected.get(path.source, 0) + count
                if not path.keys:
                    new.setdefault(path.source, []).append(path)
                path.keys += count
        for source, count in received.items():
            self.received[source] = self.received.get(source, 0) + count
        for source, paths in new.items():
            self.interned[source].have_come(paths)
        into.rerouted({key: entry.next_hops for key, entry in zip(keys, entries) if entry.next_hops is not None})
        if self.gathers_keys:
            into.keys.extend(keys)

    def _announce_one(self, key: bytes, path: Path, into: Changes) -> None:
        part = self.routes.part(key)
        old = part.get(key)
        if old is not None and self._is_repeated(path, old):
            return
        new = self.alone(path) if old is None else self.decision(with_path(path, old))
        if new is not old:
            self._store_one(part, key, old, new, into)

    def _is_repeated(self, path: Path, old: Entry) -> bool:
        """Whether a neighbor says what it has said of keys that have `old`: they keep the path, with its `heard_at`."""
        if path.entered is None or not self.checks_next_hops or path.source.is_local:
            return False
        former = old.path_of(path.source.name)
        if former is None or former.entered != path.entered or former.source is not path.source:
            return False
        refreshed = self.interned[path.source].refreshed if path.source in self.interned else None
        return (refreshed is None or former in refreshed) and former.says_same_as(path)

    @changes_shared_state
    def _store_new(
        self, part: dict[bytes, Entry], keys: Sequence[bytes], alone: Path, into: Changes
    ) -> tuple[Sequence[bytes], list[Entry | None]]:
        """Give `alone` to those of `keys` that are new; the others, with what they have."""
        size = len(part)
        olds: list[Entry | None] = list(map(part.setdefault, keys, repeat(alone)))
        added = len(part) - size
        if added == len(keys):
            self._moved(keys, None, alone, into)
            return (), []
        if not added:
            return keys, olds
        new_keys = dict.fromkeys(islice(reversed(part), added))
        self._moved(list(new_keys), None, alone, into)
        rest = [key for key in keys if key not in new_keys]
        return rest, list(map(part.get, rest))

    def withdraw(self, keys: Sequence[bytes], name: str, into: Changes) -> None:
        """Take the path of the source called `name` from `keys`; those without one stay as they are."""

        def compute(old: Entry | None) -> Entry | None:
            former = None if old is None else old.path_of(name)
            if old is None or former is None:
                return old
            return None if former is old else self.decision_without(old.candidates, former)

        self.apply(keys, compute, into)

    def apply(self, keys: Sequence[bytes], compute: Compute, into: Changes) -> None:
        """Move every key to `compute` of what it has; called once per distinct decision among them."""
        if len(keys) == 1:
            self._move_one(keys[0], compute, into)
            return
        for part, chosen in self.routes.split(keys):
            self._apply(part, chosen, list(map(part.get, chosen)), compute, into)

    def _move_one(self, key: bytes, compute: Compute, into: Changes) -> None:
        part = self.routes.part(key)
        old = part.get(key)
        new = compute(old)
        into.decisions += 1
        if new is not old:
            self._store_one(part, key, old, new, into)

    def _store_one(
        self, part: dict[bytes, Entry], key: bytes, old: Entry | None, new: Entry | None, into: Changes
    ) -> None:
        try:
            self.settle(part, key, old, new, into)
            if new is None and isinstance(old, Path):
                self.count_path(old, -1)
            elif old is None and isinstance(new, Path):
                self.count_path(new, 1)
            else:
                self._count_paths(_candidates(old), _candidates(new), 1)
        except Exception as error:
            raise SharedStateBroken(f"one route moved: {error!r}") from error

    def settle(self, part: dict[bytes, Entry], key: bytes, old: Entry | None, new: Entry | None, into: Changes) -> None:
        """Give one key another decision; its paths are counted by the caller."""
        try:
            before = after = None
            is_local = was_local = False
            if new is None:
                del part[key]
            else:
                part[key] = new
                new.routes += 1
                after, is_local = new.next_hops, new.is_local
            if old is not None:
                before, was_local = old.next_hops, old.is_local
                old.routes = left = old.routes - 1
                if not left and isinstance(old, Decision):
                    self._unused(old)
            if before is not after or self.redeciding or (self.gone and self.rests_on_gone(old)):
                into.next_hops[key] = after
            if is_local:
                into.local.append(key)
                self.local[key] = None
            elif was_local:
                into.local.append(key)
                self.local.pop(key, None)
            if self.gathers_keys:
                into.keys.append(key)
        except Exception as error:
            raise SharedStateBroken(f"one route moved: {error!r}") from error

    def _apply(
        self,
        part: dict[bytes, Entry],
        keys: Sequence[bytes],
        olds: list[Entry | None],
        compute: Compute,
        into: Changes,
    ) -> None:
        if not olds:
            return
        first = olds[0]
        if olds.count(first) == len(olds):
            new = compute(first)
            if new is not first:
                self._store_uniform(part, keys, first, new, into)
            return
        fresh = dict.fromkeys(keys)
        if len(fresh) != len(olds):
            olds = list(map(part.get, fresh))
        distinct = set(olds)
        into.decisions += len(distinct)
        try:
            step = {old: compute(old) for old in distinct}
        except Exception:
            self.drop_unused()
            raise
        if 2 * len(distinct) > len(olds):
            for key, old in zip(fresh, olds):
                new = step[old]
                if new is not old:
                    self._store_one(part, key, old, new, into)
            return
        self._store_mixed(part, fresh, olds, step, into)

    @changes_shared_state
    def _store_uniform(
        self,
        part: dict[bytes, Entry],
        keys: Sequence[bytes],
        old: Entry | None,
        new: Entry | None,
        into: Changes,
    ) -> None:
        fresh = dict.fromkeys(keys, new)
        if new is None:
            deque(map(part.pop, fresh), maxlen=0)
        else:
            part.update(cast(dict[bytes, Entry], fresh))
        self._moved(fresh, old, new, into)

    def _moved(self, keys: Collection[bytes], old: Entry | None, new: Entry | None, into: Changes) -> None:
        """Note that these distinct keys went from `old` to `new`."""
        self._count(old, new, len(keys))
        after = _hops(new)
        if self._is_rerouted(old, new):
            into.rerouted(dict.fromkeys(keys, after))
        if _is_local(old) or _is_local(new):
            self._local_changed(keys, into)
        if self.gathers_keys:
            into.keys.extend(keys)

    def _is_rerouted(self, old: Entry | None, new: Entry | None) -> bool:
        """Whether those who forward must hear of keys that went from `old` to `new`: also if a source that is gone had
        named the same next hops, since they may have left the kernel with its session."""
        return _hops(old) is not _hops(new) or self.redeciding > 0 or (bool(self.gone) and self.rests_on_gone(old))

    @changes_shared_state
    def _store_mixed(
        self,
        part: dict[bytes, Entry],
        fresh: dict[bytes, None],
        olds: list[Entry | None],
        step: dict[Entry | None, Entry | None],
        into: Changes,
    ) -> None:
        moved = {old: new is not old for old, new in step.items()}
        if not all(moved.values()):
            chosen = list(map(moved.__getitem__, olds))
            fresh = dict.fromkeys(compress(fresh, chosen))
            olds = list(compress(olds, chosen))
        if not fresh:
            return
        news = list(map(step.__getitem__, olds))
        for old, count in Counter(olds).items():
            self._count(old, step[old], count)
        _store(part, fresh, news)
        rerouted = {old: self._is_rerouted(old, new) for old, new in step.items()}
        if any(rerouted.values()):
            hops = {old: _hops(new) for old, new in step.items()}
            pairs = zip(fresh, map(hops.__getitem__, olds))
            into.rerouted(dict(compress(pairs, map(rerouted.__getitem__, olds))))
        local = {old: _is_local(old) or _is_local(new) for old, new in step.items() if old is not new}
        if any(local.values()):
            self._local_changed(compress(fresh, map(local.__getitem__, olds)), into)
        if self.gathers_keys:
            into.keys.extend(fresh)

    def _count(self, old: Entry | None, new: Entry | None, keys: int) -> None:
        """Keep the counts per decision, path and source: `keys` keys went from `old` to `new`."""
        if new is not None:
            new.routes += keys
        if old is not None:
            old.routes -= keys
            if not old.routes and isinstance(old, Decision):
                self._unused(old)
        self._count_paths(_candidates(old), _candidates(new), keys)

    def _count_paths(self, before: tuple[Path, ...], after: tuple[Path, ...], keys: int) -> None:
        for path in after:
            if path not in before:
                self.count_path(path, keys)
        for path in before:
            if path not in after:
                self.count_path(path, -keys)

    def count_path(self, path: Path, keys: int) -> None:
        """So many more keys have `path` among their candidates, or fewer."""
        via = path.via
        source = via.source
        self.received[source] = self.received.get(source, 0) + keys
        if via.rejected:
            self.rejected[source] = self.rejected.get(source, 0) + keys
        had = path.keys
        path.keys = has = had + keys
        if had and has:
            return
        interned = self.interned.get(source)
        if interned is not None:
            if has:
                interned.has_come(path)
            else:
                interned.has_gone(path)

    def _local_changed(self, keys: Iterable[bytes], into: Changes) -> None:
        for key in keys:
            into.local.append(key)
            if _is_local(self.routes.get(key)):
                self.local[key] = None
            else:
                self.local.pop(key, None)


def with_path(path: Path, old: Entry | None) -> tuple[Path, ...]:
    """The candidates after `path` came, in place of what its source's name had."""
    if old is None:
        return (path,)
    name = path.via.source.name
    if isinstance(old, Path):
        its = old.via.source.name
        return (path,) if its == name else (old, path) if its < name else (path, old)
    before = [other for other in old.candidates if other.source.name < name]
    after = [other for other in old.candidates if other.source.name > name]
    return (*before, path, *after)


def _store(part: dict[bytes, Entry], keys: Iterable[bytes], news: list[Entry | None]) -> None:
    if None not in news:
        part.update(zip(keys, cast(list[Entry], news)))
        return
    for key, new in zip(keys, news):
        if new is None:
            del part[key]
        else:
            part[key] = new


def _candidates(decision: Entry | None) -> tuple[Path, ...]:
    return () if decision is None else decision.candidates


def _hops(decision: Entry | None) -> NextHops | None:
    return None if decision is None else decision.next_hops


def _is_local(decision: Entry | None) -> bool:
    return decision is not None and decision.is_local
