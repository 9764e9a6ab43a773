"""Many bare BGP peers in one process, as dynamic neighbors are: all connect at once, and announce some routes each.

Run inside a leaf's namespace: python -m benchmarks.crowd '{"host": "10.0.0.1", "count": 10, "routes": 100, ...}'. It
prints {"first_ns": ...} when the last session is established and has sent all, and keeps the sessions until stdin ends.
"""

from __future__ import annotations

import json
import selectors
import socket
import struct
import sys
import time
from collections.abc import Mapping

import msgspec

from benchmarks import wire

NETWORK = "10.1.0.0/16"
_FIRST_ADDRESS = 0x0A010001
_FIRST_ROUTE = 0x14000000
FAMILY = "ipv4-unicast"
TIMEOUT_S = 120.0


class Crowd(msgspec.Struct, frozen=True, kw_only=True):
    """`count` peers of `asn` that announce `routes` /32 each with themselves as next hop."""

    host: str = "10.0.0.1"
    asn: int = 65201
    count: int = 10
    routes: int = 100

    def address(self, number: int) -> bytes:
        """The packed address of a peer."""
        return struct.pack(">I", _FIRST_ADDRESS + number)

    def prefixes(self, number: int) -> list[bytes]:
        """What a peer announces."""
        first = _FIRST_ROUTE + number * self.routes
        return [b"\x20" + struct.pack(">I", first + route) for route in range(self.routes)]

    def next_hops(self) -> Mapping[bytes, frozenset[bytes]]:
        """What the kernel should have of all."""
        return {
            prefix: frozenset((self.address(number),))
            for number in range(self.count)
            for prefix in self.prefixes(number)
        }

    def messages(self, number: int) -> bytes:
        """All UPDATEs of a peer."""
        block = wire.common_attributes((self.asn, 64_000 + number % 400))
        return b"".join(wire.announce(FAMILY, block, self.address(number), self.prefixes(number))) + wire.end_of_rib(
            FAMILY
        )


class _Peer:
    """One session: answers OPEN by KEEPALIVE, and the first KEEPALIVE by all routes."""

    def __init__(self, crowd: Crowd, number: int) -> None:
        address = socket.inet_ntoa(crowd.address(number))
        self.socket = socket.create_connection((crowd.host, 179), timeout=TIMEOUT_S, source_address=(address, 0))
        self.is_done = False
        self._routes = crowd.messages(number)
        self._reader = wire.Reader()
        opening = wire.open_message(asn=crowd.asn, router_id=address, hold_time_s=240, families=(FAMILY,))
        self.socket.sendall(opening)

    def read(self) -> None:
        """Takes what has come."""
        for kind, body in self._reader.feed(self.socket.recv(65536)):
            if kind == wire.OPEN:
                self.socket.sendall(wire.KEEPALIVE)
            elif kind == wire.KEEPALIVE_TYPE and not self.is_done:
                self.socket.sendall(self._routes)
                self.is_done = True
            elif kind == wire.NOTIFICATION:
                raise SystemExit(f"a session was refused: {body.hex()}")


def main() -> None:
    """Connects all, announces all, then waits for the end of stdin."""
    crowd = msgspec.json.decode(sys.argv[1], type=Crowd)
    first = time.monotonic_ns()
    selector = selectors.DefaultSelector()
    peers = [_Peer(crowd, number) for number in range(crowd.count)]
    for peer in peers:
        selector.register(peer.socket, selectors.EVENT_READ, peer)
    deadline = time.monotonic() + TIMEOUT_S
    while not all(peer.is_done for peer in peers):
        if time.monotonic() > deadline:
            raise SystemExit(f"{sum(not peer.is_done for peer in peers)} of {crowd.count} sessions did not come up")
        for key, _ in selector.select(1.0):
            key.data.read()
    print(json.dumps({"first_ns": first, "last_ns": time.monotonic_ns()}), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
