"""EVPN route sets of a leaf (RFC 7432 section 7.2, RFC 9136 section 3.1): deterministic, NLRI in wire form."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

import msgspec

from benchmarks import wire

FAMILY = "l2vpn-evpn"
VNI = 5001
_FIRST_HOST = 0x14000000
_FIRST_PREFIX = 0x28000000


class EvpnRouteSet(msgspec.Struct, frozen=True, kw_only=True):
    """`count` routes: kind "evpn-type2" (MAC with a /32) or "evpn-type5" (a /32 prefix), one VNI, one route target.

    The routes come from `hosts` different RDs, as those of many servers behind one leaf do. With `labels` each has a
    label of its own. They belong to `vrfs` VRFs in equal shares, whose VNIs and route targets are counted up from the
    first.
    """

    kind: str = "evpn-type5"
    count: int = 1000
    hosts: int = 100
    labels: bool = False
    vrfs: int = 1
    asn: int = 65201

    def prefixes(self) -> list[bytes]:
        """The IPv4 prefixes that they lead to, in the form of `benchmarks.routes`."""
        first = _FIRST_HOST if self.kind == "evpn-type2" else _FIRST_PREFIX
        return [b"\x20" + struct.pack(">I", number) for number in range(first, first + self.count)]

    def nlri(self) -> list[bytes]:
        """All NLRI."""
        share = max(1, -(-self.count // self.hosts))
        esi_and_tag = bytes(10) + bytes(4)
        routes = []
        for number, prefix in enumerate(self.prefixes()):
            rd = struct.pack(">HIH", 1, 0x0AFF0001, 1 + number // share)
            label = (VNI + number if self.labels else VNI).to_bytes(3, "big")
            if self.kind == "evpn-type2":
                mac = b"\x02\x00" + struct.pack(">I", number)
                body = rd + esi_and_tag + b"\x30" + mac + prefix + label
                routes.append(struct.pack("BB", 2, len(body)) + body)
            else:
                body = rd + esi_and_tag + prefix + bytes(4) + label
                routes.append(struct.pack("BB", 5, len(body)) + body)
        return routes

    def of_vrf(self, number: int) -> slice:
        """Which of the routes belong to a VRF."""
        share = -(-self.count // self.vrfs)
        return slice(number * share, (number + 1) * share)

    def announcements(self, *, asn: int, next_hop: str) -> Iterator[bytes]:
        """UPDATE messages that announce all, with the route target ASN:VNI and VXLAN encapsulation."""
        nlri = self.nlri()
        for number in range(self.vrfs):
            communities = struct.pack(">BBHI", 0, 2, asn, VNI + number) + struct.pack(">BBIH", 3, 0x0C, 0, 8)
            if self.kind == "evpn-type5":
                communities += b"\x06\x03\x02\x00\x00\x00\x00\x01"
            block = wire.common_attributes((asn, 64600)) + wire.attribute(0xC0, 16, communities)
            yield from wire.announce(FAMILY, block, socket.inet_aton(next_hop), nlri[self.of_vrf(number)])

    def withdrawals(self) -> Iterator[bytes]:
        """UPDATE messages that withdraw all."""
        yield from wire.withdraw(FAMILY, self.nlri())
