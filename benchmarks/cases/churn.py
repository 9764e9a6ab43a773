"""Churn: a full table, and 20,000 routes a second change their next hop; the lag of each change at the kernel."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from functools import partial

import msgspec

from benchmarks.kernel_table import KernelTable, NextHops
from benchmarks.measurement import Figures, Job, Options, bench, count_text
from benchmarks.routes import RouteSet, pack_address
from benchmarks.usage import Usage

BATCH = 100
INTERVAL_MS = 5.0
CHANGED = 200_000
"""Routes that take part, one after the other; then from the first again, with the other next hop."""
CASE = "churn 1M, 20k updates/s"
NEXT_HOPS = ("10.0.0.3", "10.0.0.2")


def jobs(options: Options) -> Iterator[Job]:
    """One variant for each size of the table."""
    for count in options.sizes_or((1_000_000,), (50_000,)):
        case = f"churn {count_text(count)}, 20k updates/s"
        for contestant in options.wanted():
            duration_s = 5.0 if options.quick else 60.0
            yield Job(case=case, contestant=contestant, run=partial(run, contestant, RouteSet(count=count), duration_s))


def run(contestant: str, routes: RouteSet, duration_s: float) -> Figures:
    """Loads, then churns for `duration_s` while the last route of every batch is watched."""
    with bench(contestant) as ready:
        ready.load(routes)
        changed = RouteSet(count=min(CHANGED, routes.count))
        for next_hop in NEXT_HOPS:
            arguments = {"name": next_hop, "routes": msgspec.to_builtins(changed), "batch": BATCH, "next_hop": next_hop}
            ready.topology.leaves[0].ask("prepare_churn", **arguments)
        time.sleep(2.0)
        before = ready.daemon.usage()
        ready.topology.leaves[0].start(
            "churn", names=list(NEXT_HOPS), batch_interval_ms=INTERVAL_MS, duration_s=duration_s
        )
        with ready.table(routes.family) as table:
            last_routes = changed.prefixes()[BATCH - 1 :: BATCH]
            batches = int(duration_s * 1000 / INTERVAL_MS)
            seen = watch(table, last_routes, NEXT_HOPS, batches=batches, interval_ms=INTERVAL_MS)
        sent = ready.topology.leaves[0].finish()["sent_ns"]
        after = ready.daemon.usage()
        return lag_figures(sent, seen) | ready.stall() | usage_figures(before, after, duration_s)


def watch(
    table: KernelTable, last_routes: Sequence[bytes], next_hops: Sequence[str], *, batches: int, interval_ms: float
) -> list[int]:
    """When (ns) each batch's last route had its new next hop; later batches wait behind earlier ones.

    The last routes follow each other in rounds; in each round all get the next one of the next hops.
    """
    wanted: list[NextHops] = [frozenset((pack_address(next_hop),)) for next_hop in next_hops]
    seen: list[int] = []
    deadline = time.monotonic() + batches * interval_ms / 1000 + 60.0
    for number in range(batches):
        turn, place = divmod(number, len(last_routes))
        while table.look([last_routes[place]]) != [wanted[turn % 2]]:
            if time.monotonic() > deadline:
                return seen
            time.sleep(0.0003)
        seen.append(time.monotonic_ns())
    return seen


def usage_figures(before: Usage, after: Usage, duration_s: float) -> dict[str, float]:
    """What the daemon used while its routes changed for `duration_s`."""
    return {
        "cpu_percent": (after.cpu_s - before.cpu_s) / duration_s * 100,
        "peak_mb": after.peak_mb,
        "growth_mb": after.resident_mb - before.resident_mb,
    }


def lag_figures(sent: Sequence[int], seen: Sequence[int]) -> dict[str, float]:
    """Lag of the batches that were seen, and how many were not."""
    lags = sorted((there - here) / 1e6 for here, there in zip(sent, seen))
    if not lags:
        return {"unseen_batches": float(len(sent))}
    return {
        "lag_p50_ms": lags[len(lags) // 2],
        "lag_p99_ms": lags[len(lags) * 99 // 100],
        "lag_max_ms": lags[-1],
        "unseen_batches": float(len(sent) - len(seen)),
    }
