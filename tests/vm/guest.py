"""Runs a command as root under a Debian kernel of its own: user-mode Linux, one CPU, booted in a few seconds.

For tests of what the machine's kernel may lack: VRF, VLAN, bonding, dummy and netem devices. The guest sees the host's
files at the same paths under an overlay in memory, so that it may write anywhere and nothing of it stays, and has no
network but its own. Nothing of it outlives the call.

    python -m tests.vm.guest [--timeout SECONDS] [--memory MIB] [--writable DIR] -- COMMAND...

The exit status is the command's; 124 if it took too long, 125 if the guest died while it ran, and 69 if there can be no
guest here: its parts could not be fetched, or it did not start however often that was tried. A guest that dies says so
at once, and what its console showed. Needs root, apt and util-linux; `parts` fetches the rest.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from tests.vm.parts import CACHE, NoGuest, extended_state_library, unpacked

UNAVAILABLE, TIMED_OUT, DIED, TERMINATED = 69, 124, 125, 143
BOOTS = 3
"""How often a guest is started that does not come as far as its command."""
BOOT_S = 60.0
"""How long that may take; 2 s on an idle machine."""
PANIC_S = 3.0
"""How long a guest whose console shows a kernel panic may take to end by itself."""
MEMORY = Path("/dev/shm")
"""Where the guest's memory comes from; the kernel maps a file there, so it must be allowed to hold programs."""

# User-mode Linux is no init: as process 1 of a namespace it would ignore its own SIGABRT, and spin after a panic.
UNDER_A_SHELL = ["/bin/sh", "-c", 'LD_PRELOAD=$0 "$@"; exit $?']


class BootFailed(Exception):
    """The guest did not come as far as its command; the text says what its console showed."""


def overlay_script(busybox: Path, modules: Path, start: Path) -> str:
    """The guest's first program: an overlay in memory over the host's files, then `start` inside it."""
    return f"""#!{busybox} sh
{busybox} mount -t proc none /proc
{busybox} insmod {modules}/kernel/fs/overlayfs/overlay.ko
{busybox} mount -t tmpfs -o mode=755 none /mnt
{busybox} mkdir /mnt/upper /mnt/work /mnt/root
{busybox} mount -t overlay -o lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work none /mnt/root
{busybox} mount -t proc none /mnt/root/proc
exec {busybox} chroot /mnt/root /bin/sh {start}
"""


def start_script(busybox: Path, modules: Path, run: Path, job: Path, writable: list[Path]) -> str:
    """What runs inside the overlay: kernel file systems, module loading, shared folders, the job, and power off."""
    shares = "\n".join(f"mount -t hostfs -o {shlex.quote(str(d))} none {shlex.quote(str(d))}" for d in (run, *writable))
    return f"""PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin; export PATH
mount -t sysfs none /sys; mount -t devtmpfs none /dev; mount -t cgroup2 none /sys/fs/cgroup
mount -t tmpfs -o mode=755 none /run; mkdir -p /dev/pts /dev/shm /run/netns /run/lock /run/frr
mount -t devpts -o ptmxmode=666 none /dev/pts; mount -t tmpfs -o mode=1777 none /dev/shm
for i in 0:stdin 1:stdout 2:stderr; do ln -s /proc/self/fd/${{i%:*}} /dev/${{i#*:}}; done; ln -s /proc/self/fd /dev/fd
chown frr:frr /run/frr 2>/dev/null
mkdir -p /lib/modules/{modules.name}; mount --bind {modules} /lib/modules/{modules.name}
ln -sf {busybox} /run/modprobe; echo /run/modprobe >/proc/sys/kernel/modprobe
{busybox} modprobe ipv6
{shares}
ip link set lo up; hostname guest
{busybox} stty raw -echo </dev/ttyS0
: >{shlex.quote(str(run))}/started
/bin/sh {job} </dev/null >/dev/ttyS0 2>&1
echo $? >{shlex.quote(str(run))}/status
sync; echo o >/proc/sysrq-trigger; sleep 60
"""


def job_script(command: list[str]) -> str:
    """The command in the caller's directory and environment, with a sign that this is the guest."""
    environment = {**os.environ, "BGPD_GUEST": "1"}
    exports = [f"export {n}={shlex.quote(v)}" for n, v in environment.items() if re.fullmatch(r"[A-Za-z_]\w*", n)]
    return "\n".join([*exports, f"cd {shlex.quote(os.getcwd())} && exec {shlex.join(command)}\n"])


def write_scripts(run: Path, kernel: Path, command: list[str], writable: list[Path]) -> Path:
    """Writes the guest's three programs into its folder; the first of them."""
    busybox = unpacked("busybox-static") / "bin" / "busybox"
    (modules,) = (kernel / "usr/lib/uml/modules").iterdir()
    init, start, job = run / "init", run / "start", run / "job"
    init.write_text(overlay_script(busybox, modules, start))
    init.chmod(0o755)
    start.write_text(start_script(busybox, modules, run, job, writable))
    job.write_text(job_script(command))
    return init


def run_guest(command: list[str], *, timeout_s: float, memory_mib: int, writable: list[Path]) -> int:
    """Exit status of `command` in the guest; 124 if it took longer than `timeout_s`, 125 if the guest died.

    Raises: NoGuest: there can be none here.
    """
    kernel = unpacked("user-mode-linux")
    library = extended_state_library()
    for boot in range(1, BOOTS + 1):
        run = Path(tempfile.mkdtemp(prefix="run-", dir=CACHE))
        try:
            init = write_scripts(run, kernel, command, writable)
            return Guest(run, timeout_s).run(kernel_command(kernel, run, init, memory_mib), library, memory_mib)
        except BootFailed as error:
            print(f"guest: boot {boot} of {BOOTS} failed: {error}", file=sys.stderr)
        finally:
            shutil.rmtree(run, ignore_errors=True)
    raise NoGuest(f"user-mode Linux did not start in {BOOTS} boots")


def kernel_command(kernel: Path, run: Path, init: Path, memory_mib: int) -> list[str]:
    """The command line of user-mode Linux, but for its serial line."""
    return [
        *(str(kernel / "usr/bin/linux.uml"), f"mem={memory_mib}M", "root=/dev/root", "rootfstype=hostfs"),
        *("rootflags=/", "ro", f"init={init}", f"uml_dir={run}/", "umid=guest", "con=null", "con0=null,fd:1"),
        *("ssl=null", "loglevel=4", "bonding.max_bonds=0", "dummy.numdummies=0"),
    ]


class Guest:
    """One boot of a guest whose scripts are in the folder `run`."""

    def __init__(self, run: Path, timeout_s: float) -> None:
        self._run = run
        self._timeout_s = timeout_s
        self._panicked_at = 0.0

    def run(self, kernel: list[str], library: Path, memory_mib: int) -> int:
        """Exit status of the command, see `run_guest`.

        Raises: BootFailed: the guest did not come as far as the command.
        """
        read_end, write_end = os.pipe()
        # A PID namespace ends all the guest's processes with it; a network namespace keeps it off the host's network.
        contained = ["setpriv", "--pdeathsig", "KILL", "unshare", "--net", "--pid", "--fork", "--kill-child"]
        fits = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > memory_mib << 20
        with (self._run / "console").open("wb") as console:
            guest = subprocess.Popen(
                [*contained, *UNDER_A_SHELL, str(library), *kernel, f"ssl0=null,fd:{write_end}"],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                pass_fds=[write_end],
                env={**os.environ, "TMPDIR": str(MEMORY if fits else self._run)},
                start_new_session=True,  # a panic ends its whole process group
            )
        os.close(write_end)
        output = threading.Thread(target=_copy, args=(read_end,), daemon=True)
        output.start()
        try:
            why = self._wait(guest)
        finally:
            guest.kill()
            guest.wait()
        output.join(5)
        return self._status(why)

    def _wait(self, guest: subprocess.Popen[bytes]) -> str:
        """Until the guest has ended, or should have: then why it must be killed."""
        begin = time.monotonic()
        while True:
            try:
                guest.wait(0.5)
                return ""
            except subprocess.TimeoutExpired:
                now = time.monotonic()
            if self._panicked_for(now) > PANIC_S:
                return "its kernel panicked"
            if now - begin > BOOT_S and not self._started():
                return f"its command was not started in {BOOT_S:.0f} s"
            if now - begin > self._timeout_s:
                return f"not done after {self._timeout_s:.0f} s"

    def _panicked_for(self, now: float) -> float:
        if not self._panicked_at and "Kernel panic" in self._console():
            self._panicked_at = now
        return now - self._panicked_at if self._panicked_at else 0.0

    def _status(self, why: str) -> int:
        try:
            return int((self._run / "status").read_text())
        except (OSError, ValueError):
            said = f"{why or 'it died'}; its console ended:\n{self._console()[-4000:]}"
        if not self._started():
            raise BootFailed(said)
        print(f"guest: {said}", file=sys.stderr)
        return TIMED_OUT if why.startswith("not done") else DIED

    def _started(self) -> bool:
        return (self._run / "started").exists()

    def _console(self) -> str:
        return (self._run / "console").read_text(errors="replace")


def _copy(descriptor: int) -> None:
    while chunk := os.read(descriptor, 65536):
        sys.stdout.buffer.write(chunk)
        sys.stdout.buffer.flush()


def main() -> int:
    """Runs the command line; the exit status."""
    description = __doc__.splitlines()[0] if __doc__ else ""
    parser = argparse.ArgumentParser(prog="python -m tests.vm.guest", description=description)
    parser.add_argument("--timeout", type=float, default=600.0, help="seconds")
    parser.add_argument("--memory", type=int, default=1024, help="MiB, taken as touched")
    parser.add_argument(
        "--writable", type=Path, action="append", default=[], metavar="DIR", help="keep what is written there"
    )
    parser.add_argument("command", nargs="+")
    chosen = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))
    writable = [folder.resolve() for folder in chosen.writable]
    try:
        return run_guest(chosen.command, timeout_s=chosen.timeout, memory_mib=chosen.memory, writable=writable)
    except NoGuest as error:
        print(f"guest: there can be none here: {error}", file=sys.stderr)
        return UNAVAILABLE


if __name__ == "__main__":
    sys.exit(main())
