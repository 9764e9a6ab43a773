"""Whether this host is ready, and if not why: for `bgpd status`, metrics, the broker and systemd.

A freshly started daemon is not ready until its neighbors and sources have sent their first state. Until then kernel
routes of an earlier run keep forwarding, as with a restarting speaker (RFC 4724 section 4.1,
Selection_Deferral_Timer). Never changes a route.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Container, Iterable, Iterator

from bgpd import __version__
from bgpd.config.load import Loaded
from bgpd.config.schema_sessions import NeighborConfig
from bgpd.consistency import Consistency
from bgpd.inheritance import Inheritance
from bgpd.journal.journal import Journal
from bgpd.matching import Matching
from bgpd.model.iana import Family
from bgpd.model.source import Source
from bgpd.model.views.host import ConfigurationView, HealthView
from bgpd.routing import Routing
from bgpd.runtime import systemd
from bgpd.runtime.descriptors import Shortage
from bgpd.runtime.events import log
from bgpd.runtime.form import form
from bgpd.runtime.loop import FAR_OUT, TimedSelector
from bgpd.trial import Trial

ESTABLISH_WAIT_S = 15.0
"""A configured neighbor that is not established by then is not waited for."""
CONVERGENCE_CAP_S = 60.0
"""An established neighbor that has not sent End-of-RIB by then, and EVPN routes on their way into VRFs, are not waited
for."""
QUIET_S = 2.0
"""A neighbor that need not send End-of-RIB (it has no graceful restart capability) has sent its table once it has
announced nothing more for so long, ..."""
SILENT_S = 5.0
"""... or nothing at all. RFC 4724 section 4.1 leaves such neighbors out; a table that is on its way is waited
for here, so that no route leaves the kernel that the neighbor is about to announce."""
PENDING_PATIENCE_S = 5.0
"""The host counts as not ready when kernel routes have been pending for longer than this."""
LOOK_S = 1.0


class Readiness:
    """Says why this host may not be relied on. `neighbors` are the configured ones; `reason` is "" if it may.

    `matching` says what is wrong with the neighbors of patterns.

    `left` is what another process has left at the start: where that had converged, neighbors that are down are not
    waited for. `configuration`: where that in force came from. `why_drained()` says that this host is out of service
    (bgpd drain), "" if it is not; `also_warns` answer with further warnings. `plan_review()` is called
    when sessions, convergence or routes may have changed.
    """

    def __init__(
        self,
        routing: Routing,
        consistency: Consistency,
        *,
        journal: Journal,
        trial: Trial,
        selector: TimedSelector,
        shortage: Shortage,
        hostname: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self.neighbors: tuple[NeighborConfig, ...] = ()
        self.reason = "starting"
        self.left = Inheritance()
        self.configuration: ConfigurationView | None = None
        self.matching = Matching()
        self.why_drained: Callable[[], str] = lambda: ""
        self.also_warns: tuple[Callable[[], list[str]], ...] = ()
        self._routing = routing
        self._consistency = consistency
        self._journal = journal
        self._trial = trial
        self._selector = selector
        self._shortage = shortage
        self._hostname = hostname
        self._has_started = False
        self._started_at = time.time()
        self._born = clock()
        self._pending_since: float | None = None
        self._waits: list[tuple[str, float | None]] = []
        self._announced: dict[Source, tuple[int, float]] = {}
        self._status = ""
        self._is_review_planned = False

    @property
    def age_s(self) -> float:
        """Seconds since the start."""
        return self._clock() - self._born

    async def run(self) -> None:
        """All parts have started: look again and again, until cancelled."""
        self._has_started = True
        while True:
            self._review()
            await asyncio.sleep(LOOK_S)

    def plan_review(self) -> None:
        """Look in the loop's next turn, once."""
        if not self._is_review_planned:
            self._is_review_planned = True
            asyncio.get_running_loop().call_soon(self._review)

    def _review(self) -> None:
        self._is_review_planned = False
        if not self._routing.converged:
            self._look_for_convergence()
        if not self._routing.tables.backlog:
            self._pending_since = None
        elif self._pending_since is None:
            self._pending_since = self._clock()
        reason = "; ".join(self.reasons())
        if reason != self.reason:
            log.info("bgpd.readiness", ready=not reason, reason=reason)
            self.reason = reason
            self._routing.workloads.readiness_changed(reason)
        self._report_status()

    def _look_for_convergence(self) -> None:
        routing = self._routing
        found = waits(
            self.age_s,
            synchronised=routing.synchronised,
            sources=() if routing.synchronised else routing.workloads.awaited,
            neighbors=[(one.name, one.name in routing.sources) for one in self.neighbors],
            gone_on_with={one.name for one in self.neighbors if not self._is_awaited(one)},
            awaiting=[one for one in routing.speaker.awaiting_end_of_rib() if not self._is_quiet(one[0])],
            importing=routing.evpn.is_importing,
        )
        self._waits = list(found)
        if not self._waits:
            log.info("bgpd.converged", seconds=round(self.age_s, 3), routes=routing.routes)
            self._announced.clear()
            routing.converge()

    def _is_awaited(self, neighbor: NeighborConfig) -> bool:
        return not self.left.converged or neighbor.name in self.left.refused

    def _is_quiet(self, source: Source) -> bool:
        """Whether a neighbor that may never send End-of-RIB has sent its table, as far as can be known."""
        if self._routing.speaker.sends_end_of_rib(source):
            return False
        count, now = self._routing.rib.received.count(source), self._clock()
        if self._announced.get(source, (-1, now))[0] != count:
            self._announced[source] = count, now
        return now - self._announced[source][1] >= (QUIET_S if count else SILENT_S)

    def reasons(self) -> list[str]:
        """Why this host may not be relied on; empty if it may."""
        if not self._has_started:
            return ["starting"]
        routing = self._routing
        reasons = []
        if self.neighbors and not routing.sources:
            reasons.append("no neighbor is established")
        elif not routing.converged:
            reasons.append(f"not converged: {self._waits[0][0] if self._waits else ''}")
        if routing.monitor.is_behind:
            reasons.append("events of the kernel were lost, and its state is being read again")
        reasons += self._consistency.reasons()
        reasons += filter(None, [self.why_drained()])
        failed = routing.tables.failed
        if failed:
            reasons.append(f"the kernel refused {failed} routes: bgpd show fib --state failed")
        if self._pending_since is not None and self._clock() - self._pending_since > PENDING_PATIENCE_S:
            reasons.append("kernel routes wait to be written: bgpd show fib --state pending")
        return reasons

    def view(self) -> HealthView:
        """What `bgpd status` shows."""
        routing = self._routing
        reasons = self.reasons()
        warnings = filter(None, (routing.speaker.error, routing.speaker.bfd.problem, self._shortage.warning))
        return HealthView(
            ready=not reasons,
            reasons=reasons,
            warnings=[
                *warnings,
                *self.matching.problems,
                *(warning for warnings_of in self.also_warns for warning in warnings_of()),
                *routing.speaker.hostnames.warnings(),
                *routing.tables.warnings(),
                *routing.workloads.errors(),
                *routing.rib.contested.warnings(),
                *self._journal.warnings(),
                *self._trial.warnings(),
                *_without_keys(routing),
                *_discarded(routing),
            ],
            waiting_for=[_with_rest(text, until_s, self.age_s) for text, until_s in self._waits],
            version=__version__,
            form=form().value,
            pid=os.getpid(),
            hostname=self._hostname,
            started_at=self._started_at,
            neighbors=len(self.neighbors),
            neighbors_established=len(routing.sources),
            routes=routing.routes,
            fib_pending=routing.tables.pending,
            fib_failed=routing.tables.failed,
            loop_stall_s=self._selector.wall.longest_s,
            loop_stall_p9999_s=self._selector.wall.quantile(FAR_OUT),
            loop_stall_cpu_s=self._selector.cpu.longest_s,
            loop_stall_cpu_p9999_s=self._selector.cpu.quantile(FAR_OUT),
            last_handover=self.left.view(),
            configuration=self.configuration,
            history_from=routing.history.known_from,
        )

    def _report_status(self) -> None:
        """To systemd, which `systemctl status` shows."""
        text = f"{len(self._routing.sources)} neighbors established, {self._routing.routes} routes"
        if self.reason:
            text += f"; not ready: {self.reason}"
        if text != self._status:
            self._status = text
            systemd.notify(systemd.status(text), waits=False)


def configuration_view(loaded: Loaded, *, at: float) -> ConfigurationView:
    """Where a configuration came from that is in force since `at`, seconds since the epoch."""
    return ConfigurationView(
        files=list(loaded.files),
        variables=loaded.variables,
        at=at,
        asn=loaded.identity.asn,
        router_id=loaded.identity.router_id,
    )


def _with_rest(text: str, until_s: float | None, age_s: float) -> str:
    return text if until_s is None else f"{text} (waited for at most {max(0, until_s - age_s):.0f} s more)"


def _discarded(routing: Routing) -> Iterator[str]:
    for source, family, count in routing.rib.received.discarded():
        yield f"neighbor {source.name}: {count} {family} prefixes beyond max_prefixes were discarded"


def _without_keys(routing: Routing) -> Iterator[str]:
    """A session has its keys in the kernel, and goes on without their files."""
    for neighbor in routing.speaker.neighbors:
        if neighbor.lacks_keys and neighbor.wire is not None and not neighbor.peering.dynamic:
            what = "its password or key files cannot be used: the session goes on, and could not begin again"
            yield f"neighbor {neighbor.peering.name}: {what}; bgpd check says why"


def waits(
    age_s: float,
    *,
    synchronised: bool,
    neighbors: Iterable[tuple[str, bool]],
    awaiting: Iterable[tuple[Source, Family]],
    importing: bool,
    sources: Iterable[str] = (),
    gone_on_with: Container[str] = (),
) -> Iterator[tuple[str, float | None]]:
    """All that is still waited for, and until which age of the daemon at most (None: as long as it takes).

    `age_s`: since the start. `synchronised`: the workload sources gave their first state; `sources`: those that did
    not. `neighbors`: each configured one, and whether it is established; while none is, old routes are the best that
    there is. `gone_on_with`: those whose first state another process has heard, whatever became of them. `awaiting`:
    established sessions and families without End-of-RIB. `importing`: EVPN routes are on their way into VRFs.
    """
    if not synchronised:
        names = ", ".join(sources)
        yield f"workload sources have not given their first state{f': {names}' if names else ''}", None
    states = dict(neighbors)
    missing = [name for name, established in states.items() if not established]
    is_alone = len(missing) == len(states)
    if is_alone or age_s < ESTABLISH_WAIT_S:
        for name in missing:
            if name in gone_on_with:
                continue
            yield f"neighbor {name} is not established", None if is_alone else ESTABLISH_WAIT_S
    if age_s < CONVERGENCE_CAP_S:
        for source, family in awaiting:
            yield f"neighbor {source.name} has not sent End-of-RIB of {family}", CONVERGENCE_CAP_S
        if importing:
            yield "EVPN routes are being imported into VRFs", CONVERGENCE_CAP_S
