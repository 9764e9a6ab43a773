"""[[neighbor]] interface = "eth*": a neighbor on each uplink, as uplinks come and go."""

from __future__ import annotations

import json

import pytest

from tests.daemon.fabric import Fabric, config, kernel_hops, leaf, table
from tests.daemon.managed import ManagedHost, managed

pytestmark = pytest.mark.netns

NETWORKS = ("10.9.0.0/16",)
FIELDS: dict[str, object] = {"address": None, "asn": "external", "hold_time_s": 90, "graceful_restart": {}}
LEAVES = leaf(1, **{**FIELDS, "name": "leaf", "interface": "eth*"})
SPINE = leaf(1, **{**FIELDS, "name": "spine", "interface": "eth1"})
POD = table("[[workload.static]]", prefix="10.64.1.5/32", interface="pod1")


def uplinks(fabric: Fabric) -> list[str]:
    """The interfaces by which the kernel forwards to the leaves."""
    return sorted(hop.partition("%")[2] for hop in kernel_hops(fabric.host, NETWORKS[0]))


def names(host: ManagedHost) -> list[str]:
    return sorted(view["name"] for view in host.get("neighbors"))


def test_neighbors_come_and_go_with_the_uplinks_that_match(fabric: Fabric) -> None:
    with (
        fabric.frr(1, peer="swp1", networks=NETWORKS),
        fabric.frr(2, peer="swp1", networks=NETWORKS),
        managed(fabric, LEAVES, POD) as host,
    ):
        host.wait_established("leaf-eth0", "leaf-eth1")
        host.wait(lambda: uplinks(fabric) == ["eth0", "eth1"], "both leaves")
        host.wait_ready()
        assert names(host) == ["leaf-eth0", "leaf-eth1"]
        assert host.metric("bgpd_neighbor_established", neighbor="leaf-eth1") == 1
        since = host.neighbor("leaf-eth0")["since"]

        host.hand_over()
        assert host.established() == ["leaf-eth0", "leaf-eth1"]
        assert host.health()["last_handover"]["adopted"] == 2
        assert host.neighbor("leaf-eth0")["since"] == since, "the session went on"

        fabric.host.batch("link del eth1")
        host.wait(lambda: names(host) == ["leaf-eth0"], "the neighbor to go with its interface")
        host.wait(lambda: uplinks(fabric) == ["eth0"], "one leaf")
        host.wait(lambda: host.health()["ready"], "the host to be ready: what is not there is not missed")
        fabric.link_leaf(2)
        host.wait_established("leaf-eth1")
        host.wait(lambda: uplinks(fabric) == ["eth0", "eth1"], "both leaves again")

        fabric.host.batch("link set eth1 down", "link set eth1 name wan1", "link set wan1 up")
        host.wait(lambda: names(host) == ["leaf-eth0"], "no neighbor on what has another name")
        fabric.host.batch("link set wan1 down", "link set wan1 name eth1", "link set eth1 up")
        host.wait_established("leaf-eth1")

        host.write_config(config(LEAVES.replace("eth*", "eth0*"), POD))
        plan = json.loads(host.cli("plan", "--json", str(host.directory / "bgpd.toml")))
        assert [(change["path"], change["effect"]) for change in plan] == [("neighbor.leaf-eth1", "reset")]
        host.reload_with(SPINE, LEAVES, POD)
        host.wait_established("spine")
        assert names(host) == ["leaf-eth0", "spine"], "a neighbor that names the interface wins"
        host.reload_with(LEAVES.replace("eth*", "eth[0-9]"), POD)
        host.wait_established("leaf-eth1")

        fabric.host.batch(f"link set eth1 netns {fabric.pods.name}")
        host.wait(lambda: names(host) == ["leaf-eth0"], "the neighbor to go with its interface")
        assert host.neighbor("leaf-eth0")["since"] == since, "no other session notices any of it"
        assert host.neighbor("leaf-eth0")["flaps"] == 0

        host.reload_with(LEAVES.replace("eth*", "uplink*"), POD)
        assert names(host) == ["leaf"]
        assert host.neighbor("leaf")["last_error"] == 'no interface matches "uplink*" now'
        host.wait(lambda: "no neighbor is established" in host.health()["reasons"], "the host to miss its leaves")
