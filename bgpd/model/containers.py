"""Containers for very many routes: a dict in parts, and a memo that keeps its values by weak reference.

`ShardedDict`: CPython grows a dict in one go, which at 700,000 keys blocks the loop for 40 to 60 ms. Here the last byte
but one of a key selects one of several dicts, so that a batch of neighboring prefixes, as peers send them, is in one
dict or two and keeps the speed of the interpreter's C loops. The parts have uneven shares and grow at different times.

The memo does what weakref.WeakValueDictionary does at half its cost, which matters where every route has its own
attributes: an entry is dropped with its value. For one thread; do not change it while iterating over its values.
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Hashable, Iterator, MutableMapping, Sequence
from itertools import repeat
from operator import itemgetter
from sys import getsizeof
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

_RUNS = (4, 5, 6, 7) * 11 + (7, 7)
"""How many of the deciding byte's values, one after the other, each dict gets: 4 are 1,024 neighboring host routes."""
PART_OF = b"".join(bytes((index,)) * run for index, run in enumerate(_RUNS))
"""The number of a key's dict, by its deciding byte: the last but one, or 0 for a key of one byte."""
_MOST_RUNS = 24
_deciding_byte = itemgetter(-2)
_ROOM = 256
"""Bytes of a dict for each key that it has: twice as many as just after it grew, so that no growing dict is shrunk."""
_LEAST_ROOM = 8_192


def part_number(key: bytes) -> int:
    """The number of a key's dict."""
    return PART_OF[key[-2] if len(key) > 1 else 0]


def _runs(numbers: bytes) -> list[tuple[int, int, int]] | None:
    """(number, start, end) of each stretch of equal numbers; None if there are so many that they are of no use."""
    found: list[tuple[int, int, int]] = []
    start, end = 0, len(numbers)
    while start < end:
        if len(found) == _MOST_RUNS:
            return None
        after = end - len(numbers[start:].lstrip(numbers[start : start + 1]))
        found.append((numbers[start], start, after))
        start = after
    return found


class ShardedDict(MutableMapping[bytes, V]):
    """A dict of route keys (bytes, at least one). In order of insertion only within each of its `parts`.

    `of_prefixes`: keys of prefixes, whose first byte tells their size; else (EVPN) a little slower. For bulk work use
    `split` and the dicts themselves.
    """

    __slots__ = ("_of_prefixes", "parts")

    def __init__(self, *, of_prefixes: bool = True) -> None:
        self.parts: tuple[dict[bytes, V], ...] = tuple({} for _ in _RUNS)
        self._of_prefixes = of_prefixes

    def _part_numbers(self, keys: Sequence[bytes]) -> bytes:
        """The number of each key's dict. Where a prefix of the first one's length begins at every multiple of its size,
        all have that size."""
        first = keys[0]
        size = len(first)
        if self._of_prefixes and size > 1:
            joined = b"".join(keys)
            if joined[::size] == first[:1] * len(keys):
                return joined[size - 2 :: size].translate(PART_OF)
        try:
            column = bytes(map(_deciding_byte, keys))
        except IndexError:
            column = bytes([key[-2] if len(key) > 1 else 0 for key in keys])
        return column.translate(PART_OF)

    def part(self, key: bytes) -> dict[bytes, V]:
        """The dict that has `key`, or would have it."""
        return self.parts[PART_OF[key[-2] if len(key) > 1 else 0]]

    def split(self, keys: Sequence[bytes]) -> list[tuple[dict[bytes, V], Sequence[bytes]]]:
        """The keys by the dict that has them, or would have them; in each, their order is kept."""
        if len(keys) < 2:
            return [(self.part(key), keys) for key in keys]
        numbers = self._part_numbers(keys)
        if numbers.count(numbers[0]) == len(keys):
            return [(self.parts[numbers[0]], keys)]
        runs = _runs(numbers)
        if runs is not None:
            by_part: dict[int, list[bytes]] = {}
            for number, start, end in runs:
                by_part.setdefault(number, []).extend(keys[start:end])
            return [(self.parts[number], one) for number, one in by_part.items()]
        chosen: list[list[bytes]] = [[] for _ in self.parts]
        appends = [one.append for one in chosen]
        for number, key in zip(numbers, keys):
            appends[number](key)
        return [(part, one) for part, one in zip(self.parts, chosen) if one]

    def get_all(self, keys: Sequence[bytes]) -> list[V | None]:
        """What each key has, in the order of `keys`; None where it has nothing."""
        if not keys:
            return []
        numbers = self._part_numbers(keys)
        if numbers.count(numbers[0]) == len(keys):
            return list(map(self.parts[numbers[0]].get, keys))
        runs = _runs(numbers)
        if runs is not None:
            found: list[V | None] = []
            for number, start, end in runs:
                found += map(self.parts[number].get, keys[start:end])
            return found
        gets = [part.get for part in self.parts]
        return [gets[number](key) for number, key in zip(numbers, keys)]

    def set_all(self, keys: Sequence[bytes], value: V) -> None:
        """Give all keys the same value."""
        for part, chosen in self.split(keys):
            part.update(dict.fromkeys(chosen, value))

    def discard_all(self, keys: Sequence[bytes]) -> None:
        """Remove the keys that are there."""
        for part, chosen in self.split(keys):
            deque(map(part.pop, chosen, repeat(None)), maxlen=0)

    def slices(self, size: int) -> Iterator[list[bytes]]:
        """All keys in lists of up to `size`, found as the walk goes: no step looks at more than one of the dicts."""
        for part in filter(None, self.parts):
            keys = list(part)
            for start in range(0, len(keys), size):
                yield keys[start : start + size]

    def shrink(self) -> Iterator[None]:
        """Give back the room of dicts that once held far more: CPython's never shrink on their own. A step for each
        that does: to look at all of them is nothing."""
        for part in self.parts:
            if getsizeof(part) > _LEAST_ROOM + _ROOM * len(part):
                left = dict(part)
                part.clear()
                part.update(left)
                yield

    def __getitem__(self, key: bytes) -> V:
        return self.part(key)[key]

    def get(self, key: bytes, default: V | None = None) -> V | None:  # type: ignore[override]
        """What `key` has, or `default`."""
        return self.part(key).get(key, default)

    def __setitem__(self, key: bytes, value: V) -> None:
        self.part(key)[key] = value

    def __delitem__(self, key: bytes) -> None:
        del self.part(key)[key]

    def __contains__(self, key: object) -> bool:
        return isinstance(key, bytes) and key in self.part(key)

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def __bool__(self) -> bool:
        return any(self.parts)

    def __iter__(self) -> Iterator[bytes]:
        for part in self.parts:
            yield from part

    def clear(self) -> None:
        for part in self.parts:
            part.clear()

    def copy(self) -> ShardedDict[V]:
        """Another table of the same keys and values."""
        other: ShardedDict[V] = ShardedDict(of_prefixes=self._of_prefixes)
        other.parts = tuple(part.copy() for part in self.parts)
        return other


_PARTS = 16
"""Number of dicts that share the entries, so that none blocks the loop for long when it grows."""


class _Reference(weakref.ref[V]):
    """A weak reference that knows where its value is entered."""

    __slots__ = ("key", "part")

    key: Hashable
    part: dict[Hashable, _Reference[V]]


def _forget(reference: weakref.ref[V]) -> None:
    if isinstance(reference, _Reference) and reference.part.get(reference.key) is reference:
        del reference.part[reference.key]


class WeakMemo(Generic[K, V]):
    """Keys to values that can be referred to weakly."""

    __slots__ = ("_parts",)

    def __init__(self) -> None:
        self._parts: list[dict[Hashable, _Reference[V]]] = [{} for _ in range(_PARTS)]

    def get(self, key: K) -> V | None:
        """The value of `key`, if it is still alive."""
        reference = self._parts[hash(key) % _PARTS].get(key)
        return None if reference is None else reference()

    def set(self, key: K, value: V) -> None:
        """Remember `value`, for as long as it lives."""
        part = self._parts[hash(key) % _PARTS]
        reference = part[key] = _Reference(value, _forget)
        reference.key = key
        reference.part = part

    def __len__(self) -> int:
        return sum(map(len, self._parts))

    def values(self) -> Iterator[V]:
        """The values that are alive, in no particular order."""
        for part in self._parts:
            for reference in part.values():
                value = reference()
                if value is not None:
                    yield value
