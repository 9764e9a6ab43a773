"""BMP messages, byte for byte (RFC 7854 section 4, RFC 9069 section 4)."""

from __future__ import annotations

import struct

from bgpd.message.bmp import (
    BmpPeer,
    PeerType,
    Statistic,
    distinguisher_of,
    initiation,
    peer_down,
    peer_up,
    route_monitoring,
    statistics,
    termination,
)
from bgpd.message.exabgp_codec import KEEPALIVE

LEAF = BmpPeer(PeerType.GLOBAL, b"\x0a\0\1\2", 65201, b"\x0a\xff\0\1")
HEADER = struct.pack("!BBQ16sI4sII", 0, 0, 0, bytes(12) + b"\x0a\0\1\2", 65201, b"\x0a\xff\0\1", 7, 250_000)


def test_common_header_has_version_length_and_type() -> None:
    for message, kind in ((initiation(name="h", description="d"), 4), (termination(), 5)):
        assert struct.unpack("!BIB", message[:6]) == (3, len(message), kind)
    assert initiation(name="h", description="d")[6:] == b"\0\1\0\1d\0\2\0\1h"
    assert termination()[6:] == b"\0\1\0\2\0\0"


def test_per_peer_header() -> None:
    assert LEAF.header(7.25) == HEADER
    six = LEAF._replace(address=bytes(15) + b"\1", two_octet_as=True, distinguisher=distinguisher_of("blue"))
    assert six.header(0)[1] == 0xA0
    assert six.header(0)[2:10] == distinguisher_of("blue").to_bytes(8) != bytes(8)
    assert distinguisher_of("") == 0


def test_route_monitoring_has_the_update_as_it_is() -> None:
    assert route_monitoring(LEAF, 7.25, b"update")[6:] == HEADER + b"update"


def test_peer_up_has_both_opens() -> None:
    message = peer_up(LEAF, 7.25, local_address=b"\x0a\0\1\1", ports=(179, 40000), opens=(b"sent", b"received"))
    assert message[6:] == HEADER + bytes(12) + b"\x0a\0\1\1" + struct.pack("!HH", 179, 40000) + b"sentreceived"
    named = peer_up(LEAF, 7.25, local_address=bytes(16), ports=(0, 0), opens=(b"", b""), table="global")
    assert named.endswith(b"\0\3\0\6global")


def test_peer_down_says_who_ended_it() -> None:
    told = (6, 2, b"")
    notification = KEEPALIVE[:16] + b"\0\x15\3\6\2"
    assert peer_down(LEAF, 7.25, told, sent=True)[6:] == HEADER + b"\1" + notification
    assert peer_down(LEAF, 7.25, told, sent=False)[6:] == HEADER + b"\3" + notification
    assert peer_down(LEAF, 7.25, None, sent=True)[6:] == HEADER + b"\2\0\0"
    assert peer_down(LEAF, 7.25, None, sent=False)[6:] == HEADER + b"\4"


def test_statistics_are_counters_of_four_and_gauges_of_eight_bytes() -> None:
    message = statistics(LEAF, 7.25, {Statistic.REJECTED: 3, Statistic.ADJ_RIB_IN: 9})
    assert message[6:] == HEADER + struct.pack("!IHHIHHQ", 2, 0, 4, 3, 7, 8, 9)
