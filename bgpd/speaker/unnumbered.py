"""Router Advertisements for unnumbered sessions: sent, so that the leaf learns our link-local address, and heard, so
that we learn the leaf's.

Decides who is a neighbor on a link. Never makes this host a router for others: the lifetime sent is 0. RFC 4861
sections 4.1, 4.2 and 6.1; the use of them for BGP is FRR's ("neighbor eth0 interface remote-as external").
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable

import structlog

from bgpd.speaker.interfaces import is_link_local

log = structlog.get_logger()

ROUTER_SOLICITATION = 133
ROUTER_ADVERTISEMENT = 134
_SOURCE_LINK_LAYER_ADDRESS = 1
_HOP_LIMIT = 255
_ALL_NODES = "ff02::1"
_ALL_ROUTERS = "ff02::2"
_ICMP6_FILTER = 1


def encode_advertisement(mac: bytes) -> bytes:
    """A Router Advertisement with lifetime 0: no default router (RFC 4861 4.2). The kernel adds the checksum."""
    return struct.pack("!BBHBBHII", ROUTER_ADVERTISEMENT, 0, 0, 64, 0, 0, 0, 0) + _link_layer_option(mac)


def encode_solicitation(mac: bytes) -> bytes:
    """A Router Solicitation (RFC 4861 section 4.1), so that the leaf need not be waited for."""
    return struct.pack("!BBHI", ROUTER_SOLICITATION, 0, 0, 0) + _link_layer_option(mac)


def is_valid_advertisement(message: bytes, *, source: bytes, hop_limit: int) -> bool:
    """The checks of RFC 4861 section 6.1.2 that the kernel leaves to us. `source` is packed."""
    if len(message) < 16 or message[0] != ROUTER_ADVERTISEMENT or message[1] != 0:
        return False
    return hop_limit == _HOP_LIMIT and is_link_local(source)


def is_valid_solicitation(message: bytes, *, hop_limit: int) -> bool:
    """RFC 4861 section 6.1.1."""
    return len(message) >= 8 and message[0] == ROUTER_SOLICITATION and message[1] == 0 and hop_limit == _HOP_LIMIT


def _link_layer_option(mac: bytes) -> bytes:
    return bytes((_SOURCE_LINK_LAYER_ADDRESS, 1)) + mac if len(mac) == 6 else b""


class RouterDiscovery:
    """A raw ICMPv6 socket. `advertised` and `solicited` are called with the interface index (and the packed source)."""

    def __init__(self, *, advertised: Callable[[int, bytes], None], solicited: Callable[[int], None]) -> None:
        self.error = ""
        self._advertised = advertised
        self._solicited = solicited
        self._socket: socket.socket | None = None

    def open(self) -> bool:
        """Open the socket, in a running loop; whether it is open. `error` says why not."""
        if self._socket is not None:
            return True
        try:
            self._socket = _discovery_socket()
        except OSError as error:
            missing = isinstance(error, PermissionError)
            self.error = (
                "unnumbered sessions need a raw ICMPv6 socket: "
                f"{'CAP_NET_RAW is missing' if missing else error.strerror}"
            )
            return False
        self.error = ""
        asyncio.get_running_loop().add_reader(self._socket, self._read)
        return True

    def close(self) -> None:
        """Hear and say no more."""
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._socket = None

    def advertise(self, index: int, mac: bytes) -> None:
        """Send an advertisement to all nodes of the link."""
        self._send(encode_advertisement(mac), _ALL_NODES, index)

    def solicit(self, index: int, mac: bytes) -> None:
        """Ask the routers of the link to advertise themselves now, and hear solicitations of others."""
        if self._socket is None:
            return
        try:
            group = socket.inet_pton(socket.AF_INET6, _ALL_ROUTERS) + struct.pack("=I", index)
            self._socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, group)
        except OSError:
            log.debug("discovery.already_joined", interface_index=index)
        self._send(encode_solicitation(mac), _ALL_ROUTERS, index)

    def _send(self, message: bytes, group: str, index: int) -> None:
        if self._socket is None:
            return
        info = struct.pack("=16sI", b"", index)
        try:
            self._socket.sendmsg([message], [(socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, info)], 0, (group, 0, 0, index))
        except OSError as error:
            log.debug("discovery.not_sent", interface_index=index, error=str(error))

    def _read(self) -> None:
        if self._socket is None:
            return
        try:
            message, ancillary, _, name = self._socket.recvmsg(1500, 256)
        except OSError as error:
            log.debug("discovery.not_received", error=str(error))
            return
        index = hop_limit = 0
        for level, kind, data in ancillary:
            if level == socket.IPPROTO_IPV6 and kind == socket.IPV6_PKTINFO:
                index = struct.unpack_from("=I", data, 16)[0]
            elif level == socket.IPPROTO_IPV6 and kind == socket.IPV6_HOPLIMIT:
                hop_limit = struct.unpack_from("=i", data)[0]
        source = socket.inet_pton(socket.AF_INET6, name[0].partition("%")[0])
        if is_valid_advertisement(message, source=source, hop_limit=hop_limit):
            self._advertised(index, source)
        elif is_valid_solicitation(message, hop_limit=hop_limit):
            self._solicited(index)


def _discovery_socket() -> socket.socket:
    kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
    sock = socket.socket(socket.AF_INET6, kind, socket.IPPROTO_ICMPV6)
    try:
        passed = bytearray(b"\xff" * 32)  # a set bit blocks its type
        for wanted in (ROUTER_SOLICITATION, ROUTER_ADVERTISEMENT):
            word, bit = divmod(wanted, 32)
            value = int.from_bytes(passed[4 * word : 4 * word + 4], "little") & ~(1 << bit)
            passed[4 * word : 4 * word + 4] = value.to_bytes(4, "little")
        sock.setsockopt(socket.IPPROTO_ICMPV6, _ICMP6_FILTER, bytes(passed))
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, _HOP_LIMIT)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_LOOP, 0)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT, 1)
    except BaseException:
        sock.close()
        raise
    return sock
