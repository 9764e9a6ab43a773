"""Readiness: what a fresh start still waits for, for how long at most, and why a host may not be relied on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from bgpd.journal.journal import Journal
from bgpd.log import EventRing
from bgpd.model.iana import Family
from bgpd.model.source import Source, SourceKind
from bgpd.readiness import (
    CONVERGENCE_CAP_S,
    ESTABLISH_WAIT_S,
    PENDING_PATIENCE_S,
    QUIET_S,
    SILENT_S,
    Readiness,
    waits,
)
from bgpd.runtime.descriptors import Shortage
from bgpd.runtime.loop import TimedSelector
from bgpd.trial import Trial

LEAF1 = Source(name="leaf1", kind=SourceKind.EBGP)
AWAITED = [(LEAF1, Family.IPV4_UNICAST)]


def waits_for(
    age_s: float,
    *neighbors: tuple[str, bool],
    synchronised: bool = True,
    awaiting: list[tuple[Source, Family]] | None = None,
    importing: bool = False,
) -> str:
    return next(
        waits(age_s, synchronised=synchronised, neighbors=neighbors, awaiting=awaiting or [], importing=importing),
        ("", None),
    )[0]


def test_all_that_is_waited_for_is_said_with_its_cap() -> None:
    found = waits(
        1, synchronised=False, neighbors=[("leaf1", True), ("leaf2", False)], awaiting=AWAITED, importing=False
    )
    assert list(found) == [
        ("workload sources have not given their first state", None),
        ("neighbor leaf2 is not established", ESTABLISH_WAIT_S),
        ("neighbor leaf1 has not sent End-of-RIB of ipv4-unicast", CONVERGENCE_CAP_S),
    ]


def test_sources_of_workloads_that_are_waited_for_are_named() -> None:
    found = waits(1, synchronised=False, sources=["bgp", "mqtt"], neighbors=[], awaiting=[], importing=False)
    assert next(found) == ("workload sources have not given their first state: bgp, mqtt", None)


def test_workloads_come_first_however_long_they_take() -> None:
    assert "workload" in waits_for(0, synchronised=False)
    assert "workload" in waits_for(1000, ("leaf1", True), synchronised=False)


@pytest.mark.parametrize(
    ("age_s", "is_other_there", "waits_for"),
    [
        (1, True, [("neighbor leaf2 is not established", ESTABLISH_WAIT_S)]),
        (ESTABLISH_WAIT_S, True, []),
        (1000, False, [("neighbor leaf2 is not established", None)]),
    ],
)
def test_neighbor_that_a_hand_over_has_lost_is_waited_for_as_long_as_at_a_start(
    age_s: float, is_other_there: bool, waits_for: list[tuple[str, float | None]]
) -> None:
    """The neighbor whose session went on counts: with it the host is not alone."""
    found = waits(
        age_s,
        synchronised=True,
        neighbors=[("leaf1", is_other_there), ("leaf2", False)],
        gone_on_with={"leaf1"},
        awaiting=[],
        importing=False,
    )
    assert list(found) == waits_for


def test_host_without_neighbors_is_converged_at_once() -> None:
    assert waits_for(0) == ""


def test_one_dead_neighbor_is_not_waited_for_for_ever() -> None:
    neighbors = [("leaf1", True), ("leaf2", False)]
    assert waits_for(ESTABLISH_WAIT_S - 1, *neighbors) == "neighbor leaf2 is not established"
    assert waits_for(ESTABLISH_WAIT_S, *neighbors) == ""


def test_while_no_neighbor_is_established_old_routes_are_kept() -> None:
    assert waits_for(1000, ("leaf1", False), ("leaf2", False)) == "neighbor leaf1 is not established"


@pytest.mark.parametrize(("age_s", "waits"), [(0.0, True), (CONVERGENCE_CAP_S - 1, True), (CONVERGENCE_CAP_S, False)])
def test_end_of_rib_is_waited_for_up_to_a_cap(age_s: float, waits: bool) -> None:
    said = waits_for(age_s, ("leaf1", True), awaiting=AWAITED)
    assert said == ("neighbor leaf1 has not sent End-of-RIB of ipv4-unicast" if waits else "")
    assert bool(waits_for(age_s, ("leaf1", True), importing=True)) is waits


class Parts:
    """What `Readiness` reads of the parts, set by a test."""

    def __init__(self) -> None:
        self.synchronised = True
        self.converged = False
        self.monitor = SimpleNamespace(is_behind=False)
        self.routes = 7
        self.sources: dict[str, Source] = {}
        self.told = 0
        self.awaiting: list[tuple[Source, Family]] = []
        self.sends_end_of_rib = True
        self.received = 0
        self.rib = SimpleNamespace(
            contested=SimpleNamespace(warnings=list),
            received=SimpleNamespace(count=lambda _: self.received, discarded=list),
        )
        self.evpn = SimpleNamespace(is_importing=False)
        self.history = SimpleNamespace(known_from=None)
        self.tables = SimpleNamespace(pending=0, backlog=0, failed=0, warnings=list)
        self.workloads = SimpleNamespace(readiness_changed=self._readiness_changed, errors=list)
        self.speaker = SimpleNamespace(
            hostnames=SimpleNamespace(warnings=list),
            bfd=SimpleNamespace(problem=""),
            error="",
            neighbors=(),
            awaiting_end_of_rib=lambda: self.awaiting,
            sends_end_of_rib=lambda _: self.sends_end_of_rib,
        )

    def converge(self) -> None:
        self.converged = True

    def _readiness_changed(self, reason: str) -> None:
        self.told += 1


@pytest.fixture
def parts() -> Parts:
    return Parts()


def judged(parts: Parts, *, repairing: tuple[str, ...] = (), clock: Callable[[], float] = time.monotonic) -> Readiness:
    readiness = Readiness(
        parts,  # type: ignore[arg-type]
        SimpleNamespace(reasons=lambda: list(repairing)),  # type: ignore[arg-type]
        journal=Journal(None, max_bytes=0, events=EventRing()),
        trial=Trial("/nonexistent", file="bgpd.toml"),
        selector=TimedSelector(),
        shortage=Shortage(),
        hostname="host1",
        clock=clock,
    )
    readiness.neighbors = (SimpleNamespace(name="leaf1"),)  # type: ignore[assignment]
    return readiness


async def reviewed(readiness: Readiness) -> str:
    """The reason after a look, as it is taken when all has started."""
    task = asyncio.get_running_loop().create_task(readiness.run())
    await asyncio.sleep(0)
    task.cancel()
    return readiness.reason


async def test_host_is_not_ready_before_all_parts_run(parts: Parts) -> None:
    readiness = judged(parts)
    assert readiness.reasons() == ["starting"]
    assert not readiness.view().ready


async def test_host_whose_neighbors_said_all_is_ready_and_converges_once(parts: Parts) -> None:
    readiness = judged(parts)
    parts.sources, parts.awaiting = {"leaf1": LEAF1}, AWAITED
    assert await reviewed(readiness) == "not converged: neighbor leaf1 has not sent End-of-RIB of ipv4-unicast"
    assert not parts.converged
    parts.awaiting = []
    assert await reviewed(readiness) == ""
    assert parts.converged
    assert readiness.view().ready
    assert parts.told == 2, "each change of readiness is published"
    await reviewed(readiness)
    assert parts.told == 2


async def test_host_without_an_established_neighbor_is_not_ready(parts: Parts) -> None:
    readiness = judged(parts)
    parts.converged = True
    assert await reviewed(readiness) == "no neighbor is established"


async def test_each_part_that_is_behind_has_its_reason(parts: Parts) -> None:
    readiness = judged(parts, repairing=("2 routes were not as they should be",))
    parts.converged, parts.sources, parts.monitor.is_behind, parts.tables.failed = True, {"leaf1": LEAF1}, True, 3
    reason = await reviewed(readiness)
    assert "events of the kernel were lost" in reason
    assert "2 routes were not as they should be" in reason
    assert "the kernel refused 3 routes" in reason


async def test_routes_may_wait_for_the_kernel_only_so_long(parts: Parts) -> None:
    now = [1000.0]
    readiness = judged(parts, clock=lambda: now[0])
    parts.converged, parts.sources, parts.tables.backlog = True, {"leaf1": LEAF1}, 5
    assert await reviewed(readiness) == ""
    now[0] += PENDING_PATIENCE_S + 1
    assert "wait to be written" in await reviewed(readiness)
    parts.tables.backlog = 0
    assert await reviewed(readiness) == ""


async def test_neighbor_that_need_not_send_end_of_rib_is_waited_for_until_it_is_quiet(parts: Parts) -> None:
    """It has no graceful restart capability (RFC 4724 section 4.1); GoBGP has none by default."""
    now = [1000.0]
    readiness = judged(parts, clock=lambda: now[0])
    parts.sources, parts.awaiting, parts.sends_end_of_rib = {"leaf1": LEAF1}, AWAITED, False
    waits = []
    for after_s, received in ((0.0, 0), (1.0, 100), (2.5, 200), (QUIET_S + 2.4, 200), (QUIET_S + 2.6, 200)):
        parts.received = received
        now[0] = 1000.0 + after_s
        waits.append(bool(await reviewed(readiness)))
    assert waits == [True, True, True, True, False]


@pytest.mark.parametrize(("after_s", "waits"), [(SILENT_S - 0.1, True), (SILENT_S, False)])
async def test_neighbor_that_announces_nothing_is_waited_for_a_little_longer(
    parts: Parts, after_s: float, waits: bool
) -> None:
    now = [1000.0]
    readiness = judged(parts, clock=lambda: now[0])
    parts.sources, parts.awaiting, parts.sends_end_of_rib = {"leaf1": LEAF1}, AWAITED, False
    await reviewed(readiness)
    now[0] += after_s
    assert bool(await reviewed(readiness)) is waits
