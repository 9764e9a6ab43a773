import struct

import pytest

from bgpd.message.attribute_decoder import AttributeDecoder
from bgpd.model.as_path import AsPathSegment
from bgpd.model.attributes import Aggregator, UnknownAttribute
from bgpd.model.iana import Origin, SegmentType
from bgpd.model.wire import Reaction
from tests.message.decoding import MANDATORY, attribute, negotiated

DISCARD, WITHDRAW = Reaction.ATTRIBUTE_DISCARD, Reaction.TREAT_AS_WITHDRAW
SEQUENCE = SegmentType.AS_SEQUENCE


def decode(block, *, accept_as_sets=False, **session):
    return AttributeDecoder(negotiated(**session), accept_as_sets=accept_as_sets).decode(block)


def path(*segments, code="I"):
    return b"".join(bytes((kind, len(asns))) + struct.pack(f"!{len(asns)}{code}", *asns) for kind, asns in segments)


@pytest.mark.parametrize(
    "inner",
    [
        b"",
        attribute(1, b"\0", 0x40),
        attribute(1, b"\0", 0x40) + attribute(5, struct.pack("!I", 100), 0x40) + attribute(9, b"\1\2\3\4", 0x80),
        attribute(8, b"\0\1\0\2" * 70, 0xC0),
    ],
    ids=["only the origin AS", "one", "several", "extended length"],
)
def test_a_valid_attr_set_is_taken_and_passed_on_as_it_is(inner):
    """RFC 6368 section 5: the origin AS, then path attributes of the customer."""
    value = struct.pack("!I", 65201) + inner
    attributes, facts = decode(MANDATORY + attribute(128, value, 0xC0))
    assert facts.errors == ()
    assert attributes.unknown == (UnknownAttribute(0xC0, 128, value),)


@pytest.mark.parametrize(
    "value",
    [b"", b"\0\0\1", b"\0\0\0\1\x40\1", b"\0\0\0\1\x40\1\2\0", b"\0\0\0\1" + attribute(1, b"\0", 0x40) + b"\x40"],
)
def test_an_attr_set_that_is_cut_off_withdraws_the_routes(value):
    _, facts = decode(MANDATORY + attribute(128, value, 0xC0))
    assert [(error.attribute, error.reaction) for error in facts.errors] == [("ATTR_SET", WITHDRAW)]


def test_a_full_block_golden_bytes():
    block = bytes.fromhex(
        "40010102" + "50020014" + "02030000feb1fa56ea0000000005" + "010100000007"
        "4003040a000102"
        "80040400000007"
        "400600"
        "c00708fa56ea0001020304"
        "c00808fde80001ffffff01"
        "c010080002fde800000064"
        "c0200c000000010000000200000003"
        "c0230400000005"
        "c06303616263"
    )
    attributes, facts = decode(block, accept_as_sets=True)
    assert facts.errors == ()
    assert facts.next_hop == b"\x0a\x00\x01\x02"
    assert attributes.origin is Origin.INCOMPLETE
    assert attributes.as_path == (
        AsPathSegment(SEQUENCE, (65201, 4200000000, 5)),
        AsPathSegment(SegmentType.AS_SET, (7,)),
    )
    assert attributes.med == 7
    assert attributes.atomic_aggregate
    assert attributes.aggregator == Aggregator(4200000000, b"\x01\x02\x03\x04")
    assert attributes.communities == (0xFDE80001, 0xFFFFFF01)
    assert attributes.extended_communities == (bytes.fromhex("0002fde800000064"),)
    assert attributes.large_communities == ((1, 2, 3),)
    assert attributes.only_to_customer == 5
    assert attributes.unknown == (UnknownAttribute(0xC0, 99, b"abc"),)


@pytest.mark.parametrize(
    ("kind", "value", "flags", "reaction"),
    [
        (4, b"\0\0\0", 0x80, WITHDRAW),
        (4, b"\0\0\0\1", 0xC0, WITHDRAW),
        (6, b"x", 0x40, DISCARD),
        (6, b"", 0xC0, DISCARD),
        (7, b"\0" * 6, 0xC0, DISCARD),
        (7, b"\0" * 8, 0x80, DISCARD),
        (8, b"", 0xC0, WITHDRAW),
        (8, b"\0" * 5, 0xC0, WITHDRAW),
        (8, b"\0" * 4, 0x80, WITHDRAW),
        (16, b"\0" * 9, 0xC0, WITHDRAW),
        (17, b"\2\1\0\0\0\1", 0xC0, DISCARD),
        (18, b"\0" * 8, 0xC0, DISCARD),
        (22, b"\0" * 4, 0xC0, WITHDRAW),
        (23, b"\0\1\0\5x", 0xC0, WITHDRAW),
        (25, b"\0" * 19, 0xC0, WITHDRAW),
        (26, b"\1\0\x0b" + b"\0" * 8, 0x80, DISCARD),
        (26, b"\1\0\x0b" + b"\0" * 8, 0xC0, DISCARD),
        (32, b"\0" * 13, 0xC0, WITHDRAW),
        (35, b"\0" * 3, 0xC0, WITHDRAW),
        (40, b"\1\0\7\0", 0xC0, DISCARD),
        (40, b"", 0xC0, DISCARD),
        (128, b"\0\0\1", 0xC0, WITHDRAW),
        (128, b"\0\0\0\1\x40\1\5\0", 0xC0, WITHDRAW),
        (253, b"\0", 0x80, DISCARD),
        (254, b"\0", 0x40, Reaction.SESSION_RESET),
        (5, b"\0\0\0\x64", 0x40, DISCARD),
        (9, b"\0" * 5, 0x80, DISCARD),
        (10, b"\0" * 5, 0x80, DISCARD),
    ],
)
def test_each_malformed_attribute_costs_what_its_rfc_says(kind, value, flags, reaction):
    _, facts = decode(MANDATORY + attribute(kind, value, flags))
    assert [error.reaction for error in facts.errors] == [reaction]
    assert facts.errors[0].section.startswith("RFC ")


@pytest.mark.parametrize("kind", [5, 9, 10])
def test_internal_attributes_count_on_internal_sessions(kind):
    flags = 0x40 if kind == 5 else 0x80
    assert decode(MANDATORY + attribute(kind, b"\0\0\0\1", flags), ibgp=True)[1].errors == ()
    _, facts = decode(MANDATORY + attribute(kind, b"\0\0\0\1\0", flags), ibgp=True)
    assert [error.reaction for error in facts.errors] == [WITHDRAW]


@pytest.mark.parametrize(
    "value",
    [
        path((2, (65201, 0))),
        path((3, (65201,))),
        path((2, (65202,))),
        path((1, (65201,))),
        b"",
        b"\2",
        b"\2\0",
        b"\5\1\0\0\0\1",
        b"\2\2\0\0\0\1",
    ],
)
def test_as_paths_that_no_external_peer_may_send_are_treated_as_withdraw(value):
    _, facts = decode(bytes.fromhex("40010100") + attribute(2, value, 0x40))
    assert [error.reaction for error in facts.errors] == [WITHDRAW]


def test_internal_paths_may_be_empty_or_hold_confederation_segments():
    for value in (b"", path((3, (65010,)), (2, (1,)))):
        assert decode(bytes.fromhex("40010100") + attribute(2, value, 0x40), ibgp=True)[1].errors == ()


SET, CONFEDERATION_SET = SegmentType.AS_SET, SegmentType.AS_CONFED_SET


@pytest.mark.parametrize("kind", [SET, CONFEDERATION_SET])
@pytest.mark.parametrize("ibgp", [False, True])
def test_sets_in_the_path_cost_the_route_unless_they_are_accepted(kind, ibgp):
    block = bytes.fromhex("40010100") + attribute(2, path((2, (65201,)), (kind, (7, 8))), 0x40)
    _, facts = decode(block, ibgp=ibgp)
    (error,) = facts.errors
    assert (error.reaction, error.section) == (WITHDRAW, "RFC 9774 section 3")
    assert "accept_as_sets" in error.message
    errors = decode(block, ibgp=ibgp, accept_as_sets=True)[1].errors
    assert [one.section for one in errors] == (["RFC 5065 section 5"] if kind is CONFEDERATION_SET and not ibgp else [])


def test_sets_in_as4_path_cost_the_route_too():
    short = attribute(2, path((2, (65201, 23456)), code="H"), 0x40)
    for longer in (path((2, (65201,)), (SET, (70000,))), path((2, (1, 2, 3)), (SET, (70000,)))):
        block = bytes.fromhex("40010100") + short + attribute(17, longer, 0xC0)
        _, facts = decode(block, four_octet_as=False)
        assert ("AS4_PATH", WITHDRAW) in [(error.attribute, error.reaction) for error in facts.errors]
        assert decode(block, four_octet_as=False, accept_as_sets=True)[1].errors == ()


@pytest.mark.parametrize("width", [2, 4])
def test_as_0_as_the_aggregator_costs_the_attribute(width):
    aggregator = attribute(7, bytes(width) + b"\1\2\3\4", 0xC0)
    as_path = attribute(2, path((2, (65201,)), code="I" if width == 4 else "H"), 0x40)
    block = bytes.fromhex("40010100") + as_path
    attributes, facts = decode(block + aggregator, four_octet_as=width == 4)
    (error,) = facts.errors
    assert (error.attribute, error.reaction, error.section) == ("AGGREGATOR", DISCARD, "RFC 7607 section 2")
    assert attributes.aggregator is None


@pytest.mark.parametrize(
    ("kind", "value", "name"),
    [
        (18, b"\0\0\0\0\1\2\3\4", "AS4_AGGREGATOR"),
        (17, path((2, (70000, 0))), "AS4_PATH"),
        (17, path((2, (70000,)), (1, (0, 5))), "AS4_PATH"),
        (17, path((3, (0,)), (2, (70000,))), "AS4_PATH"),
    ],
)
def test_as_0_in_as4_attributes_costs_the_attribute_and_the_two_octet_ones_count(kind, value, name):
    block = bytes.fromhex("40010100") + attribute(2, path((2, (65201, 23456)), code="H"), 0x40)
    block += attribute(7, b"\x5b\xa0\1\2\3\4", 0xC0) + attribute(kind, value, 0xC0)
    attributes, facts = decode(block, four_octet_as=False)
    (error,) = facts.errors
    assert (error.attribute, error.reaction, error.section) == (name, DISCARD, "RFC 7607 section 2")
    assert attributes.as_path == (AsPathSegment(SEQUENCE, (65201, 23456)),)
    assert attributes.aggregator == Aggregator(23456, b"\1\2\3\4")


LABEL_INDEX, SRGB = b"\1\0\7" + bytes(7), b"\3\0\x08" + bytes(8)


@pytest.mark.parametrize(
    ("value", "is_good"),
    [
        (LABEL_INDEX, True),
        (LABEL_INDEX + SRGB, True),
        (b"\3\0\x0e" + bytes(14), True),
        (b"\x63\0\2xx", True),
        (b"\1\0\6" + bytes(6), False),
        (b"\1\0\x08" + bytes(8), False),
        (b"\1\0\0", False),
        (b"\3\0\2" + bytes(2), False),
        (b"\3\0\0", False),
        (b"\3\0\7" + bytes(7), False),
        (LABEL_INDEX + b"\3\0\x09" + bytes(9), False),
        (LABEL_INDEX + b"\1\0", False),
        (b"\3\0\x08" + bytes(7), False),
    ],
)
def test_tlvs_of_prefix_sid_have_the_lengths_of_their_types(value, is_good):
    attributes, facts = decode(MANDATORY + attribute(40, value, 0xC0), ibgp=True)
    assert [(one.attribute, one.reaction) for one in facts.errors] == ([] if is_good else [("PREFIX_SID", DISCARD)])
    assert [one.value for one in attributes.unknown] == ([value] if is_good else [])


SHORT_INDEX, EMPTY_SERVICE = b"\1\0\6" + bytes(6), b"\5\0\0"


@pytest.mark.parametrize("value", [SHORT_INDEX + EMPTY_SERVICE, EMPTY_SERVICE + SHORT_INDEX])
def test_the_strongest_of_several_errors_of_one_attribute_counts(value):
    """The first would cost the attribute alone (RFC 8669), the other one the routes (RFC 9252)."""
    _, facts = decode(MANDATORY + attribute(40, value, 0xC0), ibgp=True)
    assert [(one.reaction, one.section) for one in facts.errors] == [(WITHDRAW, "RFC 9252 section 7")]


@pytest.mark.parametrize("value", [LABEL_INDEX, SHORT_INDEX, EMPTY_SERVICE, b""])
@pytest.mark.parametrize("flags", [0xC0, 0x80])
def test_prefix_sid_of_an_external_neighbor_is_discarded_whatever_it_says(value, flags):
    attributes, facts = decode(MANDATORY + attribute(40, value, flags))
    assert [(one.attribute, one.reaction) for one in facts.errors] == [("PREFIX_SID", DISCARD)]
    assert facts.errors[0].section == "RFC 8669 section 4"
    assert attributes.unknown == ()


def test_a_repeated_attribute_counts_once():
    attributes, facts = decode(MANDATORY + attribute(4, b"\0\0\0\1", 0x80) + attribute(4, b"\0\0\0\2", 0x80))
    assert attributes.med == 1
    assert [error.reaction for error in facts.errors] == [DISCARD]


def test_duplicate_large_communities_are_removed():
    value = struct.pack("!6I", 1, 2, 3, 1, 2, 3)
    assert decode(MANDATORY + attribute(32, value, 0xC0))[0].large_communities == ((1, 2, 3),)


@pytest.mark.parametrize(
    ("two", "four", "merged"),
    [
        (((2, (1, 23456)),), ((2, (70000,)),), ((2, (1, 70000)),)),
        (((2, (1,)),), ((2, (70000, 70001)),), ((2, (1,)),)),
        (((2, (1, 2)), (1, (23456, 3))), ((1, (70000, 3)),), ((2, (1, 2)), (1, (70000, 3)))),
        (((3, (9,)), (2, (1, 23456))), ((2, (70000,)),), ((3, (9,)), (2, (1, 70000)))),
        (((2, (1, 23456)),), ((2, (1, 70000)),), ((2, (1, 70000)),)),
    ],
)
def test_as4_path_replaces_the_trailing_part_of_as_path(two, four, merged):
    block = attribute(2, path(*two, code="H"), 0x40) + attribute(17, path(*four), 0xC0)
    attributes, _ = decode(block, ibgp=True, four_octet_as=False)
    assert tuple((int(segment.type), segment.asns) for segment in attributes.as_path) == merged


@pytest.mark.parametrize(
    ("four", "merged"),
    [
        (((3, (9,)), (2, (70000,))), (1, 70000)),
        (((2, (70000,)), (3, (9,))), (1, 70000)),
        (((3, (9, 10)),), (1, 23456)),
    ],
)
def test_confederation_segments_of_as4_path_are_left_out(four, merged):
    """And what is left is merged; if that is nothing, the AS_PATH counts alone (RFC 6793 section 6)."""
    block = attribute(2, path((2, (1, 23456)), code="H"), 0x40) + attribute(17, path(*four), 0xC0)
    attributes, facts = decode(MANDATORY[:4] + block, ibgp=True, four_octet_as=False)
    assert facts.errors == ()
    assert [segment.asns for segment in attributes.as_path] == [merged]


@pytest.mark.parametrize(("asn", "expected_path"), [(23456, (70000,)), (5, (23456,))])
def test_an_aggregator_with_a_real_as_number_voids_the_as4_attributes(asn, expected_path):
    block = (
        attribute(2, path((2, (23456,)), code="H"), 0x40)
        + attribute(7, struct.pack("!H4s", asn, b"\1\2\3\4"), 0xC0)
        + attribute(17, path((2, (70000,))), 0xC0)
        + attribute(18, struct.pack("!I4s", 70001, b"\4\3\2\1"), 0xC0)
    )
    attributes, _ = decode(block, ibgp=True, four_octet_as=False)
    assert attributes.as_path[0].asns == expected_path
    assert attributes.aggregator.asn == (70001 if asn == 23456 else 5)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (23, b"\0\x08\0\0"),
        (23, b"\0\x08\0\4\4\2ab" + b"\xff\xff\0\5\x80\0\2cd"),
        (40, b"\5\0\1\0"),
        (40, b"\5\0\x1e\0" + b"\1\0\x1a" + bytes(21) + b"\1\0\2ab"),
        (40, b"\6\0\5\0" + b"\xc8\0\1x" + b"\xc8\0\1y"),
    ],
    ids=["empty tunnel", "tunnels with sub-TLVs of both lengths", "empty service", "SRv6 SID", "unknown types"],
)
def test_tunnels_and_srv6_services_are_passed_on_as_they_are(kind, value):
    """RFC 9012 section 13 and RFC 9252 section 7: a type that is not known is not malformed."""
    attributes, facts = decode(MANDATORY + attribute(kind, value, 0xC0), ibgp=True)
    assert facts.errors == ()
    assert attributes.unknown == (UnknownAttribute(0xC0, kind, value),)
