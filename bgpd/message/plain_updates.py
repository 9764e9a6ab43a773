"""The usual UPDATEs read in one go: cut from the input, their attribute blocks walked, their routes made to batches.

Hot path of routes that are not alike. Judges nothing: at an UPDATE that has to be looked at for any reason `read_run`
stops, and update_decoder.py looks at everything. This module is compiled where a compiler is, so it is flat loops over
bytes, ints, lists and dicts (docs/decisions/0020).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, cast

from bgpd.model.attributes import Attributes
from bgpd.model.iana import Family
from bgpd.model.next_hop import NextHop
from bgpd.model.route_batch import RouteBatch
from bgpd.model.wire import MalformedNlri, RouteGroup

MARKER: Final = b"\xff" * 16
"""How every message begins (RFC 4271 section 4.1)."""
_UPDATE: Final = 2
_SHORTEST_UPDATE: Final = 23
_HEADER: Final = 19

ORIGIN: Final = 1
AS_PATH: Final = 2
NEXT_HOP: Final = 4
MED: Final = 8
LOCAL_PREF: Final = 16
AGGREGATOR: Final = 32
LARGE_COMMUNITIES: Final = 64
"""Bits of the attributes whose values are looked at."""
_LOOKED_AT: Final = 127
_NEEDED: Final = ORIGIN | AS_PATH
_NOT_SIMPLE_MED: Final = 0x10000
NOT_SIMPLE: Final = 0x7F0000
"""Bits of attributes that the decision process compares, or that tell bandwidth, if they are there at all."""
_AS_0: Final = b"\0\0\0\0"
_LONG_PATH: Final = 4
_BEGINNINGS: Final = {
    b"\x40\1\1" + bytes((origin, flags, 2)): origin | wide
    for origin in range(3)
    for flags, wide in ((0x40, 0), (0x50, _LONG_PATH))
}
"""How nearly all blocks begin: ORIGIN, then AS_PATH with a length of one byte or two. The value is the ORIGIN's."""
_BLOCKS_KEPT: Final = 512
_LONGEST_KEPT: Final = 1024
"""Blocks that a session remembers, and the bytes of the longest."""

_IPV4: Final = Family.IPV4_UNICAST
_IPV6: Final = Family.IPV6_UNICAST
_EVPN: Final = Family.L2VPN_EVPN
_REACH: Final = b"\x80\x0e"
_UNREACH: Final = b"\x80\x0f"
_LONG_REACH: Final = b"\x90\x0e"
_LONG_UNREACH: Final = b"\x90\x0f"
"""How the attributes of an UPDATE begin that has MP_REACH_NLRI first (RFC 7606 section 5.1), or MP_UNREACH_NLRI only;
with a length of one byte or two."""
_CODES: Final = {b"\0\1\1": _IPV4, b"\0\2\1": _IPV6, b"\0\x19\x46": _EVPN}


class PlainRules:
    """What the attributes of a usual block look like on one session.

    `short`: by flags, type and length, the bit of the attribute and its length; empty where no block is usual. `long`:
    by flags and type, for lengths of two bytes, its bit, the unit that its length is a multiple of, the least and the
    most. `first`: the AS that paths start with, packed; b"": any, or none at all.
    """

    def __init__(
        self, short: dict[bytes, tuple[int, int]], long: dict[bytes, tuple[int, int, int, int]], first: bytes
    ) -> None:
        self.short = short
        self.long = long
        self.first = first


class PlainBlocks:
    """The usual attribute blocks of one session, remembered for a while."""

    def __init__(self, rules: PlainRules) -> None:
        self.rules = rules
        self.known: dict[bytes, tuple[Attributes, bytes]] = {}

    def find(self, block: bytes) -> tuple[Attributes, bytes] | None:
        """The attributes and the packed NEXT_HOP (b"" if absent) of a usual block; None for any other."""
        found = self.known.get(block)
        if found is None:
            found = read_block(block, self.rules)
            if found is not None and len(block) <= _LONGEST_KEPT:
                if len(self.known) >= _BLOCKS_KEPT:
                    self.known.clear()
                self.known[block] = found
        return found


class PlainFamily:
    """How the prefixes of a unicast family are read.

    `sizes` and `host_bits`: encoded size, and the bits of the last byte that must be zero, by prefix length. `split`:
    what splits several, and raises MalformedNlri. `suspects`: 1 for the first address bytes of martians. `is_clear`:
    whether none of several is a martian, given the field too.
    """

    def __init__(
        self,
        sizes: list[int],
        host_bits: list[int],
        *,
        split: Callable[[bytes], list[bytes]],
        suspects: bytes,
        is_clear: Callable[[Sequence[bytes], bytes], bool],
    ) -> None:
        self.sizes = sizes
        self.host_bits = host_bits
        self.split = split
        self.suspects = suspects
        self.is_clear = is_clear


class PlainReader:
    """What is read as usual on one session. A family that is None is not. `next_hop` makes one of the packed field;
    None if it is not usable. `evpn`: the EVPN routes of a field, given their attributes (None: withdrawn), in few
    groups; None if anything is wrong with one."""

    def __init__(
        self,
        blocks: PlainBlocks,
        *,
        ipv4: PlainFamily | None,
        ipv6: PlainFamily | None,
        evpn: Callable[[bytes, Attributes | None], Sequence[RouteGroup] | None] | None,
        next_hop: Callable[[Family, bytes], NextHop | None],
    ) -> None:
        self.blocks = blocks
        self.ipv4 = ipv4
        self.ipv6 = ipv6
        self.evpn = evpn
        self.next_hop = next_hop


def cut_updates(data: bytes, start: int, longest: int, most: int, most_bytes: int, bodies: list[bytes]) -> int:
    """Append the bodies of the UPDATEs that stand whole in `data` from `start` on, and tell where they end.

    `most` of them at most, and none that begins `most_bytes` or more after the first. Stops at any other message, and
    at one whose header is not right, or longer than `longest`.
    """
    size, stop = len(data), start + most_bytes
    while start + _SHORTEST_UPDATE <= size and start < stop and most > 0:
        length = data[start + 16] << 8 | data[start + 17]
        end = start + length
        if data[start + 18] != _UPDATE or length < _SHORTEST_UPDATE or length > longest or end > size:
            break
        if not data.startswith(MARKER, start):
            break
        bodies.append(data[start + _HEADER : end])
        start = end
        most -= 1
    return start


def read_run(reader: PlainReader, bodies: list[bytes], into: list[RouteBatch]) -> int:
    """Append the routes of the first UPDATEs, up to one that is not usual, and tell how many UPDATEs that are.

    Neighbors of which each withdraws, or announces with the same attributes and next hop, become one batch.
    """
    known = reader.blocks.known
    hops4: dict[bytes, NextHop] = {}
    hops6: dict[bytes, NextHop] = {}
    hops_evpn: dict[bytes, NextHop] = {}
    last: Attributes | None = None
    last_family, last_hop = _IPV4, None
    keys: list[bytes] = []
    taken = 0
    for body in bodies:
        size = len(body)
        if size < 4:
            break
        family, packed, block = _IPV4, b"", b""
        attributes: Attributes | None = None
        next_hop: NextHop | None = None
        if body[0] or body[1]:
            if size != 4 + (body[0] << 8 | body[1]) or body[size - 2] or body[size - 1]:
                break
            field = body[2 : size - 2]
        else:
            end = 4 + (body[2] << 8 | body[3])
            if end < size:
                field, block = body[end:], body[4:end]
                if not block:
                    break
            else:
                sections = _split_multiprotocol(body) if end == size else None
                if sections is None:
                    break
                family, packed, field, block = sections
        plain = reader.ipv4 if family is _IPV4 else reader.ipv6
        if (plain if family is not _EVPN else reader.evpn) is None:
            break
        if block:
            found = known.get(block)
            if found is None:
                found = reader.blocks.find(block)
                if found is None:
                    break
            attributes, classic = found
            hops = hops4 if family is _IPV4 else hops6 if family is _IPV6 else hops_evpn
            packed = packed or classic
            next_hop = hops.get(packed)
            if next_hop is None:
                next_hop = reader.next_hop(family, packed)
                if next_hop is None:
                    break
                hops[packed] = next_hop
        if family is _EVPN:
            groups = None if reader.evpn is None else reader.evpn(field, attributes)
            if groups is None:
                break
            if keys:
                into.append(_batch(last_family, keys, last, last_hop))
            last_family, keys = _EVPN, []
            _add_groups(into, groups, attributes, next_hop)
            taken += 1
            continue
        if plain is None:
            break
        is_like = attributes is last and next_hop is last_hop and family is last_family
        width = plain.sizes[field[0]]
        if width == len(field) and not field[width - 1] & plain.host_bits[field[0]]:
            if width > 1 and block and plain.suspects[field[1]]:
                break
            if is_like:
                keys.append(field)
            else:
                many = [field]
        else:
            try:
                many = plain.split(field)
            except MalformedNlri:
                break
            if block and not plain.is_clear(many, field):
                break
            if is_like:
                keys += many
        if not is_like:
            if keys:
                into.append(_batch(last_family, keys, last, last_hop))
            last, last_hop, last_family, keys = attributes, next_hop, family, many
        taken += 1
    if keys:
        into.append(_batch(last_family, keys, last, last_hop))
    return taken


def _batch(family: Family, keys: list[bytes], attributes: Attributes | None, next_hop: NextHop | None) -> RouteBatch:
    if attributes is None:
        return RouteBatch(family, keys)
    return RouteBatch(family, (), keys, attributes, next_hop)


def _add_groups(
    into: list[RouteBatch], groups: Sequence[RouteGroup], attributes: Attributes | None, next_hop: NextHop | None
) -> None:
    """Append EVPN routes, those that are alike to the last batch, whose lists no one else has."""
    for group in groups:
        last = into[-1] if into else None
        if last is None or last.family is not _EVPN or last.attributes is not attributes:
            into.append(_evpn_batch(group, attributes, next_hop))
        elif attributes is None:
            cast(list[bytes], last.withdrawn).extend(group.keys)
        elif last.next_hop is not next_hop or last.overlay != group.overlay:
            into.append(_evpn_batch(group, attributes, next_hop))
        elif last.labels is None and group.labels is None:
            cast(list[bytes], last.announced).extend(group.keys)
        elif last.labels is not None and group.labels is not None:
            cast(list[bytes], last.announced).extend(group.keys)
            cast(list[bytes], last.labels).extend(group.labels)
        else:
            into.append(_evpn_batch(group, attributes, next_hop))


def _evpn_batch(group: RouteGroup, attributes: Attributes | None, next_hop: NextHop | None) -> RouteBatch:
    if attributes is None:
        return RouteBatch(_EVPN, group.keys)
    return RouteBatch(_EVPN, (), group.keys, attributes, next_hop, group.overlay, group.labels)


def _split_multiprotocol(body: bytes) -> tuple[Family, bytes, bytes, bytes] | None:
    """Family, packed next hop, NLRI field and attribute block of an UPDATE that announces by MP_REACH_NLRI; one that
    only withdraws by MP_UNREACH_NLRI has no block. None for any other."""
    size = len(body)
    if size < 11:
        return None
    head = body[4:6]
    if head in (_REACH, _UNREACH):
        start, stop = 7, 7 + body[6]
    elif head in (_LONG_REACH, _LONG_UNREACH):
        start, stop = 8, 8 + (body[6] << 8 | body[7])
    else:
        return None
    family = _CODES.get(body[start : start + 3])
    if stop > size or stop < start + 4 or family is None:
        return None
    if body[5] == _UNREACH[1]:
        return (family, b"", body[start + 3 :], b"") if stop == size else None
    after = start + 4 + body[start + 3]
    packed, field, block = body[start + 4 : after], body[after + 1 : stop], body[stop:]
    return (family, packed, field, block) if packed and field and block else None


def read_block(block: bytes, rules: PlainRules) -> tuple[Attributes, bytes] | None:
    """The attributes and the packed NEXT_HOP (b"" if absent) of a usual block; None for any other."""
    short, long, first = rules.short, rules.long, rules.first
    seen, offset, end = 0, 0, len(block)
    length, origin, worse = 0, 0, 0
    next_hop = b""
    begun = _BEGINNINGS.get(block[:6]) if short else None
    if begun is not None and end > 8:
        origin, start, size = begun & 3, 7, block[6]
        if begun & _LONG_PATH:
            start, size = 8, size << 8 | block[7]
        offset = start + size
        length = _path_length(block, start, offset, first)
        if length < 0:
            return None
        seen = _NEEDED
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
            length = _path_length(block, start, offset, first)
            if length < 0:
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
    code = ((worse << 16) + length << 3) + 2 * origin
    return Attributes(block, code + 1 if seen & NOT_SIMPLE else code), next_hop


def _path_length(block: bytes, start: int, end: int, first: bytes) -> int:
    """Hops of an AS_PATH of one sequence without AS 0, or of none where paths may start with any AS; -1 for others."""
    if start == end:
        return -1 if first else 0
    if end > len(block) or end < start + 6 or block[start] != 2:
        return -1
    length = block[start + 1]
    if not length or start + 2 + 4 * length != end or not block.startswith(first, start + 2):
        return -1
    return length if block.find(_AS_0, start + 2, end) < 0 else -1


def _has_repeated(block: bytes, start: int, end: int) -> bool:
    """Whether a large community stands there twice (RFC 8092 section 5)."""
    found = {block[at : at + 12] for at in range(start, end, 12)}
    return len(found) * 12 != end - start
