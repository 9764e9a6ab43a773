"""As a service: an unprivileged user with the unit's three capabilities, and what systemd is told."""

from __future__ import annotations

import configparser
import itertools
import os
import shutil
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from labs.daemons import Frr
from labs.namespace import Namespace
from tests.daemon.fabric import Fabric, Host, config, heard_from_host, kernel_hops, leaf, table

pytestmark = pytest.mark.netns

UNIT = Path(__file__).parents[2] / "systemd/bgpd.service"
NOBODY = 65534
POD = table("[[workload.static]]", prefix="10.64.1.5/32", interface="pod1")


class Service(Host):
    """bgpd with variables that systemd sets; `unprivileged`: as nobody, with the unit's capabilities."""

    def __init__(
        self, namespace: Namespace, config: str, *, environment: Mapping[str, str], unprivileged: bool = False
    ) -> None:
        self._environment = dict(environment)
        self._unprivileged = unprivileged
        super().__init__(namespace, config)

    def start(self, *, wait: bool = True) -> None:
        """As Bgpd's."""
        command = [sys.executable, "-m", "bgpd", "run", "--config", str(self.config_path)]
        if self._unprivileged:
            shutil.chown(self.directory, NOBODY, NOBODY)
            command = [*as_service_user(), *command]
        process = self.namespace.popen(*command, log_path=self.log_path, env=self._environment)
        self.processes.append(process)
        if wait:
            self._wait_for_socket(self.socket_path, process)


def as_service_user() -> list[str]:
    """setpriv with the unit's capabilities, and nothing else."""
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[method-assign,assignment]
    unit.read(UNIT)
    names = unit["Service"]["AmbientCapabilities"].lower().replace("cap_", "+").split()
    assert unit["Service"]["CapabilityBoundingSet"] == unit["Service"]["AmbientCapabilities"]
    capabilities = ",".join(["-all", *names])
    command = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--no-new-privs"]
    return [*command, "--inh-caps", capabilities, "--ambient-caps", capabilities, "--bounding-set", capabilities]


class Systemd:
    """What the daemon tells on NOTIFY_SOCKET, with the time of each."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.told: list[tuple[float, str]] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        path.chmod(0o777)
        self._socket.setblocking(False)

    def close(self) -> None:
        self._socket.close()

    def lines(self) -> list[str]:
        """All assignments until now, in order."""
        while True:
            try:
                text = self._socket.recv(4096).decode()
            except BlockingIOError:
                return [line for _, line in self.told]
            self.told += [(time.monotonic(), line) for line in text.split("\n")]


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[Systemd]:
    systemd = Systemd(tmp_path / "notify")
    yield systemd
    systemd.close()


@pytest.fixture(scope="module")
def leaf1(fabric: Fabric) -> Iterator[Frr]:
    with fabric.frr(1, "neighbor 10.0.1.1 password secret", networks=("10.9.0.0/16", "2001:db8:9::/48")) as frr:
        yield frr


@pytest.fixture(scope="module")
def leaf2(fabric: Fabric) -> Iterator[Frr]:
    with fabric.frr(2, peer="swp1", networks=("10.9.0.0/16", "2001:db8:9::/48")) as frr:
        yield frr


def test_unprivileged_with_the_unit_s_capabilities(fabric: Fabric, leaf1: Frr, leaf2: Frr) -> None:
    """MD5 and port 179, unnumbered with Router Advertisements, kernel routes, a kill and a second start."""
    directory = fabric.host.make_directory("keys")
    password = directory / "leaf1.key"
    password.write_text("secret\n")
    shutil.chown(password, NOBODY, NOBODY)
    password.chmod(0o400)
    neighbors = leaf(1, password_file=str(password), passive=True) + leaf(
        2, address=None, interface="eth1", asn="external"
    )
    text = config(neighbors, POD, table("[workload.kernel]", interfaces=["pod2"]))
    with Service(fabric.host, text, environment={}, unprivileged=True) as host:
        status = Path(f"/proc/{host.pid}/status").read_text()
        assert f"Uid:\t{NOBODY}\t{NOBODY}" in status
        assert "CapEff:\t0000000000003400" in status
        host.wait_established("leaf1", "leaf2")
        host.wait_ready()
        assert host.health()["warnings"] == []
        host.wait(lambda: len(kernel_hops(fabric.host, "10.9.0.0/16")) == 2, "the route by both")
        host.wait(lambda: len(kernel_hops(fabric.host, "2001:db8:9::/48")) == 2, "the IPv6 route by both")
        fabric.host.ip("route", "add", "10.64.2.9/32", "dev", "pod2")
        for frr in (leaf1, leaf2):
            for prefix in ("10.64.1.5/32", "10.64.2.9/32"):
                host.wait(lambda wanted=prefix, by=frr: heard_from_host(by, wanted), f"the leaf to hear {prefix}")
        fabric.host.ip("route", "del", "10.9.0.0/16", "proto", "217")
        host.wait(lambda: len(kernel_hops(fabric.host, "10.9.0.0/16")) == 2, "the route again")
        host.kill()
        host.start()
        host.wait_established("leaf1", "leaf2")
        host.wait_ready()
        assert not [record for record in host.log() if record["level"] == "error"]
        fabric.host.ip("route", "del", "10.64.2.9/32", "dev", "pod2")


def test_systemd_is_told_ready_alive_reloading_stopping(fabric: Fabric, leaf2: Frr, systemd: Systemd) -> None:
    environment = {"NOTIFY_SOCKET": str(systemd.path), "WATCHDOG_USEC": "400000"}
    text = config(leaf(2, address=None, interface="eth1", asn="external"), POD)
    with Service(fabric.host, text, environment=environment) as host:
        host.wait(lambda: "READY=1" in systemd.lines(), "READY", timeout_s=5)
        host.wait(lambda: "STATUS=1 neighbors established, 3 routes" in systemd.lines(), "the status")
        assert any("not ready: no neighbor is established" in line for line in systemd.lines())
        host.wait(lambda: systemd.lines().count("WATCHDOG=1") >= 4, "signs of life", timeout_s=3)
        alive = [at for at, line in systemd.told if line == "WATCHDOG=1"]
        assert max(later - earlier for earlier, later in itertools.pairwise(alive)) < 0.4
        host.reload()
        host.wait(lambda: systemd.lines().count("READY=1") == 2, "the end of the reload")
        lines = systemd.lines()
        reloading = lines.index("RELOADING=1")
        assert lines[reloading + 1].startswith("MONOTONIC_USEC=")
        assert "READY=1" in lines[reloading:]
        assert host.terminate() == 0
        lines = systemd.lines()
        assert lines.count("STOPPING=1") == 1
        assert "READY=1" not in lines[lines.index("STOPPING=1") :]


def test_a_held_loop_is_no_sign_of_life(fabric: Fabric, systemd: Systemd) -> None:
    """The watchdog is fed by the event loop itself: a daemon that hangs is found out."""
    environment = {"NOTIFY_SOCKET": str(systemd.path), "WATCHDOG_USEC": "200000"}
    with Service(fabric.host, config(POD), environment=environment) as host:
        host.wait(lambda: "WATCHDOG=1" in systemd.lines(), "a sign of life")
        os.kill(host.pid, 19)
        time.sleep(0.2)
        before = len(systemd.lines())
        time.sleep(0.5)
        assert len(systemd.lines()) == before
        os.kill(host.pid, 18)


def test_lines_for_the_journal_bear_their_priority(fabric: Fabric) -> None:
    with Service(fabric.host, config(leaf(1), POD), environment={"JOURNAL_STREAM": "8:1"}) as host:
        host.wait(lambda: "bgpd.started" in host.log_path.read_text(), "the start")
        assert all(line.startswith("<") and line[2:4] == ">{" for line in host.log_path.read_text().splitlines())
