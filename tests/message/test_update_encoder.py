import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bgpd.message.update_decoder import UpdateDecoder
from bgpd.message.update_encoder import UpdateEncoder
from bgpd.model.as_path import AsPathSegment
from bgpd.model.attributes import Aggregator, Attributes, UnknownAttribute
from bgpd.model.evpn import mac_ip_key, prefix_key
from bgpd.model.iana import Family, Origin, SegmentType
from bgpd.model.next_hop import NextHop
from bgpd.model.route_batch import Overlay, RouteBatch
from tests.message.decoding import (
    EVPN,
    GLOBAL,
    LINK_LOCAL,
    MANDATORY,
    NEXT_HOP,
    announced,
    attribute,
    decoder,
    negotiated,
    update,
    withdrawn,
)

LOCAL_IPV4 = b"\x0a\0\x01\x01"
KEY = b"\x20\x0a\x40\x01\x05"
RD = b"\0\1\x0a\xff\1\1\3\xe9"
SEQUENCE = SegmentType.AS_SEQUENCE


def encoder(*, ipv4=LOCAL_IPV4, ipv6=GLOBAL, link_local=LINK_LOCAL, **session):
    return UpdateEncoder(
        negotiated(**session), local_ipv4=ipv4, local_ipv6=ipv6, local_link_local=link_local, nlri_decoders=EVPN
    )


def peer_decoder(**session):
    """The decoder at the other end."""
    ours = negotiated(**session)
    theirs = msgspec.structs.replace(ours, local_asn=ours.peer_asn, peer_asn=ours.local_asn)
    return UpdateDecoder(theirs, nlri_decoders=EVPN, accept_martians=True, accept_as_sets=True)


def v4(attributes, **fields):
    return RouteBatch(family=Family.IPV4_UNICAST, announced=[KEY], attributes=attributes, **fields)


def test_ipv4_announcement_golden_bytes():
    (message,) = encoder().encode(v4(Attributes.of(med=7, communities=(0xFDE80001,), local_pref=200)))
    assert message.hex() == (
        "ff" * 16
        + "003e02"
        + "0000"
        + "0022"
        + "40010100"
        + "40020602010000feb3"
        + "40030 40a000101".replace(" ", "")
        + "80040400000007"
        + "c00804fde80001"
        + "200a400105"
    )


def test_withdrawal_golden_bytes():
    (message,) = encoder().encode(RouteBatch(family=Family.IPV4_UNICAST, withdrawn=[KEY]))
    assert message.hex() == "ff" * 16 + "001c02" + "0005200a400105" + "0000"
    (message,) = encoder().encode(RouteBatch(family=Family.IPV6_UNICAST, withdrawn=[b"\x40\x20\x01\x0d\xb8\0\0\0\x01"]))
    assert message.hex() == "ff" * 16 + "002602" + "0000000f" + "800f0c000201" + "4020010db800000001"


def test_mp_reach_is_the_first_attribute_and_no_message_mixes_announcements_and_withdrawals():
    batch = RouteBatch(family=Family.IPV6_UNICAST, withdrawn=[b"\0"], announced=[b"\0"], attributes=Attributes.of())
    withdrawal, announcement = encoder().encode(batch)
    assert withdrawal[23:25] == b"\x80\x0f"
    assert announcement[23:25] == b"\x90\x0e"


def test_internal_peers_get_local_pref_and_an_unchanged_path():
    attributes = Attributes.of(as_path=(AsPathSegment(SEQUENCE, (1, 2)),), originator_id=b"\1\1\1\1")
    (message,) = encoder(ibgp=True).encode(v4(attributes))
    told = peer_decoder(ibgp=True).decode(message[19:]).batches[0].attributes
    assert (told.local_pref, told.as_path, told.originator_id) == (100, attributes.as_path, b"\1\1\1\1")


def test_external_peers_get_our_as_in_front_and_nothing_internal():
    attributes = Attributes.of(
        as_path=(AsPathSegment(SegmentType.AS_CONFED_SEQUENCE, (9,)), AsPathSegment(SegmentType.AS_SET, (1, 2))),
        local_pref=200,
        cluster_list=(b"\1\1\1\1",),
        extended_communities=(b"\x40\4\0\1\0\0\0\0", b"\0\2\0\1\0\0\0\1"),
    )
    (message,) = encoder().encode(v4(attributes))
    told = peer_decoder().decode(message[19:]).batches[0].attributes
    assert told.as_path == (AsPathSegment(SEQUENCE, (65203,)), AsPathSegment(SegmentType.AS_SET, (1, 2)))
    assert told.extended_communities == (b"\0\2\0\1\0\0\0\1",)
    assert (told.local_pref, told.cluster_list) == (None, ())


def test_a_full_first_segment_is_not_overfilled():
    attributes = Attributes.of(as_path=(AsPathSegment(SEQUENCE, (5,) * 255),))
    (message,) = encoder().encode(v4(attributes))
    told = peer_decoder().decode(message[19:]).batches[0].attributes
    assert [len(segment.asns) for segment in told.as_path] == [1, 255]


def test_two_octet_peers_get_as_trans_and_as4_attributes():
    session = {"local_asn": 4200000001, "four_octet_as": False}
    (message,) = encoder(**session).encode(v4(Attributes.of(aggregator=Aggregator(70000, b"\1\2\3\4"))))
    assert bytes.fromhex("40020402015ba0") in message
    assert bytes.fromhex("c0110602 01fa56ea01".replace(" ", "")) in message
    assert bytes.fromhex("c007065ba001020304") in message
    told = UpdateDecoder(
        negotiated(local_asn=65201, peer_asn=4200000001, four_octet_as=False), nlri_decoders=EVPN
    ).decode(message[19:])
    assert told.batches[0].attributes.as_path[0].asns == (4200000001,)
    assert told.batches[0].attributes.aggregator == Aggregator(70000, b"\1\2\3\4")


def test_unrecognised_attributes_are_passed_on_with_the_partial_bit():
    attributes = Attributes.of(unknown=(UnknownAttribute(0xC0, 99, b"x"), UnknownAttribute(0xC0, 35, b"\0\0\0\1")))
    (message,) = encoder().encode(v4(attributes))
    assert message.endswith(bytes.fromhex("c0230400000001" + "e0630178") + KEY)
    (message,) = encoder().encode(v4(Attributes.of(unknown=(UnknownAttribute(0x80, 98, b"not transitive"),))))
    assert b"\x62" not in message


def passed_on(block: bytes, **session) -> bytes:
    """The attributes that an external neighbor is sent of what another one sent, after AS_PATH and NEXT_HOP."""
    (batch,) = decoder().decode(update(MANDATORY + block, KEY)).batches
    (message,) = encoder(**session).encode(v4(batch.attributes))
    return message[message.index(NEXT_HOP[:2]) + 7 : -len(KEY)]


@pytest.mark.parametrize("low", [0, 1, 8, 15])
def test_low_four_bits_of_flags_are_ignored_and_zero_when_passed_on(low):
    community, unknown, otc = b"\x08\4\xfd\xe8\0\1", b"\x63\1x", b"\x23\4\0\0\0\5"
    received = [bytes((0xC0 | low,)) + one for one in (community, unknown, otc)]
    expected = b"\xc0" + community + b"\xc0" + otc + b"\xe0" + unknown
    assert passed_on(b"".join(received)) == expected
    extended = bytes((0xD0 | low, 99, 0, 1)) + b"x"
    assert passed_on(extended) == b"\xe0" + unknown


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (7, b"\0\0\xfe\xb1\1\2\3\4"),
        (8, b"\xfd\xe8\0\1"),
        (16, b"\0\2\xfd\xe8\0\0\0\1"),
        (32, b"\0\0\0\1" * 3),
        (35, b"\0\0\0\5"),
        (99, b"x"),
    ],
)
@pytest.mark.parametrize("ibgp", [False, True])
def test_partial_bit_that_another_router_set_stays(kind, value, ibgp):
    assert passed_on(attribute(kind, value, 0xE0), ibgp=ibgp).endswith(attribute(kind, value, 0xE0))
    flags = 0xE0 if kind == 99 else 0xC0
    assert passed_on(attribute(kind, value, 0xC0), ibgp=ibgp).endswith(attribute(kind, value, flags))


@pytest.mark.parametrize(("ibgp", "is_sent"), [(True, True), (False, False)])
def test_prefix_sid_of_an_internal_neighbor_stays_in_the_as(ibgp, is_sent):
    """RFC 8669 section 5."""
    sid = attribute(40, b"\1\0\7" + bytes(7), 0xC0)
    (batch,) = decoder(ibgp=True).decode(update(MANDATORY + attribute(99, b"x", 0xC0) + sid, KEY)).batches
    (message,) = encoder(ibgp=ibgp).encode(v4(batch.attributes))
    assert attribute(99, b"x", 0xE0) in message
    assert (sid in message) is is_sent


@pytest.mark.parametrize(
    ("given", "session", "expected"),
    [
        (None, {}, LOCAL_IPV4),
        (NextHop(b"\x0a\0\0\x09"), {}, b"\x0a\0\0\x09"),
        (None, {"extended_next_hop": True}, GLOBAL),
        (NextHop(GLOBAL), {"extended_next_hop": True}, GLOBAL),
        (None, {"extended_next_hop": True, "ipv6": None}, LINK_LOCAL),
    ],
)
def test_next_hop_self_and_given_next_hops_of_ipv4_routes(given, session, expected):
    (message,) = encoder(**session).encode(v4(Attributes.of(), next_hop=given))
    session.pop("ipv6", None)
    assert peer_decoder(**session).decode(message[19:]).batches[0].next_hop.address == expected


def test_routes_without_a_possible_next_hop_are_withdrawn():
    one = encoder(ipv4=None, ipv6=None, link_local=None)
    assert one.without_next_hop == tuple(Family)
    (message,) = one.encode(v4(Attributes.of()))
    assert withdrawn(peer_decoder().decode(message[19:])) == [KEY]
    (message,) = encoder().encode(v4(Attributes.of(), next_hop=NextHop(GLOBAL)))
    assert withdrawn(peer_decoder().decode(message[19:])) == [KEY]


def test_attributes_that_overfill_a_message_withdraw_their_routes():
    batch = v4(Attributes.of(communities=tuple(range(1100))))
    (message,) = encoder().encode(batch)
    assert withdrawn(peer_decoder().decode(message[19:])) == [KEY]
    (message,) = encoder(extended_message=True).encode(batch)
    assert announced(peer_decoder().decode(message[19:])) == [KEY]


@pytest.mark.parametrize(("extended", "most"), [(False, 4096), (True, 65535)])
@pytest.mark.parametrize("family", [Family.IPV4_UNICAST, Family.IPV6_UNICAST])
def test_many_routes_fill_messages_up_to_the_negotiated_length(extended, most, family):
    keys = [b"\x20" + number.to_bytes(4, "big") for number in range(20000)]
    batch = RouteBatch(family=family, announced=keys, withdrawn=keys, attributes=Attributes.of())
    messages = encoder(extended_message=extended).encode(batch)
    assert max(map(len, messages)) <= most
    assert max(map(len, messages)) > most - 16
    decoded = [peer_decoder().decode(message[19:]) for message in messages]
    assert [key for one in decoded for key in announced(one)] == keys
    assert [key for one in decoded for key in withdrawn(one)] == keys


def test_end_of_rib_of_every_family_is_recognised():
    for family in Family:
        assert peer_decoder().decode(encoder().end_of_rib(family)[19:]).end_of_rib is family


numbers = st.integers(1, 0xFFFFFFFF)
segments = st.builds(
    AsPathSegment,
    st.sampled_from([SegmentType.AS_SET, SEQUENCE]),
    st.lists(numbers, min_size=1, max_size=5).map(tuple),
)
attribute_sets = st.builds(
    Attributes.of,
    origin=st.sampled_from(Origin),
    as_path=st.lists(segments, max_size=3).map(tuple),
    med=st.none() | numbers,
    atomic_aggregate=st.booleans(),
    aggregator=st.none() | st.builds(Aggregator, numbers, st.binary(min_size=4, max_size=4)),
    communities=st.lists(numbers, max_size=80).map(tuple),
    extended_communities=st.lists(st.binary(min_size=7, max_size=7).map(lambda b: b"\0" + b), max_size=9).map(tuple),
    large_communities=st.lists(st.tuples(numbers, numbers, numbers), max_size=5, unique=True).map(tuple),
    unknown=st.lists(
        st.builds(UnknownAttribute, st.just(0xE0), st.integers(200, 250), st.binary(max_size=300)),
        max_size=2,
        unique_by=lambda one: one.type,
    ).map(lambda ones: tuple(sorted(ones, key=lambda one: one.type))),
)
macs = st.binary(min_size=6, max_size=6)
evpn_routes = st.one_of(
    st.tuples(
        st.builds(lambda mac, ip: mac_ip_key(RD, mac=mac, ip=ip), macs, st.sampled_from([b"", LOCAL_IPV4, GLOBAL])),
        st.builds(Overlay, st.binary(min_size=10, max_size=10), st.sampled_from([(100,), (100, 5001)])),
    ),
    st.tuples(
        st.integers(0, 24).map(lambda tag: prefix_key(RD, prefix=b"\x0a\1\2\0", prefix_length=24, ethernet_tag=tag)),
        st.builds(Overlay, st.just(bytes(10)), st.just((7,)), st.sampled_from([b"", LOCAL_IPV4])),
    ),
)


@given(attribute_sets, evpn_routes, st.booleans(), st.booleans())
@settings(max_examples=150)
def test_what_is_encoded_is_decoded_again(attributes, route, ibgp, four_octet_as):
    session = {"ibgp": ibgp, "four_octet_as": four_octet_as}
    key, overlay = route
    for batch in (
        v4(attributes),
        RouteBatch(family=Family.IPV6_UNICAST, announced=[b"\x40" + GLOBAL[:8]], attributes=attributes),
        RouteBatch(family=Family.L2VPN_EVPN, announced=[key], attributes=attributes, overlay=overlay),
    ):
        (message,) = encoder(**session).encode(batch)
        decoded = peer_decoder(**session).decode(message[19:])
        assert decoded.errors == []
        (told,) = decoded.batches
        assert (list(told.announced), told.overlay) == (batch.announced, batch.overlay)
        path = attributes.as_path
        if not ibgp and path and path[0].type is SEQUENCE:
            path = (AsPathSegment(SEQUENCE, (65203, *path[0].asns)), *path[1:])
        elif not ibgp:
            path = (AsPathSegment(SEQUENCE, (65203,)), *path)
        expected = attributes.changed(as_path=path, local_pref=100 if ibgp else None)
        assert flat(told.attributes) == flat(expected)


def flat(attributes):
    """Contents, with adjacent sequences of the path joined: a merge with AS4_PATH may move their border."""
    joined = []
    for segment in attributes.as_path:
        if joined and joined[-1][0] is segment.type is SEQUENCE:
            joined[-1] = (SEQUENCE, joined[-1][1] + segment.asns)
        else:
            joined.append((segment.type, segment.asns))
    fields = msgspec.structs.asdict(attributes.fields)
    return {**fields, "packed_as_path": joined}


@pytest.mark.parametrize(
    ("addresses", "ipv4", "ipv6", "evpn"),
    [
        ({}, LOCAL_IPV4, GLOBAL + LINK_LOCAL, LOCAL_IPV4),
        ({"link_local": None}, LOCAL_IPV4, GLOBAL, LOCAL_IPV4),
        ({"ipv6": None}, LOCAL_IPV4, LINK_LOCAL, LOCAL_IPV4),
        ({"ipv6": None, "link_local": None}, LOCAL_IPV4, b"", LOCAL_IPV4),
        ({"ipv4": None}, b"", GLOBAL + LINK_LOCAL, GLOBAL),
        ({"ipv4": None, "link_local": None}, b"", GLOBAL, GLOBAL),
        ({"ipv4": None, "ipv6": None}, b"", LINK_LOCAL, b""),
        ({"extended_next_hop": True}, GLOBAL + LINK_LOCAL, GLOBAL + LINK_LOCAL, LOCAL_IPV4),
        ({"extended_next_hop": True, "ipv6": None, "link_local": None}, LOCAL_IPV4, b"", LOCAL_IPV4),
    ],
)
def test_this_hosts_next_hop_is_made_of_the_addresses_that_the_session_has(addresses, ipv4, ipv6, evpn):
    made = encoder(**addresses)
    families = (Family.IPV4_UNICAST, Family.IPV6_UNICAST, Family.L2VPN_EVPN, Family.ROUTE_TARGET)
    found = [made.next_hop_self(family) for family in families]
    assert found == [ipv4, ipv6, evpn, evpn]
    assert made.without_next_hop == tuple(one for one in families if not made.next_hop_self(one))


@pytest.mark.parametrize(("local_pref", "told"), [(None, 100), (0, 0), (200, 200)])
def test_local_preference_goes_to_ibgp_neighbors_as_it_is(local_pref, told):
    (message,) = encoder(ibgp=True).encode(v4(Attributes.of(local_pref=local_pref)))
    assert b"\x40\5\4" + told.to_bytes(4) in message
    (message,) = encoder().encode(v4(Attributes.of(local_pref=local_pref)))
    assert b"\x40\5\4" not in message


@pytest.mark.parametrize("ibgp", [False, True])
def test_what_is_shown_as_sent_is_what_the_peer_decodes(ibgp):
    path = (AsPathSegment(SEQUENCE, (65001,)), AsPathSegment(SegmentType.AS_CONFED_SEQUENCE, (64512,)))
    attributes = Attributes.of(as_path=path, med=7, local_pref=200, extended_communities=(b"\x40\2" + bytes(6),))
    batch = v4(attributes)
    shown, next_hop = encoder(ibgp=ibgp).as_sent(batch)
    (message,) = encoder(ibgp=ibgp).encode(batch)
    (decoded,) = peer_decoder(ibgp=ibgp).decode(message[19:]).batches
    assert decoded.attributes.same_as(shown)
    assert decoded.next_hop.address == next_hop
    assert encoder(ipv4=None, ibgp=ibgp).as_sent(batch) is None
