"""`bgpd why-not`: what keeps a prefix from being used, from being in the kernel, or from being announced.

Gathers what the parts know, and says the first thing that is missing. Changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from bgpd.advertised import Advertised
from bgpd.fib import views as fib_views
from bgpd.fib.table import Fib
from bgpd.model.iana import Family
from bgpd.model.prefix import covering_keys, covers, format_key, key_address, parse_prefix
from bgpd.model.views.explained import WhyNotView, WithheldView
from bgpd.model.views.routes import RouteView, WorkloadView
from bgpd.model.views.sessions import NeighborView
from bgpd.model.workload import WorkloadState
from bgpd.reachable import why_down
from bgpd.rib.loc_rib import LocRib
from bgpd.rib.rib import Rib
from bgpd.rib.views import route_view
from bgpd.runtime.turns import in_turn
from bgpd.workload.workloads import Workloads

MOST_NEAR = 5
"""Routes that may have been meant: so many."""
_SCANNED = 2048


async def why_not(
    place: tuple[str, Family, bytes],
    *,
    neighbor: str,
    rib: Rib,
    fib: Fib,
    workloads: Workloads,
    advertised: Advertised,
    neighbors: Iterable[NeighborView],
) -> WhyNotView:
    """The view of a prefix: VRF, family and key. `neighbor` is whom it is asked of, "" for all."""
    vrf, family, key = place
    table = rib.table(vrf, family)
    route = route_view(table, family, key, vrf=vrf)
    fib_route = fib_views.route(fib, family, key)
    if route is not None and fib_route is not None and not route.fib:
        route.fib = fib_route.state
    asked = [one for one in neighbors if neighbor in ("", one.name) and one.vrf in ("", vrf)]
    views = {one.name: one for one in asked if not one.guest}
    view = WhyNotView(
        prefix=format_key(family, key),
        vrf=vrf,
        verdict="",
        well=False,
        route=route,
        fib=fib_route,
        workloads=[advertised.of_workload(one) for one in workloads.claims.views_of(vrf, family, key)],
        withheld=list(_withheld(views, dict(advertised.by_neighbor(vrf, family, key)))),
        near=await _near(table, family, key),
    )
    missing = next(_missing(view, neighbor, views, rib), "")
    view.well, view.verdict = not missing, missing or _all_is_well(view)
    return view


def _withheld(views: Mapping[str, NeighborView], reasons: Mapping[str, str]) -> Iterator[WithheldView]:
    for name, view in views.items():
        reason = reasons[name] if name in reasons else why_down(view) or "it is in another VRF"
        yield WithheldView(neighbor=name, announced=not reason, reason=reason)


def _missing(view: WhyNotView, neighbor: str, views: Mapping[str, NeighborView], rib: Rib) -> Iterator[str]:
    """What is missing, the first cause first."""
    if view.workloads:
        yield from _of_workload(view.workloads[0])
    elif view.route is None:
        yield from _of_guests(view, neighbor, rib)
        yield _not_heard(neighbor, views, rib)
    else:
        yield from _of_route(view, view.route, neighbor)
    if neighbor or view.workloads or (view.route is not None and view.route.fib == "local"):
        yield from (f"not announced to {one.neighbor}: {one.reason}" for one in view.withheld if not one.announced)


def _of_workload(workload: WorkloadView) -> Iterator[str]:
    if workload.state != WorkloadState.ANNOUNCED:
        reason = f": {workload.reason}" if workload.reason else ""
        yield f"workload {workload.id} ({workload.source}) has it, but {workload.state}{reason}"
    elif not workload.announced:
        yield f"workload {workload.id} has it, but {workload.reason}"


def _of_guests(view: WhyNotView, neighbor: str, rib: Rib) -> Iterator[str]:
    """Why what guests of this host announce is no claim."""
    family, key = parse_prefix(view.prefix)
    for (_, of), table in rib.guests.items():
        found = route_view(table, family, key) if of is family and table.vrf == view.vrf else None
        for one in found.candidates if found is not None else ():
            if neighbor in ("", one.source) and one.reason:
                yield f"guest {one.source} announces it, but {one.reason}"


def _not_heard(neighbor: str, views: Mapping[str, NeighborView], rib: Rib) -> str:
    down = [why for view in views.values() if (why := why_down(view))]
    discarded = [source.name for source, _, _ in rib.received.discarded() if neighbor in ("", source.name)]
    who = neighbor or "no neighbor"
    text = f"{who} has {'not ' if neighbor else ''}announced it, and nothing on this host claims it"
    if discarded:
        return f"{text}; routes beyond max_prefixes of {', '.join(discarded)} were discarded, this may be one"
    return f"{text}; {'; '.join(down)}" if down else text


def _of_route(view: WhyNotView, route: RouteView, neighbor: str) -> Iterator[str]:
    used = [one for one in route.candidates if one.role in ("best", "multipath")]
    for one in route.candidates:
        if one not in used and neighbor == one.source:
            yield f"the path of {neighbor} is not used: {one.reason}"
    if not used:
        first = route.candidates[0]
        yield f"{first.source} announces it, but {first.reason or 'it cannot be used'}"
    elif route.fib != "local" and (view.fib is None or view.fib.state != "installed"):
        state = view.fib.state if view.fib is not None else "pending"
        error = f": {view.fib.error}" if view.fib is not None and view.fib.error else ""
        yield f"{used[0].source} announces it and it is the best path, but the kernel route is {state}{error}"


def _all_is_well(view: WhyNotView) -> str:
    announced = ", ".join(one.neighbor for one in view.withheld if one.announced)
    said = f"announced to {announced}" if announced else "announced to nobody, as configured"
    if view.route is None or view.route.fib == "local":
        return f"nothing is missing: it is this host's own, {said}"
    sources = ", ".join(one.source for one in view.route.candidates if one.role in ("best", "multipath"))
    return f"nothing is missing: it is installed, as said by {sources}, {said}"


async def _near(table: LocRib, family: Family, key: bytes) -> list[str]:
    """The closest route that covers it; and where there is none of its own, some inside it."""
    above = (one for one in covering_keys(family, key_address(family, key)) if one[0] < key[0])
    near = [one for one in above if one in table.routes][:1]
    slices = table.routes.slices(_SCANNED) if key not in table.routes else iter(())
    inside: list[bytes] = []
    while len(inside) < MOST_NEAR:
        keys = await in_turn(lambda: next(slices, None))
        if keys is None:
            break
        inside += [one for one in keys if covers(key, one)]
    return [format_key(family, one) for one in (*near, *sorted(inside)[:MOST_NEAR])]
