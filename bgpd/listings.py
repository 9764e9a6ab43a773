"""What the API serves, read from the parts: listings, health, explain; and reload, which it hands to the daemon.

Decides nothing. Listings are lazy: the server steps them in slices while tables change beneath.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from typing import Any

import msgspec

from bgpd.advertised import Advertised, AnnouncedObjects
from bgpd.api.backend import Listing, Objects, Rejected
from bgpd.config.schema import Config
from bgpd.config.shape import did_you_mean
from bgpd.drain import Drain
from bgpd.evpn.originate import EVPN_SOURCE
from bgpd.evpn.views import evpn_routes, vrf_views
from bgpd.explain import explain
from bgpd.export.table_dump import table_dump
from bgpd.fib import views as fib_views
from bgpd.fib.table import Fib
from bgpd.history.answers import about, sought
from bgpd.history.changes import is_about_routes, is_notice, merged, not_known
from bgpd.history.listings import KINDS as PAST_KINDS
from bgpd.journal.journal import Journal
from bgpd.journal.store import Sought
from bgpd.kernel.speeds import Speeds
from bgpd.log import EventRing
from bgpd.model.drain import DrainStage
from bgpd.model.iana import UNICAST, Family
from bgpd.model.prefix import parse_prefix
from bgpd.model.views.explained import ExplainView, PastView, WhatIfView, WhyNotView
from bgpd.model.views.host import EventView, HealthView, OverviewView
from bgpd.model.views.orders import ConfigChangeView, ReloadView
from bgpd.model.views.queries import PastQuery, PastTableQuery, ViewQuery
from bgpd.model.views.routes import FibRouteView, RouteView, WorkloadView
from bgpd.model.views.sessions import NeighborView
from bgpd.model.workload import WorkloadState
from bgpd.overview import overview
from bgpd.own_routes import WORKLOAD_SOURCE
from bgpd.past import Past
from bgpd.rib.aggregates import AGGREGATE_SOURCE
from bgpd.rib.loc_rib import LocRib
from bgpd.rib.policy import PolicyError
from bgpd.rib.views import route_view, routes
from bgpd.routing import Routing
from bgpd.runtime.copy_of_process import CopyFailed
from bgpd.runtime.turns import Walks
from bgpd.table_pages import TablePages, refuse_words, with_fib
from bgpd.upgrade import Upgrade
from bgpd.what_if import NothingSuch, what_if_down, what_if_drained, what_if_reloaded
from bgpd.why_not import why_not
from bgpd.workload.feed.api import API, ApiSource, ServiceObjects, WorkloadObjects
from bgpd.workload.service.services import SERVICE

_OWN_SOURCES = (WORKLOAD_SOURCE.name, AGGREGATE_SOURCE.name, EVPN_SOURCE.name)


@contextlib.contextmanager
def _worked_out() -> Iterator[None]:
    """Raises: Rejected: the copy of the process has not answered."""
    try:
        yield
    except CopyFailed as error:
        raise Rejected(503, f"it could not be worked out: {error}", "nothing has changed; try again") from None


class DaemonBackend:
    """The Backend of the API. `health`, `drain`, `upgrade`, `metrics`, `reload`, `started` are the daemon's."""

    def __init__(
        self,
        routing: Routing,
        *,
        walks: Walks,
        events: EventRing,
        journal: Journal,
        config: Callable[[], Config],
        health: Callable[[], HealthView],
        drain: Drain,
        past: Past,
        upgrade: Upgrade,
        metrics: Callable[[], Iterator[str]],
        reload: Callable[[float | None], Awaitable[ReloadView]],
        confirm: Callable[[], Awaitable[bool]],
        would_be: Callable[[Config], tuple[Config, list[ConfigChangeView]]],
        rules: Callable[[], Mapping[tuple[str, int], str]],
        started: Callable[[], Coroutine[Any, Any, None]],
    ) -> None:
        self.events = events
        self._journal = journal
        self.started = started
        self.config = config
        self.health = health
        self.drain = drain
        self.upgrade = upgrade
        self.metrics = metrics
        self._routing = routing
        self._walks = walks
        self._advertised = Advertised(routing)
        self._reload = reload
        self._confirm = confirm
        self._past = past
        self._would_be = would_be
        self._rules = rules
        self._speeds = Speeds()
        listings: dict[str, Listing] = {
            "neighbors": lambda query: iter(self.neighbors()),
            "bfd": lambda query: iter(routing.speaker.bfd.views()),
            "routes": self._routes,
            "fib": self._fib,
            "advertised": self._advertised.sent,
            "received": self._advertised.received,
            "workloads": self._workloads,
            "aggregates": lambda query: map(self._advertised.of_aggregate, routing.rib.aggregation.views()),
            "services": self._services,
            "evpn": lambda query: evpn_routes(routing.evpn, query),
            "vrfs": self._vrf_views,
        }
        self.pagers = TablePages(routing, self._advertised, refuse=self._refuse_unknown).pagers
        self.listings: Mapping[str, Listing] = {name: self._checked(listing) for name, listing in listings.items()}

    def _checked(self, listing: Listing) -> Listing:
        """A listing that refuses to be narrowed to what is not there: nothing found would be taken for an answer."""

        def checked(query: ViewQuery) -> Iterator[msgspec.Struct | None]:
            self._refuse_unknown(query.vrf, query.neighbor)
            return listing(query)

        return checked

    def _refuse_unknown(self, vrf: str | None, neighbor: str) -> None:
        """Raises: Rejected: with 404, there is no such VRF or neighbor; nothing given is nothing asked."""
        vrfs = [one.name for one in self.config().vrf]
        if vrf and vrf not in vrfs:
            hint = did_you_mean(vrf, vrfs) or "none is configured"
            raise Rejected(404, f'there is no VRF "{vrf}"', hint)
        if neighbor and neighbor not in _OWN_SOURCES:
            views = self._routing.speaker.neighbor_views()
            if not any(neighbor in (view.name, view.address) for view in views):
                hint = did_you_mean(neighbor, [view.name for view in views]) or "none is configured"
                raise Rejected(404, f'there is no neighbor "{neighbor}"', hint)

    def _table_of(self, vrf: str) -> Fib:
        """The kernel table of a VRF. Raises: Rejected: with 404, there is no such VRF, or the kernel does not have it,
        and why."""
        self._refuse_unknown(vrf, "")
        fib = self._routing.tables.fibs.get(vrf)
        if fib is None:
            why = self._routing.tables.vrfs.problem(vrf) or "it is being made"
            raise Rejected(404, f'VRF "{vrf}" has no kernel table: {why}', "once that is mended, bgpd reload")
        return fib

    def _vrf_views(self, query: ViewQuery) -> Iterator[msgspec.Struct | None]:
        for view in vrf_views(self._routing.evpn, query):
            view.problem = self._routing.tables.vrfs.problem(view.name)
            yield view

    @property
    def objects(self) -> Mapping[str, Objects]:
        api = self._routing.workloads.find(ApiSource)
        if api is None:
            return {}
        claims = self._routing.workloads.claims
        return {
            "workloads": AnnouncedObjects(WorkloadObjects(api), self._advertised, claims, source=API),
            "services": AnnouncedObjects(ServiceObjects(api), self._advertised, claims, source=SERVICE),
        }

    def overview(self) -> OverviewView:
        """The host on one screen."""
        return overview(
            self._routing,
            health=self.health(),
            drain=self.drain.view(),
            neighbors=self.neighbors(),
            speed=self._speeds.known,
        )

    def mrt(self, vrf: str) -> Iterator[bytes]:
        """The routes of a VRF as an MRT table. Raises: Rejected: with 404, there is no such VRF."""
        self._refuse_unknown(vrf, "")
        return table_dump(self._routing.rib, vrf, router=self.config().router)

    async def explain(self, address: bytes, vrf: str) -> ExplainView:
        """The path of a packed address. Raises: Rejected: with 404, there is no such VRF, or the kernel has it not."""
        routing = self._routing
        view = await explain(
            address,
            vrf,
            rib=routing.rib,
            fib=self._table_of(vrf),
            evpn=routing.evpn,
            workloads=routing.workloads,
            neighbors=self.neighbors(),
            audience=self._advertised.of_workload,
            rules=self._rules(),
            drained=self.drain.reason(),
        )
        own = view.workload.prefix if view.workload is not None else ""
        if view.route is not None and view.route.fib == "local":
            own = own or view.route.prefix
        if own:
            view.announced, view.withheld = self._advertised.of_prefix(vrf, *parse_prefix(own))
            self._say_since(view)
        return view

    def _say_since(self, view: ExplainView) -> None:
        """Since when each neighbor has not got a route of this host: it was withdrawn then, or else the session, the
        drain or the state of the claim began then, whatever was last."""
        sessions = {one.name: one.since for one in self.neighbors()}
        drained = self.drain.view().since if self.drain.reason() else None
        claim = view.workload
        claimed = claim.since if claim is not None else 0.0
        for one in view.withheld:
            if claim is not None and claim.state != WorkloadState.ANNOUNCED:
                one.reason = f"{claim.source} {claim.id} is {claim.state}{f': {claim.reason}' if claim.reason else ''}"
            since = one.since or max(sessions.get(one.neighbor, 0.0), claimed, drained or 0.0)
            one.since = since or None

    async def explain_past(self, address: bytes, vrf: str, at: float) -> PastView:
        """What the RIB had at that time; a VRF may be one of then. Raises: Rejected: with 404, it is not known."""
        view = await self._past.ask(address, vrf, at)
        view.events = about(view, await self._journal.read(sought(at)))
        return view

    async def past_events(self, sought: Sought) -> list[EventView]:
        """Events of the journal; of a prefix also what became of its routes, as far as that is known."""
        events, changed = await self._journal.read(sought), list[EventView]()
        if is_about_routes(sought) and self._past.is_on:
            try:
                changed = await self._past.changes(sought, self._vrfs(sought.vrf))
            except Rejected as error:
                changed = [not_known(error.error)]
        if all(map(is_notice, (*events, *changed))):
            self._refuse_unknown(sought.vrf, "")
        return merged(events, changed, sought.limit)

    async def past_routes(self, query: PastQuery) -> bytes:
        """The routes of an earlier time: JSON of a PastRoutesView. Raises: Rejected: with 404, they are not known."""
        return await self._past.routes(query, self._vrfs(query.vrf))

    async def past_overview(self, at: float) -> bytes:
        """The host as it was: JSON of a PastOverviewView. Raises: Rejected: with 404, it is not known."""
        return await self._past.overview(at)

    async def past_table(self, kind: str, query: PastTableQuery) -> bytes:
        """EVPN routes, workloads or services of an earlier time: JSON of a PastTableView. Raises: Rejected."""
        if kind not in PAST_KINDS:
            raise Rejected(404, f'there is no "{kind}" of an earlier time', f"one of: routes, {', '.join(PAST_KINDS)}")
        refuse_words(kind, query)
        return await self._past.table(kind, query)

    def _vrfs(self, asked: str | None) -> list[str]:
        return ["", *(one.name for one in self.config().vrf)] if asked is None else [asked]

    async def why_not(self, prefix: tuple[Family, bytes], vrf: str, neighbor: str) -> WhyNotView:
        """What keeps a prefix from being used or announced. Raises: Rejected: with 404, no such VRF or neighbor."""
        routing, fib = self._routing, self._table_of(vrf)
        views = self.neighbors()
        if neighbor and not any(neighbor == view.name for view in views):
            hint = did_you_mean(neighbor, [view.name for view in views]) or "none is configured"
            raise Rejected(404, f'there is no neighbor "{neighbor}"', hint)
        return await why_not(
            (vrf, *prefix),
            neighbor=neighbor,
            rib=routing.rib,
            fib=fib,
            workloads=routing.workloads,
            advertised=self._advertised,
            neighbors=views,
        )

    async def what_if_down(self, name: str) -> WhatIfView:
        """What becomes of the routes without a neighbor or an interface. Raises: Rejected: with 404, no such thing;
        503."""
        routing = self._routing
        try:
            with _worked_out():
                return await what_if_down(
                    name, routing, walks=self._walks, neighbors=self.neighbors(), speeds=self._speeds
                )
        except NothingSuch as error:
            hint = did_you_mean(name, [*(view.name for view in self.neighbors()), *routing.host.names()])
            raise Rejected(404, str(error), hint or "bgpd show neighbors lists the neighbors") from None

    async def what_if_drained(self, *, all: bool, force: bool) -> WhatIfView:
        """What neighbors would be sent by a drain. Raises: Rejected: with 503, it could not be worked out."""
        last = await self.drain.last_services()
        stage = DrainStage.ALL if all else DrainStage.SERVICES
        with _worked_out():
            return await what_if_drained(self._routing, stage, walks=self._walks, last=last, force=force)

    async def what_if_reloaded(self, config: Config) -> WhatIfView:
        """What becomes of the routes with another configuration. Raises: Rejected: 422, it cannot be used; 503."""
        try:
            in_force, changes = self._would_be(config)
            with _worked_out():
                return await what_if_reloaded(
                    self._routing, in_force, walks=self._walks, changes=changes, neighbors=self.neighbors()
                )
        except PolicyError as error:
            raise Rejected(422, str(error), "bgpd check FILE") from None

    def thaw(self, mac: bytes) -> int:
        return self._routing.evpn.endpoints.thaw(mac)

    async def reload(self, confirm_s: float | None = None) -> ReloadView:
        return await self._reload(confirm_s)

    async def confirm(self) -> bool:
        return await self._confirm()

    def interfaces(self) -> dict[str, str]:
        return self._routing.host.vrf_by_interface()

    def neighbors(self) -> list[NeighborView]:
        """All neighbors, with the counts of their routes."""
        routing = self._routing
        views = routing.speaker.neighbor_views()
        for view in views:
            routing.rib.received.fill_stale(view)
            source = (routing.guests if view.guest else routing.sources).get(view.name)
            if source is not None:
                view.attribute_bytes = routing.rib.received.attribute_bytes(source)
                view.families = {family.value: counts for family, counts in routing.rib.received.counts(source).items()}
                for family in view.families.keys() & set(view.without_next_hop):
                    view.families[family].announced = 0
        return views

    def _workloads(self, query: ViewQuery) -> Iterator[WorkloadView | None]:
        for view in self._routing.workloads.claims.views():
            yield None if view is None else self._advertised.of_workload(view)

    def _tables(self, query: ViewQuery) -> Iterator[tuple[str, Family, LocRib]]:
        for (vrf, family), table in sorted(self._routing.rib.tables.items()):
            if family in UNICAST and query.vrf in (None, vrf) and query.family in ("", family.value):
                yield vrf, family, table

    def _routes(self, query: ViewQuery) -> Iterator[RouteView | None]:
        wanted = parse_prefix(query.prefix) if query.prefix else None
        for vrf, family, table in self._tables(query):
            inside = None
            if wanted is not None:
                if wanted[0] is not family:
                    continue
                inside = wanted[1]
            if inside is not None and not query.longer_prefixes:
                view = route_view(table, family, inside, vrf=vrf)
                if view is not None:
                    yield with_fib(self._routing, view, inside)
                continue
            for page in routes(table, family, vrf=vrf, inside=inside, neighbor=query.neighbor):
                yield None
                for view in page:
                    yield with_fib(self._routing, view, parse_prefix(view.prefix)[1])

    def _fib(self, query: ViewQuery) -> Iterator[FibRouteView | None]:
        family = Family(query.family) if query.family in UNICAST else None
        fibs = [fib for vrf, fib in sorted(self._routing.tables.fibs.items()) if query.vrf in (None, vrf)]
        return itertools.chain.from_iterable(fib_views.routes(fib, family) for fib in fibs)

    def _services(self, query: ViewQuery) -> Iterator[msgspec.Struct | None]:
        services = self._routing.workloads.services
        views = (services.view(name) for name in services.names())
        return (self._advertised.of_service(view) for view in views if view is not None)
