"""Changes of one family's routes that wait to be written.

In the order in which they were asked for, but those that are to be first, whose neighbors have little to say
(recent_changes.py); of several changes of one key only the latest counts. Hot path: a change costs one entry of a dict,
and a slice of them a few C calls. Sans-IO.
"""

from __future__ import annotations

import itertools
from collections import Counter, deque
from collections.abc import Iterator, Mapping

from bgpd.model.next_hop import NextHops

_LOT = 32768
"""Keys per chunk. A full chunk is closed: one dict of a million routes would be copied each time that it grows."""


_SMALL = 4
"""Others are taken in so much smaller slices while first ones may come."""
_LATELY = 16
"""So many slices of others long first ones may come, after some did."""


class PendingChanges:
    """Those that are first, and all others behind them (docs/decisions/0047).

    `waiting`, which tables share, counts them by who has caused them, until all of their chunk is taken.
    """

    def __init__(self, waiting: Counter[str] | None = None, *, lot: int = _LOT) -> None:
        counts = Counter[str]() if waiting is None else waiting
        self._first = _Queue(lot, counts)
        self._others = _Queue(lot, counts)
        self._expects = 0

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
    def expects_first(self) -> bool:
        """Whether some have been overtaken by first ones a moment ago, and may be again."""
        return self._expects > 0 and len(self._others) > 0

    def merge(self, changes: Mapping[bytes, NextHops | None], *, cause: str = "", is_first: bool = False) -> None:
        """Add changes; each replaces an earlier one of its key."""
        (self._first if is_first else self._others).merge(changes, cause)

    def clear(self) -> None:
        """Nothing is waited for any more."""
        self._first.clear()
        self._others.clear()

    def outdate(self) -> None:
        """What waits may not be desired any more."""
        self._first.is_outdated = self._others.is_outdated = True

    def take(self, limit: int) -> tuple[list[bytes], list[NextHops | None], bool]:
        """Up to `limit` keys, their desired next hops, and whether these may be outdated; no keys only when nothing is
        pending.

        What is first may have overtaken an earlier change of a key, which is outdated then.
        """
        if not len(self._first):
            if self._expects:
                self._expects -= 1
                limit = limit // _SMALL or 1
            return (*self._others.take(limit), self._others.is_outdated)
        self._others.is_outdated = True
        self._expects = _LATELY
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

    def __init__(self, lot: int, counts: Counter[str]) -> None:
        self._lot = lot
        self._lots: deque[dict[bytes, NextHops | None]] = deque(({},))
        self._causes: deque[Counter[str]] = deque((Counter(),))
        self._counts = counts
        self._keys: Iterator[bytes] | None = None
        self._values: Iterator[NextHops | None] = iter(())
        self._left = 0
        self._waiting = 0
        self.is_outdated = False

    def __len__(self) -> int:
        return self._waiting

    def __contains__(self, key: object) -> bool:
        return any(key in lot for lot in self._lots)

    def merge(self, changes: Mapping[bytes, NextHops | None], cause: str) -> None:
        if not self._waiting:
            self.is_outdated = False
        lot = self._lots[-1]
        before = len(lot)
        if before and before + len(changes) > self._lot:
            lot, before = {}, 0
            self._begin(lot)
        lot.update(changes)
        self._waiting += len(lot) - before
        self._causes[-1][cause] += len(changes)
        self._counts[cause] += len(changes)

    def _begin(self, lot: dict[bytes, NextHops | None]) -> None:
        self._lots.append(lot)
        self._causes.append(Counter())

    def _end(self) -> None:
        """The oldest chunk is done."""
        self._lots.popleft()
        self._keys = None
        for cause, count in self._causes.popleft().items():
            self._counts[cause] -= count
            if not self._counts[cause]:
                del self._counts[cause]

    def clear(self) -> None:
        while self._lots:
            self._end()
        self._begin({})
        self._left = self._waiting = 0

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
                self._begin({})
        keys = list(itertools.islice(self._keys, limit))
        values = list(itertools.islice(self._values, limit))
        self._left -= len(keys)
        self._waiting -= len(keys)
        if not self._left:
            self._end()
        return keys, values

    def slices(self, size: int) -> Iterator[list[bytes]]:
        for lot in list(self._lots):
            keys = list(lot)
            for start in range(0, len(keys), size):
                yield keys[start : start + size]
