"""NLRI of unicast prefixes and of route target membership, there and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgpd.message.nlri import PrefixSplitter, RouteTargetNlri
from bgpd.model.communities import format_membership, membership_key, membership_matches, parse_route_target
from bgpd.model.wire import MalformedNlri

V4, V6 = PrefixSplitter(32), PrefixSplitter(128)


def encoded(bits):
    """Strategy of a prefix of a family as it may come: host bits may be set."""
    return st.integers(0, bits).flatmap(
        lambda length: st.binary(min_size=(length + 7) // 8, max_size=(length + 7) // 8).map(
            lambda address: bytes((length,)) + address
        )
    )


def key_of(prefix):
    """The key of an encoded prefix, bit by bit."""
    length = prefix[0]
    bits = int.from_bytes(prefix[1:]) >> (-length % 8) << (-length % 8)
    return bytes((length,)) + bits.to_bytes(len(prefix) - 1)


@given(st.lists(encoded(32), max_size=60))
def test_ipv4_prefixes_of_mixed_lengths_are_split_in_order_with_host_bits_zeroed(prefixes):
    assert list(V4.split(b"".join(prefixes))) == [key_of(prefix) for prefix in prefixes]


@given(st.lists(encoded(128), max_size=30))
def test_ipv6_prefixes_of_mixed_lengths_are_split_in_order_with_host_bits_zeroed(prefixes):
    assert list(V6.split(b"".join(prefixes))) == [key_of(prefix) for prefix in prefixes]


@given(
    st.integers(0, 32).flatmap(
        lambda n: st.lists(st.binary(min_size=(n + 7) // 8, max_size=(n + 7) // 8)).map(
            lambda addresses: [bytes((n,)) + address for address in addresses]
        )
    )
)
def test_prefixes_of_one_length_are_split_like_mixed_ones(prefixes):
    assert list(V4.split(b"".join(prefixes))) == [key_of(prefix) for prefix in prefixes]


@given(st.lists(encoded(32), max_size=20))
def test_path_identifiers_are_dropped(prefixes):
    field = b"".join(b"\0\0\0\x07" + prefix for prefix in prefixes)
    assert list(V4.split_with_path_identifiers(field)) == [key_of(prefix) for prefix in prefixes]


@given(st.binary(max_size=64))
def test_random_bytes_raise_only_malformed_nlri(field):
    for split in (V4.split, V6.split, V4.split_with_path_identifiers):
        try:
            keys = split(field)
        except MalformedNlri:
            continue
        assert all(len(key) == 1 + (key[0] + 7) // 8 for key in keys)


@pytest.mark.parametrize("field", [b"\x21\x0a\0\0\0\0", b"\x18\x0a\x00", b"\x18\x0a\x00\x01\xc8\x01", b"\xff"])
def test_prefixes_too_long_for_the_family_or_the_field_are_malformed(field):
    with pytest.raises(MalformedNlri):
        V4.split(field)


def test_a_default_route_among_others_is_not_mistaken_for_a_uniform_field():
    assert list(V4.split(b"\0\0\0")) == [b"\0"] * 3


TARGET = parse_route_target("65201:5001")
GOLDEN = bytes.fromhex("60" + "0000feb3" + "0002feb100001389")
CODEC = RouteTargetNlri()


def keys_of(field: bytes) -> list[bytes]:
    return [key for group in CODEC.decode(field).announced for key in group.keys]


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
    assert [group.keys for group in decoded.announced] == [[GOLDEN]]
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
    assert all(not key[0] or 32 <= key[0] <= 96 for group in decoded.announced for key in group.keys)


def test_a_cut_field_is_malformed() -> None:
    with pytest.raises(MalformedNlri):
        CODEC.decode(GOLDEN[:-1])
