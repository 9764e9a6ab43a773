"""`bgpd simulate`: a topology and a scenario in simulated time, told step by step."""

from __future__ import annotations

import argparse
import math
import os
import sys
import warnings

import msgspec

from bgpd.cli.client import CommandFailed
from bgpd.cli.decode import Hooks
from bgpd.cli.reports import LossReport, SimulationReport, StepReport
from bgpd.migrate.draft import ImportFailed
from bgpd.runtime.events import NOTHING, log
from bgpd.simulation.build import Built
from bgpd.simulation.clab import read_topology
from bgpd.simulation.fabric import Fabric
from bgpd.simulation.play import simulate
from bgpd.simulation.steps import Step, read_steps, standard_steps

HASH_SEED = "0"
"""The order of sets depends on PYTHONHASHSEED: a seed gives the same run only with the same."""
_NAMED = 3
"""Addresses and nodes that are named where there are many; --json has all."""


def main(arguments: argparse.Namespace, hooks: Hooks) -> int:
    """`bgpd simulate`: exit code 1 where something is wrong after a step. Raises: CommandFailed: a file has errors."""
    if os.environ.get("PYTHONHASHSEED") != HASH_SEED or sys.flags.ignore_environment:
        _begin_anew()
    log.least = NOTHING
    told = _Told(is_json=arguments.json)
    try:
        report = simulate(
            read_topology(arguments.topology),
            lambda fabric: _steps(arguments.scenario, fabric, most_s=arguments.max_lost),
            seed=arguments.seed,
            began=told.began,
            told=told.step,
        )
    except ImportFailed as error:
        raise CommandFailed(str(error)) from None
    except (KeyboardInterrupt, OSError):  # what still ran is thrown away with the process, whatever holds it until then
        sys.unraisablehook = lambda _unraisable: None
        warnings.simplefilter("ignore", RuntimeWarning)
        raise
    told.ended(report)
    return 0 if report.good else 1


def _begin_anew() -> None:
    """With the hash seed. Python with -I or -E would not read it: what these keep out is kept out by hand."""
    environment, arguments = dict(os.environ), sys.orig_argv[1:]
    if sys.flags.ignore_environment:
        environment = {name: value for name, value in environment.items() if not name.startswith("PYTHON")}
        kept = ["-P"] if sys.flags.safe_path else []
        kept += ["-s"] if sys.flags.no_user_site else []
        arguments = [*kept, "-m", "bgpd", *sys.argv[1:]]
    os.execve(sys.executable, [sys.executable, *arguments], {**environment, "PYTHONHASHSEED": HASH_SEED})


def _steps(scenario: str | None, fabric: Fabric, *, most_s: float | None) -> list[Step]:
    found = read_steps(scenario, fabric) if scenario else standard_steps(fabric)
    return [one if one.max_lost_s is not None else msgspec.structs.replace(one, max_lost_s=most_s) for one in found]


_WRONG = 12
"""Things that are wrong after a step that are told one by one."""


class _Told:
    """What people are told; with `is_json` only the whole report at the end."""

    def __init__(self, *, is_json: bool) -> None:
        self._is_json = is_json
        self._wrong: list[str] = []
        """After the step before."""

    def _say(self, text: str) -> None:
        if not self._is_json:
            print(text, flush=True)

    def began(self, built: Built) -> None:
        """Say what is simulated, and what is not."""
        fabric = built.fabric
        self._say(f"{len(fabric.hosts)} hosts, {len(fabric.routers)} routers, {len(fabric.links)} links")
        for one in built.remarks:
            self._say(f"not simulated: {one}")
        for one in built.unforeseen:
            self._say(f"routes are not checked one by one: {one}")

    def step(self, report: StepReport) -> None:
        """Say how a step went."""
        settled = f"settled after {report.settled_s:.3f} s" if report.settled_s is not None else "goes on"
        updates = f"{report.updates} UPDATE{'s' if report.updates != 1 else ''}"
        self._say(f"\n{report.at_s:9.3f} s  {report.step}: {settled}, {updates}")
        for one in report.losses:
            self._say(f"    {_loss(one, is_start=report.step == 'start')}")
        if report.gone:
            self._say(f"    {_few(report.gone)}: gone, nobody has {'it' if len(report.gone) == 1 else 'them'} any more")
        for missed in report.missed[:_NAMED]:
            self._say(f"    TOO LONG: {missed}")
        if len(report.missed) > _NAMED:
            self._say(f"    TOO LONG: and {_counted(len(report.missed) - _NAMED, 'address', 'addresses')} more")
        new = [one for one in report.wrong if one not in self._wrong]
        for wrong in new[:_WRONG]:
            self._say(f"    WRONG: {wrong}")
        if len(new) > _WRONG:
            self._say(f"    WRONG: and {_counted(len(new) - _WRONG, 'thing', 'things')} more (--json has all)")
        if len(report.wrong) > len(new):
            self._say(
                f"    WRONG: {_counted(len(report.wrong) - len(new), 'thing', 'things')} as after the step before"
            )
        self._wrong = report.wrong

    def ended(self, report: SimulationReport) -> None:
        """Say the sum of all steps, or all of it as JSON."""
        if self._is_json:
            print(msgspec.json.format(msgspec.json.encode(report), indent=1).decode())
            return
        wrong, missed = (sum(len(getattr(one, key)) for one in report.steps) for key in ("wrong", "missed"))
        verdicts = [f"{_counted(wrong, 'thing is', 'things are')} wrong"] if wrong else []
        were = _counted(missed, "address was", "addresses were")
        verdicts += [f"{were} unreachable for longer than allowed"] if missed else []
        verdict = ", ".join(verdicts) or "after each of them all was as it should be"
        print(f"\n{_longest(report.steps[1:])}\n{len(report.steps) - 1} steps, seed {report.seed}: {verdict}")


def _counted(number: int, one: str, several: str) -> str:
    return f"{number} {one if number == 1 else several}"


def _longest(steps: list[StepReport]) -> str:
    """Which steps have cost most, and how many nothing."""
    costs = sorted(((_cost_s(one), one.step) for one in steps if _has_cost(one)), key=lambda cost: -cost[0])
    shown = [
        f"{step} {seconds:.3f} s" if seconds < math.inf else f"{step} until the next step"
        for seconds, step in costs[:_NAMED]
    ]
    most = f"unreachable the longest by: {', '.join(shown)}; " if shown else ""
    return f"{most}nothing was lost by {len(steps) - len(costs)} of {len(steps)} steps"


def _has_cost(step: StepReport) -> bool:
    return any(not one.goes_on for one in step.losses)


def _cost_s(step: StepReport) -> float:
    return max(one.seconds if one.seconds is not None else math.inf for one in step.losses if not one.goes_on)


def _loss(one: LossReport, *, is_start: bool) -> str:
    what = _few(one.addresses)
    if is_start:
        return f"{what}: not reached from {_few(one.sources)} ({one.why})"
    if one.goes_on and one.seconds is not None:
        return f"{what}: reached again after {one.seconds:.3f} s, from {_few(one.sources)} (before: {one.why})"
    how_long = f"for {one.seconds:.3f} s" if one.seconds is not None else "until the next step"
    since = f" from {one.after_s:.3f} s on" if one.after_s > 0 else ""
    since = f" since {-one.after_s:.3f} s before" if one.after_s < 0 else since
    return f"{what}: unreachable {how_long}{since}, for {_few(one.sources)} ({one.why})"


def _few(names: list[str]) -> str:
    rest = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {rest} more" if rest > 0 else "")
