"""Hand-over: `bgpd upgrade` over a full table; how long neighbors are not heard, and until it has compared itself.

Only bgpd does it. The process becomes the next one, so that its processor time and memory go on.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import peers
from benchmarks.internet_table import InternetTable
from benchmarks.measurement import LOAD_TIMEOUT_S, Bench, Figures, Job, Options, count_text
from benchmarks.topology import Topology
from labs.daemons import Bgpd
from labs.process import wait_until

_LEFT, _HEARD, _COMPLETE, _COMPARED = "handover.left", "handover.heard", "handover.complete", "fib.compared"


def jobs(options: Options) -> Iterator[Job]:
    """By size, with the attributes of the Internet's table."""
    for count in options.sizes_or((100_000, 1_000_000), (20_000,)):
        for contestant in options.wanted():
            if contestant in (peers.BGPD, peers.PLAIN):
                run_one = partial(run, contestant, InternetTable(count=count))
                yield Job(case=f"handover {count_text(count)}", contestant=contestant, run=run_one)


def run(contestant: str, routes: InternetTable) -> Figures:
    """From when the process reads no more until the next one reads, until that has all routes, and until it has
    compared its table."""
    with Topology(leaves=2) as topology:
        running = peers.start_bgpd(topology, name=contestant, level="info")
        try:
            for leaf in topology.leaves:
                leaf.ask("established")
            Bench(topology=topology, daemon=running).load(routes)
            before = running.usage()
            daemon = running.daemon
            assert isinstance(daemon, Bgpd)
            daemon.cli("upgrade")
            log = daemon.log_path
            wait_until(lambda: bool(events_of(log, _COMPARED)), LOAD_TIMEOUT_S, "the comparison", logs=[log])
            return figures(log) | {"resident_before_mb": before.resident_mb, "resident_mb": running.usage().resident_mb}
        finally:
            running.kill()


def figures(log: Path) -> dict[str, float]:
    """What the log of the daemon says of its hand-over."""
    (left,), (heard,), (complete,), (compared,) = (
        events_of(log, name) for name in (_LEFT, _HEARD, _COMPLETE, _COMPARED)
    )
    began = left["timestamp"] - left["seconds"]
    return {
        "seconds": compared["timestamp"] - began,
        "until_heard_s": heard["seconds"],
        "until_complete_s": complete["seconds"],
        "leaving_s": left["seconds"],
    }


def events_of(log: Path, name: str) -> list[dict[str, Any]]:
    """The lines of one event in a log of JSON."""
    lines = [line for line in log.read_text().splitlines() if line.startswith("{") and name in line]
    return [one for one in map(json.loads, lines) if one["event"] == name]
