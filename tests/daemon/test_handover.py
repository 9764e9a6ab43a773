"""A restart that no neighbor notices: the next process goes on with the sessions, and what is not possible costs what a
graceful restart costs, of the neighbor that it concerns."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from labs.process import LabError
from tests.daemon.fabric import Fabric, RouteWatch, kernel_routes, leaf, table
from tests.daemon.managed import ManagedHost, managed, said
from tests.daemon.wire_peer import KEEPALIVE, UPDATE, WirePeer, message, open_message, receive, update, withdrawal

pytestmark = pytest.mark.netns

IPV4: dict[str, object] = {"families": ["ipv4-unicast"], "hold_time_s": 90}
POD = table("[[workload.static]]", prefix="10.64.1.5/32", interface="pod1")
END_OF_RIB = message(UPDATE, b"\0\0\0\0")


@pytest.fixture
def peer(fabric: Fabric) -> Iterator[WirePeer]:
    with WirePeer(fabric.leaf1) as peer:
        yield peer


@pytest.fixture
def other(fabric: Fabric) -> Iterator[WirePeer]:
    with WirePeer(fabric.leaf2, "10.0.2.2", asn=65202) as peer:
        yield peer


def spoken(peer: WirePeer, host: ManagedHost, *prefixes: str, next_hop: str = "10.0.1.2") -> socket.socket:
    """A session on which the peer has announced these and End-of-RIB, and read all that it was sent."""
    connection = peer.establish(hold_time_s=90)
    connection.sendall(update(prefixes, asn=peer.asn, next_hop=next_hop) + END_OF_RIB)
    host.wait(lambda: set(prefixes) <= kernel_routes(host.namespace).keys(), "the routes")
    host.wait_ready()
    said(connection)
    return connection


def last_of(connection: socket.socket) -> int:
    """The last message before the connection ends."""
    last = 0
    while True:
        try:
            last = receive(connection)[0]
        except LabError as error:
            if "closed" in str(error) or "reset" in str(error):
                return last
            raise


def test_neighbor_notices_nothing(fabric: Fabric, peer: WirePeer, tmp_path: Path) -> None:
    """The same connection, no OPEN, no UPDATE, no End-of-RIB, no kernel route touched, and all counters go on."""
    with managed(fabric, leaf(1, **IPV4), POD) as host:
        connection = spoken(peer, host, "10.9.0.0/16", "10.10.0.0/16")
        before, pid = host.neighbor("leaf1"), host.pid()
        learned = host.get("routes", prefix="10.9.0.0/16")
        with RouteWatch(fabric.host, tmp_path) as watch:
            host.hand_over()
            assert said(connection) == []
            assert watch.lines() == []
        after = host.neighbor("leaf1")
        assert host.pid() != pid
        for field in ("state", "since", "established_count", "flaps", "families", "negotiated", "end_of_rib"):
            assert after[field] == before[field], field
        assert after["messages_received"] >= before["messages_received"]
        assert after["messages_sent"] > before["messages_sent"]
        assert host.get("routes", prefix="10.9.0.0/16") == learned
        handover = host.health()["last_handover"]
        assert (handover["adopted"], handover["refused"], handover["problem"]) == (1, {}, "")
        connection.sendall(update(("10.11.0.0/16",), asn=65201) + withdrawal("10.10.0.0/16"))
        host.wait(
            lambda: {"10.9.0.0/16", "10.11.0.0/16", "10.64.1.5"} == kernel_routes(fabric.host).keys(), "the change"
        )


def test_one_hand_over_after_the_other(fabric: Fabric, peer: WirePeer) -> None:
    with managed(fabric, leaf(1, **IPV4), POD) as host:
        connection = spoken(peer, host, "10.9.0.0/16")
        for number in range(3):
            connection.sendall(update((f"10.{20 + number}.0.0/16",), asn=65201))
            host.hand_over()
        assert said(connection) == []
        host.wait(lambda: len(kernel_routes(fabric.host)) == 5, "all routes")
        assert host.neighbor("leaf1")["established_count"] == 1


def test_half_a_message_before_and_half_after(fabric: Fabric, peer: WirePeer) -> None:
    """What was read and not worked off is part of what is handed over."""
    with managed(fabric, leaf(1, **IPV4)) as host:
        connection = peer.accept()
        connection.sendall(open_message(65201, hold_time_s=90) + message(KEEPALIVE))
        connection.sendall(update(("10.9.0.0/16",), asn=65201) + END_OF_RIB)
        host.wait_ready()
        said(connection)
        whole = update(("10.12.0.0/16",), asn=65201)
        received = host.neighbor("leaf1")["messages_received"]
        connection.sendall(update(("10.13.0.0/16",), asn=65201) + whole[:30])
        host.wait(lambda: host.neighbor("leaf1")["messages_received"] > received, "the first message")
        host.hand_over()
        connection.sendall(whole[30:])
        host.wait(lambda: "10.12.0.0/16" in kernel_routes(fabric.host), "the second message")
        assert said(connection) == []


def test_changed_configuration_costs_only_its_neighbor(fabric: Fabric, peer: WirePeer, other: WirePeer) -> None:
    """A neighbor whose session has to begin anew sees its connection end without a NOTIFICATION."""
    with managed(fabric, leaf(1, **IPV4), leaf(2, **IPV4)) as host:
        kept = spoken(peer, host)
        lost = spoken(other, host)
        text = host.config_path.read_text()
        before, name, after = text.partition('"leaf2"')
        host.config_path.write_text(before + name + after.replace("hold_time_s = 90", "hold_time_s = 30"))
        began = len(host.log("bgpd.started"))
        host.processes[-1].send_signal(signal.SIGUSR1)
        host.wait(lambda: len(host.log("bgpd.started")) > began, "the next process")
        assert last_of(lost) == KEEPALIVE
        again = other.establish()
        again.sendall(END_OF_RIB)
        host.wait_ready()
        assert said(kept) == []
        assert host.health()["last_handover"]["refused"] == {"leaf2": "configuration changed"}
        assert host.neighbor("leaf2")["hold_time_s"] == 9  # the neighbor's


def test_changed_policy_applies_to_adopted_routes(fabric: Fabric, peer: WirePeer) -> None:
    with managed(fabric, leaf(1, **IPV4)) as host:
        connection = spoken(peer, host, "10.9.0.0/16", "10.10.0.0/16")
        text = host.config_path.read_text().replace('import = "all"', 'import = "some"')
        policy = '[policy.some]\n[[policy.some.rules]]\nmatch = { prefix = ["10.9.0.0/16"] }\naction = "accept"\n'
        host.config_path.write_text(text + policy)
        host.hand_over()
        host.wait(lambda: kernel_routes(fabric.host).keys() == {"10.9.0.0/16"}, "the rejected route to go")
        assert said(connection) == []
        rejected = host.get("routes", prefix="10.10.0.0/16")
        assert "rejected" in str(rejected)


@pytest.mark.parametrize("number", [signal.SIGUSR2], ids=["damaged"])
def test_damaged_snapshot_is_a_graceful_restart(fabric: Fabric, peer: WirePeer, number: signal.Signals) -> None:
    with managed(fabric, leaf(1, **IPV4)) as host:
        connection = spoken(peer, host, "10.9.0.0/16")
        began = len(host.log("bgpd.started"))
        host.processes[-1].send_signal(number)
        host.wait(lambda: len(host.log("bgpd.started")) > began, "the next process")
        assert last_of(connection) == KEEPALIVE
        assert kernel_routes(fabric.host).keys() == {"10.9.0.0/16"}
        again = peer.establish()
        again.sendall(update(("10.9.0.0/16",), asn=65201) + END_OF_RIB)
        host.wait_ready()
        assert "damaged" in host.health()["last_handover"]["problem"]


def test_crash_after_adoption_is_a_graceful_restart(fabric: Fabric, peer: WirePeer) -> None:
    """A snapshot is used once: what it says is not true any more."""
    with managed(fabric, leaf(1, **IPV4)) as host:
        connection = spoken(peer, host, "10.9.0.0/16")
        host.hand_over()
        began = len(host.log("bgpd.started"))
        os.kill(host.pid(), signal.SIGKILL)
        host.wait(lambda: len(host.log("bgpd.started")) > began, "the next process")
        assert last_of(connection) == KEEPALIVE
        again = peer.establish()
        again.sendall(update(("10.9.0.0/16",), asn=65201) + END_OF_RIB)
        host.wait_ready()
        assert host.health()["last_handover"] is None


def test_neighbor_that_closes_meanwhile_is_lost_as_ever(fabric: Fabric, peer: WirePeer) -> None:
    with managed(fabric, leaf(1, **IPV4)) as host:
        connection = spoken(peer, host, "10.9.0.0/16")
        left = len(host.log("handover.left"))
        began = len(host.log("bgpd.started"))
        host.processes[-1].send_signal(signal.SIGUSR1)
        host.wait(lambda: len(host.log("handover.left")) > left, "the former process to leave")
        connection.shutdown(socket.SHUT_RDWR)
        connection.close()
        host.wait(lambda: len(host.log("bgpd.started")) > began, "the next process")
        again = peer.establish()
        again.sendall(update(("10.14.0.0/16",), asn=65201) + END_OF_RIB)
        host.wait(lambda: kernel_routes(fabric.host).keys() == {"10.14.0.0/16"}, "the new routes")
