"""Route changes that wait for the kernel, merged by key: the latest wish replaces one that has not been taken.

Decides only the order: what was asked for first is taken first, in slices, without ever copying what waits.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterator, Mapping

from bgpd.model.path import NextHops

_LOT = 32768
"""A lot that is full is closed: a dict of a million wishes would be copied whole each time that it grows."""

_LOTS_ASKED = 3


class PendingChanges:
    """Lots of wishes: the newest is filled, the oldest is emptied by iterators.

    A key of the oldest that has a newer wish in one of the next lots is passed over. Further ones are not asked: with
    that much waiting, an outdated wish that is written first and its successor later cost less than asking for all.
    """

    def __init__(self, *, lot: int = _LOT) -> None:
        self._lot = lot
        self._lots: deque[dict[bytes, NextHops | None]] = deque(({},))
        self._keys: Iterator[bytes] | None = None
        self._values: Iterator[NextHops | None] = iter(())
        self._left = 0
        self._waiting = 0

    def __len__(self) -> int:
        """Wishes that wait; a key that waits in two lots counts twice."""
        return self._waiting

    def __contains__(self, key: object) -> bool:
        """Whether a key waits; while others of its lot wait, one that was just taken may count as waiting."""
        return any(key in lot for lot in self._lots)

    def merge(self, changes: Mapping[bytes, NextHops | None]) -> None:
        """Add wishes; each replaces an earlier one for its key."""
        lot = self._lots[-1]
        before = len(lot)
        if before and before + len(changes) > self._lot:
            lot, before = {}, 0
            self._lots.append(lot)
        lot.update(changes)
        self._waiting += len(lot) - before

    def take(self, limit: int) -> tuple[list[bytes], list[NextHops | None]]:
        """Up to `limit` keys and their wishes; empty only when nothing waits."""
        while self._waiting:
            keys, values = self._take_oldest(limit)
            first = int(self._keys is not None)
            for newer in itertools.islice(self._lots, first, first + _LOTS_ASKED):
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

    def keys(self) -> set[bytes]:
        """Keys that wait. Costs a walk: for views only."""
        oldest = self._lots[0]
        taken = len(oldest) - self._left if self._keys is not None else 0
        return set(itertools.islice(oldest, taken, None)).union(*itertools.islice(self._lots, 1, None))
