"""Tables of an earlier time (`GET /v1/past/NAME`), answered from the history of routes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from bgpd.api.answers import query_of
from bgpd.api.app import App
from bgpd.api.backend import Backend
from bgpd.api.connections import Places
from bgpd.api.http import Handler, Request, Response
from bgpd.api.stream import CHUNK_BYTES, send_slices
from bgpd.model.views.queries import AtQuery, PastQuery, PastTableQuery


class Past:
    """`answers`: places for long answers, which all of them share."""

    def __init__(self, backend: Backend, answers: Places) -> None:
        self._backend = backend
        self._answers = answers

    def add_to(self, app: App, once_started: Callable[[Handler], Handler]) -> None:
        """Serve below /v1/past."""
        app.get("/v1/past/routes", once_started(self.routes))
        app.get("/v1/past/overview", once_started(self.overview))
        app.get("/v1/past/{kind}", once_started(self.table))

    async def routes(self, request: Request) -> Response:
        """Raises: Rejected: the query is wrong, or the routes of then are not known."""
        query = query_of(request, PastQuery)
        return await self._answer(request, lambda: self._backend.past_routes(query))

    async def overview(self, request: Request) -> Response:
        """Raises: Rejected: the query is wrong, or what was then is not known."""
        query = query_of(request, AtQuery)
        return await self._answer(request, lambda: self._backend.past_overview(query.at))

    async def table(self, request: Request) -> Response:
        """Raises: Rejected: there is no such table, the query is wrong, or what was then is not known."""
        kind, query = request.match_info["kind"], query_of(request, PastTableQuery)
        return await self._answer(request, lambda: self._backend.past_table(kind, query))

    async def _answer(self, request: Request, ask: Callable[[], Awaitable[bytes]]) -> Response:
        with self._answers.one():
            view = memoryview(await ask())
            parts = (bytes(view[at : at + CHUNK_BYTES]) for at in range(0, len(view), CHUNK_BYTES))
            return await send_slices(request, parts)
