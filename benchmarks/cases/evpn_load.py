"""EVPN load: until bgpd has all in the kernel's VRF table, and each peer in its own BGP table."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial

import msgspec

from benchmarks import evpn_peers
from benchmarks.evpn_routes import EvpnRouteSet
from benchmarks.kernel_table import KernelTable
from benchmarks.kernel_watch import wait_for_count, wait_for_table
from benchmarks.loop_stall import stall_figures
from benchmarks.measurement import Figures, Job, Options, count_text
from benchmarks.topology import Topology
from benchmarks.usage import usage_of

TIMEOUT_S = 60.0
SLOW = {("GoBGP", "evpn-type2"): 10_000}
"""Contestants whose time grows with the square of the routes are given no more than this."""


def jobs(options: Options) -> Iterator[Job]:
    """Both types by size, and 100,000 with a label for each."""
    for routes in _variants(options):
        for contestant in evpn_peers.available():
            if options.contestants and contestant not in options.contestants:
                continue
            if routes.count <= SLOW.get((contestant, routes.kind), routes.count):
                labels = ", distinct labels" if routes.labels else ""
                case = f"evpn-load {count_text(routes.count)}, type {routes.kind[-1]}{labels}"
                yield Job(case=case, contestant=contestant, run=partial(run, contestant, routes))


def _variants(options: Options) -> Iterator[EvpnRouteSet]:
    for count in options.sizes_or((100_000, 500_000), (10_000,)):
        for kind in ("evpn-type2", "evpn-type5"):
            yield EvpnRouteSet(kind=kind, count=count)
            if count == 100_000:
                yield EvpnRouteSet(kind=kind, count=count, labels=True)


def run(contestant: str, routes: EvpnRouteSet) -> Figures:
    """One load."""
    with Topology(families=evpn_peers.FAMILIES) as topology:
        leaf = topology.leaves[0]
        leaf.ask("prepare", name="table", routes=msgspec.to_builtins(routes))
        with evpn_peers.STARTERS[contestant](topology) as running:
            leaf.ask("established")
            time.sleep(1.0)
            before = usage_of(running.pids())
            leaf.start("send", name="table")
            if running.count is None:
                with topology.host.entered():
                    table = KernelTable(family="ipv4-unicast", table=evpn_peers.VRF_TABLE, interface=evpn_peers.UPLINK)
                next_hops = topology.next_hops("ipv4-unicast")
                seen = wait_for_table(table, routes.prefixes(), next_hops, timeout_s=TIMEOUT_S)
                table.close()
            else:
                seen = wait_for_count(running.count, routes.count, timeout_s=TIMEOUT_S)
            first = int(leaf.finish()["first_ns"])
            after = usage_of(running.pids())
            seconds = (seen.ns - first) / 1e9
            return {
                "seconds": seconds,
                "routes_per_s": seen.routes / seconds,
                "cpu_s": after.cpu_s - before.cpu_s,
                "peak_mb": after.peak_mb,
                **stall_figures(running.daemon),
            }
