"""Decisions, shared by all routes that have the same candidates: made once for each tuple of paths.

What is decided is decision.py's; here is only who shares it. Decisions live while a route has them.
"""

from __future__ import annotations

from collections.abc import Iterator, Set

from bgpd.model.containers import WeakMemo
from bgpd.model.path import BLACKHOLE, NextHop, NextHops, Path
from bgpd.rib.decision import NOT_USABLE, ONLY, Outcome, decide
from bgpd.rib.next_hops import NextHopTable


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


class Decisions:
    """The decisions of one table. `checks_next_hops` is off for EVPN, whose next hops are resolved by evpn/."""

    def __init__(self, next_hop_table: NextHopTable, *, checks_next_hops: bool = True) -> None:
        self._known: WeakMemo[tuple[Path, ...], Decision] = WeakMemo()
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
        known = self._known.get(candidates)
        epoch = self._next_hop_table.epoch
        if known is not None and known.epoch == epoch:
            return known
        if known is None and len(candidates) == 1:
            return self._decide_alone(candidates, epoch)
        outcome = decide(candidates, self.unusable)
        if known is not None and (known.multipath, known.steps) == outcome:
            known.epoch = epoch
            return known
        fresh = Decision(candidates, outcome, self._next_hops(outcome[0]), epoch)
        self._known.set(candidates, fresh)
        return fresh

    def _decide_alone(self, candidates: tuple[Path, ...], epoch: int) -> Decision:
        """The only path of its routes, where there is nothing to compare: each route may have one of its own."""
        outcome: Outcome = ((), NOT_USABLE) if self.unusable(candidates[0]) else (candidates, ONLY)
        fresh = Decision(candidates, outcome, self._next_hops(outcome[0]), epoch)
        self._known.set(candidates, fresh)
        return fresh

    def _next_hops(self, multipath: tuple[Path, ...]) -> NextHops | None:
        if not multipath or not self._checks_next_hops:
            return None
        if multipath[0].source.is_local and multipath[0].next_hop != BLACKHOLE[0]:
            return None
        return self._next_hop_table.next_hops(multipath)

    def next_hops_without(self, decision: Decision, dead: Set[NextHop]) -> NextHops | None:
        """What the keys of `decision` would be forwarded by if the `dead` next hops were unreachable."""
        left = tuple([path for path in decision.candidates if path.next_hop not in dead])
        return self._next_hops(decide(left, self.unusable)[0])

    def live_next_hops(self) -> Iterator[NextHop]:
        """The next hops of all candidates."""
        for decision in self.decisions():
            yield from (path.next_hop for path in decision.candidates if path.next_hop is not None)

    def live_sets(self) -> Iterator[NextHops]:
        """The sets of next hops that decisions have."""
        return (decision.next_hops for decision in self.decisions() if decision.next_hops is not None)

    def decisions(self) -> Iterator[Decision]:
        """All distinct decisions that are alive, in no particular order; the table must not change meanwhile."""
        return self._known.values()
