"""What a hostile or broken leaf sends: each of it is answered by BGP's rules, and changes nothing that lasts."""

from __future__ import annotations

import struct

from tests.chaos.evpn_wire import AFI_SAFI, EvpnRoute, Tenancy, encode_announcements, encode_nlri, encode_withdrawals
from tests.chaos.model import PODS
from tests.chaos.tenant import VM, tenancy_of_leaf
from tests.daemon.wire_peer import KEEPALIVE, MARKER, UPDATE, attribute, message, open_message, update

BURST = [f"10.{120 + number // 256}.{number % 256}.0/24" for number in range(2000)]
TAKEN_BACK = (
    *(f"10.250.{number}.0/24" for number in range(20)),
    f"{PODS[0]}/32",
    "10.64.0.0/16",
    "10.64.1.1/32",
    "10.64.2.1/32",
    "10.64.3.1/32",
    "10.0.1.2/32",
    "10.0.2.0/24",
    "127.0.0.0/8",
    "224.0.0.0/4",
    "169.254.1.1/32",
)
"""All that these messages announce: it is withdrawn when the leaf is repaired."""


HOSTILE_EVPN = [EvpnRoute(prefix) for prefix in ("10.250.20.0/24", "10.1.3.0/31", "127.0.0.0/8", f"{VM}/32")]
HOSTILE_EVPN += [EvpnRoute(f"{address}/32", "02:00:00:00:66:66", 9) for address in ("10.1.3.0", "224.0.0.1", VM)]
"""A network by its own gateway, what is on the uplinks, martians, and the VM's address."""


def evpn_taken_back(tenancy: Tenancy) -> bytes:
    """What withdraws all of that."""
    (attributes,) = encode_withdrawals(HOSTILE_EVPN, tenancy, per_message=len(HOSTILE_EVPN))
    return message(UPDATE, struct.pack("!HH", 0, len(attributes)) + attributes)


def _hostile_evpn(asn: int, number: int) -> dict[str, tuple[bytes, ...]]:
    tenancy = tenancy_of_leaf(number)
    path = attribute(0x40, 1, b"\0") + attribute(0x40, 2, struct.pack("!BBI", 2, 1, asn))
    nlri = encode_nlri(HOSTILE_EVPN[0], tenancy)

    def of(*pieces: bytes) -> tuple[bytes, ...]:
        attributes = [path + piece for piece in pieces]
        return tuple(message(UPDATE, struct.pack("!HH", 0, len(one)) + one) for one in attributes)

    def reach(nlri: bytes) -> bytes:
        target = attribute(0xC0, 16, tenancy.communities())
        return target + attribute(0x80, 14, struct.pack("!HBB", *AFI_SAFI, 4) + bytes((10, 0, number, 2, 0)) + nlri)

    return {
        "EVPN of this host": of(*encode_announcements(HOSTILE_EVPN, tenancy, f"10.0.{number}.2", per_message=1)),
        "EVPN of other lengths": of(reach(nlri[:24] + b"\x21" + nlri[25:]), reach(b"\2\x1e" + bytes(30))),
        "EVPN that is cut off": of(reach(nlri[:-1])),
        "EVPN by a gateway of nobody": of(reach(nlri[:-7] + bytes((192, 0, 2, 9)) + nlri[-3:])),
    }


def hostile_messages(asn: int, number: int) -> dict[str, tuple[bytes, ...]]:
    """By what is wrong with them."""
    next_hop = f"10.0.{number}.2"

    def route(*prefixes: str, **fields: bytes) -> bytes:
        return update(prefixes, asn=asn, next_hop=next_hop, **fields)

    good = route("10.250.0.0/24")
    path = struct.pack("!BBI", 2, 1, asn)
    return _hostile_evpn(asn, number) | {
        "bad marker": (b"\0" * 16 + good[16:],),
        "half a message": (good[: len(good) // 2],),
        "too long": (MARKER + b"\xff\xff\x02",),
        "too short": (MARKER + b"\x00\x12\x02",),
        "unknown type": (message(9),),
        "another OPEN": (open_message(asn),),
        "lengths that lie": (message(UPDATE, b"\xff\xff\0\0"), message(UPDATE, b"\0\0\xff\xff")),
        "origin 7": (good.replace(b"\x40\x01\x01\x00", b"\x40\x01\x01\x07"),),
        "no next hop": (message(UPDATE, struct.pack("!HH", 0, 4) + b"\x40\x01\x01\x00" + b"\x18\x0a\xfa\x01"),),
        "prefix of 33 bits": (good[:-4] + b"\x21\x0a\xfa\x02\0\0",),
        "unknown attribute": (route("10.250.3.0/24", extra=attribute(0xC0, 200, b"who knows")),),
        "unknown well-known attribute": (route("10.250.4.0/24", extra=attribute(0x40, 201, b"?")),),
        "own AS in the path": (
            route("10.250.5.0/24", as_path=attribute(0x40, 2, struct.pack("!BBII", 2, 2, asn, 65203))),
        ),
        "another first AS": (route("10.250.6.0/24", as_path=attribute(0x40, 2, struct.pack("!BBI", 2, 1, 64999))),),
        "path of 255": (
            route("10.250.7.0/24", as_path=attribute(0x50, 2, struct.pack("!BB", 2, 255) + path[2:] * 255)),
        ),
        "AS_SET": (
            route("10.250.8.0/24", as_path=attribute(0x40, 2, path + struct.pack("!BBII", 1, 2, 64998, 64999))),
        ),
        "communities of 5 bytes": (route("10.250.9.0/24", extra=attribute(0xC0, 8, b"12345")),),
        "attribute twice": (route("10.250.10.0/24", extra=attribute(0x40, 1, b"\0")),),
        "this host's addresses": (route(f"{PODS[0]}/32", "10.64.1.1/32", "10.64.2.1/32", "10.64.3.1/32"),),
        "all pods": (route("10.64.0.0/16"),),
        "addresses of other leaves": (route("10.0.1.2/32", "10.0.2.0/24"),),
        "martians": (route("127.0.0.0/8", "224.0.0.0/4", "169.254.1.1/32"),),
        "next hop of the host": (update(("10.250.11.0/24",), asn=asn, next_hop=f"10.0.{number}.1"),),
        "next hop of nobody": (update(("10.250.12.0/24",), asn=asn, next_hop="192.0.2.1"),),
        "thousand keepalives": (message(KEEPALIVE) * 1000,),
        "graceful shutdown": (route("10.250.13.0/24", extra=attribute(0xC0, 8, b"\xff\xff\0\0")),),
        "refresh without end": (message(5, b"\0\1\0\1") * 20,),
    }
