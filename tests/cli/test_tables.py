"""Rows of `show evpn` and `show vrfs`."""

from __future__ import annotations

import msgspec

from bgpd.cli.tables import SHOWN
from bgpd.model.views.evpn import EndpointView, EvpnPathView, EvpnRouteView, UplinkView, VrfView


def rows_of(kind: str, view: msgspec.Struct) -> list[dict[str, str]]:
    shown = SHOWN[kind]
    return [dict(zip(shown.columns, row)) for row in shown.rows(msgspec.to_builtins(view), 0.0)]


def test_an_evpn_route_has_a_row_for_each_candidate() -> None:
    best = EvpnPathView(source="leaf1", role="best", gateway_ip="10.9.0.1", labels=[5001], resolution=["a", "b"])
    other = EvpnPathView(source="leaf2", role="lost", unresolved="no uplink leads there")
    view = EvpnRouteView(type=5, rd="1.1.1.1:7", prefix="10.0.0.0/8", vrf="blue", candidates=[best, other])
    first, second = rows_of("evpn", view)
    assert (first["Type"], first["Route"], first["Gateway"], first["VNI"]) == ("5", "10.0.0.0/8", "10.9.0.1", "5001")
    assert (second["Type"], second["From"]) == ("", "leaf2")
    assert "unresolved: no uplink leads there" in second.values()


def test_a_vrf_has_a_row_for_each_uplink_and_each_fault() -> None:
    view = VrfView(
        name="blue",
        table=1001,
        rd="1.1.1.1:1001",
        uplinks=[UplinkView(name="eth0.101", up=True, neighbor="leaf1", gateways=["10.1.0.0"])],
        unresolved=["nothing holds 10.9.0.1"],
        alarms=[EndpointView(mac="02:00:00:00:00:01", address="10.0.0.1", standing="frozen", reason="duplicate")],
    )
    first, second, third = rows_of("vrfs", view)
    assert (first["VRF"], first["Uplink"], first["State"]) == ("blue", "eth0.101", "up")
    assert "to leaf1 at 10.1.0.0" in first.values()
    assert (second["State"], third["State"]) == ("unresolved", "frozen")


def test_a_vrf_without_uplinks_is_shown() -> None:
    (row,) = rows_of("vrfs", VrfView(name="blue", table=1001, rd="1.1.1.1:1001"))
    assert row["VRF"] == "blue"
