"""The socket options of a BGP connection: MD5 keys, GTSM, device, precedence, give-up time.

Knows the Linux constants that Python's socket module lacks. Decides nothing about sessions.
RFC 2385 (TCP MD5), RFC 5082 (GTSM), RFC 9687 (a peer that takes nothing).
"""

from __future__ import annotations

import socket
import struct

TCP_MD5SIG = 14
TCP_MD5SIG_EXT = 32
_MD5SIG_FLAG_PREFIX = 1
_MAX_KEY_LENGTH = 80
IP_MINTTL = 21
IPV6_MINHOPCOUNT = 73
DSCP_CS6 = 0xC0
"""Network control (RFC 4594), in the place of the TOS byte."""
MAX_TTL = 255


def family_of(address: bytes) -> socket.AddressFamily:
    """Socket family of a packed address."""
    return socket.AF_INET if len(address) == 4 else socket.AF_INET6


def set_common(sock: socket.socket) -> None:
    """Precedence CS6, TTL 255 (a peer may use GTSM, RFC 5082 section 3), no delay for keepalives."""
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, DSCP_CS6)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, MAX_TTL)
    else:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, DSCP_CS6)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, MAX_TTL)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def require_ttl_255(sock: socket.socket) -> None:
    """Let the kernel drop what comes from further than one hop away (RFC 5082)."""
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, IPV6_MINHOPCOUNT, MAX_TTL)
    else:
        sock.setsockopt(socket.IPPROTO_IP, IP_MINTTL, MAX_TTL)


def bind_to_device(sock: socket.socket, interface: str) -> None:
    """Send and receive over one interface only.

    Raises: OSError: no such interface, or no CAP_NET_RAW.
    """
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode() + b"\0")


def set_send_hold_time(sock: socket.socket, hold_time_s: float) -> None:
    """Close the connection if the peer accepts no data for twice the hold time (RFC 9687), also with a zero window."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(2000 * hold_time_s))


def set_md5_key(sock: socket.socket, address: bytes, prefix_length: int, key: bytes) -> None:
    """Sign segments to and from a peer, or a range of peers; an empty key removes it (RFC 2385).

    Raises: OSError: the kernel was built without TCP MD5, or has no such key to remove.
    """
    family = family_of(address)
    if family == socket.AF_INET:
        sockaddr = struct.pack("=HH4s", family, 0, address)
    else:
        sockaddr = struct.pack("=HHI16sI", family, 0, 0, address, 0)
    host = prefix_length == 8 * len(address)
    option = struct.pack(
        f"=128sBBHi{_MAX_KEY_LENGTH}s",
        sockaddr,
        0 if host else _MD5SIG_FLAG_PREFIX,
        0 if host else prefix_length,
        len(key),
        0,
        key,
    )
    sock.setsockopt(socket.IPPROTO_TCP, TCP_MD5SIG if host else TCP_MD5SIG_EXT, option)


def read_password(path: str) -> bytes:
    """The MD5 key in a file, without the line end.

    Raises: OSError: not readable. ValueError: empty or longer than 80 bytes.
    """
    with open(path, "rb") as file:
        key = file.read(_MAX_KEY_LENGTH + 2).rstrip(b"\r\n")
    if not key or len(key) > _MAX_KEY_LENGTH:
        raise ValueError(f"{path}: a TCP MD5 password has 1 to {_MAX_KEY_LENGTH} bytes, this has {len(key)}")
    return key
