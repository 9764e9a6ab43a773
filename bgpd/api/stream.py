"""Long answers in slices: views become JSON a few milliseconds at a time, as bulk work."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator

import msgspec

from bgpd.api.backend import Rejected
from bgpd.api.http import Request, Response, Stream
from bgpd.api.view_filter import ViewFilter
from bgpd.log import EventRing
from bgpd.model.utf8 import as_json
from bgpd.runtime.events import log
from bgpd.runtime.turns import in_turn

SLICE_S = 0.004
"""How long a slice may hold the loop."""
CHUNK_BYTES = 64 * 1024
LOOK_S = 1.0
"""How often it is looked whether who follows events is still there: its place is for others, also where none happen."""


def view_slices(
    views: Iterator[msgspec.Struct | None], *, keep: ViewFilter, limit: int, slice_s: float = SLICE_S
) -> Iterator[bytes]:
    """A JSON array of the views that `keep` lets through, one element per line, cut where a slice of time is over.

    A slice may be empty. `limit` 0 is no limit.
    """
    parts = bytearray(b"[")
    separator = b"\n"
    count = 0
    deadline = time.perf_counter() + slice_s
    for view in views:
        if view is not None and keep(view):
            parts += separator
            parts += as_json(view)
            separator = b",\n"
            count += 1
            if count == limit:
                break
        if time.perf_counter() >= deadline or len(parts) >= CHUNK_BYTES:
            yield bytes(parts)
            parts.clear()
            deadline = time.perf_counter() + slice_s
    parts += b"\n]\n" if count else b"]\n"
    yield bytes(parts)


def text_slices(parts: Iterator[str], *, slice_s: float = SLICE_S) -> Iterator[str]:
    """The same text, cut where a slice of time is over."""
    gathered: list[str] = []
    deadline = time.perf_counter() + slice_s
    for part in parts:
        gathered.append(part)
        if time.perf_counter() >= deadline:
            yield "".join(gathered)
            gathered.clear()
            deadline = time.perf_counter() + slice_s
    yield "".join(gathered)


def byte_slices(parts: Iterator[bytes], *, slice_s: float = SLICE_S) -> Iterator[bytes]:
    """The same bytes, cut where a slice of time is over or a chunk is full."""
    gathered = bytearray()
    deadline = time.perf_counter() + slice_s
    for part in parts:
        gathered += part
        if time.perf_counter() >= deadline or len(gathered) >= CHUNK_BYTES:
            yield bytes(gathered)
            gathered.clear()
            deadline = time.perf_counter() + slice_s
    yield bytes(gathered)


async def send_slices(request: Request, slices: Iterator[bytes], *, content_type: str = "application/json") -> Response:
    """Sends them as one answer; a short one whole, with its length.

    It ends where the client goes, or where a view fails when part of the answer is out: the client sees that end.
    """
    first = await in_turn(lambda: next(slices))
    second = await in_turn(lambda: next(slices, None))
    if second is None:
        return Response(first, content_type=content_type)
    response = Stream(request, content_type)
    with contextlib.suppress(ConnectionError):
        await response.begin()
        await response.write(first)
        part: bytes | None = second
        while part is not None:
            if part:
                await response.write(part)
            try:
                part = await in_turn(lambda: next(slices, None))
            except Exception:
                log.exception("api.broken_off", path=request.path)
                if request.transport is not None:
                    request.transport.abort()
                break
    return response


async def follow_events(request: Request, events: EventRing) -> Response:
    """Sends events from now on as JSON lines, until the client goes; `?since=N` begins after event N.

    Event numbers of an earlier run may be higher than those of this one: then it begins now. Raises: Rejected: N is no
    number.
    """
    since, latest = request.query.get("since", ""), events.latest
    if since and not since.isdecimal():
        raise Rejected(400, f'since="{since[:80]}"', "write the number of an event, as in the field sequence")
    seen = min(int(since), latest) if since and len(since) < 20 else latest
    response = Stream(request, "application/x-ndjson")
    await response.begin()
    wake = asyncio.Event()
    loop = asyncio.get_running_loop()

    def notice() -> None:
        loop.call_soon_threadsafe(wake.set)

    unsubscribe = events.subscribe(notice)
    try:
        while request.transport is not None and not request.transport.is_closing():
            for event in events.since(seen):
                seen = event.sequence
                await response.write(as_json(event) + b"\n")
            wake.clear()
            if events.latest <= seen:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_S):
                        await wake.wait()
    except ConnectionError:
        pass
    finally:
        unsubscribe()
    return response
