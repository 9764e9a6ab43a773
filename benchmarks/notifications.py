"""Counts what the kernel tells its listeners about routes and nexthops: each route rewritten is one notification.

For measurements of "how many messages", never for those of time: a listener makes the kernel build a message per route.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections import Counter
from collections.abc import Iterator

from benchmarks.kernel_table import (
    RTM_DELNEXTHOP,
    RTM_DELROUTE,
    RTM_NEWNEXTHOP,
    RTM_NEWROUTE,
    SO_RCVBUFFORCE,
    SOL_NETLINK,
)
from benchmarks.topology import Topology

_ADD_MEMBERSHIP = 1
_GROUPS = (7, 11, 32)
_NAMES = {
    RTM_NEWROUTE: "route_writes",
    RTM_DELROUTE: "route_deletes",
    RTM_NEWNEXTHOP: "nexthop_writes",
    RTM_DELNEXTHOP: "nexthop_deletes",
}
_GROUP_EMPTIED = -RTM_DELNEXTHOP
"""A group goes with its last member, without a message of its own."""
_NHA_GROUP = 2
_MAIN_TABLE = 254


class Notifications:
    """Counts by kind since it was opened; routes of other tables than main are not counted."""

    def __init__(self, listener: socket.socket) -> None:
        self._socket = listener
        self._counts: Counter[int] = Counter()
        self.lost = False
        self._stopping = False
        self._thread = threading.Thread(target=self._count, daemon=True)
        self._thread.start()

    def _count(self) -> None:
        while True:
            try:
                data = self._socket.recv(1 << 16)
            except TimeoutError:
                if self._stopping:
                    return
                continue
            except OSError:
                self.lost = True
                continue
            start = 0
            while start + 16 <= len(data):
                length, kind = struct.unpack_from("=IH", data, start)
                if kind == RTM_DELNEXTHOP and _is_group(data, start, start + length):
                    self._counts[_GROUP_EMPTIED] += 1
                elif kind in (RTM_NEWNEXTHOP, RTM_DELNEXTHOP) or data[start + 20] == _MAIN_TABLE:
                    self._counts[kind] += 1
                start += (length + 3) & ~3

    def stop(self) -> dict[str, float]:
        """Ends counting once nothing is left to read; the counts by name."""
        self._stopping = True
        self._thread.join()
        return {name: float(self._counts[kind]) for kind, name in _NAMES.items()}


def _is_group(data: bytes, start: int, end: int) -> bool:
    """Whether a nexthop message (struct nhmsg and attributes) is about a group."""
    start += 16 + 8
    while start + 4 <= end:
        length, kind = struct.unpack_from("=HH", data, start)
        if kind == _NHA_GROUP:
            return True
        start += max(4, (length + 3) & ~3)
    return False


@contextlib.contextmanager
def counted(topology: Topology) -> Iterator[Notifications]:
    """Counts the host's notifications while the block runs; call `stop` inside it for the counts."""
    with topology.host.entered():
        listener = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    with listener:
        listener.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 30)
        listener.bind((0, 0))
        for group in _GROUPS:
            listener.setsockopt(SOL_NETLINK, _ADD_MEMBERSHIP, group)
        listener.settimeout(0.5)
        notifications = Notifications(listener)
        yield notifications
        notifications.stop()
