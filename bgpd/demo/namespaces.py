"""Network namespaces of the demonstration: made, wired with veth links, and removed with all that runs in them.

Names hold the id of the process that made them, so that the next demonstration can tell what a killed one left behind.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

PREFIX = "bgpd-demo"
DIRECTORY = Path("/run/netns")
END_S = 5.0
"""How long a process has to end before it is killed."""
COMMAND_S = 90.0


class StepFailed(Exception):
    """A step could not be done; `hint` says what to do."""

    def __init__(self, what: str, hint: str = "") -> None:
        super().__init__(what)
        self.hint = hint


class Namespaces:
    """Those of one demonstration, by label; `close` removes them."""

    def __init__(self) -> None:
        self._prefix = f"{PREFIX}-{os.getpid()}-"
        self._labels: list[str] = []
        self._running: list[subprocess.Popen[bytes]] = []
        self._indexes = itertools.count(1000)

    def name(self, label: str) -> str:
        """The name that `ip netns` knows."""
        return self._prefix + label

    def add(self, label: str) -> None:
        """A namespace that routes IPv4. Raises: StepFailed."""
        self._labels.append(label)  # before it is there: a signal may come in between
        run("ip", "netns", "add", self.name(label))
        settings = ("net.ipv4.ip_forward=1", "net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.default.rp_filter=0")
        spread = ("net.ipv4.fib_multipath_hash_policy=1", "net.ipv4.nexthop_compat_mode=0")
        for setting in (*settings, *spread):
            key, _, value = setting.partition("=")
            path = "/proc/sys/" + key.replace(".", "/")
            run(*self.command(label, "sh", "-c", f"echo {value} > {path}"))
        self.ip(label, "link set lo up")

    def ip(self, label: str, *lines: str) -> None:
        """`ip` commands inside, each a line without "ip". Raises: StepFailed."""
        run("ip", "-n", self.name(label), "-batch", "-", stdin="\n".join(lines) + "\n")

    def link(self, first: str, interface: str, second: str, other: str) -> None:
        """A veth pair between two namespaces, both ends up. Raises: StepFailed.

        The ends have interface indexes of their own: of equal ones Linux may report a lost carrier up to a second late.
        """
        own, peer = next(self._indexes), next(self._indexes)
        ends = f"index {own} type veth peer name {other} index {peer} netns {self.name(second)}"
        self.ip(first, f"link add {interface} {ends}")
        self.ip(first, f"link set {interface} up")
        self.ip(second, f"link set {other} up")

    def command(self, label: str, *command: str) -> list[str]:
        """The same command, to be run inside."""
        return ["ip", "netns", "exec", self.name(label), *command]

    def start(self, label: str, *command: str, output: Path) -> subprocess.Popen[bytes]:
        """Start a program inside; it ends with the namespaces at the latest."""
        with output.open("ab") as file:
            process = subprocess.Popen(
                self.command(label, *command),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for the demonstration, which ends them in order
            )
        self._running.append(process)
        return process

    def close(self) -> None:
        """End what runs, and remove the namespaces."""
        for process in self._running:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
        end = time.monotonic() + END_S
        for process in self._running:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(end - time.monotonic(), 0.1))
        for label in self._labels:
            with contextlib.suppress(StepFailed):  # the others are to go all the same
                remove(self.name(label))
        for process in self._running:
            process.wait()
        self._labels.clear()
        self._running.clear()


def kept_files() -> tempfile.TemporaryDirectory[str]:
    """A directory for the files of this process's demonstration."""
    return tempfile.TemporaryDirectory(prefix=f"{PREFIX}-{os.getpid()}-")


def remove_left_behind() -> list[str]:
    """Remove namespaces and files of demonstrations whose process is dead; the names."""
    removed = []
    for path in _left_in(DIRECTORY):
        remove(path.name)
        removed.append(path.name)
    for path in _left_in(Path(tempfile.gettempdir())):
        with contextlib.suppress(FileNotFoundError):
            found = path.lstat()
            if stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid():  # anybody may give a file such a name
                shutil.rmtree(path, ignore_errors=True)
                removed.append(str(path))
    return removed


def _left_in(directory: Path) -> Iterator[Path]:
    for path in sorted(directory.iterdir()) if directory.is_dir() else []:
        found = re.fullmatch(rf"{PREFIX}-(\d+)-\w+", path.name)
        # No demonstration of this process's id has begun yet: one of that name is of a former process.
        if found and (int(found[1]) == os.getpid() or not Path(f"/proc/{found[1]}").exists()):
            yield path


def remove(name: str) -> None:
    """Remove a namespace by name, with every process inside."""
    for pid in run("ip", "netns", "pids", name, check=False).split():
        with contextlib.suppress(ProcessLookupError, ValueError):
            os.kill(int(pid), signal.SIGKILL)
    run("ip", "netns", "del", name, check=False)


def run(*command: str, stdin: str = "", check: bool = True) -> str:
    """Run a command to its end; its standard output. Raises: StepFailed: there is no such program, or it failed."""
    try:
        done = subprocess.run(
            command, input=stdin, capture_output=True, text=True, errors="replace", timeout=COMMAND_S, check=False
        )
    except FileNotFoundError as error:
        raise StepFailed(f"there is no program {command[0]}", _package(command)) from error
    except subprocess.TimeoutExpired as error:
        raise StepFailed(f"{' '.join(command)}: did not end within {COMMAND_S:.0f} s") from error
    if check and done.returncode:
        raise StepFailed(f"{' '.join(command)}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def _package(command: Sequence[str]) -> str:
    packages = {"ip": "iproute2", "ping": "iputils-ping"}
    return f"apt-get install {packages[command[0]]}" if command[0] in packages else ""
