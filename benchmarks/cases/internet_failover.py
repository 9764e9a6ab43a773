"""Internet failover: one of two leaves with an Internet table is lost; until kernel and daemon are done with it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial

from benchmarks.cases.failover import RESET, lose_leaf
from benchmarks.internet_table import InternetTable
from benchmarks.kernel_watch import NotReached
from benchmarks.measurement import LOAD_TIMEOUT_S, Figures, Job, Options, bench, count_text
from benchmarks.settling import Settling


def jobs(options: Options) -> Iterator[Job]:
    """By size; those whose RIB can be asked how many paths of a leaf it has."""
    for count in options.sizes_or((100_000, 1_000_000), (20_000,)):
        for contestant in options.wanted():
            if contestant in ("bgpd", "BIRD"):
                table = InternetTable(count=count)
                yield Job(case=case_name(count), contestant=contestant, run=partial(run, contestant, table))


def case_name(count: int) -> str:
    """Name of the variant."""
    return f"internet-failover {count_text(count)} IPv4, TCP reset"


def run(contestant: str, table: InternetTable) -> Figures:
    """`seconds`: every route forwards by the other leaf alone. `settled_s`: the daemon is quiet, its RIB clean."""
    with bench(contestant, leaves=2) as ready:
        ready.load(table)
        time.sleep(2.0)
        assert ready.daemon.paths_by is not None
        before = ready.daemon.usage()
        settling = Settling(ready.daemon.pids)
        first, seen = lose_leaf(ready, table, RESET)
        settled_ns = settling.settled_ns(timeout_s=LOAD_TIMEOUT_S)
        left, kept = ready.daemon.paths_by(0), ready.daemon.paths_by(1)
        if left or kept != table.count:
            raise NotReached(f"the RIB has {left} paths of the lost leaf and {kept} of the other")
        return ready.figures(first, seen, before) | {"settled_s": (max(settled_ns, seen.ns) - first) / 1e9}
