"""Restart: the daemon is killed (SIGKILL) over a full table and started again; what the kernel's routes go through."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial

from benchmarks.flow_run import Flow
from benchmarks.kernel_watch import wait_for_table
from benchmarks.measurement import LOAD_TIMEOUT_S, Figures, Job, Options, bench, count_text
from benchmarks.notifications import counted
from benchmarks.routes import RouteSet, format_prefix

MARKER = RouteSet(count=1, start=2_000_000)
"""A route sent after all others: when the kernel has it, the daemon has worked through the whole table."""
FLOW_DESTINATIONS = 256


def jobs(options: Options) -> Iterator[Job]:
    """By size."""
    for count in options.sizes_or((100_000, 1_000_000), (50_000,)):
        for contestant in options.wanted():
            case = f"restart {count_text(count)}"
            yield Job(case=case, contestant=contestant, run=partial(run, contestant, RouteSet(count=count)))


def run(contestant: str, routes: RouteSet) -> Figures:
    """From the start of the new process until the whole table was heard again and the kernel is right."""
    with bench(contestant, restart_time_s=120) as ready:
        ready.load(routes)
        ready.prepare("marker", MARKER)
        prefixes = routes.prefixes()
        step = max(1, len(prefixes) // FLOW_DESTINATIONS)
        flow = Flow(ready.topology, [format_prefix(prefix).split("/")[0] for prefix in prefixes[::step]])
        time.sleep(0.5)
        next_hops = ready.topology.next_hops(routes.family)
        with counted(ready.topology) as notifications, ready.table(routes.family) as table:
            ready.daemon.kill()
            time.sleep(0.5)
            first = time.monotonic_ns()
            ready.daemon.restart()
            ready.topology.leaves[0].ask("established")
            ready.send("table")
            ready.finish()
            ready.send("marker")
            ready.finish()
            seen = wait_for_table(table, MARKER.prefixes(), next_hops, timeout_s=LOAD_TIMEOUT_S)
            wait_for_table(table, prefixes, next_hops, timeout_s=LOAD_TIMEOUT_S)
            time.sleep(2.0)
            counts = notifications.stop()
        own = {"route_writes": counts["route_writes"] - MARKER.count, "route_deletes": counts["route_deletes"]}
        return {"seconds": (seen.ns - first) / 1e9, **own, **flow.stop(), **ready.stall()}
