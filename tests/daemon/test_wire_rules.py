"""What a leaf's attributes become on the way to another leaf, by the bytes of both sessions."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

import pytest

from tests.daemon.fabric import Fabric, Host, kernel_hops, leaf, started
from tests.daemon.wire_peer import KEEPALIVE, NOTIFICATION, OPEN, UPDATE, WirePeer, attribute, message, receive, update

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


@pytest.fixture
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


def test_loop_through_the_routers_own_as_is_found_where_leaf1_is_shown_another(fabric: Fabric) -> None:
    settings = leaf(1, local_asn=65300, **IPV4)
    with WirePeer(fabric.leaf1) as peer, started(fabric, settings) as host:
        connection = peer.establish()
        path = attribute(0x40, 2, struct.pack("!BBII", 2, 2, 65201, 65203))
        block = attribute(0x40, 1, b"\0") + path + attribute(0x40, 3, socket.inet_aton("10.0.1.2"))
        connection.sendall(message(UPDATE, struct.pack("!HH", 0, len(block)) + block + b"\x18\x0a\x35\0"))
        connection.sendall(update(("10.54.0.0/24",), asn=65201))
        host.wait_hops("10.54.0.0/24", "10.0.1.2%eth0")
        assert kernel_hops(fabric.host, "10.53.0.0/24") == []
        (candidate,) = host.get("routes", prefix="10.53.0.0/24")[0]["candidates"]
        assert "AS loop: own AS 65203" in candidate["reason"]


def test_notification_has_the_attribute_in_error(fabric: Fabric) -> None:
    bad = attribute(0x40, 1, b"\x07")
    with WirePeer(fabric.leaf1) as peer, started(fabric, leaf(1, **IPV4)):
        connection = peer.establish()
        connection.sendall(message(UPDATE, b"\0\4\x18\x0a\x01\0" + struct.pack("!H", len(bad)) + bad))
        while (received := receive(connection))[0] != NOTIFICATION:
            pass
        assert received[1] == b"\3\6" + bad


@pytest.mark.parametrize(("length", "answer"), [(7, KEEPALIVE), (255, KEEPALIVE), (0, NOTIFICATION)])
def test_extended_optional_parameters_are_known_by_their_type(fabric: Fabric, length: int, answer: int) -> None:
    parameters = bytes((2, 0, 6, 65, 4)) + struct.pack("!I", 65201)
    head = struct.pack("!BHH4s", 4, 65201, 9, bytes((10, 255, 0, 9)))
    opened = message(OPEN, head + bytes((length, 255)) + struct.pack("!H", len(parameters)) + parameters)
    with WirePeer(fabric.leaf1) as peer, started(fabric, leaf(1, **IPV4)):
        connection = peer.accept()
        connection.sendall(opened)
        assert receive(connection)[0] == OPEN
        assert receive(connection)[0] == answer
