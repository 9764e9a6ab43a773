"""The UDP sockets of BFD (RFC 5881): one that receives for each local address on an interface, one that sends for each
session.

The kernel drops what cannot be a session's: each receiving socket has a filter (classic BPF) for TTL 255 (section 5),
length and discriminator, so that strangers' packets do not wake the process, however many. What a session that is Up
hears all the time need not wake it either: the kernel puts these packets into a second, quiet socket beside the
receiving one, with the time of each, and the process reads them when it is awake anyway. Decides nothing about
sessions.
"""

from __future__ import annotations

import array
import errno
import os
import socket
import struct
from collections.abc import Collection

PORT = 3784
FIRST_PORT, PORTS = 49152, 16384
"""Where a session's packets come from (RFC 5881 section 4)."""
MAX_TTL = 255
_CS6 = 0xC0
"""Network control (RFC 4594), in the place of the TOS byte."""
_SO_ATTACH_FILTER = 26
_SO_ATTACH_REUSEPORT_CBPF = 51
_SO_TIMESTAMPNS_NEW = 64
_TIMESTAMP = struct.Struct("=qq")
_RECEIVE_BYTES = 1 << 16
_IP_RECVTTL = 12
_PACKET_BYTES = 512
"""More is read of no packet: BFD needs 24 bytes, and the UDP length is not looked at otherwise."""
_ANCILLARY_BYTES = 64
_MAX_FILTERED = 200
"""Of so many sessions on one socket the filter knows the discriminators; with more it lets all pass."""

# Classic BPF (linux/filter.h); data begins at the UDP header, SKF_NET_OFF reaches back to the IP header.
_LOAD_WORD, _LOAD_BYTE, _LOAD_LENGTH = 0x20, 0x30, 0x80
_JUMP_EQUAL, _JUMP_AT_LEAST, _RETURN = 0x15, 0x35, 0x06
_IP_HEADER = 0xFFF00000
_TTL_AT, _SOURCE_AT = {4: 8, 16: 7}, {4: 12, 16: 20}
"""Of IPv6 sources the last four bytes are compared; the process compares all."""
_LEAST_DATAGRAM = 8 + 24
_FLAGS_IN_PACKET, _YOUR_DISCRIMINATOR_IN_PACKET = 1, 8
_UP, _UP_INDEPENDENT = 0xC0, 0xC8
"""Up, with no other flag than C: no Poll, no Final, nothing that wants an answer."""
_YOUR_DISCRIMINATOR_AT = 8 + 8
_ALL = 0xFFFFFFFF


def family_of(address: bytes) -> socket.AddressFamily:
    """Socket family of a packed address."""
    return socket.AF_INET if len(address) == 4 else socket.AF_INET6


def index_of(interface: str) -> int:
    """Index of an interface, 0 for "". Raises: OSError: there is none of that name."""
    try:
        return socket.if_nametoindex(interface) if interface else 0
    except OSError as error:
        raise OSError(errno.ENODEV, f"there is no interface {interface}") from error


def open_receiver(local: bytes, interface: str) -> socket.socket:
    """A socket for what peers send to this address, by this interface.

    Raises: OSError: the address or the interface is not there, or another program has the port.
    """
    sock = _open(local, interface)
    try:
        if len(local) == 4:
            sock.setsockopt(socket.IPPROTO_IP, _IP_RECVTTL, 1)
        else:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BYTES)
        sock.bind(_name(local, PORT, interface))
    except BaseException:
        sock.close()
        raise
    return sock


def open_quiet(receiver: socket.socket, local: bytes, interface: str, program: list[bytes]) -> socket.socket:
    """A second socket beside a receiving one, for packets that `choose_quiet` names; it has the same filter.

    Nobody else can have the port: the receiving socket was bound without SO_REUSEPORT.

    Raises: OSError: the kernel cannot do that.
    """
    quiet = _open(local, interface)
    try:
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        quiet.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        quiet.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS_NEW, 1)
        quiet.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BYTES)
        set_filter(quiet, program)
        quiet.bind(_name(local, PORT, interface))
        choose_quiet(receiver, ())
    except BaseException:
        quiet.close()
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 0)
        raise
    return quiet


def choose_quiet(receiver: socket.socket, discriminators: Collection[int]) -> None:
    """Have the kernel put plain Up packets for these discriminators into the quiet socket, all others into this one."""
    program = [
        _statement(_LOAD_BYTE, _FLAGS_IN_PACKET),
        _statement(_JUMP_EQUAL, _UP, 2, 0),
        _statement(_JUMP_EQUAL, _UP_INDEPENDENT, 1, 0),
        _statement(_RETURN, 0),
        _statement(_LOAD_WORD, _YOUR_DISCRIMINATOR_IN_PACKET),
    ]
    for discriminator in discriminators:
        program += [_statement(_JUMP_EQUAL, discriminator, 0, 1), _statement(_RETURN, 1)]
    _attach(receiver, _SO_ATTACH_REUSEPORT_CBPF, [*program, _statement(_RETURN, 0)])


def open_sender(local: bytes, peer: bytes, interface: str, port: int) -> socket.socket:
    """A socket for one session's packets, from this port. It receives nothing.

    Raises: OSError: as above, or there is no route to the peer over the interface.
    """
    sock = _open(local, interface)
    try:
        set_filter(sock, [_statement(_RETURN, 0)])
        if len(local) == 4:
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, MAX_TTL)
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, _CS6)
        else:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, MAX_TTL)
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, _CS6)
        sock.bind(_name(local, port, interface))
        sock.connect(_name(peer, PORT, interface))
    except BaseException:
        sock.close()
        raise
    return sock


def adopt(descriptor: int) -> socket.socket:
    """A socket that a former program of this process has left open."""
    os.set_inheritable(descriptor, False)
    return socket.socket(fileno=descriptor)


Datagram = tuple[bytes, list[tuple[int, int, bytes]], tuple[str, int]]
"""A packet, what the kernel says of it, and the name of who sent it (of IPv6 a longer tuple)."""


def receive(sock: socket.socket) -> Datagram:
    """The next packet.

    Raises: BlockingIOError: there is none. OSError: the socket reports an error.
    """
    data, ancillary, _flags, name = sock.recvmsg(_PACKET_BYTES, _ANCILLARY_BYTES)
    return data, ancillary, name


def receive_quiet(sock: socket.socket) -> tuple[Datagram, float]:
    """The next packet of a quiet socket, and when it came by the host's clock (0.0 if the kernel does not say).

    Raises: as `receive`.
    """
    data, ancillary, _flags, name = sock.recvmsg(_PACKET_BYTES, _ANCILLARY_BYTES)
    if not ancillary or len(ancillary[0][2]) != _TIMESTAMP.size:
        return (data, ancillary, name), 0.0
    seconds, nanoseconds = _TIMESTAMP.unpack(ancillary[0][2])
    return (data, ancillary, name), seconds + nanoseconds / 1e9


def source_of(sock: socket.socket, datagram: Datagram) -> tuple[bytes, int]:
    """Who sent it, and its TTL or hop limit (-1 if the kernel does not say)."""
    _, ancillary, name = datagram
    ttl = -1
    for level, kind, value in ancillary:
        if (level, kind) in ((socket.IPPROTO_IP, socket.IP_TTL), (socket.IPPROTO_IPV6, socket.IPV6_HOPLIMIT)):
            ttl = int(struct.unpack("=i", value[:4])[0])
    return address_of(sock, name), ttl


def address_of(sock: socket.socket, name: tuple[str, int]) -> bytes:
    """The address in a socket's name, packed."""
    return socket.inet_pton(sock.family, name[0].partition("%")[0])


def filter_program(size: int, discriminators: Collection[int], peers: Collection[bytes]) -> list[bytes]:
    """What a receiving socket of addresses of this size (4, 16) lets pass: TTL 255, 24 bytes at least, and one of our
    discriminators, or none (0) and one of the peers as the source."""
    program = [
        _statement(_LOAD_BYTE, _IP_HEADER + _TTL_AT[size]),
        *_unless(_JUMP_EQUAL, MAX_TTL),
        _statement(_LOAD_LENGTH, 0),
        *_unless(_JUMP_AT_LEAST, _LEAST_DATAGRAM),
    ]
    if len(peers) > _MAX_FILTERED:
        return [*program, _statement(_RETURN, _ALL)]
    program.append(_statement(_LOAD_WORD, _YOUR_DISCRIMINATOR_AT))
    for discriminator in discriminators:
        program += _accept_if(discriminator)
    program += _unless(_JUMP_EQUAL, 0)
    program.append(_statement(_LOAD_WORD, _IP_HEADER + _SOURCE_AT[size]))
    for peer in peers:
        program += _accept_if(int.from_bytes(peer[-4:], "big"))
    return [*program, _statement(_RETURN, 0)]


def set_filter(sock: socket.socket, program: list[bytes]) -> None:
    """Have the kernel drop what the program does not accept; in place of a former one."""
    _attach(sock, _SO_ATTACH_FILTER, program)


def _attach(sock: socket.socket, option: int, program: list[bytes]) -> None:
    code = array.array("B", b"".join(program))
    address, _length = code.buffer_info()
    sock.setsockopt(socket.SOL_SOCKET, option, struct.pack("HP", len(program), address))


def _statement(code: int, value: int, yes: int = 0, no: int = 0) -> bytes:
    return struct.pack("=HBBI", code, yes, no, value)


def _unless(jump: int, value: int) -> list[bytes]:
    """Drop the packet unless the comparison holds."""
    return [_statement(jump, value, 1, 0), _statement(_RETURN, 0)]


def _accept_if(value: int) -> list[bytes]:
    return [_statement(_JUMP_EQUAL, value, 0, 1), _statement(_RETURN, _ALL)]


def _open(local: bytes, interface: str) -> socket.socket:
    sock = socket.socket(family_of(local), socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        if interface:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode() + b"\0")
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    except BaseException:
        sock.close()
        raise
    return sock


def _name(address: bytes, port: int, interface: str) -> tuple[str, int] | tuple[str, int, int, int]:
    text = socket.inet_ntop(family_of(address), address)
    if len(address) == 4:
        return text, port
    is_link_local = address[0] == 0xFE and address[1] & 0xC0 == 0x80
    return text, port, 0, index_of(interface) if is_link_local else 0
