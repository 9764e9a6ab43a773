"""One health check of one address: TCP connect, HTTP(S) status, or a program's exit code.

Each probe answers "" or why it failed, in time or cancelled by its caller. Decides nothing more.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
import ssl
from functools import lru_cache

from bgpd.model.service import CheckType, HealthCheck
from bgpd.runtime.programs import ProgramRefused, Programs

MAX_STATUS_LINE = 4096
"""Bytes of a status line that are read at most."""

MAX_ANSWER = 65_536
"""Bytes of an answer, with the 1xx responses before it."""

_INTERIM = re.compile(rb"HTTP/1\.\d 1(?!01)\d\d")
"""The beginning of a 1xx response that another one follows; after 101 comes no more HTTP."""


async def probe(check: HealthCheck, address: str, *, device: str, programs: Programs) -> str:
    """Run a check of any type but push. `device` binds the connection to an interface ("" for none)."""
    try:
        async with asyncio.timeout(check.timeout_s):
            match check.type:
                case CheckType.TCP:
                    return await _probe_tcp(check, address, device)
                case CheckType.EXEC:
                    return await _probe_exec(check, address, device, programs)
                case _:
                    return await _probe_http(check, address, device)
    except TimeoutError:
        return f"no answer in {check.timeout_s:g} s"
    except OSError as error:
        return os.strerror(error.errno) if error.errno else str(error)


async def _connect(address: str, port: int, device: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    connection = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        if device:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
        await asyncio.get_running_loop().sock_connect(connection, (address, port))
    except BaseException:
        connection.close()
        raise
    return connection


async def _probe_tcp(check: HealthCheck, address: str, device: str) -> str:
    (await _connect(address, check.port, device)).close()
    return ""


@lru_cache(maxsize=2)
def _client_context(verify: bool) -> ssl.SSLContext:
    """The system's trusted certificates, or no verification. Reads files: to be called in a thread."""
    context = ssl.create_default_context()
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


async def _probe_http(check: HealthCheck, address: str, device: str) -> str:
    context = await asyncio.to_thread(_client_context, check.verify) if check.type is CheckType.HTTPS else None
    connection = await _connect(address, check.port, device)
    try:
        reader, writer = await asyncio.open_connection(
            sock=connection, limit=MAX_STATUS_LINE, ssl=context, server_hostname=address if context else None
        )
    except ssl.SSLError as error:
        return f"TLS: {error.reason or error}"
    except ConnectionError:
        return "TLS: closed"
    try:
        return await _ask_status(check, address, reader, writer)
    finally:
        writer.transport.abort()


async def _ask_status(
    check: HealthCheck, address: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> str:
    host = f"[{address}]" if ":" in address else address
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


async def _probe_exec(check: HealthCheck, address: str, device: str, programs: Programs) -> str:
    try:
        code = await programs.run(check.command, (address, str(check.port), *([device] if device else [])))
    except ProgramRefused as error:
        return str(error)
    return "" if code == 0 else f"{check.command} ended with code {code}"
