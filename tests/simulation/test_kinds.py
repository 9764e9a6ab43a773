"""Tenants, services, feeds and BFD in the simulation: its checks find faults that are planted in bgpd."""

from __future__ import annotations

import msgspec
import pytest

from bgpd.simulation.bfd_seeds import DETECTION_S
from bgpd.simulation.run import run
from bgpd.simulation.scenario import Event, Kind, Scenario
from bgpd.simulation.seeds import usual_scenario_of
from tests.simulation.__main__ import quietly


@pytest.fixture(autouse=True)
def quiet() -> None:
    quietly()


BARE = msgspec.structs.replace(
    usual_scenario_of(0),
    shape=msgspec.structs.replace(usual_scenario_of(0).shape, hosts=2, is_unnumbered=False),
    claims=(),
    rounds=(),
)


def of(shape: dict[str, object], *events: Event, **fields: object) -> Scenario:
    """Two hosts with one round of events."""
    return msgspec.structs.replace(
        BARE, shape=msgspec.structs.replace(BARE.shape, **shape), rounds=(events,) if events else (), **fields
    )


MACHINES = (("host0", "blue", "10.64.0.1/32"), ("host1", "blue", "10.64.1.1/32"))
VRFS = of({"tenants": 2}, machines=MACHINES)
RULES = of({"tenants": 2, "has_vrf_devices": False}, machines=MACHINES)
MOVED = of(
    {"tenants": 2},
    Event(at_s=0, kind=Kind.MACHINE_MOVES, host="host1", tenant="blue", address="10.64.0.1/32", value=5),
    machines=MACHINES,
)
TWICE = of(
    {"tenants": 1},
    Event(at_s=0, kind=Kind.MACHINE_STARTS, host="host1", tenant="blue", address="10.64.0.1/32"),
    machines=MACHINES,
)
ENDED = of(
    {"tenants": 1},
    Event(at_s=0, kind=Kind.MACHINE_ENDS, host="host0", tenant="blue", address="10.64.0.1/32"),
    machines=MACHINES,
)
OFFERED = (("host0", "10.65.0.1/32", 1), ("host1", "10.65.0.1/32", 1))
SICK = of({}, Event(at_s=0, kind=Kind.BACKEND_SICK, host="host0"), services=OFFERED)
LAST_DRAINED = of(
    {},
    Event(at_s=0, kind=Kind.DRAIN_SERVICES, host="host0"),
    services=OFFERED[:1],
)
FED = (("host0", "10.66.0.1/32"), ("host0", "10.66.0.2/32"))
HALF = of({"has_feed": True}, Event(at_s=0, kind=Kind.FEED_SAYS_HALF), fed=FED, is_gentle=True)
OLD = of(
    {"has_feed": True},
    Event(at_s=0, kind=Kind.FEED_PUTS, host="host0", address="10.66.0.3/32"),
    Event(at_s=2, kind=Kind.FEED_SAYS_OLD, value=0),
    fed=FED,
)
MISSED = of(
    {"has_feed": True},
    Event(at_s=0, kind=Kind.BROKER_FORGETS, value=3),
    Event(at_s=1, kind=Kind.FEED_DELETES, host="host0", address="10.66.0.1/32"),
    fed=FED,
)
DEAD = of(
    {"bfd": "loose"},
    Event(at_s=0, kind=Kind.LEAF_DIES, leaf="leaf0", host="host0"),
    claims=(("host0", "10.64.0.1/32"), ("host1", "10.64.1.1/32")),
    is_gentle=True,
    bound_s=DETECTION_S + 1.0,
)
BFD_ANEW = of({"bfd": "strict"}, Event(at_s=0, kind=Kind.BFD_RESTARTS, host="host0", value=5), is_gentle=True)


@pytest.mark.parametrize(
    "scenario", [VRFS, RULES, MOVED, TWICE, ENDED, SICK, LAST_DRAINED, HALF, OLD, MISSED, DEAD, BFD_ANEW]
)
def test_nothing_is_found_without_a_fault(scenario: Scenario) -> None:
    assert run(scenario).found == ()


@pytest.mark.parametrize(
    ("what", "scenario", "says"),
    [
        ("bgpd.evpn.originate.Originator._withdraw", ENDED, "and should have"),
        ("bgpd.evpn.originate.Originator.uplinks_changed", VRFS, "and should have"),
        ("bgpd.evpn.endpoints.Endpoints.remote_changed", TWICE, "is announced by"),
        ("bgpd.fib.vrfs.KernelVrfs.set_interfaces", VRFS, "is looked up in table 254"),
        ("bgpd.fib.vrfs.KernelVrfs._keep_connected", RULES, "172.20."),
        ("bgpd.workload.service.services.Services.check_result", SICK, "to 10.65.0.1/32 of"),
        ("bgpd.workload.feed.generations.Generations._apply", MISSED, "which owns"),
        ("bgpd.speaker.neighbor.Neighbor.path_failed", DEAD, "after 4.2 s"),
    ],
)
def test_planted_faults_are_found(what: str, scenario: Scenario, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(what, lambda *_arguments, **_options: None)
    assert says in "\n".join(run(scenario).found)


def test_a_drain_that_takes_the_last_announcer_away_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bgpd.rib.drained.DrainedRoutes.is_last", lambda *_arguments: False)
    assert "10.65.0.1/32" in "\n".join(run(LAST_DRAINED).found)


def test_an_incomplete_generation_that_deletes_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bgpd.workload.feed.generations.Generations.complete", property(lambda _self: True))
    assert "10.66.0." in "\n".join(run(HALF).found)
