"""Runs the bare netlink writer as a contestant of its own."""

from __future__ import annotations

import json
import sys

import msgspec

from benchmarks import raw_limit
from benchmarks.internet_table import Routes
from benchmarks.kernel_watch import wait_for_table
from benchmarks.measurement import Figures
from benchmarks.topology import Topology


def run_raw(routes: Routes, *, leaves: int, withdraw: bool = False) -> Figures:
    """Writes (or, with `withdraw`, deletes again) the routes and confirms the table."""
    with Topology(leaves=leaves) as topology:
        options = raw_limit.Options(
            routes=msgspec.to_builtins(routes),
            gateways=topology.gateways(routes.family),
            interfaces=[f"leaf{number}" for number in range(leaves)],
            withdraw=withdraw,
        )
        command = (sys.executable, "-m", "benchmarks.raw_limit", msgspec.json.encode(options).decode())
        answer = json.loads(topology.host.run(*command, timeout_s=120.0))
        next_hops = None if withdraw else topology.next_hops(routes.family)
        with topology.kernel_table(routes.family) as table:
            wait_for_table(table, routes.prefixes(), next_hops, timeout_s=1.0)
        seconds = (answer["last_ns"] - answer["first_ns"]) / 1e9
        return {
            "seconds": seconds,
            "routes_per_s": routes.count / seconds,
            "cpu_s": answer["cpu_s"],
            "peak_mb": answer["peak_mb"],
        }
