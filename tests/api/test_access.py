"""Who may ask over TCP: the token, TLS, and what a browser tells of the page that asks."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gc
import shutil
import ssl
from asyncio.sslproto import SSLProtocol
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from bgpd.api import connections, tcp_listener
from bgpd.api.access import CHALLENGE, Access, Certificate
from bgpd.api.backend import Rejected
from bgpd.api.page_files import KINDS, PageFiles
from bgpd.api.server import ApiServer
from bgpd.config.schema import ApiConfig
from tests.api.test_connections import free_port
from tests.api.tls import make_certificate
from tests.scripted_backend import ScriptedBackend
from tests.waiting import until

TOKEN = "0123456789abcdef-token"


@contextlib.asynccontextmanager
async def served(directory: Path, **config: Any) -> AsyncIterator[str]:
    """The host and port of an API with this configuration."""
    listen = f"127.0.0.1:{free_port()}"
    server = ApiServer(ApiConfig(socket=str(directory / "api.sock"), listen=listen, **config), ScriptedBackend())
    await server.start()
    try:
        yield listen
    finally:
        await server.stop()


def token_file(directory: Path, text: str = TOKEN + "\n") -> str:
    file = directory / "token"
    file.write_text(text)
    return str(file)


def basic(password: str) -> str:
    return f"Basic {base64.b64encode(f'me:{password}'.encode()).decode()}"


@pytest.mark.parametrize(
    ("authorization", "status"),
    [
        (f"Bearer {TOKEN}", 200),
        (f"bearer {TOKEN}", 200),
        (basic(TOKEN), 200),
        ("", 401),
        (f"Bearer {TOKEN}x", 401),
        (f"Bearer {TOKEN[:-1]}", 401),
        ("Bearer ", 401),
        (basic(""), 401),
        (basic(f"x{TOKEN}"), 401),
        ("Basic %%%", 401),
        (f"Digest {TOKEN}", 401),
        (TOKEN, 401),
    ],
)
async def test_request_needs_the_token(tmp_path: Path, authorization: str, status: int) -> None:
    async with served(tmp_path, token_file=token_file(tmp_path)) as listen, aiohttp.ClientSession() as http:
        headers = {"Authorization": authorization} if authorization else {}
        for target in ("/", "/page/main.js", "/metrics", "/v1/neighbors", "/v1/pages/routes", "/nothing"):
            async with http.get(f"http://{listen}{target}", headers=headers) as response:
                text = await response.text()
                assert response.status == (404 if status == 200 and target == "/nothing" else status)
                if status == 401:
                    assert response.headers["WWW-Authenticate"] == CHALLENGE
                    assert TOKEN not in text


def test_token_of_other_characters_is_wrong_and_no_defect() -> None:
    access = Access(token=TOKEN.encode())
    for given in ("Bearer \udcff\udcfe", "Basic \udcff", f"Basic {base64.b64encode(b'me').decode()}", "Bearer ✓"):
        with pytest.raises(Rejected, match="token"):
            access.check({"Authorization": given}, "/")


@pytest.mark.parametrize(
    ("path", "headers", "is_let_in"),
    [
        ("/", {}, True),
        ("/", {"Sec-Fetch-Site": "cross-site"}, True),  # somebody followed a link
        ("/v1/routes", {"Sec-Fetch-Site": "same-origin"}, True),
        ("/v1/routes", {"Sec-Fetch-Site": "none"}, True),
        ("/v1/routes", {"Sec-Fetch-Site": "cross-site"}, False),
        ("/v1/what-if", {"Sec-Fetch-Site": "same-site"}, False),
        ("/metrics", {"Sec-Fetch-Site": "cross-site"}, False),
        ("/v1/routes", {"Origin": "http://127.0.0.1"}, True),
        ("/v1/routes", {"Origin": "http://evil.example"}, False),
        ("/v1/routes", {"Origin": "null"}, False),
        ("/", {"Host": "evil.example"}, False),
        ("/v1/live", {"Host": "evil.example:9179"}, False),
    ],
)
def test_page_of_another_site_may_not_ask(path: str, headers: dict[str, str], is_let_in: bool) -> None:
    check = contextlib.nullcontext() if is_let_in else pytest.raises(Rejected)
    with check as refused:
        Access().check({"Host": "127.0.0.1", **headers}, path)
    assert is_let_in or (refused is not None and refused.value.status == 403)


async def test_every_file_of_the_page_is_served_and_may_do_nothing_but_read_this_host(tmp_path: Path) -> None:
    files = [path.name for path in (Path(__file__).parents[2] / "bgpd" / "page").iterdir()]
    assert "main.js" in files
    async with served(tmp_path) as listen, aiohttp.ClientSession() as http:
        for target in ["/", *(f"/page/{name}" for name in files)]:
            async with http.get(f"http://{listen}{target}") as response:
                text = await response.text()
                assert response.status == 200
                assert response.content_type in KINDS.values()
                assert "default-src 'none'" in response.headers["Content-Security-Policy"]
                assert "unsafe" not in response.headers["Content-Security-Policy"]
                assert response.headers["X-Content-Type-Options"] == "nosniff"
                assert response.headers["Cache-Control"] == "no-cache"
                for foreign in ("http://", "https://", "innerHTML", "eval(", "style="):
                    assert foreign not in text.replace("http://www.w3.org/2000/svg", ""), f"{foreign} in {target}"
                tag = response.headers["ETag"]
            async with http.get(f"http://{listen}{target}", headers={"If-None-Match": tag}) as response:
                assert (response.status, await response.read()) == (304, b"")
        for target in ("/page/none.js", "/page/..%2f__init__.py", "/page/__init__.py", "/page/"):
            async with http.get(f"http://{listen}{target}") as response:
                assert response.status == 404
        async with http.get(f"http://{listen}/v1/neighbors") as response:
            assert response.headers["Cache-Control"] == "no-store"
        for method in ("POST", "PUT", "DELETE"):
            for target in ("/v1/reload", "/v1/drain", "/v1/workloads/a", "/v1/confirm", "/v1/upgrade"):
                async with http.request(method, f"http://{listen}{target}") as response:
                    assert response.status in (404, 405)


def test_package_has_all_kinds_of_files_that_the_page_needs() -> None:
    assert {".html", ".css", ".js", ".svg"} == set(KINDS)
    assert PageFiles()._files.keys() >= {"index.html", "page.css", "main.js", "icon.svg"}


def trusting(certificate: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(certificate))


async def test_tls_is_spoken_and_a_renewed_certificate_is_shown(tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path)
    first = trusting(certificate)
    config = {"tls_certificate": str(certificate), "tls_key": str(key), "token_file": token_file(tmp_path)}
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with served(tmp_path, **config) as listen, aiohttp.ClientSession(headers=headers) as http:
        async with http.get(f"https://{listen}/v1/neighbors", ssl=first) as response:
            assert response.status == 200
        with pytest.raises(aiohttp.ClientError):
            await http.get(f"http://{listen}/v1/neighbors")
        (tmp_path / "other").mkdir()
        renewed = make_certificate(tmp_path / "other")
        shutil.copy(renewed[0], certificate)  # the key is not there yet: the former one is shown
        async with http.get(f"https://{listen}/v1/neighbors", ssl=first) as response:
            assert response.status == 200
        shutil.copy(renewed[1], key)
        async with http.get(f"https://{listen}/v1/neighbors", ssl=trusting(renewed[0])) as response:
            assert response.status == 200


async def test_handshake_that_fails_or_never_comes_holds_its_place_no_longer_than_it_may_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "HEADER_TIMEOUT_S", 0.2)
    accept = connections.Connections(asyncio.Protocol, most=2, max_bytes=100, before_tls=lambda: None)
    accept(), accept()
    with pytest.raises(ConnectionRefusedError):
        accept()
    await until(lambda: len(accept) == 0)
    accept()


@pytest.mark.parametrize("request_line", ["xyzzy", "GET /v1/health HTTP/1.1"])
async def test_clients_with_tls_leave_nothing(tmp_path: Path, request_line: str) -> None:
    """As in the daemon, where nothing is collected unasked: each that spoke no HTTP then left 300 KB, for good where a
    table came in the same minute."""
    certificate, key = make_certificate(tmp_path)
    config = {"tls_certificate": str(certificate), "tls_key": str(key), "token_file": token_file(tmp_path)}
    async with served(tmp_path, **config) as listen:
        host, port = listen.split(":")
        gc.collect()
        gc.disable()
        try:
            for _ in range(10):
                reader, writer = await asyncio.open_connection(host, int(port), ssl=trusting(certificate))
                writer.write(f"{request_line}\r\nHost: {listen}\r\n\r\n".encode())
                assert await reader.read()
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
            left = [one for one in gc.get_objects() if isinstance(one, SSLProtocol) and one._server_side]  # type: ignore[attr-defined]
        finally:
            gc.enable()
    assert len(left) <= 1


async def test_client_with_tls_that_breaks_off_leaves_its_place(tmp_path: Path) -> None:
    """Without a word of TLS: in the middle of a stream, and of its request."""
    certificate, key = make_certificate(tmp_path)
    listen = f"127.0.0.1:{free_port()}"
    files = {"tls_certificate": str(certificate), "tls_key": str(key)}
    server = ApiServer(ApiConfig(socket=str(tmp_path / "s"), listen=listen, **files), ScriptedBackend())
    await server.start()
    host, port = listen.split(":")
    for said in (b"GET /v1/live HTTP/1.1\r\nHost: localhost\r\n\r\n", b"GET /v1/li"):
        reader, writer = await asyncio.open_connection(host, int(port), ssl=trusting(certificate))
        writer.write(said)
        await until(lambda: len(server._https[1].open) == 1)
        if said.endswith(b"\r\n"):
            await reader.readuntil(b"\r\n\r\n")
        writer.transport.abort()
        await until(lambda: not server._https[1].open)
    await server.stop()


async def test_client_with_tls_that_reads_slowly_gets_the_whole_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Far more than the kernel keeps, for longer than a second."""
    size = 8 << 20
    monkeypatch.setattr(ScriptedBackend, "metrics", lambda self: iter(["x" * size]))
    certificate, key = make_certificate(tmp_path)
    async with served(tmp_path, tls_certificate=str(certificate), tls_key=str(key)) as listen:
        host, port = listen.split(":")
        reader, writer = await asyncio.open_connection(host, int(port), ssl=trusting(certificate))
        writer.write(f"GET /metrics HTTP/1.1\r\nHost: {listen}\r\n\r\n".encode())
        await reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(1.3)
        assert await reader.readexactly(size)
        writer.close()


def test_origin_that_is_none_is_refused() -> None:
    with pytest.raises(Rejected, match="may not read"):
        Access().check({"Host": "127.0.0.1", "Origin": "http://["}, "/v1/health")


@pytest.mark.parametrize("missing", ["token", "host1.key"])
async def test_nobody_is_served_over_tcp_before_what_protects_it_is_there(
    tmp_path: Path, missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tcp_listener, "RETRY_S", 0.01)
    certificate, key = make_certificate(tmp_path)
    config = {"tls_certificate": str(certificate), "tls_key": str(key), "token_file": token_file(tmp_path)}
    kept = (tmp_path / missing).read_bytes()
    port = free_port()
    api = ApiConfig(socket=str(tmp_path / "s"), listen=f"127.0.0.1:{port}", **config)
    server = ApiServer(api, ScriptedBackend())
    (tmp_path / missing).unlink()
    await server.start()
    retries = asyncio.create_task(server.run())
    for wrong in (None, b""):
        if wrong is not None:
            (tmp_path / missing).write_bytes(wrong)
            await until(lambda: "cannot be read" not in server.warnings()[0])
        (warning,) = server.warnings()
        assert missing in warning
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)
    unix = aiohttp.ClientSession("http://bgpd", connector=aiohttp.UnixConnector(path=str(tmp_path / "s")))
    async with unix as http, http.get("/v1/neighbors") as response:
        assert response.status == 200
    (tmp_path / missing).write_bytes(kept)
    await retries
    assert server.warnings() == []
    headers = {"Authorization": f"Bearer {TOKEN}"}
    tls = aiohttp.TCPConnector(ssl=trusting(certificate))
    over_tcp = aiohttp.ClientSession(f"https://127.0.0.1:{port}", connector=tls, headers=headers)
    async with over_tcp as http, http.get("/v1/neighbors") as response:
        assert response.status == 200
    await server.stop()
    assert not (tmp_path / "s").exists()


async def test_address_that_is_taken_or_not_there_is_told_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tcp_listener, "RETRY_S", 0.01)
    other = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    port = other.sockets[0].getsockname()[1]
    for listen, why in ((f"127.0.0.1:{port}", "another program listens there"), (f"192.0.2.1:{port}", "not on this")):
        server = ApiServer(ApiConfig(socket=str(tmp_path / "s"), listen=listen), ScriptedBackend())
        await server.start()
        assert why in server.warnings()[0]
        retries = asyncio.create_task(server.run())
        if listen.startswith("127"):
            other.close()
            await retries
            assert server.warnings() == []
            async with aiohttp.ClientSession() as http, http.get(f"http://{listen}/v1/neighbors") as response:
                assert response.status == 200
        await server.stop()
        await retries


def test_bad_renewal_is_told_once_and_the_former_stays(tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path)
    shown = Certificate(str(certificate), str(key))
    good = certificate.read_bytes()
    assert shown.problem == ""
    certificate.write_text("nothing")
    shown.look()
    assert "the former certificate is shown" in shown.problem
    seen = shown._seen
    shown.look()
    assert shown._seen is seen
    certificate.unlink()
    shown.look()
    assert shown._seen[0] is None
    certificate.write_bytes(good)
    shown.look()
    assert shown.problem == ""
