"""What one check or probe does: TCP connect, HTTP(S) status, DNS answer, or a program's exit code.

Each answers "" or why it failed, in time or cancelled by its caller. A probe of a service's own address is bound to the
source that `Way` names, and goes no further than one hop: it cannot be answered by another host. Decides nothing more.
"""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import socket
import ssl
from functools import lru_cache

import msgspec

from bgpd.model.service import CheckType, DnsTransport, HealthCheck
from bgpd.runtime.memory import cycle_left
from bgpd.runtime.programs import ProgramRefused, Programs
from bgpd.workload.service import dns

MAX_STATUS_LINE = 4096
"""Bytes of a status line that are read at most."""

MAX_ANSWER = 65_536
"""Bytes of an answer, with the 1xx responses before it."""

_INTERIM = re.compile(rb"HTTP/1\.\d 1(?!01)\d\d")
"""The beginning of a 1xx response that another one follows; after 101 comes no more HTTP."""

_IP_TRANSPARENT, _IPV6_TRANSPARENT = 19, 75
"""linux/in.h, linux/in6.h; not in Python's socket module. Needs CAP_NET_ADMIN or CAP_NET_RAW."""
_MAX_STRANGERS = 64
"""Datagrams that are no answer to the question, after which a DNS check has failed."""


class Way(msgspec.Struct, frozen=True):
    """How the packets of a check are to go. `device` binds them to an interface ("" for none).

    `source` is the address that they come from, which need not be this host's; "" leaves it to the kernel. `hops` is
    how far they may go (TTL, hop limit), 0 for as far as it takes.
    """

    device: str = ""
    source: str = ""
    hops: int = 0


ANY_WAY = Way()


async def probe(check: HealthCheck, address: str, *, way: Way = ANY_WAY, programs: Programs) -> str:
    """Run a check of any type but push."""
    try:
        async with asyncio.timeout(check.timeout_s):
            match check.type:
                case CheckType.TCP:
                    return await _probe_tcp(check, address, way)
                case CheckType.DNS:
                    return await _probe_dns(check, address, way)
                case CheckType.EXEC:
                    return await _probe_exec(check, address, way, programs)
                case _:
                    return await _probe_http(check, address, way)
    except TimeoutError:
        return f"no answer in {check.timeout_s:g} s"
    except OSError as error:
        return os.strerror(error.errno) if error.errno else str(error)


def _open(address: str, kind: socket.SocketKind, way: Way) -> socket.socket:
    is_v6 = ":" in address
    flags = socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
    connection = socket.socket(socket.AF_INET6 if is_v6 else socket.AF_INET, kind | flags)
    try:
        if way.device:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, way.device.encode())
        if way.hops and is_v6:
            connection.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, way.hops)
        elif way.hops:
            connection.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, way.hops)
        if way.source:
            level, option = (socket.IPPROTO_IPV6, _IPV6_TRANSPARENT) if is_v6 else (socket.IPPROTO_IP, _IP_TRANSPARENT)
            connection.setsockopt(level, option, 1)
            connection.bind((way.source, 0))
    except BaseException:
        connection.close()
        raise
    return connection


async def _connect(address: str, port: int, way: Way, kind: socket.SocketKind = socket.SOCK_STREAM) -> socket.socket:
    connection = _open(address, kind, way)
    try:
        await asyncio.get_running_loop().sock_connect(connection, (address, port))
    except BaseException:
        connection.close()
        raise
    return connection


async def _probe_tcp(check: HealthCheck, address: str, way: Way) -> str:
    (await _connect(address, check.port, way)).close()
    return ""


@lru_cache(maxsize=2)
def _client_context(verify: bool) -> ssl.SSLContext:
    """The system's trusted certificates, or no verification. Reads files: to be called in a thread."""
    context = ssl.create_default_context()
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


async def _probe_http(check: HealthCheck, address: str, way: Way) -> str:
    context = await asyncio.to_thread(_client_context, check.verify) if check.type is CheckType.HTTPS else None
    connection = await _connect(address, check.port, way)
    try:
        reader, writer = await asyncio.open_connection(
            sock=connection,
            limit=MAX_STATUS_LINE,
            ssl=context,
            server_hostname=(check.host or address) if context else None,
        )
    except ssl.SSLError as error:
        return f"TLS: {error.reason or error}"
    except ConnectionError:
        return "TLS: closed"
    except ValueError:  # a service that was taken by an earlier version
        connection.close()
        return f'TLS: the host "{check.host}" is no name'
    try:
        return await _ask_status(check, address, reader, writer)
    finally:
        _end(writer)


async def _ask_status(
    check: HealthCheck, address: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> str:
    host = check.host or (f"[{address}]" if ":" in address else address)
    writer.write(
        f"GET {check.path} HTTP/1.1\r\nHost: {host}:{check.port}\r\n"
        "User-Agent: bgpd-health\r\nConnection: close\r\n\r\n".encode()
    )
    answer, seen = b"", 0
    while seen < MAX_ANSWER:
        data = await reader.read(MAX_STATUS_LINE)
        if not data:
            break
        seen += len(data)
        answer = _after_interim(answer + data)
        if not _is_interim(answer) and (b"\n" in answer or len(answer) > MAX_STATUS_LINE):
            break
    version, _, rest = answer.partition(b" ")
    code = rest[:3]
    if not version.startswith(b"HTTP/1.") or not code.isdigit():
        return "the answer is no HTTP" if answer else "closed without an answer"
    if int(code) in check.status:
        return ""
    return f"HTTP status {int(code)}" + (", and no final one after it" if _is_interim(answer) else "")


def _after_interim(answer: bytes) -> bytes:
    """An answer without its whole 1xx responses, which only announce the final one (RFC 9110 section 15.2)."""
    while _is_interim(answer):
        for end in (b"\r\n\r\n", b"\n\n"):
            _, found, rest = answer.partition(end)
            if found:
                answer = rest
                break
        else:
            return answer
    return answer


def _is_interim(answer: bytes) -> bool:
    return _INTERIM.match(answer) is not None


async def _probe_dns(check: HealthCheck, address: str, way: Way) -> str:
    query = dns.encode_query(check.query, check.query_type, secrets.randbits(16))
    try:
        if check.transport is DnsTransport.UDP:
            return await _ask_udp(check, address, way, query)
    except dns.Truncated:
        pass
    try:
        return await _ask_tcp(check, address, way, query)
    except dns.Truncated:
        return "DNS: truncated over TCP"
    except dns.NotForUs:
        return "DNS: the answer is to another question"


async def _ask_udp(check: HealthCheck, address: str, way: Way, query: bytes) -> str:
    """The first datagram that answers the question counts; others may be late, or forged."""
    loop = asyncio.get_running_loop()
    with await _connect(address, check.port or dns.PORT, way, socket.SOCK_DGRAM) as connection:
        await loop.sock_sendall(connection, query)
        for _ in range(_MAX_STRANGERS):
            try:
                return dns.read_answer(await loop.sock_recv(connection, MAX_ANSWER), query, check.query_type)
            except dns.NotForUs:
                continue
    return "DNS: the answers are to other questions"


async def _ask_tcp(check: HealthCheck, address: str, way: Way, query: bytes) -> str:
    connection = await _connect(address, check.port or dns.PORT, way)
    reader, writer = await asyncio.open_connection(sock=connection)
    try:
        writer.write(len(query).to_bytes(2, "big") + query)
        length = int.from_bytes(await reader.readexactly(2), "big")
        return dns.read_answer(await reader.readexactly(length), query, check.query_type)
    except asyncio.IncompleteReadError:
        return "closed without an answer"
    finally:
        _end(writer)


def _end(writer: asyncio.StreamWriter) -> None:
    """asyncio's transport refers to itself when it is over."""
    writer.transport.abort()
    cycle_left()


async def _probe_exec(check: HealthCheck, address: str, way: Way, programs: Programs) -> str:
    device = [way.device] if way.device else []
    try:
        code = await programs.run(check.command, (address, str(check.port), *device))
    except ProgramRefused as error:
        return str(error)
    return "" if code == 0 else f"{check.command} ended with code {code}"
