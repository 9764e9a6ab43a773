"""Many bare BGP peers in one process, as dynamic neighbors are: they connect at once, and announce some routes each.

Run inside a leaf's namespace: python -m benchmarks.crowd '{"count": 10, "routes": 100, ...}'. It
prints {"first_ns": ...} when the last session is established and has sent all, and keeps the sessions until stdin
ends. No more than 64 are half open at a time: bgpd takes 128, so that strangers cannot use it up.
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
OF_EACH_LINK = 25
"""Peers by one link: bgpd takes 64 new ones by an interface at once."""
_FIRST_LINK, _FIRST_ON_LINK = 0x0A010000, 128
_FIRST_ROUTE = 0x14000000
FAMILY = "ipv4-unicast"
TIMEOUT_S = 120.0
HALF_OPEN = 64


class Crowd(msgspec.Struct, frozen=True, kw_only=True):
    """`count` peers of `asn` that announce `routes` /32 each with themselves as next hop.

    Link n has the network 10.1.n.0/24: the host is .1 in it, peers are .128 and following.
    """

    asn: int = 65201
    count: int = 10
    routes: int = 100

    @property
    def links(self) -> int:
        """How many links there are."""
        return -(-self.count // OF_EACH_LINK)

    def address(self, number: int) -> bytes:
        """The packed address of a peer."""
        link, place = divmod(number, OF_EACH_LINK)
        return struct.pack(">I", _FIRST_LINK + (link << 8) + _FIRST_ON_LINK + place)

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
        host = f"10.1.{number // OF_EACH_LINK}.1"
        self.socket = socket.create_connection((host, 179), timeout=TIMEOUT_S, source_address=(address, 0))
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
    peers: list[_Peer] = []
    deadline = time.monotonic() + TIMEOUT_S
    while (done := sum(peer.is_done for peer in peers)) < crowd.count:
        if time.monotonic() > deadline:
            raise SystemExit(f"{crowd.count - done} of {crowd.count} sessions did not come up")
        while len(peers) < min(crowd.count, done + HALF_OPEN):
            peers.append(_Peer(crowd, len(peers)))
            selector.register(peers[-1].socket, selectors.EVENT_READ, peers[-1])
        for key, _ in selector.select(1.0):
            key.data.read()
    print(json.dumps({"first_ns": first, "last_ns": time.monotonic_ns()}), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
