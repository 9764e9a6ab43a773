"""The decisions of a table: each is made once for the same candidates, and shared by all keys that have them.

What is best is said by decision.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from itertools import chain
from typing import Final, TypeAlias

from mypy_extensions import i32, mypyc_attr

from bgpd.model.next_hop import BLACKHOLE, NextHop, NextHops
from bgpd.model.path import Path
from bgpd.model.source import Source
from bgpd.rib.comparison import compare
from bgpd.rib.decision import BEST, Outcome, decide
from bgpd.rib.next_hops import NextHopTable

_ONLY: Final = bytes((BEST,))
_NONE: Final = bytes(1)
_PARTS: Final = 16
"""Number of dicts that share the decisions, so that none holds the loop for long when it grows."""


@mypyc_attr(acyclic=True)
class Decision:
    """The outcome for one tuple of several candidate paths (one per source name, ascending by name), shared by all keys
    that have it. A path that is a key's only candidate is its own decision (model/path.py).

    `multipath` is best path first, empty if nothing is usable. `next_hops` is what the kernel should have. `routes`
    counts the keys that have this decision. `judged` are the steps of its Outcome, or b"" where the paths were only
    compared by their numbers. Compares by identity; immutable but for `routes` and `epoch`.
    """

    __slots__ = ("candidates", "epoch", "is_local", "judged", "multipath", "next_hops", "routes")

    def __init__(
        self,
        candidates: tuple[Path, ...],
        multipath: tuple[Path, ...],
        judged: bytes,
        next_hops: NextHops | None,
        epoch: int,
        is_local: bool,
    ) -> None:
        self.candidates = candidates
        self.multipath = multipath
        self.judged = judged
        self.next_hops = next_hops
        self.epoch = epoch
        self.is_local = is_local
        self.routes: i32 = 0

    @property
    def best(self) -> Path | None:
        """The best path; None if none is usable."""
        return self.multipath[0] if self.multipath else None

    def path_of(self, name: str) -> Path | None:
        """The candidate of the source called `name`."""
        for path in self.candidates:
            if path.via.source.name == name:
                return path
        return None

    def role(self, path: Path) -> str:
        """What a candidate is for the route: "best", "multipath", "lost" or "rejected"."""
        if path in self.multipath:
            return "best" if path is self.multipath[0] else "multipath"
        return "rejected" if path.rejected else "lost"


Entry: TypeAlias = Path | Decision
"""The decision of a key, as its table has it: the only candidate itself, or the decision over several."""


def outcome_of(entry: Entry) -> Outcome:
    """The multipath set, and what each candidate is in it."""
    if isinstance(entry, Path):
        return entry.multipath, _ONLY if entry.via.is_usable else _NONE
    return entry.multipath, entry.judged or decide(entry.candidates, lambda path: "")[1]


def _why_unusable(path: Path) -> str:
    """Whether a path can be used, as it was found to be."""
    return "" if path.via.is_usable else "not usable"


class Decisions:
    """The decisions of one table: made once for the same candidates, and kept while keys have them.

    `checks_next_hops` is off for EVPN, whose next hops are resolved by evpn/. `gone`: sources whose paths are being
    removed and cannot be used any more.
    """

    def __init__(self, next_hop_table: NextHopTable, *, checks_next_hops: bool = True) -> None:
        self._several: tuple[dict[tuple[Path, ...], Decision], ...] = tuple({} for _ in range(_PARTS))
        self._next_hop_table = next_hop_table
        self.checks_next_hops = checks_next_hops
        self.gone: set[Source] = set()

    def leave(self, source: Source) -> None:
        """The session of a source has ended: its paths are not used by any decision from now on."""
        self.gone.add(source)
        self._next_hop_table.epoch += 1

    def unusable(self, path: Path) -> str:
        """Why `path` cannot be used now, or ""."""
        via = path.via
        if via.source in self.gone:
            return "its session has ended"
        if via.rejected or via.next_hop is None or not self.checks_next_hops or via.source.is_local:
            return via.rejected
        return self._next_hop_table.why_unreachable(via.next_hop)

    @property
    def epoch(self) -> int:
        """What is known of next hops: it counts the changes."""
        return self._next_hop_table.epoch

    def forwarded_by(self, next_hop: NextHop) -> tuple[NextHops | None, bool]:
        """How a neighbor's path with this next hop is forwarded if it is alone, and whether it can be used now."""
        if self._next_hop_table.why_unreachable(next_hop):
            return None, False
        return self._next_hop_table.by_one(next_hop), True

    def alone(self, path: Path) -> Path:
        """`path` as the decision of routes that have no other, as of now: the same object, which all its routes share.

        What is known of a path without routes is not relied upon: news of its next hop may not have come any more. (Of
        what others have that came the same way it has come, and then this changes nothing.)
        """
        epoch, via = self._next_hop_table.epoch, path.via
        if via.epoch != epoch or not path.keys:
            via.is_usable = not self.unusable(path)
            via.next_hops = self._next_hops((path,)) if via.is_usable else None
            via.epoch = epoch
        return path

    def decision(self, candidates: tuple[Path, ...]) -> Entry | None:
        """The one decision over `candidates` as of now; None for no candidates."""
        if len(candidates) < 2:
            return self.alone(candidates[0]) if candidates else None
        part = self._several[hash(candidates) % _PARTS]
        known = part.get(candidates)
        if known is not None and known.epoch == self._next_hop_table.epoch:
            return known
        self._look_at(candidates)
        return self._decided(candidates, part, known)

    def decision_of_new(self, candidates: tuple[Path, ...]) -> Decision:
        """The decision over several candidates of which one is new: no key has had them before, and what memory has of
        them is not looked for."""
        self._look_at(candidates)
        return self._decided(candidates, self._several[hash(candidates) % _PARTS], None)

    def _look_at(self, candidates: tuple[Path, ...]) -> None:
        epoch = self._next_hop_table.epoch
        for path in candidates:
            if path.via.epoch != epoch or not path.keys:
                self.alone(path)

    def now_known(self, paths: Sequence[Path], next_hop: NextHop) -> None:
        """`alone` for many new paths of one next hop."""
        if not paths or not self.checks_next_hops or paths[0].source in self.gone or paths[0].source.is_local:
            for path in paths:
                self.alone(path)
            return
        next_hops, is_usable = self.forwarded_by(next_hop)
        epoch = self._next_hop_table.epoch
        for via in {path.via for path in paths}:
            if not via.rejected:
                via.next_hops, via.is_usable = next_hops, is_usable
            via.epoch = epoch

    def decision_of_known(self, candidates: tuple[Path, ...]) -> Decision:
        """The one decision over several candidates of which all is known as of now."""
        part = self._several[hash(candidates) % _PARTS]
        return self._decided(candidates, part, part.get(candidates))

    def _decided(
        self, candidates: tuple[Path, ...], part: dict[tuple[Path, ...], Decision], known: Decision | None
    ) -> Decision:
        """Decide, and enter it in its `part`, unless it comes to the same as what is `known` of an earlier epoch."""
        epoch = self._next_hop_table.epoch
        multipath, judged = compare(candidates), b""
        next_hops = None
        if multipath is None:
            multipath, judged = decide(candidates, _why_unusable)
            next_hops = self._next_hops(multipath)
        elif len(multipath) == 1:
            next_hops = multipath[0].via.next_hops
        elif self.checks_next_hops:
            next_hops = self._next_hop_table.by_all(multipath)
        if known is not None and known.multipath == multipath and known.judged == judged:
            known.epoch = epoch
            return known
        is_local = bool(judged and multipath) and multipath[0].source.is_local
        fresh = Decision(candidates, multipath, judged, next_hops, epoch, is_local)
        part[candidates] = fresh
        return fresh

    def decision_without(self, candidates: tuple[Path, ...], former: Path) -> Entry | None:
        """The decision over the other candidates."""
        if len(candidates) == 2:
            return self.alone(candidates[1] if candidates[0] is former else candidates[0])
        return self.decision(tuple([path for path in candidates if path is not former]))

    def _next_hops(self, multipath: tuple[Path, ...]) -> NextHops | None:
        if not multipath or not self.checks_next_hops:
            return None
        via = multipath[0].via
        if via.source.is_local:
            return BLACKHOLE if via.next_hop == BLACKHOLE[0] else None
        return self._next_hop_table.next_hops(multipath)

    def next_hops_now(self, entry: Entry) -> NextHops | None:
        """What keys that have `entry` are to be forwarded by, also where a source that is gone was not removed yet."""
        if not self.gone:
            return entry.next_hops
        left = tuple([path for path in entry.candidates if path.source not in self.gone])
        return entry.next_hops if len(left) == len(entry.candidates) else self.next_hops_by(left)

    def next_hops_by(self, candidates: tuple[Path, ...]) -> NextHops | None:
        """What keys that had these candidates would be forwarded by."""
        if len(candidates) == 1:
            return self.alone(candidates[0]).via.next_hops
        for path in candidates:
            self.alone(path)
        multipath = compare(candidates)
        return self._next_hops(decide(candidates, _why_unusable)[0] if multipath is None else multipath)

    def rests_on_gone(self, entry: Entry | None) -> bool:
        """Whether keys that have `entry` may be forwarded by what a source that is gone has said."""
        used = () if entry is None else entry.multipath or entry.candidates
        return any(path.source in self.gone for path in used)

    def next_hops_without(self, decision: Entry, dead: Set[NextHop]) -> NextHops | None:
        """What the keys of `decision` would be forwarded by if the `dead` next hops were unreachable."""
        return self.next_hops_by(tuple([path for path in decision.candidates if path.next_hop not in dead]))

    def _unused(self, decision: Decision) -> None:
        """The last key has left a decision."""
        candidates = decision.candidates
        part = self._several[hash(candidates) % _PARTS]
        if part.get(candidates) is decision:
            del part[candidates]

    def drop_unused(self) -> None:
        """Drop the decisions that no key was given, since something was raised."""
        for _ in self.without_unused():
            pass

    def without_unused(self) -> Iterator[None]:
        """Stepping drops the decisions that no key has."""
        for part in self._several:
            for candidates in [candidates for candidates, decision in part.items() if not decision.routes]:
                del part[candidates]
            yield

    def several(self) -> Iterator[Decision]:
        """All distinct decisions over several candidates; the table must not change meanwhile."""
        return chain.from_iterable([part.values() for part in self._several])
