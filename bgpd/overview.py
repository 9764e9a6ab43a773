"""`GET /v1/overview`: this host on one screen, for `bgpd top` and the web page.

Reads counts that the parts keep anyhow; never walks over routes. Decides nothing.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence

from bgpd.fib import views as fib_views
from bgpd.model.prefix import parse_host
from bgpd.model.views.host import GroupOverview, HealthView, OverviewView, TableOverview, UplinkOverview
from bgpd.model.views.orders import DrainView
from bgpd.model.views.sessions import NeighborView
from bgpd.model.workload import WorkloadState
from bgpd.routing import Routing

MOST_NEIGHBORS = 64
MOST_GROUPS = 32
MOST_NAMED = 3
"""Neighbors that a sentence names, each with the first `MOST_REASON` characters of the reason."""
MOST_REASON = 120


def overview(
    routing: Routing,
    *,
    health: HealthView,
    drain: DrainView,
    neighbors: Iterable[NeighborView],
    speed: Callable[[str], int | None],
) -> OverviewView:
    """The state of the host at this moment; `speed` of an interface, in Mbit/s."""
    views = sorted(neighbors, key=lambda one: (one.state == "established", one.name))
    workloads: dict[str, dict[str, int]] = {}
    for (source, state), count in sorted(routing.workloads.claims.state_counts().items()):
        workloads.setdefault(source, {})[state.value] = count
    announced = sum(of.get(WorkloadState.ANNOUNCED.value, 0) for of in workloads.values())
    claims = sum(sum(of.values()) for of in workloads.values())
    tables = list(_tables(routing))
    level, where, detail = _behind(health, drain, views, tables)
    return OverviewView(
        verdict=_verdict(health, drain, views),
        detail=detail,
        level=level,
        where=where,
        health=health,
        drain=drain,
        neighbors=views[:MOST_NEIGHBORS],
        neighbors_total=len(views),
        uplinks=list(_uplinks(routing, views, speed)),
        tables=tables,
        groups=_groups(routing),
        workloads=workloads,
        services=routing.workloads.services.state_counts(),
        announced=announced,
        withheld=claims - announced,
    )


def _verdict(health: HealthView, drain: DrainView, neighbors: Iterable[NeighborView]) -> str:
    if drain.state != "off":
        return f"{drain.state}: out of service by order"
    if not health.ready:
        return f"not ready: {'; '.join(health.reasons)}"
    missing = [one.name for one in neighbors if one.state != "established" and not one.guest]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        return f"ready, without a session with {missing[0]}{more}"
    if health.warnings:
        return f"ready, with {len(health.warnings)} warning{'s' if len(health.warnings) > 1 else ''}"
    return "ready"


def _behind(
    health: HealthView, drain: DrainView, neighbors: Sequence[NeighborView], tables: Iterable[TableOverview]
) -> tuple[str, str, str]:
    """Level, place and detail: how bad it is, where to look, and why."""
    outside = [one for one in neighbors if not one.guest]
    down = [one for one in outside if one.state != "established"]
    silent = [one.name for one in outside if one not in down and one.bfd not in ("", "up")]
    failed, blocked = (sum(getattr(one, name) for one in tables) for name in ("failed", "blocked"))
    if drain.state != "off":
        return "warning", "order", "; ".join(drain.waiting_for)
    if failed:
        return "critical", "kernel", f"the kernel refused {failed} routes: packets to them are lost, or go another way"
    if down:
        left = [one.name for one in outside if one not in down]
        reasons = [_reason(down[0])] if len(down) == 1 else [_named(map(_why, down))]
        reasons += [f"{_named(left)} left"] if left else []
        return "warning" if left else "critical", "fabric", "; ".join(filter(None, reasons))
    if not health.ready:
        return "warning" if health.waiting_for else "critical", "host", ""
    if silent:
        return "warning", "fabric", f"BFD is not up with {_named(silent)}, while BGP is"
    if health.warnings:
        return "warning", "host", health.warnings[0]
    if blocked:
        return "warning", "kernel", f"{blocked} routes may not be written: bgpd show fib --state blocked"
    installed = sum(one.installed for one in tables)
    return "ok", "nowhere", f"{len(outside)} of {len(outside)} neighbors, {installed:,} routes in the kernel"


def _reason(neighbor: NeighborView) -> str:
    """Why its last session or attempt ended, without what was before that."""
    reason = neighbor.last_error.partition("; before that")[0]
    return f"{reason[:MOST_REASON]}..." if len(reason) > MOST_REASON else reason


def _why(neighbor: NeighborView) -> str:
    reason = _reason(neighbor)
    return f"{neighbor.name}: {reason}" if reason else neighbor.name


def _named(names: Iterable[str]) -> str:
    some = list(names)
    more = f" and {len(some) - MOST_NAMED} more" if len(some) > MOST_NAMED else ""
    return f"{', '.join(some[:MOST_NAMED])}{more}"


def _interface(routing: Routing, view: NeighborView) -> str:
    """That of a neighbor; of one that is configured by its address, the one that leads there."""
    address = None if view.interface else parse_host(view.address.partition("%")[0])
    return view.interface if address is None else routing.host.facing(address[1][1:], view.vrf)


def _uplinks(
    routing: Routing, views: Iterable[NeighborView], speed: Callable[[str], int | None]
) -> Iterator[UplinkOverview]:
    names: dict[str, list[str]] = {}
    for view in views:
        interface = "" if view.guest else _interface(routing, view)
        if interface:
            names.setdefault(interface, []).append(view.name)
    for interface in sorted(names):
        link = routing.host.named(interface)
        yield UplinkOverview(
            interface=interface,
            up=link is not None and link.up,
            vrf=routing.host.vrf_of(interface),
            speed_mbps=speed(interface),
            neighbors=sorted(names[interface]),
        )


def _tables(routing: Routing) -> Iterator[TableOverview]:
    for vrf, fib in sorted(routing.tables.fibs.items()):
        counters = fib.counters
        yield TableOverview(
            vrf=vrf,
            prefixes={
                family.value: len(table.routes) for (of, family), table in routing.rib.tables.items() if of == vrf
            },
            desired=counters.desired,
            installed=counters.installed,
            pending=counters.pending,
            failed=counters.failed,
            blocked=counters.blocked,
        )


def _groups(routing: Routing) -> list[GroupOverview]:
    fib = routing.tables.fibs[""]
    groups = (group for group in fib.dataplane.objects.groups.values() if group.routes)
    most = heapq.nlargest(MOST_GROUPS, groups, key=lambda group: (group.routes, -group.id))
    return [
        GroupOverview(id=group.id, routes=group.routes, next_hops=fib_views.next_hops(fib, group.id)) for group in most
    ]
