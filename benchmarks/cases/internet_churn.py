"""Internet churn: the usual mix of 5,000 updates a second on an Internet table; share of a core, lag at the kernel."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial

import msgspec

from benchmarks.cases.churn import lag_figures, usage_figures, watch
from benchmarks.internet_churn import InternetChurn
from benchmarks.internet_table import InternetTable
from benchmarks.kernel_watch import wait_for_table
from benchmarks.measurement import LOAD_TIMEOUT_S, Figures, Job, Options, bench, count_text

RATE = 5_000
INTERVAL_MS = 10.0
LEAVES = 2
NEXT_HOPS = ("10.0.0.2", "10.0.0.3")
"""The leaf's own, and another one on the same link."""


def jobs(options: Options) -> Iterator[Job]:
    """One variant for each size of the table."""
    for count in options.sizes_or((1_000_000,), (100_000,)):
        for contestant in options.wanted():
            duration_s = 5.0 if options.quick else 30.0
            run_it = partial(run, contestant, InternetTable(count=count), duration_s)
            yield Job(case=case_name(count), contestant=contestant, run=run_it)


def case_name(count: int) -> str:
    """Name of the variant."""
    return f"internet-churn {count_text(count)} IPv4, 2 leaves, 5k updates/s"


def run(contestant: str, table: InternetTable, duration_s: float) -> Figures:
    """Loads, then one leaf's routes change for `duration_s`; afterwards the table must be as at first."""
    size = int(RATE * INTERVAL_MS / 1000)
    churn = InternetChurn(table=table, batches=int(duration_s * 1000 / INTERVAL_MS), size=size)
    with bench(contestant, leaves=LEAVES) as ready:
        ready.load(table)
        leaf = ready.topology.leaves[0]
        leaf.ask("prepare_internet_churn", churn=msgspec.to_builtins(churn), next_hops=NEXT_HOPS)
        time.sleep(2.0)
        before = ready.daemon.usage()
        leaf.start("churn", names=["churn"], batch_interval_ms=INTERVAL_MS, duration_s=duration_s)
        with ready.table(table.family) as kernel:
            seen = watch(kernel, churn.sentinels(), NEXT_HOPS[::-1], batches=churn.batches, interval_ms=INTERVAL_MS)
            sent = leaf.finish()["sent_ns"]
            after = ready.daemon.usage()
            leaf.ask("send", name="restored")
            wait_for_table(kernel, table.prefixes(), ready.next_hops(table), timeout_s=LOAD_TIMEOUT_S)
        return lag_figures(sent, seen) | ready.stall() | usage_figures(before, after, duration_s)
