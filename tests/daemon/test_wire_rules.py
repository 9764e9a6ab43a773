"""What a leaf's attributes become on the way to another leaf, by the bytes of both sessions."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

import pytest

from tests.daemon.fabric import Fabric, Host, leaf, started
from tests.daemon.wire_peer import UPDATE, WirePeer, attribute, message, receive, update

pytestmark = pytest.mark.netns

IPV4 = {"families": ["ipv4-unicast"]}


class Leaves:
    """The host between two leaves that the test plays: what leaf1 announces, leaf2 is told."""

    def __init__(self, host: Host, first: socket.socket, second: socket.socket) -> None:
        self.host = host
        self.first = first
        self.second = second
        self._told: dict[str, bytes | None] = {}

    def announce(self, prefix: str, extra: bytes = b"") -> bytes | None:
        """The attributes with which leaf2 is told of the prefix now, None if it was withdrawn."""
        self.first.sendall(update((prefix,), asn=65201, extra=extra))
        return self.hear(prefix)

    def hear(self, prefix: str) -> bytes | None:
        """What leaf2 is told of a prefix next."""
        address, _, length = prefix.partition("/")
        key = bytes((int(length),)) + socket.inet_aton(address)[: int(length) // 8]
        while True:
            kind, body = receive(self.second)
            if kind != UPDATE:
                continue
            (size,) = struct.unpack_from("!H", body)
            withdrawn, rest = body[2 : 2 + size], body[2 + size :]
            (size,) = struct.unpack_from("!H", rest)
            if key in withdrawn:
                return None
            if key in rest[2 + size :]:
                return rest[2 : 2 + size]


@pytest.fixture(scope="module")
def leaves(fabric: Fabric) -> Iterator[Leaves]:
    with (
        WirePeer(fabric.leaf1) as peer1,
        WirePeer(fabric.leaf2, "10.0.2.2", asn=65202) as peer2,
        started(fabric, leaf(1, **IPV4), leaf(2, export="all", **IPV4)) as host,
    ):
        yield Leaves(host, peer1.establish(), peer2.establish())


def test_flags_that_are_passed_on(leaves: Leaves) -> None:
    communities, otc = b"\x08\4\xfd\xe8\0\1", b"\x23\4\0\0\0\5"
    extra = b"\xcf" + communities + b"\xc5" + otc + b"\xc1\x63\1x" + attribute(0xE0, 100, b"y")
    told = leaves.announce("10.50.0.0/24", extra)
    assert told is not None
    assert told.endswith(b"\xc0" + communities + b"\xc0" + otc + b"\xe0\x63\1x" + b"\xe0\x64\1y")
    assert attribute(0x40, 2, struct.pack("!BBII", 2, 2, 65203, 65201)) in told
    told = leaves.announce("10.50.0.0/24", b"\xe0" + communities)
    assert told is not None
    assert told.endswith(b"\xe0" + communities)


@pytest.mark.parametrize(
    "bad",
    [
        attribute(0xC0, 7, bytes(4) + b"\1\2\3\4"),
        attribute(0xC0, 40, b"\1\0\6" + bytes(6)),
        attribute(0xC0, 40, b"\3\0\7" + bytes(7)),
    ],
    ids=["AS 0 in AGGREGATOR", "Label-Index of 6 bytes", "SRGB of 7 bytes"],
)
def test_malformed_attributes_that_cost_themselves(leaves: Leaves, bad: bytes) -> None:
    told = leaves.announce("10.51.0.0/24", bad + attribute(0xC0, 8, struct.pack("!I", hash(bad) & 0xFFFFFF)))
    assert told is not None
    assert bad[1:] not in told


def test_set_in_the_path_withdraws_the_route(leaves: Leaves) -> None:
    assert leaves.announce("10.52.0.0/24") is not None
    path = attribute(0x40, 2, struct.pack("!BBIBBI", 2, 1, 65201, 1, 1, 65300))
    block = attribute(0x40, 1, b"\0") + path + attribute(0x40, 3, socket.inet_aton("10.0.1.2"))
    leaves.first.sendall(message(UPDATE, struct.pack("!HH", 0, len(block)) + block + b"\x18\x0a\x34\0"))
    assert leaves.hear("10.52.0.0/24") is None
    assert leaves.host.neighbor("leaf1")["state"] == "established"
