"""BFD of 100 ms x 3 under load: the longest gap between two of the host's packets, and sessions that flapped."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial

from benchmarks import peers
from benchmarks.bfd_gaps import BfdPackets, gap_figures
from benchmarks.measurement import Bench, Figures, Job, Options, bench, count_text
from benchmarks.routes import RouteSet

BUSY = "bfd, all cores busy with other programs"
RESTARTS = 3
_SPIN = "while True: pass"


def load_case(count: int) -> str:
    """The variant's name."""
    return f"bfd, {count_text(count)} routes load from each of two leaves"


def restart_case(count: int) -> str:
    """The variant's name."""
    return f"bfd, daemon with {count_text(count)} routes restarts {RESTARTS} times"


def jobs(options: Options) -> Iterator[Job]:
    """A load, busy cores, and (where BFD is a process of its own that outlives the daemon) restarts."""
    (count, *_) = options.sizes_or((1_000_000,), (10_000,))
    routes = RouteSet(count=count)
    for contestant in options.wanted():
        yield Job(case=load_case(count), contestant=contestant, run=partial(run, contestant, partial(_load, routes)))
        duration_s = 5.0 if options.quick else 20.0
        yield Job(case=BUSY, contestant=contestant, run=partial(run, contestant, partial(_busy, duration_s)))
        if contestant in (peers.BGPD, peers.PLAIN):
            restarted = RouteSet(count=min(count, 100_000))
            case = restart_case(restarted.count)
            yield Job(case=case, contestant=contestant, run=partial(run, contestant, partial(_restart, restarted)))


def run(contestant: str, under: Callable[[Bench], None]) -> Figures:
    """Watches both leaves while something happens."""
    with bench(contestant, leaves=2, restart_time_s=120, bfd=True) as ready:
        leaves = enumerate(ready.topology.leaf_namespaces)
        watches = [BfdPackets(leaf, f"10.0.{number}.1") for number, leaf in leaves]
        time.sleep(1.0)
        under(ready)
        time.sleep(1.0)
        return gap_figures([watch.stop() for watch in watches])


def _load(routes: RouteSet, ready: Bench) -> None:
    ready.load(routes)


def _busy(duration_s: float, ready: Bench) -> None:
    others = [subprocess.Popen([sys.executable, "-c", _SPIN]) for _ in range(2 * (os.cpu_count() or 1))]
    try:
        time.sleep(duration_s)
    finally:
        for other in others:
            other.kill()
            other.wait()


def _restart(routes: RouteSet, ready: Bench) -> None:
    """The leaves send the same routes again each time."""
    ready.load(routes)
    for _ in range(RESTARTS):
        ready.daemon.kill()
        ready.daemon.restart()
        for leaf in ready.topology.leaves:
            leaf.ask("established")
        ready.send("table")
        ready.finish()
        time.sleep(1.0)
