"""A table that looks like the Internet's: prefixes, attributes, and the order in which they arrive.

Deterministic, so that injector, kernel check and raw writer agree. Nothing is copied from a real table; all is drawn
from these distributions:

* Prefix lengths: rounded from Geoff Huston's reports ("BGP in 2023", blog.apnic.net/2024/01/09/measuring-bgp-in-2023-
  have-we-reached-peak-ipv4, and "BGP in 2024", labs.apnic.net/?p=1950) and RIPE Labs' "Visibility of IPv4 and IPv6
  Prefix Lengths" (labs.ripe.net/Members/stephen_strowes/visibility-of-prefix-lengths-in-ipv4-and-ipv6). The average
  IPv6 length is 43, and 57 of 100 prefixes lie inside another one (bgp.potaroo.net/v6/as2.0, 2024 and 2025). Prefixes
  shorter than /12 (IPv6: /28) are left out: they are few, and take much space.
* AS paths: 4.7 long on average, prepending counted (the routing table report of thyme.apnic.net), the leaf's AS number
  before them. 25 of 100 prefixes are prepended by their origin (Marcos et al., "AS-Path Prepending: There is No Rose
  Without a Thorn", IMC 2020, www.aminer.cn/pub/62194b1d5aee126c0fec33ed/as-path-prepending).
* Communities on three of four routes, large communities on one of eight: assumed, in line with Streibelt et al., "BGP
  Communities: Even more Worms in the Routing Can", IMC 2018, and Hannachi et al., "Analysis of Propagation of Regular,
  Extended, and Large BGP Communities" (www.nist.gov/publications/analysis-propagation-regular-extended-and-large-bgp-
  communities).
* Assumed without a source: MED on 15 of 100 attribute sets, AGGREGATOR on 9, ATOMIC_AGGREGATE on 6, ORIGIN incomplete
  on 10.
* 150,000 attribute sets for a million routes, with a heavy tail: more than half of them have one or two prefixes, and
  the hundredth part with the most prefixes has a third of all. The prefixes of a set are neighbors in address space.

Order of arrival: after its session came up a leaf sends one attribute set after the other, UPDATEs as full as they may
be, the sets in random order ("grouped"). "scattered" is the worst case: one prefix in each UPDATE, in random order.

Another leaf (`variant`) has the same prefixes in the same sets by other paths: other transit networks, other
communities, another order. A third of the sets has the shorter path by even leaves, a third by odd ones, and a third
paths of one length by all, which are used together.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from benchmarks import internet_attributes, wire
from benchmarks.internet_attributes import SEED
from benchmarks.routes import RouteSet, pack_address

SETS_OF_1000_ROUTES = 150
_LENGTHS_V4 = {12: 3, 13: 6, 14: 12, 15: 20, 16: 136, 17: 85, 18: 140, 19: 250, 20: 440, 21: 500, 22: 1160, 23: 1000}
_LENGTHS_V4 |= {24: 6248}
_LENGTHS_V6 = {28: 10, 29: 220, 30: 30, 31: 20, 32: 1060, 33: 220, 34: 190, 35: 90, 36: 420, 37: 80, 38: 130, 39: 80}
_LENGTHS_V6 |= {40: 960, 41: 100, 42: 260, 43: 110, 44: 1020, 45: 220, 46: 400, 47: 360, 48: 4020}
"""Weights of prefix lengths."""

_SPECIAL_V4 = (
    # RFC 6890: the blocks below 224.0.0.0 that are not routed on the Internet; first and end.
    (0x0A000000, 0x0B000000),
    (0x64400000, 0x64800000),
    (0x7F000000, 0x80000000),
    (0xA9FE0000, 0xA9FF0000),
    (0xAC100000, 0xAC200000),
    (0xC0000000, 0xC0000300),
    (0xC0586300, 0xC0586400),
    (0xC0A80000, 0xC0A90000),
    (0xC6120000, 0xC6140000),
    (0xC6336400, 0xC6336500),
    (0xCB007100, 0xCB007200),
)
_FIRST_V4, _END_V4 = 0x01000000, 0xE0000000
_FIRST_V6 = tuple(first << 112 for first in (0x2400, 0x2600, 0x2800, 0x2A00, 0x2C00))
"""Where the registries' blocks of a /12 begin; none holds a special block, nor the laboratory's 2001:db8::/32."""

_REGION = 5000
"""Prefixes that lie together: the longer ones of a region are inside its shorter ones."""
_TAIL, _LONGEST_TAIL = 1.1, 500.0
"""The Pareto distribution of prefixes by set."""
_INSIDE = {32: 0.8, 128: 0.61}
"""Share of the prefixes, by address length, that are put into a shorter one where there is one."""


class InternetTable(msgspec.Struct, frozen=True, kw_only=True):
    """`count` routes of `kind` "internet-v4" or "internet-v6", in `sets` attribute sets (0: as many as is usual).

    `order` is "grouped" or "scattered".
    """

    kind: str = "internet-v4"
    count: int = 1000
    sets: int = 0
    order: str = "grouped"

    @property
    def family(self) -> str:
        return "ipv6-unicast" if self.kind == "internet-v6" else "ipv4-unicast"

    @property
    def attribute_sets(self) -> int:
        """How many attribute sets there are."""
        return self.sets or max(1, self.count * SETS_OF_1000_ROUTES // 1000)

    def prefixes(self) -> Sequence[bytes]:
        """All prefixes in wire form, by set."""
        return _prefixes(self.kind, self.count)

    def sizes(self) -> Sequence[int]:
        """How many prefixes each set has."""
        return _sizes(self.count, self.attribute_sets)

    def preferred_by(self) -> Sequence[int]:
        """EVEN, ODD or ALL: which leaves have the shortest path, by set."""
        return internet_attributes.preferred_by(self.attribute_sets)

    def next_hops(self, leaves: Sequence[bytes]) -> Mapping[bytes, frozenset[bytes]]:
        """The next hops that each prefix has once all leaves have announced it, from their addresses in order."""
        shortest = (frozenset(leaves[::2]), frozenset(leaves[1::2] or leaves), frozenset(leaves))
        found: dict[bytes, frozenset[bytes]] = {}
        prefixes, start = self.prefixes(), 0
        for size, which in zip(self.sizes(), self.preferred_by()):
            found.update(dict.fromkeys(prefixes[start : start + size], shortest[which]))
            start += size
        return found

    def blocks(self, *, asn: int, variant: int = 0) -> list[bytes]:
        """The attribute block of each set by leaf `variant`, without a next hop."""
        return internet_attributes.blocks(self.attribute_sets, asn=asn, variant=variant)

    def announcements(self, *, asn: int, next_hop: str, variant: int = 0) -> Iterator[bytes]:
        """UPDATE messages that announce all."""
        prefixes, packed = self.prefixes(), pack_address(next_hop)
        generator = random.Random(SEED + 100 + variant)
        start, parts = 0, []
        for block, size in zip(self.blocks(asn=asn, variant=variant), self.sizes()):
            parts.append((block, start, start + size))
            start += size
        if self.order == "scattered":
            parts = [(block, place, place + 1) for block, first, end in parts for place in range(first, end)]
        generator.shuffle(parts)
        for block, first, end in parts:
            yield from wire.announce(self.family, block, packed, prefixes[first:end])

    def withdrawals(self) -> Iterator[bytes]:
        """UPDATE messages that withdraw all."""
        yield from wire.withdraw(self.family, self.prefixes())


Routes = RouteSet | InternetTable
"""What a leaf may announce."""


def routes_of(builtins: dict[str, Any]) -> Routes:
    """The route set or Internet table that was turned into builtins."""
    if str(builtins["kind"]).startswith("internet"):
        return msgspec.convert(builtins, InternetTable)
    return msgspec.convert(builtins, RouteSet)


@functools.lru_cache(maxsize=2)
def _prefixes(kind: str, count: int) -> Sequence[bytes]:
    generator = random.Random(SEED)
    weights = _LENGTHS_V6 if kind == "internet-v6" else _LENGTHS_V4
    lengths = generator.choices(list(weights), list(weights.values()), k=count)
    made: list[bytes] = []
    place = _Space(128 if kind == "internet-v6" else 32)
    for start in range(0, count, _REGION):
        made += _region(sorted(lengths[start : start + _REGION]), place, generator)
    return made


def _region(lengths: Sequence[int], place: _Space, generator: random.Random) -> list[bytes]:
    """Prefixes of these lengths (ascending) that lie together, in the order of their addresses."""
    bits = place.bits
    outer: list[tuple[int, int]] = []
    taken: set[tuple[int, int]] = set()
    shorter, inside = 0, _INSIDE[bits]
    for number, length in enumerate(lengths):
        if number and length != lengths[number - 1]:
            shorter = len(outer)
        step = bits - length
        if shorter and generator.random() < inside:
            first, its_length = outer[generator.randrange(shorter)]
            address = first + (generator.randrange(1 << (length - its_length)) << step)
            if (address, length) not in taken:
                taken.add((address, length))
                continue
        address = place.next(1 << step)
        outer.append((address, length))
        taken.add((address, length))
    size = bits // 8
    return [bytes((length,)) + address.to_bytes(size, "big")[: (length + 7) >> 3] for address, length in sorted(taken)]


class _Space:
    """Hands out address space in ascending order, without special blocks; IPv6 in turn from each registry's."""

    def __init__(self, bits: int) -> None:
        self.bits = bits
        self._cursors = [_FIRST_V4] if bits == 32 else list(_FIRST_V6)
        self._turn = 0

    def next(self, size: int) -> int:
        """The first address of the next free block of `size` addresses.

        Raises: ValueError: none is left.
        """
        self._turn = (self._turn + 1) % len(self._cursors)
        first = -(-self._cursors[self._turn] // size) * size
        if self.bits == 32:
            for low, end in _SPECIAL_V4:
                if low < first + size and first < end:
                    first = -(-end // size) * size
            if first + size > _END_V4:
                raise ValueError("so many prefixes do not fit into the IPv4 unicast space")
        self._cursors[self._turn] = first + size
        return first


@functools.lru_cache(maxsize=2)
def _sizes(count: int, sets: int) -> Sequence[int]:
    """Sizes of `sets` sets that are `count` together: one for each, the rest by a Pareto distribution."""
    generator = random.Random(SEED + 1)
    weights = [min(generator.paretovariate(_TAIL) - 1.0, _LONGEST_TAIL) for _ in range(sets)]
    share = (count - sets) / sum(weights)
    sizes = [1 + int(weight * share) for weight in weights]
    for number in range(count - sum(sizes)):
        sizes[number % sets] += 1
    return sizes
