"""A neighbor with ttl_security is heard with TTL 255 only, from the very first segment on (RFC 5082)."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import pytest

from labs.process import LabError
from tests.daemon.fabric import Fabric, Host, kernel_routes, leaf, started
from tests.daemon.wire_peer import KEEPALIVE, WirePeer, message, open_message, receive, update

pytestmark = pytest.mark.netns


@pytest.fixture
def host(fabric: Fabric) -> Iterator[Host]:
    with started(fabric, leaf(1, families=["ipv4-unicast"], ttl_security=True)) as host:
        host.wait(lambda: host.neighbor("leaf1")["state"] != "idle", "leaf1 to be dialed")
        yield host


def connected(fabric: Fabric, ttl: int) -> socket.socket:
    """A connection from leaf 1 to the host's port 179."""
    with fabric.leaf1.entered():
        sock = socket.socket()
    sock.settimeout(10.0)
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, ttl)
    sock.bind(("10.0.1.2", 0))
    sock.connect(("10.0.1.1", 179))
    return sock


def test_burst_of_a_far_peer_is_not_read(fabric: Fabric, host: Host) -> None:
    burst = open_message(65201) + message(KEEPALIVE) + update(("10.9.0.0/16",), asn=65201)
    for _ in range(3):
        with connected(fabric, 64) as far, contextlib.suppress(OSError):
            far.sendall(burst)
            assert far.recv(1) == b""
    host.wait(lambda: "TTL mismatch" in host.neighbor("leaf1")["last_error"], "the reason")
    view = host.neighbor("leaf1")
    assert "connected with TTL 64, ttl_security wants 255" in view["last_error"]
    assert view["established_count"] == 0
    assert kernel_routes(fabric.host) == {}
    told = [record for record in host.log("session.failed") if "TTL mismatch" in record["reason"]]
    assert len(told) == 1
    with connected(fabric, 255) as near:
        near.sendall(burst)
        while receive(near)[0] != KEEPALIVE:
            pass
        host.wait_hops("10.9.0.0/16", "10.0.1.2%eth0")


def test_answers_of_a_far_peer_are_told_as_such(fabric: Fabric, host: Host) -> None:
    with WirePeer(fabric.leaf1) as peer:
        host.wait(
            lambda: "TTL mismatch: answers came with a TTL below 255" in host.neighbor("leaf1")["last_error"], "it"
        )
        peer.timeout(0.1)
        with pytest.raises((TimeoutError, LabError)):
            peer.accept()
