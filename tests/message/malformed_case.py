"""A malformed message, where it comes, and what it must cost by which RFC; `answer` is what it does cost.

The answer is that of the daemon's own connection and decoder. The cases are in malformed.py.
"""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

import msgspec

from bgpd.message.evpn_nlri import EvpnNlri
from bgpd.message.nlri import RouteTargetNlri
from bgpd.message.notification import describe_notification
from bgpd.message.open import Open
from bgpd.message.update_decoder import UpdateDecoder
from bgpd.model.iana import Family
from bgpd.model.wire import Reaction
from bgpd.speaker.connection import (
    Connection,
    ConnectionFailed,
    KeepaliveReceived,
    NotificationReceived,
    OpenReceived,
    RefreshReceived,
    State,
    UpdateReceived,
)
from tests.message.decoding import negotiated

ACCEPT, DISCARD = Reaction.ACCEPT, Reaction.ATTRIBUTE_DISCARD
WITHDRAW, RESET = Reaction.TREAT_AS_WITHDRAW, Reaction.SESSION_RESET
OWN_ADDRESS = b"\x0a\0\1\1"
CODECS = {Family.L2VPN_EVPN: EvpnNlri(), Family.ROUTE_TARGET: RouteTargetNlri()}


class Answer(NamedTuple):
    """What a message costs; the NOTIFICATION that is sent (None: none), and the RFC sections that the code names."""

    reaction: Reaction
    notification: tuple[int, int] | None = None
    sections: tuple[str, ...] = ()
    attributes: tuple[str, ...] = ()


class Case(msgspec.Struct, frozen=True):
    """`rfc` asks for `reaction` and `notification` where `what` is so of `about`, when the message comes in `state`.

    `session`: fields of Negotiated; before there is a session, of our OPEN, and `options` of Connection.
    """

    about: str
    what: str
    rfc: str
    message: bytes
    reaction: Reaction
    notification: tuple[int, int] | None = None
    state: State = State.ESTABLISHED
    session: dict[str, Any] = {}
    options: dict[str, Any] = {}

    @property
    def name(self) -> str:
        """What the test of it is called."""
        return f"{self.about}: {self.what}"


def whole(kind: int, body: bytes, *, length: int = -1, marker: bytes = b"\xff" * 16) -> bytes:
    """A message; `length` where its header is to tell another one than it has."""
    return marker + struct.pack("!HB", 19 + len(body) if length < 0 else length, kind) + body


LOCAL = Open(
    asn=65203,
    hold_time_s=9,
    router_id=b"\x0a\xff\1\1",
    multiprotocol=((1, 1), (2, 1), (25, 70)),
    four_octet_as=True,
    route_refresh=True,
)


def capability(code: int, value: bytes = b"") -> bytes:
    return bytes((code, len(value))) + value


FOUR_OCTET = capability(65, struct.pack("!I", 65201))
IPV4 = capability(1, b"\0\1\0\1")


def open_body(
    *capabilities: bytes,
    version: int = 4,
    asn: int = 65201,
    hold_time_s: int = 9,
    router_id: bytes = b"\x0a\xff\0\1",
    parameters: bytes | None = None,
) -> bytes:
    """An OPEN with these capabilities in one parameter, or with these optional parameters, length included."""
    if parameters is None:
        joined = b"".join(capabilities)
        parameters = bytes((2 + len(joined), 2, len(joined))) + joined if joined else b"\0"
    return struct.pack("!BHH4s", version, asn, hold_time_s, router_id) + parameters


GOOD_OPEN = whole(1, open_body(FOUR_OCTET, IPV4))
KEEPALIVE = whole(4, b"")


def connection(case: Case) -> Connection:
    """One brought to the state in which the message of a case comes."""
    local = msgspec.structs.replace(LOCAL, **(case.session if case.state is not State.ESTABLISHED else {}))
    options = {"expected_asn": 65201, **case.options}
    made = Connection(local=local, incoming=False, now=0.0, random=lambda: 0.5, **options)
    made.open()
    if case.state is not State.OPEN_SENT:
        made.feed(GOOD_OPEN)
        assert isinstance(made.next_event(0.0), OpenReceived)
        made.confirm(0.0)
    if case.state is State.ESTABLISHED:
        made.feed(KEEPALIVE)
        made.next_event(0.0)
    assert made.state is case.state
    return made


def answer(case: Case) -> Answer:
    """What the daemon does with the message of a case."""
    speaking = connection(case)
    speaking.feed(case.message)
    event = speaking.next_event(0.0)
    match event:
        case ConnectionFailed():
            sent = speaking.notification_sent
            assert sent is not None
            return Answer(RESET, (sent.code, sent.subcode))
        case UpdateReceived(body):
            decoder = UpdateDecoder(
                negotiated(**case.session), nlri_decoders=CODECS, local_addresses=frozenset((OWN_ADDRESS,))
            )
            decoded = decoder.decode(body)
            return Answer(
                decoded.reaction,
                decoded.notification[:2] if decoded.notification else None,
                tuple(error.section for error in decoded.errors),
                tuple(error.attribute for error in decoded.errors),
            )
        case NotificationReceived(notification):
            assert describe_notification(notification.code, notification.subcode, notification.data)
            return Answer(ACCEPT)
        case OpenReceived() | RefreshReceived() | KeepaliveReceived():
            return Answer(ACCEPT)
    raise AssertionError(f"{case.name}: {event}")
