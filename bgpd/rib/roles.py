"""Route leaks, found and prevented by roles and the attribute Only to Customer (OTC): RFC 9234 section 5.

OTC tells in which AS a route began to go down, or across to a peer; from there it goes down only. What the roles are is
agreed at OPEN (bgpd/message/open.py). Decides on unicast routes of external sessions that have a role, and on no
others; no policy can change any of it.
"""

from __future__ import annotations

from bgpd.model.attributes import Attributes, pack_attribute
from bgpd.model.iana import UNICAST, AttributeFlag, AttributeType, Family, Role

_FLAGS = int(AttributeFlag.OPTIONAL | AttributeFlag.TRANSITIVE)
_OTC = int(AttributeType.ONLY_TO_CUSTOMER)
_HEARS_CUSTOMERS = frozenset((Role.PROVIDER, Role.RS))
"""Our roles towards a customer, and towards a client of a route server."""
_SPEAKS_TO_CUSTOMERS = frozenset((Role.PROVIDER, Role.RS, Role.PEER))
OTC_SIGNS = (b"\xc0\x23\x04", b"\xe0\x23\x04", b"\xd0\x23\x00\x04", b"\xf0\x23\x00\x04")
"""One of them stands in each block with OTC: flags with or without Partial, type, and a length of one byte or two."""


class RoleRules:
    """The rules of one session. `role` is this host's (None: there are no rules), the AS numbers those of both ends."""

    def __init__(self, role: Role | None, *, local_asn: int, neighbor_asn: int) -> None:
        self._role = role
        self._local_asn = local_asn
        self._neighbor_asn = neighbor_asn

    def signs(self, family: Family) -> tuple[bytes, ...]:
        """Bytes of which one stands in each received block that is refused or changed; b"" stands in any."""
        if self._role is None or family not in UNICAST:
            return ()
        return OTC_SIGNS if self._role in _HEARS_CUSTOMERS else (b"",)

    def why_leaked(self, family: Family, received: Attributes) -> str:
        """Why a received route is a leak, and must not be used; "" if it is none (ingress, items 1 and 2)."""
        if self._role is None or family not in UNICAST:
            return ""
        otc = received.only_to_customer
        if otc is None:
            return ""
        if self._role in _HEARS_CUSTOMERS:
            whom = "a customer" if self._role is Role.PROVIDER else "a client of this route server"
            return f"route leak: OTC is AS {otc}, and it comes from {whom} (RFC 9234 section 5)"
        if self._role is Role.PEER and otc != self._neighbor_asn:
            peer = f"the peer AS {self._neighbor_asn}"
            return f"route leak: OTC is AS {otc}, and it comes from {peer} (RFC 9234 section 5)"
        return ""

    def marked_when_received(self, family: Family, received: Attributes) -> Attributes:
        """With OTC, if the route came from above or from a peer (ingress, item 3)."""
        if self._role is None or self._role in _HEARS_CUSTOMERS or family not in UNICAST:
            return received
        return _with_otc(received, self._neighbor_asn)

    def marked_when_sent(self, family: Family, sent: Attributes) -> Attributes:
        """With OTC, if the route goes down or to a peer (egress, item 1)."""
        if self._role not in _SPEAKS_TO_CUSTOMERS or family not in UNICAST:
            return sent
        return _with_otc(sent, self._local_asn)

    def why_not_sent(self, family: Family, attributes: Attributes) -> str:
        """Why a route may not be sent to the neighbor; "" if it may (egress, item 2)."""
        if self._role is None or self._role in _HEARS_CUSTOMERS or family not in UNICAST:
            return ""
        otc = attributes.only_to_customer
        if otc is None:
            return ""
        return f"OTC is AS {otc}: it goes to customers only, and this neighbor is none (RFC 9234 section 5)"


def _with_otc(attributes: Attributes, asn: int) -> Attributes:
    if attributes.only_to_customer is not None:
        return attributes
    block = attributes.block + pack_attribute(_FLAGS, _OTC, asn.to_bytes(4, "big"))
    return Attributes(block, attributes.code)
