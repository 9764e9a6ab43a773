"""Asks a running bgpd how long its event loop was held at most; other daemons have no such figure."""

from __future__ import annotations

import http.client
import re
import socket

from benchmarks.peers import Running
from labs.daemons import Bgpd

_SAMPLE = re.compile(r"^bgpd_loop_stall_seconds(?:_max)?(?:\{[^}]*\})? ([0-9.eE+-]+)$", re.MULTILINE)


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=10.0)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def metrics_text(daemon: Bgpd) -> str:
    """The daemon's metrics in Prometheus text form."""
    connection = _UnixConnection(str(daemon.socket_path))
    try:
        connection.request("GET", "/metrics")
        return connection.getresponse().read().decode()
    finally:
        connection.close()


def loop_stall_s(running: Running) -> float | None:
    """Longest hold of the event loop so far in seconds; None if the daemon does not tell."""
    if not isinstance(running.daemon, Bgpd):
        return None
    try:
        samples = _SAMPLE.findall(metrics_text(running.daemon))
    except OSError:
        return None
    return max(map(float, samples), default=None)
