"""The exact cover against netaddr's, under random changes, and how much one change costs."""

from __future__ import annotations

import ipaddress

from hypothesis import given
from hypothesis import strategies as st
from netaddr import cidr_merge

from bgpd.model.prefix import key_of
from bgpd.rib.aggregate_table import ExactCover, key_of_node, node_of
from tests.rib.build import key

POOL = ipaddress.IPv4Network("10.64.1.0/24")
POOL6 = ipaddress.IPv6Network("2001:db8::/120")


@st.composite
def prefixes(draw: st.DrawFn, pool: ipaddress.IPv4Network | ipaddress.IPv6Network) -> str:
    """Mostly host prefixes out of a few, so that they meet."""
    length = draw(st.sampled_from((pool.max_prefixlen,) * 6 + tuple(range(pool.prefixlen, pool.max_prefixlen))))
    value = int(pool.network_address) + draw(st.integers(0, 15))
    return str(ipaddress.ip_network((value, length), strict=False))


def _check(pool: ipaddress.IPv4Network | ipaddress.IPv6Network, toggled: list[str]) -> None:
    cover = ExactCover(key_of(pool))
    members: set[str] = set()
    shown: set[bytes] = set()
    for prefix in toggled:
        if prefix in members:
            members.remove(prefix)
            entered, left = cover.remove(key(prefix))
        else:
            members.add(prefix)
            entered, left = cover.add(key(prefix))
        assert not shown & set(entered)
        assert set(left) <= shown
        shown = (shown - set(left)) | set(entered)
        expected = {key(str(one)) for one in cidr_merge(sorted(members))}
        assert shown == expected
        assert set(cover.prefixes()) == expected
        assert all(one in cover for one in expected)
        assert all((key(one) in cover) == (key(one) in expected) for one in members)


@given(st.lists(prefixes(POOL), max_size=60))
def test_cover_is_what_netaddr_merges(toggled: list[str]) -> None:
    _check(POOL, toggled)


@given(st.lists(prefixes(POOL6), max_size=40))
def test_cover_of_ipv6_is_what_netaddr_merges(toggled: list[str]) -> None:
    _check(POOL6, toggled)


def test_a_full_pool_is_one_prefix_and_a_gap_splits_it_at_every_length() -> None:
    cover = ExactCover(key("10.64.1.0/24"))
    for number in range(256):
        cover.add(key(f"10.64.1.{number}/32"))
    assert list(cover.prefixes()) == [key("10.64.1.0/24")]
    entered, left = cover.remove(key("10.64.1.0/32"))
    assert left == [key("10.64.1.0/24")]
    assert sorted(one[0] for one in entered) == [25, 26, 27, 28, 29, 30, 31, 32]


def test_an_emptied_cover_keeps_nothing() -> None:
    cover = ExactCover(key("10.64.1.0/24"))
    for number in range(256):
        cover.add(key(f"10.64.1.{number}/32"))
    for number in range(256):
        cover.remove(key(f"10.64.1.{number}/32"))
    assert list(cover.prefixes()) == []
    assert not cover._full
    assert not cover._beneath


@given(st.integers(0, 2**32 - 1), st.integers(0, 32))
def test_nodes_and_keys_round_trip(value: int, length: int) -> None:
    one = key_of(ipaddress.IPv4Network((value, length), strict=False))
    assert key_of_node(node_of(one)) == one
