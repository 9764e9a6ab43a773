"""Route distinguishers and extended communities: text to wire bytes (8 each) and back.

Route distinguishers and route targets (RFC 4364 section 4.2, RFC 4360, RFC 5668) have three forms: 2-octet AS and
32-bit number, IPv4 address and 16-bit number, 4-octet AS and 16-bit number. The other extended communities are those
that EVPN routes of this host carry (RFC 9012, RFC 7432, RFC 9135), and the link bandwidth (RFC 10005 section 3): AS
number and bytes per second, "bandwidth:65201:1250000000" if transitive, else
"bandwidth-non-transitive:65201:1250000000".
"""

from __future__ import annotations

import ipaddress
import math
import re
import struct

from bgpd.model.iana import AS_TRANS

_TYPE_AS2 = 0
_TYPE_IPV4 = 1
_TYPE_AS4 = 2
ROUTE_TARGET_SUBTYPE = 0x02
"""RFC 4360 section 4."""


def _parse_pair(text: str, what: str) -> tuple[int, bytes]:
    """Form and the 6 bytes of "ADMIN:NUMBER"; "4200000000:5", "65000L:5" are the 4-octet AS form."""
    admin, colon, number_text = text.rpartition(":")
    if not colon or not number_text.isdecimal():
        raise ValueError(f'{what} "{text}" is not ADMINISTRATOR:NUMBER, such as "65201:5001" or "10.0.0.1:5001"')
    number = int(number_text)
    if "." in admin:
        try:
            form, packed, most = _TYPE_IPV4, ipaddress.IPv4Address(admin).packed, 0xFFFF
        except ValueError:
            raise ValueError(f'{what} "{text}": "{admin}" is not an IPv4 address') from None
    else:
        four_octets = admin.endswith("L")
        digits = admin.removesuffix("L")
        if not digits.isdecimal() or int(digits) > 0xFFFFFFFF:
            raise ValueError(f'{what} "{text}": "{admin}" is not an AS number (0 to 4294967295) or an IPv4 address')
        if four_octets or int(digits) > 0xFFFF:
            form, packed, most = _TYPE_AS4, struct.pack("!I", int(digits)), 0xFFFF
        else:
            form, packed, most = _TYPE_AS2, struct.pack("!H", int(digits)), 0xFFFFFFFF
    if number > most:
        raise ValueError(f'{what} "{text}": the number is at most {most} in this form')
    return form, packed + number.to_bytes(6 - len(packed), "big")


def _format_pair(form: int, value: bytes) -> str:
    match form:
        case 0:
            return f"{int.from_bytes(value[:2])}:{int.from_bytes(value[2:])}"
        case 1:
            return f"{ipaddress.IPv4Address(value[:4])}:{int.from_bytes(value[4:])}"
        case 2:
            asn = int.from_bytes(value[:4])
            return f"{asn}{'' if asn > 0xFFFF else 'L'}:{int.from_bytes(value[4:])}"
        case _:
            return f"{form}:{value.hex()}"


def parse_route_distinguisher(text: str) -> bytes:
    """8 bytes of a route distinguisher (RFC 4364 section 4.2).

    Raises: ValueError: the text is none of the three forms.
    """
    form, value = _parse_pair(text, "route distinguisher")
    return struct.pack("!H", form) + value


def format_route_distinguisher(packed: bytes) -> str:
    """Text of 8 bytes of route distinguisher; an unknown type is shown as TYPE:HEX."""
    return _format_pair(int.from_bytes(packed[:2]), packed[2:8])


def automatic_route_distinguisher(router_id: bytes, table: int) -> bytes:
    """The type 1 route distinguisher "router-id:table" (RFC 7432 section 7.9).

    Raises: ValueError: the table number does not fit 16 bits.
    """
    if table > 0xFFFF:
        raise ValueError(f"table {table} does not fit the 16 bits of an automatic route distinguisher: set rd")
    return struct.pack("!H4sH", _TYPE_IPV4, router_id, table)


def automatic_route_target(asn: int, vni: int) -> bytes:
    """The route target "asn:vni" that leaves derive as well (RFC 8365 section 5.1.2.1 without its type bits).

    Raises: ValueError: a 4-octet AS number leaves 16 bits, and the VNI does not fit them; or there is no VNI.
    """
    if not vni:
        raise ValueError("an automatic route target is made of the VNI: set vni, or write the route target")
    if asn > 0xFFFF and vni > 0xFFFF:
        raise ValueError(f"VNI {vni} does not fit beside the 4-octet AS number {asn}: write the route target")
    return parse_route_target(f"{asn}:{vni}")


def parse_route_target(text: str) -> bytes:
    """8 bytes of a route target extended community (RFC 4360 section 4, RFC 5668).

    Raises: ValueError: the text is none of the three forms.
    """
    form, value = _parse_pair(text, "route target")
    return bytes((form, ROUTE_TARGET_SUBTYPE)) + value


def membership_key(asn: int, route_target: bytes) -> bytes:
    """Route key of "AS `asn` wants routes with this route target", which is its NLRI (RFC 4684 section 4)."""
    return b"\x60" + asn.to_bytes(4, "big") + route_target


def membership_matches(key: bytes, route_target: bytes) -> bool:
    """Whether a membership asks for this route target; it may be a prefix of one, or of length 0 (all)."""
    bits = max(key[0] - 32, 0)
    shift = 64 - bits
    return int.from_bytes(key[5:].ljust(8, b"\0")) >> shift == int.from_bytes(route_target) >> shift


def format_membership(key: bytes) -> str:
    """Text of a membership: "65203 wants 65201:5001", "default"; prefixes of route targets in hexadecimal."""
    if not key[0]:
        return "default"
    target = format_route_target(key[5:]) if key[0] == 96 else f"{key[5:].hex()}/{key[0] - 32}"
    return f"{int.from_bytes(key[1:5])} wants {target}"


def is_route_target(community: bytes) -> bool:
    """Whether 8 bytes of extended community are a route target of any of the three forms."""
    return community[0] in (_TYPE_AS2, _TYPE_IPV4, _TYPE_AS4) and community[1] == ROUTE_TARGET_SUBTYPE


def format_route_target(community: bytes) -> str:
    """Text of a route target, without a leading "rt:"."""
    return _format_pair(community[0], community[2:8])


VXLAN = b"\x03\x0c\0\0\0\0\0\x08"
"""Encapsulation, tunnel type 8 (RFC 9012 section 4.1): the leaf is to send as VXLAN what it sends for the VNI."""
ROUTER_MAC = b"\x06\x03"
"""Type and subtype of Router's MAC (RFC 9135 section 8.1); six bytes of address follow."""
DEFAULT_GATEWAY = b"\x03\x0d\0\0\0\0\0\0"
"""RFC 7432 section 7.8."""
_TUNNEL_TYPES = {8: "vxlan", 9: "nvgre", 10: "mpls", 11: "mpls-in-gre", 12: "vxlan-gpe", 19: "geneve"}
"""IANA "BGP Tunnel Encapsulation Attribute Tunnel Types"."""


def format_evpn_community(community: bytes) -> str:
    """Text such as "rt:65000:1", "mac-mobility:3 sticky", "bandwidth:65201:1250000000"; hexadecimal if unknown."""
    if is_route_target(community):
        return f"rt:{format_route_target(community)}"
    value = community[2:]
    match community[:2]:
        case b"\x06\x00":
            return f"mac-mobility:{int.from_bytes(value[2:])}{' sticky' if value[0] & 1 else ''}"
        case b"\x06\x01":
            return f"esi-label:{int.from_bytes(value[3:])}{' single-active' if value[0] & 1 else ''}"
        case b"\x06\x03":
            return f"router-mac:{value.hex(':')}"
        case b"\x06\x08":
            return "arp-nd" + "".join(f" {name}" for bit, name in _ND_FLAGS.items() if value[0] & bit)
        case b"\x03\x0d":
            return "default-gateway"
        case b"\x03\x0c":
            kind = int.from_bytes(value[4:])
            return f"encapsulation:{_TUNNEL_TYPES.get(kind, kind)}"
    return format_link_bandwidth(community) or community.hex()


_ND_FLAGS = {0x01: "router", 0x02: "override", 0x08: "immutable"}
"""RFC 9047 section 2."""


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


def lowest_link_bandwidth(packed: bytes) -> float | None:
    """What a path's extended communities say: the lowest of several, transitive or not; None if they say nothing."""
    pieces = (packed[8 * at : 8 * at + 8] for at, subtype in enumerate(packed[1::8]) if subtype == _SUBTYPE)
    found = [value for one in pieces if (value := decode_link_bandwidth(one)) is not None]
    return min(found) if found else None


def encode_link_bandwidth(asn: int, bytes_per_second: float) -> bytes:
    """The 8 bytes of a transitive one, which external neighbors may have; a longer AS number is AS_TRANS (RFC 6793)."""
    return _COMMUNITY.pack(0x00, _SUBTYPE, asn if asn <= 0xFFFF else AS_TRANS, bytes_per_second)


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
