"""What `show evpn`, `show vrfs` and `explain` tell."""

from __future__ import annotations

from bgpd.evpn.views import evpn_routes, explain_overlay, vrf_views
from bgpd.model.prefix import parse_address
from bgpd.model.views.evpn import EvpnRouteView
from bgpd.model.views.queries import ViewQuery
from tests.evpn.build import Host, host_route, mobility, prefix_route


def shown(host: Host, **query: object) -> list[EvpnRouteView]:
    return [view for view in evpn_routes(host.evpn, ViewQuery(**query)) if view is not None]  # type: ignore[arg-type]


def test_explained_is_what_the_route_names_and_what_is_this_hosts_own() -> None:
    host = Host()
    host.hear(host.up(1), prefix_route("10.64.0.0/24"), gateway="10.9.0.1")
    assert explain_overlay(host.evpn, "blue", parse_address("10.64.0.9"))[1].endswith(": by 10.9.0.1")
    assert explain_overlay(host.evpn, "green", parse_address("10.64.0.9")) == []
    host.workload("10.64.1.5/32")
    assert explain_overlay(host.evpn, "blue", parse_address("10.64.1.5")) == [
        "10.64.1.5/32 is a route of VRF blue",
        "it is this host's own",
    ]


def host_with_routes() -> Host:
    host = Host()
    for source in (host.up(1), host.up(2)):
        host.hear(source, prefix_route("10.64.0.0/24"), gateway="10.9.0.1")
        host.hear(source, host_route("10.9.0.1"), communities=(mobility(3),))
    host.hear(host.sources["leaf1"], prefix_route("10.65.0.0/24"), gateway="10.9.0.2")
    return host


def test_evpn_routes_are_narrowed_by_type_rd_mac_vrf_and_unresolved() -> None:
    host = host_with_routes()
    assert {view.prefix for view in shown(host, type=5)} == {"10.64.0.0/24", "10.65.0.0/24"}
    assert {view.mac for view in shown(host, rd="10.255.9.9:1001", type=2)} == {"02:00:00:00:00:09"}
    assert [view.prefix for view in shown(host, mac="02:00:00:00:00:09")] == ["10.9.0.1/32"]
    assert {view.rd for view in shown(host, vrf="red")} == {"10.255.1.1:1002"}
    assert {view.vrf for view in shown(host, vrf="blue")} == {"blue"}
    (unresolved,) = shown(host, unresolved=True)
    assert unresolved.prefix == "10.65.0.0/24"
    assert "no type 2 route announces it" in unresolved.candidates[0].unresolved


def test_a_route_is_shown_with_all_its_fields() -> None:
    (view,) = shown(host_with_routes(), mac="02:00:00:00:00:09")
    assert [(one.source, one.role) for one in view.candidates] == [("leaf1", "best"), ("leaf2", "multipath")]
    best = view.candidates[0]
    assert best.extended_communities == ["rt:65201:5001", "mac-mobility:3"]
    assert best.labels == [5001]
    assert best.resolution == ["leaf1 is 10.1.0.0 on eth0.101"]


def test_own_routes_are_shown_with_the_gateway_as_self() -> None:
    host = Host()
    host.workload("10.64.1.5/32")
    (view,) = shown(host, type=5, vrf="blue")
    assert shown(host, type=5, vrf="red") == []
    assert view.candidates[0].gateway_ip == "self"
    assert view.candidates[0].extended_communities == ["rt:65201:5001", "encapsulation:vxlan"]


def test_vrfs_are_shown_with_uplinks_counts_and_what_is_wrong() -> None:
    host = host_with_routes()
    host.workload("10.64.1.5/32", mac="02:00:00:00:00:aa")
    blue, red = vrf_views(host.evpn, ViewQuery())
    assert vrf_views(host.evpn, ViewQuery(vrf="red")) == [red]
    assert (blue.name, blue.table, blue.rd, blue.vni) == ("blue", 1001, "10.255.1.1:1001", 5001)
    assert blue.uplinks[0].neighbor == "leaf1"
    assert blue.uplinks[0].gateways == ["10.1.0.0"]
    assert blue.routes["ipv4-unicast"] == 4
    assert blue.local["ipv4-unicast"] == 1
    assert blue.endpoints == 1
    assert blue.alarms == []
    assert len(blue.unresolved) == 1
    assert red.routes["ipv4-unicast"] == 0


def test_next_hop_that_no_route_names_any_more_is_not_listed_as_unresolved() -> None:
    host = Host()
    leaf1 = host.up(1)
    host.hear(leaf1, prefix_route("10.64.0.0/24"), gateway="10.9.0.1")
    assert len(vrf_views(host.evpn, ViewQuery(vrf="blue"))[0].unresolved) == 1
    host.hear(leaf1, prefix_route("10.64.0.0/24"), gateway="10.1.0.0")
    assert vrf_views(host.evpn, ViewQuery(vrf="blue"))[0].unresolved == []


def test_endpoint_that_moved_and_is_claimed_here_no_more_is_neither_counted_nor_an_alarm() -> None:
    mac = "02:00:00:00:00:aa"
    host = Host()
    leaf1 = host.up(1)
    host.workload("10.64.0.7/32", mac=mac)
    host.hear(leaf1, host_route("10.64.0.7", mac=mac), communities=(mobility(1),))
    assert [one.standing for one in vrf_views(host.evpn, ViewQuery(vrf="blue"))[0].alarms] == ["moved"]
    host.workload_deleted("10.64.0.7/32")
    (view,) = vrf_views(host.evpn, ViewQuery(vrf="blue"))
    assert (view.endpoints, view.alarms) == (0, [])
    host.workload("10.64.0.7/32", mac=mac)
    (view,) = vrf_views(host.evpn, ViewQuery(vrf="blue"))
    assert (view.endpoints, view.alarms) == (1, [])


def test_explain_follows_the_overlay_from_route_to_uplink() -> None:
    host = host_with_routes()
    lines = explain_overlay(host.evpn, "blue", parse_address("10.64.0.99"))
    assert lines[0] == "10.64.0.0/24 is a route of VRF blue"
    assert "  10.9.0.1 has a type 2 route" in lines
    assert "  leaf1 is 10.1.0.0 on eth0.101" in lines
    assert "  leaves by 10.2.0.0%eth1.101" in lines
    assert "unusable" in explain_overlay(host.evpn, "blue", parse_address("10.65.0.1"))[-1]
    assert explain_overlay(host.evpn, "blue", parse_address("10.99.0.1")) == ["no route of VRF blue covers it"]
