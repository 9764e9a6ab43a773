"""Targets: HTTP as it is framed: requests to the API, answers of the API to the command line, answers to health checks.

The server's parser is h11's; what it is given, and what stands around it, is bgpd's.
"""

from __future__ import annotations

import asyncio
import queue
import re
import socket
import threading
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from bgpd.api import access, app, connections, http_connection, server
from bgpd.api.access import Access
from bgpd.api.backend import Answer, Listing, Objects, Pager
from bgpd.api.connections import Connections
from bgpd.api.server import ApiServer, make_app
from bgpd.cli import client, unix_http
from bgpd.cli.client import Client, CommandFailed
from bgpd.config.schema import ApiConfig
from bgpd.model.service import CheckType, HealthCheck
from bgpd.workload.service import probes
from bgpd.workload.service.probes import _ask_status
from tests.fuzz.target import Script, Target, directory
from tests.scripted_backend import ScriptedBackend

TOKEN = b"0123456789abcdef"
MOST_ROUNDS = 200
"""Turns of the loop that a request may wait for: an answer that takes more is a stream, and its client leaves."""
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3}) ")
_HEAD = b"GET /v1/health HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer " + TOKEN + b"\r\n"


@cache
def _loop() -> asyncio.AbstractEventLoop:
    return asyncio.new_event_loop()


class _Taken:
    """Workloads that are taken as they come."""

    async def put(self, id: str, body: bytes, *, who: str, timeout_s: float | None) -> Answer:
        return 200, len(body)

    async def delete(self, id: str, *, who: str) -> Answer:
        return 200, id

    def get(self, id: str) -> Answer:
        return 200, id


class _Backend(ScriptedBackend):
    """With what answers anything: its answers are not what is tried."""

    def __init__(self) -> None:
        super().__init__(routes=3)
        self.objects: Mapping[str, Objects] = {"workloads": _Taken()}

    @property
    def listings(self) -> Mapping[str, Listing]:
        good = {name: one for name, one in super().listings.items() if not name.startswith("broken")}
        return {**good, "received": lambda query: iter(()), "advertised": lambda query: iter(())}

    @property
    def pagers(self) -> Mapping[str, Pager]:
        return {}


class _Wire(asyncio.Transport):
    """The client's end. What is written is kept."""

    def __init__(self, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self.written = b""
        self._protocol = protocol
        self._is_closing = False

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol

    def write(self, data: Any) -> None:
        self.written += bytes(data)

    def is_closing(self) -> bool:
        return self._is_closing

    def close(self) -> None:
        self._is_closing = True

    abort = close

    def can_write_eof(self) -> bool:
        return False

    def pause_reading(self) -> None:
        """Nothing more is sent before the answer."""

    def resume_reading(self) -> None:
        """As above."""

    def get_write_buffer_size(self) -> int:
        return 0


@cache
def _listener(over_tcp: bool) -> tuple[ScriptedBackend, Connections]:
    async def make() -> tuple[ScriptedBackend, Connections]:
        backend = _Backend()
        made = make_app(backend, access=Access(token=TOKEN) if over_tcp else None)
        return backend, ApiServer(ApiConfig(), backend)._set_up(made, most=8)

    return _loop().run_until_complete(make())


async def _converse(listener: Connections, pieces: list[bytes]) -> bytes:
    """What a client is answered that says this, and leaves when nothing more comes."""
    protocol = listener()
    assert isinstance(protocol, asyncio.Protocol)
    wire = _Wire(protocol)
    protocol.connection_made(wire)
    for piece in filter(None, pieces):
        if not wire.is_closing():
            protocol.data_received(piece)
        await asyncio.sleep(0)
    for _ in range(MOST_ROUNDS):
        if wire.is_closing():
            break
        await asyncio.sleep(0)
    protocol.eof_received()
    protocol.connection_lost(None)
    for task in asyncio.all_tasks() - {asyncio.current_task()}:  # streams notice within seconds that nobody is there
        task.cancel()
    for _ in range(8):
        await asyncio.sleep(0)
    assert not len(listener)
    return wire.written


def run_request(data: bytes) -> None:
    """Bytes that come to the API's listener: the first one chooses socket or TCP, whole requests or the rest of one,
    and where they are cut. They are answered, with what is no defect, or the connection ends."""
    if not data:
        return
    chosen, said = data[0], data[1:]
    over_tcp = bool(chosen & 1)
    if chosen & 2:
        said = _HEAD + said
    cut = len(said) * (chosen >> 4) // 16
    backend, listener = _listener(over_tcp)
    answer = _loop().run_until_complete(_converse(listener, [said[:cut], said[cut:]]))
    backend.orders.clear()
    assert not answer or (status := _STATUS.match(answer)) is not None
    assert not answer or status[1] != b"500", answer
    if over_tcp and TOKEN not in said and b"basic" not in said.lower():
        assert not answer or status[1] not in (b"200", b"204"), answer


# The command line


@cache
def _answers() -> queue.Queue[bytes]:
    """What the daemon answers to each connection next, from a thread."""
    waiting: queue.Queue[bytes] = queue.Queue()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(directory() / "api.sock"))
    listener.listen(8)

    def serve() -> None:
        while True:
            answer = waiting.get()
            client, _ = listener.accept()
            with client:
                try:
                    client.sendall(answer)
                    client.shutdown(socket.SHUT_WR)
                    while client.recv(4096):
                        pass
                except OSError:
                    continue

    threading.Thread(target=serve, daemon=True).start()
    return waiting


def run_answer(data: bytes) -> None:
    """An answer of the daemon, or of who is in its place: the command line takes it or says what is wrong. The first
    byte chooses what it had asked."""
    if not data:
        return
    _answers().put(data[1:])
    asking = Client(str(directory() / "api.sock"))
    try:
        match data[0] % 3:
            case 0:
                asking.get("/v1/health")
            case 1:
                list(asking.views("/v1/routes"))
            case 2:
                asking.order("PUT", "/v1/workloads/a", body=b"{}")
    except CommandFailed as failed:
        str(failed).encode(errors="replace")


# Health checks


CHECK = HealthCheck(type=CheckType.HTTP, port=80, path="/", status=(200, 204))


class _Nowhere:
    def write(self, data: bytes) -> None:
        """It does not matter."""


def run_status(data: bytes) -> None:
    """What a backend answers to a check, in pieces that the first byte gives the length of: it is well, or why not."""
    script = Script(data)
    size = script.byte() or 1

    async def ask() -> str:
        reader = asyncio.StreamReader()

        async def feed() -> None:
            while not script.is_over:
                reader.feed_data(script.take(size))
                await asyncio.sleep(0)
            reader.feed_eof()

        task = asyncio.ensure_future(feed())
        try:
            return await _ask_status(CHECK, "10.0.0.1", reader, _Nowhere())  # type: ignore[arg-type]
        finally:
            task.cancel()

    why = _loop().run_until_complete(ask())
    assert why.isprintable()
    assert why or b"HTTP/1." in data


# What is right


def request_seeds() -> Iterator[bytes]:
    """Requests for each path that is served, with the token."""
    paths = ("/v1/routes?limit=2", "/v1/neighbors", "/v1/services/web", "/v1/events?follow=true", "/metrics", "/", "/x")
    birdwatcher = ("/status", "/protocols/bgp", "/symbols", "/routes/protocol/leaf1?page=1&page_size=2")
    for number, path in enumerate((*paths, *(f"/birdwatcher{one}" for one in birdwatcher))):
        head = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer ".encode() + TOKEN
        yield bytes((number & 1 | number << 4 & 0xF0,)) + head + b"\r\nAccept-Encoding: gzip\r\n\r\n"
    body = b'{"addresses":["10.0.0.1"]}'
    for method, path in (("PUT", "/v1/workloads/a"), ("POST", "/v1/drain"), ("DELETE", "/v1/workloads/a")):
        head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n".encode()
        yield b"\0" + head + b"Content-Type: application/json\r\n\r\n" + body
    chunked = b"PUT /v1/workloads/a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    yield b"\x80" + chunked + b'5\r\n{"a":\r\n2\r\n1}\r\n0\r\n\r\n'
    basic = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nOrigin: http://127.0.0.1\r\nAuthorization: Basic eDp5\r\n\r\n"
    yield b"\1" + basic * 2


def answer_seeds() -> Iterator[bytes]:
    """Of each length that HTTP can tell, of success and of failure."""
    body = b'{"error":"x","hint":"y"}\n'
    for status in (b"200 OK", b"404 Not Found"):
        for number in range(3):
            head = bytes((number,)) + b"HTTP/1.1 " + status + b"\r\n"
            yield head + b"Content-Length: %d\r\n\r\n" % len(body) + body
            yield head + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
            yield head + b"Connection: close\r\n\r\n" + body


def status_seeds() -> Iterator[bytes]:
    """What is well, what is not, and after an interim answer."""
    for size in (b"\7", b"\xff"):
        for status in (b"204 No Content", b"503 Busy", b"100 Continue\r\n\r\nHTTP/1.1 200 OK"):
            yield size + b"HTTP/1.1 " + status + b"\r\nServer: x\r\n\r\n"


TARGETS = {
    "api-request": Target(run_request, (access, http_connection, connections, server, app), request_seeds, messages=4),
    "api-answer": Target(run_answer, (unix_http, client), answer_seeds),
    "http-check": Target(run_status, (_ask_status, probes._after_interim, probes._is_interim), status_seeds),
}
