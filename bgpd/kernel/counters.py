"""What the kernel counts: packets of interfaces (RTM_GETSTATS), and of nexthop groups (RTM_GETNEXTHOP, Linux 6.9).

An interface's packets are those that it received, or sent. A group's are those for which the kernel chose a member: of
IPv4 it chooses only among several, so that a group with one member counts nothing, and of packets that this host itself
sends not each is counted. Decides nothing.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from types import TracebackType

from bgpd.kernel.netlink import (
    U32,
    MessageFlag,
    MessageKind,
    attribute,
    attributes,
    message,
    messages,
    open_socket,
)
from bgpd.kernel.nexthop_messages import NHA_ID, NHMSG

_IF_STATS = struct.Struct("=BBHII")
"""if_stats_msg: family, padding, interface index, filter (linux/if_link.h)."""
_IFLA_STATS_LINK_64 = 1
_PACKETS = struct.Struct("=QQ")
"""rtnl_link_stats64 begins with the packets received and sent."""
_NHA_OP_FLAGS = 14
_NHA_GROUP_STATS = 15
_NHA_GROUP_STATS_ENTRY_PACKETS = 2
_DUMP_STATS = 1
_TIMEOUT_S = 5.0


class TrafficCounters:
    """Reads counters in the network namespace of the thread that enters it; each answer is None if there is none."""

    def __enter__(self) -> TrafficCounters:
        self._socket = open_socket()
        self._socket.settimeout(_TIMEOUT_S)
        self._sequence = 0
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def interface(self, index: int) -> tuple[int, int] | None:
        """Packets that an interface received and sent. Raises: OSError: the kernel does not answer."""
        request = _IF_STATS.pack(socket.AF_UNSPEC, 0, 0, index, 1 << (_IFLA_STATS_LINK_64 - 1))
        answer = self._ask(MessageKind.GET_STATS, request)
        if answer is None:
            return None
        found = attributes(answer, _IF_STATS.size, len(answer)).get(_IFLA_STATS_LINK_64)
        return None if found is None else _PACKETS.unpack_from(found)

    def group(self, identifier: int) -> int | None:
        """Packets that a nexthop group's members were chosen for. Raises: OSError: the kernel does not answer."""
        request = NHMSG.pack(socket.AF_UNSPEC, 0, 0, 0, 0) + attribute(NHA_ID, U32.pack(identifier))
        answer = self._ask(MessageKind.GET_NEXTHOP, request + attribute(_NHA_OP_FLAGS, U32.pack(_DUMP_STATS)))
        if answer is None:
            return None
        found = attributes(answer, NHMSG.size, len(answer)).get(_NHA_GROUP_STATS)
        return None if found is None else sum(map(_packets_of, _each(found)))

    def _ask(self, kind: int, payload: bytes) -> bytes | None:
        """The payload of the one answer; None if the kernel has no such object, or does not know the question."""
        self._sequence += 1
        self._socket.send(message(kind, MessageFlag.REQUEST, payload, sequence=self._sequence))
        while True:
            data = self._socket.recv(1 << 16)
            for found, _flags, sequence, start, end in messages(data):
                if sequence == self._sequence:
                    return None if found == MessageKind.ERROR else data[start:end]


def _packets_of(entry: bytes) -> int:
    """Of one member; the kernel writes the number in 4 or 8 bytes."""
    packets = attributes(entry, 0, len(entry)).get(_NHA_GROUP_STATS_ENTRY_PACKETS, b"")
    return int.from_bytes(packets, "little" if struct.pack("=H", 1)[0] else "big")


def _each(data: bytes) -> Iterator[bytes]:
    """The contents of all nested attributes, which have the same type."""
    start = 0
    while start + 4 <= len(data):
        length, _kind = struct.unpack_from("=HH", data, start)
        if length < 4:
            return
        yield data[start + 4 : start + length]
        start += (length + 3) & ~3
