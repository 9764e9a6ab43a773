"""A BGP speaker of raw bytes that dials, as a guest of the host does."""

from __future__ import annotations

import socket
import threading
import time
from typing import Any

from labs.namespace import Namespace
from labs.process import LabError
from tests.daemon.wire_peer import END_OF_RIB, KEEPALIVE, keep_alive, message, open_message, receive, update, withdrawal

PATIENCE_S = 15.0


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
        **fields: Any,
    ) -> None:
        self.asn = asn
        self.source = source
        self.socket = self._established(namespace, to, port, open_message(asn, **fields))
        if not is_quiet:
            threading.Thread(target=keep_alive, args=(self.socket,), daemon=True).start()

    def _established(self, namespace: Namespace, to: str, port: int, opened: bytes) -> socket.socket:
        """A session; one that is refused, since others came and went before it, is tried again."""
        end = time.monotonic() + PATIENCE_S
        while True:
            made = connected(namespace, self.source, to, port)
            try:
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
    """A connection from an address of a namespace."""
    with namespace.entered():
        sock = socket.socket(socket.AF_INET6 if ":" in to else socket.AF_INET)
    sock.settimeout(10.0)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((source, 0))
    sock.connect((to, port))
    return sock
