"""Link bandwidths in the simulation: what packets are spread by, and that the checks find faults that are planted."""

from __future__ import annotations

import msgspec
import pytest

from bgpd.rib.next_hops import unweighted
from bgpd.simulation import bandwidths
from bgpd.simulation.offers import PLAIN
from bgpd.simulation.router import Style
from bgpd.simulation.run import run
from bgpd.simulation.scenario import Event, Kind, Scenario
from bgpd.simulation.seeds import usual_scenario_of
from tests.simulation.__main__ import quietly


@pytest.fixture(autouse=True)
def quiet() -> None:
    quietly()


USUAL = usual_scenario_of(0)
SHAPE = msgspec.structs.replace(USUAL.shape, hosts=2, is_unnumbered=False, styles=(Style(), Style()), bandwidths=(1, 3))
SPREAD = msgspec.structs.replace(USUAL, shape=SHAPE, claims=(), rounds=())
SAID_ANEW = msgspec.structs.replace(
    SPREAD,
    rounds=(
        (Event(at_s=0, kind=Kind.LEAF_SAYS_BANDWIDTH, leaf="leaf0", value=2),),
        (Event(at_s=0, kind=Kind.LEAF_SAYS_BANDWIDTH, leaf="leaf1", value=0),),
    ),
)
TENANTS = msgspec.structs.replace(SPREAD, shape=msgspec.structs.replace(SHAPE, tenants=1, tenants_have_v6=True))
SERVED = msgspec.structs.replace(
    SPREAD,
    services=(("host0", PLAIN, 2), ("host1", PLAIN, 1)),
    rounds=((Event(at_s=0, kind=Kind.BACKEND_SICK, host="host0", value=0),),),
)


@pytest.mark.parametrize("scenario", [SPREAD, SAID_ANEW, TENANTS, SERVED])
def test_nothing_is_found_without_a_fault(scenario: Scenario) -> None:
    assert run(scenario).found == ()


@pytest.mark.parametrize(
    ("scenario", "says"),
    [(SPREAD, "%3 x 1 (target"), (TENANTS, "of blue leads to")],
)
def test_weights_that_are_left_out_are_found(scenario: Scenario, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bgpd.rib.next_hops.weighted", unweighted)
    assert says in "\n".join(run(scenario).found)


def test_service_that_says_nothing_of_its_backends_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bgpd.workload.service.services.Services._bandwidth", lambda *_arguments: 0.0)
    assert "is told None for 10.65.0.1/32 by host0" in "\n".join(run(SERVED).found)


@pytest.mark.parametrize(
    ("units", "shares"),
    [((), ()), ((None,), (1,)), ((3,), (1,)), ((2, 6), (1, 3)), ((2, None), (1, 1)), ((4, 4, 6), (2, 2, 3))],
)
def test_shares_are_the_smallest_whole_numbers(units: tuple[int | None, ...], shares: tuple[int, ...]) -> None:
    assert tuple(bandwidths.shares(dict(enumerate(units))).values()) == shares


def test_community_says_the_units_back() -> None:
    assert bandwidths.community(65001, 3) == bytes.fromhex("0004fde948b71b00")
    assert bandwidths.said((bytes(8), bandwidths.community(4_200_000_000, 3))) == 3
    assert bandwidths.said(()) is None
