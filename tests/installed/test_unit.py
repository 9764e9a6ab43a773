"""The installed unit under a real systemd: it becomes ready, restarts, and is as closed as it says."""

from __future__ import annotations

import importlib.metadata
import json
import re
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from labs.forms import NotCompiled, compiled_form
from labs.machine import Machine
from labs.namespace import Namespace
from labs.process import LabError, wait_until

pytestmark = pytest.mark.netns

ROOT = Path(__file__).parents[2]
PYTHON = "/usr/bin/python3"
"""Debian's: the tests' own may be below /root, which the unit does not see (ProtectHome)."""
WAIT_S = 30.0
CONFIG = """
[router]
asn = 65203
router_id = "10.255.1.1"

[[neighbor]]
name = "leaf1"
address = "10.0.1.0"
asn = 65201
import = "default-only"

[[workload.static]]
prefix = "10.64.1.5/32"
interface = "pod1"

[workload.api]

[workload.health]
command_directory = "/etc/bgpd/checks"
"""

RUNS_WORKLOADS = """
[Unit]
After=bgpd.service
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/true
ExecStop=/bin/sh -c '/opt/bgpd/bin/bgpd drain status --json >/run/at-the-end'
"""

# Its exit code tells what is not as it should be.
CHECK = """#!/bin/sh
grep -q '^CapPrm:.0000000000000000$' /proc/self/status || exit 11
grep -q '^CapInh:.0000000000000000$' /proc/self/status || exit 12
grep -q '^CapAmb:.0000000000000000$' /proc/self/status || exit 13
grep -q '^NoNewPrivs:.1$' /proc/self/status || exit 14
[ -z "$NOTIFY_SOCKET" ] || exit 15
[ "$(ulimit -c)" = 0 ] || exit 16
setsid sleep 4321 &
cp /bin/true /tmp/true && [ -s /tmp/true ] || exit 17
/tmp/true 2>/dev/null && exit 18
echo >/etc/bgpd/written 2>/dev/null && exit 19
exit 0
"""
SERVICE = {
    "addresses": ["10.64.100.1"],
    "backends": [{"id": "pod", "addresses": ["10.64.1.5"]}],
    "check": {"type": "exec", "command": "probe", "port": 80, "interval_s": 3, "timeout_s": 3, "rise": 1, "fall": 1},
}


def installed_packages() -> str:
    """The top-level names in site-packages of what requirements-host.lock has: all that `make install` would fetch."""
    names = re.findall(r"^([A-Za-z0-9._-]+)==", (ROOT / "requirements-host.lock").read_text(), re.MULTILINE)
    found = set()
    for name in names:
        for file in importlib.metadata.files(name) or ():
            if file.parts[0] != ".." and file.parts[0] != "__pycache__":
                found.add(str(file.locate()).removesuffix(str(file)) + file.parts[0])
    return " ".join(sorted(found))


def as_users_get_it() -> Path:
    """Where bgpd is in its compiled form; as plain Python if it cannot be compiled here."""
    try:
        return compiled_form()
    except NotCompiled:
        return ROOT


def install(machine: Machine) -> None:
    """As `make install`, but with the packages that are here already."""
    machine.run("make", "-C", str(ROOT), "install-files")
    machine.run(PYTHON, "-m", "venv", "--without-pip", "/opt/bgpd")
    (version,) = machine.run("ls", "/opt/bgpd/lib").split()
    assert version == f"python3.{sys.version_info.minor}", "the packages that are here are for another Python"
    target = f"/opt/bgpd/lib/{version}/site-packages"
    machine.run("sh", "-c", f"cp -a {installed_packages()} {as_users_get_it()}/bgpd {target}", timeout_s=120)
    machine.run(PYTHON, "-m", "compileall", "-q", "-j", "2", target, timeout_s=120, check=False)  # as pip does
    machine.write(
        "/opt/bgpd/bin/bgpd",
        "#!/opt/bgpd/bin/python\nfrom bgpd.__main__ import main\nraise SystemExit(main())\n",
        mode=0o755,
    )
    machine.write("/etc/bgpd/bgpd.toml", CONFIG)
    machine.write("/etc/bgpd/checks/probe", CHECK, mode=0o755)
    machine.run("systemd-sysusers")
    machine.run("systemctl", "daemon-reload")


class Unit:
    """bgpd.service on a machine."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine

    def property(self, name: str) -> str:
        return self.machine.run("systemctl", "show", "--value", "--property", name, "bgpd").strip()

    def show(self, view: str) -> Any:
        return json.loads(self.machine.run("/usr/local/bin/bgpd", "show", view, "--json"))

    def journal(self) -> str:
        return self.machine.run("journalctl", "--unit=bgpd", "--no-pager", "--output=cat")

    def wait(self, wanted: object, what: str) -> None:
        assert callable(wanted)
        try:
            wait_until(wanted, WAIT_S, what)
        except LabError as error:
            raise AssertionError(f"{error}\n{self.journal()[-4000:]}") from error

    def workloads(self) -> dict[str, str]:
        return {view["prefix"]: view["state"] for view in self.show("workloads")}


@pytest.fixture(scope="module")
def unit() -> Iterator[Unit]:
    with Namespace("machine", prefix="S") as network:
        network.batch(
            *("link add pod1 type veth peer name pod1p", "link set pod1 up", "link set pod1p up"),
            *("link add eth0 type veth peer name eth0p", "link set eth0 up", "addr add 10.0.1.1/31 dev eth0"),
        )
        with ExitStack() as stack:
            try:
                machine = stack.enter_context(Machine(network))
            except LabError as error:
                pytest.skip(f"no systemd can be booted here: {error}")
            install(machine)
            unit = Unit(machine)
            done = machine.run("sh", "-c", "systemctl start bgpd 2>&1; echo", check=False)
            assert unit.property("ActiveState") == "active", done + unit.journal()
            yield unit


def test_unit_starts_and_the_workload_is_in_place(unit: Unit) -> None:
    """`systemctl start` of a unit of Type=notify returns when the daemon said that it is ready."""
    assert (unit.property("SubState"), unit.property("NRestarts")) == ("running", "0")
    unit.wait(lambda: unit.workloads().get("10.64.1.5/32") == "announced", "the workload")
    assert "10.64.1.5" in unit.machine.run("ip", "route", "show", "proto", "bgpd")


def test_process_has_only_what_the_unit_gives(unit: Unit) -> None:
    pid = unit.property("MainPID")
    status = dict(re.findall(r"^(\w+):\s*(.*)$", unit.machine.run("cat", f"/proc/{pid}/status"), re.MULTILINE))
    for kind in ("CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(status[kind], 16) == 0x3400, kind
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    assert unit.machine.run("ps", "-o", "user=", "-p", pid).strip() == "bgpd"
    limits = unit.machine.run("cat", f"/proc/{pid}/limits")
    assert re.search(r"^Max core file size +0 +0 ", limits, re.MULTILINE)
    assert unit.property("TasksMax") == "512"
    assert unit.property("SocketBindDeny") != ""
    assert unit.machine.run("ls", "/proc/" + pid + "/root/root", check=False) == ""


def test_systemd_finds_no_fault_in_the_unit(unit: Unit) -> None:
    said = unit.machine.run("sh", "-c", "systemd-analyze verify /etc/systemd/system/bgpd.service 2>&1", check=False)
    assert "bgpd.service" not in said
    unit.machine.run("systemd-analyze", "security", "--threshold=20", "--no-pager", "bgpd.service")


def test_health_check_has_no_rights_and_leaves_nothing(unit: Unit) -> None:
    unit.machine.run("/usr/local/bin/bgpd", "service", "add", "web", "-", "--timeout", "30", stdin=json.dumps(SERVICE))
    unit.wait(lambda: [view["healthy"] for view in unit.show("services")] == [1], "the service to be healthy")
    unit.machine.run("/usr/local/bin/bgpd", "service", "del", "web")
    unit.wait(lambda: unit.machine.run("pgrep", "-f", "sleep 4321", check=False) == "", "what the check started to end")


def test_daemon_by_hand_gives_way_to_the_service(unit: Unit) -> None:
    command = (
        "sed 's,^.workload.api.,[api]\\nsocket = \"/run/by-hand.sock\"\\n&,' /etc/bgpd/bgpd.toml >/run/by-hand.toml"
    )
    unit.machine.run("sh", "-c", command)
    said = unit.machine.run("sh", "-c", "/opt/bgpd/bin/bgpd run --config /run/by-hand.toml 2>&1; echo code $?")
    assert f"another bgpd (process {unit.property('MainPID')}) keeps routes of protocol 217" in said
    assert said.endswith("code 1\n")


def test_service_starts_where_a_daemon_by_hand_made_the_runtime_directory(unit: Unit) -> None:
    unit.machine.run("systemctl", "stop", "bgpd")
    unit.machine.run("sh", "-c", "mkdir -p /run/bgpd; touch /run/bgpd/left; chown -R root:root /run/bgpd")
    unit.machine.run("systemctl", "start", "bgpd")
    owner = unit.machine.run("stat", "-c", "%U %a", "/run/bgpd").split()
    assert owner == ["bgpd", "755"]
    assert re.search(r"routes-\d+-217\.lock", unit.machine.run("ls", "/run/bgpd"))
    assert "bgpd.lock_fallback_directory" not in unit.journal()


def test_restart_and_a_crash_keep_the_routes(unit: Unit) -> None:
    before = unit.property("MainPID")
    unit.machine.run("systemctl", "restart", "bgpd")
    between = unit.property("MainPID")
    assert between != before
    unit.machine.run("kill", "-9", between)
    unit.wait(lambda: unit.property("MainPID") not in ("0", between), "the unit to be started again")
    unit.wait(lambda: unit.property("ActiveState") == "active", "it to be ready")
    unit.wait(lambda: unit.workloads().get("10.64.1.5/32") == "announced", "the workload")
    assert "10.64.1.5" in unit.machine.run("ip", "route", "show", "proto", "bgpd")


def test_journald_has_the_log_with_its_fields(unit: Unit) -> None:
    found = unit.machine.run("journalctl", "--unit=bgpd", "--no-pager", "--output=json", "BGPD_EVENT=bgpd.started")
    record = json.loads(found.splitlines()[-1])
    assert (record["PRIORITY"], record["SYSLOG_IDENTIFIER"]) == ("6", "bgpd")
    assert json.loads(record["MESSAGE"])["event"] == "bgpd.started"


def test_reload_is_asked_for_by_systemctl(unit: Unit) -> None:
    unit.machine.run("systemctl", "reload", "bgpd")
    assert "reload.done" in unit.journal()


def test_what_is_stopped_before_the_host_drains_it_where_that_is_configured(unit: Unit) -> None:
    def drain(*words: str) -> Any:
        return json.loads(unit.machine.run("/usr/local/bin/bgpd", "drain", *words, "--json"))

    assert unit.machine.run("systemctl", "is-active", "bgpd-drain").strip() == "active", "started with bgpd"
    unit.machine.run("systemctl", "stop", "bgpd-drain")
    assert drain("status")["state"] == "off"
    unit.machine.run("systemctl", "start", "bgpd-drain")
    unit.machine.write("/etc/bgpd/bgpd.toml", f"{CONFIG}\n[drain]\nsettle_s = 0\non_shutdown = true\n")
    unit.machine.run("systemctl", "reload", "bgpd")
    unit.machine.run("systemctl", "restart", "bgpd")
    assert drain("status")["state"] == "off", "a restart of bgpd is no shutdown"
    unit.machine.run("systemctl", "stop", "bgpd-drain", timeout_s=60)
    view = drain("status")
    assert (view["state"], view["stage"], view["shutdown"]) == ("drained", "all-withdrawn", True)
    unit.machine.run("/usr/local/bin/bgpd", "drain", "off")
    unit.machine.write("/etc/systemd/system/docker.service", RUNS_WORKLOADS)
    unit.machine.run("systemctl", "daemon-reload")
    unit.machine.run("systemctl", "start", "docker", "bgpd-drain")
    unit.machine.run("systemctl", "stop", "bgpd-drain", "docker", "bgpd", timeout_s=60)
    assert json.loads(unit.machine.run("cat", "/run/at-the-end"))["state"] == "drained", (
        "before what runs workloads ends"
    )
    unit.machine.write("/etc/bgpd/bgpd.toml", CONFIG)
    unit.machine.run("systemctl", "start", "bgpd")
    unit.machine.run("/usr/local/bin/bgpd", "drain", "off")


def test_configuration_with_errors_is_not_tried_again(unit: Unit) -> None:
    unit.machine.run("systemctl", "stop", "bgpd")
    unit.machine.write("/etc/bgpd/bgpd.toml", "nonsense = 1\n")
    unit.machine.run("systemctl", "start", "bgpd", check=False)
    assert (unit.property("ActiveState"), unit.property("ExecMainStatus")) == ("failed", "78")
    unit.machine.write("/etc/bgpd/bgpd.toml", CONFIG)
