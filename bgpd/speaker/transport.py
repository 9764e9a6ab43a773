"""TCP for BGP sessions, on asyncio: dial, read by 64 KiB slices, close so that the peer can read the last message.

Decides nothing about sessions: bytes and the end of a connection are reported to whoever owns it. Listening is in
listener.py, the options of sockets are in socket_options.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import threading
from collections import deque
from collections.abc import Callable

import msgspec

from bgpd.model.prefix import format_address, socket_family
from bgpd.speaker.authentication import Authentication, hint, problem_text, set_for_connecting
from bgpd.speaker.socket_options import (
    MAX_TTL,
    bind_to_device,
    require_ttl_255,
    set_common,
    ttl_drops,
)

READ_SIZE = 65536
"""One read is one step of the loop; what does not fit waits in the kernel, which is the backpressure of TCP."""
UNSENT_HIGH = 256 * 1024
"""Bytes waiting in this process from which on a connection `is_full`, ..."""
UNSENT_LOW = 64 * 1024
"""... and at which it is not any more."""
LINGER_S = 1.0
"""How long a closed connection stays, so that the peer reads the NOTIFICATION rather than a reset."""


NewSocket = Callable[..., socket.socket]
"""Makes a socket of a family, type and protocol."""


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
    authentication: Authentication | None = None
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


class _Room(threading.local):
    """What one read is put into, before its bytes are passed on: one for all connections of a loop."""

    def __init__(self) -> None:
        self.buffer = bytearray(READ_SIZE)
        self.view = memoryview(self.buffer)


_room = _Room()


class Wire(asyncio.BufferedProtocol):
    """One TCP connection. `made`, `received`, `lost` and `drained` are called until `finish` or `abort`.

    `lost` is given the reason as text, "" if the peer closed the connection in order. `is_full`: the peer reads slower
    than it is written to; `drained` is called when it has caught up. `adopted_from`: the peer of a connection that
    another process has made, whose end is not told before `resume`.
    """

    def __init__(
        self,
        made: Callable[[Wire], None] | None = None,
        *,
        gone: Callable[[], None] = lambda: None,
        adopted_from: Endpoint | None = None,
    ) -> None:
        self._made = made
        self._adopted_from = adopted_from
        self._end_waits = adopted_from is not None
        self._end: tuple[bytes, str] | None = None
        self._gone = gone
        self._transport: asyncio.Transport | None = None
        self._received: Callable[[bytes], None] | None = None
        self._lost: Callable[[str], None] | None = None
        self._drained: Callable[[], None] | None = None
        self._is_finished = False
        self._written: deque[bytes] = deque()
        self._written_bytes = 0
        self.is_full = False
        self.authentication: Authentication | None = None
        """The keys that its socket has, as far as is known here."""
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

        Raises: OSError: the connection is already gone, and was not adopted.
        """
        try:
            return Endpoint.of(self.socket.getpeername())
        except OSError:
            if self._adopted_from is None:
                raise
            return self._adopted_from

    @property
    def ports(self) -> tuple[int, int]:
        """This host's and the peer's; 0 if the connection is already gone."""
        try:
            return self.socket.getsockname()[1], self.socket.getpeername()[1]
        except OSError:
            return 0, 0

    @property
    def has_unread(self) -> bool:
        """Whether something came and was not read: bytes, or the end of the connection."""
        if self._transport is None or self._transport.is_closing():
            return True
        try:
            with self.socket.dup() as sock:
                sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            return True
        return True

    @property
    def unsent(self) -> int:
        """Bytes that wait in this process."""
        return self._transport.get_write_buffer_size() if self._transport else 0

    @property
    def unsent_bytes(self) -> bytes:
        """What waits in this process, for another one to send."""
        return b"".join(self._written)[-self.unsent :] if self.unsent else b""

    def write(self, data: bytes) -> None:
        """Send; waits in memory while the kernel's buffer is full. A wire that is finished or closed takes no more."""
        if self._transport is not None and not self._is_finished and not self._transport.is_closing():
            self._transport.write(data)
            self._written.append(data)
            self._written_bytes += len(data)
            self._forget_sent()

    def _forget_sent(self) -> None:
        """asyncio says how many bytes wait, and not which: they are the last of those that were written."""
        unsent = self.unsent
        while self._written and self._written_bytes - len(self._written[0]) >= unsent:
            self._written_bytes -= len(self._written.popleft())

    def pause(self) -> None:
        """Read no further for now."""
        if self._transport is not None and self._transport.is_reading():
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        self._end_waits = False
        if self._end is not None:
            asyncio.get_running_loop().call_soon(self._tell_end)
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
        if not transport.is_reading():
            asyncio.get_running_loop().call_soon(self._pause_again)

    def _pause_again(self) -> None:
        """asyncio of Python 3.11.2, Debian 12's, begins to read after `connection_made`, though it was paused there."""
        if self._transport is not None and not (self._transport.is_closing() or self._transport.is_reading()):
            self._transport.resume_reading()
            self._transport.pause_reading()

    def get_buffer(self, sizehint: int) -> bytearray:
        return _room.buffer

    def buffer_updated(self, nbytes: int) -> None:
        if self._received is not None:
            self._received(bytes(_room.view[:nbytes]))

    def pause_writing(self) -> None:
        self.is_full = True

    def resume_writing(self) -> None:
        self.is_full = False
        self._forget_sent()
        if self._drained is not None:
            self._drained()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        may_have_more = isinstance(exc, ConnectionError) and self._received is not None
        self._end = self._unread() if may_have_more else b"", _connection_lost_text(exc)
        self.closed.set()
        self._gone()
        if not self._end_waits:
            self._tell_end()

    def _unread(self) -> bytes:
        """What the peer had sent before it closed or reset the connection, which a write has shown: Linux still has it,
        and asyncio does not read it."""
        chunks = []
        with contextlib.suppress(OSError), self.socket.dup() as sock:
            while chunk := sock.recv(READ_SIZE):
                chunks.append(chunk)
        return b"".join(chunks)

    def _tell_end(self) -> None:
        if self._end is None:
            return
        (unread, reason), self._end = self._end, None
        if unread and self._received is not None:
            self._received(unread)
        if self._lost is not None:
            self._lost(reason)


async def adopt(sock: socket.socket, peer: Endpoint) -> Wire:
    """Take over a connection with `peer` that another process has made. Nothing is read of it before `resume`, and its
    end is not told: it may be over already, and what the peer said last is read then.

    Raises: OSError: it is no connection.
    """
    sock.setblocking(False)
    loop = asyncio.get_running_loop()
    _, wire = await loop.create_connection(lambda: Wire(Wire.pause, adopted_from=peer), sock=sock)
    return wire


async def dial(target: Target, *, new_socket: NewSocket = socket.socket) -> Wire:
    """Connect.

    Raises: OSError: with the reason as `explain_dial_error` words it.
    """
    loop = asyncio.get_running_loop()
    sock = new_socket(socket_family(target.address), socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        sock.setblocking(False)
        set_common(sock)
        if target.ttl_security:
            require_ttl_255(sock)
        if target.device and not target.scope:
            bind_to_device(sock, target.device)
        if target.source:
            sock.bind(_sockaddr(target.source, 0, target.scope))
        if target.authentication is not None:
            set_for_connecting(sock, target.address, target.authentication)
        await loop.sock_connect(sock, _sockaddr(target.address, target.port, target.scope))
        _, wire = await loop.create_connection(Wire, sock=sock)
        wire.authentication = target.authentication
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
        case errno.ENOPROTOOPT | errno.ENOENT | errno.EKEYREJECTED if target.authentication is not None:
            return f"{target}: {problem_text(error, target.authentication)}"
        case number:
            return f"{target}: {os.strerror(number) if number else error}"


def no_answer_text(target: Target) -> str:
    """What a dial without any answer may mean: the kernel drops segments with a wrong signature silently."""
    if target.ttl_security and ttl_drops() > target.ttl_drops:
        return (
            f"{target}: TTL mismatch: answers came with a TTL below {MAX_TTL}, and were dropped: does BGP run there, "
            "with GTSM (ttl-security) for this host?"
        )
    question = hint(target.authentication)
    if not target.device and not target.ttl_security:
        question += " Does it use GTSM (ttl-security)? It is more than one hop away."
    return f"{target}: no answer: is it reachable, and {question}"


def _sockaddr(address: bytes, port: int, scope: int) -> tuple[str, int] | tuple[str, int, int, int]:
    text = format_address(address)
    return (text, port) if len(address) == 4 else (text, port, 0, scope)


def _connection_lost_text(error: Exception | None) -> str:
    match error:
        case None:
            return "the neighbor closed the connection"
        case ConnectionResetError():
            return "the neighbor reset the connection"
        case TimeoutError():
            hint = "is it up, and does the path carry packets of the interface's MTU?"
            return f"the neighbor acknowledged no data any more (TCP timed out): {hint}"
        case OSError():
            return f"connection lost: {error.strerror or error}"
        case _:
            return f"connection lost: {error}"
