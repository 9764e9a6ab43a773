"""What a case is made of (jobs), and what a run of one yields (figures)."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import msgspec

from benchmarks import peers
from benchmarks.internet_table import InternetTable, Routes
from benchmarks.kernel_table import KernelTable
from benchmarks.kernel_watch import Seen, Wanted, wait_for_count, wait_for_table
from benchmarks.loop_stall import stall_figures
from benchmarks.routes import pack_address
from benchmarks.topology import Topology
from benchmarks.usage import Usage

Figures = Mapping[str, float]
"""Name with its unit ("seconds", "cpu_s", "peak_mb") to value."""

LOAD_TIMEOUT_S = 120.0


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One measurement that can be repeated: of `contestant`, in the variant `case`; `run` makes it."""

    case: str
    contestant: str
    run: Callable[[], Figures]


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line chose. Empty `sizes`: the case's own."""

    quick: bool = False
    sizes: tuple[int, ...] = ()
    contestants: tuple[str, ...] = ()
    only: str = ""

    def sizes_or(self, full: Sequence[int], quick: Sequence[int]) -> tuple[int, ...]:
        """The sizes to run."""
        return self.sizes or tuple(quick if self.quick else full)

    def wanted(self, *, raw: bool = False, own_table: bool = False) -> list[str]:
        """The contestants to run, the raw kernel limit first where the case has one.

        `own_table`: the case can end in a daemon's own table.
        """
        every = ([peers.RAW] if raw else []) + peers.available(own_table=own_table)
        return [name for name in every if name in self.contestants or (not self.contestants and name != peers.PLAIN)]


class Bench(msgspec.Struct, kw_only=True):
    """A topology with one running daemon."""

    topology: Topology
    daemon: peers.Running

    def prepare(self, name: str, routes: Routes, *, withdraw: bool = False, next_hop: str = "") -> None:
        """Has every leaf make a stream."""
        for leaf in self.topology.leaves:
            leaf.start("prepare", name=name, routes=msgspec.to_builtins(routes), withdraw=withdraw, next_hop=next_hop)
        for leaf in self.topology.leaves:
            leaf.finish()

    def send(self, name: str) -> int:
        """Has all leaves send a prepared stream at the same moment; that moment in ns. `finish` afterwards."""
        at_ns = time.monotonic_ns() + 30_000_000
        for leaf in self.topology.leaves:
            leaf.start("send", name=name, at_ns=at_ns)
        return at_ns

    def finish(self) -> int:
        """Takes the leaves' answers to `send`: when the first byte went out, in ns."""
        return min(int(leaf.finish()["first_ns"]) for leaf in self.topology.leaves)

    @contextlib.contextmanager
    def table(self, family: str) -> Iterator[KernelTable]:
        """The host's kernel table."""
        with self.topology.kernel_table(family) as table:
            yield table

    def next_hops(self, routes: Routes) -> Wanted:
        """What the kernel should hold once all leaves have announced the routes."""
        if isinstance(routes, InternetTable) and self.topology.count > 1:
            return routes.next_hops([pack_address(gateway) for gateway in self.topology.gateways(routes.family)])
        return self.topology.next_hops(routes.family)

    def load(self, routes: Routes) -> Figures:
        """All leaves announce the routes; measured until the kernel (or the daemon's own table) holds them all."""
        self.prepare("table", routes)
        if self.daemon.count is not None:
            before = self.daemon.usage()
            self.send("table")
            seen = wait_for_count(self.daemon.count, routes.count, timeout_s=LOAD_TIMEOUT_S)
            return self.figures(self.finish(), seen, before)
        next_hops = self.next_hops(routes)
        prefixes = routes.prefixes()
        with self.table(routes.family) as table:
            empty_size = table.size()
            before = self.daemon.usage()
            self.send("table")
            seen = wait_for_table(table, prefixes, next_hops, timeout_s=LOAD_TIMEOUT_S, empty_size=empty_size)
            return self.figures(self.finish(), seen, before)

    def figures(self, first_ns: int, seen: Seen, before: Usage) -> dict[str, float]:
        """Seconds from `first_ns` until `seen`, routes a second, and what the daemon used meanwhile."""
        after = self.daemon.usage()
        seconds = (seen.ns - first_ns) / 1e9
        figures = {
            "seconds": seconds,
            "routes_per_s": seen.routes / seconds,
            "cpu_s": after.cpu_s - before.cpu_s,
            "peak_mb": after.peak_mb,
        }
        return figures | self.stall()

    def stall(self) -> dict[str, float]:
        """The longest time that the daemon's event loop was held so far, if it tells."""
        return stall_figures(self.daemon.daemon)


@contextlib.contextmanager
def bench(contestant: str, *, leaves: int = 1, restart_time_s: int = 0, bfd: bool = False) -> Iterator[Bench]:
    """A fresh topology with `contestant` running and all its sessions up, with `bfd` (100 ms x 3) BFD's, too; with a
    restart time the leaves offer GR."""
    with Topology(leaves=leaves, restart_time_s=restart_time_s, bfd=bfd) as topology:
        running = peers.start(contestant, topology)
        try:
            topology.wait_for_bfd()
            yield Bench(topology=topology, daemon=running)
        finally:
            running.kill()


def count_text(count: int) -> str:
    """10k, 1M."""
    for unit, suffix in ((1_000_000, "M"), (1_000, "k")):
        if count >= unit and count % unit == 0:
            return f"{count // unit}{suffix}"
    return str(count)
