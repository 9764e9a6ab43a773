"""`bgpd top` of a real daemon, in GNU screen, without colour."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from labs.daemons import Frr
from labs.process import wait_until
from tests.daemon.fabric import Fabric, Host, leaf, started, table

pytestmark = pytest.mark.netns


class Terminal:
    """A session of GNU screen, 80 by 24 unless told otherwise, in which a command runs."""

    def __init__(self, folder: Path, command: list[str]) -> None:
        self._folder = folder
        self._name = f"bgpd-top-{os.getpid()}"
        self._environment = {**os.environ, "SCREENDIR": str(folder / "sockets"), "NO_COLOR": "1", "LANG": "C.UTF-8"}
        (folder / "sockets").mkdir(mode=0o700)
        line = ["screen", "-c", "/dev/null", "-T", "screen", "-S", self._name, "-D", "-m", *command]
        self._process = subprocess.Popen(line, env=self._environment)

    def type(self, text: str) -> None:
        """Keys, as they are typed."""
        self._command("stuff", text)

    def text(self) -> str:
        """What stands on it now; "" before there is anything."""
        file = self._folder / "hardcopy"
        file.unlink(missing_ok=True)
        self._command("hardcopy", str(file))
        end = time.monotonic() + 5
        while time.monotonic() < end and not file.exists():
            time.sleep(0.02)
        return file.read_text(errors="replace") if file.exists() else ""

    @property
    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def close(self) -> None:
        self._command("quit")
        self._process.wait(20)

    def _command(self, *words: str) -> None:
        line = ["screen", "-S", self._name, "-p", "0", "-X", *words]
        subprocess.run(line, env=self._environment, check=False, stdout=subprocess.DEVNULL)


@pytest.fixture
def host(fabric: Fabric, frr: Frr, leaf2: Frr) -> Iterator[Host]:
    with started(
        fabric, leaf(1), leaf(2), table("[[workload.static]]", prefix="10.64.1.5/32", interface="pod1")
    ) as host:
        host.wait_established("leaf1", "leaf2")
        host.wait_ready()
        yield host


def test_top_shows_the_host_explains_and_waits_for_a_daemon_that_was_killed(host: Host, tmp_path: Path) -> None:
    terminal = Terminal(tmp_path, [*host.program, "top", "--socket", str(host.socket_path)])
    try:
        wait_until(lambda: "+ ready" in terminal.text(), 60, "the screen")
        text = terminal.text()
        assert len(text.splitlines()) <= 24
        assert all(len(line) <= 80 for line in text.splitlines())
        for word in ("leaf1", "leaf2", "established", "+ kernel: wanted", "+ workloads: announced 1", "q end"):
            assert word in text
        terminal.type("/10.64.1.5\r")
        wait_until(lambda: "workload 10.64.1.5/32 on pod1" in terminal.text(), 30, "explain")
        terminal.type("\x1b")
        wait_until(lambda: "+ kernel" in terminal.text(), 30, "the way back")
        host.kill()
        wait_until(lambda: "NO ANSWER" in terminal.text(), 30, "what it says of a dead daemon")
        host.start()
        wait_until(lambda: "NO ANSWER" not in (text := terminal.text()) and "+ ready" in text, 60, "it again")
        terminal.type("q")
        wait_until(lambda: terminal.has_ended, 30, "the end")
    finally:
        terminal.close()
