"""Feedback to orchestrators: which payloads were refused and why, and the state of each workload.

Remembers refusals, of all sources; decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Protocol

from bgpd.model.prefix import format_key
from bgpd.model.reports import AddressReport, Problem, WorkloadReport
from bgpd.model.workload import WorkloadState
from bgpd.workload.sources import feeds
from bgpd.workload.standing import ClaimStatus

WORKLOAD, SERVICE, SYNC = "workload", "service", "sync"
SNAPSHOT, STATE_FILE, RIGHTS = "snapshot", "state file", "rights"
"""What may be wrong: a payload of a workload, a service or a snapshot's size; a snapshot; a file of the state
directory; what a broker lets this host do."""

MAX_REFUSED = 10_000
"""Refused payloads of a source that are remembered; more are only logged."""

_LEAST_GOOD_FIRST = (
    WorkloadState.FAILED,
    WorkloadState.CONFLICT,
    WorkloadState.MOVED,
    WorkloadState.DAMPED,
    WorkloadState.PENDING,
    WorkloadState.SUPPRESSED,
    WorkloadState.ANNOUNCED,
)


class Claimed(Protocol):
    """Who knows what became of a workload (`claims.Claims`)."""

    def statuses(self, source: str, id: str) -> list[ClaimStatus]:
        """What became of each address that a source claims for a workload."""


class Reports:
    """The problems of each source's payloads; each of `listeners` is called with (kind, id) when they change."""

    def __init__(self, claims: Claimed) -> None:
        self._claims = claims
        self._problems: dict[str, dict[tuple[str, str], tuple[Problem, ...]]] = {name: {} for name in feeds()}
        self.listeners: list[Callable[[str, str], None]] = []

    def note(self, source: str, kind: str, id: str, problems: Collection[Problem]) -> None:
        """The latest payload of (`kind`, `id`) has these problems; none: it is good, or gone."""
        known, name = self._problems[source], (kind, id)
        if problems and (len(known) < MAX_REFUSED or name in known):
            known[name] = tuple(problems)
        elif problems or known.pop(name, None) is None:
            return
        for listener in self.listeners:
            listener(kind, id)

    def problems(self, source: str, kind: str, id: str = "") -> list[Problem]:
        """What is wrong with the latest payload of a source."""
        return list(self._problems[source].get((kind, id), ()))

    def names(self, source: str, kind: str) -> set[str]:
        """Of which names of a kind a source's latest payload has problems."""
        return {id for of, id in self._problems[source] if of == kind}

    def all_problems(self, kind: str, id: str = "") -> list[Problem]:
        """What is wrong with the latest payloads of all sources."""
        return [problem for source in self._problems for problem in self.problems(source, kind, id)]

    def workload(self, source: str, id: str) -> WorkloadReport | None:
        """The report of a workload; None if nothing is known of it."""
        statuses = self._claims.statuses(source, id)
        errors = self.problems(source, WORKLOAD, id)
        if not statuses:
            if not errors:
                return None
            return WorkloadReport(id=id, state="failed", reason="the payload was refused", errors=errors)
        worst = min(statuses, key=lambda status: _LEAST_GOOD_FIRST.index(status.state))
        return WorkloadReport(
            id=id,
            state=worst.state,
            reason=worst.reason,
            since=worst.since,
            addresses=[_address_report(status) for status in statuses],
            errors=errors,
        )

    def any_workload(self, id: str) -> WorkloadReport | None:
        """The report of the workload of this name, whatever source it is from."""
        found = (self.workload(source, id) for source in self._problems)
        return next((report for report in found if report is not None), None)


def _address_report(status: ClaimStatus) -> AddressReport:
    return AddressReport(
        prefix=format_key(status.claim.family, status.claim.key),
        state=status.state,
        reason=status.reason,
        since=status.since,
        announced=status.announced,
    )
