"""Saves for a restart what is known of a feed's claims beside their payloads: the order of claims of a contested
address (`claim_order`), and EVPN's state of endpoints (`presences`).

Compares with the state on disk and records the differences; decides nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

from bgpd.model.workload import Claim, Presence
from bgpd.workload.claims import Claims
from bgpd.workload.feed.reports import SERVICE, WORKLOAD
from bgpd.workload.feed.saved import Change, Saved
from bgpd.workload.presences import Presences, has_endpoint
from bgpd.workload.service.services import SERVICE as SERVICE_SOURCE
from bgpd.workload.standing import ClaimStatus


class Journal(Protocol):
    """Who writes what changed (`state_file.StateFile`)."""

    def note(self, change: Change) -> None:
        """Have a change written, in order."""


class InForce(Protocol):
    """Which names a feed has (`feed.Feed`)."""

    def is_in_force(self, kind: str, id: str) -> bool:
        """Whether the source says this name now."""

    def is_parked(self, kind: str, id: str) -> bool:
        """Whether what it says of the name waits for something."""


class RestartNotes:
    """The notes of one source; `in_force` says of which names there may be any."""

    def __init__(
        self, source: str, claims: Claims, presences: Presences, *, journal: Journal, in_force: InForce
    ) -> None:
        self._source = source
        self._claims = claims
        self._known = presences
        self._journal = journal
        self._in_force = in_force
        self._ranks: dict[str, dict[str, dict[str, int]]] = {WORKLOAD: {}, SERVICE: {}}
        self._presences: dict[str, dict[str, Presence]] = {}
        self._otherwise: Presence | None = None

    def add_to(self, saved: Saved) -> None:
        """Put copies of the notes into what is saved as a whole."""
        saved.workload_ranks = dict(self._ranks[WORKLOAD])
        saved.service_ranks = dict(self._ranks[SERVICE])
        saved.workload_presences = dict(self._presences)

    def remember(self, saved: Saved, vrfs: Collection[str]) -> None:
        """Which claims came first, as an earlier run knew: comes before any claim."""
        self._ranks = {WORKLOAD: dict(saved.workload_ranks), SERVICE: dict(saved.service_ranks)}
        self._presences = {id: known for id, known in saved.workload_presences.items() if id in saved.workloads}
        self._otherwise = Presence() if saved.version < 2 else None
        for id, workload in saved.workloads.items():
            if id in saved.workload_ranks and workload.vrf in vrfs:
                self._claims.remember(self._source, id, workload.vrf, saved.workload_ranks[id])
        for name, service in saved.services.items():
            if name in saved.service_ranks and service.vrf in vrfs:
                self._claims.remember(SERVICE_SOURCE, name, service.vrf, saved.service_ranks[name])

    def resume(self, id: str) -> None:
        """A workload is claimed as an earlier run had it: it may have moved since it was said to be here."""
        self._known.resume(self._source, id, self._presences.get(id, {}), otherwise=self._otherwise)

    def workload_put(self, id: str) -> None:
        """The orchestrator says where a workload is: what was known of it before does not count."""
        self._presences.pop(id, None)

    def deleted(self, kind: str, id: str) -> None:
        """A workload or service is gone."""
        if kind == WORKLOAD:
            self._presences.pop(id, None)
        self._ranks_changed(kind, id)

    def order_known(self) -> None:
        """All sources were heard: what was contested may not be any more, and other addresses may be."""
        for kind, ranks in self._ranks.items():
            for id in list(ranks):
                self._ranks_changed(kind, id)
        for source, id in self._claims.contested():
            self._claim_changed(source, id)

    def states_changed(self, changed: Sequence[ClaimStatus], *, order_known: bool) -> None:
        """Claims, of any source, have other states."""
        self.presence_changed([status.claim for status in changed])
        if order_known:
            for status in changed:
                self._claim_changed(status.claim.source, status.claim.id)

    def _claim_changed(self, source: str, id: str) -> None:
        if source in (self._source, SERVICE_SOURCE):
            self._ranks_changed(WORKLOAD if source == self._source else SERVICE, id)

    def _ranks_changed(self, kind: str, id: str) -> None:
        ranks_noted = self._ranks[kind]
        if self._in_force.is_parked(kind, id) or not (self._in_force.is_in_force(kind, id) or id in ranks_noted):
            return
        ranks = self._claims.ranks(self._source if kind == WORKLOAD else SERVICE_SOURCE, id)
        if ranks == ranks_noted.get(id, {}):
            return
        if ranks:
            ranks_noted[id] = ranks
        else:
            del ranks_noted[id]
        changed = {id: ranks or None}
        self._journal.note(Change(workload_ranks=changed) if kind == WORKLOAD else Change(service_ranks=changed))

    def presence_changed(self, claims: Sequence[Claim]) -> None:
        """EVPN's state of the addresses of these claims, of any source, may have changed."""
        changed: dict[str, dict[str, Presence] | None] = {}
        ids = [claim.id for claim in claims if claim.source == self._source and has_endpoint(claim)]
        for id in dict.fromkeys(ids):
            known = self._known.of(self._source, id)
            if self._in_force.is_in_force(WORKLOAD, id) and known != self._presences.get(id, {}):
                changed[id] = known or None
                if known:
                    self._presences[id] = known
                else:
                    del self._presences[id]
        if changed:
            self._journal.note(Change(workload_presences=changed))
