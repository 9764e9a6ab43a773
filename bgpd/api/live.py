"""What everybody who looks on sees of now, by server-sent events (`GET /v1/live`): rendered once, sent to all.

A viewer gets an `overview` when one differs from the one before, and each event as `happened`, with its number as ID;
one that comes back with `Last-Event-ID` gets what it has missed, as far as it is in memory. Nothing is rendered while
nobody looks. A viewer that does not read is ended: it may leave `MOST_BEHIND` updates unread, and they are shared.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections import deque

from bgpd.api.backend import Backend
from bgpd.api.connections import Places
from bgpd.api.http import Request, Response, Stream
from bgpd.model.utf8 import as_json
from bgpd.model.views.host import EventView, OverviewView
from bgpd.runtime.events import log
from bgpd.runtime.turns import in_turn

MOST_VIEWERS = 100
MOST_BEHIND = 40
"""Updates that a viewer may leave unread before it is ended."""
PERIOD_S = 1.0
"""How often it is looked whether something differs."""
GATHER_S = 0.2
"""How long what happens is gathered before it is sent."""
BYTES_PER_S = 64 * 1024
"""Larger overviews are rendered less often: so many bytes a second for each viewer, on average."""
BEAT_S = 10.0
"""A viewer hears something at least so often: the time of this host."""
_SEND_BUFFER = 64 * 1024
_DEAD_AFTER_MS = 30_000
_RETRY = b"retry: 2000\n\n"


class Live:
    """The viewers of one listener, and what they are sent."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._places = Places(MOST_VIEWERS)
        self._viewers: set[_Viewer] = set()
        self._task: asyncio.Task[None] | None = None
        self._overview = b""
        self._seen = 0
        self._render_at = self._beat_at = 0.0

    async def follow(self, request: Request) -> Response:
        """The stream of one viewer, until it goes or does not keep up."""
        with self._places.one():
            viewer = _Viewer(request)
            response = Stream(request, "text/event-stream", {"X-Accel-Buffering": "no"})
            await response.begin()
            if self._task is None:
                self._seen = self._backend.events.latest
                self._task = asyncio.create_task(self._run())
            self._viewers.add(viewer)
            viewer.send(_RETRY + _clock() + self._missed(request) + self._overview)
            try:
                while chunk := await viewer.next():
                    await response.write(chunk)
            except ConnectionError:
                pass
            finally:
                self._viewers.discard(viewer)
                if not self._viewers:
                    await self.stop()
            return response

    async def stop(self) -> None:
        """Render no more; the streams of those who still look on end."""
        task, self._task = self._task, None
        self._overview, self._render_at = b"", 0.0
        for viewer in self._viewers:
            viewer.end()
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    def _missed(self, request: Request) -> bytes:
        """The events after the viewer's last one that the others have been sent. A higher number is of another run."""
        last = request.headers.get("Last-Event-ID", "")
        if not last.isdecimal() or len(last) > 18 or int(last) > self._seen:
            return b""
        missed = [event for event in self._backend.events.since(int(last)) if event.sequence <= self._seen]
        return b"".join(map(_happened, missed))

    async def _run(self) -> None:
        wake = asyncio.Event()
        loop = asyncio.get_running_loop()

        def notice() -> None:
            loop.call_soon_threadsafe(wake.set)

        unsubscribe = self._backend.events.subscribe(notice)
        try:
            while True:
                wake.clear()
                await self._update(loop.time())
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(PERIOD_S):  # asyncio.wait_for may take the end for a wake-up
                        await wake.wait()
                    await asyncio.sleep(GATHER_S)
        finally:
            unsubscribe()

    async def _update(self, now: float) -> None:
        """Send everybody what is new."""
        overview = self._overview
        if now >= self._render_at:
            overview = await self._render()
            self._render_at = now + max(GATHER_S, len(overview) / BYTES_PER_S)
        update = b"".join(self._events())  # at once with their sending: who comes meanwhile has missed none of them
        update += b"" if overview == self._overview else overview
        self._overview = overview
        if update or now >= self._beat_at:
            update += _clock()
            self._beat_at = now + BEAT_S
        for viewer in tuple(self._viewers):
            viewer.send(update)

    def _events(self) -> list[bytes]:
        found = self._backend.events.since(self._seen)
        self._seen = found[-1].sequence if found else self._seen
        return list(map(_happened, found))

    async def _render(self) -> bytes:
        try:
            return await in_turn(lambda: _message("overview", as_json(_steady(self._backend.overview()))))
        except Exception:
            log.exception("api.failed", method="GET", path="/v1/live")
            return self._overview


class _Viewer:
    """What one viewer has still to be sent."""

    def __init__(self, request: Request) -> None:
        self._transport = request.transport
        self._unsent: deque[bytes] = deque()
        self._wake = asyncio.Event()
        _bound(request)

    def send(self, chunk: bytes) -> None:
        """Have it sent (b"": nothing), or the viewer ended if it is too far behind; one that has gone is noticed."""
        if chunk:
            self._unsent.append(chunk)
        if self._transport is None or self._transport.is_closing():
            self._transport = None
        elif len(self._unsent) > MOST_BEHIND:
            self._transport.abort()
            self._transport = None
        elif not chunk:
            return
        self._wake.set()

    def end(self) -> None:
        """It is sent nothing more."""
        self._transport = None
        self._wake.set()

    async def next(self) -> bytes:
        """The next part to be sent; b"" when there is nobody left to send it to."""
        while not self._unsent and self._transport is not None:
            self._wake.clear()
            await self._wake.wait()
        return self._unsent.popleft() if self._transport is not None else b""


def _bound(request: Request) -> None:
    """The kernel keeps little of what is not read, and gives a peer up that acknowledges nothing (tcp(7))."""
    peer = request.transport.get_extra_info("socket") if request.transport is not None else None
    if peer is not None:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
        if peer.family != socket.AF_UNIX:
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _DEAD_AFTER_MS)


def _steady(view: OverviewView) -> OverviewView:
    """Without what differs each second and changes nothing: counters of messages, and the holds of the event loop."""
    for neighbor in view.neighbors:
        neighbor.messages_received = neighbor.messages_sent = 0
        neighbor.tcp_ao = None
    health = view.health
    health.loop_stall_s = health.loop_stall_p9999_s = health.loop_stall_cpu_s = health.loop_stall_cpu_p9999_s = 0.0
    return view


def _happened(event: EventView) -> bytes:
    return b"id: %d\n%b" % (event.sequence, _message("happened", as_json(event)))


def _clock() -> bytes:
    """Ages are counted by this host's clock: a browser's may be wrong."""
    return _message("clock", b"%.3f" % time.time())


def _message(name: str, data: bytes) -> bytes:
    """JSON has no line ends, so that it is one line of data."""
    return b"event: %b\ndata: %b\n\n" % (name.encode(), data)
