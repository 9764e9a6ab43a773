"""Route sets are deterministic, free of duplicates, and clear of the addresses that the laboratory itself uses."""

from __future__ import annotations

import ipaddress
import itertools

import pytest

from benchmarks.routes import KINDS, RouteSet, format_prefix, pack_address


@pytest.mark.parametrize("kind", KINDS)
def test_prefixes_are_distinct_and_the_same_each_time(kind: str) -> None:
    routes = RouteSet(kind=kind, count=20_000)
    prefixes = routes.prefixes()
    assert len(set(prefixes)) == 20_000
    assert prefixes == routes.prefixes()


def test_mixed_lengths_do_not_overlap_nor_touch_reserved_space() -> None:
    networks = sorted(
        ipaddress.IPv4Network(format_prefix(prefix)) for prefix in RouteSet(kind="v4-mix", count=5000).prefixes()
    )
    assert all(low.broadcast_address < high.network_address for low, high in itertools.pairwise(networks))
    assert {network.prefixlen for network in networks} == set(range(16, 25))
    assert sum(network.prefixlen == 24 for network in networks) > 2500
    for reserved in ("10.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16"):
        assert not any(network.overlaps(ipaddress.IPv4Network(reserved)) for network in networks)


def test_a_set_that_starts_later_is_disjoint() -> None:
    assert not set(RouteSet(count=100).prefixes()) & set(RouteSet(count=100, start=100).prefixes())


@pytest.mark.parametrize("text", ["20.0.0.1/32", "2a00:0:0:5::/64", "20.1.0.0/16"])
def test_format_prefix_gives_the_text_of_the_wire_form(text: str) -> None:
    address, length = text.split("/")
    wire = bytes((int(length),)) + pack_address(address)[: (int(length) + 7) // 8]
    assert format_prefix(wire) == text
