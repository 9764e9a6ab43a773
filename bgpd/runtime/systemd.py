"""What the daemon tells systemd, and how often systemd wants a sign of life (sd_notify(3), sd_watchdog_enabled(3)).

Without systemd (no NOTIFY_SOCKET) everything here does nothing. Decides nothing.
"""

from __future__ import annotations

import os
import socket
import time

READY = "READY=1"
STOPPING = "STOPPING=1"
WATCHDOG = "WATCHDOG=1"


def notify(*assignments: str) -> bool:
    """Sends assignments ("READY=1", "STATUS=3 of 3 neighbors established"); whether systemd was there to hear them."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path:
        return False
    address = "\0" + path[1:] if path.startswith("@") else path
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        try:
            sender.connect(address)
            sender.send("\n".join(assignments).encode())
        except OSError:
            return False
    return True


def status(text: str) -> str:
    """The assignment that `systemctl status` shows."""
    return "STATUS=" + text.replace("\n", " ")


def reloading() -> tuple[str, str]:
    """The assignments that begin a reload; READY ends it (MONOTONIC_USEC is asked for by Type=notify-reload)."""
    return "RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}"


def watchdog_interval_s() -> float | None:
    """Seconds between two signs of life: half of what systemd waits for; None if it does not wait for any."""
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    wanted_of = os.environ.get("WATCHDOG_PID", "")
    if not microseconds.isdecimal() or (wanted_of and wanted_of != str(os.getpid())):
        return None
    return int(microseconds) / 2_000_000
