"""Routes of the RIB as UPDATE messages, as they would have come: one for each route, with 4-octet AS numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bgpd.message import update_encoder
from bgpd.message.evpn_nlri import EvpnNlri
from bgpd.message.mrt_attributes import rib_attributes, update_message
from bgpd.model.iana import Family
from bgpd.model.path import Path
from bgpd.model.source import Source
from bgpd.rib.loc_rib import LocRib

STEP = 128
"""Routes that are looked at in one step."""
_EVPN = EvpnNlri()


def announcement(table: LocRib, family: Family, key: bytes, path: Path, *, received: bool) -> bytes:
    """The path of a route; `received`: as it came, else as it is used, after import policy. b"": it fits no message."""
    hop = path.next_hop.address if path.next_hop is not None else b""
    hop = hop or bytes(16 if family is Family.IPV6_UNICAST else 4)
    nlri = _EVPN.encode(key, table.labels.overlay(path, key)) if family is Family.L2VPN_EVPN else key
    block = (path.received if received else path.attributes).block
    try:
        return update_message(family.afi, family.safi, nlri, rib_attributes(block, hop, family))
    except ValueError:
        return b""


def withdrawal(family: Family, key: bytes) -> bytes:
    """A route that there is no more."""
    return update_encoder.withdrawal(family, _EVPN.encode(key, None) if family is Family.L2VPN_EVPN else key)


def end_of_rib(family: Family) -> bytes:
    """The marker behind a whole table (RFC 4724 section 2)."""
    return update_encoder.withdrawal(family, b"")


def received_routes(table: LocRib, family: Family, source: Source, keys: Sequence[bytes]) -> Iterator[bytes]:
    """What a session has announced of these routes."""
    for key in keys:
        decision = table.routes.get(key)
        path = decision.path_of(source.name) if decision is not None else None
        if path is not None and path.source is source:
            message = announcement(table, family, key, path, received=True)
            if message:
                yield message


def used_route(table: LocRib, family: Family, key: bytes) -> bytes:
    """The best path of a route, or its withdrawal."""
    decision = table.routes.get(key)
    best = decision.best if decision is not None else None
    return withdrawal(family, key) if best is None else announcement(table, family, key, best, received=False)
