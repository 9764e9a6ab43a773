"""The keys of one family that somebody asks for (a few of them, or all inside a prefix), and how blocks that may say
something of them are found: a block has an index of the keys that its records are about.
"""

from __future__ import annotations

import re
import zlib
from array import array
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Protocol

from bgpd.model.prefix import covers

_AT_ONCE = 4_096
"""Keys that are put into an index without a pause: the event loop waits as long."""

SHORT = 2
"""Bytes of a key that are in nearly every UPDATE somewhere: it cannot be looked for byte by byte."""

MayName = Callable[[bytes], bool]
"""Whether an UPDATE, without its header, may name a wanted key: NLRI are the keys, byte by byte, and those of EVPN have
them in them."""


def index_of(keys: Iterable[bytes]) -> array[int]:
    """What stands in the index of a block for these."""
    found, left = array("I"), iter(keys)
    while some := set(islice(left, _AT_ONCE)):
        found.extend(map(zlib.crc32, some))
    return found


class Wanted(Protocol):
    """What is asked for."""

    def among(self, keys: Iterable[bytes]) -> list[bytes]:
        """The wanted ones of these, each once."""

    def within(self, index: array[int], *, is_crowded: bool) -> MayName | None:
        """Of a block with this index: what its UPDATEs have to be asked; None: it says nothing of a wanted key. With
        `is_crowded` it may name others that are longer than SHORT."""


class These:
    """Certain keys."""

    def __init__(self, keys: Iterable[bytes]) -> None:
        self._keys = frozenset(keys)
        self._by_hash: dict[int, list[bytes]] = {}
        for key in self._keys:
            self._by_hash.setdefault(zlib.crc32(key), []).append(key)
        self._hashes = frozenset(self._by_hash)
        self._long = [key for key in self._keys if len(key) > SHORT]

    def among(self, keys: Iterable[bytes]) -> list[bytes]:
        return list(self._keys.intersection(keys))

    def within(self, index: array[int], *, is_crowded: bool) -> MayName | None:
        keys = self._long if is_crowded else []
        if not self._hashes.isdisjoint(index):
            found = [key for one in self._hashes.intersection(index) for key in self._by_hash[one]]
            keys = list({*keys, *found})
        if not keys:
            return None
        if len(keys) == 1:
            only = keys[0]
            return lambda body: only in body
        return lambda body: any(key in body for key in keys)


class Inside:
    """The key of a prefix, and all inside it."""

    def __init__(self, outer: bytes) -> None:
        self._outer = outer
        length, whole = outer[0], outer[1 : 1 + outer[0] // 8]
        lengths = b"[" + re.escape(bytes((length,))) + b"-" + re.escape(bytes((128,))) + b"]"
        self._find = re.compile(lengths + re.escape(whole), re.DOTALL).search

    def among(self, keys: Iterable[bytes]) -> list[bytes]:
        outer = self._outer
        return list(dict.fromkeys([key for key in keys if covers(outer, key)]))

    def within(self, index: array[int], *, is_crowded: bool) -> MayName | None:
        return lambda body: self._find(body) is not None


class OfKind:
    """All that is said of one kind (`Mark`), of those keys that `keep` leaves. UPDATEs without the bytes `needle` say
    nothing of it; None: none does."""

    def __init__(
        self, mark: bytes, *, needle: bytes | None = None, keep: Callable[[Sequence[bytes]], list[bytes]] | None = None
    ) -> None:
        self._mark = zlib.crc32(mark)
        self._needle = needle
        self._keep = keep

    def among(self, keys: Iterable[bytes]) -> list[bytes]:
        found = list(dict.fromkeys(keys))
        return found if self._keep is None else self._keep(found)

    def within(self, index: array[int], *, is_crowded: bool) -> MayName | None:
        if self._mark not in index:
            return None
        needle = self._needle
        return (lambda body: False) if needle is None else (lambda body: needle in body)


class Either:
    """What one of two asks for, of which both take the same records. Keys are asked of the first."""

    def __init__(self, first: Wanted, second: Wanted) -> None:
        self._first, self._second = first, second

    def among(self, keys: Iterable[bytes]) -> list[bytes]:
        return self._first.among(keys)

    def within(self, index: array[int], *, is_crowded: bool) -> MayName | None:
        found = [one.within(index, is_crowded=is_crowded) for one in (self._first, self._second)]
        asked = [one for one in found if one is not None]
        if len(asked) < 2:
            return asked[0] if asked else None
        first, second = asked
        return lambda body: first(body) or second(body)
