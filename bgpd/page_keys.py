"""The keys that a page of a table shows: the next ones in order, found by one look at a dict that has no order.

A look passes each key by its first byte, where that tells most of them apart from the best bound that it has until
then, and compares the others with the bound; what is searched is asked only of the few that are left. What it costs is
to touch each key, in steps.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import compress
from operator import itemgetter

import msgspec

from bgpd.evpn.key_search import address
from bgpd.model.containers import ShardedDict
from bgpd.model.iana import Family
from bgpd.model.prefix import address_length, by_address, covering_keys
from bgpd.rib.loc_rib import LocRib
from bgpd.rib.shared_decisions import Entry

SLICE = 16_384
"""Keys of one step ..."""
MOST_OF_PART = 65_536
"""... and how many at most where they need not be copied: some milliseconds."""
_MOST_LENGTH = 128

_address_of = itemgetter(slice(1, None))
_first_byte = itemgetter(1)

Keep = Callable[[Sequence[bytes]], list[bytes]]
"""Those of some keys that are meant."""
Order = Callable[[bytes], tuple[bytes, int]]


class Keys(msgspec.Struct, frozen=True, kw_only=True):
    """A table to be read in pages. `family` and `vrf` name it in cursors, `what` says which keys `slices` and `keep`
    choose: the same text, the same choice. `low` and `high` bound the keys, those of prefixes without their length.
    """

    family: str
    vrf: str
    what: str
    slices: Callable[[], Iterable[Collection[bytes]]]
    views: Callable[[bytes], Sequence[msgspec.Struct]]
    size: int
    keep: Keep | None = None
    of_prefixes: bool = True
    low: bytes = b""
    high: bytes | None = None

    @property
    def order(self) -> Order:
        """By which its keys follow each other: those of prefixes by address, the shorter first."""
        return by_address if self.of_prefixes else _as_it_is

    def in_order(self, keys: Iterable[bytes]) -> list[bytes]:
        """Each once, in their order."""
        found = sorted(set(keys))
        if self.of_prefixes:
            found.sort(key=_address_of)
        return found

    def within(self, keys: list[bytes], low: bytes, high: bytes | None) -> list[bytes]:
        """Those of the keys between two bounds, which are without the length of a prefix. The bound that should leave
        fewer is asked first."""
        if low and (high is None or low[0] > 0xFF - int.from_bytes(high[:1])):
            keys = self._from(keys, low)
            return keys if high is None else self._up_to(keys, high)
        if high is not None:
            keys = self._up_to(keys, high)
        return self._from(keys, low) if low else keys

    def _up_to(self, keys: Sequence[bytes], high: bytes) -> list[bytes]:
        if not self.of_prefixes:
            return [key for key in keys if key <= high]
        bounds = _of_each_length(high)
        return [key for key in keys if key <= bounds[key[0]]]

    def _from(self, keys: Sequence[bytes], low: bytes) -> list[bytes]:
        if not self.of_prefixes:
            return [key for key in keys if key >= low]
        bounds = _of_each_length(low)
        return [key for key in keys if key >= bounds[key[0]]]


def _of_each_length(address: bytes) -> list[bytes]:
    """The key of an address, by the length of the prefixes that are compared with it: a third cheaper than to take the
    length off each of them."""
    return [bytes((length,)) + address for length in range(_MOST_LENGTH + 1)]


def smallest(table: Keys, after: bytes | None, count: int) -> Iterator[list[bytes] | None]:
    """The first keys of a table after one, in order, by one look at all of them: last, after None for each slice."""
    start = 1 if table.of_prefixes else 0
    order = table.order
    low, high, keep = table.low, table.high, table.keep
    if after is not None:
        low = max(low, after[start:])
    found: list[bytes] = []
    tells = table.of_prefixes
    for keys in table.slices():
        if tells:
            chosen = _by_first_byte(keys, low, high, enough=count if keep is None and high is None else 0)
            tells = 2 * len(chosen) < len(keys)
        else:
            chosen = list(keys)
        chosen = table.within(chosen, low, high)
        if after is not None:
            chosen = [key for key in chosen if order(key) > order(after)]
        found += chosen if keep is None else keep(chosen)
        if len(found) > 2 * count:
            found = table.in_order(found)[:count]
            high = found[-1][start:]
        yield None
    yield table.in_order(found)[:count]


def _by_first_byte(keys: Collection[bytes], low: bytes, high: bytes | None, *, enough: int) -> list[bytes]:
    """Those of prefixes whose first byte may be between two bounds: hardly more than the keys are touched. `enough`: so
    many of the first ones will do, where there is no bound above."""
    try:
        column = bytes(map(_first_byte, keys))
    except IndexError:  # a default route has none
        column = bytes([key[1] if len(key) > 1 else 0 for key in keys])
    first = int.from_bytes(low[:1])
    last = 0xFF if high is None else int.from_bytes(high[:1])
    if enough:
        found, last = 0, first
        while last < 0xFF and found < enough:
            last += 1
            found += column.count(last)
    return list(compress(keys, column.translate(_between(first, last))))


@functools.lru_cache(maxsize=1024)
def _between(first: int, last: int) -> bytes:
    """1 for each byte between the two, else 0."""
    return bytes(first <= byte <= last for byte in range(256))


def _as_it_is(key: bytes) -> tuple[bytes, int]:
    return key, 0


def sliced(keys: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    """In lists of the size of a step."""
    for start in range(0, len(keys), SLICE):
        yield keys[start : start + SLICE]


def in_parts(routes: ShardedDict[Entry]) -> Iterator[Collection[bytes]]:
    """All keys of a table, in its own dicts unless these are very long: a list of a million keys costs a fifth of a
    look."""
    for part in routes.parts:
        if len(part) > MOST_OF_PART:
            yield from sliced(list(part))
        elif part:
            yield part


# What is searched


def of_search(table: Keys, text: str, family: Family, key: bytes) -> Keys:
    """Only the routes inside a prefix; of an address without a length those that cover it."""
    packed = address(text)
    if packed:
        covering = sorted(covering_keys(family, packed), key=by_address)
        return msgspec.structs.replace(table, what=f"{table.what} {text}", slices=lambda: [covering])
    length = address_length(Family(table.family))
    first = int.from_bytes(key[1:].ljust(length, b"\0"))
    last = first | ((1 << (8 * length - key[0])) - 1)
    return _narrowed(
        msgspec.structs.replace(table, low=key[1:], high=last.to_bytes(length)),
        text,
        lambda keys: [one for one in keys if one[0] >= key[0]],  # the others begin at its first address, and are wider
    )


def of_neighbor(table: Keys, rib: LocRib, neighbor: str) -> Keys:
    """Only the routes that a neighbor has announced."""
    return _narrowed(table, neighbor, paths_of(rib, neighbor))


def _narrowed(table: Keys, text: str, keep: Keep) -> Keys:
    before = table.keep
    both: Keep = keep if before is None else lambda keys: keep(before(keys))
    return msgspec.structs.replace(table, what=f"{table.what} {text}", keep=both)


def paths_of(table: LocRib, neighbor: str) -> Keep:
    """The keys that have a path of a neighbor. Each decision is asked once, however many share it."""
    known: dict[Entry | None, bool] = {None: False}

    def keep(keys: Sequence[bytes]) -> list[bytes]:
        entries = table.routes.get_all(keys)
        for entry in set(entries).difference(known):
            known[entry] = entry is not None and entry.path_of(neighbor) is not None
        return [key for key, entry in zip(keys, entries) if known[entry]]

    return keep


def local(table: LocRib) -> Keep:
    """The keys of which this host's own path is the best."""

    def keep(keys: Sequence[bytes]) -> list[bytes]:
        entries = table.routes.get_all(keys)
        return [key for key, entry in zip(keys, entries) if entry is not None and entry.is_local]

    return keep
