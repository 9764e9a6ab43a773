"""A BMP station over a real connection: what it is told first, a burst that it does not take, and one that goes."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Callable, Collection
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from bgpd.config.schema import BmpConfig
from bgpd.export import bmp_station, bmp_tables
from bgpd.export.as_updates import STEP
from bgpd.export.bmp_station import BmpStation
from bgpd.export.bmp_tables import Local
from bgpd.export.sessions import TappedSessions
from bgpd.message.bmp import BmpType
from bgpd.message.exabgp_codec import Notification
from bgpd.model.iana import Family
from bgpd.model.route_batch import RouteBatch
from bgpd.model.source import Source
from bgpd.own_routes import WORKLOAD_SOURCE
from bgpd.speaker.tap import TappedSession
from tests.export.test_mrt_files import LEAF, SESSION
from tests.own_network import ip, own_network
from tests.rib.build import V4, Recorder, attributes, configuration, hop, key, leaf, session
from tests.waiting import until

UP, MONITORING, DOWN, INITIATION, TERMINATION = (
    BmpType.PEER_UP,
    BmpType.ROUTE_MONITORING,
    BmpType.PEER_DOWN,
    BmpType.INITIATION,
    BmpType.TERMINATION,
)


class Listening:
    """A station that is played."""

    def __init__(self, address: str = "127.0.0.1") -> None:
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.socket.bind((address, 0))
        self.socket.listen(4)
        self.socket.setblocking(False)

    async def accepted(self) -> socket.socket:
        connection, _ = await asyncio.get_running_loop().sock_accept(self.socket)
        return connection

    async def messages(self, connection: socket.socket, count: int) -> list[tuple[int, bytes]]:
        """Type and body of the next messages."""
        found: list[tuple[int, bytes]] = []
        while len(found) < count:
            _, length, kind = struct.unpack("!BIB", await self._exactly(connection, 6))
            found.append((kind, await self._exactly(connection, length - 6)))
        return found

    async def _exactly(self, connection: socket.socket, size: int) -> bytes:
        data = b""
        while len(data) < size:
            part = await asyncio.get_running_loop().sock_recv(connection, size - len(data))
            assert part, "closed"
            data += part
        return data


@contextlib.asynccontextmanager
async def running(sessions: TappedSessions, address: str = "127.0.0.1") -> AsyncIterator[tuple[Listening, BmpStation]]:
    listening = Listening(address)
    config = BmpConfig(address=address, port=listening.socket.getsockname()[1])
    rib: Any = SimpleNamespace(
        received=SimpleNamespace(state=lambda source: None), tables={}, unwatch_decisions=lambda owner: None
    )
    station = BmpStation(
        config,
        name="host1",
        description="bgpd",
        sessions=sessions,
        rib=rib,
        local=lambda: (65203, b"\x0a\xff\1\1"),
        vrfs=lambda: {""},
    )
    task = asyncio.create_task(station.run())
    try:
        yield listening, station
    finally:
        task.cancel()
        await asyncio.wait([task])
        listening.socket.close()


async def test_station_is_told_what_there_is_and_what_comes() -> None:
    sessions = TappedSessions()
    sessions.session_up(SESSION)
    async with running(sessions) as (listening, _), asyncio.timeout(20):
        connection = await listening.accepted()
        first = await listening.messages(connection, 2)
        assert [kind for kind, _ in first] == [INITIATION, UP]
        sessions.updates(LEAF, [b"\0\0\0\0"])
        sessions.session_down(LEAF, Notification(6, 4, b""), sent=False)
        sessions.updates(LEAF, [b"\0\0\0\0"])
        sessions.session_up(SESSION)
        told = await listening.messages(connection, 3)
        assert [kind for kind, _ in told] == [MONITORING, DOWN, UP]
        assert told[1][1][42:43] == b"\3"


async def test_station_that_is_too_slow_is_cut_off_and_told_all_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bmp_station, "MAX_WAITING_BYTES", 50_000)
    monkeypatch.setattr(bmp_station, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(bmp_station, "STALL_TIMEOUT_S", 0.5)
    sessions = TappedSessions()
    sessions.session_up(SESSION)
    async with running(sessions) as (listening, station), asyncio.timeout(20):
        deaf = await listening.accepted()
        while not station.cut_off:
            sessions.updates(LEAF, [bytes(4000)] * 50)
            assert station._waiting_bytes < 60_000, "whatever neighbors say"
            await asyncio.sleep(0.001)
        again = await listening.accepted()
        assert [kind for kind, _ in await listening.messages(again, 2)] == [INITIATION, UP]
        deaf.close()


async def test_station_that_goes_is_connected_to_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bmp_station, "FIRST_PAUSE_S", 0.01)
    sessions = TappedSessions()
    async with running(sessions) as (listening, station), asyncio.timeout(20):
        (await listening.accepted()).close()
        again = await listening.accepted()
        assert [kind for kind, _ in await listening.messages(again, 1)] == [INITIATION]
        assert "closed" in station.last_error or station.connected_since


@pytest.mark.netns
async def test_station_that_is_switched_off_is_noticed_though_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing comes of it any more, not even a reset; it was found out minutes after the next thing was sent."""
    monkeypatch.setattr(bmp_station, "PROBE_S", 1)
    monkeypatch.setattr(bmp_station, "GONE_S", 2)
    monkeypatch.setattr(bmp_station, "FIRST_PAUSE_S", 0.01)
    with own_network():
        ip("address add 10.9.9.9/32 dev lo")
        async with running(TappedSessions(), "10.9.9.9") as (listening, station), asyncio.timeout(60):
            connection = await listening.accepted()
            await listening.messages(connection, 1)
            ip("address del 10.9.9.9/32 dev lo")
            await until(lambda: station.last_error and not station.connected_since, lambda: station.last_error)
            assert station.last_error in ("Connection timed out", "No route to host", "Network is unreachable")
            ip("address add 10.9.9.9/32 dev lo")
            await listening.messages(await listening.accepted(), 1)


async def test_a_station_that_is_not_there_is_told_in_words() -> None:
    async with running(TappedSessions()) as (listening, station):
        listening.socket.close()
        await until(lambda: station.last_error)
        assert station.last_error == "Connection refused"


class Slices:
    """The routes of a table: two slices of keys."""

    def slices(self, size: int) -> list[list[bytes]]:
        return [[b"\x08\x0a"], [b"\x08\x0b"]]


def station_of(
    sessions: TappedSessions,
    *states: Any,
    vrfs: Collection[str] = ("", "blue"),
    local: Callable[[], Local] = lambda: (65203, b"\x0a\xff\1\1"),
    **settings: bool,
) -> BmpStation:
    """One that is not connected."""
    found = {state.source: state for state in states}
    rib: Any = SimpleNamespace(received=SimpleNamespace(state=found.get), tables={})
    return BmpStation(
        BmpConfig(address="127.0.0.1", **settings),
        name="host1",
        description="bgpd",
        sessions=sessions,
        rib=rib,
        local=local,
        vrfs=lambda: vrfs,
    )


@pytest.mark.parametrize("is_behind", [True, False])
def test_session_that_ends_while_its_routes_are_told_leaves_nothing_to_do(
    monkeypatch: pytest.MonkeyPatch, is_behind: bool
) -> None:
    monkeypatch.setattr(bmp_station, "received_routes", lambda *asked: [])
    behind = [False]
    session = msgspec.structs.replace(SESSION, is_behind=lambda: behind[0])
    tables = {Family.IPV4_UNICAST: SimpleNamespace(routes=Slices()), Family.IPV6_UNICAST: None}
    station = station_of(TappedSessions(), SimpleNamespace(source=LEAF, tables=tables))
    station.session_up(session)
    (walk,) = station._walks
    assert next(walk)
    behind[0] = is_behind
    assert next(walk) is not is_behind
    del tables[Family.IPV4_UNICAST]  # its routes are removed
    station.session_down(LEAF, None, sent=False)
    told = len(station._waiting)
    assert list(walk) == [], "also where routes of its last UPDATEs are never passed on"
    assert len(station._waiting) == told, "no End-of-RIB of a session that has ended"


async def test_keys_that_changed_are_told_in_steps_and_those_that_change_meanwhile_behind_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[bytes] = []
    monkeypatch.setattr(bmp_tables, "used_route", lambda table, family, key: told.append(key))
    station = station_of(TappedSessions(), loc_rib=True)
    tables: list[Any] = [_Table(""), _Table("blue")]
    keys = [number.to_bytes(3) for number in range(3 * STEP)]
    station._decided(tables[0], keys)
    station._decided(tables[1], keys[:1])
    writer: Any = SimpleNamespace(write=lambda data: None, drain=_nothing)
    task = asyncio.create_task(station._pass_on(writer))
    await until(lambda: len(told) >= STEP)
    station._decided(tables[0], keys[:2])
    await until(lambda: len(told) >= 3 * STEP + 3)
    assert told == [*keys, keys[0], *keys[:2]], "a table that changes all the time does not keep others waiting"
    task.cancel()
    await asyncio.wait([task])


def test_changed_keys_are_told_of_one_neighbor_in_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    offered: list[tuple[Source, int]] = []

    def routes(export: Any, session: TappedSession, table: Any, keys: list[bytes], *, is_first: bool) -> list[bytes]:
        offered.append((session.source, len(keys)))
        return []

    monkeypatch.setattr(bmp_station, "offered_routes", routes)
    exports = {Family.IPV4_UNICAST: None}
    sessions = [msgspec.structs.replace(SESSION, source=leaf(number)) for number in range(1, 4)]
    states = [SimpleNamespace(source=one.source, exports=exports) for one in sessions]
    station = station_of(TappedSessions(), *states, adj_rib_in=False, adj_rib_out_before_policy=True)
    for one in sessions:
        station.session_up(one)
    keys = [number.to_bytes(3) for number in range(STEP + 1)]
    table: Any = _Table("")
    walk = station._walk_changed(table, keys)
    assert next(walk)
    assert offered == [(sessions[0].source, STEP)]
    station.session_down(sessions[1].source, None, sent=False)
    assert list(walk)
    assert offered[1:] == [(sessions[2].source, STEP), (sessions[0].source, 1), (sessions[2].source, 1)]


async def _nothing() -> None:
    pass


class _Table:
    """What a station asks of a table whose routes changed."""

    family = Family.IPV4_UNICAST

    def __init__(self, vrf: str) -> None:
        self.vrf = vrf


async def test_defect_while_a_station_is_told_something_ends_the_connection_and_not_the_telling(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bmp_station, "LAST_PAUSE_S", 0.01)
    sessions = TappedSessions()
    sessions.session_up(SESSION)
    async with running(sessions) as (listening, _), asyncio.timeout(20):
        first = await listening.accepted()
        await listening.messages(first, 2)
        with monkeypatch.context() as broken:
            broken.setattr(bmp_station, "encode_message", lambda *given: 1 // 0)
            sessions.updates(LEAF, [b"\0\0\0\0"])
        again = await listening.accepted()
        assert [kind for kind, _ in await listening.messages(again, 2)] == [INITIATION, UP]
        sessions.updates(LEAF, [b"\0\0\0\0"])
        assert [kind for kind, _ in await listening.messages(again, 1)] == [MONITORING]


def flags(message: bytes) -> int:
    """Of the per-peer header of a whole message."""
    return message[7]


def told(station: BmpStation) -> list[bytes]:
    """What waits for it."""
    found = list(station._waiting)
    station._waiting.clear()
    return found


def test_what_neighbors_are_sent_is_told_as_it_is_sent_and_as_it_was() -> None:
    config = session("leaf1")
    recorder = Recorder(configuration(config))
    source = recorder.up(leaf(1), config)
    recorder.rib.announce_local(WORKLOAD_SOURCE, V4, [key("10.64.1.1/32")], attributes())
    recorder.turn()
    encoded: list[RouteBatch] = []

    def encode(batch: RouteBatch) -> list[bytes]:
        encoded.append(batch)
        return [b"UPDATE"]

    tapped = msgspec.structs.replace(SESSION, source=source, encode=encode)
    station = station_of(TappedSessions(), adj_rib_in=False, adj_rib_out=True, adj_rib_out_before_policy=True)
    station._rib = recorder.rib
    station.session_up(tapped)
    assert [flags(one) for one in told(station)] == [0], "one Peer Up for all"
    sent, offered = station._walks
    assert list(sent)
    assert next((flags(one), one[-6:]) for one in told(station)) == (0x50, b"UPDATE")
    assert [batch.announced for batch in encoded] == [[key("10.64.1.1/32")]]
    station.updates_sent(source, [b"UPDATE 2"])
    assert [(flags(one), one[-8:]) for one in told(station)] == [(0x50, b"UPDATE 2")]
    assert list(offered)
    assert {flags(one) for one in told(station)} == {0x10}
    station.updates(source, [b"\0\0\0\0"])
    assert told(station) == [], "what it says was not asked for"


def test_what_export_policy_withholds_is_told_as_it_is_before_policy() -> None:
    config = session("leaf1", export="none")
    recorder = Recorder(configuration(config, session("leaf2")))
    source = recorder.up(leaf(1), config)
    other = recorder.up(leaf(2), session("leaf2"))
    recorder.announce(other, attributes(65202), hop("10.0.2.2"), "10.9.0.0/16")
    recorder.announce(source, attributes(65201), hop("10.0.1.2"), "10.8.0.0/16")
    recorder.turn()
    table = recorder.rib.tables["", V4]
    ((_, export),) = [one for one in recorder.rib.received.state(source).exports.items() if one[0] is V4]  # type: ignore
    own, others = [key("10.8.0.0/16")], [key("10.9.0.0/16")]
    tapped = msgspec.structs.replace(SESSION, source=source)
    first = list(bmp_tables.offered_routes(export, tapped, table, own + others, is_first=True))
    assert [others[0] in one for one in first] == [True], "its own route is not offered to it"
    later = list(bmp_tables.offered_routes(export, tapped, table, own, is_first=False))
    assert [one[-len(own[0]) - 2 :] for one in later] == [own[0] + b"\0\0"], "withdrawn: it may have been another's"
    assert not export.advertised


def test_loc_rib_of_a_vrf_that_is_removed_goes_down_and_stays_down() -> None:
    vrfs = {"", "blue"}
    station = station_of(TappedSessions(), vrfs=vrfs, loc_rib=True)
    blue: Any = _Table("blue")
    station._decided(blue, [b"\x08\x0a"])
    assert [one[5] for one in told(station)] == [UP]
    vrfs.discard("blue")
    station.connected_since = 1.0
    station.reconfigured()
    (down,) = told(station)
    assert (down[5], down[48], down[-4:]) == (DOWN, 6, b"blue")
    station._decided(blue, [b"\x08\x0a"])
    assert list(station._walk_changed(blue, [b"\x08\x0a"])) == [True]
    assert told(station) == [], "what is removed of it late is not told"


def test_loc_ribs_begin_anew_where_a_reload_gives_the_host_another_router_id() -> None:
    """What followed was of a peer that no Peer Up had told."""
    local = [(65203, b"\x0a\xff\1\1")]
    station = station_of(TappedSessions(), local=lambda: local[0], loc_rib=True)
    station.connected_since = 1.0
    blue: Any = _Table("blue")
    station._rib.tables["blue", V4] = blue
    station._decided(blue, [b"\x08\x0a"])
    told(station)
    local[0] = (65203, b"\x0a\xff\1\2")
    station.reconfigured()
    down, up = told(station)
    assert (down[5], down[6 + 30 : 6 + 34], up[5], up[6 + 30 : 6 + 34]) == (DOWN, b"\x0a\xff\1\1", UP, b"\x0a\xff\1\2")
    station.reconfigured()
    assert told(station) == []


async def test_station_hears_that_the_daemon_ends() -> None:
    sessions = TappedSessions()
    async with asyncio.timeout(20):
        async with running(sessions) as (listening, _):
            connection = await listening.accepted()
            await listening.messages(connection, 1)
        assert [kind for kind, _ in await listening.messages(connection, 1)] == [TERMINATION]
