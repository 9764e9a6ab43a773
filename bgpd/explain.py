"""`bgpd explain`: the path of an address, from the neighbor that spoke of it to the group that forwards it, and whether
kernel and RIB agree.

Gathers what the parts know and puts it in one sentence. Changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType

from bgpd.evpn.evpn import Evpn
from bgpd.evpn.views import explain_overlay
from bgpd.fib import views as fib_views
from bgpd.fib.table import Fib
from bgpd.model.iana import Family
from bgpd.model.prefix import covering_keys, family_of, format_address, parse_prefix
from bgpd.model.source import SourceKind
from bgpd.model.views.explained import ExplainView
from bgpd.model.views.routes import CandidateView, FibRouteView, KernelRouteView, NextHopView, RouteView, WorkloadView
from bgpd.model.views.sessions import NeighborView
from bgpd.model.workload import WorkloadState
from bgpd.reachable import first_broken, why_down
from bgpd.rib.loc_rib import LocRib
from bgpd.rib.rib import Rib
from bgpd.rib.views import longest_match, route_view
from bgpd.workload.workloads import Workloads

_LOCAL_TABLE = 255
_MOST_MISSING = 4
"""Sessions that are named where nothing is known of an address."""


async def explain(
    address: bytes,
    vrf: str,
    *,
    rib: Rib,
    fib: Fib,
    evpn: Evpn,
    workloads: Workloads,
    neighbors: Sequence[NeighborView],
    audience: Callable[[WorkloadView], WorkloadView],
    rules: Mapping[tuple[str, int], str] = MappingProxyType({}),
    drained: str = "",
) -> ExplainView:
    """The view of a packed address in a VRF ("" for the main table). `audience` adds who has a workload's route,
    `rules` tells where the rules of policies stand, by name and number, `drained` that this host is out of service.
    """
    family = family_of(address)
    kernel = await fib_views.lookup(fib, address)
    if kernel is not None:
        await fib_views.add_neighbors(fib, kernel)
    route, fib_route = _routes(rib, fib, vrf, address, rules)
    workload = _workload(workloads, vrf, family, address)
    if workload is not None:
        workload = audience(workload)
    guest = _guest(rib, vrf, family, address)
    candidates = [*(route.candidates if route else ()), *(guest.candidates if guest else ())]
    said = {candidate.source.partition(" rd ")[0] for candidate in candidates}
    view = ExplainView(
        address=format_address(address),
        vrf=vrf,
        verdict="",
        agrees=True,
        kernel=kernel,
        fib=fib_route,
        route=route,
        workload=workload,
        guest=guest,
        overlay=explain_overlay(evpn, vrf, address) if vrf else [],
        neighbors=[neighbor for neighbor in neighbors if neighbor.name in said],
    )
    _say_bfd(view)
    view.verdict, view.agrees = _verdict(view)
    if kernel is not None and _is_connected(fib, family, kernel):
        where = f"in the network {kernel.prefix} of {_hops(kernel.next_hops)}"
        view.verdict, view.agrees = f"{where}, which the VRF is connected to: packets go there directly", True
    if kernel is None and route is None and workload is None:
        view.verdict += _what_may_be_missing([one for one in neighbors if one.vrf in ("", vrf)], rib)
    view.broken = first_broken(view)
    if drained and (workload is not None or (route is not None and route.fib == "local")):
        view.verdict += f"; {drained}"
    return view


def _routes(
    rib: Rib, fib: Fib, vrf: str, address: bytes, rules: Mapping[tuple[str, int], str]
) -> tuple[RouteView | None, FibRouteView | None]:
    """What the RIB and the kernel table have of the longest prefix around an address: of one that is used, if there is
    such a prefix."""
    family = family_of(address)
    table = rib.table(vrf, family)
    key = longest_match(table, family, address)
    if key is None:
        key = longest_match(table, family, address, usable=False)
    if key is None:
        return None, None
    route = route_view(table, family, key, vrf=vrf)
    fib_route = fib_views.route(fib, family, key)
    if route is not None:
        if fib_route is not None and not route.fib:
            route.fib = fib_route.state
        _say_rules(rib, table, key, route, rules)
    return route, fib_route


def _is_connected(fib: Fib, family: Family, kernel: KernelRouteView) -> bool:
    """Whether the kernel's route is the copy of a connected network that a VRF without a device needs."""
    return kernel.ours and parse_prefix(kernel.prefix)[1] in fib.writer.kept[family]


def _what_may_be_missing(neighbors: Iterable[NeighborView], rib: Rib) -> str:
    """Of what nobody announces: who might, and does not speak to this host, or was not heard out."""
    known = {one.name for one in neighbors if not one.guest}
    found = [why for one in neighbors if not one.guest and (why := why_down(one))]
    discarded = dict.fromkeys(source.name for source, _, _ in rib.received.discarded() if source.name in known)
    found += [f"routes of {name} beyond max_prefixes were discarded" for name in discarded]
    return "".join(f"; {why}" for why in found[:_MOST_MISSING])


def _say_rules(rib: Rib, table: LocRib, key: bytes, route: RouteView, places: Mapping[tuple[str, int], str]) -> None:
    """Beside each path of a neighbor, which rules of the import policy decided about it, and where they stand."""
    entry = table.routes.get(key)
    for one in route.candidates:
        path = None if entry is None else entry.path_of(one.source)
        judged = None if path is None else rib.received.judged_by(path, table.family, key)
        if judged is not None:
            one.rule = _rules_text(*judged, places)


def _rules_text(name: str, trace: Sequence[int], places: Mapping[tuple[str, int], str]) -> str:
    if all((name, number) not in places for number in trace):
        return f'policy "{name}"'
    named = [f"{number} ({places.get((name, number), 'no line known')})" for number in trace]
    return f'policy "{name}", rule{"s" if len(named) > 1 else ""} {", ".join(named)}'


def _say_bfd(view: ExplainView) -> None:
    """Beside each next hop in the kernel, the state of BFD with the neighbor that has the address, or named it."""
    states = {neighbor.name: neighbor.bfd for neighbor in view.neighbors}
    found = {neighbor.address: neighbor.bfd for neighbor in view.neighbors}
    candidates = view.route.candidates if view.route is not None else ()
    found |= {one.next_hop: states[one.source] for one in candidates if states.get(one.source)}
    for hop in view.kernel.next_hops if view.kernel is not None else ():
        hop.bfd = found.get(hop.address, "")


def _workload(workloads: Workloads, vrf: str, family: Family, address: bytes) -> WorkloadView | None:
    """The claim of the most specific prefix that covers the address."""
    for key in covering_keys(family, address):
        views = workloads.claims.views_of(vrf, family, key)
        if views:
            return views[0]
    return None


def _guest(rib: Rib, vrf: str, family: Family, address: bytes) -> RouteView | None:
    """The route of a guest of this host that covers the address: the most specific one, refused or not."""
    tables = [table for table in rib.guests.values() if table.vrf == vrf and table.family is family]
    for usable in (True, False):
        found = [(key, table) for table in tables if (key := longest_match(table, family, address, usable=usable))]
        if found:
            key, table = max(found, key=lambda one: one[0][0])
            return route_view(table, family, key, vrf=vrf)
    return None


def _verdict(view: ExplainView) -> tuple[str, bool]:
    """What happens to a packet, in one sentence, and whether kernel and RIB agree about it."""
    kernel, route = view.kernel, view.route
    if kernel is None:
        return _without_kernel_route(view)
    if kernel.table == _LOCAL_TABLE:
        return _of_own_address(view), True
    if view.workload is not None and kernel.prefix == view.workload.prefix:
        if route is not None and _has_given_way(view.workload, kernel, route):
            said, agrees = _by_bgpd(view, kernel, route)
            return (
                f"{said}; {view.workload.source} {view.workload.id} of this host is {_announced(view.workload)}",
                agrees,
            )
        return _of_workload(view.workload, kernel), True
    if view.workload is not None and view.workload.guests and view.workload.announced:
        return f"{_of_guest(view.workload)}, by {kernel.prefix}", True
    if not kernel.ours:
        return _by_another_program(kernel, route, view.fib)
    if route is not None and route.prefix != kernel.prefix and _is_blocked(route, view.fib):
        return f"{_by_shorter(kernel)}; {_why_blocked(route, view.fib)}", True
    if route is None or route.prefix != kernel.prefix:
        wanted = f"the RIB's best is {route.prefix}" if route else "the RIB has no route of it"
        return f"the kernel forwards by {kernel.prefix}, but {wanted}: bgpd will correct it at its next look", False
    return _by_bgpd(view, kernel, route)


def _without_kernel_route(view: ExplainView) -> tuple[str, bool]:
    route = view.route
    if view.workload is not None and view.workload.guests and view.workload.announced:
        return _of_guest(view.workload), True
    if view.workload is not None:
        return f"workload {view.workload.id} has it, but {view.workload.state}: {view.workload.reason}", True
    if route is None:
        text = "no route: neither the kernel nor any neighbor knows a way to it, and packets are refused"
        return f"{text}{_refused_guest(view.guest)}", True
    if not _chosen(route):
        reason = route.candidates[0].reason if route.candidates else "no candidate is left"
        return f"no usable route: {route.prefix} was heard, but {reason}", True
    why = view.fib.error if view.fib and view.fib.error else "it is still on its way into the kernel"
    return f"the RIB wants {route.prefix}, but the kernel has no route: {why}", False


def _of_own_address(view: ExplainView) -> str:
    text = f"{view.address} is an address of this host: packets to it are delivered here"
    workload = view.workload
    if workload is None or workload.prefix.partition("/")[0] != view.address:
        return text
    return f"{text}; {workload.source} workload {workload.id} is {_announced(workload)}"


def _of_workload(workload: WorkloadView, kernel: KernelRouteView) -> str:
    where = f" on {workload.interface}" if workload.interface else f" by {_hops(kernel.next_hops)}"
    said = f" (as said by guest {', '.join(workload.guests)})" if workload.guests else ""
    return f"workload {workload.id}{where} of this host{said}, {_announced(workload)}"


def _has_given_way(workload: WorkloadView, kernel: KernelRouteView, route: RouteView) -> bool:
    """Whether a workload's address is not announced, and the kernel goes by what neighbors say of it."""
    ways = {
        candidate.next_hop.partition("%")[0] for candidate in _chosen(route) if candidate.kind != SourceKind.WORKLOAD
    }
    return not workload.announced and any(hop.address in ways for hop in kernel.next_hops)


def _of_guest(workload: WorkloadView) -> str:
    """Of an address that a guest on this host serves, without a kernel route of its own."""
    who = f"workload {workload.id} of this host (as said by guest {', '.join(workload.guests)})"
    return f"{who}, {_announced(workload)}; the guest itself takes its packets, or the kernel would forward them"


def _refused_guest(route: RouteView | None) -> str:
    refused = [one for one in route.candidates if one.role == "rejected"] if route is not None else []
    return f"; guest {refused[0].source} announces it, but: {refused[0].reason}" if refused else ""


def _announced(workload: WorkloadView) -> str:
    if workload.announced:
        neighbors = f"announced to the neighbors {', '.join(workload.neighbors)}".rstrip()
        return f"{neighbors} ({workload.reason})" if workload.reason else neighbors
    if workload.state == WorkloadState.ANNOUNCED:
        return f"announced {workload.reason}"
    return f"not announced ({workload.state}{f': {workload.reason}' if workload.reason else ''})"


def _is_blocked(route: RouteView, fib: FibRouteView | None) -> bool:
    return fib is not None and fib.prefix == route.prefix and fib.state == "blocked"


def _why_blocked(route: RouteView, fib: FibRouteView | None) -> str:
    return f"{route.prefix} of the neighbors is not installed: {fib.error if fib else ''}"


def _by_shorter(kernel: KernelRouteView) -> str:
    live = [hop for hop in kernel.next_hops if hop.live]
    return f"forwarded by {kernel.prefix} to {_hops(live) or 'nowhere'}"


def _by_another_program(kernel: KernelRouteView, route: RouteView | None, fib: FibRouteView | None) -> tuple[str, bool]:
    text = f"the kernel forwards by {kernel.prefix} of protocol {kernel.protocol}, which is not bgpd's"
    if kernel.error:
        text = f"{kernel.prefix} of protocol {kernel.protocol}, which is not bgpd's, is {kernel.error}"
    if route is None or not _chosen(route) or route.fib == "local":
        return text, True
    if _length(kernel.prefix) > _length(route.prefix):
        return f"{text} and more specific than bgpd's {route.prefix}", True
    if kernel.prefix == route.prefix:
        why = f" ({fib.error})" if fib is not None and _is_blocked(route, fib) else ""
        return f"{text} and stands before bgpd's route to the same prefix{why}", route.fib == "blocked"
    if _is_blocked(route, fib):
        return f"{text}; {_why_blocked(route, fib)}", True
    return f"{text}, though bgpd has {route.prefix}", False


def _by_bgpd(view: ExplainView, kernel: KernelRouteView, route: RouteView) -> tuple[str, bool]:
    live = [hop for hop in kernel.next_hops if hop.live]
    dead = [hop for hop in kernel.next_hops if not hop.live]
    if kernel.error:
        return _by_blackhole(view, kernel), True
    sources = [candidate.source for candidate in _chosen(route)]
    text = f"forwarded by {kernel.prefix} to {_hops(live) or 'nowhere'}, as said by {', '.join(sources)}"
    if dead:
        text += "; not used: " + ", ".join(f"{_hop(hop)} ({hop.why})" for hop in dead)
    return text, not dead and bool(live) and _is_settled(view.fib)


def _by_blackhole(view: ExplainView, kernel: KernelRouteView) -> str:
    text = f"{kernel.prefix} is a blackhole of bgpd's"
    workload = view.workload
    if workload is None:
        return f"{text} (an aggregate without this address): dropped"
    return f"workload {workload.id} has it, but {workload.state}: {workload.reason}; {text}: dropped"


def _chosen(route: RouteView) -> list[CandidateView]:
    return [candidate for candidate in route.candidates if candidate.role in ("best", "multipath")]


def _is_settled(fib: FibRouteView | None) -> bool:
    return fib is not None and fib.state == "installed"


def _hops(hops: Iterable[NextHopView]) -> str:
    return ", ".join(map(_hop, hops))


def _hop(hop: NextHopView) -> str:
    return f"{hop.address}%{hop.interface}" if hop.address else hop.interface


def _length(prefix: str) -> int:
    return int(prefix.rpartition("/")[2])
