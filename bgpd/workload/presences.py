"""EVPN's state of this host's endpoints, kept over a restart, so that a replayed claim does not count as a MAC move.

Decides nothing: evpn/mac_mobility.py does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from bgpd.model.iana import Family
from bgpd.model.prefix import format_key
from bgpd.model.workload import Claim, ClaimInfo, Presence, WorkloadState
from bgpd.workload.claims import Claims
from bgpd.workload.standing import info_of


class Endpoints(Protocol):
    """Who knows endpoints (`evpn.Evpn`)."""

    def presence(self, vrf: str, family: Family, key: bytes) -> Presence | None:
        """What is known of an endpoint of this host."""

    def workload_resumed(self, vrf: str, family: Family, key: bytes, info: ClaimInfo, known: Presence) -> None:
        """An earlier run gave this address up to another host: it stays given up."""


class Presences:
    """Takes what EVPN knows of the claims of a workload out before a restart and in after it.

    Each of `listeners` is called with the claims of an address of which EVPN knows something else now.
    """

    def __init__(self, claims: Claims, endpoints: Endpoints) -> None:
        self.listeners: list[Callable[[Sequence[Claim]], None]] = []
        self._claims = claims
        self._endpoints = endpoints

    def presence_changed(self, vrf: str, family: Family, key: bytes) -> None:
        """What EVPN knows of an endpoint of this host is another, though its workload neither came nor went."""
        claims = self._claims.claims_at(vrf, family, key)
        for listener in self.listeners:
            listener(claims)

    def of(self, source: str, id: str) -> dict[str, Presence]:
        """What `resume` needs of a workload after a restart, by prefix ("10.64.1.5/32")."""
        found = {}
        for status in self._claims.statuses(source, id):
            claim = status.claim
            presence = None
            if status.former is not None:
                presence = Presence(sequence=status.former)
            elif has_endpoint(claim) and (status.announced or status.state is WorkloadState.MOVED):
                presence = self._endpoints.presence(claim.vrf, claim.family, claim.key)
            if presence is not None:
                found[format_key(claim.family, claim.key)] = presence
        return found

    def resume(self, source: str, id: str, known: Mapping[str, Presence], *, otherwise: Presence | None) -> None:
        """A workload is claimed as before a restart; `known` is what EVPN knew of its addresses.

        `otherwise`: of those that `known` lacks. One that moved stays so; one that was announced is again, as before.
        """
        for status in self._claims.statuses(source, id):
            claim = status.claim
            presence = known.get(format_key(claim.family, claim.key), otherwise)
            if presence is None or not has_endpoint(claim):
                continue
            if not presence.moved:
                status.former = presence.sequence
                continue
            entry = self._claims.at(((claim.vrf, claim.family), claim.key))
            assert entry is not None
            entry.moved = presence.moved
            self._endpoints.workload_resumed(claim.vrf, claim.family, claim.key, info_of(claim), presence)

    def take_former(self, vrf: str, family: Family, key: bytes) -> int | None:
        """The sequence of a workload that comes back after a restart; asked once, None from then on."""
        entry = self._claims.at(((vrf, family), key))
        if entry is None or not entry.claims:
            return None
        former, entry.claims[0].former = entry.claims[0].former, None
        return former


def has_endpoint(claim: Claim) -> bool:
    """Whether EVPN follows the moves of what is claimed."""
    return bool(claim.vrf and claim.mac)
