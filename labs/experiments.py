"""The main job, shown and checked: convergence, reachability, a cut link and a dead leaf under traffic, bgpd tables."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

import msgspec

from labs.checks import await_convergence, unreachable, workload_pairs
from labs.laboratory import Laboratory
from labs.process import LabError
from labs.traffic import FlowResult, start_flows

# A failure must not cost more than this: far above what is usual, below what the hold timer (3 s) would give.
OUTAGE_LIMIT_MS = 1500.0
BEFORE_S = 1.0
AFTER_S = 3.0


class Outcome(msgspec.Struct, frozen=True):
    """One line of the summary."""

    check: str
    passed: bool
    detail: str


class Experiments:
    """Runs the steps on a laboratory that is up, and keeps their outcomes. A step that fails does not stop the next."""

    def __init__(self, lab: Laboratory, *, headline: Callable[[str], None], show: Callable[[str, str], None]) -> None:
        self.lab = lab
        self.outcomes: list[Outcome] = []
        self._headline = headline
        self._show = show

    def run(self) -> bool:
        """All steps in order; returns whether every check passed."""
        self.converge("convergence")
        if self.outcomes[-1].passed:
            self.reach("reachability")
            leaves = self.lab.topology.with_role("leaf")
            host = self.lab.topology.with_role("host")[0].name
            self.cut_link(leaves[0].name, host)
            self.kill_leaf(leaves[-1].name)
            self.reach("reachability afterwards")
        self.show_tables()
        return all(outcome.passed for outcome in self.outcomes)

    def converge(self, check: str) -> None:
        """Wait for every session and route."""
        self._headline(check)
        with self._checked(check) as detail:
            detail.append(f"all sessions and routes after {await_convergence(self.lab):.1f} s")

    def reach(self, check: str) -> None:
        """Ping between all workloads."""
        self._headline(f"{check}: every pod and server to every other")
        with self._checked(check) as detail:
            failed = unreachable(self.lab, self.lab.progress)
            if failed:
                raise LabError("no answer: " + ", ".join(failed))
            detail.append("every pair, IPv4 and IPv6")

    def cut_link(self, leaf: str, host: str) -> None:
        """Take the leaf's end of a link down under traffic, then bring it up again."""
        link = f"link {leaf} - {host}"
        self._under_traffic(f"{link} cut", lambda: self.lab.set_link(leaf, host, "down"))
        self._under_traffic(f"{link} restored", lambda: self.lab.set_link(leaf, host, "up"), converge=True)

    def kill_leaf(self, leaf: str) -> None:
        """Kill the leaf's BGP daemon under traffic, then start it again."""
        frr = self.lab.frr[leaf]
        self._under_traffic(f"{leaf}: BGP daemon killed", frr.kill)
        self._under_traffic(f"{leaf}: BGP daemon restarted", frr.restart_bgpd, converge=True)

    def show_tables(self) -> None:
        """What the operator sees, on every host."""
        for name, daemon in self.lab.bgpd.items():
            remote = [pod.addresses[0] for pod in self.lab.topology.with_role("pod") if not self._local(pod.name, name)]
            commands = [["show", view] for view in ("neighbors", "routes", "fib", "workloads")]
            for command in [*commands, ["explain", remote[0]]]:
                with self._checked(f"{name}: bgpd {' '.join(command)}", quiet=True):
                    self._show(f"{name}# bgpd {' '.join(command)}", daemon.cli(*command))

    def _local(self, pod: str, host: str) -> bool:
        return host in {node.name for node in self.lab.topology.neighbors(pod)}

    def _under_traffic(self, check: str, action: Callable[[], object], *, converge: bool = False) -> None:
        """Flows between all workloads across the fabric while something happens; counts what they lose."""
        self._headline(check)
        pairs = [pair for ipv6 in (False, True) for pair in workload_pairs(self.lab, ipv6=ipv6, across=True)]
        directory = next(iter(self.lab.namespaces.values())).make_directory("traffic")
        with self._checked(check) as detail:
            flows = start_flows(pairs, directory)
            try:
                time.sleep(BEFORE_S)
                action()
                time.sleep(AFTER_S)
                if converge:
                    detail.append(f"all back after {AFTER_S + await_convergence(self.lab):.1f} s")
            finally:
                results = [flow.stop() for flow in flows]
            detail.append(_summary(results))
            self.lab.progress(detail[-1])
            worst = max(result.outage_ms for result in results)
            if worst > OUTAGE_LIMIT_MS:
                raise LabError(f"{detail[-1]}; more than {OUTAGE_LIMIT_MS:.0f} ms is too much")

    @contextlib.contextmanager
    def _checked(self, check: str, *, quiet: bool = False) -> Iterator[list[str]]:
        """Record how a step went; `quiet` records failures only."""
        detail: list[str] = []
        try:
            yield detail
        except LabError as error:
            self.lab.progress(f"FAILED: {error}")
            self.outcomes.append(Outcome(check, False, str(error).splitlines()[0]))
        else:
            if not quiet:
                self.outcomes.append(Outcome(check, True, "; ".join(detail)))


def _summary(results: list[FlowResult]) -> str:
    sent, lost = sum(result.sent for result in results), sum(result.lost for result in results)
    hit = [result for result in results if result.lost]
    if not hit:
        return f"none of {sent} packets of {len(results)} flows lost"
    worst = max(hit, key=lambda result: result.outage_ms)
    return (
        f"{lost} of {sent} packets lost, in {len(hit)} of {len(results)} flows; "
        f"longest outage {worst.outage_ms:.0f} ms ({worst.pair})"
    )
