"""The usual UPDATE read in one go: attribute blocks that nothing is wrong with. Hot path of routes that are not alike.

Judges nothing: what has to be looked at for any reason is None here, and attribute_decoder.py looks at everything. This
module is compiled where a compiler is, so it is plain loops over bytes, ints and dicts (docs/decisions/0020).
"""

from __future__ import annotations

from bgpd.model.attributes import Attributes

ORIGIN, AS_PATH, NEXT_HOP, MED, LOCAL_PREF, AGGREGATOR, LARGE_COMMUNITIES = 1, 2, 4, 8, 16, 32, 64
"""Bits of the attributes whose values are looked at."""
_LOOKED_AT = 127
_NEEDED = ORIGIN | AS_PATH
NOT_SIMPLE = 0x7F0000
"""Bits of attributes that the decision process compares, or that tell bandwidth, if they are there at all."""
_AS_0 = b"\0\0\0\0"


class PlainRules:
    """What the attributes of a usual block look like on one session.

    `short`: by flags, type and length, the bit of the attribute and its length. `long`: by flags and type, for lengths
    of two bytes, its bit, the unit that its length is a multiple of, the least and the most. `first`: the AS that
    paths start with, packed; b"": any, or none at all.
    """

    def __init__(
        self, short: dict[bytes, tuple[int, int]], long: dict[bytes, tuple[int, int, int, int]], first: bytes
    ) -> None:
        self.short = short
        self.long = long
        self.first = first


def read_block(block: bytes, rules: PlainRules) -> tuple[Attributes, bytes] | None:
    """The attributes and the packed NEXT_HOP (b"" if absent) of a usual block; None for any other."""
    short, long, first = rules.short, rules.long, rules.first
    seen, offset, end = 0, 0, len(block)
    length, origin, worse = 0, 0, 0
    next_hop = b""
    while offset < end:
        head = short.get(block[offset : offset + 3])
        if head is not None:
            bit, size = head
            start = offset + 3
        else:
            wide = long.get(block[offset : offset + 2])
            start = offset + 4
            if wide is None or start > end:
                return None
            bit, unit, least, most = wide
            size = block[offset + 2] << 8 | block[offset + 3]
            if size < least or size > most or size % unit:
                return None
        offset = start + size
        if seen & bit or offset > end:
            return None
        seen |= bit
        if not bit & _LOOKED_AT:
            continue
        if bit == ORIGIN:
            origin = block[start]
            if origin > 2:
                return None
        elif bit == AS_PATH:
            if size:
                length = block[start + 1]
                if block[start] != 2 or not length or size != 2 + 4 * length:
                    return None
                if not block.startswith(first, start + 2) or block.find(_AS_0, start + 2, offset) >= 0:
                    return None
            elif first:
                return None
        elif bit == NEXT_HOP:
            next_hop = block[start:offset]
        elif bit == MED:
            if block[start:offset] != _AS_0:
                seen |= _NOT_SIMPLE_MED
        elif bit == LOCAL_PREF:
            worse = 100 - int.from_bytes(block[start:offset], "big")
        elif bit == AGGREGATOR:
            if block.startswith(_AS_0, start):
                return None
        elif size > 12 and _has_repeated(block, start, offset):
            return None
    if seen & _NEEDED != _NEEDED:
        return None
    rank = ((worse << 16) + length << 2) + origin
    return Attributes(block, rank, not seen & NOT_SIMPLE), next_hop


_NOT_SIMPLE_MED = 0x10000


def _has_repeated(block: bytes, start: int, end: int) -> bool:
    """Whether a large community stands there twice (RFC 8092 section 5)."""
    found = {block[at : at + 12] for at in range(start, end, 12)}
    return len(found) * 12 != end - start
