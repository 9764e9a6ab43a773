"""What becomes of the routes of sessions that have ended: removed at once, or kept while the neighbor may come back.

Dead next hops leave the kernel in one message before any route is looked at again, and EVPN hears before routes go.
Which routes are kept, and until when, is what rib/stale.py says (RFC 4724, RFC 9494).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from bgpd.evpn.evpn import Evpn
from bgpd.fib.tables import KernelTables
from bgpd.model.iana import Family
from bgpd.model.source import Source
from bgpd.rib.rib import Rib
from bgpd.rib.stale import SourceFamily
from bgpd.runtime.events import log
from bgpd.runtime.shared_state import changes_shared_state
from bgpd.runtime.turns import Walks

_MUCH = 8 << 20
"""Bytes of a neighbor that has left for which the process does not wait with giving back memory."""
_BYTES_PER_ROUTE = 200


class DataPath(Protocol):
    """The parts that hear of it. `ending`: the process ends, and sessions cost no route any more."""

    rib: Rib
    evpn: Evpn
    tables: KernelTables
    ending: bool

    def established(self, source: Source) -> dict[str, Source]:
        """The established sessions that one belongs to, by name: of guests, or of neighbors."""


class EndedSessions:
    """Removes the routes of ended sessions when their time is over."""

    def __init__(self, parts: DataPath, *, walks: Walks, memory_freed: Callable[[], None]) -> None:
        self._parts = parts
        self._walks = walks
        self._memory_freed = memory_freed
        self._timer: asyncio.TimerHandle | None = None

    def next_hops_lost(self, places: Sequence[SourceFamily]) -> None:
        """What only these routes name as a next hop leaves the kernel. What waits in the kernel's tables is asked for
        again; what waits in the RIB is not, so that it goes there first."""
        lost = self._parts.rib.received.next_hops_of_only(places)
        if lost:
            self._parts.rib.commit_gathered()
        for vrf, next_hops in lost.items():
            self._parts.tables.next_hops_lost(vrf, next_hops)

    def remove(
        self, places: Sequence[SourceFamily], *, why: str, ended: Source | None = None, is_back: bool = False
    ) -> None:
        """Remove routes of former sessions, in slices; unless the neighbor `is_back` and forwards, their next hops
        leave the kernel at once. `ended`: the session that has ended just now, of which nothing was stale."""
        if not places:
            return
        received, evpn = self._parts.rib.received, self._parts.evpn
        if not is_back:
            self.next_hops_lost(places)
        for source in dict.fromkeys(source for source, _ in places):
            if not received.is_kept(source):
                evpn.neighbor_down(source)
            elif (source, Family.L2VPN_EVPN) in places:
                evpn.routes_lost(source)
            if source is not ended:
                stale = [str(family) for one, family in places if one is source]
                log.warning("graceful_restart.routes_removed", neighbor=source.name, families=stale, reason=why)
        for name in dict.fromkeys(source.name for source, _ in places):
            lost, _ = received.kept_of([place for place in places if place[0].name == name])
            if lost:
                log.info("routes.lost", neighbor=name, routes=lost, reason=why)
        routes, size = received.kept_of(places)
        walk = received.remove(places, is_back=is_back)
        much = size + _BYTES_PER_ROUTE * routes > _MUCH
        self._walks.run(walk, done=self._memory_freed if much else None)

    def watch(self) -> None:
        """Have what is kept of former sessions looked at when its time is over."""
        deadline = self._parts.rib.received.stale.deadline()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if deadline is not None and not self._parts.ending:
            self._timer = asyncio.get_running_loop().call_at(deadline, self._due)

    @changes_shared_state
    def _due(self) -> None:
        self._timer = None
        received, established = self._parts.rib.received, self._parts.established
        if self._parts.ending or not received.is_complete:  # what is left of their routes is looked at afterwards
            return
        going, long_lived = received.stale.due(asyncio.get_running_loop().time())
        for source, family in long_lived:
            log.warning("graceful_restart.long_lived", neighbor=source.name, family=str(family))
        if long_lived:
            self._walks.run(received.become_long_lived(long_lived))
        back = [place for place in going if place[0].name in established(place[0])]
        self.remove(back, why="no End-of-RIB came in time", is_back=True)
        away = [place for place in going if place[0].name not in established(place[0])]
        self.remove(away, why="the neighbor did not come back in time")
        self.watch()
