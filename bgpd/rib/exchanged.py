"""A route as a neighbor was sent it, or as it announced it, for people and the API. Only reads."""

from __future__ import annotations

from collections.abc import Iterator

from bgpd.model.as_path import as_path_text
from bgpd.model.attributes import Attributes
from bgpd.model.iana import Family
from bgpd.model.policy_syntax import format_community, format_extended_community, format_large_community
from bgpd.model.prefix import format_address
from bgpd.model.route_batch import Overlay
from bgpd.model.views.routes import ExchangedRouteView


def exchanged_view(
    prefix: str,
    attributes: Attributes,
    *,
    neighbor: str,
    family: Family,
    address: str = "",
    vrf: str = "",
    next_hop: str = "",
    overlay: Overlay | None = None,
) -> ExchangedRouteView:
    """With the attributes that are in the message; `address` is the neighbor's."""
    return ExchangedRouteView(
        neighbor=neighbor,
        neighbor_address=address,
        family=family,
        prefix=prefix,
        vrf=vrf,
        next_hop=next_hop,
        origin=attributes.origin.name.lower(),
        as_path=as_path_text(attributes.packed_as_path),
        med=attributes.med,
        local_pref=attributes.local_pref,
        communities=[format_community(value) for value in attributes.communities],
        extended_communities=[format_extended_community(value) for value in attributes.extended_communities],
        large_communities=[format_large_community(value) for value in attributes.large_communities],
        other_attributes=list(_others(attributes)),
        labels=list(overlay.labels) if overlay is not None else [],
        gateway_ip=format_address(overlay.gateway_ip) if overlay is not None and overlay.gateway_ip else "",
    )


def _others(attributes: Attributes) -> Iterator[str]:
    if attributes.atomic_aggregate:
        yield "atomic-aggregate"
    if attributes.aggregator is not None:
        yield f"aggregator {attributes.aggregator.asn} {format_address(attributes.aggregator.router_id)}"
    if attributes.originator_id is not None:
        yield f"originator-id {format_address(attributes.originator_id)}"
    if attributes.cluster_list:
        yield f"cluster-list {' '.join(map(format_address, attributes.cluster_list))}"
    if attributes.only_to_customer is not None:
        yield f"only-to-customer {attributes.only_to_customer}"
    for one in attributes.unknown:
        yield f"attribute {one.type} {one.value.hex()}"


def next_hop_text(packed: bytes) -> str:
    """Of an IPv6 pair (RFC 2545), the link-local address comes second."""
    if len(packed) == 32:
        return f"{format_address(packed[:16])}, {format_address(packed[16:])}"
    return format_address(packed)
