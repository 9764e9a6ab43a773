"""What `bgpd show neighbors` shows of one neighbor; the route counts are the RIB's. Only reads."""

from __future__ import annotations

import asyncio
import time

from bgpd.config.patterns import is_pattern, no_match
from bgpd.config.schema import RouterConfig
from bgpd.config.schema_sessions import NeighborConfig, SessionConfig, attribute_limit
from bgpd.message.open import Negotiated
from bgpd.model.prefix import format_address
from bgpd.model.views.sessions import FamilyCounts, NeighborView, TcpAoView
from bgpd.speaker.authentication import TcpAo
from bgpd.speaker.defects import Defects
from bgpd.speaker.neighbor import Neighbor
from bgpd.speaker.tcp_ao import state_of

WAITING = "waiting for the daemon's start: it reads the kernel's routes and its workloads first"


def neighbor_view(neighbor: Neighbor, router: RouterConfig, defects: Defects) -> NeighborView:
    """Of a neighbor whose session is driven."""
    peering, exchange, connection = neighbor.peering, neighbor.exchange, neighbor.connection
    config, held_off_until = peering.config, neighbor.held_off_until
    negotiated = exchange.negotiated if exchange else None
    asn = negotiated.peer_asn if negotiated else config.asn if isinstance(config.asn, int) else 0
    now = asyncio.get_running_loop().time()
    return NeighborView(
        name=peering.name,
        address=format_address(peering.address) if peering.address else "",
        interface=neighbor.interface or peering.interface,
        vrf=config.vrf,
        asn=asn,
        local_asn=config.local_asn or router.asn,
        state=str(neighbor.state),
        since=neighbor.state_since,
        router_id=format_address(negotiated.peer_router_id) if negotiated else "",
        hostname=negotiated.hostname if negotiated else "",
        dynamic=peering.dynamic,
        guest=peering.guest,
        hold_time_s=negotiated.hold_time_s if negotiated else 0,
        keepalive_time_s=negotiated.keepalive_time_s if negotiated else 0,
        families={str(family): FamilyCounts() for family in negotiated.families} if negotiated else {},
        capabilities=list(negotiated.capabilities) if negotiated else [],
        negotiated=list(negotiated.in_use) if negotiated else [],
        messages_received=connection.messages_received if connection else 0,
        messages_sent=connection.messages_sent + exchange.messages_sent if connection and exchange else 0,
        established_count=neighbor.established_count,
        flaps=neighbor.flaps,
        last_error=neighbor.failures.text,
        last_error_at=neighbor.failures.last_at,
        last_notification_sent=neighbor.failures.sent.text,
        last_notification_sent_at=neighbor.failures.sent.at,
        last_notification_received=neighbor.failures.received.text,
        last_notification_received_at=neighbor.failures.received.at,
        max_attribute_bytes=attribute_limit(config),
        end_of_rib=[str(family) for family in exchange.end_of_rib] if exchange else [],
        martians=neighbor.martians,
        without_next_hop=[str(family) for family in exchange.without_next_hop] if exchange else [],
        graceful_restart=config.graceful_restart.mode,
        neighbor_graceful_restart=_restart_mode(negotiated) if negotiated else "",
        role=config.role,
        neighbor_role=negotiated.peer_role.text if negotiated and negotiated.peer_role is not None else "",
        refused_until=time.time() + held_off_until - now if held_off_until else None,
        authentication=_authentication_word(config),
        tcp_ao=_tcp_ao_view(neighbor),
        **defects.view_of(peering.name),
    )


def _authentication_word(config: SessionConfig) -> str:
    return "md5" if config.password_file else "tcp-ao" if config.tcp_ao else ""


def _tcp_ao_view(neighbor: Neighbor) -> TcpAoView | None:
    """As the kernel has it; it has none of an established session that is another way, or none, authenticated."""
    wire = neighbor.wire
    if wire is None or not neighbor.peering.config.tcp_ao:
        return None
    state = state_of(wire.socket)
    if state is None:
        return None
    keys = wire.authentication.keys if isinstance(wire.authentication, TcpAo) else ()
    return TcpAoView(
        current=state.current,
        next=state.next,
        keys=[key.send_id for key in keys],
        segments_good=state.good,
        segments_bad=state.bad,
        segments_unknown_key=state.unknown_key,
        segments_unsigned=state.unsigned,
    )


def _restart_mode(negotiated: Negotiated) -> str:
    """What a neighbor does by its graceful restart capability, in the words of the configuration."""
    restart = negotiated.graceful_restart
    return "off" if restart is None else "both" if restart.families else "helper"


def waiting_view(config: NeighborConfig, router: RouterConfig, *, since: float) -> NeighborView:
    """Of a configured neighbor whose session is not driven yet, or of a pattern without a neighbor: idle.

    `since`: the daemon's start (wall clock, s).
    """
    return NeighborView(
        name=config.name,
        address=config.address,
        interface=config.interface,
        vrf=config.vrf,
        asn=config.asn if isinstance(config.asn, int) else 0,
        local_asn=config.local_asn or router.asn,
        state="idle",
        since=since,
        authentication=_authentication_word(config),
        last_error=no_match(config) if is_pattern(config) else WAITING,
        max_attribute_bytes=attribute_limit(config),
        last_error_at=since,
        graceful_restart=config.graceful_restart.mode,
        role=config.role,
    )
