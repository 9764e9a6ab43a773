"""The Ansible role: ansible-lint finds nothing, and on a server with a real systemd a second run changes nothing."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from labs.machine import Machine
from labs.namespace import Namespace
from labs.process import LabError, wait_until
from tests.packages.built import ROOT

pytestmark = [pytest.mark.netns, pytest.mark.long]

ANSIBLE = ROOT / "packages/ansible"
PLAY = """
- hosts: localhost
  connection: local
  gather_facts: false
  vars:
    ansible_python_interpreter: /usr/bin/python3
  roles:
    - role: bgpd
      vars:
        bgpd_bfd: true
        bgpd_kernel_settings: false  # in a container they cannot be written
        bgpd_secrets:
          leaf1.key: "a secret of both"
        bgpd_fragments:
          workloads: |
            [[workload.static]]
            prefix = "10.64.1.5/32"
            interface = "pod1"
        bgpd_config: |
          [router]
          asn = 65203
          router_id = "10.255.1.1"

          [[neighbor]]
          name = "leaf1"
          address = "10.0.1.2"
          asn = 65201
          import = "ASKED"
          password_file = "/etc/bgpd/leaf1.key"
          max_prefixes = 10000
"""


def test_lint_finds_nothing() -> None:
    command = ["ansible-lint", "--offline", "--strict", "-q", "--profile", "production", "packages/ansible"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    with ExitStack() as stack:
        network = stack.enter_context(Namespace("machine", prefix="A"))
        network.batch(
            *("link add pod1 type veth peer name pod1p", "link set pod1 up", "link set pod1p up"),
            *("link add eth0 type veth peer name eth0p", "link set eth0 up", "addr add 10.0.1.1/24 dev eth0"),
        )
        try:
            machine = stack.enter_context(Machine(network))
        except LabError as error:
            pytest.skip(f"no systemd can be booted here: {error}")
        machine.run("rm", "-f", "/usr/sbin/policy-rc.d")
        machine.run("dpkg", "--purge", "openbgpd")
        yield machine


def played(machine: Machine, deb: Path, asked: str, *, check: bool = True) -> dict[str, int]:
    """What Ansible counts at the end: ok, changed, failed, ..."""
    machine.write("/run/play.yml", PLAY.replace("ASKED", asked))
    environment = ["HOME=/root", "LC_ALL=C.UTF-8", f"ANSIBLE_ROLES_PATH={ANSIBLE / 'roles'}", "ANSIBLE_NOCOLOR=1"]
    command = ["ansible-playbook", "-i", "localhost,", "-e", f"bgpd_package={deb}", "/run/play.yml"]
    script = 'cd /root && "$@" 2>&1 || echo "it failed"'
    said = machine.run("env", *environment, "sh", "-c", script, "sh", *command, timeout_s=300)
    assert ("it failed" not in said) is check, said
    (recap,) = re.findall(r"^localhost +: (.*)$", said, re.MULTILINE)
    return {name: int(number) for name, number in re.findall(r"(\w+)=(\d+)", recap)}


def test_role_installs_configures_and_starts_and_then_changes_nothing(machine: Machine, deb: Path) -> None:
    first = played(machine, deb, "default-only")
    assert first["changed"] > 5
    workloads = json.loads(machine.run("bgpd", "show", "workloads", "--json"))
    assert [view["prefix"] for view in workloads] == ["10.64.1.5/32"]
    for unit in ("bgpd", "bgpd-bfd"):
        assert machine.run("systemctl", "is-enabled", unit).strip() == "enabled"
    assert machine.run("stat", "-c", "%U %G %a", "/etc/bgpd/leaf1.key").strip() == "root bgpd 640"
    second = played(machine, deb, "default-only")
    assert (second["changed"], second["failed"]) == (0, 0)


def test_change_is_a_reload_and_errors_reach_no_daemon(machine: Machine, deb: Path) -> None:
    def pid() -> str:
        return machine.run("systemctl", "show", "--value", "--property", "MainPID", "bgpd").strip()

    def journal() -> str:
        return machine.run("journalctl", "--unit=bgpd", "--no-pager", "--output=cat")

    before = pid()
    assert played(machine, deb, "all")["changed"] == 2, "the file, and the reload"
    wait_until(lambda: "reload.done" in journal(), 30, "the reload")
    reloads = journal().count("reload.done")
    written = machine.run("cat", "/etc/bgpd/bgpd.toml")
    assert played(machine, deb, "no such policy", check=False)["failed"] == 1
    assert machine.run("cat", "/etc/bgpd/bgpd.toml") == written
    assert machine.run("sh", "-c", "ls -d /tmp/*.bgpd /var/tmp/*.bgpd", check=False) == ""
    assert (pid(), journal().count("reload.done")) == (before, reloads)
