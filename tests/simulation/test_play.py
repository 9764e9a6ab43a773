"""Scenarios of users: what they may say, what they cost a fabric, and how that is told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest

from bgpd.__main__ import main as bgpd_main
from bgpd.cli.reports import LossReport, SimulationReport
from bgpd.migrate.draft import ImportFailed
from bgpd.routing import Routing
from bgpd.simulation.clab import read_topology
from bgpd.simulation.command import HASH_SEED, _Told
from bgpd.simulation.fabric import Fabric
from bgpd.simulation.play import simulate
from bgpd.simulation.steps import ACTIONS, Step, read_steps, standard_steps
from tests.simulation.__main__ import quietly
from tests.simulation.topologies import CONFIG, LAB, LEFT_OUT, TOPOLOGY, written

TWO_LEAF = str(LAB / "two-leaf.clab.yml")
HOLD_S = 3
"""Of that topology."""
OF_HOST1 = "10.64.1.1/32"
LINK = ("leaf1", "host1")


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    quietly()
    monkeypatch.setenv("PYTHONHASHSEED", HASH_SEED)  # else the command would begin anew


StepsOf = Callable[[Fabric], list[Step]]


def played(*steps: Step, topology: str = TWO_LEAF, steps_of: StepsOf | None = None) -> SimulationReport:
    return simulate(
        read_topology(topology),
        steps_of or (lambda _fabric: list(steps)),
        seed=0,
        began=lambda _built: None,
        told=lambda _report: None,
    )


def lost_s(report: SimulationReport, address: str) -> list[float | None]:
    """How long an address was lost in the last step, wherever it was for longest; nothing, if it was not."""
    found = [loss.seconds for loss in report.steps[-1].losses if address in loss.addresses]
    return [None if None in found else max(one for one in found if one is not None)] if found else []


def test_link_that_goes_down_costs_what_the_leaf_takes_to_send_elsewhere() -> None:
    report = played(Step(do="link-down", link=LINK))
    assert report.good, report.steps
    (seconds,) = lost_s(report, OF_HOST1)
    assert seconds is not None
    assert 0 < seconds < 0.1
    assert report.steps[-1].updates > 0


def test_leaf_that_dies_without_a_word_costs_its_hold_time() -> None:
    (seconds,) = lost_s(played(Step(do="dies", node="leaf1")), "10.64.2.1/32")
    assert seconds is not None
    assert HOLD_S * 2 / 3 - 0.1 < seconds < HOLD_S + 0.1


def test_hand_over_costs_nothing_and_nobody_hears_of_it() -> None:
    last = played(Step(do="hand-over", node="host1")).steps[-1]
    assert (last.losses, last.updates, last.wrong) == ([], 0, [])


def test_step_can_begin_while_the_one_before_goes_on() -> None:
    report = played(Step(do="restart", node="leaf2", down_s=5), Step(do="link-down", link=LINK, after_s=2))
    assert [one.settled_s is None for one in report.steps] == [False, True, False]
    assert report.steps[2].at_s == pytest.approx(report.steps[1].at_s + 2, abs=0.01)
    (seconds,) = lost_s(report, OF_HOST1)
    assert seconds is not None
    assert 3 <= seconds < 10, "until the other leaf is there again"


def test_address_that_is_lost_for_good_is_told_so() -> None:
    report = played(*(Step(do="link-down", link=(leaf, "host1")) for leaf in ("leaf1", "leaf2")))
    assert lost_s(report, OF_HOST1) == [None]
    assert report.good, "that is what must follow"


def test_workloads_come_move_and_go() -> None:
    new = "10.64.7.7/32"
    report = played(
        Step(do="claim", node="host1", address=new),
        Step(do="move", node="host1", address=OF_HOST1),
        Step(do="release", node="host1", address=new),
    )
    assert report.good, report.steps
    assert report.addresses == 8


def test_host_reloads_another_file(tmp_path: Path) -> None:
    other = tmp_path / "other.toml"
    file = written(tmp_path)
    other.write_text(CONFIG.replace('import = "all"', 'import = "none"'))
    report = played(Step(do="reload", node="host1", file=str(other)), topology=file)
    assert report.good, report.steps
    assert lost_s(report, "198.51.100.0/24") == [None]


def test_all_that_can_be_done_is_done_and_leaves_the_fabric_as_it_should_be() -> None:
    report = played(
        Step(do="link-flaps", link=LINK),
        Step(do="link-lossy", link=LINK, loss=0.2),
        Step(do="link-deaf", link=LINK, node="leaf1"),
        Step(do="link-up", link=LINK),
        Step(do="dies", node="host1"),
        Step(do="boots", node="host1"),
        Step(do="restart", node="leaf1", graceful=False),
        Step(do="restart", node="host1", graceful=False),
        Step(do="restart", node="host1"),
        Step(do="kill", node="host1"),
        Step(do="drain", node="host1"),
        Step(do="undrain", node="host1"),
        Step(do="wait"),
    )
    assert [(one.step, one.wrong) for one in report.steps if one.wrong] == []


def test_seed_gives_the_same_report() -> None:
    steps = Step(do="link-flaps", link=LINK), Step(do="link-lossy", link=LINK, loss=0.5)
    assert played(*steps) == played(*steps)


def test_topology_without_workloads_gets_some(tmp_path: Path) -> None:
    steps: list[Step] = []

    def remembered(fabric: Fabric) -> list[Step]:
        steps.extend(standard_steps(fabric))
        return steps[:1]

    played(topology=str(LAB / "faults.clab.yml"), steps_of=remembered)
    assert [one.do for one in steps[:3]] == ["claim", "claim", "link-down"]
    assert steps[-1].do == "move"


def test_what_is_lost_is_told_once_and_when_it_is_there_again() -> None:
    cuts = [Step(do="link-down", link=(leaf, "host1")) for leaf in ("leaf1", "leaf2")]
    report = played(*cuts, Step(do="hand-over", node="host2"), Step(do="link-up", link=LINK))
    lost = [[one.seconds for one in step.losses if OF_HOST1 in one.addresses] for step in report.steps[2:]]
    assert lost[0] == [None]
    assert lost[1] == [], "the hand-over has nothing to do with it"
    assert all(seconds is not None and seconds < 1 for seconds in lost[2]), lost
    assert lost[2]
    (again,) = {one.goes_on for one in report.steps[4].losses if OF_HOST1 in one.addresses}
    assert again, "which is no cost of the link that is whole again"


def test_what_goes_away_is_told_and_is_not_reached_again() -> None:
    dead = [Step(do="dies", node="leaf1"), Step(do="dies", node="leaf2", after_s=1)]
    report = played(*dead, Step(do="dies", node="host1", after_s=1), Step(do="boots", node="host1"))
    assert [one.losses for one in report.steps[1:3]] == [[], []], "it is told how long it was in all"
    of_host1 = [one for one in report.steps[3].losses if OF_HOST1 in one.addresses]
    assert {(one.after_s, one.goes_on) for one in of_host1 if "host2" in one.sources} <= {(-2.0, False), (-1.0, False)}
    assert of_host1
    assert all(one.seconds is not None and one.seconds <= 2.0 for one in of_host1), "until its host was dead"
    assert OF_HOST1 in report.steps[3].gone
    assert report.steps[4].gone == []


def test_node_that_boots_has_lost_nothing() -> None:
    report = played(*(Step(do=do, node=node) for node in ("leaf1", "host1") for do in ("dies", "boots")))
    assert [one.losses for one in report.steps[2::2]] == [[], []]


def test_what_is_not_reached_when_all_has_started_is_told(tmp_path: Path) -> None:
    topology = written(tmp_path, config=CONFIG.replace('import = "all"', 'import = "none"'))
    (start,) = played(topology=topology).steps
    (loss,) = start.losses
    assert (loss.addresses, loss.sources, loss.seconds) == (["198.51.100.0/24"], ["host1"], None)


def test_default_route_of_a_router_reaches_nothing_that_it_does_not_have(tmp_path: Path) -> None:
    topology = TOPOLOGY.replace("198.51.100.0/24", "0.0.0.0/0")
    config = CONFIG.replace('import = "all"', 'import = "all"\nexport = "none"')
    (loss,) = played(topology=written(tmp_path, topology=topology, config=config)).steps[0].losses
    assert (loss.addresses, loss.why) == ([OF_HOST1], "leaf1 has no route but one of its own")


@pytest.mark.parametrize(("most_s", "is_good"), [(0.0, False), (1.0, True)])
def test_step_may_cost_no_more_than_it_says(most_s: float, is_good: bool) -> None:
    steps = Step(do="link-down", link=LINK, max_lost_s=most_s), Step(do="link-up", link=LINK, max_lost_s=most_s)
    report = played(*steps)
    assert report.good is is_good
    assert any(one.startswith(f"{OF_HOST1} was unreachable for 0.0") for one in report.steps[1].missed) is not is_good
    assert report.steps[2].missed == []
    assert [one.max_lost_s for one in report.steps] == [None, most_s, most_s]


def test_what_goes_on_counts_as_lost_for_longer_than_it_may_be() -> None:
    cuts = [Step(do="link-down", link=(leaf, "host1"), max_lost_s=3600) for leaf in ("leaf1", "leaf2")]
    report = played(*cuts, Step(do="wait", max_lost_s=0))
    assert not report.good
    assert f"{OF_HOST1} was unreachable and is so still, from" in report.steps[2].missed[0]
    assert report.steps[3].missed == [], "once is enough"


def test_what_goes_on_into_the_next_step_counts_once_it_is_too_long() -> None:
    restart = Step(do="restart", node="leaf2", down_s=5, max_lost_s=60)
    cut = Step(do="link-down", link=LINK, after_s=1, max_lost_s=60)
    report = played(restart, cut, Step(do="wait", after_s=1, max_lost_s=60))
    assert [one.missed for one in report.steps] == [[], [], [], []]
    report = played(restart, cut, Step(do="wait", after_s=1, max_lost_s=1.5))
    assert report.steps[2].missed == []
    assert [one for one in report.steps[3].missed if one.startswith(f"{OF_HOST1} was unreachable for ")]


# Files of steps


def steps_of(text: str, tmp_path: Path) -> list[Step]:
    path = tmp_path / "scenario.toml"
    path.write_text(text)
    found: list[Step] = []

    def read(fabric: Fabric) -> list[Step]:
        found.extend(read_steps(str(path), fabric))
        raise ZeroDivisionError  # that is all

    with pytest.raises(ZeroDivisionError):
        played(topology=TWO_LEAF, steps_of=read)
    return found


def test_steps_are_read(tmp_path: Path) -> None:
    text = """
    [[step]]
    do = "link-lossy"
    link = ["host1", "leaf1"]
    loss = 0.25
    [[step]]
    do = "claim"
    node = "host1"
    address = "10.64.7.7"
    after_s = 2
    """
    lossy, claim = steps_of(text, tmp_path)
    assert lossy == Step(do="link-lossy", link=LINK, loss=0.25)
    assert claim == Step(do="claim", node="host1", address="10.64.7.7/32", after_s=2.0)
    assert [one.max_lost_s for one in (lossy, claim)] == [None, None]
    assert [str(lossy), str(claim)] == ["link-lossy leaf1 - host1", "claim host1 10.64.7.7/32"]


def test_scenario_says_what_all_its_steps_may_cost_but_those_that_say_it_themselves(tmp_path: Path) -> None:
    text = '[expect]\nmax_lost_s = 0.5\n[[step]]\ndo = "wait"\n[[step]]\ndo = "wait"\nmax_lost_s = 3\n'
    assert [one.max_lost_s for one in steps_of(text, tmp_path)] == [0.5, 3.0]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "scenario.toml:1: has no steps; write [[step]]"),
        ("step = 1", "has no steps"),
        ("[[stop]]\n", 'scenario.toml:1: there is no key "stop"'),
        ("x", "scenario.toml:1: "),
        ("[[step]]\n", "scenario.toml:1: has no do"),
        ('[[step]]\ndo = "link-dwon"\n', 'scenario.toml:2: do = "link-dwon" is nothing that can be done; did you mean'),
        ('[[step]]\ndo = "drain"\n', "scenario.toml:1: drain needs node; drain: bgpd drain on"),
        ('[[step]]\ndo = "wait"\nlos = 1\n', 'scenario.toml:3: wait has no key "los"'),
        (
            '[[step]]\ndo = "drain"\nnode = "hosst1"\n',
            'scenario.toml:3: there is no host and no router "hosst1"; did you',
        ),
        ('[[step]]\ndo = "drain"\nnode = "leaf1"\n', "leaf1 is no host with bgpd"),
        ('[[step]]\ndo = "drain"\nnode = 1\n', "node = 1 is no text"),
        ('[[step]]\ndo = "wait"\nafter_s = "x"\n', "after_s = 'x' is no number from 0 to 86400"),
        (
            '[[step]]\ndo = "link-down"\nlink = ["host1", "host2"]\n',
            "is no link of two nodes that is simulated; one of",
        ),
        ('[[step]]\ndo = "link-lossy"\nlink = ["host1", "leaf1"]\nloss = 2\n', "loss = 2 is no number from 0 to 1"),
        ('[[step]]\ndo = "restart"\nnode = "host1"\ngraceful = 1\n', "graceful = 1 is neither true nor false"),
        ('[[step]]\ndo = "claim"\nnode = "host1"\naddress = "x"\n', 'address = "x" is none'),
        ('[[step]]\ndo = "claim"\nnode = "host2"\naddress = "10.9.9.9"\n', "host2 has no source of workloads"),
        ('[[step]]\ndo = "reload"\nnode = "host1"\nfile = "none.toml"\n', "there is no file"),
        ('[[step]]\ndo = "link-deaf"\nlink = ["host1", "leaf1"]\nnode = "leaf2"\n', "leaf2 is not at that link"),
    ],
)
def test_errors_of_steps_say_what_where_and_what_to_do(text: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "scenario.toml"
    path.write_text(text)
    with pytest.raises(ImportFailed) as failed:
        played(topology=TWO_LEAF, steps_of=lambda fabric: read_steps(str(path), fabric))
    assert says in str(failed.value)


def test_document_has_every_step() -> None:
    text = (LAB.parents[1] / "docs" / "simulation.md").read_text()
    for name, action in ACTIONS.items():
        keys = ", ".join(f"`{key}`" for key in (*action.needs, *action.may))
        assert f"| `{name}` | {keys} | {action.what} |" in text, name


# The command


@pytest.mark.parametrize("name", ["evpn-two-tenant", "faults", "feeds"])
def test_scenarios_of_the_laboratory_end_well(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert bgpd_main(["simulate", str(LAB / f"{name}.clab.yml"), str(LAB / f"{name}.scenario.toml")]) == 0
    out = capsys.readouterr().out
    assert [line for line in out.splitlines() if line.startswith("not simulated")] == [
        f"not simulated: {one}" for one in LEFT_OUT.get(name, [])
    ]
    assert "WRONG" not in out


def test_command_tells_of_each_step_and_ends_well(capsys: pytest.CaptureFixture[str]) -> None:
    assert bgpd_main(["simulate", TWO_LEAF, str(LAB / "two-leaf.scenario.toml")]) == 0
    out = capsys.readouterr().out
    assert "2 hosts, 3 routers, 6 links" in out
    assert "link-down leaf1 - host1" in out
    assert "unreachable for" in out
    assert "unreachable the longest by: " in out
    assert out.endswith("5 steps, seed 0: after each of them all was as it should be\n")


def test_command_fails_where_something_is_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bgpd.rib.rib.Rib.withdraw_local", lambda *_arguments, **_options: None)
    scenario = tmp_path / "scenario.toml"
    scenario.write_text(f'[[step]]\ndo = "release"\nnode = "host1"\naddress = "{OF_HOST1}"\n')
    assert bgpd_main(["simulate", TWO_LEAF, str(scenario), "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert not report["good"]
    assert "which owns" in " ".join(report["steps"][-1]["wrong"])


def test_command_tells_the_first_things_that_are_wrong_and_those_before_no_more(
    capsys: pytest.CaptureFixture[str],
) -> None:
    told = _Told(is_json=False)
    report = played(Step(do="wait")).steps[1]
    for wrong in ([f"thing {number}" for number in range(20)], [f"thing {number}" for number in range(19, 22)]):
        told.step(msgspec.structs.replace(report, wrong=wrong))
    lines = [line.strip() for line in capsys.readouterr().out.splitlines() if "WRONG" in line]
    assert lines[11:] == [
        "WRONG: thing 11",
        "WRONG: and 8 things more (--json has all)",
        "WRONG: thing 20",
        "WRONG: thing 21",
        "WRONG: 1 thing as after the step before",
    ]


def test_command_tells_what_is_gone_and_what_is_reached_again(capsys: pytest.CaptureFixture[str]) -> None:
    report = played(Step(do="wait")).steps[1]
    loss = LossReport(addresses=["a"], sources=["b"], after_s=-1.5, seconds=2.0, why="c has no route")
    losses = [loss, msgspec.structs.replace(loss, after_s=0.0, goes_on=True)]
    _Told(is_json=False).step(msgspec.structs.replace(report, losses=losses, gone=["d", "e"]))
    assert [line.strip() for line in capsys.readouterr().out.splitlines()[2:]] == [
        "a: unreachable for 2.000 s since 1.500 s before, for b (c has no route)",
        "a: reached again after 2.000 s, from b (before: c has no route)",
        "d, e: gone, nobody has them any more",
    ]


def test_command_fails_where_an_address_is_lost_for_too_long(capsys: pytest.CaptureFixture[str]) -> None:
    scenario = str(LAB / "two-leaf.scenario.toml")
    assert bgpd_main(["simulate", TWO_LEAF, scenario, "--max-lost", "0"]) == 1
    out = capsys.readouterr().out
    assert "TOO LONG: 10.64" in out
    assert "unreachable the longest by: " in out
    assert out.endswith("addresses were unreachable for longer than allowed\n")


def test_command_tells_errors_of_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bgpd_main(["simulate", str(tmp_path / "none.clab.yml")]) == 1
    assert "none.clab.yml: cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize("isolated", [False, True])
def test_command_begins_anew_with_the_hash_seed(monkeypatch: pytest.MonkeyPatch, isolated: bool) -> None:
    begun: list[tuple[list[str], dict[str, str]]] = []

    def execve(_path: str, arguments: list[str], environment: dict[str, str]) -> None:
        begun.append((arguments, environment))
        raise SystemExit

    python = ["python", "-I"] if isolated else ["python"]
    process = SimpleNamespace(
        executable="python",
        orig_argv=[*python, "-m", "bgpd", "simulate", "x"],
        argv=["bgpd", "simulate", "x"],
        flags=SimpleNamespace(ignore_environment=isolated, safe_path=isolated, no_user_site=isolated),
    )
    monkeypatch.setattr("bgpd.simulation.command.sys", process)
    monkeypatch.setattr("os.execve", execve)
    monkeypatch.setenv("PYTHONPATH", "elsewhere")
    if not isolated:
        monkeypatch.delenv("PYTHONHASHSEED")
    with pytest.raises(SystemExit):
        bgpd_main(["simulate", "x"])
    ((arguments, environment),) = begun
    assert arguments == ["python", *(["-P", "-s"] if isolated else []), "-m", "bgpd", "simulate", "x"]
    assert environment["PYTHONHASHSEED"] == HASH_SEED
    assert ("PYTHONPATH" in environment) is not isolated, "what -I keeps out stays out"


@pytest.mark.parametrize("meanwhile", ["hand-over", "kill", "dies"])
def test_host_may_end_in_the_middle_of_a_hand_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, meanwhile: str
) -> None:
    async def settle(self: Routing, patience_s: float) -> None:
        await asyncio.sleep(1.0)  # the kernel takes its time

    monkeypatch.setattr(Routing, "settle", settle)
    steps = [Step(do="hand-over", node="host1"), Step(do=meanwhile, node="host1", after_s=0.5)]
    report = played(*steps, topology=written(tmp_path))
    assert report.good, report.steps


def test_no_workload_comes_to_a_host_that_is_dead(tmp_path: Path) -> None:
    of_host = {"node": "host1", "address": "10.64.1.2/32"}
    steps = [Step(do="dies", node="host1"), Step(do="claim", **of_host), Step(do="boots", node="host1")]
    report = played(*steps, Step(do="claim", **of_host), topology=written(tmp_path))
    assert report.good, report.steps
