"""Path attributes encoded, and NLRI of families that bgpd does not route described, by ExaBGP (exabgp_codec.py).

Lists are sent as they are kept, which is their wire form: only what needs more than a header is ExaBGP's. Decides
nothing: what may be sent to whom is update_encoder.py's. RFC 4271 section 4.3, RFC 6793 section 4.2.2.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

from bgpd.message.attribute_rules import PASSED_FLAGS, RECOGNISED
from bgpd.message.exabgp_codec import library_module, load
from bgpd.model.as_path import unpack_as_path
from bgpd.model.attributes import AttributeFields, pack_attribute
from bgpd.model.iana import AttributeFlag, AttributeType, SegmentType
from bgpd.model.wire import MalformedNlri

_AS_PATH = int(AttributeType.AS_PATH)
_TRANSITIVE, _OPTIONAL = int(AttributeFlag.TRANSITIVE), int(AttributeFlag.OPTIONAL)
_PARTIAL = int(AttributeFlag.PARTIAL)


def encode_attributes(attributes: AttributeFields, *, four_octet_as: bool) -> list[tuple[int, bytes]]:
    """Type and wire form of every attribute but NEXT_HOP and the MP ones, ascending.

    A peer without 4-octet AS numbers gets AS_TRANS, AS4_PATH and AS4_AGGREGATOR where needed; they come in one piece
    with the attribute that they complete. This is where the flags that are sent are decided (RFC 4271 sections 4.3 and
    5): the low four bits are zero, Partial is set in what bgpd does not recognise, and stays set in what another router
    did not. What is not transitive is not passed on unless bgpd knows it.
    """
    exa = _classes()
    session = SimpleNamespace(asn4=four_octet_as)
    encoded = [
        (int(attribute.ID), bytes(attribute.pack(session)))
        for attribute in _path_attributes(attributes, exa, four_octet_as=four_octet_as)
    ]
    encoded += [(kind, pack_attribute(flags, kind, value)) for kind, flags, value in _lists(attributes) if value]
    if four_octet_as:
        encoded.append((_AS_PATH, pack_attribute(_TRANSITIVE, _AS_PATH, attributes.packed_as_path)))
    for unknown in attributes.unknown:
        if unknown.flags & _TRANSITIVE:
            flags = unknown.flags if unknown.type in RECOGNISED else unknown.flags | _PARTIAL
            encoded.append((unknown.type, pack_attribute(flags & PASSED_FLAGS, unknown.type, unknown.value)))
    if attributes.partial:
        encoded = [(kind, _partial(packed) if kind in attributes.partial else packed) for kind, packed in encoded]
    return sorted(encoded, key=lambda one: one[0])


def describe_nlri(afi: int, safi: int, field: bytes) -> list[str]:
    """Text of each route of an NLRI field, for families that bgpd only shows.

    Raises: MalformedNlri: the library does not know the family, or cannot split the field.
    """
    exa = _classes()
    shown = []
    try:
        while field:
            nlri, field = exa.NLRI.unpack_nlri(exa.AFI.create(afi), exa.SAFI.create(safi), field, exa.ANNOUNCE, False)
            shown.append(str(nlri))
    except (exa.Notify, ValueError, LookupError, TypeError, AttributeError, RuntimeError, struct.error) as error:
        raise MalformedNlri(f"{len(field)} bytes that cannot be read ({type(error).__name__})") from None
    return shown


def _lists(attributes: AttributeFields) -> tuple[tuple[int, int, bytes], ...]:
    """Type, flags and value of what is kept in its wire form for every peer."""
    both, otc = _OPTIONAL | _TRANSITIVE, attributes.only_to_customer
    return (
        (AttributeType.COMMUNITIES, both, attributes.packed_communities),
        (AttributeType.CLUSTER_LIST, _OPTIONAL, attributes.packed_cluster_list),
        (AttributeType.EXTENDED_COMMUNITIES, both, attributes.packed_extended_communities),
        (AttributeType.LARGE_COMMUNITIES, both, attributes.packed_large_communities),
        (AttributeType.ONLY_TO_CUSTOMER, both, b"" if otc is None else otc.to_bytes(4, "big")),
    )


def _partial(packed: bytes) -> bytes:
    return bytes((packed[0] | _PARTIAL,)) + packed[1:]


def _path_attributes(attributes: AttributeFields, exa: SimpleNamespace, *, four_octet_as: bool) -> Iterator[Any]:
    yield exa.Origin(int(attributes.origin))
    if not four_octet_as:
        yield exa.ASPath(
            [exa.SEGMENTS[one.type](map(exa.ASN, one.asns)) for one in unpack_as_path(attributes.packed_as_path)]
        )
    if attributes.med is not None:
        yield exa.MED(attributes.med)
    if attributes.local_pref is not None:
        yield exa.LocalPreference(attributes.local_pref)
    if attributes.atomic_aggregate:
        yield exa.AtomicAggregate()
    if attributes.aggregator is not None:
        yield exa.Aggregator(exa.ASN(attributes.aggregator.asn), exa.IPv4.unpack(attributes.aggregator.router_id))
    if attributes.originator_id is not None:
        yield exa.OriginatorID.unpack(attributes.originator_id, None, None)


@functools.cache
def _classes() -> SimpleNamespace:
    loaded = load()
    attribute = "bgp.message.update.attribute"
    path = library_module(attribute + ".aspath")
    return SimpleNamespace(
        AFI=loaded.AFI,
        SAFI=loaded.SAFI,
        ASN=loaded.ASN,
        Notify=loaded.Notify,
        IPv4=library_module("protocol.ip").IPv4,
        NLRI=library_module("bgp.message.update.nlri").NLRI,
        ANNOUNCE=library_module("bgp.message.action").Action.ANNOUNCE,
        Origin=library_module(attribute + ".origin").Origin,
        MED=library_module(attribute + ".med").MED,
        LocalPreference=library_module(attribute + ".localpref").LocalPreference,
        AtomicAggregate=library_module(attribute + ".atomicaggregate").AtomicAggregate,
        Aggregator=library_module(attribute + ".aggregator").Aggregator,
        OriginatorID=library_module(attribute + ".originatorid").OriginatorID,
        ASPath=path.ASPath,
        SEGMENTS={
            SegmentType.AS_SET: path.SET,
            SegmentType.AS_SEQUENCE: path.SEQUENCE,
            SegmentType.AS_CONFED_SEQUENCE: path.CONFED_SEQUENCE,
            SegmentType.AS_CONFED_SET: path.CONFED_SET,
        },
    )
