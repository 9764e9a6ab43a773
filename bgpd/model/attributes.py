"""Path attributes as one frozen value (RFC 4271 section 5 and the RFCs that each field names).

Lists (AS path, communities, clusters) are kept as the bytes that go over the wire, since a list of Python numbers takes
ten times as much and neighbors choose how long they are. Who looks at a list gets it made anew: `as_path`,
`communities` and so on. What every route needs (path length, loop detection, one community) is read from the bytes.

The speaker interns it by the bytes it was parsed from, so that all routes of one attribute block share one object.
Values compare and hash by identity, since the tables use them as keys in the hot path; `same_as` compares contents.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from bgpd.model.iana import Origin, SegmentType

MOST_ASNS_OF_SEGMENT = 255
_SEQUENCE, _SET = int(SegmentType.AS_SEQUENCE), int(SegmentType.AS_SET)
_VALUE_BYTES = 40
"""What a bytes object takes beside its contents."""
_ATTRIBUTES_BYTES = 160


class AsPathSegment(msgspec.Struct, frozen=True, gc=False):
    """One AS_PATH segment (RFC 4271 section 4.3); `asns` are 4-octet numbers (RFC 6793)."""

    type: SegmentType
    asns: tuple[int, ...]


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


class Attributes(msgspec.Struct, frozen=True, eq=False, weakref=True):
    """The attributes of a path; next hop and NLRI are kept beside it. Made of typed values by `Attributes.of`.

    The packed fields are attribute values with 4-octet AS numbers, b"" if absent. Absent `med`, `local_pref`: None.
    Originator and cluster list: RFC 4456. `partial` are the types of the typed ones that some router on the way did not
    know (RFC 4271 section 5).
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
    unknown: tuple[UnknownAttribute, ...] = ()
    partial: tuple[int, ...] = ()

    @staticmethod
    def of(**fields: Any) -> Attributes:
        """Attributes of typed values: `as_path` is a tuple of segments, the lists are as the properties give them."""
        return Attributes(**_packed(fields))

    def changed(self, **fields: Any) -> Attributes:
        """A copy in which these fields, typed as for `of`, have other values; it shares the bytes of all others."""
        return msgspec.structs.replace(self, **_packed(fields))

    def same_as(self, other: Attributes) -> bool:
        """Whether both hold the same contents."""
        return self is other or msgspec.structs.astuple(self) == msgspec.structs.astuple(other)

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
        return _pieces(self.packed_extended_communities, 8)

    @property
    def large_communities(self) -> tuple[tuple[int, int, int], ...]:
        """Triples of 32-bit numbers (RFC 8092)."""
        return tuple(struct.iter_unpack("!III", self.packed_large_communities))

    @property
    def cluster_list(self) -> tuple[bytes, ...]:
        """4 bytes each, the last cluster first."""
        return _pieces(self.packed_cluster_list, 4)

    def has_community(self, community: int) -> bool:
        """Whether it is among the communities."""
        packed = self.packed_communities
        return bool(packed) and _is_among(community.to_bytes(4, "big"), packed, 4)

    def has_extended_community(self, community: bytes) -> bool:
        """Whether it is among the extended communities."""
        return _is_among(community, self.packed_extended_communities, 8)

    def has_large_community(self, community: tuple[int, int, int]) -> bool:
        """Whether it is among the large communities."""
        return _is_among(struct.pack("!III", *community), self.packed_large_communities, 12)

    def has_cluster(self, router_id: bytes) -> bool:
        """Whether the route was reflected there (RFC 4456 section 8)."""
        return _is_among(router_id, self.packed_cluster_list, 4)

    @property
    def as_path_length(self) -> int:
        """Hops for the decision process: an AS_SET is one, confederation segments none (RFC 4271 9.1.2.2, RFC 5065)."""
        path = self.packed_as_path
        if not path:
            return 0
        if path[0] == _SEQUENCE and len(path) == 2 + 4 * path[1]:
            return path[1]
        return sum(count if kind == _SEQUENCE else kind == _SET for kind, count, _ in segments_of(path))

    @property
    def asns_in_path(self) -> int:
        """AS numbers that stand in the AS_PATH, those of sets and confederations too."""
        return sum(count for _, count, _ in segments_of(self.packed_as_path))

    @property
    def first_asn(self) -> int | None:
        """The neighboring AS (leftmost of an AS_SEQUENCE; None for an empty path or one that starts with a set)."""
        path = self.packed_as_path
        return int.from_bytes(path[2:6], "big") if path and path[0] == _SEQUENCE else None

    def count_as(self, asn: int) -> int:
        """How often `asn` stands in the AS_PATH (loop detection, RFC 4271 section 9.1.2)."""
        path = self.packed_as_path
        if asn.to_bytes(4, "big") not in path:
            return 0
        return sum(unpack_numbers(path[at : at + 4 * count]).count(asn) for _, count, at in segments_of(path))

    @property
    def cluster_list_length(self) -> int:
        """How many clusters the route has passed."""
        return len(self.packed_cluster_list) // 4

    def size_beside(self, other: Attributes) -> int:
        """Bytes of memory that it takes beside another that it was made from, and shares values with."""
        pairs = zip(self._values(), other._values())
        return _ATTRIBUTES_BYTES + sum(len(value) + _VALUE_BYTES for value, shared in pairs if value is not shared)

    def _values(self) -> tuple[bytes, ...]:
        return (
            self.packed_as_path,
            self.packed_communities,
            self.packed_extended_communities,
            self.packed_large_communities,
            self.packed_cluster_list,
        )


def as_path_text(packed: bytes) -> str:
    """A packed AS path as text: ASNs with spaces between, sets as {1,2}, confederation segments as (1 2) and [1,2]."""
    parts = []
    for segment in unpack_as_path(packed):
        opening, separator, closing = _FORMS[segment.type]
        parts.append(f"{opening}{separator.join(map(str, segment.asns))}{closing}")
    return " ".join(parts)


_FORMS = {
    SegmentType.AS_SEQUENCE: ("", " ", ""),
    SegmentType.AS_SET: ("{", ",", "}"),
    SegmentType.AS_CONFED_SEQUENCE: ("(", " ", ")"),
    SegmentType.AS_CONFED_SET: ("[", ",", "]"),
}


def segments_of(path: bytes) -> Iterator[tuple[int, int, int]]:
    """Type, number of AS numbers, and where they start, of each segment of a well-formed packed AS_PATH."""
    at, end = 0, len(path)
    while at < end:
        count = path[at + 1]
        yield path[at], count, at + 2
        at += 2 + 4 * count


def unpack_as_path(path: bytes) -> tuple[AsPathSegment, ...]:
    """The segments of a well-formed packed AS_PATH."""
    return tuple(
        AsPathSegment(SegmentType(kind), unpack_numbers(path[at : at + 4 * count]))
        for kind, count, at in segments_of(path)
    )


def pack_as_path(path: Iterable[AsPathSegment]) -> bytes:
    """The AS_PATH with 4-octet AS numbers (RFC 6793 section 4.1)."""
    return b"".join(
        struct.pack(f"!BB{len(segment.asns)}I", segment.type, len(segment.asns), *segment.asns) for segment in path
    )


def prepend_as(path: bytes, asn: int, count: int = 1) -> bytes:
    """The packed AS path with `asn` put before it `count` times (RFC 4271 section 5.1.2)."""
    asns = asn.to_bytes(4, "big") * count
    if path and path[0] == _SEQUENCE and path[1] + count <= MOST_ASNS_OF_SEGMENT:
        return bytes((_SEQUENCE, path[1] + count)) + asns + path[2:]
    return bytes((_SEQUENCE, count)) + asns + path


def unpack_numbers(packed: bytes) -> tuple[int, ...]:
    """32-bit numbers."""
    return struct.unpack(f"!{len(packed) // 4}I", packed)


def _pieces(packed: bytes, size: int) -> tuple[bytes, ...]:
    return tuple([packed[at : at + size] for at in range(0, len(packed), size)])


def _is_among(piece: bytes, packed: bytes, size: int) -> bool:
    """Whether one of the pieces of `size` bytes is `piece`."""
    at = packed.find(piece)
    while at > 0 and at % size:
        at = packed.find(piece, at + 1)
    return at >= 0


_PACKERS: dict[str, Any] = {
    "as_path": pack_as_path,
    "communities": lambda values: struct.pack(f"!{len(values)}I", *values),
    "extended_communities": b"".join,
    "large_communities": lambda values: b"".join([struct.pack("!III", *value) for value in values]),
    "cluster_list": b"".join,
}


def _packed(fields: dict[str, Any]) -> dict[str, Any]:
    return {
        name if name not in _PACKERS else f"packed_{name}": value if name not in _PACKERS else _PACKERS[name](value)
        for name, value in fields.items()
    }
