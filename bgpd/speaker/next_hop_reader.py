"""Next hops of received routes (RFC 4271 section 6.3, RFC 2545 section 3, RFC 4760 section 3, RFC 8950).

Decides which address of a 32-byte next hop is used and which next hops are unusable. Whether one can be reached is not
known here.
"""

from __future__ import annotations

from collections.abc import Container

from bgpd.model.iana import Family, UpdateSubcode
from bgpd.model.path import NextHop
from bgpd.model.prefix import format_address
from bgpd.model.wire import Reaction, WireError
from bgpd.speaker.capabilities import Negotiated
from bgpd.speaker.update_sections import UpdateError, fatal

_SECTION = "RFC 4271 section 6.3"
_LENGTHS_IPV6 = (16, 32)
_CACHE_LIMIT = 4096
_UNSPECIFIED = b"\0" * 16
_LOOPBACK = b"\0" * 15 + b"\1"


class NextHopReader:
    """The next hops of one session. `interface` scopes link-local addresses; `local_addresses` are this host's own."""

    def __init__(self, negotiated: Negotiated, *, interface: str, local_addresses: Container[bytes]) -> None:
        extended = Family.IPV4_UNICAST in negotiated.extended_next_hop
        self._lengths: dict[Family, tuple[int, ...]] = {
            Family.IPV4_UNICAST: (4, *_LENGTHS_IPV6) if extended else (4,),
            Family.IPV6_UNICAST: _LENGTHS_IPV6,
            Family.L2VPN_EVPN: (4, 16),
            Family.ROUTE_TARGET: (4, 16),
        }
        self._interface = interface
        self._local_addresses = local_addresses
        self._known: dict[bytes, NextHop] = {}

    def classic(self, packed: bytes, errors: list[WireError]) -> NextHop | None:
        """The NEXT_HOP attribute of IPv4 NLRI, b"" where it is missing or malformed."""
        if not packed:
            if not any(error.attribute == "NEXT_HOP" for error in errors):
                errors.append(_withdraw("mandatory attribute is missing", "RFC 7606 section 3 d", "NEXT_HOP", 3))
            return None
        return self._checked(packed, "NEXT_HOP", errors)

    def multiprotocol(self, family: Family, field: bytes, errors: list[WireError]) -> NextHop | None:
        """The next hop field of MP_REACH_NLRI.

        Raises: UpdateError: a length that the family does not have (RFC 7606 section 7.11).
        """
        if len(field) not in self._lengths[family]:
            message = f"next hop of {len(field)} bytes for {family}"
            subcode = UpdateSubcode.OPTIONAL_ATTRIBUTE_ERROR
            raise UpdateError(fatal(message, "RFC 7606 section 7.11", "MP_REACH_NLRI", subcode))
        packed = field
        if len(field) == 32:
            link_local = field[16:]
            usable = self._interface and _is_link_local(link_local)
            packed = link_local if usable or field[:16] == _UNSPECIFIED else field[:16]
        return self._checked(packed, "MP_REACH_NLRI", errors)

    def _checked(self, packed: bytes, attribute: str, errors: list[WireError]) -> NextHop | None:
        next_hop = self._known.get(packed)
        if next_hop is None:
            if _is_nowhere(packed):
                message = f"next hop {format_address(packed)} is no host's address"
                errors.append(_withdraw(message, _SECTION, attribute, UpdateSubcode.INVALID_NEXT_HOP))
                return None
            if len(self._known) >= _CACHE_LIMIT:
                self._known.clear()
            next_hop = NextHop(packed, self._interface if _is_link_local(packed) else "")
            self._known[packed] = next_hop
        if packed in self._local_addresses:
            message = f"next hop {format_address(packed)} is this host's own address"
            subcode = UpdateSubcode.INVALID_NEXT_HOP
            errors.append(
                WireError(Reaction.TREAT_AS_WITHDRAW, message, _SECTION, attribute, subcode=subcode, is_echo=True)
            )
            return None
        return next_hop


def _is_link_local(packed: bytes) -> bool:
    return len(packed) == 16 and packed[0] == 0xFE and packed[1] & 0xC0 == 0x80


def _is_nowhere(packed: bytes) -> bool:
    """Unspecified, loopback, IPv4 multicast and broadcast. 240.0.0.0/4 may pass: networks use it, and so does Linux."""
    if len(packed) == 4:
        return packed[0] in (0, 127) or packed[0] >> 4 == 14 or packed == b"\xff\xff\xff\xff"
    return packed in (_UNSPECIFIED, _LOOPBACK)


def _withdraw(message: str, section: str, attribute: str, subcode: int) -> WireError:
    return WireError(Reaction.TREAT_AS_WITHDRAW, message, section, attribute, subcode)
