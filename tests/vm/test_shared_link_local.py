"""VLAN sub-interfaces share the MAC and so the link-local address of their parent: what leaves one stays on others."""

from __future__ import annotations

import pytest

from labs.namespace import Namespace, link
from labs.process import wait_until
from tests.daemon.fabric import Host, config, frr_config, table
from tests.vm.test_devices import Frr

pytestmark = pytest.mark.vm

WAIT_S = 60.0


def test_a_sub_interface_that_comes_and_goes_costs_no_session_of_its_parent() -> None:
    neighbor = table("[[neighbor]]", name="leaf1", interface="eth0", asn="external", import_="all", connect_retry_s=1)
    with Namespace("host", prefix="L") as host, Namespace("leaf1", prefix="L") as leaf:
        link(host, "eth0", leaf, "swp1")
        with (
            Frr(leaf, frr_config(1, peer="swp1", networks=("10.9.0.0/16",))),
            Host(host, config(neighbor)) as bgpd,
        ):
            # FRR 8.4 may end its first session at once, by a ConnectRetryTimer that had expired before: not one that
            # has sent all routes.
            bgpd.wait(lambda: bgpd.health()["ready"], "the session, and the leaf's End-of-RIB", WAIT_S)
            sessions = bgpd.neighbor("leaf1")["established_count"]
            for vlan in (101, 102):
                name = f"eth0.{vlan}"
                host.batch(f"link add link eth0 name {name} type vlan id {vlan}", f"link set {name} up")
                wait_until(lambda name=name: "fe80" in host.ip("addr", "show", name), WAIT_S, "a link-local address")
                host.batch(f"link set {name} down" if vlan == 101 else f"link del {name}")
                bgpd.wait(lambda name=name: "fe80" not in addresses(host, name), "the address to go", WAIT_S)
            host.batch("addr add 192.0.2.1/32 dev lo")
            bgpd.wait(lambda: "10.9.0.0/16" in host.ip("route", "show", "proto", "217"), "the route", WAIT_S)
            assert bgpd.neighbor("leaf1")["established_count"] == sessions


def addresses(namespace: Namespace, interface: str) -> str:
    return namespace.run("ip", "addr", "show", interface, check=False)
