"""Decides when a workload or service is gone although nobody deleted it: by generations of the orchestrator's state.

A lost feed deletes nothing: a claim lives until it is deleted by name, or until a later generation is complete without
it. A generation is complete when, since the feed was joined, as many workloads and services were received as it
announces, and then nothing more for a while. An incomplete generation never deletes: it is requested again. A wrong
payload leaves the former claim in force.

Sans-IO and clockless. Knows nothing of topics; `mqtt` does.
"""

from __future__ import annotations

from collections.abc import Callable

from bgpd.model.reports import Problem
from bgpd.model.workload import Sync
from bgpd.runtime.events import log
from bgpd.workload.feed.feed import SLICE, Feed
from bgpd.workload.feed.payload import PayloadRefused, decode_service, decode_sync, decode_workload, is_publishable
from bgpd.workload.feed.reports import SERVICE, SNAPSHOT, SYNC, WORKLOAD

QUIET_S = 0.5
"""No message for so long after a generation is complete: then what it lacks is gone. Queued messages of an
earlier time may make the count right for a moment."""

BUSY_S = 5.0
"""A feed that is never quiet is looked at so often."""

REFUSALS_LOGGED = 20
"""Refused payloads of a burst that get a line in the log."""

INCOMPLETE_S = (5.0, 300.0)
"""First and last pause after which an incomplete generation is requested again; the pause doubles each time."""

CONFIRM_S = 2.0
"""Least time between requesting services again (where they are not counted) and removing those still missing."""

REFUSED_HEARD = 10_000
"""Names beyond the accepted workloads, and services, that are remembered; a larger snapshot is never complete."""


class Generations:
    """Takes payloads as a feed delivers them, and removes what a complete generation lacks.

    `heard_whole()` is called when the feed's whole state was received, `ask_again()` to have all of it sent again.
    """

    def __init__(
        self, feed: Feed, *, heard_whole: Callable[[], None], ask_again: Callable[[], None] = lambda: None
    ) -> None:
        self.sync: Sync | None = None
        self._feed = feed
        self._heard_whole = heard_whole
        self._ask_again = ask_again
        self._heard: dict[str, set[str]] = {WORKLOAD: set(), SERVICE: set()}
        self._gone: list[tuple[str, str]] = []
        self._applying: Sync | None = None
        self._is_confirming = False
        self._ask_at: float | None = None
        self._ask_pause_s = INCOMPLETE_S[0]
        self._quiet_at: float | None = None
        self._busy_since = 0.0
        self._refusals_logged = 0

    @property
    def source(self) -> str:
        """The name of the source."""
        return self._feed.source

    @property
    def applied(self) -> int | None:
        """The latest generation that was complete and is applied."""
        return self._feed.generation

    @property
    def epoch(self) -> str:
        """The epoch of that generation."""
        return self._feed.epoch

    @property
    def complete(self) -> bool:
        """Whether, on this connection, exactly as many workloads and services were heard as the generation has."""
        if self.sync is None or len(self._heard[WORKLOAD]) != self.sync.count:
            return False
        return self.sync.services is None or len(self._heard[SERVICE]) == self.sync.services

    def joined(self) -> None:
        """A connection to the feed begins: its snapshot is received again and is empty yet."""
        for heard in self._heard.values():
            heard.clear()
        self._gone.clear()
        self.sync = self._applying = None
        self._quiet_at = self._ask_at = None
        self._ask_pause_s = INCOMPLETE_S[0]
        self._is_confirming = False
        self._feed.refused(SNAPSHOT, "", ())

    def left(self) -> None:
        """The connection is lost. Nothing is deleted for that."""
        self._quiet_at = self._ask_at = None

    def workload_received(self, id: str, body: bytes, now: float) -> None:
        """A workload's payload; an empty one deletes it. `now` is monotonic, in seconds."""
        self._quiet(now)
        if not body:
            self._heard[WORKLOAD].discard(id)
            self._feed.delete_workload(id)
            return
        if self._is_nameless("workload.refused", id):
            return
        self._hear(WORKLOAD, id)
        try:
            self._feed.put_workload(id, decode_workload(body, id=id, vrfs=self._feed.vrfs))
        except PayloadRefused as refusal:
            self._log_refusal("workload.refused", refusal, id=id)
            self._feed.refused(WORKLOAD, id, refusal.problems)

    def _hear(self, kind: str, id: str) -> None:
        if len(self._heard[kind]) <= self._feed.most + REFUSED_HEARD:
            self._heard[kind].add(id)

    def service_received(self, name: str, body: bytes, now: float) -> None:
        """A service's payload; an empty one deletes it."""
        self._quiet(now)
        if not body:
            self._heard[SERVICE].discard(name)
            self._feed.delete_service(name)
            return
        if self._is_nameless("service.refused", name):
            return
        self._hear(SERVICE, name)
        try:
            service = decode_service(body, name=name, vrfs=self._feed.vrfs, commands=self._feed.commands)
            self._feed.put_service(name, service)
        except PayloadRefused as refusal:
            self._log_refusal("service.refused", refusal, name=name)
            self._feed.refused(SERVICE, name, refusal.problems)

    def sync_received(self, body: bytes, now: float) -> None:
        """The feed says how much a generation has; an empty payload takes that back."""
        self._quiet(now)
        if not body:
            self.sync = self._ask_at = None
            self._feed.refused(SNAPSHOT, "", ())
            return
        try:
            sync = decode_sync(body)
        except PayloadRefused as refusal:
            self._refuse_sync(str(refusal)[:1000], refusal)
            return
        applied = self._feed.generation
        if applied is not None and sync.epoch == self._feed.epoch and sync.generation < applied:
            wrong = f"generation {sync.generation} is older than {applied}, which is applied"
            right = 'generations grow; an orchestrator that counts anew gives another "epoch"'
            self._refuse_sync(wrong, PayloadRefused([Problem("generation", wrong, right)]))
            return
        self._feed.refused(SYNC, "", ())
        self.sync = sync

    def _refuse_sync(self, reason: str, refusal: PayloadRefused) -> None:
        log.warning("sync.refused", source=self._feed.source, reason=reason)
        self._feed.refused(SYNC, "", refusal.problems)

    def _is_nameless(self, event: str, name: str) -> bool:
        """Whether nothing can be published of that name; then nothing of it is kept, but for a line in the log."""
        if is_publishable(name):
            return False
        self._log_refusal(event, PayloadRefused([Problem("", "no topic can have this name", "")]), name=name)
        return True

    def _log_refusal(self, event: str, refusal: PayloadRefused, **name: str) -> None:
        """One line each for the first of a burst; the rest are counted, each has its report all the same."""
        self._refusals_logged += 1
        if self._refusals_logged <= REFUSALS_LOGGED:
            shown = {key: value[:253] for key, value in name.items()}
            log.warning(event, source=self._feed.source, reason=str(refusal)[:1000], **shown)

    def _quiet(self, now: float) -> None:
        if self._quiet_at is None:
            self._busy_since = now
        self._quiet_at = min(now + QUIET_S, self._busy_since + BUSY_S)

    def timer(self) -> float | None:
        """When `tick` wants to be called, on the clock of `now`; 0 is at once."""
        if self._applying is not None:
            return 0.0
        times = [at for at in (self._quiet_at, self._ask_at) if at is not None]
        return min(times, default=None)

    def tick(self, now: float) -> None:
        """Apply a generation that is complete and has been quiet; ask again for one that is not complete."""
        if self._applying is not None:
            self._remove_some(self._applying)
        if self._ask_at is not None and now >= self._ask_at:
            self._ask_for_rest(now)
        if self._quiet_at is None or now < self._quiet_at:
            return
        self._quiet_at = None
        if self._refusals_logged > REFUSALS_LOGGED:
            more = self._refusals_logged - REFUSALS_LOGGED
            log.warning("feed.refusals_suppressed", source=self._feed.source, payloads=more)
        self._refusals_logged = 0
        if not self.complete:
            if self.sync is not None and self._ask_at is None:
                self._ask_at = now + self._ask_pause_s
            return
        self._ask_at = None
        self._ask_pause_s = INCOMPLETE_S[0]
        self._feed.refused(SNAPSHOT, "", ())
        self._heard_whole()
        if self.sync is not None and self._is_news(self.sync):
            self._apply(self.sync, now)

    def _is_news(self, sync: Sync) -> bool:
        applied = self._feed.generation
        return applied is None or sync.epoch != self._feed.epoch or sync.generation > applied

    def _apply(self, sync: Sync, now: float) -> None:
        """End what a complete generation lacks."""
        services = self._feed.names(SERVICE) - self._heard[SERVICE]
        if services and sync.services is None and not self._is_confirming:
            self._is_confirming = True
            self._quiet_at = now + CONFIRM_S
            self._ask_again()
            return
        self._is_confirming = False
        workloads = self._feed.names(WORKLOAD) - self._heard[WORKLOAD]
        self._gone = sorted([(WORKLOAD, id) for id in workloads] + [(SERVICE, name) for name in services], reverse=True)
        log.info(
            "feed.generation_applied",
            source=self._feed.source,
            generation=sync.generation,
            epoch=sync.epoch,
            removed=len(workloads),
            removed_services=len(services),
        )
        self._applying = sync
        self._remove_some(sync)

    def _ask_for_rest(self, now: float) -> None:
        """Something is missing, or more is there than was counted: report it, and have all sent again."""
        self._ask_at = None
        if self.sync is None or self.complete:
            return
        self._ask_pause_s = min(2 * self._ask_pause_s, INCOMPLETE_S[1])
        self._ask_at = now + self._ask_pause_s
        has, heard = f"{self.sync.count} workloads", f"{len(self._heard[WORKLOAD])} workloads"
        if self.sync.services is not None:
            has += f" and {self.sync.services} services"
            heard += f" and {len(self._heard[SERVICE])} services"
        wrong = f"generation {self.sync.generation} is incomplete: it has {has}, and {heard} were heard"
        right = "nothing is deleted; does the broker drop queued messages (max_queued_messages of Mosquitto)?"
        log.warning("feed.incomplete", source=self._feed.source, reason=wrong)
        self._feed.refused(SNAPSHOT, "", [Problem("", wrong, right)])
        self._ask_again()

    def _remove_some(self, sync: Sync) -> None:
        """Remove the next entries that the generation lacks, unless they were received since.

        It is applied once none is left: if the process or the connection ends before, it is news again.
        """
        for _ in range(min(SLICE, len(self._gone))):
            kind, id = self._gone.pop()
            if id in self._heard[kind]:
                continue
            if kind == WORKLOAD:
                self._feed.delete_workload(id)
            else:
                self._feed.delete_service(id)
        if not self._gone:
            self._applying = None
            self._feed.generation_applied(sync.generation, sync.epoch)
