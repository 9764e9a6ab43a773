"""Communities, route distinguishers, route targets and link bandwidth: text and wire bytes, both ways."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgpd.model import policy_syntax as communities
from bgpd.model.communities import (
    automatic_route_distinguisher,
    decode_link_bandwidth,
    format_route_distinguisher,
    format_route_target,
    is_route_target,
    lowest_link_bandwidth,
    parse_route_distinguisher,
    parse_route_target,
)
from bgpd.model.policy_syntax import format_extended_community, parse_extended_community


@given(st.integers(0, 0xFFFFFFFF))
def test_community_round_trip(value: int) -> None:
    assert communities.parse_community(communities.format_community(value)) == value


@given(st.tuples(*[st.integers(0, 0xFFFFFFFF)] * 3))
def test_large_community_round_trip(value: tuple[int, int, int]) -> None:
    assert communities.parse_large_community(communities.format_large_community(value)) == value


@given(st.binary(min_size=8, max_size=8) | st.binary(min_size=6, max_size=6).map(lambda rest: b"\2\3" + rest))
def test_extended_community_round_trip(value: bytes) -> None:
    assert communities.parse_extended_community(communities.format_extended_community(value)) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("rt:65000:7", b"\0\2\xfd\xe8\0\0\0\7"),
        ("soo:10.0.0.1:7", b"\1\3\x0a\0\0\1\0\7"),
        ("rt:4200000000:7", b"\2\2\xfa\x56\xea\0\0\7"),
    ],
)
def test_extended_community_text(text: str, value: bytes) -> None:
    assert communities.parse_extended_community(text) == value
    assert communities.format_extended_community(value) == text


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


@pytest.mark.parametrize(
    ("text", "wire"),
    [
        ("65201:5001", "0002feb100001389"),
        ("10.0.0.1:5001", "01020a0000011389"),
        ("4200000000:5", "0202fa56ea000005"),
        ("65000L:5", "02020000fde80005"),
    ],
)
def test_route_target_forms_have_their_wire_bytes(text: str, wire: str) -> None:
    assert parse_route_target(text).hex() == wire
    assert format_route_target(bytes.fromhex(wire)) == text
    assert is_route_target(bytes.fromhex(wire))


@pytest.mark.parametrize(
    "text", ["", "1", "a:1", "1:a", "70000:70000", "1.2.3:4", "1.2.3.4:70000", "1:4294967296", "-1:1"]
)
def test_what_is_no_route_target_is_refused_with_the_text_in_the_error(text: str) -> None:
    with pytest.raises(ValueError, match="route target") as refused:
        parse_route_target(text)
    assert f'"{text}"' in str(refused.value)


@given(st.binary(min_size=6, max_size=6), st.sampled_from([0, 1, 2]))
def test_route_distinguisher_text_round_trips(value: bytes, form: int) -> None:
    packed = form.to_bytes(2, "big") + value
    text = format_route_distinguisher(packed)
    again = parse_route_distinguisher(text)
    assert again == packed


def test_automatic_route_distinguisher_is_router_id_and_table() -> None:
    assert format_route_distinguisher(automatic_route_distinguisher(bytes((10, 0, 0, 1)), 1001)) == "10.0.0.1:1001"
    with pytest.raises(ValueError, match="set rd"):
        automatic_route_distinguisher(bytes(4), 70000)
