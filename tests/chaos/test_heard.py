"""The witness of a chaos run reads UPDATEs by itself: golden bytes, what no host may send, what a leaf would lose."""

from __future__ import annotations

import pytest

from tests.chaos.heard import (
    COMMUNITIES,
    HOST_ASN,
    MP_REACH,
    MP_UNREACH,
    Heard,
    Malformed,
    communities_of,
    decode_prefixes,
    decode_update,
    encode_prefixes,
)
from tests.chaos.hostile import hostile_messages
from tests.daemon.wire_peer import END_OF_RIB, UPDATE, attribute, message, update, withdrawal

HOPS = ("10.0.3.1", "2001:db8:3::1")
LOWERED = 0xFFFF0000


def body(text: bytes) -> bytes:
    return text[19:]


def route(*prefixes: str, extra: bytes = b"") -> bytes:
    return update(prefixes, asn=HOST_ASN, next_hop=HOPS[0], extra=extra)


def test_routes_of_ipv4_are_read_with_their_communities() -> None:
    sent = route("10.64.1.1/32", "10.64.0.0/16", extra=attribute(0xC0, COMMUNITIES, LOWERED.to_bytes(4)))
    withdrawn, announced = decode_update(body(sent), next_hops=HOPS)
    assert withdrawn == []
    assert {prefix: communities_of(found) for prefix, found in announced.items()} == {
        "10.64.1.1/32": {LOWERED},
        "10.64.0.0/16": {LOWERED},
    }
    assert decode_update(body(withdrawal("10.64.1.1/32")), next_hops=HOPS) == (["10.64.1.1/32"], {})


def test_routes_of_ipv6_are_read() -> None:
    reach = bytes.fromhex("000201 10 20010db8000300000000000000000001 00 80 20010db8006400000000000000000001")
    sent = route(extra=attribute(0x80, MP_REACH, reach))
    withdrawn, announced = decode_update(body(sent), next_hops=HOPS)
    assert (withdrawn, list(announced)) == ([], ["2001:db8:64::1/128"])
    gone = attribute(0x80, MP_UNREACH, bytes.fromhex("000201 40 20010db800640000"))
    sent = message(UPDATE, b"\0\0" + len(gone).to_bytes(2) + gone)
    assert decode_update(body(sent), next_hops=HOPS) == (["2001:db8:64::/64"], {})


@pytest.mark.parametrize(
    "sent",
    [
        update(("10.64.1.1/32",), asn=HOST_ASN, next_hop="10.0.3.2"),
        update(("10.64.1.1/32",), asn=65201, next_hop=HOPS[0]),
        route("10.64.1.1/32")[:-2],
        route("10.64.1.1/32", extra=attribute(0x40, 1, b"\0")),
        message(UPDATE, b"\xff\xff\0\0"),
        message(UPDATE, b"\0"),
    ],
    ids=["next hop", "AS path", "cut prefix", "attribute twice", "length", "cut"],
)
def test_what_no_host_may_send_is_a_complaint(sent: bytes) -> None:
    with pytest.raises(Malformed):
        decode_update(body(sent), next_hops=HOPS)
    heard = Heard(3)
    heard.take(body(sent))
    assert len(heard.complaints) == 1


def test_what_is_said_without_need_is_a_complaint() -> None:
    heard = Heard(3)
    for sent in (route("10.64.1.1/32"), withdrawal("10.64.1.1/32"), route("10.64.1.1/32")):
        heard.take(body(sent))
    assert heard.complaints == []
    heard.take(body(route("10.64.1.1/32", extra=attribute(0xC0, 16, b"12345678"))))
    assert heard.complaints == [], "another attribute is news"
    heard.take(body(route("10.64.1.1/32", extra=attribute(0xC0, 16, b"12345678"))))
    heard.take(body(withdrawal("10.64.1.2/32")))
    assert heard.complaints == [
        "leaf3: announced again, and nothing new: 10.64.1.1/32",
        "leaf3: withdrawn, and never announced: 10.64.1.2/32",
    ]
    heard.is_refreshed = True
    heard.take(body(route("10.64.1.1/32")))
    assert len(heard.complaints) == 2


def test_what_the_next_session_lacks_is_lost_at_its_end_of_rib() -> None:
    heard = Heard(3)
    heard.take(body(route("10.64.1.1/32", "10.64.1.2/32", "10.64.1.3/32")))
    heard.take(body(withdrawal("10.64.1.3/32")))
    assert heard.lost == {"10.64.1.3/32"}
    heard.begin()
    heard.take(body(route("10.64.1.1/32")))
    assert heard.lost == {"10.64.1.3/32"}
    heard.take(body(END_OF_RIB))
    assert heard.lost == {"10.64.1.2/32", "10.64.1.3/32"}
    assert heard.routes.keys() == {"10.64.1.1/32"}


def test_prefixes_are_encoded_as_they_are_decoded() -> None:
    prefixes = ["10.40.7.0/24", "0.0.0.0/0", "10.64.1.1/32", "10.128.0.0/9"]
    assert decode_prefixes(encode_prefixes(prefixes), ipv6=False) == prefixes
    with pytest.raises(Malformed):
        decode_prefixes(b"\x21\x0a\0\0\0\0", ipv6=False)


def test_hostile_messages_are_the_same_each_time() -> None:
    messages = hostile_messages(65213, 3)
    assert messages == hostile_messages(65213, 3)
    assert messages.keys() == hostile_messages(65214, 4).keys()
    assert all(part for parts in messages.values() for part in parts)
