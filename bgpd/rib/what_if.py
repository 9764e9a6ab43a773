"""What would become of the routes if some paths were gone: worked out on the tables as they are, which it leaves alone.

Keys with the same candidates share a decision, so that each distinct one is asked once. Decides as the table does.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Callable, Iterator

import msgspec

from bgpd.model.path import NextHops, Path
from bgpd.rib.loc_rib import LocRib
from bgpd.rib.policy import DEFAULT_KEY
from bgpd.rib.shared_decisions import Entry

SLICE = 2048
"""Keys of one step."""
ASKED = 256
"""Decisions of one step, where few keys share them."""
MOST_EXAMPLES = 10


class Fate(enum.StrEnum):
    """What becomes of a route. UNUSED: it is not forwarded now either, NEW: it will be."""

    UNCHANGED = "unchanged"
    FEWER = "fewer"
    MOVED = "moved"
    LOST = "lost"
    NEW = "new"
    UNUSED = "unused"


class Foreseen(msgspec.Struct, kw_only=True):
    """How many routes have each fate, some keys of each, and what becomes of the default route (`fates`: of all)."""

    counts: Counter[Fate]
    examples: dict[Fate, list[bytes]]
    fates: dict[bytes, Fate] | None = None
    default: Fate | None = None

    def take(self, key: bytes, fate: Fate) -> None:
        """One more route."""
        self.counts[fate] += 1
        if key == DEFAULT_KEY:
            self.default = fate
        if self.fates is not None:
            self.fates[key] = fate
        examples = self.examples.setdefault(fate, [])
        if len(examples) < MOST_EXAMPLES:
            examples.append(key)


def foresee(table: LocRib, is_gone: Callable[[Path], bool], into: Foreseen) -> Iterator[None]:
    """Go through a table as if the paths of which `is_gone` says so were withdrawn; one slice in each step.

    What changes meanwhile may be counted as it was or as it is.
    """
    known: dict[Entry, Fate] = {}
    for keys in table.routes.slices(SLICE):
        for key in keys:
            entry = table.routes.get(key)
            if entry is None:
                continue
            fate = known.get(entry)
            if fate is None:
                fate = known[entry] = fate_of(table, entry, is_gone)
                if not len(known) % ASKED:
                    yield
            into.take(key, fate)
        yield


def fate_of(table: LocRib, entry: Entry, is_gone: Callable[[Path], bool]) -> Fate:
    """What becomes of the keys that have this decision."""
    before = table.next_hops_now(entry)
    if before is None:
        return Fate.UNCHANGED if entry.is_local else Fate.UNUSED
    left = tuple([path for path in entry.candidates if not is_gone(path)])
    if len(left) == len(entry.candidates):
        return Fate.UNCHANGED
    return fate_between(before, table.next_hops_by(left))


def fate_between(before: NextHops | None, after: NextHops | None) -> Fate:
    """What has become of a route that was forwarded by one and is by the other."""
    if before is None:
        return Fate.UNUSED if after is None else Fate.NEW
    if after is None:
        return Fate.LOST
    if after == before:
        return Fate.UNCHANGED
    return Fate.FEWER if _places(after) < _places(before) else Fate.MOVED


def _places(next_hops: NextHops) -> set[tuple[bytes, str]]:
    return {(one.address, one.interface) for one in next_hops}
