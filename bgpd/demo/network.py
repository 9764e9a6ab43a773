"""The network of the demonstration: who is linked with whom, addresses, and the configuration of each bgpd.

pod1 - host1 = leaf1, leaf2 = host2 - pod2          eBGP: the leaves are AS 65201, host1 65211, host2 65212
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bgpd.demo.namespaces import Namespaces, StepFailed, kept_files, run
from bgpd.runtime.lock import DIRECTORY as LOCKS

LEAVES = ("leaf1", "leaf2")
HOSTS = ("host1", "host2")
PODS = {"host1": "10.64.1.1", "host2": "10.64.2.1"}
GATEWAY = "169.254.1.1"
"""What pods have as their default gateway: an address of the host, the same on all hosts."""
LOG_LINES = 15
PROGRAM = (sys.executable, "-P", "-m", "bgpd")
"""This program. Without -P root would run whatever modules the folder has in which the demonstration was begun."""

_ROUTER = """\
[router]
asn = {asn}
router_id = "{router_id}"
hostname = "{name}"

[api]
socket = "{directory}/{name}.sock"

[bfd]
socket = "{directory}/{name}.bfd"

[state]
directory = "{directory}/{name}.state"
"""
_NEIGHBOR = """
[[neighbor]]
name = "{name}"
address = "{address}"
asn = {asn}
import = "all"
export = "{export}"
hold_time_s = 9
connect_retry_s = 1
"""
_PODS = """
[workload.kernel]
interfaces = ["pod*"]
"""


class Network:
    """The running network. A context manager, which removes all of it in the end."""

    def __init__(self) -> None:
        self.namespaces = Namespaces()
        self._has_locks = LOCKS.exists()
        self._kept = kept_files()
        self.directory = Path(self._kept.name)
        self.daemons: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Network:
        return self

    def __exit__(self, *error: object) -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)  # a second Ctrl-C would leave half of it
        self.namespaces.close()
        self._kept.cleanup()
        if not self._has_locks:
            with contextlib.suppress(OSError):  # another bgpd uses it by now
                LOCKS.rmdir()

    def build(self) -> None:
        """Namespaces, links, addresses and pods; nothing runs yet. Raises: StepFailed."""
        for label in (*LEAVES, *HOSTS, *(f"pod{number}" for number in (1, 2))):
            self.namespaces.add(label)
        for host, leaf, first, second in _links():
            self.namespaces.link(host, leaf, leaf, host)  # an interface has the name of who is at the other end
            self.namespaces.ip(host, f"addr add {first}/31 dev {leaf}")
            self.namespaces.ip(leaf, f"addr add {second}/31 dev {host}")
        for number, host in enumerate(HOSTS, 1):
            pod = f"pod{number}"
            self.namespaces.link(host, pod, pod, "eth0")
            self.namespaces.ip(host, f"addr add {GATEWAY}/32 dev lo scope link", f"route add {PODS[host]} dev {pod}")
            self.namespaces.ip(
                pod,
                f"addr add {PODS[host]}/32 dev eth0",
                f"route add {GATEWAY} dev eth0 scope link",
                f"route add default via {GATEWAY} dev eth0",
            )

    def start(self) -> None:
        """A bgpd in each leaf and host. Raises: StepFailed."""
        for name in (*LEAVES, *HOSTS):
            self.start_daemon(name)

    def start_daemon(self, name: str) -> None:
        """Start the bgpd of a leaf or host."""
        file = self.directory / f"{name}.toml"
        file.write_text(configuration(name, str(self.directory)))
        program = (*PROGRAM, "run", "--config", str(file))
        self.daemons[name] = self.namespaces.start(name, *program, output=self.directory / f"{name}.log")

    def cli(self, name: str, *words: str) -> str:
        """What `bgpd WORDS` prints for the daemon of a host or leaf. Raises: StepFailed."""
        return run("env", f"BGPD_SOCKET={self.socket(name)}", *PROGRAM, *words)

    def show(self, name: str, *words: str) -> Any:
        """The value of `bgpd show WORDS --json`. Raises: StepFailed."""
        return json.loads(self.cli(name, "show", *words, "--json"))

    def socket(self, name: str) -> str:
        """The path of a daemon's socket."""
        return f"{self.directory}/{name}.sock"

    def check_daemons(self) -> None:
        """Raises: StepFailed: one has ended by itself."""
        for name, process in self.daemons.items():
            if process.poll() is not None:
                lines = (self.directory / f"{name}.log").read_text(errors="replace").splitlines()[-LOG_LINES:]
                raise StepFailed("\n".join((f"bgpd of {name} has ended (exit code {process.returncode}):", *lines)))

    def environment(self, name: str) -> dict[str, str]:
        """For a shell on a host: `bgpd` is this program, and speaks to that host's daemon."""
        programs = self.directory / "bin"
        programs.mkdir(exist_ok=True)
        program = programs / "bgpd"
        program.write_text(f'#!/bin/sh\nexec {shlex.join(PROGRAM)} "$@"\n')
        program.chmod(0o755)
        path = f"{programs}:{os.environ.get('PATH', '/usr/sbin:/usr/bin:/sbin:/bin')}"
        return {**os.environ, "PATH": path, "BGPD_SOCKET": self.socket(name)}


def configuration(name: str, directory: str) -> str:
    """The configuration of a leaf or host."""
    number = int(name[-1])
    is_leaf = name in LEAVES
    router_id = f"10.255.{0 if is_leaf else 1}.{number}"
    text = _ROUTER.format(asn=_asn(name), router_id=router_id, name=name, directory=directory)
    for host, leaf, first, second in _links():
        if is_leaf and leaf == name:
            text += _NEIGHBOR.format(name=host, address=first, asn=_asn(host), export="all")
        elif not is_leaf and host == name:
            text += _NEIGHBOR.format(name=leaf, address=second, asn=_asn(leaf), export="local")
    return text + ("" if is_leaf else _PODS)


def _links() -> Iterator[Sequence[str]]:
    """Host, leaf, and their addresses on the link."""
    for number, host in enumerate(HOSTS, 1):
        for other, leaf in enumerate(LEAVES, 1):
            yield host, leaf, f"10.0.{number}{other}.1", f"10.0.{number}{other}.0"


def _asn(name: str) -> int:
    return 65201 if name in LEAVES else 65210 + int(name[-1])
