"""Route maps and prefix lists of modelled routers do what FRR does with them."""

from __future__ import annotations

import msgspec
import pytest

from bgpd.migrate.draft import ImportFailed
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


LISTS_OF_ROUTES = """
bgp community-list standard BLOCK seq 5 permit 65000:666
bgp community-list standard BLOCK seq 10 permit 65000:1 no-export
bgp community-list expanded PATTERN seq 5 permit 65000:.*
bgp as-path access-list HOSTS seq 5 deny _65299_
bgp as-path access-list HOSTS seq 10 permit ^652[0-9][0-9]$
access-list INSIDE seq 5 deny 10.64.9.0/24
access-list INSIDE remark for hosts
access-list INSIDE seq 10 permit 10.64.0.0/16
access-list INSIDE seq 15 permit 192.0.2.0/24 exact-match
access-list 1 permit 10.0.0.0 0.255.255.255
"""
BLOCKED = Route(peer="a", as_path=(65203,), communities=(65000 << 16 | 666, 7))
BOTH = Route(peer="a", as_path=(65203,), communities=(0xFFFFFF01, 65000 << 16 | 1))


@pytest.mark.parametrize(
    ("match", "passing"),
    [
        ("community BLOCK", [BLOCKED, BOTH]),
        ("community BLOCK exact-match", [BOTH]),
        ("community NONE", []),
        ("as-path HOSTS", [ROUTE, BLOCKED, BOTH]),
        ("as-path NONE", []),
        ("ip address prefix-len 32", [ROUTE, BLOCKED, BOTH]),
        ("ip address prefix-len 24", []),
    ],
)
def test_routes_are_matched_by_communities_and_paths(match: str, passing: list[Route]) -> None:
    found = filters("route-map M in", f"route-map M permit 10\n match {match}\n{LISTS_OF_ROUTES}")
    assert found.takes is not None
    assert [one for one in (ROUTE, BLOCKED, BOTH) if found.takes("10.64.1.1/32", one) is one] == passing
    assert found.unread == ()


@pytest.mark.parametrize("command", ["route-map M in", "distribute-list INSIDE in"])
def test_prefixes_are_matched_by_access_lists(command: str) -> None:
    found = filters(command, f"route-map M permit 10\n match ip address INSIDE\n{LISTS_OF_ROUTES}")
    takes = found.takes
    assert takes is not None
    prefixes = ("10.64.1.1/32", "10.64.9.1/32", "192.0.2.0/24", "192.0.2.1/32", "10.9.0.0/16")
    assert [one for one in prefixes if takes(one, ROUTE) is ROUTE] == ["10.64.1.1/32", "192.0.2.0/24"]
    assert found.unread == ()


def test_paths_are_filtered_by_lists_of_them() -> None:
    takes = filters("filter-list HOSTS in", LISTS_OF_ROUTES).takes
    assert takes is not None
    paths = (65203,), (65299,), (65203, 64999)
    assert [one for one in paths if takes("10.64.1.1/32", Route(peer="a", as_path=one))] == [(65203,)]


@pytest.mark.parametrize("on", ["on-match next", "continue", "on-match goto 30", "continue 30"])
def test_route_map_goes_on_where_it_says_so(on: str) -> None:
    entries = f"route-map M permit 10\n set community 1:1\n {on}\nroute-map M permit 20\n set community 2:2 additive\n"
    last = "route-map M permit 30\n match community NONE\n set community 3:3 additive\n"
    takes = filters("route-map M in", entries + last).takes
    assert takes is not None
    taken = takes("10.64.1.1/32", ROUTE)
    assert taken is not None, "what was permitted stays so, if no later entry matches"
    assert taken.communities == ((1 << 16 | 1,) if "30" in on else (1 << 16 | 1, 2 << 16 | 2))


def test_communities_are_taken_away() -> None:
    takes = filters("route-map M in", "route-map M permit 10\n set community none\n").takes
    assert takes is not None
    assert takes("10.64.1.1/32", ROUTE) == msgspec.structs.replace(ROUTE, communities=())


@pytest.mark.parametrize(("action", "said"), [("permit", "all are"), ("deny", "none is")])
def test_what_is_not_simulated_is_told_and_refuses_nothing(action: str, said: str) -> None:
    entries = f"route-map M {action} 10\n match tag 7\n set weight 7\nroute-map M permit 20\n"
    found = filters("route-map M in", entries)
    assert found.unread == (f"route-map M 10: match tag 7: {said} taken to match", "route-map M 10: set weight 7")
    assert found.takes is not None
    assert found.takes("10.64.1.1/32", ROUTE) is ROUTE


@pytest.mark.parametrize("match", ["community PATTERN", "ip address 1", "ip address NONE", "interface eth1", "peer a"])
def test_match_that_is_not_simulated_is_told(match: str) -> None:
    found = filters("route-map M in", f"route-map M permit 10\n match {match}\n{LISTS_OF_ROUTES}")
    assert found.unread == (f"route-map M 10: match {match}: all are taken to match",)


def test_list_that_is_none_is_told() -> None:
    assert filters("distribute-list NONE in").unread == (f"neighbor {NEIGHBOR} distribute-list NONE in",)
    with pytest.raises(ImportFailed, match=r"frr.conf:\d+: .*; write a regular expression"):
        filters("filter-list X in", "bgp as-path access-list X permit [")


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
