"""What another process has left: it is sent in order, KEEPALIVEs behind it, and what is damaged costs itself only."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import msgspec
import pytest

from bgpd.config.schema import RouterConfig
from bgpd.config.schema_sessions import ListenConfig, NeighborConfig
from bgpd.message.exabgp_codec import KEEPALIVE
from bgpd.speaker import left_sessions
from bgpd.speaker.left_sessions import LeftSession
from bgpd.speaker.neighbors import Neighbors
from bgpd.speaker.next_hop_self import SelfAddresses
from bgpd.speaker.saved import (
    Notice,
    SavedConnection,
    SavedExchange,
    SavedFailures,
    SavedRequests,
    SavedRetries,
    SavedSession,
    SavedSpeaker,
    SavedWait,
)


def session(name: str, number: int, *, unsent: bytes = b"", keepalive_time_s: int = 3) -> SavedSession:
    return SavedSession(
        name=name,
        descriptor=f"session-{number}",
        section="neighbor",
        config=msgspec.msgpack.encode(NeighborConfig(name=name, asn=65201, import_="all")),
        router=msgspec.msgpack.encode(RouterConfig(asn=65203, router_id="10.0.0.1")),
        address=b"\x0a\0\1\2",
        interface="",
        arrival="",
        runs_over="eth0",
        state_since=1.0,
        established_count=1,
        flaps=0,
        former_martians=0,
        failures=SavedFailures("", None, Notice(), Notice(), ""),
        retries=SavedRetries(0.0, 0.0, 0, 0),
        connection=SavedConnection(
            incoming=False,
            local_open=b"",
            peer_open=b"",
            opened_at=1.0,
            established_at=2.0,
            messages_received=3,
            messages_sent=4,
            unread=b"\xff" * 5,
            unsent=unsent,
            keepalive_time_s=keepalive_time_s,
        ),
        exchange=SavedExchange(
            messages_sent=5, martians=0, end_of_rib=[], own=SelfAddresses(), requests=SavedRequests({}, {}, [])
        ),
    )


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.settimeout(10)
        yield ours, theirs


def test_unsent_bytes_come_before_a_keepalive(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    left = LeftSession(session("leaf1", 1, unsent=b"rest of a message"), ours)
    left.keep_alive()
    assert theirs.recv(100) == b"rest of a message" + KEEPALIVE
    assert (left.saved.connection.unsent, left.saved.connection.messages_sent) == (b"", 5)


def test_what_the_peer_does_not_take_stays_unsent_and_no_message_is_cut(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = pair
    much = bytes(range(256)) * 8192
    left = LeftSession(session("leaf1", 1, unsent=much), ours)
    left.keep_alive()
    left.keep_alive()
    rest = left.saved.connection.unsent
    assert 0 < len(rest) < len(much)
    assert left.saved.connection.messages_sent == 4
    heard = b""
    while len(heard) < len(much) - len(rest):
        heard += theirs.recv(1 << 20)
    assert heard + rest == much


def test_without_a_hold_time_only_the_rest_is_sent(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    LeftSession(session("leaf1", 1, unsent=b"rest", keepalive_time_s=0), ours).keep_alive()
    assert theirs.recv(100) == b"rest"


def test_connection_that_is_lost_is_left_to_whoever_goes_on(pair: tuple[socket.socket, socket.socket]) -> None:
    """What its peer said last is read there."""
    ours, theirs = pair
    theirs.send(b"last words")
    theirs.close()
    left = LeftSession(session("leaf1", 1), ours)
    left.keep_alive()
    left.keep_alive()
    assert left.socket.recv(100) == b"last words"


def test_session_that_cannot_be_read_costs_itself_only() -> None:
    sockets = [socket.socket() for _ in range(3)]
    good = msgspec.msgpack.encode(session("leaf1", 1))
    broken = msgspec.msgpack.encode({"name": "leaf2", "descriptor": "session-2"})
    lost = msgspec.msgpack.encode(session("leaf3", 9))
    section = msgspec.msgpack.encode(SavedSpeaker([good, broken, lost], [], []))
    found = left_sessions.read(section, {f"session-{n}": sock.detach() for n, sock in enumerate(sockets, 1)})
    assert [one.saved.name for one in found.sessions] == ["leaf1"]
    assert found.refused["leaf2"].startswith("another version of bgpd has left it")
    assert found.refused["leaf3"] == "its socket was not handed over"
    found.close()


def test_keepalives_are_sent_until_the_sessions_are_taken(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    left = left_sessions.LeftSessions([LeftSession(session("leaf1", 1), ours)], {})
    left.keep_alive()
    assert theirs.recv(len(KEEPALIVE), socket.MSG_WAITALL) == KEEPALIVE
    (taken,) = left.take()
    assert taken.saved.connection.messages_sent == 5
    assert len(left) == 0


def test_what_is_left_of_a_dynamic_neighbor_counts_as_long_as_it_is_refused() -> None:
    neighbors = Neighbors(None)  # type: ignore[arg-type]
    for name, refused_until in (("soon", 100.0), ("late", 200.0), ("never", 0.0)):
        config = ListenConfig(prefix="10.0.0.0/8", asn="external", import_="all")
        neighbors.waits[name] = SavedWait(
            name=name,
            section="listen",
            config=msgspec.msgpack.encode(config),
            established_count=1,
            flaps=1,
            former_martians=0,
            failures=SavedFailures("", None, Notice(), Notice(), ""),
            retries=SavedRetries(refused_until, refused_until, 0, 0),
        )
    neighbors.forget_waits(100.0)
    assert list(neighbors.waits) == ["late"]
