"""Why a neighbor is down, for people: the last reason, and log lines that repeats do not flood.

Decides only what is worth a line in the log.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import structlog

from bgpd.runtime.rates import LineBudget
from bgpd.speaker.reach import NOT_HEARD

log = structlog.get_logger()


MAX_KINDS = 100
"""Failures that are kept apart; with more of them (texts of the neighbor's, say) all are forgotten and logged again."""


class FailureLog:
    """What went wrong last. The first failure of a kind is logged, its repeats until a session is there are counted.

    That no Router Advertisement was heard is a failure only when it lasts. `ending`: this host ends the session.
    """

    def __init__(self, name: str, lines: LineBudget) -> None:
        self.last = ""
        self.last_at: float | None = None
        self.ending = False
        self._name = name
        self._lines = lines
        self._counts: dict[str, int] = {}
        self._repeats = 0

    def note(self, reason: str) -> None:
        """An attempt failed."""
        self.last, self.last_at = reason, time.time()
        if len(self._counts) > MAX_KINDS:
            self._counts.clear()
        count = self._counts[reason] = self._counts.get(reason, 0) + 1
        if count == (2 if reason.endswith(NOT_HEARD) else 1):
            self._write(log.warning, "session.failed", reason=reason, repeats_before=self._repeats)
            self._repeats = 0
        else:
            self._repeats += 1

    def closed(self, reason: str) -> None:
        """An established session ended."""
        self.last, self.last_at = reason, time.time()
        self._write(log.info if self.ending else log.warning, "session.closed", reason=reason)

    def recovered(self, **fields: object) -> None:
        """A session is established, which `fields` describe; what went wrong before stays visible."""
        self._counts.clear()
        self._repeats = 0
        self._write(log.info, "session.established", **fields)

    def _write(self, line: Callable[..., object], event: str, **fields: object) -> None:
        self._lines.write(line, event, now=time.monotonic(), neighbor=self._name, **fields)
