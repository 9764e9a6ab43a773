"""[fib] preferred_source on an unnumbered fabric: from which address the host itself speaks."""

from __future__ import annotations

import json

import pytest

from tests.daemon.fabric import Fabric, kernel_hops, kernel_routes, leaf, started, table

pytestmark = pytest.mark.netns

NETWORKS = ("10.9.0.0/16", "2001:db8:900::/48")
LOOPBACK, LOOPBACK6 = "10.255.1.1", "2001:db8:ff::1"


def source(fabric: Fabric, prefix: str) -> str:
    """The preferred source of a kernel route of bgpd's."""
    found = kernel_routes(fabric.host, ipv6=":" in prefix).get(prefix, {})
    return str(found.get("prefsrc", "")) if found else "no route"


def hops(fabric: Fabric, prefix: str) -> list[str]:
    """The interfaces that a kernel route leads to."""
    return sorted(hop.partition("%")[2] for hop in kernel_hops(fabric.host, prefix))


def test_the_host_speaks_from_its_loopback_on_an_unnumbered_fabric(fabric: Fabric) -> None:
    """Two leaves, ECMP, IPv4 by IPv6 next hops; the loopback goes and comes back, and a leaf dies."""
    for interface in ("eth0", "eth1"):
        fabric.host.batch(f"addr flush dev {interface} scope global")
    fabric.host.addresses("lo", f"{LOOPBACK}/32", f"{LOOPBACK6}/128")
    for number, at in ((1, fabric.leaf1), (2, fabric.leaf2)):
        at.addresses("lo", "10.9.0.1/32", "2001:db8:900::1/128")
        mac = json.loads(fabric.host.ip("-j", "-6", "addr", "show", "dev", f"eth{number - 1}", "scope", "link"))
        gateway = mac[0]["addr_info"][0]["local"]
        at.batch(
            f"route add {LOOPBACK}/32 via inet6 {gateway} dev swp1",
            f"route add {LOOPBACK6}/128 via {gateway} dev swp1",
        )
    leaves = [
        leaf(number, address=None, interface=f"eth{number - 1}", asn="external", graceful_restart={})
        for number in (1, 2)
    ]
    fib = table("[fib]", preferred_source="loopback")
    with (
        fabric.frr(1, peer="swp1", networks=NETWORKS),
        fabric.frr(2, peer="swp1", networks=NETWORKS),
        started(fabric, *leaves, fib) as host,
    ):
        host.wait_established("leaf1", "leaf2")
        for prefix, own in zip(NETWORKS, (LOOPBACK, LOOPBACK6)):
            host.wait(lambda p=prefix: hops(fabric, p) == ["eth0", "eth1"], f"ECMP to {prefix}")
            assert source(fabric, prefix) == own
        assert f"src {LOOPBACK} " in fabric.host.ip("route", "get", "10.9.0.1")
        assert f"src {LOOPBACK6} " in fabric.host.ip("-6", "route", "get", "2001:db8:900::1")
        for address in ("10.9.0.1", "2001:db8:900::1"):
            fabric.host.run("ping", "-c", "1", "-W", "5", address)
        assert host.explain("10.9.0.1")["kernel"]["source"] == LOOPBACK

        fabric.host.batch(f"addr del {LOOPBACK}/32 dev lo", f"addr del {LOOPBACK6}/128 dev lo")
        for prefix in NETWORKS:
            host.wait(lambda p=prefix: source(fabric, p) == "", f"{prefix} without a source")
        host.wait(lambda: any("preferred_source" in text for text in host.health()["warnings"]), "the warning")
        assert host.health()["ready"], "routes are there, only from elsewhere"
        fabric.host.batch(f"addr add {LOOPBACK}/32 dev lo", f"addr add {LOOPBACK6}/128 dev lo")
        for prefix, own in zip(NETWORKS, (LOOPBACK, LOOPBACK6)):
            host.wait(lambda p=prefix, o=own: source(fabric, p) == o, f"{prefix} by its source again")
        assert not any("preferred_source" in text for text in host.health()["warnings"])

        fabric.leaf1.batch("link set swp1 down")
        for prefix, own in zip(NETWORKS, (LOOPBACK, LOOPBACK6)):
            host.wait(lambda p=prefix: hops(fabric, p) == ["eth1"], "one leaf")
            assert source(fabric, prefix) == own
        fabric.host.run("ping", "-c", "1", "-W", "5", "10.9.0.1")
        host.reload_with(*leaves)
        for prefix in NETWORKS:
            host.wait(lambda p=prefix: source(fabric, p) == "", "no source wanted any more")
        assert host.established() == ["leaf2"], "no session notices a reload of it"
        assert host.health()["fib_failed"] == 0
