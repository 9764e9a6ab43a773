"""Withdraw: from the withdrawal's first byte, or the session's reset, until the kernel has none of the routes."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from benchmarks import peers
from benchmarks.kernel_watch import wait_for_table
from benchmarks.measurement import LOAD_TIMEOUT_S, Figures, Job, Options, bench, count_text
from benchmarks.raw import run_raw
from benchmarks.routes import RouteSet

SESSION_LOSS = "session loss"
UPDATES = "withdrawn by UPDATEs"


def jobs(options: Options) -> Iterator[Job]:
    """Both ways to lose routes, by size."""
    for count in options.sizes_or((100_000, 1_000_000), (100_000,)):
        for how in (UPDATES, SESSION_LOSS):
            for contestant in options.wanted(raw=True):
                case = f"withdraw {count_text(count)}, {how}"
                yield Job(case=case, contestant=contestant, run=partial(run, contestant, RouteSet(count=count), how))


def run(contestant: str, routes: RouteSet, how: str) -> Figures:
    """Loads, then takes all away."""
    if contestant == peers.RAW:
        return run_raw(routes, leaves=1, withdraw=True)
    with bench(contestant) as ready:
        ready.load(routes)
        ready.prepare("withdraw", routes, withdraw=True)
        prefixes = routes.prefixes()
        before = ready.daemon.usage()
        with ready.table(routes.family) as table:
            lost = how == SESSION_LOSS
            first = int(ready.topology.leaves[0].ask("reset")["ns"]) if lost else ready.send("withdraw")
            seen = wait_for_table(table, prefixes, None, timeout_s=LOAD_TIMEOUT_S)
            if not lost:
                first = ready.finish()
        return ready.figures(first, seen, before)
