"""What becomes of routes: the fate of each key between two states of a table, counted."""

from __future__ import annotations

import enum
from collections import Counter

import msgspec

from bgpd.model.next_hop import NextHops
from bgpd.rib.policy import DEFAULT_KEY

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
