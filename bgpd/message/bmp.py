"""Messages of the BGP Monitoring Protocol, version 3 (RFC 7854, 8671, 9069). Only written: a station says nothing."""

from __future__ import annotations

import enum
import struct
import zlib
from collections.abc import Mapping
from typing import Final, NamedTuple

from bgpd.message.exabgp_codec import encode_notification

VERSION: Final = 3
_COMMON: Final = struct.Struct("!BIB")
_NO_FSM_EVENT: Final = b"\0\0"


class BmpType(enum.IntEnum):
    """Message types (RFC 7854 section 4.1)."""

    ROUTE_MONITORING = 0
    STATISTICS_REPORT = 1
    PEER_DOWN = 2
    PEER_UP = 3
    INITIATION = 4
    TERMINATION = 5


class PeerType(enum.IntEnum):
    """Of the per-peer header (RFC 7854 section 4.2, RFC 9069 section 4.1)."""

    GLOBAL = 0
    LOCAL_INSTANCE = 2
    LOC_RIB = 3


class PeerFlag(enum.IntFlag):
    """Of the per-peer header (RFC 7854 section 4.2, RFC 8671 section 4)."""

    IPV6 = 0x80
    AFTER_POLICY = 0x40
    TWO_OCTET_AS_PATH = 0x20
    ADJ_RIB_OUT = 0x10


class Statistic(enum.IntEnum):
    """Of a statistics report (RFC 7854 section 4.8, RFC 8671 section 6.2)."""

    REJECTED = 0
    ADJ_RIB_IN = 7
    LOC_RIB = 8
    SENT = 15


class PeerDownReason(enum.IntEnum):
    """RFC 7854 section 4.9, RFC 9069 section 5.3."""

    LOCAL_NOTIFICATION = 1
    LOCAL = 2
    REMOTE_NOTIFICATION = 3
    REMOTE = 4
    LOCAL_WITH_TLV = 6


class BmpPeer(NamedTuple):
    """Whose routes a message is about. `distinguisher` tells VRFs apart, 0 is the main table."""

    kind: PeerType
    address: bytes
    asn: int
    router_id: bytes
    distinguisher: int = 0
    two_octet_as: bool = False
    is_out: bool = False
    is_after_policy: bool = False

    def header(self, at: float) -> bytes:
        """The per-peer header."""
        flags = PeerFlag.TWO_OCTET_AS_PATH if self.two_octet_as else PeerFlag(0)
        if len(self.address) == 16:
            flags |= PeerFlag.IPV6
        if self.is_out:
            flags |= PeerFlag.ADJ_RIB_OUT
        if self.is_after_policy:
            flags |= PeerFlag.AFTER_POLICY
        address = self.address.rjust(16, b"\0")
        packed = struct.pack("!BBQ16sI4s", self.kind, flags, self.distinguisher, address, self.asn, self.router_id)
        return packed + struct.pack("!II", int(at) & 0xFFFFFFFF, int(at % 1 * 1e6))


def distinguisher_of(vrf: str) -> int:
    """A number that is always the same for a VRF's name."""
    return zlib.crc32(vrf.encode()) if vrf else 0


def initiation(*, name: str, description: str) -> bytes:
    """The first message: who speaks."""
    return _message(BmpType.INITIATION, _tlv(1, description.encode()) + _tlv(2, name.encode()))


def termination() -> bytes:
    """The last message: administratively closed."""
    return _message(BmpType.TERMINATION, _tlv(1, b"\0\0"))


def peer_up(
    peer: BmpPeer,
    at: float,
    *,
    local_address: bytes,
    ports: tuple[int, int],
    opens: tuple[bytes, bytes],
    table: str = "",
) -> bytes:
    """A session was established. `ports`: local and remote; `opens`: sent and received; `table`: the Loc-RIB's name."""
    body = local_address.rjust(16, b"\0") + struct.pack("!HH", *ports) + opens[0] + opens[1]
    if table:
        body += _table_name(table)
    return _message(BmpType.PEER_UP, peer.header(at) + body)


def peer_down(peer: BmpPeer, at: float, notification: tuple[int, int, bytes] | None, *, sent: bool) -> bytes:
    """A session has ended: by a NOTIFICATION (code, subcode, data), sent or received, or the connection was lost."""
    if notification is None:
        body = bytes((PeerDownReason.LOCAL,)) + _NO_FSM_EVENT if sent else bytes((PeerDownReason.REMOTE,))
    else:
        reason = PeerDownReason.LOCAL_NOTIFICATION if sent else PeerDownReason.REMOTE_NOTIFICATION
        body = bytes((reason,)) + encode_notification(*notification)
    return _message(BmpType.PEER_DOWN, peer.header(at) + body)


def loc_rib_down(peer: BmpPeer, at: float, *, table: str) -> bytes:
    """There is no Loc-RIB of this name any more (RFC 9069 section 5.3)."""
    return _message(BmpType.PEER_DOWN, peer.header(at) + bytes((PeerDownReason.LOCAL_WITH_TLV,)) + _table_name(table))


def route_monitoring(peer: BmpPeer, at: float, update: bytes) -> bytes:
    """One UPDATE, its header included."""
    return _message(BmpType.ROUTE_MONITORING, peer.header(at) + update)


def statistics(peer: BmpPeer, at: float, numbers: Mapping[Statistic, int]) -> bytes:
    """Gauges have 64 bits, counters 32 (RFC 7854 section 4.8)."""
    parts = [peer.header(at), struct.pack("!I", len(numbers))]
    for kind, value in numbers.items():
        size = 4 if kind is Statistic.REJECTED else 8
        parts.append(struct.pack("!HH", kind, size) + value.to_bytes(size))
    return _message(BmpType.STATISTICS_REPORT, b"".join(parts))


def _message(kind: BmpType, body: bytes) -> bytes:
    return _COMMON.pack(VERSION, _COMMON.size + len(body), kind) + body


def _table_name(table: str) -> bytes:
    return _tlv(3, table.encode()[:255])


def _tlv(kind: int, value: bytes) -> bytes:
    return struct.pack("!HH", kind, len(value)) + value
