"""TCP for BGP sessions, on asyncio: dial, listen, read by 64 KiB slices, say goodbye so that the peer can hear it.

Knows the socket options of a BGP connection (MD5 keys, GTSM, device, precedence, give-up time) and the Linux constants
that Python's socket module lacks. Decides nothing about sessions: bytes and the end of a connection are reported to
whoever owns it. RFC 2385 (TCP MD5), RFC 5082 (GTSM), RFC 9687 (a peer that takes nothing).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import struct
from collections.abc import Callable
from functools import partial

import msgspec

from bgpd.model.prefix import format_address
from bgpd.speaker.admission import Admission

TCP_MD5SIG = 14
TCP_MD5SIG_EXT = 32
_MD5SIG_FLAG_PREFIX = 1
_MAX_KEY_LENGTH = 80
TCP_SAVE_SYN = 27
TCP_SAVED_SYN = 28
_SYN_LENGTH = 128
"""Bytes of a saved SYN that are read: the IP header is at their beginning."""
_IP_PKTINFO = 8
_IP_PKTOPTIONS = 9
_IPV6_PKTOPTIONS = 6
_CMSG_HEADER = 16
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
        told = sock.getsockopt(level, option, 128)
        sock.setsockopt(level, wanted, 0)
    except OSError:
        return 0
    data = told[_CMSG_HEADER:]
    return int(struct.unpack_from("=I", data, at)[0]) if len(data) >= at + 4 else 0


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


READ_SIZE = 65536
"""One read is one step of the loop; what does not fit waits in the kernel, which is the backpressure of TCP."""
UNSENT_HIGH = 256 * 1024
"""Bytes waiting in this process from which on a connection `is_full`, ..."""
UNSENT_LOW = 64 * 1024
"""... and at which it is not any more."""
BACKLOG = 256
ACCEPTS = 32
"""Connections that are accepted at one turn of the loop."""
PAUSE_S = 1.0
"""For so long none is accepted when there is no descriptor for it."""
LINGER_S = 1.0
"""How long a closed connection stays, so that the peer reads the NOTIFICATION rather than a reset."""


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """Where and how to connect. `scope` is the interface index of a link-local address, else 0.

    `device`: the interface to a directly connected neighbor, which the connection may not leave.
    """

    address: bytes
    port: int
    scope: int = 0
    interface: str = ""
    device: str = ""
    source: bytes = b""
    password: bytes = b""
    ttl_security: bool = False
    ttl_drops: int = 0
    """Those of before the dial, where `ttl_security` is wanted."""

    def __str__(self) -> str:
        where = format_address(self.address) + (f"%{self.interface}" if self.interface else "")
        return f"{where} port {self.port}"


class Endpoint(msgspec.Struct, frozen=True):
    """One end of a connection: packed address, and the interface index that scopes it if it is link-local (else 0)."""

    address: bytes
    scope: int

    @classmethod
    def of(cls, name: tuple[str, int] | tuple[str, int, int, int]) -> Endpoint:
        """From what getsockname or getpeername gave."""
        text = name[0].partition("%")[0]
        family = socket.AF_INET6 if len(name) == 4 else socket.AF_INET
        return cls(socket.inet_pton(family, text), name[3] if len(name) == 4 else 0)


class Wire(asyncio.BufferedProtocol):
    """One TCP connection. `made`, `received`, `lost` and `drained` are called until `finish` or `abort`.

    `lost` is given the reason as text, "" if the peer closed the connection in order. `is_full`: the peer reads slower
    than it is written to; `drained` is called when it has caught up.
    """

    def __init__(self, made: Callable[[Wire], None] | None = None, *, gone: Callable[[], None] = lambda: None) -> None:
        self._made = made
        self._gone = gone
        self._buffer = bytearray(READ_SIZE)
        self._view = memoryview(self._buffer)
        self._transport: asyncio.Transport | None = None
        self._received: Callable[[bytes], None] | None = None
        self._lost: Callable[[str], None] | None = None
        self._drained: Callable[[], None] | None = None
        self._is_finished = False
        self.is_full = False
        self.closed = asyncio.Event()

    def attach(
        self, received: Callable[[bytes], None], lost: Callable[[str], None], drained: Callable[[], None] | None = None
    ) -> None:
        """Say who owns the connection."""
        self._received = received
        self._lost = lost
        self._drained = drained

    @property
    def socket(self) -> socket.socket:
        """The connection's socket, for its options and names only."""
        assert self._transport is not None
        sock: socket.socket = self._transport.get_extra_info("socket")
        return sock

    @property
    def local(self) -> Endpoint:
        """Our end.

        Raises: OSError: the connection is already gone.
        """
        return Endpoint.of(self.socket.getsockname())

    @property
    def peer(self) -> Endpoint:
        """The peer's end.

        Raises: OSError: the connection is already gone.
        """
        return Endpoint.of(self.socket.getpeername())

    @property
    def unsent(self) -> int:
        """Bytes that wait in this process."""
        return self._transport.get_write_buffer_size() if self._transport else 0

    def write(self, data: bytes) -> None:
        """Send; waits in memory while the kernel's buffer is full. A wire that is finished or closed takes no more."""
        if self._transport is not None and not self._is_finished and not self._transport.is_closing():
            self._transport.write(data)

    def pause(self) -> None:
        """Read no further for now."""
        if self._transport is not None and self._transport.is_reading():
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        if self._transport is not None and not self._transport.is_closing() and not self._transport.is_reading():
            self._transport.resume_reading()

    def finish(self) -> None:
        """Close after what was written: reading goes on into nothing, since closing a socket with unread bytes sends a
        reset that can overtake the NOTIFICATION."""
        self._received = self._lost = self._drained = None
        if self._transport is None or self._is_finished or self._transport.is_closing():
            return
        self._is_finished = True
        self.resume()
        with contextlib.suppress(OSError):
            self._transport.write_eof()
        asyncio.get_running_loop().call_later(LINGER_S, self.abort)

    def abort(self) -> None:
        """Close at once."""
        self._received = self._lost = self._drained = None
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.set_write_buffer_limits(high=UNSENT_HIGH, low=UNSENT_LOW)
        if self._made is not None:
            self._made(self)

    def get_buffer(self, sizehint: int) -> bytearray:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        if self._received is not None:
            self._received(bytes(self._view[:nbytes]))

    def pause_writing(self) -> None:
        self.is_full = True

    def resume_writing(self) -> None:
        self.is_full = False
        if self._drained is not None:
            self._drained()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed.set()
        self._gone()
        if self._lost is not None:
            self._lost(_connection_lost_text(exc))


async def dial(target: Target) -> Wire:
    """Connect.

    Raises: OSError: with the reason as `explain_dial_error` words it.
    """
    loop = asyncio.get_running_loop()
    sock = socket.socket(family_of(target.address), socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        sock.setblocking(False)
        set_common(sock)
        if target.ttl_security:
            require_ttl_255(sock)
        if target.device and not target.scope:
            bind_to_device(sock, target.device)
        if target.source:
            sock.bind(_sockaddr(target.source, 0, target.scope))
        if target.password:
            set_md5_key(sock, target.address, 8 * len(target.address), target.password)
        await loop.sock_connect(sock, _sockaddr(target.address, target.port, target.scope))
        _, wire = await loop.create_connection(Wire, sock=sock)
    except BaseException:
        sock.close()
        raise
    return wire


def explain_dial_error(error: OSError, target: Target) -> str:
    """What went wrong with a dial, where, and what to do."""
    match error.errno:
        case errno.ECONNREFUSED:
            return f"{target}: connection refused: is BGP running there, with this host as its neighbor?"
        case errno.ENETUNREACH | errno.EHOSTUNREACH:
            return f"{target}: no route to it: is the link up, with an address in its network?"
        case errno.EADDRNOTAVAIL:
            source = format_address(target.source) if target.source else "the source address"
            return f"{target}: {source} is not an address of this host"
        case errno.EPERM | errno.EACCES if target.device:
            return f"{target}: cannot bind to {target.device}: CAP_NET_RAW is missing"
        case errno.ENODEV:
            return f"{target}: there is no interface {target.device}"
        case errno.ETIMEDOUT:
            return no_answer_text(target)
        case number:
            return f"{target}: {os.strerror(number) if number else error}"


def no_answer_text(target: Target) -> str:
    """What a dial without any answer may mean: the kernel drops segments with a wrong MD5 signature silently."""
    if target.ttl_security and ttl_drops() > target.ttl_drops:
        return (
            f"{target}: TTL mismatch: answers came with a TTL below {MAX_TTL}, and were dropped: does BGP run there, "
            "with GTSM (ttl-security) for this host?"
        )
    hint = "is the password the same on both sides?" if target.password else "does the neighbor want an MD5 password?"
    return f"{target}: no answer: is it reachable, and {hint}"


class Listener:
    """The listening sockets of one port, one per IP version. `accept` is called with each new connection.

    `device`: a VRF device, to hear what comes in there; the main table's sockets do not.
    """

    def __init__(self, port: int, accept: Callable[[Wire], None], *, admission: Admission, device: str = "") -> None:
        self.port = port
        self._device = device
        self.error = ""
        self._accept = accept
        self._admission = admission
        self._sockets: dict[socket.AddressFamily, socket.socket] = {}
        self._pauses: dict[socket.socket, asyncio.TimerHandle] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def open(self) -> bool:
        """Open what is not open yet, in a running loop; whether all is. `error` says why not."""
        self.error = ""
        self._admission.reserve.fill()
        for family in (socket.AF_INET, socket.AF_INET6):
            if family in self._sockets:
                continue
            try:
                sock = _listening_socket(family, self.port, self._device)
            except OSError as error:
                if error.errno != errno.EAFNOSUPPORT:
                    self.error = _listen_error_text(error, family, self.port)
                continue
            self._sockets[family] = sock
            self._listen(sock)
        return not self.error

    def _listen(self, sock: socket.socket) -> None:
        self._pauses.pop(sock, None)
        asyncio.get_running_loop().add_reader(sock, self._take_waiting, sock)

    def _take_waiting(self, sock: socket.socket) -> None:
        """Accept what waits, a few connections at a turn; what is not admitted is closed before the next is taken."""
        for _ in range(ACCEPTS):
            try:
                connection, name = sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except (OSError, MemoryError) as error:
                self._pause(sock, error)
                return
            origin, interface = (self._device, Endpoint.of(name)), arrival_index(connection)
            if self._admission.admit(origin, interface):
                self._take(connection, partial(self._admission.closed, origin, interface))
            else:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                connection.close()

    def _pause(self, sock: socket.socket, error: OSError | MemoryError) -> None:
        """No descriptor is left, or no memory: close what waits, and take no more for a moment."""
        self._admission.shortage.note(error)
        for _ in range(ACCEPTS):
            if not self._admission.reserve.shed(sock):
                break
        loop = asyncio.get_running_loop()
        loop.remove_reader(sock)
        self._pauses[sock] = loop.call_later(PAUSE_S, self._listen, sock)

    def _take(self, connection: socket.socket, gone: Callable[[], None]) -> None:
        connection.setblocking(False)
        task = asyncio.get_running_loop().create_task(self._make_wire(connection, gone))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _make_wire(self, connection: socket.socket, gone: Callable[[], None]) -> None:
        wire = Wire(self._accept, gone=gone)
        try:
            await asyncio.get_running_loop().connect_accepted_socket(lambda: wire, connection)
        except (OSError, MemoryError) as error:
            self._admission.shortage.note(error)
            connection.close()
            gone()

    def set_md5_key(self, address: bytes, prefix_length: int, key: bytes) -> None:
        """Want signed segments from a peer or range; an empty key ends that.

        Raises: OSError: the kernel was built without TCP MD5.
        """
        sock = self._sockets.get(family_of(address))
        if sock is None:
            return
        try:
            set_md5_key(sock, address, prefix_length, key)
        except FileNotFoundError:
            if key:
                raise

    def close(self) -> None:
        """Accept no more."""
        for pause in self._pauses.values():
            pause.cancel()
        for sock in self._sockets.values():
            asyncio.get_running_loop().remove_reader(sock)
            sock.close()
        self._pauses.clear()
        self._sockets.clear()


def _sockaddr(address: bytes, port: int, scope: int) -> tuple[str, int] | tuple[str, int, int, int]:
    text = format_address(address)
    return (text, port) if len(address) == 4 else (text, port, 0, scope)


def _listening_socket(family: socket.AddressFamily, port: int, device: str) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        set_common(sock)
        sock.setsockopt(socket.IPPROTO_TCP, TCP_SAVE_SYN, 1)
        if device:
            bind_to_device(sock, device)
        sock.bind(("", port))
        sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def _listen_error_text(error: OSError, family: socket.AddressFamily, port: int) -> str:
    where = f"0.0.0.0:{port}" if family == socket.AF_INET else f"[::]:{port}"
    match error.errno:
        case errno.EADDRINUSE:
            return f"cannot listen on {where}: another program has the port; neighbors are still dialed"
        case errno.EACCES:
            return f"cannot listen on {where}: CAP_NET_BIND_SERVICE is missing; neighbors are still dialed"
        case _:
            return f"cannot listen on {where}: {error.strerror}; neighbors are still dialed"


def _connection_lost_text(error: Exception | None) -> str:
    match error:
        case None:
            return "the neighbor closed the connection"
        case ConnectionResetError():
            return "the neighbor reset the connection"
        case TimeoutError():
            return "the neighbor took no data any more (TCP timed out)"
        case OSError():
            return f"connection lost: {error.strerror or error}"
        case _:
            return f"connection lost: {error}"
