"""What sessions say, word for word, for those who pass it on: BMP stations and MRT files.

The messages are those that were taken, before anything is made of them. With nobody who listens it costs one comparison
for a run of UPDATEs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from bgpd.message.exabgp_codec import Notification
from bgpd.model.route_batch import RouteBatch
from bgpd.model.source import Source


class TappedSession(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """An established session. `sent_open` and `received_open` are whole messages; `ports`: of this host
    and of the neighbor. `is_behind`: routes of UPDATEs that were told of are not in the RIB yet. `encode`: routes as
    the messages that the neighbor is sent for them."""

    source: Source
    vrf: str
    local_address: bytes
    ports: tuple[int, int]
    sent_open: bytes
    received_open: bytes
    four_octet_as: bool
    is_behind: Callable[[], bool]
    encode: Callable[[RouteBatch], Sequence[bytes]]


class SessionTap(Protocol):
    """Who listens: called in the event loop, quick."""

    def session_up(self, session: TappedSession) -> None:
        """It was established, or taken over from another process."""

    def updates(self, source: Source, bodies: Sequence[bytes]) -> None:
        """UPDATEs without their headers, in order."""

    def updates_sent(self, source: Source, messages: Sequence[bytes]) -> None:
        """Whole UPDATEs, in order."""

    def session_down(self, source: Source, notification: Notification | None, *, sent: bool) -> None:
        """It has ended; `notification` is None where the connection was lost. `sent`: by this host."""
