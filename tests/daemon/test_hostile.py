"""Hostile and broken leaves, bounded: whatever leaf1 does, leaf2's session stays and its routes go to the kernel.

The measured form takes minutes (`long`); with HOSTILE_RECORD=1 it writes the table of docs/hostile-neighbors.md.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import statistics
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import bgpd
from benchmarks.usage import ran_s
from tests.daemon.fabric import Fabric, Host, config, kernel_hops, leaf, started, table
from tests.daemon.hostile import SCENARIOS, STRANGERS, Play, Scenario
from tests.daemon.route_block import RouteBlock
from tests.daemon.wire_peer import WirePeer, update

pytestmark = pytest.mark.netns

MIB = 1 << 20
MOST = 160 * MIB
"""Memory that leaf1 may cost at any time: 16 MiB of attributes are permitted, 60,000 prefixes, and 64 KiB messages."""
ROUTES = 2_000
PAIRS = 3
LIMITS = {"max_prefixes": 60_000, "max_attribute_bytes": 16 * MIB}
PAGE = Path(__file__).parents[2] / "docs" / "hostile-neighbors.md"
BEGIN, END = "<!-- costs: begin -->", "<!-- costs: end -->"
SLOWER_BEGIN, SLOWER_END = "<!-- slower: begin -->", "<!-- slower: end -->"


class Cost(NamedTuple):
    """Units that were done, the daemon's processor time in seconds, the memory that it took at most, and the longest
    time for which its loop was held since its start, in processor time."""

    units: int
    ran_s: float
    memory: int
    hold_s: float


class Ground:
    """The host, its good leaf2, and how often leaf1 was let loose: a limit that is raised lets a refused one back."""

    def __init__(self, fabric: Fabric, host: Host, leaf2: WirePeer) -> None:
        self.fabric = fabric
        self.host = host
        self.played = 0
        self._good = leaf2.establish()
        self._routes = 0

    def tables(self) -> tuple[str, ...]:
        limits = {name: value + self.played for name, value in LIMITS.items()}
        return (leaf(1, families=["ipv4-unicast"], **limits), *OTHERS)

    def let_loose(self, scenario: Scenario, count: int) -> Cost:
        host, done = self.host, []
        self._let_back()
        before, established = resident(host), host.neighbor("leaf2")["established_count"]
        Path(f"/proc/{host.pid}/clear_refs").write_text("5")
        ran = ran_s([host.pid])
        with WirePeer(self.fabric.leaf1) as peer:
            play = Play(self.fabric.leaf1, peer, count, self._await_read)
            thread = threading.Thread(target=lambda: done.append(scenario.play(play)))
            thread.start()
            while not self._leaf2_is_heard(thread):
                pass
        host.wait(lambda: "leaf1" not in host.established(), "leaf1's end", timeout_s=60)
        host.wait(lambda: not host.get("routes", neighbor="leaf1"), "its routes to go", timeout_s=60)
        assert scenario.reason in host.neighbor("leaf1")["last_error"]
        view = host.neighbor("leaf2")
        assert (view["state"], view["established_count"]) == ("established", established)
        assert done, "the scenario failed: its error is in the test's output"
        hold_s = host.metric("bgpd_loop_stall_cpu_seconds")
        return Cost(done[0], ran_s([host.pid]) - ran, max(0, peak(host) - before), hold_s)

    def _let_back(self) -> None:
        """leaf1's sessions begin anew, with limits that have not been reached yet."""
        if self.played:
            self.host.write_config(config(*self.tables()))
            self.host.cli("reload")
        self.played += 1

    def slower(self, scenario: Scenario) -> float:
        """How many times as much processor time the daemon takes until leaf2's routes are in the kernel as it takes
        while leaf1 does nothing: the median of pairs."""
        with RouteBlock(self.fabric.host, self._good, asn=65202, next_hop="10.0.2.2") as block:
            block.comes_and_goes(self.host.pid)
            return statistics.median(self._slower_once(scenario, block) for _ in range(PAIRS))

    def _slower_once(self, scenario: Scenario, block: RouteBlock) -> float:
        """leaf2's routes come while leaf1 does nothing, then again and again while it does its worst."""
        self._let_back()
        quiet = block.comes_and_goes(self.host.pid)
        busy = []
        with WirePeer(self.fabric.leaf1) as peer:
            play = Play(self.fabric.leaf1, peer, scenario.some or scenario.many, self._await_read)
            thread = threading.Thread(target=scenario.play, args=(play,))
            thread.start()
            while thread.is_alive():
                busy.append(block.comes_and_goes(self.host.pid))
        self.host.wait(lambda: "leaf1" not in self.host.established(), "leaf1's end", timeout_s=60)
        self.host.wait(lambda: not self.host.get("routes", neighbor="leaf1"), "its routes to go", timeout_s=60)
        return statistics.median_high(busy) / quiet

    def _leaf2_is_heard(self, thread: threading.Thread) -> bool:
        """A route of leaf2 more is in the kernel; whether leaf1 is at its end."""
        is_over = not thread.is_alive()
        self._routes += 1
        prefix = f"10.9.{self._routes % 256}.0/24"
        self._good.sendall(update((prefix,), asn=65202, next_hop="10.0.2.2"))
        self.host.wait(lambda: kernel_hops(self.fabric.host, prefix) == ["10.0.2.2%eth1"], prefix, timeout_s=60)
        thread.join(0.2)
        return is_over

    def _await_read(self, messages: int) -> object:
        return self.host.wait(
            lambda: self.host.neighbor("leaf1")["messages_received"] >= messages, "all to be read", timeout_s=300
        )


OTHERS = (leaf(2, families=["ipv4-unicast"]), table("[workload.kernel]", interfaces=["pod*"]))


def resident(host: Host) -> int:
    return _memory(host, "VmRSS:")


def peak(host: Host) -> int:
    return _memory(host, "VmHWM:")


def _memory(host: Host, field: str) -> int:
    """Of /proc/PID/status, in bytes."""
    status = Path(f"/proc/{host.pid}/status").read_text()
    return 1024 * int(next(line.split()[1] for line in status.splitlines() if line.startswith(field)))


@pytest.fixture(scope="module")
def crowded(fabric: Fabric) -> Fabric:
    """The host has routes to announce, and leaf1 the addresses of strangers."""
    lines = [f"route add 10.64.{number >> 8}.{number & 255}/32 dev pod1 proto 99" for number in range(ROUTES)]
    fabric.host.batch("link set pod1 up", *lines)
    fabric.leaf1.batch(*(f"address add {address}/24 dev swp1" for address in STRANGERS))
    return fabric


@contextlib.contextmanager
def on_ground(fabric: Fabric) -> Iterator[Ground]:
    first = leaf(1, families=["ipv4-unicast"], **LIMITS)
    with WirePeer(fabric.leaf2, "10.0.2.2", asn=65202) as leaf2, started(fabric, first, *OTHERS) as host:
        yield Ground(fabric, host, leaf2)


@pytest.fixture(scope="module")
def ground(crowded: Fabric) -> Iterator[Ground]:
    with on_ground(crowded) as ground:
        yield ground


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_what_one_leaf_does_costs_the_other_nothing(ground: Ground, scenario: Scenario) -> None:
    assert ground.let_loose(scenario, scenario.few).memory < MOST


@pytest.mark.long
def test_costs_are_bounded_where_it_goes_on(crowded: Fabric) -> None:
    """Each of a daemon that has just started."""
    rows = []
    for scenario in SCENARIOS:
        with on_ground(crowded) as ground:
            cost = ground.let_loose(scenario, scenario.many)
        assert cost.memory < MOST, scenario.name
        rows.append(_row(scenario, cost))
    if os.environ.get("HOSTILE_RECORD"):
        table_head = (
            "| what leaf1 does | how much | processor time | for each | longest hold | memory | how it ends |\n"
        )
        record(BEGIN, END, table_head + "|---|---:|---:|---:|---:|---:|---|\n" + "".join(rows))


@pytest.mark.long
def test_routes_of_the_other_leaf_come_while_it_goes_on(crowded: Fabric) -> None:
    rows = []
    for scenario in SCENARIOS:
        with on_ground(crowded) as ground:
            rows.append(f"| {scenario.name} | {ground.slower(scenario):.1f} |\n")
    if os.environ.get("HOSTILE_RECORD"):
        record(SLOWER_BEGIN, SLOWER_END, "| what leaf1 does | times as much |\n|---|---:|\n" + "".join(rows))


def record(begin: str, end: str, rows: str) -> None:
    """Write a table between these marks of the page."""
    head, _, rest = PAGE.read_text().partition(begin)
    today = datetime.datetime.now(tz=datetime.UTC).date().isoformat()
    told = f"{today}, bgpd {bgpd.__version__}, Linux {os.uname().release}, {os.cpu_count()} cores, plain Python.\n\n"
    PAGE.write_text(f"{head}{begin}\n{told}{rows}{end}{rest.partition(end)[2]}")


def _row(scenario: Scenario, cost: Cost) -> str:
    each = cost.ran_s / cost.units
    for_each = f"{1e6 * each:,.0f} µs" if each < 0.001 else f"{1e3 * each:,.1f} ms"
    how_much = f"{cost.units:,} {scenario.units}{'s' if cost.units != 1 else ''}"
    bounds = f"{1e3 * cost.hold_s:.0f} ms | {cost.memory / MIB:.0f} MiB"
    return f"| {scenario.name} | {how_much} | {cost.ran_s:.2f} s | {for_each} | {bounds} | {scenario.ends} |\n"
