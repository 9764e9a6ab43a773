"""`bgpd flush`: nothing of bgpd is left in the kernel, and nothing foreign is touched."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest

from bgpd.config.schema import FibConfig
from labs.namespace import Namespace
from labs.process import LabError
from tests.daemon.fabric import Fabric, Host, kernel_routes, leaf, started, table
from tests.daemon.wire_peer import WirePeer, update

pytestmark = pytest.mark.netns

PROTOCOL = str(FibConfig().protocol)
LEARNED = ("10.200.0.0/24", "10.201.0.0/24")
STATIC = table("[[workload.static]]", prefix="10.64.1.1/32", interface="pod1")
VRF = table("[[vrf]]", name="blue", table=1001, vni=5001)
TENANT = table("[[workload.static]]", prefix="10.64.2.1/32", interface="pod2", vrf="blue")


def ours(namespace: Namespace) -> list[Any]:
    """Routes and nexthop objects of bgpd's protocol, in all tables; the tenant's rules, and VRF devices."""

    def listed(*words: str) -> list[Any]:
        return [one for one in json.loads(namespace.ip("-j", "-N", *words) or "[]") if one]

    found = [one for family in ("-4", "-6") for one in listed(family, "route", "show", "table", "all")]
    found = [one for one in found + listed("nexthop", "show") if str(one.get("protocol")) == PROTOCOL]
    rules = [rule for family in ("-4", "-6") for rule in listed(family, "rule", "show")]
    return found + [rule for rule in rules if str(rule.get("table")) == "1001"] + listed("link", "show", "type", "vrf")


def flush(bgpd: Host) -> str:
    command = (sys.executable, "-m", "bgpd", "flush", "--config", str(bgpd.config_path))
    return bgpd.namespace.run(*command)


def test_nothing_of_bgpd_is_left_and_nothing_foreign_is_touched(fabric: Fabric) -> None:
    host = fabric.host
    host.ip("route", "replace", "192.0.2.0/24", "dev", "pod1", "proto", "static")
    with WirePeer(fabric.leaf1) as peer, started(fabric, leaf(1), STATIC, VRF, TENANT) as bgpd:
        connection = peer.establish()
        connection.sendall(update(LEARNED, asn=65201))
        bgpd.wait(lambda: set(LEARNED) <= set(kernel_routes(host)), "the leaf's routes")
        bgpd.wait(lambda: "10.64.2.1" in kernel_routes(host, table="1001"), "the tenant's workload")
        with pytest.raises(LabError, match="stop it first"):
            flush(bgpd)
        assert set(LEARNED) <= set(kernel_routes(host))
        bgpd.terminate()
        assert ours(host), "a daemon that ends leaves its routes"
        said = flush(bgpd)
        assert "removed" in said
        assert "VRF blue" in said
        assert ours(host) == []
        assert "proto static" in host.ip("route", "show", "192.0.2.0/24")
        assert "removed 0 routes" in flush(bgpd)
    host.ip("route", "del", "192.0.2.0/24")
