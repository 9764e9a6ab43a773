"""Netlink framing: how requests are laid out, and how replies, errors and dumps are read (RFC 3549, linux/netlink.h).

Raw rather than through pyroute2, because these run once per message of a full table; what is done seldom is rtnl.py's.
Decides nothing about routes.
"""

from __future__ import annotations

import enum
import errno
import itertools
import os
import socket
import struct
from collections.abc import Iterable, Iterator

import msgspec

HEADER = struct.Struct("=IHHII")
"""nlmsghdr: length, type, flags, sequence, port id."""
ATTRIBUTE = struct.Struct("=HH")
U32 = struct.Struct("=I")

SOL_NETLINK = 270
ADD_MEMBERSHIP = 1
EXT_ACK = 11
GET_STRICT_CHK = 12
SO_SNDBUFFORCE = 32
SO_RCVBUFFORCE = 33
TYPE_MASK = 0x3FFF
NLA_F_NESTED = 0x8000
DATAGRAM_PAUSE_S = 0.0002
"""Between the datagrams of a dump that is read beside a working loop. Reading one releases the GIL so often and so
briefly that a loop that waits for it would, with bad luck, not get it for 100 ms."""
_EXT_ACK_MESSAGE = 1
_RECEIVE_BYTES = 1 << 18


class MessageKind(enum.IntEnum):
    """Message types (linux/netlink.h, linux/rtnetlink.h)."""

    NOOP = 1
    ERROR = 2
    DONE = 3
    NEW_LINK = 16
    DEL_LINK = 17
    GET_LINK = 18
    NEW_ADDRESS = 20
    DEL_ADDRESS = 21
    GET_ADDRESS = 22
    NEW_ROUTE = 24
    DEL_ROUTE = 25
    GET_ROUTE = 26
    GET_NEIGHBOR = 30
    NEW_RULE = 32
    DEL_RULE = 33
    GET_RULE = 34
    GET_STATS = 94
    NEW_NEXTHOP = 104
    DEL_NEXTHOP = 105
    GET_NEXTHOP = 106


class MessageFlag(enum.IntFlag):
    """nlmsg_flags; REPLACE and EXCLUSIVE share their bits with DUMP (linux/netlink.h)."""

    REQUEST = 0x1
    ACK = 0x4
    DUMP_INTERRUPTED = 0x10
    REPLACE = 0x100
    EXCLUSIVE = 0x200
    DUMP = 0x300
    CREATE = 0x400
    APPEND = 0x800


class KernelError(msgspec.Struct, frozen=True):
    """One NLMSG_ERROR: errno, the kernel's words (b"" parsed to "" if none), and the message that failed."""

    code: int
    words: str
    request: bytes

    def __str__(self) -> str:
        name = os.strerror(self.code)
        return f"{name}: {self.words}" if self.words else name


class DumpInterrupted(Exception):
    """The table changed while it was dumped (NLM_F_DUMP_INTR): what was read may be inconsistent; ask again."""


def attribute(kind: int, payload: bytes) -> bytes:
    """One attribute, padded to 4 bytes."""
    return ATTRIBUTE.pack(4 + len(payload), kind) + payload + bytes(-len(payload) % 4)


def message(kind: int, flags: int, payload: bytes, *, sequence: int = 0) -> bytes:
    """One message with its header; the kernel fills in the port id."""
    return HEADER.pack(16 + len(payload), kind, flags, sequence, 0) + payload


def messages(data: bytes) -> Iterator[tuple[int, int, int, int, int]]:
    """(type, flags, sequence, payload start, payload end) of each message in one datagram."""
    offset, total = 0, len(data)
    while offset + 16 <= total:
        length, kind, flags, sequence, _port = HEADER.unpack_from(data, offset)
        if length < 16 or offset + length > total:
            return
        yield kind, flags, sequence, offset + 16, offset + length
        offset += (length + 3) & ~3


def attributes(data: bytes, start: int, end: int) -> dict[int, bytes]:
    """Attributes by type (flags masked off); of repeated ones the last."""
    found: dict[int, bytes] = {}
    while start + 4 <= end:
        length, kind = ATTRIBUTE.unpack_from(data, start)
        if length < 4 or start + length > end:
            break
        found[kind & TYPE_MASK] = data[start + 4 : start + length]
        start += (length + 3) & ~3
    return found


def read_error(data: bytes, start: int, end: int, flags: int) -> KernelError | None:
    """The error in an NLMSG_ERROR payload; None for a plain acknowledgement. NETLINK_CAP_ACK must be off."""
    (code,) = struct.unpack_from("=i", data, start)
    if not code:
        return None
    (length,) = U32.unpack_from(data, start + 4)
    request = data[start + 4 : start + 4 + length]
    words = attributes(data, start + 4 + ((length + 3) & ~3), end).get(_EXT_ACK_MESSAGE, b"") if flags & 0x200 else b""
    return KernelError(-code, words.rstrip(b"\0").decode(errors="replace"), request)


def read_sequence(request: bytes) -> int:
    """The sequence number of a message, such as the one that an error carries back."""
    return int(HEADER.unpack_from(request)[3])


def open_socket(
    *, send_bytes: int = 0, receive_bytes: int = 0, strict: bool = False, groups: Iterable[int] = ()
) -> socket.socket:
    """A bound rtnetlink socket in the calling thread's network namespace.

    Buffers are forced past the system's limits where CAP_NET_ADMIN allows. `strict` lets the kernel filter dumps.
    """
    opened = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
    for size, force, plain in (
        (send_bytes, SO_SNDBUFFORCE, socket.SO_SNDBUF),
        (receive_bytes, SO_RCVBUFFORCE, socket.SO_RCVBUF),
    ):
        if size:
            try:
                opened.setsockopt(socket.SOL_SOCKET, force, size)
            except PermissionError:
                opened.setsockopt(socket.SOL_SOCKET, plain, size)
    opened.setsockopt(SOL_NETLINK, EXT_ACK, 1)
    if strict:
        opened.setsockopt(SOL_NETLINK, GET_STRICT_CHK, 1)
    opened.bind((0, 0))
    for group in groups:
        opened.setsockopt(SOL_NETLINK, ADD_MEMBERSHIP, group)
    return opened


def port_of(opened: socket.socket) -> int:
    """The socket's netlink port id, which its messages and their notifications bear."""
    return int(opened.getsockname()[0])


def dump(opened: socket.socket, request: bytes) -> Iterator[bytes]:
    """Datagrams of one dump, up to the one that ends in its NLMSG_DONE.

    Answers to an earlier request that nobody read to its end are passed over. Raises: DumpInterrupted: ask again.
    OSError: the kernel refused the request, or gave up midway (NLMSG_DONE bears an error).
    """
    sequence = next(_SEQUENCES) & 0xFFFFFFFF
    request = request[:8] + U32.pack(sequence) + request[12:]
    opened.send(request)
    whole, busy = True, False
    while True:
        try:
            data = opened.recv(_RECEIVE_BYTES)
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
            whole = False  # the kernel had no memory for one part, and goes on with the next call
            continue
        kind, flags, answered, start, end = next(messages(data))
        if answered != sequence:
            if busy and _end_of(data) is not None:
                busy = False
                opened.send(request)
            continue
        whole = whole and not flags & MessageFlag.DUMP_INTERRUPTED  # it stands once, where the change was noticed
        if kind == MessageKind.ERROR:
            refusal = read_error(data, start, end, flags)
            if refusal is not None and refusal.code == errno.EBUSY:
                busy = True  # an earlier dump of this socket has to end first
                continue
            if refusal is not None:
                raise OSError(refusal.code, str(refusal))
        yield data
        ended = _end_of(data)
        if ended is not None:
            code, interrupted = ended
            if code:
                raise OSError(code, f"{os.strerror(code)}: the kernel ended the dump early")
            if interrupted or not whole:
                raise DumpInterrupted
            return


def _end_of(data: bytes) -> tuple[int, bool] | None:
    """Of the last datagram of a dump: the error that ended it early (0: none), whether the kernel marked it as
    incomplete. None of another datagram.
    """
    if data[4:6] != _DONE and data[-16:-14] != _DONE:
        return None
    interrupted = False
    for kind, flags, _sequence, start, _end in messages(data):
        interrupted = interrupted or bool(flags & MessageFlag.DUMP_INTERRUPTED)
        if kind == MessageKind.DONE:
            return -int(_I32.unpack_from(data, start)[0]), interrupted
    return None


_DONE = struct.pack("=H", MessageKind.DONE)
"""Its message is 20 bytes long and the last of its datagram: the type stands 16 bytes before the end."""
_I32 = struct.Struct("=i")
_SEQUENCES = itertools.count(1)
