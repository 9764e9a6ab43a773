"""Path attributes of MRT tables, and UPDATEs made of what an MRT file has, to be said again.

In a table MP_REACH_NLRI has the next hop only (RFC 6396 section 4.3.4). Attributes are taken as they are, whatever they
say; only their lengths must be right.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from bgpd.message.exabgp_codec import HEADER_LENGTH, encode_message
from bgpd.message.mrt import Fields
from bgpd.message.open import MAX_EXTENDED_MESSAGE_LENGTH
from bgpd.model.as_path import prepend_as
from bgpd.model.attributes import pack_attribute
from bgpd.model.iana import Afi, AttributeFlag, AttributeType, Family, MessageType, Safi, SegmentType

_EXTENDED_LENGTH: Final = int(AttributeFlag.EXTENDED_LENGTH)
_OPTIONAL: Final = int(AttributeFlag.OPTIONAL)
_TRANSITIVE: Final = int(AttributeFlag.TRANSITIVE)
_LONGEST_NEXT_HOP: Final = 255
_INTERNAL: Final = (AttributeType.LOCAL_PREF, AttributeType.ORIGINATOR_ID, AttributeType.CLUSTER_LIST)


def rib_attributes(block: bytes, next_hop: bytes, family: Family) -> bytes:
    """A well-formed attribute block without MP attributes, with this next hop in place of its own."""
    classic = family is Family.IPV4_UNICAST and len(next_hop) == 4
    if classic:
        kind, packed = AttributeType.NEXT_HOP, pack_attribute(_TRANSITIVE, AttributeType.NEXT_HOP, next_hop)
    else:
        kind, value = AttributeType.MP_REACH_NLRI, bytes((len(next_hop),)) + next_hop
        packed = pack_attribute(_OPTIONAL, kind, value)
    before: list[bytes] = []
    after: list[bytes] = []
    for type_, one in split_attributes(block):
        if type_ != AttributeType.NEXT_HOP:
            (before if type_ < kind else after).append(one)
    return b"".join((*before, packed, *after))


def split_attributes(block: bytes) -> Iterator[tuple[int, bytes]]:
    """Type and whole bytes of each attribute. Raises: ValueError: one is longer than what is left."""
    offset, end = 0, len(block)
    while offset < end:
        wide = offset + 3 < end and block[offset] & _EXTENDED_LENGTH
        head = 4 if wide else 3
        length = int.from_bytes(block[offset + 2 : offset + head])
        stop = offset + head + length
        if offset + head > end or stop > end:
            raise ValueError(f"the attribute at byte {offset} is longer than its block")
        yield block[offset + 1], block[offset:stop]
        offset = stop


def value_of(attribute: bytes) -> bytes:
    """The value of an attribute with its header."""
    return attribute[4 if attribute[0] & _EXTENDED_LENGTH else 3 :]


def next_hop_of(attributes: Sequence[tuple[int, bytes]]) -> bytes:
    """The next hop of a path of a table; MP_REACH_NLRI may be whole, too (as some collectors write it). b"": none."""
    for kind, packed in attributes:
        value = value_of(packed)
        if kind == AttributeType.NEXT_HOP:
            return value
        if kind == AttributeType.MP_REACH_NLRI and value:
            if value[0] == len(value) - 1:
                return value[1:]
            return value[4 : 4 + value[3]] if len(value) > 4 else b""
    return b""


def update_message(
    afi: int, safi: int, nlri: bytes, attributes: bytes, *, next_hop: bytes = b"", asn: int = 0
) -> bytes:
    """An UPDATE that announces a route of a table, with its own next hop or `next_hop`. With `asn` as an external
    neighbor of that AS would announce it (RFC 4271 section 5.1.2).

    Raises: ValueError: the attributes are malformed, have no next hop, or one that is none, or are too long.
    """
    pieces = list(split_attributes(attributes))
    hop = next_hop or next_hop_of(pieces)
    if asn:
        pieces = list(_as_external(pieces, asn))
    if not hop:
        raise ValueError("the path has no next hop")
    if len(hop) > _LONGEST_NEXT_HOP:
        raise ValueError(f"the path has a next hop of {len(hop)} bytes")
    kept = [(kind, one) for kind, one in pieces if kind not in (AttributeType.NEXT_HOP, AttributeType.MP_REACH_NLRI)]
    if (afi, safi) == (Afi.IPV4, Safi.UNICAST) and len(hop) == 4:
        kept.append((AttributeType.NEXT_HOP, pack_attribute(_TRANSITIVE, AttributeType.NEXT_HOP, hop)))
        return _update(kept, b"", nlri)
    reach = struct.pack("!HBB", afi, safi, len(hop)) + hop + b"\0" + nlri
    return _update(kept, pack_attribute(_OPTIONAL, AttributeType.MP_REACH_NLRI, reach), b"")


def _as_external(pieces: Sequence[tuple[int, bytes]], asn: int) -> Iterator[tuple[int, bytes]]:
    path = next((value_of(one) for kind, one in pieces if kind == AttributeType.AS_PATH), b"")
    if path[2:6] != asn.to_bytes(4) or path[0] != SegmentType.AS_SEQUENCE:
        path = prepend_as(path, asn) if len(path) != 1 else b""
    yield AttributeType.AS_PATH, pack_attribute(_TRANSITIVE, AttributeType.AS_PATH, path)
    yield from ((kind, one) for kind, one in pieces if kind not in _INTERNAL and kind != AttributeType.AS_PATH)


def readdressed(body: bytes, asn: int, next_hops: Mapping[int, bytes]) -> bytes:
    """The UPDATE of this body (4-octet AS numbers) as an external neighbor of `asn` would send it, with the next hop of
    the routes' family, by AFI.

    Raises: ValueError: it is malformed, or there is no next hop for its routes.
    """
    fields = Fields(body)
    withdrawn, block = fields.take(fields.number(2)), fields.take(fields.number(2))
    nlri, pieces = fields.rest(), []
    for kind, packed in split_attributes(block):
        value = value_of(packed)
        if kind == AttributeType.NEXT_HOP:
            packed = pack_attribute(_TRANSITIVE, kind, _hop(next_hops, 1))
        elif kind == AttributeType.MP_REACH_NLRI:
            reach = Fields(value)
            afi, safi = reach.number(2), reach.number(1)
            reach.take(reach.number(1))
            hop = _hop(next_hops, afi)
            packed = pack_attribute(_OPTIONAL, kind, struct.pack("!HBB", afi, safi, len(hop)) + hop + reach.rest())
        pieces.append((kind, packed))
    announces = bool(nlri) or any(kind == AttributeType.MP_REACH_NLRI for kind, _ in pieces)
    if announces:
        pieces = list(_as_external(pieces, asn))
    return _update(pieces, b"", nlri, withdrawn)


def _hop(next_hops: Mapping[int, bytes], afi: int) -> bytes:
    hop = next_hops.get(afi, b"")
    if not hop:
        raise ValueError(f"there is no next hop for address family {afi}")
    return hop


def _update(attributes: list[tuple[int, bytes]], first: bytes, nlri: bytes, withdrawn: bytes = b"") -> bytes:
    block = first + b"".join(one for _, one in sorted(attributes, key=lambda one: one[0]))
    if len(block) + len(nlri) + len(withdrawn) > MAX_EXTENDED_MESSAGE_LENGTH - HEADER_LENGTH - 4:
        raise ValueError("the attributes are longer than a message")
    return encode_message(
        MessageType.UPDATE, struct.pack("!H", len(withdrawn)) + withdrawn + struct.pack("!H", len(block)) + block + nlri
    )
