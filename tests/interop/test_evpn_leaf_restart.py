"""The leaf of two hosts restarts its BGP: routes of VRFs, which came by EVPN, stay in the kernel (RFC 4724)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from labs.daemons import Gobgp
from labs.process import wait_until
from tests.daemon.fabric import RouteWatch
from tests.interop.evpn_fabric import EvpnFabric, host_config, kernel_routes, static, vrf
from tests.interop.test_evpn_gobgp import gobgp_config
from tests.interop.test_evpn_restart import GRACEFUL

pytestmark = pytest.mark.netns

ADDRESS = "10.64.1.5"
WAIT_S = 30.0


@pytest.fixture
def config() -> str:
    return gobgp_config("l2vpn-evpn", restart_time_s=20)


@pytest.fixture
def fabric() -> Iterator[EvpnFabric]:
    with EvpnFabric() as fabric:
        yield fabric


def test_no_route_of_a_vrf_moves(fabric: EvpnFabric, config: str, tmp_path: Path) -> None:
    first = fabric.bgpd(1, host_config(1, vrf(), static(f"{ADDRESS}/32"), neighbor=GRACEFUL))
    second = fabric.bgpd(2, host_config(2, vrf(), neighbor=GRACEFUL))
    with Gobgp(fabric.leaf, config) as gobgp, first as _, second as host:
        host2 = fabric.hosts[2]
        wait_until(lambda: ADDRESS in kernel_routes(host2), WAIT_S, "host2 to hear of it", logs=host.logs)
        before = kernel_routes(host2)[ADDRESS]

        def leaf() -> dict[str, object]:
            found: dict[str, object] = host.show("neighbors")[0]
            return found

        with RouteWatch(host2, tmp_path) as watch:
            gobgp.kill()
            wait_until(lambda: leaf()["stale_families"] == ["l2vpn-evpn"], WAIT_S, "the routes to be stale")
            assert kernel_routes(host2)[ADDRESS] == before
            assert host.show("vrfs")[0]["uplinks"][0]["neighbor"] == "leaf", "it stays a gateway"
            in_vrf = next(one for one in host.show("routes", "--vrf", "blue") if one["prefix"] == f"{ADDRESS}/32")
            assert {one["stale_until"] for one in in_vrf["candidates"]} == {leaf()["stale_until"]}
            with Gobgp(fabric.leaf, config, recovers=True):
                wait_until(lambda: leaf()["established_count"] == 2, WAIT_S, "the leaf to be back", logs=host.logs)
                wait_until(lambda: not leaf()["stale_families"], WAIT_S, "its End-of-RIB", logs=host.logs)
                assert kernel_routes(host2)[ADDRESS] == before
                assert [line for line in watch.lines() if ADDRESS in line] == []


def test_routes_of_a_vrf_go_with_a_leaf_that_does_not_come_back(fabric: EvpnFabric, config: str) -> None:
    first = fabric.bgpd(1, host_config(1, vrf(), static(f"{ADDRESS}/32"), neighbor=GRACEFUL))
    second = fabric.bgpd(2, host_config(2, vrf(), neighbor=GRACEFUL))
    with (
        Gobgp(fabric.leaf, config.replace("restart-time = 20", "restart-time = 3")) as gobgp,
        first as _,
        second as host,
    ):
        host2 = fabric.hosts[2]
        wait_until(lambda: ADDRESS in kernel_routes(host2), WAIT_S, "host2 to hear of it", logs=host.logs)
        gobgp.kill()
        wait_until(lambda: ADDRESS not in kernel_routes(host2), WAIT_S, "the route to go", logs=host.logs)
        assert host.show("neighbors")[0].get("stale_families", []) == []
