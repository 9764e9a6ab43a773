"""A neighbor that errs or lies is answered as the RFCs say, and costs its own session or routes, never another's."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Iterator

import pytest

from labs.daemons import Frr
from tests.daemon.fabric import Fabric, Host, config, kernel_hops, leaf, started
from tests.daemon.wire_peer import (
    KEEPALIVE,
    UPDATE,
    WirePeer,
    attribute,
    message,
    notification,
    open_message,
    update,
    withdrawal,
)

pytestmark = pytest.mark.netns


@pytest.fixture(scope="module")
def host(fabric: Fabric, leaf2: Frr) -> Iterator[Host]:
    """leaf1 is for the tests to play, and speaks IPv4 only."""
    with started(fabric, leaf(1, families=["ipv4-unicast"], max_prefixes=10), leaf(2)) as host:
        host.wait_established("leaf2")
        host.wait_hops("10.9.0.0/16", "10.0.2.2%eth1")
        yield host


@pytest.fixture
def peer(fabric: Fabric, host: Host) -> Iterator[WirePeer]:
    """leaf1; whatever it does, leaf2's session and route stay."""
    before = host.neighbor("leaf2")["established_count"]
    with WirePeer(fabric.leaf1) as peer:
        yield peer
    view = host.neighbor("leaf2")
    assert (view["state"], view["established_count"]) == ("established", before)
    assert kernel_hops(fabric.host, "10.9.0.0/16") == ["10.0.2.2%eth1"]
    host.wait(lambda: "leaf1" not in host.established(), "the bad neighbor's end")


def test_wrong_asn_is_refused_and_told(host: Host, peer: WirePeer) -> None:
    connection = peer.accept()
    connection.sendall(open_message(65299))
    assert notification(connection) == (2, 2)
    host.wait(lambda: "65299" in host.neighbor("leaf1")["last_error"], "the reason")
    assert "AS 65201 is configured" in host.neighbor("leaf1")["last_error"]


@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        (b"GET / HTTP/1.1\r\nHost: leaf1\r\n\r\n", (1, 1)),
        (b"\xff" * 16 + b"\x00\x12\x01", (1, 2)),
        (b"\xff" * 16 + b"\xff\xff\x01", (1, 2)),
        (message(9), (1, 3)),
        (message(1, b"\x03" + open_message(65201)[20:]), (2, 1)),
        (open_message(65201, hold_time_s=2), (2, 6)),
        (message(KEEPALIVE), (5, 1)),
        (message(UPDATE, b"\0\0\0\0"), (5, 1)),
    ],
    ids=["http", "short", "long", "type", "version", "hold time", "keepalive first", "update first"],
)
def test_nonsense_before_the_session_is_answered_with_its_code(
    host: Host, peer: WirePeer, sent: bytes, answer: tuple[int, int]
) -> None:
    connection = peer.accept()
    connection.sendall(sent)
    assert notification(connection) == answer
    host.wait(lambda: host.neighbor("leaf1")["last_error"], "the reason")


def test_random_bytes_cost_only_their_own_session(host: Host, peer: WirePeer) -> None:
    chance = random.Random(7)
    for established in (False, True, True):
        connection = peer.establish() if established else peer.accept()
        connection.sendall(chance.randbytes(5000))
        assert notification(connection)[0] == 1
        connection.close()


def test_garbled_update_withdraws_its_routes_and_keeps_the_session(host: Host, peer: WirePeer) -> None:
    connection = peer.establish()
    connection.sendall(update(("10.20.0.0/16", "10.21.0.0/16"), asn=65201))
    host.wait_hops("10.20.0.0/16", "10.0.1.2%eth0")
    bad_origin = update(("10.20.0.0/16",), asn=65201).replace(b"\x40\x01\x01\x00", b"\x40\x01\x01\x07")
    connection.sendall(bad_origin)
    host.wait_hops("10.20.0.0/16")
    assert kernel_hops(host.namespace, "10.21.0.0/16") == ["10.0.1.2%eth0"]
    assert "leaf1" in host.established()
    connection.sendall(update(("10.20.0.0/16",), asn=65201, extra=attribute(0xC0, 200, b"who knows")))
    host.wait_hops("10.20.0.0/16", "10.0.1.2%eth0")
    connection.sendall(withdrawal("10.20.0.0/16"))
    host.wait_hops("10.20.0.0/16")
    connection.close()
    host.wait_hops("10.21.0.0/16")


def test_a_prefix_that_an_update_withdraws_and_announces_is_there(host: Host, peer: WirePeer) -> None:
    connection = peer.establish()
    gone = attribute(0x80, 15, b"\0\1\1" + b"\x10\x0a\x14")
    connection.sendall(update(("10.20.0.0/16",), asn=65201, extra=gone) + update(("10.21.0.0/16",), asn=65201))
    host.wait_hops("10.21.0.0/16", "10.0.1.2%eth0")
    host.wait_hops("10.20.0.0/16", "10.0.1.2%eth0")
    connection.close()


def test_update_that_cannot_be_parsed_ends_the_session_with_its_code(host: Host, peer: WirePeer) -> None:
    connection = peer.establish()
    connection.sendall(update(("10.20.0.0/16",), asn=65201))
    host.wait_hops("10.20.0.0/16", "10.0.1.2%eth0")
    connection.sendall(message(UPDATE, b"\xff\xff\0\0"))
    assert notification(connection) == (3, 1)
    host.wait_hops("10.20.0.0/16")


def test_silent_connection_is_given_up_without_harm(host: Host, peer: WirePeer) -> None:
    peer.accept()
    time.sleep(0.2)
    assert host.neighbor("leaf1")["state"] in ("opensent", "open-sent", "active", "connect")


def test_strangers_are_refused(fabric: Fabric, host: Host) -> None:
    with fabric.pods.entered():
        stranger = socket.socket()
    fabric.host.addresses("pod1", "10.64.9.1/24")
    fabric.pods.addresses("pod1", "10.64.9.2/24")
    with stranger:
        stranger.settimeout(5)
        stranger.connect(("10.64.9.1", 179))
        assert stranger.recv(100) == b""
    assert host.log("connection.refused")[-1]["address"] == "10.64.9.2"


@pytest.mark.parametrize("next_hop", ["10.0.1.1", "127.0.0.1", "0.0.0.0", "224.0.0.1", "192.0.2.1"])
def test_next_hop_that_leads_nowhere_is_not_installed(host: Host, peer: WirePeer, next_hop: str) -> None:
    connection = peer.establish()
    connection.sendall(update(("10.22.0.0/16",), asn=65201, next_hop=next_hop))
    connection.sendall(update(("10.23.0.0/16",), asn=65201))
    host.wait_hops("10.23.0.0/16", "10.0.1.2%eth0")
    assert kernel_hops(host.namespace, "10.22.0.0/16") == []
    assert "leaf1" in host.established()
    assert host.explain("10.22.0.1")["kernel"] is None


def test_too_many_prefixes_end_the_session_until_the_limit_is_raised(host: Host, peer: WirePeer) -> None:
    many = update(tuple(f"10.20.{number}.0/24" for number in range(11)), asn=65201)
    connection = peer.establish()
    connection.sendall(many)
    assert notification(connection) == (6, 1)
    told = "more than max_prefixes; refused for 60 s, or until that is raised"
    host.wait(lambda: told in host.neighbor("leaf1")["last_error"], "the reason")
    host.wait(lambda: not host.get("routes", neighbor="leaf1"), "its routes to go")
    assert host.neighbor("leaf1")["state"] == "idle"
    host.write_config(config(leaf(1, families=["ipv4-unicast"], max_prefixes=11), leaf(2)))
    host.cli("reload")
    peer.establish().sendall(many)
    host.wait_hops("10.20.10.0/24", "10.0.1.2%eth0")
