"""Pages of tables with a million rows, by cursor (`GET /v1/pages/NAME`): short answers, made in slices of bulk work.

A page costs what its rows cost, however many wait for one: few are made at a time, and the others wait their turn.
"""

from __future__ import annotations

import asyncio
import time

import msgspec

from bgpd.api.answers import json_answer, query_of
from bgpd.api.backend import Backend, Paged, Rejected
from bgpd.api.http import Request, Response
from bgpd.api.stream import SLICE_S
from bgpd.model.utf8 import as_json
from bgpd.model.views.queries import PageQuery, PageView
from bgpd.runtime.turns import in_turn

AT_ONCE = 2
"""Pages that are made at the same time; others wait. Each connection carries one request, so that they are bounded."""
MOST_LOOKED_AT = 20_000
"""Places without a row after which a page ends, and says where the next one begins."""


class Pages:
    """Answers `GET /v1/pages/{kind}`."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._places = asyncio.Semaphore(AT_ONCE)

    async def answer(self, request: Request) -> Response:
        """One page. Raises: Rejected: there is no such table, or the query is wrong."""
        kind = request.match_info["kind"]
        pager = self._backend.pagers.get(kind)
        if pager is None:
            raise Rejected(404, f'there are no pages of "{kind}"', f"one of: {', '.join(sorted(self._backend.pagers))}")
        query = query_of(request, PageQuery)
        async with self._places:
            page = _Page(pager(query), query.limit)
            while await in_turn(page.go_on):
                pass
        return json_answer(page.view)


class _Page:
    """One page, while it is made."""

    def __init__(self, paged: Paged, limit: int) -> None:
        self.view = PageView(total=paged.total)
        self._steps = paged.steps
        self._limit = limit
        self._looked_at = 0

    def go_on(self) -> bool:
        """A slice of the work; False when the page is done."""
        end = time.perf_counter() + SLICE_S
        rows = self.view.rows
        for step in self._steps:
            if step is not None:
                self.view.after, found = step
                rows += [msgspec.Raw(as_json(view)) for view in found]
                self._looked_at += not found
                if len(rows) >= self._limit or self._looked_at >= MOST_LOOKED_AT:
                    return False
            if time.perf_counter() >= end:
                return True
        self.view.after = ""
        return False
