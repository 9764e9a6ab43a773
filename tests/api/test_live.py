"""What viewers are sent: rendered once for all, what was missed, and the end of one that does not read."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import aiohttp
import pytest

from bgpd.api import http_connection, live
from bgpd.api.live import Live
from bgpd.api.server import ApiServer
from bgpd.config.schema import ApiConfig
from bgpd.runtime.events import Event
from tests.api.test_connections import free_port
from tests.scripted_backend import NOW, ScriptedBackend
from tests.waiting import PATIENCE_S, until

URL = "http://127.0.0.1"
Messages = AsyncIterator[tuple[str, Any]]


class Hall:
    """A server with viewers."""

    def __init__(self, directory: Path) -> None:
        self.backend = ScriptedBackend()
        self.port = free_port()
        self.server = ApiServer(
            ApiConfig(socket=str(directory / "api.sock"), listen=f"127.0.0.1:{self.port}"), self.backend
        )

    def happen(self, name: str) -> None:
        self.backend.events.keep(Event("info", name, {}, NOW))

    def live(self) -> Live:
        """That of the TCP listener."""
        follow: Any = next(one.handler for one in self.server._https[1].app.routes if one.path == "/v1/live")
        found: Live = follow.__self__
        return found

    def viewers(self) -> set[Any]:
        return set(self.live()._viewers)

    @contextlib.asynccontextmanager
    async def viewer(self, http: aiohttp.ClientSession, **headers: str) -> AsyncIterator[Messages]:
        async with http.get(f"{URL}:{self.port}/v1/live", headers=headers) as response:
            assert response.status == 200
            assert response.content_type == "text/event-stream"
            yield messages(response)


async def messages(response: aiohttp.ClientResponse) -> Messages:
    """Name and data of each message of a stream; of an event also its ID."""
    fields: dict[str, str] = {}
    async for line in response.content:
        name, _, value = line.decode().rstrip("\n").partition(": ")
        if name:
            fields[name] = value
            continue
        if "event" in fields:
            data = json.loads(fields["data"])
            assert "id" not in fields or int(fields["id"]) == data["sequence"]
            yield fields["event"], data
        fields = {}


async def wait_for(stream: Messages, name: str) -> Any:
    async with asyncio.timeout(PATIENCE_S):
        async for found, data in stream:
            if found == name:
                return data
    raise AssertionError(f"the stream ended before {name}")


@pytest.fixture
async def hall(tmp_path: Path) -> AsyncIterator[Hall]:
    hall = Hall(tmp_path)
    await hall.server.start()
    yield hall
    await hall.server.stop()


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None)) as session:
        yield session


async def test_a_server_that_stops_ends_its_streams_at_once(
    hall: Hall, http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_connection, "STOP_PATIENCE_S", 10 * PATIENCE_S)
    async with hall.viewer(http) as stream:
        await wait_for(stream, "overview")
        async with asyncio.timeout(PATIENCE_S):
            await hall.server.stop()
            assert not [found async for found, _ in stream if found == "overview"]


async def test_viewer_sees_now_and_then_what_changes(hall: Hall, http: aiohttp.ClientSession) -> None:
    hall.happen("before.it")
    async with hall.viewer(http) as stream:
        assert await wait_for(stream, "clock") > NOW
        assert (await wait_for(stream, "overview"))["verdict"] == hall.backend.verdict
        hall.happen("session.closed")
        assert (await wait_for(stream, "happened"))["event"] == "session.closed"
        hall.backend.verdict = "It is us."
        assert (await wait_for(stream, "overview"))["verdict"] == "It is us."


async def test_fifty_viewers_share_one_rendering_and_nobody_is_rendered_for_when_they_have_gone(
    hall: Hall, http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "PERIOD_S", 0.05)
    async with contextlib.AsyncExitStack() as stack:
        streams = [await stack.enter_async_context(hall.viewer(http)) for _ in range(50)]
        await asyncio.gather(*(wait_for(stream, "overview") for stream in streams))
        before = hall.backend.overviews
        hall.backend.verdict = "other"
        await asyncio.gather(*(wait_for(stream, "overview") for stream in streams))
        assert hall.backend.overviews - before < 50
    await until(lambda: not hall.viewers() and hall.live()._task is None)


async def test_viewer_that_comes_back_gets_what_it_has_missed(hall: Hall, http: aiohttp.ClientSession) -> None:
    for number in range(5):
        hall.happen(f"event.{number}")
    async with hall.viewer(http, **{"Last-Event-ID": "3"}) as stream:
        assert [(await wait_for(stream, "happened"))["sequence"] for _ in range(2)] == [4, 5]
    for strange in ("900", "-1", "x", "9" * 400):  # of another run, or of nobody
        async with hall.viewer(http, **{"Last-Event-ID": strange}) as stream:
            hall.happen("now")
            assert (await wait_for(stream, "happened"))["event"] == "now"


async def test_viewer_that_never_reads_is_ended_and_the_others_are_not(
    hall: Hall, http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "PERIOD_S", 0.02)
    monkeypatch.setattr(live, "BYTES_PER_S", 1e9)
    monkeypatch.setattr(live, "GATHER_S", 0.0)
    _, writer = await asyncio.open_connection("127.0.0.1", hall.port, limit=1024)
    writer.write(b"GET /v1/live HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    await until(lambda: len(hall.viewers()) == 1)
    async with hall.viewer(http) as good:
        await wait_for(good, "overview")
        number = 0
        while len(hall.viewers()) == 2:
            number += 1
            assert number < 500
            hall.backend.verdict = f"{number}{'x' * 100_000}"
            assert (await wait_for(good, "overview"))["verdict"].startswith(str(number))
        hall.backend.verdict = "still there"
        assert (await wait_for(good, "overview"))["verdict"] == "still there"
    writer.close()


async def test_overview_that_fails_costs_no_viewer(
    hall: Hall, http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "PERIOD_S", 0.05)
    async with hall.viewer(http) as stream:
        await wait_for(stream, "overview")
        overview = hall.backend.overview

        def fails() -> Any:
            raise RuntimeError("a bug")

        monkeypatch.setattr(hall.backend, "overview", fails)
        hall.happen("still.there")
        await wait_for(stream, "happened")
        hall.backend.verdict = "again"
        monkeypatch.setattr(hall.backend, "overview", overview)
        assert (await wait_for(stream, "overview"))["verdict"] == "again"


@pytest.mark.parametrize("turns", range(8))
async def test_end_that_comes_with_an_event_is_an_end(turns: int) -> None:
    backend = ScriptedBackend()
    live = Live(backend)
    live._task = task = asyncio.create_task(live._run())
    await until(lambda: live._overview != b"")
    for _ in range(5):
        await asyncio.sleep(0)
    backend.events.keep(Event("info", "session.closed", {}, NOW))
    for _ in range(turns):
        await asyncio.sleep(0)
    ending = asyncio.create_task(live.stop())
    await until(task.done)
    await ending


async def test_who_comes_back_while_it_is_rendered_gets_each_event_once(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = ScriptedBackend()
    live = Live(backend)
    sent: list[bytes] = []
    back: Any = SimpleNamespace(headers={"Last-Event-ID": "0"})
    viewer = Mock(send=sent.append)

    async def comes_meanwhile() -> bytes:
        live._viewers.add(viewer)
        sent.append(live._missed(back))
        return b"event: overview\ndata: {}\n\n"

    monkeypatch.setattr(live, "_render", comes_meanwhile)
    backend.events.keep(Event("info", "session.closed", {}, NOW))
    await live._update(1000.0)
    assert b"".join(sent).count(b"session.closed") == 1


async def test_there_are_only_so_many_viewers(
    hall: Hall, http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        unlimited = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        await stack.enter_async_context(unlimited)
        for _ in range(live.MOST_VIEWERS):
            await stack.enter_async_context(hall.viewer(unlimited))
        async with unlimited.get(f"{URL}:{hall.port}/v1/live") as response:
            assert (response.status, response.headers["Retry-After"]) == (503, "1")
        async with unlimited.get(f"{URL}:{hall.port}/v1/pages/routes") as response:
            assert response.status == 200
