"""Route keys of EVPN routes: the layout of the bytes under which every table files one, and its fields.

A key is the route type in one byte, then the fields that RFC 7432 section 7 and RFC 9136 section 3.1 make the key:

    type 1   01  RD 8  ESI 10  Ethernet Tag 4
    type 2   02  RD 8  Ethernet Tag 4  MAC 6  IP 0, 4 or 16
    type 5   05  RD 8  Ethernet Tag 4  prefix length 1  prefix 4 or 16, host bits zeroed
    others   NN  the route type specific field of the NLRI, whole

ESI (type 2 and 5), labels and gateway IP are no part of a key: they are the route's Overlay.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from bgpd.model.communities import format_route_distinguisher, is_route_target
from bgpd.model.iana import EvpnRouteType
from bgpd.model.prefix import format_address
from bgpd.model.route_batch import Overlay


class EvpnRoute(msgspec.Struct, frozen=True, kw_only=True):
    """The fields of an EVPN route key. Addresses are packed, b"" where a type has no such field.

    `prefix_length` is that of `prefix` (type 5). `originator` is the originating router's address (types 3 and 4).
    `esi` is in the key for types 1 and 4 only. `opaque` is the whole field of a type that is not interpreted.
    """

    route_type: int
    rd: bytes = b""
    ethernet_tag: int = 0
    esi: bytes = b""
    mac: bytes = b""
    ip: bytes = b""
    prefix: bytes = b""
    prefix_length: int = 0
    originator: bytes = b""
    opaque: bytes = b""


def mac_ip_key(rd: bytes, *, mac: bytes, ip: bytes = b"", ethernet_tag: int = 0) -> bytes:
    """Key of a type 2 route. `rd` is 8 bytes, `mac` 6, `ip` packed or b""."""
    return b"\x02" + rd + ethernet_tag.to_bytes(4, "big") + mac + ip


def prefix_key(rd: bytes, *, prefix: bytes, prefix_length: int, ethernet_tag: int = 0) -> bytes:
    """Key of a type 5 route. `prefix` is a packed network address of 4 or 16 bytes, host bits zeroed."""
    return b"\x05" + rd + ethernet_tag.to_bytes(4, "big") + bytes((prefix_length,)) + prefix


def prefixes_of(keys: Iterable[bytes]) -> Iterator[bytes]:
    """The unicast route keys of the prefixes and addresses that these routes of type 2 and 5 are about."""
    for key in keys:
        if key[0] == EvpnRouteType.IP_PREFIX:
            yield key[13 : 14 + ((key[13] + 7) >> 3)]
        elif key[0] == EvpnRouteType.MAC_IP_ADVERTISEMENT and len(key) > 19:
            yield bytes((8 * (len(key) - 19),)) + key[19:]


def pack_labels(labels: Iterable[int]) -> bytes:
    """Labels as in an NLRI, 3 bytes each."""
    return b"".join([label.to_bytes(3, "big") for label in labels])


def unpack_labels(packed: bytes) -> tuple[int, ...]:
    """The labels of an NLRI."""
    return tuple([int.from_bytes(packed[at : at + 3], "big") for at in range(0, len(packed), 3)])


def with_labels(overlay: Overlay | None, packed: bytes) -> Overlay | None:
    """The Overlay of a route that has these labels of its own; packed as in its NLRI, b"": it has none."""
    if overlay is None or not packed:
        return overlay
    return Overlay(overlay.esi, unpack_labels(packed), overlay.gateway_ip)


def origin_of(rd: bytes) -> bytes:
    """What tells the host that made a route, whichever leaf passed it on and with whatever next hop: the IPv4 address
    of a type 1 route distinguisher, which is packed; else the route distinguisher.

    Compared as bytes, for which all hosts come to the same order.
    """
    return rd[2:6] if rd[:2] == b"\0\x01" else rd


def format_origin(origin: bytes) -> str:
    """Text of an origin: an address, or a route distinguisher."""
    return format_address(origin) if len(origin) == 4 else format_route_distinguisher(origin)


def is_evpn_community(community: bytes) -> bool:
    """Whether 8 bytes of extended community mean something to EVPN only: route targets, encapsulation, default gateway
    (RFC 9012 section 4.1, RFC 7432 section 7.8), and all of the type "EVPN" (RFC 7153).
    """
    return community[0] == 0x06 or community[:2] in (b"\x03\x0c", b"\x03\x0d") or is_route_target(community)


def parse_key(key: bytes) -> EvpnRoute:
    """Fields of an EVPN route key."""
    kind, rd, rest = key[0], key[1:9], key[9:]
    match kind:
        case EvpnRouteType.ETHERNET_AUTO_DISCOVERY:
            return EvpnRoute(route_type=kind, rd=rd, esi=rest[:10], ethernet_tag=int.from_bytes(rest[10:14]))
        case EvpnRouteType.MAC_IP_ADVERTISEMENT:
            return EvpnRoute(
                route_type=kind, rd=rd, ethernet_tag=int.from_bytes(rest[:4]), mac=rest[4:10], ip=rest[10:]
            )
        case EvpnRouteType.INCLUSIVE_MULTICAST if len(rest) > 4:
            return EvpnRoute(route_type=kind, rd=rd, ethernet_tag=int.from_bytes(rest[:4]), originator=rest[5:])
        case EvpnRouteType.ETHERNET_SEGMENT if len(rest) > 10:
            return EvpnRoute(route_type=kind, rd=rd, esi=rest[:10], originator=rest[11:])
        case EvpnRouteType.IP_PREFIX:
            return EvpnRoute(
                route_type=kind,
                rd=rd,
                ethernet_tag=int.from_bytes(rest[:4]),
                prefix_length=rest[4],
                prefix=rest[5:],
            )
        case _:
            return EvpnRoute(route_type=kind, opaque=key[1:])
