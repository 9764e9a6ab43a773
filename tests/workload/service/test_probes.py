"""Health checks against real listeners on loopback, in a namespace of the test's own."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from bgpd.model.service import CheckType, HealthCheck
from bgpd.runtime.programs import Programs
from bgpd.workload.service.probes import probe
from tests.workload.broker import own_network

pytestmark = pytest.mark.netns

PORT = 8080
PATIENCE_S = 30.0
"""The limit of a check that is answered, however busy the machine is."""
SHORT_S = 0.3
"""The limit of one that has no answer."""
NO_ANSWER = "no answer in 0.3 s"


@pytest.fixture(autouse=True)
def network() -> Iterator[None]:
    with own_network():
        yield


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    """A server's self-signed certificate."""
    directory = tmp_path_factory.mktemp("tls")
    key, certificate = directory / "key.pem", directory / "certificate.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -subj /CN=check"
    subprocess.run([*command.split(), "-keyout", key, "-out", certificate], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


@asynccontextmanager
async def answering(answer: bytes | None, tls: ssl.SSLContext | None = None) -> AsyncIterator[None]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        if answer is None:
            await reader.read()
        else:
            writer.write(answer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", PORT, ssl=tls)
    try:
        yield
    finally:
        server.close()


async def run(
    kind: CheckType, *, directory: str = "", device: str = "", timeout_s: float = PATIENCE_S, **fields: Any
) -> str:
    check = HealthCheck(type=kind, port=PORT, timeout_s=timeout_s, **fields)
    return await probe(check, "127.0.0.1", device=device, programs=Programs(directory))


async def test_tcp_connect() -> None:
    assert await run(CheckType.TCP) == "Connection refused"
    async with answering(b""):
        assert await run(CheckType.TCP) == ""
        assert await run(CheckType.TCP, device="lo") == ""
        assert await run(CheckType.TCP, device="none0") == "No such device"


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", ""),
        (b"HTTP/1.0 204 \r\n\r\n", ""),
        (b"HTTP/1.1 503 Busy\r\n\r\n", "HTTP status 503"),
        (b"SSH-2.0-x\r\n", "the answer is no HTTP"),
        (b"x" * 100_000, "the answer is no HTTP"),
        (b"", "closed without an answer"),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", ""),
        (b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 3 + b"HTTP/1.1 503 Busy\r\n\r\n", "HTTP status 503"),
        (b"HTTP/1.1 102 Processing\n\nHTTP/1.0 204 \n\n", ""),
        (b"HTTP/1.1 103 Early Hints\r\n\r\n", "closed without an answer"),
        (b"HTTP/1.1 103 Early Hints\r\nLink: ", "HTTP status 103, and no final one after it"),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", "HTTP status 101"),
        (b"HTTP/1.1 103 Early Hints\r\nLink: " + b"x" * 100_000, "HTTP status 103, and no final one after it"),
    ],
    ids=[
        *("ok", "other-ok", "status", "ssh", "long", "closed"),
        *("continue", "hints", "newlines", "nothing-final", "cut", "switching", "endless-hints"),
    ],
)
async def test_http_status(answer: bytes, wanted: str) -> None:
    async with answering(answer):
        assert await run(CheckType.HTTP, status=(200, 204)) == wanted


async def test_https_with_a_server_that_speaks_no_tls() -> None:
    async with answering(b"HTTP/1.1 200 OK\r\n\r\n"):
        assert (await run(CheckType.HTTPS)).startswith("TLS: ")
    async with answering(b""):
        assert await run(CheckType.HTTPS) == "TLS: closed"


@pytest.mark.parametrize("kind", [CheckType.HTTP, CheckType.HTTPS])
async def test_server_that_is_silent_has_no_answer(kind: CheckType) -> None:
    async with answering(None):
        assert await run(kind, timeout_s=SHORT_S) == NO_ANSWER


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", ""),
        (b"HTTP/1.1 503 Busy\r\n\r\n", "HTTP status 503"),
        (b"SSH\r\n", "the answer is no HTTP"),
    ],
    ids=["ok", "status", "ssh"],
)
async def test_https_status(answer: bytes, wanted: str, certificate: ssl.SSLContext) -> None:
    async with answering(answer, certificate):
        assert await run(CheckType.HTTPS, verify=False) == wanted
        assert await run(CheckType.HTTPS, verify=True) == "TLS: CERTIFICATE_VERIFY_FAILED"


async def test_https_closed_without_an_answer(certificate: ssl.SSLContext) -> None:
    async with answering(b"", certificate):
        assert await run(CheckType.HTTPS, verify=False) == "closed without an answer"


def script(directory: Path, text: str) -> str:
    path = directory / "check"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(directory)


async def test_exec_by_its_exit_code_with_address_and_port(tmp_path: Path) -> None:
    good = script(tmp_path, '[ "$1 $2" = "127.0.0.1 8080" ]')
    assert await run(CheckType.EXEC, directory=good, command="check") == ""
    assert await run(CheckType.EXEC, directory=script(tmp_path, "exit 7"), command="check") == "check ended with code 7"
    assert await run(CheckType.EXEC, directory=good, command="none") == "No such file or directory"


async def test_exec_in_a_vrf_is_told_the_interface(tmp_path: Path) -> None:
    directory = script(tmp_path, '[ "$*" = "127.0.0.1 8080 pod1" ]')
    assert await run(CheckType.EXEC, directory=directory, device="pod1", command="check") == ""


async def test_exec_that_hangs_has_no_answer(tmp_path: Path) -> None:
    directory = script(tmp_path, "sleep 60 & wait")
    assert await run(CheckType.EXEC, directory=directory, timeout_s=SHORT_S, command="check") == NO_ANSWER


async def test_exec_that_others_can_change_is_not_run(tmp_path: Path) -> None:
    directory = script(tmp_path, f"touch {tmp_path}/ran")
    (tmp_path / "check").chmod(0o777)
    assert "check can be written by others (owner 0, mode 0777)" in await run(
        CheckType.EXEC, directory=directory, command="check"
    )
    assert not (tmp_path / "ran").exists()
