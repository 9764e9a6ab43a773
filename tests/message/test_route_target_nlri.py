"""Route target membership on the wire, and what it lets through."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgpd.message.nlri import RouteTargetNlri
from bgpd.model.communities import format_membership, membership_key, membership_matches, parse_route_target
from bgpd.model.wire import MalformedNlri

TARGET = parse_route_target("65201:5001")
GOLDEN = bytes.fromhex("60" + "0000feb3" + "0002feb100001389")
CODEC = RouteTargetNlri()


def keys_of(field: bytes) -> list[bytes]:
    return [key for _, keys in CODEC.decode(field).announced for key in keys]


def test_golden_bytes_both_ways() -> None:
    assert membership_key(65203, TARGET) == GOLDEN
    assert keys_of(GOLDEN + b"\0") == [GOLDEN, b"\0"]
    assert CODEC.encode(GOLDEN, None) == GOLDEN
    assert format_membership(GOLDEN) == "65203 wants 65201:5001"
    assert format_membership(b"\0") == "default"


def test_bits_after_the_length_count_for_nothing() -> None:
    assert keys_of(b"\x21" + b"\0\0\xfe\xb3" + b"\xff") == [b"\x21\0\0\xfe\xb3\x80"]


def test_a_membership_of_a_wrong_length_costs_itself_only() -> None:
    decoded = CODEC.decode(b"\x10\0\0" + GOLDEN)
    assert [keys for _, keys in decoded.announced] == [[GOLDEN]]
    assert [error.one_route for error in decoded.errors] == [True]


def test_prefixes_of_route_targets_match_and_the_default_matches_all() -> None:
    assert membership_matches(GOLDEN, TARGET)
    assert not membership_matches(GOLDEN, parse_route_target("65201:5002"))
    assert membership_matches(b"\0", TARGET)
    assert membership_matches(b"\x40" + b"\0\0\xfe\xb3" + TARGET[:4], parse_route_target("65201:7"))
    assert not membership_matches(b"\x40" + b"\0\0\xfe\xb3" + TARGET[:4], parse_route_target("65202:7"))


@given(st.binary(max_size=64))
def test_any_bytes_are_routes_or_malformed(field: bytes) -> None:
    try:
        decoded = CODEC.decode(field)
    except MalformedNlri:
        return
    assert all(not key[0] or 32 <= key[0] <= 96 for _, keys in decoded.announced for key in keys)


def test_a_cut_field_is_malformed() -> None:
    with pytest.raises(MalformedNlri):
        CODEC.decode(GOLDEN[:-1])
