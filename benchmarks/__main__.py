"""python -m benchmarks NAME... | all | report: runs cases for bgpd, its peers and the bare kernel, and shows figures.

The runs of a case are interleaved (A B C, A B C, ...), so that what drifts on the machine drifts for all.
"""

from __future__ import annotations

import argparse
import datetime
import importlib
import os
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from benchmarks import charts, evpn_peers, peers, report
from benchmarks.kernel_watch import NotReached
from benchmarks.measurement import Job, Options
from benchmarks.results import ResultFile, Run, Summary, add_others, load_all, save
from benchmarks.topology import PREFIX, machine
from benchmarks.versions import versions
from labs.namespace import remove_stale
from labs.process import LabError

CASES = (
    "load",
    "internet-load",
    "evpn-load",
    "withdraw",
    "failover",
    "internet-failover",
    "announce",
    "feed",
    "churn",
    "internet-churn",
    "restart",
    "handover",
    "growth",
    "idle",
    "bfd",
)
REPEAT, REPEAT_QUICK = 5, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 1 if any run failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(CASES)}, loop, all (default) or report")
    parser.add_argument("--quick", action="store_true", help="small sizes, few runs; kept apart from the real results")
    parser.add_argument("--size", type=int, action="append", default=[], help="number of routes; may be repeated")
    parser.add_argument("--repeat", type=int, default=0, help=f"runs of each measurement (default {REPEAT})")
    parser.add_argument("--contestant", action="append", default=[], help='"bgpd", "BIRD", ...; may be repeated')
    parser.add_argument("--match", default="", help="only variants whose name contains this")
    parser.add_argument("--add", action="store_true", help="keep what was measured before of other variants")
    parser.add_argument("--more", action="store_true", help="as --add, and keep earlier runs of the same variants, too")
    parser.add_argument("--list", action="store_true", help="show what would run, and do not")
    chosen = parser.parse_args(arguments)
    chosen.names = chosen.names or ["all"]
    if unknown := set(chosen.names) - {*CASES, "loop", "all", "report"}:
        parser.error(f"no such case: {', '.join(sorted(unknown))}")
    contestants = list(dict.fromkeys((peers.RAW, *peers.STARTERS, *peers.OWN_TABLE, *evpn_peers.STARTERS)))
    if unknown := set(chosen.contestant) - set(contestants):
        parser.error(f"no such contestant: {', '.join(sorted(unknown))}; there are {', '.join(contestants)}")
    console = Console()
    if os.geteuid() != 0 and "report" not in chosen.names and not chosen.list:
        console.print("The benchmarks make network namespaces and write kernel routes in them: run them as root.")
        return 2
    options = Options(quick=chosen.quick, sizes=tuple(chosen.size), contestants=tuple(chosen.contestant))
    failed = False
    if "report" not in chosen.names:
        if not chosen.list:
            remove_stale(PREFIX)
        # "loop" is no case of its own: it is the longest hold seen during all others.
        names = CASES if {"all", "loop"} & set(chosen.names) else tuple(chosen.names)
        for name in names:
            module = importlib.import_module(f"benchmarks.cases.{name.replace('-', '_')}")
            jobs = [job for job in module.jobs(options) if chosen.match in job.case]
            if chosen.list:
                console.print(*(f"{job.case}: {job.contestant}" for job in jobs), sep="\n")
                continue
            if not jobs:  # earlier results stay
                console.print(f"nothing to run of {name}; python -m benchmarks {name} --list shows what there is")
                continue
            repeat = chosen.repeat or (REPEAT_QUICK if chosen.quick else REPEAT)
            file = _run(console, name, str(module.__doc__).splitlines()[0], jobs, options, repeat)
            if chosen.add or chosen.more:
                add_others(file, same=chosen.more)
            failed = failed or any(run.failed for run in file.runs)
            summary = Summary([file])
            report.show(console, summary)
            console.print(f"kept in {save(file)}, drawn in {charts.draw(summary, file)}")
    else:
        summary = Summary(load_all(quick=chosen.quick))
        report.show(console, summary)
        if not chosen.quick:
            for file in summary.files:
                charts.draw(summary, file)
            report.write_page(summary)
    return 1 if failed else 0


def _run(console: Console, name: str, title: str, jobs: Sequence[Job], options: Options, repeat: int) -> ResultFile:
    """All jobs, `repeat` times over; a failure is kept and told, and the rest goes on."""
    file = ResultFile(
        name=name,
        title=title,
        machine=machine(),
        versions=versions(dict.fromkeys(job.contestant for job in jobs)),
        repeat=repeat,
        quick=options.quick,
        taken_on=datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
        runs=[],
    )
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not sys.stdout.isatty()) as progress:
        task = progress.add_task(name, total=len(jobs) * repeat)
        for _ in range(repeat):
            for job in jobs:
                progress.update(task, description=f"{job.case}: {job.contestant}")
                run = Run(case=job.case, contestant=job.contestant)
                try:
                    run.figures = dict(job.run())
                except (LabError, NotReached, OSError) as error:
                    run.failed = str(error)
                    progress.console.print(f"[red]failed[/] {job.case}: {job.contestant}: {error}")
                file.runs.append(run)
                progress.advance(task)
    return file


if __name__ == "__main__":
    sys.exit(main())
