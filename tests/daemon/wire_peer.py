"""A BGP speaker of raw bytes on a leaf's address, for what no real speaker would send."""

from __future__ import annotations

import socket
import struct
import threading
from typing import Any

from bgpd.simulation.wire import (
    CEASE,
    HARD_RESET,
    KEEPALIVE,
    MARKER,
    NOTIFICATION,
    OPEN,
    UPDATE,
    Restart,
    attribute,
    message,
    open_message,
)
from labs.namespace import Namespace
from labs.process import LabError

__all__ = ["CEASE", "HARD_RESET", "KEEPALIVE", "MARKER", "NOTIFICATION", "OPEN", "UPDATE", "Restart"]
"""Of the messages: for those who speak by them."""
TIMEOUT_S = 10.0
START_TIMEOUT_S = 60.0
"""Until a connection comes: a daemon that is being started on a busy machine takes a while."""
END_OF_RIB = message(UPDATE, b"\0\0\0\0")
"""Of IPv4 unicast (RFC 4724 section 2)."""


def update(
    prefixes: tuple[str, ...], *, asn: int, next_hop: str = "10.0.1.2", extra: bytes = b"", as_path: bytes = b""
) -> bytes:
    """UPDATE with IPv4 prefixes, ORIGIN, AS_PATH and NEXT_HOP; `extra` are further attributes."""
    attributes = attribute(0x40, 1, b"\0") + (as_path or attribute(0x40, 2, struct.pack("!BBI", 2, 1, asn)))
    attributes += attribute(0x40, 3, socket.inet_aton(next_hop)) + extra
    return message(UPDATE, struct.pack("!HH", 0, len(attributes)) + attributes + _nlri(prefixes))


def withdrawal(*prefixes: str) -> bytes:
    withdrawn = _nlri(prefixes)
    return message(UPDATE, struct.pack("!H", len(withdrawn)) + withdrawn + b"\0\0")


def _nlri(prefixes: tuple[str, ...]) -> bytes:
    out = b""
    for prefix in prefixes:
        address, _, length = prefix.partition("/")
        out += bytes((int(length),)) + socket.inet_aton(address)[: (int(length) + 7) // 8]
    return out


class WirePeer:
    """Listens where the daemon dials; a context manager."""

    def __init__(self, namespace: Namespace, address: str = "10.0.1.2", *, asn: int = 65201, ttl: int = 64) -> None:
        self.asn = asn
        with namespace.entered():
            self._listener = socket.create_server((address, 179))
        self._listener.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, ttl)
        self._listener.settimeout(START_TIMEOUT_S)
        self._connections: list[socket.socket] = []

    def __enter__(self) -> WirePeer:
        return self

    def __exit__(self, *exception: object) -> None:
        for opened in (self._listener, *self._connections):
            opened.close()

    def timeout(self, seconds: float) -> None:
        """Wait no longer than that for a connection."""
        self._listener.settimeout(seconds)

    def receive_buffer(self, size: int) -> None:
        """Connections that come from now on take few bytes that are not read."""
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)

    def accept(self) -> socket.socket:
        """The daemon's next connection."""
        connection, _ = self._listener.accept()
        connection.settimeout(TIMEOUT_S)
        self._connections.append(connection)
        return connection

    def establish(self, *, asn: int = 0, is_quiet: bool = False, **fields: Any) -> socket.socket:
        """A connection brought to Established, and kept alive until it is closed (`is_quiet`: not kept alive). `fields`
        are those of `open_message`."""
        connection = self.accept()
        connection.sendall(open_message(asn or self.asn, **fields) + message(KEEPALIVE))
        while receive(connection)[0] != KEEPALIVE:
            pass
        if not is_quiet:
            threading.Thread(target=keep_alive, args=(connection,), daemon=True).start()
        return connection


def receive(connection: socket.socket) -> tuple[int, bytes]:
    """The next message: type and body.

    Raises: LabError: the connection ended.
    """
    head = _exactly(connection, 19)
    length, kind = struct.unpack("!HB", head[16:])
    return kind, _exactly(connection, length - 19)


def notification(connection: socket.socket) -> tuple[int, int]:
    """Code and subcode of the NOTIFICATION that ends a connection; what comes before it is skipped."""
    while True:
        kind, body = receive(connection)
        if kind == NOTIFICATION:
            return body[0], body[1]


def _exactly(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        try:
            part = connection.recv(count - len(data))
        except OSError as error:
            raise LabError(f"the daemon sent nothing: {error}") from error
        if not part:
            raise LabError("the daemon closed the connection")
        data += part
    return data


def keep_alive(connection: socket.socket) -> None:
    """Send a KEEPALIVE every two seconds, until the connection ends."""
    try:
        while not _ended.wait(2.0):
            connection.sendall(message(KEEPALIVE))
    except OSError:
        return


_ended = threading.Event()
