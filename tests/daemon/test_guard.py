"""A compromised leaf, of raw bytes, announces what would lead the host's own traffic to it: none is installed."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import pytest

from labs.namespace import link
from tests.daemon.fabric import Fabric, Host, config, kernel_hops, kernel_routes, leaf, started, table
from tests.daemon.test_bad_prefixes import BOTH, ipv6_update
from tests.daemon.wire_peer import KEEPALIVE, WirePeer, message, open_message, receive, update, withdrawal

pytestmark = pytest.mark.netns

MQTT = table("[workload.mqtt]", broker="mqtt://198.51.100.7:1883")
POD = table("[[workload.static]]", prefix="10.64.1.5/32", interface="pod1")


@pytest.fixture
def management(fabric: Fabric) -> Iterator[None]:
    """A management network with the host's default routes, of another program."""
    link(fabric.host, "mgmt", fabric.pods, "mgmt")
    fabric.host.addresses("mgmt", "192.168.5.1/24", "2001:db8:5::1/64")
    fabric.pods.addresses("mgmt", "192.168.5.254/24", "2001:db8:5::fe/64")
    fabric.host.ip("route", "add", "default", "via", "192.168.5.254")
    fabric.host.ip("-6", "route", "add", "default", "via", "2001:db8:5::fe")
    yield
    fabric.host.ip("link", "del", "mgmt")


@pytest.fixture(params=[False, True], ids=["", "GTSM"])
def peers(
    request: pytest.FixtureRequest, fabric: Fabric, management: None
) -> Iterator[tuple[Host, WirePeer, WirePeer]]:
    with (
        WirePeer(fabric.leaf1, ttl=255) as leaf1,
        WirePeer(fabric.leaf2, "10.0.2.2", asn=65202, ttl=255) as leaf2,
        started(fabric, leaf(1, ttl_security=request.param), leaf(2, ttl_security=request.param), MQTT, POD) as host,
    ):
        yield host, leaf1, leaf2


GUARDED = {
    "10.0.2.2/32": "uplink eth1",
    "10.0.2.2/31": "uplink eth1",
    "10.0.2.0/25": "uplink eth1",
    "10.0.2.77/32": "uplink eth1",
    "10.0.1.77/32": "uplink eth0",
    "0.0.0.0/0": "protocol",
    "0.0.0.0/1": "piece by piece",
    "128.0.0.0/1": "piece by piece",
    "64.0.0.0/2": "piece by piece",
    "2.0.0.0/7": "piece by piece",
    "192.168.0.0/16": "covers 192.168.5.0/24, the management network",
    "192.168.4.0/23": "covers 192.168.5.0/24, the management network",
    "192.168.5.0/25": "inside 192.168.5.0/24, the management network",
    "192.168.5.254/32": "inside 192.168.5.0/24, the management network",
    "198.51.100.7/32": "198.51.100.7 (the MQTT broker 198.51.100.7)",
    "198.51.100.0/24": "198.51.100.7 (the MQTT broker 198.51.100.7)",
}
GUARDED_IPV6 = {
    "2001:db8:2::2/128": "uplink eth1",
    "2001:db8:2::/65": "uplink eth1",
    "::/0": "protocol",
    "::/1": "piece by piece",
    "8000::/1": "piece by piece",
    "2000::/15": "piece by piece",
    "2001:db8:5::fe/128": "inside 2001:db8:5::/64, the management network",
    "2001:db8::/32": "covers 2001:db8:5::/64, the management network",
}
FREE = ("10.0.0.0/15", "198.51.101.0/24", "8.0.0.0/8", "10.64.2.7/32")
FREE_IPV6 = ("2001:db9::/40", "2a00::/16")


def test_one_leaf_takes_neither_the_other_nor_management_nor_broker(peers: tuple[Host, WirePeer, WirePeer]) -> None:
    host, leaf1, leaf2 = peers
    connection = leaf1.establish(families=BOTH)
    leaf2.establish(families=BOTH)
    host.wait_established("leaf1", "leaf2")
    since = host.neighbor("leaf2")["since"]
    connection.sendall(update((*GUARDED, *FREE), asn=65201) + ipv6_update(*GUARDED_IPV6, *FREE_IPV6))
    for prefix in FREE:
        host.wait_hops(prefix.removesuffix("/32"), "10.0.1.2%eth0")
    for prefix in FREE_IPV6:
        host.wait_hops(prefix, "2001:db8:1::2%eth0")
    assert set(kernel_routes(host.namespace)) == {"10.64.1.5", *(prefix.removesuffix("/32") for prefix in FREE)}
    assert set(kernel_routes(host.namespace, ipv6=True)) == set(FREE_IPV6)
    views = {view["prefix"]: view for view in host.get("fib")}
    for prefix, why in {**GUARDED, **GUARDED_IPV6}.items():
        assert (views[prefix]["state"], why in views[prefix]["error"]) == ("blocked", True), views[prefix]
        assert "fib.override" in views[prefix]["error"]
    view = host.explain("198.51.100.7")
    assert view["agrees"]
    assert "198.51.100.7/32" in view["verdict"]
    assert "the MQTT broker" in view["verdict"]
    assert host.neighbor("leaf2")["since"] == since
    connection.sendall(withdrawal(*GUARDED))
    host.wait(lambda: not host.get("routes", prefix="10.0.2.2/32"), "the withdrawal")


def test_guarded_routes_follow_what_is_guarded(fabric: Fabric, management: None) -> None:
    """A neighbor that comes by reload, a foreign route that goes."""
    with WirePeer(fabric.leaf1) as leaf1, started(fabric, leaf(1)) as host:
        connection = leaf1.establish()
        host.wait_established("leaf1")
        connection.sendall(update(("10.0.2.2/32", "10.77.1.1/32", "10.77.0.0/16", "32.0.0.0/3"), asn=65201))
        host.wait_hops("10.0.2.2/32", "10.0.1.2%eth0")
        host.wait_hops("10.77.0.0/16", "10.0.1.2%eth0")
        assert kernel_hops(fabric.host, "32.0.0.0/3") == []
        fabric.host.ip("route", "add", "10.77.1.0/24", "via", "10.0.2.2", "proto", "250")
        host.wait_hops("10.0.2.2/32")
        distant = leaf(2, name="distant", address="10.77.1.1")
        host.config_path.write_text(config(leaf(1), distant))
        host.reload()
        host.wait_hops("10.77.1.1/32")
        assert kernel_hops(fabric.host, "10.77.0.0/16") == ["10.0.1.2%eth0"]
        host.config_path.write_text(config(leaf(1)))
        host.reload()
        host.wait_hops("10.77.1.1/32", "10.0.1.2%eth0")
        fabric.host.ip("route", "del", "10.77.1.0/24", "proto", "250")
        host.wait_hops("10.0.2.2/32", "10.0.1.2%eth0")
        fabric.host.ip("route", "del", "default")
        host.wait_hops("32.0.0.0/3", "10.0.1.2%eth0")
        fabric.host.ip("route", "add", "default", "via", "192.168.5.254")
        host.wait_hops("32.0.0.0/3")


def test_what_is_named_is_installed(fabric: Fabric, management: None) -> None:
    named = ("10.0.2.2/32", "192.168.0.0/16", "0.0.0.0/1", "198.51.100.7/32")
    with (
        WirePeer(fabric.leaf1) as leaf1,
        started(fabric, leaf(1), leaf(2), MQTT, table("[fib]", override=list(named))) as host,
    ):
        connection = leaf1.establish()
        host.wait_established("leaf1")
        connection.sendall(update((*named, "128.0.0.0/1"), asn=65201))
        for prefix in named:
            host.wait_hops(prefix, "10.0.1.2%eth0")
        assert kernel_hops(fabric.host, "128.0.0.0/1") == []


def test_workload_that_moved_is_reached_by_its_host_route(fabric: Fabric, management: None) -> None:
    fabric.host.addresses("pod2", "10.64.9.1/24")
    try:
        with WirePeer(fabric.leaf1) as leaf1, started(fabric, leaf(1)) as host:
            connection = leaf1.establish()
            host.wait_established("leaf1")
            connection.sendall(update(("10.64.9.7/32",), asn=65201))
            host.wait_hops("10.64.9.7/32", "10.0.1.2%eth0")
    finally:
        fabric.host.ip("addr", "del", "10.64.9.1/24", "dev", "pod2")


def open_session(fabric: Fabric) -> socket.socket:
    """A session that leaf2 itself opens, kept alive."""
    with fabric.leaf2.entered():
        connection = socket.create_connection(("10.0.2.1", 179), timeout=10, source_address=("10.0.2.2", 0))
    connection.sendall(open_message(65202, hold_time_s=3) + message(KEEPALIVE))
    while receive(connection)[0] != KEEPALIVE:
        pass
    return connection


@pytest.mark.parametrize("passive", [False, True], ids=["dialed", "accepted"])
def test_a_connected_session_stays_on_its_link_whatever_routes_say(fabric: Fabric, passive: bool) -> None:
    """Even where fib.override lets leaf1 have leaf2's address."""
    neighbors = leaf(1), leaf(2, passive=passive, hold_time_s=3)
    with (
        contextlib.ExitStack() as stack,
        WirePeer(fabric.leaf1) as leaf1,
        started(fabric, *neighbors, table("[fib]", override=["10.0.2.2/32"])) as host,
    ):
        connection = leaf1.establish()
        if passive:
            to_leaf2 = stack.enter_context(open_session(fabric))
        else:
            to_leaf2 = stack.enter_context(WirePeer(fabric.leaf2, "10.0.2.2", asn=65202)).establish()
        host.wait_established("leaf1", "leaf2")
        connection.sendall(update(("10.0.2.2/32",), asn=65201))
        host.wait_hops("10.0.2.2/32", "10.0.1.2%eth0")
        for _ in range(3):
            while receive(to_leaf2)[0] != KEEPALIVE:
                pass
            to_leaf2.sendall(message(KEEPALIVE))
        assert kernel_hops(fabric.host, "10.0.2.2/32") == ["10.0.1.2%eth0"]
        assert host.neighbor("leaf2")["established_count"] == 1
