"""HTTP/1.1 on the API's connections: each carries one request and its answer, then ends.

h11 reads and frames the messages (RFC 9112). Here is what surrounds it: a body that is bounded, a client that does not
read, sends more than a request, or has gone, and the end of the server. Who may connect, and how long all of it may
take, is decided in `bgpd/api/connections.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import Mapping
from http import HTTPStatus

import h11

from bgpd.api.app import App, refusal
from bgpd.api.backend import Rejected
from bgpd.api.connections import STALL_TIMEOUT_S
from bgpd.api.http import Headers, Request, Response
from bgpd.runtime.events import log

MAX_BODY_BYTES = 256 * 1024
MAX_HEADER_BYTES = 16 * 1024
"""Of the request line and all header fields."""
EVENTS_AT_ONCE = 200
"""Parts of a request that are read in one turn of the loop: a chunk may have one byte."""
LINGER_S = 1.0
"""How long a client that has said more than was read has for its answer. A socket that is closed with something unread
takes the answer back (tcp(7), unix(7): ECONNRESET)."""
STOP_PATIENCE_S = 0.5
"""How long answers may go on when the server stops."""
_FRAMING = "send it as RFC 9112 section 6 says: with Content-Length, or chunked"
_PYTHON_BYTES = re.compile(r"""(?:bytearray\()?b(?:'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)")\)?""")
_EMPTY = (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED)


class HttpServer:
    """Makes the protocol of each connection of one app, and ends all of them."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.open: set[HttpConnection] = set()

    def __call__(self) -> HttpConnection:
        """The protocol of a new connection."""
        return HttpConnection(self)

    async def stop(self) -> None:
        """Streams end, and other answers may go on for half a second; then all connections are closed."""
        for stop in self.app.on_stop:
            await stop()
        tasks = [one.task for one in self.open if one.task is not None]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=STOP_PATIENCE_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        for connection in tuple(self.open):
            connection.close()


class HttpConnection(asyncio.Protocol):
    """One connection: the `Wire` of its request."""

    def __init__(self, server: HttpServer) -> None:
        self._server = server
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEADER_BYTES)
        self._transport: asyncio.Transport | None = None
        self.task: asyncio.Task[None] | None = None
        self._title = ""
        self._is_head = False
        self._body = bytearray()
        self._is_too_long = self._is_complete = self._has_said_more = False
        self._has_begun = False
        self._bad_framing = ""
        self._begun: Response | None = None
        self._is_paused = False
        self._has_parts_left = False
        self._changed = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._server.open.add(self)

    def data_received(self, data: bytes) -> None:
        if self._is_complete or self._bad_framing:
            self._has_said_more = True
            return
        if not self._has_begun:  # empty lines before a request are ignored (RFC 9112 section 2.2)
            data = data.lstrip(b"\r\n")
            self._has_begun = bool(data)
        if data:
            self._http.receive_data(data)
        if not self._has_parts_left:
            self._read()

    def pause_writing(self) -> None:
        self._is_paused = True

    def resume_writing(self) -> None:
        self._is_paused = False
        self._changed.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._server.open.discard(self)
        self._changed.set()
        if self._timer is not None:
            self._timer.cancel()

    # Reading.

    def _read(self) -> None:
        """What there is of the request, some parts in each turn of the loop; nothing more is received meanwhile."""
        if self._has_parts_left and self._transport is not None:
            self._transport.resume_reading()
        self._has_parts_left = False
        try:
            for _ in range(EVENTS_AT_ONCE):
                if self._transport is None or not self._take(self._http.next_event()):
                    return
        except h11.RemoteProtocolError as error:
            error.__traceback__ = None  # a frame of h11 has the error: what refers to itself stays
            self._bad_framing = _plain(error)
            self._changed.set()
            if self.task is None and self._begun is None:
                with contextlib.suppress(ConnectionError):
                    self._answer_at_once(
                        refusal(Rejected(error.error_status_hint, f"no HTTP request: {self._bad_framing}"))
                    )
            return
        self._has_parts_left = True
        if self._transport is not None:
            self._transport.pause_reading()
        asyncio.get_running_loop().call_soon(self._read)

    def _take(self, event: object) -> bool:
        """Take a part of the request; whether there may be another one."""
        match event:
            case h11.Request():
                self._is_head = event.method == b"HEAD"
                if not event.http_version.startswith(b"1."):
                    raise h11.RemoteProtocolError("its version is not 1.1", error_status_hint=505)
                request = Request(self, event.method.decode(), *_origin_form(event))
                self._title = f"{request.method} {request.path}"
                self._is_too_long = int(request.headers.get("Content-Length", "0")) > MAX_BODY_BYTES
                self.task = asyncio.get_running_loop().create_task(self._serve(request))
            case h11.Data():
                self._is_too_long |= len(self._body) + len(event.data) > MAX_BODY_BYTES
                if not self._is_too_long:
                    self._body += event.data
            case h11.EndOfMessage():
                self._is_complete = True
                self._has_said_more = bool(self._http.trailing_data[0])
            case _:
                return False
        self._changed.set()
        return not self._is_complete

    async def read_body(self) -> bytes:
        """See `Wire`."""
        if self._http.they_are_waiting_for_100_continue and not self._is_too_long:
            self._write(self._http.send(h11.InformationalResponse(status_code=100, headers=[])))
        while not (self._is_complete or self._is_too_long or self._bad_framing):
            await self._change()
        if self._is_too_long:
            status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
            raise Rejected(status, f"{self._title}: {status.phrase}", f"at most {MAX_BODY_BYTES} bytes")
        if self._bad_framing:
            raise Rejected(400, f"the body of the request cannot be read: {self._bad_framing}", _FRAMING)
        return bytes(self._body)

    # Answering.

    @property
    def transport(self) -> asyncio.Transport | None:
        """See `Wire`."""
        return self._transport

    async def begin(self, response: Response) -> None:
        """See `Wire`."""
        self._begun = response
        self._write(self._http.send(_head(response)))

    async def write(self, part: bytes) -> None:
        """See `Wire`."""
        if not self._is_head:
            self._write(self._http.send(h11.Data(data=part)))
        while self._is_paused:
            await self._change()

    async def send(self, response: Response) -> None:
        """See `Wire`."""
        self._answer_at_once(response)

    async def _serve(self, request: Request) -> None:
        try:
            response = await self._server.app.answer(request)
            if self._begun is None:
                self._answer_at_once(response)
            elif self._begun is not response:  # its handler failed when a part of the answer was out
                self._abort()
            elif self._http.our_state is h11.SEND_BODY:
                self._write(self._http.send(h11.EndOfMessage()))
                self._end()
        except ConnectionError:
            self._abort()
        except Exception:  # an answer that HTTP cannot have
            log.exception("api.failed", method=request.method, path=request.path)
            self._abort()
        finally:
            self.task = None

    def _answer_at_once(self, response: Response) -> None:
        """The whole answer, and the end."""
        self._begun = response
        is_empty = response.status in _EMPTY
        parts = [self._http.send(_head(response, {} if is_empty else {"Content-Length": str(len(response.body))}))]
        if response.body and not is_empty and not self._is_head:
            parts.append(self._http.send(h11.Data(data=response.body)))
        parts.append(self._http.send(h11.EndOfMessage()))
        self._write(b"".join(filter(None, parts)))
        self._end()

    def _write(self, data: bytes | None) -> None:
        """Raises: ConnectionError: the client has gone."""
        if self._transport is None or self._transport.is_closing():
            raise ConnectionResetError("the client has gone")
        if data:
            self._transport.write(data)

    def _end(self) -> None:
        """All has been said. What the client says beyond its request is read into nothing meanwhile."""
        transport = self._transport
        if transport is None:
            return
        if (self._is_complete or self._bad_framing) and not self._has_said_more:
            self.close()
            return
        if transport.can_write_eof():
            with contextlib.suppress(OSError):  # the client has gone
                transport.write_eof()
        self._timer = asyncio.get_running_loop().call_later(LINGER_S, self.close)

    async def _change(self) -> None:
        """Wait until something of this connection changes. Raises: ConnectionError: the client has gone."""
        self._changed.clear()
        if self._transport is not None:
            await self._changed.wait()
        if self._transport is None:
            raise ConnectionResetError("the client has gone")

    def close(self) -> None:
        """Close when all that was written is out, or has been left unread for long: asyncio tells of no pause where
        what is left is little, and waits for ever."""
        if self._transport is None:
            return
        self._transport.close()
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(STALL_TIMEOUT_S, self._abort)

    def _abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()


def _plain(error: h11.RemoteProtocolError) -> str:
    """What is wrong, without Python's form of the bytes."""
    return _PYTHON_BYTES.sub(lambda found: '"{}"'.format((found[1] or found[2] or "").replace("\\'", "'")), str(error))


def _origin_form(event: h11.Request) -> tuple[str, Headers]:
    """Path and query of a request's target, and its header. Of a whole URL, as a proxy sends it, the host counts, and
    not that of the header (RFC 9112 section 3.2.2)."""
    target = event.target.decode()
    if not target.lower().startswith(("http://", "https://")):
        return target, Headers(event.headers)
    authority, slash, rest = target.partition("://")[2].partition("/")
    return f"/{rest}" if slash else "/", Headers([(b"host", authority.encode()), *event.headers])


def _head(response: Response, more: Mapping[str, str] | None = None) -> h11.Response:
    """Status and header. A browser takes an answer for what it says it is, keeps no copy of it, and shows it to no
    other site."""
    headers = {
        "Date": time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime()),
        "Connection": "close",
        "X-Content-Type-Options": "nosniff",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Cache-Control": "no-store",
        **response.headers,
        **(more or {}),
    }
    reason = HTTPStatus(response.status).phrase.encode()
    return h11.Response(status_code=response.status, headers=list(headers.items()), reason=reason)
