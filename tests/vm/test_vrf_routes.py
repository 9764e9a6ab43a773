"""Routes of an interface that moves into a VRF device or out of it go, IPv4 ones silently, and that is known."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bgpd.kernel.monitor import KernelMonitor
from bgpd.model.prefix import format_key
from tests.own_network import ip, own_network
from tests.waiting import until

pytestmark = pytest.mark.vm


@pytest.fixture
def network() -> Iterator[None]:
    with own_network():
        ip("link add blue type vrf table 1001")
        ip("link set blue up")
        ip("link add cali1 type veth peer name cali1p")
        ip("link set cali1 up")
        ip("link set cali1p up")
        yield


async def test_routes_go_with_a_move_into_a_vrf_and_out_of_it(network: None) -> None:
    monitor = KernelMonitor()
    await monitor.start()

    def known() -> set[tuple[int, str]]:
        routes = [one for routes in monitor.routes.routes.values() for one in routes if one.interface == "cali1"]
        return {(one.table, format_key(one.family, one.key)) for one in routes if one.protocol == 3}

    try:
        for act, table in (("master blue", 254), ("nomaster", 1001)):
            ip(f"route add 10.65.1.1/32 dev cali1 table {table}")
            ip(f"-6 route add 2001:db8:1::1/128 dev cali1 table {table}")
            both = {(table, "10.65.1.1/32"), (table, "2001:db8:1::1/128")}
            await until(lambda wanted=both: known() == wanted, known)  # type: ignore[misc]
            ip(f"link set cali1 {act}")
            await until(lambda: not known(), known)
    finally:
        await monitor.stop()


async def test_routes_by_a_vrf_device_that_is_deleted_are_gone(network: None) -> None:
    ip("link set cali1 master blue")
    ip("route add 10.65.1.1/32 dev cali1 table 1001")
    monitor = KernelMonitor()
    await monitor.start()
    try:
        assert any(one.table == 1001 for routes in monitor.routes.routes.values() for one in routes)
        ip("link del blue")
        await until(
            lambda: all(
                one.interface != "cali1" or one.protocol != 3 for r in monitor.routes.routes.values() for one in r
            )
        )
    finally:
        await monitor.stop()
