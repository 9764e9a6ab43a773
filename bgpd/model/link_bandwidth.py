"""The link bandwidth extended community: AS number and bytes per second, wire and text (RFC 10005 section 3).

The transitive kind is "bandwidth:65201:1250000000" in text, the other "bandwidth-non-transitive:65201:1250000000".
"""

from __future__ import annotations

import math
import re
import struct

_COMMUNITY = struct.Struct("!BBHf")
_SUBTYPE = 0x04
_NAMES = {0x00: "bandwidth", 0x40: "bandwidth-non-transitive"}
_KINDS = {name: kind for kind, name in _NAMES.items()}
_NUMBER = re.compile(r"\d+(\.\d+)?(e[+-]?\d+)?")
_WHOLE = 1e15
"""Below it a bandwidth is written in full."""


def decode_link_bandwidth(community: bytes) -> float | None:
    """Bytes per second of 8 bytes of extended community; None if they are none, or no number that a link can have."""
    if community[1] != _SUBTYPE or community[0] not in _NAMES:
        return None
    value = float(_COMMUNITY.unpack(community)[3])
    return value if math.isfinite(value) and math.copysign(1.0, value) > 0 else None


def lowest_link_bandwidth(extended_communities: tuple[bytes, ...]) -> float | None:
    """What a path's communities say: the lowest of several, transitive or not; None if they say nothing."""
    found = [value for one in extended_communities if (value := decode_link_bandwidth(one)) is not None]
    return min(found) if found else None


def parse_link_bandwidth(text: str) -> bytes:
    """The 8 bytes of "bandwidth:ASN:BYTES_PER_SECOND" or "bandwidth-non-transitive:...".

    Raises: ValueError: what is wrong, and what would be right.
    """
    kind, _, value = text.partition(":")
    asn, _, rate = value.partition(":")
    if kind not in _KINDS or not asn.isdecimal() or int(asn) > 0xFFFF or not _NUMBER.fullmatch(rate):
        raise ValueError(f'"{text}" is not a link bandwidth: write "bandwidth:65201:1250000000" (AS, bytes per second)')
    try:
        return _COMMUNITY.pack(_KINDS[kind], _SUBTYPE, int(asn), float(rate))
    except OverflowError:
        raise ValueError(f'"{text}": {rate} bytes per second is more than the community holds') from None


def format_link_bandwidth(community: bytes) -> str:
    """Text that `parse_link_bandwidth` reads back; "" if the community is no link bandwidth."""
    value = decode_link_bandwidth(community)
    if value is None:
        return ""
    start = f"{_NAMES[community[0]]}:{int.from_bytes(community[2:4])}:"
    if value < _WHOLE and value.is_integer():
        return start + str(int(value))
    texts = (f"{start}{value:.{digits}g}" for digits in range(1, 10))
    return next(text for text in texts if parse_link_bandwidth(text) == community)


def is_link_bandwidth(text: str) -> bool:
    """Whether a text is meant as a link bandwidth."""
    return text.partition(":")[0] in _KINDS
