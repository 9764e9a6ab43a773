"""Changes of one family's routes that wait to be written.

In the order in which they were asked for, but those that are to be first, whose neighbors have little to say
(recent_changes.py); of several changes of one key only the latest counts. Hot path: a change costs one entry of a dict,
and a slice of them a few C calls. Sans-IO.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterator, Mapping

from bgpd.model.next_hop import NextHops

_LOT = 32768
"""Keys per chunk. A full chunk is closed: one dict of a million routes would be copied each time that it grows."""


class PendingChanges:
    """Those that are first, and all others behind them (docs/decisions/0047)."""

    def __init__(self, *, lot: int = _LOT) -> None:
        self._first = _Queue(lot)
        self._others = _Queue(lot)

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
    def is_overtaken(self) -> bool:
        """Whether some have been overtaken by first ones."""
        return self._others.is_outdated and len(self._others) > 0

    def merge(self, changes: Mapping[bytes, NextHops | None], *, is_first: bool = False) -> None:
        """Add changes; each replaces an earlier one of its key."""
        (self._first if is_first else self._others).merge(changes)

    def outdate(self) -> None:
        """What waits may not be desired any more."""
        self._first.is_outdated = self._others.is_outdated = True

    def take(self, limit: int) -> tuple[list[bytes], list[NextHops | None], bool]:
        """Up to `limit` keys, their desired next hops, and whether these may be outdated; no keys only when nothing is
        pending.

        What is first may have overtaken an earlier change of a key, which is outdated then.
        """
        if not len(self._first):
            return (*self._others.take(limit), self._others.is_outdated)
        self._others.is_outdated = True
        return (*self._first.take(limit), self._first.is_outdated)

    def slices(self, size: int) -> Iterator[list[bytes]]:
        """Pending keys in lists of up to `size`, for views: no step looks at more than one chunk. A key may be in it
        more than once, and some that were just taken are, too."""
        yield from self._first.slices(size)
        yield from self._others.slices(size)


class _Queue:
    """Pending changes in chunks; new ones go to the newest chunk, writing takes from the oldest.

    A key that is also in the next chunk is skipped. Further chunks are not checked: with such a backlog an outdated
    write, followed by the later one, costs less than the checks. `is_outdated`: what waits may not be desired any more.
    """

    def __init__(self, lot: int) -> None:
        self._lot = lot
        self._lots: deque[dict[bytes, NextHops | None]] = deque(({},))
        self._keys: Iterator[bytes] | None = None
        self._values: Iterator[NextHops | None] = iter(())
        self._left = 0
        self._waiting = 0
        self.is_outdated = False

    def __len__(self) -> int:
        return self._waiting

    def __contains__(self, key: object) -> bool:
        return any(key in lot for lot in self._lots)

    def merge(self, changes: Mapping[bytes, NextHops | None]) -> None:
        if not self._waiting:
            self.is_outdated = False
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
