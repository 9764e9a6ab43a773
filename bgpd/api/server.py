"""The HTTP API: views and orders over a unix socket, and optionally the web page, metrics and views over TCP.

Over TCP nothing can be ordered. It translates between HTTP and the Backend and decides nothing. Answers are JSON; an
error is an ErrorView.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

import msgspec

from bgpd.api.access import Access
from bgpd.api.answers import address_of, json_answer, query_of
from bgpd.api.app import App
from bgpd.api.backend import Backend, Objects, Rejected
from bgpd.api.birdwatcher import Birdwatcher
from bgpd.api.connections import (
    BODY_TIMEOUT_S,
    Connections,
    Places,
    credentials,
    is_operator,
)
from bgpd.api.http import Handler, Request, Response
from bgpd.api.http_connection import MAX_BODY_BYTES, HttpServer
from bgpd.api.live import Live
from bgpd.api.openapi import encoded_document
from bgpd.api.page_files import PageFiles
from bgpd.api.pages import Pages
from bgpd.api.past import Past
from bgpd.api.prometheus import CONTENT_TYPE
from bgpd.api.stream import byte_slices, follow_events, send_slices, text_slices, view_slices
from bgpd.api.tcp_listener import TcpListener
from bgpd.api.unix_socket import bind_unix_socket, remove_unix_socket
from bgpd.api.view_filter import view_filter
from bgpd.config.check import check_config
from bgpd.config.load import is_of_password
from bgpd.config.schema import ApiConfig, Config
from bgpd.config.toml_lines import format_key_path
from bgpd.journal.store import Sought, at_least
from bgpd.model.prefix import parse_prefix
from bgpd.model.reports import ThawReport
from bgpd.model.unreadable import UNREADABLE
from bgpd.model.views.orders import DrainRequest, UpgradeRequest
from bgpd.model.views.queries import ViewQuery
from bgpd.runtime.events import log
from bgpd.runtime.turns import in_turn

MAX_REQUEST_BYTES = MAX_BODY_BYTES + 64 * 1024
MAX_CONNECTIONS = 128
MAX_CONNECTIONS_OVER_TCP = 160
KEPT_FOR_OPERATORS = 32
"""Connections over the unix socket that only root and the daemon's user may take."""
NEWEST_EVENTS = 1_000
"""How many are shown of events without `limit`."""
WAITING_ORDERS = 64
"""Workloads and services that are being put at once: each may take minutes, and must leave room for who looks on."""
LONG_ANSWERS = 16
"""Listings and explanations at once over the unix socket, and as many monitors."""
LONG_ANSWERS_OVER_TCP = 8
SCRAPES = 4
"""Answers with metrics that are made at once."""
BACKLOG = 32
"""Connections that are accepted in one turn of the loop."""
MAX_TRIAL_S = 86_400
"""How long a configuration may be on trial."""
MAX_PUT_TIMEOUT_S = 600
START_PATIENCE_S = 8.0
"""Less than the command line waits; enough to read a million routes, or for another bgpd that ends."""


_Order = TypeVar("_Order")


class ApiServer:
    """Serves a Backend as `config` says; `start` before anything else of the daemon shows that it runs already."""

    def __init__(self, config: ApiConfig, backend: Backend) -> None:
        self._config = config
        self._backend = backend
        self._https: list[HttpServer] = []
        self._server: asyncio.Server | None = None
        self._tcp = TcpListener(config, self._serve_over_tcp, backlog=BACKLOG)

    async def start(self) -> None:
        """Binds and serves; over TCP later, if that cannot be yet. Raises: SocketUnusable: with what to do."""
        listener = await asyncio.to_thread(bind_unix_socket, self._config)  # who knows the groups may take long
        loop = asyncio.get_running_loop()
        accept = self._set_up(make_app(self._backend), most=MAX_CONNECTIONS, kept=KEPT_FOR_OPERATORS)
        self._server = await loop.create_unix_server(accept, sock=listener, backlog=BACKLOG)
        await self._tcp.start()

    async def run(self) -> None:
        """Try again to serve over TCP, until that can be."""
        await self._tcp.run()

    def warnings(self) -> list[str]:
        """What is wrong with the TCP listener."""
        return self._tcp.warnings()

    def _serve_over_tcp(self, access: Access, before_tls: Callable[[], None] | None) -> Connections:
        app = make_app(self._backend, access=access)
        return self._set_up(app, most=MAX_CONNECTIONS_OVER_TCP, before_tls=before_tls)

    async def stop(self) -> None:
        """End open responses (monitors too) within a second, close, and delete the socket's file."""
        if self._server is not None:
            remove_unix_socket(self._config)
            self._server.close()
            self._server = None
        self._tcp.stop()
        await asyncio.gather(*(http.stop() for http in self._https))
        self._https.clear()

    def _set_up(
        self, app: App, *, most: int, kept: int = 0, before_tls: Callable[[], None] | None = None
    ) -> Connections:
        """What makes the protocols of an app's connections."""
        http = HttpServer(app)
        self._https.append(http)
        return Connections(http, most=most, kept=kept, max_bytes=MAX_REQUEST_BYTES, before_tls=before_tls)


def make_app(backend: Backend, *, access: Access | None = None) -> App:
    """The routes of the API. With `access`, for TCP: read-only, with the web page, and only for whom that lets in."""
    app = App(access)
    if access is not None:
        PageFiles().add_to(app)
    live = Live(backend)
    app.on_stop.append(live.stop)
    routes = _Routes(backend, long_answers=LONG_ANSWERS if access is None else LONG_ANSWERS_OVER_TCP)
    app.stream("/v1/live", live.follow)
    app.get("/v1/pages/{kind}", routes.once_started(Pages(backend).answer))
    app.get("/metrics", routes.metrics)
    app.get("/openapi.json", routes.openapi(over_tcp=access is not None))
    Birdwatcher(backend, routes.answers).add_to(app, routes.once_started)
    app.get("/v1/health", routes.health)
    app.get("/v1/overview", routes.overview)
    app.get("/v1/config", routes.config)
    app.get("/v1/interfaces", routes.interfaces)
    app.get("/v1/events", routes.events)
    app.get("/v1/drain", routes.once_started(routes.drain_status))
    app.get("/v1/upgrade", routes.upgrade_status)
    app.get("/v1/explain/{address}", routes.explain, ("vrf", "at"))
    Past(backend, routes.answers).add_to(app, routes.once_started)
    app.get("/v1/why-not", routes.why_not, ("prefix", "vrf", "neighbor"))
    app.get("/v1/what-if", routes.what_if, ("down", "drain", "force"))
    if access is None:
        app.stream("/v1/monitor", routes.monitor, ("since",))
        app.get("/v1/mrt", routes.once_started(routes.mrt), ("vrf",))
        app.order("POST", "/v1/what-if", routes.what_if_reloaded)
        app.order("POST", "/v1/reload", routes.reload, ("confirm_s",))
        app.order("POST", "/v1/confirm", routes.confirm)
        app.order("PUT", "/v1/drain", routes.drain_on)
        app.order("DELETE", "/v1/drain", routes.drain_off)
        app.order("POST", "/v1/upgrade", routes.upgrade)
        app.order("DELETE", "/v1/frozen/{address}", routes.thaw)
        app.order("PUT", "/v1/{kind}/{id}", routes.put, ("timeout_s",))
        app.order("DELETE", "/v1/{kind}/{id}", routes.delete)
    app.get("/v1/{kind}/{id}", routes.once_started(routes.get))
    app.get("/v1/{kind}", routes.once_started(routes.listing))
    return app


class _Routes:
    """One method per endpoint."""

    def __init__(self, backend: Backend, *, long_answers: int) -> None:
        self._backend = backend
        self.answers = Places(long_answers)
        self._monitors = Places(long_answers)
        self._scrapes = Places(SCRAPES)
        self._orders = Places(WAITING_ORDERS)
        self._copies = Places(1)

    async def _started(self) -> None:
        """What reads tables or the kernel, or orders something, waits for a daemon that starts: what a table does not
        hold yet would be taken for nothing there. Raises: Rejected: it takes long."""
        try:
            async with asyncio.timeout(START_PATIENCE_S):
                await self._backend.started()
        except TimeoutError:
            raise Rejected(
                503, "bgpd is still starting", "try again; bgpd show events shows what it waits for"
            ) from None

    def once_started(self, handler: Handler) -> Handler:
        """`handler`, for a daemon that has started."""

        async def answer(request: Request) -> Response:
            await self._started()
            return await handler(request)

        return answer

    async def listing(self, request: Request) -> Response:
        name = request.match_info["kind"]
        listing = self._backend.listings.get(name)
        if listing is None:
            raise Rejected(404, f'there is no "{name}"', f"one of: {', '.join(sorted(self._backend.listings))}")
        query = query_of(request, ViewQuery)
        with self.answers.one():
            return await send_slices(request, view_slices(listing(query), keep=_filter(query), limit=query.limit))

    async def events(self, request: Request) -> Response:
        """What happened, of this run and of earlier ones, oldest first: an EventView for each."""
        query = query_of(request, ViewQuery)
        _filter(query)
        with self.answers.one():
            sought = Sought(
                since=query.since,
                until=query.until or float("inf"),
                neighbor=query.neighbor,
                prefix=query.prefix,
                longer_prefixes=query.longer_prefixes,
                levels=at_least(query.level),
                event=query.event,
                vrf=query.vrf,
                limit=query.limit or NEWEST_EVENTS,
            )
            events = await self._backend.past_events(sought)
            return await send_slices(request, view_slices(iter(events), keep=lambda view: True, limit=0))

    async def monitor(self, request: Request) -> Response:
        with self._monitors.one():
            return await follow_events(request, self._backend.events)

    async def mrt(self, request: Request) -> Response:
        records = self._backend.mrt(request.query.get("vrf", ""))
        with self.answers.one():
            return await send_slices(request, byte_slices(records), content_type="application/octet-stream")

    async def explain(self, request: Request) -> Response:
        address = address_of(request.match_info["address"])
        vrf, at = request.query.get("vrf", ""), request.query.get("at")
        await self._started()
        with self.answers.one():
            if at is not None:
                return json_answer(await self._backend.explain_past(address.packed, vrf, _time(at)))
            return json_answer(await self._backend.explain(address.packed, vrf))

    async def why_not(self, request: Request) -> Response:
        text = request.query.get("prefix", "")
        try:
            prefix = parse_prefix(text)
        except ValueError as error:
            raise Rejected(400, f'"{text}" is no prefix: {error}', 'such as "10.64.1.0/24" or "2001:db8::5"') from None
        await self._started()
        with self.answers.one():
            vrf, neighbor = request.query.get("vrf", ""), request.query.get("neighbor", "")
            return json_answer(await self._backend.why_not(prefix, vrf, neighbor))

    async def what_if(self, request: Request) -> Response:
        down, drain, force = (request.query.get(name, "") for name in ("down", "drain", "force"))
        if bool(down) is bool(drain) or drain not in ("", "services", "all"):
            hint = "/v1/what-if?down=leaf1, or an interface; or drain=services, drain=all"
            raise Rejected(400, "what would be is not said, or twice", hint)
        if force not in ("", "false", "true"):
            raise Rejected(400, f'force="{force[:80]}"', "write true or false")
        await self._started()
        with self.answers.one(), self._copies.one():
            if down:
                return json_answer(await self._backend.what_if_down(down))
            return json_answer(await self._backend.what_if_drained(all=drain == "all", force=force == "true"))

    async def what_if_reloaded(self, request: Request) -> Response:
        config = _decoded(await _body(request), Config, "config")
        await asyncio.to_thread(_refuse_wrong, config)
        await self._started()
        with self.answers.one(), self._copies.one():
            return json_answer(await self._backend.what_if_reloaded(config))

    async def config(self, request: Request) -> Response:
        return await in_turn(lambda: json_answer(self._backend.config()))

    async def interfaces(self, request: Request) -> Response:
        await self._started()
        return json_answer(self._backend.interfaces())

    async def health(self, request: Request) -> Response:
        health = await in_turn(self._backend.health)
        return json_answer(health, status=200 if health.ready else 503)

    async def overview(self, request: Request) -> Response:
        return await in_turn(lambda: json_answer(self._backend.overview()))

    def openapi(self, *, over_tcp: bool) -> Handler:
        """Answers with the description of the API."""

        async def answer(request: Request) -> Response:
            body = await asyncio.to_thread(encoded_document, over_tcp=over_tcp)
            return Response(body, content_type="application/json")

        return answer

    async def metrics(self, request: Request) -> Response:
        slices = text_slices(self._backend.metrics())
        body = bytearray()
        with self._scrapes.one():
            while (part := await in_turn(lambda: next(slices, None))) is not None:
                body += part.encode(errors="backslashreplace")  # names of interfaces may be no UTF-8
        return Response(bytes(body), content_type=CONTENT_TYPE)

    async def reload(self, request: Request) -> Response:
        log.info("api.reload", who=_who(request))
        await self._started()
        confirm_s = _seconds(request, "confirm_s", MAX_TRIAL_S)
        view = await self._backend.reload(confirm_s)
        return json_answer(view, status=422 if view.problems else 200)

    async def confirm(self, request: Request) -> Response:
        await self._started()
        if not await self._backend.confirm():
            raise Rejected(409, "no configuration is on trial", "it has gone back already, or never was: bgpd status")
        return Response(status=204)

    async def drain_status(self, request: Request) -> Response:
        return json_answer(self._backend.drain.view())

    async def drain_on(self, request: Request) -> Response:
        order = _decoded(await _body(request), DrainRequest, "drain-request")
        await self._started()
        return json_answer(await self._backend.drain.on(order, who=_who(request)))

    async def drain_off(self, request: Request) -> Response:
        await self._started()
        return json_answer(await self._backend.drain.off(who=_who(request)))

    async def upgrade_status(self, request: Request) -> Response:
        return json_answer(self._backend.upgrade.view())

    async def upgrade(self, request: Request) -> Response:
        """Answers once the installed version can start, and only then lets it: nobody could answer afterwards."""
        if not is_operator(request.transport):
            raise Rejected(403, "only root and the user that bgpd runs as may upgrade it", "run it with sudo")
        order = _decoded(await _body(request), UpgradeRequest, "upgrade-request")
        await self._started()
        view = await self._backend.upgrade.check(who=_who(request))
        if order.only_check:
            return json_answer(view)
        response = json_answer(view, status=202)
        await request.wire.send(response)
        self._backend.upgrade.begin()
        return response

    async def thaw(self, request: Request) -> Response:
        """`bgpd evpn clear MAC`: duplicate detection (RFC 7432 section 15.1) begins anew for it."""
        text = request.match_info["address"]
        try:
            mac = bytes.fromhex(text.replace(":", "").replace("-", ""))
        except ValueError:
            mac = b""
        if len(mac) != 6:
            raise Rejected(400, f'"{text[:80]}" is no MAC address', 'six bytes, such as "02:00:00:00:00:01"')
        await self._started()
        count = self._backend.thaw(mac)
        log.info("evpn.cleared", mac=mac.hex(":"), endpoints=count, who=_who(request))
        if not count:
            raise Rejected(404, f"no endpoint of this host with MAC {mac.hex(':')} is frozen", "bgpd show vrfs")
        return json_answer(ThawReport(mac=mac.hex(":"), endpoints=count))

    async def put(self, request: Request) -> Response:
        objects, timeout_s = self._objects(request), _seconds(request, "timeout_s", MAX_PUT_TIMEOUT_S)
        body = await _body(request)
        await self._started()
        with self._orders.one():
            status, report = await objects.put(request.match_info["id"], body, who=_who(request), timeout_s=timeout_s)
        return json_answer(report, status=status)

    async def delete(self, request: Request) -> Response:
        objects = self._objects(request)
        await self._started()
        status, report = await objects.delete(request.match_info["id"], who=_who(request))
        return json_answer(report, status=status)

    async def get(self, request: Request) -> Response:
        status, report = self._objects(request).get(request.match_info["id"])
        return json_answer(report, status=status)

    def _objects(self, request: Request) -> Objects:
        kind = request.match_info["kind"]
        if kind in self._backend.objects:
            return self._backend.objects[kind]
        if kind in self._backend.listings:
            raise Rejected(405, f"{kind} cannot be put or deleted here", "configure [workload.api]")
        raise Rejected(404, f'there is no "{kind}"', "GET /openapi.json lists all requests")


async def _body(request: Request) -> bytes:
    """Raises: Rejected: with 408, it did not come in time; 415, it is compressed; 400, its framing is wrong."""
    if "Content-Encoding" in request.headers:
        raise Rejected(415, "the body of the request is compressed", "send it as it is, without Content-Encoding")
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            return await request.read()
    except TimeoutError:
        raise Rejected(
            408, f"the body of the request did not come within {BODY_TIMEOUT_S:.0f} s", "send it at once"
        ) from None


def _decoded(body: bytes, kind: type[_Order], schema: str) -> _Order:
    """Raises: Rejected: with 400, it is nothing of that kind."""
    try:
        return msgspec.json.decode(body or b"{}", type=kind)
    except UNREADABLE as error:
        raise Rejected(400, f"the body of the request: {error}", f"see bgpd schema {schema}") from None


def _refuse_wrong(config: Config) -> None:
    """Raises: Rejected: with 400, it is a configuration that `bgpd check` refuses."""
    wrong = next((finding for finding in check_config(config) if not is_of_password(finding)), None)
    if wrong is not None:
        right = wrong.right or "bgpd check says what a configuration may have"
        raise Rejected(400, f"{format_key_path(wrong.path)}: {wrong.what}", right)


def _seconds(request: Request, name: str, most: int) -> float | None:
    text = request.query.get(name)
    if text is None:
        return None
    if not text.isdecimal() or len(text) > 9 or not 0 <= int(text) <= most:
        raise Rejected(400, f'{name}="{text}"', f"write whole seconds, 0 to {most}")
    return float(text)


def _time(text: str) -> float:
    """Seconds since the epoch, with a point or without."""
    whole, _, part = text.partition(".")
    if not whole.isdecimal() or len(text) > 20 or not (part or "0").isdecimal():
        raise Rejected(400, f'at="{text}"', "write seconds since the epoch, such as 1795747260 or 1795747260.5")
    return float(text)


def _filter(query: ViewQuery) -> Callable[[object], bool]:
    try:
        return view_filter(query)
    except ValueError as error:
        raise Rejected(400, str(error)) from None


def _who(request: Request) -> str:
    found = credentials(request.transport)
    return f"uid={found.uid} gid={found.gid} pid={found.pid}" if found else request.remote
