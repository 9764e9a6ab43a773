"""Convergence: what a fresh start still waits for, and for how long at most."""

from __future__ import annotations

import pytest

from bgpd.model.iana import Family
from bgpd.model.path import Source, SourceKind
from bgpd.readiness import CONVERGENCE_CAP_S, ESTABLISH_WAIT_S, not_converged

LEAF1 = Source(name="leaf1", kind=SourceKind.EBGP)
AWAITED = [(LEAF1, Family.IPV4_UNICAST)]


def waits_for(
    age_s: float,
    *neighbors: tuple[str, bool],
    synchronised: bool = True,
    awaiting: list[tuple[Source, Family]] | None = None,
) -> str:
    return not_converged(age_s, synchronised=synchronised, neighbors=neighbors, awaiting=awaiting or [])


def test_workloads_come_first_however_long_they_take() -> None:
    assert "workload" in waits_for(0, synchronised=False)
    assert "workload" in waits_for(1000, ("leaf1", True), synchronised=False)


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
