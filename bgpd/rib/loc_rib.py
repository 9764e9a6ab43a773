"""The routes of one VRF and family: which decision each key has, and how whole batches of keys move between decisions.

One dict holds all of Adj-RIB-In and Loc-RIB (docs/decisions/0003): a key's value is the `Decision` over its tuple of
candidate paths, and keys with the same candidates share one. A batch therefore costs a few passes of the interpreter's
C loops and one computation for each distinct old decision, which is usually one. Nothing here makes an object per
route.

Everything is freed by reference counting: decisions live while a key has them, paths while a decision has them. Never
applies policy, never talks to FIB or neighbors; it says in a `Changes` what they must hear.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence, Set
from itertools import compress, islice, repeat
from typing import cast
from weakref import WeakValueDictionary

from bgpd.model.path import BLACKHOLE, NextHop, NextHops, Path, Source
from bgpd.rib.decision import Outcome, decide
from bgpd.rib.next_hops import NextHopTable

SLICE = 2048
"""Keys of one step of a walk, while many share a decision; an eighth of it else. Both stay below 10 ms."""


class Decision:
    """The outcome for one tuple of candidate paths (one per source name, ascending by name), shared by all keys that
    have it.

    `multipath` is best path first, empty if nothing is usable. `next_hops` is what the FIB should have. `routes` counts
    the keys that have this decision. Compares by identity; immutable but for `routes` and `epoch`.
    """

    __slots__ = ("__weakref__", "candidates", "epoch", "is_local", "multipath", "next_hops", "routes", "steps")

    def __init__(self, candidates: tuple[Path, ...], outcome: Outcome, next_hops: NextHops | None, epoch: int) -> None:
        self.candidates = candidates
        self.multipath, self.steps = outcome
        self.next_hops = next_hops
        self.is_local = bool(self.multipath) and self.multipath[0].source.is_local
        self.epoch = epoch
        self.routes = 0

    @property
    def best(self) -> Path | None:
        return self.multipath[0] if self.multipath else None

    def path_of(self, name: str) -> Path | None:
        """The candidate of the source called `name`."""
        for path in self.candidates:
            if path.source.name == name:
                return path
        return None


Compute = Callable[[Decision | None], Decision | None]
"""From what a key has to what it gets; None is "no route". Must return its argument itself for "no change"."""


class Changes:
    """What a batch changed, for those who follow the table.

    `next_hops`: keys whose next hops are another tuple now. `keys`: all keys whose decision changed, gathered only
    where the table is told to (`gathers_keys`). `local`: keys whose best path is or was this host's own.
    """

    __slots__ = ("decisions", "keys", "local", "next_hops")

    def __init__(self) -> None:
        self.decisions = 0
        self.next_hops: dict[bytes, NextHops | None] = {}
        self.keys: list[bytes] = []
        self.local: list[bytes] = []

    def rerouted(self, next_hops: dict[bytes, NextHops | None]) -> None:
        """Keys that have other next hops now; takes the dict over."""
        if self.next_hops:
            self.next_hops.update(next_hops)
        else:
            self.next_hops = next_hops


class LocRib:
    """One table. `checks_next_hops` is off for EVPN, whose next hops are resolved by evpn/.

    `local`: keys whose best path is this host's own. `received`, `rejected`: routes per source. `unacknowledged`: keys
    whose next hops the kernel was not yet heard to have, kept while `exports_learned`. `gathers_keys`: see Changes.
    `suppressed`: keys that an aggregate stands for towards the neighbors. `exceptions`: this host's own that none may.
    """

    def __init__(self, next_hop_table: NextHopTable, *, checks_next_hops: bool = True) -> None:
        self.routes: dict[bytes, Decision] = {}
        self.local: dict[bytes, None] = {}
        self.received: dict[Source, int] = {}
        self.rejected: dict[Source, int] = {}
        self.exports_learned = False
        self.gathers_keys = False
        self.unacknowledged: set[bytes] = set()
        self.suppressed: set[bytes] = set()
        self.exceptions: set[bytes] = set()
        self._decisions: WeakValueDictionary[tuple[Path, ...], Decision] = WeakValueDictionary()
        self._next_hop_table = next_hop_table
        self._checks_next_hops = checks_next_hops

    def unusable(self, path: Path) -> str:
        """Why `path` cannot be used now, or ""."""
        if path.rejected or path.next_hop is None or not self._checks_next_hops or path.source.is_local:
            return path.rejected
        return self._next_hop_table.why_unreachable(path.next_hop)

    def decision(self, candidates: tuple[Path, ...]) -> Decision | None:
        """The one decision over `candidates` as of now; None for no candidates."""
        if not candidates:
            return None
        known = self._decisions.get(candidates)
        epoch = self._next_hop_table.epoch
        if known is not None and known.epoch == epoch:
            return known
        outcome = decide(candidates, self.unusable)
        if known is not None and (known.multipath, known.steps) == outcome:
            known.epoch = epoch
            return known
        fresh = Decision(candidates, outcome, self._next_hops(outcome[0]), epoch)
        self._decisions[candidates] = fresh
        return fresh

    def _next_hops(self, multipath: tuple[Path, ...]) -> NextHops | None:
        if not multipath or not self._checks_next_hops:
            return None
        if multipath[0].source.is_local and multipath[0].next_hop != BLACKHOLE[0]:
            return None
        return self._next_hop_table.next_hops(multipath)

    def announce(self, keys: Sequence[bytes], path: Path, into: Changes) -> None:
        """Give `keys` this path of its source, in place of what that source's name had.

        One pass looks the keys up and adds those that are new, since a pass over a table that no cache holds is what
        costs; the new ones are the last in the dict's order.
        """
        name = path.source.name

        def compute(old: Decision | None) -> Decision | None:
            if old is None:
                return self.decision((path,))
            before = [other for other in old.candidates if other.source.name < name]
            after = [other for other in old.candidates if other.source.name > name]
            return self.decision((*before, path, *after))

        alone = cast(Decision, self.decision((path,)))
        size = len(self.routes)
        olds: list[Decision | None] = list(map(self.routes.setdefault, keys, repeat(alone)))
        added = len(self.routes) - size
        if added == len(keys):
            self._moved(keys, None, alone, into)
        elif not added:
            self._apply(keys, olds, compute, into)
        else:
            new_keys = dict.fromkeys(islice(reversed(self.routes), added))
            self._moved(list(new_keys), None, alone, into)
            self.apply([key for key in keys if key not in new_keys], compute, into)

    def withdraw(self, keys: Sequence[bytes], name: str, into: Changes) -> None:
        """Take the path of the source called `name` from `keys`; those without one stay as they are."""

        def compute(old: Decision | None) -> Decision | None:
            if old is None or old.path_of(name) is None:
                return old
            return self.decision(tuple([path for path in old.candidates if path.source.name != name]))

        self.apply(keys, compute, into)

    def apply(self, keys: Sequence[bytes], compute: Compute, into: Changes) -> None:
        """Move every key to `compute` of what it has; called once per distinct decision among them."""
        self._apply(keys, list(map(self.routes.get, keys)), compute, into)

    def _apply(self, keys: Sequence[bytes], olds: list[Decision | None], compute: Compute, into: Changes) -> None:
        if not olds:
            return
        first = olds[0]
        if olds.count(first) == len(olds):
            self._apply_uniform(keys, first, compute(first), into)
            return
        fresh = dict.fromkeys(keys)
        if len(fresh) != len(olds):
            olds = list(map(self.routes.get, fresh))
        step = {old: compute(old) for old in set(olds)}
        into.decisions += len(step)
        self._apply_mixed(fresh, olds, step, into)

    def _apply_uniform(self, keys: Sequence[bytes], old: Decision | None, new: Decision | None, into: Changes) -> None:
        if new is old:
            return
        fresh = dict.fromkeys(keys, new)
        if new is None:
            deque(map(self.routes.pop, fresh), maxlen=0)
        else:
            self.routes.update(cast(dict[bytes, Decision], fresh))
        self._moved(fresh, old, new, into)

    def _moved(self, keys: Collection[bytes], old: Decision | None, new: Decision | None, into: Changes) -> None:
        """Note that these distinct keys went from `old` to `new`."""
        self._count(old, new, len(keys))
        before, after = _hops(old), _hops(new)
        if before is not after:
            into.rerouted(dict.fromkeys(keys, after))
        if _is_local(old) or _is_local(new):
            self._local_changed(keys, into)
        if self.gathers_keys:
            into.keys.extend(keys)

    def _apply_mixed(
        self,
        fresh: dict[bytes, None],
        olds: list[Decision | None],
        step: dict[Decision | None, Decision | None],
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
        self._store(fresh, news)
        rerouted = {old: _hops(old) is not _hops(new) for old, new in step.items()}
        if any(rerouted.values()):
            hops = {old: _hops(new) for old, new in step.items()}
            pairs = zip(fresh, map(hops.__getitem__, olds))
            into.rerouted(dict(compress(pairs, map(rerouted.__getitem__, olds))))
        local = {old: _is_local(old) or _is_local(new) for old, new in step.items() if old is not new}
        if any(local.values()):
            self._local_changed(compress(fresh, map(local.__getitem__, olds)), into)
        if self.gathers_keys:
            into.keys.extend(fresh)

    def _store(self, keys: Iterable[bytes], news: list[Decision | None]) -> None:
        if None not in news:
            self.routes.update(zip(keys, cast(list[Decision], news)))
            return
        for key, new in zip(keys, news):
            if new is None:
                del self.routes[key]
            else:
                self.routes[key] = new

    def _count(self, old: Decision | None, new: Decision | None, keys: int) -> None:
        """Keep the counts per decision and per source: `keys` keys went from `old` to `new`."""
        for decision, sign in ((old, -keys), (new, keys)):
            if decision is None:
                continue
            decision.routes += sign
            for path in decision.candidates:
                self.received[path.source] = self.received.get(path.source, 0) + sign
                if path.rejected:
                    self.rejected[path.source] = self.rejected.get(path.source, 0) + sign

    def _local_changed(self, keys: Iterable[bytes], into: Changes) -> None:
        for key in keys:
            into.local.append(key)
            if _is_local(self.routes.get(key)):
                self.local[key] = None
            else:
                self.local.pop(key, None)

    def forget(self, source: Source) -> None:
        """Drop the counts of a source that has no paths left."""
        self.received.pop(source, None)
        self.rejected.pop(source, None)

    def walk(self, compute: Compute) -> Iterator[Changes]:
        """Apply `compute` to all keys, one slice per step; what arrives between two steps is walked as it then is."""
        keys = list(self.routes)
        start = 0
        size = SLICE // 8 or 1
        while start < len(keys):
            changes = Changes()
            self.apply(keys[start : start + size], compute, changes)
            yield changes
            start += size
            size = SLICE if changes.decisions < SLICE // 16 else SLICE // 8 or 1

    def without(self, source: Source) -> Compute:
        """For a walk: take the paths of this incarnation of a source away, not those of its successor."""

        def compute(old: Decision | None) -> Decision | None:
            if old is None or all(path.source is not source for path in old.candidates):
                return old
            return self.decision(tuple([path for path in old.candidates if path.source is not source]))

        return compute

    def without_stale(self, source: Source, refreshed: Set[Path]) -> Compute:
        """For a walk: take the paths of `source` away that are not among the `refreshed`."""

        def compute(old: Decision | None) -> Decision | None:
            if old is None or all(path.source is not source or path in refreshed for path in old.candidates):
                return old
            return self.decision(
                tuple([path for path in old.candidates if path.source is not source or path in refreshed])
            )

        return compute

    def redecided(self, next_hop: NextHop) -> Compute:
        """For a walk: decide again where `next_hop` is among the candidates'."""

        def compute(old: Decision | None) -> Decision | None:
            if old is None or all(path.next_hop != next_hop for path in old.candidates):
                return old
            return self.decision(old.candidates)

        return compute

    def next_hops_without(self, decision: Decision, dead: Set[NextHop]) -> NextHops | None:
        """What the keys of `decision` would be forwarded by if the `dead` next hops were unreachable."""
        left = tuple([path for path in decision.candidates if path.next_hop not in dead])
        return self._next_hops(decide(left, self.unusable)[0])

    def mark_exceptions(self, keys: Sequence[bytes], exception: bool, into: Changes) -> None:
        """Note whether these keys are exceptions; those for which that is new count as changed."""
        if exception or self.exceptions:
            flipped = [key for key in dict.fromkeys(keys) if (key in self.exceptions) is not exception]
            self.exceptions.symmetric_difference_update(flipped)
            into.local += flipped

    def live_next_hops(self) -> Iterator[NextHop]:
        """The next hops of all candidates."""
        for decision in self.decisions():
            yield from (path.next_hop for path in decision.candidates if path.next_hop is not None)

    def live_sets(self) -> Iterator[NextHops]:
        """The sets of next hops that decisions have."""
        return (decision.next_hops for decision in self.decisions() if decision.next_hops is not None)

    def decisions(self) -> Iterator[Decision]:
        """All distinct decisions that are alive, in no particular order."""
        return iter(self._decisions.values())


def _hops(decision: Decision | None) -> NextHops | None:
    return None if decision is None else decision.next_hops


def _is_local(decision: Decision | None) -> bool:
    return decision is not None and decision.is_local
