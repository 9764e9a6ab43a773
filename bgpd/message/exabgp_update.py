"""Path attributes encoded, and NLRI of families that bgpd does not route described, by ExaBGP (exabgp_codec.py).

Decides nothing: what may be sent to whom is update_encoder.py's. RFC 4271 section 4.3, RFC 6793 section 4.2.2.
"""

from __future__ import annotations

import functools
import itertools
import struct
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

from bgpd.message.exabgp_codec import library_module, load
from bgpd.model.attributes import Attributes
from bgpd.model.iana import AttributeFlag, AttributeType, SegmentType
from bgpd.model.wire import MalformedNlri

_RECOGNISED = frozenset(int(kind) for kind in AttributeType)


def encode_attributes(attributes: Attributes, *, four_octet_as: bool) -> list[tuple[int, bytes]]:
    """Type and wire form of every attribute but NEXT_HOP and the MP ones, ascending.

    A peer without 4-octet AS numbers gets AS_TRANS, AS4_PATH and AS4_AGGREGATOR where needed; they come in one piece
    with the attribute that they complete. Unrecognised attributes are passed on with the Partial bit set.
    """
    exa = _classes()
    session = SimpleNamespace(asn4=four_octet_as)
    encoded = [
        (int(attribute.ID), bytes(attribute.pack(session)))
        for attribute in itertools.chain(_path_attributes(attributes, exa), _community_attributes(attributes, exa))
    ]
    for unknown in attributes.unknown:
        flags = unknown.flags if unknown.type in _RECOGNISED else unknown.flags | AttributeFlag.PARTIAL
        encoded.append((unknown.type, bytes(exa.GenericAttribute(unknown.type, int(flags), unknown.value).pack())))
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


def _path_attributes(attributes: Attributes, exa: SimpleNamespace) -> Iterator[Any]:
    yield exa.Origin(int(attributes.origin))
    path = [exa.SEGMENTS[segment.type](map(exa.ASN, segment.asns)) for segment in attributes.as_path]
    yield exa.ASPath(path)
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
    if attributes.cluster_list:
        yield exa.ClusterList.unpack(b"".join(attributes.cluster_list), None, None)


def _community_attributes(attributes: Attributes, exa: SimpleNamespace) -> Iterator[Any]:
    if attributes.communities:
        yield exa.Communities([exa.Community(struct.pack("!I", value)) for value in attributes.communities])
    if attributes.extended_communities:
        yield exa.ExtendedCommunities([exa.ExtendedCommunity(value) for value in attributes.extended_communities])
    if attributes.large_communities:
        packed = [struct.pack("!III", *value) for value in attributes.large_communities]
        yield exa.LargeCommunities([exa.LargeCommunity(value) for value in packed])


@functools.cache
def _classes() -> SimpleNamespace:
    loaded = load()
    attribute = "bgp.message.update.attribute"
    path = library_module(attribute + ".aspath")
    community = library_module(attribute + ".community")
    return SimpleNamespace(
        AFI=loaded.AFI,
        SAFI=loaded.SAFI,
        ASN=loaded.ASN,
        Notify=loaded.Notify,
        IPv4=library_module("protocol.ip").IPv4,
        NLRI=library_module("bgp.message.update.nlri").NLRI,
        ANNOUNCE=library_module("bgp.message.action").Action.ANNOUNCE,
        GenericAttribute=library_module(attribute + ".generic").GenericAttribute,
        Origin=library_module(attribute + ".origin").Origin,
        MED=library_module(attribute + ".med").MED,
        LocalPreference=library_module(attribute + ".localpref").LocalPreference,
        AtomicAggregate=library_module(attribute + ".atomicaggregate").AtomicAggregate,
        Aggregator=library_module(attribute + ".aggregator").Aggregator,
        OriginatorID=library_module(attribute + ".originatorid").OriginatorID,
        ClusterList=library_module(attribute + ".clusterlist").ClusterList,
        ASPath=path.ASPath,
        SEGMENTS={
            SegmentType.AS_SET: path.SET,
            SegmentType.AS_SEQUENCE: path.SEQUENCE,
            SegmentType.AS_CONFED_SEQUENCE: path.CONFED_SEQUENCE,
            SegmentType.AS_CONFED_SET: path.CONFED_SET,
        },
        Community=community.Community,
        Communities=community.Communities,
        LargeCommunity=community.LargeCommunity,
        LargeCommunities=community.LargeCommunities,
        ExtendedCommunity=community.ExtendedCommunity,
        ExtendedCommunities=community.ExtendedCommunities,
    )
