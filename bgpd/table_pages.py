"""Pages of routes, EVPN routes, workloads and services, in order and by cursor, over tables with a million keys.

The tables are dicts and have no order. A page looks once at all keys, in slices, and keeps the next `AHEAD` in order:
for the pages after it, and for everybody else who looks at the same place, as long as they are fresh.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence

import msgspec

from bgpd.advertised import Advertised
from bgpd.api.backend import Paged, Pager, Rejected
from bgpd.evpn.key_search import evpn_routes_with
from bgpd.evpn.views import evpn_route
from bgpd.fib import views as fib_views
from bgpd.fib.routes import FamilyRoutes
from bgpd.model.iana import UNICAST, Family
from bgpd.model.prefix import parse_prefix
from bgpd.model.views.queries import PageQuery, PastTableQuery, ViewQuery
from bgpd.model.views.routes import RouteView
from bgpd.model.workload import WorkloadState
from bgpd.page_keys import (
    SLICE,
    Keep,
    Keys,
    Order,
    in_parts,
    local,
    of_neighbor,
    of_search,
    paths_of,
    sliced,
    smallest,
)
from bgpd.rib.loc_rib import LocRib
from bgpd.rib.views import route_view
from bgpd.routing import Routing

AHEAD = 1_000
"""Keys that are found by one look at a table."""
FRESH_S = 2.0
"""How long they are good for at least; after a look that took longer, ten times as long as it took."""
SETTLED_S = 30.0
SETTLED_TIMES = 300
"""... and at most, where nothing is searched, while the table has as many keys as then: so many times what the look
took. One key may have come for another, which is soon seen in a table that is not large."""
_KEPT = 32
_KEPT_OF_TABLE = 16
"""Searches that are remembered, and stretches of each."""
_WORDS: dict[str, dict[str, Sequence[str | int]]] = {
    "routes": {"state": ("installed", "pending", "failed", "blocked", "local"), "family": UNICAST, "type": ()},
    "evpn": {"state": (), "family": (), "type": range(1, 256)},
    "workloads": {"state": tuple(WorkloadState), "family": UNICAST, "type": ()},
    "services": {"state": ("announced", "withheld"), "family": (), "type": ()},
}
"""What each table may be narrowed to: nothing found would be taken for an answer where nothing can be."""


class Stretch(msgspec.Struct, frozen=True, kw_only=True):
    """Keys of a table that follow each other, the first of them after the key `after`.

    They are good `until` a time, and, as long as the table has the same `size`, until `at_most`.
    """

    after: bytes | None
    keys: list[bytes]
    until: float
    at_most: float
    size: int

    def after_key(self, key: bytes | None, order: Order) -> list[bytes] | None:
        """Those after a key; None if that is unknown here. After the last of all there are none."""
        if key == self.after:
            return self.keys
        if key is None:
            return None
        place = bisect_right(self.keys, order(key), key=order)
        if not place or self.keys[place - 1] != key or place == AHEAD:
            return None
        return self.keys[place:]


class TablePages:
    """`pagers` by name. `refuse`: raises Rejected for a VRF or a neighbor that there is not."""

    def __init__(self, routing: Routing, advertised: Advertised, *, refuse: Callable[[str | None, str], None]) -> None:
        self._routing = routing
        self._advertised = advertised
        self._refuse = refuse
        self._found: dict[tuple[str, ...], list[Stretch]] = {}
        tables: dict[str, Callable[[PageQuery], list[Keys]]] = {
            "routes": self._routes,
            "evpn": self._evpn,
            "workloads": self._workloads,
            "services": self._services,
        }
        self.pagers: dict[str, Pager] = {name: self._pager(name, made) for name, made in tables.items()}

    def _pager(self, name: str, made: Callable[[PageQuery], list[Keys]]) -> Pager:
        def pager(query: PageQuery) -> Paged:
            self._refuse(query.vrf, "")
            refuse_words(name, query)
            tables = made(query)
            is_whole = not query.search and not query.state and not query.type
            total = sum(table.size for table in tables) if is_whole else None
            return Paged(total, self._steps(name, *_from_cursor(tables, query.after)))

        return pager

    def _steps(
        self, name: str, tables: list[Keys], after: bytes | None
    ) -> Iterator[tuple[str, Sequence[msgspec.Struct]] | None]:
        for table in tables:
            while True:
                keys = yield from self._next_keys(name, table, after)
                if not keys:
                    break
                for key in keys:
                    yield f"{key.hex()}.{table.family}.{table.vrf}", table.views(key)
                after = keys[-1]
            after = None

    def _next_keys(self, name: str, table: Keys, after: bytes | None) -> Generator[None, None, list[bytes]]:
        """The keys after one, in order, as far as they were found by one look; fewer than `AHEAD` if they are the last,
        or if one that looked from an earlier key has found them."""
        which = (name, table.family, table.vrf, table.what)
        stretches = self._found.setdefault(which, [])
        now = time.monotonic()
        stretches[:] = [one for one in stretches if now < one.until or (now < one.at_most and one.size == table.size)]
        for stretch in stretches:
            keys = stretch.after_key(after, table.order)
            if keys is not None:
                return keys
        look, took_s = smallest(table, after, AHEAD), 0.0
        while True:
            began = time.thread_time()
            keys = next(look)
            took_s += time.thread_time() - began
            if keys is not None:
                break
            yield
        now = time.monotonic()
        until = now + max(FRESH_S, 10 * took_s)
        at_most = max(until, now + min(SETTLED_S, SETTLED_TIMES * took_s)) if not table.what else until
        stretches.append(Stretch(after=after, keys=keys, until=until, at_most=at_most, size=table.size))
        del stretches[:-_KEPT_OF_TABLE]
        self._found.pop(which, None)
        self._found[which] = stretches
        while len(self._found) > _KEPT:
            del self._found[next(iter(self._found))]
        return keys

    def _routes(self, query: PageQuery) -> list[Keys]:
        chosen = [
            (vrf, family, table)
            for (vrf, family), table in sorted(self._routing.rib.tables.items())
            if family in UNICAST and query.vrf in (None, vrf) and query.family in ("", family)
        ]
        tables = [self._route_keys(vrf, family, table, query.state) for vrf, family, table in chosen]
        if not query.search:
            return tables
        try:
            family, key = parse_prefix(query.search)
        except ValueError:
            self._refuse(None, query.search)
            return [of_neighbor(keys, table, query.search) for keys, (_, _, table) in zip(tables, chosen)]
        return [of_search(keys, query.search, family, key) for keys in tables if keys.family == family]

    def _route_keys(self, vrf: str, family: Family, table: LocRib, state: str) -> Keys:
        fib = self._routing.tables.fibs.get(vrf)
        kernel = fib.families[family] if fib is not None else None
        slices: Callable[[], Iterable[Collection[bytes]]] = lambda: in_parts(table.routes)  # noqa: E731
        keep: Keep | None = None
        if state == "local":
            keep = local(table)
        elif state == "installed":
            keep = lambda keys: [] if kernel is None else [key for key in keys if key in kernel.installed]  # noqa: E731
        elif state and kernel is not None:
            slices = lambda: _in_state(kernel, state)  # noqa: E731

        def views(key: bytes) -> list[RouteView]:
            view = route_view(table, family, key, vrf=vrf)
            return [] if view is None or state not in ("", with_fib(self._routing, view, key).fib) else [view]

        return Keys(family=family, vrf=vrf, what=state, slices=slices, keep=keep, views=views, size=len(table.routes))

    def _evpn(self, query: PageQuery) -> list[Keys]:
        table = self._routing.rib.tables.get(("", Family.L2VPN_EVPN))
        if table is None:
            return []
        wanted = ViewQuery(vrf=query.vrf)
        text = f"{query.search} {query.type}"
        keep = evpn_routes_with(query.search) if query.search else None
        if keep is None and query.search:
            self._refuse(None, query.search)
            keep = paths_of(table, query.search)
        if (number := query.type) != 0:
            searched = keep

            def of_type(keys: Sequence[bytes]) -> list[bytes]:
                chosen = [key for key in keys if key[0] == number]
                return chosen if searched is None else searched(chosen)

            keep = of_type

        def views(key: bytes) -> list[msgspec.Struct]:
            view = evpn_route(self._routing.evpn, key, wanted)
            return [] if view is None else [view]

        slices = lambda: in_parts(table.routes)  # noqa: E731
        size = len(table.routes)
        return [
            Keys(family="evpn", vrf="", what=text, slices=slices, views=views, size=size, keep=keep, of_prefixes=False)
        ]

    def _workloads(self, query: PageQuery) -> list[Keys]:
        claims = self._routing.workloads.claims
        tables = []
        for vrf, family in claims.tables():
            if query.vrf not in (None, vrf) or query.family not in ("", family):
                continue

            def views(key: bytes, vrf: str = vrf, family: Family = family) -> list[msgspec.Struct]:
                found = [self._advertised.of_workload(view) for view in claims.views_of(vrf, family, key)]
                return [
                    view
                    for view in found
                    if query.state in ("", view.state)
                    and _has(query.search, view.id, view.prefix, view.mac, view.interface, view.source)
                ]

            place = vrf, family
            slices = lambda place=place: sliced(claims.keys(place))  # noqa: E731
            tables.append(Keys(family=family, vrf=vrf, what="", slices=slices, views=views, size=claims.count(place)))
        return tables

    def _services(self, query: PageQuery) -> list[Keys]:
        services = self._routing.workloads.services

        def views(key: bytes) -> list[msgspec.Struct]:
            view = services.view(key.decode())
            if view is None or query.vrf not in (None, view.vrf):
                return []
            view = self._advertised.of_service(view)
            state = "announced" if view.announced else "withheld"
            is_meant = query.state in ("", state) and _has(query.search, view.name, view.source, *view.addresses)
            return [view] if is_meant else []

        names = services.names()
        slices = lambda: sliced([name.encode() for name in names])  # noqa: E731
        return [Keys(family="service", vrf="", what="", slices=slices, views=views, size=len(names), of_prefixes=False)]


def refuse_words(name: str, query: PageQuery | PastTableQuery) -> None:
    """Raises: Rejected: with 400, the table is narrowed to what it cannot have."""
    for field, known in _WORDS[name].items():
        value = getattr(query, field)
        if value and value not in known:
            right = f"one of: {', '.join(map(str, known))}" if known else f"{name} are not narrowed by it"
            raise Rejected(400, f'"{value}" is no {field} of {name}', right)


def with_fib(routing: Routing, view: RouteView, key: bytes) -> RouteView:
    """The state of the kernel route beside the RIB's."""
    fib = routing.tables.fibs.get(view.vrf)
    if not view.fib and fib is not None:
        route = fib_views.route(fib, Family(view.family), key)
        view.fib = route.state if route is not None else ""
    return view


def _from_cursor(tables: list[Keys], cursor: str) -> tuple[list[Keys], bytes | None]:
    """The tables from the one on that the cursor names, and the key in it."""
    if not cursor:
        return tables, None
    text, _, name = cursor.partition(".")
    family, _, vrf = name.partition(".")
    try:
        if not (key := bytes.fromhex(text)):
            raise ValueError("no key")
        index = [(table.family, table.vrf) for table in tables].index((family, vrf))
    except ValueError:
        raise Rejected(400, f'"{cursor[:80]}" is no place in this table', "begin with the first page") from None
    return tables[index:], key


def _in_state(kernel: FamilyRoutes, state: str) -> Iterator[Sequence[bytes]]:
    """The keys of routes that wait, failed or are blocked; some twice."""
    if state == "failed":
        yield from sliced(list(kernel.failed))
    elif state == "blocked":
        yield from kernel.blocked.slices(SLICE)
    else:
        yield from sliced(list(kernel.changing))
        yield from kernel.pending.slices(SLICE)


def _has(text: str, *shown: str) -> bool:
    return not text or any(text.lower() in one.lower() for one in shown)
