"""The simulation itself: it finds faults, finds none where there is none, and shortens what fails."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import msgspec
import pytest

from bgpd.simulation.loop import scratch
from bgpd.simulation.run import run, shortened
from bgpd.simulation.scenario import Event, Kind, Scenario
from bgpd.simulation.seeds import scenario_of
from tests.simulation.__main__ import main, quietly

FOUND = sorted((Path(__file__).parent / "found").glob("*.json"))
"""What was found once, shortened."""


@pytest.fixture(autouse=True)
def quiet() -> None:
    quietly()


@pytest.mark.parametrize("path", FOUND, ids=lambda path: path.stem)
def test_what_was_found_once_is_mended(path: Path) -> None:
    assert run(msgspec.json.decode(path.read_bytes(), type=Scenario)).found == ()


def test_run_does_not_depend_on_what_it_takes_of_a_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    quick = run(RELEASED).digest
    taken = itertools.count()
    monkeypatch.setattr("time.thread_time", lambda: 0.005 * next(taken))
    assert run(RELEASED).digest == quick


# The checks themselves

TWO_HOSTS = msgspec.structs.replace(
    scenario_of(0),
    shape=msgspec.structs.replace(scenario_of(0).shape, hosts=2),
    claims=(("host0", "10.64.0.1/32"), ("host1", "10.64.1.1/32")),
    rounds=(),
)


def happening(*events: tuple[Kind, str, str, str]) -> Scenario:
    """Two hosts, and one round of events: kind, host, leaf and address."""
    steps = tuple(
        Event(at_s=float(number), kind=kind, host=host, leaf=leaf, address=address)
        for number, (kind, host, leaf, address) in enumerate(events)
    )
    return msgspec.structs.replace(TWO_HOSTS, rounds=(steps,))


UNDISTURBED = msgspec.structs.replace(TWO_HOSTS, is_gentle=True)
"""No session may end in it."""
RELEASED = happening((Kind.RELEASE, "host0", "leaf0", "10.64.0.1/32"))
CUT = happening((Kind.CUT, "host0", "leaf0", ""))
LEAF_DEAD = happening((Kind.LEAF_DIES, "host0", "leaf1", ""))
EVENTS_LOST = happening((Kind.LOSE_EVENTS, "host0", "", ""), (Kind.CLAIM, "host0", "", "10.64.0.2/32"))


@pytest.mark.parametrize(
    ("what", "scenario", "says"),
    [
        ("bgpd.rib.rib.Rib.withdraw_local", RELEASED, "which owns"),
        ("bgpd.speaker.connection.Connection._restart_keepalive_timer", UNDISTURBED, "has lost its session"),
        ("bgpd.rib.received.ReceivedRoutes.remove", LEAF_DEAD, "walk"),
        ("bgpd.fib.nexthop_upkeep.NexthopUpkeep.collect_unused", CUT, "no route uses them"),
        ("bgpd.workload.kernel_source.KernelSource._forget", RELEASED, "which owns"),
    ],
)
def test_planted_faults_are_found(what: str, scenario: Scenario, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(what, lambda *_arguments, **_options: None)
    assert says in "\n".join(run(scenario).found)


@pytest.mark.parametrize("scenario", [TWO_HOSTS, UNDISTURBED, RELEASED, CUT, LEAF_DEAD, EVENTS_LOST])
def test_nothing_is_found_without_a_fault(scenario: Scenario) -> None:
    assert run(scenario).found == ()


def test_a_failing_scenario_is_shortened_to_what_it_needs() -> None:
    long = msgspec.structs.replace(
        scenario_of(3),
        rounds=(CUT.rounds[0], (*LEAF_DEAD.rounds[0], *RELEASED.rounds[0], *EVENTS_LOST.rounds[0])),
    )

    def fails(scenario: Scenario) -> bool:
        return any(event.kind is Kind.RELEASE for events in scenario.rounds for event in events)

    short = shortened(long, fails)
    assert [[event.kind for event in events] for events in short.rounds] == [[Kind.RELEASE]]
    assert short.claims == ()
    assert short.shape.hosts == 1


def test_a_scenario_can_be_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "scenario.json"
    path.write_bytes(msgspec.json.encode(CUT))
    assert main(["--file", str(path)]) == 0
    assert "all is as it should be" in capsys.readouterr().out


@pytest.mark.parametrize("seeds", ["x", "5:5", "5:1", "1:", "-1", ""])
def test_seeds_that_are_none_are_told_and_do_not_pass(seeds: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([f"--seeds={seeds}"])
    assert ended.value.code == 2
    assert "--seeds" in capsys.readouterr().err


def test_what_killed_runs_have_left_is_deleted_and_what_others_use_is_not(tmp_path: Path) -> None:
    with scratch(str(tmp_path)) as used:
        left = Path(used).with_name(Path(used).name + "-left")
        left.mkdir()
        (left / "state").write_text("claims")
        for old in (used, left):
            os.utime(old, (0, 0))
        with scratch(str(tmp_path)) as own:
            assert sorted(tmp_path.iterdir()) == sorted(map(Path, (used, own)))
    assert not list(tmp_path.iterdir())
