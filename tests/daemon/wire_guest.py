"""A BGP speaker of raw bytes that dials, as a guest of the host does."""

from __future__ import annotations

import fcntl
import socket
import struct
import threading
import time
from collections.abc import Callable
from typing import Any

from labs.namespace import Namespace
from labs.process import LabError
from tests.daemon.wire_peer import END_OF_RIB, KEEPALIVE, keep_alive, message, open_message, receive, update, withdrawal

PATIENCE_S = 15.0
SIOCGIFINDEX = 0x8933
"""linux/sockios.h."""


class WireGuest:
    """One session of a guest: established at once, kept alive until it is closed. A context manager."""

    def __init__(
        self,
        namespace: Namespace,
        *,
        asn: int,
        source: str = "127.0.0.2",
        to: str = "127.0.0.1",
        port: int = 179,
        is_quiet: bool = False,
        sign: Callable[[socket.socket, str], None] = lambda sock, to: None,
        patience_s: float = PATIENCE_S,
        **fields: Any,
    ) -> None:
        self.asn = asn
        self.source = source
        self._sign, self._patience_s = sign, patience_s
        self.socket = self._established(namespace, to, port, open_message(asn, **fields))
        if not is_quiet:
            threading.Thread(target=keep_alive, args=(self.socket,), daemon=True).start()

    def _established(self, namespace: Namespace, to: str, port: int, opened: bytes) -> socket.socket:
        """A session; one that is refused, since others came and went before it, is tried again."""
        end = time.monotonic() + self._patience_s
        while True:
            made = _socket(namespace, self.source, to)
            try:
                self._sign(made, to)
                made.settimeout(min(10.0, self._patience_s))
                made.connect(_name(made, to, port))
                made.sendall(opened + message(KEEPALIVE))
                while receive(made)[0] != KEEPALIVE:
                    pass
            except (LabError, OSError):
                made.close()
                if time.monotonic() > end:
                    raise
                time.sleep(0.1)
            else:
                return made

    def __enter__(self) -> WireGuest:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def announce(self, *prefixes: str, next_hop: str = "", extra: bytes = b"", as_path: bytes = b"") -> None:
        hop = next_hop or self.source
        for start in range(0, len(prefixes), 500):
            some = prefixes[start : start + 500]
            self.socket.sendall(update(some, asn=self.asn, next_hop=hop, extra=extra, as_path=as_path))

    def withdraw(self, *prefixes: str) -> None:
        self.socket.sendall(withdrawal(*prefixes))

    def end_of_rib(self) -> None:
        self.socket.sendall(END_OF_RIB)

    def close(self) -> None:
        self.socket.close()


def connected(namespace: Namespace, source: str, to: str, port: int = 179) -> socket.socket:
    """A connection from an address of a namespace; link-local ones with %INTERFACE."""
    sock = _socket(namespace, source, to)
    sock.connect(_name(sock, to, port))
    return sock


def _socket(namespace: Namespace, source: str, to: str) -> socket.socket:
    with namespace.entered():
        sock = socket.socket(socket.AF_INET6 if ":" in to else socket.AF_INET)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.settimeout(10.0)
        sock.bind(_name(sock, source, 0))
    return sock


def _name(sock: socket.socket, address: str, port: int) -> tuple[str, int] | tuple[str, int, int, int]:
    """What bind and connect take. The interface's index is the one in the socket's namespace."""
    bare, _, interface = address.partition("%")
    if sock.family != socket.AF_INET6:
        return bare, port
    return bare, port, 0, _index(sock, interface) if interface else 0


def _index(sock: socket.socket, interface: str) -> int:
    request = struct.pack("16si", interface.encode(), 0)
    return int(struct.unpack("16si", fcntl.ioctl(sock, SIOCGIFINDEX, request))[1])
