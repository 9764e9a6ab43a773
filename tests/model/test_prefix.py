"""Route keys from text: the fast way for addresses says just what the general one says."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgpd.model.iana import Family
from bgpd.model.prefix import key_of, parse_host, parse_prefix


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
