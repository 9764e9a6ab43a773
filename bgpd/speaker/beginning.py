"""What a session of a neighbor begins with: its OPEN, the exchange of its routes, and what taps are told of it. Decides
nothing.
"""

from __future__ import annotations

from collections.abc import Callable

from bgpd.config.schema_sessions import SessionConfig, attribute_limit
from bgpd.message.open import Negotiated, local_open
from bgpd.model.source import Source, SourceKind
from bgpd.speaker.connection import Connection
from bgpd.speaker.exchange import Exchange
from bgpd.speaker.peering import Peering
from bgpd.speaker.session import SessionSettings
from bgpd.speaker.surroundings import Surroundings
from bgpd.speaker.tap import TappedSession
from bgpd.speaker.transport import Wire


def settings(peering: Peering, around: Surroundings, *, is_first: bool) -> SessionSettings:
    """Those of the next session. `is_first`: there was none since the daemon's start."""
    is_first = is_first and around.is_starting
    return SessionSettings(
        local=local_open(
            around.router,
            peering.config,
            over_ipv6=peering.is_ipv6,
            restarting=around.restarting and is_first,
            forwarding=around.restarting or not is_first,
            hostname=around.hostname,
        ),
        expected_asn=peering.config.asn,
        connect_retry_s=getattr(peering.config, "connect_retry_s", 5),
        dials=peering.dials,
        min_hold_time_s=getattr(peering.config, "min_hold_time_s", 0),
        role_strict=peering.config.role_strict,
    )


def new_exchange(
    peering: Peering,
    negotiated: Negotiated,
    wire: Wire,
    around: Surroundings,
    *,
    interface: str,
    write: Callable[[bytes], None],
) -> Exchange:
    """The exchange of an established session, which runs over `interface`. Raises: OSError: the connection is gone."""
    source = Source(
        name=peering.name,
        kind=SourceKind.IBGP if negotiated.is_ibgp else SourceKind.EBGP,
        asn=negotiated.peer_asn,
        router_id=negotiated.peer_router_id,
        address=wire.peer.address,
        interface=interface,
        guest=peering.guest,
    )
    return Exchange(
        source,
        negotiated,
        local=wire.local.address,
        host=around.host,
        vrf=peering.config.vrf,
        nlri_decoders=around.nlri_decoders,
        routes=around.routes,
        events=around.events,
        write=write,
        accept_martians=peering.config.accept_martians,
        accept_as_sets=peering.config.accept_as_sets,
        takes_any_next_hop=bool(peering.guest),
        tap=around.tap,
    )


def tell_tap(
    peering: Peering, exchange: Exchange, connection: Connection | None, wire: Wire, around: Surroundings
) -> None:
    """A session begins, or goes on in this process."""
    if around.tap is None or connection is None:
        return
    sent, received = connection.opens
    session = TappedSession(
        source=exchange.source,
        vrf=peering.config.vrf,
        local_address=exchange.local,
        ports=wire.ports,
        sent_open=sent,
        received_open=received,
        four_octet_as=exchange.negotiated.four_octet_as,
        is_behind=lambda: exchange.is_behind,
        encode=exchange.encode,
    )
    around.tap.session_up(session)


def ends_hold_off(old: SessionConfig, new: SessionConfig) -> bool:
    """Whether the neighbor may be heard again at once: there is a higher limit, or another answer to what is beyond."""
    return (
        _is_raised(old.max_prefixes, new.max_prefixes)
        or old.max_prefixes_action != new.max_prefixes_action
        or old.max_prefixes_restart_after_s != new.max_prefixes_restart_after_s
        or _is_raised(attribute_limit(old), attribute_limit(new))
    )


def _is_raised(old: int, new: int) -> bool:
    """Whether a limit allows more than before; 0 is none."""
    return bool(old) and (not new or new > old)
