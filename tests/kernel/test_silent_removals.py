"""What the kernel removes, with or without a word, is known to be gone; what stands stays known (docs/kernel.md).

The real kernel in a namespace: each act is followed by a comparison of what the monitor knows with what the kernel has.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator, Iterator

import pytest

from bgpd.kernel.monitor import KernelMonitor
from bgpd.model.kernel import RouteChanged
from bgpd.model.prefix import format_key
from tests.own_network import ip, own_network
from tests.waiting import until

pytestmark = pytest.mark.netns

Way = tuple[str, str]
"""Prefix and interface."""
PODS = ("cali1", "cali2")


def sysctl(setting: str) -> None:
    subprocess.run(["sysctl", "-qw", setting], check=True)


@pytest.fixture
def network() -> Iterator[None]:
    with own_network():
        sysctl("net.ipv4.nexthop_compat_mode=0")
        for name in PODS:
            ip(f"link add {name} type veth peer name {name}p")
            ip(f"link set {name} up")
            ip(f"link set {name}p up")
        for number, name in enumerate(PODS, 1):
            ip(f"route add 10.65.1.{number}/32 dev {name}")
            ip(f"-6 route add 2001:db8:1::{number}/128 dev {name}")
        yield


@pytest.fixture
async def monitor(network: None) -> AsyncIterator[KernelMonitor]:
    made = KernelMonitor()
    await made.start()
    yield made
    await made.stop()


def kernel_routes() -> list[Way]:
    """The routes that iproute2 shows in the main table; dead next hops left out."""
    found = []
    for family in ("-4", "-6"):
        shown = subprocess.run(["ip", "-j", "-d", family, "route", "show"], capture_output=True, check=True).stdout
        for route in json.loads(shown or b"[]"):
            if route["type"] in ("multicast", "local"):
                continue
            prefix = route["dst"] if "/" in route["dst"] else route["dst"] + ("/32" if family == "-4" else "/128")
            hops = route.get("nexthops") or [route]
            found += [(prefix, hop.get("dev", "")) for hop in hops if "dead" not in hop.get("flags", ())]
    return sorted(found)


def counted_routes(monitor: KernelMonitor) -> list[Way]:
    routes = [one for routes in monitor.routes.routes.values() for one in routes if one.table == 254]
    return sorted((format_key(one.family, one.key), one.interface) for one in routes)


def known_routes(monitor: KernelMonitor) -> set[Way]:
    return set(counted_routes(monitor))


async def same(monitor: KernelMonitor) -> set[Way]:
    """Soon, what is known is what the kernel has, each route as often."""
    await until(lambda: counted_routes(monitor) == kernel_routes(), lambda: (counted_routes(monitor), kernel_routes()))
    return known_routes(monitor)


POD_V4, POD_V6 = ("10.65.1.1/32", "cali1"), ("2001:db8:1::1/128", "cali1")
OTHERS = {("10.65.1.2/32", "cali2"), ("2001:db8:1::2/128", "cali2")}


@pytest.mark.parametrize("skip_notify", [0, 1])
@pytest.mark.parametrize(
    ("acts", "gone"),
    [
        (["ip addr add 10.65.0.1/32 dev cali1", "ip addr del 10.65.0.1/32 dev cali1"], {POD_V4}),
        (["ip addr add 10.65.0.1/24 dev cali1", "ip addr flush dev cali1"], {POD_V4}),
        (["ip addr add 10.65.0.1/24 dev cali1 valid_lft 1 preferred_lft 1"], {POD_V4}),
        (["ip link set cali1 down"], {POD_V4, POD_V6}),
        (["ip link set cali1 down", "ip link set cali1 up"], {POD_V4, POD_V6}),
        (["ip link set cali1p down"], set()),
        (["ip link set cali1 mtu 1200"], {POD_V6}),
        (["ip link set cali1 mtu 1200", "ip link set cali1 mtu 1500"], {POD_V6}),
        (["sysctl -qw net.ipv6.conf.cali1.disable_ipv6=1"], {POD_V6}),
        (["sysctl -qw net.ipv6.conf.all.disable_ipv6=1"], {POD_V6, ("2001:db8:1::2/128", "cali2")}),
        (["ip link del cali1"], {POD_V4, POD_V6}),
        (["ip link set cali1 netns {away}"], {POD_V4, POD_V6}),
        ([f"ip addr {act} dev cali1" for act in ("add 10.65.0.1/32", "add 10.65.0.2/32", "del 10.65.0.1/32")], set()),
        (["ip -6 addr flush dev cali1"], set()),
        (["ip link add br0 type bridge", "ip link set cali1 master br0"], set()),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)  # fmt: skip
async def test_routes_that_go_with_an_interface(
    network: None, acts: list[str], gone: set[Way], skip_notify: int
) -> None:
    sysctl(f"net.ipv6.route.skip_notify_on_dev_down={skip_notify}")
    away = subprocess.Popen(["unshare", "-n", "sleep", "60"])  # noqa: ASYNC220
    monitor = KernelMonitor()
    await monitor.start()
    try:
        before = await same(monitor)
        await asyncio.sleep(0.2)  # the new namespace is there
        for act in acts:
            subprocess.run(act.format(away=away.pid).split(), check=True)  # noqa: ASYNC221
        expected = before - gone
        pods = {POD_V4, POD_V6} | OTHERS
        await until(lambda: known_routes(monitor) & pods == expected & pods, lambda: known_routes(monitor))
        await same(monitor)
        assert expected & pods == known_routes(monitor) & pods
    finally:
        await monitor.stop()
        away.terminate()
        away.wait()


async def test_what_nothing_tells_of_is_found_at_the_interval(network: None) -> None:
    sysctl("net.ipv6.route.skip_notify_on_dev_down=1")
    ip("link set cali1 addrgenmode none")
    ip("-6 addr flush dev cali1")
    monitor = KernelMonitor(interval_s=0.3)
    await monitor.start()
    try:
        assert POD_V6 in await same(monitor)
        sysctl("net.ipv6.conf.cali1.disable_ipv6=1")
        assert POD_V6 not in await same(monitor)
    finally:
        await monitor.stop()


async def test_preferred_source_that_goes_takes_routes_of_other_interfaces_along(monitor: KernelMonitor) -> None:
    ip("addr add 10.1.0.1/32 dev lo")
    ip("route add 10.65.1.3/32 dev cali2 src 10.1.0.1")
    assert ("10.65.1.3/32", "cali2") in await same(monitor)
    ip("addr del 10.1.0.1/32 dev lo")
    assert ("10.65.1.3/32", "cali2") not in await same(monitor)


async def test_ipv6_route_whose_preferred_source_went_is_gone_when_it_is_deleted(monitor: KernelMonitor) -> None:
    ip("-6 addr add 2001:db8::1/128 dev lo nodad")
    ip("-6 route add 2001:db8:1::3/128 dev cali2 src 2001:db8::1")
    await same(monitor)
    ip("-6 addr del 2001:db8::1/128 dev lo")
    ip("-6 route del 2001:db8:1::3/128 dev cali2")
    assert ("2001:db8:1::3/128", "cali2") not in await same(monitor)


async def test_renamed_interface_has_its_routes_by_its_new_name(monitor: KernelMonitor) -> None:
    ip("link set cali1 name cali9")
    assert ("10.65.1.1/32", "cali9") in await same(monitor)
    ip("link set cali9 name cali1")
    assert POD_V4 in await same(monitor)


@pytest.mark.parametrize(
    "act",
    [
        "nexthop del id 5",
        "nexthop replace id 5 dev cali2",
        "link set cali1 down",
        "link del cali1",
    ],
)
async def test_routes_by_nexthop_objects_follow_them(monitor: KernelMonitor, act: str) -> None:
    ip("nexthop add id 5 dev cali1")
    ip("nexthop add id 6 dev cali2")
    ip("nexthop add id 7 group 5/6")
    ip("-6 nexthop add id 8 dev cali1")
    ip("route add 10.66.0.1/32 nhid 5")
    ip("route add 10.66.0.2/32 nhid 7")
    ip("-6 route add 2001:db8:2::1/128 nhid 8")
    routes = {("10.66.0.1/32", "cali1"), ("2001:db8:2::1/128", "cali1")}
    routes |= {("10.66.0.2/32", "cali1"), ("10.66.0.2/32", "cali2")}
    await until(lambda: known_routes(monitor) >= routes, lambda: known_routes(monitor))
    ip(act)
    group = {("10.66.0.2/32", "cali2")}
    after = {
        "nexthop del id 5": group | {("2001:db8:2::1/128", "cali1")},
        "nexthop replace id 5 dev cali2": group | {("10.66.0.1/32", "cali2"), ("2001:db8:2::1/128", "cali1")},
    }.get(act, group)
    of_objects = {prefix for prefix, _interface in routes}
    await until(
        lambda: {one for one in known_routes(monitor) if one[0] in of_objects} == after, lambda: known_routes(monitor)
    )


async def test_dead_next_hops_of_a_multipath_route_are_no_way(monitor: KernelMonitor) -> None:
    ip("route add 10.66.0.1/32 nexthop dev cali1 nexthop dev cali2")
    ip("-6 route add 2001:db8:2::1/128 nexthop via fe80::1 dev cali1 nexthop via fe80::1 dev cali2")
    assert {("10.66.0.1/32", name) for name in PODS} <= await same(monitor)
    ip("link set cali1 down")
    known = await same(monitor)
    assert ("10.66.0.1/32", "cali2") in known
    assert ("10.66.0.1/32", "cali1") not in known
    ip("link set cali1 up")
    assert ("10.66.0.1/32", "cali1") in await same(monitor)


@pytest.mark.parametrize(
    "acts",
    [
        ["route append 10.65.1.1/32 dev cali2", "route del 10.65.1.1/32 dev cali1"],
        ["route append 10.65.1.1/32 dev cali2", "route replace 10.65.1.1/32 dev lo"],
        ["route prepend 10.65.1.1/32 dev cali2", "route del 10.65.1.1/32"],
        ["route prepend 10.65.1.1/32 dev cali2", "route replace 10.65.1.1/32 dev lo", "route del 10.65.1.1/32"],
        ["route add 10.65.1.1/32 tos 0x10 dev cali1", "route del 10.65.1.1/32 tos 0x10"],
        ["route append 10.65.1.1/32 dev cali1 mtu 1400", "route del 10.65.1.1/32 mtu 1400 dev cali1"],
        ["route append 10.65.1.1/32 dev cali1 proto static", "route del 10.65.1.1/32 proto static"],
        ["route append blackhole 10.65.1.1/32", "route del blackhole 10.65.1.1/32"],
        ["-6 route append 2001:db8:1::1/128 dev cali2", "-6 route del 2001:db8:1::1/128 dev cali1"],
        ["-6 route append 2001:db8:1::1/128 dev cali2", "-6 route replace 2001:db8:1::1/128 dev lo"],
        ["-6 route replace 2001:db8:1::1/128 via fe80::1 dev cali1",
         "-6 route append 2001:db8:1::1/128 via fe80::1 dev cali2",
         "-6 route del 2001:db8:1::1/128 via fe80::1 dev cali1"],
        ["-6 route replace 2001:db8:1::1/128 via fe80::1 dev cali1",
         "-6 route append 2001:db8:1::1/128 via fe80::1 dev cali2",
         "-6 route replace 2001:db8:1::1/128 via fe80::2 dev cali2"],
    ],
    ids=lambda acts: "; ".join(acts[-2:]),
)  # fmt: skip
async def test_routes_of_one_prefix_and_metric_are_counted_as_the_kernel_does(
    monitor: KernelMonitor, acts: list[str]
) -> None:
    gone: list[str] = []
    for act in acts:
        ip(act)
        await same(monitor)
    monitor.subscribe(lambda event: gone.append(str(event)) if isinstance(event, RouteChanged) else None)
    monitor._foreign.look_at_all()
    await until(lambda: not monitor._foreign._look_at_all)
    await asyncio.sleep(0.3)
    assert not gone
    await same(monitor)


async def test_many_addresses_that_change_cost_few_readings(monitor: KernelMonitor) -> None:
    reads = 0
    read = monitor._foreign._reader.read

    def counted(*arguments: object, **named: object) -> object:
        nonlocal reads
        reads += 1
        return read(*arguments, **named)  # type: ignore[arg-type]

    monitor._foreign._reader.read = counted  # type: ignore[assignment, method-assign]
    batch = "".join(f"addr {act} 10.80.{n >> 8}.{n & 255}/32 dev cali2\n" for n in range(500) for act in ("add", "del"))
    subprocess.run(["ip", "-batch", "-"], input=batch.encode(), check=True)  # noqa: ASYNC221
    assert ("10.65.1.2/32", "cali2") not in await same(monitor)
    assert reads < 20


async def test_ipv6_siblings_of_several_protocols_go_together(monitor: KernelMonitor) -> None:
    ip("-6 addr add 2001:db8:9::1/64 dev cali1 nodad")
    for number, protocol in enumerate(("static", "196", "boot"), 2):
        ip(f"-6 route append 2001:db8:7::/64 via 2001:db8:9::{number} dev cali1 metric 5 proto {protocol}")
        await same(monitor)
    ip("-6 route del 2001:db8:7::/64 via 2001:db8:9::2 dev cali1 metric 5")
    await same(monitor)
    ip("-6 route del 2001:db8:7::/64 metric 5")
    assert ("2001:db8:7::/64", "cali1") not in await same(monitor)
    ip("-6 route append 2001:db8:7::/64 via 2001:db8:9::2 dev cali1 metric 5 proto static")
    ip("-6 route append 2001:db8:7::/64 via 2001:db8:9::3 dev cali1 metric 5 proto boot")
    ip("-6 route replace 2001:db8:7::/64 via 2001:db8:9::4 dev cali1 metric 5 proto 196")
    ip("-6 route del 2001:db8:7::/64 metric 5")
    assert ("2001:db8:7::/64", "cali1") not in await same(monitor)
