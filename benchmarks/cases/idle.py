"""Idle: memory and CPU with two leaves, 100 workloads and a default route from each leaf's table."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial

from benchmarks.cases.announce import kernel_routes
from benchmarks.measurement import Figures, Job, Options, bench
from benchmarks.routes import RouteSet

CASE = "idle, 2 leaves, 100 workloads"
WORKLOADS = 100


def jobs(options: Options) -> Iterator[Job]:
    """One variant."""
    for contestant in options.wanted():
        yield Job(case=CASE, contestant=contestant, run=partial(run, contestant, 5.0 if options.quick else 30.0))


def run(contestant: str, duration_s: float) -> Figures:
    """Settles, then watches for `duration_s`."""
    with bench(contestant, leaves=2) as ready:
        ready.load(RouteSet(count=10))
        ready.topology.host.batch(*kernel_routes(WORKLOADS))
        for leaf in ready.topology.leaves:
            leaf.ask("wait_count", count=WORKLOADS)
        time.sleep(3.0)
        before = ready.daemon.usage()
        time.sleep(duration_s)
        after = ready.daemon.usage()
        return {
            "resident_mb": after.resident_mb,
            "peak_mb": after.peak_mb,
            "cpu_percent": (after.cpu_s - before.cpu_s) / duration_s * 100,
        }
