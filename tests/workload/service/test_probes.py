"""Health checks against real listeners on loopback, in a namespace of the test's own."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import ssl
import struct
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgpd.model.service import CheckType, DnsRecord, HealthCheck
from bgpd.runtime.memory import MANY_CYCLES, GarbagePolicy
from bgpd.runtime.programs import Programs
from bgpd.workload.service import dns
from bgpd.workload.service.probes import Way, probe
from tests.own_network import own_network

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
    return await probe(check, "127.0.0.1", way=Way(device=device), programs=Programs(directory))


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


async def test_checks_without_end_leave_no_garbage() -> None:
    """Of each connection, the server's here, too, seven containers are left until a pass: a hundred checks every two
    seconds were taken for a table within a minute, and set aside."""
    GarbagePolicy().start()
    try:
        async with answering(b"HTTP/1.1 200 OK\r\n\r\n"):
            for _ in range(2 * MANY_CYCLES // 50):
                assert not any(await asyncio.gather(*(run(CheckType.HTTP) for _ in range(50))))
            assert gc.get_count()[0] < 10 * MANY_CYCLES * 2
    finally:
        gc.unfreeze()
        gc.enable()


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


@pytest.mark.parametrize("host", ["a..b", ".example.org", ".", "a" * 64])
async def test_https_with_a_host_that_is_no_name(host: str, certificate: ssl.SSLContext) -> None:
    async with answering(b"HTTP/1.1 200 OK\r\n\r\n", certificate):
        assert await run(CheckType.HTTPS, host=host) == f'TLS: the host "{host}" is no name'


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


async def test_exec_that_is_a_link_to_itself(tmp_path: Path) -> None:
    (tmp_path / "check").symlink_to("check")
    assert await run(CheckType.EXEC, directory=str(tmp_path), command="check") == "Too many levels of symbolic links"


async def test_exec_that_others_can_change_is_not_run(tmp_path: Path) -> None:
    directory = script(tmp_path, f"touch {tmp_path}/ran")
    (tmp_path / "check").chmod(0o777)
    assert "check can be written by others (owner 0, mode 0777)" in await run(
        CheckType.EXEC, directory=directory, command="check"
    )
    assert not (tmp_path / "ran").exists()


A_RECORD = b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\x0a\x40\x01\x05"
CNAME_RECORD = b"\xc0\x0c\x00\x05\x00\x01\x00\x00\x00\x3c\x00\x02\xc0\x0c"


def dns_answer(query: bytes, *records: bytes, flags: int = 0x8180, identifier: int | None = None) -> bytes:
    """What a server answers to a query: the question again, and these records."""
    head = query[:2] if identifier is None else identifier.to_bytes(2, "big")
    return head + struct.pack("!HHHHH", flags, 1, len(records), 0, 0) + query[12:] + b"".join(records)


class DnsServer(asyncio.DatagramProtocol):
    """Answers each query over UDP with `over_udp(query)`'s datagrams, and over TCP with `over_tcp(query)`."""

    def __init__(
        self,
        over_udp: Callable[[bytes], list[bytes]],
        over_tcp: Callable[[bytes], bytes] = lambda query: b"",
    ) -> None:
        self._over_udp = over_udp
        self._over_tcp = over_tcp

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: object) -> None:
        for answer in self._over_udp(data):
            self._transport.sendto(answer, addr)

    async def serve_tcp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        query = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
        answer = self._over_tcp(query)
        if answer:
            writer.write(len(answer).to_bytes(2, "big") + answer)
        writer.close()


@asynccontextmanager
async def serving_dns(server: DnsServer) -> AsyncIterator[None]:
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(lambda: server, local_addr=("127.0.0.1", PORT))
    tcp = await asyncio.start_server(server.serve_tcp, "127.0.0.1", PORT)
    try:
        yield
    finally:
        transport.abort()
        await asyncio.sleep(0)
        tcp.close()


@pytest.mark.parametrize(
    ("answers", "wanted"),
    [
        (lambda q: [dns_answer(q, A_RECORD)], ""),
        (lambda q: [dns_answer(q, CNAME_RECORD, A_RECORD)], ""),
        (lambda q: [dns_answer(q)], "DNS: no A record"),
        (lambda q: [dns_answer(q, CNAME_RECORD)], "DNS: no A record"),
        (lambda q: [dns_answer(q, flags=0x8183)], "DNS: NXDOMAIN"),
        (lambda q: [dns_answer(q, flags=0x8182)], "DNS: SERVFAIL"),
        (lambda q: [dns_answer(q, flags=0x818B)], "DNS: response code 11"),
        (lambda q: [b"", b"x", q, dns_answer(q, A_RECORD, identifier=7), dns_answer(q, A_RECORD)], ""),
        (lambda q: [dns_answer(q, A_RECORD, identifier=int.from_bytes(q[:2], "big") ^ 1)], NO_ANSWER),
        (lambda q: [dns_answer(q[:12] + q[12:].replace(b"xample", b"xampel"), A_RECORD)], NO_ANSWER),
        (lambda q: [b"junk"] * 100, "DNS: the answers are to other questions"),
        (lambda q: [dns_answer(q, A_RECORD[:-2])], "DNS: the answer is malformed"),
        (lambda q: [dns_answer(q, b"\x3f" * 16)], "DNS: the answer is malformed"),
        (lambda q: [], NO_ANSWER),
        (lambda q: [dns_answer(q, flags=0x8380)], "closed without an answer"),
    ],
    ids=[
        *("ok", "alias", "nothing", "alias-only", "nxdomain", "servfail", "other-code", "late-and-forged-first"),
        *("wrong-id", "other-name", "flood", "cut", "bad-name", "silent", "truncated-and-no-tcp"),
    ],
)
async def test_dns_over_udp(answers: Callable[[bytes], list[bytes]], wanted: str) -> None:
    patience = SHORT_S if wanted == NO_ANSWER else PATIENCE_S
    async with serving_dns(DnsServer(answers)):
        assert await run(CheckType.DNS, query="www.Example.org", timeout_s=patience) == wanted


async def test_dns_answer_that_is_cut_short_is_asked_for_over_tcp() -> None:
    whole = DnsServer(lambda q: [dns_answer(q, flags=0x8380)], lambda q: dns_answer(q, A_RECORD))
    async with serving_dns(whole):
        assert await run(CheckType.DNS, query="example.org") == ""
    cut = DnsServer(lambda q: [dns_answer(q, flags=0x8380)], lambda q: dns_answer(q, flags=0x8380))
    async with serving_dns(cut):
        assert await run(CheckType.DNS, query="example.org") == "DNS: truncated over TCP"


async def test_dns_over_tcp_alone() -> None:
    async with serving_dns(DnsServer(lambda q: [], lambda q: dns_answer(q, A_RECORD))):
        assert await run(CheckType.DNS, query="example.org", transport="tcp") == ""
        assert await run(CheckType.DNS, query=".", transport="tcp", query_type="AAAA") == "DNS: no AAAA record"
    async with serving_dns(DnsServer(lambda q: [], lambda q: dns_answer(q, A_RECORD, identifier=1))):
        assert (
            await run(CheckType.DNS, query="example.org", transport="tcp") == "DNS: the answer is to another question"
        )
    assert await run(CheckType.DNS, query="example.org") == "Connection refused"


@given(st.binary(max_size=64), st.sampled_from(list(DnsRecord)))
def test_any_bytes_as_a_dns_answer_are_judged(data: bytes, record: DnsRecord) -> None:
    query = dns.encode_query("example.org", record, 1)
    for answer in (data, dns_answer(query, data), dns_answer(query, data)[: 12 + len(data)]):
        with contextlib.suppress(dns.NotForUs, dns.Truncated):
            assert isinstance(dns.read_answer(answer, query, record), str)


async def test_redirect_is_no_healthy_answer_and_a_body_without_end_is_not_read() -> None:
    async with answering(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\n\r\n"):
        assert await run(CheckType.HTTP) == "HTTP status 302"
    async with answering(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n" + b"x" * 10_000_000):
        assert await run(CheckType.HTTP) == ""


async def test_name_of_the_host_is_sent_in_the_request() -> None:
    heard: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", PORT):
        assert await run(CheckType.HTTP, host="www.example.org") == ""
        assert await run(CheckType.HTTP) == ""
    assert b"Host: www.example.org:8080\r\n" in heard[0]
    assert b"Host: 127.0.0.1:8080\r\n" in heard[1]


async def test_probe_comes_from_a_foreign_source_and_goes_one_hop(tmp_path: Path) -> None:
    """The source need not be this host's; what forwards the answer to it is the caller's concern."""
    heard: asyncio.Queue[str] = asyncio.Queue()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.put_nowait(writer.get_extra_info("peername")[0])
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", PORT), await asyncio.start_server(serve, "::1", PORT):
        check = HealthCheck(type=CheckType.TCP, port=PORT, timeout_s=PATIENCE_S)
        for address, source in (("127.0.0.1", "127.9.9.9"), ("::1", "::1")):
            way = Way(source=source, hops=1)
            assert await probe(check, address, way=way, programs=Programs("")) == ""
            assert await heard.get() == source


async def test_program_that_prints_without_end_harms_nobody(tmp_path: Path) -> None:
    assert await run(CheckType.EXEC, directory=script(tmp_path, "exec yes"), timeout_s=SHORT_S, command="check") == (
        NO_ANSWER
    )
