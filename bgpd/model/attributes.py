"""Path attributes as one frozen value (RFC 4271 section 5 and the RFCs that each field names).

The speaker interns it by the bytes it was parsed from, so that all routes of one attribute block share one object.
Values compare and hash by identity, since the tables use them as keys in the hot path; `same_as` compares contents.
"""

from __future__ import annotations

import msgspec

from bgpd.model.iana import Origin, SegmentType

_AS_SEQUENCE = SegmentType.AS_SEQUENCE


class AsPathSegment(msgspec.Struct, frozen=True, gc=False):
    """One AS_PATH segment (RFC 4271 section 4.3); `asns` are 4-octet numbers (RFC 6793)."""

    type: SegmentType
    asns: tuple[int, ...]


class Aggregator(msgspec.Struct, frozen=True, gc=False):
    """AGGREGATOR (RFC 4271 section 5.1.7): AS number and the 4-byte router ID."""

    asn: int
    router_id: bytes


class UnknownAttribute(msgspec.Struct, frozen=True, gc=False):
    """An attribute that bgpd does not interpret; passed on when transitive (RFC 4271 section 5)."""

    flags: int
    type: int
    value: bytes


class Attributes(msgspec.Struct, frozen=True, eq=False, weakref=True, kw_only=True):
    """The attributes of a path; next hop and NLRI are kept beside it.

    `communities` are 32-bit numbers (RFC 1997), `extended_communities` 8 bytes each (RFC 4360), `large_communities`
    triples of 32-bit numbers (RFC 8092). Originator and cluster list: RFC 4456. Absent `med`, `local_pref`: None.
    """

    origin: Origin = Origin.IGP
    as_path: tuple[AsPathSegment, ...] = ()
    med: int | None = None
    local_pref: int | None = None
    atomic_aggregate: bool = False
    aggregator: Aggregator | None = None
    communities: tuple[int, ...] = ()
    extended_communities: tuple[bytes, ...] = ()
    large_communities: tuple[tuple[int, int, int], ...] = ()
    originator_id: bytes | None = None
    cluster_list: tuple[bytes, ...] = ()
    unknown: tuple[UnknownAttribute, ...] = ()

    def same_as(self, other: Attributes) -> bool:
        """Whether both hold the same contents."""
        return self is other or msgspec.structs.astuple(self) == msgspec.structs.astuple(other)

    @property
    def as_path_length(self) -> int:
        """Hops for the decision process: an AS_SET is one, confederation segments none (RFC 4271 9.1.2.2, RFC 5065)."""
        length = 0
        for segment in self.as_path:
            if segment.type is _AS_SEQUENCE:
                length += len(segment.asns)
            elif segment.type is SegmentType.AS_SET:
                length += 1
        return length

    @property
    def asns_in_path(self) -> int:
        """AS numbers that stand in the AS_PATH, those of sets and confederations too."""
        return sum(len(segment.asns) for segment in self.as_path)

    @property
    def first_asn(self) -> int | None:
        """The neighboring AS (leftmost of an AS_SEQUENCE; None for an empty path or one that starts with a set)."""
        if self.as_path and self.as_path[0].type is _AS_SEQUENCE:
            return self.as_path[0].asns[0]
        return None

    def count_as(self, asn: int) -> int:
        """How often `asn` stands in the AS_PATH (loop detection, RFC 4271 section 9.1.2)."""
        count = 0
        for segment in self.as_path:
            if asn in segment.asns:
                count += segment.asns.count(asn)
        return count
