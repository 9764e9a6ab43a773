"""bgpd-bfd.service under a real systemd, beside bgpd.service: what it may, what it has, and what a restart of either is
to a leaf with FRR."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from labs.daemons import Frr
from labs.machine import Machine
from labs.namespace import Namespace, link
from labs.process import LabError, wait_until
from tests.daemon.fabric import frr_config
from tests.installed.test_unit import CONFIG, Unit, install

pytestmark = pytest.mark.netns

WITH_BFD = CONFIG.replace('address = "10.0.1.0"', 'address = "10.0.1.2"\nbfd = { interval_ms = 100 }')


class Both:
    """The two units on a machine, and the leaf beside it."""

    def __init__(self, machine: Machine, frr: Frr) -> None:
        self.machine = machine
        self.frr = frr
        self.bgpd = Unit(machine)

    def pid(self) -> str:
        """Process id of bgpd-bfd."""
        return self.machine.run("systemctl", "show", "--value", "--property", "MainPID", "bgpd-bfd").strip()

    def journal(self) -> str:
        return self.machine.run("journalctl", "--unit=bgpd-bfd", "--no-pager", "--output=cat")

    def is_up(self) -> bool:
        views = self.bgpd.show("bfd")
        return bool(views) and all(view["state"] == "up" for view in views)

    def downs(self) -> int:
        return sum(one["session-down"] for one in self.frr.vtysh_json("show bfd peers counters json"))


@pytest.fixture(scope="module")
def both() -> Iterator[Both]:
    with Namespace("machine", prefix="S") as network, Namespace("leaf", prefix="S") as leaf, ExitStack() as stack:
        link(network, "eth0", leaf, "swp1")
        network.addresses("eth0", "10.0.1.1/24")
        leaf.addresses("swp1", "10.0.1.2/24")
        network.batch("link add pod1 type veth peer name pod1p", "link set pod1 up", "link set pod1p up")
        try:
            machine = stack.enter_context(Machine(network))
        except LabError as error:
            pytest.skip(f"no systemd can be booted here: {error}")
        install(machine)
        machine.write("/etc/bgpd/bgpd.toml", WITH_BFD)
        frr = stack.enter_context(Frr(leaf, frr_config(1, "neighbor 10.0.1.1 bfd 3 100 100"), bfd=True))
        machine.run("systemctl", "start", "bgpd-bfd", "bgpd")
        made = Both(machine, frr)
        made.bgpd.wait(made.is_up, "BFD to be Up")
        yield made


def test_process_is_the_users_in_real_time_and_without_capabilities(both: Both) -> None:
    pid = both.pid()
    status = dict(re.findall(r"^(\w+):\s*(.*)$", both.machine.run("cat", f"/proc/{pid}/status"), re.MULTILINE))
    assert [int(status[kind], 16) for kind in ("CapPrm", "CapEff", "CapBnd", "CapAmb")] == [0, 0, 0, 0]
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    can_raise = "1" in both.machine.run("sh", "-c", "prlimit --rtprio=10:10 true && echo 1 || echo 0")
    scheduled = ["FF", "10"] if can_raise else ["TS", "-"]  # a machine without CAP_SYS_RESOURCE
    assert both.machine.run("ps", "-o", "user=,cls=,rtprio=", "-p", pid).split() == ["bgpd", *scheduled]
    assert int(both.machine.run("ps", "-o", "rss=", "-p", pid)) <= 14_000, "kilobytes"
    assert both.machine.run("stat", "-c", "%U %a", "/run/bgpd-bfd/bfd.sock").split() == ["bgpd", "600"]


def test_restart_of_bgpd_leaves_bfd_alone(both: Both) -> None:
    pid, downs = both.pid(), both.downs()
    both.machine.run("systemctl", "restart", "bgpd")
    both.bgpd.wait(both.is_up, "BFD to be Up")
    daemon = both.bgpd.property("MainPID")
    both.machine.run("kill", "-9", daemon)
    both.bgpd.wait(lambda: both.bgpd.property("MainPID") not in ("0", daemon), "bgpd to be started again")
    both.bgpd.wait(lambda: both.bgpd.property("ActiveState") == "active", "it to be ready")
    both.bgpd.wait(both.is_up, "BFD to be Up")
    assert (both.pid(), both.downs()) == (pid, downs)


def test_reload_of_bfd_is_not_seen_by_the_leaf(both: Both) -> None:
    pid, downs = both.pid(), both.downs()
    before = both.bgpd.show("bfd")[0]["discriminator"]
    both.machine.run("systemctl", "reload", "bgpd-bfd")
    wait_until(lambda: both.journal().count("listens on") > 1, 10, "it to begin again")
    both.bgpd.wait(both.is_up, "BFD to be Up")
    assert both.bgpd.show("bfd")[0]["discriminator"] == before
    assert (both.pid(), both.downs()) == (pid, downs)


def test_crash_of_bfd_is_mended_by_systemd(both: Both) -> None:
    pid = both.pid()
    both.machine.run("kill", "-9", pid)
    wait_until(lambda: both.pid() not in ("0", pid), 15, "bgpd-bfd to be started again")
    both.bgpd.wait(both.is_up, "BFD to be Up")
