"""Extended communities that EVPN routes of this host carry, and their text (RFC 4360, RFC 9012, RFC 7432, RFC 9135).

Values are 8 bytes each, as on the wire.
"""

from __future__ import annotations

from bgpd.model.link_bandwidth import format_link_bandwidth
from bgpd.model.route_target import format_route_target, is_route_target

VXLAN = b"\x03\x0c\0\0\0\0\0\x08"
"""Encapsulation, tunnel type 8 (RFC 9012 section 4.1): the leaf is to send as VXLAN what it sends for the VNI."""
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
