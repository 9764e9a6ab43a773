"""A leaf of raw bytes announces what no leaf should: martians. Each costs itself only."""

from __future__ import annotations

import socket
import struct

import pytest

from tests.daemon.fabric import Fabric, Host, kernel_hops, kernel_routes, leaf, started
from tests.daemon.wire_peer import UPDATE, WirePeer, attribute, message, update

pytestmark = pytest.mark.netns

MARTIANS = (
    "0.0.0.0/8", "0.1.2.3/32", "127.0.0.0/8", "127.0.0.53/32", "169.254.0.0/16", "169.254.169.254/32", "224.0.0.0/4",
    "224.0.0.5/32", "240.0.0.0/4", "250.1.0.0/16", "255.255.255.255/32",
)  # fmt: skip
MARTIANS_IPV6 = ("::/128", "::1/128", "::ffff:0:0/96", "fe80::/10", "fe80::1/128", "ff00::/8", "ff02::5/128")
BOTH = ((1, 1), (2, 1))


def ipv6_update(*prefixes: str, next_hop: str = "2001:db8:1::2") -> bytes:
    """UPDATE with IPv6 prefixes of AS 65201."""
    nlri = b""
    for prefix in prefixes:
        address, _, length = prefix.partition("/")
        nlri += bytes((int(length),)) + socket.inet_pton(socket.AF_INET6, address)[: (int(length) + 7) // 8]
    reach = struct.pack("!HBB", 2, 1, 16) + socket.inet_pton(socket.AF_INET6, next_hop) + b"\0" + nlri
    attributes = attribute(0x40, 1, b"\0") + attribute(0x40, 2, struct.pack("!BBI", 2, 1, 65201))
    attributes += attribute(0x80, 14, reach)
    return message(UPDATE, struct.pack("!HH", 0, len(attributes)) + attributes)


def test_martians_are_ignored_told_once_and_counted(fabric: Fabric) -> None:
    with WirePeer(fabric.leaf1) as peer, started(fabric, leaf(1)) as host:
        connection = peer.establish(families=BOTH)
        host.wait_established("leaf1")
        for _ in range(2):
            connection.sendall(update((*MARTIANS, "10.9.0.0/16"), asn=65201))
            connection.sendall(ipv6_update(*MARTIANS_IPV6, "2001:db8:9::/48"))
        host.wait_hops("10.9.0.0/16", "10.0.1.2%eth0")
        host.wait_hops("2001:db8:9::/48", "2001:db8:1::2%eth0")
        total = 2 * (len(MARTIANS) + len(MARTIANS_IPV6))
        host.wait(lambda: host.neighbor("leaf1")["martians"] == total, "all martians to be counted")
        assert host.metric("bgpd_neighbor_martians_total", neighbor="leaf1") == total
        assert [view["prefix"] for view in host.get("routes")] == ["10.9.0.0/16", "2001:db8:9::/48"]
        assert list(kernel_routes(fabric.host)) == ["10.9.0.0/16"]
        assert list(kernel_routes(fabric.host, ipv6=True)) == ["2001:db8:9::/48"]
        told = [record["error"] for record in host.log("update.malformed")]
        assert len(told) == len(set(told)) == 10
        assert host.neighbor("leaf1")["established_count"] == 1


def test_martians_may_be_accepted_by_neighbor(fabric: Fabric) -> None:
    with WirePeer(fabric.leaf1) as peer, started(fabric, leaf(1, accept_martians=True)) as host:
        connection = peer.establish()
        connection.sendall(update(("240.0.0.0/4", "250.1.0.0/16"), asn=65201))
        host.wait_hops("250.1.0.0/16", "10.0.1.2%eth0")
        assert kernel_hops(fabric.host, "240.0.0.0/4") == ["10.0.1.2%eth0"]
        assert host.neighbor("leaf1")["martians"] == 0


def test_third_party_next_hops_only_in_the_shared_network(fabric: Fabric) -> None:
    """A leaf that names the other leaf as next hop takes its link; RFC 4271 section 6.3 has such routes ignored."""
    with WirePeer(fabric.leaf1) as peer, started(fabric, leaf(1)) as host:
        connection = peer.establish(families=BOTH)
        host.wait_established("leaf1")
        for _ in range(2):
            connection.sendall(update(("10.8.0.0/16",), asn=65201, next_hop="10.0.2.2"))
            connection.sendall(ipv6_update("2001:db8:8::/48", next_hop="2001:db8:2::2"))
        connection.sendall(update(("10.9.0.0/16",), asn=65201, next_hop="10.0.1.77"))
        connection.sendall(ipv6_update("2001:db8:9::/48", next_hop="2001:db8:1::77"))
        host.wait_hops("10.9.0.0/16", "10.0.1.77%eth0")
        host.wait_hops("2001:db8:9::/48", "2001:db8:1::77%eth0")
        assert list(kernel_routes(fabric.host)) == ["10.9.0.0/16"]
        assert list(kernel_routes(fabric.host, ipv6=True)) == ["2001:db8:9::/48"]
        for prefix in ("10.8.0.0/16", "2001:db8:8::/48"):
            (candidate,) = host.get("routes", prefix=prefix)[0]["candidates"]
            assert candidate["role"] == "rejected"
            assert "neither the neighbor nor in its network on eth0" in candidate["reason"]
        assert len(host.log("next_hop.refused")) == 2
        assert host.neighbor("leaf1")["established_count"] == 1
        # The network comes to be shared: what was refused counts.
        fabric.host.ip("addr", "add", "2001:db8:2::77/64", "dev", "eth0", "nodad")
        host.wait(lambda: kernel_routes(fabric.host, ipv6=True).keys() >= {"2001:db8:8::/48"}, "the route")
        fabric.host.ip("addr", "del", "2001:db8:2::77/64", "dev", "eth0")
        host.wait(lambda: list(kernel_routes(fabric.host, ipv6=True)) == ["2001:db8:9::/48"], "it to go")


def test_next_hop_that_the_kernel_refuses_costs_no_other_leaf_its_routes(fabric: Fabric) -> None:
    """The broadcast address of the shared network: a group with it is refused as a whole."""
    with (
        WirePeer(fabric.leaf1) as bad,
        WirePeer(fabric.leaf2, "10.0.2.2", asn=65202) as good,
        started(fabric, leaf(1), leaf(2)) as host,
    ):
        bad_session, good_session = bad.establish(), good.establish()
        bad_session.sendall(update(("10.8.0.0/16", "10.9.0.0/16"), asn=65201, next_hop="10.0.1.255"))
        good_session.sendall(update(("10.9.0.0/16",), asn=65202, next_hop="10.0.2.2"))
        host.wait_hops("10.9.0.0/16", "10.0.2.2%eth1")
        host.wait(lambda: "refuses" in _reason(host, "10.8.0.0/16"), "the kernel's words")
        assert list(kernel_routes(fabric.host)) == ["10.9.0.0/16"]
        host.wait_ready()
        assert host.neighbor("leaf1")["established_count"] == 1


def _reason(host: Host, prefix: str) -> str:
    """Why the only path of a prefix is not used."""
    views = host.get("routes", prefix=prefix)
    return str(views[0]["candidates"][0]["reason"]) if views else ""
