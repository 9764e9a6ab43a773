"""The table of attributes, said once more by hand: subcodes, reactions, and which values are usual."""

from __future__ import annotations

import struct
from collections import defaultdict
from typing import Any

import pytest

from bgpd.message.attribute_rules import NEVER, RECOGNISED, name_of, plain_rules_for, rules_for
from bgpd.model.attributes import Aggregator
from bgpd.model.wire import Reaction
from tests.message.decoding import negotiated

WITHDRAW, DISCARD = Reaction.TREAT_AS_WITHDRAW, Reaction.ATTRIBUTE_DISCARD
ROWS = {
    1: (0x40, WITHDRAW, WITHDRAW, 6),
    2: (0x40, WITHDRAW, WITHDRAW, 11),
    3: (0x40, WITHDRAW, WITHDRAW, 8),
    4: (0x80, WITHDRAW, WITHDRAW, 5),
    5: (0x40, WITHDRAW, WITHDRAW, 5),
    6: (0x40, DISCARD, DISCARD, 5),
    7: (0xC0, DISCARD, DISCARD, 5),
    8: (0xC0, WITHDRAW, WITHDRAW, 9),
    9: (0x80, WITHDRAW, WITHDRAW, 5),
    10: (0x80, WITHDRAW, WITHDRAW, 5),
    16: (0xC0, WITHDRAW, WITHDRAW, 9),
    17: (0xC0, DISCARD, WITHDRAW, 9),
    18: (0xC0, DISCARD, DISCARD, 5),
    22: (0xC0, WITHDRAW, WITHDRAW, 9),
    23: (0xC0, WITHDRAW, WITHDRAW, 9),
    25: (0xC0, WITHDRAW, WITHDRAW, 9),
    26: (0x80, DISCARD, DISCARD, 9),
    32: (0xC0, WITHDRAW, WITHDRAW, 9),
    35: (0xC0, WITHDRAW, WITHDRAW, 9),
    40: (0xC0, DISCARD, WITHDRAW, 9),
    128: (0xC0, WITHDRAW, WITHDRAW, 9),
}
"""Flags, what a malformed value costs, what wrong flags cost, and the subcode where it has to reset the session."""
SECTIONS = {
    **{kind: f"RFC 7606 section 7.{kind}" for kind in range(1, 11)},
    16: "RFC 7606 section 7.14",
    17: "RFC 6793 section 6",
    18: "RFC 6793 section 6",
    22: "RFC 6514 section 5",
    23: "RFC 9012 section 13",
    25: "RFC 7606 section 7.15",
    26: "RFC 7311 section 3",
    32: "RFC 8092 section 6",
    35: "RFC 9234 section 5",
    40: "RFC 8669 section 6",
    128: "RFC 7606 section 7.16",
}
FIELDS = {
    1: "origin",
    2: "packed_as_path",
    3: "next_hop",
    4: "med",
    5: "local_pref",
    6: "atomic_aggregate",
    7: "aggregator",
    8: "packed_communities",
    9: "originator_id",
    10: "packed_cluster_list",
    16: "packed_extended_communities",
    17: "as4_path",
    18: "as4_aggregator",
    32: "packed_large_communities",
    35: "only_to_customer",
}
USUAL = {
    1: [1],
    2: [*range(0, 256, 2)],
    3: [4],
    4: [4],
    6: [0],
    7: [8],
    8: [*range(4, 256, 4)],
    16: [*range(8, 256, 8)],
    32: [*range(12, 256, 12)],
    35: [4],
}
"""Lengths of values that are read the short way."""
INTERNAL = {5: [4], 9: [4], 10: [*range(4, 256, 4)]}


@pytest.mark.parametrize("kind", ROWS)
def test_rule(kind: int) -> None:
    rule = rules_for(negotiated(ibgp=True))[kind]
    assert (rule.flags, rule.malformed, rule.wrong_flags, int(rule.subcode)) == ROWS[kind]
    assert (rule.section, rule.field) == (SECTIONS[kind], FIELDS.get(kind, ""))
    assert rule.not_transitive == (DISCARD if kind == 23 else None)


def test_each_rule_is_here_and_each_recognised_type_has_one() -> None:
    assert rules_for(negotiated()).keys() == ROWS.keys() == RECOGNISED


def test_as_numbers_of_two_octets_have_parsers_of_their_own() -> None:
    four, two = rules_for(negotiated()), rules_for(negotiated(four_octet_as=False))
    assert {kind for kind in four if four[kind] != two[kind]} == {2, 7}
    assert two[2].parse(b"\2\1\0\5") == b"\2\1\0\0\0\5"
    assert two[7].parse(b"\0\5\1\2\3\4") == Aggregator(5, b"\1\2\3\4")


@pytest.mark.parametrize("four_octet_as", [True, False])
def test_sessions_of_a_kind_share_their_rules(four_octet_as: bool) -> None:
    one, other = (negotiated(four_octet_as=four_octet_as, peer_asn=asn) for asn in (65201, 65202))
    assert rules_for(one) is rules_for(other)
    assert plain_rules_for(one).short is plain_rules_for(other).short


@pytest.mark.parametrize(
    ("session", "first"),
    [({}, struct.pack("!I", 65201)), ({"ibgp": True}, b""), ({"peer_asn": 0}, b"")],
    ids=["external", "internal", "of any AS"],
)
def test_paths_of_external_neighbors_begin_with_their_as(session: dict[str, Any], first: bytes) -> None:
    assert plain_rules_for(negotiated(**session)).first == first


@pytest.mark.parametrize(("kind", "name"), [(4, "MULTI_EXIT_DISC"), (153, "ATTRIBUTE_153")])
def test_names(kind: int, name: str) -> None:
    assert name_of(kind) == name


def test_internal_attributes_are_no_external_neighbors() -> None:
    """Nor is PREFIX_SID, unless it were configured (RFC 8669 section 4)."""
    rules = rules_for(negotiated())
    assert {kind for kind, rule in rules.items() if rule.flags == NEVER} == {5, 9, 10, 40}
    assert rules.keys() == rules_for(negotiated(ibgp=True)).keys()


@pytest.mark.parametrize("ibgp", [True, False])
def test_usual_lengths(ibgp: bool) -> None:
    """A length that is missing here would only cost time: nothing else tells."""
    rules = plain_rules_for(negotiated(ibgp=ibgp))
    sizes, bits = defaultdict(set), defaultdict(set)
    for head, (bit, size) in rules.short.items():
        flags, kind, length = head
        assert length == size
        assert flags & ~0x20 == ROWS[kind][0]
        sizes[kind].add(size)
        bits[kind].add(bit)
    assert {kind: sorted(found) for kind, found in sizes.items()} == USUAL | (INTERNAL if ibgp else {})
    assert all(len(found) == 1 for found in bits.values())
    every = [bit for (bit,) in bits.values()]
    assert len(set(every)) == len(every)
    assert all(bit > 0 and bit & (bit - 1) == 0 for bit in every)


@pytest.mark.parametrize("ibgp", [True, False])
def test_partial_is_usual_where_it_may_be(ibgp: bool) -> None:
    """Only of optional transitive attributes (RFC 4271 section 4.3)."""
    rules, kinds = plain_rules_for(negotiated(ibgp=ibgp)), defaultdict(set)
    for flags, kind in rules.long:
        assert flags & 0x10
        kinds[kind].add(flags & ~0x10)
    for kind, found in kinds.items():
        flags = ROWS[kind][0]
        assert found == ({flags, flags | 0x20} if flags == 0xC0 else {flags})
        assert {head[0] for head in rules.short if head[1] == kind} == found


@pytest.mark.parametrize("ibgp", [True, False])
def test_usual_lengths_of_two_bytes(ibgp: bool) -> None:
    rules = plain_rules_for(negotiated(ibgp=ibgp))
    for kind, sizes in (USUAL | (INTERNAL if ibgp else {})).items():
        (bit, unit, least, most) = rules.long[bytes((ROWS[kind][0] | 0x10, kind))]
        assert (bit, least) == rules.short[bytes((ROWS[kind][0], kind, sizes[0]))]
        assert [*range(least, min(most, 255) + 1, unit)] == sizes
        assert not least % unit
    assert rules.long[b"\x50\2"][3] == 2 + 4 * 255
    assert {most for head, (_, _, _, most) in rules.long.items() if head[1] in (8, 16, 32)} == {65_535}
    assert not plain_rules_for(negotiated(ibgp=ibgp, four_octet_as=False)).long
