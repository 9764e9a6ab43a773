"""`bgpd show evpn`, `bgpd show vrfs`, and the overlay's part of `bgpd explain`: only reads.

A listing of routes may be stepped: it yields None now and then where it skips much, and stays valid while tables
change.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Protocol, TypeVar

from bgpd.evpn.evpn import Evpn
from bgpd.evpn.originate import SELF_GATEWAY
from bgpd.evpn.ports import Decided, RibTable
from bgpd.evpn.resolve import vrf_of
from bgpd.evpn.vrf import Vrf
from bgpd.model.as_path import as_path_text
from bgpd.model.communities import format_evpn_community, format_route_distinguisher, format_route_target
from bgpd.model.evpn import EvpnRoute, parse_key
from bgpd.model.iana import UNICAST, EvpnRouteType, Family
from bgpd.model.path import Path
from bgpd.model.prefix import address_length, family_of, format_address, format_key
from bgpd.model.route_batch import Overlay
from bgpd.model.views.evpn import EndpointView, EvpnPathView, EvpnRouteView, UplinkView, VrfView
from bgpd.model.views.queries import ViewQuery

_SCANNED = 256


class Tenant(Protocol):
    """What a view needs of a VRF: `rd` and targets are 8 bytes each, as on the wire."""

    @property
    def rd(self) -> bytes:
        """Its route distinguisher."""

    @property
    def import_targets(self) -> Collection[bytes]:
        """The route targets that it imports."""


_Tenant = TypeVar("_Tenant", bound=Tenant)
Resolving = Callable[[Path, EvpnRoute, Mapping[str, _Tenant]], tuple[list[str], str]]


def evpn_routes(evpn: Evpn, query: ViewQuery) -> Iterator[EvpnRouteView | None]:
    """The EVPN table, narrowed by type, RD, MAC, VRF and `unresolved` of the query."""
    table = evpn.rib.table("", Family.L2VPN_EVPN)
    for keys in table.routes.slices(_SCANNED):
        yield None
        for key in keys:
            if query.type and key[0] != query.type:
                continue
            view = evpn_route(evpn, key, query)
            if view is not None:
                yield view


def evpn_route(evpn: Evpn, key: bytes, query: ViewQuery) -> EvpnRouteView | None:
    """One route by its key; None if there is none, or the query is not about it."""
    table = evpn.rib.table("", Family.L2VPN_EVPN)
    view = route_view(table, key, query, vrfs=evpn.vrfs, resolution=_resolution)
    return None if view is None or (query.unresolved and not any(one.unresolved for one in view.candidates)) else view


def route_view(
    table: RibTable, key: bytes, query: ViewQuery, *, vrfs: Mapping[str, _Tenant], resolution: Resolving[_Tenant]
) -> EvpnRouteView | None:
    """A route of an EVPN table; None if there is none, or another RD, MAC or VRF is asked for. `resolution` says how a
    candidate resolves in the VRFs that it concerns, and why it does not."""
    decision = table.routes.get(key)
    if decision is None:
        return None
    route = parse_key(key)
    rd = format_route_distinguisher(route.rd) if route.rd else ""
    mac = route.mac.hex(":")
    if (query.rd and rd != query.rd) or (query.mac and mac != query.mac.lower()):
        return None
    concerned = _concerned(vrfs, decision, route)
    if query.vrf and query.vrf not in concerned:
        return None
    labels, stale_of = table.labels, table.stale_of()
    candidates = []
    for path in _ordered(decision):
        view = _path_view(path, labels.overlay(path, key), decision, resolution(path, route, concerned))
        if (kept := stale_of(path, key)) is not None:
            view.stale_since, view.stale_until = kept.since, kept.ends_at
        candidates.append(view)
    return EvpnRouteView(
        type=route.route_type,
        rd=rd,
        ethernet_tag=route.ethernet_tag,
        mac=query.mac if query.mac else mac,
        prefix=_prefix_text(route),
        originator=format_address(route.originator) if route.originator else "",
        opaque=route.opaque.hex(),
        vrf=query.vrf or ", ".join(concerned),
        candidates=candidates,
    )


def _ordered(decision: Decided) -> list[Path]:
    chosen = list(decision.multipath)
    return chosen + [path for path in decision.candidates if path not in chosen]


def _concerned(vrfs: Mapping[str, _Tenant], decision: Decided, route: EvpnRoute) -> Mapping[str, _Tenant]:
    """The VRFs that import one of the candidates, or that the route is this host's own of."""
    heard = [path for path in decision.candidates if not path.source.is_local]
    targets = {one for path in heard for one in path.attributes.extended_communities}
    own = route.rd if len(heard) < len(decision.candidates) else b""
    return {name: vrf for name, vrf in vrfs.items() if vrf.rd == own or not targets.isdisjoint(vrf.import_targets)}


def _path_view(
    path: Path, overlay: Overlay | None, decision: Decided, resolution: tuple[list[str], str]
) -> EvpnPathView:
    gateway = overlay.gateway_ip if overlay is not None else b""
    steps, why = resolution
    return EvpnPathView(
        source=path.source.name,
        role=decision.role(path),
        next_hop=str(path.next_hop) if path.next_hop is not None else "",
        gateway_ip="self" if gateway == SELF_GATEWAY else format_address(gateway) if gateway else "",
        esi=overlay.esi.hex() if overlay is not None and any(overlay.esi) else "",
        labels=list(overlay.labels) if overlay is not None else [],
        as_path=as_path_text(path.attributes.packed_as_path),
        extended_communities=list(map(format_evpn_community, path.attributes.extended_communities)),
        resolution=steps,
        unresolved=why,
        heard_at=path.heard_at,
    )


def _resolution(path: Path, route: EvpnRoute, vrfs: Mapping[str, Vrf]) -> tuple[list[str], str]:
    """How a candidate resolves in the VRFs that import it, and why not."""
    address = route.prefix or route.ip
    if path.rejected or path.source.is_local or not address:
        return [], ""
    family = family_of(address)
    is_prefix = route.route_type == EvpnRouteType.IP_PREFIX
    steps: list[str] = []
    for vrf in vrfs.values():
        if set(vrf.import_targets).isdisjoint(path.attributes.extended_communities):
            continue
        next_hop = vrf.next_hop_of(path, neighbor=path.source.name, family=family, is_prefix=is_prefix)
        found = vrf.resolution(next_hop)
        if found.why:
            return [], found.why
        steps += [step for step in found.steps if step not in steps]
    return steps, ""


def _prefix_text(route: EvpnRoute) -> str:
    if route.prefix:
        return f"{format_address(route.prefix)}/{route.prefix_length}"
    return f"{format_address(route.ip)}/{8 * len(route.ip)}" if route.ip else ""


def vrf_views(evpn: Evpn, query: ViewQuery) -> list[VrfView]:
    """The VRFs that the query asks for, in the order of the configuration."""
    endpoints = list(evpn.endpoints.all())
    views = []
    for vrf in evpn.vrfs.values():
        if query.vrf not in (None, vrf.name):
            continue
        own = [(one, verdict) for one, verdict in endpoints if one.vrf == vrf.name]
        views.append(
            VrfView(
                name=vrf.name,
                table=vrf.config.table,
                rd=format_route_distinguisher(vrf.rd),
                vni=vrf.config.vni,
                import_rt=list(map(format_route_target, vrf.import_targets)),
                export_rt=list(map(format_route_target, vrf.export_targets)),
                resolve=vrf.config.resolve,
                uplinks=_uplink_views(vrf),
                routes={family: len(evpn.rib.table(vrf.name, family).routes) for family in UNICAST},
                local={family: len(evpn.rib.table(vrf.name, family).local) for family in UNICAST},
                unresolved=_unresolved(evpn, vrf),
                endpoints=len(own),
                alarms=[
                    EndpointView(
                        mac=one.mac.hex(":"),
                        address=format_address(one.ip),
                        standing=verdict.state,
                        sequence=verdict.mobility.sequence,
                        reason=verdict.why,
                    )
                    for one, verdict in own
                    if verdict.why
                ],
            )
        )
    return views


def _unresolved(evpn: Evpn, vrf: Vrf) -> list[str]:
    """Why next hops of the routes that there are lead nowhere."""
    found = vrf.unresolved()
    if not found:
        return []
    decisions = [decision for family in UNICAST for decision in evpn.rib.table(vrf.name, family).distinct()]
    named = {path.next_hop for decision in decisions for path in decision.candidates}
    return sorted({why for next_hop, why in found.items() if next_hop in named})


def _uplink_views(vrf: Vrf) -> list[UplinkView]:
    return [
        UplinkView(
            name=uplink.name,
            up=uplink.up,
            addresses=[f"{format_address(own)}/{length}" for own, length in uplink.addresses],
            neighbor=uplink.neighbor,
            gateways=list(map(format_address, uplink.gateways)),
        )
        for uplink in vrf.uplinks
    ]


def explain_overlay(evpn: Evpn, vrf: str, address: bytes) -> list[str]:
    """How an address of a VRF is reached: route, gateway, type 2 route or subnet, uplink; one step in each line."""
    where = evpn.vrfs.get(vrf)
    family = family_of(address)
    if where is None:
        return []
    table = evpn.rib.table(vrf, family)
    bits = 8 * address_length(family)
    value = int.from_bytes(address)
    for length in range(bits, -1, -1):
        network = (value >> (bits - length) << (bits - length)).to_bytes(bits >> 3, "big")
        key = bytes((length,)) + network[: (length + 7) >> 3]
        decision = table.routes.get(key)
        if decision is not None:
            return [f"{format_key(family, key)} is a route of VRF {vrf}", *_explain_paths(where, decision)]
    return [f"no route of VRF {vrf} covers it"]


def _explain_paths(vrf: Vrf, decision: Decided) -> Iterator[str]:
    if decision.is_local:
        yield "it is this host's own"
        return
    for path in decision.multipath or decision.candidates:
        next_hop = path.next_hop
        named = format_address(next_hop.address) if next_hop is not None and next_hop.address else "the neighbor itself"
        yield f"{path.source.name}: by {named}"
        if path.rejected:
            yield f"  not used: {path.rejected}"
        elif next_hop is not None and vrf_of(next_hop):
            found = vrf.resolution(next_hop)
            yield from (f"  {step}" for step in found.steps)
            yield from (f"  leaves by {hop}" for hop in found.next_hops)
            if found.why:
                yield f"  unusable: {found.why}"
