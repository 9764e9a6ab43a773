"""Requests and answers of the API, as handlers see them: nothing is known here of how they get over the wire."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from typing import Protocol
from urllib.parse import parse_qsl, unquote


class Response:
    """A whole answer. `headers` are fields by their names, beside those that each answer has."""

    def __init__(
        self, body: bytes = b"", *, status: int = 200, content_type: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        self.body = body
        self.status = status
        self.headers = dict(headers or {})
        if content_type:
            self.headers["Content-Type"] = content_type


class Wire(Protocol):
    """The connection that a request came by. After the client has gone all methods raise ConnectionError."""

    @property
    def transport(self) -> asyncio.Transport | None:
        """None when the client has gone."""

    async def read_body(self) -> bytes:
        """The body of the request. Raises: Rejected: it is too long, or its framing is wrong."""

    async def begin(self, response: Response) -> None:
        """Send status and header of an answer that comes in parts."""

    async def write(self, part: bytes) -> None:
        """Send a part, and wait until there is room for the next one."""

    async def send(self, response: Response) -> None:
        """Send a whole answer now; what the handler returns is then not sent any more."""


class Headers(Mapping[str, str]):
    """Header fields, by names in any case; the first of each name."""

    def __init__(self, pairs: Iterable[tuple[bytes, bytes]] = ()) -> None:
        self._values: dict[str, str] = {}
        for name, value in pairs:
            self._values.setdefault(name.decode("ascii").lower(), value.decode(errors="surrogateescape"))

    def __getitem__(self, name: str) -> str:
        return self._values[name.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


class Request:
    """What a client asks. `raw_path` is as it was sent, `path` is decoded, `query` has the first of each name, and
    `repeated` the names that come again; `match_info`: the parts of the path that its route names."""

    def __init__(self, wire: Wire, method: str, target: str, headers: Headers) -> None:
        self.wire = wire
        self.method = method
        self.headers = headers
        self.raw_path, _, query = target.partition("?")
        self.path = unquote(self.raw_path)
        self.query: dict[str, str] = {}
        self.repeated: list[str] = []
        for name, value in parse_qsl(query, keep_blank_values=True):
            if name in self.query:
                self.repeated.append(name)
            self.query.setdefault(name, value)
        self.match_info: dict[str, str] = {}

    @property
    def transport(self) -> asyncio.Transport | None:
        """None when the client has gone."""
        return self.wire.transport

    @property
    def remote(self) -> str:
        """The address of the client; "" if it has none."""
        peer = self.transport.get_extra_info("peername") if self.transport is not None else None
        return str(ipaddress.ip_address(peer[0].partition("%")[0])) if isinstance(peer, tuple) else ""

    async def read(self) -> bytes:
        """The body. Raises: Rejected, ConnectionError."""
        return await self.wire.read_body()


class Stream(Response):
    """An answer that comes in parts, which ends with its handler."""

    def __init__(self, request: Request, content_type: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(content_type=content_type, headers=headers)
        self._wire = request.wire

    async def begin(self) -> None:
        """Send the header. Raises: ConnectionError."""
        await self._wire.begin(self)

    async def write(self, part: bytes) -> None:
        """Send a part, and wait until there is room for the next one. Raises: ConnectionError."""
        await self._wire.write(part)


Handler = Callable[[Request], Awaitable[Response]]
