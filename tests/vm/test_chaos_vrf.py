"""Random faults to a session inside a VRF that has a device: what `make chaos` cannot do without VRF devices.

Each fault comes once, in an order that a seed decides, some at the same time. Then leaf, kernel table and daemon must
be as the last of them says.
"""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable, Iterator

import pytest

from labs.daemons import Frr
from labs.process import LabError
from tests.daemon.fabric import Fabric, announce, frr_config, heard_from_host, kernel_routes, leaf, table
from tests.daemon.managed import ManagedHost, managed

pytestmark = [pytest.mark.netns, pytest.mark.vm, pytest.mark.long]

SEED, ROUND = 17, 3
CALM_S = 120.0
BLUE = table(
    "[[vrf]]", name="blue", table=1001, import_rt=["65201:1"], export_rt=["65201:1"], vni=5001, uplinks=["eth0"]
)
POD = "10.64.1.5/32"
WORKLOAD = table("[[workload.static]]", prefix=POD, interface="pod1", vrf="blue")
FOREIGN = "10.99.0.0/24"
ROUTES = [f"10.40.{number}.0/24" for number in range(20)]


class Faults:
    """Each step is a method. `announced` is what the leaf has, `hold_time_s` what the configuration says."""

    def __init__(self, fabric: Fabric, frr: Frr, host: ManagedHost, chance: random.Random) -> None:
        self.fabric, self.frr, self.host, self.chance = fabric, frr, host, chance
        self.announced = set(ROUTES[:10])
        self.hold_time_s = 9

    def steps(self) -> list[Callable[[], None]]:
        return [
            self.change_routes,
            self.change_routes,
            self.cut_link,
            self.clear,
            self.kill_leaf,
            self.hand_over,
            self.kill_daemon,
            self.delete_routes,
            self.change_hold_time,
        ]

    def change_routes(self) -> None:
        chosen = self.chance.sample(ROUTES, 8)
        gone = [prefix for prefix in chosen if prefix in self.announced]
        new = [prefix for prefix in chosen if prefix not in self.announced]
        announce(self.frr, *gone, withdraw=True)
        announce(self.frr, *new)
        self.announced = self.announced - {*gone} | {*new}

    def cut_link(self) -> None:
        for state in ("down", "up"):
            self.fabric.leaf1.ip("link", "set", "swp1", state)

    def clear(self) -> None:
        self.frr.vtysh("clear bgp *")

    def kill_leaf(self) -> None:
        self.frr.restart_bgpd(frr_config(1, networks=tuple(sorted(self.announced))))

    def hand_over(self) -> None:
        self.host.hand_over(converges=False)

    def kill_daemon(self) -> None:
        began = len(self.host.log("bgpd.started"))
        os.kill(self.host.pid(), signal.SIGKILL)
        self.host.wait(lambda: len(self.host.log("bgpd.started")) > began, "another process", timeout_s=CALM_S)

    def delete_routes(self) -> None:
        self.fabric.host.run("ip", "route", "flush", "table", "1001", "proto", "217", check=False)

    def change_hold_time(self) -> None:
        self.hold_time_s = 12
        self.host.reload_with(*tables(self.hold_time_s))

    def missing(self) -> Iterator[str]:
        """What of kernel, leaf and daemon is not (yet) as it should be."""
        inside, outside = kernel_routes(self.fabric.host, table="1001"), kernel_routes(self.fabric.host)
        if (learned := {prefix for prefix in inside if prefix in ROUTES}) != self.announced:
            yield f"the VRF has {sorted(learned)} in place of {sorted(self.announced)}"
        if leaked := outside.keys() & {*ROUTES}:
            yield f"the main table has {sorted(leaked)}"
        if FOREIGN not in self.fabric.host.ip("-4", "route", "show", "table", "1001", "proto", "99"):
            yield "the route of another program is gone"
        if not heard_from_host(self.frr, POD):
            yield f"the leaf has not {POD}"
        if not (health := self.host.health())["ready"]:
            yield f"not ready: {health['reasons']}"
        if (hold_time_s := self.host.neighbor("leaf1")["hold_time_s"]) != self.hold_time_s:
            yield f"the hold time is {hold_time_s} in place of {self.hold_time_s}"

    def wait_calm(self, when: str) -> None:
        """Raises: AssertionError: not all is as it should be, though nothing was done for long."""
        found = [""]

        def is_calm() -> bool:
            found[:] = self.missing()
            return not found

        try:
            self.host.wait(is_calm, "all to be as it should", timeout_s=CALM_S)
        except LabError as error:
            raise AssertionError(f"{when}: {found}") from error


def tables(hold_time_s: int) -> tuple[str, ...]:
    return BLUE, leaf(1, vrf="blue", families=["ipv4-unicast"], hold_time_s=hold_time_s), WORKLOAD


def test_session_inside_a_vrf_is_as_it_should_be_after_any_faults() -> None:
    chance = random.Random(SEED)
    with Fabric() as fabric, fabric.frr(1, networks=tuple(ROUTES[:10])) as frr, managed(fabric, *tables(9)) as host:
        faults = Faults(fabric, frr, host, chance)
        host.wait(
            lambda: POD.partition("/")[0] in " ".join(kernel_routes(fabric.host, table="1001")), "the VRF", CALM_S
        )
        fabric.host.ip("route", "add", "blackhole", FOREIGN, "table", "1001", "proto", "99")
        faults.wait_calm("at the start")
        steps = chance.sample(faults.steps(), len(faults.steps()))
        while steps:
            made = [steps.pop() for _ in range(min(ROUND, len(steps)))]
            for step in made:
                step()
            faults.wait_calm(f"after {', '.join(step.__name__ for step in made)}")
