"""What the daemon tells systemd, how often systemd wants a sign of life, and the descriptors that systemd keeps for it
(sd_notify(3), sd_watchdog_enabled(3), sd_pid_notify_with_fds(3), sd_listen_fds(3)).

Without systemd (no NOTIFY_SOCKET) everything here does nothing. Decides nothing.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
import time
from collections.abc import Sequence

READY = "READY=1"
STOPPING = "STOPPING=1"
WATCHDOG = "WATCHDOG=1"

START_S = 90.0
"""So long a start may take once no neighbor waits for it: there is none, or it hears KEEPALIVEs meanwhile."""
LEFT_OPEN = "BGPD_DESCRIPTORS"
"""Where a process became this one: names what it has left open (handover/store.py)."""

_SEND_TIMEOUT_S = 5
"""Systemd reads what it is sent when it has time: while it reads all units anew, say, it has none."""
_FIRST_PASSED = 3
_MOST_AT_ONCE = 253
"""SCM_MAX_FD of Linux."""


def notify(*assignments: str, waits: bool = True) -> bool:
    """Sends assignments ("READY=1", "STATUS=3 of 3 neighbors established"); whether systemd was there to hear them.

    A systemd that reads nothing (it is frozen after a fault of its own, say) is waited for for five seconds at most,
    and not at all unless this `waits`.
    """
    if not os.environ.get("NOTIFY_SOCKET", ""):
        return False
    with contextlib.suppress(OSError):
        with _connected() as sender:
            sender.settimeout(_SEND_TIMEOUT_S if waits else 0)
            sender.send("\n".join(assignments).encode())
        return True
    return False


def _connected() -> socket.socket:
    """A socket to systemd. Raises: OSError: nobody is there."""
    path = os.environ["NOTIFY_SOCKET"]
    sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    try:
        sender.connect("\0" + path[1:] if path.startswith("@") else path)
    except BaseException:
        sender.close()
        raise
    return sender


# The store: descriptors that systemd keeps while the service restarts.


def store_places() -> int:
    """How many descriptors systemd keeps for this service, 0 if none: systemd says so from version 254 on, the unit
    before that.
    """
    said = os.environ.get("FDSTORE", "")
    return int(said) if said.isdecimal() and os.environ.get("NOTIFY_SOCKET", "") else 0


def store_descriptors(name: str, descriptors: Sequence[int]) -> None:
    """Have systemd keep duplicates by that name, and wait until it has them. What it has no place for, it closes and
    says nothing.

    Raises: OSError: it did not take them all in time.
    """
    # Not polled: systemd would close a connection that the neighbor closes meanwhile, and nobody would know.
    text = f"FDSTORE=1\nFDNAME={name}\nFDPOLL=0"
    with _connected() as sender:
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("@ll", _SEND_TIMEOUT_S, 0))
        for start in range(0, len(descriptors), _MOST_AT_ONCE):
            socket.send_fds(sender, [text.encode()], descriptors[start : start + _MOST_AT_ONCE])
        _wait_until_read(sender)


def remove_descriptors(name: str) -> None:
    """Have systemd close all that it keeps by that name; without systemd nothing happens."""
    notify("FDSTOREREMOVE=1", f"FDNAME={name}")


def _wait_until_read(sender: socket.socket) -> None:
    """Until systemd has read all that it was sent: then it closes the descriptor that comes with the last message."""
    receiver, barrier = os.pipe2(os.O_CLOEXEC)
    try:
        try:
            socket.send_fds(sender, [b"BARRIER=1"], [barrier])
        finally:
            os.close(barrier)
        poll = select.poll()
        poll.register(receiver, 0)
        if not poll.poll(_SEND_TIMEOUT_S * 1000):
            raise TimeoutError(f"systemd did not answer for {_SEND_TIMEOUT_S} s")
    finally:
        os.close(receiver)


def _numbers(count: int) -> Sequence[int]:
    return range(_FIRST_PASSED, _FIRST_PASSED + count)


def passed_descriptors() -> list[tuple[str, int]]:
    """What systemd kept for this process, with names, closed on exec; a second call finds nothing."""
    process, count = os.environ.pop("LISTEN_PID", ""), os.environ.pop("LISTEN_FDS", "")
    names = os.environ.pop("LISTEN_FDNAMES", "").split(":")
    if process != str(os.getpid()) or not count.isdecimal():
        return []
    descriptors = _numbers(int(count))
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)
    names += [""] * (len(descriptors) - len(names))
    return list(zip(names, descriptors, strict=False))


def status(text: str) -> str:
    """The assignment that `systemctl status` shows."""
    return "STATUS=" + text.replace("\n", " ")


def reloading() -> tuple[str, str]:
    """The assignments that begin a reload; READY ends it (MONOTONIC_USEC is asked for by Type=notify-reload)."""
    return "RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}"


def begin_start() -> None:
    """The first thing of a start: there is time for it, unless descriptors of sessions were passed. On a busy host, or
    with a slow disk, imports alone may take longer than the unit gives to who takes over sessions (TimeoutStartSec=).
    """
    if "LISTEN_FDS" not in os.environ and LEFT_OPEN not in os.environ:
        extend_timeout(START_S)


def extend_timeout(seconds: float) -> None:
    """The start of the service, or its stop, may take so long from now on, whatever its unit says (TimeoutStartSec=,
    TimeoutStopSec=)."""
    notify(f"EXTEND_TIMEOUT_USEC={round(seconds * 1_000_000)}")


def watchdog_interval_s() -> float | None:
    """Seconds between two signs of life: half of what systemd waits for; None if it does not wait for any."""
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    wanted_of = os.environ.get("WATCHDOG_PID", "")
    if not microseconds.isdecimal() or (wanted_of and wanted_of != str(os.getpid())):
        return None
    return int(microseconds) / 2_000_000
