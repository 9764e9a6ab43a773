"""Keeps descriptors of a program from one run of it to the next, as systemd does: `python -m ... PROGRAM ARGUMENTS`.

SIGUSR1 restarts the program, by SIGTERM; SIGUSR2 does so, too, and damages the snapshot that it leaves. A program that
has ended by itself is started again with what it left. SIGTERM ends the program and this.
"""

from __future__ import annotations

import array
import contextlib
import fcntl
import os
import select
import signal
import socket
import sys
import tempfile
from pathlib import Path

PLACES = 1024
SIGNALS = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM, signal.SIGCHLD)


class Manager:
    """One program. `kept` are the descriptors that it has left, by name, in the order in which they came."""

    def __init__(self, command: list[str]) -> None:
        self._command = command
        self._pid = 0
        self.kept: list[tuple[str, int]] = []
        directory = tempfile.mkdtemp(prefix="bgpd-manager-")
        self._path = str(Path(directory) / "notify")
        self._notified = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notified.bind(self._path)
        self._waking, waker = socket.socketpair()
        waker.setblocking(False)
        signal.set_wakeup_fd(waker.fileno())
        self._waker = waker
        self._damages = False

    def run(self) -> None:
        """Until SIGTERM."""
        for number in SIGNALS:
            signal.signal(number, lambda *_: None)
        self._start()
        while True:
            ready, _, _ = select.select([self._notified, self._waking], [], [])
            if self._notified in ready:
                self._take()
            if self._waking in ready and not self._heard(self._waking.recv(64)):
                break
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)

    def _heard(self, numbers: bytes) -> bool:
        for number in numbers:
            if number == signal.SIGTERM:
                return False
            if number in (signal.SIGUSR1, signal.SIGUSR2):
                self._damages = number == signal.SIGUSR2
                os.kill(self._pid, signal.SIGTERM)
        if signal.SIGCHLD in numbers and os.waitpid(self._pid, os.WNOHANG)[0]:
            self._drain()
            if self._damages:
                self._damage()
            self._start()
        return True

    def _damage(self) -> None:
        self._damages = False
        for _, number in self.kept:
            if os.readlink(f"/proc/self/fd/{number}").startswith("/memfd:bgpd-handover "):
                os.pwrite(number, b"?", os.fstat(number).st_size - 1)

    def _drain(self) -> None:
        self._notified.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                self._take()
        self._notified.setblocking(True)

    def _take(self) -> None:
        text, ancillary, _, _ = self._notified.recvmsg(4096, socket.CMSG_SPACE(253 * 4), socket.MSG_CMSG_CLOEXEC)
        numbers: list[int] = []
        for level, kind, data in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                found = array.array("i")
                found.frombytes(data)
                numbers += found
        said = dict(line.partition("=")[::2] for line in text.decode().splitlines())
        if "FDSTORE" in said:
            self.kept += [(said["FDNAME"], number) for number in numbers]
            return
        for number in numbers:  # BARRIER=1: who sent it waits for this
            os.close(number)
        if "FDSTOREREMOVE" in said:
            for name, number in self.kept:
                if name == said["FDNAME"]:
                    os.close(number)
            self.kept = [one for one in self.kept if one[0] != said["FDNAME"]]

    def _start(self) -> None:
        """A signal to the program waits until it is one: both processes have one pipe that tells of signals before."""
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        self._pid = os.fork()
        if self._pid:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
            return
        signal.set_wakeup_fd(-1)
        environment = {**os.environ, "NOTIFY_SOCKET": self._path, "FDSTORE": str(PLACES)}
        if self.kept:
            environment["LISTEN_PID"] = str(os.getpid())
            environment["LISTEN_FDS"] = str(len(self.kept))
            environment["LISTEN_FDNAMES"] = ":".join(name for name, _ in self.kept)
        least = 3 + len(self.kept)  # all above those that they are put at
        high = [fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, least) for _, number in self.kept]
        for index, number in enumerate(high):
            os.dup2(number, 3 + index, inheritable=True)
        for number in SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        os.execvpe(self._command[0], self._command, environment)


if __name__ == "__main__":
    Manager(sys.argv[1:]).run()
