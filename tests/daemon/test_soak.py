"""Everything at once for half a minute: sessions, routes, links, reloads and other programs; in the end all agree."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator

import pytest

from labs.daemons import Bird, Frr
from tests.daemon.fabric import (
    Fabric,
    Host,
    announce,
    config,
    kernel_hops,
    kernel_routes,
    leaf,
    started,
    table,
)

pytestmark = pytest.mark.netns

SECONDS = 30.0
WARM_UP_S = 10.0
CRASHES = 5
GROWTH_BYTES = 3_000_000
BOTH = ("10.0.1.2%eth0", "10.0.2.2%eth1")
SHARED = [f"10.30.{number}.0/24" for number in range(100)]
FROM_1 = [f"10.31.{number}.0/24" for number in range(20)]
FOREIGN = "10.30.7.0/24"
PODS = [f"10.64.2.{number}" for number in range(1, 41)]
STATIC = table("[[workload.static]]", prefix="10.64.1.5/32", interface="pod1")
TABLES = (leaf(1), leaf(2), STATIC, table("[workload.kernel]", interfaces=["pod2"]))
BIRD = f"""
router id 10.255.0.2;
protocol device {{ }}
protocol static many {{ ipv4; {" ".join(f"route {prefix} unreachable;" for prefix in SHARED)} }}
protocol bgp host {{
  local 10.0.2.2 as 65202; neighbor 10.0.2.1 as 65203;
  connect delay time 1; connect retry time 1; error wait time 1, 2;
  ipv4 {{ import all; export where source = RTS_STATIC; next hop self; }};
}}
"""


@pytest.fixture(scope="module")
def leaf1(fabric: Fabric) -> Iterator[Frr]:
    with fabric.frr(1, networks=(*SHARED, *FROM_1)) as frr:
        yield frr


@pytest.fixture(scope="module")
def leaf2(fabric: Fabric) -> Iterator[Bird]:
    with Bird(fabric.leaf2, BIRD) as bird:
        yield bird


class Turmoil:
    """Changes something at random at each call of `once`; `calm` puts everything back."""

    def __init__(self, fabric: Fabric, host: Host, leaf1: Frr, leaf2: Bird) -> None:
        self.fabric, self.host, self.leaf1, self.leaf2 = fabric, host, leaf1, leaf2
        self.chance = random.Random(20)
        self.done: dict[str, int] = {}
        self.pods: set[str] = set()
        self.foreign = False
        self.steps: list[Callable[[], None]] = [
            self.reset_session_of_leaf1,
            self.restart_session_of_leaf2,
            self.withdraw_and_announce,
            self.lose_and_enable_all_of_leaf2,
            self.flap_own_end,
            self.flap_far_end,
            self.reload_with_a_policy,
            self.reload_with_a_workload,
            self.add_or_remove_pods,
            self.delete_routes_of_ours,
            self.delete_next_hops,
            self.add_or_remove_a_foreign_route,
            self.ask,
        ]

    def crash(self) -> None:
        self.host.kill()
        time.sleep(self.chance.random() / 2)
        self.host.start()

    def once(self) -> None:
        step = self.chance.choice(self.steps)
        self.done[step.__name__] = self.done.get(step.__name__, 0) + 1
        step()

    def calm(self) -> None:
        self.leaf2.birdc("enable many")
        self.reload()
        if self.foreign:
            self.add_or_remove_a_foreign_route()
        self.add_pods(set(PODS) - self.pods)

    def reload(self, *tables: str) -> None:
        self.host.write_config(config(*TABLES, *tables))
        self.host.reload()

    def reset_session_of_leaf1(self) -> None:
        self.leaf1.vtysh("clear bgp 10.0.1.1")

    def restart_session_of_leaf2(self) -> None:
        self.leaf2.birdc("restart host")

    def withdraw_and_announce(self) -> None:
        chosen = self.chance.sample(FROM_1, 5)
        announce(self.leaf1, *chosen, withdraw=True)
        announce(self.leaf1, *chosen)

    def lose_and_enable_all_of_leaf2(self) -> None:
        self.leaf2.birdc("disable many")
        time.sleep(self.chance.random() / 10)
        self.leaf2.birdc("enable many")

    def flap_own_end(self) -> None:
        number = self.chance.randrange(2)
        self.fabric.host.ip("link", "set", f"eth{number}", "down")
        time.sleep(self.chance.random() / 5)
        self.fabric.host.ip("link", "set", f"eth{number}", "up")

    def flap_far_end(self) -> None:
        namespace = self.chance.choice((self.fabric.leaf1, self.fabric.leaf2))
        namespace.ip("link", "set", "swp1", "down")
        time.sleep(self.chance.random() / 5)
        namespace.ip("link", "set", "swp1", "up")

    def reload_with_a_policy(self) -> None:
        rules = '[policy.some]\nrules = [{ match = { prefix = ["10.30.0.0/16 le 24"] } }]\n'
        self.host.write_config(config(leaf(1, import_="some"), *TABLES[1:], rules))
        self.host.reload()

    def reload_with_a_workload(self) -> None:
        self.reload(table("[[workload.static]]", prefix="10.64.1.6/32", interface="pod1"))

    def add_or_remove_pods(self) -> None:
        self.remove_pods(set(self.chance.sample(sorted(self.pods), len(self.pods) // 2)))
        self.add_pods(set(self.chance.sample(PODS, 10)) - self.pods)

    def remove_pods(self, addresses: set[str]) -> None:
        if addresses:
            self.fabric.host.batch(*(f"route del {address} dev pod2" for address in sorted(addresses)))
        self.pods -= addresses

    def add_pods(self, addresses: set[str]) -> None:
        if addresses:
            self.fabric.host.batch(*(f"route add {address} dev pod2" for address in sorted(addresses)))
        self.pods |= addresses

    def delete_routes_of_ours(self) -> None:
        if self.chance.random() < 0.2:
            self.fabric.host.ip("route", "flush", "proto", "217")
        else:
            routes = sorted(kernel_routes(self.fabric.host))
            chosen = self.chance.sample(routes, min(3, len(routes)))
            for prefix in chosen:
                self.fabric.host.run("ip", "route", "del", prefix, "proto", "217", check=False)

    def delete_next_hops(self) -> None:
        objects = json.loads(self.fabric.host.ip("-j", "nexthop", "show") or "[]")
        if objects:
            chosen = self.chance.choice(objects)["id"]
            self.fabric.host.run("ip", "nexthop", "del", "id", str(chosen), check=False)

    def add_or_remove_a_foreign_route(self) -> None:
        self.fabric.host.ip("route", "del" if self.foreign else "add", FOREIGN, "dev", "pod1", "proto", "250")
        self.foreign = not self.foreign

    def ask(self) -> None:
        for target in ("routes", "fib", "workloads", "explain/10.30.7.1", "explain/10.31.3.1"):
            self.host.get(target)


def test_kernel_rib_and_leaves_agree_in_the_end(fabric: Fabric, leaf1: Frr, leaf2: Bird) -> None:
    with started(fabric, *TABLES) as host:
        host.wait_ready()
        turmoil = Turmoil(fabric, host, leaf1, leaf2)
        start, memory = time.monotonic(), 0.0
        while (age := time.monotonic() - start) < SECONDS:
            turmoil.once()
            time.sleep(turmoil.chance.random() / 5)
            if not memory and age > WARM_UP_S:
                memory = host.metric("bgpd_resident_memory_bytes")
        turmoil.calm()
        host.wait_established("leaf1", "leaf2")
        agree(fabric, host, leaf1, leaf2)
        turmoil.remove_pods(set(PODS))
        assert host.metric("bgpd_resident_memory_bytes") - memory < GROWTH_BYTES
        assert host.metric("bgpd_loop_stall_seconds") < 0.5
        assert not [record for record in host.log() if record["level"] == "error"]
        assert len(turmoil.done) == len(turmoil.steps)


def test_crashes_in_the_middle_of_it_cost_nothing(fabric: Fabric, leaf1: Frr, leaf2: Bird) -> None:
    with started(fabric, *TABLES) as host:
        host.wait_established("leaf1", "leaf2")
        turmoil = Turmoil(fabric, host, leaf1, leaf2)
        for _ in range(CRASHES):
            for _ in range(4):
                turmoil.once()
            turmoil.crash()
        turmoil.calm()
        host.wait_established("leaf1", "leaf2")
        agree(fabric, host, leaf1, leaf2)
        turmoil.remove_pods(set(PODS))


def agree(fabric: Fabric, host: Host, leaf1: Frr, leaf2: Bird) -> None:
    """What the leaves announce is in the RIB and in the kernel; what the host has is in the leaves."""
    for prefix in SHARED:
        host.wait_hops(prefix, *BOTH)
    for prefix in FROM_1:
        host.wait_hops(prefix, "10.0.1.2%eth0")
    own = {"10.64.1.5", *PODS}
    assert set(kernel_routes(fabric.host)) == {*SHARED, *FROM_1, "10.64.1.5"}
    rib = {view["prefix"]: view for view in host.get("routes")}
    assert set(rib) == {*SHARED, *FROM_1, *(f"{address}/32" for address in own)}
    assert {view["fib"] for view in rib.values()} == {"installed", "local"}
    host.wait_ready()
    assert host.health()["fib_pending"] == host.health()["fib_failed"] == 0
    for address in own:
        host.wait(lambda wanted=address: f"{wanted}/32" in of_host(leaf1), f"leaf1 to have {address}")
    assert of_host(leaf1) == {f"{address}/32" for address in own}
    said = leaf2.birdc("show route protocol host")
    assert {line.split()[0] for line in said.splitlines() if "unicast" in line} == {f"{address}/32" for address in own}
    assert host.explain("10.30.7.1")["agrees"]
    assert kernel_hops(fabric.host, "10.64.1.5/32") == ["pod1"]


def of_host(frr: Frr) -> set[str]:
    """The prefixes that a leaf has from the host."""
    routes = frr.vtysh_json("show bgp ipv4 unicast json")["routes"]
    return {prefix for prefix, paths in routes.items() if any(path["path"] == "65203" for path in paths)}
