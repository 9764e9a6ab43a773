"""Whose routes are kept though the session has ended: since when, until when, and what ends it.

A neighbor that can restart gracefully goes on forwarding while its BGP is away (RFC 4724, RFC 8538; for longer RFC
9494). Its routes stay as they are, those of a Source whose session is over, until the neighbor has said them again in
a new session, has not come back in time, or shows that it has lost its forwarding state. All state is plain values.
Sans-IO: `now` is of a clock that only goes forward, `wall` the time of day, which is only shown. Never sees a route:
received.py removes what is named here.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Collection, Iterable, Mapping

import msgspec

from bgpd.message.open import Negotiated
from bgpd.model.iana import Family
from bgpd.model.path import Path
from bgpd.model.source import Source

SourceFamily = tuple[Source, Family]
"""The routes of one family of a former session."""


class Stage(enum.StrEnum):
    """What is waited for: the neighbor, its End-of-RIB, or either with routes that are used only where nothing else is
    left (RFC 9494)."""

    AWAY = "away"
    BACK = "back"
    LONG_LIVED = "long-lived"


class Kept(msgspec.Struct):
    """The routes of one family of a former session. `since`, `ends_at`: time of day. `until`, `bound`: `now`.

    `bound`: not kept longer than that, however often the neighbor restarts before it has sent End-of-RIB.
    `long_lived_s`: for so long after the Restart Time; 0: not at all.
    """

    since: float
    until: float
    ends_at: float
    stage: Stage = Stage.AWAY
    bound: float = math.inf
    long_lived_s: int = 0


StaleOf = Callable[[Path, bytes], Kept | None]
"""Until when the path of a route is kept; None: it is not stale."""


class StaleRoutes:
    """What is kept, by former session and family. One neighbor (a name) has several former sessions if it restarted
    again before it had sent End-of-RIB."""

    def __init__(self, *, wall: Callable[[], float]) -> None:
        self.kept: dict[Source, dict[Family, Kept]] = {}
        self._wall = wall

    def of_session(self, source: Source) -> dict[Family, Kept]:
        """What is kept of one former session."""
        return self.kept.get(source, {})

    def of(self, name: str) -> list[tuple[Source, Family, Kept]]:
        """What is kept of a neighbor."""
        return [
            (source, family, kept)
            for source, families in self.kept.items()
            if source.name == name
            for family, kept in families.items()
        ]

    def keep(
        self,
        source: Source,
        negotiated: Negotiated,
        covered: Mapping[Family, int],
        *,
        holding: Collection[Family],
        now: float,
    ) -> list[SourceFamily]:
        """The session of `source` has ended; of the `covered` families (`kept_families`) it has routes of those
        `holding`. What of elder sessions has to go.

        A second restart during the first: what is stale already goes (RFC 4724 section 4.2), unless both sides sent
        the N bit (RFC 8538 section 4.1). Then it is kept, but not for longer than from the first return on. What is
        long-lived goes at its time alone.
        """
        restart_time_s = 0 if negotiated.graceful_restart is None else negotiated.graceful_restart.restart_time_s
        going: list[SourceFamily] = []
        for elder, family, kept in self.of(source.name):
            if kept.stage is Stage.LONG_LIVED:
                continue
            if negotiated.hard_reset and family in covered:
                self._enter(kept, Stage.AWAY, min(kept.bound, now + restart_time_s), now)
            else:
                going.append((elder, family))
        since, until = self._wall(), now + restart_time_s
        if holding:
            self.kept[source] = {
                family: Kept(since, until, since + restart_time_s, long_lived_s=covered[family]) for family in holding
            }
        return self._drop(going)

    def back(self, source: Source, negotiated: Negotiated, *, stale_time_s: int, now: float) -> list[SourceFamily]:
        """The neighbor has a new session; keep on what it says to forward still, until End-of-RIB or for
        `stale_time_s`. What has to go at once."""
        going: list[SourceFamily] = []
        for former, family, kept in self.of(source.name):
            is_same = (former.asn, former.router_id) == (source.asn, source.router_id)
            if not (is_same and family in negotiated.families and _forwards(negotiated, family, kept.stage)):
                going.append((former, family))
            elif kept.stage is Stage.AWAY:
                kept.bound = min(kept.bound, now + stale_time_s)
                self._enter(kept, Stage.BACK, kept.bound, now)
        return self._drop(going)

    def end_of_rib(self, name: str, family: Family) -> list[SourceFamily]:
        """The neighbor has said all of a family again: what of it is still stale has to go."""
        return self._drop([(source, one) for source, one, _ in self.of(name) if one is family])

    def due(self, now: float) -> tuple[list[SourceFamily], list[SourceFamily]]:
        """What has to go since its time is over, and what becomes long-lived now."""
        going: list[SourceFamily] = []
        long_lived: list[SourceFamily] = []
        for source, families in self.kept.items():
            for family, kept in families.items():
                if kept.until > now:
                    continue
                if kept.stage is Stage.AWAY and kept.long_lived_s:
                    self._enter(kept, Stage.LONG_LIVED, now + kept.long_lived_s, now)
                    long_lived.append((source, family))
                else:
                    going.append((source, family))
        return self._drop(going), long_lived

    def forget(self, name: str) -> list[SourceFamily]:
        """Keep nothing of a neighbor any more. What has to go."""
        return self._drop([(source, family) for source, family, _ in self.of(name)])

    def deadline(self) -> float | None:
        """When `due` wants to be called."""
        times = [kept.until for families in self.kept.values() for kept in families.values()]
        return min(times, default=None)

    def _enter(self, kept: Kept, stage: Stage, until: float, now: float) -> None:
        kept.stage, kept.until, kept.ends_at = stage, until, self._wall() + until - now

    def _drop(self, places: Iterable[SourceFamily]) -> list[SourceFamily]:
        dropped = list(places)
        for source, family in dropped:
            families = self.kept[source]
            del families[family]
            if not families:
                del self.kept[source]
        return dropped


def kept_families(negotiated: Negotiated, *, long_lived_s: int) -> dict[Family, int]:
    """The families whose routes outlive a session: those of the neighbor's graceful restart capability, each with its
    long-lived stale time (RFC 9494), which is at most `long_lived_s`."""
    restart = negotiated.graceful_restart
    if restart is None:
        return {}
    times = {(one.afi, one.safi): min(one.stale_time_s, long_lived_s) for one in negotiated.long_lived}
    found = {
        family: times.get((int(family.afi), int(family.safi)), 0)
        for family in negotiated.families
        if restart.covers(family)
    }
    return {family: time_s for family, time_s in found.items() if restart.restart_time_s or time_s}


def _forwards(negotiated: Negotiated, family: Family, stage: Stage) -> bool:
    """Whether the neighbor that is back says to have kept its forwarding state of a family."""
    restart = negotiated.graceful_restart
    if restart is None:
        return False
    if stage is not Stage.LONG_LIVED:
        return restart.forwarding(family)
    code = (family.afi, family.safi)
    return any((one.afi, one.safi) == code and one.forwarding for one in negotiated.long_lived)
