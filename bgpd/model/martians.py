"""Martians: prefixes that no neighbor may announce, since they mean something on each host or link alone, or nothing.

The one list of them (RFC 6890, RFC 1112 section 4, RFC 4291 section 2): a prefix equal to a block or inside it is a
martian, one that covers a block is none, nor is the default route. What follows from it, the caller decides
(RFC 4271 section 6.3: the prefix is ignored).

Hot path: the first address bytes of many keys are examined in one C call; only suspects are examined one by one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from operator import itemgetter

import msgspec

from bgpd.model.iana import EvpnRouteType, Family
from bgpd.model.prefix import address_length, covers, parse_prefix


class Block(msgspec.Struct, frozen=True):
    """A block of martians: its text, what it is for, and its route key."""

    prefix: str
    purpose: str
    key: bytes


def _blocks(*blocks: tuple[str, str]) -> tuple[Block, ...]:
    return tuple(Block(prefix, purpose, parse_prefix(prefix)[1]) for prefix, purpose in blocks)


BLOCKS: dict[Family, tuple[Block, ...]] = {
    Family.IPV4_UNICAST: _blocks(
        ("0.0.0.0/8", "this network"),
        ("127.0.0.0/8", "loopback"),
        ("169.254.0.0/16", "link-local"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved"),
    ),
    Family.IPV6_UNICAST: _blocks(
        ("::/128", "unspecified"),
        ("::1/128", "loopback"),
        ("::ffff:0:0/96", "IPv4-mapped"),
        ("fe80::/10", "link-local"),
        ("ff00::/8", "multicast"),
    ),
}
"""The blocks of each unicast family; 255.255.255.255 is inside 240.0.0.0/4."""


def first_bytes(family: Family) -> frozenset[bytes]:
    """The first address bytes that martians of a unicast family may have; all other prefixes are none."""
    return _SUSPECTS[family].firsts


def martians(family: Family, keys: Sequence[bytes], field: bytes = b"") -> list[tuple[bytes, Block]]:
    """Those of `keys` (of a unicast family or of EVPN) that are martians, each with its block.

    `field` is the NLRI field that the keys were split from, if there is one: a field of prefixes of one length is
    looked at as a whole.
    """
    if family is Family.L2VPN_EVPN:
        return _evpn_martians(keys, field)
    suspects = _SUSPECTS.get(family)
    if suspects is None or not keys or suspects.clears(keys, field):
        return []
    blocks = BLOCKS[family]
    return [(key, blocks[found.lastindex - 1]) for key in keys if (found := suspects.match(key)) and found.lastindex]


class _Suspects:
    """Two tests of the keys of a family: a quick one of the first address byte, and the exact one, `match`, whose
    group tells the block."""

    def __init__(self, family: Family, blocks: Iterable[Block]) -> None:
        bits = 8 * address_length(family)
        firsts = {value for block in blocks for value in _first_bytes(block.key)}
        self.match = re.compile(b"|".join(b"(%b)" % _pattern(block.key, bits) for block in blocks), re.DOTALL).match
        self.firsts = frozenset(bytes((value,)) for value in firsts)
        self._unsuspicious = bytes(value for value in range(256) if value not in firsts)

    def clears(self, keys: Sequence[bytes], field: bytes) -> bool:
        """Whether none of the keys can be a martian."""
        size = len(keys[0])
        if size > 1 and len(field) == size * len(keys) and field[::size] == field[:1] * len(keys):
            return not field[1::size].translate(None, self._unsuspicious)
        return self.firsts.isdisjoint(map(_first, keys))

    def clears_evpn(self, keys: Sequence[bytes], field: bytes, at: int) -> bool:
        """The same of EVPN keys of one type and length, whose addresses begin at `at`."""
        count = len(keys)
        size = len(field) // count
        heads = keys[0][:1] * count + bytes((size - 2 & 0xFF,)) * count
        if size * count == len(field) > 0 and field[::size] + field[1::size] == heads:
            return not field[_IN_NLRI[at] :: size].translate(None, self._unsuspicious)
        return self.firsts.isdisjoint(map(itemgetter(slice(at, at + 1)), keys))


def _evpn_martians(keys: Sequence[bytes], field: bytes) -> list[tuple[bytes, Block]]:
    """Of routes of one type and length those whose IP prefix (types 2 and 5; model/evpn.py has the layout) is one.

    A type 2 route of a link-local address tells of a neighbor on the link (RFC 9161), and no host route follows from
    it: it is none.
    """
    kind = keys[0][0] if keys else 0
    if kind not in (EvpnRouteType.MAC_IP_ADVERTISEMENT, EvpnRouteType.IP_PREFIX):
        return []
    at = 19 if kind == EvpnRouteType.MAC_IP_ADVERTISEMENT else 14
    family = _FAMILY_BY_SIZE.get(len(keys[0]) - at)
    if family is None or _SUSPECTS[family].clears_evpn(keys, field, at):
        return []
    found = []
    for key in keys:
        prefix = key[13:] if at == 14 else bytes((8 * (len(key) - at),)) + key[at:]
        if at == 14 or key[at : at + 2] != _LINK_LOCAL:
            found += [(key, block) for block in BLOCKS[family] if covers(block.key, prefix)]
    return found


def _first_bytes(key: bytes) -> range:
    """The first address bytes of all prefixes inside a block."""
    spare = (1 << max(8 - key[0], 0)) - 1
    return range(key[1], key[1] + spare + 1)


def _pattern(block: bytes, bits: int) -> bytes:
    """Of the keys inside a block: a length byte that is no less, and the block's bits."""
    whole, rest = divmod(block[0], 8)
    pattern = _range(block[0], bits) + re.escape(block[1 : 1 + whole])
    return pattern + _range(block[1 + whole], block[1 + whole] | 0xFF >> rest) if rest else pattern


def _range(first: int, last: int) -> bytes:
    return b"[" + re.escape(bytes((first,))) + b"-" + re.escape(bytes((last,))) + b"]"


_first = itemgetter(slice(1, 2))
_FAMILY_BY_SIZE = {4: Family.IPV4_UNICAST, 16: Family.IPV6_UNICAST}
_LINK_LOCAL = b"\xfe\x80"
_IN_NLRI = {19: 32, 14: 25}
"""Where the address of an EVPN route stands in its NLRI, by where it does in its key."""
_SUSPECTS = {family: _Suspects(family, blocks) for family, blocks in BLOCKS.items()}
