import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgpd.model.iana import Family
from bgpd.model.next_hop import NextHop
from bgpd.model.wire import Reaction
from tests.message.decoding import (
    AS_PATH,
    GLOBAL,
    LINK_LOCAL,
    MANDATORY,
    NEXT_HOP,
    ORIGIN,
    announced,
    attribute,
    decoder,
    reach,
    unreach,
    update,
    withdrawn,
)

PREFIX = b"\x18\x0a\x01\x02"


V6_PREFIX = b"\x40" + GLOBAL[:8]


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (attribute(4, b"\0\0\0\1", 0xC0), 4),
        (attribute(1, b"\0", 0x80), 4),
        (attribute(4, b"\0\0\0", 0x80), 5),
        (attribute(4, b"\0" * 300, 0x80), 5),
        (bytes.fromhex("90040003000000"), 5),
        (attribute(1, b"\7", 0x40), 6),
        (attribute(1, b"\0\0", 0x40), 6),
        (attribute(3, b"\x0a\0\1", 0x40), 8),
        (attribute(8, b"\0\0\1", 0xC0), 9),
        (attribute(16, b"\0", 0xC0), 9),
        (attribute(32, b"\0", 0xC0), 9),
        (attribute(99, b"x", 0x40), 2),
    ],
)
def test_notification_tells_of_the_attribute_in_error(bad, code):
    decoded = decoder().decode(update(bad, withdrawn=PREFIX))
    assert decoded.notification == (3, code, bad)


@pytest.mark.parametrize(
    "bad",
    [
        reach(2, 1, b"\0" * 5, V6_PREFIX),
        reach(2, 1, GLOBAL, b"\x81" + GLOBAL + b"\0"),
        attribute(14, reach(2, 1, GLOBAL, V6_PREFIX)[3:], 0xC0),
        unreach(2, 1, b"\x40\0"),
        attribute(15, b"\0\2", 0x80),
        attribute(15, b"\0\2\1", 0x40),
    ],
    ids=["next hop", "prefix", "flags", "withdrawn prefix", "length", "flags of MP_UNREACH_NLRI"],
)
def test_notification_tells_of_the_mp_attribute_in_error(bad):
    decoded = decoder().decode(update(ORIGIN + bad + AS_PATH))
    assert decoded.notification == (3, 9, bad)


@pytest.mark.parametrize("body", [b"\0\5\0\0", b"\0\0\0\5\0", update(MANDATORY, b"\x21\0\0\0\0\0")])
def test_notifications_of_the_list_and_of_prefixes_have_no_data(body):
    assert decoder().decode(body).notification in ((3, 1, b""), (3, 10, b""))


def type_5(number: int, *, esi: bytes = bytes(10), gateway: bytes = bytes(4), label: int = 0) -> bytes:
    rd, prefix = b"\0\1\1\1\1\1\0\7", bytes((10, number, 0, 0))
    return b"\5\x22" + rd + esi + bytes(4) + b"\x18" + prefix + gateway + label.to_bytes(3)


def router_mac(*macs: str) -> bytes:
    return attribute(16, b"".join(b"\6\3" + bytes.fromhex(mac) for mac in macs), 0xC0) if macs else b""


@pytest.mark.parametrize(
    ("fields", "macs", "is_used"),
    [
        ({"label": 5001}, ["020000000001"], True),
        ({"label": 5001}, [], True),
        ({}, ["020000000001"], True),
        ({"gateway": b"\x0a\0\0\1"}, [], True),
        ({"esi": b"\0" * 9 + b"\1"}, [], True),
        ({"label": 5001}, ["000000000000"], False),
        ({"label": 5001}, ["010000000001"], False),
        ({"label": 5001}, ["ffffffffffff"], False),
        ({"gateway": b"\x0a\0\0\1"}, ["330000000001"], False),
        ({"esi": b"\0" * 9 + b"\1"}, ["000000000000"], False),
        ({"label": 5001}, ["020000000001", "010000000001"], False),
        ({}, [], False),
    ],
)
def test_type_5_routes_that_no_router_can_be_behind_are_withdrawn(fields, macs, is_used):
    other = b"\2\x21" + b"\0\1\1\1\1\1\0\7" + bytes(14) + b"\x30\2\0\0\0\0\1\0" + b"\0\x13\x89"
    body = update(reach(25, 70, b"\x0a\0\0\1", type_5(1, **fields) + other) + ORIGIN + AS_PATH + router_mac(*macs))
    decoded = decoder().decode(body)
    kinds = {key[0] for key in announced(decoded)}
    assert kinds == ({2, 5} if is_used else {2})
    assert [key[0] for key in withdrawn(decoded)] == ([] if is_used else [5])
    assert [error.section for error in decoded.errors] == ([] if is_used else ["RFC 9136 section 3.2"])


def test_sets_in_the_path_of_an_update_that_announces_nothing_do_not_end_the_session():
    with_set = attribute(2, b"\2\1\0\0\xfe\xb1\1\1\0\0\0\7", 0x40)
    decoded = decoder().decode(update(ORIGIN + with_set, withdrawn=PREFIX))
    assert decoded.reaction is Reaction.TREAT_AS_WITHDRAW
    assert withdrawn(decoded) == [PREFIX]


def test_withdrawn_routes_and_announced_ones_come_in_one_batch():
    decoded = decoder().decode(update(MANDATORY, PREFIX, withdrawn=b"\x10\x0a\x02"))
    (batch,) = decoded.batches
    assert (list(batch.withdrawn), list(batch.announced)) == ([b"\x10\x0a\x02"], [PREFIX])
    assert batch.family is Family.IPV4_UNICAST
    assert batch.next_hop == NextHop(b"\x0a\x00\x01\x02")
    assert batch.attributes.as_path[0].asns == (65201,)
    assert decoded.reaction is Reaction.ACCEPT


def test_equal_attribute_blocks_give_the_identical_attributes():
    one = decoder()
    first = one.decode(update(MANDATORY, PREFIX)).batches[0].attributes
    assert one.decode(update(MANDATORY, b"\x20\x0a\0\0\x01")).batches[0].attributes is first


def test_what_is_remembered_of_blocks_is_bounded():
    one = decoder()
    for number in range(2000):
        one.decode(update(MANDATORY + attribute(8, number.to_bytes(4), 0xC0), PREFIX))
        one.decode(update(MANDATORY + attribute(99, number.to_bytes(4), 0xC0), PREFIX))
        one.decode(update(MANDATORY + attribute(99, bytes(2000) + number.to_bytes(4), 0xC0), PREFIX))
    known = [*one._attributes.plain.known, *one._attributes._others]
    assert len(known) <= 1024
    assert max(map(len, known)) < 1024


def test_mp_attributes_may_stand_anywhere_and_leave_the_block_the_same():
    one = decoder()
    v6 = b"\x40\x20\x01\x0d\xb8\0\0\0\x01"
    first = one.decode(update(reach(2, 1, GLOBAL, v6) + ORIGIN + AS_PATH))
    middle = one.decode(update(ORIGIN + reach(2, 1, GLOBAL, v6) + AS_PATH))
    assert announced(first) == announced(middle) == [v6]
    assert first.batches[0].attributes is middle.batches[0].attributes


@pytest.mark.parametrize(
    ("field", "interface", "expected"),
    [
        (GLOBAL, "", NextHop(GLOBAL)),
        (GLOBAL + LINK_LOCAL, "", NextHop(GLOBAL)),
        (GLOBAL + LINK_LOCAL, "eth0", NextHop(LINK_LOCAL, "eth0")),
        (bytes(16) + LINK_LOCAL, "", NextHop(LINK_LOCAL)),
        (LINK_LOCAL + LINK_LOCAL, "eth0", NextHop(LINK_LOCAL, "eth0")),
        (LINK_LOCAL, "eth0", NextHop(LINK_LOCAL, "eth0")),
    ],
)
def test_ipv6_next_hops_use_the_link_local_address_where_the_link_is_known(field, interface, expected):
    decoded = decoder(interface=interface).decode(update(reach(2, 1, field, b"\0") + ORIGIN + AS_PATH))
    assert decoded.batches[0].next_hop == expected


def test_ipv4_routes_over_an_ipv6_next_hop_need_the_capability():
    body = update(reach(1, 1, GLOBAL, PREFIX) + ORIGIN + AS_PATH)
    assert decoder(extended_next_hop=True).decode(body).batches[0].next_hop == NextHop(GLOBAL)
    assert decoder().decode(body).notification[:2] == (3, 9)


def test_end_of_rib_of_every_family():
    assert decoder().decode(b"\0\0\0\0").end_of_rib is Family.IPV4_UNICAST
    assert decoder().decode(update(unreach(2, 1, b""))).end_of_rib is Family.IPV6_UNICAST
    assert decoder().decode(update(unreach(25, 70, b""))).end_of_rib is Family.L2VPN_EVPN
    only_v4 = decoder(families=(Family.IPV4_UNICAST,))
    assert only_v4.decode(update(unreach(2, 1, b""))).end_of_rib is None


def test_treat_as_withdraw_withdraws_all_announced_routes():
    decoded = decoder().decode(update(attribute(1, b"\x03", 0x40) + AS_PATH + NEXT_HOP, PREFIX, withdrawn=b"\0"))
    assert decoded.reaction is Reaction.TREAT_AS_WITHDRAW
    assert withdrawn(decoded) == [b"\0", PREFIX]
    assert announced(decoded) == []


@pytest.mark.parametrize("missing", ["ORIGIN", "AS_PATH", "NEXT_HOP"])
def test_a_missing_mandatory_attribute_is_treated_as_withdraw(missing):
    blocks = {"ORIGIN": ORIGIN, "AS_PATH": AS_PATH, "NEXT_HOP": NEXT_HOP}
    block = b"".join(packed for name, packed in blocks.items() if name != missing)
    decoded = decoder().decode(update(block, PREFIX))
    assert decoded.reaction is Reaction.TREAT_AS_WITHDRAW
    assert [error.attribute for error in decoded.errors] == [missing]


def test_the_strongest_reaction_wins():
    block = attribute(1, b"\x63", 0x40) + AS_PATH + NEXT_HOP + attribute(6, b"x", 0x40)
    assert decoder().decode(update(block, PREFIX)).reaction is Reaction.TREAT_AS_WITHDRAW
    block += attribute(30, b"x", 0x40)
    decoded = decoder().decode(update(block, PREFIX))
    assert decoded.reaction is Reaction.SESSION_RESET
    assert decoded.notification == (3, 2, b"\x40\x1e\x01x")
    assert decoded.batches == []


def test_an_attribute_error_without_reachable_nlri_resets_the_session():
    decoded = decoder().decode(update(attribute(1, b"\x03", 0x40), withdrawn=PREFIX))
    assert decoded.notification == (3, 6, attribute(1, b"\x03", 0x40))


@pytest.mark.parametrize("address", [b"\0\0\0\0", b"\x7f\0\0\x01", b"\xe0\0\0\x01", b"\xff\xff\xff\xff"])
def test_next_hops_that_are_no_host_are_treated_as_withdraw(address):
    decoded = decoder().decode(update(ORIGIN + AS_PATH + attribute(3, address, 0x40), PREFIX))
    assert decoded.reaction is Reaction.TREAT_AS_WITHDRAW


def test_a_route_to_our_own_address_is_treated_as_withdraw():
    one = decoder(local_addresses={b"\x0a\x00\x01\x02"})
    for _ in range(2):
        decoded = one.decode(update(MANDATORY, PREFIX))
        assert decoded.reaction is Reaction.TREAT_AS_WITHDRAW
        assert [error.is_echo for error in decoded.errors] == [True]


@pytest.mark.parametrize(
    ("body", "notification"),
    [
        (b"\0\0\0", (1, 2)),
        (b"\xff\xff\0\0", (3, 1)),
        (update(MANDATORY)[:2] + b"\x03\xe8" + MANDATORY, (3, 1)),
        (update(MANDATORY, b"\x21\x0a\0\0\0\0"), (3, 10)),
        (update(MANDATORY, b"\x18\x0a"), (3, 10)),
        (update(MANDATORY, PREFIX, withdrawn=b"\xc8\x01"), (3, 10)),
        (update(reach(2, 1, GLOBAL, b"\0") * 2 + ORIGIN + AS_PATH), (3, 1)),
        (update(unreach(2, 1, b"\0") * 2), (3, 1)),
        (update(reach(2, 1, GLOBAL[:5], b"\0") + ORIGIN + AS_PATH), (3, 9)),
        (update(reach(2, 1, GLOBAL, b"\x81\0") + ORIGIN + AS_PATH), (3, 9)),
        (update(reach(25, 70, b"", b"") + ORIGIN + AS_PATH), (3, 9)),
        (update(attribute(14, b"\0\x02\x01\x10\x20\x01", 0x80)), (3, 1)),
        (update(attribute(14, b"\0\x02\x01\x00", 0x80)), (3, 1)),
        (update(attribute(15, b"\0\x02", 0x80)), (3, 9)),
        (update(attribute(15, b"\0\x02\x01", 0xC0)), (3, 9)),
        (update(b"\x80\x0e\xff\0\x02\x01"), (3, 1)),
    ],
)
def test_what_cannot_be_read_resets_the_session(body, notification):
    assert decoder().decode(body).notification[:2] == notification


def test_an_attribute_that_overruns_the_block_is_treated_as_withdraw():
    decoded = decoder().decode(update(MANDATORY + bytes.fromhex("f02304000000fe4c"), PREFIX))
    assert (decoded.reaction, withdrawn(decoded)) == (Reaction.TREAT_AS_WITHDRAW, [PREFIX])


def test_routes_of_a_family_that_was_not_negotiated_are_ignored():
    one = decoder(families=(Family.IPV4_UNICAST,))
    decoded = one.decode(update(reach(2, 1, GLOBAL, b"\0") + MANDATORY, PREFIX))
    assert announced(decoded) == [PREFIX]
    assert decoded.reaction is Reaction.ATTRIBUTE_DISCARD


def test_one_malformed_evpn_route_costs_only_itself():
    good = bytes.fromhex("0522") + bytes(18) + bytes(4) + b"\x18\x0a\x01\x02\x00" + bytes(4) + b"\0\0\x64"
    bad = bytes.fromhex("0522") + bytes(18) + bytes(4) + b"\x28\x0a\x01\x02\x00" + bytes(4) + b"\0\0\x64"
    decoded = decoder().decode(update(reach(25, 70, b"\x0a\0\0\x01", good + bad) + ORIGIN + AS_PATH))
    assert decoded.reaction is Reaction.TREAT_AS_WITHDRAW
    assert len(announced(decoded)) == 1


@given(st.binary(max_size=200))
def test_random_bodies_are_answered_and_never_raise(body):
    decoded = decoder().decode(body)
    assert (decoded.notification is not None) == (decoded.reaction is Reaction.SESSION_RESET)


@given(st.data())
def test_damaged_updates_are_answered_and_never_raise(data):
    block = MANDATORY + attribute(8, b"\0\x01\0\x02", 0xC0) + attribute(16, bytes(8), 0xC0)
    block = reach(25, 70, b"\x0a\0\0\x01", bytes.fromhex("0522") + bytes(34)) + block
    body = bytearray(update(block, PREFIX, withdrawn=b"\0"))
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    size = data.draw(st.integers(0, len(body)))
    decoded = decoder().decode(bytes(body[:size]))
    if decoded.reaction is Reaction.SESSION_RESET:
        assert not decoded.batches


def test_two_octet_sessions_merge_as4_path():
    path = attribute(2, b"\x02\x02" + struct.pack("!HH", 65201, 23456), 0x40)
    as4 = attribute(17, b"\x02\x01" + struct.pack("!I", 4200000000), 0xC0)
    decoded = decoder(four_octet_as=False).decode(update(ORIGIN + path + NEXT_HOP + as4, PREFIX))
    assert decoded.batches[0].attributes.as_path[0].asns == (65201, 4200000000)
    assert decoded.reaction is Reaction.ACCEPT


def test_a_martian_costs_only_itself_and_is_told_once_for_its_block():
    session = decoder(accept_martians=False)
    nlri = bytes.fromhex("180a0001107f0118c0a801207f0000010004f0")
    first = session.decode(update(MANDATORY, nlri))
    assert announced(first) == [bytes.fromhex("180a0001"), bytes.fromhex("18c0a801"), b"\0"]
    assert [error.message.partition(":")[0] for error in first.errors] == [
        "prefix 127.1.0.0/16 is inside 127.0.0.0/8 (loopback)",
        "prefix 240.0.0.0/4 is inside 240.0.0.0/4 (reserved)",
    ]
    assert first.reaction is Reaction.TREAT_AS_WITHDRAW
    assert first.notification is None
    again = session.decode(update(MANDATORY, bytes.fromhex("207f000002")))
    assert (again.batches, again.errors, session.martians) == ([], [], 4)


def test_martians_of_every_family_are_ignored():
    session = decoder(accept_martians=False)
    ipv6 = reach(2, 1, GLOBAL, bytes.fromhex("0aff802020010db880" + "00" * 15 + "01"))
    decoded = session.decode(update(ORIGIN + AS_PATH + ipv6))
    assert announced(decoded) == [bytes.fromhex("2020010db8")]
    rd = bytes.fromhex("00010a0003010001")
    type5 = b"\x05\x22" + rd + bytes(14) + b"\x18" + bytes.fromhex("7f000100") + bytes(6) + b"\1"
    type2 = b"\x02\x25" + rd + bytes(14) + b"\x30" + bytes(6) + b"\x20" + bytes.fromhex("e0000005") + bytes(3)
    link_local = b"\x02\x31" + rd + bytes(14) + b"\x30" + bytes(6) + b"\x80" + LINK_LOCAL + bytes(3)
    evpn = reach(25, 70, b"\x0a\0\0\x02", type5 + type2 + link_local)
    assert [key[0] for key in announced(session.decode(update(ORIGIN + AS_PATH + evpn)))] == [2]
    assert session.martians == 4


def test_martians_may_be_withdrawn_and_accepted():
    nlri = bytes.fromhex("107f01")
    assert withdrawn(decoder(accept_martians=False).decode(update(withdrawn=nlri))) == [nlri]
    decoded = decoder(accept_martians=True).decode(update(MANDATORY, nlri))
    assert (announced(decoded), decoded.errors) == ([nlri], [])


def test_a_prefix_in_a_withdrawn_and_in_a_reachable_field_is_announced_whichever_fields_these_are():
    v6 = b"\x40\x20\x01\x0d\xb8\0\0\0\x01"
    for withdrawn_in, announced_in in (
        ({"withdrawn": PREFIX, "block": MANDATORY}, {"nlri": PREFIX}),
        ({"block": unreach(1, 1, PREFIX) + MANDATORY}, {"nlri": PREFIX}),
        ({"withdrawn": PREFIX, "block": reach(1, 1, bytes((10, 0, 1, 2)), PREFIX) + ORIGIN + AS_PATH}, {}),
        ({"block": reach(1, 1, bytes((10, 0, 1, 2)), PREFIX) + ORIGIN + AS_PATH + unreach(1, 1, PREFIX)}, {}),
        ({"block": reach(2, 1, GLOBAL, v6) + ORIGIN + AS_PATH + unreach(2, 1, v6)}, {}),
    ):
        table: set[bytes] = set()
        for batch in decoder().decode(update(**withdrawn_in, **announced_in)).batches:
            table -= {*batch.withdrawn}
            table |= {*batch.announced}
        assert len(table) == 1
