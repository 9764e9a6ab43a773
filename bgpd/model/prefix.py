"""Route keys of IP prefixes: the bytes under which every table of bgpd files a unicast route.

A key is exactly the NLRI (RFC 4271 section 4.3): the prefix length in one byte, then the significant address bytes with
the host bits zeroed. The family is not part of a key; each table holds one family.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable, Iterator

from bgpd.model.iana import UNICAST, Family

VrfFamily = tuple[str, Family]
"""A table: the name of its VRF ("" for the main one), and its family."""
VrfKey = tuple[str, Family, bytes]
"""A prefix of a table, by its route key."""
_ZERO = b"\0"
_IPV4 = Family.IPV4_UNICAST
"""By itself, since each look-up of an enum's member costs as much as the comparison."""


def key_of(network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> bytes:
    """Route key of a network."""
    length = network.prefixlen
    return bytes((length,)) + network.network_address.packed[: (length + 7) >> 3]


def parse_prefix(text: str) -> tuple[Family, bytes]:
    """Family and route key of "10.0.0.0/24" or "2001:db8::/64"; an address without a length is a host prefix.

    Raises: ValueError: not a prefix, or host bits are set.
    """
    host = parse_host(text)
    if host is not None:
        return host
    if "%" in text:
        raise ValueError(f'"{text}" has a scope, and no prefix has one')
    network = ipaddress.ip_network(text)
    return (Family.IPV4_UNICAST if network.version == 4 else Family.IPV6_UNICAST), key_of(network)


def parse_host(text: str) -> tuple[Family, bytes] | None:
    """Family and route key of an address without a length; None if it is anything else. Ten times as fast."""
    family = Family.IPV6_UNICAST if ":" in text else Family.IPV4_UNICAST
    try:
        if family is Family.IPV4_UNICAST:
            return family, b"\x20" + socket.inet_pton(socket.AF_INET, text)
        return family, b"\x80" + socket.inet_pton(socket.AF_INET6, text)
    except (OSError, ValueError):
        return None


def address_length(family: Family) -> int:
    """Bytes of an address of a unicast family: 4 or 16."""
    return 4 if family is Family.IPV4_UNICAST else 16


def key_address(family: Family, key: bytes) -> bytes:
    """The key's network address, 4 or 16 bytes."""
    return key[1:].ljust(address_length(family), _ZERO)


def is_key(family: Family, key: bytes) -> bool:
    """Whether the bytes, of whatever origin, are the key of a prefix of a unicast family."""
    if family not in UNICAST or not key or key[0] > 8 * address_length(family):
        return False
    return len(key) <= 1 + address_length(family) and network_key(key_address(family, key), key[0]) == key


def host_key(packed: bytes) -> bytes:
    """Route key of the host prefix of a packed address, /32 or /128."""
    return bytes((8 * len(packed),)) + packed


def format_key(family: Family, key: bytes) -> str:
    """Text of a unicast route key, such as "10.0.0.0/24"."""
    if family is _IPV4:
        length, first, second, third, last = key.ljust(5, _ZERO)
        return f"{first}.{second}.{third}.{last}/{length}"
    return f"{socket.inet_ntop(socket.AF_INET6, key[1:].ljust(16, _ZERO))}/{key[0]}"


def family_of(packed: bytes) -> Family:
    """The family that prefixes of a packed address, 4 or 16 bytes, are of."""
    return Family.IPV4_UNICAST if len(packed) == 4 else Family.IPV6_UNICAST


def socket_family(packed: bytes) -> socket.AddressFamily:
    """The family of sockets, and of the kernel, of a packed address, 4 or 16 bytes."""
    return socket.AF_INET if len(packed) == 4 else socket.AF_INET6


def format_address(packed: bytes) -> str:
    """Text of a packed IPv4 (4 bytes) or IPv6 (16 bytes) address."""
    return socket.inet_ntop(socket_family(packed), packed)


def parse_address(text: str) -> bytes:
    """Packed form of an address, 4 or 16 bytes.

    Raises: ValueError: not an address.
    """
    return ipaddress.ip_address(text).packed


def is_link_local(address: bytes) -> bool:
    """Whether a packed address is IPv6 link-local (fe80::/10)."""
    return len(address) == 16 and address[0] == 0xFE and address[1] & 0xC0 == 0x80


def network_key(packed: bytes, length: int) -> bytes:
    """Route key of the network that an address with a prefix length is in."""
    bits = len(packed) * 8
    number = int.from_bytes(packed) >> (bits - length) << (bits - length)
    return bytes((length,)) + number.to_bytes(len(packed), "big")[: (length + 7) >> 3]


def covers(outer: bytes, inner: bytes) -> bool:
    """Whether the prefix of key `outer` contains the prefix of key `inner` (same family; equal counts)."""
    length = outer[0]
    if inner[0] < length:
        return False
    whole, rest = divmod(length, 8)
    if outer[1 : whole + 1] != inner[1 : whole + 1]:
        return False
    return not rest or (outer[whole + 1] ^ inner[whole + 1]) >> (8 - rest) == 0


_SORTED = 4096
"""Keys that are sorted in one step: some milliseconds."""


def in_address_order(parts: Iterable[Iterable[bytes]]) -> Iterator[list[bytes]]:
    """Keys of one family by address, then by length, in short steps; a step's list may be empty.

    A radix sort by address bytes, until a bucket has few enough keys to be sorted at once.
    """
    dealt: dict[bytes, list[bytes]] = {}
    for part in parts:
        for key in part:
            dealt.setdefault(key[1:2], []).append(key)
        yield []
    yield from _in_order(dealt, 2)


def _in_order(dealt: dict[bytes, list[bytes]], place: int) -> Iterator[list[bytes]]:
    """Radix sort step; consumes `dealt` (keys by their byte at `place` - 1; b"": keys that end before it)."""
    for head in sorted(dealt):
        keys = dealt.pop(head)
        if len(keys) <= _SORTED or not head:
            keys.sort(key=by_address)
            yield keys
            continue
        deeper: dict[bytes, list[bytes]] = {}
        for start in range(0, len(keys), _SORTED):
            for key in keys[start : start + _SORTED]:
                deeper.setdefault(key[place : place + 1], []).append(key)
            yield []
        del keys
        yield from _in_order(deeper, place + 1)


def by_address(key: bytes) -> tuple[bytes, int]:
    """What keys of prefixes are sorted by: the network address, then the length."""
    return key[1:], key[0]


def covering_keys(family: Family, address: bytes) -> Iterator[bytes]:
    """The keys of all prefixes that cover an address, the most specific first."""
    bits = 8 * address_length(family)
    value = int.from_bytes(address, "big")
    for length in range(bits, -1, -1):
        size = (length + 7) >> 3
        network = value >> (bits - length) << (bits - length)
        yield bytes((length,)) + network.to_bytes(bits >> 3, "big")[:size]
