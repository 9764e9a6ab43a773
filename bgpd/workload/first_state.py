"""When, after a start, all sources have sent their first state and it is applied: then stale state of an earlier run
may be deleted.

Decides only that. Sans-IO and clockless.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from bgpd.workload.table import WorkloadTable


class Checked(Protocol):
    """Services, which are not claimed before their checks have said something (`service.Services`)."""

    def undecided(self) -> bool:
        """Whether there are some of which no check has said anything yet."""

    def release(self, done: Callable[[], None]) -> None:
        """Claim what waits; `done` is called when that has been settled."""


class FirstState:
    """Follows a start until its first state is reached.

    `order_known()` is called once when all were heard; `reached()` once after that, when their claims are settled.
    `look` is to be called whenever the table was flushed or a check has said something.
    """

    def __init__(
        self, table: WorkloadTable, services: Checked, *, order_known: Callable[[], None], reached: Callable[[], None]
    ) -> None:
        self.is_order_known = False
        self._table = table
        self._services = services
        self._order_known = order_known
        self._reached = reached
        self._awaited: set[str] = set()
        self._are_claims_settled = self._is_released = False
        self._is_time_over = self._is_over = False

    def wait_for(self, source: str) -> None:
        """A source will call `heard` when its whole first state has come."""
        self._awaited.add(source)

    def heard(self, source: str) -> None:
        """The whole first state of a source has come."""
        self._awaited.discard(source)
        self._table.schedule()

    @property
    def awaited(self) -> list[str]:
        """The sources whose first state has not come."""
        return sorted(self._awaited)

    def look(self) -> None:
        """Go on if what was waited for is there."""
        if self._is_over:
            return
        if not self._awaited and self._table.settled:
            self._settle_claims()
        if self._are_claims_settled and not self._is_released and self._may_release():
            self._is_released = True
            self._services.release(self._know_order)
        is_settled = not self._table.is_marked if self._is_time_over else self._table.settled
        if self.is_order_known and is_settled and not self._is_over:
            self._is_over = True
            self._reached()

    def time_out(self) -> list[str]:
        """Wait no longer, but for what this host itself still has to do. Returns the sources that are missing."""
        missing = sorted(self._awaited)
        self._awaited.clear()
        self._table.wait_no_longer()
        if not self._is_over:
            self._is_time_over = True
            self._settle_claims()
            self.look()
        return missing

    def _settle_claims(self) -> None:
        if not self._are_claims_settled:
            self._are_claims_settled = True
            self._table.claims.replayed()

    def _may_release(self) -> bool:
        return self._is_time_over or not self._services.undecided()

    def _know_order(self) -> None:
        """All services are claimed."""
        self.is_order_known = True
        self._table.claims.order_known()
        self._order_known()
        self.look()
