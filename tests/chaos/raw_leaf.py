"""A leaf of raw bytes: announces what it is told, remembers all that it hears, and may break every rule of BGP."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator

from labs.namespace import Namespace
from labs.process import LabError
from tests.chaos.heard import AS_PATH, MP_REACH, MP_UNREACH, NEXT_HOP, ORIGIN, Heard, encode_prefixes
from tests.chaos.hostile import TAKEN_BACK
from tests.daemon.wire_peer import (
    END_OF_RIB,
    KEEPALIVE,
    NOTIFICATION,
    OPEN,
    UPDATE,
    Restart,
    attribute,
    message,
    open_message,
    receive,
)

FAMILIES = ((1, 1), (2, 1))
ROUTE_REFRESH = 5
END_OF_RIB_IPV6 = message(UPDATE, struct.pack("!HH", 0, 6) + attribute(0x80, MP_UNREACH, b"\0\2\1"))
PER_MESSAGE = 100
KEEPALIVE_S = 2.0
HOLD_S = 9.0
RESTART_S = 60
LINES_KEPT = 20_000
_RESET_AT_CLOSE = struct.pack("ii", 1, 0)


class RawLeaf:
    """The leaf `number`; a thread of its own takes the daemon's connections. A context manager."""

    def __init__(self, namespace: Namespace, number: int, asn: int) -> None:
        self.number, self.asn = number, asn
        self.announced: set[str] = set()
        """What it announces, in each session anew."""
        self.heard = Heard(number)
        self.log: deque[str] = deque(maxlen=LINES_KEPT)
        self.sessions = 0
        self.is_established = False
        self.is_deaf = False
        """It reads nothing, while its connection stays."""
        self.is_away = False
        """It takes no connection."""
        self.graceful = True
        self._restarted = False
        self._lock = threading.RLock()
        self._connection: socket.socket | None = None
        self._ended = threading.Event()
        with namespace.entered():
            self._listener = socket.create_server((f"10.0.{number}.2", 179))
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> RawLeaf:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._ended.set()
        self.drop()
        self._thread.join(10.0)
        self._listener.close()

    # What it is told to do.

    def announce(self, prefixes: Iterable[str]) -> None:
        with self._lock:
            new = sorted(prefixes)
            self.announced.update(new)
            self._send(*self._announcements(new))

    def withdraw(self, prefixes: Iterable[str]) -> None:
        with self._lock:
            gone = sorted(prefixes)
            self.announced.difference_update(gone)
            self._send(*_withdrawals(gone))

    def send(self, *messages: bytes) -> None:
        """Send bytes, right or wrong, if there is a session."""
        with self._lock:
            self.heard.is_refreshed |= any(one[18:19] == bytes((ROUTE_REFRESH,)) for one in messages)
            self._send(*messages)

    def take_back(self) -> None:
        """Withdraw what hostile messages announced, in this session if it is still the one."""
        with self._lock:
            self._send(*_withdrawals(sorted(set(TAKEN_BACK) - self.announced)))

    def refresh(self) -> None:
        """Have the daemon send all again (RFC 2918)."""
        self.send(*(message(ROUTE_REFRESH, struct.pack("!HBB", afi, 0, safi)) for afi, safi in FAMILIES))

    def drop(self, *, reset: bool = False, restarted: bool = False) -> None:
        """End the connection without a word. `reset`: by a TCP reset; `restarted`: the next OPEN says so."""
        with self._lock:
            self._restarted = restarted
            if self._connection is not None:
                if reset:
                    self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_AT_CLOSE)
                    self._connection.close()
                else:
                    with contextlib.suppress(OSError):
                        self._connection.shutdown(socket.SHUT_RDWR)
                self._connection = None
                self.is_established = False

    # Its thread.

    def _run(self) -> None:
        while not self._ended.is_set():
            if self.is_away or not select.select([self._listener], [], [], 0.1)[0]:
                self._ended.wait(0.05)
                continue
            connection, _ = self._listener.accept()
            connection.settimeout(HOLD_S)
            try:
                self._speak(connection)
            except (LabError, OSError, ValueError) as error:
                self._note(f"session ended: {error}".splitlines()[0])
            finally:
                with self._lock:
                    self.is_established, self._connection = False, None
                connection.close()

    def _speak(self, connection: socket.socket) -> None:
        restart = Restart(restarted=self._restarted, time_s=RESTART_S, families=FAMILIES) if self.graceful else None
        router_id = (10, 255, 0, self.number)
        connection.sendall(open_message(self.asn, families=FAMILIES, restart=restart, router_id=router_id))
        kind, body = receive(connection)
        if kind != OPEN:
            self._note(f"{kind} {body[:40].hex()} in place of OPEN")
            return
        connection.sendall(message(KEEPALIVE))
        while (kind := receive(connection)[0]) != KEEPALIVE:
            if kind == NOTIFICATION:
                return
        with self._lock:
            self._connection = connection
            self.heard.begin()
            self.sessions += 1
            self._note(f"established, session {self.sessions}")
            self._send(*self._announcements(sorted(self.announced)), END_OF_RIB, END_OF_RIB_IPV6)
            self.is_established = True
        self._hear(connection)

    def _hear(self, connection: socket.socket) -> None:
        """Until the connection ends, or the daemon connects anew, or has said nothing for the hold time."""
        sent, heard = 0.0, time.monotonic()
        while self._connection is connection and not self._ended.is_set():
            if time.monotonic() - sent > KEEPALIVE_S:
                self.send(message(KEEPALIVE))
                sent = time.monotonic()
            if self.is_deaf:
                self._ended.wait(0.1)
                heard = time.monotonic()
                continue
            ready = select.select([connection, self._listener], [], [], 0.5)[0]
            if connection not in ready:
                if self._listener in ready or time.monotonic() - heard > HOLD_S:
                    return
                continue
            heard = time.monotonic()
            kind, body = receive(connection)
            if kind == NOTIFICATION:
                self._note(f"notification {body[0]}/{body[1]} {body[2:].hex()}")
                return
            if kind == UPDATE:
                with self._lock:
                    self._take(body)

    def _take(self, body: bytes) -> None:
        for said in self.heard.take(body):
            self._note(said)

    def _send(self, *messages: bytes) -> None:
        if self._connection is not None:
            try:
                self._connection.sendall(b"".join(messages))
            except OSError:  # a part of it may be on the way
                self.drop()

    def _note(self, text: str) -> None:
        self.log.append(f"{time.time():.3f} leaf{self.number} {text}")

    def _announcements(self, prefixes: list[str]) -> Iterator[bytes]:
        path = attribute(0x40, ORIGIN, b"\0") + attribute(0x40, AS_PATH, struct.pack("!BBI", 2, 1, self.asn))
        for chosen in _lots(prefixes, ipv6=False):
            attributes = path + attribute(0x40, NEXT_HOP, socket.inet_aton(f"10.0.{self.number}.2"))
            yield message(UPDATE, struct.pack("!HH", 0, len(attributes)) + attributes + encode_prefixes(chosen))
        for chosen in _lots(prefixes, ipv6=True):
            next_hop = socket.inet_pton(socket.AF_INET6, f"2001:db8:{self.number}::2")
            reach = b"\0\2\1\x10" + next_hop + b"\0" + encode_prefixes(chosen)
            attributes = path + attribute(0x80, MP_REACH, reach)
            yield message(UPDATE, struct.pack("!HH", 0, len(attributes)) + attributes)


def _withdrawals(prefixes: list[str]) -> Iterator[bytes]:
    for chosen in _lots(prefixes, ipv6=False):
        gone = encode_prefixes(chosen)
        yield message(UPDATE, struct.pack("!H", len(gone)) + gone + b"\0\0")
    for chosen in _lots(prefixes, ipv6=True):
        attributes = attribute(0x80, MP_UNREACH, b"\0\2\1" + encode_prefixes(chosen))
        yield message(UPDATE, struct.pack("!HH", 0, len(attributes)) + attributes)


def _lots(prefixes: list[str], *, ipv6: bool) -> Iterator[list[str]]:
    chosen = [prefix for prefix in prefixes if (":" in prefix) == ipv6]
    for start in range(0, len(chosen), PER_MESSAGE):
        yield chosen[start : start + PER_MESSAGE]
