"""HTTP as raw clients speak it: framing, methods, bodies, and clients that go, linger or say too much."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from bgpd.api import http_connection
from bgpd.api.app import App, Route
from bgpd.api.http import Headers, Request, Response, Stream
from bgpd.api.http_connection import MAX_BODY_BYTES, HttpServer
from tests.logs import capture_logs
from tests.waiting import until


class Echo:
    """A server whose handlers tell what they were asked."""

    def __init__(self, path: Path) -> None:
        self.path = str(path / "echo.sock")
        self.app = App()
        self.app.get("/v1/{kind}", self.told)
        self.app.order("PUT", "/v1/{kind}/{id}", self.body)
        self.app.order("DELETE", "/v1/{kind}/{id}", self.unread)
        self.app.get("/stream", self.stream)
        self.app.get("/fails", self.fails)
        self.app.stream("/waits", self.waits)
        self.app.get("/newline", self.newline)
        self.app.get("/status", self.no_status)
        self.http = HttpServer(self.app)
        self.ended: list[str] = []
        self.part = b"x"

    async def told(self, request: Request) -> Response:
        told = {
            "path": request.path,
            "kind": request.match_info["kind"],
            "query": request.query,
            "host": request.headers.get("host", ""),
            "remote": request.remote,
        }
        return Response(json.dumps(told).encode(), content_type="application/json")

    async def body(self, request: Request) -> Response:
        return Response(b"%d" % len(await request.read()))

    async def unread(self, request: Request) -> Response:
        return Response(status=204)

    async def stream(self, request: Request) -> Response:
        stream = Stream(request, "text/plain")
        await stream.begin()
        for _ in range(3):
            await stream.write(self.part)
        return stream

    async def fails(self, request: Request) -> Response:
        stream = Stream(request, "text/plain")
        await stream.begin()
        await stream.write(b"half")
        raise RuntimeError("in the middle")

    async def waits(self, request: Request) -> Response:
        stream = Stream(request, "text/plain")
        await stream.begin()
        try:
            await asyncio.Event().wait()
        finally:
            self.ended.append(request.path)
        return stream

    async def newline(self, request: Request) -> Response:
        return Response(headers={"X-Bad": "a\r\nb"})

    async def no_status(self, request: Request) -> Response:
        return Response(status=999)

    async def ask(self, *parts: bytes) -> bytes:
        """All that the server answers, up to its end."""
        reader, writer = await asyncio.open_unix_connection(self.path)
        for part in parts:
            writer.write(part)
            await asyncio.sleep(0)
        answer = await reader.read()
        writer.close()
        return answer

    async def get(self, target: str, *, method: str = "GET", version: str = "1.1", more: str = "") -> bytes:
        return await self.ask(f"{method} {target} HTTP/{version}\r\nHost: h\r\n{more}\r\n".encode())


@pytest.fixture
async def echo(tmp_path: Path) -> AsyncIterator[Echo]:
    echo = Echo(tmp_path)
    server = await asyncio.get_running_loop().create_unix_server(echo.http, echo.path)
    yield echo
    server.close()
    await echo.http.stop()
    await until(lambda: not echo.http.open)


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def said(answer: bytes) -> Any:
    return json.loads(answer.partition(b"\r\n\r\n")[2])


async def test_target_is_taken_apart(echo: Echo) -> None:
    found = said(await echo.get("/v1/caf%C3%A9%2Fx?a=1&a=2&b=&c=%20+x"))
    assert found == {
        "path": "/v1/café/x",
        "kind": "café/x",
        "query": {"a": "1", "b": "", "c": "  x"},
        "host": "h",
        "remote": "",
    }


@pytest.mark.parametrize(
    ("target", "path", "host"),
    [("http://other/v1/x?a=1", "/v1/x", "other"), ("HTTPS://[::1]:80/v1/x", "/v1/x", "[::1]:80")],
)
async def test_host_of_a_whole_url_counts(echo: Echo, target: str, path: str, host: str) -> None:
    found = said(await echo.get(target))
    assert (found["path"], found["host"]) == (path, host)


@pytest.mark.parametrize("parts", [(b"\r\n",), (b"\r", b"\n"), (b"\n", b"\r\n\r\n")])
async def test_empty_lines_before_a_request_are_ignored(echo: Echo, parts: tuple[bytes, ...]) -> None:
    """Some clients end a body so (RFC 9112 section 2.2)."""
    answer = await echo.ask(*parts, parts[0] + b"GET /v1/a HTTP/1.1\r\nHost: h\r\n\r\n")
    assert status(answer) == 200


async def test_every_answer_says_its_date_and_that_it_is_the_last(echo: Echo) -> None:
    head = (await echo.get("/v1/x")).partition(b"\r\n\r\n")[0].decode()
    fields = dict(line.split(": ", 1) for line in head.splitlines()[1:])
    assert fields.pop("Date").endswith(" GMT")
    assert fields.pop("Content-Length").isdecimal()
    assert fields == {
        "Connection": "close",
        "Content-Type": "application/json",
        "X-Content-Type-Options": "nosniff",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Cache-Control": "no-store",
    }


@pytest.mark.parametrize(
    ("target", "wanted"), [("/v1/x", b"Content-Length: "), ("/stream", b"Transfer-Encoding: chunked")]
)
async def test_head_is_answered_without_a_body(echo: Echo, target: str, wanted: bytes) -> None:
    head, _, body = (await echo.get(target, method="HEAD")).partition(b"\r\n\r\n")
    assert wanted in head
    assert body == b""


async def test_head_of_another_version_is_refused_without_a_body(echo: Echo) -> None:
    reader, writer = await asyncio.open_unix_connection(echo.path)
    writer.write(b"HEAD /v1/x HTTP/2.0\r\nHost: a\r\n\r\n")
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 505 ")
    assert body == b""
    writer.close()


async def test_streams_are_chunked_or_end_with_the_connection(echo: Echo) -> None:
    assert (await echo.get("/stream")).endswith(b"\r\n\r\n1\r\nx\r\n1\r\nx\r\n1\r\nx\r\n0\r\n\r\n")
    old = await echo.get("/stream", version="1.0")
    assert old.endswith(b"\r\n\r\nxxx")
    assert b"Transfer-Encoding" not in old


async def test_slow_reader_is_waited_for(echo: Echo) -> None:
    echo.part = b"y" * 1_000_000
    answer = await echo.get("/stream")
    assert answer.count(echo.part) == 3
    assert answer.endswith(b"0\r\n\r\n")


async def test_answer_that_fails_in_the_middle_is_seen_to_be_broken_off(echo: Echo) -> None:
    reader, writer = await asyncio.open_unix_connection(echo.path)
    writer.write(b"GET /fails HTTP/1.1\r\nHost: h\r\n\r\n")
    answer = b""
    with contextlib.suppress(ConnectionError):
        while part := await reader.read(1000):
            answer += part
    assert not answer.endswith(b"0\r\n\r\n")
    writer.close()


@pytest.mark.parametrize("target", ["/newline", "/status"])
async def test_answer_that_is_no_http_is_a_defect_and_not_sent(echo: Echo, target: str) -> None:
    with capture_logs() as logs:
        with contextlib.suppress(ConnectionError):
            assert await echo.get(target) == b""
        await until(lambda: not echo.http.open)
    assert [(one["event"], one["path"]) for one in logs] == [("api.failed", target)]


@pytest.mark.parametrize(
    ("method", "target", "wanted", "allow"),
    [
        ("GET", "/", 404, b""),
        ("GET", "/v1/", 404, b""),
        ("GET", "/v1/x/", 404, b""),
        ("GET", "/v1//", 404, b""),
        ("PATCH", "/v1/x", 405, b"Allow: GET, HEAD\r\n"),
        ("GET", "/v1/x/y", 405, b"Allow: DELETE, PUT\r\n"),
        ("HEAD", "/waits", 405, b"Allow: GET\r\n"),
        ("OPTIONS", "*", 404, b""),
        ("CONNECT", "other:443", 404, b""),
        ("DELETE", "/v1/x/y", 204, b""),
    ],
)
async def test_path_and_method_choose_the_handler(
    echo: Echo, method: str, target: str, wanted: int, allow: bytes
) -> None:
    answer = await echo.get(target, method=method)
    assert status(answer) == wanted
    assert (b"Allow: " in answer) is bool(allow)
    assert allow in answer


@pytest.mark.parametrize(
    ("request_text", "wanted"),
    [
        (b"xyzzy\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\r\n\r\n", 400),
        (b"GET /v1/x HTTP/1.1\r\n\r\n", 400),
        (b"GET /v1/x HTTP/1.0\r\n\r\n", 200),
        (b"GET /v1/x HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"GET /v1/x HTTP/1.1\r\nHost: a\r\n folded: b\r\n\r\n", 200),
        (b"GET /v1/x HTTP/2.0\r\nHost: a\r\n\r\n", 505),
        (b"GET /v1/x y HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET /v1/x HTTP/1.1\r\nHost : a\r\n\r\n", 400),
        (b"PUT /v1/x/y HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 400),
        (b"PUT /v1/x/y HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (b"PUT /v1/x/y HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\n", 400),
        (b"PUT /v1/x/y HTTP/1.1\r\nHost: a\r\nContent-Length: 0x5\r\n\r\n", 400),
        (b"PUT /v1/x/y HTTP/1.1\r\nHost: a\r\nContent-Length: 5,6\r\n\r\n", 400),
        (b"PUT /v1/x/y HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        (b"GET /" + b"x" * 20_000, 431),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"a: b\r\n" * 5_000, 431),
    ],
)
async def test_what_is_no_http_is_told_so(echo: Echo, request_text: bytes, wanted: int) -> None:
    answer = await echo.ask(request_text)
    assert status(answer) == wanted
    assert wanted == 200 or said(answer)["error"].startswith("no HTTP request: ")


@pytest.mark.parametrize(
    ("line", "told"),
    [(b"Host : a", '"Host : a"'), (b"it's : a", '"it\'s : a"'), (b"a\"b'c : d", '"'), (b"\xff : a", '"\\xff : a"')],
)
async def test_bytes_that_are_no_http_are_told_without_pythons_form(echo: Echo, line: bytes, told: str) -> None:
    error = said(await echo.ask(b"GET / HTTP/1.1\r\n" + line + b"\r\n\r\n"))["error"]
    assert error.startswith(f"no HTTP request: illegal header line: {told}")
    assert "bytearray" not in error
    error = said(await echo.ask(CHUNKED + b"it's\r\n"))["error"]
    assert "illegal chunk header: \"it's" in error


PUT = b"PUT /v1/x/y HTTP/1.1\r\nHost: h\r\n"
CHUNKED = PUT + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("parts", "wanted", "text"),
    [
        ((PUT + b"\r\n",), 200, b"0"),
        ((PUT + b"Content-Length: 3\r\n\r\n", b"a", b"bc"), 200, b"3"),
        ((CHUNKED + b"3\r\nabc\r\n", b"1;x=y\r\nd\r\n0\r\nTrailer: x\r\n\r\n"), 200, b"4"),
        ((PUT + b"Content-Length: 3, 3\r\n\r\nabc",), 200, b"3"),
        ((PUT + b"Content-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",), 200, b"1"),
        ((CHUNKED + b"g\r\n",), 400, b"cannot be read"),
        ((CHUNKED + b"1\r\nabc\r\n",), 400, b"cannot be read"),
        ((CHUNKED, b"1\r\na\r\n" * 40_000 + b"0\r\n\r\n"), 200, b"40000"),
        ((PUT + b"Content-Length: %d\r\n\r\n" % MAX_BODY_BYTES, b"x" * MAX_BODY_BYTES), 200, b"%d" % MAX_BODY_BYTES),
        ((PUT + b"Content-Length: %d\r\n\r\n" % (MAX_BODY_BYTES + 1),), 413, b"Too Large"),
        ((PUT + b"Content-Length: 99999999999999999999\r\n\r\n",), 413, b"Too Large"),
        (
            (CHUNKED, b"10000\r\n" + b"x" * 65536 + b"\r\n", (b"10000\r\n" + b"x" * 65536 + b"\r\n") * 9),
            413,
            b"Too Large",
        ),
    ],
)
async def test_bodies_are_read_whole_and_bounded(
    echo: Echo, parts: tuple[bytes, ...], wanted: int, text: bytes
) -> None:
    answer = await echo.ask(*parts)
    assert (status(answer), text in answer) == (wanted, True), answer


class Wire(asyncio.Transport):
    """A transport that tells whether it would receive more."""

    def __init__(self) -> None:
        super().__init__()
        self.is_received = True

    def pause_reading(self) -> None:
        self.is_received = False

    def resume_reading(self) -> None:
        self.is_received = True

    def is_closing(self) -> bool:
        return False

    def get_protocol(self) -> asyncio.BaseProtocol:
        return asyncio.Protocol()

    def write(self, data: Any) -> None:
        """To nobody."""

    def close(self) -> None:
        """It stays."""


async def test_nothing_is_received_while_parts_of_a_body_are_left(echo: Echo, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many parts in a turn however often something has come: what waits to be looked at does not grow."""
    monkeypatch.setattr(http_connection, "EVENTS_AT_ONCE", 2)
    wire, connection = Wire(), echo.http()
    connection.connection_made(wire)
    connection.data_received(CHUNKED + b"1\r\na\r\n" * 20)
    assert not wire.is_received
    for _ in range(5):
        connection.data_received(b"1\r\na\r\n")  # was received before
    for turn in range(3):
        assert len(connection._body) <= 2 * (turn + 1)
        await asyncio.sleep(0)
    await until(lambda: len(connection._body) == 25)
    assert wire.is_received
    connection.connection_lost(None)


async def test_body_that_is_waited_for_is_called_for(echo: Echo) -> None:
    reader, writer = await asyncio.open_unix_connection(echo.path)
    writer.write(PUT + b"Content-Length: 3\r\nExpect: 100-continue\r\n\r\n")
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 \r\n\r\n"
    writer.write(b"abc")
    assert (await reader.read()).endswith(b"\r\n\r\n3")
    writer.close()
    too_long = await echo.ask(PUT + b"Content-Length: 300000\r\nExpect: 100-continue\r\n\r\n")
    assert status(too_long) == 413


async def test_client_that_says_more_than_its_request_gets_its_answer(echo: Echo) -> None:
    first = b"GET /v1/x HTTP/1.1\r\nHost: h\r\n\r\n"
    answer = await echo.ask(first + b"junk" * 50_000, b"junk" * 50_000)
    assert (status(answer), answer.count(b"HTTP/1.1")) == (200, 1)
    unread = await echo.ask(b"DELETE /v1/x/y HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nabc")
    assert status(unread) == 204


async def test_client_that_has_said_too_much_and_stays_is_left(echo: Echo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_connection, "LINGER_S", 0.01)
    reader, writer = await asyncio.open_unix_connection(echo.path)
    writer.write(b"DELETE /v1/x/y HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nabc")
    assert status(await reader.read()) == 204
    await until(lambda: not echo.http.open)
    writer.close()


async def test_client_that_has_gone_ends_its_answer(echo: Echo) -> None:
    echo.part = b"y" * 10_000_000
    reader, writer = await asyncio.open_unix_connection(echo.path)
    writer.write(b"GET /stream HTTP/1.1\r\nHost: h\r\n\r\n")
    await reader.read(100)
    (connection,) = echo.http.open
    writer.transport.abort()
    await until(lambda: connection.task is None)
    assert connection.transport is None
    _, gone = await asyncio.open_unix_connection(echo.path)
    gone.write(PUT + b"Content-Length: 3\r\n\r\n")
    await until(lambda: any(one.task is not None for one in echo.http.open))
    gone.transport.abort()
    await until(lambda: not echo.http.open)


async def test_end_of_the_server_ends_answers_without_end(echo: Echo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_connection, "STOP_PATIENCE_S", 0.01)
    _, idle = await asyncio.open_unix_connection(echo.path)
    reader, writer = await asyncio.open_unix_connection(echo.path)
    writer.write(b"GET /waits HTTP/1.1\r\nHost: h\r\n\r\n")
    await reader.readuntil(b"\r\n\r\n")
    await echo.http.stop()
    assert echo.ended == ["/waits"]
    assert await reader.read() == b""
    for one in (idle, writer):
        one.close()


def test_first_field_of_a_name_counts_in_any_case() -> None:
    headers = Headers([(b"host", b"a"), (b"Host", b"b"), (b"x", b"\xff")])
    assert (headers["HOST"], headers.get("X"), "y" in headers, len(headers)) == ("a", "\udcff", False, 2)
    assert dict(headers) == {"host": "a", "x": "\udcff"}


def test_braces_stand_for_a_part_that_is_not_empty() -> None:
    async def handler(request: Request) -> Response:
        return Response()

    route = Route(("GET",), "/a/{b}/c", handler)
    assert route.names(["", "a", "x", "c"]) == {"b": "x"}
    for other in (["", "a", "", "c"], ["", "a", "x"], ["", "a", "x", "d"], ["", "a", "x", "c", ""]):
        assert route.names(other) is None


async def test_last_part_of_an_answer_that_is_left_unread_is_given_up(
    echo: Echo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is less than what asyncio tells of, and would wait for ever."""
    monkeypatch.setattr(http_connection, "STALL_TIMEOUT_S", 0.1)

    async def last(request: Request) -> Response:
        assert request.transport is not None
        request.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        return Response(b"x" * 50_000)

    echo.app.get("/last", last)
    for more in ("", "Content-Length: 9\r\n"):
        _, writer = await asyncio.open_unix_connection(echo.path)
        await until(lambda: echo.http.open)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(f"GET /last HTTP/1.1\r\nHost: h\r\n{more}\r\n".encode())
        await until(lambda: not echo.http.open)
        writer.close()
