"""EVPN over a hand-over: a tenant's routes stay in the kernel, and the leaf is told nothing."""

from __future__ import annotations

import pytest

from labs.process import wait_until
from tests.daemon.managed import ManagedHost, said
from tests.daemon.test_evpn_wire import AFI_SAFI, announcement, in_kernel, prefix, withdrawal
from tests.daemon.wire_peer import UPDATE, WirePeer, message
from tests.interop.evpn_fabric import EvpnFabric, add_vm, host_config, vrf

pytestmark = pytest.mark.netns

WAIT_S = 30.0
END_OF_RIB = message(UPDATE, b"\0\0\0\6\x80\x0f\3\0\x19\x46")


def test_routes_of_a_vrf_and_this_hosts_own_go_on() -> None:
    config = host_config(1, vrf()).replace("hold_time_s = 9", "hold_time_s = 90")
    with (
        EvpnFabric() as fabric,
        WirePeer(fabric.leaf, "10.0.1.0") as peer,
        ManagedHost(fabric.hosts[1], config) as host,
    ):
        connection = peer.establish(families=(AFI_SAFI,), hold_time_s=90)
        routes = [prefix("10.80.0.0/16"), prefix("10.81.0.0/16")]
        connection.sendall(announcement(*routes) + END_OF_RIB)
        wait_until(lambda: in_kernel(fabric) == {"10.80.0.0/16", "10.81.0.0/16"}, WAIT_S, "the routes", logs=host.logs)
        add_vm(host, "10.1.1.5")
        host.wait_ready()
        sent = said(connection, 1.0)
        assert sent
        before = host.show("evpn")
        host.hand_over()
        assert said(connection, 1.0) == []
        assert in_kernel(fabric) >= {"10.80.0.0/16", "10.81.0.0/16"}
        assert without_times(host.show("evpn")) == without_times(before)
        assert host.neighbor("leaf")["established_count"] == 1
        connection.sendall(withdrawal(routes[1]))
        wait_until(lambda: "10.81.0.0/16" not in in_kernel(fabric), WAIT_S, "the withdrawal", logs=host.logs)


def without_times(routes: list[dict[str, object]]) -> str:
    for route in routes:
        for candidate in route.get("candidates", []):  # type: ignore[attr-defined]
            candidate.pop("heard_at", None)
    return str(routes)
