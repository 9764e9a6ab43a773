"""Addresses of an uplink change under a live session: gateway IPs and the type 2 routes of the uplink follow."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from labs.daemons import Gobgp
from labs.process import wait_until
from tests.interop.evpn_fabric import EvpnFabric, host_config, static, vrf
from tests.interop.test_evpn_gobgp import gobgp_config, table

pytestmark = pytest.mark.netns

WAIT_S = 15.0
V4, V6 = (5, "", "10.64.0.0/24"), (5, "", "2001:db8:64::/64")


@pytest.fixture
def fabric() -> Iterator[EvpnFabric]:
    with EvpnFabric() as made:
        yield made


def test_the_gateway_ip_is_the_uplink_s_address_as_long_as_it_exists(fabric: EvpnFabric) -> None:
    host = fabric.hosts[1]
    config = host_config(1, vrf(), static("10.64.0.0/24"), static("2001:db8:64::/64"))
    with Gobgp(fabric.leaf, gobgp_config("l2vpn-evpn")) as gobgp, fabric.bgpd(1, config) as bgpd:
        own = host.mac("eth0.101")

        def wait_gateway(place: tuple[int, str, str], gateway: str) -> None:
            wait_until(
                lambda: table(gobgp).get(place, {}).get("gateway") == gateway and (2, own, gateway) in table(gobgp),
                WAIT_S,
                f"{place} by {gateway}, and a type 2 route of that",
                logs=bgpd.logs,
            )

        wait_gateway(V4, "10.1.1.1")
        wait_gateway(V6, "2001:db8:101::1")
        host.batch("addr add 10.1.1.0/25 dev eth0.101", "addr add 10.1.1.1/25 dev eth0.101")
        host.batch("addr add 2001:db8:101::/64 dev eth0.101 nodad", "addr del 10.1.1.1/24 dev eth0.101")
        wait_until(lambda: (2, own, "10.1.1.0") in table(gobgp), WAIT_S, "the other address", logs=bgpd.logs)
        wait_gateway(V4, "10.1.1.1")
        wait_gateway(V6, "2001:db8:101::1")
        host.batch("addr del 10.1.1.1/25 dev eth0.101", "addr del 2001:db8:101::1/64 dev eth0.101")
        wait_gateway(V6, "2001:db8:101::")
        host.batch("addr flush dev eth0.101 scope global")
        for place in (V4, V6, (2, own, "10.1.1.1"), (2, own, "2001:db8:101::")):
            wait_until(lambda gone=place: gone not in table(gobgp), WAIT_S, f"{place} to be withdrawn", logs=bgpd.logs)
        host.addresses("eth0.101", "10.1.1.7/24", "2001:db8:101::7/64")
        wait_gateway(V4, "10.1.1.7")
        wait_gateway(V6, "2001:db8:101::7")
        (neighbor,) = bgpd.show("neighbors")
        assert neighbor["established_count"] == 1
