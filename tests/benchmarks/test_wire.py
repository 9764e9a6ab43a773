"""The injector's messages are well formed, full, and hold what they should."""

from __future__ import annotations

import struct

import pytest

from benchmarks import wire
from benchmarks.evpn_routes import EvpnRouteSet
from benchmarks.routes import RouteSet


@pytest.mark.parametrize("kind", ["v4-32", "v4-mix", "v6-64"])
@pytest.mark.parametrize("attribute_sets", [1, 7, 0])
def test_announced_routes_are_read_back_complete_and_in_order(kind: str, attribute_sets: int) -> None:
    routes = RouteSet(kind=kind, count=3000, attribute_sets=attribute_sets)
    next_hop = "2001:db8::2" if kind == "v6-64" else "10.0.0.2"
    heard: list[bytes] = []
    for message in routes.announcements(asn=65201, next_hop=next_hop):
        assert len(message) <= wire.MAX_MESSAGE_LENGTH
        announced, withdrawn = wire.unicast_changes(message[wire.HEADER_LENGTH :])
        assert not withdrawn
        heard += announced
    assert heard == routes.prefixes()


@pytest.mark.parametrize("kind", ["v4-32", "v4-mix", "v6-64"])
def test_withdrawn_routes_are_read_back_complete(kind: str) -> None:
    routes = RouteSet(kind=kind, count=3000)
    gone: list[bytes] = []
    for message in routes.withdrawals():
        announced, withdrawn = wire.unicast_changes(message[wire.HEADER_LENGTH :])
        assert not announced
        gone += withdrawn
    assert gone == routes.prefixes()


def test_messages_of_one_attribute_set_are_full() -> None:
    sizes = [len(message) for message in RouteSet(count=5000).announcements(asn=65201, next_hop="10.0.0.2")]
    assert min(sizes[:-1]) > wire.MAX_MESSAGE_LENGTH - 5


def test_reader_cuts_a_stream_that_arrives_in_small_pieces() -> None:
    stream = wire.KEEPALIVE + wire.end_of_rib("ipv4-unicast") + wire.end_of_rib("l2vpn-evpn") + wire.KEEPALIVE
    reader = wire.Reader()
    kinds = [kind for start in range(0, len(stream), 5) for kind, _ in reader.feed(stream[start : start + 5])]
    assert kinds == [wire.KEEPALIVE_TYPE, wire.UPDATE, wire.UPDATE, wire.KEEPALIVE_TYPE]


def test_open_has_its_lengths_right() -> None:
    message = wire.open_message(
        asn=65201, router_id="10.255.0.1", hold_time_s=240, families=("ipv4-unicast", "l2vpn-evpn"), restart_time_s=120
    )
    assert struct.unpack_from(">H", message, 16)[0] == len(message)
    assert message[28] == len(message) - 29
    assert message[30] == len(message) - 31


@pytest.mark.parametrize(("kind", "length"), [("evpn-type2", 37), ("evpn-type5", 34)])
def test_evpn_nlri_are_distinct_and_of_the_length_that_the_rfc_gives(kind: str, length: int) -> None:
    nlri = EvpnRouteSet(kind=kind, count=500, hosts=7).nlri()
    assert len(set(nlri)) == 500
    assert {route[1] for route in nlri} == {length}
    assert {len(route) for route in nlri} == {length + 2}
