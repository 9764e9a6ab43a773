"""What this host had of its own at an earlier time: claims of workloads, services, and which neighbors had been sent
them.

Takes the records of `workload_records.py`, and of sessions only who was there.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator
from typing import Any

import msgspec

from bgpd.history.course import Course
from bgpd.history.records import (
    AnyRecord,
    BaseBegan,
    BaseEnded,
    Claimed,
    Ended,
    Lost,
    SavedClaim,
    Served,
    Session,
    SessionClosed,
    Started,
    Told,
)
from bgpd.model.iana import Family
from bgpd.model.prefix import address_length, covering_keys, format_key, parse_prefix
from bgpd.model.service import ServiceView
from bgpd.model.views.routes import WorkloadView
from bgpd.model.workload import WorkloadState

Place = tuple[str, str, bytes]
"""VRF, family and key of a prefix of this host."""
_Name = tuple[str, str, str, str, bytes]
"""What tells a claim from others: source and id, and its place."""
NOBODY = "to nobody: no neighbor had been sent it"


class OwnTables(Course):
    """Workloads and services at the time of the last record that was taken."""

    def __init__(self) -> None:
        super().__init__()
        self._claims: dict[_Name, SavedClaim] = {}
        self._services: dict[str, ServiceView] = {}
        self._neighbors: dict[int, str] = {}
        self._sent: dict[str, set[Place]] = {}
        self._unsaid: set[object] = set()

    def take(self, record: AnyRecord) -> None:
        super().take(record)
        found = _TAKE.get(type(record))
        if found is not None:
            found(self, record)

    def _forget(self) -> None:
        self._claims.clear()
        self._services.clear()
        self._neighbors.clear()
        self._sent.clear()
        self._unsaid.clear()

    def _started(self, record: Started) -> None:
        if record.is_adopting:
            self._neighbors.clear()  # they are numbered anew
            self._goes_on()
            return
        self._forget()
        self._whole(record.at)

    def _lost(self, record: Lost) -> None:
        self.damaged(record.reason)

    def _base_began(self, record: BaseBegan) -> None:
        if self.problem:
            self._forget()
        self._is_in_base = True
        self._unsaid = {*self._claims, *self._services}
        self._unsaid |= {(name, place) for name, places in self._sent.items() for place in places}

    def _base_ended(self, record: BaseEnded) -> None:
        if not self._is_in_base:
            return
        self._is_in_base = False
        self._whole(record.at)
        for name in [one for one in self._claims if one in self._unsaid]:
            del self._claims[name]
        for service in [one for one in self._services if one in self._unsaid]:
            del self._services[service]
        for neighbor, places in self._sent.items():
            places.difference_update([one for one in places if (neighbor, one) in self._unsaid])
        self._unsaid.clear()

    def _session(self, record: Session) -> None:
        self._neighbors[record.number] = record.name

    def _session_closed(self, record: SessionClosed) -> None:
        self._sent.pop(self._neighbors.pop(record.number, ""), None)

    def _told(self, record: Told) -> None:
        name = self._neighbors.get(record.number)
        if name is None:
            return
        places = {(record.vrf, record.family, key) for key in record.keys}
        if record.is_gone:
            self._sent.setdefault(name, set()).difference_update(places)
        else:
            self._sent.setdefault(name, set()).update(places)
            self._unsaid.difference_update((name, place) for place in places)

    def _claimed(self, record: Claimed) -> None:
        for one in record.claims:
            name = one.source, one.id, one.vrf, one.family, one.key
            self._unsaid.discard(name)
            if one.is_gone:
                self._claims.pop(name, None)
            else:
                self._claims[name] = one

    def _served(self, record: Served) -> None:
        self._unsaid.discard(record.name)
        if record.view is None:
            self._services.pop(record.name, None)
        else:
            self._services[record.name] = record.view

    # As they are shown

    def workloads(self, places: Container[Place] | None = None) -> Iterator[WorkloadView]:
        """Claims, by VRF, family and address: those of these places (None: all)."""
        chosen = [one for one in self._claims.values() if places is None or (one.vrf, one.family, one.key) in places]
        for claim in sorted(chosen, key=lambda one: (one.vrf, one.family, one.key[1:], one.key[0])):
            view = WorkloadView(
                id=claim.id,
                source=claim.source,
                prefix=format_key(Family(claim.family), claim.key),
                interface=claim.interface,
                vrf=claim.vrf,
                state=claim.state,
                reason=claim.reason,
                since=claim.since,
                announced=claim.announced,
                kind=claim.kind,
                mac=claim.mac.hex(":"),
                sticky=claim.sticky,
                exception=claim.exception,
                guests=list(claim.guests),
            )
            if view.announced:
                view.neighbors = self._neighbors_with(claim)
                if not view.neighbors:
                    view.announced = False
                    view.reason = "; ".join(filter(None, (view.reason, NOBODY)))
            yield view

    def services(self) -> Iterator[ServiceView]:
        """Every service, by name."""
        for _, view in sorted(self._services.items()):
            if view.announced:
                places = [(view.vrf, *parse_prefix(address)) for address in view.addresses]
                found = [self._with((vrf, str(family), key)) for vrf, family, key in places]
                if not all(found):
                    view = msgspec.structs.replace(view, announced=any(found), reason=NOBODY)
            yield view

    def _neighbors_with(self, claim: SavedClaim) -> list[str]:
        """The neighbors that had been sent a claim's route, or the aggregate's that stands for it."""
        place = claim.vrf, claim.family, claim.key
        if claim.state != WorkloadState.SUPPRESSED:
            return self._with(place)
        family = Family(claim.family)
        address = claim.key[1:].ljust(address_length(family), b"\0")
        wider = [one for one in covering_keys(family, address) if one[0] < claim.key[0]]
        found = (self._with((claim.vrf, claim.family, one)) for one in wider)
        return next(filter(None, found), [])

    def _with(self, place: Place) -> list[str]:
        return sorted(name for name, places in self._sent.items() if place in places)


_TAKE: dict[type, Callable[[OwnTables, Any], None]] = {
    Started: OwnTables._started,
    Ended: OwnTables._ended,
    Lost: OwnTables._lost,
    BaseBegan: OwnTables._base_began,
    BaseEnded: OwnTables._base_ended,
    Session: OwnTables._session,
    SessionClosed: OwnTables._session_closed,
    Told: OwnTables._told,
    Claimed: OwnTables._claimed,
    Served: OwnTables._served,
}
