"""The words of policy rules: prefix ranges, AS path conditions and communities of all three kinds, text to values.

Configuration checking and the policy compiler read them with the same functions, so that what `bgpd check` lets through
compiles. Regular expressions are RE2's: neighbors choose the text, so the time to match must not be theirs to choose
(docs/decisions/0008). Communities: RFC 1997, RFC 4360, RFC 8092. Holds no I/O.
"""

from __future__ import annotations

import re
from importlib import import_module

import msgspec

from bgpd.model.communities import (
    format_link_bandwidth,
    format_route_target,
    is_link_bandwidth,
    is_route_target,
    parse_link_bandwidth,
    parse_route_target,
)
from bgpd.model.iana import (
    COMMUNITY_BLACKHOLE,
    COMMUNITY_GRACEFUL_SHUTDOWN,
    COMMUNITY_LLGR_STALE,
    COMMUNITY_NO_ADVERTISE,
    COMMUNITY_NO_EXPORT,
    COMMUNITY_NO_EXPORT_SUBCONFED,
    COMMUNITY_NO_LLGR,
    Family,
)
from bgpd.model.prefix import parse_prefix

WELL_KNOWN_COMMUNITIES = {
    "graceful-shutdown": COMMUNITY_GRACEFUL_SHUTDOWN,
    "llgr-stale": COMMUNITY_LLGR_STALE,
    "no-llgr": COMMUNITY_NO_LLGR,
    "blackhole": COMMUNITY_BLACKHOLE,
    "no-export": COMMUNITY_NO_EXPORT,
    "no-advertise": COMMUNITY_NO_ADVERTISE,
    "no-export-subconfed": COMMUNITY_NO_EXPORT_SUBCONFED,
}
"""IANA "BGP Well-known Communities", those that bgpd acts on or passes."""

_NAMES_OF_COMMUNITIES = {value: name for name, value in WELL_KNOWN_COMMUNITIES.items()}
_SITE_OF_ORIGIN_SUBTYPE = 0x03
_EXTENDED_FORMS = '"rt:65000:1", "soo:10.0.0.1:7", "bandwidth:65000:1250000000" or 16 hex digits'
LONGEST_PATTERN = 1024
"""Characters of a regular expression."""
LONGEST_MATCHED_PATH = 256
"""AS numbers of a path that regular expressions are tried on; usual limits of routers are 75 to 254."""
_MOST_INSTRUCTIONS = 512
"""RE2's measure of an expression: at worst each is looked at for each character, 15 ms for the longest path."""
_PATTERN_MEMORY = 1 << 18
"""Bytes that RE2 may use for one expression, its automaton's states included."""
_MOST_DIGITS = 20
_LOOKAROUND = ("(?=", "(?!", "(?<=", "(?<!")
_RANGE = re.compile(r"(?P<prefix>\S+)(?:\s+ge\s+(?P<ge>\d+))?(?:\s+le\s+(?P<le>\d+))?")


class PrefixRange(msgspec.Struct, frozen=True):
    """Routes of `family` inside the prefix of `key` whose length is from `least` to `most`, both included."""

    family: Family
    key: bytes
    least: int
    most: int


def parse_prefix_range(text: str) -> PrefixRange:
    """The range of "PREFIX", "PREFIX le N", "PREFIX ge N" or "PREFIX ge N le M".

    Without a bound only the prefix itself; `le` alone starts at its own length, `ge` alone ends at host routes.

    Raises: ValueError: what is wrong, and what would be right.
    """
    found = _RANGE.fullmatch(text.strip())
    if found is None:
        raise ValueError(f'"{text}" is not a prefix range, such as "10.0.0.0/8 ge 24 le 32"')
    family, key = parse_prefix(found["prefix"])
    length, longest = key[0], 32 if family is Family.IPV4_UNICAST else 128
    if found["ge"] is None and found["le"] is None:
        return PrefixRange(family, key, length, length)
    least = length if found["ge"] is None else int(found["ge"])
    most = longest if found["le"] is None else int(found["le"])
    if not length <= least <= most <= longest:
        raise ValueError(f'"{text}": lengths must rise: {length} (the prefix) <= ge <= le <= {longest}')
    return PrefixRange(family, key, least, most)


def parse_address_range(text: str) -> PrefixRange:
    """The prefix that addresses have to be inside of: as `parse_prefix_range`, but "PREFIX" means all that is inside.

    Raises: ValueError: what is wrong, and what would be right; also bounds that no host prefix is within.
    """
    found = parse_prefix_range(text)
    longest = 32 if found.family is Family.IPV4_UNICAST else 128
    if len(text.split()) > 1 and found.most < longest:
        raise ValueError(f'"{text}" permits no address: addresses are announced as /{longest}')
    return PrefixRange(found.family, found.key, found.least, longest)


class AsPathPattern:
    """A regular expression over the text of an AS path; matching takes time in proportion to the text.

    Raises: ValueError: it cannot be understood, or cannot be matched so.
    """

    __slots__ = ("_compiled",)

    def __init__(self, text: str) -> None:
        if len(text) > LONGEST_PATTERN:
            raise ValueError(f"a regular expression of {len(text)} characters: at most {LONGEST_PATTERN} are taken")
        re2 = import_module("re2")  # 5 MB and 20 ms: only for those who match AS paths
        options = re2.Options()
        options.max_mem = _PATTERN_MEMORY
        options.log_errors = False
        options.never_capture = True
        try:
            self._compiled = re2.compile(text, options)
        except re2.error as error:
            detail = error.args[0].decode() if error.args and isinstance(error.args[0], bytes) else str(error)
            raise ValueError(f'"{text}" {_why_refused(detail)}') from None
        size = self._compiled.programsize
        if size > _MOST_INSTRUCTIONS:
            wrong = f'"{text}" is too large: {size} instructions of RE2, at most {_MOST_INSTRUCTIONS} are taken'
            raise ValueError(f"{wrong}; write several entries, of which any may match")

    def matches(self, text: str) -> bool:
        """Whether the expression is found anywhere in the text."""
        return self._compiled.search(text) is not None


def _why_refused(detail: str) -> str:
    """What RE2's complaint means to who wrote the expression."""
    kind, _, part = detail.rpartition(": ")
    if part.startswith(_LOOKAROUND):
        return f'has lookaround ("{part}"), which cannot be matched in linear time: write what the path must be'
    if kind.startswith("invalid escape") and part[1:].isdecimal():
        return f'has a backreference ("{part}"), which cannot be matched in linear time: write what the path must be'
    return f"is not a regular expression that can be matched in linear time (RE2 syntax): {detail}"


def parse_as_path_condition(text: str) -> int | AsPathPattern:
    """An ASN that must appear in the path, or a regular expression over the space-separated path ("^65201( |$)").

    Raises: ValueError: not a regular expression, or no AS number.
    """
    if text.isdecimal():
        return _number(text, "AS number", 32)
    if "_" in text:
        raise ValueError(f'"{text}": "_" stands for nothing here; write \\b for a word boundary')
    return AsPathPattern(text)


def parse_community(text: str) -> int:
    """The 32-bit value of "ASN:VALUE" or of a well-known name (RFC 1997).

    Raises: ValueError: what is wrong, and what would be right.
    """
    if text in WELL_KNOWN_COMMUNITIES:
        return WELL_KNOWN_COMMUNITIES[text]
    parts = text.split(":")
    if len(parts) != 2:
        names = ", ".join(WELL_KNOWN_COMMUNITIES)
        raise ValueError(f'"{text}" is not a community: write ASN:VALUE, such as "65000:1", or one of {names}')
    high, low = (_number(part, f'"{text}": each part', 16) for part in parts)
    return high << 16 | low


def parse_large_community(text: str) -> tuple[int, int, int]:
    """The three 32-bit parts of "ASN:A:B" (RFC 8092).

    Raises: ValueError: what is wrong, and what would be right.
    """
    parts = text.split(":")
    if len(parts) != 3:
        raise ValueError(f'"{text}" is not a large community: write ASN:A:B, such as "65000:1:2"')
    first, second, third = (_number(part, f'"{text}": each part', 32) for part in parts)
    return first, second, third


def parse_extended_community(text: str) -> bytes:
    """The 8 bytes of "rt:ADMIN:NUMBER", "soo:ADMIN:NUMBER", "bandwidth:ASN:BYTES", or of 16 hex digits (RFC 4360).

    Raises: ValueError: what is wrong, and what would be right.
    """
    kind, _, rest = text.partition(":")
    if kind in ("rt", "soo"):
        target = parse_route_target(rest)
        return target if kind == "rt" else bytes((target[0], _SITE_OF_ORIGIN_SUBTYPE)) + target[2:]
    if is_link_bandwidth(text):
        return parse_link_bandwidth(text)
    if re.fullmatch(r"[0-9a-fA-F]{16}", text):
        return bytes.fromhex(text)
    raise ValueError(f'"{text}" is not an extended community: write {_EXTENDED_FORMS}')


def format_community(value: int) -> str:
    """Text of a community: its well-known name, or "ASN:VALUE"."""
    return _NAMES_OF_COMMUNITIES.get(value) or f"{value >> 16}:{value & 0xFFFF}"


def format_large_community(value: tuple[int, int, int]) -> str:
    """Text of a large community, "ASN:A:B"."""
    return "{}:{}:{}".format(*value)


def format_extended_community(value: bytes) -> str:
    """Text of an extended community that `parse_extended_community` reads back."""
    if is_route_target(value):
        return f"rt:{format_route_target(value)}"
    if value[0] in (0, 1, 2) and value[1] == _SITE_OF_ORIGIN_SUBTYPE:
        return f"soo:{format_route_target(value)}"
    return format_link_bandwidth(value) or value.hex()


def _number(text: str, what: str, bits: int) -> int:
    if not text.isdecimal() or len(text) > _MOST_DIGITS or int(text) >> bits:
        raise ValueError(f"{what} must be a number from 0 to {(1 << bits) - 1}")
    return int(text)
