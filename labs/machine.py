"""A machine with a real systemd: PID 1 in a container of namespaces, over a throw-away overlay of this machine's files.

Commands run inside and see the same files at the same paths; what they write stays until the machine goes. Its network
is a namespace given to it. The kernel is this machine's. Needs root, and Debian's systemd and systemd-container.
"""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
import uuid
from pathlib import Path
from types import TracebackType

from labs.namespace import NETNS_DIR, Namespace
from labs.process import LabError, LoggedProcess, run_command, wait_until

BOOT_S = 60.0
ENDING_S = 20.0
"""How long systemd-nspawn may take to notice that its machine is gone: it takes the status of process 1, and ends."""
FILES_MIB = 2048
"""What the machine may write, at most; in memory."""

MASKED = (
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "man-db.timer",
    "tmp.mount",
)
"""Timers of basic.target, which does nothing but boot, and what would hide the files in /tmp."""

# In a mount namespace of its own, so that the mounts go with the last process. $1 is an empty directory.
START = """set -e
mount --make-rprivate /
mount -t tmpfs -o size=$2m,mode=755 none "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" none "$1/root"
root=$1/root
printf '%s\\n' "$3" >"$root/etc/machine-id"
units=$4 network=$5
shift 5
mkdir -p "$root/etc/systemd/system"
mkdir -p "$root/etc/tmpfiles.d"
ln -sf /dev/null "$root/etc/tmpfiles.d/tmp.conf"  # which empties /tmp at boot
for unit in $units; do ln -sf /dev/null "$root/etc/systemd/system/$unit"; done
exec systemd-nspawn --quiet --directory="$root" --register=no --keep-unit --console=pipe --capability=all \\
  --network-namespace-path="$network" --boot "$@" systemd.unit=basic.target
"""


class Machine:
    """A context manager: booted on entering, gone without a trace on leaving. No service of this machine runs in it."""

    def __init__(self, network: Namespace) -> None:
        self._network = network
        self._directory = tempfile.TemporaryDirectory(prefix="bgpd-machine-")
        self._process: LoggedProcess | None = None
        self._console = Path(self._directory.name, "console")
        self._init = 0

    def __enter__(self) -> Machine:
        mount_point = Path(self._directory.name, "machine")
        mount_point.mkdir()
        name, identity = f"machine{mount_point.stat().st_ino}", uuid.uuid4().hex
        network = str(NETNS_DIR / self._network.name)
        arguments = (str(mount_point), str(FILES_MIB), identity, " ".join(MASKED), network, f"--machine={name}")
        self._process = LoggedProcess(
            ["unshare", "--mount", "sh", "-c", START, "sh", *arguments],
            log_path=self._console,
            env={"SYSTEMD_NSPAWN_TMPFS_TMP": "0"},  # what is in /tmp is seen inside, as all else is
        )
        try:
            wait_until(self._is_up, BOOT_S, "systemd to have started", logs=[self._console], interval_s=0.1)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends all that runs inside, without a shutdown."""
        if self._process is not None:
            init = self._init or _first_process_below(self._process.pid)
            if init and self._process.exit_code is None:
                os.kill(init, signal.SIGKILL)
                with contextlib.suppress(LabError):  # it is left to whoever takes orphans, who may never look
                    self._process.wait(ENDING_S)
            self._process.stop(signal.SIGKILL)
            self._process = None
        self._directory.cleanup()

    def run(self, *command: str, check: bool = True, stdin: str | None = None, timeout_s: float = 60.0) -> str:
        """Standard output of a command, run inside as root in the directory /.

        Raises: LabError: it failed (unless `check` is False), or took too long.
        """
        enter = [
            "nsenter",
            f"--target={self._init}",
            "--all",
            "--wd=/",
            "env",
            "-i",
            "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
        ]
        return run_command([*enter, *command], check=check, stdin=stdin, timeout_s=timeout_s)

    def write(self, path: str, text: str, *, mode: int = 0o644) -> None:
        """A file inside, and its directory."""
        script = 'mkdir -p "$(dirname "$1")" && cat >"$1" && chmod "$2" "$1"'
        self.run("sh", "-c", script, "sh", path, f"{mode:o}", stdin=text)

    def _is_up(self) -> bool:
        assert self._process is not None
        if self._process.exit_code is not None:
            raise LabError("systemd-nspawn has ended")
        self._init = _first_process_below(self._process.pid)
        if not self._init:
            return False
        return self.run("systemctl", "is-system-running", check=False).strip() in ("running", "degraded")


def _first_process_below(pid: int) -> int:
    """The child of systemd-nspawn that is process 1 of its own PID namespace; 0 if it is not there yet."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        for child in children:
            lines = Path(f"/proc/{child}/status").read_text().splitlines()
            numbers = next(line for line in lines if line.startswith("NSpid:")).split()[1:]
            if len(numbers) > 1 and numbers[-1] == "1":
                return int(child)
    except (OSError, StopIteration):
        pass
    return 0
