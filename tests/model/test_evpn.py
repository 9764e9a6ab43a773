"""Keys of EVPN routes: which host made one, and which communities are EVPN's alone."""

from __future__ import annotations

import pytest

from bgpd.model.communities import parse_route_distinguisher
from bgpd.model.evpn import format_origin, is_evpn_community, origin_of
from bgpd.model.policy_syntax import parse_extended_community


@pytest.mark.parametrize(
    ("rd", "shown"),
    [("10.255.1.1:1001", "10.255.1.1"), ("65203:1001", "65203:1001"), ("4200000000:7", "4200000000:7")],
)
def test_a_host_is_told_by_its_address_or_its_whole_route_distinguisher(rd: str, shown: str) -> None:
    assert format_origin(origin_of(parse_route_distinguisher(rd))) == shown


def test_routes_of_two_tables_of_one_host_have_one_origin() -> None:
    first, second = (origin_of(parse_route_distinguisher(f"10.255.1.1:{table}")) for table in (1001, 1002))
    assert first == second


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("rt:65201:5001", True),
        ("rt:10.0.0.1:5", True),
        ("rt:4200000000:5", True),
        ("030c000000000008", True),
        ("030d000000000000", True),
        ("0600000000000003", True),
        ("0603020000000001", True),
        ("soo:65201:1", False),
        ("bandwidth:65201:1250000000", False),
        ("0300000000000000", False),
    ],
)
def test_what_evpn_alone_understands(text: str, expected: bool) -> None:
    assert is_evpn_community(parse_extended_community(text)) is expected
