"""`GET /v1/overview`: this host on one screen, for `bgpd top` and the web page.

Reads counts that the parts keep anyhow; never walks over routes. Decides nothing.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator

from bgpd.fib import views as fib_views
from bgpd.kernel.interfaces import speed_mbps
from bgpd.model.views import (
    DrainView,
    GroupOverview,
    HealthView,
    NeighborView,
    OverviewView,
    TableOverview,
    UplinkOverview,
)
from bgpd.model.workload import WorkloadState
from bgpd.routing import Routing

MOST_NEIGHBORS = 64
MOST_GROUPS = 32


def overview(
    routing: Routing, *, health: HealthView, drain: DrainView, neighbors: Iterable[NeighborView]
) -> OverviewView:
    """The state of the host at this moment."""
    views = sorted(neighbors, key=lambda one: (one.state == "established", one.name))
    workloads: dict[str, dict[str, int]] = {}
    for (source, state), count in sorted(routing.workloads.claims.state_counts().items()):
        workloads.setdefault(source, {})[state.value] = count
    announced = sum(of.get(WorkloadState.ANNOUNCED.value, 0) for of in workloads.values())
    claims = sum(sum(of.values()) for of in workloads.values())
    return OverviewView(
        verdict=_verdict(health, drain, views),
        health=health,
        drain=drain,
        neighbors=views[:MOST_NEIGHBORS],
        neighbors_total=len(views),
        uplinks=list(_uplinks(routing, views)),
        tables=list(_tables(routing)),
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


def _uplinks(routing: Routing, views: Iterable[NeighborView]) -> Iterator[UplinkOverview]:
    names: dict[str, list[str]] = {}
    for view in views:
        if view.interface and not view.guest:
            names.setdefault(view.interface, []).append(view.name)
    for interface in sorted(names):
        link = routing.host.named(interface)
        yield UplinkOverview(
            interface=interface,
            up=link is not None and link.up,
            vrf=routing.host.vrf_of(interface),
            speed_mbps=speed_mbps(interface),
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
