"""AS paths in their wire form, with 4-octet AS numbers (RFC 4271 section 4.3, RFC 6793 section 4.1)."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator

import msgspec

from bgpd.model.iana import SegmentType

MOST_ASNS_OF_SEGMENT = 255
_SEQUENCE, _SET = int(SegmentType.AS_SEQUENCE), int(SegmentType.AS_SET)


class AsPathSegment(msgspec.Struct, frozen=True, gc=False):
    """One AS_PATH segment (RFC 4271 section 4.3); `asns` are 4-octet numbers (RFC 6793)."""

    type: SegmentType
    asns: tuple[int, ...]


def as_path_length(path: bytes) -> int:
    """Hops for the decision process: an AS_SET is one, confederation segments none (RFC 4271 9.1.2.2, RFC 5065)."""
    if not path:
        return 0
    if path[0] == _SEQUENCE and len(path) == 2 + 4 * path[1]:
        return path[1]
    return sum(count if kind == _SEQUENCE else kind == _SET for kind, count, _ in segments_of(path))


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


def divided_path(path: bytes, most: int) -> Iterator[bytes]:
    """The path in parts of at most that many bytes: in one, or cut between segments."""
    start = stop = 0
    if len(path) > most:
        for _, count, at in segments_of(path):
            if at + 4 * count - start > most:
                yield path[start:stop]
                start = stop
            stop = at + 4 * count
    yield path[start:]


def unpack_numbers(packed: bytes) -> tuple[int, ...]:
    """32-bit numbers."""
    return struct.unpack(f"!{len(packed) // 4}I", packed)
