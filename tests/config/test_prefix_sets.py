"""Which prefixes of a configuration overlap, against Python's own networks."""

from __future__ import annotations

import ipaddress

from hypothesis import given
from hypothesis import strategies as st

from bgpd.config.prefix_sets import inside, overlaps

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@st.composite
def prefixes(draw: st.DrawFn) -> str:
    """Few, so that they meet often."""
    if draw(st.booleans()):
        length = draw(st.sampled_from([0, 8, 13, 16, 24, 32]))
        number = draw(st.integers(0, 7)) << 16 | 10 << 24
        return str(ipaddress.ip_network((number, length), strict=False))
    length = draw(st.sampled_from([0, 32, 33, 64, 128]))
    number = 0x20010DB8 << 96 | draw(st.integers(0, 7)) << 93 | draw(st.integers(0, 3))
    return str(ipaddress.ip_network((number, length), strict=False))


LISTS = st.lists(prefixes(), max_size=8, unique=True)


@given(prefixes(), LISTS)
def test_overlaps_are_those_of_the_addresses(prefix: str, known: list[str]) -> None:
    network = ipaddress.ip_network(prefix)
    others: list[Network] = list(map(ipaddress.ip_network, known))
    expected = [str(one) for one in others if one.version == network.version and network.overlaps(one)]
    assert overlaps(prefix, known) == expected


@given(LISTS, LISTS)
def test_what_is_inside_is_inside_the_smallest(some: list[str], networks: list[str]) -> None:
    expected = {}
    for prefix in some:
        network = ipaddress.ip_network(prefix)
        wider = [
            other
            for other in map(ipaddress.ip_network, networks)
            if other.version == network.version and network.subnet_of(other)  # type: ignore[arg-type]
        ]
        if wider:
            expected[prefix] = str(max(wider, key=lambda one: one.prefixlen))
    assert inside(some, networks) == expected
