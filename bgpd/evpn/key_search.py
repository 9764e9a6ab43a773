"""Which keys of an EVPN table are meant by a text: a MAC, an address, a prefix or a route distinguisher."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Sequence

from bgpd.model.communities import parse_route_distinguisher
from bgpd.model.evpn import parse_key

_MAC = re.compile(r"[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}\Z")


def evpn_routes_with(text: str) -> Callable[[Sequence[bytes]], list[bytes]] | None:
    """The EVPN routes with a MAC, an address, a prefix or a route distinguisher; None if the text is none of them."""
    written, slash, length = text.partition("/")
    if slash and not (length.isascii() and length.isdecimal()):
        return None
    try:
        mac = bytes.fromhex(text.replace(":", "")) if _MAC.match(text) else b""
        needle = mac or address(written) or parse_route_distinguisher(text)
        bits = int(length) if slash else -1
    except ValueError:
        return None

    def is_meant(key: bytes) -> bool:
        route = parse_key(key)
        if needle not in (route.rd, route.mac, route.ip, route.prefix, route.originator):
            return False
        return bits in (-1, route.prefix_length if route.prefix else 8 * len(needle))

    return lambda keys: [key for key in keys if needle in key and is_meant(key)]


def address(text: str) -> bytes:
    """An address without a prefix length, packed; b"" if the text is none."""
    try:
        return ipaddress.ip_address(text).packed
    except ValueError:
        return b""
