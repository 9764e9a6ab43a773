"""What a BMP station is told of tables: the present state of some keys as messages, and of which peer they are.

Adj-RIB-Out after policy is encoded by the session that sent it, so that it is what was sent (RFC 8671 section 4).
Before policy it is what this host would pass on to the neighbor if policy let it. Keeps nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence

from bgpd.export.as_updates import announcement, used_route, withdrawal
from bgpd.message.bmp import BmpPeer, PeerType, distinguisher_of, loc_rib_down, peer_up, route_monitoring
from bgpd.message.exabgp_codec import encode_open
from bgpd.message.open import Open
from bgpd.model.iana import UNICAST, Family
from bgpd.model.route_batch import RouteBatch
from bgpd.model.source import Source
from bgpd.rib.adj_rib_out import AdjRibOut
from bgpd.rib.loc_rib import LocRib
from bgpd.speaker.tap import TappedSession

FAMILIES = (*UNICAST, Family.L2VPN_EVPN)
Local = tuple[int, bytes]
"""This host's AS number and router ID."""


def session_peer(source: Source, vrf: str) -> BmpPeer:
    """A neighbor; of a VRF as a peer of a local instance."""
    distinguisher = distinguisher_of(vrf)
    kind = PeerType.LOCAL_INSTANCE if distinguisher else PeerType.GLOBAL
    return BmpPeer(kind, source.address, source.asn, source.router_id, distinguisher)


def received_peer(session: TappedSession) -> BmpPeer:
    """Whose UPDATEs are passed on as they came."""
    return session_peer(session.source, session.vrf)._replace(two_octet_as=not session.four_octet_as)


def sent_peer(session: TappedSession) -> BmpPeer:
    """Who was sent these UPDATEs: Adj-RIB-Out after policy."""
    return received_peer(session)._replace(is_out=True, is_after_policy=True)


def offered_peer(session: TappedSession) -> BmpPeer:
    """Adj-RIB-Out before policy; written with 4-octet AS numbers, whatever the session has."""
    return session_peer(session.source, session.vrf)._replace(is_out=True)


def sent_routes(
    export: AdjRibOut,
    session: TappedSession,
    keys: Iterable[bytes],
    *,
    for_neighbor: Callable[[Source, RouteBatch], Sequence[RouteBatch]],
) -> Iterator[bytes]:
    """What the neighbor was sent of these keys. `for_neighbor`: what is sent in place of EVPN routes."""
    peer, now = sent_peer(session), time.time()
    for batch in export.advertised_of(keys):
        batches = for_neighbor(session.source, batch) if batch.family is Family.L2VPN_EVPN else (batch,)
        for one in batches:
            for message in session.encode(one):
                yield route_monitoring(peer, now, message)


def offered_routes(
    export: AdjRibOut, session: TappedSession, table: LocRib, keys: Iterable[bytes], *, is_first: bool
) -> Iterator[bytes]:
    """What the neighbor would be sent of these keys by a policy that accepts all. `is_first`: nothing was told of them
    before, so that nothing is to be withdrawn."""
    peer, now = offered_peer(session), time.time()
    for key in keys:
        path = export.before_policy(key)
        if path is not None:
            message = announcement(table, table.family, key, path, received=False)
        else:
            message = b"" if is_first else withdrawal(table.family, key)
        if message:
            yield route_monitoring(peer, now, message)


def used_routes(peer: BmpPeer, table: LocRib, keys: Iterable[bytes]) -> Iterator[bytes]:
    """What is used of these keys: the Loc-RIB."""
    now = time.time()
    for key in keys:
        message = used_route(table, table.family, key)
        if message:
            yield route_monitoring(peer, now, message)


def loc_rib_peer(vrf: str, local: Local) -> BmpPeer:
    """The Loc-RIB of a VRF."""
    asn, router_id = local
    return BmpPeer(PeerType.LOC_RIB, b"", asn, router_id, distinguisher_of(vrf))


def loc_rib_began(vrf: str, local: Local) -> bytes:
    """The Peer Up of a Loc-RIB: both OPENs are made up (RFC 9069 section 4.4)."""
    asn, router_id = local
    mine = encode_open(
        Open(
            asn=asn,
            hold_time_s=0,
            router_id=router_id,
            four_octet_as=True,
            multiprotocol=tuple((family.afi, family.safi) for family in FAMILIES),
        )
    )
    peer = loc_rib_peer(vrf, local)
    return peer_up(peer, time.time(), local_address=bytes(16), ports=(0, 0), opens=(mine, mine), table=_name(vrf))


def loc_rib_ended(vrf: str, local: Local) -> bytes:
    """The Peer Down of the Loc-RIB of a VRF that there is no more."""
    return loc_rib_down(loc_rib_peer(vrf, local), time.time(), table=_name(vrf))


def _name(vrf: str) -> str:
    return vrf or "global"
