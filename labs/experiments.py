"""What all laboratories' experiments share: steps whose outcomes are kept, and traffic whose losses are counted."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime

import msgspec

from labs.checks import Expectation, await_all, sessions, unreachable, workload_pairs
from labs.laboratory import Laboratory
from labs.process import LabError
from labs.route_changes import RouteChanges, in_words
from labs.traffic import FlowResult, Pair, start_flows

# A failure must not cost more than this: far above what is usual, below what the hold timer (3 s) would give.
OUTAGE_LIMIT_MS = 1500.0
BEFORE_S = 1.0
MONITORS_START_S = 0.2
ROUTERS = ("host", "leaf", "spine")
AFTER_S = 3.0


class Outcome(msgspec.Struct, frozen=True):
    """One line of the summary."""

    check: str
    passed: bool
    detail: str


class Experiments:
    """Runs the steps on a laboratory that is up, and keeps their outcomes. A step that fails does not stop the next.

    This one waits for the sessions and shows the tables; a laboratory of its own kind says more.
    """

    def __init__(self, lab: Laboratory, *, headline: Callable[[str], None], show: Callable[[str, str], None]) -> None:
        self.lab = lab
        self.outcomes: list[Outcome] = []
        self.counted: list[FlowResult] = []
        """What the flows of the last step under traffic lost."""
        self._headline = headline
        self._show = show

    def run(self) -> bool:
        """All steps in order; returns whether every check passed."""
        self.bring_up()
        if self.outcomes[-1].passed:
            self.steps()
        self.show_tables()
        return all(outcome.passed for outcome in self.outcomes)

    def bring_up(self) -> None:
        """What makes the network whole: here, wait for it."""
        self.converge("convergence")

    def steps(self) -> None:
        """What is tried on the converged network."""

    def expected(self) -> Iterable[Expectation]:
        """What holds in the converged network."""
        return sessions(self.lab)

    def commands(self, host: str) -> list[list[str]]:
        """The bgpd commands that are shown of a host at the end."""
        return [["show", view] for view in ("neighbors", "routes", "fib", "workloads")]

    def converge(self, check: str) -> None:
        """Wait for every session and route."""
        self._headline(check)
        with self._checked(check) as detail:
            detail.append(f"all sessions and routes after {await_all(self.lab, self.expected):.1f} s")

    def reach(self, check: str) -> None:
        """Ping between all workloads."""
        self._headline(f"{check}: every pod and server to every other")
        with self._checked(check) as detail:
            failed = unreachable(self.lab, self.lab.progress)
            if failed:
                raise LabError("no answer: " + ", ".join(failed))
            detail.append("every pair")

    def show_tables(self) -> None:
        """What the operator sees, on every host."""
        for name, daemon in self.lab.bgpd.items():
            for command in self.commands(name):
                with self._checked(f"{name}: bgpd {' '.join(command)}", quiet=True):
                    self._show(f"{name}# bgpd {' '.join(command)}", daemon.cli(*command))

    def across(self) -> list[Pair]:
        """All pairs of workloads whose packets cross the fabric."""
        return [pair for ipv6 in (False, True) for pair in workload_pairs(self.lab, ipv6=ipv6, across=True)]

    def under_traffic(
        self,
        check: str,
        action: Callable[[], object],
        *,
        pairs: Sequence[Pair],
        limit_ms: float,
        converge: bool = False,
    ) -> None:
        """Flows between pairs of workloads while something happens; counts what they lose, `limit_ms` at most.

        What it says tells when each router's kernel had its last change of routes, and so whose time an outage was.
        """
        self._headline(check)
        with self._checked(check) as detail, self.pings(detail, pairs=pairs, limit_ms=limit_ms):
            routers = [self.lab.namespaces[node.name] for node in self.lab.topology.with_role(*ROUTERS)]
            changes = RouteChanges(routers, routers[0].make_directory("routes"))
            time.sleep(MONITORS_START_S)
            began = datetime.now()
            action()
            time.sleep(AFTER_S)
            if converge:
                detail.append(f"all back after {AFTER_S + await_all(self.lab, self.expected):.1f} s")
            detail.append(in_words(changes.stop(began)))
            self.lab.progress(detail[-1])

    @contextlib.contextmanager
    def pings(
        self, detail: list[str], *, pairs: Sequence[Pair], limit_ms: float | Callable[[], float]
    ) -> Iterator[None]:
        """Pings run within, and from BEFORE_S earlier. A limit that is known only at the end may be a function.

        Raises: LabError: a pair had no answer for longer than `limit_ms`; with 0, a packet was lost.
        """
        directory = next(iter(self.lab.namespaces.values())).make_directory("traffic")
        flows = start_flows(pairs, directory)
        try:
            time.sleep(BEFORE_S)
            yield
        finally:
            results = self.counted = [flow.stop() for flow in flows]
        detail.append(_summary(results))
        self.lab.progress(detail[-1])
        limit = limit_ms() if callable(limit_ms) else limit_ms
        if max(result.outage_ms for result in results) > limit:
            raise LabError(f"{detail[-1]}; more than {limit:.0f} ms is too much")

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
