"""What checks and probes have found out, for the next process: an upgrade must not begin with "not checked yet".

A check that is another one than before begins anew. What is not asked for until the first state is complete is
forgotten. What a crash leaves (`service_file`) may be old: the first result of each check is waited for, but it
need not come `rise` times.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from bgpd.model.clocks import WallClock
from bgpd.model.service import HealthCheck
from bgpd.model.unreadable import UNREADABLE
from bgpd.runtime.events import log
from bgpd.workload.service.checker import Health
from bgpd.workload.service.targets import CheckId


class SavedCheck(msgspec.Struct, frozen=True, array_like=True):
    """One check that has been decided. Wall clock, seconds."""

    id: CheckId
    check: HealthCheck
    healthy: bool
    reason: str
    since: WallClock


class SavedHealth:
    """What an earlier process found out."""

    def __init__(self) -> None:
        self._left: dict[CheckId, SavedCheck] = {}
        self._has_crashed = False

    def remember(self, packed: bytes | None) -> None:
        """`save`'s answer in the earlier process; None if there was none."""
        if packed is None:
            return
        self._left = {}
        try:
            for raw in msgspec.msgpack.decode(packed, type=list[msgspec.Raw]):
                self._remember_one(raw)
        except UNREADABLE as error:
            log.warning("service.saved_health_unreadable", error=str(error))

    def _remember_one(self, raw: msgspec.Raw) -> None:
        try:
            one = msgspec.msgpack.decode(raw, type=SavedCheck)
        except UNREADABLE as error:  # of a version that took what this one refuses
            log.warning("service.saved_check_unreadable", error=str(error))
        else:
            self._left[one.id] = one

    def remember_crashed(self, checks: Iterable[SavedCheck]) -> None:
        """What a process knew that came to no end of its own."""
        self._left = {one.id: one for one in checks}
        self._has_crashed = True

    def take(self, id: CheckId, check: HealthCheck) -> Health:
        """The health of a check that begins now; of one that goes on, as it was."""
        saved = self._left.pop(id, None)
        if saved is None or saved.check != check:
            return Health(rise=check.rise, fall=check.fall)
        health = _health_of(saved)
        health.is_of_before = self._has_crashed and saved.healthy
        return health

    def left(self) -> Iterator[tuple[CheckId, HealthCheck, Health]]:
        """What nobody has asked for yet."""
        for id, one in self._left.items():
            yield id, one.check, _health_of(one)

    def forget(self) -> None:
        """All that there is has asked."""
        self._left.clear()


def _health_of(one: SavedCheck) -> Health:
    check = one.check
    return Health(rise=check.rise, fall=check.fall, healthy=one.healthy, reason=one.reason, since=one.since)


def save(healths: Iterable[tuple[CheckId, HealthCheck, Health]]) -> bytes:
    """What is decided, for the next process."""
    return msgspec.msgpack.encode(decided(healths))


def decided(healths: Iterable[tuple[CheckId, HealthCheck, Health]]) -> list[SavedCheck]:
    """The checks that have been decided."""
    return [
        SavedCheck(id, check, health.healthy, health.reason, health.since)
        for id, check, health in healths
        if health.healthy is not None
    ]
