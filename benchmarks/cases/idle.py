"""Idle: memory and CPU with two leaves, 100 workloads and a default route from each; the process of BFD beside it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from benchmarks.cases.announce import kernel_routes
from benchmarks.measurement import Figures, Job, Options, bench
from benchmarks.routes import RouteSet
from benchmarks.usage import ran_s, usage_of
from labs.process import LabError

CASE = "idle, 2 leaves, 100 workloads"
BFD_CASE = "idle, BFD of 100 ms x 3 with 2 leaves: its process"
WORKLOADS = 100


def jobs(options: Options) -> Iterator[Job]:
    """The daemon, and the process that speaks BFD."""
    for contestant in options.wanted():
        duration_s = 5.0 if options.quick else 30.0
        yield Job(case=CASE, contestant=contestant, run=partial(run, contestant, duration_s))
        if contestant != "BIRD":  # it has no process of its own for BFD
            yield Job(case=BFD_CASE, contestant=contestant, run=partial(run_bfd, contestant, duration_s))


def run(contestant: str, duration_s: float) -> Figures:
    """Settles, then watches for `duration_s`."""
    with bench(contestant, leaves=2) as ready:
        ready.load(RouteSet(count=10))
        ready.topology.host.batch(*kernel_routes(WORKLOADS))
        for leaf in ready.topology.leaves:
            leaf.ask("wait_count", count=WORKLOADS)
        time.sleep(3.0)
        return _watch(ready.daemon.pids, duration_s)


def run_bfd(contestant: str, duration_s: float) -> Figures:
    """Of the BFD process alone: bgpd-bfd, or FRR's bfdd."""
    with bench(contestant, leaves=2, bfd=True) as ready:
        own = ready.daemon.bfd
        processes = own.processes if own is not None else ready.daemon.daemon.processes
        pids = [one.pid for one in processes if own is not None or Path(one.command[-1]).name == "bfdd.sock"]
        if not pids:
            raise LabError(f"{contestant} has no process of its own for BFD")
        time.sleep(3.0)
        return _watch(pids, duration_s)


def _watch(pids: list[int], duration_s: float) -> Figures:
    before = ran_s(pids)
    time.sleep(duration_s)
    ran = ran_s(pids) - before
    after = usage_of(pids)
    return {
        "resident_mb": after.resident_mb,
        "peak_mb": after.peak_mb,
        "cpu_percent": ran / duration_s * 100,
    }
