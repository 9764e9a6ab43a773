"""Next hops: reachability asked once, shared sets, weights by link bandwidth, and which a neighbor may name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgpd.model.attributes import Attributes
from bgpd.model.iana import Family
from bgpd.model.next_hop import NextHop
from bgpd.model.policy_syntax import parse_extended_community
from bgpd.model.prefix import parse_address, parse_prefix
from bgpd.model.route_batch import RouteBatch
from bgpd.rib import next_hops
from bgpd.rib.next_hops import LARGEST, AllowedNextHops, NextHopTable, ratio
from tests.rib.build import LOCAL_ASN, V4, Recorder, attributes, configuration, drain, hop, key, leaf, session


def table(asked: list[NextHop]) -> NextHopTable:
    def resolve(next_hop: NextHop) -> str:
        asked.append(next_hop)
        return "no route"

    return NextHopTable(resolve=resolve)


def test_each_next_hop_is_asked_once() -> None:
    asked: list[NextHop] = []
    known = table(asked)
    assert known.why_unreachable(hop("10.0.0.1")) == "next hop 10.0.0.1: no route"
    assert known.why_unreachable(hop("10.0.0.1")) == "next hop 10.0.0.1: no route"
    assert asked == [hop("10.0.0.1")]


def test_news_count_only_where_reachability_differs() -> None:
    known = table([])
    assert not known.changed(hop("10.0.0.1"), "")
    known.why_unreachable(hop("10.0.0.1"))
    assert not known.changed(hop("10.0.0.1"), "link down")
    assert known.epoch == 0
    assert known.why_unreachable(hop("10.0.0.1")) == "next hop 10.0.0.1: link down"
    assert known.changed(hop("10.0.0.1"), "")
    assert known.epoch == 1


def test_a_session_that_runs_through_next_hops_leaves_none_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(next_hops, "_PRUNE_AT", 20)
    recorder = Recorder(configuration(session("leaf1"), session("leaf2")))
    leaf1 = recorder.up(leaf(1), session("leaf1"))
    leaf2 = recorder.up(leaf(2), session("leaf2"))
    given = attributes(1)
    recorder.announce(leaf2, given, hop("10.0.2.2"), "10.1.0.0/24")
    for number in range(200):
        recorder.announce(leaf1, given, hop(f"10.0.1.{number}"), "10.1.0.0/24")
    known = recorder.rib.table("", V4)._next_hop_table
    assert len(known._why) + len(known._sets) <= 20
    both = recorder.rib.desired("", V4, key("10.1.0.0/24"))
    assert both == (hop("10.0.1.199"), hop("10.0.2.2"))
    recorder.announce(leaf1, given, hop("10.0.1.199"), "10.2.0.0/24")
    recorder.announce(leaf2, given, hop("10.0.2.2"), "10.2.0.0/24")
    assert recorder.rib.desired("", V4, key("10.2.0.0/24")) is both


@pytest.mark.parametrize(("policy", "asns"), [("none", (65201,)), ("all", (65201, LOCAL_ASN))])
def test_the_kernel_is_not_asked_about_next_hops_of_rejected_routes(policy: str, asns: tuple[int, ...]) -> None:
    config = session("leaf1", import_=policy)
    recorder = Recorder(configuration(config))
    source = recorder.up(leaf(1), config)
    recorder.announce(source, attributes(*asns), hop("10.0.1.2"), "10.0.0.0/24")
    assert recorder.rib.asked_next_hops("") == []
    recorder.announce(source, attributes(*asns), hop("10.0.1.2"), "10.0.1.0/24", "10.0.2.0/24")
    assert recorder.rib.asked_next_hops("") == []


def test_what_is_forgotten_is_told_so_that_nobody_keeps_it() -> None:
    known = table([])
    for number in range(5):
        known.why_unreachable(hop(f"10.0.0.{number}"))
    assert known.prune([hop("10.0.0.3")], []) == [hop(f"10.0.0.{number}") for number in (0, 1, 2, 4)]


def test_next_hops_that_only_one_session_has_named() -> None:
    recorder = Recorder(configuration(session("leaf1"), session("leaf2")))
    leaf1, leaf2 = (recorder.up(leaf(number), session(f"leaf{number}")) for number in (1, 2))
    for number in range(3):
        recorder.announce(leaf1, attributes(1), hop(f"10.0.0.{number}"), f"10.1.{number}.0/24")
    recorder.announce(leaf2, attributes(1), hop("10.0.0.1"), "10.1.0.0/24")
    received = recorder.rib.received
    assert received.next_hops_of_only([(leaf1, V4)]) == {"": {hop("10.0.0.0"), hop("10.0.0.2")}}
    assert received.next_hops_of_only([(leaf2, V4)]) == {}
    drain(recorder.rib.received.neighbor_down(leaf2))
    assert received.next_hops_of_only([(leaf1, V4)]) == {"": {hop(f"10.0.0.{number}") for number in range(3)}}
    assert received.next_hops_of_only([(leaf2, V4)]) == {}


PREFIX = "10.1.0.0/24"


def with_bandwidth(*rates: float, asn: int = 65201) -> Attributes:
    communities = tuple(parse_extended_community(f"bandwidth:{asn}:{rate:.0f}") for rate in rates)
    return attributes(asn, extended_communities=communities)


def forwarded(*given_: Attributes, hops: tuple[str, ...] = ("10.0.0.1", "10.0.0.2", "10.0.0.3")) -> dict[str, int]:
    """Next hops of a prefix that as many leaves announce with these attributes, and their weights."""
    configs = [session(f"leaf{number}") for number in range(1, len(given_) + 1)]
    recorder = Recorder(configuration(*configs))
    for number, (one, config) in enumerate(zip(given_, configs)):
        recorder.announce(recorder.up(leaf(number + 1), config), one, hop(hops[number]), PREFIX)
    return {str(NextHop(one.address)): one.weight for one in recorder.fib[key(PREFIX)]}


def test_paths_that_all_carry_it_are_weighted_in_its_ratio() -> None:
    assert forwarded(with_bandwidth(5e9), with_bandwidth(1.25e10)) == {"10.0.0.1": 2, "10.0.0.2": 5}


def test_one_path_without_it_makes_all_equal() -> None:
    assert forwarded(with_bandwidth(5e9), with_bandwidth(1e9), attributes(65201)) == {
        "10.0.0.1": 1,
        "10.0.0.2": 1,
        "10.0.0.3": 1,
    }


def test_a_path_that_loses_does_not_count() -> None:
    longer = attributes(65201, 65209)
    assert forwarded(with_bandwidth(3e9), with_bandwidth(1e9), longer) == {"10.0.0.1": 3, "10.0.0.2": 1}


def test_a_single_path_has_no_weight() -> None:
    assert forwarded(with_bandwidth(5e9)) == {"10.0.0.1": 1}


def test_two_paths_by_one_next_hop_count_once_with_the_higher() -> None:
    given_ = (with_bandwidth(1e9), with_bandwidth(4e9), with_bandwidth(2e9))
    assert forwarded(*given_, hops=("10.0.0.1", "10.0.0.1", "10.0.0.2")) == {"10.0.0.1": 2, "10.0.0.2": 1}


def test_another_bandwidth_is_another_set_and_the_same_again_is_the_same_object() -> None:
    configs = [session("leaf1"), session("leaf2")]
    recorder = Recorder(configuration(*configs))
    one, two = (recorder.up(leaf(number), config) for number, config in enumerate(configs, 1))
    recorder.announce(one, with_bandwidth(2e9), hop("10.0.0.1"), PREFIX)
    recorder.announce(two, with_bandwidth(1e9), hop("10.0.0.2"), PREFIX)
    first = recorder.fib[key(PREFIX)]
    recorder.announce(two, with_bandwidth(2e9), hop("10.0.0.2"), PREFIX)
    assert [hop.weight for hop in recorder.fib[key(PREFIX)]] == [1, 1]
    recorder.announce(two, with_bandwidth(1e9), hop("10.0.0.2"), PREFIX)
    assert recorder.fib[key(PREFIX)] == first


@pytest.mark.parametrize(
    ("bandwidths", "expected"),
    [
        ((1.0, 1.0), (1, 1)),
        ((40e9, 100e9), (2, 5)),
        ((1.0, 3.0, 2.0), (1, 3, 2)),
        ((1000.0, 1001.0), (1, 1)),
        ((1.0, 1e6), (1, LARGEST)),
        ((0.0, 1e9), (1, LARGEST)),
        ((0.0, 0.0), (1, 1)),
        ((), ()),
    ],
)
def test_weights_are_the_smallest_numbers_of_the_ratio(
    bandwidths: tuple[float, ...], expected: tuple[int, ...]
) -> None:
    assert ratio(bandwidths) == expected


@given(st.lists(st.floats(1e6, 1e11), min_size=1, max_size=64))
def test_weights_keep_the_order_and_the_share_of_the_largest(bandwidths: list[float]) -> None:
    weights = ratio(tuple(bandwidths))
    assert all(1 <= weight <= LARGEST for weight in weights)
    heaviest = weights[bandwidths.index(max(bandwidths))]
    for bandwidth, weight in zip(bandwidths, weights):
        exact = bandwidth / max(bandwidths) * heaviest
        assert abs(weight - exact) <= max(1.0, 0.01 * exact)


NETWORKS = frozenset(
    parse_prefix(text) for text in ("10.0.1.0/24", "10.5.0.0/24", "2001:db8:1::/64", "2001:db8:5::/64", "fe80::/64")
)


def why(peer: str, hop: str, interface: str = "") -> str:
    allowed = AllowedNextHops(peer=parse_address(peer), interface="eth0", networks=NETWORKS)
    return allowed.why_not(NextHop(parse_address(hop), interface))


@pytest.mark.parametrize(
    ("peer", "hop", "interface"),
    [
        ("10.0.1.2", "10.0.1.2", ""),
        ("10.0.1.2", "10.0.1.77", ""),
        ("10.0.1.2", "2001:db8:5::9", ""),
        ("10.0.1.2", "fe80::9", "eth0"),
        ("2001:db8:1::2", "2001:db8:1::3", ""),
        ("2001:db8:1::2", "10.5.0.1", ""),
        ("fe80::2", "fe80::2", "eth0"),
        ("fe80::2", "fe80::3", "eth0"),
        ("fe80::2", "2001:db8:5::1", ""),
        ("172.16.0.1", "172.16.0.1", ""),
    ],
)
def test_the_neighbor_and_its_network_may_be_named(peer, hop, interface):
    assert why(peer, hop, interface) == ""


@pytest.mark.parametrize(
    ("peer", "hop", "interface"),
    [
        ("10.0.1.2", "10.0.2.2", ""),
        ("10.0.1.2", "10.5.0.1", ""),
        ("10.0.1.2", "192.168.5.254", ""),
        ("10.0.1.2", "2001:db8:2::2", ""),
        ("10.0.1.2", "fe80::9", "eth1"),
        ("2001:db8:1::2", "2001:db8:5::3", ""),
        ("2001:db8:1::2", "10.0.2.2", ""),
        ("fe80::2", "2001:db8:2::1", ""),
    ],
)
def test_other_networks_may_not(peer, hop, interface):
    assert "RFC 4271 section 5.1.3" in why(peer, hop, interface)


def test_who_is_in_no_network_is_further_away():
    def is_one_hop(peer: str) -> bool:
        return AllowedNextHops(peer=parse_address(peer), interface="eth0", networks=NETWORKS).is_one_hop

    assert is_one_hop("10.0.1.2")
    assert is_one_hop("fe80::2")
    assert not is_one_hop("10.77.0.1")


def test_another_reason_for_the_same_is_no_news() -> None:
    known = NextHopTable(resolve=lambda _: "")
    known.why_unreachable(hop("10.0.0.1"))
    assert not known.changed(hop("10.0.0.1"), "")
    assert known.changed(hop("10.0.0.1"), "link down")
    assert not known.changed(hop("10.0.0.1"), "link down")
    assert not known.changed(hop("10.0.0.1"), "no route")
    assert known.epoch == 1
    assert not known.changed(hop("10.0.0.2"), "link down"), "nobody asked for it"


def test_what_is_known_of_next_hops_can_be_asked_anew() -> None:
    recorder = Recorder(configuration(session("leaf1")))
    source = recorder.up(leaf(1), session("leaf1"))
    assert recorder.rib.asked_next_hops("") == []
    recorder.announce(source, attributes(1), hop("10.0.1.2"), "10.9.0.0/16")
    recorder.turn()
    assert recorder.rib.asked_next_hops("") == [hop("10.0.1.2")]
    assert recorder.rib.asked_next_hops("blue") == []


def test_the_kernel_hears_of_no_evpn_route_while_a_next_hop_is_looked_at_again() -> None:
    evpn = Family.L2VPN_EVPN
    recorder = Recorder(configuration(session("leaf1")))
    leaf1 = recorder.up(leaf(1), session("leaf1"), families=(V4, evpn))
    batch = RouteBatch(family=evpn, announced=[b"\x05" + bytes(33)], attributes=attributes(1), next_hop=hop("10.0.1.2"))
    recorder.rib.received.routes_received(leaf1, [batch])
    recorder.announce(leaf1, attributes(1), hop("10.0.1.2"), "10.1.0.0/24")
    walk = recorder.rib.next_hop_changed(hop("10.0.1.2"), "link down")
    more = RouteBatch(family=evpn, announced=[b"\x05" + bytes(32) + b"\1"], attributes=attributes(1))
    recorder.rib.received.routes_received(leaf1, [more])
    recorder.rib.commit_gathered()
    drain(walk)
    assert [one for call in recorder.fib_calls for one in call] == [key("10.1.0.0/24")] * 2


def test_a_next_hop_is_lost_in_the_vrf_of_the_session_only() -> None:
    """Tenants may have the same addresses."""
    sections = [session(f"leaf{number}", vrf=vrf) for number, vrf in ((1, "blue"), (2, "red"), (3, "red"))]
    recorder = Recorder(configuration(*sections))
    ups = [recorder.up(leaf(number), section) for number, section in zip((1, 2, 3), sections)]
    for source in ups:
        recorder.announce(source, attributes(1), hop("10.0.0.1"), "10.1.0.0/24")
    received = recorder.rib.received
    assert received.next_hops_of_only([(ups[0], V4)]) == {"blue": {hop("10.0.0.1")}}
    assert received.next_hops_of_only([(ups[0], V4), (ups[1], V4)]) == {"blue": {hop("10.0.0.1")}}
    assert received.next_hops_of_only([(ups[1], V4), (ups[2], V4)]) == {"red": {hop("10.0.0.1")}}
