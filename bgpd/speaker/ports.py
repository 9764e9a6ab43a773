"""What sessions use of the RIB and of the rest of the daemon.

Each of these parts implements its protocol itself; the speaker calls it directly.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from bgpd.config.schema_sessions import SessionConfig
from bgpd.message.open import Negotiated
from bgpd.model.iana import Family
from bgpd.model.route_batch import RouteBatch
from bgpd.model.source import Source


class RouteTaker(Protocol):
    """Who takes the routes of established sessions: called in the event loop, quick."""

    def routes_received(self, source: Source, batches: Sequence[RouteBatch]) -> None:
        """Routes of consecutive UPDATEs, in order."""

    @property
    def is_complete(self) -> bool:
        """Whether all is known that sessions had announced which another process has left."""

    def must_wait(self, source: Source) -> bool:
        """Whether such a session can only be heard once that is so."""

    def room_came(self, source: Source) -> None:
        """The connection takes more again, after `Neighbors.has_room` said that it does not."""

    def refresh_requested(self, source: Source, family: Family) -> None:
        """The neighbor is to be sent everything again: it asked, or this host gives another next hop, or none."""

    def refresh_began(self, source: Source, family: Family) -> None:
        """The neighbor sends all its routes again from here on (RFC 7313 BoRR)."""


class SpeakerEvents(Protocol):
    """What sessions report to the rest of the daemon, but for their routes: called in the event loop, quick."""

    def session_established(self, source: Source, negotiated: Negotiated, config: SessionConfig) -> None:
        """Routes of this source may come; the tables are to be sent to it."""

    def session_adopted(self, source: Source, negotiated: Negotiated, config: SessionConfig) -> None:
        """One that another process has brought to Established: its routes are told by the RIB's part of a snapshot."""

    def session_closed(self, source: Source, reason: str, *, is_graceful: bool = False) -> None:
        """`is_graceful`: the neighbor may go on forwarding, as far as the end of the session tells."""

    def path_failed(self, source: Source) -> None:
        """Nothing reaches the neighbor any more, and its session is about to be closed."""

    def keeps_routes(self, name: str) -> bool:
        """Whether routes of a neighbor whose session has ended are kept, since it may come back."""

    def forwarding_lost(self, name: str, reason: str) -> None:
        """A neighbor whose session has ended, if it was there, does not forward: nothing of it is kept any more."""

    def all_end(self) -> None:
        """The process ends, for whatever reason: sessions that are closed from now on cost no route."""

    def updates_read(self, source: Source, bodies: Sequence[bytes], batches: Sequence[RouteBatch]) -> None:
        """These UPDATEs, without their headers, were read; their routes follow."""

    def end_of_rib_received(self, source: Source, family: Family) -> None:
        """The neighbor has sent all routes of a family (RFC 4724)."""

    def refresh_ended(self, source: Source, family: Family) -> None:
        """Remove routes that were not sent again since `refresh_began` (RFC 7313 EoRR)."""
