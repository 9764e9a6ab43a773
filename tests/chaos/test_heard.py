"""The witness of a chaos run reads UPDATEs by itself: golden bytes, what no host may send, what a leaf would lose."""

from __future__ import annotations

import pytest

from tests.chaos.evpn_wire import (
    EvpnRoute,
    Malformed,
    Tenancy,
    encode_announcements,
    encode_nlri,
    encode_withdrawals,
)
from tests.chaos.heard import (
    COMMUNITIES,
    HOST_ASN,
    MP_REACH,
    MP_UNREACH,
    Heard,
    Host,
    communities_of,
    decode_prefixes,
    decode_update,
    encode_prefixes,
)
from tests.chaos.hostile import hostile_messages
from tests.daemon.wire_peer import END_OF_RIB, UPDATE, attribute, message, update, withdrawal

TENANCY = Tenancy(
    bytes.fromhex("0001 0aff0101 03e9"), 5001, bytes.fromhex("0002 feb1 00001389"), ("10.1.3.1", "2001:db8:103::2")
)
HOST = Host("10.0.3.1", "2001:db8:3::1", "10.0.3.1", (TENANCY,))
LOWERED = 0xFFFF0000


def body(text: bytes) -> bytes:
    return text[19:]


def route(*prefixes: str, extra: bytes = b"") -> bytes:
    return update(prefixes, asn=HOST_ASN, next_hop=HOST.ipv4, extra=extra)


def test_routes_of_ipv4_are_read_with_their_communities() -> None:
    sent = route("10.64.1.1/32", "10.64.0.0/16", extra=attribute(0xC0, COMMUNITIES, LOWERED.to_bytes(4)))
    withdrawn, announced = decode_update(body(sent), HOST)
    assert withdrawn == []
    assert {prefix: communities_of(found) for prefix, found in announced.items()} == {
        "10.64.1.1/32": {LOWERED},
        "10.64.0.0/16": {LOWERED},
    }
    assert decode_update(body(withdrawal("10.64.1.1/32")), HOST) == (["10.64.1.1/32"], {})


def test_routes_of_ipv6_are_read() -> None:
    reach = bytes.fromhex("000201 10 20010db8000300000000000000000001 00 80 20010db8006400000000000000000001")
    sent = route(extra=attribute(0x80, MP_REACH, reach))
    withdrawn, announced = decode_update(body(sent), HOST)
    assert (withdrawn, list(announced)) == ([], ["2001:db8:64::1/128"])
    gone = attribute(0x80, MP_UNREACH, bytes.fromhex("000201 40 20010db800640000"))
    sent = message(UPDATE, b"\0\0" + len(gone).to_bytes(2) + gone)
    assert decode_update(body(sent), HOST) == (["2001:db8:64::/64"], {})


def test_routes_of_ipv4_by_an_ipv6_next_hop_are_read_where_the_session_is_unnumbered() -> None:
    unnumbered = Host("fe80::1", "fe80::1")
    reach = bytes.fromhex("000101 10 fe800000000000000000000000000001 00 20 0a400101")
    sent = route(extra=attribute(0x80, MP_REACH, reach))
    assert list(decode_update(body(sent), unnumbered)[1]) == ["10.64.1.1/32"]
    for other in (Host("fe80::2", "fe80::2"), HOST):
        with pytest.raises(Malformed):
            decode_update(body(sent), other)
    with pytest.raises(Malformed):
        decode_update(body(route("10.64.1.1/32")), unnumbered)


PREFIX_NLRI = bytes.fromhex("05 22 00010aff010103e9 00000000000000000000 00000000 20 0a400001 0a010301 001389")
HOST_NLRI = bytes.fromhex("02 25 00010aff010103e9 00000000000000000000 00000000 30 020000810001 20 0a510001 001389")
PREFIX, MACHINE = EvpnRoute("10.64.0.1/32"), EvpnRoute("10.81.0.1/32", "02:00:00:81:00:01", 3)


def evpn(attributes: bytes) -> bytes:
    """The body of an UPDATE of the host."""
    return body(route(extra=attributes))


def test_evpn_routes_are_written_as_the_rfcs_say_and_read_again() -> None:
    assert encode_nlri(PREFIX, TENANCY) == PREFIX_NLRI
    assert encode_nlri(MACHINE, TENANCY) == HOST_NLRI
    keys = ["evpn 5 10.64.0.1/32", "evpn 2 02:00:00:81:00:01 10.81.0.1/32"]
    found: dict[str, bytes] = {}
    for attributes in encode_announcements([PREFIX, MACHINE], TENANCY, HOST.evpn, per_message=9):
        found |= {key: dict(told)[16] for key, told in decode_update(evpn(attributes), HOST)[1].items()}
    assert list(found) == keys
    assert found[keys[1]] == TENANCY.communities(3)
    assert bytes.fromhex("0600000000000003") in found[keys[1]]
    (gone,) = encode_withdrawals([PREFIX, MACHINE], TENANCY, per_message=9)
    assert decode_update(evpn(gone), HOST) == (keys, {})


@pytest.mark.parametrize(
    ("nlri", "next_hop", "communities"),
    [
        (PREFIX_NLRI[:-4] + b"\2" + PREFIX_NLRI[-3:], "0a000301", TENANCY.communities()),
        (PREFIX_NLRI[:-1] + b"\1", "0a000301", TENANCY.communities()),
        (PREFIX_NLRI[:2] + HOST_NLRI[4:10] + PREFIX_NLRI[8:], "0a000301", TENANCY.communities()),
        (PREFIX_NLRI[:-1], "0a000301", TENANCY.communities()),
        (HOST_NLRI, "0a000302", TENANCY.communities()),
        (HOST_NLRI, "0a000301", TENANCY.target),
    ],
    ids=["gateway", "VNI", "route distinguisher", "cut", "next hop", "encapsulation"],
)
def test_evpn_route_that_is_not_the_host_s_is_a_complaint(nlri: bytes, next_hop: str, communities: bytes) -> None:
    reach = bytes.fromhex(f"001946 04 {next_hop} 00") + nlri
    with pytest.raises(Malformed):
        decode_update(evpn(attribute(0xC0, 16, communities) + attribute(0x80, MP_REACH, reach)), HOST)


def test_end_of_rib_of_each_family_ends_what_was_kept_of_it_alone() -> None:
    heard = Heard(3, HOST)
    heard.take(body(route("10.64.1.1/32")))
    (attributes,) = encode_announcements([PREFIX], TENANCY, HOST.evpn, per_message=9)
    heard.take(evpn(attributes))
    heard.begin()
    heard.take(bytes.fromhex("0000 0006 800f03 0019 46"))
    assert heard.lost == {PREFIX.key}
    heard.take(body(END_OF_RIB))
    assert heard.lost == {PREFIX.key, "10.64.1.1/32"}


@pytest.mark.parametrize(
    "sent",
    [
        update(("10.64.1.1/32",), asn=HOST_ASN, next_hop="10.0.3.2"),
        update(("10.64.1.1/32",), asn=65201, next_hop=HOST.ipv4),
        route("10.64.1.1/32")[:-2],
        route("10.64.1.1/32", extra=attribute(0x40, 1, b"\0")),
        message(UPDATE, b"\xff\xff\0\0"),
        message(UPDATE, b"\0"),
    ],
    ids=["next hop", "AS path", "cut prefix", "attribute twice", "length", "cut"],
)
def test_what_no_host_may_send_is_a_complaint(sent: bytes) -> None:
    with pytest.raises(Malformed):
        decode_update(body(sent), HOST)
    heard = Heard(3, HOST)
    heard.take(body(sent))
    assert len(heard.complaints) == 1


def test_what_is_said_without_need_is_a_complaint() -> None:
    heard = Heard(3, HOST)
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
    heard.take(body(withdrawal("10.64.1.2/32")))
    assert len(heard.complaints) == 3
    heard.unsteady_rounds = 1
    heard.take(body(withdrawal("10.64.1.2/32")))
    assert len(heard.complaints) == 3


def test_what_does_not_come_again_in_a_refresh_is_lost_at_its_end() -> None:
    heard = Heard(3, HOST)
    heard.take(body(route("10.64.1.1/32", "10.64.1.2/32")))
    heard.take_refresh(bytes.fromhex("0001 01 01"))
    heard.take(body(route("10.64.1.1/32")))
    heard.take_refresh(bytes.fromhex("0001 02 01"))
    assert heard.lost == {"10.64.1.2/32"}
    assert heard.routes.keys() == {"10.64.1.1/32"}
    assert heard.complaints == []
    heard.take_refresh(bytes.fromhex("0001 02 01"))
    assert heard.complaints == ["leaf3: a ROUTE-REFRESH of subtype 2: 00010201"]


def test_what_the_next_session_lacks_is_lost_at_its_end_of_rib() -> None:
    heard = Heard(3, HOST)
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
