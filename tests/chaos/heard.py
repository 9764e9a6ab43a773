"""What a leaf has heard of the host: it decodes UPDATEs by itself, and complains of what is wrong in them."""

from __future__ import annotations

import ipaddress
import socket
import struct
from collections.abc import Iterable, Iterator

HOST_ASN = 65203
ORIGIN, AS_PATH, NEXT_HOP, COMMUNITIES, MP_REACH, MP_UNREACH = 1, 2, 3, 8, 14, 15
END_OF_RIB, END_OF_RIB_IPV6 = bytes(4), bytes.fromhex("0000 0006 800f03 0002 01")
"""Bodies of UPDATEs (RFC 4724 section 2)."""


Attributes = frozenset[tuple[int, bytes]]
"""Type and value of each, but for those that hold prefixes."""


class Malformed(Exception):
    """The daemon sent something that no speaker may send; the text says what."""


class Heard:
    """Of one leaf, over its sessions. As a helper of graceful restart it keeps what it had until End-of-RIB."""

    def __init__(self, number: int) -> None:
        self.routes: dict[str, Attributes] = {}
        """The attributes of each prefix that was announced in this session."""
        self.lost: set[str] = set()
        """What was withdrawn, or not said again until End-of-RIB, since this was cleared."""
        self.complaints: list[str] = []
        self.is_refreshed = False
        """All may come again in this session."""
        self._name = f"leaf{number}"
        self._next_hops = f"10.0.{number}.1", f"2001:db8:{number}::1"
        self._stale: set[str] = set()

    def begin(self) -> None:
        """A session begins."""
        self._stale |= self.routes.keys()
        self.routes.clear()
        self.is_refreshed = False

    def take(self, body: bytes) -> list[str]:
        """The body of an UPDATE; what it says, in words."""
        if body in (END_OF_RIB, END_OF_RIB_IPV6):
            return self._sweep(ipv6=body == END_OF_RIB_IPV6)
        try:
            withdrawn, announced = decode_update(body, next_hops=self._next_hops)
        except Malformed as error:
            self._complain(f"{error}: {body.hex()}")
            return []
        for prefix in withdrawn:
            if self.routes.pop(prefix, None) is None and prefix not in self._stale:
                self._complain(f"withdrawn, and never announced: {prefix}")
            self._stale.discard(prefix)
            self.lost.add(prefix)
        for prefix, attributes in announced.items():
            if self.routes.get(prefix) == attributes and not self.is_refreshed:
                self._complain(f"announced again, and nothing new: {prefix}")
            self.routes[prefix] = attributes
        told = [f"+ {prefix} {sorted(communities_of(found)) or ''}" for prefix, found in announced.items()]
        return [f"- {prefix}" for prefix in withdrawn] + told

    def _sweep(self, *, ipv6: bool) -> list[str]:
        swept = {prefix for prefix in self._stale if (":" in prefix) == ipv6}
        self._stale -= swept
        self.lost |= swept - self.routes.keys()
        return [f"end of RIB, IPv{6 if ipv6 else 4}"]

    def _complain(self, what: str) -> None:
        self.complaints.append(f"{self._name}: {what}")


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


def decode_update(body: bytes, *, next_hops: tuple[str, str]) -> tuple[list[str], dict[str, Attributes]]:
    """What an UPDATE withdraws, and the attributes of what it announces; `next_hops` are those of IPv4 and IPv6.

    Raises: Malformed: it is not what the host may send to an external neighbor.
    """
    try:
        return _decode(body, next_hops)
    except (struct.error, IndexError, ValueError) as error:
        raise Malformed(f"an UPDATE that is cut off ({error})") from error


def _decode(body: bytes, next_hops: tuple[str, str]) -> tuple[list[str], dict[str, Attributes]]:
    (size,) = struct.unpack_from("!H", body)
    withdrawn = decode_prefixes(body[2 : 2 + size], ipv6=False)
    rest = body[2 + size :]
    (size,) = struct.unpack_from("!H", rest)
    attributes = dict(_attributes(rest[2 : 2 + size]))
    announced = decode_prefixes(rest[2 + size :], ipv6=False)
    if announced and attributes.get(NEXT_HOP) != socket.inet_aton(next_hops[0]):
        raise Malformed("a next hop that is not the host")
    if MP_UNREACH in attributes:
        withdrawn += _of_ipv6(attributes[MP_UNREACH], 3)
    if MP_REACH in attributes:
        value = attributes[MP_REACH]
        hops = [socket.inet_ntop(socket.AF_INET6, value[start : start + 16]) for start in range(4, 4 + value[3], 16)]
        if hops[0] != next_hops[1]:
            raise Malformed(f"the next hop {hops[0]}")
        announced += _of_ipv6(value, 5 + value[3])
    if announced:
        if attributes.get(AS_PATH) != struct.pack("!BBI", 2, 1, HOST_ASN):
            raise Malformed("another AS path than the host's own AS")
        if ORIGIN not in attributes:
            raise Malformed("no ORIGIN")
    kept = frozenset(item for item in attributes.items() if item[0] not in (MP_REACH, MP_UNREACH))
    return withdrawn, dict.fromkeys(announced, kept)


def _of_ipv6(value: bytes, start: int) -> list[str]:
    if value[:3] != b"\0\2\1":
        raise Malformed(f"the family {value[:3].hex()}")
    return decode_prefixes(value[start:], ipv6=True)


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
