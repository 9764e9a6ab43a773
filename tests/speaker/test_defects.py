"""An exception of bgpd's own while one neighbor's bytes are worked off: that session ends, and no other."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from bgpd.message.exabgp_codec import KEEPALIVE, encode_notification
from bgpd.message.update_decoder import UpdateDecoder
from bgpd.model.as_path import AsPathSegment
from bgpd.model.attributes import Attributes
from bgpd.model.iana import Family, SegmentType
from bgpd.model.prefix import parse_prefix
from bgpd.model.route_batch import RouteBatch
from bgpd.model.views.sessions import NeighborView
from bgpd.runtime.shared_state import SharedStateBroken, changes_shared_state
from bgpd.runtime.turns import soon
from bgpd.speaker import defects as defects_module
from bgpd.speaker import reach as reach_module
from bgpd.speaker import session as session_module
from bgpd.speaker.defects import FIRST_PAUSE_S, FORGET_S, KEPT_BYTES, MAX_NEIGHBORS, MAX_PAUSE_S, Defects
from bgpd.speaker.driver import Driver
from bgpd.speaker.speaker import Speaker
from tests.daemon.wire_peer import update
from tests.interop.recording_speaker import Recorder
from tests.speaker.messages import REFRESH, open_bytes
from tests.speaker.raw_peer import RawPeer
from tests.speaker.test_speaker import config, free_port, running, to_peer
from tests.waiting import until

ROUTE = update(("10.9.0.0/16",), asn=65201)
OTHER = update(("10.8.0.0/16",), asn=65201)
V4 = Family.IPV4_UNICAST


@contextlib.asynccontextmanager
async def established(peer: RawPeer, **fields: Any) -> AsyncIterator[tuple[Speaker, Recorder, list[dict[str, Any]]]]:
    """A speaker with its session to `peer`; what its loop is told of exceptions is collected."""
    raised: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: raised.append(context))
    async with running(config(neighbor=[to_peer(peer.port)])) as (speaker, recorder):
        await peer.open(**fields)
        await until(lambda: recorder.established == 1)
        yield speaker, recorder, raised


def view(speaker: Speaker) -> NeighborView:
    (found,) = speaker.neighbor_views()
    return found


def failing(error: Exception) -> Any:
    def fail(*_: object, **__: object) -> Any:
        raise error

    return fail


async def test_update_that_the_decoder_cannot_cope_with_costs_the_session_and_is_kept(
    peer: RawPeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with established(peer) as (speaker, recorder, raised):
        monkeypatch.setattr(UpdateDecoder, "read_run", failing(RecursionError("too deep")))
        peer.write(ROUTE)
        assert await peer.notification() == (3, 0, b"")
        await until(lambda: recorder.closed)
        told = view(speaker)
        assert (told.defects, told.last_defect) == (1, "RecursionError: too deep")
        assert bytes.fromhex(told.last_defect_messages) == ROUTE
        assert told.last_defect_at is not None
        assert told.refused_until is not None
        assert told.refused_until > told.last_defect_at
        assert "RecursionError" in told.last_error
        assert "refused for 5 s" in told.last_error
        assert raised == []


@pytest.mark.parametrize("waits", [False, True], ids=["at once", "a turn later"])
async def test_routes_that_the_rib_cannot_cope_with_cost_the_session_and_the_whole_run_is_kept(
    peer: RawPeer, monkeypatch: pytest.MonkeyPatch, waits: bool
) -> None:
    received = Driver._received

    def received_while_others_work(self: Driver, number: int, data: bytes) -> None:
        if waits:
            soon(lambda: None)
        received(self, number, data)

    monkeypatch.setattr(Driver, "_received", received_while_others_work)
    async with established(peer) as (speaker, recorder, raised):
        monkeypatch.setattr(recorder, "routes_received", failing(ValueError("odd")))
        peer.write(ROUTE + OTHER)
        assert await peer.notification() == (6, 0, b"")
        await until(lambda: recorder.closed)
        assert bytes.fromhex(view(speaker).last_defect_messages).startswith(ROUTE)
        assert raised == []


async def test_dial_that_raises_costs_its_neighbor_and_is_kept(peer: RawPeer, monkeypatch: pytest.MonkeyPatch) -> None:
    raised: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: raised.append(context))
    monkeypatch.setattr(reach_module, "target_of", failing(ValueError("odd")))
    monkeypatch.setattr(defects_module, "FIRST_PAUSE_S", 0.05)
    async with running(config(neighbor=[to_peer(peer.port)])) as (speaker, recorder):
        await until(lambda: view(speaker).defects)
        assert view(speaker).last_defect == "ValueError: odd"
        monkeypatch.undo()
        await peer.open()
        await until(lambda: recorder.established == 1)
        assert raised == []


async def test_memory_that_ends_in_the_decoder_is_told_as_out_of_resources(
    peer: RawPeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with established(peer) as (_, _, raised):
        monkeypatch.setattr(UpdateDecoder, "read_run", failing(MemoryError()))
        peer.write(ROUTE)
        assert await peer.notification() == (6, 8, b"")
        assert raised == []


async def test_notification_and_refresh_that_raise_cost_the_session(
    peer: RawPeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(defects_module, "FIRST_PAUSE_S", 0.01)
    async with established(peer) as (speaker, recorder, raised):
        monkeypatch.setattr(session_module, "describe_notification", failing(RecursionError()))
        said = encode_notification(6, 2)
        peer.write(said)
        await until(lambda: recorder.closed)
        assert bytes.fromhex(view(speaker).last_defect_messages) == said
        await peer.open()
        await until(lambda: recorder.established == 2)
        monkeypatch.setattr(recorder, "refresh_requested", failing(KeyError("family")))
        peer.write(REFRESH)
        assert await peer.notification() == (6, 0, b"")
        await until(lambda: view(speaker).defects == 2)
        assert bytes.fromhex(view(speaker).last_defect_messages) == REFRESH
        assert raised == []


async def test_broken_shared_state_is_told_to_the_loop_and_not_hidden(
    peer: RawPeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with established(peer) as (speaker, recorder, raised):
        monkeypatch.setattr(recorder, "routes_received", changes_shared_state(failing(ValueError("half done"))))
        peer.write(ROUTE)
        await until(lambda: raised)
        error = raised[0]["exception"]
        assert isinstance(error, SharedStateBroken)
        assert isinstance(error.__cause__, ValueError)
        assert not {"protocol", "transport"} & raised[0].keys()
        assert view(speaker).defects == 0


async def test_what_is_done_for_a_session_alone_costs_it_alone(peer: RawPeer) -> None:
    async with established(peer) as (speaker, recorder, raised):
        source = recorder.sources["peer"]
        speaker.neighbors.fail(source, ValueError("export"))
        speaker.neighbors.fail(source, ValueError("told twice"))
        assert await peer.notification() == (6, 0, b"")
        assert (view(speaker).defects, view(speaker).last_defect) == (1, "ValueError: export")
        assert raised == []


async def test_routes_that_cannot_be_encoded_are_withdrawn_and_the_session_stays(peer: RawPeer) -> None:
    """A path of a two-octet session has twice the bytes on a four-octet one, more than an attribute can hold."""
    keys = [parse_prefix("10.7.0.0/16")[1]]
    path = tuple(AsPathSegment(SegmentType.AS_SEQUENCE, (65202,) * 255) for _ in range(80))
    async with established(peer) as (speaker, recorder, raised):
        source = recorder.sources["peer"]
        for _ in range(2):
            speaker.neighbors.send(
                source, RouteBatch(family=V4, announced=keys, attributes=Attributes.of(as_path=path))
            )
            while (message := await peer.read())[0] != 2:
                pass
            assert message[1] == b"\0\3" + keys[0] + b"\0\0"
        assert (recorder.closed, view(speaker).defects, raised) == ([], 0, [])


async def test_neighbor_of_a_range_is_held_off_as_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    monkeypatch.setattr(defects_module, "FIRST_PAUSE_S", 0.3)
    listen = {"prefix": "127.0.0.0/8", "asn": "external", "import": "all"}
    async with running(config(listen=[listen]), listen_port=port) as (speaker, recorder):
        connections = []

        async def connect() -> asyncio.StreamReader:
            reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=("127.0.0.2", 0))
            connections.append(writer)
            writer.write(open_bytes() + KEEPALIVE)
            return reader

        async with asyncio.timeout(5):
            while not connections:
                with contextlib.suppress(OSError):
                    await connect()
        await until(lambda: recorder.sources)
        (source,) = recorder.sources.values()
        speaker.neighbors.fail(source, ValueError("export"))
        with contextlib.suppress(ConnectionError):
            assert await (await connect()).read() == b""
        assert recorder.established == 1
        assert view(speaker).defects == 1
        await until(lambda: not speaker.neighbor_views())
        await connect()
        await until(lambda: recorder.established == 2)
        assert view(speaker).defects == 1
        for writer in connections:
            writer.close()


def test_the_pause_doubles_up_to_a_bound_and_is_short_again_after_an_hour() -> None:
    defects = Defects()
    now = 1000.0
    pauses = []
    for _ in range(12):
        pauses.append(defects.note("leaf1", ValueError(), b"", now=now).pause_s)
        now += pauses[-1] + 1
    assert pauses[:4] == [FIRST_PAUSE_S, 2 * FIRST_PAUSE_S, 4 * FIRST_PAUSE_S, 8 * FIRST_PAUSE_S]
    assert pauses[-1] == MAX_PAUSE_S
    assert defects.note("leaf2", ValueError(), b"", now=now).pause_s == FIRST_PAUSE_S
    assert defects.note("leaf1", ValueError(), b"", now=now + FORGET_S + 1).pause_s == FIRST_PAUSE_S


def test_what_is_kept_is_bounded() -> None:
    defects = Defects()
    for number in range(MAX_NEIGHBORS + 10):
        defects.note(f"vm{number}", ValueError(), bytes(KEPT_BYTES * 2), now=0.0)
    assert defects.view_of("vm0") == {}
    assert len(defects.view_of("vm100")["last_defect_messages"]) == 2 * KEPT_BYTES
    assert len(defects._known) == MAX_NEIGHBORS
