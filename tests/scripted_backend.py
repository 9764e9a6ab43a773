"""A Backend that answers from lists, for tests of the API and the command line over a real unix socket."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from bgpd.api.backend import Answer, Listing, Objects, Paged, Pager, Rejected
from bgpd.api.prometheus import Registry
from bgpd.config.schema import Config, RouterConfig
from bgpd.config.schema_sessions import NeighborConfig
from bgpd.journal.store import Sought
from bgpd.log import EventRing
from bgpd.model.iana import Family
from bgpd.model.prefix import format_address, format_key
from bgpd.model.service import ServiceView
from bgpd.model.views.explained import (
    ExplainView,
    ForeseenView,
    MessageView,
    PastNeighborView,
    PastOverviewView,
    PastRoutesView,
    PastTableView,
    PastView,
    RouteChangeView,
    ToldView,
    WhatIfView,
    WhyNotView,
    WithheldView,
)
from bgpd.model.views.host import EventView, GroupOverview, HealthView, OverviewView, TableOverview, UplinkOverview
from bgpd.model.views.orders import ConfigChangeView, DrainRequest, DrainView, ReloadView, UpgradeView
from bgpd.model.views.queries import ErrorView, PageQuery, PastQuery, PastTableQuery, ViewQuery
from bgpd.model.views.routes import CandidateView, FibRouteView, KernelRouteView, NextHopView, RouteView, WorkloadView
from bgpd.model.views.sessions import FamilyCounts, NeighborView

NOW = 1_700_000_000.0
LEAF1 = NeighborView(
    name="leaf1",
    address="10.0.1.2",
    interface="",
    asn=65201,
    local_asn=65203,
    state="established",
    since=NOW,
    families={"ipv4-unicast": FamilyCounts(received=3, announced=2)},
)
LEAF2 = NeighborView(
    name="leaf2", address="", interface="eth1", asn=65201, local_asn=65203, state="active", since=NOW,
    last_error="connection refused \x1b[31m",
)  # fmt: skip
BEST = CandidateView(source="leaf1", kind="ebgp", role="best", next_hop="10.0.1.2", as_path="65201 65204", heard_at=NOW)
LOST = CandidateView(source="leaf2", kind="ebgp", role="lost", reason="step 3: longer AS path", next_hop="fe80::1%eth1")


def route(index: int) -> RouteView:
    prefix = f"10.{index >> 16}.{index >> 8 & 255}.{index & 255}/32"
    return RouteView(family="ipv4-unicast", prefix=prefix, fib="installed", candidates=[BEST, LOST])


class ScriptedDrain:
    """Takes every order and is drained after `looks` more questions, or, with `ends`, is not drained any more; refuses
    unless forced while `last` is set."""

    def __init__(self, backend: ScriptedBackend) -> None:
        self._backend = backend
        self.last = ""
        self.looks = 0
        self.ends = False
        self.answer = DrainView()

    def view(self) -> DrainView:
        if self.answer.state == "draining":
            self.looks -= 1
            if self.looks < 0 and self.ends:
                self.answer = DrainView()
            elif self.looks < 0:
                self.answer = msgspec.structs.replace(self.answer, state="drained", waiting_for=[])
        return self.answer

    async def on(self, request: DrainRequest, *, who: str) -> DrainView:
        if self.last and not request.force:
            raise Rejected(409, f"no other host is seen to announce {self.last}", "--force drains all the same")
        if request.shutdown:
            return DrainView()  # no drain.on_shutdown
        self._backend.orders.append(f"drain {msgspec.json.encode(request).decode()}")
        self.answer = DrainView(state="draining", stage="graceful-shutdown", since=NOW, waiting_for=["40 packets/s"])
        return self.answer

    async def off(self, *, who: str) -> DrainView:
        self._backend.orders.append("drain off")
        self.answer = DrainView()
        return self.answer


class ScriptedUpgrade:
    """Cannot start for `problem`; does not follow for `error`."""

    def __init__(self) -> None:
        self.problem = ""
        self.error = ""
        self.answer = UpgradeView(version="bgpd 1 (plain)", pid=1, born=NOW)

    def view(self) -> UpgradeView:
        return self.answer

    async def check(self, *, who: str) -> UpgradeView:
        if self.problem:
            raise Rejected(409, f"the installed bgpd cannot start: {self.problem}", "nothing has changed")
        self.answer.installed = "bgpd 2 (plain)"
        return self.answer

    def begin(self) -> None:
        new = UpgradeView(version="bgpd 2 (plain)", pid=1, born=NOW + 1)
        self.answer = msgspec.structs.replace(self.answer, failed=self.error) if self.error else new


class ScriptedBackend:
    """Serves the given views; `orders` are the orders that it was given."""

    def __init__(self, routes: int = 3) -> None:
        self.events = EventRing()
        self.orders: list[str] = []
        self.near: list[str] = []
        self.verdict = "ready, without a session with leaf2"
        self.overviews = 0
        self.reload_problems: list[str] = []
        self.objects: Mapping[str, Objects] = {"workloads": ScriptedObjects(self)}
        self.drain = ScriptedDrain(self)
        self.upgrade = ScriptedUpgrade()
        self.frozen: dict[bytes, int] = {}
        self.has_started = asyncio.Event()
        self.has_started.set()
        self._routes = routes
        self.routes_shown = 0
        self.started_at = NOW
        neighbor = NeighborConfig(name="leaf1", address="10.0.1.2", asn=65201, import_="all")
        self._config = Config(router=RouterConfig(asn=65203, router_id="10.255.1.1"), neighbor=(neighbor,))

    async def why_not(self, prefix: tuple[Family, bytes], vrf: str, neighbor: str) -> WhyNotView:
        self.orders.append(f"why-not {format_key(*prefix)} vrf={vrf} neighbor={neighbor}")
        withheld = [WithheldView(neighbor="leaf1", announced=False, reason='export of leaf1 is "none"')]
        workload = WorkloadView(id="pod1", source="static", prefix="10.64.1.5/32", state="announced", since=NOW)
        return WhyNotView(
            prefix=format_key(*prefix),
            vrf=vrf,
            verdict="not announced",
            well=False,
            workloads=[workload],
            near=self.near,
            withheld=withheld,
        )

    async def what_if_down(self, name: str) -> WhatIfView:
        if name != "leaf1":
            raise Rejected(404, f'there is no neighbor and no interface "{name}"', "did you mean leaf1?")
        table = ForeseenView(family="ipv4-unicast", unchanged=3, lost=12, examples={"lost": ["10.0.0.0/24"]})
        return WhatIfView(down=name, verdict="12 routes lost; left: leaf2", tables=[table])

    async def what_if_drained(self, *, all: bool, force: bool) -> WhatIfView:
        told = ToldView(neighbor="leaf1", announced=3, withdrawn=1, examples={"withdrawn": ["10.64.100.1/32"]})
        last = [] if force else ["10.64.100.1/32"]
        drain = "all" if all else "services"
        return WhatIfView(verdict="leaf1 is sent 3 and withdrawn 1", drain=drain, told=[told], last=last)

    async def what_if_reloaded(self, config: Config) -> WhatIfView:
        change = ConfigChangeView(path="neighbor[leaf1].import", change="changed", effect="refresh")
        table = ForeseenView(family="ipv4-unicast", lost=1, examples={"lost": ["10.0.0.0/24"]})
        left = [one.name for one in config.neighbor]
        return WhatIfView(verdict="1 route lost", reload=[change], neighbors_left=left, tables=[table])

    def overview(self) -> OverviewView:
        table = TableOverview(prefixes={"ipv4-unicast": 12}, desired=12, installed=11, pending=1)
        hop = NextHopView(address="10.0.2.2", interface="eth1")
        self.overviews += 1
        return OverviewView(
            verdict=self.verdict,
            health=self.health(),
            drain=self.drain.view(),
            neighbors=[LEAF2, LEAF1],
            neighbors_total=2,
            uplinks=[UplinkOverview(interface="eth0", up=True, neighbors=["leaf1"])],
            tables=[table],
            groups=[GroupOverview(id=217_500_001, routes=12, next_hops=[hop])],
            workloads={"static": {"announced": 1, "pending": 1}},
            announced=1,
            withheld=1,
        )

    async def past_events(self, sought: Sought) -> list[EventView]:
        return [event for event in self.events.since() if sought.matches(event)][-sought.limit :]

    @property
    def listings(self) -> Mapping[str, Listing]:
        workload = WorkloadView(id="pod1", source="static", prefix="10.64.1.5/32", state="announced", since=NOW)
        service = ServiceView(name="web", source="mqtt", addresses=["10.64.100.1/32", "2001:db8::100/128"], vrf="blue")
        hop = NextHopView(address="10.0.2.2", interface="eth1", live=False, why="link is down")
        fib = FibRouteView(family="ipv4-unicast", prefix="10.0.0.0/24", table=254, state="failed", next_hops=[hop])
        return {
            "neighbors": self._listing([LEAF1, LEAF2]),
            "routes": lambda query: map(self._route, range(self._routes)),
            "fib": self._listing([fib]),
            "workloads": self._listing([workload]),
            "services": self._listing([service]),
            "broken": self._broken,
            "broken-late": self._broken_late,
        }

    async def started(self) -> None:
        await self.has_started.wait()

    def config(self) -> Config:
        return self._config

    def interfaces(self) -> dict[str, str]:
        return {"lo": "", "eth0": "", "eth0.101": "blue"}

    def health(self) -> HealthView:
        return HealthView(ready=False, reasons=["no neighbor is established"], started_at=self.started_at)

    def metrics(self) -> Iterator[str]:
        registry = Registry()
        registry.gauge("bgpd_routes", "Prefixes.", lambda: float(self._routes))
        return registry.render()

    def mrt(self, vrf: str) -> Iterator[bytes]:
        if vrf:
            raise Rejected(404, f'there is no VRF "{vrf}"', "see bgpd show vrfs")
        return iter([b"table of ", b"routes"])

    @property
    def pagers(self) -> Mapping[str, Pager]:
        return {
            "routes": self._paged,
            "broken": self._paged_broken,
            **{name: self._whole_page(name) for name in ("workloads", "services")},
        }

    def _whole_page(self, name: str) -> Pager:
        """All views of a listing on one page."""
        listing = self.listings[name]
        return lambda query: Paged(None, ((str(place), [view]) for place, view in enumerate(listing(ViewQuery()))))

    def _paged(self, query: PageQuery) -> Paged:
        """The place after a route is its number; each third place has no route."""

        def steps() -> Iterator[tuple[str, Sequence[msgspec.Struct]] | None]:
            for index in range(int(query.after or 0), self._routes):
                yield None
                yield str(index + 1), [self._route(index)] if index % 3 else []

        return Paged(self._routes, steps())

    def _paged_broken(self, query: PageQuery) -> Paged:
        raise RuntimeError("a bug")

    async def explain_past(self, address: bytes, vrf: str, at: float) -> PastView:
        if at < NOW:
            raise Rejected(404, "the history of routes begins later")
        return PastView(
            address=format_address(address),
            vrf=vrf,
            at=at,
            verdict="10.64.9.0/24 went to 10.0.1.2, as said by leaf1",
            known_from=NOW,
            route=route(1),
            neighbors=[PastNeighborView(name="leaf1", established=True, since=NOW)],
            changes=[
                RouteChangeView(at=at, prefix="10.64.9.0/24", source="leaf1", after="via 10.0.1.2", message="aa"),
                RouteChangeView(at=at, prefix="10.64.9.0/24", source="leaf2", before="x", why="its session ended"),
            ],
            messages=[MessageView(source="leaf1")],
        )

    async def past_routes(self, query: PastQuery) -> bytes:
        if query.at < NOW:
            raise Rejected(404, "the history of routes begins later")
        view = PastRoutesView(prefix=query.prefix, at=query.at, known_from=NOW, total=2, routes=[route(1)])
        return msgspec.json.encode(view)

    async def past_overview(self, at: float) -> bytes:
        if at < NOW:
            raise Rejected(404, "the history of routes begins later")
        return msgspec.json.encode(PastOverviewView(at=at, looked_at=NOW, overview=self.overview()))

    async def past_table(self, kind: str, query: PastTableQuery) -> bytes:
        if kind not in ("evpn", "workloads", "services"):
            raise Rejected(404, f'there is no "{kind}" of an earlier time')
        if query.at < NOW:
            raise Rejected(404, "the history of routes begins later")
        self.orders.append(f"past {kind} {msgspec.json.encode(query).decode()}")
        workload = WorkloadView(id="pod1", source="static", prefix="10.64.1.5/32", state="announced", since=NOW)
        rows = {"workloads": [workload]}.get(kind, [])
        return msgspec.json.encode(PastTableView(at=query.at, known_from=NOW, total=2, rows=rows))

    async def explain(self, address: bytes, vrf: str) -> ExplainView:
        if vrf not in ("", "blue"):
            raise Rejected(404, f'there is no VRF "{vrf}"', "see bgpd show vrfs")
        hops = [
            NextHopView(address="10.0.1.2", interface="eth0"),
            NextHopView(address="10.0.2.2", interface="eth1", live=False, why="link is down"),
        ]
        kernel = KernelRouteView(
            prefix="10.64.9.0/24", table=254, protocol="197", metric=20, ours=True, group=7, next_hops=hops
        )
        return ExplainView(
            address=format_address(address),
            vrf=vrf,
            verdict="forwarded by leaf1",
            agrees=True,
            kernel=kernel,
            route=route(1),
            neighbors=[LEAF1],
        )

    def thaw(self, mac: bytes) -> int:
        return self.frozen.pop(mac, 0)

    async def reload(self, confirm_s: float | None = None) -> ReloadView:
        self.orders.append("reload" if confirm_s is None else f"reload {confirm_s:.0f}")
        return ReloadView(
            file="x.toml", problems=self.reload_problems, confirm_until=None if confirm_s is None else NOW + confirm_s
        )

    async def confirm(self) -> bool:
        self.orders.append("confirm")
        return "reload 60" in self.orders

    def _route(self, index: int) -> RouteView:
        self.routes_shown += 1
        return route(index)

    def _listing(self, values: Sequence[msgspec.Struct]) -> Listing:
        return lambda query: iter(values)

    def _broken(self, query: ViewQuery) -> Iterator[msgspec.Struct | None]:
        yield LEAF1
        raise RuntimeError("a bug")

    def _broken_late(self, query: ViewQuery) -> Iterator[msgspec.Struct | None]:
        yield from (route(index) for index in range(5_000))
        raise RuntimeError("a bug")


class ScriptedObjects:
    """Takes JSON objects and gives them back."""

    def __init__(self, backend: ScriptedBackend) -> None:
        self._backend = backend
        self._held: dict[str, WorkloadView] = {}

    async def put(self, id: str, body: bytes, *, who: str, timeout_s: float | None) -> Answer:
        payload: Any = msgspec.json.decode(body)
        self._backend.orders.append(f"put {id} by {who} within {timeout_s}")
        prefix = payload["addresses"][0]
        self._held[id] = WorkloadView(id=id, source="api", prefix=prefix, state="announced", since=NOW)
        return 200, self._held[id]

    async def delete(self, id: str, *, who: str) -> Answer:
        return self._answer(id, self._held.pop(id, None))

    def get(self, id: str) -> Answer:
        return self._answer(id, self._held.get(id))

    def _answer(self, id: str, held: WorkloadView | None) -> Answer:
        return (404, ErrorView(error=f'there is no workload "{id}"')) if held is None else (200, held)
