"""Route changes that wait for the kernel, merged by key: the latest wish replaces one that has not been taken.

Decides only the order: what was asked for first is taken first, in slices, without ever copying what waits.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping

from bgpd.model.path import NextHops


class PendingChanges:
    """Two dicts: one is filled, the other emptied by iterators, so that neither a slice nor a merge walks over what
    waits.

    A key of the emptying dict that has a newer wish in the other is passed over.
    """

    def __init__(self) -> None:
        self._filling: dict[bytes, NextHops | None] = {}
        self._emptying: dict[bytes, NextHops | None] = {}
        self._keys: Iterator[bytes] = iter(())
        self._values: Iterator[NextHops | None] = iter(())
        self._taken = 0

    def __len__(self) -> int:
        """Wishes that wait; a key that waits in both dicts counts twice."""
        return len(self._filling) + len(self._emptying) - self._taken

    def __contains__(self, key: object) -> bool:
        """Whether a key waits; while others of its slice wait, one that was just taken may count as waiting."""
        return key in self._filling or (self._taken < len(self._emptying) and key in self._emptying)

    def merge(self, changes: Mapping[bytes, NextHops | None]) -> None:
        """Add wishes; each replaces an earlier one for its key."""
        self._filling.update(changes)

    def take(self, limit: int) -> tuple[list[bytes], list[NextHops | None]]:
        """Up to `limit` keys and their wishes; empty only when nothing waits."""
        while len(self):
            if self._taken == len(self._emptying):
                self._start_emptying(self._filling)
                self._filling = {}
            keys = list(itertools.islice(self._keys, limit))
            values = list(itertools.islice(self._values, limit))
            self._taken += len(keys)
            if self._taken == len(self._emptying):
                self._start_emptying({})
            if self._filling and not self._filling.keys().isdisjoint(keys):
                stays = [key not in self._filling for key in keys]
                keys = list(itertools.compress(keys, stays))
                values = list(itertools.compress(values, stays))
            if keys:
                return keys, values
        return [], []

    def _start_emptying(self, changes: dict[bytes, NextHops | None]) -> None:
        self._emptying, self._taken = changes, 0
        self._keys, self._values = iter(changes), iter(changes.values())

    def keys(self) -> set[bytes]:
        """Keys that wait. Costs a walk: for views only."""
        return self._filling.keys() | set(itertools.islice(self._emptying, self._taken, None))
