"""Route target membership NLRI as route keys, and back (RFC 4684 section 4): a key is the NLRI itself.

Which routes a neighbor wants to be told. A length is 0 (all) or 32 to 96 bits: origin AS and (part of) a route target.
"""

from __future__ import annotations

from bgpd.model.path import Overlay
from bgpd.model.wire import MalformedNlri, NlriRoutes, Reaction, WireError

_SHORTEST, _LONGEST = 32, 96


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
        return NlriRoutes(announced=[(None, keys)] if keys else [], errors=errors)

    def encode(self, key: bytes, overlay: Overlay | None) -> bytes:
        """NLRI of a membership."""
        return key


def _masked(key: bytes) -> bytes:
    """The key with the bits after its length zeroed."""
    rest = -key[0] % 8
    return key if not rest else key[:-1] + bytes((key[-1] >> rest << rest,))
