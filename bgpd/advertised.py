"""What neighbors were sent, and what they announced: `bgpd show advertised`, `bgpd show received`; and to whom a route
of this host is announced.

Reads RIB, sessions and EVPN; changes nothing. Listings are lazy, each step is short.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec

from bgpd.api.backend import Answer, Objects
from bgpd.model.attributes import Attributes
from bgpd.model.communities import format_membership, format_route_distinguisher
from bgpd.model.evpn import parse_key
from bgpd.model.iana import Family
from bgpd.model.path import Path
from bgpd.model.prefix import format_address, format_key, parse_prefix
from bgpd.model.reports import WorkloadReport
from bgpd.model.route_batch import Overlay, RouteBatch
from bgpd.model.service import ServiceView
from bgpd.model.views.explained import WithheldView
from bgpd.model.views.queries import ViewQuery
from bgpd.model.views.routes import AggregateView, ExchangedRouteView, WorkloadView
from bgpd.model.workload import Claim
from bgpd.rib.adj_rib_out import AdjRibOut
from bgpd.rib.exchanged import exchanged_view, next_hop_text
from bgpd.rib.neighbor_state import NeighborState
from bgpd.routing import Routing
from bgpd.workload.claims import Claims

_SLICE = 2048
_MOST_REASONS = 4
_UNDER_WAY = "is being sent its routes"
_PATIENCE_S = 1.0
"""How long an answer about a workload waits for its route to be sent."""


class Audience(NamedTuple):
    """The neighbors that were sent a route, by name; where none was, why not."""

    neighbors: list[str]
    why_nobody: str = ""
    is_under_way: bool = False


class Advertised:
    """What sessions exchange, as the RIB keeps it and the encoder sends it."""

    def __init__(self, routing: Routing) -> None:
        self._routing = routing

    # Listings

    def sent(self, query: ViewQuery) -> Iterator[ExchangedRouteView | None]:
        """The routes that neighbors were sent, with the attributes that they were sent with."""
        for state, family in self._asked_for(query):
            export = state.exports.get(family)
            if export is None:  # the session has ended meanwhile
                continue
            wanted = _wanted(query, family)
            keys = list(export.advertised) if wanted is None else wanted
            for start in range(0, len(keys), _SLICE):
                yield None
                for key in keys[start : start + _SLICE]:
                    view = self._sent_view(state, export, key)
                    if view is not None:
                        yield view

    def received(self, query: ViewQuery) -> Iterator[ExchangedRouteView | None]:
        """The routes that neighbors announced, with the attributes that they announced them with."""
        for state, family in self._asked_for(query):
            table = state.tables.get(family)
            if table is None:  # the session has ended meanwhile
                continue
            chosen = _wanted(query, family)
            for keys in [chosen] if chosen is not None else table.routes.slices(_SLICE):
                yield None
                for key in keys:
                    decision = table.routes.get(key)
                    path = decision.path_of(state.source.name) if decision is not None else None
                    if path is not None and path.source is state.source:
                        yield _received_view(state, family, key, path)

    def _asked_for(self, query: ViewQuery) -> Iterator[tuple[NeighborState, Family]]:
        for state in self._routing.rib.received.states():
            names = (state.source.name, format_address(state.source.address))
            if query.neighbor and query.neighbor not in names:
                continue
            if query.vrf not in (None, state.config.vrf):
                continue
            for family in state.families:
                if query.family in ("", family.value):
                    yield state, family

    def _sent_view(self, state: NeighborState, export: AdjRibOut, key: bytes) -> ExchangedRouteView | None:
        batch = self._as_sent(state, export, key)
        if batch is None or batch.attributes is None:
            return None
        sent = self._routing.speaker.neighbors.as_sent(state.source, batch)
        if sent is None:
            return None
        attributes, next_hop = sent
        return _view(state, export.family, key, attributes, next_hop=next_hop_text(next_hop), overlay=batch.overlay)

    def _as_sent(self, state: NeighborState, export: AdjRibOut, key: bytes) -> RouteBatch | None:
        """What was handed to the session for a route; None if the neighbor has not got it."""
        advertisement = export.advertised.get(key)
        if advertisement is None:
            return None
        attributes, overlay = advertisement.attributes, advertisement.overlay
        batch = RouteBatch(family=export.family, announced=[key], attributes=attributes, overlay=overlay)
        batches = [batch]
        if export.family is Family.L2VPN_EVPN:
            batches = self._routing.evpn.for_neighbor(state.source, batch)
        return next((one for one in batches if one.announced), None)

    # To whom

    def of_workload(self, view: WorkloadView) -> WorkloadView:
        """A workload with the neighbors that have its route, or why none has, and those that announce it, too."""
        if view.announced:
            place = (view.vrf, *parse_prefix(view.prefix))
            view.also_announced_by = self._routing.rib.contested.neighbors(*place)
            found = self.audience(*place)
            view.neighbors = found.neighbors
            if not found.neighbors:
                view.announced = False
                view.reason = _and_nobody(view.reason, found)
        return view

    def of_service(self, view: ServiceView) -> ServiceView:
        """A service, likewise by its addresses."""
        if view.announced:
            found = [self.audience(view.vrf, *parse_prefix(address)) for address in view.addresses]
            nobody = next((one.why_nobody for one in found if not one.neighbors), "")
            if nobody:
                view.announced = any(one.neighbors for one in found)
                view.reason = f"to nobody: {nobody}"
        return view

    def of_aggregate(self, view: AggregateView) -> AggregateView:
        """An aggregate, likewise by the prefixes that are announced for it."""
        found = [self.audience(view.vrf, *parse_prefix(prefix)) for prefix in view.announced]
        view.neighbors = sorted({name for one in found for name in one.neighbors})
        if found and not view.neighbors:
            view.reason = f"to nobody: {found[0].why_nobody}"
        return view

    async def sent_to_all(self, claims: Sequence[Claim]) -> None:
        """Wait until the neighbors were sent these addresses, which were announced just now."""
        end = asyncio.get_running_loop().time() + _PATIENCE_S
        while asyncio.get_running_loop().time() < end:
            if not any(self.audience(one.vrf, one.family, one.key).is_under_way for one in claims):
                break
            await asyncio.sleep(0.01)

    def of_report(self, report: WorkloadReport, claims: Sequence[Claim]) -> None:
        """Add to a report who has the address of each claim, or why nobody has."""
        for claim, address in zip(claims, report.addresses):
            if not address.announced:
                continue
            found = self.audience(claim.vrf, claim.family, claim.key)
            address.neighbors = found.neighbors
            if not found.neighbors:
                address.announced = False
                address.reason = _and_nobody(address.reason, found)
                report.reason = report.reason or address.reason

    def audience(self, vrf: str, family: Family, key: bytes) -> Audience:
        """The neighbors that have a route of this host, as itself or, from a VRF, as an EVPN route."""
        instead = self._announced_instead(vrf, family, key)
        if instead is not None:
            return self.audience(vrf, family, instead)
        neighbors, reasons, under_way = [], [], False
        for name, why in self.by_neighbor(vrf, family, key):
            if why:
                reasons.append(why)
            else:
                neighbors.append(name)
            under_way = under_way or why.endswith(_UNDER_WAY)
        if neighbors:
            return Audience(sorted(neighbors))
        where = f" in VRF {vrf}, and none that speaks l2vpn-evpn" if vrf else ""
        shown = dict.fromkeys(reasons[:_MOST_REASONS])
        return Audience([], "; ".join(shown) or f"no neighbor is established{where}", under_way)

    def by_neighbor(self, vrf: str, family: Family, key: bytes) -> Iterator[tuple[str, str]]:
        """Each session that could be sent a route of a VRF, as itself or as an EVPN route: its neighbor, and why that
        has not got it ("": it has). Guests of this host are told none."""
        for state in self._routing.rib.received.states():
            if state.source.guest:
                continue
            if state.config.vrf == vrf:
                yield state.source.name, self._why_not(state, family, key)
            elif vrf and not state.config.vrf and Family.L2VPN_EVPN in state.families:
                yield state.source.name, self._why_not_by_evpn(state, vrf, family, key)

    def of_prefix(self, vrf: str, family: Family, key: bytes) -> tuple[list[ExchangedRouteView], list[WithheldView]]:
        """What neighbors were sent of a route of this host, and the established ones that have not got it. An aggregate
        that stands for it is named in its place."""
        instead = self._announced_instead(vrf, family, key)
        if instead is not None:
            return self.of_prefix(vrf, family, instead)
        sent = []
        for state in self._routing.rib.received.states():
            spoken, one = family, key
            if state.config.vrf != vrf:
                spoken = Family.L2VPN_EVPN
                one = self._routing.evpn.originator.route_of(vrf, family, key) or b""
            export = None if state.source.guest else state.exports.get(spoken)
            if export is not None and (vrf == state.config.vrf or not state.config.vrf):
                sent.append(self._sent_view(state, export, one))
        withheld = [
            WithheldView(neighbor=name, announced=False, reason=why, since=self._withdrawn_at(name, (vrf, family, key)))
            for name, why in self.by_neighbor(vrf, family, key)
            if why
        ]
        return [view for view in sent if view is not None], withheld

    def _withdrawn_at(self, name: str, place: tuple[str, Family, bytes]) -> float | None:
        """When a neighbor was told that it is withdrawn, if that was in this session and this process."""
        states = [state for state in self._routing.rib.received.states() if state.source.name == name]
        return states[0].withdrawn_at.get(place) if states else None

    def _announced_instead(self, vrf: str, family: Family, key: bytes) -> bytes | None:
        """The aggregate that suppresses a route towards the neighbors, if there is one."""
        rib = self._routing.rib
        decision = rib.decision(vrf, family, key)
        best = decision.best if decision is not None else None
        if best is None or not rib.table(vrf, family).is_suppressed(key, best):
            return None
        return rib.aggregation.announced_over(vrf, family, key)

    def _why_not(self, state: NeighborState, family: Family, key: bytes) -> str:
        name, export = state.source.name, state.exports.get(family)
        if export is None:
            return f"{name} does not speak {family}"
        if self._has(state, export, key):
            return ""
        if key in export.advertised:
            return f"this host has no address to give {name} as the next hop of {family}"
        if state.config.export == "none":
            return f'export of {name} is "none"'
        why = export.why_not(key)
        return f"{name}: {why}" if why else f"{name} {_UNDER_WAY}"

    def _why_not_by_evpn(self, state: NeighborState, vrf: str, family: Family, key: bytes) -> str:
        name, export = state.source.name, state.exports[Family.L2VPN_EVPN]
        route = self._routing.evpn.originator.route_of(vrf, family, key)
        if route is None:
            return f"VRF {vrf} does not advertise it"
        if self._has(state, export, route):
            return ""
        if route in export.advertised:
            version = "IPv4" if family is Family.IPV4_UNICAST else "IPv6"
            return f"VRF {vrf} has no uplink to {name} with an {version} address, or {name} does not ask for its routes"
        return self._why_not(state, Family.L2VPN_EVPN, route)

    def _has(self, state: NeighborState, export: AdjRibOut, key: bytes) -> bool:
        batch = self._as_sent(state, export, key)
        return batch is not None and self._routing.speaker.neighbors.as_sent(state.source, batch) is not None


def _and_nobody(reason: str, found: Audience) -> str:
    return "; ".join(filter(None, (reason, f"to nobody: {found.why_nobody}")))


class AnnouncedObjects:
    """Workloads or services of the local API (`api.backend.Objects`), answered with who has their routes.

    `source` is that of their claims.
    """

    def __init__(self, objects: Objects, advertised: Advertised, claims: Claims, *, source: str) -> None:
        self._objects = objects
        self._advertised = advertised
        self._claims = claims
        self._source = source

    async def put(self, id: str, body: bytes, *, who: str, timeout_s: float | None) -> Answer:
        status, report = await self._objects.put(id, body, who=who, timeout_s=timeout_s)
        if status == 200:
            await self._advertised.sent_to_all(self._claims_of(id))
        return status, self._with_audience(id, report)

    async def delete(self, id: str, *, who: str) -> Answer:
        return await self._objects.delete(id, who=who)

    def get(self, id: str) -> Answer:
        status, report = self._objects.get(id)
        return status, self._with_audience(id, report)

    def _with_audience(self, id: str, report: msgspec.Struct) -> msgspec.Struct:
        match report:
            case WorkloadReport():
                self._advertised.of_report(report, self._claims_of(id))
            case ServiceView():
                self._advertised.of_service(report)
        return report

    def _claims_of(self, id: str) -> list[Claim]:
        return [one.claim for one in self._claims.statuses(self._source, id)]


def _wanted(query: ViewQuery, family: Family) -> Sequence[bytes] | None:
    """The only keys that a query can be about; None: any."""
    if not query.prefix or query.longer_prefixes:
        return None
    wanted, key = parse_prefix(query.prefix)
    return [key] if wanted is family else []


def _received_view(state: NeighborState, family: Family, key: bytes, path: Path) -> ExchangedRouteView:
    view = _view(
        state,
        family,
        key,
        path.received,
        next_hop="" if path.next_hop is None else str(path.next_hop),
        overlay=state.tables[family].labels.overlay(path, key),
    )
    view.rejected, view.heard_at = path.rejected, path.heard_at
    return view


def _view(
    state: NeighborState, family: Family, key: bytes, attributes: Attributes, *, next_hop: str, overlay: Overlay | None
) -> ExchangedRouteView:
    return exchanged_view(
        route_text(family, key),
        attributes,
        neighbor=state.source.name,
        address=format_address(state.source.address),
        family=family,
        vrf=state.config.vrf,
        next_hop=next_hop,
        overlay=overlay,
    )


def route_text(family: Family, key: bytes) -> str:
    """A route's key for people: its prefix, or the fields of an EVPN route."""
    if family is Family.ROUTE_TARGET:
        return format_membership(key)
    if family is not Family.L2VPN_EVPN:
        return format_key(family, key)
    route = parse_key(key)
    words = [f"type {route.route_type}", format_route_distinguisher(route.rd) if route.rd else "", route.mac.hex(":")]
    words += [format_address(packed) for packed in (route.ip, route.originator) if packed]
    if route.prefix:
        words.append(f"{format_address(route.prefix)}/{route.prefix_length}")
    return " ".join(filter(None, (*words, route.opaque.hex())))
