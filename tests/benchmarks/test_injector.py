"""The injector speaks enough BGP for a session, sends what was prepared, and notes when it hears what."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import msgspec
import pytest

from benchmarks import wire
from benchmarks.routes import RouteSet
from benchmarks.topology import InjectorProcess, Topology
from labs.process import LabError

pytestmark = pytest.mark.netns


@pytest.fixture
def topology() -> Iterator[Topology]:
    with Topology() as made:
        yield made


def establish(topology: Topology) -> tuple[socket.socket, InjectorProcess]:
    """A host that has sent OPEN and KEEPALIVE, and its leaf."""
    with topology.host.entered():
        host = socket.socket()
    host.settimeout(5.0)
    deadline = time.monotonic() + 5.0
    while host.connect_ex(("10.0.0.2", 179)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
        host.close()
        with topology.host.entered():
            host = socket.socket()
        host.settimeout(5.0)
    open_message = wire.open_message(asn=65203, router_id="10.255.1.1", hold_time_s=240, families=("ipv4-unicast",))
    host.sendall(open_message + wire.KEEPALIVE)
    leaf = topology.leaves[0]
    leaf.ask("established", timeout_s=5.0)
    return host, leaf


def read(host: socket.socket, wanted: int) -> list[bytes]:
    """UPDATE bodies until `wanted` prefixes were announced."""
    reader, bodies, seen = wire.Reader(), [], 0
    while seen < wanted:
        for kind, body in reader.feed(host.recv(65536)):
            if kind == wire.UPDATE:
                bodies.append(body)
                seen += len(wire.unicast_changes(body)[0])
    return bodies


def test_prepared_routes_arrive(topology: Topology) -> None:
    host, leaf = establish(topology)
    with host:
        routes = RouteSet(count=2000)
        leaf.ask("prepare", name="table", routes=msgspec.to_builtins(routes))
        leaf.start("send", name="table")
        bodies = read(host, 2000)
        leaf.finish()
        assert [prefix for body in bodies for prefix in wire.unicast_changes(body)[0]] == routes.prefixes()


def test_what_the_host_announces_and_withdraws_is_noted(topology: Topology) -> None:
    host, leaf = establish(topology)
    with host:
        prefixes = RouteSet(count=3).prefixes()
        block = wire.common_attributes((65203,))
        host.sendall(b"".join(wire.announce("ipv4-unicast", block, b"\x0a\0\0\1", prefixes)))
        assert leaf.ask("wait_count", count=3, timeout_s=5.0)["count"] == 3
        host.sendall(b"".join(wire.withdraw("ipv4-unicast", prefixes[:1])))
        leaf.ask("wait_change", prefix=prefixes[0].hex(), after_ns=0, withdrawn=True, timeout_s=5.0)
        with pytest.raises(LabError, match=r"20\.0\.0\.1/32 not heard"):
            leaf.ask("wait_change", prefix=prefixes[1].hex(), after_ns=0, withdrawn=True, timeout_s=0.1)


def test_a_reset_is_one(topology: Topology) -> None:
    host, leaf = establish(topology)
    with host:
        host.recv(65536)
        leaf.ask("reset")
        host.setblocking(True)
        with pytest.raises(ConnectionResetError):
            host.recv(65536, socket.MSG_WAITALL)
