"""Router Advertisements for unnumbered sessions: sent, so that the leaf learns our link-local address, and received, so
that we learn the leaf's.

Decides which messages are valid. Never makes this host a router for others: the lifetime sent is 0. Messages are
received only by interfaces with unnumbered neighbors, whatever workloads send: a socket filter drops the rest in the
kernel. RFC 4861 sections 4.1, 4.2 and 6.1; the use of them for BGP is FRR's ("neighbor eth0 interface remote-as
external").
"""

from __future__ import annotations

import asyncio
import ctypes
import socket
import struct
from collections.abc import Callable, Iterable

from bgpd.model.prefix import is_link_local
from bgpd.runtime.events import log
from bgpd.speaker.transport import NewSocket

ROUTER_SOLICITATION = 133
ROUTER_ADVERTISEMENT = 134
_SOURCE_LINK_LAYER_ADDRESS = 1
_HOP_LIMIT = 255
_ALL_NODES = "ff02::1"
_ALL_ROUTERS = "ff02::2"
_ICMP6_FILTER = 1

MOST_HEARD = 50
"""Messages of one interface in MUTE_S; with more of them nothing is received from it for so long."""
MUTE_S = 1.0

_SO_ATTACH_FILTER = 26
_LOAD_WORD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_IFINDEX = 0xFFFFF008
"""SKF_AD_OFF + SKF_AD_IFINDEX (linux/filter.h): where a filter finds the interface that a packet came in by."""
_WHOLE = 0xFFFFFFFF


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


def interface_filter(indexes: Iterable[int]) -> bytes:
    """A socket filter (classic BPF) that lets only what came in by these interfaces pass."""
    program = [struct.pack("=HBBI", _LOAD_WORD, 0, 0, _IFINDEX)]
    for index in sorted(indexes):
        program.append(struct.pack("=HBBI", _JUMP_IF_EQUAL, 0, 1, index))
        program.append(struct.pack("=HBBI", _RETURN, 0, 0, _WHOLE))
    return b"".join((*program, struct.pack("=HBBI", _RETURN, 0, 0, 0)))


def attach_filter(sock: socket.socket, program: bytes) -> None:
    """Have the kernel drop what a filter does not let pass, in place of the filter that the socket had.

    Raises: OSError: the kernel does not take the filter.
    """
    buffer = ctypes.create_string_buffer(program, len(program))
    head = struct.pack("@HP", len(program) // 8, ctypes.addressof(buffer))
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, head)


class RouterDiscovery:
    """A raw ICMPv6 socket. `advertised` and `solicited` are called with the interface index (and the packed source).

    Nothing is received but by the interfaces given to `listen`.
    """

    def __init__(
        self,
        *,
        advertised: Callable[[int, bytes], None],
        solicited: Callable[[int], None],
        new_socket: NewSocket = socket.socket,
    ) -> None:
        self.error = ""
        self._new_socket = new_socket
        self._advertised = advertised
        self._solicited = solicited
        self._socket: socket.socket | None = None
        self._listened: frozenset[int] = frozenset()
        self._muted: set[int] = set()
        self._counts: dict[int, tuple[float, int]] = {}

    def listen(self, indexes: frozenset[int]) -> None:
        """Receive what comes in by these interfaces, and by no others."""
        if indexes != self._listened:
            self._listened = indexes
            self._counts = {index: count for index, count in self._counts.items() if index in indexes}
            self._filter()

    def _filter(self) -> None:
        if self._socket is not None:
            attach_filter(self._socket, interface_filter(self._listened - self._muted))

    def open(self) -> bool:
        """Open the socket, in a running loop; whether it is open. `error` says why not."""
        if self._socket is not None:
            return True
        try:
            self._socket = _discovery_socket(self._new_socket)
            self._filter()
        except OSError as error:
            self.close()
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
        """Stop receiving and sending."""
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._socket = None

    def advertise(self, index: int, mac: bytes) -> None:
        """Send an advertisement to all nodes of the link."""
        self._send(encode_advertisement(mac), _ALL_NODES, index)

    def solicit(self, index: int, mac: bytes) -> None:
        """Ask the routers of the link to advertise themselves now, and receive solicitations of others."""
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
        if index not in self._listened or self._is_too_much(index):
            return
        source = socket.inet_pton(socket.AF_INET6, name[0].partition("%")[0])
        if is_valid_advertisement(message, source=source, hop_limit=hop_limit):
            self._advertised(index, source)
        elif is_valid_solicitation(message, hop_limit=hop_limit):
            self._solicited(index)

    def _is_too_much(self, index: int) -> bool:
        """Count a message; whether the interface is muted from now on, so that its flood costs no other interface."""
        loop = asyncio.get_running_loop()
        began, count = self._counts.get(index, (0.0, 0))
        if loop.time() - began >= MUTE_S:
            began, count = loop.time(), 0
        self._counts[index] = began, count + 1
        if count < MOST_HEARD:
            return False
        if index not in self._muted:
            self._muted.add(index)
            self._filter()
            log.debug("discovery.muted", interface_index=index, seconds=MUTE_S)
            loop.call_later(MUTE_S, self._unmute, index)
        return True

    def _unmute(self, index: int) -> None:
        self._muted.discard(index)
        self._filter()


def _discovery_socket(new_socket: NewSocket) -> socket.socket:
    kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
    sock = new_socket(socket.AF_INET6, kind, socket.IPPROTO_ICMPV6)
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
