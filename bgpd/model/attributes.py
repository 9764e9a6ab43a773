"""Path attributes as one frozen value (RFC 4271 section 5 and the RFCs that each field names).

`Attributes` is the attribute block as it came over the wire, with what the decision process compares beside it: a
route whose attributes are its own costs one small object and its bytes. Whoever wants a value gets it from the block:
`AttributeFields` are all of them, made when somebody looks and kept for a while.

Lists (AS path, communities, clusters) stay bytes there too, since a list of Python numbers takes ten times as much and
neighbors choose how long they are. `as_path`, `communities` and so on make them anew.

Attributes compare and hash by identity, since the tables use them as keys in the hot path; `same_as` compares contents.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from bgpd.model.as_path import (
    AsPathSegment,
    as_path_length,
    divided_path,
    pack_as_path,
    segments_of,
    unpack_as_path,
    unpack_numbers,
)
from bgpd.model.iana import AttributeFlag, AttributeType, Origin, SegmentType

DEFAULT_LOCAL_PREF = 100
"""LOCAL_PREF of a route without one."""
_SEQUENCE = int(SegmentType.AS_SEQUENCE)
_OPTIONAL, _TRANSITIVE = int(AttributeFlag.OPTIONAL), int(AttributeFlag.TRANSITIVE)
_PARTIAL, _EXTENDED_LENGTH = int(AttributeFlag.PARTIAL), int(AttributeFlag.EXTENDED_LENGTH)
_NEXT_HOP, _EXTENDED_COMMUNITIES = int(AttributeType.NEXT_HOP), int(AttributeType.EXTENDED_COMMUNITIES)
_ONLY_TO_CUSTOMER = bytes((AttributeType.ONLY_TO_CUSTOMER,))
_MOST = 65_535
_MOST_OF_LIST = 65_520
"""Bytes of one attribute: at most, and of lists, whose values have 4, 8 or 12. What is longer stands in several."""
OBJECT_BYTES = 120
"""What Attributes take beside the bytes of their block."""
_FIELDS_KEPT = 1024
_LONGEST_KEPT = 1024
"""Blocks whose fields are kept for a while, and the bytes of the longest of them."""
LENGTH_BITS, ORIGIN_BITS = 16, 2
"""Of a rank, the lower bits: AS path length and ORIGIN; above them is LOCAL_PREF."""
_LEAST = 1 << 60
"""Added to the rank of what is used only where nothing else is left: more than any LOCAL_PREF counts."""


class Aggregator(msgspec.Struct, frozen=True, gc=False):
    """AGGREGATOR (RFC 4271 section 5.1.7): AS number and the 4-byte router ID."""

    asn: int
    router_id: bytes


class UnknownAttribute(msgspec.Struct, frozen=True, gc=False):
    """An attribute that bgpd does not interpret; passed on when transitive (RFC 4271 section 5).

    Of the flags as received only Optional, Transitive and Partial are kept.
    """

    flags: int
    type: int
    value: bytes


class AttributeFields(msgspec.Struct, frozen=True, gc=False):
    """The values of an attribute block. Next hop and NLRI are none of them.

    The packed fields are attribute values with 4-octet AS numbers, b"" if absent. Absent `med`, `local_pref`: None.
    Originator and cluster list: RFC 4456. `only_to_customer` is the AS number of OTC (RFC 9234). `partial` are the
    types of the typed ones that some router on the way did not know (RFC 4271 section 5).
    """

    origin: Origin = Origin.IGP
    packed_as_path: bytes = b""
    med: int | None = None
    local_pref: int | None = None
    atomic_aggregate: bool = False
    aggregator: Aggregator | None = None
    packed_communities: bytes = b""
    packed_extended_communities: bytes = b""
    packed_large_communities: bytes = b""
    originator_id: bytes | None = None
    packed_cluster_list: bytes = b""
    only_to_customer: int | None = None
    unknown: tuple[UnknownAttribute, ...] = ()
    partial: tuple[int, ...] = ()

    def changed(self, **fields: Any) -> AttributeFields:
        """A copy in which these fields have other values; lists may be given as `Attributes.of` takes them."""
        return msgspec.structs.replace(self, **_packed(fields))

    def pack(self) -> Attributes:
        """The Attributes of these values: a block with ORIGIN and AS_PATH, of ascending types up to the unknown."""
        rank = rank_of(self.local_pref, as_path_length(self.packed_as_path), self.origin)
        more = self.med or self.originator_id is not None or self.packed_cluster_list
        return Attributes.read(_pack_block(self), rank, not (more or self.packed_extended_communities))


class Attributes(msgspec.Struct, frozen=True, eq=False, gc=False):
    """The attributes of a path; next hop and NLRI are kept beside it. Made of typed values by `Attributes.of`.

    `block` is well-formed: what was wrong with it when it came is not in it. AS numbers have 4 octets, there is no MP
    attribute, and a NEXT_HOP means nothing. `code` is `rank` and `is_simple` in one number, since every field takes
    room for each route: twice the rank, and 1 more if they are not simple.
    """

    block: bytes
    code: int

    @staticmethod
    def read(block: bytes, rank: int, is_simple: bool) -> Attributes:
        """Attributes of a block of which these two are known."""
        return Attributes(block, rank << 1 if is_simple else rank << 1 | 1)

    @property
    def rank(self) -> int:
        """What the decision process compares first, as one number: highest LOCAL_PREF, shortest AS_PATH, lowest ORIGIN;
        lower is better."""
        return self.code >> 1

    @property
    def is_simple(self) -> bool:
        """Whether the decision process compares nothing else of them, and they say nothing of bandwidth: there is no
        MED (but 0), ORIGINATOR_ID, CLUSTER_LIST or extended community."""
        return not self.code & 1

    @staticmethod
    def of(**fields: Any) -> Attributes:
        """Attributes of values: those of AttributeFields, where lists may be given as the properties give them."""
        return AttributeFields(**_packed(fields)).pack()

    def changed(self, **fields: Any) -> Attributes:
        """A copy in which these fields, given as for `of`, have other values."""
        return self.fields.changed(**fields).pack()

    def same_as(self, other: Attributes) -> bool:
        """Whether both hold the same contents."""
        return self is other or self.contents == other.contents or self.fields == other.fields

    def least_preferred(self) -> Attributes:
        """The same contents, worse than all that are not so (RFC 9494 section 4.3)."""
        return self if self.is_least_preferred else Attributes(self.block, self.code + (_LEAST << 1))

    @property
    def is_least_preferred(self) -> bool:
        """Whether it was made by `least_preferred`."""
        return self.code >= _LEAST

    @property
    def fields(self) -> AttributeFields:
        """All values: for whoever looks at several."""
        block = self.block
        return _kept_fields(block) if len(block) <= _LONGEST_KEPT else _read_fields(block)

    @property
    def size(self) -> int:
        """Bytes of memory that it takes."""
        return OBJECT_BYTES + len(self.block)

    @property
    def contents(self) -> bytes:
        """The block without NEXT_HOP. Equal ones say the same; the same may stand in another order."""
        block = self.block
        for begin, _, kind, _, end in attributes_of(block):
            if kind == _NEXT_HOP:
                return block[:begin] + block[end:]
        return block

    @property
    def origin(self) -> Origin:
        """ORIGIN (RFC 4271 section 5.1.1)."""
        return self.fields.origin

    @property
    def packed_as_path(self) -> bytes:
        """AS_PATH as segments with AS numbers of four octets (RFC 6793)."""
        return self.fields.packed_as_path

    @property
    def med(self) -> int | None:
        """MULTI_EXIT_DISC (RFC 4271 section 5.1.4); None: not sent."""
        return self.fields.med

    @property
    def local_pref(self) -> int | None:
        """LOCAL_PREF (RFC 4271 section 5.1.5); None: not sent."""
        return self.fields.local_pref

    @property
    def atomic_aggregate(self) -> bool:
        """ATOMIC_AGGREGATE (RFC 4271 section 5.1.6)."""
        return self.fields.atomic_aggregate

    @property
    def aggregator(self) -> Aggregator | None:
        """AGGREGATOR (RFC 4271 section 5.1.7)."""
        return self.fields.aggregator

    @property
    def packed_communities(self) -> bytes:
        """COMMUNITIES (RFC 1997), four bytes each."""
        return self.fields.packed_communities

    @property
    def packed_extended_communities(self) -> bytes:
        """EXTENDED COMMUNITIES (RFC 4360), eight bytes each."""
        return _list_in(self.block, _EXTENDED_COMMUNITIES) if self.code & 1 else b""

    @property
    def packed_large_communities(self) -> bytes:
        """LARGE_COMMUNITY (RFC 8092), twelve bytes each."""
        return self.fields.packed_large_communities

    @property
    def originator_id(self) -> bytes | None:
        """ORIGINATOR_ID (RFC 4456), four bytes."""
        return None if self.is_simple else self.fields.originator_id

    @property
    def packed_cluster_list(self) -> bytes:
        """CLUSTER_LIST (RFC 4456), four bytes each."""
        return b"" if self.is_simple else self.fields.packed_cluster_list

    @property
    def only_to_customer(self) -> int | None:
        """OTC, an AS number (RFC 9234)."""
        return self.fields.only_to_customer if _ONLY_TO_CUSTOMER in self.block else None

    @property
    def unknown(self) -> tuple[UnknownAttribute, ...]:
        """Transitive ones that bgpd does not know and passes on (RFC 4271 section 9)."""
        return self.fields.unknown

    @property
    def partial(self) -> tuple[int, ...]:
        """Types of the others that some router on the way did not know (RFC 4271 section 5)."""
        return self.fields.partial

    @property
    def as_path(self) -> tuple[AsPathSegment, ...]:
        """The segments of the AS_PATH."""
        return unpack_as_path(self.packed_as_path)

    @property
    def communities(self) -> tuple[int, ...]:
        """32-bit numbers (RFC 1997)."""
        return unpack_numbers(self.packed_communities)

    @property
    def extended_communities(self) -> tuple[bytes, ...]:
        """8 bytes each (RFC 4360)."""
        return in_pieces(self.packed_extended_communities, 8)

    @property
    def large_communities(self) -> tuple[tuple[int, int, int], ...]:
        """Triples of 32-bit numbers (RFC 8092)."""
        return tuple(struct.iter_unpack("!III", self.packed_large_communities))

    @property
    def cluster_list(self) -> tuple[bytes, ...]:
        """4 bytes each, the last cluster first."""
        return in_pieces(self.packed_cluster_list, 4)

    # Each looks first whether the bytes stand anywhere in the block, since nearly always they do not.

    def has_community(self, community: int) -> bool:
        """Whether it is among the communities."""
        piece = community.to_bytes(4, "big")
        return piece in self.block and _is_among(piece, self.packed_communities, 4)

    def has_extended_community(self, community: bytes) -> bool:
        """Whether it is among the extended communities."""
        return community in self.block and _is_among(community, self.packed_extended_communities, 8)

    def has_large_community(self, community: tuple[int, int, int]) -> bool:
        """Whether it is among the large communities."""
        piece = struct.pack("!III", *community)
        return piece in self.block and _is_among(piece, self.packed_large_communities, 12)

    def has_cluster(self, router_id: bytes) -> bool:
        """Whether the route was reflected there (RFC 4456 section 8)."""
        return router_id in self.block and _is_among(router_id, self.packed_cluster_list, 4)

    def count_as(self, asn: int) -> int:
        """How often `asn` stands in the AS_PATH (loop detection, RFC 4271 section 9.1.2)."""
        if asn.to_bytes(4, "big") not in self.block:
            return 0
        path = self.packed_as_path
        return sum(unpack_numbers(path[at : at + 4 * count]).count(asn) for _, count, at in segments_of(path))

    @property
    def as_path_length(self) -> int:
        """Hops for the decision process."""
        return self.rank >> ORIGIN_BITS & (1 << LENGTH_BITS) - 1

    @property
    def asns_in_path(self) -> int:
        """AS numbers that stand in the AS_PATH, those of sets and confederations too."""
        return sum(count for _, count, _ in segments_of(self.packed_as_path))

    @property
    def first_asn(self) -> int | None:
        """The neighboring AS (leftmost of an AS_SEQUENCE; None for an empty path or one that starts with a set)."""
        path = self.packed_as_path
        return int.from_bytes(path[2:6], "big") if path and path[0] == _SEQUENCE else None

    @property
    def cluster_list_length(self) -> int:
        """How many clusters the route has passed."""
        return len(self.packed_cluster_list) // 4


def rank_of(local_pref: int | None, path_length: int, origin: int) -> int:
    """The rank of Attributes. Without LOCAL_PREF it is one of the small numbers of which CPython has one each."""
    worse = 0 if local_pref is None else DEFAULT_LOCAL_PREF - local_pref
    return ((worse << LENGTH_BITS) + path_length << ORIGIN_BITS) + origin


# Blocks

_LISTS = {
    int(AttributeType.COMMUNITIES): "packed_communities",
    int(AttributeType.EXTENDED_COMMUNITIES): "packed_extended_communities",
    int(AttributeType.LARGE_COMMUNITIES): "packed_large_communities",
    int(AttributeType.CLUSTER_LIST): "packed_cluster_list",
    int(AttributeType.AS_PATH): "packed_as_path",
}
_SINGLE: dict[int, tuple[str, Any]] = {
    int(AttributeType.ORIGIN): ("origin", lambda value: Origin(value[0])),
    int(AttributeType.MULTI_EXIT_DISC): ("med", int.from_bytes),
    int(AttributeType.LOCAL_PREF): ("local_pref", int.from_bytes),
    int(AttributeType.ATOMIC_AGGREGATE): ("atomic_aggregate", lambda value: True),
    int(AttributeType.AGGREGATOR): ("aggregator", lambda value: Aggregator(int.from_bytes(value[:4]), value[4:])),
    int(AttributeType.ORIGINATOR_ID): ("originator_id", bytes),
    int(AttributeType.ONLY_TO_CUSTOMER): ("only_to_customer", int.from_bytes),
}


def attributes_of(block: bytes) -> Iterator[tuple[int, int, int, int, int]]:
    """Where each attribute of a well-formed block begins, its flags, its type, and where its value begins and ends."""
    begin, size = 0, len(block)
    while begin < size:
        flags = block[begin]
        start = begin + (4 if flags & _EXTENDED_LENGTH else 3)
        end = start + int.from_bytes(block[begin + 2 : start])
        yield begin, flags, block[begin + 1], start, end
        begin = end


def _list_in(block: bytes, kind: int) -> bytes:
    """The value of a packed list, without looking at what else the block has: EVPN asks it of each path."""
    begin, size, found = 0, len(block), b""
    while begin < size:
        if block[begin] & _EXTENDED_LENGTH:
            start = begin + 4
            end = start + (block[begin + 2] << 8 | block[begin + 3])
        else:
            start = begin + 3
            end = start + block[begin + 2]
        if block[begin + 1] == kind:
            found += block[start:end]
        begin = end
    return found


def _read_fields(block: bytes) -> AttributeFields:
    found: dict[str, Any] = {}
    unknown: list[UnknownAttribute] = []
    partial: list[int] = []
    for _, flags, kind, start, end in attributes_of(block):
        value = block[start:end]
        if kind in _LISTS:
            name = _LISTS[kind]
            found[name] = found[name] + value if name in found else value
        elif kind in _SINGLE:
            name, make = _SINGLE[kind]
            found[name] = make(value)
        elif kind != _NEXT_HOP:
            unknown.append(UnknownAttribute(flags & (_OPTIONAL | _TRANSITIVE | _PARTIAL), kind, value))
            continue
        if flags & _PARTIAL and kind not in partial:
            partial.append(kind)
    return AttributeFields(**found, unknown=tuple(unknown), partial=tuple(partial))


_kept_fields = functools.lru_cache(_FIELDS_KEPT)(_read_fields)


def _pack_block(fields: AttributeFields) -> bytes:
    both = _OPTIONAL | _TRANSITIVE
    pieces: list[tuple[int, int, bytes]] = [(_TRANSITIVE, AttributeType.ORIGIN, bytes((fields.origin,)))]
    pieces += [(_TRANSITIVE, AttributeType.AS_PATH, part) for part in divided_path(fields.packed_as_path, _MOST)]
    if fields.med is not None:
        pieces.append((_OPTIONAL, AttributeType.MULTI_EXIT_DISC, fields.med.to_bytes(4, "big")))
    if fields.local_pref is not None:
        pieces.append((_TRANSITIVE, AttributeType.LOCAL_PREF, fields.local_pref.to_bytes(4, "big")))
    if fields.atomic_aggregate:
        pieces.append((_TRANSITIVE, AttributeType.ATOMIC_AGGREGATE, b""))
    if fields.aggregator is not None:
        value = fields.aggregator.asn.to_bytes(4, "big") + fields.aggregator.router_id
        pieces.append((both, AttributeType.AGGREGATOR, value))
    pieces += _divided(both, AttributeType.COMMUNITIES, fields.packed_communities)
    if fields.originator_id is not None:
        pieces.append((_OPTIONAL, AttributeType.ORIGINATOR_ID, fields.originator_id))
    pieces += _divided(_OPTIONAL, AttributeType.CLUSTER_LIST, fields.packed_cluster_list)
    pieces += _divided(both, AttributeType.EXTENDED_COMMUNITIES, fields.packed_extended_communities)
    pieces += _divided(both, AttributeType.LARGE_COMMUNITIES, fields.packed_large_communities)
    if fields.only_to_customer is not None:
        pieces.append((both, AttributeType.ONLY_TO_CUSTOMER, fields.only_to_customer.to_bytes(4, "big")))
    if fields.partial:
        pieces = [(flags | _PARTIAL if kind in fields.partial else flags, kind, value) for flags, kind, value in pieces]
    pieces += [(one.flags, one.type, one.value) for one in fields.unknown]
    return b"".join([pack_attribute(*piece) for piece in pieces])


def pack_attribute(flags: int, kind: int, value: bytes) -> bytes:
    """One attribute, with one byte for its length or two."""
    if len(value) < 256:
        return bytes((flags & ~_EXTENDED_LENGTH, kind, len(value))) + value
    return struct.pack("!BBH", flags | _EXTENDED_LENGTH, kind, len(value)) + value


def _divided(flags: int, kind: int, value: bytes) -> list[tuple[int, int, bytes]]:
    return [(flags, kind, value[at : at + _MOST_OF_LIST]) for at in range(0, len(value), _MOST_OF_LIST)]


def in_pieces(packed: bytes, size: int) -> tuple[bytes, ...]:
    """A packed list, cut."""
    return tuple([packed[at : at + size] for at in range(0, len(packed), size)])


def _is_among(piece: bytes, packed: bytes, size: int) -> bool:
    """Whether one of the pieces of `size` bytes is `piece`."""
    at = packed.find(piece)
    while at > 0 and at % size:
        at = packed.find(piece, at + 1)
    return at >= 0


def pack_list(field: str, values: Iterable[Any]) -> bytes:
    """Values as the property `field` gives them, packed."""
    return bytes(_PACKERS[field](tuple(values)))


SIZES = {"communities": 4, "extended_communities": 8, "large_communities": 12, "cluster_list": 4}
"""Bytes of one value of a packed list."""
_PACKERS: dict[str, Any] = {
    "as_path": pack_as_path,
    "communities": lambda values: struct.pack(f"!{len(values)}I", *values),
    "extended_communities": b"".join,
    "large_communities": lambda values: b"".join([struct.pack("!III", *value) for value in values]),
    "cluster_list": b"".join,
}


def _packed(fields: dict[str, Any]) -> dict[str, Any]:
    return {
        f"packed_{name}" if name in _PACKERS else name: pack_list(name, value) if name in _PACKERS else value
        for name, value in fields.items()
    }
