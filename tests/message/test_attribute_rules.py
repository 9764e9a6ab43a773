"""The table of attributes, said once more by hand: subcodes, reactions, and which values are usual."""

from __future__ import annotations

from collections import defaultdict

import pytest

from bgpd.message.attribute_rules import NEVER, plain_rules_for, rules_for
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
    26: (0x80, DISCARD, DISCARD, 9),
    32: (0xC0, WITHDRAW, WITHDRAW, 9),
    35: (0xC0, WITHDRAW, WITHDRAW, 9),
}
"""Flags, what a malformed value costs, what wrong flags cost, and the subcode where it has to reset the session."""
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
    assert rule.section.startswith("RFC ")


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
def test_usual_lengths_of_two_bytes(ibgp: bool) -> None:
    rules = plain_rules_for(negotiated(ibgp=ibgp))
    for kind, sizes in (USUAL | (INTERNAL if ibgp else {})).items():
        (bit, unit, least, most) = rules.long[bytes((ROWS[kind][0] | 0x10, kind))]
        assert (bit, least) == rules.short[bytes((ROWS[kind][0], kind, sizes[0]))]
        assert [*range(least, min(most, 255) + 1, unit)] == sizes
    assert rules.long[b"\x50\2"][3] == 2 + 4 * 255
    assert {most for head, (_, _, _, most) in rules.long.items() if head[1] in (8, 16, 32)} == {65_535}
    assert not plain_rules_for(negotiated(ibgp=ibgp, four_octet_as=False)).long
