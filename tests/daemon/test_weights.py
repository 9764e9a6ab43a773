"""Weights of ECMP: the kernel's groups spread by the link bandwidth that FRR leaves send."""

from __future__ import annotations

import json
from typing import Any

import pytest

from labs.daemons import Frr
from tests.daemon.fabric import Fabric, frr_config, kernel_routes, leaf, started

pytestmark = pytest.mark.netns

PREFIX = "10.30.0.0/16"


def leaf_config(number: int, megabits: int) -> str:
    """A leaf that announces the prefix with its bandwidth, and another prefix without."""
    networks = (f"{PREFIX} route-map BANDWIDTH", "10.31.0.0/16")
    # FRR waits 5 s, unless told otherwise, before a changed route map counts.
    return frr_config(number, "bgp route-map delay-timer 1", networks=networks) + bandwidth(megabits)


def bandwidth(megabits: int) -> str:
    return f"route-map BANDWIDTH permit 10\nset extcommunity bandwidth {megabits}\nexit\n"


def weights(fabric: Fabric, prefix: str = PREFIX) -> dict[str, int]:
    """By gateway, the weights of the kernel group that a route points at, as `ip nexthop` has them."""
    group = kernel_routes(fabric.host).get(prefix, {}).get("nhid")
    objects: dict[int, dict[str, Any]] = {one["id"]: one for one in json.loads(fabric.host.ip("-j", "nexthop"))}
    members = objects[group]["group"] if group in objects else []
    return {objects[member["id"]]["gateway"]: member.get("weight", 1) for member in members}


def test_link_bandwidth_of_both_leaves_is_the_weight_of_the_kernel_s_group(fabric: Fabric) -> None:
    with (
        Frr(fabric.leaf1, leaf_config(1, 4000)) as leaf1,
        Frr(fabric.leaf2, leaf_config(2, 10000)) as leaf2,
        started(fabric, leaf(1), leaf(2)) as host,
    ):
        host.wait(lambda: weights(fabric) == {"10.0.1.2": 2, "10.0.2.2": 5}, "weights of 2 and 5")
        host.wait(lambda: weights(fabric, "10.31.0.0/16") == {"10.0.1.2": 1, "10.0.2.2": 1}, "equal weights")
        said = host.cli("explain", "10.30.0.1")
        assert "weight 5" in said, said
        leaf1.configure(leaf_config(1, 10000))
        leaf1.vtysh("clear bgp * soft out")
        host.wait(lambda: weights(fabric) == {"10.0.1.2": 1, "10.0.2.2": 1}, "equal weights by equal bandwidth")
        leaf2.configure(leaf_config(2, 20000))
        leaf2.vtysh("clear bgp * soft out")
        host.wait(lambda: weights(fabric) == {"10.0.1.2": 1, "10.0.2.2": 2}, "weights of 1 and 2")
        leaf1.kill()
        host.wait(lambda: set(weights(fabric)) == {"10.0.2.2"}, "the leaf that is left")
