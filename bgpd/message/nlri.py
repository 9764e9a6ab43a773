"""IP prefixes of an UPDATE as route keys (RFC 4271 section 4.3, RFC 4760 section 5, RFC 7911 section 3).

Hot path: a field in which all prefixes have one length, as host routes have, is recognised by one strided comparison
and split by the interpreter's C loops. Decides only whether the field is syntactically correct
(RFC 7606 section 5.3).

Route target membership, by which a neighbor says which routes it wants (RFC 4684 section 4), is here too: a key is the
NLRI itself, of 0 bits (all routes) or 32 to 96 (origin AS and part of a route target, or all of it).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import chain
from typing import Final

from bgpd.model.attributes import Attributes
from bgpd.model.route_batch import Overlay
from bgpd.model.wire import MalformedNlri, NlriRoutes, Reaction, RouteGroup, WireError

_BEYOND: Final = 1 << 20
"""Encoded size of a prefix of invalid length: larger than any message, so that the walk overshoots."""


class PrefixSplitter:
    """Splits the NLRI of one unicast family. `bits` is 32 or 128.

    `sizes` and `host_bits`: encoded size, and the bits of the last byte that must be zero, by prefix length.
    """

    def __init__(self, bits: int) -> None:
        self._bits = bits
        self.sizes = [1 + (length + 7) // 8 if length <= bits else _BEYOND for length in range(256)]
        self.host_bits = [0xFF >> (length % 8) if length % 8 else 0 for length in range(256)]
        self._uniform = [
            (bytes((length,)), struct.Struct(f"{size}s"), _zero_ended(self.host_bits[length]))
            for length, size in enumerate(self.sizes[: bits + 1])
        ]

    def split(self, field: bytes) -> list[bytes]:
        """Route keys of a field of prefixes, host bits zeroed.

        Raises: MalformedNlri: a prefix longer than the family's, or longer than the rest of the field.
        """
        if not field:
            return []
        length = field[0]
        size = self.sizes[length]
        count, rest = divmod(len(field), size)
        if not rest and count > 1:
            head, layout, zero_ended = self._uniform[length]
            if field[::size] == head * count and not (
                zero_ended and field[size - 1 :: size].translate(None, zero_ended)
            ):
                return list(chain.from_iterable(layout.iter_unpack(field)))
        return self._walk(field)

    def split_with_path_identifiers(self, field: bytes) -> Sequence[bytes]:
        """Route keys of a field whose prefixes have 4-byte path identifiers before them (RFC 7911); these are dropped.

        Raises: MalformedNlri: as split.
        """
        keys = []
        offset, end = 0, len(field)
        while offset < end:
            start = offset + 4
            size = self.sizes[field[start]] if start < end else _BEYOND
            offset = start + size
            if offset > end:
                raise self._malformed(field, start)
            keys += self._walk(field[start:offset])
        return keys

    def _walk(self, field: bytes) -> list[bytes]:
        sizes, host_bits = self.sizes, self.host_bits
        keys = []
        offset, end = 0, len(field)
        while offset < end:
            length = field[offset]
            start, offset = offset, offset + sizes[length]
            key = field[start:offset]
            if host_bits[length] and key[-1] & host_bits[length]:
                key = key[:-1] + bytes((key[-1] & ~host_bits[length] & 0xFF,))
            keys.append(key)
        if offset != end:
            raise self._malformed(field, start)
        return keys

    def _malformed(self, field: bytes, start: int) -> MalformedNlri:
        if start < len(field) and field[start] > self._bits:
            return MalformedNlri(f"prefix length {field[start]} is over {self._bits}")
        return MalformedNlri(f"the prefix at byte {start} is longer than the {len(field) - start} bytes that are left")


def _zero_ended(host_bits: int) -> bytes:
    """All bytes in which these bits are zero; b"" if there are none to check."""
    return bytes(value for value in range(256) if not value & host_bits) if host_bits else b""


_SHORTEST: Final = 32
_LONGEST: Final = 96


class RouteTargetNlri:
    """The codec of family "route-target"; keeps nothing."""

    def decode(self, field: bytes) -> NlriRoutes:
        """Keys of the memberships of an NLRI field.

        Raises: MalformedNlri: a membership is longer than the rest of the field.
        """
        keys: list[bytes] = []
        errors: list[WireError] = []
        offset = 0
        while offset < len(field):
            bits = field[offset]
            stop = offset + 1 + ((bits + 7) >> 3)
            if stop > len(field):
                raise MalformedNlri(f"the membership at byte {offset} is longer than the field")
            if bits and not _SHORTEST <= bits <= _LONGEST:
                message = f"membership of {bits} bits, must be 0 or {_SHORTEST} to {_LONGEST}"
                section = "RFC 4684 section 4"
                errors.append(
                    WireError(Reaction.TREAT_AS_WITHDRAW, message, section, "MP_REACH_NLRI", 9, one_route=True)
                )
            else:
                keys.append(_masked(field[offset:stop]))
            offset = stop
        return NlriRoutes(announced=[RouteGroup(keys)] if keys else [], errors=errors)

    def why_unusable(self, kind: int, overlay: Overlay | None, attributes: Attributes) -> str:
        """Nothing in the attributes matters to a membership."""
        return ""

    def encode(self, key: bytes, overlay: Overlay | None) -> bytes:
        """NLRI of a membership."""
        return key


def _masked(key: bytes) -> bytes:
    """The key with the bits after its length zeroed."""
    rest = -key[0] % 8
    return key if not rest else key[:-1] + bytes((key[-1] >> rest << rest,))
