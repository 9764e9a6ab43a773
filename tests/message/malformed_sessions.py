"""Cases of malformed headers, OPENs, NOTIFICATIONs and ROUTE-REFRESHes, and of messages that are not expected."""

from __future__ import annotations

import struct
from typing import Any

from bgpd.speaker.connection import State
from tests.message.decoding import update
from tests.message.malformed_case import (
    ACCEPT,
    FOUR_OCTET,
    GOOD_OPEN,
    IPV4,
    KEEPALIVE,
    LOCAL,
    RESET,
    Case,
    capability,
    open_body,
    whole,
)


def header(
    what: str, message: bytes, notification: tuple[int, int], rfc: str = "RFC 4271 section 6.1", **more: Any
) -> Case:
    return Case("Header", what, rfc, message, RESET, notification, **more)


OPEN_SENT, OPEN_CONFIRM = {"state": State.OPEN_SENT}, {"state": State.OPEN_CONFIRM}
HEADERS = [
    header("marker that is not all ones", whole(4, b"", marker=b"\0" * 16), (1, 1)),
    header("length below 19", whole(4, b"", length=18), (1, 2)),
    header("length over 4,096 without extended messages", whole(2, b"", length=4097), (1, 2)),
    header("OPEN shorter than 29 bytes", whole(1, b"\4" * 9), (1, 2), **OPEN_SENT),
    header("UPDATE shorter than 23 bytes", whole(2, b"\0\0\0"), (1, 2)),
    header("KEEPALIVE longer than 19 bytes", whole(4, b"\0"), (1, 2)),
    header("NOTIFICATION shorter than 21 bytes", whole(3, b"\6"), (1, 2)),
    header("ROUTE-REFRESH shorter than 23 bytes", whole(5, b"\0\1\0"), (1, 2), "RFC 2918 section 3"),
    header("unknown message type", whole(6, b""), (1, 3)),
    header(
        "OPEN longer than 4,096 bytes, with extended messages",
        whole(1, b"\4" * 100, length=4097),
        (1, 2),
        "RFC 8654 section 4",
        session={"extended_message": True},
        **OPEN_SENT,
    ),
]


def unexpected(what: str, message: bytes, subcode: int, state: State) -> Case:
    return Case("State machine", what, "RFC 6608 section 4", message, RESET, (5, subcode), state)


STATES = [
    unexpected("KEEPALIVE in OpenSent", KEEPALIVE, 1, State.OPEN_SENT),
    unexpected("UPDATE in OpenSent", whole(2, update()), 1, State.OPEN_SENT),
    unexpected("ROUTE-REFRESH in OpenSent", whole(5, b"\0\1\0\1"), 1, State.OPEN_SENT),
    unexpected("UPDATE in OpenConfirm", whole(2, update()), 2, State.OPEN_CONFIRM),
    unexpected("ROUTE-REFRESH in OpenConfirm", whole(5, b"\0\1\0\1"), 2, State.OPEN_CONFIRM),
    unexpected("a second OPEN in OpenConfirm", GOOD_OPEN, 2, State.OPEN_CONFIRM),
    unexpected("OPEN in Established", GOOD_OPEN, 3, State.ESTABLISHED),
]

# OPEN


def opening(
    what: str,
    rfc: str,
    body: bytes,
    notification: tuple[int, int] | None,
    session: dict[str, Any] | None = None,
    **options: Any,
) -> Case:
    reaction = ACCEPT if notification is None else RESET
    return Case("OPEN", what, rfc, whole(1, body), reaction, notification, State.OPEN_SENT, session or {}, options)


def extended(parameters: bytes, *, length: int = -1) -> bytes:
    """Optional parameters in the extended form (RFC 9072 section 2)."""
    size = len(parameters) if length < 0 else length
    return b"\xff\xff" + struct.pack("!H", size) + parameters


CUSTOMER = {"role": 3}
GRACEFUL = capability(64, b"\x40\x78\0\1\1\x80")
OPENS = [
    opening("version other than 4", "RFC 4271 section 6.2", open_body(version=3), (2, 1)),
    opening("AS other than the configured one", "RFC 4271 section 6.2", open_body(asn=65299), (2, 2)),
    opening(
        "another AS than the configured one in the four-octet AS capability",
        "RFC 4271 section 6.2",
        open_body(capability(65, struct.pack("!I", 65299))),
        (2, 2),
    ),
    opening("AS 0", "RFC 7607 section 2", open_body(FOUR_OCTET, asn=0), (2, 2)),
    opening("AS 0 in the four-octet AS capability", "RFC 7607 section 2", open_body(capability(65, bytes(4))), (2, 2)),
    opening("AS_TRANS without the four-octet AS capability", "RFC 6793 section 9", open_body(asn=23456), (2, 2)),
    opening("hold time of 1 s", "RFC 4271 section 6.2", open_body(FOUR_OCTET, hold_time_s=1), (2, 6)),
    opening("hold time of 2 s", "RFC 4271 section 6.2", open_body(FOUR_OCTET, hold_time_s=2), (2, 6)),
    opening(
        "hold time below min_hold_time_s",
        "RFC 4271 section 6.2",
        open_body(FOUR_OCTET, hold_time_s=5),
        (2, 6),
        min_hold_time_s=6,
    ),
    opening("BGP identifier 0.0.0.0", "RFC 6286 section 2.2", open_body(FOUR_OCTET, router_id=bytes(4)), (2, 3)),
    opening(
        "our own BGP identifier, of an internal peer",
        "RFC 6286 section 2.2",
        open_body(capability(65, struct.pack("!I", 65203)), asn=65203, router_id=LOCAL.router_id),
        (2, 3),
        expected_asn=65203,
    ),
    opening(
        "our own BGP identifier, of an external peer: taken",
        "RFC 6286 section 2.1",
        open_body(FOUR_OCTET, router_id=LOCAL.router_id),
        None,
    ),
    opening(
        "authentication, an optional parameter of old",
        "RFC 4271 section 6.2",
        open_body(parameters=b"\4\1\2\0\0"),
        (2, 4),
    ),
    opening("optional parameter that is none", "RFC 4271 section 6.2", open_body(parameters=b"\3\1\1\0"), (2, 4)),
    opening(
        "optional parameters longer than the message", "RFC 4271 section 6.2", open_body(parameters=b"\x09\2\1"), (2, 0)
    ),
    opening(
        "optional parameter that overruns the others",
        "RFC 4271 section 6.2",
        open_body(parameters=b"\4\2\x09\2\0"),
        (2, 0),
    ),
    opening(
        "capability that overruns its parameter", "RFC 5492 section 4", open_body(parameters=b"\4\2\2\2\1"), (2, 0)
    ),
    opening("the same capability twice: counts once", "RFC 5492 section 4", open_body(FOUR_OCTET, IPV4, IPV4), None),
    opening("no capability at all: IPv4 unicast", "RFC 4760 section 8", open_body(), None),
    opening("no address family in common", "RFC 5492 section 5", open_body(capability(1, b"\0\2\0\4")), (2, 7)),
    opening("unknown capability: ignored", "RFC 5492 section 3", open_body(FOUR_OCTET, capability(200, b"x")), None),
    opening(
        "multiprotocol capability of another length",
        "RFC 4760 section 8",
        open_body(FOUR_OCTET, capability(1, b"\0\1\0")),
        (2, 0),
    ),
    opening(
        "four-octet AS capability of another length", "RFC 6793 section 3", open_body(capability(65, b"\0\0")), (2, 0)
    ),
    opening(
        "graceful restart capability of one byte",
        "RFC 4724 section 3",
        open_body(FOUR_OCTET, capability(64, b"\0")),
        (2, 0),
    ),
    opening(
        "graceful restart capability whose last family is cut off",
        "RFC 4724 section 3",
        open_body(FOUR_OCTET, capability(64, b"\x40\x78\0\1\1")),
        (2, 0),
    ),
    opening("two graceful restart capabilities", "RFC 4724 section 3", open_body(FOUR_OCTET, GRACEFUL, GRACEFUL), None),
    opening(
        "extended form that ends in its own header", "RFC 9072 section 2", open_body(parameters=b"\xff\xff\0"), (2, 0)
    ),
    opening(
        "extended form of another length than it has",
        "RFC 9072 section 2",
        open_body(parameters=extended(b"\2\0\6" + FOUR_OCTET, length=99)),
        (2, 0),
    ),
    opening(
        "parameter of the extended form that overruns the others",
        "RFC 9072 section 2",
        open_body(parameters=extended(b"\2\0\x20" + FOUR_OCTET)),
        (2, 0),
    ),
    opening(
        "parameter of the extended form that is none",
        "RFC 4271 section 6.2",
        open_body(parameters=extended(b"\3\0\1\0")),
        (2, 4),
    ),
    opening(
        "extended form where the usual one would do: taken",
        "RFC 9072 section 2",
        open_body(parameters=extended(b"\2\0\6" + FOUR_OCTET)),
        None,
    ),
    opening(
        "role capability of another length",
        "RFC 9234 section 4.1",
        open_body(FOUR_OCTET, capability(9, b"\0\0")),
        (2, 0),
    ),
    opening(
        "role that does not fit ours",
        "RFC 9234 section 4.2",
        open_body(FOUR_OCTET, capability(9, b"\4")),
        (2, 11),
        CUSTOMER,
    ),
    opening(
        "role that is none", "RFC 9234 section 4.2", open_body(FOUR_OCTET, capability(9, b"\7")), (2, 11), CUSTOMER
    ),
    opening(
        "several roles that are alike: count once",
        "RFC 9234 section 4.2",
        open_body(FOUR_OCTET, capability(9, b"\0"), capability(9, b"\0")),
        None,
        CUSTOMER,
    ),
    opening(
        "several different roles",
        "RFC 9234 section 4.2",
        open_body(FOUR_OCTET, capability(9, b"\0"), capability(9, b"\1")),
        (2, 11),
        CUSTOMER,
    ),
    opening(
        "no role, with role_strict", "RFC 9234 section 4.2", open_body(FOUR_OCTET), (2, 11), CUSTOMER, role_strict=True
    ),
]

# NOTIFICATION and ROUTE-REFRESH


def said(what: str, rfc: str, body: bytes) -> Case:
    return Case("NOTIFICATION", what, rfc, whole(3, body), ACCEPT)


NOTIFICATIONS = [
    said("unknown code: the session ends, nothing is answered", "RFC 4271 section 6.4", b"\x63\x63data"),
    said("shutdown text longer than its data: left out", "RFC 9003 section 4", b"\6\2\xffshort"),
    said("shutdown text that is no UTF-8: shown with a mark", "RFC 9003 section 4", b"\6\4\3a\xffb"),
    said("shutdown text of 0 bytes: none is shown", "RFC 9003 section 2", b"\6\2\0"),
    said("hard reset without a code in it", "RFC 8538 section 3.1", b"\6\x09"),
]


def refresh(what: str, body: bytes, notification: tuple[int, int] | None, rfc: str = "RFC 7313 section 5") -> Case:
    return Case("ROUTE-REFRESH", what, rfc, whole(5, body), ACCEPT if notification is None else RESET, notification)


REFRESHES = [
    refresh("begin marker of another length", b"\0\1\1\1\0", (7, 1)),
    refresh("end marker of another length", b"\0\1\2\1\0", (7, 1)),
    refresh("unknown subtype: ignored", b"\0\1\3\1", None),
    refresh("family that was not negotiated: ignored", b"\0\1\0\x80", None, "RFC 2918 section 4"),
]
