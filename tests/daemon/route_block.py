"""A block of routes that a leaf announces at once, and what the daemon takes until the kernel has all of them."""

from __future__ import annotations

import socket
import time

from benchmarks.usage import ran_s
from labs.namespace import Namespace
from labs.process import LabError
from tests.daemon.wire_peer import update, withdrawal

ROUTES = 5_000
_PER_MESSAGE = 500
_RTMGRP_IPV4_ROUTE = 0x40
_DESTINATION = b"\x08\x00\x01\x00\x0b"
"""RTA_DST with an address of 11.0.0.0/8 (linux/rtnetlink.h)."""
_BUFFER = 64 << 20
_SO_RCVBUFFORCE = 33
_LONGEST_S = 120.0


class RouteBlock:
    """`ROUTES` prefixes of 11.0.0.0/8 on the session `connection`, watched in the kernel of `host`; a context manager.

    The kernel's own notifications tell of them, so that the daemon is asked for nothing.
    """

    def __init__(self, host: Namespace, connection: socket.socket, *, asn: int, next_hop: str) -> None:
        prefixes = [f"11.{number >> 8}.{number & 255}.0/24" for number in range(ROUTES)]
        lots = [tuple(prefixes[start : start + _PER_MESSAGE]) for start in range(0, ROUTES, _PER_MESSAGE)]
        self._come = b"".join(update(lot, asn=asn, next_hop=next_hop) for lot in lots)
        self._go = b"".join(withdrawal(*lot) for lot in lots)
        self._connection = connection
        with host.entered():
            self._watch = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self._watch.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
        self._watch.settimeout(_LONGEST_S)
        self._watch.bind((0, _RTMGRP_IPV4_ROUTE))

    def __enter__(self) -> RouteBlock:
        return self

    def __exit__(self, *exception: object) -> None:
        self._watch.close()

    def comes_and_goes(self, pid: int) -> float:
        """Announce all, wait until the kernel has them, withdraw all, wait until they are gone.

        For how many seconds all threads of the daemon together ran until the kernel had them.

        Raises: LabError: it did not happen.
        """
        ran = ran_s([pid])
        self._say(self._come)
        taken_s = ran_s([pid]) - ran
        self._say(self._go)
        return taken_s

    def _say(self, messages: bytes) -> None:
        self._connection.sendall(messages)
        changed, deadline = 0, time.monotonic() + _LONGEST_S
        while changed < ROUTES:
            try:
                changed += self._watch.recv(1 << 16).count(_DESTINATION)
            except TimeoutError as error:
                raise LabError(f"{changed} of {ROUTES} routes changed in the kernel") from error
            if time.monotonic() > deadline:
                raise LabError(f"{changed} of {ROUTES} routes changed in the kernel")
