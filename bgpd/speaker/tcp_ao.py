"""TCP-AO (RFC 5925) of one socket: its keys, which of them the neighbor is asked to use, and what it counted.

The options and structures of linux/tcp.h that Python's socket module lacks. Decides nothing: authentication.py says
which keys there are to be.
"""

from __future__ import annotations

import ctypes
import socket
import struct
import sys

import msgspec

from bgpd.config.tcp_ao import ALGORITHMS, TCP_AO_INFO

TCP_AO_ADD_KEY = 38
TCP_AO_DEL_KEY = 39
_SET_CURRENT, _SET_NEXT = (1, 2) if sys.byteorder == "little" else (1 << 31, 1 << 30)
"""The first two bit fields of a word."""
_ADDRESS = "128s"
_ADD = struct.Struct(f"={_ADDRESS}64siIHBBBBBB80s")
"""struct tcp_ao_add: address, algorithm, interface, flags, reserved, prefix, send ID, receive ID, code length, key
flags, key length, key; aligned to 8 bytes."""
_DEL = struct.Struct(f"={_ADDRESS}iIHBBBBBB")
"""struct tcp_ao_del: address, interface, flags, reserved, prefix, send ID, receive ID, current, next, key flags."""
_INFO = struct.Struct("=IHBB5Q")
"""struct tcp_ao_info_opt: flags, reserved, current, next; segments that are good, bad, without a known key, unsigned;
ICMP messages that were dropped."""


class TcpAoKey(msgspec.Struct, frozen=True, kw_only=True):
    """A master key tuple. `send_id` is in the segments sent with it, `receive_id` in those received."""

    send_id: int
    receive_id: int
    algorithm: str
    key: bytes

    @property
    def ids(self) -> tuple[int, int]:
        """What names it on a connection."""
        return self.send_id, self.receive_id


class TcpAoState(msgspec.Struct, frozen=True, kw_only=True):
    """`current`: the send ID of the key that segments are signed with; `next`: the receive ID asked of the neighbor."""

    current: int
    next: int
    good: int
    bad: int
    unknown_key: int
    unsigned: int


def add_key(
    sock: socket.socket, address: bytes, prefix_length: int, key: TcpAoKey, *, is_preferred: bool = False
) -> None:
    """Know a key for a peer, or a range of them. `is_preferred`: sign with it and ask for it; not where one listens.

    Raises: OSError: no TCP-AO (ENOPROTOOPT), no such algorithm (ENOENT), its IDs are taken (EEXIST).
    """
    sock.setsockopt(
        socket.IPPROTO_TCP, TCP_AO_ADD_KEY, pack_add(address, prefix_length, key, is_preferred=is_preferred)
    )


def delete_key(sock: socket.socket, address: bytes, prefix_length: int, key: TcpAoKey) -> None:
    """Forget a key.

    Raises: OSError: it is in use (EBUSY), or not there (ENOENT).
    """
    sock.setsockopt(socket.IPPROTO_TCP, TCP_AO_DEL_KEY, pack_delete(address, prefix_length, key))


def ask_for(sock: socket.socket, key: TcpAoKey) -> None:
    """Have the neighbor sign with a key that the connection knows, from its next segments on (RNextKeyID).

    Raises: OSError: the connection does not know it (ENOENT), or has no TCP-AO.
    """
    sock.setsockopt(socket.IPPROTO_TCP, TCP_AO_INFO, _INFO.pack(_SET_NEXT, 0, 0, key.receive_id, 0, 0, 0, 0, 0))


def state_of(sock: socket.socket) -> TcpAoState | None:
    """What the kernel says of a connection; None if it has no TCP-AO."""
    found = _get_option(sock, TCP_AO_INFO, bytes(_INFO.size))
    if found is None:
        return None
    _, _, current, wanted, good, bad, unknown, unsigned, _ = _INFO.unpack(found)
    return TcpAoState(current=current, next=wanted, good=good, bad=bad, unknown_key=unknown, unsigned=unsigned)


def pack_add(address: bytes, prefix_length: int, key: TcpAoKey, *, is_preferred: bool) -> bytes:
    """struct tcp_ao_add."""
    algorithm = ALGORITHMS[key.algorithm]
    flags = _SET_CURRENT | _SET_NEXT if is_preferred else 0
    ids = (prefix_length, key.send_id, key.receive_id)
    name = algorithm.kernel_name.encode()
    lengths = (algorithm.code_bytes, 0, len(key.key))
    return _ADD.pack(_sockaddr(address), name, 0, flags, 0, *ids, *lengths, key.key)


def pack_delete(address: bytes, prefix_length: int, key: TcpAoKey) -> bytes:
    """struct tcp_ao_del."""
    return _DEL.pack(_sockaddr(address), 0, 0, 0, prefix_length, key.send_id, key.receive_id, 0, 0, 0)


def _sockaddr(address: bytes) -> bytes:
    """Without a port, as the kernel wants it."""
    if len(address) == 4:
        return struct.pack("=HH4s", socket.AF_INET, 0, address)
    return struct.pack("=HHI16sI", socket.AF_INET6, 0, 0, address, 0)


def _get_option(sock: socket.socket, option: int, value: bytes) -> bytes | None:
    """getsockopt with a value that goes in, which Python's does not have."""
    buffer = ctypes.create_string_buffer(value, len(value))
    length = ctypes.c_uint32(len(value))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.getsockopt(sock.fileno(), socket.IPPROTO_TCP, option, buffer, ctypes.byref(length)) != 0:
        return None
    return buffer.raw[: length.value].ljust(len(value), b"\0")
