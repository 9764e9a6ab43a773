"""Route keys from text: the fast way for addresses says just what the general one says."""

from __future__ import annotations

import ipaddress
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgpd.model.iana import Family
from bgpd.model.prefix import in_address_order, key_of, network_key, parse_host, parse_prefix


@given(st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)))
def test_any_address_is_the_host_prefix_that_the_standard_library_finds(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    family = Family.IPV4_UNICAST if address.version == 4 else Family.IPV6_UNICAST
    assert parse_host(str(address)) == parse_prefix(str(address)) == (family, key_of(ipaddress.ip_network(address)))


@given(st.text(alphabet="0123456789abcdefx:./% \0", max_size=20))
def test_text_that_the_standard_library_refuses_is_no_host(text: str) -> None:
    if parse_host(text) is not None:
        assert parse_host(text) == parse_prefix(text)
        assert key_of(ipaddress.ip_network(text)) == parse_prefix(text)[1]


@pytest.mark.parametrize("text", ["", "10.0.0.0/8", "010.0.0.1", "10.0.1", "::1%lo", "::1/128", "10.0.0.1 ", "\0"])
def test_what_is_not_just_an_address_is_left_to_the_general_way(text: str) -> None:
    assert parse_host(text) is None


@st.composite
def route_keys(draw: st.DrawFn) -> list[bytes]:
    """Keys of one family, many of which have their first bytes in common."""
    size = draw(st.sampled_from([4, 16]))
    keys = set()
    for length, number in draw(st.lists(st.tuples(st.integers(0, 8 * size), st.integers(0, 2**20)), max_size=60)):
        address = (0x0A << (8 * size - 8)) | number
        keys.add(network_key(address.to_bytes(size, "big"), length))
    return draw(st.permutations(sorted(keys)))


@given(route_keys(), st.integers(1, 10), st.integers(1, 5))
def test_keys_come_in_order_of_address_in_short_steps(keys: list[bytes], part: int, most: int) -> None:
    parts = [keys[start : start + part] for start in range(0, len(keys), part)]
    with mock.patch("bgpd.model.prefix._SORTED", most):
        steps = list(in_address_order(parts))
    assert [key for step in steps for key in step] == sorted(keys, key=lambda key: (key[1:], key[0]))
    assert all(len(step) <= max(most, 8) for step in steps)
