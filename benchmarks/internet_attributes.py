"""The attribute sets of an Internet table. Their distributions and sources: see benchmarks/internet_table.py."""

from __future__ import annotations

import functools
import random
import struct
from collections.abc import Mapping, Sequence

import msgspec

from benchmarks import wire

SEED = 4271
EVEN, ODD, ALL = 0, 1, 2
"""The leaves that have the shortest path of a set."""

_PATH_LENGTHS = {1: 5, 2: 110, 3: 310, 4: 320, 5: 160, 6: 65, 7: 20, 8: 10}
"""Weights of how many networks are on a path from behind the leaf to the origin, without prepending."""
_PREPENDS = {1: 40, 2: 28, 3: 16, 4: 8, 5: 5, 8: 3}
_COMMUNITIES = {1: 12, 2: 15, 3: 13, 4: 12, 5: 9, 6: 8, 8: 11, 11: 8, 15: 7, 20: 4, 30: 1}
_LARGE_COMMUNITIES = {1: 35, 2: 25, 3: 20, 5: 12, 10: 8}
_TAGGED, _TAGGED_LARGE, _PREPENDED = 0.75, 0.125, 0.25
_MED, _AGGREGATOR, _ATOMIC, _INCOMPLETE = 0.15, 0.09, 0.06, 0.1
_ORIGINS, _TRANSITS, _UPSTREAMS = 76_000, 9_000, 8
"""How many networks originate prefixes, carry those of others, and serve a leaf."""


class _Common(msgspec.Struct, frozen=True, kw_only=True):
    """What a set has by every leaf: `tail` is the origin, prepended or not; `between` how many networks come before."""

    preferred_by: int
    tail: tuple[int, ...]
    between: int
    origin: int
    med: int | None
    rest: bytes


@functools.lru_cache(maxsize=2)
def _common(sets: int) -> Sequence[_Common]:
    generator = random.Random(SEED + 2)
    chance = generator.random
    lengths = _drawn(generator, _PATH_LENGTHS, sets)
    prepends = _drawn(generator, _PREPENDS, sets)
    made = []
    for number in range(sets):
        network = _network(int(chance() * _ORIGINS))
        rest = wire.attribute(0x40, 6, b"") if chance() < _ATOMIC else b""
        if chance() < _AGGREGATOR:
            rest += wire.attribute(0xC0, 7, struct.pack(">II", network, 0x01000000 + generator.getrandbits(24)))
        made.append(
            _Common(
                preferred_by=number % 3,
                tail=(network,) * (1 + (prepends[number] if chance() < _PREPENDED else 0)),
                between=lengths[number] - 1,
                origin=2 if chance() < _INCOMPLETE else 0,
                med=generator.randrange(0, 500, 10) if chance() < _MED else None,
                rest=rest,
            )
        )
    return made


def preferred_by(sets: int) -> list[int]:
    """EVEN, ODD or ALL for each set."""
    return [common.preferred_by for common in _common(sets)]


def blocks(sets: int, *, asn: int, variant: int) -> list[bytes]:
    """Distinct attribute blocks of the leaf `variant`, attributes in the order of their codes, without a next hop."""
    generator = random.Random(SEED + 10 + variant)
    chance = generator.random
    tagged = _drawn(generator, _COMMUNITIES, sets)
    tagged_large = _drawn(generator, _LARGE_COMMUNITIES, sets)
    made: dict[bytes, None] = {}
    for number, common in enumerate(_common(sets)):
        between = common.between + (common.preferred_by != ALL and common.preferred_by != variant % 2)
        path = [asn]
        if between:
            path.append(_network(variant * _UPSTREAMS + int(chance() * _UPSTREAMS)))
            path += [_network(int(chance() ** 2 * _TRANSITS)) for _ in range(between - 1)]
        path += common.tail
        communities = _tags(generator, path, tagged[number]) if chance() < _TAGGED else []
        large = tagged_large[number] if chance() < _TAGGED_LARGE else 0
        block = _block(generator, common, path, communities, large)
        while block in made:
            communities = [*communities, _tag(path[0], len(made) & 0xFFFF)]
            block = _block(generator, common, path, communities, large)
        made[block] = None
    return list(made)


def _block(
    generator: random.Random, common: _Common, path: Sequence[int], communities: Sequence[int], large: int
) -> bytes:
    block = wire.common_attributes(path, origin=common.origin, med=common.med) + common.rest
    if communities:
        block += wire.attribute(0xC0, 8, struct.pack(f">{len(communities)}I", *communities))
    if large:
        values = [
            value
            for number in range(large)
            for value in (path[1 + number % (len(path) - 1)], generator.randrange(100), generator.randrange(10_000))
        ]
        block += wire.attribute(0xC0, 32, struct.pack(f">{3 * large}I", *values))
    return block


def _tags(generator: random.Random, path: Sequence[int], count: int) -> list[int]:
    """Communities that networks of the path gave the route, in ascending order."""
    chance = generator.random
    return sorted(
        {_tag(path[1 + int(chance() ** 2 * (len(path) - 1))], int(chance() ** 3 * 9_000)) for _ in range(count)}
    )


def _tag(network: int, value: int) -> int:
    return (network & 0xFFFF) << 16 | value


def _network(number: int) -> int:
    """The AS number of network `number`: a third of them has four octets. Private and reserved ones are not among them.

    Those in front (the transit networks) have two octets.
    """
    if number < _TRANSITS or number % 3:
        return 1000 + number * 37 % 22_000 if number < 22_000 else 24_000 + number * 37 % 40_000
    return 131_072 + number * 3


def _drawn(generator: random.Random, weights: Mapping[int, int], count: int) -> list[int]:
    return generator.choices(list(weights), list(weights.values()), k=count)
