"""The value of each path attribute type: bytes to plain values, or `Malformed`.

Decides only whether a value is well-formed; attribute_rules.py has the reaction to a malformed one. Lists are kept as
received bytes (model/attributes.py). RFC 4271 section 4.3 and the RFC that each function names.

`merge_as4` finds the real AS path of a route that came through speakers of 2-octet AS numbers (RFC 6793 section 4.2.3).
"""

from __future__ import annotations

import struct
from typing import Any

from bgpd.model.as_path import AsPathSegment, pack_as_path, segments_of, unpack_as_path, unpack_numbers
from bgpd.model.attributes import Aggregator
from bgpd.model.iana import AS_TRANS, Origin, SegmentType
from bgpd.model.wire import Reaction

AS_0 = b"\0\0\0\0"
AS_SEQUENCE = int(SegmentType.AS_SEQUENCE)
SETS = (int(SegmentType.AS_SET), int(SegmentType.AS_CONFED_SET))
CONFEDERATION = (int(SegmentType.AS_CONFED_SEQUENCE), int(SegmentType.AS_CONFED_SET))

ORIGINS = {bytes((origin,)): origin for origin in Origin}
_SEGMENTS = frozenset(map(int, SegmentType))
_AS_0_SECTION = "RFC 7607 section 2"
_LABEL_INDEX, _ORIGINATOR_SRGB = 1, 3
_SRV6_SERVICES, _SRV6_SID = (5, 6), 1
_SRV6_SECTION = "RFC 9252 section 7"
_SRV6_SID_SIZE = 21
_LONG_SUB_TLVS = 128
"""Sub-TLVs of a tunnel of this type and higher ones have lengths of two bytes."""
_AsPath = tuple[AsPathSegment, ...]


class Malformed(ValueError):
    """An attribute value that is not what its RFC says: `section` and `reaction`, where they are not the rule's."""

    def __init__(self, message: str, section: str = "", reaction: Reaction | None = None) -> None:
        super().__init__(message)
        self.section = section
        self.reaction = reaction


def split_attributes(block: bytes) -> tuple[list[tuple[int, int, bytes]], str]:
    """Flags, type and value of each attribute, and what is wrong with the framing after them ("" if nothing)."""
    attributes: list[tuple[int, int, bytes]] = []
    offset, end = 0, len(block)
    while offset < end:
        if end - offset < 3:
            return attributes, f"{end - offset} bytes left, too few for an attribute"
        flags, kind = block[offset], block[offset + 1]
        if flags & 0x10:
            if end - offset < 4:
                return attributes, "3 bytes left, too few for an attribute of extended length"
            start = offset + 4
            offset = start + (block[offset + 2] << 8 | block[offset + 3])
        else:
            start = offset + 3
            offset = start + block[offset + 2]
        if offset > end:
            return attributes, f"attribute {kind} is {offset - start} bytes long, but {end - start} are left"
        attributes.append((flags, kind, block[start:offset]))
    return attributes, ""


def parse_origin(value: bytes) -> Origin:
    """RFC 4271 section 5.1.1."""
    origin = ORIGINS.get(value)
    if origin is None:
        raise Malformed(f"0x{value.hex()} is no ORIGIN" if len(value) == 1 else f"{len(value)} bytes, not 1")
    return origin


def parse_as_path(value: bytes) -> bytes:
    """AS_PATH with 4-octet AS numbers (RFC 6793 section 4.1)."""
    if not (len(value) > 2 and value[0] == AS_SEQUENCE and len(value) == 2 + 4 * value[1]):
        _check_segments(value, 4)
    return value


def parse_two_octet_as_path(value: bytes) -> bytes:
    """AS_PATH with 2-octet AS numbers (RFC 4271 section 4.3), as one with 4-octet ones."""
    _check_segments(value, 2)
    path, at = [], 0
    while at < len(value):
        count, start, at = value[at + 1], at + 2, at + 2 + 2 * value[at + 1]
        path += [value[start - 2 : start], struct.pack(f"!{count}I", *struct.unpack(f"!{count}H", value[start:at]))]
    return b"".join(path)


def parse_as4_path(value: bytes) -> bytes:
    """AS4_PATH; confederation segments in it are dropped (RFC 6793 section 6)."""
    if len(value) < 6:
        raise Malformed(f"{len(value)} bytes, too few for a segment")
    _check_segments(value, 4)
    if any(0 in unpack_numbers(value[at : at + 4 * count]) for _kind, count, at in segments_of(value)):
        raise Malformed("AS 0 in the path", _AS_0_SECTION)
    kept = [value[at - 2 : at + 4 * count] for kind, count, at in segments_of(value) if kind not in CONFEDERATION]
    return b"".join(kept)


def _check_segments(value: bytes, width: int) -> None:
    offset, end = 0, len(value)
    while offset < end:
        if end - offset < 2:
            raise Malformed("one byte left, too few for a segment")
        count = value[offset + 1]
        if value[offset] not in _SEGMENTS:
            raise Malformed(f"segment type {value[offset]}")
        if not count:
            raise Malformed("empty segment")
        start, offset = offset + 2, offset + 2 + count * width
        if offset > end:
            raise Malformed(f"a segment of {count} AS numbers, but {end - start} bytes are left")


def parse_4_bytes(value: bytes) -> bytes:
    """An address, a router ID or an AS number."""
    if len(value) != 4:
        raise Malformed(f"{len(value)} bytes, not 4")
    return value


def parse_number(value: bytes) -> int:
    """A 32-bit number: MED, LOCAL_PREF."""
    return int.from_bytes(parse_4_bytes(value))


def parse_empty(value: bytes) -> bool:
    """ATOMIC_AGGREGATE."""
    if value:
        raise Malformed(f"{len(value)} bytes, not 0")
    return True


def parse_aggregator(value: bytes) -> Aggregator:
    """AGGREGATOR with a 4-octet AS number, and AS4_AGGREGATOR (RFC 6793 section 3)."""
    if len(value) != 8:
        raise Malformed(f"{len(value)} bytes, not 8")
    return _aggregator(value, 4)


def parse_two_octet_aggregator(value: bytes) -> Aggregator:
    """AGGREGATOR with a 2-octet AS number (RFC 4271 section 4.3)."""
    if len(value) != 6:
        raise Malformed(f"{len(value)} bytes, not 6")
    return _aggregator(value, 2)


def _aggregator(value: bytes, width: int) -> Aggregator:
    asn = int.from_bytes(value[:width])
    if not asn:
        raise Malformed("AS 0 as the aggregator", _AS_0_SECTION)
    return Aggregator(asn, value[width:])


def _check_multiple(value: bytes, size: int) -> None:
    count, rest = divmod(len(value), size)
    if rest or not count:
        raise Malformed(f"{len(value)} bytes, not a multiple of {size} of at least {size}")


def parse_communities(value: bytes) -> bytes:
    """RFC 1997."""
    _check_multiple(value, 4)
    return value


def parse_cluster_list(value: bytes) -> bytes:
    """RFC 4456 section 8."""
    _check_multiple(value, 4)
    return value


def parse_extended_communities(value: bytes) -> bytes:
    """RFC 4360 section 2."""
    _check_multiple(value, 8)
    return value


def parse_large_communities(value: bytes) -> bytes:
    """RFC 8092; duplicates are removed (section 5)."""
    _check_multiple(value, 12)
    distinct = dict.fromkeys([value[at : at + 12] for at in range(0, len(value), 12)])
    return value if 12 * len(distinct) == len(value) else b"".join(distinct)


def check_ipv6_extended_communities(value: bytes) -> None:
    """RFC 5701 section 2."""
    _check_multiple(value, 20)


def check_pmsi_tunnel(value: bytes) -> None:
    """Flags, tunnel type and label (RFC 6514 section 5)."""
    if len(value) < 5:
        raise Malformed(f"{len(value)} bytes, fewer than 5")


def check_tunnels(value: bytes) -> None:
    """TLVs with 2-byte types and lengths, each filled by its sub-TLVs (RFC 9012 sections 2, 3 and 13)."""
    if not value:
        raise Malformed("0 bytes, no TLV", reaction=Reaction.ATTRIBUTE_DISCARD)
    for kind, size, tunnel in _split_tlvs(value, kind_width=2):
        if size != len(tunnel):
            raise Malformed("a TLV overruns the attribute")
        at = 0
        while at < size:
            begin = at + (3 if tunnel[at] >= _LONG_SUB_TLVS else 2)
            at = begin + int.from_bytes(tunnel[at + 1 : begin]) if begin <= size else begin
        if at != size:
            raise Malformed(f"a sub-TLV overruns the tunnel of type {kind}")


def check_prefix_sid(value: bytes) -> None:
    """TLVs with 1-byte types and 2-byte lengths (RFC 8669 sections 3 and 6), SRv6 services among them (RFC 9252).

    What is wrong with a service costs the routes, whatever else is wrong: that would cost the attribute.
    """
    wrong = "" if value else "0 bytes, no TLV"
    for kind, size, content in _split_tlvs(value):
        if kind in _SRV6_SERVICES:
            _check_srv6_service(size, content)
        elif size != len(content):
            wrong = wrong or "a TLV overruns the attribute"
        elif kind == _LABEL_INDEX and size != 7:
            wrong = wrong or f"a Label-Index TLV of {size} bytes, not 7"
        elif kind == _ORIGINATOR_SRGB and (size < 8 or (size - 2) % 6):
            wrong = wrong or f"an Originator SRGB TLV of {size} bytes, not 2 and a multiple of 6"
    if wrong:
        raise Malformed(wrong)


def _check_srv6_service(size: int, service: bytes) -> None:
    """A reserved byte, then sub-TLVs; a SID has 21 bytes, then sub-sub-TLVs. What else they say is not looked at."""
    wrong = ""
    if size != len(service):
        wrong = "an SRv6 Service TLV overruns the attribute"
    elif not size:
        wrong = "an SRv6 Service TLV of 0 bytes, fewer than 1"
    for kind, length, inner in _split_tlvs(service[1:]):
        if length != len(inner):
            wrong = wrong or "a sub-TLV overruns its SRv6 Service TLV"
        elif kind == _SRV6_SID and length < _SRV6_SID_SIZE:
            wrong = wrong or f"an SRv6 SID Information Sub-TLV of {length} bytes, fewer than {_SRV6_SID_SIZE}"
        elif kind == _SRV6_SID and any(most != len(least) for _, most, least in _split_tlvs(inner[_SRV6_SID_SIZE:])):
            wrong = wrong or "a sub-sub-TLV overruns its SRv6 SID Information Sub-TLV"
    if wrong:
        raise Malformed(wrong, _SRV6_SECTION, Reaction.TREAT_AS_WITHDRAW)


def _split_tlvs(value: bytes, *, kind_width: int = 1) -> list[tuple[int, int, bytes]]:
    """Type, length and value of each. The last value is shorter than its length where it is cut off; if that is in its
    header, the length is -1."""
    found: list[tuple[int, int, bytes]] = []
    offset = 0
    while offset < len(value):
        start = offset + kind_width + 2
        size = int.from_bytes(value[start - 2 : start]) if start <= len(value) else -1
        found.append((int.from_bytes(value[offset : offset + kind_width]), size, value[start : start + max(size, 0)]))
        offset = start + size
    return found


def check_attr_set(value: bytes) -> None:
    """An origin AS, then attributes (RFC 6368 section 5)."""
    if len(value) < 4:
        raise Malformed(f"{len(value)} bytes, fewer than 4")
    _, overrun = split_attributes(value[4:])
    if overrun:
        raise Malformed(overrun)


def refuse_aigp(value: bytes) -> None:
    """AIGP is not enabled on any session of bgpd, so it is ignored (RFC 7311 section 3.3)."""
    raise Malformed("AIGP is not enabled on this session")


def merge_as4(fields: dict[str, Any]) -> None:
    """Replace AS_PATH and AGGREGATOR in the parsed fields by what they mean, and drop the AS4_ ones."""
    as4_path = fields.pop("as4_path", None)
    as4_aggregator = fields.pop("as4_aggregator", None)
    aggregator = fields.get("aggregator")
    if aggregator is not None and as4_aggregator is not None:
        if aggregator.asn != AS_TRANS:
            return
        fields["aggregator"] = as4_aggregator
    path = fields.get("packed_as_path")
    if path is not None and as4_path:
        fields["packed_as_path"] = pack_as_path(_merge_paths(unpack_as_path(path), unpack_as_path(as4_path)))


def _merge_paths(path: _AsPath, as4_path: _AsPath) -> _AsPath:
    surplus = _count(path) - _count(as4_path)
    if surplus < 0:
        return path
    leading: list[AsPathSegment] = []
    for segment in path:
        size = _count((segment,))
        if size and not surplus:
            break
        if size > surplus:
            leading.append(AsPathSegment(segment.type, segment.asns[:surplus]))
            break
        leading.append(segment)
        surplus -= size
    return _join(leading, as4_path)


def _count(path: _AsPath) -> int:
    """AS numbers as RFC 4271 section 9.1.2.2 counts them: a set is one, a confederation segment none."""
    return sum(
        len(segment.asns) if segment.type is SegmentType.AS_SEQUENCE else segment.type is SegmentType.AS_SET
        for segment in path
    )


def _join(leading: list[AsPathSegment], rest: _AsPath) -> _AsPath:
    """Both parts, two sequences that meet made one as far as a segment can hold them."""
    if leading and leading[-1].type is rest[0].type is SegmentType.AS_SEQUENCE:
        together = leading[-1].asns + rest[0].asns
        if len(together) <= 255:
            return (*leading[:-1], AsPathSegment(SegmentType.AS_SEQUENCE, together), *rest[1:])
    return (*leading, *rest)
