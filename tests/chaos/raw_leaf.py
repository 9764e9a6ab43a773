"""A leaf of raw bytes: announces what it is told, remembers all that it hears, and may break every rule of BGP.

It speaks IPv4, IPv6 and EVPN. One whose own address is link-local is unnumbered: it tells the host its address by
Router Advertisements, and announces IPv4 routes with that next hop (RFC 8950). That one also knows where a route
refresh begins and ends (RFC 7313).
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator

import msgspec

from labs.namespace import Namespace
from labs.process import LabError
from tests.chaos.evpn_wire import AFI_SAFI, EvpnRoute, encode_announcements, encode_withdrawals
from tests.chaos.heard import AS_PATH, IPV4, IPV6, MP_REACH, MP_UNREACH, NEXT_HOP, ORIGIN, Heard, Host, encode_prefixes
from tests.chaos.hostile import TAKEN_BACK, evpn_taken_back
from tests.chaos.tenant import tenancy_of_leaf
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

FAMILIES = ((1, 1), (2, 1), AFI_SAFI)
EXTENDED_NEXT_HOP = struct.pack("!BBHHH", 5, 6, 1, 1, 2)
"""The capability: IPv4 unicast by IPv6 next hops."""
ENHANCED_REFRESH = bytes((70, 0))
ROUTE_REFRESH = 5
ENDS_OF_RIB = END_OF_RIB + b"".join(
    message(UPDATE, struct.pack("!HH", 0, 6) + attribute(0x80, MP_UNREACH, struct.pack("!HB", *family)))
    for family in FAMILIES[1:]
)
ADVERTISED_EVERY_S = 1.0
ADVERTISEMENT = struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 0, 0, 0)
"""A Router Advertisement of no default router (RFC 4861 section 4.2); the kernel adds the checksum."""
PER_MESSAGE = 100
KEEPALIVE_S = 2.0
HOLD_S = 9.0
RESTART_S = 60
LINES_KEPT = 20_000
_RESET_AT_CLOSE = struct.pack("ii", 1, 0)


class Ends(msgspec.Struct, frozen=True):
    """The leaf's own address on its interface swp1, and what the host gives it as next hops."""

    own: str
    host: Host

    @property
    def is_unnumbered(self) -> bool:
        return ":" in self.own


class RawLeaf:
    """The leaf `number`; a thread of its own takes the daemon's connections. A context manager."""

    def __init__(self, namespace: Namespace, number: int, asn: int, ends: Ends) -> None:
        self.number, self.asn = number, asn
        self._ends = ends
        self._tenancy = tenancy_of_leaf(number)
        self.announced: set[str] = set()
        """The prefixes that it announces, in each session anew."""
        self.evpn: dict[str, EvpnRoute] = {}
        """Likewise its EVPN routes, by key."""
        self.heard = Heard(number, ends.host)
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
            if ends.is_unnumbered:
                self._listener = socket.create_server(("::", 179), family=socket.AF_INET6)
                self._threads = [threading.Thread(target=self._advertise, args=(_advertiser(),), daemon=True)]
            else:
                self._listener = socket.create_server((ends.own, 179))
                self._threads = []
        self._threads.append(threading.Thread(target=self._run, daemon=True))

    def __enter__(self) -> RawLeaf:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._ended.set()
        self.drop()
        for thread in self._threads:
            thread.join(10.0)
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

    def announce_evpn(self, *routes: EvpnRoute) -> None:
        with self._lock:
            self.evpn |= {route.key: route for route in routes}
            self._send(*self._evpn_announcements(list(routes)))

    def withdraw_evpn(self, *routes: EvpnRoute) -> None:
        with self._lock:
            for route in routes:
                self.evpn.pop(route.key, None)
            gone = encode_withdrawals(list(routes), self._tenancy, per_message=PER_MESSAGE)
            self._send(*(_without_nlri(attributes) for attributes in gone))

    def send(self, *messages: bytes) -> None:
        """Send bytes, right or wrong, if there is a session."""
        with self._lock:
            self.heard.is_refreshed |= any(one[18:19] == bytes((ROUTE_REFRESH,)) for one in messages)
            self._send(*messages)

    def take_back(self) -> None:
        """Withdraw what hostile messages announced, in this session if it is still the one."""
        with self._lock:
            self._send(*_withdrawals(sorted(set(TAKEN_BACK) - self.announced)))
            self._send(evpn_taken_back(self._tenancy))

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

    # Its threads.

    def _advertise(self, advertiser: socket.socket) -> None:
        """The host learns the address of an unnumbered leaf by Router Advertisements."""
        with advertiser:
            while not self._ended.wait(ADVERTISED_EVERY_S):
                with contextlib.suppress(OSError):  # the link is down
                    advertiser.sendto(ADVERTISEMENT, ("ff02::1", 0))

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
        more = EXTENDED_NEXT_HOP + ENHANCED_REFRESH if self._ends.is_unnumbered else b""
        router_id = (10, 255, 0, self.number)
        connection.sendall(open_message(self.asn, families=FAMILIES, restart=restart, router_id=router_id, more=more))
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
            evpn = self._evpn_announcements(list(self.evpn.values()))
            self._send(*self._announcements(sorted(self.announced)), *evpn, ENDS_OF_RIB)
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
            with self._lock:
                if kind == UPDATE:
                    self._note(*self.heard.take(body))
                elif kind == ROUTE_REFRESH:
                    self._note(*self.heard.take_refresh(body))

    def _send(self, *messages: bytes) -> None:
        if self._connection is not None:
            try:
                self._connection.sendall(b"".join(messages))
            except OSError:  # a part of it may be on the way
                self.drop()

    def _note(self, *texts: str) -> None:
        self.log.extend(f"{time.time():.3f} leaf{self.number} {text}" for text in texts)

    def _announcements(self, prefixes: list[str]) -> Iterator[bytes]:
        for chosen in _lots(prefixes, ipv6=False):
            if self._ends.is_unnumbered:
                yield _without_nlri(self._path() + self._reach(IPV4, chosen))
            else:
                attributes = self._path() + attribute(0x40, NEXT_HOP, socket.inet_aton(self._ends.own))
                yield message(UPDATE, struct.pack("!HH", 0, len(attributes)) + attributes + encode_prefixes(chosen))
        for chosen in _lots(prefixes, ipv6=True):
            yield _without_nlri(self._path() + self._reach(IPV6, chosen))

    def _path(self) -> bytes:
        return attribute(0x40, ORIGIN, b"\0") + attribute(0x40, AS_PATH, struct.pack("!BBI", 2, 1, self.asn))

    def _reach(self, family: bytes, prefixes: list[str]) -> bytes:
        own = self._ends.own if self._ends.is_unnumbered else f"2001:db8:{self.number}::2"
        next_hop = socket.inet_pton(socket.AF_INET6, own)
        return attribute(0x80, MP_REACH, family + b"\x10" + next_hop + b"\0" + encode_prefixes(prefixes))

    def _evpn_announcements(self, routes: list[EvpnRoute]) -> Iterator[bytes]:
        next_hop = f"10.0.{self.number}.2"
        for attributes in encode_announcements(routes, self._tenancy, next_hop, per_message=PER_MESSAGE):
            yield _without_nlri(self._path() + attributes)


def _advertiser() -> socket.socket:
    """Sends ICMPv6 to all nodes behind swp1, as routers do, in the namespace of now."""
    made = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
    made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, socket.if_nametoindex("swp1"))
    made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
    return made


def _without_nlri(attributes: bytes) -> bytes:
    """The UPDATE with these attributes alone."""
    return message(UPDATE, struct.pack("!HH", 0, len(attributes)) + attributes)


def _withdrawals(prefixes: list[str]) -> Iterator[bytes]:
    for chosen in _lots(prefixes, ipv6=False):
        gone = encode_prefixes(chosen)
        yield message(UPDATE, struct.pack("!H", len(gone)) + gone + b"\0\0")
    for chosen in _lots(prefixes, ipv6=True):
        yield _without_nlri(attribute(0x80, MP_UNREACH, IPV6 + encode_prefixes(chosen)))


def _lots(prefixes: list[str], *, ipv6: bool) -> Iterator[list[str]]:
    chosen = [prefix for prefix in prefixes if (":" in prefix) == ipv6]
    for start in range(0, len(chosen), PER_MESSAGE):
        yield chosen[start : start + PER_MESSAGE]
