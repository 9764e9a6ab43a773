"""A restart that no neighbor notices: the next process goes on with the sessions, and what is not possible costs what a
graceful restart costs, of the neighbor that it concerns."""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from labs.daemons import Frr
from labs.process import LabError
from tests.daemon.fabric import (
    Fabric,
    RouteWatch,
    announce,
    config,
    heard_from_host,
    kernel_hops,
    kernel_routes,
    leaf,
    started,
    table,
)
from tests.daemon.managed import ManagedHost, managed, said
from tests.daemon.planted import Planted
from tests.daemon.wire_peer import (
    END_OF_RIB,
    KEEPALIVE,
    NOTIFICATION,
    UPDATE,
    Restart,
    WirePeer,
    attribute,
    message,
    open_message,
    receive,
    update,
    withdrawal,
)

pytestmark = pytest.mark.netns

IPV4: dict[str, object] = {"families": ["ipv4-unicast"], "hold_time_s": 90}
POD = table("[[workload.static]]", prefix="10.64.1.5/32", interface="pod1")


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


def test_next_process_that_is_restarted_while_it_starts_leaves_what_was_left_to_it(
    fabric: Fabric, peer: WirePeer
) -> None:
    """Half a message that no process has worked off yet goes from the first one to the third."""
    with managed(fabric, leaf(1, **IPV4)) as host:
        connection = peer.establish(is_quiet=True, hold_time_s=90)
        connection.sendall(update(("10.9.0.0/16",), asn=65201) + END_OF_RIB)
        host.wait_ready()
        said(connection)
        whole = update(("10.12.0.0/16",), asn=65201)
        received = host.neighbor("leaf1")["messages_received"]
        connection.sendall(update(("10.13.0.0/16",), asn=65201) + whole[:30])
        host.wait(lambda: host.neighbor("leaf1")["messages_received"] > received, "the first message")
        host.processes[-1].send_signal(signal.SIGUSR1)
        host.wait(lambda: len(host.log("session.adopted")) == 1, "the next process to start", timeout_s=60)
        host.processes[-1].send_signal(signal.SIGUSR1)
        host.wait(lambda: len(host.log("session.adopted")) == 2, "the one after it", timeout_s=60)
        connection.sendall(whole[30:])
        host.wait(lambda: "10.12.0.0/16" in kernel_routes(fabric.host), "the second message")
        assert said(connection) == []
        host.wait(lambda: host.neighbor("leaf1")["established_count"] == 1, "the same session")


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


@pytest.mark.parametrize("broken", [None, "[router", config(leaf(1, **IPV4, import_="nowhere"), POD)])
def test_files_with_errors_cost_no_session(fabric: Fabric, peer: WirePeer, broken: str | None) -> None:
    """The next process goes on with what the former one had, says so, and takes the file once it is mended."""

    def is_told() -> bool:
        return any("has errors since before bgpd was restarted" in one for one in host.health()["warnings"])

    with managed(fabric, leaf(1, **IPV4), POD) as host:
        connection = spoken(peer, host, "10.9.0.0/16")
        good, pid = host.config_path.read_text(), host.pid()
        if broken is None:
            host.config_path.unlink()
        else:
            host.config_path.write_text(broken)
        for _ in range(2):
            host.hand_over()
            assert said(connection) == []
        assert host.pid() != pid
        assert host.neighbor("leaf1")["established_count"] == 1
        assert host.log("config.not_in_force")[-1]["errors"] >= 1
        assert is_told()
        host.cli("reload", check=False)
        assert is_told()
        host.config_path.write_text(good)
        host.cli("reload")
        assert not is_told()
        assert said(connection) == []


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


FAILING = """
from bgpd.rib import restore

def walk(self):
    yield
    raise RuntimeError("planted: it cannot be taken up")

restore.Restored.walk = walk
"""


def test_next_process_that_cannot_take_up_the_routes_ends_and_does_not_wait_for_ever(
    fabric: Fabric, peer: WirePeer, planted: Planted
) -> None:
    planted.code(FAILING)
    with managed(fabric, leaf(1, **IPV4)) as host:
        connection = spoken(peer, host, "10.9.0.0/16")
        began = len(host.log("bgpd.started"))
        host.processes[-1].send_signal(signal.SIGUSR1)
        host.wait(lambda: len(host.log("bgpd.started")) > began, "the process after the next one", timeout_s=60)
        assert last_of(connection) == KEEPALIVE
        assert kernel_routes(fabric.host).keys() == {"10.9.0.0/16"}
        text = host.log_path.read_text()
        assert "planted" in text
        host.log_path.write_text(text[text.rindex("planted") :])  # whoever looks for defects at the end finds no other
        again = peer.establish()
        again.sendall(update(("10.9.0.0/16",), asn=65201) + END_OF_RIB)
        host.wait_ready()


FAILING_PART = """
import os
from pathlib import Path
from bgpd.{module} import {owner}

work = {owner}.{name}

def failing(self):
    if Path(os.environ["GATE"]).exists():
        raise RuntimeError("planted: a part of the daemon fails")
    return work(self)

{owner}.{name} = failing
"""


@pytest.mark.parametrize(
    ("module", "owner", "name"),
    [("readiness", "Readiness", "reasons"), ("speaker.hostnames", "Hostnames", "look")],
)
def test_part_that_fails_ends_the_process_and_costs_no_kernel_route(
    fabric: Fabric,
    peer: WirePeer,
    planted: Planted,
    module: str,
    owner: str,
    name: str,
) -> None:
    """Also a part of the speaker: then sessions end before the daemon hears of it."""
    planted.code(FAILING_PART.format(module=module, owner=owner, name=name))
    with started(fabric, leaf(1, **IPV4)) as host:
        connection = peer.establish()
        connection.sendall(update(("10.9.0.0/16",), asn=65201))
        host.wait_hops("10.9.0.0/16", "10.0.1.2%eth0")
        planted.gate.touch()
        host.wait(lambda: host.processes[-1].exit_code is not None, "the process to end")
        assert kernel_hops(fabric.host, "10.9.0.0/16") == ["10.0.1.2%eth0"]
        assert "planted" in host.log_path.read_text()
        host.log_path.write_text("")  # whoever looks for defects at the end finds no other


STALLED = """
import os
from pathlib import Path
from bgpd.rib import restore

walk = restore.Restored.walk

def stalled(self):
    while not Path(os.environ["GATE"]).exists():
        yield
    yield from walk(self)

restore.Restored.walk = stalled
"""


def test_neighbors_are_heard_while_their_routes_are_taken_up(
    fabric: Fabric, peer: WirePeer, other: WirePeer, planted: Planted
) -> None:
    """What they say reaches the kernel, and what was there before counts as before; nobody hears anything new."""
    planted.code(STALLED)
    with managed(fabric, leaf(1, **IPV4), leaf(2, **IPV4), POD) as host:
        first = spoken(peer, host, "10.9.0.0/16", "10.10.0.0/16", "10.12.0.0/16")
        longer = attribute(0x40, 2, struct.pack("!BBII", 2, 2, 65201, 65299))
        first.sendall(update(("10.14.0.0/16",), asn=65201, as_path=longer))
        second = spoken(other, host, *(f"10.{number}.0.0/16" for number in (10, 12, 13, 14)), next_hop="10.0.2.2")
        host.wait(lambda: kernel_hops(fabric.host, "10.14.0.0/16") == ["10.0.2.2%eth1"], "the shorter path")
        said(first)
        heard, began = len(host.log("handover.heard")), len(host.log("bgpd.started"))
        host.processes[-1].send_signal(signal.SIGUSR1)
        host.wait(lambda: len(host.log("handover.heard")) > heard, "the next process to hear", timeout_s=60)
        first.sendall(withdrawal("10.9.0.0/16", "10.10.0.0/16") + update(("10.11.0.0/16",), asn=65201))
        for number, names in ((9, ""), (10, "2"), (11, "1"), (12, "12"), (13, "2")):
            hops = [f"10.0.{name}.2%eth{int(name) - 1}" for name in names]
            prefix = f"10.{number}.0.0/16"
            host.wait(lambda prefix=prefix, hops=hops: kernel_hops(fabric.host, prefix) == hops, f"{prefix} by {hops}")
        second.close()
        host.wait(lambda: kernel_hops(fabric.host, "10.12.0.0/16") == ["10.0.1.2%eth0"], "the loss of leaf2")
        host.wait(lambda: kernel_hops(fabric.host, "10.14.0.0/16") == ["10.0.1.2%eth0"], "what is in its place")
        assert len(host.log("handover.complete")) == heard
        planted.gate.touch()
        host.wait(lambda: len(host.log("bgpd.started")) > began, "the next process to start", timeout_s=60)
        host.wait(lambda: host.neighbor("leaf1")["families"]["ipv4-unicast"]["received"] == 3, "the rest")
        assert {route["prefix"] for route in host.get("routes")} >= {"10.11.0.0/16", "10.12.0.0/16"}
        assert said(first) == []
        assert host.neighbor("leaf1")["established_count"] == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_process_that_ends_while_routes_are_taken_up(
    fabric: Fabric, peer: WirePeer, planted: Planted, number: signal.Signals
) -> None:
    """One that is restarted leaves all to the next one, with what it has heard; a crash is a graceful restart."""
    planted.code(STALLED)
    with managed(fabric, leaf(1, **IPV4), POD) as host:
        connection = spoken(peer, host, "10.9.0.0/16", "10.10.0.0/16")
        heard, began = len(host.log("handover.heard")), len(host.log("bgpd.started"))
        host.processes[-1].send_signal(signal.SIGUSR1)
        host.wait(lambda: len(host.log("handover.heard")) > heard, "the next process to hear", timeout_s=60)
        connection.sendall(withdrawal("10.9.0.0/16") + update(("10.11.0.0/16",), asn=65201))
        there = {"10.10.0.0/16", "10.11.0.0/16", "10.64.1.5"}
        host.wait(lambda: kernel_routes(fabric.host).keys() == there, "the change")
        os.kill(host.log("bgpd.starting")[-1]["pid"], number)
        if number is signal.SIGKILL:
            assert last_of(connection) == KEEPALIVE
            assert kernel_routes(fabric.host).keys() == there
            connection = peer.establish(hold_time_s=90)
            connection.sendall(update(("10.10.0.0/16", "10.11.0.0/16"), asn=65201) + END_OF_RIB)
            host.wait_ready()
        else:
            planted.gate.touch()
            host.wait(lambda: len(host.log("bgpd.started")) == began + 2, "the process after it", timeout_s=60)
            host.wait_ready()
            assert said(connection) == []
            assert host.neighbor("leaf1")["established_count"] == 1
        assert kernel_routes(fabric.host).keys() == there


SLOW = """
import asyncio, time
from bgpd import inheritance
from bgpd.fib import tables

find, start = inheritance.find, tables.KernelTables.start

def slow_find():
    found = find()
    time.sleep(4)
    return found

async def slow_start(self, *arguments):
    await asyncio.sleep(4)
    await start(self, *arguments)

inheritance.find, tables.KernelTables.start = slow_find, slow_start
"""


def test_start_that_takes_longer_than_the_hold_time_costs_no_session(
    fabric: Fabric, peer: WirePeer, planted: Planted
) -> None:
    """KEEPALIVEs go out before the daemon is imported, and while it reads the kernel; the neighbor's wait unread."""
    planted.code(SLOW)
    with managed(fabric, leaf(1, **{**IPV4, "hold_time_s": 3})) as host:
        connection = peer.establish(hold_time_s=3)
        connection.sendall(update(("10.9.0.0/16",), asn=65201) + END_OF_RIB)
        host.wait_ready()
        said(connection, 0.1)
        began = len(host.log("bgpd.started"))
        host.processes[-1].send_signal(signal.SIGUSR1)
        kinds = []
        while len(host.log("bgpd.started")) == began:
            kinds.append(receive(connection)[0])
        assert set(kinds) == {KEEPALIVE}
        assert len(kinds) > 6, "one a second"
        host.wait_ready()
        assert said(connection) == []
        assert host.neighbor("leaf1")["established_count"] == 1


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


def test_last_words_on_a_connection_that_is_reset_meanwhile_are_heard(
    fabric: Fabric, peer: WirePeer, other: WirePeer
) -> None:
    """The neighbor is lost as ever, and not waited for: no traffic goes to it any more."""
    with managed(fabric, leaf(1, **IPV4), leaf(2, **IPV4)) as host:
        ending = peer.establish(hold_time_s=90)
        ending.sendall(update(("10.9.0.0/16",), asn=65201) + END_OF_RIB)
        spoken(other, host, "10.9.0.0/16", next_hop="10.0.2.2")
        host.wait(lambda: len(kernel_hops(fabric.host, "10.9.0.0/16")) == 2, "both next hops")
        left, began = len(host.log("handover.left")), len(host.log("bgpd.started"))
        host.processes[-1].send_signal(signal.SIGUSR1)
        host.wait(lambda: len(host.log("handover.left")) > left, "the former process to leave")
        ending.sendall(message(NOTIFICATION, b"\x06\x02"))
        ending.close()  # with a KEEPALIVE unread: a reset
        host.wait(lambda: len(host.log("bgpd.started")) > began, "the next process")
        host.wait(lambda: kernel_hops(fabric.host, "10.9.0.0/16") == ["10.0.2.2%eth1"], "the loss of leaf1")
        assert not host.log("session.not_adopted")
        assert "administrative-shutdown" in host.log("session.closed")[-1]["reason"]


def test_unsent_bytes_are_sent_by_the_next_process(fabric: Fabric, other: WirePeer) -> None:
    """leaf1 does not read while leaf2's routes are passed on to it: what waits is neither lost nor sent twice."""
    fabric.host.run("sysctl", "-qw", "net.ipv4.tcp_wmem=4096 4096 4096")
    prefixes = tuple(f"10.{100 + number // 250}.{number % 250}.0/24" for number in range(4000))
    with small_peer(fabric) as peer, managed(fabric, leaf(1, **IPV4, export="all"), leaf(2, **IPV4)) as host:
        silent = peer.accept()
        silent.sendall(open_message(65201, hold_time_s=90) + message(KEEPALIVE) + END_OF_RIB)
        host.wait_established("leaf1")
        speaking = other.establish(hold_time_s=90)
        for number, prefix in enumerate(prefixes):
            lone = attribute(0xC0, 8, (number + 1).to_bytes(4, "big"))
            speaking.sendall(update((prefix,), asn=65202, next_hop="10.0.2.2", extra=lone))
        speaking.sendall(END_OF_RIB)
        host.wait(lambda: len(kernel_routes(fabric.host)) == len(prefixes), "all routes", timeout_s=60)
        host.wait(lambda: host.neighbor("leaf1")["families"]["ipv4-unicast"]["announced"] >= 1000, "much to be sent")
        host.hand_over()
        heard: list[str] = []
        while len(set(heard)) < len(prefixes):
            kind, body = receive(silent)
            if kind == UPDATE and body != bytes(4):
                heard.append(body[-3:].hex())
        assert len(heard) == len(set(heard))
        assert said(silent) in ([], [(UPDATE, bytes(4))])
        assert host.neighbor("leaf1")["established_count"] == 1


def small_peer(fabric: Fabric) -> WirePeer:
    """leaf1, whose kernel takes few bytes that it does not read."""
    peer = WirePeer(fabric.leaf1)
    peer.receive_buffer(4096)
    return peer


PREPARING = """
import sys

if sys.orig_argv[1:4] == ["-m", "bgpd", "run"]:
    from bgpd import routing

    routing._PREPARED = 1
"""


def test_routes_that_change_meanwhile_are_all_there_afterwards(
    fabric: Fabric, peer: WirePeer, other: WirePeer, planted: Planted
) -> None:
    """Churn by both neighbors, each of which is passed what the other says: they have the same in the end. The most of
    the table is written while they are heard, as a large one is."""
    planted.code(PREPARING)
    both = {**IPV4, "export": "all"}
    with managed(fabric, leaf(1, **both), leaf(2, **both)) as host:
        first, second = spoken(peer, host, "10.9.0.0/16"), spoken(other, host, "10.10.0.0/16", next_hop="10.0.2.2")
        ending = threading.Event()
        threads = [
            threading.Thread(target=churn, args=(first, peer.asn, "10.0.1.2", 120, ending)),
            threading.Thread(target=churn, args=(second, other.asn, "10.0.2.2", 140, ending)),
        ]
        held = {1: Table(first), 2: Table(second)}
        for thread in threads:
            thread.start()
        host.hand_over()
        host.hand_over()
        ending.set()
        for thread in threads:
            thread.join()
        first.sendall(update(("10.11.0.0/16",), asn=65201))
        second.sendall(update(("10.12.0.0/16",), asn=65202, next_hop="10.0.2.2"))
        host.wait(lambda: {"10.11.0.0/16", "10.12.0.0/16"} <= kernel_routes(fabric.host).keys(), "the last ones")
        host.wait(
            lambda: held[1].read() >= {"10.12.0.0/16"} and held[2].read() >= {"10.11.0.0/16"}, "them at the others"
        )
        assert [line["prepared"] for line in host.log("handover.left")] == [True, True]
        learned = {route["prefix"] for route in host.get("routes")} - {"10.9.0.0/16"}  # which leaf2 was sent before
        of_first = {prefix for prefix in learned if prefix.startswith(("10.11.", "10.120."))}
        assert held[1].read() == learned - of_first
        assert held[2].read() - {"10.9.0.0/16"} == of_first
        assert [host.neighbor(name)["established_count"] for name in ("leaf1", "leaf2")] == [1, 1]


def churn(connection: socket.socket, asn: int, next_hop: str, block: int, ending: threading.Event) -> None:
    """Announce and withdraw, and leave half of them announced."""
    number = 0
    while not ending.wait(0.002):
        number = (number + 1) % 200
        prefix = f"10.{block}.{number}.0/24"
        connection.sendall(update((prefix,), asn=asn, next_hop=next_hop))
        if number % 2:
            connection.sendall(withdrawal(prefix))


class Table:
    """What a neighbor was sent."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._prefixes: set[str] = set()

    def read(self) -> set[str]:
        """The prefixes of now."""
        for kind, body in said(self._connection, 0.2):
            if kind != UPDATE:
                continue
            withdrawn = int.from_bytes(body[:2])
            attributes = int.from_bytes(body[2 + withdrawn : 4 + withdrawn])
            self._prefixes.difference_update(prefixes_in(body[2 : 2 + withdrawn]))
            self._prefixes.update(prefixes_in(body[4 + withdrawn + attributes :]))
        return set(self._prefixes)


def prefixes_in(field: bytes) -> list[str]:
    found = []
    while field:
        length = field[0]
        size = (length + 7) // 8
        found.append(f"{socket.inet_ntoa(field[1 : 1 + size].ljust(4, bytes(1)))}/{length}")
        field = field[1 + size :]
    return found


def test_dynamic_neighbor_goes_on(fabric: Fabric) -> None:
    listen = table("[[listen]]", prefix="10.0.1.0/24", asn="external", import_="all", **IPV4)
    with managed(fabric, listen) as host:
        with fabric.leaf1.entered():
            connection = socket.socket()
        connection.settimeout(10)
        connection.bind(("10.0.1.2", 0))
        host.wait(lambda: connection.connect_ex(("10.0.1.1", 179)) == 0, "the daemon to listen")
        connection.sendall(open_message(65201, hold_time_s=90) + message(KEEPALIVE))
        connection.sendall(update(("10.9.0.0/16",), asn=65201) + END_OF_RIB)
        host.wait(lambda: "10.9.0.0/16" in kernel_routes(fabric.host), "the route")
        host.wait_ready()
        said(connection)
        host.hand_over()
        assert said(connection) == []
        (view,) = host.get("neighbors")
        assert (view["name"], view["state"], view["dynamic"]) == ("10.0.1.0/24-10.0.1.2", "established", True)
        connection.sendall(withdrawal("10.9.0.0/16"))
        host.wait(lambda: not kernel_routes(fabric.host), "the withdrawal")
        connection.close()


def test_frr_with_a_password_sees_its_session_go_on(fabric: Fabric, tmp_path: Path) -> None:
    key = tmp_path / "leaf1.key"
    key.write_text("secret\n")
    lines = ("neighbor 10.0.1.1 password secret", "neighbor 10.0.1.1 timers 30 90")
    neighbor = leaf(1, password_file=str(key), hold_time_s=90)
    with fabric.frr(1, *lines, networks=("10.9.0.0/16",)) as frr, managed(fabric, neighbor, POD) as host:
        host.wait_hops("10.9.0.0/16", "10.0.1.2%eth0")
        host.wait_ready()
        host.wait(lambda: heard_from_host(frr, "10.64.1.5/32"), "the leaf to hear the pod")
        before = frr_session(frr, "10.0.1.1")
        host.hand_over()
        after = frr_session(frr, "10.0.1.1")
        assert after["connectionsEstablished"] == before["connectionsEstablished"]
        assert after["bgpTimerUpMsec"] >= before["bgpTimerUpMsec"], "whole seconds"
        for kind in ("opensRecv", "updatesRecv", "notificationsRecv"):
            assert after["messageStats"][kind] == before["messageStats"][kind], kind
        announce(frr, "10.10.0.0/16")
        host.wait_hops("10.10.0.0/16", "10.0.1.2%eth0")
        key.write_text("")
        host.hand_over()
        assert frr_session(frr, "10.0.1.1")["connectionsEstablished"] == before["connectionsEstablished"]
        assert any("could not begin again; bgpd check says why" in one for one in host.health()["warnings"])
        key.write_text("secret\n")
        host.cli("reload")
        host.wait(lambda: not any("begin again" in one for one in host.health()["warnings"]), "the keys to be read")


def test_frr_unnumbered_sees_its_session_go_on(fabric: Fabric) -> None:
    neighbor = leaf(2, address=None, interface="eth1", asn="external", hold_time_s=90)
    lines = ("neighbor swp1 timers 30 90",)
    with fabric.frr(2, *lines, peer="swp1", networks=("10.9.0.0/16",)) as frr, managed(fabric, neighbor, POD) as host:
        host.wait(lambda: kernel_hops(fabric.host, "10.9.0.0/16"), "the route")
        host.wait_ready()
        host.wait(lambda: heard_from_host(frr, "10.64.1.5/32"), "the leaf to hear the pod")
        hops, before = kernel_hops(fabric.host, "10.9.0.0/16"), frr_session(frr, "swp1")
        host.hand_over()
        after = frr_session(frr, "swp1")
        assert after["bgpTimerUpMsec"] >= before["bgpTimerUpMsec"], "whole seconds"
        assert after["connectionsEstablished"] == before["connectionsEstablished"]
        assert after["messageStats"]["updatesRecv"] == before["messageStats"]["updatesRecv"]
        announce(frr, "10.10.0.0/16")
        host.wait_hops("10.10.0.0/16", *hops)


def frr_session(frr: Frr, name: str) -> dict[str, Any]:
    found: dict[str, Any] = frr.vtysh_json(f"show bgp neighbors {name} json")[name]
    return found


def test_claim_of_the_last_moment_is_kept(fabric: Fabric, peer: WirePeer) -> None:
    """What an orchestrator was told to be in force is so in the next process, whatever the disk has."""
    with managed(fabric, leaf(1, **IPV4), "[workload.api]\n") as host:
        connection = spoken(peer, host)
        host.cli("workload", "add", "web", "--address", "10.64.1.7", "--interface", "pod1")
        host.wait(lambda: "10.64.1.7" in kernel_routes(fabric.host), "the route")
        assert said(connection)
        host.hand_over()
        assert said(connection) == []
        assert "10.64.1.7" in kernel_routes(fabric.host)
        host.cli("workload", "del", "web")
        host.wait(lambda: "10.64.1.7" not in kernel_routes(fabric.host), "the deletion")
        assert len(said(connection)) == 1


def test_last_resort_and_slow_start_of_services_go_on(fabric: Fabric, peer: WirePeer) -> None:
    """The link bandwidth of the one and the announcement of the other are as they were: no UPDATE."""
    with managed(fabric, leaf(1, **IPV4), "[workload.api]\n") as host:
        connection = spoken(peer, host)
        host.cli("workload", "add", "pod", "--address", "10.64.1.1", "--interface", "pod1")
        for name, address, fields in (("young", "10.64.100.1", {"slow_start_s": 3600}), ("dead", "10.64.100.2", {})):
            for healthy in (True, False) if name == "dead" else (True,):
                backend = {"id": "pod", "addresses": ["10.64.1.1"], "healthy": healthy}
                service = {"addresses": [address], "check": {"type": "push"}, "last_resort": "keep"}
                file = host.directory / "service.json"
                file.write_text(json.dumps({**service, "backends": [backend], **fields}))
                host.cli("service", "add", name, str(file))
        before = host.get("services")
        assert [(one["name"], one["announced"], one["kept"]) for one in before] == [
            ("dead", True, ["10.64.100.2"]),
            ("young", True, []),
        ]
        assert said(connection)
        host.hand_over()
        assert said(connection) == []
        after = host.get("services")
        assert [one | {"reason": ""} for one in after] == [one | {"reason": ""} for one in before]
        assert after[1]["backends"][0]["weight_now"] == 0.125


def test_drained_host_stays_so_and_sends_nothing(fabric: Fabric, peer: WirePeer) -> None:
    with managed(fabric, leaf(1, **IPV4), POD) as host:
        connection = spoken(peer, host)
        host.cli("drain", "on", "--all", "--force")
        assert said(connection)
        host.hand_over()
        assert said(connection) == []
        assert json.loads(host.request("/v1/drain")[1])["state"] != "off"


def test_state_directory_that_cannot_be_written_costs_nothing(fabric: Fabric, peer: WirePeer, tmp_path: Path) -> None:
    """What would be in its files goes from process to process."""
    (tmp_path / "file").touch()
    nowhere = table("[state]", directory=str(tmp_path / "file" / "below"))
    slow = table("[drain]", settle_s=600)
    with managed(fabric, leaf(1, **IPV4), POD, "[workload.api]\n", nowhere, slow) as host:
        connection = spoken(peer, host, "10.9.0.0/16")
        host.cli(
            "workload", "add", "web", "--address", "10.64.1.7", "--interface", "pod1", "--timeout", "0", check=False
        )
        host.wait(lambda: "10.64.1.7" in kernel_routes(fabric.host), "the route")
        host.cli("drain", "on", "--force", check=False)
        assert said(connection)
        before = json.loads(host.request("/v1/drain")[1])
        assert before["state"] != "off"
        for _ in range(2):
            host.hand_over()
            assert said(connection) == []
            assert "10.64.1.7" in kernel_routes(fabric.host)
            after = json.loads(host.request("/v1/drain")[1])
            assert (after["since"], after["stage"]) == (before["since"], before["stage"])
            assert str(tmp_path) in after["not_saved"]
        host.cli("drain", "off", check=False)
        assert said(connection)
        host.hand_over()
        assert said(connection) == []
        assert json.loads(host.request("/v1/drain")[1])["state"] == "off"


def dialled(fabric: Fabric, **fields: Any) -> socket.socket:
    """A connection of leaf2 to this host, with its OPEN sent."""
    with fabric.leaf2.entered():
        connection = socket.socket()
    connection.settimeout(20)
    connection.connect(("10.0.2.1", 179))
    connection.sendall(open_message(65202, **fields) + message(KEEPALIVE))
    return connection


def test_neighbors_that_are_refused_for_too_many_prefixes_stay_so_for_the_time_that_is_left(
    fabric: Fabric, peer: WirePeer
) -> None:
    limits: dict[str, Any] = {"families": ["ipv4-unicast"], "max_prefixes": 1, "max_prefixes_restart_after_s": 600}
    ranged = table("[[listen]]", prefix="10.0.2.0/24", asn="external", import_="all", **limits)
    many = ("10.9.0.0/16", "10.10.0.0/16")
    with managed(fabric, leaf(1, **limits), ranged, POD) as host:
        connection = peer.establish()
        connection.sendall(update(many, asn=65201))
        assert last_of(connection) == NOTIFICATION
        with dialled(fabric) as connection:
            connection.sendall(update(many, asn=65202, next_hop="10.0.2.2"))
            assert last_of(connection) == NOTIFICATION
        names = ("leaf1", "10.0.2.0/24-10.0.2.2")
        host.wait(lambda: all(host.neighbor(name)["refused_until"] for name in names), "the pause")
        before = host.neighbor("leaf1")
        host.hand_over(converges=False)
        after = host.neighbor("leaf1")
        assert after["refused_until"] == pytest.approx(before["refused_until"], abs=1)
        for field in ("state", "last_error", "established_count"):
            assert after[field] == before[field], field
        with dialled(fabric) as connection, pytest.raises(LabError):
            receive(connection)
        host.wait(lambda: host.neighbor(names[1])["refused_until"], "the other one to be refused on")
        host.write_config(config(leaf(1, **{**limits, "max_prefixes": 2}), ranged, POD))
        host.cli("reload")
        peer.establish()


def test_routes_kept_for_a_neighbor_that_restarts_are_kept_on(
    fabric: Fabric, peer: WirePeer, other: WirePeer, tmp_path: Path
) -> None:
    """It is away while bgpd is restarted, too: nothing of it leaves the kernel before it is back and has said so."""
    helped = leaf(1, **IPV4) + "graceful_restart = { restart_time_s = 120 }\n"
    with managed(fabric, helped, leaf(2, **IPV4)) as host:
        fields: dict[str, Any] = {"hold_time_s": 90, "restart": Restart(families=((1, 1),))}
        restarting = peer.establish(**fields)
        restarting.sendall(update(("10.9.0.0/16", "10.10.0.0/16"), asn=65201) + END_OF_RIB)
        spoken(other, host, next_hop="10.0.2.2")
        host.wait(lambda: len(kernel_routes(fabric.host)) == 2, "the routes")
        restarting.close()
        host.wait(lambda: host.neighbor("leaf1")["stale_routes"] == 2, "them to be stale")
        until = host.neighbor("leaf1")["stale_until"]
        with RouteWatch(fabric.host, tmp_path) as watch:
            host.hand_over()
            view = host.neighbor("leaf1")
            assert (view["stale_routes"], view["stale_until"]) == (2, until)
            assert kernel_routes(fabric.host).keys() == {"10.9.0.0/16", "10.10.0.0/16"}
            back = peer.establish(**fields)
            back.sendall(update(("10.9.0.0/16",), asn=65201) + END_OF_RIB)
            host.wait(lambda: kernel_routes(fabric.host).keys() == {"10.9.0.0/16"}, "the other one to be swept")
            assert [line for line in watch.lines() if "10.9.0.0/16" in line] == []
        assert host.neighbor("leaf1")["stale_routes"] == 0
