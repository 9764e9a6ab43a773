"""The few BGP messages that the injector needs, as bytes (RFC 4271 section 4, RFC 4760).

Encodes OPEN, KEEPALIVE and UPDATE streams ahead of a measurement, and reads the NLRI of what a daemon sends. Never
checks what it reads beyond its framing: it is a measuring device, not a speaker.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator, Sequence

MARKER = b"\xff" * 16
OPEN, UPDATE, NOTIFICATION, KEEPALIVE_TYPE, ROUTE_REFRESH = 1, 2, 3, 4, 5
HEADER_LENGTH = 19
MAX_MESSAGE_LENGTH = 4096

FAMILIES = {"ipv4-unicast": (1, 1), "ipv6-unicast": (2, 1), "l2vpn-evpn": (25, 70)}


def message(kind: int, body: bytes) -> bytes:
    """A whole message of the given type."""
    return MARKER + struct.pack(">HB", HEADER_LENGTH + len(body), kind) + body


KEEPALIVE = message(KEEPALIVE_TYPE, b"")


def open_message(
    *, asn: int, router_id: str, hold_time_s: int, families: Sequence[str], restart_time_s: int = 0
) -> bytes:
    """OPEN with multiprotocol, route refresh and 4-octet AS capabilities; with a restart time graceful restart too."""
    capabilities = b"".join(
        struct.pack(">BBHBB", 1, 4, afi, 0, safi) for afi, safi in map(FAMILIES.__getitem__, families)
    )
    capabilities += struct.pack(">BB", 2, 0) + struct.pack(">BBI", 65, 4, asn)
    if restart_time_s:
        preserved = b"".join(struct.pack(">HBB", *FAMILIES[family], 0x80) for family in families)
        capabilities += struct.pack(">BBH", 64, 2 + len(preserved), restart_time_s) + preserved
    parameters = struct.pack(">BB", 2, len(capabilities)) + capabilities
    body = struct.pack(
        ">BHH4sB", 4, asn if asn < 65536 else 23456, hold_time_s, socket.inet_aton(router_id), len(parameters)
    )
    return message(OPEN, body + parameters)


def attribute(flags: int, kind: int, value: bytes) -> bytes:
    """One path attribute, with extended length where it needs it."""
    if len(value) > 255:
        return struct.pack(">BBH", flags | 0x10, kind, len(value)) + value
    return struct.pack(">BBB", flags, kind, len(value)) + value


def common_attributes(
    as_path: Sequence[int], *, communities: Sequence[int] = (), med: int | None = None, origin: int = 0
) -> bytes:
    """ORIGIN, AS_PATH and, where given, MED and COMMUNITIES."""
    block = attribute(0x40, 1, bytes((origin,)))
    block += attribute(0x40, 2, struct.pack(f">BB{len(as_path)}I", 2, len(as_path), *as_path))
    if med is not None:
        block += attribute(0x80, 4, struct.pack(">I", med))
    if communities:
        block += attribute(0xC0, 8, struct.pack(f">{len(communities)}I", *communities))
    return block


def announce(family: str, attributes: bytes, next_hop: bytes, nlri: Sequence[bytes]) -> Iterator[bytes]:
    """UPDATE messages that announce all of `nlri` (wire form) with one attribute block, each as full as it may be."""
    if family == "ipv4-unicast":
        attributes = with_next_hop(attributes, next_hop)
        room = MAX_MESSAGE_LENGTH - HEADER_LENGTH - 4 - len(attributes)
        for part in _filled(nlri, room):
            yield message(UPDATE, struct.pack(">HH", 0, len(attributes)) + attributes + part)
        return
    reach = struct.pack(">HBB", *FAMILIES[family], len(next_hop)) + next_hop + b"\0"
    room = MAX_MESSAGE_LENGTH - HEADER_LENGTH - 4 - len(attributes) - 4 - len(reach)
    for part in _filled(nlri, room):
        block = attribute(0x80, 14, reach + part) + attributes
        yield message(UPDATE, struct.pack(">HH", 0, len(block)) + block)


def with_next_hop(attributes: bytes, next_hop: bytes) -> bytes:
    """The block with NEXT_HOP in its place: daemons send attributes in the order of their codes."""
    place = 0
    while place < len(attributes) and attributes[place + 1] < 3:
        if attributes[place] & 0x10:
            place += 4 + struct.unpack_from(">H", attributes, place + 2)[0]
        else:
            place += 3 + attributes[place + 2]
    return attributes[:place] + attribute(0x40, 3, next_hop) + attributes[place:]


def withdraw(family: str, nlri: Sequence[bytes]) -> Iterator[bytes]:
    """UPDATE messages that withdraw all of `nlri`."""
    if family == "ipv4-unicast":
        for part in _filled(nlri, MAX_MESSAGE_LENGTH - HEADER_LENGTH - 4):
            yield message(UPDATE, struct.pack(">H", len(part)) + part + b"\0\0")
        return
    head = struct.pack(">HB", *FAMILIES[family])
    for part in _filled(nlri, MAX_MESSAGE_LENGTH - HEADER_LENGTH - 4 - 4 - len(head)):
        block = attribute(0x80, 15, head + part)
        yield message(UPDATE, struct.pack(">HH", 0, len(block)) + block)


def end_of_rib(family: str) -> bytes:
    """The End-of-RIB marker of a family (RFC 4724 section 2)."""
    if family == "ipv4-unicast":
        return message(UPDATE, b"\0\0\0\0")
    block = attribute(0x80, 15, struct.pack(">HB", *FAMILIES[family]))
    return message(UPDATE, struct.pack(">HH", 0, len(block)) + block)


def _filled(nlri: Sequence[bytes], room: int) -> Iterator[bytes]:
    """The NLRI joined into parts of at most `room` bytes."""
    longest = max(map(len, nlri), default=1)
    step = max(1, room // longest)
    start = 0
    while start < len(nlri):
        part = nlri[start : start + step]
        start += len(part)
        size = sum(map(len, part))
        more = []
        while start < len(nlri) and size + len(nlri[start]) <= room:
            more.append(nlri[start])
            size += len(nlri[start])
            start += 1
        yield b"".join(part) + b"".join(more)


class Reader:
    """Cuts a byte stream into messages."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """(type, body) of each message that `data` completes."""
        buffer = self._rest + data if self._rest else data
        start = 0
        while len(buffer) - start >= HEADER_LENGTH:
            length, kind = struct.unpack_from(">HB", buffer, start + 16)
            if len(buffer) - start < length:
                break
            yield kind, buffer[start + HEADER_LENGTH : start + length]
            start += length
        self._rest = buffer[start:]


def unicast_changes(body: bytes) -> tuple[list[bytes], list[bytes]]:
    """(announced, withdrawn) IPv4 and IPv6 unicast prefixes of an UPDATE body, each a length byte and address bytes."""
    withdrawn_length = struct.unpack_from(">H", body)[0]
    withdrawn = list(_prefixes(body[2 : 2 + withdrawn_length]))
    attributes_length = struct.unpack_from(">H", body, 2 + withdrawn_length)[0]
    start = 4 + withdrawn_length
    end = start + attributes_length
    announced = list(_prefixes(body[end:]))
    while start < end:
        flags, kind = body[start], body[start + 1]
        if flags & 0x10:
            length, start = struct.unpack_from(">H", body, start + 2)[0], start + 4
        else:
            length, start = body[start + 2], start + 3
        value = body[start : start + length]
        start += length
        if kind == 14 and value[:3] in (b"\0\1\1", b"\0\2\1"):
            announced += _prefixes(value[5 + value[3] :])
        elif kind == 15 and value[:3] in (b"\0\1\1", b"\0\2\1"):
            withdrawn += _prefixes(value[3:])
    return announced, withdrawn


def _prefixes(data: bytes) -> Iterator[bytes]:
    start = 0
    while start < len(data):
        end = start + 1 + ((data[start] + 7) >> 3)
        yield data[start:end]
        start = end
