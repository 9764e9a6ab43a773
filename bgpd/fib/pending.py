"""Changes of one family's routes that wait to be written.

In the order in which they were asked for, but those that are to be first, whose neighbors have little to say
(recent_changes.py); of several changes of one key only the latest counts. Hot path: a change costs one entry of a dict,
and a slice of them a few C calls. Sans-IO.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet

from bgpd.model.next_hop import NextHops

_LOT = 32768
"""Keys per chunk. A full chunk is closed: one dict of a million routes would be copied each time that it grows."""


class PendingChanges:
    """Those that are first, and all others behind them (docs/decisions/0047)."""

    def __init__(self, *, lot: int = _LOT) -> None:
        self._first = _Queue(lot)
        self._others = _Queue(lot)
        self._overtaken: set[bytes] = set()
        self._overtaken_before: set[bytes] = set()
        self._to_pass = 0

    def __len__(self) -> int:
        """Pending changes; a key that waits in two places counts twice."""
        return len(self._first) + len(self._others)

    def __contains__(self, key: object) -> bool:
        """Whether a key is pending; a key just taken may count as pending for a while."""
        return key in self._first or key in self._others

    @property
    def has_first(self) -> bool:
        """Whether some are to be first."""
        return len(self._first) > 0

    @property
    def are_overtaken(self) -> bool:
        """Whether first ones have overtaken others lately, and may do so again."""
        return bool(self._overtaken or self._overtaken_before) and len(self._others) > 0

    def merge(self, changes: Mapping[bytes, NextHops | None], *, is_first: bool = False) -> None:
        """Add changes; each replaces an earlier one of its key."""
        (self._first if is_first else self._others).merge(changes)

    def take(self, limit: int) -> tuple[list[bytes], list[NextHops | None], AbstractSet[bytes]]:
        """Up to `limit` keys, their desired next hops, and those of the keys of which these may be outdated, since a
        first change has overtaken them; no keys only when nothing is pending."""
        if len(self._first):
            keys, values = self._first.take(limit)
            if len(self._others):
                self._overtaken.update(keys)
            return keys, values, frozenset()
        waiting = len(self._others)
        keys, values = self._others.take(limit)
        self._to_pass -= waiting - len(self._others)
        overtaken: AbstractSet[bytes] = frozenset()
        if self._overtaken or self._overtaken_before:
            overtaken = self._overtaken.intersection(keys) | self._overtaken_before.intersection(keys)
        if self._to_pass <= 0:  # what waited when this was so last is taken, and so is all that was overtaken before
            self._overtaken_before, self._overtaken = self._overtaken, set()
            self._to_pass = len(self._others)
        return keys, values, overtaken

    def slices(self, size: int) -> Iterator[list[bytes]]:
        """Pending keys in lists of up to `size`, for views: no step looks at more than one chunk. A key may be in it
        more than once, and some that were just taken are, too."""
        yield from self._first.slices(size)
        yield from self._others.slices(size)


class _Queue:
    """Pending changes in chunks; new ones go to the newest chunk, writing takes from the oldest.

    A key that is also in the next chunk is skipped. Further chunks are not checked: with such a backlog an outdated
    write, followed by the later one, costs less than the checks.
    """

    def __init__(self, lot: int) -> None:
        self._lot = lot
        self._lots: deque[dict[bytes, NextHops | None]] = deque(({},))
        self._keys: Iterator[bytes] | None = None
        self._values: Iterator[NextHops | None] = iter(())
        self._left = 0
        self._waiting = 0

    def __len__(self) -> int:
        return self._waiting

    def __contains__(self, key: object) -> bool:
        return any(key in lot for lot in self._lots)

    def merge(self, changes: Mapping[bytes, NextHops | None]) -> None:
        lot = self._lots[-1]
        before = len(lot)
        if before and before + len(changes) > self._lot:
            lot, before = {}, 0
            self._lots.append(lot)
        lot.update(changes)
        self._waiting += len(lot) - before

    def take(self, limit: int) -> tuple[list[bytes], list[NextHops | None]]:
        while self._waiting:
            keys, values = self._take_oldest(limit)
            newer = self._lots[int(self._keys is not None)]
            if newer and not newer.keys().isdisjoint(keys):
                stays = [key not in newer for key in keys]
                keys = list(itertools.compress(keys, stays))
                values = list(itertools.compress(values, stays))
            if keys:
                return keys, values
        return [], []

    def _take_oldest(self, limit: int) -> tuple[list[bytes], list[NextHops | None]]:
        oldest = self._lots[0]
        if self._keys is None:
            self._keys, self._values, self._left = iter(oldest), iter(oldest.values()), len(oldest)
            if len(self._lots) == 1:
                self._lots.append({})
        keys = list(itertools.islice(self._keys, limit))
        values = list(itertools.islice(self._values, limit))
        self._left -= len(keys)
        self._waiting -= len(keys)
        if not self._left:
            self._lots.popleft()
            self._keys = None
        return keys, values

    def slices(self, size: int) -> Iterator[list[bytes]]:
        for lot in list(self._lots):
            keys = list(lot)
            for start in range(0, len(keys), size):
                yield keys[start : start + size]
