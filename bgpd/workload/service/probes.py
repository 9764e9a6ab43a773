"""One health check of one address: TCP connect, HTTP(S) status, or a program's exit code.

Each probe answers "" or why it failed, in time or cancelled by its caller. Decides nothing more.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Protocol

from bgpd.model.service import CheckType, HealthCheck

MAX_STATUS_LINE = 4096

TLS = "bgpd.workload.tls"
"""Loaded when the first HTTPS check runs."""


async def probe(check: HealthCheck, address: str, *, device: str, command_directory: str) -> str:
    """Run a check of any type but push. `device` binds the connection to an interface ("" for none)."""
    if check.type is CheckType.HTTPS:
        await asyncio.to_thread(importlib.import_module, TLS)  # not at the cost of the first check's time
    try:
        async with asyncio.timeout(check.timeout_s):
            match check.type:
                case CheckType.TCP:
                    return await _probe_tcp(check, address, device)
                case CheckType.EXEC:
                    return await _probe_exec(check, address, device, command_directory)
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


class _Channel(Protocol):
    async def send(self, data: bytes) -> None: ...

    async def receive(self, most: int) -> bytes: ...


class _Plain:
    """A connection without TLS."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    async def send(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self._connection, data)

    async def receive(self, most: int) -> bytes:
        return await asyncio.get_running_loop().sock_recv(self._connection, most)


async def _probe_http(check: HealthCheck, address: str, device: str) -> str:
    with await _connect(address, check.port, device) as connection:
        if check.type is CheckType.HTTP:
            return await _ask_status(check, address, _Plain(connection))
        tls = sys.modules[TLS]
        context = await asyncio.to_thread(tls.client_context, check.verify)
        channel = tls.TlsClient(connection, context, server_hostname=address)
        try:
            await channel.handshake()
            return await _ask_status(check, address, channel)
        except tls.TlsFailed as error:
            return f"TLS: {error}"


async def _ask_status(check: HealthCheck, address: str, channel: _Channel) -> str:
    host = f"[{address}]" if ":" in address else address
    await channel.send(
        f"GET {check.path} HTTP/1.1\r\nHost: {host}:{check.port}\r\n"
        "User-Agent: bgpd-health\r\nConnection: close\r\n\r\n".encode()
    )
    answer = b""
    while b"\n" not in answer and len(answer) < MAX_STATUS_LINE:
        data = await channel.receive(MAX_STATUS_LINE)
        if not data:
            break
        answer += data
    version, _, rest = answer.partition(b" ")
    code = rest[:3]
    if not version.startswith(b"HTTP/1.") or not code.isdigit():
        return "the answer is no HTTP" if answer else "closed without an answer"
    return "" if int(code) in check.status else f"HTTP status {int(code)}"


async def _probe_exec(check: HealthCheck, address: str, device: str, command_directory: str) -> str:
    process = await asyncio.create_subprocess_exec(
        Path(command_directory) / check.command,
        *(address, str(check.port), *([device] if device else [])),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        code = await process.wait()
    except asyncio.CancelledError:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        raise
    return "" if code == 0 else f"{check.command} ended with code {code}"
