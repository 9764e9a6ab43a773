"""The route sets that every daemon is given: deterministic, so that injector, kernel check and raw writer agree.

A prefix is its wire form: the length byte, then the significant address bytes.
"""

from __future__ import annotations

import random
import socket
import struct
from collections.abc import Iterator

import msgspec

from benchmarks import wire

KINDS = ("v4-32", "v4-mix", "v6-64")

_MIX = ((24, 62), (23, 10), (22, 12), (21, 5), (20, 5), (19, 3), (18, 1), (17, 1), (16, 1))
"""Prefix lengths of an Internet table and their weights, rounded."""

_FIRST_V4 = 0x14000000
_FIRST_V6 = 0x2A00 << 48
_RESERVED = ((0x0A000000, 0x0B000000), (0x7F000000, 0x80000000), (0xA9FE0000, 0xA9FF0000))


class RouteSet(msgspec.Struct, frozen=True, kw_only=True):
    """`count` prefixes of `kind`, spread over `attribute_sets` different attribute blocks (0: one for each prefix).

    `start` skips that many prefixes, so that two sets may be disjoint (not for mixed lengths).
    """

    kind: str = "v4-32"
    count: int = 1000
    attribute_sets: int = 1
    start: int = 0

    @property
    def family(self) -> str:
        return "ipv6-unicast" if self.kind.startswith("v6") else "ipv4-unicast"

    def prefixes(self) -> list[bytes]:
        """All prefixes, in the order in which they are announced."""
        if self.kind == "v4-32":
            first = _FIRST_V4 + self.start
            return [b"\x20" + struct.pack(">I", number) for number in range(first, first + self.count)]
        if self.kind == "v6-64":
            first = _FIRST_V6 + self.start
            return [b"\x40" + struct.pack(">Q", number) for number in range(first, first + self.count)]
        return _realistic_mix(self.count)

    def announcements(self, *, asn: int, next_hop: str, variant: int = 0) -> Iterator[bytes]:
        """UPDATE messages that announce all; every `variant` (leaf) has the same attributes."""
        prefixes = self.prefixes()
        packed = pack_address(next_hop)
        sets = self.attribute_sets or self.count
        share = -(-self.count // sets)
        for number in range(sets):
            part = prefixes[number * share : (number + 1) * share]
            if part:
                communities = (asn << 16, number) if sets > 1 else (asn << 16,)
                block = wire.common_attributes((asn, 64600 + number % 64), communities=communities)
                yield from wire.announce(self.family, block, packed, part)

    def withdrawals(self) -> Iterator[bytes]:
        """UPDATE messages that withdraw all."""
        yield from wire.withdraw(self.family, self.prefixes())


def pack_address(text: str) -> bytes:
    """4 or 16 bytes of an IP address."""
    return socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)


def format_prefix(prefix: bytes, family: str = "") -> str:
    """Text of a prefix; without a family, more than 32 bits means IPv6."""
    size = 16 if family == "ipv6-unicast" or prefix[0] > 32 else 4
    address = prefix[1:].ljust(size, b"\0")
    return f"{socket.inet_ntop(socket.AF_INET6 if size == 16 else socket.AF_INET, address)}/{prefix[0]}"


def _realistic_mix(count: int) -> list[bytes]:
    """`count` prefixes of realistic lengths that do not overlap, in a fixed shuffled order."""
    generator = random.Random(4271)
    lengths = generator.choices([length for length, _ in _MIX], [weight for _, weight in _MIX], k=count)
    prefixes = []
    cursor = 0x01000000
    for length in lengths:
        size = 1 << (32 - length)
        cursor = -(-cursor // size) * size
        for low, high in _RESERVED:
            if low < cursor + size and cursor < high:
                cursor = -(-high // size) * size
        prefixes.append(bytes((length,)) + struct.pack(">I", cursor)[: (length + 7) >> 3])
        cursor += size
    if cursor > 0xE0000000:
        raise ValueError(f"{count} prefixes of mixed lengths do not fit into the IPv4 unicast space")
    generator.shuffle(prefixes)
    return prefixes
