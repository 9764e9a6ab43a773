"""Asks a running bgpd how long its event loop was held at most; other daemons have no such figure."""

from __future__ import annotations

import http.client
import re
import socket

from labs.daemons import Bgpd, Daemon

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


def stall_figures(daemon: Daemon | None) -> dict[str, float]:
    """{"loop_stall_ms": longest hold of the event loop so far}; empty if the daemon does not tell."""
    if not isinstance(daemon, Bgpd):
        return {}
    try:
        samples = _SAMPLE.findall(metrics_text(daemon))
    except OSError:
        return {}
    return {"loop_stall_ms": max(map(float, samples)) * 1000} if samples else {}
