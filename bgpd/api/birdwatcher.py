"""The API as alice-lg understands it: the JSON of birdwatcher (version 2), made of bgpd's views, below /birdwatcher.

A protocol is a neighbor. Filtered routes are those that policy or a check rejects; noexport are those of its table that
the neighbor was not sent. Times are UTC. It only translates.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from typing import Any

from bgpd import __version__
from bgpd.api.answers import json_answer
from bgpd.api.app import App
from bgpd.api.backend import Backend, Rejected
from bgpd.api.connections import Places
from bgpd.api.http import Handler, Request, Response
from bgpd.api.stream import byte_slices, send_slices
from bgpd.model.policy_syntax import parse_community
from bgpd.model.utf8 import as_json
from bgpd.model.views.queries import ViewQuery
from bgpd.model.views.routes import CandidateView, ExchangedRouteView, RouteView
from bgpd.model.views.sessions import NeighborView
from bgpd.runtime.turns import in_turn

VERSION = "2.2.5"
"""Of birdwatcher, whose answers these are."""
TTL_S = 5.0
"""For so long an answer may be kept."""
MOST_OF_PAGE = 100_000
_LONG = "%Y-%m-%dT%H:%M:%SZ"
_SHORT = "%Y-%m-%d %H:%M:%S"
_EXTENDED = "%a, %d %b %Y %H:%M:%S +0000"
_OWN = "bgpd"
_MAIN = "master"
"""What BIRD calls its main table; a VRF's has the name of the VRF."""
_VRF_MASTER = "master@vrf"
"""That of a VRF which has the main table's name: no VRF has an "@" in its own."""

_Routes = Iterator[dict[str, Any] | None]


class Birdwatcher:
    """The endpoints; `answers` are the places for long ones."""

    def __init__(self, backend: Backend, answers: Places) -> None:
        self._backend = backend
        self._answers = answers

    def add_to(self, app: App, once_started: Callable[[Handler], Handler]) -> None:
        """Serve below /birdwatcher."""
        routes: dict[str, Callable[[str], _Routes]] = {
            "protocol": self._accepted,
            "filtered": self._filtered,
            "noexport": self._not_exported,
            "export": self._exported,
            "table": self._in_table,
        }
        app.get("/birdwatcher/status", self._status)
        app.get("/birdwatcher/protocols", once_started(self._protocols))
        app.get("/birdwatcher/protocols/bgp", once_started(self._protocols))
        app.get("/birdwatcher/protocols/short", once_started(self._short))
        for name, made in routes.items():
            app.get(f"/birdwatcher/routes/{name}/{{name}}", once_started(self._handler(made)))
        filtered = self._handler(self._filtered_in_table)
        app.get("/birdwatcher/routes/table/{name}/filtered", once_started(filtered))

    async def _status(self, request: Request) -> Response:
        health = await in_turn(self._backend.health)
        changed = health.configuration.at if health.configuration is not None else health.started_at
        status = {
            "router_id": self._backend.config().router.router_id,
            "server_time": _at(time.time(), _LONG),
            "current_server": _at(time.time(), _SHORT),
            "last_reboot": _at(health.started_at, _SHORT),
            "last_reconfig": _at(changed, _EXTENDED),
            "message": "Daemon is up and running" if health.ready else "; ".join(health.reasons),
            "version": f"bgpd {__version__}",
        }
        return json_answer({**_head(), "status": status})

    async def _protocols(self, request: Request) -> Response:
        views = await in_turn(self._neighbors)
        return json_answer({**_head(), "protocols": {view.name: _protocol(view) for view in views}})

    async def _short(self, request: Request) -> Response:
        views = await in_turn(self._neighbors)
        found = {
            view.name: {
                "proto": "BGP",
                "table": _table(view),
                "state": _state(view),
                "since": _at(view.since, _SHORT),
                "info": view.state,
            }
            for view in views
        }
        return json_answer({**_head(), "protocols": found})

    def _handler(self, made: Callable[[str], _Routes]) -> Handler:
        async def answer(request: Request) -> Response:
            page, size = _page(request)
            routes = made(request.match_info["name"])
            with self._answers.one():
                return await send_slices(request, byte_slices(_routes_json(routes, page, size)))

        return answer

    def _neighbors(self) -> list[NeighborView]:
        views = self._backend.listings["neighbors"](ViewQuery())
        return [view for view in views if isinstance(view, NeighborView)]

    def _exchanged(self, listing: str, name: str) -> Iterator[ExchangedRouteView | None]:
        for view in self._backend.listings[listing](ViewQuery(neighbor=name)):
            yield view if isinstance(view, ExchangedRouteView) else None

    def _accepted(self, name: str) -> _Routes:
        for view in self._exchanged("received", name):
            yield None if view is None or view.rejected else _exchanged_route(view)

    def _filtered(self, name: str) -> _Routes:
        for view in self._exchanged("received", name):
            yield None if view is None or not view.rejected else _exchanged_route(view)

    def _exported(self, name: str) -> _Routes:
        for view in self._exchanged("advertised", name):
            yield None if view is None else _exchanged_route(view, source=_OWN)

    def _in_table(self, name: str) -> _Routes:
        """What may be used of a table: a path of each neighbor; alice-lg searches in it."""
        return self._paths_of(name, is_rejected=False)

    def _filtered_in_table(self, name: str) -> _Routes:
        return self._paths_of(name, is_rejected=True)

    def _paths_of(self, name: str, *, is_rejected: bool) -> _Routes:
        for view in self._backend.listings["routes"](ViewQuery(vrf=_vrf(name))):
            yield None
            if not isinstance(view, RouteView):
                continue
            for one in view.candidates:
                if (one.role == "rejected") is is_rejected:
                    yield _used_route(view, one)

    def _not_exported(self, name: str) -> _Routes:
        """The best path of each route that the neighbor was not sent; not what itself announces."""
        neighbor = next((view for view in self._neighbors() if view.name == name), None)
        if neighbor is None:
            raise Rejected(404, f'there is no neighbor "{name}"', "/birdwatcher/protocols/bgp lists them")
        sent: set[tuple[str, str]] = set()
        for exchanged in self._exchanged("advertised", name):
            if exchanged is not None:
                sent.add((exchanged.family, exchanged.prefix))
            yield None
        for view in self._backend.listings["routes"](ViewQuery(vrf=neighbor.vrf)):
            yield _not_sent(view, name, sent) if isinstance(view, RouteView) else None


def _not_sent(view: RouteView, name: str, sent: set[tuple[str, str]]) -> dict[str, Any] | None:
    best = next((one for one in view.candidates if one.role == "best"), None)
    if best is None or best.source == name or (view.family, view.prefix) in sent:
        return None
    return _used_route(view, best)


def _page(request: Request) -> tuple[int, int]:
    """Number of the page, from 0, and its size, 0 for all. Raises: Rejected."""
    found = []
    for name, most in (("page", 1_000_000), ("page_size", MOST_OF_PAGE)):
        text = request.query.get(name, "0")
        if not text.isdecimal() or len(text) > 9 or int(text) > most:
            raise Rejected(400, f'{name}="{text[:40]}"', f"write a whole number, 0 to {most}")
        found.append(int(text))
    return found[0], found[1]


def _routes_json(routes: _Routes, page: int, size: int) -> Iterator[bytes]:
    """The whole answer in parts; with a size, only that page, and whether there is another."""
    yield as_json(_head())[:-1] + b',"routes":['
    first, count, last = page * size, 0, (page + 1) * size
    separator = b""
    has_more = False
    for route in routes:
        if route is None:
            yield b""
            continue
        count += 1
        if size and count > last:
            has_more = True
            break
        if count > first:
            yield separator + as_json(route)
            separator = b",\n"
    tail = {"page": page, "page_size": size, "has_more": has_more}
    yield b'],"pagination":' + as_json(tail) + b"}\n"


def _head() -> dict[str, Any]:
    now = time.time()
    cache = {"cached_at": {"date": _at(now, _LONG), "timezone_type": "UTC", "timezone": "UTC"}}
    api = {"Version": VERSION, "result_from_cache": False, "cache_status": cache}
    return {"api": api, "ttl": _at(now + TTL_S, _LONG)}


def _protocol(view: NeighborView) -> dict[str, Any]:
    counts = view.families.values()
    received, rejected = sum(one.received for one in counts), sum(one.rejected for one in counts)
    return {
        "protocol": view.name,
        "bird_protocol": "BGP",
        "table": _table(view),
        "state": _state(view),
        "state_changed": _at(view.since, _SHORT),
        "bgp_state": view.state.capitalize(),
        "description": view.hostname or view.name,
        "neighbor_address": view.address or view.interface,
        "neighbor_as": view.asn,
        "neighbor_id": view.router_id,
        "last_error": view.last_error if view.state != "established" else "",
        "hold_timer": str(view.hold_time_s),
        "keepalive": str(view.keepalive_time_s),
        "routes": {
            "imported": received - rejected,
            "filtered": rejected,
            "exported": sum(one.announced for one in counts),
        },
    }


def _state(view: NeighborView) -> str:
    return "up" if view.state == "established" else "start"


def _table(view: NeighborView) -> str:
    return _VRF_MASTER if view.vrf == _MAIN else view.vrf or _MAIN


def _vrf(table: str) -> str:
    """The VRF that a table is of, "" for the main one."""
    return {_MAIN: "", _VRF_MASTER: _MAIN}.get(table, table)


def _exchanged_route(view: ExchangedRouteView, *, source: str = "") -> dict[str, Any]:
    route = _route(view.prefix, source or view.neighbor, view.next_hop, view.heard_at or 0.0)
    route["learnt_from"] = view.neighbor_address
    route["bgp"] = _bgp(view)
    return route


def _used_route(view: RouteView, path: CandidateView) -> dict[str, Any]:
    route = _route(view.prefix, path.source, path.next_hop, path.heard_at)
    route["learnt_from"], route["primary"] = route["gateway"], path.role == "best"
    route["bgp"] = _bgp(path)
    return route


def _route(prefix: str, source: str, next_hop: str, heard_at: float) -> dict[str, Any]:
    gateway, _, interface = next_hop.partition("%")
    return {
        "network": prefix,
        "gateway": gateway,
        "interface": interface,
        "from_protocol": source,
        "age": _at(heard_at, _SHORT),
        "metric": 100,
        "primary": False,
        "type": ["BGP", "unicast", "univ"],
    }


def _bgp(view: ExchangedRouteView | CandidateView) -> dict[str, Any]:
    communities = [parse_community(text) for text in view.communities]
    return {
        "origin": view.origin.upper() if view.origin != "incomplete" else "Incomplete",
        "as_path": re.findall(r"\d+", view.as_path),
        "next_hop": view.next_hop.partition("%")[0],
        "local_pref": str(view.local_pref if view.local_pref is not None else 100),
        "med": str(view.med or 0),
        "communities": [[value >> 16, value & 0xFFFF] for value in communities],
        "large_communities": [list(map(int, text.split(":"))) for text in view.large_communities],
        "ext_communities": [_extended(text) for text in view.extended_communities],
    }


def _extended(text: str) -> list[str]:
    """Kind and two values; of an unknown one its hex digits."""
    parts = text.split(":")
    return parts if len(parts) == 3 else ["generic", f"0x{text[:8]}", f"0x{text[8:]}"]


def _at(moment: float, form: str) -> str:
    return time.strftime(form, time.gmtime(moment))
