"""Link bandwidth: wire bytes, text, and what is none."""

from __future__ import annotations

import struct

import pytest

from bgpd.model.communities import decode_link_bandwidth, lowest_link_bandwidth
from bgpd.model.policy_syntax import format_extended_community, parse_extended_community

TEN_GIGABIT = bytes.fromhex("0004feb14e9502f9")
"""AS 65201, 1.25e9 bytes/s, transitive."""


@pytest.mark.parametrize(
    ("text", "packed"),
    [
        ("bandwidth:65201:1250000000", TEN_GIGABIT),
        ("bandwidth-non-transitive:65201:1250000000", b"\x40" + TEN_GIGABIT[1:]),
        ("bandwidth:0:0.5", bytes.fromhex("000400003f000000")),
        ("bandwidth:1:0", bytes.fromhex("0004000100000000")),
        ("bandwidth:1:1e+20", bytes.fromhex("0004000160ad78ec")),
    ],
)
def test_golden_bytes_and_text_both_ways(text: str, packed: bytes) -> None:
    assert parse_extended_community(text) == packed
    assert format_extended_community(packed) == text


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0, -0.0])
def test_what_no_link_can_have_is_no_bandwidth_and_shown_as_it_is(value: float) -> None:
    community = b"\0\4\xfe\xb1" + struct.pack("!f", value)
    assert decode_link_bandwidth(community) is None
    assert format_extended_community(community) == community.hex()


@pytest.mark.parametrize("text", ["bandwidth:65536:1", "bandwidth:1:-1", "bandwidth:1", "bandwidth:1:nan"])
def test_bad_text_says_what_would_be_right(text: str) -> None:
    with pytest.raises(ValueError, match="bandwidth:65201:1250000000"):
        parse_extended_community(text)


def test_more_than_a_float_holds_is_refused() -> None:
    with pytest.raises(ValueError, match="more than the community holds"):
        parse_extended_community("bandwidth:1:1e39")


def test_of_several_the_lowest_counts_whether_transitive_or_not() -> None:
    slower = b"\x40\4\xfe\xb1" + struct.pack("!f", 1e6)
    assert lowest_link_bandwidth(TEN_GIGABIT + b"\0\2\0\1\0\0\0\1" + slower) == 1e6
    assert lowest_link_bandwidth(b"\0\2\0\1\0\0\0\1") is None
