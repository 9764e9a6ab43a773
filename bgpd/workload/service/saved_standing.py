"""How services stand, for the next process: last resorts, slow starts, what failed a moment ago or is withdrawn.

Times are those of the monotonic clock, which all processes have in common until the host starts anew; one that lies
ahead is of a former start, and is ignored. What is unreadable, or of no service any more, is forgotten.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import msgspec

from bgpd.model.clocks import Monotonic, WallClock
from bgpd.model.iana import Family
from bgpd.model.unreadable import UNREADABLE
from bgpd.runtime.events import log
from bgpd.workload.damping import Penalty
from bgpd.workload.service.active import Active
from bgpd.workload.service.flapping import Flapping
from bgpd.workload.service.last_resort import Availability, Standing
from bgpd.workload.service.targets import CheckId, Fault


class _SavedTarget(msgspec.Struct, frozen=True, array_like=True):
    """See Target. `was_used`: nothing spoke against it."""

    id: CheckId
    was_used: bool
    left_at: Monotonic | None
    started_at: Monotonic | None


class _SavedFamily(msgspec.Struct, frozen=True, array_like=True):
    """See Availability."""

    family: Family
    standing: Standing
    kept: list[CheckId]
    until: Monotonic | None
    back_at: Monotonic | None


class _SavedFlapping(msgspec.Struct, frozen=True, array_like=True):
    """See Flapping and Penalty."""

    text: str
    is_fit: bool
    downs: int
    at: Monotonic
    count: Annotated[float, msgspec.Meta(ge=0, le=1e6)]
    held_until: Monotonic
    since: WallClock | None
    until: WallClock | None


class SavedStanding(msgspec.Struct, frozen=True, array_like=True):
    """One service."""

    families: list[_SavedFamily]
    targets: list[_SavedTarget]
    flapping: list[_SavedFlapping] = []
    short_since: dict[str, Monotonic] = {}


def save(services: Mapping[str, Active], unread: Mapping[str, SavedStanding]) -> bytes:
    """What `read` and `restore` need; `unread` is what an earlier process left and nobody has asked for yet."""
    return msgspec.msgpack.encode({name: standing_of(active) for name, active in services.items()} | dict(unread))


def standing_of(active: Active) -> SavedStanding:
    """How one service stands."""
    return SavedStanding(
        [
            _SavedFamily(family, one.standing, list(one.kept), one.until, one.back_at)
            for family, one in active.families.items()
        ],
        [
            _SavedTarget(target.id, target.fault is Fault.NONE, target.left_at, target.started_at)
            for target in active.targets.values()
        ],
        [
            _SavedFlapping(text, one.is_fit, one.downs, p.at, p.count, p.until, one.since, one.until)
            for text, one in active.flapping.items()
            for p in [one.penalty or Penalty(at=0.0)]
        ],
        active.short_since,
    )


def read(packed: bytes | None) -> dict[str, SavedStanding]:
    """What `save` answered in the process before, by service; empty if there was none."""
    if packed is None:
        return {}
    try:
        return msgspec.msgpack.decode(packed, type=dict[str, SavedStanding])
    except UNREADABLE as error:
        log.warning("service.saved_standing_unreadable", error=str(error))
        return {}


def restore(active: Active, saved: SavedStanding, now: float) -> None:
    """Go on as a service stood, once its backends are judged anew: what does not work any more has failed now."""
    for one in saved.families:
        if one.family not in active.families and _is_past(one.back_at, now):
            kept = dict.fromkeys(one.kept)
            active.families[one.family] = Availability(one.standing, kept, until=one.until, back_at=one.back_at)
    for flap in saved.flapping:
        if flap.text not in active.flapping and _is_past(flap.at, now):
            penalty = Penalty(at=flap.at, count=flap.count, until=flap.held_until) if flap.count else None
            active.flapping[flap.text] = Flapping(flap.is_fit, penalty, flap.downs, flap.since, flap.until)
    for text, at in saved.short_since.items():
        if text in active.service.addresses and _is_past(at, now):
            active.short_since.setdefault(text, at)
    for was in saved.targets:
        target = active.targets.get(was.id)
        if target is None or not (_is_past(was.left_at, now) and _is_past(was.started_at, now)):
            continue
        if target.fault is Fault.NONE:
            target.started_at = was.started_at
        elif target.fault in (Fault.FAILED, Fault.UNKNOWN):
            target.left_at = now if was.was_used else was.left_at


def _is_past(at: float | None, now: float) -> bool:
    return at is None or at <= now
