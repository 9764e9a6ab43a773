"""What is wrong with received bytes, and what must be done about it (RFC 7606 section 2).

The vocabulary that the decoders of the speaker and of EVPN share. Decides nothing; holds no I/O.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from bgpd.model.attributes import Attributes
from bgpd.model.iana import Family
from bgpd.model.route_batch import Overlay


class Reaction(enum.StrEnum):
    """What an UPDATE costs, weakest first (RFC 7606 section 2)."""

    ACCEPT = "accept"
    ATTRIBUTE_DISCARD = "attribute-discard"
    TREAT_AS_WITHDRAW = "treat-as-withdraw"
    SESSION_RESET = "session-reset"

    @property
    def strength(self) -> int:
        """Order of the reactions; the strongest of an UPDATE wins (RFC 7606 section 3 h)."""
        return _STRENGTH[self]


_STRENGTH = {reaction: strength for strength, reaction in enumerate(Reaction)}


class WireError(msgspec.Struct, frozen=True, gc=False):
    """One thing that was wrong in a message.

    `subcode` and `data` are those of the UPDATE Message Error NOTIFICATION that a session reset sends; `section` names
    the RFC that asks for `reaction`. `attribute` is the attribute's RFC name, "" where the error is in no attribute.
    `one_route`: it costs a single route, which the NLRI decoder has sorted out, and not all routes of the UPDATE.
    `is_readable`: all could be read, and it is what a value says that costs the routes.
    `is_echo`: a route of this host's own that came back, as from any peer without split horizon; nobody's mistake.
    """

    reaction: Reaction
    message: str
    section: str
    attribute: str = ""
    subcode: int = 0
    data: bytes = b""
    one_route: bool = False
    is_readable: bool = False
    is_echo: bool = False


class NotificationError(Exception):
    """A message that ends the session: what to put into the NOTIFICATION (RFC 4271 section 6)."""

    def __init__(self, code: int, subcode: int, data: bytes = b"", *, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.subcode = subcode
        self.data = data
        self.message = message


class MalformedNlri(ValueError):
    """NLRI bytes that cannot be split into routes: nothing after them can be trusted (RFC 7606 section 5.3)."""


class RouteGroup(msgspec.Struct, frozen=True, gc=False):
    """Keys of routes that share an Overlay (None: no such fields). `labels`: see RouteBatch."""

    keys: Sequence[bytes]
    overlay: Overlay | None = None
    labels: Sequence[bytes] | None = None


class NlriRoutes(msgspec.Struct):
    """What an NLRI decoder made of one NLRI field.

    `malformed` are keys of routes that must be treated as withdrawn, `errors` say why.
    """

    announced: Sequence[RouteGroup] = ()
    malformed: Sequence[bytes] = ()
    errors: Sequence[WireError] = ()


class NlriCodec(Protocol):
    """The NLRI of one family that the speaker does not split itself, both ways (RFC 4760 section 5)."""

    def decode(self, field: bytes) -> NlriRoutes:
        """Route keys of the NLRI field of MP_REACH_NLRI or MP_UNREACH_NLRI.

        Raises: MalformedNlri: the field cannot be split into routes; the session must be reset.
        """

    def why_unusable(self, kind: int, overlay: Overlay | None, attributes: Attributes) -> str:
        """Why announced routes of this type (the keys' first byte) and overlay are treated as withdrawn, by what
        their attributes say; "" if they are not."""

    def encode(self, key: bytes, overlay: Overlay | None) -> bytes:
        """NLRI of one route; without an overlay as a withdrawal has it."""


NlriDecoders = Mapping[Family, NlriCodec]
"""The codecs of the families that have their own; the speaker splits the unicast families itself."""
