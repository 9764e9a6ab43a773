"""`python -m labs`: runs a topology file with network namespaces and the machine's own daemons.

run FILE            bring it up, check it, break it, show it, tear it down; exit code 1 when a check fails
run --record FILE   as run, and write docs/event-costs.md (the laboratory "faults")
run --see DIR       as run with the two leaves, with the web page of a host open; pictures, journal, bundle go to DIR
run --keep FILE     bring it up, check it, and leave it up
down [FILE...]      remove laboratories that were left up (of all our files), and what killed ones left behind
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from labs.event_costs import record
from labs.evpn import EvpnTwoTenant
from labs.experiments import Experiments
from labs.faults import Faults
from labs.feeds import Feeds
from labs.guests import Guests
from labs.laboratory import Laboratory
from labs.namespace import NETNS_DIR, remove, remove_stale
from labs.process import LabError
from labs.topology import Topology, load
from labs.two_leaf import TwoLeaf

TOPOLOGIES = Path(__file__).parent / "containerlab"
TWO_LEAF = TOPOLOGIES / "two-leaf.clab.yml"
EXPERIMENTS: dict[str, type[Experiments]] = {
    "two-leaf": TwoLeaf,
    "feeds": Feeds,
    "evpn-two-tenant": EvpnTwoTenant,
    "faults": Faults,
    "guests": Guests,
}
"""By the topology's name; what has no entry is brought up and shown."""
console = Console(highlight=False, soft_wrap=True)


def main(arguments: list[str] | None = None) -> int:
    """Run a command line; returns the exit code: 0 all well, 1 a check failed, 2 it could not be run."""
    parser = argparse.ArgumentParser(prog="python -m labs", description=__doc__, formatter_class=_Formatter)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="bring a laboratory up and check it")
    run.add_argument("file", type=Path, nargs="?", default=TWO_LEAF)
    run.add_argument("--keep", action="store_true", help="leave it up")
    run.add_argument("--record", action="store_true", help="write docs/event-costs.md from this run")
    run.add_argument("--see", type=Path, metavar="DIR", help="with a host's web page open; what was seen goes to DIR")
    down = commands.add_parser("down", help="remove laboratories that were left up")
    down.add_argument("files", type=Path, nargs="*", default=sorted(TOPOLOGIES.glob("*.clab.yml")))
    options = parser.parse_args(arguments)
    if os.geteuid() != 0:
        console.print("network namespaces need root: run this as root", style="red")
        return 2
    try:
        if options.command == "down":
            return _down([load(file) for file in options.files])
        topology = load(options.file)
        return _keep(topology) if options.keep else _run(topology, recorded=options.record, see=options.see)
    except LabError as error:
        console.print(escape(str(error)), style="red")
        return 2
    except KeyboardInterrupt:
        console.print("interrupted; everything is removed", style="yellow")
        return 130


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Keeps the line breaks of the module docstring."""


def _run(topology: Topology, *, recorded: bool, see: Path | None = None) -> int:
    _headline(f"bring up {topology.name}")
    with Laboratory(topology, progress=_progress) as lab:
        experiments = _experiments(lab) if see is None else _seen(lab, see)
        passed = experiments.run()
        _headline("tear down")
    if recorded and isinstance(experiments, Faults):
        console.print(f"written: {record(experiments.costs)}")
    table = Table(title=f"{topology.name}: {'all checks passed' if passed else 'FAILED'}", title_justify="left")
    for column in ("check", "", "result"):
        table.add_column(column, overflow="fold")
    for outcome in experiments.outcomes:
        mark = "[green]ok[/]" if outcome.passed else "[red]FAILED[/]"
        table.add_row(escape(outcome.check), mark, escape(outcome.detail))
    Console(highlight=False, width=None if console.is_terminal else 140).print(table)
    return 0 if passed else 1


def _keep(topology: Topology) -> int:
    if any((NETNS_DIR / f"{topology.name}-{node}").exists() for node in topology.nodes):
        raise LabError(f"{topology.name} is up already; `python -m labs down` and its file remove it")
    lab = Laboratory(topology, exact_names=True, progress=_progress)
    _headline(f"bring up {topology.name}")
    try:
        lab.up()
        experiments = _experiments(lab)
        experiments.bring_up()
    except BaseException:
        lab.down()
        raise
    lab.leave_up()
    _headline("it stays up; look around with")
    for name, daemon in lab.bgpd.items():
        bgpd = f"{Path(sys.executable).parent / 'bgpd'}"
        console.print(f"  BGPD_SOCKET={daemon.socket_path} {bgpd} show routes   # {name}; log: {daemon.log_path}")
    for name, frr in lab.frr.items():
        console.print(f"  vtysh --vty_socket {frr.directory}   # {name}")
    for node in topology.with_role("pod")[:1]:
        console.print(f"  ip netns exec {topology.name}-{node.name} bash   # inside {node.name}")
    console.print("  make lab-down   # remove it")
    return 0 if all(outcome.passed for outcome in experiments.outcomes) else 1


def _down(topologies: list[Topology]) -> int:
    removed = remove_stale("lab")
    for name in (f"{topology.name}-{node}" for topology in topologies for node in topology.nodes):
        if (NETNS_DIR / name).exists():
            remove(name)
            removed.append(name)
    for name in removed:
        for directory in Path("/tmp").glob(f"{name}-*"):
            shutil.rmtree(directory, ignore_errors=True)
    console.print(f"{len(removed)} namespaces removed" if removed else "nothing to remove")
    return 0


def _experiments(lab: Laboratory) -> Experiments:
    return EXPERIMENTS.get(lab.topology.name, Experiments)(lab, headline=_headline, show=_show)


def _seen(lab: Laboratory, output: Path) -> Experiments:
    from labs.see import See  # it takes a browser with it

    return See(lab, headline=_headline, show=_show, output=output)


def _headline(text: str) -> None:
    console.print(f"\n[bold]== {escape(text)}[/]")


def _progress(text: str) -> None:
    console.print(f"   {escape(text)}")


def _show(heading: str, text: str) -> None:
    console.print(f"\n[bold]{escape(heading)}[/]")
    console.print(escape(text.rstrip()))


if __name__ == "__main__":
    sys.exit(main())
