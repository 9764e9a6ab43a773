"""Connections of one API listener: how many there may be, and how long each may take.

A client can cost the daemon no more than a connection: at most `most` are open, each carries one request, its header
and body come in time and are bounded, and a client that does not read its answer is cut off. RFC 9110, RFC 9112.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

from bgpd.api.backend import Rejected
from bgpd.runtime.memory import connection_came

HEADER_TIMEOUT_S = 10.0
"""From the connection to the end of the request's header; and before, for the handshake of TLS."""
BODY_TIMEOUT_S = 10.0
"""From the end of the header to the end of the body."""
STALL_TIMEOUT_S = 30.0
"""How long a client may leave a part of its answer unread."""
REFUSED_TIMEOUT_S = 1.0
"""How long the client of a refused connection has to read why."""
RETRY_AFTER_S = 1
_REFUSAL_TEXT = b'{"error":"too many connections to the API","hint":"try again in a second"}\n'
_REFUSAL = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nConnection: close\r\n"
    b"Retry-After: %d\r\nContent-Length: %d\r\n\r\n%s" % (RETRY_AFTER_S, len(_REFUSAL_TEXT), _REFUSAL_TEXT)
)


class Connections:
    """Makes the protocols of a listener's connections. `handler` makes that of the HTTP server.

    `most`: connections at once, of which `kept` are for root and the daemon's user; `max_bytes`: what one may send in
    all. `before_tls`, of a TLS listener, is called before each handshake.
    """

    def __init__(
        self,
        handler: Callable[[], asyncio.Protocol],
        *,
        most: int,
        max_bytes: int,
        kept: int = 0,
        before_tls: Callable[[], None] | None = None,
    ) -> None:
        self._handler = handler
        self._before_tls = before_tls
        self._most = most
        self._kept = kept
        self._max_bytes = max_bytes
        self._open: set[Connection] = set()
        self._refused = Places(most)

    def __len__(self) -> int:
        return len(self._open)

    def __call__(self) -> asyncio.Protocol:
        """The protocol of a connection that was just accepted.

        Raises: ConnectionRefusedError: there are too many, and saying so would take a handshake: asyncio closes it.
        """
        connection_came()
        if len(self._open) >= self._most:
            if self._before_tls is not None:
                raise ConnectionRefusedError("too many connections to the API")
            return _Refused(self._refused)
        only_operators = len(self._open) >= self._most - self._kept
        connection = Connection(
            self._handler(),
            max_bytes=self._max_bytes,
            closed=self._open.discard,
            only_operators=only_operators,
            refused=self._refused,
        )
        self._open.add(connection)
        if self._before_tls is not None:
            self._before_tls()
            connection.handshake_begins()
        return connection


class Connection(asyncio.Protocol):
    """One connection: passes everything on to the HTTP server's protocol, and cuts off what takes too long.

    With `only_operators` that of another user is refused, with a place of `refused`.
    """

    def __init__(
        self,
        handler: asyncio.Protocol,
        *,
        max_bytes: int,
        closed: Callable[[Connection], None],
        only_operators: bool,
        refused: Places,
    ) -> None:
        self._handler = handler
        self._refused = refused
        self._only_operators = only_operators
        self._bytes_left = max_bytes
        self._closed = closed
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None

    def handshake_begins(self) -> None:
        """TLS comes first. asyncio ends a handshake that takes long or fails, and does not tell: the place is free
        again at the time by which it must be done."""
        self._timer = asyncio.get_running_loop().call_later(HEADER_TIMEOUT_S, self._closed, self)

    def request_began(self) -> None:
        """The header of the request has been received."""
        self._stop_timer()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        if self._only_operators and not is_operator(transport):
            self._handler = _Refused(self._refused)
            self._handler.connection_made(transport)
            return
        self._start_timer(HEADER_TIMEOUT_S)
        self._handler.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        if self._bytes_left > 0:  # what is more is read into nothing, until the refusal is out
            self._bytes_left -= len(data)
            self._handler.data_received(data)

    def eof_received(self) -> bool | None:
        return self._handler.eof_received()

    def pause_writing(self) -> None:
        self._start_timer(STALL_TIMEOUT_S)
        self._handler.pause_writing()

    def resume_writing(self) -> None:
        self._stop_timer()
        self._handler.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        self._closed(self)
        self._handler.connection_lost(exc)

    def _start_timer(self, seconds: float) -> None:
        self._stop_timer()
        self._timer = asyncio.get_running_loop().call_later(seconds, self._abort)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()


class _Refused(asyncio.Protocol):
    """A connection beyond the most that are served.

    It stays until the client has closed its side, if it does so soon and there is a place in `places`: a socket that is
    closed with a request unread takes the refusal back (tcp(7), unix(7): ECONNRESET).
    """

    def __init__(self, places: Places) -> None:
        self._places = places
        self._transport: asyncio.Transport | None = None
        self._stay = contextlib.ExitStack()
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(_REFUSAL)
        try:
            self._stay.enter_context(self._places.one())
        except Rejected:
            transport.close()
            return
        with contextlib.suppress(OSError):  # the client has gone
            transport.write_eof()
        self._timer = asyncio.get_running_loop().call_later(REFUSED_TIMEOUT_S, transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._stay.close()


class Credentials(NamedTuple):
    """Who is at the other end of a unix socket."""

    pid: int
    uid: int
    gid: int


def credentials(transport: asyncio.BaseTransport | None) -> Credentials | None:
    """What the kernel knows of the peer (unix(7), SO_PEERCRED); None if it is not on a unix socket."""
    peer = transport.get_extra_info("socket") if transport else None
    if peer is None or peer.family != socket.AF_UNIX:
        return None
    return Credentials(*struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)))


def is_operator(transport: asyncio.BaseTransport | None) -> bool:
    """Whether it is root's or the daemon's user's."""
    found = credentials(transport)
    return found is not None and found.uid in (0, os.geteuid())


class Places:
    """How many long answers of one kind may be under way at once."""

    def __init__(self, most: int) -> None:
        self._left = most

    @contextlib.contextmanager
    def one(self) -> Iterator[None]:
        """One place, for as long as the block runs. Raises: Rejected: with 503, all are taken."""
        if not self._left:
            raise Rejected(503, "bgpd is busy with other answers", "try again in a second", retry_after_s=RETRY_AFTER_S)
        self._left -= 1
        try:
            yield
        finally:
            self._left += 1
