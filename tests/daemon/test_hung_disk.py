"""A disk that hangs, as a frozen file system does: who writes to it waits in the kernel, and no signal ends the wait.

Sessions, routes and answers about now go on; what was to be written is written when the disk goes on.
"""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import TypeVar

import pytest

from labs.process import LabError
from tests.daemon.fabric import Fabric, Host, kernel_routes, leaf, started, table
from tests.daemon.managed import managed
from tests.daemon.planted import Planted
from tests.daemon.wire_peer import WirePeer, update, withdrawal

pytestmark = pytest.mark.netns

AnyHost = TypeVar("AnyHost", bound=Host)
FIRST, SECOND = "10.200.0.0/24", "10.201.0.0/24"
POD = table("[[workload.static]]", prefix="10.64.1.5/32", interface="pod1")


class Disk:
    """A small file system of its own, mounted at `directory`; `state` is the [state] table that has it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.state = table("[state]", directory=str(directory))

    def hang(self) -> None:
        subprocess.run(["fsfreeze", "--freeze", str(self.directory)], check=True)

    def go_on(self) -> None:
        """Also where it does not hang."""
        subprocess.run(["fsfreeze", "--unfreeze", str(self.directory)], check=False, capture_output=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    if shutil.which("mkfs.ext4") is None:
        pytest.skip("no file system can be made here: e2fsprogs")
    image, directory = tmp_path / "image", tmp_path / "disk"
    directory.mkdir()
    with image.open("wb") as file:
        file.truncate(64 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", str(image)], check=True)
    mounted = subprocess.run(["mount", "-o", "loop", str(image), str(directory)], check=False, capture_output=True)
    if mounted.returncode:
        pytest.skip(f"no file can be mounted here: {mounted.stderr.decode().strip()}")
    found = Disk(directory)
    with ExitStack() as stack:
        stack.callback(subprocess.run, ["umount", "--lazy", str(directory)], check=True)
        stack.callback(found.go_on)
        yield found


@contextmanager
def established(
    fabric: Fabric, disk: Disk, daemon: AbstractContextManager[AnyHost]
) -> Iterator[tuple[AnyHost, socket.socket]]:
    """A daemon with the disk, and leaf1's side of their session. The disk goes on before the daemon is ended."""
    with daemon as host, WirePeer(fabric.leaf1) as peer, peer.establish() as connection:
        try:
            host.wait_established("leaf1")
            yield host, connection
        finally:
            disk.go_on()


def test_sessions_routes_and_answers_do_not_wait_for_a_disk_that_hangs(fabric: Fabric, disk: Disk) -> None:
    daemon = started(fabric, leaf(1), POD, disk.state, table("[workload.api]"))
    with established(fabric, disk, daemon) as (host, connection):
        connection.sendall(update((FIRST,), asn=65201))
        host.wait(lambda: FIRST in kernel_routes(fabric.host), "the route")
        disk.hang()
        connection.sendall(withdrawal(FIRST))
        connection.sendall(update((SECOND,), asn=65201))
        host.wait(lambda: set(kernel_routes(fabric.host)) >= {SECOND}, "the route, while the disk hangs")
        host.wait(lambda: FIRST not in kernel_routes(fabric.host), "the withdrawal, while the disk hangs")
        fabric.host.run("ip", "link", "set", "pod1", "down")
        host.wait(lambda: json_states(host.get("workloads")) != ["announced"], "the loss of the workload")
        fabric.host.run("ip", "link", "set", "pod1", "up")
        host.wait(lambda: json_states(host.get("workloads")) == ["announced"], "the workload")
        assert host.established() == ["leaf1"]
        assert "10.201.0.0/24" in host.cli("explain", "10.201.0.1")
        added = host.cli(
            "workload", "add", "late", "--address", "10.64.1.9/32", "--interface", "pod1", "--timeout", "5"
        )
        assert "announced" in added
        disk.go_on()
        host.wait(lambda: "route.announced" in host.cli("show", "events", "--prefix", SECOND), "what was to be written")
        assert host.established() == ["leaf1"]


def test_a_stop_does_not_wait_for_it(fabric: Fabric, disk: Disk) -> None:
    """The neighbor is told at once; the process is gone when the disk goes on, at the latest: the kernel keeps it."""
    with established(fabric, disk, started(fabric, leaf(1), disk.state)) as (host, connection):
        disk.hang()
        connection.sendall(update((FIRST,), asn=65201))
        host.wait(lambda: FIRST in kernel_routes(fabric.host), "the route")
        host.processes[-1].send_signal(signal.SIGINT)
        connection.settimeout(20)
        heard = b""
        while b"\x03\x06\x02" not in heard:  # NOTIFICATION, Cease, Administrative Shutdown
            part = connection.recv(4096)
            assert part, "the session was closed without a word"
            heard += part
        host.wait(lambda: host.log("bgpd.disk_hangs"), "the word that the disk hangs")
        disk.go_on()
        host.processes[-1].wait(20)


@pytest.mark.parametrize(("by_itself", "has_journal"), [(True, True), (True, False), (False, True)])
def test_no_process_leaves_its_sessions_while_it_cannot_end(
    fabric: Fabric, disk: Disk, by_itself: bool, has_journal: bool
) -> None:
    """Its neighbors heard nothing for as long as the disk hung, neither of it nor of the next process. An upgrade is
    refused; a restart, which is no question, is a graceful one."""
    journal = table("[journal]", enabled=has_journal)
    with established(fabric, disk, managed(fabric, leaf(1), disk.state, journal)) as (host, connection):
        disk.hang()
        if by_itself:
            with pytest.raises(LabError, match="the disk of the state directory does not answer"):
                host.cli("upgrade")
            assert host.established() == ["leaf1"]
            assert not host.log("handover.left")
        else:
            host.processes[-1].send_signal(signal.SIGUSR1)
            host.wait(lambda: host.log("handover.failed"), "the word that the disk hangs")
            connection.settimeout(20)
            while connection.recv(4096):
                pass
            disk.go_on()
            host.wait(lambda: len(host.log("bgpd.started")) == 2, "the next process")


def json_states(views: list[dict[str, str]]) -> list[str]:
    return [view["state"] for view in views]


WAITS_FOR_FILES = """
import os, time
import bgpd.config.texts as texts

read = texts.read_texts

def read_texts(file):
    while os.path.exists(os.environ["GATE"]):
        time.sleep(0.05)
    return read(file)

texts.read_texts = read_texts
"""


def test_reload_whose_files_cannot_be_read_yet_holds_up_nobody(
    fabric: Fabric, peer: WirePeer, planted: Planted
) -> None:
    """The disk, or the server that knows the users and groups, does not answer."""
    planted.code(WAITS_FOR_FILES)
    with started(fabric, leaf(1), POD) as host:
        connection = peer.establish()
        host.wait_established("leaf1")
        planted.gate.touch()
        reloading = host.namespace.popen(
            *("env", f"BGPD_SOCKET={host.socket_path}", sys.executable, "-m", "bgpd", "reload"),
            log_path=host.directory / "reload.log",
        )
        host.wait(lambda: host.log("api.reload"), "the reload to begin")
        connection.sendall(update((FIRST,), asn=65201))
        host.wait(lambda: FIRST in kernel_routes(host.namespace), "a route that comes meanwhile")
        assert host.health()["neighbors_established"] == 1
        assert reloading.exit_code is None
        planted.gate.unlink()
        assert reloading.wait(30) == 0
        assert "nothing changes" in (host.directory / "reload.log").read_text()
