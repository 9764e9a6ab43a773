"""Which handler answers a request, whom it is answered, and what a client hears of an error."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import NamedTuple
from urllib.parse import unquote

from bgpd.api.access import CHALLENGE, Access
from bgpd.api.answers import json_answer, refuse_other_parameters
from bgpd.api.backend import Rejected
from bgpd.api.connections import Connection
from bgpd.api.http import Handler, Request, Response
from bgpd.model.views.queries import ErrorView
from bgpd.runtime.events import log


class Route(NamedTuple):
    """Requests with one of these methods, and a path such as /v1/{kind}: braces stand for a part that is not empty.
    `takes` are the parameters that there are; None: the handler looks at them."""

    methods: tuple[str, ...]
    path: str
    handler: Handler
    takes: tuple[str, ...] | None = None

    def names(self, parts: list[str]) -> dict[str, str] | None:
        """What the braces stand for in a path of these parts; None if it is another path."""
        own = self.path.split("/")
        if len(own) != len(parts):
            return None
        found: dict[str, str] = {}
        for wanted, part in zip(own, parts, strict=True):
            if wanted.startswith("{") and part:
                found[wanted[1:-1]] = part
            elif wanted != part:
                return None
        return found


class App:
    """The routes, in their order: the first that fits answers. With `access` only whom that lets in is answered."""

    def __init__(self, access: Access | None = None) -> None:
        self.routes: list[Route] = []
        self.on_stop: list[Callable[[], Awaitable[None]]] = []
        self._access = access

    def get(self, path: str, handler: Handler, takes: tuple[str, ...] | None = None) -> None:
        """Answer GET, and HEAD by the header alone."""
        self.routes.append(Route(("GET", "HEAD"), path, handler, takes))

    def stream(self, path: str, handler: Handler, takes: tuple[str, ...] | None = None) -> None:
        """Answer GET by something without end."""
        self.routes.append(Route(("GET",), path, handler, takes))

    def order(self, method: str, path: str, handler: Handler, takes: tuple[str, ...] = ()) -> None:
        """Answer another method. An order with a parameter that it does not know is not carried out: it would mean
        something else than was meant."""
        self.routes.append(Route((method,), path, handler, takes))

    async def answer(self, request: Request) -> Response:
        """The answer, whatever happens. Raises: ConnectionError: the client has gone."""
        try:
            self._admit(request)
            return await self._handler(request)(request)
        except Rejected as rejected:
            return refusal(rejected)
        except ConnectionError:
            raise
        except Exception:
            log.exception("api.failed", method=request.method, path=request.path)
            return refusal(Rejected(500, "bgpd failed to answer", "see its log (api.failed)"))

    def _admit(self, request: Request) -> None:
        """The header is here. Raises: Rejected: the request is meant for another host."""
        connection = request.transport.get_protocol() if request.transport is not None else None
        if isinstance(connection, Connection):
            connection.request_began()
        if self._access is not None:
            self._access.check(request.headers, request.path)

    def _handler(self, request: Request) -> Handler:
        """Raises: Rejected: no route has this path, or none has it with this method, or it has no such parameter."""
        parts = [unquote(part) for part in request.raw_path.split("/")]
        methods: set[str] = set()
        for route in self.routes:
            names = route.names(parts)
            if names is not None and request.method in route.methods:
                request.match_info = names
                if route.takes is not None:
                    refuse_other_parameters(request, route.takes)
                return route.handler
            methods |= set(route.methods if names is not None else ())
        raise _Unrouted(request, methods)


class _Unrouted(Rejected):
    """Nothing answers this path, or nothing but `methods` (RFC 9110 section 15.5.6)."""

    def __init__(self, request: Request, methods: set[str]) -> None:
        status = HTTPStatus.METHOD_NOT_ALLOWED if methods else HTTPStatus.NOT_FOUND
        super().__init__(status, f"{request.method} {request.path}: {status.phrase}")
        self.methods = methods


def refusal(rejected: Rejected) -> Response:
    """What a client hears of it."""
    answer = json_answer(ErrorView(error=rejected.error, hint=rejected.hint), status=rejected.status)
    if rejected.status == HTTPStatus.UNAUTHORIZED:
        answer.headers["WWW-Authenticate"] = CHALLENGE
    if rejected.retry_after_s:
        answer.headers["Retry-After"] = str(rejected.retry_after_s)
    if isinstance(rejected, _Unrouted) and rejected.methods:
        answer.headers["Allow"] = ", ".join(sorted(rejected.methods))
    return answer
