"""The fabric spreads a service over hosts in proportion to their backends: by the link bandwidth that they announce."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from typing import Any

import pytest

from labs.daemons import Bird, Frr, Gobgp
from labs.namespace import link
from labs.process import wait_until
from tests.daemon.fabric import Fabric, Host, frr_config, frr_paths, leaf, started, table
from tests.daemon.feed import API
from tests.interop.test_bird import bird_config
from tests.interop.test_gobgp import CONFIG as GOBGP

pytestmark = pytest.mark.netns

SERVICE, SERVICE6 = "10.64.100.1", "2001:db8:64::100"
HERE, THERE = "10.0.1.1", "10.0.12.2"
PODS = tuple((f"pod{number}", f"10.64.1.{number}", f"2001:db8:64::{number}") for number in (1, 2))


@pytest.fixture(scope="module")
def second(fabric: Fabric) -> Iterator[Host]:
    """Another host below leaf1, in the place of leaf2, with one pod."""
    link(fabric.leaf1, "swp2", fabric.leaf2, "eth9")
    fabric.leaf1.addresses("swp2", "10.0.12.1/24", "2001:db8:12::1/64")
    fabric.leaf2.addresses("eth9", "10.0.12.2/24", "2001:db8:12::2/64")
    link(fabric.leaf2, "pod1", fabric.pods, "far1")
    router = table("[router]", asn=65204, router_id="10.255.1.2", hostname="host2")
    there = table("[[neighbor]]", name="leaf1", address="10.0.12.1", asn=65201, connect_retry_s=1, import_="all")
    with Host(fabric.leaf2, "\n".join([router, there, API])) as host:
        put_pods(host, 1)
        yield host


def put_pods(host: Host, count: int) -> None:
    for interface, *addresses in PODS[:count]:
        words = [word for address in addresses for word in ("--address", address)]
        host.cli("workload", "add", interface, *words, "--interface", interface)


def offer(host: Host, *weights: int, drained: int = 0, **fields: Any) -> None:
    backends = [
        {"id": id, "addresses": addresses, "weight": weight, "drain": number == drained}
        for number, ((id, *addresses), weight) in enumerate(zip(PODS, weights), 1)
    ]
    file = host.directory / "service.json"
    file.write_text(json.dumps({"addresses": [SERVICE, SERVICE6], "backends": backends, **fields}))
    host.cli("service", "add", "web", str(file))


def leaf_with_both() -> str:
    """FRR with the sessions to both hosts; of two AS paths of one length both are used."""
    lines = (
        "bgp bestpath as-path multipath-relax",
        f"neighbor {THERE} remote-as 65204",
        f"neighbor {THERE} timers connect 1",
    )
    return frr_config(1, *lines).replace("exit-address-family", f"neighbor {THERE} activate\nexit-address-family")


def bandwidths(frr: Frr, prefix: str) -> set[str]:
    return {path.get("extendedCommunity", {}).get("string", "") for path in frr_paths(frr, prefix)}


def test_the_leaf_s_kernel_spreads_over_hosts_by_their_healthy_backends(fabric: Fabric, second: Host) -> None:
    with Frr(fabric.leaf1, leaf_with_both()) as frr, started(fabric, leaf(1), API) as first:
        put_pods(first, 2)
        offer(first, 1, 2)
        offer(second, 1)

        def shares(prefix: str = SERVICE) -> dict[str, float]:
            return shares_of(fabric, prefix)

        first.wait(lambda: shares() == {HERE: 0.75, THERE: 0.25}, f"3 to 1; {shares()}")
        first.wait(lambda: sorted(shares(SERVICE6).values()) == [0.25, 0.75], "IPv6 too")
        assert bandwidths(frr, f"{SERVICE}/32") == {"LB:65203:375000 (3.000 Mbps)", "LB:65204:125000 (1.000 Mbps)"}
        assert first.get("services")[0]["bandwidth"] == {SERVICE: 375000, SERVICE6: 375000}
        offer(first, 1, 2, drained=2)
        first.wait(lambda: shares() == {HERE: 0.5, THERE: 0.5}, "1 to 1 when a backend is drained")
        offer(first, 1, 2, weight_from="none")
        first.wait(lambda: "" in bandwidths(frr, f"{SERVICE}/32"), "no link bandwidth of the first")
        first.wait(lambda: shares() == {HERE: 0.5, THERE: 0.5}, "equal shares where not all have one")
        offer(first, 1, 2)
        first.wait(lambda: shares() == {HERE: 0.75, THERE: 0.25}, "3 to 1 again")
        more = table("[workload.services]", link_bandwidth_per_weight=1_000_000)
        first.reload_with(leaf(1), API, more)
        first.wait(lambda: "LB:65203:3000000 (24.000 Mbps)" in bandwidths(frr, f"{SERVICE}/32"), "the new unit")
        assert first.neighbor("leaf1")["flaps"] == 0


def shares_of(fabric: Fabric, prefix: str) -> dict[str, float]:
    """By gateway, which part of what goes to a prefix leaf1's kernel sends there."""
    family = "-6" if ":" in prefix else "-4"
    routes = json.loads(fabric.leaf1.ip("-j", family, "route", "show", prefix))
    objects = {one["id"]: one for one in json.loads(fabric.leaf1.ip("-j", "nexthop"))}
    members = objects.get(routes[0].get("nhid"), {}).get("group", []) if routes else []
    found = {objects[one["id"]]["gateway"]: one.get("weight", 1) for one in members}
    return {gateway: weight / sum(found.values()) for gateway, weight in found.items()}


def test_bird_and_gobgp_read_the_community(fabric: Fabric) -> None:
    with started(fabric, leaf(1), API) as host:
        put_pods(host, 2)
        offer(host, 1, 3)
        with Bird(fabric.leaf1, bird_config()) as bird:
            host.wait_established("leaf1")
            said = f"(unknown 0x4, 65203, {int.from_bytes(struct.pack('!f', 500_000))})"
            wait_until(lambda: said in bird.birdc(f"show route {SERVICE}/32 all"), 15, said, logs=bird.logs)
        with Gobgp(fabric.leaf1, GOBGP) as gobgp:
            host.wait_established("leaf1")
            wait_until(lambda: "Extcomms" in gobgp.run("global", "rib"), 15, "GoBGP to have it", logs=gobgp.logs)
            assert "{Extcomms: [65203:500000]}" in gobgp.run("global", "rib")
