"""The socket options of a BGP connection: precedence, GTSM, device, TCP MD5 keys, give-up time.

Has the Linux constants that Python's socket module lacks, and reads what the kernel kept of how a connection arrived.
Never connects, listens, reads or writes. RFC 2385 (TCP MD5), RFC 5082 (GTSM), RFC 9687 (a peer that takes nothing).
"""

from __future__ import annotations

import errno
import fcntl
import socket
import struct
import sys
import termios

from bgpd.config.password_file import MD5_KEY_BYTES
from bgpd.model.prefix import socket_family

TCP_MD5SIG = 14
TCP_MD5SIG_EXT = 32
_MD5SIG_FLAG_PREFIX = 1
TCP_SAVE_SYN = 27
TCP_SAVED_SYN = 28
_SYN_LENGTH = 128
"""Bytes of a saved SYN that are read: the IP header is at their beginning."""
_IP_PKTINFO = 8
_IP_PKTOPTIONS = 9
_IPV6_PKTOPTIONS = 6
_CMSG_HEADER = 16
_NAME_BYTES = 16
IP_MINTTL = 21
IPV6_MINHOPCOUNT = 73
DSCP_CS6 = 0xC0
"""Network control (RFC 4594), in the place of the TOS byte."""
MAX_TTL = 255
_SND_MSS, _PMTU, _RCV_OOOPACK = 16, 60, 224
"""Offsets in struct tcp_info (linux/tcp.h)."""
_TCP_INFO_LENGTH = 228


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


def take_syn_ttl(sock: socket.socket) -> int | None:
    """The TTL or hop limit that the SYN of an accepted connection came with; None if the kernel kept no SYN.

    The kernel forgets the SYN when it has been read. It keeps none of a connection made by a SYN cookie.
    """
    syn = sock.getsockopt(socket.IPPROTO_TCP, TCP_SAVED_SYN, _SYN_LENGTH)
    if len(syn) < 20:
        return None
    return syn[7] if syn[0] >> 4 == 6 else syn[8]


def ttl_mismatch(sock: socket.socket) -> str:
    """Why an accepted connection may not be used where GTSM is wanted (RFC 5082), "" if it may.

    IP_MINTTL on an accepted socket is too late for what came with the handshake; the SYN tells how far the peer is.
    """
    ttl = take_syn_ttl(sock)
    if ttl == MAX_TTL:
        return ""
    hint = "is the neighbor directly connected, and does it use GTSM (ttl-security) for this host?"
    if ttl is None:
        return f"the connection was made by a SYN cookie, its TTL is not known, and ttl_security wants {MAX_TTL}"
    return f"TTL mismatch: the neighbor connected with TTL {ttl}, ttl_security wants {MAX_TTL}: {hint}"


def ttl_drops() -> int:
    """Segments that the kernel has dropped in this namespace because of a low TTL; 0 if it does not say."""
    try:
        with open("/proc/self/net/netstat") as file:
            lines = [line.split() for line in file if line.startswith("TcpExt:")]
    except OSError:
        return 0
    return int(dict(zip(*lines)).get("TCPMinTTLDrop", 0)) if len(lines) == 2 else 0


def arrival_index(sock: socket.socket) -> int:
    """Index of the interface that an accepted connection came in by; 0 if the kernel does not say."""
    if sock.family == socket.AF_INET6:
        level, wanted, option, at = socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, _IPV6_PKTOPTIONS, 16
    else:
        level, wanted, option, at = socket.IPPROTO_IP, _IP_PKTINFO, _IP_PKTOPTIONS, 0
    try:
        sock.setsockopt(level, wanted, 1)
        packed = sock.getsockopt(level, option, 128)
        sock.setsockopt(level, wanted, 0)
    except OSError:
        return 0
    data = packed[_CMSG_HEADER:]
    return int(struct.unpack_from("=I", data, at)[0]) if len(data) >= at + 4 else 0


def stuck_text(sock: socket.socket) -> str:
    """What to look at when a hold timer expired although TCP segments are on their way; "" if there are none.

    Small segments that pass and large ones that do not are what a path with a smaller MTU looks like: what this host
    sent waits for an acknowledgement, or segments of the neighbor have come and one before them has not.
    """
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_LENGTH)
        waiting = int.from_bytes(fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4)), sys.byteorder)
    except OSError:
        return ""
    if len(info) < _TCP_INFO_LENGTH:
        return ""
    retransmits, segment = info[2], _word(info, _SND_MSS)
    is_sending_stuck = retransmits > 0 and waiting >= segment
    if not is_sending_stuck and not _word(info, _RCV_OOOPACK):
        return ""
    mtu = _word(info, _PMTU)
    payload = mtu - (48 if sock.family == socket.AF_INET6 else 28)
    return f"; large segments may have been lost: does the path carry packets of {mtu} bytes (ping -M do -s {payload})?"


def _word(info: bytes, offset: int) -> int:
    return int.from_bytes(info[offset : offset + 4], sys.byteorder)


def bind_to_device(sock: socket.socket, interface: str) -> None:
    """Send and receive over one interface only.

    Raises: OSError: no such interface, or no CAP_NET_RAW.
    """
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode() + b"\0")


def is_bound_to_nothing(sock: socket.socket) -> bool:
    """Whether the interface that a socket is bound to went; another that bears its name now is another."""
    try:
        sock.getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, _NAME_BYTES)
    except OSError as error:
        return error.errno == errno.ENODEV
    return False


def set_send_hold_time(sock: socket.socket, hold_time_s: float) -> None:
    """Close the connection if the peer accepts no data for twice the hold time (RFC 9687), also with a zero window."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(2000 * hold_time_s))


def set_md5_key(sock: socket.socket, address: bytes, prefix_length: int, key: bytes) -> None:
    """Sign segments to and from a peer, or a range of peers; an empty key removes it (RFC 2385).

    Raises: OSError: the kernel was built without TCP MD5, or has no such key to remove.
    """
    family = socket_family(address)
    if family == socket.AF_INET:
        sockaddr = struct.pack("=HH4s", family, 0, address)
    else:
        sockaddr = struct.pack("=HHI16sI", family, 0, 0, address, 0)
    host = prefix_length == 8 * len(address)
    option = struct.pack(
        f"=128sBBHi{MD5_KEY_BYTES}s",
        sockaddr,
        0 if host else _MD5SIG_FLAG_PREFIX,
        0 if host else prefix_length,
        len(key),
        0,
        key,
    )
    sock.setsockopt(socket.IPPROTO_TCP, TCP_MD5SIG if host else TCP_MD5SIG_EXT, option)
