import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgpd.message.nlri import PrefixSplitter
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
