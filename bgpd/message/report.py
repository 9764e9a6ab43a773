"""`bgpd decode`: what bgpd makes of one BGP message, field by field.

The daemon's own decoders judge the message, as on a session that carries all of bgpd's families; this module only words
the result. Any input at all gets a report. RFC 4271 section 4.1 for the frame.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from bgpd.message.exabgp_codec import (
    HEADER_LENGTH,
    MARKER,
    bad_length,
    decode_notification,
    decode_open,
    decode_route_refresh,
)
from bgpd.message.notification import decode_communication, describe_notification, unwrap_hard_reset
from bgpd.message.open import MAX_MESSAGE_LENGTH, Negotiated, Open, capability_names, check_open, family_name
from bgpd.message.route_report import AttributeReport, UpdateDetails, report_update
from bgpd.message.update_decoder import UpdateDecoder
from bgpd.model.iana import AS_TRANS, UNICAST, ErrorCode, Family, HeaderSubcode, MessageType
from bgpd.model.prefix import format_address
from bgpd.model.wire import NlriDecoders, NotificationError, Reaction, WireError

_TYPE_NAMES: dict[int, str] = {kind: kind.name.replace("_", "-") for kind in MessageType}
_MINIMUM_LENGTHS = {
    MessageType.OPEN: 29,
    MessageType.UPDATE: 23,
    MessageType.NOTIFICATION: 21,
    MessageType.KEEPALIVE: 19,
    MessageType.ROUTE_REFRESH: 23,
}
_REFRESH_SUBTYPES = {0: "request", 1: "begin", 2: "end"}


class ErrorReport(msgspec.Struct, frozen=True):
    """One thing that is wrong: where, what, by which RFC section, and what it costs."""

    message: str
    section: str
    reaction: str
    attribute: str = ""


class MessageReport(msgspec.Struct, kw_only=True):
    """The answer of `bgpd decode` for one message.

    `type` is the RFC's name ("UPDATE") or "unknown". `reaction` is that of RFC 7606. `notification` is what bgpd would
    send: [code, subcode] or null. `announced` and `withdrawn` are by family: prefixes, or EVPN routes as objects; with
    treat-as-withdraw the announced routes stand under `withdrawn`, with session-reset nothing does. `ignored` are
    routes of families that bgpd does not route. `details` are the fields of an OPEN, NOTIFICATION or ROUTE-REFRESH.
    """

    type: str = "unknown"
    length: int = 0
    reaction: Reaction = Reaction.ACCEPT
    notification: tuple[int, int] | None = None
    announced: dict[str, list[Any]] = {}
    withdrawn: dict[str, list[Any]] = {}
    next_hops: list[str] = []
    attributes: AttributeReport = {}
    end_of_rib: str | None = None
    ignored: dict[str, list[str]] = {}
    details: dict[str, Any] = {}
    errors: list[ErrorReport] = []


def report_message(
    text: str,
    *,
    nlri_decoders: NlriDecoders,
    session: str = "ebgp",
    two_octet_as: bool = False,
    add_path: bool = False,
    extended_next_hop: bool = False,
) -> MessageReport:
    """The report on one message of hexadecimal digits; blanks, colons and a leading 0x are allowed.

    `session` is "ebgp" or "ibgp". Bytes after the first message are counted, not decoded.
    """
    try:
        message = bytes.fromhex(text.strip().removeprefix("0x").replace(":", ""))
    except ValueError:
        return _refused("this is not an even number of hexadecimal digits", "RFC 4271 section 4.1", None)
    try:
        kind, length = _check_header(message)
    except NotificationError as error:
        name = _TYPE_NAMES.get(message[18], "unknown") if len(message) >= HEADER_LENGTH else "unknown"
        return _refused(error.message, "RFC 4271 section 6.1", (error.code, error.subcode), kind=name)
    negotiated = _negotiated(session, two_octet_as, add_path=add_path, extended_next_hop=extended_next_hop)
    report = MessageReport(type=_TYPE_NAMES[kind], length=length)
    if len(message) < length:
        note = f"the message is cut off: {len(message)} of {length} bytes are here"
        return _refused(note, "RFC 4271 section 4.1", None, kind=report.type)
    body = message[HEADER_LENGTH:length]
    try:
        if kind is MessageType.UPDATE:
            decoder = UpdateDecoder(negotiated, nlri_decoders=nlri_decoders)
            _fill_update(report, report_update(body, decoder, nlri_decoders=nlri_decoders))
        else:
            _REPORTERS[kind](report, body)
    except NotificationError as error:
        report.reaction, report.notification = Reaction.SESSION_RESET, (error.code, error.subcode)
        report.errors.append(ErrorReport(error.message, _section(error.code), Reaction.SESSION_RESET))
    if len(message) > length:
        note = f"{len(message) - length} bytes follow the message; give each message on its own"
        report.errors.append(ErrorReport(note, "RFC 4271 section 4.1", Reaction.ACCEPT))
    return report


def _refused(
    message: str, section: str, notification: tuple[int, int] | None, *, kind: str = "unknown"
) -> MessageReport:
    return MessageReport(
        type=kind,
        reaction=Reaction.SESSION_RESET,
        notification=notification,
        errors=[ErrorReport(message, section, Reaction.SESSION_RESET)],
    )


def _check_header(message: bytes) -> tuple[MessageType, int]:
    """Type and length.

    Raises: NotificationError: marker, length or type (RFC 4271 section 6.1).
    """
    if not MARKER.startswith(message[:16]):
        subcode = HeaderSubcode.CONNECTION_NOT_SYNCHRONIZED
        raise NotificationError(ErrorCode.MESSAGE_HEADER, subcode, message="the marker is not 16 bytes of 0xff")
    if len(message) < HEADER_LENGTH:
        raise bad_length(len(message), "a header has 19 bytes")
    length, code = int.from_bytes(message[16:18]), message[18]
    if not HEADER_LENGTH <= length <= MAX_MESSAGE_LENGTH:
        raise bad_length(length, f"{HEADER_LENGTH} to {MAX_MESSAGE_LENGTH} are possible without extended messages")
    if code not in _MINIMUM_LENGTHS:
        subcode = HeaderSubcode.BAD_MESSAGE_TYPE
        raise NotificationError(ErrorCode.MESSAGE_HEADER, subcode, bytes((code,)), message=f"message type {code}")
    kind = MessageType(code)
    if length < _MINIMUM_LENGTHS[kind] or (kind is MessageType.KEEPALIVE and length != HEADER_LENGTH):
        least = "is exactly" if kind is MessageType.KEEPALIVE else "has at least"
        raise bad_length(length, f"a message of type {_TYPE_NAMES[kind]} {least} {_MINIMUM_LENGTHS[kind]} bytes long")
    return kind, length


def _negotiated(session: str, two_octet_as: bool, *, add_path: bool, extended_next_hop: bool) -> Negotiated:
    unicast = frozenset(UNICAST)
    return Negotiated(
        local_asn=AS_TRANS,
        peer_asn=AS_TRANS if session == "ibgp" else 0,
        local_router_id=bytes(4),
        peer_router_id=bytes(4),
        hold_time_s=0,
        families=tuple(Family),
        four_octet_as=not two_octet_as,
        extended_next_hop=frozenset((Family.IPV4_UNICAST,)) if extended_next_hop else frozenset(),
        add_path=unicast if add_path else frozenset(),
    )


def _fill_update(report: MessageReport, update: UpdateDetails) -> None:
    report.reaction = update.reaction
    report.notification = update.notification
    report.announced, report.withdrawn, report.ignored = update.announced, update.withdrawn, update.ignored
    report.next_hops, report.attributes = update.next_hops, update.attributes
    report.end_of_rib = update.end_of_rib
    report.errors = [_report_error(error) for error in update.errors]


def _report_error(error: WireError) -> ErrorReport:
    return ErrorReport(error.message, error.section, error.reaction, error.attribute)


def _report_open(report: MessageReport, body: bytes) -> None:
    message = decode_open(body)
    report.details = _open_fields(message)
    check_open(message)


def _open_fields(message: Open) -> dict[str, Any]:
    graceful = message.graceful_restart
    return {
        "version": message.version,
        "asn": message.asn,
        "hold_time_s": message.hold_time_s,
        "router_id": format_address(message.router_id),
        "families": [family_name(afi, safi) for afi, safi in message.multiprotocol],
        "capabilities": list(capability_names(message)),
        "capability_codes": [code for code, _ in message.received],
        "four_octet_as": message.four_octet_as,
        "extended_next_hop": [
            f"{family_name(afi, safi)} over {family_name(hop, 1).removesuffix('-unicast')}"
            for afi, safi, hop in message.extended_next_hop
        ],
        "add_path": {family_name(afi, safi): bits for afi, safi, bits in message.add_path},
        "graceful_restart": None
        if graceful is None
        else {
            "restarting": graceful.restarting,
            "notification": graceful.notification,
            "restart_time_s": graceful.restart_time_s,
            "families": {family_name(afi, safi): forwarding for afi, safi, forwarding in graceful.families},
        },
        "hostname": message.hostname,
        "software_version": message.software_version,
        "role": message.role,
    }


def _report_notification(report: MessageReport, body: bytes) -> None:
    said = decode_notification(body)
    inner = unwrap_hard_reset(said.code, said.subcode, said.data)
    report.details = {
        "code": said.code,
        "subcode": said.subcode,
        "description": describe_notification(said.code, said.subcode, said.data),
        "communication": decode_communication(inner[2]) if inner[0] == ErrorCode.CEASE else "",
        "data": said.data.hex(),
    }


def _report_keepalive(report: MessageReport, body: bytes) -> None:
    report.details = {}


def _report_route_refresh(report: MessageReport, body: bytes) -> None:
    refresh = decode_route_refresh(body)
    report.details = {
        "family": family_name(refresh.afi, refresh.safi),
        "subtype": _REFRESH_SUBTYPES.get(refresh.subtype, refresh.subtype),
    }
    if refresh.subtype not in _REFRESH_SUBTYPES:
        note = f"subtype {refresh.subtype} is unknown: ignored"
        report.errors.append(ErrorReport(note, "RFC 7313 section 5", Reaction.ACCEPT))


_REPORTERS: dict[MessageType, Callable[[MessageReport, bytes], None]] = {
    MessageType.OPEN: _report_open,
    MessageType.NOTIFICATION: _report_notification,
    MessageType.KEEPALIVE: _report_keepalive,
    MessageType.ROUTE_REFRESH: _report_route_refresh,
}


def _section(code: int) -> str:
    return {ErrorCode.OPEN_MESSAGE: "RFC 4271 section 6.2", ErrorCode.ROUTE_REFRESH_MESSAGE: "RFC 7313 section 5"}.get(
        ErrorCode(code), "RFC 4271 section 6.1"
    )
