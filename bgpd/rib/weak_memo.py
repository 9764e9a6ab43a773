"""A memo of values that others own: an entry goes when its value does. Never keeps anything alive.

What weakref.WeakValueDictionary does at half its cost, which counts where every route has attributes of its own. For
one thread, and not to be changed while one goes through its values.
"""

from __future__ import annotations

import weakref
from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


_PARTS = 16
"""Dicts that the entries are dealt to, so that none holds the loop for long when it grows."""


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
