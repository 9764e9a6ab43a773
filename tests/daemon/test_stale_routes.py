"""A leaf restarts while this host helps (RFC 4724, RFC 8538): a raw peer plays it, and the kernel hears nothing."""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.daemon.fabric import Fabric, Host, RouteWatch, kernel_routes, leaf, started, table
from tests.daemon.wire_peer import (
    CEASE,
    END_OF_RIB,
    HARD_RESET,
    KEEPALIVE,
    NOTIFICATION,
    OPEN,
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

ONE, TWO, THREE = "10.81.0.0/24", "10.82.0.0/24", "10.83.0.0/24"
HOLD_TIMER_EXPIRED = 4
GRACEFUL = Restart()


def neighbor(words: str = "restart_time_s = 30", **fields: object) -> str:
    return f"{leaf(1, families=['ipv4-unicast'], **fields).rstrip()}\ngraceful_restart = {{ {words} }}\n"


@pytest.fixture
def peer(fabric: Fabric) -> Iterator[WirePeer]:
    with WirePeer(fabric.leaf1) as peer:
        peer.timeout(30)
        yield peer


@pytest.fixture
def host(fabric: Fabric, peer: WirePeer) -> Iterator[Host]:
    with started(fabric, neighbor(), wait=False) as host:
        yield host


def speak(peer: WirePeer, host: Host, restart: Restart | None = GRACEFUL, *prefixes: str) -> socket.socket:
    """The leaf's session, with these routes and End-of-RIB."""
    session = peer.establish(restart=restart)
    if prefixes:
        session.sendall(update(prefixes, asn=peer.asn) + END_OF_RIB)
        host.wait(lambda: set(kernel(host)) == {one.removesuffix("/32") for one in prefixes}, f"{prefixes}")
    return session


def kernel(host: Host) -> list[str]:
    return sorted(kernel_routes(host.namespace))


def lose(session: socket.socket, host: Host) -> None:
    """The connection ends without a word."""
    session.close()
    host.wait(lambda: host.neighbor("leaf1")["state"] != "established", "the session to end")


def settled(host: Host) -> list[str]:
    """What the kernel has once the daemon has answered twice."""
    time.sleep(0.3)
    host.neighbor("leaf1")
    return kernel(host)


def test_restart_costs_the_kernel_no_message_and_the_sweep_only_the_difference(
    fabric: Fabric, peer: WirePeer, host: Host, tmp_path: Path
) -> None:
    session = speak(peer, host, GRACEFUL, ONE, TWO)
    with RouteWatch(fabric.host, tmp_path, "route", "nexthop") as watch:
        before = watch.lines()
        lose(session, host)
        view = host.neighbor("leaf1")
        assert view["stale_families"] == ["ipv4-unicast"]
        assert view["stale_routes"] == 2
        assert view["stale_since"] < time.time() < view["stale_until"] < time.time() + 125
        candidate = host.get("routes", prefix=ONE)[0]["candidates"][0]
        assert candidate["stale_since"] == view["stale_since"]
        assert "(stale for " in host.cli("show", "neighbors")
        assert "kept for " in host.cli("show", "routes", ONE)
        assert ", stale for " in host.cli("explain", ONE.partition("/")[0])
        assert host.metric("bgpd_neighbor_routes_stale", neighbor="leaf1") == 2
        session = peer.establish(restart=Restart(restarted=True))
        session.sendall(update((ONE, THREE), asn=peer.asn))
        host.wait(lambda: len(kernel(host)) == 3, "the new route")
        assert kernel(host) == [ONE, TWO, THREE]
        told = watch.lines()[len(before) :]
        assert len(told) == 1, told
        assert THREE in told[0]
        assert host.neighbor("leaf1")["stale_routes"] == 1
        session.sendall(END_OF_RIB)
        host.wait(lambda: kernel(host) == [ONE, THREE], "the sweep")
        told = watch.lines()[len(before) :]
        assert len(told) == 2, told
        assert told[1].startswith("Deleted " + TWO)
    view = host.neighbor("leaf1")
    assert (view["stale_families"], view["stale_routes"], view["stale_until"]) == ([], 0, None)
    assert [record["routes"] for record in host.log("graceful_restart.routes_kept")] == [2]


def test_neighbor_that_does_not_come_back_loses_its_routes_after_its_restart_time(peer: WirePeer, host: Host) -> None:
    session = speak(peer, host, Restart(time_s=2), ONE)
    began = time.monotonic()
    lose(session, host)
    host.wait(lambda: not kernel(host), "the routes to go")
    assert time.monotonic() - began > 1.5
    assert host.log("graceful_restart.routes_removed")[0]["reason"] == "the neighbor did not come back in time"


@pytest.mark.parametrize(
    "back",
    [
        Restart(restarted=True, forwarding=False),
        Restart(restarted=True, families=((2, 1),)),
        None,
    ],
    ids=["F bit 0", "family not offered again", "no graceful restart any more"],
)
def test_what_the_new_open_does_not_say_to_forward_goes_at_once(
    peer: WirePeer, host: Host, back: Restart | None
) -> None:
    lose(speak(peer, host, GRACEFUL, ONE), host)
    assert settled(host) == [ONE]
    session = peer.establish(restart=back)
    host.wait(lambda: not kernel(host), "the routes to go")
    session.sendall(update((TWO,), asn=peer.asn))
    host.wait(lambda: kernel(host) == [TWO], "the new routes")


def test_another_router_id_is_another_router(peer: WirePeer, host: Host) -> None:
    lose(speak(peer, host, GRACEFUL, ONE), host)
    peer.establish(restart=Restart(restarted=True), router_id=(10, 255, 0, 77))
    host.wait(lambda: not kernel(host), "the routes to go")


def test_another_as_is_another_router(fabric: Fabric, peer: WirePeer) -> None:
    with started(fabric, neighbor(asn="external"), wait=False) as host:
        lose(speak(peer, host, GRACEFUL, ONE), host)
        peer.establish(restart=Restart(restarted=True), asn=65299)
        host.wait(lambda: not kernel(host), "the routes to go")


@pytest.mark.parametrize(
    ("restart", "code", "subcode", "kept"),
    [
        (Restart(), HOLD_TIMER_EXPIRED, 0, True),
        (Restart(), CEASE, 4, True),
        (Restart(), CEASE, HARD_RESET, False),
        (Restart(notification=False), HOLD_TIMER_EXPIRED, 0, False),
        (Restart(notification=False), CEASE, 4, False),
        (None, CEASE, 4, False),
    ],
)
def test_notification_keeps_only_what_rfc_8538_says(
    peer: WirePeer, host: Host, restart: Restart | None, code: int, subcode: int, kept: bool
) -> None:
    session = speak(peer, host, restart, ONE)
    session.sendall(message(NOTIFICATION, bytes((code, subcode))))
    host.wait(lambda: host.neighbor("leaf1")["state"] != "established", "the session to end")
    assert settled(host) == ([ONE] if kept else [])


@pytest.mark.parametrize("notification", [True, False])
def test_hold_timer_that_expires_here_counts_as_a_notification(peer: WirePeer, host: Host, notification: bool) -> None:
    session = peer.establish(restart=Restart(notification=notification), hold_time_s=3, is_quiet=True)
    session.sendall(update((ONE,), asn=peer.asn) + END_OF_RIB)
    host.wait(lambda: kernel(host) == [ONE], "the route")
    host.wait(lambda: host.neighbor("leaf1")["state"] != "established", "the hold timer")
    assert settled(host) == ([ONE] if notification else [])


@pytest.mark.parametrize("notification", [True, False])
def test_second_restart_during_the_first(peer: WirePeer, host: Host, notification: bool) -> None:
    """RFC 4724 section 4.2 deletes what was stale already; RFC 8538 section 4.1 (N bit) keeps it."""
    restart = Restart(notification=notification)
    lose(speak(peer, host, restart, ONE, TWO), host)
    session = peer.establish(restart=restart)
    session.sendall(update((TWO,), asn=peer.asn))
    host.wait(lambda: host.neighbor("leaf1")["families"]["ipv4-unicast"]["received"] == 1, "the first of its routes")
    lose(session, host)
    assert settled(host) == ([ONE, TWO] if notification else [TWO])
    session = peer.establish(restart=restart)
    assert settled(host) == ([ONE, TWO] if notification else [TWO])
    session.sendall(update((TWO, THREE), asn=peer.asn) + END_OF_RIB)
    host.wait(lambda: kernel(host) == [TWO, THREE], "the sweep of both")
    assert host.neighbor("leaf1")["stale_routes"] == 0


def test_withdrawal_by_the_new_session_takes_a_stale_route(peer: WirePeer, host: Host) -> None:
    lose(speak(peer, host, GRACEFUL, ONE, TWO), host)
    session = peer.establish(restart=Restart(restarted=True))
    session.sendall(withdrawal(ONE))
    host.wait(lambda: kernel(host) == [TWO], "the withdrawal")


def test_end_of_rib_that_does_not_come_is_not_waited_for_without_end(fabric: Fabric, peer: WirePeer) -> None:
    with started(fabric, neighbor("stale_time_s = 2"), wait=False) as host:
        lose(speak(peer, host, GRACEFUL, ONE, TWO), host)
        session = peer.establish(restart=Restart(restarted=True))
        session.sendall(update((TWO,), asn=peer.asn))
        host.wait(lambda: kernel(host) == [TWO], "the stale route to go")
        assert host.log("graceful_restart.routes_removed")[0]["reason"] == "no End-of-RIB came in time"


def test_link_that_goes_down_ends_what_is_kept(fabric: Fabric, peer: WirePeer, host: Host) -> None:
    """A leaf whose link goes down reboots: it has no forwarding state left when the link is up again."""
    lose(speak(peer, host, GRACEFUL, ONE), host)
    assert settled(host) == [ONE]
    fabric.host.ip("link", "set", "eth0", "down")
    try:
        host.wait(lambda: host.neighbor("leaf1")["stale_routes"] == 0, "the stale route to go")
    finally:
        fabric.host.ip("link", "set", "eth0", "up")
    assert settled(host) == []
    assert "link eth0 went down" in host.log("graceful_restart.routes_removed")[0]["reason"]


def test_neighbor_that_leaves_the_configuration_keeps_nothing(fabric: Fabric, peer: WirePeer, host: Host) -> None:
    lose(speak(peer, host, GRACEFUL, ONE), host)
    assert settled(host) == [ONE]
    host.reload_with(leaf(2))
    host.wait(lambda: not kernel(host), "the route to go")


def test_policy_of_a_reload_counts_for_stale_routes_too(fabric: Fabric, peer: WirePeer, host: Host) -> None:
    lose(speak(peer, host, GRACEFUL, ONE, TWO), host)
    policy = f'[policy.some]\nrules = [{{ match = {{ prefix = ["{ONE}"] }}, action = "accept" }}]\n'
    host.reload_with(neighbor(import_="some"), policy)
    host.wait(lambda: kernel(host) == [ONE], "the policy to count")
    host.reload_with(neighbor())
    host.wait(lambda: kernel(host) == [ONE, TWO], "the former policy to count")
    assert host.neighbor("leaf1")["stale_routes"] == 2


def test_stale_routes_count_for_the_limit_of_prefixes(fabric: Fabric, peer: WirePeer) -> None:
    """A neighbor that says the same again is within it all the time; one that says as many others is not."""
    with started(fabric, neighbor(max_prefixes=2, max_prefixes_restart_after_s=1), wait=False) as host:
        session = speak(peer, host, GRACEFUL, ONE, TWO)
        lose(session, host)
        session = peer.establish(restart=Restart(restarted=True))
        session.sendall(update((TWO, ONE), asn=peer.asn) + END_OF_RIB)
        host.wait(lambda: host.neighbor("leaf1")["stale_routes"] == 0, "the end of the restart")
        lose(session, host)
        session = peer.establish(restart=Restart(restarted=True))
        session.sendall(update((THREE,), asn=peer.asn))
        host.wait(lambda: not kernel(host), "all to go")
        assert "more than max_prefixes" in host.neighbor("leaf1")["last_error"]


def test_restart_of_this_host_while_routes_are_stale(peer: WirePeer, host: Host) -> None:
    """The kernel's routes stay until this host is converged; the neighbor that comes back meanwhile loses nothing."""
    lose(speak(peer, host, GRACEFUL, ONE), host)
    host.kill()
    host.start()
    assert settled(host) == [ONE]
    session = peer.establish(restart=Restart(restarted=True))
    session.sendall(update((ONE,), asn=peer.asn) + END_OF_RIB)
    host.wait_ready()
    assert kernel(host) == [ONE]


def test_helper_can_be_off(fabric: Fabric, peer: WirePeer) -> None:
    with started(fabric, neighbor('mode = "off"'), wait=False) as host:
        lose(speak(peer, host, GRACEFUL, ONE), host)
        host.wait(lambda: not kernel(host), "the routes to go")


def test_neighbor_without_the_capability_loses_its_routes_at_once(peer: WirePeer, host: Host) -> None:
    session = speak(peer, host, None, ONE)
    with contextlib.suppress(OSError):
        session.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    lose(session, host)
    host.wait(lambda: not kernel(host), "the routes to go")


# Long-lived graceful restart (RFC 9494)

LLGR_STALE, NO_LLGR = b"\xff\xff\x00\x06", b"\xff\xff\x00\x07"
LONG = Restart(time_s=1, long_lived_s=600)
LONG_WORDS = "restart_time_s = 1, long_lived_s = 300"


def communities(*packed: bytes) -> bytes:
    return attribute(0xC0, 8, b"".join(packed))


def other_leaf(**fields: object) -> str:
    text = leaf(2, families=["ipv4-unicast"], export="all", **fields).rstrip()
    return f"{text}\ngraceful_restart = {{ long_lived_s = 300 }}\n"


def best(host: Host, prefix: str) -> dict[str, Any]:
    found: dict[str, Any] = host.get("routes", prefix=prefix)[0]["candidates"][0]
    return found


def sent(host: Host, prefix: str) -> list[dict[str, Any]]:
    """What leaf2 was sent of a prefix."""
    return [view for view in host.get("advertised", neighbor="leaf2") if view["prefix"] == prefix]


def test_long_lived_stale_routes_are_the_last_choice_and_end_with_end_of_rib(fabric: Fabric, peer: WirePeer) -> None:
    with (
        WirePeer(fabric.leaf2, "10.0.2.2", asn=65202) as second,
        started(fabric, neighbor(LONG_WORDS), other_leaf(), wait=False) as host,
    ):
        second.timeout(30)
        other = second.establish(restart=Restart(long_lived_s=600))
        longer = attribute(0x40, 2, struct.pack("!BBIII", 2, 3, 65202, 65400, 65401))
        other.sendall(update((ONE,), asn=65202, next_hop="10.0.2.2", as_path=longer) + END_OF_RIB)
        session = peer.establish(restart=LONG)
        session.sendall(update((ONE, TWO), asn=peer.asn) + update((THREE,), asn=peer.asn, extra=communities(NO_LLGR)))
        session.sendall(END_OF_RIB)
        host.wait(lambda: kernel(host) == [ONE, TWO, THREE], "the routes")
        host.wait(lambda: best(host, ONE)["source"] == "leaf1", "leaf1 to be better")
        lose(session, host)
        host.wait(lambda: kernel(host) == [ONE, TWO], "what forbids it to go")
        host.wait_hops(ONE, "10.0.2.2%eth1")
        host.wait_hops(TWO, "10.0.1.2%eth0")
        view = host.neighbor("leaf1")
        assert view["stale_stage"] == "long-lived"
        assert 200 < view["stale_until"] - time.time() < 305, "the lower of both times"
        lost = host.get("routes", prefix=ONE)[0]["candidates"][1]
        assert "llgr-stale" in lost["communities"]
        assert lost["reason"] == "the best route is not stale, this one long-lived stale (step 12)"
        host.wait(lambda: "llgr-stale" in sent(host, TWO)[0]["communities"], "leaf2 to be told")
        session = peer.establish(restart=Restart(restarted=True, time_s=1, long_lived_s=600))
        assert settled(host) == [ONE, TWO]
        session.sendall(update((ONE,), asn=peer.asn) + END_OF_RIB)
        host.wait(lambda: kernel(host) == [ONE], "the sweep")
        host.wait_hops(ONE, "10.0.1.2%eth0")
        assert best(host, ONE)["communities"] == []


def test_long_lived_stale_routes_are_not_passed_on_to_who_does_not_know_them(fabric: Fabric, peer: WirePeer) -> None:
    with (
        WirePeer(fabric.leaf2, "10.0.2.2", asn=65202) as second,
        started(fabric, neighbor(LONG_WORDS), other_leaf(), wait=False) as host,
    ):
        second.timeout(30)
        second.establish()
        session = peer.establish(restart=LONG)
        session.sendall(update((TWO,), asn=peer.asn) + END_OF_RIB)
        host.wait(lambda: len(sent(host, TWO)) == 1, "leaf2 to be told")
        lose(session, host)
        host.wait(lambda: sent(host, TWO) == [], "the withdrawal")
        assert kernel(host) == [TWO]


def test_long_lived_stale_routes_of_others_are_the_last_choice_too(fabric: Fabric, peer: WirePeer) -> None:
    with (
        WirePeer(fabric.leaf2, "10.0.2.2", asn=65202) as second,
        started(fabric, neighbor(), other_leaf(), wait=False) as host,
    ):
        second.timeout(30)
        other = second.establish()
        longer = attribute(0x40, 2, struct.pack("!BBIII", 2, 3, 65202, 65400, 65401))
        other.sendall(update((ONE,), asn=65202, next_hop="10.0.2.2", as_path=longer))
        session = peer.establish()
        session.sendall(update((ONE,), asn=peer.asn, extra=communities(LLGR_STALE)))
        host.wait(lambda: len(host.get("routes", prefix=ONE)[0]["candidates"]) == 2, "both")
        assert best(host, ONE)["source"] == "leaf2"
        host.wait_hops(ONE, "10.0.2.2%eth1")


def test_long_lived_routes_end_with_their_time(fabric: Fabric, peer: WirePeer) -> None:
    with started(fabric, neighbor("restart_time_s = 1, long_lived_s = 2"), wait=False) as host:
        lose(speak(peer, host, LONG, ONE), host)
        host.wait(lambda: host.neighbor("leaf1")["stale_stage"] == "long-lived", "the Restart Time to be over")
        assert kernel(host) == [ONE]
        host.wait(lambda: not kernel(host), "the long-lived time to be over")


# This host restarts


def bits(peer: WirePeer) -> tuple[bool, bool]:
    """The R bit and the F bit of the daemon's next OPEN, whose session is established."""
    connection = peer.accept()
    kind, body = receive(connection)
    assert kind == OPEN
    at = body.index(bytes((64, 6)))
    connection.sendall(open_message(peer.asn, restart=GRACEFUL) + message(KEEPALIVE))
    while receive(connection)[0] != KEEPALIVE:
        pass
    connection.close()
    return bool(body[at + 2] & 0x80), bool(body[at + 7] & 0x80)


def test_bits_of_a_restart_are_those_of_the_first_session_after_one(peer: WirePeer, host: Host) -> None:
    """R: this is a restart. F: the forwarding state has outlived it, which at a first start there is none of."""
    assert bits(peer) == (False, False)
    assert bits(peer) == (False, True), "no restart, and what was announced is forwarded"
    host.kill()
    host.start(wait=False)
    assert bits(peer) == (True, True)
    assert bits(peer) == (False, True)


def test_dynamic_neighbor_that_restarts_keeps_its_routes_and_its_name(fabric: Fabric) -> None:
    words = {"prefix": "10.0.1.0/24", "asn": "external", "import_": "all", "families": ["ipv4-unicast"]}
    ranges = table("[[listen]]", **words) + "graceful_restart = {}\n"
    name = "10.0.1.0/24-10.0.1.2"

    def dial(host: Host) -> socket.socket:
        def connected() -> socket.socket | None:
            with fabric.leaf1.entered(), contextlib.suppress(OSError):
                return socket.create_connection(("10.0.1.1", 179), timeout=10)
            return None

        host.wait(lambda: found.append(connected()) or found[-1] is not None, "the daemon to listen")
        connection = found[-1]
        assert connection is not None
        connection.sendall(open_message(65201, restart=GRACEFUL) + message(KEEPALIVE))
        while receive(connection)[0] != KEEPALIVE:
            pass
        return connection

    found: list[socket.socket | None] = []
    with started(fabric, ranges, wait=False) as host:
        session = dial(host)
        session.sendall(update((ONE,), asn=65201) + END_OF_RIB)
        host.wait(lambda: kernel(host) == [ONE], "the route")
        session.close()
        host.wait(lambda: host.neighbor(name)["stale_routes"] == 1, "the route to be stale")
        time.sleep(2.5)
        assert kernel(host) == [ONE]
        assert host.neighbor(name)["state"] != "established", "it is not forgotten meanwhile"
        session = dial(host)
        session.sendall(update((ONE,), asn=65201) + END_OF_RIB)
        host.wait(lambda: host.neighbor(name)["stale_routes"] == 0, "the end of the restart")
        assert kernel(host) == [ONE]
        assert host.neighbor(name)["established_count"] == 2
        session.close()
