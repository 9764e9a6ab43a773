"""Which of two connections with one neighbor lives (RFC 4271 section 6.8, RFC 6286 section 2.3, RFC 4724 section 5).

Decided by what both sides know alike, so that both close the same one. Sans-IO.
"""

from __future__ import annotations

from bgpd.message.exabgp_codec import Notification
from bgpd.message.open import Negotiated
from bgpd.model.iana import CeaseSubcode, ErrorCode
from bgpd.speaker.connection import Connection, State

COLLISION = Notification(ErrorCode.CEASE, CeaseSubcode.CONNECTION_COLLISION)
SIMULTANEOUS_S = 1.0
"""A connection that comes this soon after another became Established was dialed before its maker knew."""


def keeps_ours(negotiated: Negotiated) -> bool:
    """Whether the connection that we made wins: the side with the higher router ID, then the higher AS, made it."""
    ours = (negotiated.local_router_id, negotiated.local_asn)
    return ours > (negotiated.peer_router_id, negotiated.peer_asn)


def loser(opened: Connection, other: Connection) -> Connection:
    """The one of two connections to close, now that `opened` has received a valid OPEN.

    An established session wins over a new connection, unless the peer can restart gracefully: then it did restart, and
    the old connection is dead (RFC 4724 section 5). Two connections from one side: the older one is dead.
    """
    assert opened.negotiated is not None
    if other.state is State.ESTABLISHED:
        return other if _restarted(opened, other) else opened
    if opened.incoming == other.incoming:
        return other
    return opened if opened.incoming == keeps_ours(opened.negotiated) else other


def _restarted(opened: Connection, established: Connection) -> bool:
    """Whether a new connection shows that its maker restarted, not that both sides had dialed at the same time."""
    graceful = established.negotiated is not None and established.negotiated.graceful_restart is not None
    return graceful and opened.incoming and opened.opened_at > established.established_at + SIMULTANEOUS_S
