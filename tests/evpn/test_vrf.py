"""Resolution inside a VRF, joined with the RIB: what a route leads to follows uplinks, type 2 routes and sessions."""

from __future__ import annotations

import pytest

from bgpd.model.policy_syntax import parse_extended_community
from bgpd.model.prefix import parse_prefix
from bgpd.rib import next_hops
from bgpd.rib.views import route_view
from tests.evpn.build import CONFIG, LINKS, V4, VIA1, VIA2, Host, host_route, prefix_route


def why(host: Host, prefix: str) -> str:
    view = route_view(host.rib.table("blue", V4), V4, parse_prefix(prefix)[1])
    assert view is not None
    return view.candidates[0].reason


def test_a_gateway_ip_is_followed_through_its_type_2_route_over_both_leaves() -> None:
    host = Host()
    leaf1, leaf2 = host.up(1), host.up(2)
    for source in (leaf1, leaf2):
        host.hear(source, prefix_route("10.64.0.0/24"), gateway="10.9.0.1")
    assert host.forwards("10.64.0.0/24") is None
    assert "no type 2 route announces it" in why(host, "10.64.0.0/24")
    for source in (leaf1, leaf2):
        host.hear(source, host_route("10.9.0.1"))
    assert host.forwards("10.64.0.0/24") == (VIA1, VIA2)


def test_routes_of_a_vrf_are_weighted_by_link_bandwidth_if_all_carry_it() -> None:
    host = Host()
    leaf1, leaf2 = host.up(1), host.up(2)
    fast, slow = (parse_extended_community(f"bandwidth:65201:{rate}") for rate in (5000000000, 1250000000))
    host.hear(leaf1, prefix_route("10.64.0.0/24"), gateway="10.1.0.0", communities=(fast,))
    host.hear(leaf2, prefix_route("10.64.0.0/24"), gateway="10.2.0.0")
    key = parse_prefix("10.64.0.0/24")[1]
    assert [hop.weight for hop in host.table()[key]] == [1, 1]
    host.hear(leaf2, prefix_route("10.64.0.0/24"), gateway="10.2.0.0", communities=(slow,))
    assert [hop.weight for hop in host.table()[key]] == [4, 1]


def test_a_withdrawn_type_2_route_takes_what_rests_on_it_along() -> None:
    host = Host()
    leaf1 = host.up(1)
    host.hear(leaf1, prefix_route("10.64.0.0/24"), gateway="10.9.0.1")
    host.hear(leaf1, host_route("10.9.0.1"))
    assert host.forwards("10.64.0.0/24") == (VIA1,)
    host.unhear(leaf1, host_route("10.9.0.1"))
    assert host.forwards("10.64.0.0/24") is None


def test_a_lost_uplink_changes_expansions_and_no_route() -> None:
    host = Host()
    leaf1, leaf2 = host.up(1), host.up(2)
    for source in (leaf1, leaf2):
        host.hear(source, *[prefix_route(f"10.64.{index}.0/24") for index in range(50)], gateway="10.9.0.1")
        host.hear(source, host_route("10.9.0.1"))
    before = dict(host.table())
    host.resolved_anew.clear()
    host.link("eth0.101", index=3, up=False)
    assert host.forwards("10.64.7.0/24") == (VIA2,)
    gateways = {hop for hops in before.values() for hop in hops}
    assert set(host.resolved_anew) <= gateways
    assert len(host.resolved_anew) <= 4
    host.link("eth0.101", index=3)
    assert host.forwards("10.64.7.0/24") == (VIA1, VIA2)


def test_a_dead_leaf_is_no_gateway_before_its_routes_are_gone() -> None:
    host = Host()
    leaf1, leaf2 = host.up(1), host.up(2)
    for source in (leaf1, leaf2):
        host.hear(source, host_route("10.64.0.7"))
    host.evpn.neighbor_down(leaf1)
    assert host.forwards("10.64.0.7/32") == (VIA2,)


def test_a_prefix_that_holds_its_own_gateway_is_unusable_with_a_reason_until_the_gateway_has_a_route() -> None:
    host = Host()
    leaf1 = host.up(1)
    host.hear(leaf1, prefix_route("10.64.0.0/24"), prefix_route("10.64.0.1/32"), gateway="10.64.0.1")
    assert host.forwards("10.64.0.0/24") is None
    assert host.forwards("10.64.0.1/32") is None
    assert "10.64.0.1" in why(host, "10.64.0.0/24")
    host.hear(leaf1, host_route("10.64.0.1"))
    assert host.forwards("10.64.0.0/24") == (VIA1,)


def test_a_default_route_may_hold_its_gateway() -> None:
    host = Host()
    host.hear(host.up(1), prefix_route("0.0.0.0/0"), gateway="10.1.0.0")
    assert host.forwards("0.0.0.0/0") == (VIA1,)


def test_host_routes_that_name_each_other_are_a_loop_with_a_reason() -> None:
    host = Host(CONFIG.replace("vni = 5001", 'vni = 5001\nresolve = "next-hop"'))
    leaf1 = host.up(1)
    for name in ("eth0.101", "eth1.101"):
        host.address(name, LINKS[name], gone=True)
    host.hear(leaf1, host_route("10.9.0.1"), next_hop="10.9.0.2")
    host.hear(leaf1, host_route("10.9.0.2"), next_hop="10.9.0.1")
    host.hear(leaf1, prefix_route("10.64.0.0/24"), next_hop="10.9.0.1")
    assert host.forwards("10.64.0.0/24") is None
    assert why(host, "10.64.0.0/24")


def test_resolve_by_peer_needs_no_gateway_and_no_next_hop() -> None:
    host = Host(CONFIG.replace("vni = 5001", 'vni = 5001\nresolve = "peer"'))
    host.hear(host.up(2), prefix_route("10.64.0.0/24"), gateway="10.99.0.1")
    assert host.forwards("10.64.0.0/24") == (VIA2,)


def test_resolve_by_next_hop_takes_no_peer_for_prefixes_but_for_hosts() -> None:
    host = Host(CONFIG.replace("vni = 5001", 'vni = 5001\nresolve = "next-hop"'))
    leaf1 = host.up(1)
    host.hear(leaf1, prefix_route("10.64.0.0/24"), gateway="10.1.0.0", next_hop="192.0.2.1")
    host.hear(leaf1, prefix_route("10.65.0.0/24"), next_hop="10.1.0.0")
    host.hear(leaf1, host_route("10.66.0.1"), next_hop="192.0.2.1")
    assert host.forwards("10.64.0.0/24") is None
    assert host.forwards("10.65.0.0/24") == (VIA1,)
    assert host.forwards("10.66.0.1/32") == (VIA1,)


def test_a_changed_resolve_mode_counts_for_routes_that_are_there() -> None:
    host = Host()
    host.hear(host.up(1), prefix_route("10.64.0.0/24"), gateway="10.99.0.1")
    assert host.forwards("10.64.0.0/24") is None
    host.reconfigure(CONFIG.replace("vni = 5001", 'vni = 5001\nresolve = "peer"'))
    assert host.forwards("10.64.0.0/24") == (VIA1,)


def test_a_larger_uplink_subnet_learns_its_gateway_from_the_default_gateway_community() -> None:
    host = Host()
    host.address("eth0.101", "10.1.0.1/31", gone=True)
    host.address("eth0.101", "10.1.0.9/24")
    leaf1 = host.up(1)
    host.hear(leaf1, host_route("10.64.0.7"))
    assert host.forwards("10.64.0.7/32") is None
    assert "set uplink_gateways" in why(host, "10.64.0.7/32")
    gateway = host_route("10.1.0.254", host="10.0.0.1:5001")
    host.hear(leaf1, gateway, communities=(b"\x03\x0d\0\0\0\0\0\0",))
    (hop,) = host.forwards("10.64.0.7/32") or ()
    assert (str(hop), hop.interface) == ("10.1.0.254%eth0.101", "eth0.101")
    host.unhear(leaf1, gateway)
    assert host.forwards("10.64.0.7/32") is None


def test_uplinks_and_gateways_by_hand() -> None:
    by_hand = """uplinks = ["eth0.101", "eth1.101"]
uplink_neighbors = { "eth1.101" = "leaf1" }
uplink_gateways = { "eth1.101" = ["10.2.0.0"] }"""
    host = Host(CONFIG.replace('uplinks = ["eth0.101", "eth1.101"]', by_hand))
    host.link("eth0.101", index=3, up=False)
    host.hear(host.up(1), host_route("10.64.0.7"))
    assert host.forwards("10.64.0.7/32") == (VIA2,)


def test_unresolved_next_hops_are_listed() -> None:
    host = Host()
    host.hear(host.up(1), prefix_route("10.64.0.0/24"), gateway="10.9.0.1")
    (text,) = host.evpn.vrfs["blue"].unresolved().values()
    assert text.startswith("no uplink subnet of VRF blue holds 10.9.0.1")


def test_next_hops_that_no_route_has_any_more_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """A neighbor may name ever new ones; and one that is named again is resolved, and followed, as ever."""
    monkeypatch.setattr(next_hops, "_PRUNE_AT", 20)
    host = Host()
    leaf1 = host.up(1)
    for number in range(200):
        host.hear(leaf1, prefix_route("10.64.0.0/24"), gateway=f"10.9.0.{number}")
    blue = host.evpn.vrfs["blue"]
    assert 0 < len(blue.unresolved()) < 50
    host.hear(leaf1, prefix_route("10.64.0.0/24"), gateway="10.9.0.1")
    host.hear(leaf1, host_route("10.9.0.1"))
    assert host.forwards("10.64.0.0/24") == (VIA1,)
    host.unhear(leaf1, host_route("10.9.0.1"))
    assert host.forwards("10.64.0.0/24") in (None, ())


def test_recursive_next_hops_are_shown_as_what_the_route_names() -> None:
    host = Host(CONFIG.replace("vni = 5001", 'vni = 5001\nresolve = "peer"'))
    host.hear(host.up(1), prefix_route("10.64.0.0/24"))
    view = route_view(host.rib.table("blue", V4), V4, parse_prefix("10.64.0.0/24")[1])
    assert view is not None
    assert view.candidates[0].next_hop == "neighbor leaf1"
    assert view.candidates[0].source == "leaf1 rd 10.255.9.9:1001 type-5"
