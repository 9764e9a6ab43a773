"""Runs a command as root under a Debian kernel of its own: user-mode Linux, one CPU, booted in a few seconds.

For tests of what the machine's kernel may lack: VRF, VLAN, bonding, dummy and netem devices. The guest sees the host's
files at the same paths under an overlay in memory, so that it may write anywhere and nothing of it stays, and has no
network but its own. It ends with the command's exit status; nothing of it outlives the call.

    python -m tests.vm.guest [--timeout SECONDS] [--memory MIB] [--writable DIR] -- COMMAND...

The kernel and a static busybox (shell, insmod, modprobe) are Debian's packages, downloaded once and unpacked into a
cache; nothing is installed. Needs root, apt and util-linux.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bgpd-vm"
TIMED_OUT, DIED, TERMINATED = 124, 125, 143
MEMORY = Path("/dev/shm")
"""Where the guest's memory comes from; the kernel maps a file there, so it must be allowed to hold programs."""


def unpacked(package: str) -> Path:
    """Folder of an unpacked Debian package, fetched once.

    Raises: subprocess.CalledProcessError: it could not be fetched; apt-get has said why.
    """
    root = CACHE / package
    if root.is_dir():
        return root
    print(f"guest: downloading Debian's {package} into {CACHE}", file=sys.stderr)
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        fetch = ["apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", package]
        if subprocess.run(fetch, cwd=folder, check=False).returncode:  # no package lists yet
            subprocess.run(["apt-get", "-qq", "update"], check=True)
            subprocess.run(fetch, cwd=folder, check=True)
        (archive,) = Path(folder).glob("*.deb")
        subprocess.run(["dpkg-deb", "-x", archive, f"{folder}/unpacked"], check=True)
        with contextlib.suppress(OSError):  # another guest was first
            Path(folder, "unpacked").rename(root)
    return root


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
    """Exit status of `command` in the guest; 124 if it took longer than `timeout_s`, 125 if the guest died."""
    root = unpacked("user-mode-linux")
    run = Path(tempfile.mkdtemp(prefix="run-", dir=CACHE))
    read_end, write_end = os.pipe()
    guest: subprocess.Popen[bytes] | None = None
    try:
        init = write_scripts(run, root, command, writable)
        kernel = [str(root / "usr/bin/linux.uml"), f"mem={memory_mib}M", "root=/dev/root", "rootfstype=hostfs"]
        kernel += ["rootflags=/", "ro", f"init={init}", f"uml_dir={run}/", "umid=guest", "con=null", "ssl=null"]
        kernel += [f"ssl0=null,fd:{write_end}", "loglevel=3", "bonding.max_bonds=0", "dummy.numdummies=0"]
        # A PID namespace ends all the guest's processes with it; a network namespace keeps it off the host's network.
        contained = ["setpriv", "--pdeathsig", "KILL", "unshare", "--net", "--pid", "--fork", "--kill-child"]
        fits = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > memory_mib << 20
        with (run / "console").open("wb") as console:
            guest = subprocess.Popen(
                [*contained, *kernel],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                pass_fds=[write_end],
                env={**os.environ, "TMPDIR": str(MEMORY if fits else run)},
            )
        os.close(write_end)
        output = threading.Thread(target=_copy, args=(read_end,), daemon=True)
        output.start()
        return _wait(guest, run, timeout_s, output)
    finally:
        if guest is not None and guest.poll() is None:
            guest.kill()
            guest.wait()
        shutil.rmtree(run, ignore_errors=True)


def _wait(guest: subprocess.Popen[bytes], run: Path, timeout_s: float, output: threading.Thread) -> int:
    try:
        guest.wait(timeout_s)
    except subprocess.TimeoutExpired:
        guest.kill()
        guest.wait()
        output.join(5)
        print(f"guest: not done after {timeout_s:.0f} s", file=sys.stderr)
        return TIMED_OUT
    output.join(5)
    try:
        return int((run / "status").read_text())
    except (OSError, ValueError):
        console = (run / "console").read_text(errors="replace")[-2000:]
        print(f"guest: died; its console ended:\n{console}", file=sys.stderr)
        return DIED


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
    return run_guest(chosen.command, timeout_s=chosen.timeout, memory_mib=chosen.memory, writable=writable)


if __name__ == "__main__":
    sys.exit(main())
