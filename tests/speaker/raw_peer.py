"""A neighbor on the loopback interface that says whatever the test wants."""

from __future__ import annotations

import asyncio
from typing import Any

from bgpd.message.exabgp_codec import KEEPALIVE
from bgpd.model.iana import MessageType
from tests.speaker.messages import open_bytes


class RawPeer:
    """A peer at 127.0.0.2 that listens, answers OPEN and then does as told; a context manager."""

    def __init__(self) -> None:
        self.port = 0
        self.connections: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
        self.reader = asyncio.StreamReader()
        self.writer: asyncio.StreamWriter | None = None

    async def __aenter__(self) -> RawPeer:
        self._server = await asyncio.start_server(lambda r, w: self.connections.put_nowait((r, w)), "127.0.0.2", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exception: object) -> None:
        self._server.close()
        if self.writer is not None:
            self.writer.close()

    async def open(self, *, establish: bool = True, **fields: Any) -> None:
        """Take the next connection, and establish the session on it."""
        self.reader, self.writer = await asyncio.wait_for(self.connections.get(), 30)
        kind, _ = await self.read()
        assert kind is MessageType.OPEN
        if establish:
            self.writer.write(open_bytes(**fields) + KEEPALIVE)
            assert (await self.read())[0] is MessageType.KEEPALIVE

    def write(self, data: bytes) -> None:
        assert self.writer is not None
        self.writer.write(data)

    async def read(self) -> tuple[MessageType, bytes]:
        header = await asyncio.wait_for(self.reader.readexactly(19), 30)
        return MessageType(header[18]), await self.reader.readexactly(int.from_bytes(header[16:18]) - 19)

    async def notification(self) -> tuple[int, int, bytes]:
        """The NOTIFICATION that ends the connection."""
        while True:
            kind, body = await self.read()
            if kind is MessageType.NOTIFICATION:
                assert await self.reader.read() == b""
                return body[0], body[1], body[2:]
