"""Why a neighbor is down, for people: the last reason, and log lines that repeats do not flood.

Decides only what is worth a line in the log.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from bgpd.message.notification import describe_notification
from bgpd.runtime.events import log
from bgpd.runtime.rates import LineBudget
from bgpd.speaker.reach import NOT_HEARD
from bgpd.speaker.saved import Notice, SavedFailures
from bgpd.speaker.session import Notified

MAX_KINDS = 100
"""Failures that are kept apart; with more of them (texts of the neighbor's, say) all are forgotten and logged again."""


class FailureLog:
    """What went wrong last. The first failure of a kind is logged, its repeats until a session is there are counted.

    That no Router Advertisement was heard is a failure only when it lasts. `ending`: this host ends the session.
    """

    def __init__(self, name: str, lines: LineBudget) -> None:
        self.last = ""
        self.last_at: float | None = None
        self.sent = Notice()
        self.received = Notice()
        self.ending = False
        self._name = name
        self._lines = lines
        self._counts: dict[str, int] = {}
        self._repeats = 0
        self._cause = ""

    @property
    def text(self) -> str:
        """The last reason; where one with a NOTIFICATION came before it, that one too, which says more."""
        if not self._cause or self._cause == self.last:
            return self.last
        return f"{self.last}; before that: {self._cause}"

    @property
    def saved(self) -> SavedFailures:
        """What `restore` takes."""
        return SavedFailures(self.last, self.last_at, self.sent, self.received, self._cause)

    def restore(self, saved: SavedFailures) -> None:
        """Go on as another process has left it."""
        self.last, self.last_at, self.sent, self.received, self._cause = saved

    def _keep(self, reason: str, notified: Notified | None) -> None:
        self.last, self.last_at = reason, time.time()
        if notified is None:
            return
        self._cause = reason
        said = notified.notification
        notice = Notice(describe_notification(said.code, said.subcode, said.data), self.last_at)
        if notified.sent:
            self.sent = notice
        else:
            self.received = notice

    def note(self, reason: str, notified: Notified | None = None) -> None:
        """An attempt failed, by a NOTIFICATION if one was sent or received."""
        self._keep(reason, notified)
        if len(self._counts) > MAX_KINDS:
            self._counts.clear()
        count = self._counts[reason] = self._counts.get(reason, 0) + 1
        if count == (2 if reason.endswith(NOT_HEARD) else 1):
            self._write(log.warning, "session.failed", reason=reason, repeats_before=self._repeats)
            self._repeats = 0
        else:
            self._repeats += 1

    def closed(self, reason: str, notified: Notified | None = None) -> None:
        """An established session ended, by a NOTIFICATION if one was sent or received."""
        self._keep(reason, notified)
        self._write(log.info if self.ending else log.warning, "session.closed", reason=reason)

    def recovered(self, **fields: object) -> None:
        """A session is established, which `fields` describe; what went wrong before stays visible."""
        self._counts.clear()
        self._repeats = 0
        self._cause = ""
        self._write(log.info, "session.established", **fields)

    def adopted(self, **fields: object) -> None:
        """Another process has left an established session to this one, which `fields` describe."""
        self._write(log.info, "session.adopted", **fields)

    def _write(self, line: Callable[..., object], event: str, **fields: object) -> None:
        self._lines.write(line, event, now=time.monotonic(), neighbor=self._name, **fields)
