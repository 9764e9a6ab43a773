"""The Debian package under a real systemd, with a leaf (FRR) beside it: installed, upgraded, removed, purged.

machine eth0 10.0.1.1 - leaf swp1 10.0.1.2, with BFD; machine pod1 - pod; the leaf has 10.9.0.1, where the pod's traffic
goes to and comes from. All of one machine's life is one test after the other: each goes on where the former one ended.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import pytest

from labs.daemons import Frr
from labs.machine import Machine
from labs.namespace import Namespace, link
from labs.process import LabError, wait_until
from labs.traffic import FlowResult, Pair, flowing
from tests.packages.built import ROOT, make_deb

pytestmark = [pytest.mark.netns, pytest.mark.long]

MOST_MIB = 20
"""What the package may have at most, so that nobody adds to it unseen (docs/install.md says how large it is)."""
WAIT_S = 60.0
CONFIG = """
[router]
asn = 65203
router_id = "10.255.1.1"

[[neighbor]]
name = "leaf1"
address = "10.0.1.2"
asn = 65201
import = "all"
graceful_restart = { restart_time_s = 120 }
bfd = { interval_ms = 100 }

[[workload.static]]
prefix = "10.64.1.5/32"
interface = "pod1"
"""
FRR = """
bfd
 exit
router bgp 65201
 bgp router-id 10.255.0.1
 no bgp ebgp-requires-policy
 no bgp network import-check
 bgp graceful-restart
 neighbor 10.0.1.1 remote-as 65203
 neighbor 10.0.1.1 timers 10 30
 neighbor 10.0.1.1 timers connect 1
 neighbor 10.0.1.1 bfd 3 100 100
 address-family ipv4 unicast
  network 10.9.0.0/16
  neighbor 10.0.1.1 activate
 exit-address-family
exit
"""
BROKEN = "\nimport nowhere\n"


def derived(deb: Path, version: str, *, module: str = "", text: str = "") -> Path:
    """The same package as another version, with `text` after the end of a module."""
    folder = deb.parent / version
    subprocess.run(["dpkg-deb", "--raw-extract", str(deb), str(folder)], check=True)
    control = folder / "DEBIAN/control"
    control.write_text(re.sub(r"^Version: .*$", f"Version: {version}-1", control.read_text(), flags=re.MULTILINE))
    (package,) = folder.glob("opt/bgpd/lib/python3*/site-packages/bgpd")
    init = package / "__init__.py"
    init.write_text(re.sub(r'__version__ = ".*"', f'__version__ = "{version}"', init.read_text()))
    if module:
        (package / module).write_text((package / module).read_text() + text)
    for cache in list(package.rglob("__pycache__")):
        shutil.rmtree(cache)
    made = deb.with_name(f"bgpd_{version}.deb")
    subprocess.run(["dpkg-deb", "--root-owner-group", "-Zgzip", "-z1", "--build", str(folder), str(made)], check=True)
    shutil.rmtree(folder)
    return made


def test_two_builds_have_the_same_bytes(deb: Path, tmp_path: Path) -> None:
    again = make_deb(tmp_path)
    assert again.name == deb.name
    assert again.read_bytes() == deb.read_bytes()


def test_lintian_has_nothing_to_say(deb: Path) -> None:
    command = ["lintian", "--fail-on", "error,warning", "--allow-root", str(deb)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stdout + done.stderr


def test_package_is_no_larger_than_it_was(deb: Path) -> None:
    assert deb.stat().st_size < MOST_MIB << 20


class Host:
    """A server with the package, and what is beside it."""

    def __init__(self, machine: Machine, leaf: Namespace, pod: Namespace, directory: Path) -> None:
        self.machine = machine
        self.leaf = leaf
        self.pod = pod
        self.directory = directory
        self.frr: Frr

    def dpkg(self, *words: str, check: bool = True) -> str:
        """What it says, on both outputs."""
        command = 'dpkg --force-confold "$@" 2>&1'
        if not check:
            command += "; true"
        return self.machine.run("sh", "-c", command, "sh", *words, check=check, timeout_s=180)

    def json(self, *words: str) -> Any:
        return json.loads(self.machine.run("bgpd", *words, "--json", check=False) or "null")

    def wait(self, wanted: Callable[[], object], what: str) -> None:
        try:
            wait_until(wanted, WAIT_S, what)
        except LabError as error:
            journal = self.machine.run("journalctl", "--unit=bgpd", "--no-pager", "--output=cat")
            raise AssertionError(f"{error}\n{journal[-4000:]}") from error

    def wait_converged(self) -> None:
        """Session and BFD up, routes in both kernels."""
        self.wait(lambda: self._session()["state"] == "Established", "the session")
        self.wait(lambda: [view["state"] for view in self.json("show", "bfd") or ()] == ["up"], "BFD")
        self.wait(lambda: "10.9.0.0/16" in self.routes(), "the leaf's route in the kernel")
        self.wait(lambda: "10.64.1.5" in self.leaf.ip("route", "show"), "the pod's route at the leaf")

    def routes(self) -> str:
        return self.machine.run("ip", "route", "show", "proto", "217")

    def _session(self) -> dict[str, Any]:
        return self.frr.sessions()["10.0.1.1"]

    def seen(self) -> dict[str, Any]:
        """What the leaf knows of the session: none of it changes when nobody notices."""
        return {
            **self._session(),
            "bfd": [one["session-down"] for one in self.frr.vtysh_json("show bfd peers counters json")],
        }

    def notifications(self) -> int:
        """How many the leaf has received."""
        return int(self._session()["notifications"][1])

    def main_pid(self, unit: str = "bgpd") -> str:
        return self.machine.run("systemctl", "show", "--value", "--property", "MainPID", unit).strip()

    def flows(self) -> AbstractContextManager[list[FlowResult]]:
        """A thousand packets a second each way; what was lost of them, at the end."""
        pairs = (Pair(self.pod, "10.9.0.1"), Pair(self.leaf, "10.64.1.5"))
        return flowing(pairs, self.directory, interval_s=0.001)


@pytest.fixture(scope="module")
def host(deb: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    with ExitStack() as stack:
        network, leaf, pod = (stack.enter_context(Namespace(label, prefix="D")) for label in ("machine", "leaf", "pod"))
        link(network, "eth0", leaf, "swp1")
        link(network, "pod1", pod, "eth0")
        network.addresses("eth0", "10.0.1.1/24")
        leaf.addresses("swp1", "10.0.1.2/24")
        leaf.addresses("lo", "10.9.0.1/32")
        pod.addresses("eth0", "10.64.1.5/32")
        network.addresses("pod1", "169.254.1.1/32")
        pod.batch("route add 169.254.1.1 dev eth0", "route add default via 169.254.1.1 dev eth0")
        try:
            machine = stack.enter_context(Machine(network))
        except LabError as error:
            pytest.skip(f"no systemd can be booted here: {error}")
        # What images of containers have, and what this machine has for its other tests.
        machine.run("rm", "-f", "/usr/sbin/policy-rc.d")
        machine.run("dpkg", "--purge", "openbgpd")
        made = Host(machine, leaf, pod, tmp_path_factory.mktemp("flows"))
        made.frr = stack.enter_context(Frr(leaf, FRR, bfd=True))
        yield made


def test_what_make_install_left_is_not_written_over(host: Host, deb: Path) -> None:
    host.machine.write("/opt/bgpd/pyvenv.cfg", "home = /usr/bin\n")
    said = host.dpkg("--install", str(deb), check=False)
    assert "make uninstall" in said
    assert host.machine.run("ls", "/opt/bgpd").split() == ["pyvenv.cfg"]
    host.machine.run("rm", "-r", "/opt/bgpd")


def test_installation_starts_nothing_and_says_what_comes_next(host: Host, deb: Path) -> None:
    said = host.dpkg("--install", str(deb))
    assert "systemctl enable --now bgpd" in said
    written = host.machine.run("cat", "/etc/bgpd/bgpd.toml")
    assert written == (ROOT / "conf/first.toml").read_text()
    assert host.machine.run("systemctl", "is-active", "bgpd", check=False).strip() == "inactive"
    assert host.machine.run("systemctl", "is-enabled", "bgpd", check=False).strip() == "disabled"
    assert re.fullmatch(r"bgpd \d\S+ \(compiled\)", host.machine.run("bgpd", "--version").strip())
    assert host.machine.run("stat", "-c", "%U %a", "/var/lib/bgpd").split() == ["bgpd", "750"]
    units = " ".join(f"/lib/systemd/system/{name}.service" for name in ("bgpd", "bgpd-bfd", "bgpd-drain"))
    said = host.machine.run("sh", "-c", f"systemd-analyze verify {units} 2>&1", check=False)
    assert "bgpd" not in said
    for unit in ("bgpd", "bgpd-bfd"):
        host.machine.run("systemd-analyze", "security", "--threshold=20", "--no-pager", f"{unit}.service")


def test_service_runs_as_it_is_installed(host: Host) -> None:
    host.machine.write("/etc/bgpd/bgpd.toml", CONFIG)
    host.machine.run("bgpd", "check", "/etc/bgpd/bgpd.toml")
    host.machine.run("systemctl", "enable", "--now", "bgpd-bfd", "bgpd", timeout_s=120)
    host.wait_converged()
    pid = host.main_pid()
    assert host.machine.run("ps", "-o", "user=", "-p", pid).strip() == "bgpd"
    written = host.machine.run("find", "/opt/bgpd", "-newer", "/etc/bgpd/bgpd.toml")
    assert written == "", "nothing is written below /opt/bgpd, not even bytecode"


@pytest.mark.parametrize("version", ["99.1.0", "99.0.0"])
def test_upgrade_and_downgrade_are_seen_by_nobody(host: Host, deb: Path, version: str) -> None:
    """The second one has the lower version."""
    package = derived(deb, version)
    host.wait_converged()
    pid, bfd, before = host.main_pid(), host.main_pid("bgpd-bfd"), host.seen()
    with host.flows() as lost:
        said = host.dpkg("--install", str(package))
        assert host.main_pid() != pid
    assert f"is now bgpd {version}" in said
    assert host.seen() == before, said
    assert [result.lost for result in lost] == [0, 0]
    assert host.main_pid("bgpd-bfd") == bfd, "it became the new version, as the same process"
    assert host.json("status")["version"] == version
    assert host.machine.run("cat", "/etc/bgpd/bgpd.toml") == CONFIG


def test_version_that_cannot_start_leaves_the_former_one_running(host: Host, deb: Path) -> None:
    pid, before = host.main_pid(), host.seen()
    said = host.dpkg("--install", str(derived(deb, "99.2.0", module="routing.py", text=BROKEN)))
    assert "No module named 'nowhere'" in said
    assert "goes on as the former version" in said
    assert host.machine.run("dpkg-query", "-W", "-f", "${db:Status-Status}", "bgpd") == "installed"
    assert (host.main_pid(), host.seen()) == (pid, before)
    said = host.dpkg("--install", str(deb))
    assert host.main_pid() != pid
    assert host.seen() == before, said


def test_administrator_s_policy_is_kept(host: Host, deb: Path) -> None:
    host.machine.write("/usr/sbin/policy-rc.d", "#!/bin/sh\nexit 101\n", mode=0o755)
    pid = host.main_pid()
    said = host.dpkg("--install", str(deb))
    assert "as policy-rc.d says; later: bgpd upgrade" in said
    assert host.main_pid() == pid
    host.machine.run("rm", "/usr/sbin/policy-rc.d")


def test_removal_tells_the_neighbors_and_leaves_routes_and_configuration(host: Host) -> None:
    before = host.notifications()
    said = host.dpkg("--remove", "bgpd")
    assert host.notifications() > before
    assert "10.64.1.5" not in host.leaf.ip("route", "show"), "no more traffic is sent here"
    assert "10.9.0.0/16" in host.routes()
    assert "ip route flush table all proto 217" in said
    assert host.machine.run("cat", "/etc/bgpd/bgpd.toml") == CONFIG
    assert host.machine.run("ls", "/opt/bgpd", "/usr/bin/bgpd", check=False) == ""
    assert host.machine.run("systemctl", "is-active", "bgpd-bfd", check=False).strip() == "inactive"
    assert host.machine.run("ls", "/var/lib/bgpd") != ""


def test_new_installation_goes_on_where_the_former_one_ended(host: Host, deb: Path) -> None:
    host.dpkg("--install", str(deb))
    assert host.machine.run("systemctl", "is-enabled", "bgpd").strip() == "enabled"
    host.machine.run("systemctl", "start", "bgpd-bfd", "bgpd", timeout_s=120)
    host.wait_converged()


def test_purge_leaves_nothing_but_the_user_and_what_the_administrator_made(host: Host, deb: Path) -> None:
    host.machine.write("/etc/bgpd/leaf1.key", "secret\n")
    listed = subprocess.run(["dpkg-deb", "--contents", str(deb)], capture_output=True, text=True, check=True).stdout
    paths = [line.split(maxsplit=5)[5].split(" -> ")[0][1:] for line in listed.splitlines()]
    host.dpkg("--purge", "bgpd")
    files = [path for path in paths if path and not path.endswith("/")]
    assert len(files) > 1000
    left = host.machine.run(
        "sh", "-c", 'while read -r path; do [ ! -e "$path" ] || echo "$path"; done', stdin="\n".join(files)
    )
    assert left == ""
    named = ["(", "-name", "bgpd", "-o", "-name", "bgpd[.-]*", "-o", "-name", "90-bgpd*", ")"]
    assert host.machine.run("find", "/etc", "/opt", "/lib", "/var/lib", *named).split() == ["/etc/bgpd"]
    assert host.machine.run("ls", "/etc/bgpd").split() == ["leaf1.key"]
    host.machine.run("id", "bgpd")
    host.machine.run("sh", "-c", "ip route flush table all proto 217; ip nexthop flush proto 217")
    assert host.routes() == ""
