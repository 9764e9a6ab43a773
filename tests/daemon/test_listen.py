"""Dynamic neighbors: a VM with ever so many addresses leaves room for the others."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import pytest

from labs.namespace import Namespace
from tests.daemon.fabric import Fabric, Host, started, table
from tests.daemon.wire_peer import KEEPALIVE, message, open_message, receive

pytestmark = pytest.mark.netns

ADDRESSES = 320


@pytest.fixture(scope="module")
def host(fabric: Fabric) -> Iterator[Host]:
    """pod1 is the attacker, with 10.77.0.0/16 behind it; pod2 has 10.78.0.2."""
    fabric.host.batch(
        "link set pod1 up",
        "link set pod2 up",
        "addr add 10.70.0.1/32 dev lo",
        "route add 10.77.0.0/16 dev pod1",
        "route add 10.78.0.0/16 dev pod2",
    )
    fabric.pods.batch(
        "link set pod1 up",
        "link set pod2 up",
        *(f"addr add 10.77.{number >> 8}.{number & 255}/32 dev pod1" for number in range(1, ADDRESSES + 1)),
        "addr add 10.78.0.2/32 dev pod2",
        "route add 10.70.0.1/32 dev pod1",
        "route add 10.70.0.1/32 dev pod2 table 78",
        "rule add from 10.78.0.0/16 lookup 78",
    )
    listens = [
        table("[[listen]]", prefix=prefix, asn="external", import_="none", families=["ipv4-unicast"], max_neighbors=256)
        for prefix in ("10.76.0.0/14",)
    ]
    with started(fabric, *listens) as host:
        host.wait(lambda: connects(fabric.pods, "10.78.0.2"), "the daemon to listen")
        yield host


def connects(namespace: Namespace, source: str) -> bool:
    with contextlib.suppress(OSError):
        connected(namespace, source).close()
        return True
    return False


def connected(namespace: Namespace, source: str) -> socket.socket:
    with namespace.entered():
        sock = socket.socket()
    sock.settimeout(5.0)
    sock.bind((source, 0))
    sock.connect(("10.70.0.1", 179))
    return sock


@pytest.mark.parametrize("said", [b"", open_message(65300) + message(KEEPALIVE)], ids=["silent", "established"])
def test_many_addresses_of_one_vm_leave_room_for_another(fabric: Fabric, host: Host, said: bytes) -> None:
    with contextlib.ExitStack() as stack:
        for number in [*range(1, ADDRESSES + 1)] * 3:
            sock = stack.enter_context(connected(fabric.pods, f"10.77.{number >> 8}.{number & 255}"))
            with contextlib.suppress(OSError):
                sock.sendall(said)
        good = stack.enter_context(connected(fabric.pods, "10.78.0.2"))
        good.sendall(open_message(65301) + message(KEEPALIVE))
        while receive(good)[0] != KEEPALIVE:
            pass
        host.wait(lambda: "10.76.0.0/14-10.78.0.2" in host.established(), "the other VM to be established")
        assert len(host.established()) <= 17
        assert len(host.get("neighbors")) <= 40
    lines = [record for record in host.log() if record["event"].startswith(("session.", "listen."))]
    assert len(lines) <= 60
    host.wait(lambda: not host.get("neighbors"), "all to be forgotten")
