"""python -m benchmarks.fabric_size: how long simulated fabrics take, and how many UPDATEs, by the number of hosts.

Nothing of it but `cpu_s` depends on the machine: times are simulated, and the same run gives the same. Each size runs
in a process of its own; results are kept in docs/fabric-size.json, and drawn into docs/fabric-size.svg.

    python -m benchmarks.fabric_size [--hosts 10,40,...] [--workloads N]
    python -m benchmarks.fabric_size --chart
"""

from __future__ import annotations

import argparse
import asyncio
import math
import os
import random
import resource
import subprocess
import sys
import time
from pathlib import Path

import msgspec

from bgpd.simulation import checks
from bgpd.simulation.fabric import Fabric
from bgpd.simulation.loop import scratch, simulated_time
from bgpd.simulation.racks import Size, large_fabric

DOCS = Path(__file__).parent.parent / "docs"
RESULTS = DOCS / "fabric-size.json"
HOSTS = (10, 20, 40, 80, 160, 320, 640, 1280, 2560)
WORKLOADS = 10
HASH_SEED = "0"
START_S, SHORT_S, REST_S = 15.0, 5.0, 30.0
"""How long the fabric is left alone after the start, a lost link, and a dead leaf: longer than each takes, and than
nexthop groups are kept that nobody uses any more."""


class Event(msgspec.Struct, kw_only=True):
    """Simulated seconds until nothing changed any more, and the UPDATEs of all nodes."""

    seconds: float
    updates: int


class Result(msgspec.Struct, kw_only=True):
    """Of one size. `cpu_s`, `memory_mb`: what the run took on the machine. `wrong`: what a check found."""

    hosts: int
    leaves: int
    spines: int
    workloads: int
    start: Event
    link: Event
    leaf: Event
    cpu_s: float
    memory_mb: int
    wrong: list[str]


class _Measured:
    """When a fabric has changed last, and how many UPDATEs it has sent."""

    def __init__(self, fabric: Fabric) -> None:
        self._fabric = fabric
        self._changed_at = fabric.loop.now
        self._stacks = [one.stack for one in (*fabric.hosts.values(), *fabric.routers.values())]
        fabric.noted = self._noted

    def _noted(self) -> None:
        self._changed_at = self._fabric.loop.now

    def updates(self) -> int:
        return sum(stack.updates for stack in self._stacks)

    async def event(self, seconds: float, *, began: float, updates: int) -> Event:
        """Of what has just begun."""
        await asyncio.sleep(seconds)
        last = max(self._changed_at, *(stack.updated_at for stack in self._stacks))
        return Event(seconds=round(max(last - began, 0.0), 3), updates=self.updates() - updates)


def measure(size: Size) -> Result:
    """Start a fabric, pull one cable of a host, have a leaf die without a word; and check all."""
    random.seed(1)
    chance = random.Random(1)
    with (
        simulated_time(chance, slow_looks=0.0) as loop,
        scratch() as directory,
    ):
        made = loop.run_until_complete(_measured(size, loop, chance, Path(directory)))
    return Result(
        hosts=size.hosts,
        leaves=size.leaves,
        spines=size.spines,
        workloads=size.workloads,
        start=made[0],
        link=made[1],
        leaf=made[2],
        cpu_s=round(time.process_time(), 1),
        memory_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        wrong=made[3],
    )


async def _measured(
    size: Size, loop: object, chance: random.Random, directory: Path
) -> tuple[Event, Event, Event, list[str]]:
    fabric = large_fabric(size, loop, chance=chance, directory=directory)  # type: ignore[arg-type]
    measured = _Measured(fabric)
    began, updates = fabric.loop.now, 0
    fabric.start()
    start = await measured.event(START_S, began=began, updates=updates)
    began, updates = fabric.loop.now, measured.updates()
    fabric.set_link(("leaf0", "host0"), up=False)
    link = await measured.event(SHORT_S, began=began, updates=updates)
    began, updates = fabric.loop.now, measured.updates()
    fabric.routers["leaf1"].crash()
    leaf = await measured.event(REST_S, began=began, updates=updates)
    return start, link, leaf, checks.findings(fabric)


# The chart

_WIDTH, _HEIGHT, _LEFT, _TOP, _PANEL, _FLOOR = 760, 330, 60, 50, 280, 240
_GAP = 90
_NUMBER = 38
"""Wide enough for a number of hosts: where two are nearer, only one is written."""
_STYLE = """
text { font: 12px system-ui, sans-serif; fill: #1f2328; }
.middle { text-anchor: middle; } .end { text-anchor: end; } .title { font-size: 14px; }
.ground { fill: #f6f8fa; stroke: #d0d7de; }
.axis { stroke: #57606a; } .grid { stroke: #d0d7de; }
polyline { fill: none; stroke-width: 2; }
.start { stroke: #0550ae; }
.link { stroke: #1a7f37; stroke-dasharray: 7 3; }
.leaf { stroke: #cf222e; stroke-dasharray: 2 3; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3; }
  .ground { fill: #161b22; stroke: #3d444d; }
  .axis { stroke: #9198a1; } .grid { stroke: #3d444d; }
  .start { stroke: #79c0ff; } .link { stroke: #3fb950; } .leaf { stroke: #f85149; }
}
"""
_EVENTS = {"start": "start of all", "link": "a host loses a link", "leaf": "a leaf dies silently"}


def chart(results: list[Result]) -> str:
    """Both panels as SVG: seconds and UPDATEs by hosts, all axes logarithmic."""
    words = "Simulated fabrics by their number of hosts: seconds until settled, and UPDATEs sent"
    parts = [f'<rect class="ground" x="1" y="1" width="{_WIDTH - 2}" height="{_HEIGHT - 2}" rx="6"/>']
    seconds = {key: [max(getattr(one, key).seconds, 0.001) for one in results] for key in _EVENTS}
    updates = {key: [max(getattr(one, key).updates, 1) for one in results] for key in _EVENTS}
    hosts = [one.hosts for one in results]
    parts += _panel(_LEFT, "seconds until nothing changes any more", hosts, seconds)
    parts += _panel(_LEFT + _PANEL + _GAP, "UPDATEs that all nodes send", hosts, updates)
    for number, (key, text) in enumerate(_EVENTS.items()):
        x, y = _LEFT + 230 * number, _HEIGHT - 20
        parts.append(f'<polyline class="{key}" points="{x},{y - 4} {x + 40},{y - 4}"/>')
        parts.append(f'<text x="{x + 48}" y="{y}">{text}</text>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{words}">\n'
        f"<title>{words}</title>\n<style>{_STYLE}</style>\n" + "\n".join(parts) + "\n</svg>\n"
    )


def _panel(left: int, title: str, hosts: list[int], lines: dict[str, list[float]]) -> list[str]:
    ticks = _ticks([value for values in lines.values() for value in values])
    parts = [f'<text class="title" x="{left - 40}" y="28">{title}</text>']
    for tick in ticks:
        y = _at(tick, ticks, _FLOOR, _TOP)
        parts.append(f'<line class="grid" x1="{left}" x2="{left + _PANEL}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text class="end" x="{left - 6}" y="{y + 4}">{tick:,.10g}</text>')
    ends = [min(hosts), max(hosts)]
    last = math.inf
    for host in reversed(hosts):
        x = _at(host, ends, left, left + _PANEL)
        parts.append(f'<line class="axis" x1="{x}" x2="{x}" y1="{_FLOOR}" y2="{_FLOOR + 4}"/>')
        if last - x >= _NUMBER:
            parts.append(f'<text class="middle" x="{x}" y="{_FLOOR + 18}">{host:,}</text>')
            last = x
    parts.append(f'<line class="axis" x1="{left}" x2="{left + _PANEL}" y1="{_FLOOR}" y2="{_FLOOR}"/>')
    parts.append(f'<text class="middle" x="{left + _PANEL / 2}" y="{_FLOOR + 38}">hosts</text>')
    for key, values in lines.items():
        across = [_at(host, ends, left, left + _PANEL) for host in hosts]
        points = " ".join(f"{x},{_at(value, ticks, _FLOOR, _TOP)}" for x, value in zip(across, values))
        parts.append(f'<polyline class="{key}" points="{points}"/>')
    return parts


def _ticks(values: list[float]) -> list[float]:
    """Powers of ten around all values."""
    low, high = 0.001, 1.0
    while low * 10 <= min(values):
        low *= 10
    while high < max(values):
        high *= 10
    ticks = [low]
    while ticks[-1] < high * 0.99:
        ticks.append(ticks[-1] * 10)
    return [float(f"{tick:g}") for tick in ticks]


def _at(value: float, ends: list[int] | list[float], first: float, last: float) -> float:
    """Where a value stands on an axis."""
    whole = math.log(ends[-1] / ends[0]) or 1.0
    return round(first + (last - first) * math.log(value / ends[0]) / whole, 1)


def table(results: list[Result]) -> str:
    """The same as a table of Markdown."""
    rows = [
        "| hosts | leaves | addresses | start | a host loses a link | a leaf dies | processor |",
        "|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for one in results:
        events = " | ".join(f"{event.seconds:.2f} s, {event.updates:,}" for event in (one.start, one.link, one.leaf))
        rows.append(f"| {one.hosts:,} | {one.leaves} | {one.hosts * one.workloads:,} | {events} | {one.cpu_s:.0f} s |")
    return "\n".join(rows)


def read() -> list[Result]:
    """What was measured, by the number of hosts."""
    found = msgspec.json.decode(RESULTS.read_bytes(), type=list[Result]) if RESULTS.exists() else []
    return sorted(found, key=lambda one: (one.hosts, one.workloads))


def drawn() -> list[Result]:
    """What the chart has: a size with more workloads than the others would be a notch in its lines."""
    return [one for one in read() if one.workloads <= WORKLOADS]


def main(arguments: list[str]) -> int:
    """The exit status: 1 if a check found something."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fabric_size", description="Sizes of simulated fabrics.")
    parser.add_argument("--hosts", default=",".join(map(str, HOSTS)), help="numbers of hosts, with commas between")
    parser.add_argument("--workloads", type=int, default=WORKLOADS, help="of each host")
    parser.add_argument("--chart", action="store_true", help="only draw what was measured before, and print the table")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    sizes = [Size(hosts=int(hosts), workloads=chosen.workloads) for hosts in chosen.hosts.split(",")]
    if chosen.one:
        print(msgspec.json.encode(measure(sizes[0])).decode())
        return 0
    results = {(one.hosts, one.workloads): one for one in read()}
    for size in sizes if not chosen.chart else ():
        command = [sys.executable, "-m", "benchmarks.fabric_size", "--one", "--hosts", str(size.hosts)]
        command += ["--workloads", str(size.workloads)]
        environment = {**os.environ, "PYTHONHASHSEED": HASH_SEED}
        done = subprocess.run(command, env=environment, check=True, capture_output=True)
        made = results[size.hosts, size.workloads] = msgspec.json.decode(done.stdout.splitlines()[-1], type=Result)
        print(made, flush=True)
        RESULTS.write_bytes(msgspec.json.format(msgspec.json.encode(list(results.values())), indent=1) + b"\n")
    (DOCS / "fabric-size.svg").write_text(chart(drawn()))
    print(table(read()))
    return 1 if any(one.wrong for one in results.values()) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
