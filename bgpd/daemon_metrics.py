"""The metrics of the daemon: names, help texts, and where each number is read."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from bgpd import __version__
from bgpd.api.prometheus import Histogram, Registry, Samples
from bgpd.export.bmp_station import BmpStation
from bgpd.export.exports import Exports
from bgpd.fib.batches import FibCounters
from bgpd.model.views.host import HealthView
from bgpd.model.views.orders import DrainView
from bgpd.model.views.sessions import BfdView, FamilyCounts, NeighborView
from bgpd.routing import Routing
from bgpd.runtime.descriptors import Shortage
from bgpd.runtime.loop import BUCKETS_S, Holds, TimedSelector

_STATM = Path("/proc/self/statm")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_View = TypeVar("_View")


def build_registry(
    routing: Routing,
    *,
    selector: TimedSelector,
    neighbors: Callable[[], list[NeighborView]],
    health: Callable[[], HealthView],
    drain: Callable[[], DrainView],
    shortage: Shortage,
    repairs: Callable[[], Mapping[str, int]],
    exports: Exports,
) -> Registry:
    """All metrics; each is read when it is asked for."""
    registry = Registry()
    neighbors, health, drain = registry.once(neighbors), registry.once(health), registry.once(drain)
    registry.counter(
        "bgpd_consistency_repairs_total",
        "Routes that two parts of bgpd held differently for over a second, by what was compared.",
        lambda: [((name,), count) for name, count in sorted(repairs().items())],
        labels=("compared",),
    )
    _of_process(registry, selector, health)
    _of_drain(registry, drain)
    registry.counter(
        "bgpd_descriptors_exhausted_total",
        "Times that no file descriptor was left for a new connection.",
        lambda: shortage.count,
    )
    registry.counter(
        "bgpd_connections_refused_total",
        "Incoming BGP connections that were closed, because their address or all together had too many.",
        lambda: routing.speaker.admission.refused,
    )
    _of_sessions(registry, neighbors)
    _of_bfd(registry, routing)
    _of_routes(registry, routing)
    _of_workloads(registry, routing)
    _of_exports(registry, exports)
    _of_history(registry, routing)
    return registry


def _of_exports(registry: Registry, exports: Exports) -> None:
    def each(read: Callable[[BmpStation], float]) -> Callable[[], Samples]:
        return lambda: (((f"{one.config.address}:{one.config.port}",), read(one)) for one in exports.stations)

    registry.gauge(
        "bgpd_bmp_connected",
        "1 if the BMP station is connected.",
        each(lambda station: station.connected_since > 0),
        labels=("station",),
    )
    registry.counter(
        "bgpd_bmp_cut_off_total",
        "Times that the BMP station was cut off, because it was too slow.",
        each(lambda station: station.cut_off),
        labels=("station",),
    )
    registry.counter(
        "bgpd_mrt_messages_lost_total",
        "Messages of neighbors that are in no MRT file, since it could not be written.",
        lambda: exports.lost,
    )


def _of_history(registry: Registry, routing: Routing) -> None:
    registry.gauge("bgpd_history_bytes", "What the files of the history of routes take.", lambda: routing.history.bytes)
    registry.gauge(
        "bgpd_history_begin_timestamp_seconds",
        "When the history of routes begins, since the epoch; 0: it says nothing yet.",
        lambda: routing.history.known_from or 0,
    )
    registry.counter(
        "bgpd_history_losses_total",
        "Times that the history of routes could not be written and began anew.",
        lambda: routing.history.lost,
    )


def _of_process(registry: Registry, selector: TimedSelector, health: Callable[[], HealthView]) -> None:
    registry.gauge("bgpd_info", "Version; always 1.", lambda: [((__version__,), 1)], labels=("version",))
    registry.gauge(
        "bgpd_ready", "1 if the host may be relied on (GET /v1/health says why not).", lambda: health().ready
    )
    registry.gauge("bgpd_warnings", "What else is wrong (bgpd status tells).", lambda: len(health().warnings))
    registry.gauge("bgpd_start_time_seconds", "Start, since the epoch.", lambda: health().started_at)
    _of_loop(registry, "", "by the clock", selector.wall)
    _of_loop(registry, "_cpu", "in processor time of its thread", selector.cpu)
    registry.gauge("bgpd_resident_memory_bytes", "Resident memory.", _resident_bytes)
    registry.counter("bgpd_cpu_seconds_total", "CPU time of all threads.", lambda: sum(os.times()[:2]))


def _of_loop(registry: Registry, clock: str, words: str, holds: Holds) -> None:
    registry.gauge(
        f"bgpd_loop_stall{clock}_seconds",
        f"The longest time that the event loop was held since the start, {words}.",
        lambda: holds.longest_s,
    )
    registry.histogram(
        f"bgpd_loop_hold{clock}_seconds",
        f"How long the event loop was held between two polls, {words}.",
        lambda: Histogram(bounds=BUCKETS_S, counts=holds.counts, total=holds.total_s),
    )


def _of_drain(registry: Registry, drain: Callable[[], DrainView]) -> None:
    registry.gauge(
        "bgpd_drain",
        "1 for the state of the host: off, draining or drained (bgpd drain status).",
        lambda: [((state,), drain().state == state) for state in ("off", "draining", "drained")],
        labels=("state",),
    )
    registry.gauge(
        "bgpd_drain_began_timestamp_seconds",
        "When the drain began, since the epoch; 0: off.",
        lambda: drain().since or 0,
    )
    registry.gauge(
        "bgpd_drain_ends_timestamp_seconds",
        "When the drain ends by itself; 0: off, or never.",
        lambda: drain().until or 0,
    )
    registry.gauge(
        "bgpd_drain_counters_with_traffic",
        "Counters of the kernel that still tell of traffic to the drained host.",
        lambda: sum(not counter.quiet for counter in drain().counters),
    )
    registry.gauge(
        "bgpd_drain_services_kept",
        "Services that stay announced, since no other host is seen to announce them.",
        lambda: len(drain().kept),
    )


_Row = tuple[str, str, Callable[[_View], float]]
"""A metric's name and help, and how it is read of one view."""


def _of_each(
    registry: Registry, label: str, rows: Iterable[_Row[_View]], views: Callable[[], Iterable[tuple[str, _View]]]
) -> None:
    """Metrics of which each view, which comes with the label's value, is a sample."""
    for name, help, read in rows:
        add = registry.counter if name.endswith("_total") else registry.gauge
        add(name, help, functools.partial(_samples, views, read), labels=(label,))


def _samples(views: Callable[[], Iterable[tuple[str, _View]]], read: Callable[[_View], float]) -> Samples:
    return (((name,), read(view)) for name, view in views())


_NEIGHBOR: Sequence[_Row[NeighborView]] = (
    ("bgpd_neighbor_established", "1 if the session is established.", lambda view: view.state == "established"),
    ("bgpd_neighbor_flaps_total", "Established sessions with it that ended.", lambda view: view.flaps),
    ("bgpd_neighbor_sessions_established_total", "Times it was established.", lambda view: view.established_count),
    ("bgpd_neighbor_messages_received_total", "Messages received.", lambda view: view.messages_received),
    ("bgpd_neighbor_messages_sent_total", "Messages sent.", lambda view: view.messages_sent),
    (
        "bgpd_neighbor_martians_total",
        "Prefixes of the neighbor that were ignored as martians (accept_martians).",
        lambda view: view.martians,
    ),
    (
        "bgpd_neighbor_defects_total",
        "Times that bgpd could not cope with a neighbor's messages (bgpd show neighbors --json has them).",
        lambda view: view.defects,
    ),
    (
        "bgpd_neighbor_routes_stale",
        "Routes of its former sessions that are kept while it restarts (RFC 4724).",
        lambda view: view.stale_routes,
    ),
    (
        "bgpd_neighbor_stale_until_timestamp_seconds",
        "Until when they are kept at most, since the epoch; 0: nothing is stale.",
        lambda view: view.stale_until or 0,
    ),
    (
        "bgpd_neighbor_hostname_unexpected",
        "1 if it tells another name than expect_hostname says, by BGP or LLDP.",
        lambda view: view.expectation == "unmet",
    ),
    (
        "bgpd_neighbor_attribute_bytes",
        "Memory that the attributes of its routes take.",
        lambda view: view.attribute_bytes,
    ),
    (
        "bgpd_neighbor_attribute_limit_bytes",
        "max_attribute_bytes; more ends the session; 0: no limit.",
        lambda view: view.max_attribute_bytes,
    ),
)
_NEIGHBOR_FAMILY: Sequence[_Row[FamilyCounts]] = (
    (
        "bgpd_neighbor_prefixes_discarded",
        "Prefixes that the neighbor announces beyond max_prefixes and that were not taken.",
        lambda counts: counts.discarded,
    ),
    ("bgpd_neighbor_routes_received", "Routes that the neighbor announces.", lambda counts: counts.received),
    ("bgpd_neighbor_routes_rejected", "Of them, rejected by policy or as loops.", lambda counts: counts.rejected),
    ("bgpd_neighbor_routes_announced", "Routes announced to the neighbor.", lambda counts: counts.announced),
)


def _of_sessions(registry: Registry, neighbors: Callable[[], list[NeighborView]]) -> None:
    def of_families(read: Callable[[FamilyCounts], float]) -> Samples:
        for view in neighbors():
            for family, counts in view.families.items():
                yield (view.name, family), read(counts)

    _of_each(registry, "neighbor", _NEIGHBOR, lambda: ((view.name, view) for view in neighbors()))
    for name, help, read in _NEIGHBOR_FAMILY:
        registry.gauge(name, help, functools.partial(of_families, read), labels=("neighbor", "family"))


_BFD: Sequence[_Row[BfdView]] = (
    ("bgpd_bfd_up", "1 if BFD with the neighbor is Up.", lambda view: view.state == "up"),
    ("bgpd_bfd_downs_total", "Times that BFD went down from Up.", lambda view: view.downs),
    ("bgpd_bfd_packets_sent_total", "BFD packets sent.", lambda view: view.packets_sent),
    ("bgpd_bfd_packets_received_total", "BFD packets received.", lambda view: view.packets_received),
    (
        "bgpd_bfd_detection_time_seconds",
        "For so long the neighbor may be silent; 0: nothing was heard of it.",
        lambda view: view.detection_time_ms / 1000,
    ),
)


def _of_bfd(registry: Registry, routing: Routing) -> None:
    views = registry.once(routing.speaker.bfd.views)
    _of_each(registry, "neighbor", _BFD, lambda: ((view.neighbor, view) for view in views()))
    registry.counter(
        "bgpd_bfd_discarded_total",
        "BFD packets that passed the kernel's filter and were not used, by cause.",
        lambda: [((cause,), count) for cause, count in sorted(routing.speaker.bfd.discarded.items())],
        labels=("cause",),
    )


_FIB: Sequence[_Row[FibCounters]] = (
    ("bgpd_fib_routes_desired", "Kernel routes wanted.", lambda counters: counters.desired),
    ("bgpd_fib_routes_installed", "Kernel routes there.", lambda counters: counters.installed),
    (
        "bgpd_fib_routes_pending",
        "Kernel routes that wait to be written, or are on their way to the kernel.",
        lambda counters: counters.pending,
    ),
    (
        "bgpd_fib_routes_failed",
        "Kernel routes that the kernel refused (bgpd show fib --state failed).",
        lambda counters: counters.failed,
    ),
    (
        "bgpd_fib_routes_blocked",
        "Kernel routes not written, because another program has the prefix or it is protected.",
        lambda counters: counters.blocked,
    ),
    (
        "bgpd_fib_repaired_total",
        "Kernel routes that somebody changed or deleted, written again.",
        lambda counters: counters.repaired,
    ),
    (
        "bgpd_fib_nexthop_deletes_total",
        "Dead gateways taken out of all groups.",
        lambda counters: counters.nexthop_deletes,
    ),
    ("bgpd_fib_batches_total", "Batches of route messages sent.", lambda counters: counters.batches),
    ("bgpd_fib_messages_total", "Route messages sent.", lambda counters: counters.messages),
)


def _of_routes(registry: Registry, routing: Routing) -> None:
    registry.gauge(
        "bgpd_rib_routes",
        "Prefixes in the RIB.",
        lambda: (((vrf, family), len(table.routes)) for (vrf, family), table in routing.rib.tables.items()),
        labels=("vrf", "family"),
    )
    _of_each(registry, "vrf", _FIB, lambda: ((vrf, fib.counters) for vrf, fib in routing.tables.fibs.items()))


def _of_workloads(registry: Registry, routing: Routing) -> None:
    registry.gauge(
        "bgpd_workloads",
        "Claims of workloads by source and state.",
        lambda: sorted(routing.workloads.claims.state_counts().items()),
        labels=("source", "state"),
    )
    registry.counter(
        "bgpd_workload_dampings_total",
        "Addresses of workloads that began to be held back because they come and go.",
        lambda: routing.workloads.dampings,
    )
    registry.gauge(
        "bgpd_service_probes",
        "Addresses of services that bgpd asks itself, by what they answer.",
        lambda: [((state,), count) for state, count in routing.workloads.services.probes.counts().items()],
        labels=("state",),
    )
    registry.gauge(
        "bgpd_services",
        "Services by state; last-resort: all their backends have failed, and they are announced all the same.",
        lambda: [((state,), count) for state, count in routing.workloads.services.state_counts().items()],
        labels=("state",),
    )
    registry.gauge(
        "bgpd_workload_addresses_announced_by_neighbors",
        "Workloads' addresses that a neighbor announces too (bgpd status names them).",
        lambda: len(routing.rib.contested.found),
    )


def _resident_bytes() -> float:
    return int(_STATM.read_text().split()[1]) * _PAGE
