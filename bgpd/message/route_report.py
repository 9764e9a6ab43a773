"""The routes and attributes of an UPDATE as text, for `bgpd decode` (report.py).

Decides nothing: the daemon's decoder has judged the message. Attributes bear the names of IANA's registry.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import repeat
from typing import Any

import msgspec

from bgpd.message.attribute_rules import name_of
from bgpd.message.attribute_values import split_attributes
from bgpd.message.exabgp_update import describe_nlri
from bgpd.message.open import family_name
from bgpd.message.update_decoder import UpdateDecoder
from bgpd.message.update_sections import UpdateError, UpdateSections, split_update
from bgpd.model.as_path import AsPathSegment
from bgpd.model.attributes import Attributes
from bgpd.model.communities import format_membership, format_route_distinguisher
from bgpd.model.evpn import parse_key, with_labels
from bgpd.model.iana import FAMILY_BY_CODE, AttributeType, EvpnRouteType, Family
from bgpd.model.policy_syntax import format_community, format_extended_community, format_large_community
from bgpd.model.prefix import format_address, format_key
from bgpd.model.route_batch import Overlay
from bgpd.model.wire import MalformedNlri, NlriDecoders, Reaction, WireError

AttributeReport = dict[str, Any]
_Overlays = dict[bytes, Overlay | None]


class UpdateDetails(msgspec.Struct, kw_only=True):
    """The report on an UPDATE; its fields are those of report.MessageReport."""

    reaction: Reaction
    notification: tuple[int, int] | None
    announced: dict[str, list[Any]]
    withdrawn: dict[str, list[Any]]
    next_hops: list[str]
    attributes: AttributeReport
    end_of_rib: str | None
    ignored: dict[str, list[str]]
    errors: list[WireError]


def report_update(body: bytes, decoder: UpdateDecoder, *, nlri_decoders: NlriDecoders) -> UpdateDetails:
    """What `decoder` makes of an UPDATE body, with the fields that it does not need itself."""
    decoded = decoder.decode(body)
    try:
        sections = split_update(body)
    except UpdateError:
        sections = UpdateSections(b"", b"", b"")
    overlays = _overlays(sections, nlri_decoders)
    announced: dict[str, list[Any]] = {}
    withdrawn: dict[str, list[Any]] = {}
    for batch in decoded.batches:
        for reported, keys in ((withdrawn, batch.withdrawn), (announced, batch.announced)):
            if keys:
                routes = reported.setdefault(str(batch.family), [])
                routes += [_report_route(batch.family, key, overlays.get(key)) for key in keys]
    attributes = decoder.attributes_of(sections.block)
    return UpdateDetails(
        reaction=decoded.reaction,
        notification=None if decoded.notification is None else decoded.notification[:2],
        announced=announced,
        withdrawn=withdrawn,
        next_hops=_next_hops(sections),
        attributes=_report_attributes(sections.block, attributes, decoded.errors),
        end_of_rib=None if decoded.end_of_rib is None else str(decoded.end_of_rib),
        ignored=_ignored(sections),
        errors=decoded.errors,
    )


def _overlays(sections: UpdateSections, nlri_decoders: NlriDecoders) -> _Overlays:
    """ESI, labels and gateway IP by key, of withdrawn routes too."""
    found: _Overlays = {}
    for field in (sections.unreach, sections.reach):
        family = None if field is None else FAMILY_BY_CODE.get((field.afi, field.safi))
        if field is None or family is None or family not in nlri_decoders or not field.nlri:
            continue
        try:
            routes = nlri_decoders[family].decode(field.nlri)
        except MalformedNlri:
            continue
        for group in routes.announced:
            labels = group.labels or repeat(b"")
            found.update({key: with_labels(group.overlay, own) for key, own in zip(group.keys, labels)})
    return found


def _report_route(family: Family, key: bytes, overlay: Overlay | None) -> Any:
    if family is Family.ROUTE_TARGET:
        return format_membership(key)
    if family is not Family.L2VPN_EVPN:
        return format_key(family, key)
    route = parse_key(key)
    reported: dict[str, Any] = {
        "route_type": route.route_type,
        "rd": format_route_distinguisher(route.rd).replace("L:", ":") if route.rd else None,
        "esi": (route.esi or (overlay.esi if overlay is not None else b"")).hex() or None,
        "ethernet_tag": None
        if route.opaque or route.route_type == EvpnRouteType.ETHERNET_SEGMENT
        else route.ethernet_tag,
        "mac": route.mac.hex(":") or None,
        "ip": format_address(route.ip) if route.ip else None,
        "prefix": f"{format_address(route.prefix)}/{route.prefix_length}" if route.prefix else None,
        "gateway_ip": None,
        "labels": list(overlay.labels) if overlay is not None else [],
        "originator": format_address(route.originator) if route.originator else None,
    }
    if route.route_type == EvpnRouteType.IP_PREFIX and overlay is not None:
        reported["gateway_ip"] = format_address(overlay.gateway_ip or bytes(len(route.prefix)))
    if route.opaque:
        reported["opaque"] = route.opaque.hex()
    return reported


def _next_hops(sections: UpdateSections) -> list[str]:
    """All next hops as they stand in the message, the link-local one of a pair included."""
    packed = []
    attributes, _ = split_attributes(sections.block)
    packed += [value for _, kind, value in attributes if kind == AttributeType.NEXT_HOP]
    if sections.reach is not None:
        field = sections.reach.next_hop
        packed += [field[:16], field[16:]] if len(field) == 32 else [field]
    return list(dict.fromkeys(format_address(one) for one in packed if len(one) in (4, 16)))


def _ignored(sections: UpdateSections) -> dict[str, list[str]]:
    reported: dict[str, list[str]] = {}
    for field in (sections.unreach, sections.reach):
        if field is None or (field.afi, field.safi) in FAMILY_BY_CODE or not field.nlri:
            continue
        try:
            routes = describe_nlri(field.afi, field.safi, field.nlri)
        except MalformedNlri as malformed:
            routes = [str(malformed)]
        reported.setdefault(family_name(field.afi, field.safi), []).extend(routes)
    return reported


def _report_attributes(block: bytes, attributes: Attributes, errors: list[WireError]) -> AttributeReport:
    """The attributes that are there and valid, in the order of the message."""
    refused = {error.attribute for error in errors if not error.section.endswith("3 g")}
    reported: AttributeReport = {}
    found, _ = split_attributes(block)
    for flags, kind, value in found:
        name = name_of(kind)
        if name in reported or name in refused:
            continue
        reporter = _REPORTERS.get(kind)
        reported[name] = reporter(attributes, value) if reporter is not None else {"flags": flags, "value": value.hex()}
    return reported


def _report_path(path: tuple[AsPathSegment, ...]) -> list[dict[str, Any]]:
    return [{"type": segment.type.name, "asns": list(segment.asns)} for segment in path]


def _report_aggregator(attributes: Attributes, value: bytes) -> dict[str, Any] | None:
    aggregator = attributes.aggregator
    if aggregator is None:
        return None
    return {"asn": aggregator.asn, "router_id": format_address(aggregator.router_id)}


_REPORTERS: Mapping[int, Callable[[Attributes, bytes], Any]] = {
    AttributeType.ORIGIN: lambda attributes, value: attributes.origin.name.lower(),
    AttributeType.AS_PATH: lambda attributes, value: _report_path(attributes.as_path),
    AttributeType.NEXT_HOP: lambda attributes, value: format_address(value),
    AttributeType.MULTI_EXIT_DISC: lambda attributes, value: attributes.med,
    AttributeType.LOCAL_PREF: lambda attributes, value: attributes.local_pref,
    AttributeType.ATOMIC_AGGREGATE: lambda attributes, value: True,
    AttributeType.AGGREGATOR: _report_aggregator,
    AttributeType.COMMUNITIES: lambda attributes, value: list(map(format_community, attributes.communities)),
    AttributeType.ORIGINATOR_ID: lambda attributes, value: format_address(value),
    AttributeType.CLUSTER_LIST: lambda attributes, value: list(map(format_address, attributes.cluster_list)),
    AttributeType.EXTENDED_COMMUNITIES: lambda attributes, value: list(
        map(format_extended_community, attributes.extended_communities)
    ),
    AttributeType.LARGE_COMMUNITIES: lambda attributes, value: list(
        map(format_large_community, attributes.large_communities)
    ),
    AttributeType.ONLY_TO_CUSTOMER: lambda attributes, value: int.from_bytes(value),
}
