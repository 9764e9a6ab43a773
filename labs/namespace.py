"""Network namespaces of a laboratory: made, wired with veth links, and always removed again.

Names hold the id of the process that made them, so that several laboratories run side by side and `remove_stale` can
tell what a killed one left behind. Never touches the namespace it is called in, nor one that it did not make.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import fcntl
import itertools
import os
import re
import shutil
import signal
import socket
import struct
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType, TracebackType

from labs.process import LabError, LoggedProcess, run_command

NETNS_DIR = Path("/run/netns")
CLONE_NEWNET = 0x40000000

# A router: forwards both families, addresses usable at once, asymmetric paths allowed, ECMP by ports.
ROUTER_SYSCTLS: Mapping[str, str] = {
    "net.ipv4.ip_forward": "1",
    "net.ipv6.conf.all.forwarding": "1",
    "net.ipv6.conf.all.accept_dad": "0",
    "net.ipv6.conf.default.accept_dad": "0",
    "net.ipv4.conf.all.rp_filter": "0",
    "net.ipv4.conf.default.rp_filter": "0",
    "net.ipv4.fib_multipath_hash_policy": "1",
    "net.ipv6.fib_multipath_hash_policy": "1",
    "net.ipv4.nexthop_compat_mode": "0",
}

# Every machine has a hash seed of its own; the namespaces of one share it, unless told otherwise: then a switch and the
# host behind it would choose alike, and some of the host's choices would never be made. Linux 6.11 and newer.
HASH_SEED = "net.ipv4.fib_multipath_hash_seed"
CAN_SEED = Path("/proc/sys", HASH_SEED.replace(".", "/")).exists()

_SYSCTL_SEPARATORS = str.maketrans("./", "/.")
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 0x1

_serial = itertools.count(1)
_indexes = itertools.count(1000)
_open: dict[str, Namespace] = {}


class Namespace:
    """One network namespace, a context manager. `name` is "PREFIXPID-LABEL", or `exact_name` as it is.

    Made by `open` (or on entering), removed by `close` (or on leaving), at exit of the program at the latest.
    """

    def __init__(
        self, label: str, *, prefix: str = "lab", exact_name: str = "", sysctls: Mapping[str, str] | None = None
    ) -> None:
        self.label = label
        number = next(_serial)
        self.name = exact_name or f"{prefix}{os.getpid()}-{number}-{label}"
        seed = {HASH_SEED: str(number)} if CAN_SEED else {}
        self.sysctls = {**ROUTER_SYSCTLS, **seed, **(sysctls or {})}
        self.processes: list[LoggedProcess] = []
        self.directories: list[Path] = []

    def __enter__(self) -> Namespace:
        return self.open()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def open(self) -> Namespace:
        """Make the namespace, loopback up, sysctls set.

        Raises: LabError: no right to do so, or the name is taken.
        """
        _clean_up_on_exit()
        run_command(["ip", "netns", "add", self.name])
        _open[self.name] = self
        try:
            with self.entered():
                _set_loopback_up()
            self.set_sysctls(self.sysctls)
        except BaseException:
            self.close()
            raise
        return self

    def close(self) -> None:
        """End the processes started here, then remove the namespace. May be called more than once."""
        if _open.get(self.name) is not self:
            return
        for process in self.processes:
            process.send_signal(signal.SIGTERM)
        for process in reversed(self.processes):
            process.stop(timeout_s=2.0)
        run_command(["ip", "netns", "del", self.name], check=False)
        for directory in self.directories:
            shutil.rmtree(directory, ignore_errors=True)
        del _open[self.name]

    def leave_open(self) -> None:
        """Forget the namespace and its processes: they outlive this program until somebody calls `remove`."""
        _open.pop(self.name, None)

    def make_directory(self, label: str) -> Path:
        """A new directory that anybody may enter; it is removed with the namespace at the latest."""
        directory = Path(tempfile.mkdtemp(prefix=f"{self.name}-{label}-", dir="/tmp"))
        directory.chmod(0o755)
        self.directories.append(directory)
        return directory

    def command(self, *command: str) -> list[str]:
        """The same command, to be run inside."""
        return ["ip", "netns", "exec", self.name, *command]

    def run(self, *command: str, timeout_s: float = 30.0, stdin: str | None = None, check: bool = True) -> str:
        """Run a command inside, to its end; returns its standard output.

        Raises: LabError: it failed (unless `check` is False) or took too long.
        """
        return run_command(self.command(*command), timeout_s=timeout_s, stdin=stdin, check=check)

    def popen(self, *command: str, log_path: Path, env: Mapping[str, str] | None = None) -> LoggedProcess:
        """Start a command inside; it ends with the namespace at the latest."""
        process = LoggedProcess(self.command(*command), log_path=log_path, env=env)
        self.processes.append(process)
        return process

    def ip(self, *arguments: str) -> str:
        """`ip ARGUMENTS` inside, without the cost of a second program."""
        return run_command(["ip", "-n", self.name, *arguments])

    def batch(self, *lines: str) -> None:
        """Many `ip` commands in one process, each a line without the leading "ip".

        Raises: LabError: one of them failed; those before it have happened.
        """
        run_command(["ip", "-n", self.name, "-batch", "-"], stdin="\n".join(lines) + "\n", timeout_s=120.0)

    def addresses(self, interface: str, *addresses: str) -> None:
        """Add addresses with prefix length to an interface; IPv6 ones are usable at once."""
        self.batch(
            *(f"addr add {address} dev {interface}{' nodad' if ':' in address else ''}" for address in addresses)
        )

    def set_sysctls(self, settings: Mapping[str, str]) -> None:
        """Write sysctls inside; an interface's dot is written "/", as for sysctl(8).

        Raises: LabError: this kernel does not have one, or refuses the value.
        """
        with self.entered():
            for key, value in settings.items():
                path = Path("/proc/sys", key.translate(_SYSCTL_SEPARATORS))
                try:
                    path.write_text(value)
                except OSError as error:
                    raise LabError(f"{self.name}: cannot set {key} to {value}: {error}") from error

    def mac(self, interface: str) -> str:
        """The interface's MAC address."""
        return self.run("cat", f"/sys/class/net/{interface}/address").strip()

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """The calling thread is inside: sockets it opens belong there, also after it left again."""
        libc = ctypes.CDLL(None, use_errno=True)
        with Path("/proc/thread-self/ns/net").open("rb") as home, (NETNS_DIR / self.name).open("rb") as inside:
            if libc.setns(inside.fileno(), CLONE_NEWNET):
                raise LabError(f"{self.name}: cannot enter: {os.strerror(ctypes.get_errno())}")
            try:
                yield
            finally:
                libc.setns(home.fileno(), CLONE_NEWNET)


def _set_loopback_up() -> None:
    """In the calling thread's namespace, without the cost of a program."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", _IFF_UP))


def link(first: Namespace, first_interface: str, second: Namespace, second_interface: str, *, mtu: int = 1500) -> None:
    """A veth pair between two namespaces, both ends up.

    No two ends have one interface index: where they do, Linux takes a loss of carrier for not urgent, and may report it
    up to a second late.

    Raises: LabError: an interface name is taken or too long (15 characters).
    """
    first.batch(
        f"link add index {next(_indexes)} name {first_interface} mtu {mtu} type veth"
        f" peer index {next(_indexes)} name {second_interface} mtu {mtu} netns {second.name}",
        f"link set {first_interface} up",
    )
    second.batch(f"link set {second_interface} up")


def has_vlans(namespace: Namespace) -> bool:
    """Whether the kernel has VLAN devices; tried in a namespace."""
    try:
        namespace.batch("link add vlan-base type veth peer name vlan-peer")
        namespace.batch("link add link vlan-base name vlan-probe type vlan id 1")
    except LabError:
        return False
    finally:
        namespace.batch("link del vlan-base")
    return True


def remove_stale(prefix: str) -> list[str]:
    """Remove namespaces "PREFIXPID-..." whose maker is dead (killed before it could clean up); returns their names.

    Processes inside are those of the dead laboratory: they are ended too.
    """
    pattern = re.compile(re.escape(prefix) + r"(\d+)-")
    removed = []
    for path in sorted(NETNS_DIR.iterdir()) if NETNS_DIR.is_dir() else []:
        found = pattern.match(path.name)
        if found and not Path(f"/proc/{found[1]}").exists():
            remove(path.name)
            removed.append(path.name)
    return removed


def remove(name: str) -> None:
    """Remove a laboratory's namespace by name, with every process inside it."""
    for pid in run_command(["ip", "netns", "pids", name], check=False).split():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)
    run_command(["ip", "netns", "del", name], check=False)


def close_all() -> None:
    """Close all namespaces that are open, newest first."""
    for namespace in reversed(list(_open.values())):
        namespace.close()


def _clean_up_on_exit() -> None:
    """Once: close what is open at exit, and turn SIGTERM and SIGHUP into an orderly exit (SIGINT is one already)."""
    if getattr(_clean_up_on_exit, "done", False):
        return
    setattr(_clean_up_on_exit, "done", True)  # noqa: B010
    atexit.register(close_all)
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is signal.SIG_DFL:
                signal.signal(number, _exit)


def _exit(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)
