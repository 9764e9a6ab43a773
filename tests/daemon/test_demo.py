"""`bgpd demo`: what it shows, the shell it ends in, and that nothing of it stays, however it ends."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bgpd.demo.namespaces import DIRECTORY, PREFIX
from labs.process import wait_until

pytestmark = pytest.mark.netns
DEMO = (sys.executable, "-m", "bgpd", "demo")


def left() -> list[str]:
    """Namespaces and directories of demonstrations."""
    found = [*(DIRECTORY.iterdir() if DIRECTORY.is_dir() else ()), *Path("/tmp").iterdir()]
    return [path.name for path in found if path.name.startswith(PREFIX)]


class Terminal:
    """A demonstration on a terminal of its own."""

    def __init__(self) -> None:
        self.pid, self._screen = pty.fork()
        if not self.pid:
            os.execv(DEMO[0], DEMO)
        self.seen = ""

    def until(self, text: str, seconds: float) -> None:
        """Read until `text` has come."""
        end = time.monotonic() + seconds
        while text not in self.seen:
            assert time.monotonic() < end, f"no {text!r}:\n{self.seen}"
            if select.select([self._screen], [], [], 0.2)[0]:
                self.seen += os.read(self._screen, 65536).decode(errors="replace")

    def type(self, line: str) -> None:
        os.write(self._screen, f"{line}\n".encode())

    def end(self) -> int:
        """Its exit code, when it ends."""
        while True:
            try:
                if not (read := os.read(self._screen, 65536)):
                    break
            except OSError:
                break
            self.seen += read.decode(errors="replace")
        _, status = os.waitpid(self.pid, 0)
        return os.waitstatus_to_exitcode(status)


def test_demonstration_shows_what_it_says_ends_in_a_shell_and_leaves_nothing() -> None:
    subprocess.run(["ip", "netns", "add", f"{PREFIX}-4194999-leaf1"], check=True)  # its process is dead
    terminal = Terminal()
    terminal.until("exit (or Ctrl-D)", 170)
    for said in (
        f"removed {PREFIX}-4194999-leaf1",
        "each host has the other's pod by both leaves",
        "leaf1's links went down",
        "leaf1 is back",
        "its sessions went on: no leaf noticed",
        "10.64.2.1: reachable",
    ):
        assert said in terminal.seen, terminal.seen
    terminal.type("bgpd show neighbors | wc -l; bgpd what-if --down leaf1 | grep -c lost; echo $?-done; exit")
    terminal.until("-done\r\n", 30)
    terminal.until("All of it is removed.", 30)
    assert terminal.end() == 0
    assert left() == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_demonstration_that_is_ended_removes_what_it_made(number: signal.Signals) -> None:
    former = signal.signal(
        number, signal.default_int_handler
    )  # a shell's background jobs ignore SIGINT, and so would it
    process = subprocess.Popen([*DEMO, "--no-prompt"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    signal.signal(number, former)
    wait_until(lambda: any("host2" in name for name in left()), 30, "the namespaces")
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number, errors
    assert left() == []


def test_who_is_not_root_is_told_what_to_do() -> None:
    done = subprocess.run(
        ["setpriv", "--reuid=65534", "--clear-groups", *DEMO], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "only root may" in done.stderr
    assert "sudo bgpd demo" in done.stderr
