"""Speakers on the loopback interface, against each other and against a peer that says whatever the test wants."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bgpd.config.schema import Config
from bgpd.kernel.host import Host
from bgpd.message.evpn_nlri import EvpnNlri
from bgpd.message.exabgp_codec import KEEPALIVE, encode_message, encode_notification
from bgpd.model.attributes import Attributes
from bgpd.model.iana import CeaseSubcode, Family, MessageType
from bgpd.model.kernel import Address, Link, LinkChanged
from bgpd.model.next_hop import NextHop
from bgpd.model.prefix import parse_address, parse_prefix
from bgpd.model.route_batch import RouteBatch
from bgpd.runtime.rates import BURST_LINES
from bgpd.speaker import driver as driver_module
from bgpd.speaker import left_sessions
from bgpd.speaker import places as places_module
from bgpd.speaker import retries as retries_module
from bgpd.speaker import speaker as speaker_module
from bgpd.speaker.authentication import Md5
from bgpd.speaker.connection import Connection
from bgpd.speaker.driver import Driver
from bgpd.speaker.exchange import MANY
from bgpd.speaker.left_sessions import LeftSessions
from bgpd.speaker.router_discovery import attach_filter
from bgpd.speaker.socket_options import stuck_text
from bgpd.speaker.speaker import Speaker
from bgpd.speaker.transport import Target, dial
from tests.interop.recording_speaker import Recorder
from tests.logs import capture_logs
from tests.speaker.messages import REFRESH, UPDATE, open_bytes
from tests.speaker.raw_peer import RawPeer
from tests.waiting import until

BEGIN = encode_message(MessageType.ROUTE_REFRESH, b"\0\1\1\1")
END = encode_message(MessageType.ROUTE_REFRESH, b"\0\1\2\1")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        port: int = probe.getsockname()[1]
        return port


def config(**fields: Any) -> Config:
    """Our configuration: AS 65203, router ID 10.255.1.1."""
    return msgspec.convert({"router": {"asn": 65203, "router_id": "10.255.1.1"}, **fields}, Config)


def to_peer(port: int, **fields: Any) -> dict[str, Any]:
    """A neighbor at 127.0.0.2, AS 65201."""
    known = {"name": "peer", "address": "127.0.0.2", "port": port, "source_address": "127.0.0.1", "asn": 65201}
    return {**known, "import": "all", "connect_retry_s": 1, **fields}


LOOPBACK = Link(index=1, name="lo", up=True)
DOWN = Link(index=1, name="lo", up=False)


def address(text: str, *, usable: bool = True) -> Address:
    """An address of the loopback interface."""
    packed, _, length = text.partition("/")
    return Address(index=1, packed=parse_address(packed), prefix_length=int(length), usable=usable)


@contextlib.asynccontextmanager
async def running(configuration: Config, **options: Any) -> AsyncIterator[tuple[Speaker, Recorder]]:
    """A Speaker that knows the loopback interface."""
    recorder = Recorder()
    host = Host(lambda event: speaker.kernel_changed(event))
    options.setdefault("nlri_decoders", {})
    speaker = Speaker(configuration.speaker, host=host, routes=recorder, events=recorder, **options)
    recorder.host = host
    host.link(LOOPBACK)
    for text in ("127.0.0.1", "127.0.0.2"):
        host.address(address(f"{text}/8"))
    task = asyncio.create_task(speaker.run())
    await asyncio.sleep(0)
    try:
        yield speaker, recorder
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def last_error(speaker: Speaker) -> str:
    return next((view.last_error for view in speaker.neighbor_views()), "")


async def test_two_speakers_exchange_routes() -> None:
    ports = free_port(), free_port()
    theirs = msgspec.convert(
        {
            "router": {"asn": 65201, "router_id": "10.255.0.1", "hostname": "leaf"},
            "neighbor": [
                {"name": "host", "address": "127.0.0.1", "port": ports[0], "source_address": "127.0.0.2"}
                | {"asn": "external", "import": "all"}
            ],
        },
        Config,
    )
    async with (
        running(config(neighbor=[to_peer(ports[1], graceful_restart={"mode": "off"})]), listen_port=ports[0]) as (
            left,
            heard_left,
        ),
        running(theirs, listen_port=ports[1]) as (right, heard_right),
    ):
        await until(lambda: heard_left.sources and heard_right.sources)
        family, key = parse_prefix("10.64.1.0/26")
        hop = NextHop(parse_address("192.0.2.1"))
        batch = RouteBatch(family=family, announced=[key], attributes=Attributes.of(), next_hop=hop)
        left.neighbors.send(heard_left.sources["peer"], batch)
        right.pause_reading(["host"])
        left.neighbors.send_end_of_rib(heard_left.sources["peer"], Family.IPV4_UNICAST)
        await asyncio.sleep(0.05)
        held_back = list(heard_right.ended)
        right.pause_reading([])
        await until(lambda: heard_right.ended)
        assert held_back == []
        assert heard_right.routes["host", family] == {"10.64.1.0/26": hop}
        assert left.neighbor_views()[0].hostname == "leaf"
        await left.shutdown("node is drained", gracefully=True)
        await until(lambda: heard_right.closed)
        assert heard_right.closed == ["the neighbor sent cease/administrative-shutdown: node is drained"]
        assert heard_left.closed == ["shut down"]
        assert right.neighbor_views()[0].last_error_at is not None


def left_by(speaker: Speaker) -> LeftSessions:
    """What a speaker leaves to the next one, on descriptors of its own."""
    speaker.hold(True)
    saved, descriptors = speaker.saved()
    names = {one.descriptor for one in saved.listeners}
    kept = {name: os.dup(number) for name, number in descriptors.items() if name not in names}
    return left_sessions.read(msgspec.msgpack.encode(msgspec.structs.replace(saved, listeners=[])), kept)


async def successor(configuration: Config, left: LeftSessions, **options: Any) -> tuple[Speaker, Recorder]:
    """A speaker that has adopted what another one has left, and does not run yet."""
    recorder, host = Recorder(), Host(lambda _event: None)
    speaker = Speaker(
        configuration.speaker,
        host=host,
        routes=recorder,
        events=recorder,
        nlri_decoders={},
        listen_port=free_port(),
        **options,
    )
    recorder.host = host
    host.link(LOOPBACK)
    host.address(address("127.0.0.1/8"))
    assert await speaker.adopt(left) == {}
    return speaker, recorder


@contextlib.asynccontextmanager
async def begun(speaker: Speaker) -> AsyncIterator[None]:
    """The speaker runs."""
    task = asyncio.create_task(speaker.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_adopted_session_whose_link_flaps_before_routes_are_known_begins_anew(peer: RawPeer) -> None:
    settings = config(neighbor=[to_peer(peer.port)])
    async with running(settings, listen_port=free_port()) as (former, recorder):
        await peer.open()
        await until(lambda: recorder.sources)
        speaker, heard = await successor(settings, left_by(former))
        speaker.kernel_changed(LinkChanged(DOWN, before=LOOPBACK))
        assert heard.closed == ["link lo went down"]
        speaker.kernel_changed(LinkChanged(LOOPBACK, before=DOWN))
        assert last_error(speaker) == "link lo went down"
        async with begun(speaker):
            await peer.open()
            await until(lambda: heard.established)


@pytest.mark.parametrize("what", ["link lo went down", "local address 127.0.0.1 was removed", ""])
async def test_adopted_session_whose_link_or_address_went_before_the_host_is_followed_ends(
    peer: RawPeer, what: str
) -> None:
    settings = config(neighbor=[to_peer(peer.port)])
    async with running(settings, listen_port=free_port()) as (former, recorder):
        await peer.open()
        await until(lambda: recorder.sources)
        speaker, heard = await successor(settings, left_by(former))
        if "link" in what:
            heard.host.link(DOWN)
        elif what:
            heard.host.address(address("127.0.0.1/8"), gone=True)
        speaker.host_is_followed()
        assert heard.closed == ([what] if what else [])


def is_connected(sock: socket.socket) -> bool:
    try:
        sock.getpeername()
    except OSError:
        return False
    return True


async def test_last_words_to_a_process_that_has_left_are_heard_by_the_next_one(peer: RawPeer) -> None:
    """Its KEEPALIVEs to a neighbor that has closed reset the connection, which is lost as ever, and not refused."""
    settings = config(neighbor=[to_peer(peer.port)])
    async with running(settings, listen_port=free_port()) as (former, recorder):
        await peer.open()
        await until(lambda: recorder.sources)
        left = left_by(former)
        peer.write(encode_notification(6, 2))
        assert peer.writer is not None
        peer.writer.close()
        await peer.writer.wait_closed()
        (session,) = left.sessions
        session.keep_alive()
        await until(lambda: not is_connected(session.socket))
        session.keep_alive()
        speaker, heard = await successor(settings, left)
        await asyncio.sleep(0)
        assert heard.closed == []
        async with begun(speaker):
            await until(lambda: heard.closed)
        assert heard.closed == ["the neighbor sent cease/administrative-shutdown"]


async def test_garbage_is_answered_with_header_error(peer: RawPeer) -> None:
    async with running(config(neighbor=[to_peer(peer.port)]), listen_port=free_port()) as (speaker, _):
        await peer.open(establish=False)
        peer.write(b"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n")
        assert await peer.notification() == (1, 1, b"")
        await until(lambda: "not BGP" in last_error(speaker))


async def test_malformed_update_resets_the_session_and_the_session_comes_back(peer: RawPeer) -> None:
    async with running(config(neighbor=[to_peer(peer.port)]), listen_port=free_port()) as (speaker, recorder):
        await peer.open()
        await until(lambda: recorder.sources)
        peer.write(encode_message(MessageType.UPDATE, b"\xff\xff\0\0"))
        assert (await peer.notification())[:2] == (3, 1)
        assert "malformed UPDATE" in last_error(speaker)
        await peer.open()
        await until(lambda: recorder.established == 2)


async def test_messages_keep_their_order_when_the_loop_must_breathe(
    peer: RawPeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver_module, "STEP_S", -1.0)
    async with running(config(neighbor=[to_peer(peer.port)]), listen_port=free_port()) as (_, recorder):
        await peer.open()
        await until(lambda: recorder.sources)
        peer.write(UPDATE * 5000)
        await until(lambda: len(recorder.ended) == 5000)
        assert recorder.closed == []


@contextlib.contextmanager
def churn(speaker: Speaker, recorder: Recorder) -> Iterator[list[Any]]:
    """Routes go out to the neighbor at every turn of the loop; what the loop was told of exceptions."""
    loop = asyncio.get_running_loop()
    raised: list[Any] = []
    loop.set_exception_handler(lambda _, context: raised.append(context))
    attributes = Attributes.of()
    keys = [parse_prefix(f"10.{number}.0.0/16")[1] for number in range(100)]
    batch = RouteBatch(family=Family.IPV4_UNICAST, announced=keys, attributes=attributes)
    running = True

    def turn() -> None:
        for source in recorder.sources.values():
            speaker.neighbors.send(source, batch)
        if running:
            loop.call_soon(turn)

    turn()
    yield raised
    running = False


@pytest.mark.parametrize(
    "last", [encode_notification(6, 4), b"\0" * 19, open_bytes()], ids=["cease", "garbage", "open"]
)
async def test_session_that_ends_while_routes_go_out_costs_itself_only(
    peer: RawPeer, monkeypatch: pytest.MonkeyPatch, last: bytes
) -> None:
    """With each output in a turn of its own, and routes sent between every two of them."""
    monkeypatch.setattr(driver_module, "STEP_S", -1.0)
    monkeypatch.setattr(retries_module, "FIRST_RETRY_S", 0.01)
    async with running(config(neighbor=[to_peer(peer.port)])) as (speaker, recorder):
        with churn(speaker, recorder) as raised:
            for _ in range(5):
                recorder.closed.clear()
                await peer.open(establish=False)
                peer.write(open_bytes() + KEEPALIVE + last)
                await until(lambda: recorder.closed)
        assert raised == []


async def test_wire_takes_no_more_once_it_is_finished(peer: RawPeer) -> None:
    wire = await dial(Target(address=parse_address("127.0.0.2"), port=peer.port))
    reader, _ = await peer.connections.get()
    wire.write(b"last words")
    wire.finish()
    wire.write(b"and more")
    wire.finish()
    assert await reader.read() == b"last words"
    wire.abort()


@pytest.mark.parametrize("flood", [KEEPALIVE, UPDATE, REFRESH, BEGIN, END])
async def test_flood_of_any_message_is_worked_off_so_many_at_a_turn(
    peer: RawPeer, monkeypatch: pytest.MonkeyPatch, flood: bytes
) -> None:
    monkeypatch.setattr(driver_module, "STEP_S", 1e9)
    monkeypatch.setattr(driver_module, "STEP_MESSAGES", 10)
    async with running(config(neighbor=[to_peer(peer.port)]), listen_port=free_port()) as (_, recorder):
        await peer.open()
        await until(lambda: recorder.sources)
        counts: list[int] = []
        steps: list[int] = []
        received = Connection._message_received
        work = Driver._work

        def counted(self: Connection, *arguments: Any) -> Any:
            counts.append(1)
            return received(self, *arguments)

        def step(self: Driver, end: float) -> bool:
            before = len(counts) + len(recorder.ended)
            done = work(self, end)
            steps.append(len(counts) + len(recorder.ended) - before)
            return done

        monkeypatch.setattr(Connection, "_message_received", counted)
        monkeypatch.setattr(Driver, "_work", step)
        peer.write(flood * 1000)
        await until(lambda: len(counts) + len(recorder.ended) >= 1000)
        assert max(steps) <= 10
        assert recorder.closed == []


async def test_update_with_many_kinds_of_routes_is_passed_on_in_slices_and_in_order(
    peer: RawPeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each EVPN route has a gateway of its own here, and so a batch of its own."""

    def route(number: int) -> bytes:
        low = number.to_bytes(2)
        return bytes((5, 34, 0, 1, 10, 0, 0, 1, *low)) + bytes(14) + bytes((32, 10, 0, *low, 10, 1, *low, 0, 0, 9))

    def update_of(numbers: range, kind: int) -> bytes:
        head = b"\0\x19\x46" if kind == 15 else b"\0\x19\x46\4\x0a\0\1\2\0"
        value = head + b"".join(map(route, numbers))
        block = bytes((0x90, kind)) + len(value).to_bytes(2) + value + bytes.fromhex("40010100 40020602010000feb1")
        return encode_message(MessageType.UPDATE, b"\0\0" + len(block).to_bytes(2) + block)

    monkeypatch.setattr(driver_module, "STEP_S", -1.0)
    options = {"listen_port": free_port(), "nlri_decoders": {Family.L2VPN_EVPN: EvpnNlri()}}
    async with running(config(neighbor=[to_peer(peer.port, families=["l2vpn-evpn"])]), **options) as (_, recorder):
        await peer.open(multiprotocol=((25, 70),), extended_message=True)
        await until(lambda: recorder.sources)
        steps: list[int] = []
        work = Driver._work

        def step(self: Driver, end: float) -> bool:
            before = recorder.batches
            done = work(self, end)
            steps.append(recorder.batches - before)
            return done

        monkeypatch.setattr(Driver, "_work", step)
        peer.write(update_of(range(1500), 14) + update_of(range(1000), 15))
        await until(lambda: sum(steps) >= 1501)
        assert max(steps) <= MANY + 1
        await until(lambda: len(recorder.overlays) == 500)
        assert recorder.closed == []


async def test_thousands_of_requests_and_a_reset_are_one_answer(peer: RawPeer) -> None:
    async with running(config(neighbor=[to_peer(peer.port)]), listen_port=free_port()) as (_, recorder):
        await peer.open()
        await until(lambda: recorder.sources)
        assert peer.writer is not None
        sock = peer.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.write(REFRESH * 2849)
        await peer.writer.drain()
        peer.writer.transport.abort()
        await until(lambda: recorder.closed)
        assert len(recorder.refreshes) <= 1


async def test_request_that_waits_is_answered_after_the_one_before(peer: RawPeer) -> None:
    async with running(config(neighbor=[to_peer(peer.port)]), listen_port=free_port()) as (speaker, recorder):
        await peer.open()
        await until(lambda: recorder.sources)
        peer.write(REFRESH * 3 + UPDATE)
        await until(lambda: recorder.ended)
        assert recorder.refreshes == [("requested", Family.IPV4_UNICAST)]
        speaker.neighbors.send_refresh_ended(recorder.sources["peer"], Family.IPV4_UNICAST)
        await until(lambda: len(recorder.refreshes) == 2)
        speaker.neighbors.send_refresh_ended(recorder.sources["peer"], Family.IPV4_UNICAST)
        assert len(recorder.refreshes) == 2


async def test_full_connection_says_so_and_when_it_is_not_full_any_more(peer: RawPeer) -> None:
    async with running(config(neighbor=[to_peer(peer.port)]), listen_port=free_port()) as (speaker, recorder):
        await peer.open()
        await until(lambda: recorder.sources)
        source = recorder.sources["peer"]
        assert speaker.neighbors.has_room(source)
        keys = [bytes((32, 10, number >> 16, number >> 8 & 255, number & 255)) for number in range(50_000)]
        while speaker.neighbors.has_room(source):
            speaker.neighbors.send(
                source, RouteBatch(family=Family.IPV4_UNICAST, announced=keys, attributes=Attributes.of())
            )
            await asyncio.sleep(0)
        assert recorder.drained == 0
        while not recorder.drained:
            await peer.read()
        assert speaker.neighbors.has_room(source)


async def test_peer_that_never_reads_is_given_up(peer: RawPeer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver_module, "MAX_UNSENT", 1_000_000)
    async with running(config(neighbor=[to_peer(peer.port)]), listen_port=free_port()) as (speaker, recorder):
        await peer.open()
        await until(lambda: recorder.sources)
        source = recorder.sources["peer"]
        keys = [bytes((32, 10, number >> 16, number >> 8 & 255, number & 255)) for number in range(200_000)]
        batch = RouteBatch(family=Family.IPV4_UNICAST, announced=keys, attributes=Attributes.of())
        for _ in range(20):
            speaker.neighbors.send(source, batch)
            await asyncio.sleep(0)
        await until(lambda: recorder.closed)
        assert "does not read" in recorder.closed[0]


async def test_reset_sends_maximum_prefixes_and_refuses_the_neighbor(peer: RawPeer) -> None:
    port = free_port()
    async with running(config(neighbor=[to_peer(peer.port)]), listen_port=port) as (speaker, recorder):
        await peer.open()
        await until(lambda: recorder.sources)
        speaker.neighbors.reset("peer", reason="more than 10 prefixes", subcode=CeaseSubcode.MAXIMUM_PREFIXES)
        assert await peer.notification() == (6, 1, b"")
        assert last_error(speaker) == "more than 10 prefixes; refused for 60 s, or until that is raised"
        reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=("127.0.0.2", 0))
        with contextlib.suppress(ConnectionResetError):
            assert await asyncio.wait_for(reader.read(), 2) == b""
        writer.close()
        assert speaker.neighbor_views()[0].state == "idle"


async def test_configured_neighbors_are_shown_before_the_first_of_them_is_dialed(peer: RawPeer) -> None:
    neighbors = [to_peer(peer.port, name="zwei"), to_peer(peer.port, name="eins", asn="external", interface="eth9")]
    recorder = Recorder()
    speaker = Speaker(
        config(neighbor=neighbors).speaker,
        host=Host(lambda _: None),
        routes=recorder,
        events=recorder,
        nlri_decoders={},
        listen_port=free_port(),
    )
    first, second = speaker.neighbor_views()
    assert (first.name, first.state, first.asn, first.interface) == ("eins", "idle", 0, "eth9")
    assert (second.name, second.asn, second.local_asn) == ("zwei", 65201, 65203)
    assert first.last_error.startswith("waiting for the daemon's start")


async def test_policy_change_keeps_the_session_and_timers_reset_it(peer: RawPeer) -> None:
    async with running(config(neighbor=[to_peer(peer.port)]), listen_port=free_port()) as (speaker, recorder):
        await peer.open()
        await until(lambda: recorder.sources)
        speaker.reconfigure(config(neighbor=[to_peer(peer.port, **{"import": "none", "max_prefixes": 10})]))
        assert recorder.closed == []
        speaker.reconfigure(config(neighbor=[to_peer(peer.port, hold_time_s=30)]))
        assert (await peer.notification())[:2] == (6, 6)
        await peer.open()
        await until(lambda: recorder.established == 2)
        speaker.reconfigure(config())
        assert (await peer.notification())[:2] == (6, 3)
        assert speaker.neighbor_views() == []


async def test_listen_range_names_limits_and_forgets(peer: RawPeer) -> None:
    port = free_port()
    listen = {"prefix": "127.0.0.0/8", "asn": "external", "import": "all", "max_neighbors": 1}
    async with running(config(listen=[listen]), listen_port=port) as (speaker, recorder):
        first = await asyncio.open_connection("127.0.0.1", port, local_addr=("127.0.0.3", 0))
        first[1].write(open_bytes() + KEEPALIVE)
        await until(lambda: recorder.sources)
        assert list(recorder.sources) == ["127.0.0.0/8-127.0.0.3"]
        second = await asyncio.open_connection("127.0.0.1", port, local_addr=("127.0.0.4", 0))
        with contextlib.suppress(ConnectionResetError):
            assert await asyncio.wait_for(second[0].read(), 2) == b""
        first[1].close()
        second[1].close()
        await until(lambda: not speaker.neighbor_views())


async def connect_from(port: int, number: int, said: bytes = b"") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(f"127.0.1.{number}", 0))
    writer.write(said)
    return reader, writer


async def test_connections_that_say_nothing_take_no_place_and_the_oldest_gives_way() -> None:
    port = free_port()
    listen = {"prefix": "127.0.1.0/24", "asn": "external", "import": "all", "max_neighbors": 2}
    listen["max_neighbors_per_interface"] = 2
    async with running(config(listen=[listen]), listen_port=port) as (speaker, recorder):
        silent = [await connect_from(port, number) for number in range(1, 9)]
        for reader, _ in silent[:6]:
            assert bytes((3, 6, 5)) in await asyncio.wait_for(reader.read(), 3)
        assert len(speaker.neighbor_views()) == 2
        good = await connect_from(port, 100, open_bytes() + KEEPALIVE)
        await until(lambda: recorder.sources)
        for _, writer in (*silent, good):
            writer.close()
        await until(lambda: not speaker.neighbor_views())


async def test_a_refused_dynamic_neighbor_is_told_apart_from_a_stranger(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places_module, "BURST", 1)
    monkeypatch.setattr(places_module, "EVERY_S", 1000.0)
    port = free_port()
    listen = {"prefix": "127.0.1.0/24", "asn": "external", "import": "all"}
    with capture_logs() as lines:
        async with running(config(listen=[listen]), listen_port=port):
            opened = [await connect_from(port, number) for number in (1, 2)]
            reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=("127.0.2.1", 0))
            for one in (opened[-1][0], reader):
                with contextlib.suppress(ConnectionResetError):
                    assert await asyncio.wait_for(one.read(), 3) == b""
            for _, one in (*opened, (reader, writer)):
                one.close()
    refused = [(line["event"], line["address"]) for line in lines if line["event"].endswith(".refused")]
    assert refused == [("listen.refused", "127.0.1.2"), ("connection.refused", "127.0.2.1")]
    reason = next(line["reason"] for line in lines if line["event"] == "listen.refused")
    assert reason.startswith("dynamic neighbors connect too often by ")


async def test_connections_that_become_established_together_are_no_more_than_there_may_be() -> None:
    port = free_port()
    listen = {"prefix": "127.0.1.0/24", "asn": "external", "import": "all", "max_neighbors": 1}
    async with running(config(listen=[listen]), listen_port=port) as (_, recorder):
        opened = [await connect_from(port, number, open_bytes()) for number in (1, 2, 3)]
        for reader, _ in opened:
            await asyncio.wait_for(reader.readuntil(KEEPALIVE), 3)
        for _, writer in opened:
            writer.write(KEEPALIVE)
        refused = [reader for reader, _ in opened[1:]]
        for reader in refused:
            data = await asyncio.wait_for(reader.read(), 3)
            assert bytes((3, 6, 5)) in data
        assert len(recorder.sources) == recorder.established == 1
        for _, writer in opened:
            writer.close()


@pytest.mark.parametrize("hold_time_s", [0, 3, 9])
async def test_dynamic_neighbor_needs_a_hold_time(hold_time_s: int) -> None:
    port = free_port()
    listen = {"prefix": "127.0.1.0/24", "asn": "external", "import": "all", "min_hold_time_s": 9}
    async with running(config(listen=[listen]), listen_port=port) as (_, recorder):
        reader, writer = await connect_from(port, 1, open_bytes(hold_time_s=hold_time_s) + KEEPALIVE)
        if hold_time_s == 9:
            await until(lambda: recorder.sources)
        else:
            assert bytes((3, 2, 6)) in await asyncio.wait_for(reader.read(), 3)
            assert recorder.established == 0
        writer.close()


async def test_who_connects_without_end_fills_no_log() -> None:
    port = free_port()
    listen = {"prefix": "127.0.1.0/24", "asn": "external", "import": "all"}
    with capture_logs() as records:
        async with running(config(listen=[listen]), listen_port=port) as (speaker, _):
            for number in range(1, 101):
                _, writer = await connect_from(port, number)
                writer.close()
                await writer.wait_closed()
            await until(lambda: not speaker.neighbor_views())
    failed = [record for record in records if record["event"] == "session.failed"]
    assert len(failed) <= BURST_LINES + 1


async def test_neighbor_of_a_range_is_refused_after_too_many_prefixes_as_any_other() -> None:
    async def connect() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=("127.0.0.3", 0))
        writer.write(open_bytes() + KEEPALIVE)
        return reader, writer

    port = free_port()
    listen = {"prefix": "127.0.0.0/8", "asn": "external", "import": "all", "max_prefixes_restart_after_s": 1}
    async with running(config(listen=[listen]), listen_port=port) as (speaker, recorder):
        _, writer = await connect()
        await until(lambda: recorder.sources)
        reason = "sent 11 prefixes, more than max_prefixes"
        speaker.neighbors.reset("127.0.0.0/8-127.0.0.3", reason=reason, subcode=CeaseSubcode.MAXIMUM_PREFIXES)
        await until(lambda: not recorder.sources)
        writer.close()
        for _ in range(3):
            reader, writer = await connect()
            with contextlib.suppress(ConnectionResetError):
                assert await asyncio.wait_for(reader.read(), 2) == b""
            writer.close()
        (view,) = speaker.neighbor_views()
        assert (view.state, recorder.established) == ("idle", 1)
        assert "more than max_prefixes; refused for" in view.last_error
        await until(lambda: not speaker.neighbor_views())
        _, writer = await connect()
        await until(lambda: recorder.established == 2)
        writer.close()


RANGE = {"prefix": "127.0.1.0/24", "asn": "external", "import": "all"}
NAMED = {"name": "named", "asn": "external", "import": "all", "passive": True}


@pytest.mark.parametrize(
    ("change", "subcode", "views"),
    [
        ({"max_prefixes": 7, "min_hold_time_s": 9}, None, 1),
        ({"import": "none"}, None, 1),
        ({"local_asn": 65299}, 6, 0),
        ({"prefix": "127.0.2.0/24"}, 3, 0),
        ({"prefix": "127.0.0.0/16"}, 3, 0),
    ],
    ids=["no-op", "refresh", "reset", "gone", "another range"],
)
async def test_reload_of_a_range_costs_its_neighbors_what_the_plan_says(
    change: dict[str, Any], subcode: int | None, views: int
) -> None:
    port = free_port()
    other = {**RANGE, "prefix": "127.0.9.0/24"}
    async with running(config(listen=[RANGE, other]), listen_port=port) as (speaker, recorder):
        reader, writer = await connect_from(port, 1, open_bytes() + KEEPALIVE)
        _, other_writer = await asyncio.open_connection("127.0.0.1", port, local_addr=("127.0.9.1", 0))
        other_writer.write(open_bytes() + KEEPALIVE)
        await until(lambda: len(recorder.sources) == 2)
        speaker.reconfigure(config(listen=[{**RANGE, **change}, other]))
        if subcode is None:
            assert recorder.closed == []
        else:
            assert bytes((3, 6, subcode)) in await asyncio.wait_for(reader.read(), 10)
            assert len(recorder.closed) == 1
        assert [view.name for view in speaker.neighbor_views()][-1] == "127.0.9.0/24-127.0.9.1"
        assert len(speaker.neighbor_views()) == 1 + views
        assert recorder.established == 2
        writer.close()
        other_writer.close()
        await until(lambda: not speaker.neighbor_views())


async def test_a_range_that_a_reload_adds_is_accepted_and_one_that_is_gone_is_not() -> None:
    port = free_port()
    async with running(config(), listen_port=port) as (speaker, recorder):
        speaker.reconfigure(config(listen=[RANGE]))
        _, writer = await connect_from(port, 1, open_bytes() + KEEPALIVE)
        await until(lambda: recorder.sources)
        speaker.reconfigure(config())
        await until(lambda: not recorder.sources)
        writer.close()
        reader, writer = await connect_from(port, 1, open_bytes())
        with contextlib.suppress(ConnectionResetError):
            assert await asyncio.wait_for(reader.read(), 10) == b""
        writer.close()
        assert speaker.neighbor_views() == []


@pytest.mark.parametrize(
    ("added", "name"),
    [
        ({"listen": [RANGE, {**RANGE, "prefix": "127.0.1.0/25"}]}, "127.0.1.0/25-127.0.1.1"),
        ({"listen": [RANGE], "neighbor": [{**NAMED, "address": "127.0.1.1"}]}, "named"),
    ],
    ids=["range", "neighbor"],
)
async def test_neighbor_of_a_range_becomes_that_of_a_section_that_a_reload_adds_for_it(
    added: dict[str, Any], name: str
) -> None:
    """As at a start: the more specific section counts. One with an address of its own would not come up beside it."""
    port = free_port()
    async with running(config(listen=[RANGE]), listen_port=port) as (speaker, recorder):
        reader, writer = await connect_from(port, 1, open_bytes() + KEEPALIVE)
        _, other = await connect_from(port, 200, open_bytes() + KEEPALIVE)
        await until(lambda: len(recorder.sources) == 2)
        speaker.reconfigure(config(**added))
        assert bytes((3, 6, 6)) in await asyncio.wait_for(reader.read(), 10)
        assert len(recorder.closed) == 1
        writer.close()
        _, writer = await connect_from(port, 1, open_bytes() + KEEPALIVE)
        await until(lambda: len(recorder.sources) == 2)
        assert recorder.sources.keys() == {name, "127.0.1.0/24-127.0.1.200"}
        writer.close()
        other.close()


async def test_raised_limit_of_a_range_counts_for_those_that_come_next() -> None:
    port = free_port()
    async with running(config(listen=[{**RANGE, "max_neighbors": 1}]), listen_port=port) as (speaker, recorder):
        _, first = await connect_from(port, 1, open_bytes() + KEEPALIVE)
        await until(lambda: recorder.sources)
        speaker.reconfigure(config(listen=[{**RANGE, "max_neighbors": 2}]))
        _, second = await connect_from(port, 2, open_bytes() + KEEPALIVE)
        await until(lambda: recorder.established == 2)
        assert recorder.closed == []
        first.close()
        second.close()


async def test_stranger_is_refused() -> None:
    port = free_port()
    async with running(config(), listen_port=port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        with contextlib.suppress(ConnectionResetError):
            assert await asyncio.wait_for(reader.read(), 2) == b""
        writer.close()


def drop_large_segments(sock: socket.socket) -> None:
    """Have the kernel drop received segments of more than 1,000 bytes, as a path with a smaller MTU does."""
    program = struct.pack("=HBBI", 0x80, 0, 0, 0)  # the length of the packet
    program += struct.pack("=HBBI", 0x25, 0, 1, 1000)  # greater: the next, else the one after it
    program += struct.pack("=HBBI", 0x06, 0, 0, 0) + struct.pack("=HBBI", 0x06, 0, 0, 0xFFFFFFFF)
    attach_filter(sock, program)


async def test_hold_timer_that_expires_while_large_segments_are_lost_hints_at_the_mtu(peer: RawPeer) -> None:
    async with running(config(neighbor=[to_peer(peer.port)]), listen_port=free_port()) as (speaker, recorder):
        await peer.open(hold_time_s=3)
        await until(lambda: recorder.sources)
        neighbor = speaker.neighbors.named("peer")
        assert neighbor is not None
        (wire,) = neighbor._driver.wires
        drop_large_segments(wire.socket)
        assert stuck_text(wire.socket) == ""
        peer.write(UPDATE * 100)
        while not recorder.closed:
            await asyncio.sleep(0.2)
            peer.write(KEEPALIVE)
        assert recorder.closed[0].startswith(
            "hold timer expired: no KEEPALIVE or UPDATE in time; large segments may have"
        )
        assert "(ping -M do -s " in last_error(speaker)


async def test_data_that_is_never_acknowledged_hints_at_the_mtu_too(peer: RawPeer) -> None:
    wire = await dial(Target(address=parse_address("127.0.0.2"), port=peer.port))
    _, writer = await peer.connections.get()
    drop_large_segments(writer.get_extra_info("socket"))
    wire.write(bytes(100_000))
    await until(lambda: stuck_text(wire.socket))
    wire.abort()


async def test_timers_and_end_of_rib_are_shown_as_negotiated(peer: RawPeer) -> None:
    neighbor = to_peer(peer.port, hold_time_s=90)
    async with running(config(neighbor=[neighbor]), listen_port=free_port()) as (speaker, recorder):
        await peer.open(hold_time_s=11, multiprotocol=((1, 1), (2, 1)), graceful=True)
        await until(lambda: recorder.sources)
        (source,) = recorder.sources.values()
        (view,) = speaker.neighbor_views()
        assert (view.hold_time_s, view.keepalive_time_s, view.end_of_rib) == (11, 3, [])
        assert recorder.negotiated["peer"].keepalive_time_s == 3
        assert speaker.sends_end_of_rib(source)
        assert view.negotiated == ["four-octet-as", "route-refresh", "enhanced-route-refresh", "graceful-restart"]
        peer.write(UPDATE)
        await until(lambda: recorder.ended)
        assert speaker.neighbor_views()[0].end_of_rib == ["ipv4-unicast"]
        assert speaker.awaiting_end_of_rib() == [(source, Family.IPV6_UNICAST)]


async def test_port_in_use_is_told_dials_go_on_and_listening_is_retried(
    peer: RawPeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speaker_module, "ROUND_S", 0.01)
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        port = taken.getsockname()[1]
        async with running(config(neighbor=[to_peer(peer.port)]), listen_port=port) as (speaker, recorder):
            await peer.open()
            await until(lambda: recorder.sources)
            assert f"cannot listen on 0.0.0.0:{port}: another program has the port" in speaker.error
            taken.close()
            await until(lambda: not speaker.error)
            _, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=("127.0.0.2", 0))
            writer.close()


async def test_lost_link_and_lost_address_end_the_session_at_once(peer: RawPeer) -> None:
    async with running(config(neighbor=[to_peer(peer.port)]), listen_port=free_port()) as (_, recorder):
        await peer.open()
        await until(lambda: recorder.sources)
        recorder.host.link(DOWN)
        assert recorder.closed == ["link lo went down"]
        recorder.host.link(LOOPBACK)
        await peer.open()
        await until(lambda: recorder.sources)
        recorder.host.address(address("127.0.0.1/8"), gone=True)
        assert recorder.closed[1:] == ["local address 127.0.0.1 was removed from lo"]


async def test_shutdown_of_graceful_restart_sends_no_notification(peer: RawPeer) -> None:
    neighbor = to_peer(peer.port, graceful_restart={"restart_time_s": 30})
    async with running(config(neighbor=[neighbor]), listen_port=free_port()) as (speaker, recorder):
        await peer.open(graceful=True)
        await until(lambda: recorder.sources)
        await speaker.shutdown("upgrade", gracefully=True)
        assert await asyncio.wait_for(peer.reader.read(), 2) == b""


async def test_neighbor_that_keeps_nothing_is_told_of_a_restart(peer: RawPeer) -> None:
    neighbor = to_peer(peer.port, graceful_restart={"restart_time_s": 30})
    async with running(config(neighbor=[neighbor]), listen_port=free_port()) as (speaker, recorder):
        await peer.open()
        await until(lambda: recorder.sources)
        await speaker.shutdown("upgrade", gracefully=True)
        assert (await peer.notification())[:2] == (6, 2)


async def test_shutdown_for_good_is_told_to_neighbors_with_graceful_restart(peer: RawPeer) -> None:
    neighbor = to_peer(peer.port, graceful_restart={"restart_time_s": 30})
    async with running(config(neighbor=[neighbor]), listen_port=free_port()) as (speaker, recorder):
        await peer.open()
        await until(lambda: recorder.sources)
        await speaker.shutdown("removed", gracefully=False)
        assert (await peer.notification())[:2] == (6, 2)


async def test_messages_to_an_ended_session_are_dropped(peer: RawPeer) -> None:
    async with running(config(neighbor=[to_peer(peer.port)]), listen_port=free_port()) as (speaker, recorder):
        await peer.open()
        await until(lambda: recorder.sources)
        old = recorder.sources["peer"]
        assert peer.writer is not None
        peer.writer.close()
        await until(lambda: recorder.closed)
        await peer.open()
        await until(lambda: recorder.sources)
        speaker.neighbors.send_end_of_rib(old, Family.IPV4_UNICAST)
        speaker.neighbors.send_end_of_rib(recorder.sources["peer"], Family.IPV4_UNICAST)
        assert await peer.read() == (MessageType.UPDATE, bytes(4))
        peer.write(encode_notification(6, 4))
        assert await peer.reader.read() == b""


async def test_address_that_comes_later_becomes_the_next_hop_and_routes_are_sent_again(peer: RawPeer) -> None:
    async with running(config(neighbor=[to_peer(peer.port)]), listen_port=free_port()) as (speaker, recorder):
        await peer.open(multiprotocol=((1, 1), (2, 1)))
        await until(lambda: recorder.sources)
        family, key = parse_prefix("2001:db8:64::/64")
        batch = RouteBatch(family=family, announced=[key], attributes=Attributes.of())
        speaker.neighbors.send(recorder.sources["peer"], batch)
        kind, body = await peer.read()
        assert kind is MessageType.UPDATE
        assert parse_address("2001:db8::1") not in body
        for usable in (False, True):
            recorder.host.address(address("2001:db8::1/64", usable=usable))
            assert recorder.refreshes == ([("requested", Family.IPV6_UNICAST)] if usable else [])
        speaker.neighbors.send(recorder.sources["peer"], batch)
        assert parse_address("2001:db8::1") in (await peer.read())[1]


async def test_password_that_comes_later_opens_a_passive_neighbor_and_a_range(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speaker_module, "ROUND_S", 0.01)
    path = tmp_path / "key"
    fields: dict[str, Any] = {"password_file": str(path)}
    listen = {"prefix": "127.0.1.0/24", "asn": "external", "import": "all", **fields}
    configuration = config(neighbor=[to_peer(1, passive=True, **fields)], listen=[listen])
    port = free_port()
    async with running(configuration, listen_port=port) as (speaker, recorder):
        await until(lambda: "No such file" in last_error(speaker) and "No such file" in speaker.error)
        path.write_text("secret")
        await until(lambda: not speaker.error)
        for source in ("127.0.0.2", "127.0.1.7"):
            target = Target(
                address=parse_address("127.0.0.1"),
                port=port,
                source=parse_address(source),
                authentication=Md5(b"secret"),
            )
            wire = await dial(target)
            wire.write(open_bytes() + KEEPALIVE)
            await until(lambda: recorder.sources)
            recorder.sources.clear()
            wire.finish()


async def test_reload_while_the_listener_opens_makes_no_second_session(peer: RawPeer) -> None:
    configuration = config(neighbor=[to_peer(peer.port)])
    async with running(configuration) as (speaker, recorder):
        speaker.reconfigure(configuration.speaker)
        await peer.open()
        await until(lambda: recorder.established)
        await asyncio.sleep(0.2)
        assert peer.connections.empty()
        assert [view.state for view in speaker.neighbor_views()] == ["established"]


async def test_listens_in_a_vrf_as_soon_as_it_has_a_neighbor_there() -> None:
    port = free_port()
    tenant = {"name": "blue", "table": 1001}
    async with running(config(), listen_port=port) as (speaker, recorder):
        recorder.host.link(Link(index=9, name="blue", up=True, kind="vrf"))
        with capture_logs() as logs:
            speaker.reconfigure(config(vrf=[tenant], neighbor=[to_peer(port, vrf="blue")]).speaker)
    tried = [entry["vrf"] for entry in logs if entry["event"] == "listen.failed"]
    assert tried == ["blue"]  # there is no such device: the kernel refuses it
