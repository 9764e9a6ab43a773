"""What became of each workload that an orchestrator named, as one report: its addresses and the errors of its payload.

Remembers refused payloads; decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from bgpd.model.prefix import format_key
from bgpd.model.reports import AddressReport, Problem, WorkloadReport
from bgpd.model.workload import WorkloadState
from bgpd.workload.table import WorkloadTable

MAX_REFUSED = 10_000
"""Refused payloads remembered; more are only logged."""

_LEAST_GOOD_FIRST = (
    WorkloadState.FAILED,
    WorkloadState.CONFLICT,
    WorkloadState.MOVED,
    WorkloadState.PENDING,
    WorkloadState.SUPPRESSED,
    WorkloadState.ANNOUNCED,
)


class Reports:
    """Reports of one source. `changed(kind, id)` is called when a refusal comes or goes."""

    def __init__(self, source: str, table: WorkloadTable, *, changed: Callable[[str, str], None]) -> None:
        self._source = source
        self._table = table
        self._changed = changed
        self._refused: dict[tuple[str, str], tuple[Problem, ...]] = {}

    def refused(self, kind: str, id: str, problems: Collection[Problem]) -> None:
        """The latest payload of (`kind`, `id`) has these problems; none: it is good, or gone."""
        name = (kind, id)
        if problems:
            if len(self._refused) < MAX_REFUSED or name in self._refused:
                self._refused[name] = tuple(problems)
                self._changed(kind, id)
        elif self._refused.pop(name, None) is not None:
            self._changed(kind, id)

    def problems(self, kind: str, id: str) -> list[Problem]:
        """What is wrong with the latest payload."""
        return list(self._refused.get((kind, id), ()))

    def workload(self, id: str) -> WorkloadReport | None:
        """The report of a workload; None if nothing is known of it."""
        held = self._table.held(self._source, id)
        errors = self.problems("workload", id)
        if not held:
            if not errors:
                return None
            return WorkloadReport(id=id, state="failed", reason="the payload was refused", errors=errors)
        worst = min(held, key=lambda h: _LEAST_GOOD_FIRST.index(h.state))
        return WorkloadReport(
            id=id,
            state=worst.state,
            reason=worst.reason,
            since=worst.since,
            addresses=[
                AddressReport(
                    prefix=format_key(h.claim.family, h.claim.key),
                    state=h.state,
                    reason=h.reason,
                    since=h.since,
                    announced=h.announced,
                )
                for h in held
            ],
            errors=errors,
        )
