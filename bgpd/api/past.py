"""Tables of an earlier time (`GET /v1/past/routes`), answered from the history of routes."""

from __future__ import annotations

from aiohttp import web

from bgpd.api.answers import query_of
from bgpd.api.backend import Backend
from bgpd.api.connections import Places
from bgpd.api.stream import CHUNK_BYTES, send_slices
from bgpd.model.views.queries import PastQuery


class Past:
    """`answers`: places for long answers, which all of them share."""

    def __init__(self, backend: Backend, answers: Places) -> None:
        self._backend = backend
        self._answers = answers

    async def routes(self, request: web.Request) -> web.StreamResponse:
        """Raises: Rejected: the query is wrong, or the routes of then are not known."""
        query = query_of(request, PastQuery)
        with self._answers.one():
            view = memoryview(await self._backend.past_routes(query))
            parts = (bytes(view[at : at + CHUNK_BYTES]) for at in range(0, len(view), CHUNK_BYTES))
            return await send_slices(request, parts)
