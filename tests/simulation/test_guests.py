"""Guests in the simulation: the checks find faults that are planted in bgpd, and none where there is none."""

from __future__ import annotations

import msgspec
import pytest

from bgpd.model.workload import NO_COMMUNITIES
from bgpd.simulation import guests
from bgpd.simulation.guests import EVERYWHERE, address_of, name_of
from bgpd.simulation.router import Style
from bgpd.simulation.run import run
from bgpd.simulation.scenario import Event, Kind, Scenario
from bgpd.simulation.seeds import usual_scenario_of
from tests.simulation.__main__ import quietly


@pytest.fixture(autouse=True)
def quiet() -> None:
    quietly()


USUAL = usual_scenario_of(0)
SHAPE = msgspec.structs.replace(USUAL.shape, hosts=2, styles=(Style(), Style()), guests=2)
FIRST = name_of(0, 0)


def of(*events: Event, guests: int = 2, is_gentle: bool = False) -> Scenario:
    """Two hosts with guests, and one round of events."""
    shape = msgspec.structs.replace(SHAPE, guests=guests)
    return msgspec.structs.replace(USUAL, shape=shape, claims=(), rounds=(events,), is_gentle=is_gentle)


WITHDRAWN = of(Event(at_s=0, kind=Kind.GUEST_WITHDRAWS, host="host0", leaf=FIRST, address=EVERYWHERE))
SHARED = of(Event(at_s=0, kind=Kind.GUEST_WITHDRAWS, host="host0", leaf=FIRST, address=address_of(0, 0)))
DEAD = of(Event(at_s=0, kind=Kind.GUEST_DIES, host="host0", leaf=FIRST))
DEAF = of(Event(at_s=0, kind=Kind.GUEST_HANGS, host="host0", leaf=FIRST, value=1))
KEPT = msgspec.structs.replace(DEAF, shape=msgspec.structs.replace(SHAPE, guests_communities="keep"))
NARROWED = of(Event(at_s=0, kind=Kind.RELOAD_GUESTS, host="host0", value=1))
RESTARTED = of(
    Event(at_s=0, kind=Kind.GUEST_RESTARTS_GRACEFULLY, host="host0", leaf=FIRST, value=3),
    Event(at_s=20, kind=Kind.RESTART, host="host0", value=0.5),
    Event(at_s=40, kind=Kind.HAND_OVER, host="host0", value=0.1),
    guests=1,
    is_gentle=True,
)


@pytest.mark.parametrize("scenario", [WITHDRAWN, SHARED, DEAD, DEAF, KEPT, NARROWED, RESTARTED])
def test_nothing_is_found_without_a_fault(scenario: Scenario) -> None:
    assert run(scenario).found == ()


@pytest.mark.parametrize(
    ("what", "scenario", "says"),
    [
        ("bgpd.workload.guest_source.GuestSource.routes_changed", WITHDRAWN, "which owns"),
        ("bgpd.workload.guest_source.GuestSource._hop", SHARED, "not to its guests 10.127.0.3"),
        ("bgpd.rib.rib.Rib.guest_paths", DEAD, "which owns"),
    ],
)
def test_planted_faults_are_found(what: str, scenario: Scenario, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(what, lambda *_arguments, **_options: None)
    assert says in "\n".join(run(scenario).found)


def test_communities_of_guests_that_are_left_out_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bgpd.workload.guest_source._communities", lambda _path: NO_COMMUNITIES)
    assert "of a guest of host0 as" in "\n".join(run(KEPT).found)


@pytest.mark.parametrize(("number", "others"), [(0, True), (1, False)])
def test_what_guests_may_announce(number: int, others: bool) -> None:
    (guest,) = guests.configs(0, 1)
    config = msgspec.structs.replace(guest, prefixes=guests.PERMITTED[number])
    assert guests.is_permitted(config, address_of(3, 0))
    assert guests.is_permitted(config, EVERYWHERE)
    assert guests.is_permitted(config, address_of(3, 1)) is others
    assert guests.is_permitted(config, address_of(3, 1, is_v6=True)) is others
