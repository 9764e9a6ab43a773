"""`bgpd show events --prefix P`: what became of a prefix, as events, from the files of the history alone."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from bgpd.history.prefixes import MOST_KEYS, Change, TooMany
from bgpd.history.reading import NotKnown, Progress, best_text, read, unsaid, vrfs_asked, way_text
from bgpd.history.segments import known_from
from bgpd.history.wanted import Inside, These, Wanted
from bgpd.journal.store import Sought
from bgpd.model.iana import Family
from bgpd.model.prefix import format_key, parse_prefix
from bgpd.model.views.host import EventView

MANY_S = 3600.0
"""How far it is looked back for all prefixes inside one, unless that is said: no index tells where those are."""
_LEVEL = "info"
_NAME = "route"
_BEGINS = "history.begins"
_UNKNOWN = "history.not_known"


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What of the changes is looked for, in which VRFs; in none means in all that the history has. `also_former`: in
    those that are not configured any more, too."""

    sought: Sought
    vrfs: tuple[str, ...] = ("",)
    also_former: bool = False


def is_about_routes(sought: Sought) -> bool:
    """Whether changes of routes may be among what is looked for."""
    is_named = sought.event in ("", _NAME) or sought.event.startswith((f"{_NAME}.", "history"))
    return bool(sought.prefix) and is_named and (not sought.levels or _LEVEL in sought.levels)


def changes(state: Path, asked: Asked, progress: Progress = unsaid) -> list[EventView]:
    """The last changes, oldest first, and where the history does not reach so far back, where it begins. Raises:
    NotKnown."""
    sought = asked.sought
    try:
        family, key = parse_prefix(sought.prefix)
    except ValueError as error:
        raise NotKnown(f'"{sought.prefix}" is no prefix: {error}') from None
    until = min(sought.until, time.time())
    since = sought.since or (until - MANY_S if sought.longer_prefixes else 0.0)
    wanted: Wanted = Inside(key) if sought.longer_prefixes else These([key])
    try:
        vrfs = vrfs_asked(state, asked.vrfs, wanted, also_former=asked.also_former)
        segments, found = read(state, vrfs, family, wanted, since=since, until=until, progress=progress)
    except TooMany:
        raise NotKnown(f"more than {MOST_KEYS:,} prefixes are inside {sought.prefix}: ask for a longer one") from None
    notices = list(_notices(known_from(segments), since, sought.since > 0, [one.problem for one in found]))
    for at, reason in dict.fromkeys(gap for one in found for gap in one.gaps if gap[0] >= since):
        notices.append(not_known(f"changes before may be missing: {reason}", at))
    events = []
    for one in found:
        events += [_event(change, family, one.prefixes.vrf) for change in one.prefixes.changes if change.at >= since]
    always = msgspec.structs.replace(sought, neighbor="", vrf=None, since=0.0, until=math.inf)
    chosen = [*filter(always.matches_but_prefix, notices), *filter(sought.matches_but_prefix, events)]
    return sorted(chosen, key=lambda event: event.at)[-sought.limit :]


def _notices(begins: float | None, since: float, is_said: bool, problems: Sequence[str]) -> Iterator[EventView]:
    """Where the answer is not whole: why."""
    if begins is not None and begins > since:
        reason = "the history of routes does not reach further back"
        yield EventView(sequence=0, at=begins, level=_LEVEL, event=_BEGINS, fields={"reason": reason})
    elif since and not is_said:
        reason = "changes before were not looked for: --since says how far back"
        yield EventView(sequence=0, at=since, level=_LEVEL, event=_BEGINS, fields={"reason": reason})
    yield from map(not_known, dict.fromkeys(filter(None, problems)))


def is_notice(event: EventView) -> bool:
    """Whether it is no change, but says where the answer is not whole."""
    return event.event in (_BEGINS, _UNKNOWN)


def not_known(reason: str, at: float | None = None) -> EventView:
    """The history does not say it, or not up to a time (None: now)."""
    return EventView(
        sequence=0, at=time.time() if at is None else at, level=_LEVEL, event=_UNKNOWN, fields={"reason": reason}
    )


def _event(change: Change, family: Family, vrf: str) -> EventView:
    neighbor, _, rest = change.source.partition(" rd ")
    fields: dict[str, str | int | float | bool | None] = {"prefix": format_key(family, change.key)}
    fields |= {"vrf": vrf} if vrf else {}
    fields |= {"neighbor": neighbor} if neighbor else {}
    fields |= {"rd": rest} if rest else {}
    before, after = way_text(change.before), way_text(change.after)
    fields |= {"before": before} if before else {}
    fields |= {"after": after} if after else {}
    fields |= {"why": change.what} if change.what else {}
    fields |= {"message": change.message.digest} if change.message is not None else {}
    name = "best_changed" if not change.source else _kind(change)
    was, best = map(best_text, change.best)
    if was != best or not change.source:
        fields |= {"best": best, "best_before": was}
    return EventView(sequence=0, at=change.at, level=_LEVEL, event=f"{_NAME}.{name}", fields=fields)


def _kind(change: Change) -> str:
    if change.before is None:
        return "announced"
    return "withdrawn" if change.after is None else "replaced"


def merged(events: Sequence[EventView], changed: Sequence[EventView], limit: int) -> list[EventView]:
    """Both by time, the newest `limit`."""
    return sorted([*events, *changed], key=lambda event: event.at)[-limit:]
