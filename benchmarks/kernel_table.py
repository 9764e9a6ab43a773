"""Reads the kernel's routes and nexthop objects by bare netlink: single looks that cost nothing, and fast full dumps.

Independent of every daemon and of bgpd's own netlink code, so that a mistake there cannot hide here. Never writes.
A next hop is the packed gateway; a route's next hops are a frozenset of them, with dead groups resolved to nothing.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator, Sequence

RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26
RTM_NEWNEXTHOP, RTM_DELNEXTHOP, RTM_GETNEXTHOP = 104, 105, 106
NLMSG_ERROR, NLMSG_DONE = 2, 3
NLM_F_REQUEST, NLM_F_DUMP, NLM_F_DUMP_INTR = 1, 0x300, 0x10
RTM_F_FIB_MATCH = 0x2000
RTNH_F_DEAD = 1
RT_TABLE_COMPAT = 252
RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_MULTIPATH, RTA_TABLE, RTA_VIA, RTA_NH_ID = 1, 4, 5, 9, 15, 18, 30
NHA_ID, NHA_GROUP, NHA_GATEWAY = 1, 2, 6
SOL_NETLINK, NETLINK_GET_STRICT_CHK = 270, 12
SO_RCVBUFFORCE = 33
_HEADER = struct.Struct("=IHHII")
_RTMSG = struct.Struct("=BBBBBBBBI")

NextHops = frozenset[bytes]
NOTHING: NextHops = frozenset()


class DumpInterrupted(Exception):
    """The table changed while it was read; read it again."""


_MAIN = 254


class KernelTable:
    """A netlink request socket of the namespace in which it was opened. `table` and `protocol` narrow full dumps.

    `interface`: single looks ask for a route out of this one; a policy rule of it leads them to a VRF's table.
    """

    def __init__(self, *, family: str, table: int = 254, protocol: int = 0, interface: str = "") -> None:
        self.af = socket.AF_INET6 if family == "ipv6-unicast" else socket.AF_INET
        self.table = table
        self.protocol = protocol
        self._out = _attribute(RTA_OIF, struct.pack("=I", socket.if_nametoindex(interface))) if interface else b""
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 8 << 20)
        self._socket.setsockopt(SOL_NETLINK, NETLINK_GET_STRICT_CHK, 1)
        self._socket.bind((0, 0))
        self._sequence = 0
        statistics = "fib_triestat" if self.af == socket.AF_INET else "rt6_stats"
        self._statistics = open(f"/proc/thread-self/net/{statistics}")  # noqa: SIM115

    def close(self) -> None:
        """Closes the socket."""
        self._socket.close()
        self._statistics.close()

    def size(self) -> int | None:
        """How many routes the main table has; None of another table. For IPv4 the kernel walks over its trie.

        For IPv6 it counts those of all tables, and each next hop of a route that has no nexthop object.
        """
        if self.table != _MAIN:
            return None
        self._statistics.seek(0)
        if self.af == socket.AF_INET6:
            return int(self._statistics.read().split()[3], 16)
        main = self._statistics.read().partition("Main:")[2]
        return int(main.partition("Prefixes:")[2].split()[0])

    def look(self, prefixes: Sequence[bytes]) -> list[NextHops | None]:
        """Next hops of exactly these prefixes as the kernel has them now; None where there is no route.

        All are asked in one datagram, then once for each nexthop object that they name.
        """
        size = 4 if self.af == socket.AF_INET else 16
        head = _RTMSG.pack(self.af, size * 8, 0, 0, 0, 0, 0, 0, RTM_F_FIB_MATCH)
        bodies = [head + _attribute(RTA_DST, prefix[1:].ljust(size, b"\0")) + self._out for prefix in prefixes]
        self._request(RTM_GETROUTE, NLM_F_REQUEST, *bodies)
        answers = [self._socket.recv(65536) for _ in prefixes]
        objects: dict[int, NextHops] = {}
        return [self._read_look(prefix, answer, objects) for prefix, answer in zip(prefixes, answers)]

    def _read_look(self, prefix: bytes, answer: bytes, objects: dict[int, NextHops]) -> NextHops | None:
        size = 4 if self.af == socket.AF_INET else 16
        length, kind = _HEADER.unpack_from(answer)[:2]
        if kind != RTM_NEWROUTE:
            return None
        attributes = dict(_attributes(answer, 28, length))
        # Linux caches IPv6 lookups by nexthop object and may name another route of the same one, whatever its length.
        shared = self.af == socket.AF_INET6 and RTA_NH_ID in attributes
        exact = answer[17] == prefix[0] and attributes.get(RTA_DST, b"\0" * size)[: len(prefix) - 1] == prefix[1:]
        if not shared and not exact:
            return None
        if RTA_NH_ID in attributes:
            number = struct.unpack("=I", attributes[RTA_NH_ID])[0]
            if number not in objects:
                objects[number] = self._nexthop(number)
        return _next_hops(attributes, objects)

    def dump(self) -> dict[bytes, NextHops]:
        """Every route of the table (of the protocol): prefix to next hops.

        Raises: DumpInterrupted.
        """
        groups = self.nexthops()
        meanings: dict[bytes, NextHops] = {}
        found: dict[bytes, NextHops] = {}
        for rows in self._rows():
            for length, protocol, table, kind, address, rest in rows:
                if protocol == 2 or kind != 1 or table != (self.table if self.table < 256 else RT_TABLE_COMPAT):
                    continue
                meaning = meanings.get(rest)
                if meaning is None:
                    meaning = meanings[rest] = _next_hops(dict(_attributes(rest, 0, len(rest))), groups)
                found[bytes((length,)) + address[: (length + 7) >> 3]] = meaning
        return found

    def nexthops(self) -> dict[int, NextHops]:
        """All nexthop objects, groups resolved."""
        singles: dict[int, bytes] = {}
        members: dict[int, list[int]] = {}
        for message in self._dump(RTM_GETNEXTHOP, struct.pack("=BBBBI", 0, 0, 0, 0, 0)):
            attributes = dict(_attributes(message, 24, len(message)))
            number = struct.unpack("=I", attributes[NHA_ID])[0]
            if NHA_GROUP in attributes:
                members[number] = [entry[0] for entry in struct.iter_unpack("=IBBH", attributes[NHA_GROUP])]
            else:
                singles[number] = attributes.get(NHA_GATEWAY, b"")
        resolved = {number: frozenset((gateway,)) for number, gateway in singles.items()}
        for number, group in members.items():
            resolved[number] = frozenset(singles[member] for member in group if member in singles)
        return resolved

    def _nexthop(self, number: int) -> NextHops:
        self._request(
            RTM_GETNEXTHOP,
            NLM_F_REQUEST,
            struct.pack("=BBBBI", 0, 0, 0, 0, 0) + _attribute(NHA_ID, struct.pack("=I", number)),
        )
        answer = self._socket.recv(65536)
        length, kind = _HEADER.unpack_from(answer)[:2]
        if kind != RTM_NEWNEXTHOP:
            return NOTHING
        attributes = dict(_attributes(answer, 24, length))
        if NHA_GROUP in attributes:
            parts = (self._nexthop(entry[0]) for entry in struct.iter_unpack("=IBBH", attributes[NHA_GROUP]))
            return frozenset().union(*parts)
        return frozenset((attributes.get(NHA_GATEWAY, b""),))

    def _request(self, kind: int, flags: int, *bodies: bytes) -> None:
        """Sends a message for each body, in one datagram."""
        self._sequence += 1
        self._socket.send(
            b"".join(_HEADER.pack(16 + len(body), kind, flags, self._sequence, 0) + body for body in bodies)
        )

    def _datagrams(self, kind: int, body: bytes) -> Iterator[bytes]:
        """The datagrams of a dump, the last one without its closing message.

        Raises: DumpInterrupted, OSError.
        """
        self._request(kind, NLM_F_REQUEST | NLM_F_DUMP, body)
        interrupted = False
        while True:
            data = self._socket.recv(1 << 20)
            interrupted = interrupted or bool(_HEADER.unpack_from(data)[2] & NLM_F_DUMP_INTR)
            cut = _done(data)
            if cut is None:
                yield data
                continue
            if cut:
                yield data[:cut]
            if interrupted:
                raise DumpInterrupted
            return

    def _dump(self, kind: int, body: bytes) -> Iterator[bytes]:
        """Each message of a small dump."""
        for data in self._datagrams(kind, body):
            start = 0
            while start < len(data):
                length = _HEADER.unpack_from(data, start)[0]
                yield data[start : start + length]
                start += (length + 3) & ~3

    def _rows(self) -> Iterator[Iterator[tuple[int, int, int, int, bytes, bytes]]]:
        """Rows of (prefix length, protocol, table, type, address, other attributes), by runs of equal length."""
        size = 4 if self.af == socket.AF_INET else 16
        body = _RTMSG.pack(self.af, 0, 0, 0, 0, self.protocol, 0, 0, 0)
        if self.table:
            body = _RTMSG.pack(self.af, 0, 0, 0, self.table if self.table < 256 else 0, self.protocol, 0, 0, 0)
            body += _attribute(RTA_TABLE, struct.pack("=I", self.table))
        # Header 16, rtmsg 12, RTA_TABLE 8, RTA_DST 4 + address: the kernel's own order in both families.
        fixed = f"=17xBxxBBxB4x8x4x{size}s"
        head = struct.calcsize(fixed)
        for data in self._datagrams(RTM_GETROUTE, body):
            start = 0
            while start < len(data):
                length = _HEADER.unpack_from(data, start)[0]
                if struct.unpack_from("=H", data, start + 38)[0] != RTA_DST:
                    start += length
                    continue
                if length % 4:
                    raise ValueError("a route message of odd length")
                count = _run(data, start, length)
                layout = struct.Struct(f"{fixed}{length - head}s")
                rows = layout.iter_unpack(memoryview(data)[start : start + count * length])
                yield ((row[0], row[2], row[1], row[3], row[4], row[5]) for row in rows)
                start += count * length


def _next_hops(attributes: dict[int, bytes], objects: dict[int, NextHops]) -> NextHops:
    if RTA_NH_ID in attributes:
        return objects.get(struct.unpack("=I", attributes[RTA_NH_ID])[0], NOTHING)
    if RTA_MULTIPATH in attributes:
        return frozenset(_multipath(attributes[RTA_MULTIPATH]))
    if RTA_VIA in attributes:
        return frozenset((attributes[RTA_VIA][2:],))
    return frozenset((attributes.get(RTA_GATEWAY, b""),))


def _run(data: bytes, start: int, length: int) -> int:
    """How many messages from `start` on have this length and their destination in its usual place."""
    most = (len(data) - start) // length
    low, high = data[start : start + most * length : length], data[start + 1 : start + most * length : length]
    kinds = data[start + 38 : start + most * length : length]
    same = min(
        most,
        _equal(low, length & 0xFF),
        _equal(high, length >> 8),
        _equal(kinds, RTA_DST),
    )
    return max(1, same)


def _equal(values: bytes, wanted: int) -> int:
    """How many leading bytes are `wanted`."""
    return len(values) - len(values.lstrip(bytes((wanted,))))


def _done(data: bytes) -> int | None:
    """Where NLMSG_DONE starts in the datagram, None if it is not there: it comes alone or as the last message.

    Raises: OSError: the kernel refused the dump.
    """
    kind = _HEADER.unpack_from(data)[1]
    if kind == NLMSG_ERROR:
        number = -struct.unpack_from("=i", data, 16)[0]
        raise OSError(number, f"netlink dump refused: errno {number}")
    if kind == NLMSG_DONE:
        return 0
    tail = len(data) - 20
    if tail > 0 and _HEADER.unpack_from(data, tail)[:2] == (20, NLMSG_DONE):
        return tail
    return None


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + b"\0" * (-len(value) % 4)


def _attributes(data: bytes, start: int, end: int) -> Iterator[tuple[int, bytes]]:
    while start + 4 <= end:
        length, kind = struct.unpack_from("=HH", data, start)
        yield kind & 0x3FFF, data[start + 4 : start + length]
        start += max(4, (length + 3) & ~3)


def _multipath(value: bytes) -> Iterator[bytes]:
    start = 0
    while start + 8 <= len(value):
        length, flags = struct.unpack_from("=HB", value, start)
        attributes = dict(_attributes(value, start + 8, start + length))
        if not flags & RTNH_F_DEAD:
            yield attributes[RTA_VIA][2:] if RTA_VIA in attributes else attributes.get(RTA_GATEWAY, b"")
        start += (length + 3) & ~3
