"""BGP messages as the modelled routers write and read them: from the RFCs alone, without a line of bgpd's own codec."""

from __future__ import annotations

import functools
import socket
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

from bgpd.simulation import evpn

MARKER = b"\xff" * 16
OPEN, UPDATE, NOTIFICATION, KEEPALIVE, ROUTE_REFRESH = 1, 2, 3, 4, 5
CEASE, HARD_RESET, BFD_DOWN = 6, 9, 10
AS_TRANS = 23456
"""In place of an AS number of four octets (RFC 6793)."""
END_OF_RIB = b"\0\0\0\0"
"""The body of the marker of IPv4 unicast (RFC 4724 section 2)."""
V4, V6, EVPN = (1, 1), (2, 1), (25, 70)
DEFAULTS = ("0.0.0.0/0", "::/0")
Codes = tuple[int, int]
"""AFI and SAFI."""
_EVPN_CODES = struct.pack("!HB", *EVPN)
GRACEFUL_SHUTDOWN = 0xFFFF0000
"""RFC 8326."""
LLGR_STALE, NO_LLGR = 0xFFFF0006, 0xFFFF0007
"""RFC 9494."""


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """What one neighbor announces, or the router itself (`peer` None). Of EVPN also the extended communities, the label
    and the gateway IP, packed. `preference`: LOCAL_PREF, of a neighbor of the same AS (`is_internal`) or by a policy;
    `med`: MULTI_EXIT_DISC, None without;
    `originator` and `clusters`: who brought it into the AS, and who has reflected it there (RFC 4456)."""

    peer: str | None
    as_path: tuple[int, ...] = ()
    communities: tuple[int, ...] = ()
    extended: tuple[bytes, ...] = ()
    label: bytes = b""
    gateway: bytes = b""
    preference: int = 100
    med: int | None = None
    is_internal: bool = False
    originator: bytes = b""
    clusters: tuple[bytes, ...] = ()

    @property
    def rank(self) -> tuple[bool, bool, int, int, bool]:
        """What is compared to find the best of several, lower is better."""
        last, lowered = LLGR_STALE in self.communities, GRACEFUL_SHUTDOWN in self.communities
        return last, lowered, -self.preference, len(self.as_path), self.is_internal


def message(kind: int, body: bytes = b"") -> bytes:
    """One message with its header (RFC 4271 section 4.1)."""
    return MARKER + struct.pack("!HB", 19 + len(body), kind) + body


class Restart(msgspec.Struct, frozen=True):
    """The capabilities of RFC 4724 and, with `long_lived_s`, RFC 9494: R bit, N bit, F bit, Restart Time."""

    restarted: bool = False
    notification: bool = True
    time_s: int = 120
    forwarding: bool = True
    families: tuple[tuple[int, int], ...] = ((1, 1),)
    long_lived_s: int = 0

    def capabilities(self) -> bytes:
        """The graceful restart capability, and that of long-lived stale routes (RFC 4724, RFC 9494)."""
        flags = self.forwarding << 7
        value = struct.pack("!H", self.restarted << 15 | self.notification << 14 | self.time_s)
        value += b"".join(struct.pack("!HBB", afi, safi, flags) for afi, safi in self.families)
        found = bytes((64, len(value))) + value
        if self.long_lived_s:
            time_s = self.long_lived_s.to_bytes(3, "big")
            value = b"".join(struct.pack("!HBB", afi, safi, flags) + time_s for afi, safi in self.families)
            found += bytes((71, len(value))) + value
        return found


def open_message(
    asn: int,
    *,
    hold_time_s: int = 9,
    families: tuple[tuple[int, int], ...] = ((1, 1),),
    extended: bool = False,
    restart: Restart | None = None,
    router_id: tuple[int, ...] = (10, 255, 0, 9),
    more: bytes = b"",
) -> bytes:
    """OPEN with 4-octet AS, route refresh, and multiprotocol for (AFI, SAFI)s; `extended`: messages of 65,535 bytes;
    `more`: further capabilities."""
    capabilities = struct.pack("!BBI", 65, 4, asn) + bytes((2, 0)) + (bytes((6, 0)) if extended else b"")
    for afi, safi in families:
        capabilities += struct.pack("!BBHBB", 1, 4, afi, 0, safi)
    capabilities += restart.capabilities() if restart is not None else b""
    capabilities += more
    parameters = bytes((2, len(capabilities))) + capabilities
    head = struct.pack("!BHH4s", 4, asn if asn < 1 << 16 else AS_TRANS, hold_time_s, bytes(router_id))
    return message(OPEN, head + bytes((len(parameters),)) + parameters)


def attribute(flags: int, kind: int, value: bytes) -> bytes:
    """One path attribute, with a length of two bytes where it needs that (RFC 4271 section 4.3)."""
    if len(value) > 255:
        return struct.pack("!BBH", flags | 0x10, kind, len(value)) + value
    return bytes((flags, kind, len(value))) + value


def nlri(prefixes: Iterable[str], route: Route | None = None) -> bytes:
    """Prefixes of a family as they stand in an UPDATE; `route`: what is said of them, None where they are withdrawn."""
    return b"".join(evpn.pack(one, route) if codes_of(one) == EVPN else _packed(one) for one in prefixes)


@functools.lru_cache(1 << 20)
def _packed(prefix: str) -> bytes:
    address, _, length = prefix.partition("/")
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return bytes((int(length),)) + socket.inet_pton(family, address)[: (int(length) + 7) // 8]


def codes_of(prefix: str) -> Codes:
    """Which family a prefix is of."""
    return EVPN if prefix.startswith("evpn ") else V6 if ":" in prefix else V4


def end_of_rib(codes: Codes) -> bytes:
    """The body of the marker (RFC 4724 section 2)."""
    return END_OF_RIB if codes == V4 else withdrawal(codes, b"")


@functools.lru_cache(1 << 4)
def ends_of_rib(families: tuple[Codes, ...]) -> Mapping[bytes, Codes]:
    """Those of several families, by their bodies."""
    return {end_of_rib(codes): codes for codes in families}


def withdrawal(codes: Codes, packed: bytes) -> bytes:
    """An UPDATE's body that withdraws these."""
    if codes == V4:
        return struct.pack("!H", len(packed)) + packed + b"\0\0"
    attributes = attribute(0x80, 15, struct.pack("!HB", *codes) + packed)
    return struct.pack("!HH", 0, len(attributes)) + attributes


def read_nlri(data: bytes, codes: Codes = V4) -> Iterator[str]:
    """The prefixes of a family."""
    at = 0
    while at < len(data):
        end = at + 1 + (data[at] + 7) // 8
        yield _text(data[at:end], codes)
        at = end


@functools.lru_cache(1 << 20)
def _text(packed: bytes, codes: Codes) -> str:
    family, length = (socket.AF_INET, 4) if codes == V4 else (socket.AF_INET6, 16)
    return f"{socket.inet_ntop(family, packed[1:].ljust(length, bytes(1)))}/{packed[0]}"


@functools.lru_cache(1 << 12)
def read_update(body: bytes, peer: str) -> tuple[Sequence[str], Mapping[str, Route], bytes]:
    """(withdrawn, announced and how, by which next hop) of an UPDATE; a router tells many neighbors the same."""
    (length,) = struct.unpack_from("!H", body)
    withdrawn = list(read_nlri(body[2 : 2 + length]))
    at = 2 + length
    (length,) = struct.unpack_from("!H", body, at)
    attributes, announced = body[at + 2 : at + 2 + length], list(read_nlri(body[at + 2 + length :]))
    as_path: tuple[int, ...] = ()
    communities: tuple[int, ...] = ()
    extended: tuple[bytes, ...] = ()
    preference, med, originator, clusters, next_hop = 100, None, b"", b"", b""
    overlays: list[tuple[str, bytes, bytes]] = []
    at = 0
    while at < len(attributes):
        flags, kind = attributes[at], attributes[at + 1]
        long = flags & 0x10
        size = struct.unpack_from("!H", attributes, at + 2)[0] if long else attributes[at + 2]
        at += 4 if long else 3
        value = attributes[at : at + size]
        at += size
        if kind == 14:
            next_hop = value[4 : 4 + value[3]]
        if kind == 2 and value:
            as_path = struct.unpack(f"!{value[1]}I", value[2 : 2 + 4 * value[1]])
        elif kind == 4:
            med = int.from_bytes(value)
        elif kind == 3:
            next_hop = value
        elif kind == 5:
            preference = int.from_bytes(value)
        elif kind == 9:
            originator = value
        elif kind == 10:
            clusters = value
        elif kind == 14 and value[:3] == _EVPN_CODES:
            overlays += evpn.read(value[5 + value[3] :])
        elif kind == 15 and value[:3] == _EVPN_CODES:
            withdrawn += [name for name, _label, _gateway in evpn.read(value[3:])]
        elif kind == 14:
            announced += read_nlri(value[5 + value[3] :], (value[1], value[2]))
        elif kind == 15:
            withdrawn += read_nlri(value[3:], (value[1], value[2]))
        elif kind == 8:
            communities = struct.unpack(f"!{len(value) // 4}I", value)
        elif kind == 16:
            extended = tuple(value[start : start + 8] for start in range(0, len(value), 8))
    route = Route(
        peer=peer,
        as_path=as_path,
        communities=communities,
        extended=extended,
        preference=preference,
        med=med,
        originator=originator,
        clusters=tuple(clusters[start : start + 4] for start in range(0, len(clusters), 4)),
    )
    found = dict.fromkeys(announced, route)
    for name, label, gateway in overlays:
        found[name] = msgspec.structs.replace(route, label=label, gateway=gateway)
    return withdrawn, found, next_hop


def capabilities(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Codes and values in the optional parameters of an OPEN, of either form (RFC 9072)."""
    at = 0
    while at + 2 <= len(data):
        kind, size = data[at], data[at + 1]
        parameter, at = data[at + 2 : at + 2 + size], at + 2 + size
        inner = 0
        while kind == 2 and inner + 2 <= len(parameter):
            code, length = parameter[inner], parameter[inner + 1]
            yield code, parameter[inner + 2 : inner + 2 + length]
            inner += 2 + length
