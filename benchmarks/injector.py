"""A bare BGP peer in its own process: plays a leaf, replays prepared UPDATEs, notes when it hears what.

Never the bottleneck: all bytes are made before the clock starts. It listens, accepts what is negotiated, keeps the
session alive, and takes commands as JSON lines on stdin, each answered by one JSON line on stdout. All times are
CLOCK_MONOTONIC in nanoseconds, which every process of the machine shares.

Run inside the leaf's namespace: python -m benchmarks.injector '{"address": "10.0.0.2", "asn": 65201, ...}'
"""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import sys
import threading
import time
from typing import Any

import msgspec

from benchmarks import evpn_routes, wire
from benchmarks.internet_churn import InternetChurn
from benchmarks.internet_table import routes_of
from benchmarks.routes import RouteSet, format_prefix

CHUNK = 65536
KEEPALIVE_INTERVAL_S = 20.0


class Options(msgspec.Struct, kw_only=True):
    """Who the leaf is. `next_hop` is announced for IPv4, `next_hop6` for IPv6.

    `variant`: its number; leaves have the same Internet table by different paths.
    """

    address: str
    asn: int = 65201
    router_id: str = "10.255.0.1"
    families: tuple[str, ...] = ("ipv4-unicast", "ipv6-unicast")
    next_hop: str = ""
    next_hop6: str = ""
    hold_time_s: int = 240
    port: int = 179
    variant: int = 0
    restart_time_s: int = 0


class Leaf:
    """One listening BGP speaker with at most one session."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.changed = threading.Condition()
        self.announced: dict[bytes, int] = {}
        self.withdrawn: dict[bytes, int] = {}
        self.established_ns = 0
        self.notification = ""
        self.ended_ns = 0
        self._sending = threading.Lock()
        self._socket: socket.socket | None = None
        self._last_sent = time.monotonic()
        self._streams: dict[str, list[bytes]] = {}

    # The session: one thread accepts and reads.

    def serve(self) -> None:
        """Accepts one session after the other, for ever."""
        listener = socket.socket(socket.AF_INET6 if ":" in self.options.address else socket.AF_INET)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((self.options.address, self.options.port))
        listener.listen(8)
        while True:
            connection, _ = listener.accept()
            with contextlib.suppress(OSError), connection:
                self._session(connection)
                self.ended_ns = time.monotonic_ns()
            with self.changed:
                self._socket = None
                self.established_ns = 0
                self.changed.notify_all()

    def _session(self, connection: socket.socket) -> None:
        options = self.options
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.settimeout(5.0)
        self._socket = connection
        self._send(
            wire.open_message(
                asn=options.asn,
                router_id=options.router_id,
                hold_time_s=options.hold_time_s,
                families=options.families,
                restart_time_s=options.restart_time_s,
            )
        )
        reader = wire.Reader()
        while True:
            try:
                data = connection.recv(1 << 20)
            except TimeoutError:
                data = None
            if data == b"":
                return
            now = time.monotonic_ns()
            for kind, body in reader.feed(data or b""):
                self._received(kind, body, now)
            if time.monotonic() - self._last_sent > KEEPALIVE_INTERVAL_S:
                self._send(wire.KEEPALIVE)

    def _received(self, kind: int, body: bytes, now: int) -> None:
        if kind == wire.UPDATE:
            announced, withdrawn = wire.unicast_changes(body)
            with self.changed:
                self.announced.update(dict.fromkeys(announced, now))
                self.withdrawn.update(dict.fromkeys(withdrawn, now))
                self.changed.notify_all()
        elif kind == wire.OPEN:
            self._send(wire.KEEPALIVE)
        elif kind == wire.KEEPALIVE_TYPE and not self.established_ns:
            with self.changed:
                self.established_ns = now
                self.changed.notify_all()
        elif kind == wire.NOTIFICATION:
            self.notification = body.hex()

    def _send(self, data: bytes) -> None:
        connection = self._socket
        if connection is None:
            raise OSError("no session")
        with self._sending:
            connection.sendall(data)
            self._last_sent = time.monotonic()

    # Commands.

    def do_prepare(
        self, *, name: str, routes: dict[str, Any], withdraw: bool = False, next_hop: str = ""
    ) -> dict[str, Any]:
        """Makes the bytes of a stream."""
        options = self.options
        messages: list[bytes]
        if str(routes["kind"]).startswith("evpn"):
            evpn_set = msgspec.convert(routes, evpn_routes.EvpnRouteSet)
            messages = list(
                evpn_set.withdrawals()
                if withdraw
                else evpn_set.announcements(asn=options.asn, next_hop=options.next_hop)
            )
        else:
            route_set = routes_of(routes)
            own = options.next_hop6 if route_set.family == "ipv6-unicast" else options.next_hop
            messages = list(
                route_set.withdrawals()
                if withdraw
                else route_set.announcements(asn=options.asn, next_hop=next_hop or own, variant=options.variant)
            )
        if not withdraw:
            messages += map(wire.end_of_rib, options.families)
        self._streams[name] = _chunks(messages)
        return {"messages": len(messages), "bytes": sum(map(len, messages))}

    def do_established(self, *, timeout_s: float = 60.0) -> dict[str, Any]:
        """Waits for an established session."""
        with self.changed:
            if not self.changed.wait_for(lambda: self.established_ns, timeout_s):
                return {
                    "error": f"no session within {timeout_s:.0f} s; last notification {self.notification or 'none'}"
                }
            return {"ns": self.established_ns}

    def do_send(self, *, name: str, at_ns: int = 0) -> dict[str, Any]:
        """Sends a prepared stream; `first_ns` is just before its first byte."""
        delay = (at_ns - time.monotonic_ns()) / 1e9
        if delay > 0:
            time.sleep(delay)
        first = time.monotonic_ns()
        for chunk in self._streams[name]:
            self._send(chunk)
        return {"first_ns": first, "last_ns": time.monotonic_ns()}

    def do_churn(self, *, names: list[str], batch_interval_ms: float, duration_s: float) -> dict[str, Any]:
        """Sends the chunks of the named streams in turn, one each interval; answers when each was sent."""
        sent = []
        begin = time.monotonic_ns()
        number = 0
        rounds = [self._streams[name] for name in names]
        size = len(rounds[0])
        while (due := begin + int(number * batch_interval_ms * 1e6)) < begin + duration_s * 1e9:
            delay = (due - time.monotonic_ns()) / 1e9
            if delay > 0:
                time.sleep(delay)
            sent.append(time.monotonic_ns())
            self._send(rounds[number // size % len(rounds)][number % size])
            number += 1
        return {"sent_ns": sent}

    def do_prepare_churn(self, *, name: str, routes: dict[str, Any], batch: int, next_hop: str) -> dict[str, Any]:
        """Makes a stream of one chunk for each `batch` prefixes, announced with another next hop."""
        route_set = msgspec.convert(routes, RouteSet)
        prefixes = route_set.prefixes()
        block = wire.common_attributes((self.options.asn, 64600), communities=(self.options.asn << 16,))
        packed = socket.inet_pton(socket.AF_INET, next_hop)
        self._streams[name] = [
            b"".join(wire.announce(route_set.family, block, packed, prefixes[start : start + batch]))
            for start in range(0, len(prefixes), batch)
        ]
        return {"chunks": len(self._streams[name])}

    def do_prepare_internet_churn(self, *, churn: dict[str, Any], next_hops: list[str]) -> dict[str, Any]:
        """Makes the streams "churn", of one chunk for each batch, and "restored", which undoes it."""
        change = msgspec.convert(churn, InternetChurn)
        asn = self.options.asn
        self._streams["churn"] = list(change.messages(asn=asn, next_hops=next_hops))
        self._streams["restored"] = _chunks(list(change.restored(asn=asn, next_hop=next_hops[0])))
        return {"chunks": len(self._streams["churn"])}

    def do_reset(self) -> dict[str, Any]:
        """Ends the session by a TCP reset, just after the time that it answers: the reader, which holds the socket too,
        closes it."""
        connection = self._socket
        if connection is None:
            return {"error": "no session"}
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        with self._sending:
            connection.shutdown(socket.SHUT_RD)
        with self.changed:
            if not self.changed.wait_for(lambda: self._socket is not connection, 5.0):
                return {"error": "the session did not end"}
            return {"ns": self.ended_ns}

    def do_wait_count(self, *, count: int, timeout_s: float = 60.0) -> dict[str, Any]:
        """Waits until `count` prefixes were announced; the time is that of the message that completes them."""
        with self.changed:
            if not self.changed.wait_for(lambda: len(self.announced) >= count, timeout_s):
                return {"error": f"heard {len(self.announced)} of {count} prefixes within {timeout_s:.0f} s"}
            return {"ns": max(self.announced.values()), "count": len(self.announced)}

    def do_wait_change(
        self, *, prefix: str, after_ns: int, withdrawn: bool = False, timeout_s: float = 10.0
    ) -> dict[str, Any]:
        """Waits until `prefix` (hex of its wire form) is announced or withdrawn later than `after_ns`."""
        key = bytes.fromhex(prefix)
        table = self.withdrawn if withdrawn else self.announced
        with self.changed:
            if not self.changed.wait_for(lambda: table.get(key, 0) > after_ns, timeout_s):
                return {"error": f"{format_prefix(key)} not heard within {timeout_s:.0f} s"}
            return {"ns": table[key]}

    def do_forget(self) -> dict[str, Any]:
        """Forgets what was heard."""
        with self.changed:
            self.announced.clear()
            self.withdrawn.clear()
        return {}


def _chunks(messages: list[bytes]) -> list[bytes]:
    """Messages joined to parts of about CHUNK bytes, so that a keepalive may go between two parts."""
    chunks: list[bytes] = []
    part: list[bytes] = []
    size = 0
    for one in messages:
        part.append(one)
        size += len(one)
        if size >= CHUNK:
            chunks.append(b"".join(part))
            part, size = [], 0
    if part:
        chunks.append(b"".join(part))
    return chunks


def main() -> None:
    """Serves the session and the commands until stdin ends."""
    leaf = Leaf(msgspec.json.decode(sys.argv[1], type=Options))
    threading.Thread(target=leaf.serve, daemon=True).start()
    for line in sys.stdin:
        command = json.loads(line)
        try:
            answer = getattr(leaf, f"do_{command.pop('do')}")(**command)
        except OSError as error:
            answer = {"error": f"{error}; last notification {leaf.notification or 'none'}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
