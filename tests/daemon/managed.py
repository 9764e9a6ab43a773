"""bgpd on the fabric's host under a service manager that keeps what it leaves, as systemd does."""

from __future__ import annotations

import contextlib
import select
import signal
import socket
import sys
import time
from collections.abc import Iterator

from tests.daemon.fabric import Fabric, Host, config
from tests.daemon.wire_peer import KEEPALIVE, receive

SETTLED_S = 0.5
"""For so long a neighbor that was handed over is heard for what it should not be sent."""


class ManagedHost(Host):
    """`hand_over` restarts it."""

    def start(self, *, wait: bool = True) -> None:
        self.program = [sys.executable, "-m", "tests.daemon.service_manager", sys.executable, "-m", "bgpd"]
        super().start(wait=wait)
        self.program = [sys.executable, "-m", "bgpd"]

    def hand_over(self, number: signal.Signals = signal.SIGUSR1, *, converges: bool = True) -> None:
        """Restart, and wait until the next process has started; and has converged, unless there is nobody to hear."""
        began, ready = len(self.log("bgpd.started")), len(self.log("bgpd.converged"))
        self.processes[-1].send_signal(number)
        self.wait(lambda: len(self.log("bgpd.started")) > began, "the next process to start", timeout_s=60)
        if converges:
            self.wait(lambda: len(self.log("bgpd.converged")) > ready, "the next process to converge", timeout_s=60)

    def pid(self) -> int:
        """Of the process of now."""
        return int(self.health()["pid"])


@contextlib.contextmanager
def managed(fabric: Fabric, *tables: str) -> Iterator[ManagedHost]:
    """bgpd with a configuration of these tables on the fabric's host."""
    with ManagedHost(fabric.host, config(*tables)) as host:
        yield host


def said(connection: socket.socket, seconds: float = SETTLED_S) -> list[tuple[int, bytes]]:
    """The messages that have come on a connection, and come until nothing does for so long; no KEEPALIVEs."""
    found = []
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0 and select.select([connection], [], [], left)[0]:
        one = receive(connection)
        if one[0] != KEEPALIVE:
            found.append(one)
            end = time.monotonic() + seconds
    return found
