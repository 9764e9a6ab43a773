"""Route batches as UPDATE messages for one neighbor, packed to the longest message that the session allows.

Decides what a neighbor is sent: the local AS prepended for an external peer, LOCAL_PREF for internal ones only, which
next hop, and which NLRI form (RFC 4271 section 5, RFC 4760, RFC 8950, RFC 7606 section 5.1: MP attributes come first,
and no message mixes announcements and withdrawals). Never decides which routes are announced.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from bgpd.message.exabgp_codec import HEADER_LENGTH, encode_message
from bgpd.message.exabgp_update import encode_attributes
from bgpd.message.open import Negotiated
from bgpd.model.as_path import prepend_as, segments_of
from bgpd.model.attributes import DEFAULT_LOCAL_PREF, AttributeFields, Attributes, in_pieces
from bgpd.model.iana import AttributeType, Family, MessageType, SegmentType
from bgpd.model.next_hop import NextHop
from bgpd.model.route_batch import RouteBatch
from bgpd.model.wire import NlriCodec

_LENGTHS_LENGTH: Final = 4
_MP_HEADER_LENGTH: Final = 4
_CONFEDERATION: Final = frozenset((SegmentType.AS_CONFED_SEQUENCE, SegmentType.AS_CONFED_SET))
_NON_TRANSITIVE: Final = 0x40
_BLOCKS_KEPT: Final = 256
_LONGEST_KEPT: Final = 1024
"""Encoded attributes are kept for a while, since a host says much with few of them; those passed on come one by one."""


class UpdateEncoder:
    """The UPDATE messages to one established session.

    `local_ipv4`, `local_ipv6` and `local_link_local` are this host's packed addresses on the session, for
    next-hop-self. `nlri_decoders` are the codecs of the families that have their own.
    """

    def __init__(
        self,
        negotiated: Negotiated,
        *,
        local_ipv4: bytes | None,
        local_ipv6: bytes | None,
        local_link_local: bytes | None,
        nlri_decoders: Mapping[Family, NlriCodec] | None = None,
    ) -> None:
        self._negotiated = negotiated
        self._room = negotiated.max_message_length - HEADER_LENGTH - _LENGTHS_LENGTH
        self._codecs = nlri_decoders or {}
        ipv6 = local_ipv6 or local_link_local or b""
        if local_ipv6 and local_link_local:
            ipv6 = local_ipv6 + local_link_local
        extended = Family.IPV4_UNICAST in negotiated.extended_next_hop
        self._self = {
            Family.IPV4_UNICAST: (extended and ipv6) or local_ipv4 or b"",
            Family.IPV6_UNICAST: ipv6,
            Family.L2VPN_EVPN: local_ipv4 or local_ipv6 or b"",
            Family.ROUTE_TARGET: local_ipv4 or local_ipv6 or b"",
        }
        self._blocks: dict[tuple[Attributes, bytes], bytes] = {}
        self._as_sent: dict[Attributes, Attributes] = {}

    @property
    def without_next_hop(self) -> tuple[Family, ...]:
        """Negotiated families in which this host has no address to give as the next hop of its own routes."""
        return tuple(family for family in self._negotiated.families if not self._self[family])

    def next_hop_self(self, family: Family) -> bytes:
        """The next hop field of this host's own routes; b"" if there is no address for it."""
        return self._self[family]

    def encode(self, batch: RouteBatch) -> list[bytes]:
        """Whole messages for a batch, withdrawals first. `next_hop` None stands for this host itself.

        Routes that cannot be announced, because there is no next hop for them or their attributes alone overfill a
        message (RFC 8654 section 4), are withdrawn instead, so that the peer keeps no older version of them.
        """
        withdrawn: Sequence[bytes] = batch.withdrawn
        messages: list[bytes] = []
        if batch.announced and batch.attributes is not None:
            announcements = self._announcements(batch, batch.attributes)
            if announcements is None:
                withdrawn = [*withdrawn, *batch.announced]
            else:
                messages = announcements
        return self._withdrawals(batch.family, withdrawn) + messages

    def as_sent(self, batch: RouteBatch) -> tuple[Attributes, bytes] | None:
        """The attributes and the next hop field that a batch is announced with; None if it cannot be announced."""
        next_hop = self._next_hop(batch.family, batch.next_hop)
        attributes = batch.attributes
        if not next_hop or attributes is None:
            return None
        sent = self._as_sent.get(attributes)
        if sent is None:
            if len(self._as_sent) >= _BLOCKS_KEPT:
                self._as_sent.clear()
            sent = self._as_sent[attributes] = self._sent(attributes).pack()
        return sent, next_hop

    def _sent(self, attributes: Attributes) -> AttributeFields:
        fields = attributes.fields
        return _for_ibgp(fields) if self._negotiated.is_ibgp else _for_ebgp(fields, self._negotiated.local_asn)

    def end_of_rib(self, family: Family) -> bytes:
        """The End-of-RIB marker of a family (RFC 4724 section 2)."""
        return withdrawal(family, b"")

    def _withdrawals(self, family: Family, keys: Sequence[bytes]) -> list[bytes]:
        if not keys:
            return []
        if family is Family.IPV4_UNICAST:
            return [withdrawal(family, field) for field in _fields(keys, self._room)]
        room = self._room - len(_mp_unreach(family, b"")) - 1
        codec = self._codecs.get(family)
        nlri = keys if codec is None else [codec.encode(key, None) for key in keys]
        return [withdrawal(family, field) for field in _fields(nlri, room)]

    def _announcements(self, batch: RouteBatch, attributes: Attributes) -> list[bytes] | None:
        family = batch.family
        next_hop = self._next_hop(family, batch.next_hop)
        if not next_hop:
            return None
        classic = family is Family.IPV4_UNICAST and len(next_hop) == 4
        block = self._block(attributes, next_hop if classic else b"")
        room = self._room - len(block)
        if not classic:
            room -= _MP_HEADER_LENGTH + 5 + len(next_hop)
        codec = self._codecs.get(family)
        nlri = batch.announced if codec is None else [codec.encode(key, batch.overlay) for key in batch.announced]
        if room < max(map(len, nlri)):
            return None
        if classic:
            return [_update(b"", block, field) for field in _fields(nlri, room)]
        return [_update(b"", _mp_reach(family, next_hop, field) + block, b"") for field in _fields(nlri, room)]

    def _next_hop(self, family: Family, next_hop: NextHop | None) -> bytes:
        """The next hop field, b"" if the session cannot carry any."""
        if next_hop is None:
            return self._self[family]
        address = next_hop.address
        if family is Family.IPV4_UNICAST and len(address) == 16 and family not in self._negotiated.extended_next_hop:
            return b""
        return b"" if family is Family.IPV6_UNICAST and len(address) == 4 else address

    def _block(self, attributes: Attributes, next_hop: bytes) -> bytes:
        """The attribute block, with a NEXT_HOP unless that is b""."""
        block = self._blocks.get((attributes, next_hop))
        if block is None:
            pieces = encode_attributes(self._sent(attributes), four_octet_as=self._negotiated.four_octet_as)
            if next_hop:
                hop = struct.pack("!BBB4s", 0x40, AttributeType.NEXT_HOP, 4, next_hop)
                at = sum(kind < AttributeType.NEXT_HOP for kind, _ in pieces)
                pieces = [*pieces[:at], (AttributeType.NEXT_HOP, hop), *pieces[at:]]
            block = b"".join([packed for _, packed in pieces])
            if len(self._blocks) >= _BLOCKS_KEPT:
                self._blocks.clear()
            if len(block) <= _LONGEST_KEPT:
                self._blocks[attributes, next_hop] = block
        return block


def withdrawal(family: Family, nlri: bytes) -> bytes:
    """An UPDATE that withdraws these routes; of none it is End-of-RIB."""
    if family is Family.IPV4_UNICAST:
        return _update(nlri, b"", b"")
    return _update(b"", _mp_unreach(family, nlri), b"")


def _for_ibgp(fields: AttributeFields) -> AttributeFields:
    return fields if fields.local_pref is not None else fields.changed(local_pref=DEFAULT_LOCAL_PREF)


def _for_ebgp(fields: AttributeFields, local_asn: int) -> AttributeFields:
    """With our AS in front, without what is internal (RFC 4271 section 5.1.2, RFC 4360 section 6, RFC 4456, RFC 8669
    section 5)."""
    path, extended = fields.packed_as_path, fields.packed_extended_communities
    if any(kind in _CONFEDERATION for kind, _, _ in segments_of(path)):
        kept = [path[at - 2 : at + 4 * count] for kind, count, at in segments_of(path) if kind not in _CONFEDERATION]
        path = b"".join(kept)
    if any(kind & _NON_TRANSITIVE for kind in extended[::8]):
        extended = b"".join([one for one in in_pieces(extended, 8) if not one[0] & _NON_TRANSITIVE])
    return fields.changed(
        packed_as_path=prepend_as(path, local_asn),
        local_pref=None,
        originator_id=None,
        packed_cluster_list=b"",
        packed_extended_communities=extended,
        unknown=tuple([one for one in fields.unknown if one.type != AttributeType.PREFIX_SID]),
    )


def _fields(nlri: Sequence[bytes], room: int) -> Iterator[bytes]:
    """The routes joined to fields of at most `room` bytes."""
    if sum(map(len, nlri)) <= room:
        yield b"".join(nlri)
        return
    start = used = 0
    for at, one in enumerate(nlri):
        if used + len(one) > room:
            yield b"".join(nlri[start:at])
            start, used = at, 0
        used += len(one)
    yield b"".join(nlri[start:])


def _mp_reach(family: Family, next_hop: bytes, nlri: bytes) -> bytes:
    value = b"".join((struct.pack("!HBB", family.afi, family.safi, len(next_hop)), next_hop, b"\0", nlri))
    return struct.pack("!BBH", 0x90, AttributeType.MP_REACH_NLRI, len(value)) + value


def _mp_unreach(family: Family, nlri: bytes) -> bytes:
    value = struct.pack("!HB", family.afi, family.safi) + nlri
    if len(value) < 256:
        return struct.pack("!BBB", 0x80, AttributeType.MP_UNREACH_NLRI, len(value)) + value
    return struct.pack("!BBH", 0x90, AttributeType.MP_UNREACH_NLRI, len(value)) + value


def _update(withdrawn: bytes, block: bytes, nlri: bytes) -> bytes:
    lengths = struct.pack("!H", len(withdrawn)), struct.pack("!H", len(block))
    return encode_message(MessageType.UPDATE, b"".join((lengths[0], withdrawn, lengths[1], block, nlri)))
