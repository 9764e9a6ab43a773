"""Log events of workloads for operators: announced, withdrawn, or not announced and why.

A few get one line each; the rest of a burst is counted. Only logs (`bgpd show events` and `monitor` read the log).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from bgpd.model.prefix import format_key
from bgpd.model.workload import WorkloadState
from bgpd.runtime.events import log
from bgpd.workload.standing import AWAITING_KERNEL, ClaimStatus

BURST, BURST_S = 20, 5.0
"""Lines and seconds: beyond this many lines within this time, events are only counted."""

_TROUBLE = (WorkloadState.CONFLICT, WorkloadState.FAILED, WorkloadState.MOVED)


class WorkloadEvents:
    """Logs what becomes of claims. `later(seconds, callback)`: call back then."""

    def __init__(self, later: Callable[[float, Callable[[], None]], object]) -> None:
        self._later = later
        self._lines = 0
        self._rest: Counter[str] = Counter()

    def states_changed(self, changed: Sequence[ClaimStatus]) -> None:
        """These claims have other states, or were given up."""
        for status in changed:
            event = _event_of(status)
            if not event:
                continue
            status.is_reported_announced = status.announced
            if not self._lines:
                self._later(BURST_S, self._end_burst)
            self._lines += 1
            if self._lines <= BURST:
                self._log(event, status)
            else:
                self._rest[event] += 1

    def _end_burst(self) -> None:
        self._lines = 0
        rest, self._rest = self._rest, Counter()
        if rest:
            log.info("workload.events_suppressed", **{event.removeprefix("workload."): n for event, n in rest.items()})

    @staticmethod
    def _log(event: str, status: ClaimStatus) -> None:
        claim = status.claim
        fields = {"interface": claim.interface, "vrf": claim.vrf, "reason": status.reason}
        write = log.warning if status.state in _TROUBLE and not event.endswith("withdrawn") else log.info
        prefix = format_key(claim.family, claim.key)
        write(event, id=claim.id, source=claim.source, prefix=prefix, **{k: v for k, v in fields.items() if v})


def _event_of(status: ClaimStatus) -> str:
    """What happened to a claim, "" for nothing that anybody waits for."""
    if status.is_reported_announced and not status.announced:
        return "workload.withdrawn"
    if status.announced and not status.is_reported_announced:
        return "workload.announced"
    if status.is_given_up or status.reason == AWAITING_KERNEL or status.state is WorkloadState.DAMPED:
        return ""  # of one that is damped the log says so once (`damping`)
    return "" if status.state is WorkloadState.ANNOUNCED else f"workload.{status.state}"
