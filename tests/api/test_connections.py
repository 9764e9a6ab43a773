"""Connections of an API listener: how many, how long, how much, and for which host."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import socket
import struct
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bgpd.api import connections, server
from bgpd.api.access import HostCheck
from bgpd.api.backend import Answer, Rejected
from bgpd.api.connections import Credentials, Places
from bgpd.api.server import ApiServer
from bgpd.config.schema import ApiConfig
from bgpd.runtime.memory import MANY
from tests.scripted_backend import ScriptedBackend

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Api:
    """A server on a unix socket and a TCP port, and what raw clients say to it."""

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        self.path = str(directory / "bgpd.sock")
        self.backend = ScriptedBackend(routes=50_000)
        self.server = ApiServer(ApiConfig(socket=self.path, listen=f"127.0.0.1:{self.port}"), self.backend)
        self.clients: list[asyncio.StreamWriter] = []

    async def connect(self, *, unix: bool = False) -> Streams:
        opened = asyncio.open_unix_connection(self.path) if unix else asyncio.open_connection("127.0.0.1", self.port)
        reader, writer = await opened
        self.clients.append(writer)
        return reader, writer

    async def ask(self, request: str, *, unix: bool = False) -> bytes:
        reader, writer = await self.connect(unix=unix)
        writer.write(request.encode(errors="surrogateescape"))
        return await reader.read()

    async def get(self, path: str, *, host: str = "127.0.0.1", more: str = "", unix: bool = False) -> bytes:
        return await self.ask(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n{more}\r\n", unix=unix)


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    api = Api(tmp_path)
    await api.server.start()
    yield api
    for client in api.clients:
        client.close()
    await api.server.stop()


async def ended(reader: asyncio.StreamReader) -> None:
    """The server closes or resets the connection."""
    with contextlib.suppress(ConnectionError):
        await reader.read()


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


async def test_a_connection_carries_one_request(api: Api) -> None:
    answer = await api.ask("GET /v1/neighbors HTTP/1.1\r\nHost: [::1]:9179\r\n\r\n" * 500)
    assert answer.count(b"HTTP/1.1 200 OK") == 1
    assert b"Connection: close" in answer


async def test_connections_beyond_the_most_are_refused_and_come_in_again_later(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    idle = [await api.connect() for _ in range(server.MAX_CONNECTIONS_OVER_TCP)]
    await api.get("/v1/health", unix=True)  # another listener: not affected
    refused = await api.get("/v1/neighbors")
    assert status(refused) == 503
    assert b"Retry-After: 1\r\n" in refused
    assert json.loads(refused.partition(b"\r\n\r\n")[2])["error"] == "too many connections to the API"
    for _, writer in idle:
        writer.close()
        await writer.wait_closed()
    assert status(await api.get("/v1/neighbors")) == 200


async def test_orders_that_wait_leave_room_for_who_looks_on(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    released = asyncio.Event()
    put = api.backend.objects["workloads"].put
    waiting = 0
    all_wait = asyncio.Event()

    async def slow(id: str, body: bytes, *, who: str, timeout_s: float | None) -> Answer:
        nonlocal waiting
        waiting += 1
        if waiting == server.WAITING_ORDERS:
            all_wait.set()
        await released.wait()
        return await put(id, body, who=who, timeout_s=timeout_s)

    monkeypatch.setattr(type(api.backend.objects["workloads"]), "put", staticmethod(slow))
    body = '{"addresses": ["10.64.1.5"]}'
    order = f"PUT /v1/workloads/web-1 HTTP/1.1\r\nHost: bgpd\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    readers = []
    for _ in range(server.WAITING_ORDERS):
        reader, writer = await api.connect(unix=True)
        writer.write(order.encode())
        readers.append(reader)
    await all_wait.wait()
    assert status(await api.ask(order, unix=True)) == 503
    assert status(await api.get("/v1/neighbors", unix=True)) == 200
    released.set()
    assert {status(await reader.read()) for reader in readers} == {200}


async def test_some_connections_are_for_root_and_the_daemons_user_only(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stranger(transport: asyncio.BaseTransport | None) -> Credentials:
        return Credentials(pid=1, uid=os.geteuid() + 1, gid=1)

    with monkeypatch.context() as others:
        others.setattr(connections, "credentials", stranger)
        idle = [await api.connect(unix=True) for _ in range(server.MAX_CONNECTIONS - server.KEPT_FOR_OPERATORS)]
        for _ in range(20):
            assert status(await api.get("/v1/neighbors", unix=True)) == 503
    assert status(await api.get("/v1/neighbors", unix=True)) == 200
    for _, writer in idle:
        writer.close()
        await writer.wait_closed()


async def test_a_refused_client_that_has_gone_already_costs_nothing(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """shutdown(2) says ENOTCONN where the client has reset its connection."""
    failures = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: failures.append(context))
    idle = [await api.connect() for _ in range(server.MAX_CONNECTIONS_OVER_TCP)]
    await api.get("/v1/health", unix=True)
    for _ in range(20):
        with socket.socket() as gone:
            gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            gone.connect(("127.0.0.1", api.port))
    assert status(await api.get("/v1/neighbors")) == 503
    assert status(await api.get("/v1/neighbors", unix=True)) == 200
    assert failures == []
    for _, writer in idle:
        writer.close()


@pytest.mark.parametrize("said", ["", "GET /v1/neighbors HTTP/1.1\r\nHost: x\r\nX-Slow: ", "\r\n\r\n"])
async def test_a_header_that_does_not_come_costs_the_connection(
    api: Api, monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    monkeypatch.setattr(connections, "HEADER_TIMEOUT_S", 0.05)
    reader, writer = await api.connect()
    writer.write(said.encode())
    await ended(reader)


async def test_a_body_that_does_not_come_is_answered_with_408(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "BODY_TIMEOUT_S", 0.05)
    request = "PUT /v1/workloads/x HTTP/1.1\r\nHost: bgpd\r\nContent-Length: 100\r\n\r\n{"
    assert status(await api.ask(request, unix=True)) == 408
    assert api.backend.orders == []


async def test_a_header_without_end_is_refused(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEADER_TIMEOUT_S", 0.5)
    reader, writer = await api.connect()
    writer.write(b"GET /v1/neighbors HTTP/1.1\r\n" + (b"X-Filler: " + b"x" * 4000 + b"\r\n") * 1000)
    await ended(reader)


async def test_a_client_that_does_not_read_is_cut_off_and_its_place_is_free_again(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "STALL_TIMEOUT_S", 0.1)
    for _ in range(server.LONG_ANSWERS_OVER_TCP):
        _, writer = await api.connect()
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(b"GET /v1/routes HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    seen = set()
    while 200 not in seen:
        seen.add(status(await api.get("/v1/routes?limit=1")))
        await asyncio.sleep(0.01)
    assert seen <= {200, 503}


async def test_listings_beyond_a_few_are_told_to_come_again(api: Api) -> None:
    answers = await asyncio.gather(*(api.get("/v1/routes") for _ in range(40)))
    kinds = [status(answer) for answer in answers]
    assert kinds.count(200) >= server.LONG_ANSWERS_OVER_TCP
    assert set(kinds) == {200, 503}
    assert all(b"Retry-After: 1" in answer for answer in answers if status(answer) == 503)
    assert all(answer.endswith(b"]\n\r\n0\r\n\r\n") for answer in answers if status(answer) == 200)


async def test_cheap_answers_go_on_while_all_places_are_taken(api: Api) -> None:
    listings = [asyncio.ensure_future(api.get("/v1/routes")) for _ in range(10)]
    await asyncio.sleep(0)
    assert status(await api.get("/metrics")) == 200
    assert status(await api.get("/v1/neighbors?limit=1", unix=True)) == 200
    await asyncio.gather(*listings)


@pytest.mark.parametrize(
    ("host", "wanted"),
    [
        ("127.0.0.1:9179", 200),
        ("[::1]:9179", 200),
        ("localhost", 200),
        ("LOCALHOST:9179", 200),
        (socket.gethostname(), 200),
        ("rebound.example", 403),
        ("127.0.0.1.rebound.example:9179", 403),
        ("localhost.rebound.example", 403),
        ("[::1", 403),
        ("\udcff", 403),
        ("", 403),
    ],
)
async def test_a_request_must_be_meant_for_this_host(api: Api, host: str, wanted: int) -> None:
    assert status(await api.get("/v1/neighbors", host=host)) == wanted


async def test_a_page_of_another_origin_is_refused(api: Api) -> None:
    own, other, null = ("http://127.0.0.1:9179", "http://evil.example", "null")
    assert status(await api.get("/metrics", host="127.0.0.1:9179", more=f"Origin: {own}\r\n")) == 200
    for origin in (other, null):
        assert status(await api.get("/metrics", host="127.0.0.1:9179", more=f"Origin: {origin}\r\n")) == 403
    assert status(await api.get("/v1/config", host="bgpd", unix=True)) == 200


def test_a_name_may_be_allowed() -> None:
    check = HostCheck(["Node1.DC.example"])
    check.check("node1.dc.example:9179", None)
    with pytest.raises(Rejected, match=r'"node2\.dc\.example" is not a name of this host'):
        check.check("node2.dc.example", None)


def test_places_are_given_back_whatever_happens() -> None:
    places = Places(1)
    for _ in range(2):
        with pytest.raises(KeyError), places.one():
            raise KeyError
    with places.one(), pytest.raises(Rejected), places.one():
        pass


async def test_clients_that_speak_no_http_leave_nothing(api: Api) -> None:
    """As in the daemon, where nothing is collected unasked: each left 5 KB of an exception and what it refers to."""
    gc.disable()
    try:
        for _ in range(5 * MANY):
            assert b"400" in await api.ask("xyzzy\r\n\r\n", unix=True)
        left = sum(isinstance(one, connections.Connection) for one in gc.get_objects())
    finally:
        gc.enable()
    assert left <= 2 * MANY
