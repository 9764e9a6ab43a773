"""EVPN routes as bytes, for the raw leaves: type 5 and type 2 as they announce them, and as the host may announce them.

Knows nothing of bgpd's own codec. RFC 7432 sections 7.2 and 7.7, RFC 9136 section 3.1, RFC 8365 section 5.1.3.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
from collections.abc import Iterator

import msgspec

from tests.daemon.wire_peer import attribute

AFI_SAFI = (25, 70)
MAC_IP, IP_PREFIX = 2, 5
EXTENDED_COMMUNITIES = 16
_ESI, _TAG = bytes(10), bytes(4)
_VXLAN = bytes.fromhex("030c000000000008")
_ADDRESS_BYTES = {IP_PREFIX: {34: 4, 58: 16}, MAC_IP: {37: 4, 49: 16}}
"""By type and length of the NLRI."""


class Malformed(Exception):
    """The host sent something that no speaker may send; the text says what."""


class EvpnRoute(msgspec.Struct, frozen=True):
    """A type 5 route of a prefix, or with a MAC the type 2 route of an address ("10.81.0.1/32") with its sequence."""

    prefix: str
    mac: str = ""
    sequence: int = 0

    @property
    def key(self) -> str:
        """How chaos names it: "evpn 5 10.80.1.0/24", "evpn 2 02:00:00:81:00:01 10.81.0.1/32"."""
        return evpn_key(self.prefix, self.mac)


class Tenancy(msgspec.Struct, frozen=True):
    """What all routes of one speaker in a VRF have: route distinguisher, VNI, route target (8 bytes each, but for the
    VNI), and the gateways of IPv4 and IPv6 prefixes."""

    rd: bytes
    vni: int
    target: bytes
    gateways: tuple[str, str]

    def gateway(self, size: int) -> bytes:
        """The packed gateway of prefixes whose addresses have so many bytes."""
        return ipaddress.ip_address(self.gateways[size == 16]).packed

    def communities(self, sequence: int = 0) -> bytes:
        """Extended communities of its routes: route target, encapsulation, and MAC mobility."""
        mobility = b"\6\0\0\0" + struct.pack("!I", sequence) if sequence else b""
        return self.target + _VXLAN + mobility


def evpn_key(prefix: str, mac: str = "") -> str:
    return f"evpn 2 {mac} {prefix}" if mac else f"evpn 5 {prefix}"


def encode_nlri(route: EvpnRoute, tenancy: Tenancy) -> bytes:
    network, label = ipaddress.ip_network(route.prefix), tenancy.vni.to_bytes(3)
    packed = network.network_address.packed
    if route.mac:
        mac, bits = bytes.fromhex(route.mac.replace(":", "")), bytes((8 * len(packed),))
        value = tenancy.rd + _ESI + _TAG + b"\x30" + mac + bits + packed + label
        return bytes((MAC_IP, len(value))) + value
    length, gateway = bytes((network.prefixlen,)), tenancy.gateway(len(packed))
    value = tenancy.rd + _ESI + _TAG + length + packed + gateway + label
    return bytes((IP_PREFIX, len(value))) + value


def decode_nlri(
    data: bytes, tenancies: tuple[Tenancy, ...], communities: bytes | None = None
) -> Iterator[tuple[str, bytes]]:
    """The key of each route, and what of it is no part of the key (its VNI, with that of a type 5 its gateway).
    `communities` are the extended ones that it is announced with; None of what is withdrawn.

    Raises: Malformed: a speaker of these tenancies does not say that.
    """
    while data:
        kind, value = data[0], data[2 : 2 + data[1]]
        size = _ADDRESS_BYTES.get(kind, {}).get(len(value), 0)
        tenancy = next((one for one in tenancies if one.rd == value[:8]), None)
        if not size or tenancy is None:
            raise Malformed(f"an EVPN route of type {kind} with {data[1]} bytes: {value.hex()}")
        if communities is not None and not _eights(tenancy.communities()) <= _eights(communities):
            raise Malformed(f"the extended communities {communities.hex()}")
        yield _decode(kind, value, size, tenancy, announced=communities is not None)
        data = data[2 + len(value) :]


def _decode(kind: int, value: bytes, size: int, tenancy: Tenancy, *, announced: bool) -> tuple[str, bytes]:
    if value[8:18] != _ESI or value[18:22] != _TAG:
        raise Malformed(f"an ESI or an Ethernet Tag: {value.hex()}")
    if announced and value[-3:] != tenancy.vni.to_bytes(3):
        raise Malformed(f"the VNI {int.from_bytes(value[-3:])}")
    if kind == MAC_IP:
        if value[22] != 48 or value[29] != 8 * size:
            raise Malformed(f"a MAC or an address of another length: {value.hex()}")
        address = ipaddress.ip_address(value[30 : 30 + size])
        return evpn_key(f"{address}/{8 * size}", value[23:29].hex(":")), value[-3:]
    network = ipaddress.ip_network((value[23 : 23 + size], value[22]))
    gateway = value[23 + size : 23 + 2 * size]
    if announced and gateway != tenancy.gateway(size):
        raise Malformed(f"{network} by the gateway {ipaddress.ip_address(gateway)}")
    return evpn_key(str(network)), gateway + value[-3:]


def encode_announcements(
    routes: list[EvpnRoute], tenancy: Tenancy, next_hop: str, *, per_message: int
) -> Iterator[bytes]:
    """For UPDATEs with these routes, those of one sequence together: extended communities and MP_REACH_NLRI."""
    for sequence in sorted({route.sequence for route in routes}):
        communities = attribute(0xC0, EXTENDED_COMMUNITIES, tenancy.communities(sequence))
        for nlri in _lots([route for route in routes if route.sequence == sequence], tenancy, per_message):
            reach = struct.pack("!HBB", *AFI_SAFI, 4) + socket.inet_aton(next_hop) + b"\0" + nlri
            yield communities + attribute(0x80, 14, reach)


def encode_withdrawals(routes: list[EvpnRoute], tenancy: Tenancy, *, per_message: int) -> Iterator[bytes]:
    """For UPDATEs that withdraw these routes: their MP_UNREACH_NLRI."""
    for nlri in _lots(routes, tenancy, per_message):
        yield attribute(0x80, 15, struct.pack("!HB", *AFI_SAFI) + nlri)


def _eights(communities: bytes) -> set[bytes]:
    return {communities[start : start + 8] for start in range(0, len(communities), 8)}


def _lots(routes: list[EvpnRoute], tenancy: Tenancy, per_message: int) -> Iterator[bytes]:
    for start in range(0, len(routes), per_message):
        yield b"".join(encode_nlri(route, tenancy) for route in routes[start : start + per_message])
