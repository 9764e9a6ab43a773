"""Asks a running bgpd how long its event loop was held at most; other daemons have no such figure."""

from __future__ import annotations

import http.client
import re
import socket

from labs.daemons import Bgpd, Daemon

_SAMPLE = re.compile(r"^bgpd_loop_stall(\w*)_seconds(?:\{[^}]*\})? ([0-9.eE+-]+)$", re.MULTILINE)
_FIGURES = {
    "": "loop_stall_ms",
    "_cpu": "loop_cpu_ms",
    "_cpu_quantile": "loop_cpu_p9999_ms",
}


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
    """{"loop_stall_ms": longest hold of the event loop so far}, that in processor time of its thread, and what one
    hold of ten thousand exceeds in it; empty if the daemon does not tell."""
    if not isinstance(daemon, Bgpd):
        return {}
    try:
        samples = _SAMPLE.findall(metrics_text(daemon))
    except OSError:
        return {}
    return {_FIGURES[which]: float(seconds) * 1000 for which, seconds in samples if which in _FIGURES}
