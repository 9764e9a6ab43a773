"""EVPN routes become routes of the VRFs that import them, and leave them again."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bgpd.evpn import importer
from bgpd.model.communities import DEFAULT_GATEWAY
from bgpd.model.prefix import parse_address, parse_prefix
from bgpd.rib.views import route_view
from tests.evpn.build import CONFIG, V4, V6, VIA1, VIA2, Host, host_route, mobility, prefix_route


def test_a_type_5_route_goes_by_its_route_target_and_only_there() -> None:
    host = Host()
    host.hear(host.up(1), prefix_route("10.64.0.0/24"), gateway="10.1.0.0")
    assert host.forwards("10.64.0.0/24") == (VIA1,)
    assert host.table("red") == {}
    host.hear(host.up(2), prefix_route("10.65.0.0/24"), gateway="10.2.0.0", target="65201:9")
    assert host.forwards("10.65.0.0/24") is None


def test_tenants_may_have_the_same_addresses() -> None:
    host = Host()
    leaf1 = host.up(1)
    host.hear(leaf1, prefix_route("10.64.0.0/24"), gateway="10.1.0.0")
    host.hear(leaf1, prefix_route("10.64.0.0/24", host="10.255.9.9:1002"), gateway="10.1.0.0", target="65201:5002")
    assert host.forwards("10.64.0.0/24") == (VIA1,)
    assert [hop.interface for hop in host.forwards("10.64.0.0/24", vrf="red") or ()] == ["eth0.102"]
    host.unhear(leaf1, prefix_route("10.64.0.0/24"))
    assert host.forwards("10.64.0.0/24") is None
    assert host.forwards("10.64.0.0/24", vrf="red") is not None


@pytest.mark.parametrize("target", ["65201:5009", "10.0.0.1:5009", "4200000000:5009"])
def test_route_targets_of_all_three_forms_are_imported_by(target: str) -> None:
    host = Host(CONFIG.replace('import_rt = ["65201:5001"]', f'import_rt = ["65201:5001", "{target}"]'))
    host.hear(host.up(1), prefix_route("10.64.0.0/24"), gateway="10.1.0.0", target=target)
    assert host.forwards("10.64.0.0/24") == (VIA1,)
    assert host.table("red") == {}


def test_a_vrf_that_imports_from_several_has_the_routes_of_all_and_the_others_only_their_own() -> None:
    both = 'import_rt = ["65201:5002", "65201:5001"]'
    host = Host(CONFIG.replace('import_rt = ["65201:5002"]', both))
    leaf1 = host.up(1)
    host.hear(leaf1, prefix_route("10.64.0.0/24"), gateway="10.1.0.0")
    host.hear(leaf1, prefix_route("10.65.0.0/24", host="10.255.9.9:1002"), gateway="10.1.0.0", target="65201:5002")
    assert set(host.table()) == {parse_prefix("10.64.0.0/24")[1]}
    assert set(host.table("red")) == {parse_prefix("10.64.0.0/24")[1], parse_prefix("10.65.0.0/24")[1]}
    assert [hop.interface for hop in host.forwards("10.64.0.0/24", vrf="red") or ()] == ["eth0.102"]


@pytest.mark.parametrize("make", [prefix_route, host_route])
def test_route_distinguishers_of_which_nothing_is_left_are_forgotten(
    monkeypatch: pytest.MonkeyPatch, make: Callable[..., bytes]
) -> None:
    """A neighbor may name ever new ones."""
    monkeypatch.setattr(importer, "_ORIGINS", 20)
    host = Host()
    leaf1 = host.up(1)
    text, other = ("10.64.0.7/32", "10.64.0.8/32") if make is prefix_route else ("10.64.0.7", "10.64.0.8")
    kept = make(text, host="10.255.9.9:1")
    host.hear(leaf1, kept, gateway="10.1.0.0" if make is prefix_route else "")
    routes = [make(other, host=f"10.255.9.{number}:1001") for number in range(200)]
    for route in (*routes, routes[0]):
        host.hear(leaf1, route, gateway="10.1.0.0" if make is prefix_route else "")
        assert host.forwards("10.64.0.8/32") == (VIA1,)
        host.unhear(leaf1, route)
        assert host.forwards("10.64.0.8/32") is None
    assert len(host.rib.table("blue", V4).received) < 50
    assert host.forwards("10.64.0.7/32") == (VIA1,)
    host.unhear(leaf1, kept)
    assert host.table() == {}


def test_one_prefix_by_two_leaves_is_forwarded_by_both() -> None:
    host = Host()
    leaf1, leaf2 = host.up(1), host.up(2)
    for source in (leaf1, leaf2):
        host.hear(source, host_route("10.64.0.7"))
    assert host.forwards("10.64.0.7/32") == (VIA1, VIA2)
    host.down(leaf1)
    assert host.forwards("10.64.0.7/32") == (VIA2,)


def test_ipv6_and_odd_lengths_are_cut_to_their_significant_bytes() -> None:
    host = Host()
    prefixes = ("0.0.0.0/0", "10.0.0.0/9", "10.64.1.128/25", "10.64.1.1/32")
    leaf1 = host.up(1)
    host.hear(leaf1, *map(prefix_route, prefixes), gateway="10.1.0.0")
    assert set(host.table()) == {parse_prefix(prefix)[1] for prefix in prefixes}
    host.address("eth0.101", "2001:db8:1::1/64")
    host.hear(leaf1, prefix_route("2001:db8:9::/48"), gateway="2001:db8:1::2")
    assert set(host.table(family=V6)) == {parse_prefix("2001:db8:9::/48")[1]}


def test_type_2_without_an_address_and_unknown_types_go_nowhere() -> None:
    host = Host()
    host.hear(host.up(1), host_route("10.64.0.7")[:19], b"\x03" + bytes(17), b"\x0a\x01")
    assert host.table() == {}


def test_link_local_host_routes_go_nowhere() -> None:
    host = Host()
    host.address("eth0.101", "2001:db8:1::1/127")
    host.hear(host.up(1), host_route("fe80::1"), host_route("2001:db8::1"))
    assert set(host.table(family=V6)) == {parse_prefix("2001:db8::1/128")[1]}


def test_changed_route_targets_move_the_route() -> None:
    host = Host()
    leaf1 = host.up(1)
    key = prefix_route("10.64.0.0/24")
    host.hear(leaf1, key, gateway="10.1.0.0")
    host.hear(leaf1, key, gateway="10.1.0.0", target="65201:5002")
    assert host.forwards("10.64.0.0/24") is None
    assert host.forwards("10.64.0.0/24", vrf="red") is not None


def test_a_vm_with_a_new_mac_keeps_its_address_when_the_old_mac_is_withdrawn() -> None:
    host = Host()
    leaf1 = host.up(1)
    old, new = host_route("10.64.0.7", mac="02:00:00:00:00:01"), host_route("10.64.0.7", mac="02:00:00:00:00:02")
    host.hear(leaf1, old)
    host.hear(leaf1, new)
    host.unhear(leaf1, old)
    assert host.forwards("10.64.0.7/32") == (VIA1,)
    host.unhear(leaf1, new)
    assert host.forwards("10.64.0.7/32") is None


def test_of_two_macs_in_one_update_one_has_the_address_until_both_are_gone() -> None:
    host = Host()
    leaf1 = host.up(1)
    keys = [host_route("10.64.0.7", mac=f"02:00:00:00:00:0{index}") for index in range(3)]
    host.hear(leaf1, *keys)
    for key in keys:
        assert host.forwards("10.64.0.7/32") == (VIA1,)
        host.unhear(leaf1, key)
    assert host.forwards("10.64.0.7/32") is None


def test_addresses_on_an_uplink_need_no_route() -> None:
    host = Host()
    host.hear(host.up(1), host_route("10.1.0.0"), host_route("10.64.0.7"))
    assert host.forwards("10.1.0.0/32") is None
    view = route_view(host.rib.table("blue", V4), V4, parse_prefix("10.1.0.0/32")[1])
    assert view is not None
    assert "on the subnet of uplink eth0.101" in view.candidates[0].reason


def test_routes_that_came_before_the_vrf_are_imported_when_it_is_configured() -> None:
    without = CONFIG[: CONFIG.index('[[vrf]]\nname = "red"')]
    host = Host(without)
    host.hear(host.up(1), prefix_route("10.64.0.0/24", host="1.1.1.1:2"), gateway="10.1.0.0", target="65201:5002")
    assert host.table("red") == {}
    host.reconfigure(CONFIG)
    assert host.forwards("10.64.0.0/24", vrf="red") is not None
    host.reconfigure(without)
    assert host.table("red") == {}
    host.reconfigure(CONFIG)
    assert host.forwards("10.64.0.0/24", vrf="red") is not None


def test_a_changed_import_target_moves_what_is_there() -> None:
    host = Host()
    leaf1 = host.up(1)
    host.hear(leaf1, prefix_route("10.64.0.0/24"), gateway="10.1.0.0")
    host.hear(leaf1, prefix_route("10.65.0.0/24"), gateway="10.1.0.0", target="65201:7")
    host.reconfigure(CONFIG.replace('import_rt = ["65201:5001"]', 'import_rt = ["65201:7"]', 1))
    assert host.forwards("10.64.0.0/24") is None
    assert host.forwards("10.65.0.0/24") == (VIA1,)


def test_the_highest_sequence_wins_among_two_hosts() -> None:
    host = Host()
    leaf1, leaf2 = host.up(1), host.up(2)
    host.hear(leaf1, host_route("10.64.0.7", host="10.255.8.8:1001"))
    host.hear(leaf2, host_route("10.64.0.7", host="10.255.9.9:1001"), communities=(mobility(1),))
    assert host.forwards("10.64.0.7/32") == (VIA2,)


@pytest.mark.parametrize("host_name", ["10.255.9.9:1001", "65204:1001", "4200000000:7"])
def test_an_endpoint_that_moved_is_reached_over_both_leaves_that_relay_its_host(host_name: str) -> None:
    host = Host()
    for number in (1, 2):
        source = host.up(number)
        host.hear(source, host_route("10.64.0.7", host=host_name), communities=(mobility(3),))
    assert host.forwards("10.64.0.7/32") == (VIA1, VIA2)


def test_a_session_that_comes_back_leaves_no_route_of_the_former() -> None:
    host = Host()
    leaf1 = host.up(1)
    host.hear(leaf1, host_route("10.64.0.7"), host_route("10.64.0.8"))
    host.down(leaf1)
    assert host.table() == {}
    host.hear(host.up(1), host_route("10.64.0.7"))
    assert set(host.table()) == {parse_prefix("10.64.0.7/32")[1]}


def test_the_gateways_of_a_lost_session_are_gone() -> None:
    host = Host()
    leaf1, leaf2 = host.up(1), host.up(2)
    host.hear(leaf1, host_route("10.1.0.0"), communities=(DEFAULT_GATEWAY,))
    host.hear(leaf2, host_route("10.2.0.0"), communities=(DEFAULT_GATEWAY,))
    assert host.evpn.importer.gateways("blue") == {parse_address("10.1.0.0"), parse_address("10.2.0.0")}
    host.down(leaf1)
    assert host.evpn.importer.gateways("blue") == {parse_address("10.2.0.0")}
