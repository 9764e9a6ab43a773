"""Whether a service is announced by its backends' health, and what becomes of it when all of them fail at once.

Normally it is announced while `min_healthy` backends can be used. With `last_resort = "keep"` a check that is broken
cannot empty the site: when all backends fail within a short time, by their checks alone, the service stays announced
with the backends as they were, until one of them works again. What an orchestrator drains or removes is never kept, nor
what failed one after the other. While some have just failed and others still work, the address is announced on for the
time in which the others would follow: else `min_healthy` would withdraw it first.

Decides only that, of one family. Sans-IO and clockless.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence

import msgspec

from bgpd.model.service import HealthCheck, LastResort, Service
from bgpd.workload.service.targets import CheckId, Fault, Target, backends_of

LEAST_WINDOW_S = 5.0
PUSH_WINDOW_S = 10.0
"""Where an orchestrator says what is healthy."""
REMEMBERED_S = 60.0
"""A backend that was kept, and has not worked since, counts for so long as one that fails together with others."""
_TICK = 1e-6
"""Timers may be so much too early."""


def window_s(check: HealthCheck | None) -> float:
    """Failures within this time have one cause: checks find the same cause at different moments of their interval."""
    if check is None or check.type == "push":
        return PUSH_WINDOW_S
    return max(LEAST_WINDOW_S, check.fall * (1.1 * check.interval_s + check.timeout_s))


class Standing(enum.StrEnum):
    """Whether a service is announced."""

    DOWN = "down"
    UP = "up"
    DOUBT = "doubt"
    """Too few backends work, but those that do not have failed just now: announced until it is known whether all do."""
    LAST_RESORT = "last-resort"


class Availability(msgspec.Struct, eq=False):
    """How one family of a service stands. `kept`: what failed together. `until`: when to look again, None for never.

    `back_at`: when the last resort ended, as long as that matters. `is_reported`: operators know of the last resort.
    """

    standing: Standing = Standing.DOWN
    kept: dict[CheckId, None] = {}
    until: float | None = None
    back_at: float | None = None
    is_reported: bool = False

    @property
    def is_up(self) -> bool:
        """Whether the address may be announced."""
        return self.standing is not Standing.DOWN

    def look(self, targets: Sequence[Target], service: Service, now: float) -> list[Target]:
        """Judge anew by the addresses of this family; answers those that serve."""
        usable = [target for target in targets if target.fault is Fault.NONE]
        if len(backends_of(usable)) >= service.min_healthy:
            self._enter(Standing.UP, now)
            return usable
        failed = self._failed_together(targets, service, now)
        if not failed or len(backends_of([*usable, *failed])) < service.min_healthy:
            self._enter(Standing.DOWN, now)
            return usable
        self.kept = {target.id: None for target in failed}
        if usable:
            return self._doubt(usable, service, now)
        if self.standing is Standing.LAST_RESORT or _are_all(failed, targets):
            self._enter(Standing.LAST_RESORT, now)
            return failed
        self._enter(Standing.DOWN, now)
        return []

    def _failed_together(self, targets: Iterable[Target], service: Service, now: float) -> list[Target]:
        """What worked a moment ago and failed by its checks; nothing if it is not to be kept."""
        if service.last_resort is not LastResort.KEEP or not self.is_up:
            return []
        if self.back_at is not None and now - self.back_at > REMEMBERED_S:
            self.kept, self.back_at = {}, None
        least = now - window_s(service.check)
        return [one for one in targets if one.left_at is not None and (one.left_at >= least or one.id in self.kept)]

    def _doubt(self, usable: list[Target], service: Service, now: float) -> list[Target]:
        if self.standing is not Standing.DOUBT:
            self._enter(Standing.DOUBT, now)
            self.until = now + window_s(service.check)
        elif self.until is not None and now >= self.until - _TICK:
            self._enter(Standing.DOWN, now)
        return usable

    def _enter(self, standing: Standing, now: float) -> None:
        if self.standing is Standing.LAST_RESORT and standing in (Standing.UP, Standing.DOUBT):
            self.back_at = now
        if standing in (Standing.DOWN, Standing.LAST_RESORT):
            self.back_at = None
        if standing is Standing.DOWN or (standing is Standing.UP and self.back_at is None):
            self.kept = {}
        self.standing, self.until = standing, None


def _are_all(failed: Sequence[Target], targets: Iterable[Target]) -> bool:
    """Whether several backends failed together, or the only one there is: one that goes after others have is no sign
    of a broken check.
    """
    present = [target for target in targets if target.fault not in (Fault.ABSENT, Fault.DRAINED)]
    return len(backends_of(failed)) > 1 or len(backends_of(present)) == 1
