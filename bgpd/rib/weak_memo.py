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


class _Reference(weakref.ref[V]):
    """A weak reference that knows the key of its value."""

    __slots__ = ("key",)

    key: Hashable


class WeakMemo(Generic[K, V]):
    """Keys to values that can be referred to weakly."""

    __slots__ = ("_forget", "_references")

    def __init__(self) -> None:
        self._references: dict[Hashable, _Reference[V]] = {}
        references = self._references

        def forget(reference: weakref.ref[V]) -> None:
            key = reference.key  # type: ignore[attr-defined]
            if references.get(key) is reference:
                del references[key]

        self._forget = forget

    def get(self, key: K) -> V | None:
        """The value of `key`, if it is still alive."""
        reference = self._references.get(key)
        return None if reference is None else reference()

    def set(self, key: K, value: V) -> None:
        """Remember `value`, for as long as it lives."""
        reference = self._references[key] = _Reference(value, self._forget)
        reference.key = key

    def __len__(self) -> int:
        return len(self._references)

    def values(self) -> Iterator[V]:
        """The values that are alive, in no particular order."""
        for reference in self._references.values():
            value = reference()
            if value is not None:
                yield value
