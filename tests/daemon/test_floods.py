"""A neighbor that asks for much, or takes nothing, costs the others nothing: work for it is done in turns, and ends."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterator

import pytest

from tests.daemon.fabric import Fabric, Host, kernel_routes, leaf, started, table
from tests.daemon.wire_peer import (
    CEASE,
    KEEPALIVE,
    NOTIFICATION,
    UPDATE,
    WirePeer,
    message,
    receive,
    update,
    withdrawal,
)

pytestmark = pytest.mark.netns

ROUTES = 20_000
ROUTE_REFRESH = 5
REQUEST = message(ROUTE_REFRESH, b"\0\1\0\1")


@pytest.fixture(scope="module")
def host(fabric: Fabric) -> Iterator[Host]:
    """leaf1 is for the tests to play; leaf2 notices if the loop is held for its hold time."""
    lines = [
        f"route add 10.{64 + number // 65536}.{number // 256 % 256}.{number % 256}/32 dev pod1 proto 99"
        for number in range(ROUTES)
    ]
    fabric.host.batch("link set pod1 up", *lines)
    tables = (
        leaf(1, families=["ipv4-unicast"]),
        leaf(2, hold_time_s=3),
        table("[workload.kernel]", interfaces=["pod*"]),
    )
    with fabric.frr(2) as _, started(fabric, *tables) as host:
        host.wait_established("leaf2")
        host.wait(
            lambda: host.neighbor("leaf2")["families"]["ipv4-unicast"]["announced"] >= ROUTES,
            "all to be announced",
            timeout_s=60,
        )
        yield host


@pytest.fixture(autouse=True)
def _other_leaf(host: Host) -> Iterator[None]:
    """leaf2's session stays, whatever leaf1 does."""
    before = host.neighbor("leaf2")["established_count"]
    yield
    view = host.neighbor("leaf2")
    assert (view["state"], view["established_count"]) == ("established", before)
    host.wait(lambda: "leaf1" not in host.established(), "leaf1's end")


def reset(connection: socket.socket) -> None:
    """End a connection with a RST."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def routes_of(body: bytes) -> int:
    """Announced IPv4 host routes of an UPDATE."""
    withdrawn = int.from_bytes(body[:2])
    attributes = int.from_bytes(body[2 + withdrawn : 4 + withdrawn])
    return (len(body) - 4 - withdrawn - attributes) // 5


def test_thousands_of_requests_and_a_reset(fabric: Fabric, host: Host) -> None:
    with WirePeer(fabric.leaf1) as peer:
        connection = peer.establish()
        connection.sendall(REQUEST * 2849)
        reset(connection)
        host.wait(lambda: "leaf1" not in host.established(), "the loss to be noticed", timeout_s=5)


def test_thousands_of_requests_are_few_answers(fabric: Fabric, host: Host) -> None:
    with WirePeer(fabric.leaf1) as peer:
        connection = peer.establish()
        connection.sendall(REQUEST * 2849)
        heard = quiet = 0
        while quiet < 2:
            kind, body = receive(connection)
            heard += routes_of(body) if kind == UPDATE else 0
            quiet = quiet + 1 if kind == KEEPALIVE else 0
        assert ROUTES <= heard <= 5 * ROUTES
        connection.close()


def test_requests_of_a_peer_that_takes_nothing(fabric: Fabric, host: Host) -> None:
    with WirePeer(fabric.leaf1) as peer:
        connection = peer.establish()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        for _ in range(20):
            connection.sendall(REQUEST * 100)
        host.wait(lambda: host.neighbor("leaf1")["messages_received"] > 2000, "all to be read", timeout_s=5)
        reset(connection)


def test_withdrawals_of_routes_that_are_not_there(fabric: Fabric, host: Host) -> None:
    with WirePeer(fabric.leaf1) as peer:
        connection = peer.establish()
        connection.sendall(
            withdrawal(*["0.0.0.0/0"] * 4000) * 50 + message(UPDATE, b"\0\0\0\0") * 3000 + message(KEEPALIVE) * 3000
        )
        host.wait(lambda: host.neighbor("leaf1")["messages_received"] > 6050, "all to be read", timeout_s=15)
        connection.close()


@pytest.mark.parametrize("word", [message(NOTIFICATION, bytes((CEASE, 2))), b""])
def test_stream_of_single_updates_is_read_to_its_end(fabric: Fabric, host: Host, word: bytes) -> None:
    """It is read by windows: what comes last, and the end of the connection, is seen though no further UPDATE comes."""
    prefixes = [f"10.{200 + number // 250}.{number % 250}.0/24" for number in range(500)]

    def learned() -> set[str]:
        return {prefix for prefix in kernel_routes(fabric.host) if prefix.startswith(("10.200.", "10.201."))}

    with WirePeer(fabric.leaf1) as peer:
        connection = peer.establish()
        for number, prefix in enumerate(prefixes):
            connection.sendall(update((prefix,), asn=65201))
            if number % 10 == 0:
                connection.sendall(withdrawal(prefix))
            time.sleep(0.0005)
        host.wait(lambda: learned() == set(prefixes) - set(prefixes[::10]), "all routes that stay")
        for prefix in prefixes[::10]:
            connection.sendall(update((prefix,), asn=65201))
        connection.sendall(word)
        connection.shutdown(socket.SHUT_WR)
        host.wait(lambda: "leaf1" not in host.established(), "the end to be noticed")
        host.wait(lambda: not learned(), "its routes to go")
        assert ("cease" in host.neighbor("leaf1")["last_error"]) is bool(word)
