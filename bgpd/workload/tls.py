"""TLS as a client over a connected socket, for health checks by HTTPS.

By OpenSSL's memory buffers (ssl.MemoryBIO) and the event loop's socket calls. asyncio's own TLS would do the same, but
loads ssl into every daemon; this module is imported when the first HTTPS check runs.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from functools import lru_cache
from typing import TypeVar

_RECORD = 1 << 14
_T = TypeVar("_T")


class TlsFailed(Exception):
    """The peer speaks no TLS, or its certificate is not good; the text is OpenSSL's reason."""


class TlsClosed(TlsFailed):
    """The peer closed the connection without saying so in TLS."""


@lru_cache(maxsize=2)
def client_context(verify: bool) -> ssl.SSLContext:
    """The system's trusted certificates, or none checked. Reads files: to be called in a thread."""
    context = ssl.create_default_context()
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


class TlsClient:
    """Sends and receives over a non-blocking `connection`, which stays the caller's to close.

    Every method raises: TlsFailed: handshake or record refused; OSError: the connection broke.
    """

    def __init__(self, connection: socket.socket, context: ssl.SSLContext, *, server_hostname: str) -> None:
        self._connection = connection
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=server_hostname)

    async def handshake(self) -> None:
        """To be awaited first."""
        await self._step(self._tls.do_handshake)

    async def send(self, data: bytes) -> None:
        """All of `data`."""
        await self._step(lambda: self._tls.write(data))

    async def receive(self, most: int) -> bytes:
        """Some bytes; b"" at the end."""
        try:
            return await self._step(lambda: self._tls.read(most))
        except TlsClosed:
            return b""

    async def _step(self, operation: Callable[[], _T]) -> _T:
        """Repeat `operation` until it needs no more of the peer's bytes; what it wants to say goes out."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                result = operation()
            except ssl.SSLWantReadError:
                await self._flush()
                data = await loop.sock_recv(self._connection, _RECORD)
                if data:
                    self._incoming.write(data)
                else:
                    self._incoming.write_eof()
            except ssl.SSLEOFError:
                raise TlsClosed("closed") from None
            except ssl.SSLError as error:
                raise TlsFailed(error.reason or str(error)) from None
            else:
                await self._flush()
                return result

    async def _flush(self) -> None:
        if self._outgoing.pending:
            await asyncio.get_running_loop().sock_sendall(self._connection, self._outgoing.read())
