"""EVPN routes as the modelled routers write, read and use them: from RFC 7432 and RFC 9136 alone, without a line of
bgpd's own codec.

A route is known by a text of the fields that make it another one: `evpn TYPE RD MAC PREFIX`, RD and MAC in hexadecimal,
the MAC "-" in type 5.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bgpd.simulation.wire import Route

MAC_IP, IP_PREFIX = 2, 5
_ESI = bytes(10)
_TAG = bytes(4)
_MAC_IP_HEAD = struct.Struct("!8s10s4sB6sB")
_TARGET = b"\0\2"
_VXLAN = bytes.fromhex("030c000000000008")
_MOBILITY = b"\6\0"


def mac_ip(rd: bytes, mac: bytes, address: str) -> str:
    """The type 2 route of a MAC and a host prefix."""
    return f"evpn {MAC_IP} {rd.hex()} {mac.hex()} {address}"


def ip_prefix(rd: bytes, prefix: str) -> str:
    """The type 5 route of a prefix."""
    return f"evpn {IP_PREFIX} {rd.hex()} - {prefix}"


def prefix_of(name: str) -> str:
    """What a route is about."""
    return name.rpartition(" ")[2]


def is_host(name: str) -> bool:
    """Whether it is of type 2."""
    return name.startswith(f"evpn {MAC_IP} ")


def distinguisher(router_id: bytes, number: int) -> bytes:
    """A route distinguisher of type 1 (RFC 7432 section 7.9)."""
    return struct.pack("!H4sH", 1, router_id, number)


def target(asn: int, number: int) -> bytes:
    """A route target of a 2-octet AS (RFC 4360 section 4)."""
    return _TARGET + struct.pack("!HI", asn, number)


def carried(route_target: bytes) -> tuple[bytes, ...]:
    """The extended communities of a router's own route."""
    return route_target, _VXLAN


def mobility(route: Route) -> tuple[bool, int]:
    """Sticky, and the sequence (RFC 7432 section 7.7)."""
    for one in route.extended:
        if one[:2] == _MOBILITY:
            return bool(one[2] & 1), int.from_bytes(one[4:])
    return False, 0


def pack(name: str, route: Route | None = None) -> bytes:
    """The NLRI of a route; without what is said of it as in a withdrawal."""
    label = route.label if route is not None else bytes(3)
    _, kind, rd, mac, prefix = name.split(" ")
    address, _, length = prefix.partition("/")
    packed = _packed(address)
    if int(kind) == MAC_IP:
        head = _MAC_IP_HEAD.pack(bytes.fromhex(rd), _ESI, _TAG, 48, bytes.fromhex(mac), 8 * len(packed))
        value = head + packed + label
    else:
        gateway = route.gateway if route is not None and route.gateway else bytes(len(packed))
        value = bytes.fromhex(rd) + _ESI + _TAG + bytes((int(length),)) + packed + gateway + label
    return bytes((int(kind), len(value))) + value


def read(data: bytes) -> Iterator[tuple[str, bytes, bytes]]:
    """(name, label, gateway) of each route; a gateway of zeros is none, b""."""
    at = 0
    while at < len(data):
        kind, size = data[at], data[at + 1]
        value = data[at + 2 : at + 2 + size]
        at += 2 + size
        if kind == MAC_IP:
            rd, _esi, _tag, _bits, mac, bits = _MAC_IP_HEAD.unpack_from(value)
            packed = value[30 : 30 + bits // 8]
            yield mac_ip(rd, mac, f"{_text(packed)}/{bits}"), value[30 + bits // 8 :][:3], b""
        elif kind == IP_PREFIX:
            length = (size - 26) // 2
            packed, gateway = value[23 : 23 + length], value[23 + length : 23 + 2 * length]
            name = ip_prefix(value[:8], f"{_text(packed)}/{value[22]}")
            yield name, value[-3:], gateway if any(gateway) else b""


def forwards(
    installed: Mapping[str, Route], fib: Mapping[str, tuple[str, ...]], route_target: bytes, prefix: str
) -> tuple[str, ...]:
    """The neighbors by which a router sends packets of a tenant to an address: by the longest prefix; by the host that
    has the MAC (sticky, or of the highest sequence) before a prefix; then by all of the shortest AS path."""
    family, wanted = _bits(prefix)
    found: list[tuple[tuple[int, int, bool, int, int], str]] = []
    for name, route in installed.items():
        if route_target not in route.extended or name not in fib:
            continue
        of, bits = _bits(prefix_of(name))
        if of != family or not wanted.startswith(bits):
            continue
        sticky, sequence = mobility(route)
        rank = (-len(bits), 0 if is_host(name) else 1, not sticky, -sequence, len(route.as_path))
        found.append((rank, name))
    best = min((rank for rank, _name in found), default=None)
    return tuple(dict.fromkeys(way for rank, name in found if rank == best for way in fib[name]))


def _bits(prefix: str) -> tuple[int, str]:
    address, _, length = prefix.partition("/")
    packed = _packed(address)
    return len(packed), f"{int.from_bytes(packed):0{8 * len(packed)}b}"[: int(length)]


def _packed(address: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)


def _text(packed: bytes) -> str:
    return socket.inet_ntop(socket.AF_INET if len(packed) == 4 else socket.AF_INET6, packed)
