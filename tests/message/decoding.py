"""Sessions and UPDATE bodies for the tests of the codec."""

import struct

from bgpd.message.evpn_nlri import EvpnNlri
from bgpd.message.open import Negotiated
from bgpd.message.update_decoder import UpdateDecoder
from bgpd.model.iana import Family

EVPN = {Family.L2VPN_EVPN: EvpnNlri()}
ORIGIN = bytes.fromhex("40010100")
AS_PATH = bytes.fromhex("4002060201") + struct.pack("!I", 65201)
NEXT_HOP = bytes.fromhex("4003040a000102")
MANDATORY = ORIGIN + AS_PATH + NEXT_HOP
GLOBAL = bytes.fromhex("20010db8000000000000000000000001")
LINK_LOCAL = bytes.fromhex("fe800000000000000000000000000002")


def negotiated(*, ibgp=False, extended_next_hop=False, **fields) -> Negotiated:
    """A session of AS 65203 with AS 65201 (or with itself) that carries every family."""
    values = {
        "local_asn": 65203,
        "peer_asn": 65203 if ibgp else 65201,
        "local_router_id": b"\x01\x01\x01\x01",
        "peer_router_id": b"\x02\x02\x02\x02",
        "hold_time_s": 9,
        "families": tuple(Family),
        "extended_next_hop": frozenset((Family.IPV4_UNICAST,)) if extended_next_hop else frozenset(),
    }
    return Negotiated(**(values | fields))


def decoder(
    *, interface="", local_addresses=frozenset(), accept_martians=True, accept_as_sets=False, **fields
) -> UpdateDecoder:
    """Takes martians unless told otherwise: most tests are about bytes, whatever prefix they spell."""
    return UpdateDecoder(
        negotiated(**fields),
        nlri_decoders=EVPN,
        interface=interface,
        local_addresses=local_addresses,
        accept_martians=accept_martians,
        accept_as_sets=accept_as_sets,
    )


def update(block: bytes = b"", nlri: bytes = b"", withdrawn: bytes = b"") -> bytes:
    """An UPDATE body."""
    return struct.pack("!H", len(withdrawn)) + withdrawn + struct.pack("!H", len(block)) + block + nlri


def attribute(kind: int, value: bytes, flags: int) -> bytes:
    if len(value) > 255:
        return struct.pack("!BBH", flags | 0x10, kind, len(value)) + value
    return bytes((flags, kind, len(value))) + value


def reach(afi: int, safi: int, next_hop: bytes, nlri: bytes) -> bytes:
    return attribute(14, struct.pack("!HBB", afi, safi, len(next_hop)) + next_hop + b"\0" + nlri, 0x80)


def unreach(afi: int, safi: int, nlri: bytes) -> bytes:
    return attribute(15, struct.pack("!HB", afi, safi) + nlri, 0x80)


def announced(decoded) -> list[bytes]:
    return [key for batch in decoded.batches for key in batch.announced]


def withdrawn(decoded) -> list[bytes]:
    return [key for batch in decoded.batches for key in batch.withdrawn]
