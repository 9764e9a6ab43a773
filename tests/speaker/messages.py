"""Messages and settings that the tests of sessions use."""

from __future__ import annotations

import ipaddress

import msgspec

from bgpd.message.exabgp_codec import MARKER, encode_message, encode_open
from bgpd.message.open import GracefulRestart, Open
from bgpd.model.iana import MessageType
from bgpd.speaker.session import SessionSettings

UPDATE = encode_message(MessageType.UPDATE, b"\0\0\0\0")
REFRESH = encode_message(MessageType.ROUTE_REFRESH, b"\0\1\0\1")
LOCAL_ID = "10.0.0.5"


def open_of(
    asn: int = 65201, router_id: str = "10.0.0.1", *, hold_time_s: int = 9, graceful: bool = False, **fields: object
) -> Open:
    """An OPEN with IPv4 unicast."""
    message = Open(
        asn=asn,
        hold_time_s=hold_time_s,
        router_id=ipaddress.IPv4Address(router_id).packed,
        multiprotocol=((1, 1),),
        four_octet_as=True,
        route_refresh=True,
        enhanced_route_refresh=True,
        graceful_restart=GracefulRestart(notification=True, restart_time_s=120) if graceful else None,
    )
    return msgspec.structs.replace(message, **fields)


def open_bytes(asn: int = 65201, router_id: str = "10.0.0.1", **fields: object) -> bytes:
    return encode_open(open_of(asn, router_id, **fields))  # type: ignore[arg-type]


def settings(expected_asn: int | str = 65201, *, dials: bool = True, **fields: object) -> SessionSettings:
    """Ours: AS 65203, router ID 10.0.0.5."""
    local = open_of(65203, LOCAL_ID, **fields)  # type: ignore[arg-type]
    return SessionSettings(local=local, expected_asn=expected_asn, connect_retry_s=5, dials=dials)


def split(data: bytes) -> list[tuple[MessageType, bytes]]:
    """Types and bodies of whole messages."""
    found = []
    while data:
        assert data[:16] == MARKER
        length = int.from_bytes(data[16:18])
        found.append((MessageType(data[18]), data[19:length]))
        data = data[length:]
    return found
