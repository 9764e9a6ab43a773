"""A route as a neighbor was sent it or announced it: each attribute in words."""

from __future__ import annotations

import pytest

from bgpd.model.as_path import AsPathSegment
from bgpd.model.attributes import Aggregator, Attributes, UnknownAttribute
from bgpd.model.iana import Family, Origin, SegmentType
from bgpd.model.prefix import parse_address
from bgpd.model.route_batch import Overlay
from bgpd.model.views.routes import ExchangedRouteView
from bgpd.rib.exchanged import exchanged_view, next_hop_text

ESI = bytes(10)


def view(attributes: Attributes, overlay: Overlay | None = None) -> ExchangedRouteView:
    return exchanged_view(
        "10.9.0.0/16",
        attributes,
        neighbor="leaf1",
        family=Family.IPV4_UNICAST,
        address="10.0.1.2",
        vrf="blue",
        next_hop="10.0.1.1",
        overlay=overlay,
    )


def test_a_route_with_nothing_but_what_it_must_have() -> None:
    assert view(Attributes.of(origin=Origin.INCOMPLETE)) == ExchangedRouteView(
        neighbor="leaf1",
        neighbor_address="10.0.1.2",
        family="ipv4-unicast",
        prefix="10.9.0.0/16",
        vrf="blue",
        next_hop="10.0.1.1",
        origin="incomplete",
    )


def test_each_attribute_is_told() -> None:
    path = (AsPathSegment(SegmentType.AS_SEQUENCE, (65201, 65299)), AsPathSegment(SegmentType.AS_SET, (1, 2)))
    found = view(
        Attributes.of(
            as_path=path,
            med=0,
            local_pref=200,
            communities=(0xFDE80001, 0xFFFFFF01),
            extended_communities=(b"\0\2\xfd\xe8\0\0\x13\x89",),
            large_communities=((65203, 1, 2),),
            atomic_aggregate=True,
            aggregator=Aggregator(65201, b"\x0a\0\0\1"),
            originator_id=b"\x0a\0\0\2",
            cluster_list=(b"\x0a\0\0\3", b"\x0a\0\0\4"),
            only_to_customer=65201,
            unknown=(UnknownAttribute(0xE0, 99, b"\1\2"),),
        )
    )
    assert (found.as_path, found.med, found.local_pref, found.origin) == ("65201 65299 {1,2}", 0, 200, "igp")
    assert found.communities == ["65000:1", "no-export"]
    assert found.extended_communities == ["rt:65000:5001"]
    assert found.large_communities == ["65203:1:2"]
    assert found.other_attributes == [
        "atomic-aggregate",
        "aggregator 65201 10.0.0.1",
        "originator-id 10.0.0.2",
        "cluster-list 10.0.0.3 10.0.0.4",
        "only-to-customer 65201",
        "attribute 99 0102",
    ]


@pytest.mark.parametrize(
    ("overlay", "labels", "gateway"),
    [
        (None, [], ""),
        (Overlay(ESI, (5001,)), [5001], ""),
        (Overlay(ESI, (5001, 7), parse_address("10.64.1.9")), [5001, 7], "10.64.1.9"),
    ],
)
def test_labels_and_gateway_of_an_evpn_route(overlay: Overlay | None, labels: list[int], gateway: str) -> None:
    found = view(Attributes.of(), overlay)
    assert (found.labels, found.gateway_ip) == (labels, gateway)


@pytest.mark.parametrize(
    ("packed", "text"),
    [
        (parse_address("10.0.1.2"), "10.0.1.2"),
        (parse_address("2001:db8::2"), "2001:db8::2"),
        (parse_address("2001:db8::2") + parse_address("fe80::2"), "2001:db8::2, fe80::2"),
    ],
)
def test_next_hops(packed: bytes, text: str) -> None:
    """Of two, the link-local one is the second (RFC 2545)."""
    assert next_hop_text(packed) == text
