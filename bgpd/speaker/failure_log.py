"""What people are told about a neighbor that is down: the last reason, and a log that repeats do not flood.

Decides only what is worth a line in the log.
"""

from __future__ import annotations

import time

import structlog

log = structlog.get_logger()


class FailureLog:
    """What went wrong last. The first failure of a kind is logged, its repeats are counted."""

    def __init__(self, name: str) -> None:
        self.last = ""
        self.last_at: float | None = None
        self._name = name
        self._repeats = 0

    def note(self, reason: str) -> None:
        """An attempt failed."""
        repeated = reason == self.last
        self.last, self.last_at = reason, time.time()
        if repeated:
            self._repeats += 1
        else:
            log.warning("session.failed", neighbor=self._name, reason=reason, repeats_before=self._repeats)
            self._repeats = 0

    def closed(self, reason: str) -> None:
        """An established session ended."""
        self.last, self.last_at = reason, time.time()
        log.warning("session.closed", neighbor=self._name, reason=reason)

    def recovered(self) -> None:
        """A session is established; what went wrong before stays visible."""
        self._repeats = 0
