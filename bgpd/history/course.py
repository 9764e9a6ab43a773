"""Whether records say all at a moment: which processes wrote them, what is missing, and since when all was known again.

What all who take records in order have in common (`Replay`, `OwnTables`).
"""

from __future__ import annotations

from bgpd.history.records import AnyRecord, Ended, Started

NOT_KNOWN = "the history begins later"
ANEW = "bgpd started anew"
_NOT_WRITTEN = "the process before did not write all that it knew"


class Course:
    """`problem` says why what is asked for is not known at the time `at` of the last record, "" if it is. `ended_at`:
    bgpd had ended then, 0.0 if it went on; `anew_at`: though no end was recorded, it began anew then. `gaps`: where
    changes are missing: when all was known again, and why it was not.
    """

    def __init__(self) -> None:
        self.problem = NOT_KNOWN
        self.at = 0.0
        self.ended_at = self.anew_at = 0.0
        self.gaps: list[tuple[float, str]] = []
        self._has_handed_over = False
        self._is_in_base = False

    def take(self, record: AnyRecord) -> None:
        """Take the next record."""
        self.at, self.ended_at = record.at, 0.0

    def look_ahead(self, record: AnyRecord) -> None:
        """What comes next, after the moment that is asked for."""
        if isinstance(record, Started) and not record.is_adopting and not self.ended_at:
            self.anew_at = record.at

    def damaged(self, reason: str) -> None:
        """Records are missing here: also those of a base that goes on."""
        self.problem, self._is_in_base = reason, False

    def _whole(self, at: float) -> None:
        """All is known from here on."""
        if self.problem not in ("", NOT_KNOWN):
            self.gaps.append((at, self.problem))
        self.problem = ""

    def _goes_on(self) -> None:
        """Another process goes on with what the one before had."""
        if not self._has_handed_over and not self.problem:
            self.problem = _NOT_WRITTEN
        self._has_handed_over = False

    def _ended(self, record: Ended) -> None:
        self._has_handed_over = record.is_handed_over
        self.ended_at = 0.0 if record.is_handed_over else record.at
