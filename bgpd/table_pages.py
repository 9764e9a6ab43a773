"""Pages of routes, EVPN routes, workloads and services, in order and by cursor, over tables with a million keys.

The tables are dicts and have no order. A page looks once at all keys, in slices, and keeps the next `AHEAD` in order:
for the pages after it, and for everybody else who looks at the same place, as long as they are fresh.
"""

from __future__ import annotations

import ipaddress
import re
import time
from bisect import bisect_right
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence

import msgspec

from bgpd.advertised import Advertised
from bgpd.api.backend import Paged, Pager, Rejected
from bgpd.evpn.views import evpn_route
from bgpd.fib import views as fib_views
from bgpd.fib.routes import FamilyRoutes
from bgpd.model.communities import parse_route_distinguisher
from bgpd.model.evpn import parse_key
from bgpd.model.iana import Family
from bgpd.model.prefix import address_length, covering_keys, covers, parse_prefix
from bgpd.model.views.queries import PageQuery, ViewQuery
from bgpd.model.views.routes import RouteView
from bgpd.model.workload import WorkloadState
from bgpd.rib.loc_rib import LocRib
from bgpd.rib.views import route_view
from bgpd.routing import Routing

AHEAD = 1_000
"""Keys that are found by one look at a table."""
FRESH_S = 2.0
"""How long they are good for at least; after a look that took longer, ten times as long as it took."""
SETTLED_S = 30.0
"""... and at most, where nothing is searched, while the table has as many keys as then."""
_KEPT = 32
_KEPT_OF_TABLE = 16
"""Searches that are remembered, and stretches of each."""
_SLICE = 4_096
_UNICAST = (Family.IPV4_UNICAST, Family.IPV6_UNICAST)
_WORDS: dict[str, dict[str, Sequence[str | int]]] = {
    "routes": {"state": ("installed", "pending", "failed", "blocked", "local"), "family": _UNICAST, "type": ()},
    "evpn": {"state": (), "family": (), "type": range(1, 256)},
    "workloads": {"state": tuple(WorkloadState), "family": _UNICAST, "type": ()},
    "services": {"state": ("announced", "withheld"), "family": (), "type": ()},
}
"""What each table may be narrowed to: nothing found would be taken for an answer where nothing can be."""

_MAC = re.compile(r"[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}\Z")

Keep = Callable[[bytes], bool]
Order = Callable[[bytes], tuple[bytes, int]]


class Keys(msgspec.Struct, frozen=True, kw_only=True):
    """A table to be read in pages. `family` and `vrf` name it in cursors, `what` says which keys `slices` and `keep`
    choose: the same text, the same choice. `low` and `high` bound the keys, those of prefixes without their length.
    """

    family: str
    vrf: str
    what: str
    slices: Callable[[], Iterable[Sequence[bytes]]]
    views: Callable[[bytes], Sequence[msgspec.Struct]]
    size: int
    keep: Keep | None = None
    of_prefixes: bool = True
    low: bytes = b""
    high: bytes | None = None

    @property
    def order(self) -> Order:
        """By which its keys follow each other."""
        return _by_address if self.of_prefixes else _as_it_is


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
            for field, known in _WORDS[name].items():
                value = getattr(query, field)
                if value and value not in known:
                    right = f"one of: {', '.join(map(str, known))}" if known else f"{name} are not narrowed by it"
                    raise Rejected(400, f'"{value}" is no {field} of {name}', right)
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
        until = time.monotonic() + max(FRESH_S, 10 * took_s)
        at_most = time.monotonic() + SETTLED_S if not table.what else until
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
            if family in _UNICAST and query.vrf in (None, vrf) and query.family in ("", family)
        ]
        tables = [self._route_keys(vrf, family, table, query.state) for vrf, family, table in chosen]
        if not query.search:
            return tables
        try:
            family, key = parse_prefix(query.search)
        except ValueError:
            self._refuse(None, query.search)
            return [_by_neighbor(keys, table, query.search) for keys, (_, _, table) in zip(tables, chosen)]
        address = _address(query.search)
        narrowed = _covering(family, address) if address else _inside(key)
        return [narrowed(keys, query.search) for keys in tables if keys.family == family]

    def _route_keys(self, vrf: str, family: Family, table: LocRib, state: str) -> Keys:
        fib = self._routing.tables.fibs.get(vrf)
        kernel = fib.families[family] if fib is not None else None
        slices: Callable[[], Iterable[Sequence[bytes]]] = lambda: table.routes.slices(_SLICE)  # noqa: E731
        keep: Keep | None = None
        if state == "local":
            keep = lambda key: (decision := table.routes.get(key)) is not None and decision.is_local  # noqa: E731
        elif state == "installed":
            keep = lambda key: kernel is not None and key in kernel.installed  # noqa: E731
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
        keep = _evpn_keep(query.search) if query.search else None
        if keep is None and query.search:
            self._refuse(None, query.search)
            keep = _has_path_of(table, query.search)
        if (number := query.type) != 0:
            narrowed = keep
            keep = lambda key: key[0] == number and (narrowed is None or narrowed(key))  # noqa: E731

        def views(key: bytes) -> list[msgspec.Struct]:
            view = evpn_route(self._routing.evpn, key, wanted)
            return [] if view is None else [view]

        slices = lambda: table.routes.slices(_SLICE)  # noqa: E731
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

            keys = claims.keys((vrf, family))
            slices = lambda keys=keys: _sliced(keys)  # noqa: E731
            tables.append(Keys(family=family, vrf=vrf, what="", slices=slices, views=views, size=len(keys)))
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

        names = [name.encode() for name in services.names()]
        return [
            Keys(
                family="service",
                vrf="",
                what="",
                slices=lambda: _sliced(names),
                views=views,
                size=len(names),
                of_prefixes=False,
            )
        ]


def smallest(table: Keys, after: bytes | None, count: int) -> Iterator[list[bytes] | None]:
    """The first keys of a table after one, in order, by one look at all of them: last, after None for each slice."""
    start = 1 if table.of_prefixes else 0
    order = table.order
    low, high, keep = table.low, table.high, table.keep
    if after is not None:
        low = max(low, after[start:])
    found: list[bytes] = []
    for keys in table.slices():
        if high is None:
            chosen = [key for key in keys if key[start:] >= low]
        else:
            chosen = [key for key in keys if low <= key[start:] <= high]
        if after is not None:
            chosen = [key for key in chosen if order(key) > order(after)]
        found += chosen if keep is None else filter(keep, chosen)
        if len(found) > 2 * count:
            found = sorted(set(found), key=order)[:count]
            high = found[-1][start:]
        yield None
    yield sorted(set(found), key=order)[:count]


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


def _sliced(keys: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    for start in range(0, len(keys), _SLICE):
        yield keys[start : start + _SLICE]


def _in_state(kernel: FamilyRoutes, state: str) -> Iterator[Sequence[bytes]]:
    """The keys of routes that wait, failed or are blocked; some twice."""
    if state == "failed":
        yield from _sliced(list(kernel.failed))
    elif state == "blocked":
        yield from kernel.blocked.slices(_SLICE)
    else:
        yield from _sliced(list(kernel.changing))
        yield from kernel.pending.slices(_SLICE)


def _by_address(key: bytes) -> tuple[bytes, int]:
    return key[1:], key[0]


def _as_it_is(key: bytes) -> tuple[bytes, int]:
    return key, 0


def _has(text: str, *shown: str) -> bool:
    return not text or any(text.lower() in one.lower() for one in shown)


def _address(text: str) -> bytes:
    """An address without a prefix length, packed; b"" if the text is none."""
    try:
        return ipaddress.ip_address(text).packed
    except ValueError:
        return b""


def _covering(family: Family, address: bytes) -> Callable[[Keys, str], Keys]:
    """Only the routes that cover an address."""
    covering = sorted(covering_keys(family, address), key=_by_address)

    def narrowed(table: Keys, text: str) -> Keys:
        return _narrowed(table, text, lambda: [covering])

    return narrowed


def _inside(outer: bytes) -> Callable[[Keys, str], Keys]:
    """Only the routes inside a prefix."""

    def narrowed(table: Keys, text: str) -> Keys:
        length = address_length(Family(table.family))
        first = int.from_bytes(outer[1:].ljust(length, b"\0"))
        last = first | ((1 << (8 * length - outer[0])) - 1)
        keep = table.keep
        return msgspec.structs.replace(
            table,
            what=f"{table.what} {text}",
            low=outer[1:],
            high=last.to_bytes(length),
            keep=lambda key: covers(outer, key) and (keep is None or keep(key)),
        )

    return narrowed


def _narrowed(table: Keys, text: str, slices: Callable[[], Iterable[Sequence[bytes]]]) -> Keys:
    return msgspec.structs.replace(table, what=f"{table.what} {text}", slices=slices)


def _by_neighbor(table: Keys, rib: LocRib, neighbor: str) -> Keys:
    has_path, keep = _has_path_of(rib, neighbor), table.keep
    return msgspec.structs.replace(
        table,
        what=f"{table.what} {neighbor}",
        keep=lambda key: has_path(key) and (keep is None or keep(key)),
    )


def _has_path_of(table: LocRib, neighbor: str) -> Keep:
    def keep(key: bytes) -> bool:
        decision = table.routes.get(key)
        return decision is not None and decision.path_of(neighbor) is not None

    return keep


def _evpn_keep(text: str) -> Keep | None:
    """The EVPN routes with a MAC, an address, a prefix or a route distinguisher; None if the text is none of them."""
    address, _, length = text.partition("/")
    try:
        mac = bytes.fromhex(text.replace(":", "")) if _MAC.match(text) else b""
        needle = mac or _address(address) or parse_route_distinguisher(text)
        bits = int(length) if length else -1
    except ValueError:
        return None

    def keep(key: bytes) -> bool:
        if needle not in key:  # of most keys nothing more is looked at
            return False
        route = parse_key(key)
        if needle not in (route.rd, route.mac, route.ip, route.prefix, route.originator):
            return False
        return bits in (-1, route.prefix_length if route.prefix else 8 * len(needle))

    return keep
