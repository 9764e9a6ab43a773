"""What a leaf has heard of the host: it decodes UPDATEs by itself, and complains of what is wrong in them."""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterable, Iterator

import msgspec

from tests.chaos.evpn_wire import EXTENDED_COMMUNITIES, Malformed, Tenancy, decode_nlri

HOST_ASN = 65203
ORIGIN, AS_PATH, NEXT_HOP, COMMUNITIES, MP_REACH, MP_UNREACH = 1, 2, 3, 8, 14, 15
IPV4, IPV6, EVPN = b"\0\1\1", b"\0\2\1", b"\0\x19\x46"
"""AFI and SAFI."""
_NO_ROUTE = {
    bytes(4): IPV4,
    **{b"\0\0\0\6\x80\x0f\3" + family: family for family in (IPV6, EVPN)},
}
"""End-of-RIB: the bodies of UPDATEs (RFC 4724 section 2)."""
_NLRI = 0
"""In place of an attribute's type: what an EVPN route says beside its key."""

Attributes = frozenset[tuple[int, bytes]]
"""Type and value of each, but for those that hold prefixes."""


class Host(msgspec.Struct, frozen=True):
    """How a host says that routes are its own, to one leaf: the next hop of each family (of IPv4 routes an IPv6 one
    where the session is unnumbered), and of EVPN what belongs to each of its VRFs."""

    ipv4: str
    ipv6: str
    evpn: str = ""
    tenancies: tuple[Tenancy, ...] = ()

    def next_hop(self, family: bytes) -> bytes:
        """Packed, of the next hops in an UPDATE the first."""
        return ipaddress.ip_address({IPV4: self.ipv4, IPV6: self.ipv6, EVPN: self.evpn}[family]).packed


class Heard:
    """Of one leaf, over its sessions. As a helper of graceful restart it keeps what it had until End-of-RIB.

    Routes are prefixes, and the keys of EVPN routes (evpn_wire.py).
    """

    def __init__(self, number: int, host: Host) -> None:
        self.routes: dict[str, Attributes] = {}
        """The attributes of each route that was announced in this session."""
        self.lost: set[str] = set()
        """What was withdrawn, or not said again until End-of-RIB, since this was cleared."""
        self.complaints: list[str] = []
        self.is_refreshed = False
        """All may come again in this session."""
        self.unsteady_rounds = 0
        """So long the host may lack a next hop or a gateway for what it has, or just have got it again: all of that is
        withdrawn, whether it was announced or not, and comes again."""
        self._name = f"leaf{number}"
        self._host = host
        self._stale: set[str] = set()
        self._renewed: dict[bytes, set[str]] = {}
        """What has not come again yet of the families that are sent again just now."""

    def begin(self) -> None:
        """A session begins."""
        self._stale |= self.routes.keys()
        self.routes.clear()
        self.is_refreshed = False
        self._renewed.clear()

    def take_refresh(self, body: bytes) -> list[str]:
        """The body of a ROUTE-REFRESH: between its beginning and its end all routes of a family come again, and what
        does not is gone (RFC 7313)."""
        family, subtype = body[:2] + body[3:], body[2]
        if subtype == 1:
            self._renewed[family] = {route for route in self.routes if _family(route) == family}
        elif subtype == 2 and family in self._renewed:
            for route in self._renewed.pop(family):
                self.routes.pop(route, None)
                self.lost.add(route)
        else:
            self._complain(f"a ROUTE-REFRESH of subtype {subtype}: {body.hex()}")
        return [f"refresh of {family.hex()}, {subtype}"]

    def take(self, body: bytes) -> list[str]:
        """The body of an UPDATE; what it says, in words."""
        if body in _NO_ROUTE:
            return self._sweep(_NO_ROUTE[body])
        try:
            withdrawn, announced = decode_update(body, self._host)
        except Malformed as error:
            self._complain(f"{error}: {body.hex()}")
            return []
        for prefix in withdrawn:
            is_known = self.routes.pop(prefix, None) is not None or prefix in self._stale
            if not (is_known or self.unsteady_rounds):
                self._complain(f"withdrawn, and never announced: {prefix}")
            self._stale.discard(prefix)
            self.lost.add(prefix)
        for prefix, attributes in announced.items():
            is_expected = self.is_refreshed or self.unsteady_rounds > 0 or _family(prefix) in self._renewed
            if self.routes.get(prefix) == attributes and not is_expected:
                self._complain(f"announced again, and nothing new: {prefix}")
            self.routes[prefix] = attributes
            self._renewed.get(_family(prefix), set()).discard(prefix)
        told = [f"+ {prefix} {sorted(communities_of(found)) or ''}" for prefix, found in announced.items()]
        return [f"- {prefix}" for prefix in withdrawn] + told

    def _sweep(self, family: bytes) -> list[str]:
        swept = {route for route in self._stale if _family(route) == family}
        self._stale -= swept
        self.lost |= swept - self.routes.keys()
        return [f"end of RIB, {family.hex()}"]

    def _complain(self, what: str) -> None:
        self.complaints.append(f"{self._name}: {what}")


def _family(route: str) -> bytes:
    if route.startswith("evpn "):
        return EVPN
    return IPV6 if ":" in route else IPV4


def communities_of(attributes: Attributes) -> frozenset[int]:
    """The communities of a route (RFC 1997)."""
    value = dict(attributes).get(COMMUNITIES, b"")
    return frozenset(struct.unpack(f"!{len(value) // 4}I", value))


def encode_prefixes(prefixes: Iterable[str]) -> bytes:
    """NLRI of one family (RFC 4271 section 4.3)."""
    out = b""
    for prefix in prefixes:
        network = ipaddress.ip_network(prefix)
        out += bytes((network.prefixlen,)) + network.network_address.packed[: (network.prefixlen + 7) // 8]
    return out


def decode_prefixes(data: bytes, *, ipv6: bool) -> list[str]:
    """Raises: Malformed."""
    size, found = (16, []) if ipv6 else (4, [])
    while data:
        length, octets = data[0], (data[0] + 7) // 8
        if length > 8 * size or len(data) < 1 + octets:
            raise Malformed(f"a prefix of {length} bits")
        packed = data[1 : 1 + octets].ljust(size, b"\0")
        found.append(str(ipaddress.ip_network((packed, length), strict=False)))
        data = data[1 + octets :]
    return found


def decode_update(body: bytes, host: Host) -> tuple[list[str], dict[str, Attributes]]:
    """What an UPDATE withdraws, and the attributes of what it announces.

    Raises: Malformed: it is not what the host may send to an external neighbor.
    """
    try:
        return _decode(body, host)
    except (struct.error, LookupError, ValueError) as error:
        raise Malformed(f"an UPDATE that is cut off ({error})") from error


def _decode(body: bytes, host: Host) -> tuple[list[str], dict[str, Attributes]]:
    (size,) = struct.unpack_from("!H", body)
    withdrawn = decode_prefixes(body[2 : 2 + size], ipv6=False)
    rest = body[2 + size :]
    (size,) = struct.unpack_from("!H", rest)
    attributes = dict(_attributes(rest[2 : 2 + size]))
    announced = dict.fromkeys(decode_prefixes(rest[2 + size :], ipv6=False), b"")
    if announced and attributes.get(NEXT_HOP) != host.next_hop(IPV4):
        raise Malformed("a next hop that is not the host")
    if MP_UNREACH in attributes:
        value = attributes[MP_UNREACH]
        withdrawn += [route for route, _ in _nlri(value[:3], value[3:], host)]
    if MP_REACH in attributes:
        announced |= _reached(attributes[MP_REACH], host, attributes.get(EXTENDED_COMMUNITIES, b""))
    if announced:
        if attributes.get(AS_PATH) != struct.pack("!BBI", 2, 1, HOST_ASN):
            raise Malformed("another AS path than the host's own AS")
        if ORIGIN not in attributes:
            raise Malformed("no ORIGIN")
    kept = frozenset(item for item in attributes.items() if item[0] not in (MP_REACH, MP_UNREACH))
    return withdrawn, {route: kept | {(_NLRI, more)} if more else kept for route, more in announced.items()}


def _reached(value: bytes, host: Host, communities: bytes) -> dict[str, bytes]:
    """The routes of MP_REACH_NLRI, and what each says beside its key."""
    family, size = value[:3], value[3]
    hop = host.next_hop(family)
    if value[4 : 4 + size][: len(hop)] != hop or size not in (4, 16, 32) or value[4 + size]:
        raise Malformed(f"the next hop {value[4 : 4 + size].hex()}")
    return dict(_nlri(family, value[5 + size :], host, communities))


def _nlri(family: bytes, data: bytes, host: Host, communities: bytes | None = None) -> Iterator[tuple[str, bytes]]:
    if family == EVPN:
        yield from decode_nlri(data, host.tenancies, communities)
    else:
        if family not in (IPV4, IPV6):
            raise Malformed(f"the family {family.hex()}")
        yield from ((prefix, b"") for prefix in decode_prefixes(data, ipv6=family == IPV6))


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    seen: set[int] = set()
    while data:
        flags, kind, size, start = data[0], data[1], data[2], 3
        if flags & 0x10:
            size, start = int.from_bytes(data[2:4]), 4
        if len(data) < start + size or kind in seen:
            raise Malformed(f"attribute {kind} twice, or cut off")
        seen.add(kind)
        yield kind, data[start : start + size]
        data = data[start + size :]
