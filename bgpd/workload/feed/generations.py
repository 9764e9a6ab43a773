"""When it may be believed that something is gone though nobody deleted it.

A feed that goes away deletes nothing: a claim lives until it is deleted by name, or until a later generation is
complete without it. Complete means: since the feed was joined, as many workloads were heard as the generation says it
has, and then nothing more for a while. A partial snapshot never deletes. A wrong payload leaves the former claim in
force.

Sans-IO and clockless. Knows nothing of topics; `mqtt` does.
"""

from __future__ import annotations

from collections.abc import Callable

import structlog

from bgpd.model.reports import Problem
from bgpd.model.workload import Sync
from bgpd.workload.feed.feed import SLICE, Feed
from bgpd.workload.feed.payload import PayloadRefused, decode_service, decode_sync, decode_workload, is_tellable
from bgpd.workload.feed.reports import SERVICE, SYNC, WORKLOAD

log = structlog.get_logger()

QUIET_S = 0.5
"""No message for so long after a generation is complete: then what it lacks is gone. Queued messages of an
earlier time may make the count right for a moment."""

BUSY_S = 5.0
"""A feed that is never quiet is looked at so often."""

REFUSALS_LOGGED = 20
"""Refused payloads of a burst that get a line in the log."""

REFUSED_HEARD = 10_000
"""So many workloads beyond those that are taken may be heard of; a larger snapshot is never complete."""


class Generations:
    """Takes payloads as a feed delivers them, and ends what a complete generation of them lacks.

    `heard_whole()` is called when the feed's whole state was heard.
    """

    def __init__(self, feed: Feed, *, heard_whole: Callable[[], None]) -> None:
        self.sync: Sync | None = None
        self._feed = feed
        self._heard_whole = heard_whole
        self._heard: set[str] = set()
        self._gone: list[str] = []
        self._quiet_at: float | None = None
        self._busy_since = 0.0
        self._refusals_logged = 0

    @property
    def applied(self) -> int | None:
        """The latest generation that was complete and is applied."""
        return self._feed.generation

    @property
    def complete(self) -> bool:
        """Whether, on this connection, exactly as many workloads were heard as the generation has."""
        return self.sync is not None and len(self._heard) == self.sync.count

    def joined(self) -> None:
        """A connection to the feed begins: its snapshot is heard anew, and is nothing yet."""
        self._heard.clear()
        self._gone.clear()
        self.sync = None
        self._quiet_at = None

    def left(self) -> None:
        """The connection is lost. Nothing is deleted for that."""
        self._quiet_at = None

    def workload_received(self, id: str, body: bytes, now: float) -> None:
        """A workload's payload; an empty one deletes it. `now` is monotonic, in seconds."""
        self._quiet(now)
        if not body:
            self._heard.discard(id)
            self._feed.delete_workload(id)
            return
        if self._is_nameless("workload.refused", id):
            return
        if len(self._heard) <= self._feed.most + REFUSED_HEARD:
            self._heard.add(id)
        try:
            self._feed.put_workload(id, decode_workload(body, id=id, vrfs=self._feed.vrfs))
        except PayloadRefused as refusal:
            self._log_refusal("workload.refused", refusal, id=id)
            self._feed.refused(WORKLOAD, id, refusal.problems)

    def service_received(self, name: str, body: bytes) -> None:
        """A service's payload; an empty one deletes it."""
        if not body:
            self._feed.delete_service(name)
            return
        if self._is_nameless("service.refused", name):
            return
        try:
            service = decode_service(body, name=name, vrfs=self._feed.vrfs, commands=self._feed.commands)
            self._feed.put_service(name, service)
        except PayloadRefused as refusal:
            self._log_refusal("service.refused", refusal, name=name)
            self._feed.refused(SERVICE, name, refusal.problems)

    def sync_received(self, body: bytes, now: float) -> None:
        """The feed says how many workloads a generation has; an empty payload takes that back."""
        self._quiet(now)
        if not body:
            self.sync = None
            return
        try:
            sync = decode_sync(body)
        except PayloadRefused as refusal:
            self._refuse_sync(str(refusal)[:1000], refusal)
            return
        applied = self._feed.generation
        if applied is not None and sync.generation < applied:
            wrong = f"generation {sync.generation} is older than {applied}, which is applied"
            self._refuse_sync(wrong, PayloadRefused([Problem("generation", wrong, "generations grow")]))
            return
        self._feed.refused(SYNC, "", ())
        self.sync = sync

    def _refuse_sync(self, reason: str, refusal: PayloadRefused) -> None:
        log.warning("sync.refused", source=self._feed.source, reason=reason)
        self._feed.refused(SYNC, "", refusal.problems)

    def _is_nameless(self, event: str, name: str) -> bool:
        """Whether nothing can be published of that name; then nothing of it is kept, but for a line in the log."""
        if is_tellable(name):
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
        return 0.0 if self._gone else self._quiet_at

    def tick(self, now: float) -> None:
        """Apply a generation that is complete and has been quiet."""
        if self._gone:
            self._remove_some()
        if self._quiet_at is None or now < self._quiet_at:
            return
        self._quiet_at = None
        if self._refusals_logged > REFUSALS_LOGGED:
            more = self._refusals_logged - REFUSALS_LOGGED
            log.warning("feed.more_refused", source=self._feed.source, payloads=more)
        self._refusals_logged = 0
        if self.sync is None or not self.complete:
            return
        self._heard_whole()
        applied = self._feed.generation
        if applied is not None and self.sync.generation <= applied:
            return
        self._gone = sorted(self._feed.names(WORKLOAD) - self._heard, reverse=True)
        log.info(
            "feed.generation_applied",
            source=self._feed.source,
            generation=self.sync.generation,
            removed=len(self._gone),
        )
        self._feed.generation_applied(self.sync.generation)
        self._remove_some()

    def _remove_some(self) -> None:
        """Remove the next of what the applied generation lacks, but not what was heard since."""
        for _ in range(min(SLICE, len(self._gone))):
            id = self._gone.pop()
            if id not in self._heard:
                self._feed.delete_workload(id)
