"""Child processes of a laboratory: started with a log file, waited for, and ended by their own process group.

Never ends a process that it did not start, and never by name.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

STOP_TIMEOUT_S = 5.0
LONGEST_PAUSE_S = 0.25
"""Between two looks at what is waited for."""

PATIENCE = 4.0 if "BGPD_GUEST" in os.environ else 1.0
"""By this much a wait may last longer, and look less often: in a user-mode guest programs start ten times as slowly."""


class LabError(Exception):
    """A step of the laboratory failed; the text says which, and holds what the programs concerned said."""


class LoggedProcess:
    """A running child process in a session of its own; its standard output and error go to `log_path`."""

    def __init__(
        self, command: Sequence[str], *, log_path: Path, env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> None:
        self.command = tuple(command)
        self.log_path = log_path
        with log_path.open("ab") as log:
            self._popen = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=cwd,
                env=None if env is None else {**os.environ, **env},
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Process id. `ip netns exec` replaces itself, so that this is the program's own."""
        return self._popen.pid

    @property
    def exit_code(self) -> int | None:
        """Exit code, negative for a signal; None while it runs.

        Its status stays with the kernel until `stop`: until then nobody else gets the number of the process group.
        """
        if self._popen.returncode is not None:
            return self._popen.returncode
        ended = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if ended is None:
            return None
        return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to the process alone; nothing happens if it has ended."""
        if self._popen.returncode is None:
            os.kill(self.pid, number)

    def wait(self, timeout_s: float) -> int:
        """Exit code, once it has ended.

        Raises: LabError: it still runs after `timeout_s`.
        """
        self._wait_for_leader(timeout_s)
        code = self.exit_code
        if code is None:
            raise LabError(f"{self.command[0]} (pid {self.pid}) still runs after {timeout_s} s\n{self.tail()}")
        return code

    def stop(self, number: signal.Signals = signal.SIGTERM, timeout_s: float = STOP_TIMEOUT_S) -> int:
        """End the process group, also where the process itself has ended: `number` first, SIGKILL after `timeout_s`.

        Returns the exit code of the process.
        """
        if self._popen.returncode is None:
            deadline = time.monotonic() + timeout_s
            self._signal_group(number)
            self._wait_for_leader(timeout_s)
            while _runs_in_group(self.pid) and time.monotonic() < deadline:
                time.sleep(0.01)
            self._signal_group(signal.SIGKILL)
        return self._popen.wait()

    def kill(self) -> int:
        """End the process group with SIGKILL: no goodbye to anybody. Returns the exit code."""
        return self.stop(signal.SIGKILL)

    def tail(self, lines: int = 20) -> str:
        """The last lines of its log, under a heading."""
        return tail(self.log_path, lines)

    def _wait_for_leader(self, timeout_s: float) -> None:
        """Until the process has ended, for `timeout_s` at most."""
        if self._popen.returncode is None:
            descriptor = os.pidfd_open(self.pid)
            try:
                ended = select.poll()
                ended.register(descriptor, select.POLLIN)
                ended.poll(timeout_s * 1000)
            finally:
                os.close(descriptor)

    def _signal_group(self, number: signal.Signals) -> None:
        os.killpg(self.pid, number)


def _runs_in_group(group: int) -> bool:
    """Whether a process of the group still runs; one whose status nobody has taken yet does not."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has gone
            state, _, its_group = path.read_text(errors="replace").rpartition(")")[2].split()[:3]
            if int(its_group) == group and state not in "ZX":
                return True
    return False


def tail(path: Path, lines: int = 20) -> str:
    """The last `lines` lines of a file, under a heading with its path."""
    text = path.read_text(errors="replace").splitlines() if path.exists() else ["(no such file)"]
    return "\n".join([f"--- {path}", *text[-lines:]])


def wait_until(
    predicate: Callable[[], object],
    timeout_s: float,
    what: str,
    *,
    logs: Sequence[Path] = (),
    interval_s: float = 0.05,
) -> float:
    """Call `predicate` until its answer is true, and return the seconds that took. A LabError from it means "not yet".

    It is asked every `interval_s`, and the more seldom the longer it takes: whoever is waited for needs the processor.

    Raises: LabError: not true within `timeout_s` (more in a guest); says what was waited for, the last answer, and the
        tails of `logs`.
    """
    timeout_s *= PATIENCE
    start = time.monotonic()
    while True:
        last: object
        asked = time.monotonic()
        try:
            last = predicate()
            if last:
                return time.monotonic() - start
        except LabError as error:
            last = error
        now = time.monotonic()
        if now - start > timeout_s:
            tails = "\n".join(tail(path) for path in logs)
            raise LabError(f"waited {timeout_s} s in vain for: {what}\nlast answer: {last!r}\n{tails}")
        time.sleep(max(interval_s * PATIENCE, now - asked, min((now - start) / 20, LONGEST_PAUSE_S)))


def run_command(
    command: Sequence[str], *, timeout_s: float = 30.0, stdin: str | None = None, check: bool = True
) -> str:
    """Run a command to its end and return its standard output.

    Raises: LabError: it failed (unless `check` is False) or did not end within `timeout_s`.
    """
    try:
        done = subprocess.run(
            command,
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise LabError(f"{' '.join(command)}: did not end within {timeout_s} s") from error
    except FileNotFoundError as error:
        raise LabError(f"{command[0]}: no such program; `make setup` installs what the laboratory needs") from error
    if check and done.returncode:
        said = (done.stderr + done.stdout).strip()
        raise LabError(f"{' '.join(command)}: exit code {done.returncode}\n{said}")
    return done.stdout
