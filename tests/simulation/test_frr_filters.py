"""Route maps and prefix lists of modelled routers do what FRR does with them."""

from __future__ import annotations

import msgspec
import pytest

from bgpd.migrate.frr_peers import Peers
from bgpd.migrate.frr_text import FrrText, read_frr_text
from bgpd.simulation.frr_filters import Filters, filters_of
from bgpd.simulation.wire import Route

NEIGHBOR = "10.0.0.1"
LISTS = """
ip prefix-list WORKLOADS seq 20 permit 10.64.0.0/16 ge 24 le 32
ip prefix-list WORKLOADS seq 10 deny 10.64.9.0/24 le 32
ip prefix-list EXACT permit 10.64.0.0/16
ip prefix-list ANY permit any
ipv6 prefix-list SIX permit 2001:db8::/32 le 128
"""
ROUTE = Route(peer="host1", as_path=(65203,), communities=(1,))


def filters(command: str, rest: str = "", *, requires: bool = False) -> Filters:
    """Of a neighbor with one command."""
    text = FrrText()
    source = f"router bgp 65201\n neighbor {NEIGHBOR} remote-as external\n address-family ipv4 unicast\n"
    read_frr_text(f"{source}  neighbor {NEIGHBOR} {command}\n{LISTS}{rest}", "frr.conf", text)
    peers = Peers(text.routers[0])
    peer = peers.settings(peers.found[NEIGHBOR])
    return filters_of(text, peer.general, peer.families, asn=65201, requires=requires)


@pytest.mark.parametrize(
    ("name", "passing"),
    [
        ("WORKLOADS", {"10.64.1.0/24", "10.64.1.1/32"}),
        ("EXACT", {"10.64.0.0/16"}),
        ("ANY", {"10.64.0.0/16", "10.64.1.0/24", "10.64.1.1/32", "10.64.9.1/32", "192.0.2.0/24"}),
        ("NONE", set()),
    ],
)
def test_first_entry_of_a_prefix_list_that_matches_decides(name: str, passing: set[str]) -> None:
    found = filters(f"prefix-list {name} in")
    prefixes = ("10.64.0.0/16", "10.64.1.0/24", "10.64.1.1/32", "10.64.9.1/32", "192.0.2.0/24")
    assert found.takes is not None
    assert {one for one in prefixes if found.takes(one, ROUTE) is ROUTE} == passing
    assert found.tells is None
    assert found.names == (f"prefix-list {name} in",)


def test_lists_are_of_one_family() -> None:
    takes = filters("prefix-list EXACT in").takes
    assert takes is not None
    assert takes("2001:db8::1/128", ROUTE) is ROUTE


MAP = """
route-map OUT deny 5
 match ip address prefix-list EXACT
route-map OUT permit 10
 match ip address prefix-list WORKLOADS
 set as-path prepend 65201 65201
 set community 65000:7 additive
 set local-preference 200
route-map OUT permit 20
 match ipv6 address prefix-list SIX
"""


def test_first_entry_of_a_route_map_that_matches_decides_and_changes() -> None:
    found = filters("route-map OUT out", MAP)
    assert found.tells is not None
    changed = msgspec.structs.replace(
        ROUTE, as_path=(65201, 65201, 65203), communities=(1, 65000 << 16 | 7), preference=200
    )
    assert found.tells("10.64.1.1/32", ROUTE) == changed
    assert found.tells("10.64.0.0/16", ROUTE) is None
    assert found.tells("10.64.9.1/32", ROUTE) is None, "none of the entries"
    assert found.unread == ()


def test_communities_are_replaced_unless_they_are_added() -> None:
    found = filters("route-map M in", "route-map M permit 10\n set community graceful-shutdown\n").takes
    assert found is not None
    changed = found("10.64.1.1/32", ROUTE)
    assert changed is not None
    assert changed.communities == (0xFFFF0000,)
    assert changed.rank > ROUTE.rank


def test_preference_comes_before_the_length_of_the_path() -> None:
    long = Route(peer="a", as_path=(1, 2, 3), preference=200)
    assert min(ROUTE, long, key=lambda route: route.rank) is long


def test_what_is_not_simulated_is_told() -> None:
    found = filters("route-map M in", "route-map M permit 10\n match as-path X\n set weight 7\n")
    assert found.unread == ("route-map M 10: match as-path X", "route-map M 10: set weight 7")
    assert filters("filter-list X in").unread == (f"neighbor {NEIGHBOR} filter-list X in",)


def test_nothing_passes_without_a_policy_that_is_required() -> None:
    found = filters("prefix-list ANY in", requires=True)
    assert found.takes is not None
    assert found.tells is not None
    assert found.takes("10.64.1.1/32", ROUTE) is ROUTE
    assert found.tells("10.64.1.1/32", ROUTE) is None


def test_route_map_that_is_not_there_refuses_all() -> None:
    takes = filters("route-map NONE in").takes
    assert takes is not None
    assert takes("10.64.1.1/32", ROUTE) is None
