"""Communities of the three kinds as text: how policy rules and views write them (RFC 1997, RFC 4360, RFC 8092).

Decides nothing.
"""

from __future__ import annotations

from bgpd.model.iana import (
    COMMUNITY_BLACKHOLE,
    COMMUNITY_GRACEFUL_SHUTDOWN,
    COMMUNITY_NO_ADVERTISE,
    COMMUNITY_NO_EXPORT,
    COMMUNITY_NO_EXPORT_SUBCONFED,
)
from bgpd.model.route_target import format_route_target, parse_route_target

_WELL_KNOWN = {
    "graceful-shutdown": COMMUNITY_GRACEFUL_SHUTDOWN,
    "blackhole": COMMUNITY_BLACKHOLE,
    "no-export": COMMUNITY_NO_EXPORT,
    "no-advertise": COMMUNITY_NO_ADVERTISE,
    "no-export-subconfed": COMMUNITY_NO_EXPORT_SUBCONFED,
}
_WELL_KNOWN_NAME = {value: name for name, value in _WELL_KNOWN.items()}
_SUBTYPES = {"rt": 0x02, "soo": 0x03}
"""Route target and route origin (RFC 4360 sections 4 and 5)."""


def _numbers(text: str, count: int, most: int) -> tuple[int, ...]:
    parts = text.split(":")
    if len(parts) != count or not all(part.isdecimal() and int(part) <= most for part in parts):
        raise ValueError(f'"{text}" is not {count} numbers of 0 to {most} with colons between')
    return tuple(int(part) for part in parts)


def parse_community(text: str) -> int:
    """Value of "65000:1" or of a well-known name ("no-export").

    Raises: ValueError: neither.
    """
    known = _WELL_KNOWN.get(text)
    if known is not None:
        return known
    high, low = _numbers(text, 2, 0xFFFF)
    return high << 16 | low


def format_community(value: int) -> str:
    """Text of an RFC 1997 community."""
    return _WELL_KNOWN_NAME.get(value) or f"{value >> 16}:{value & 0xFFFF}"


def parse_large_community(text: str) -> tuple[int, int, int]:
    """Value of "65000:1:2".

    Raises: ValueError: not three 32-bit numbers.
    """
    first, second, third = _numbers(text, 3, 0xFFFFFFFF)
    return first, second, third


def format_large_community(value: tuple[int, int, int]) -> str:
    """Text of an RFC 8092 community."""
    return ":".join(map(str, value))


def parse_extended_community(text: str) -> bytes:
    """8 bytes of "rt:65000:1", "soo:10.0.0.1:7", or of 16 hexadecimal digits for any other kind.

    Raises: ValueError: none of these.
    """
    kind, _, value = text.partition(":")
    if kind in _SUBTYPES:
        packed = parse_route_target(value)
        return packed[:1] + bytes((_SUBTYPES[kind],)) + packed[2:]
    try:
        packed = bytes.fromhex(text)
    except ValueError:
        packed = b""
    if len(packed) != 8:
        raise ValueError(f'"{text}" is not rt:ADMIN:NUMBER, soo:ADMIN:NUMBER or 16 hexadecimal digits')
    return packed


def format_extended_community(value: bytes) -> str:
    """Text of an RFC 4360 community; hexadecimal digits for kinds without a text form."""
    for kind, subtype in _SUBTYPES.items():
        if value[0] in (0, 1, 2) and value[1] == subtype:
            return f"{kind}:{format_route_target(value)}"
    return value.hex()
