"""Targets: the messages of BGP, each by the decoders of the daemon."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import msgspec

from bgpd.message import (
    attribute_decoder,
    evpn_nlri,
    exabgp_codec,
    judgement,
    notification,
    plain_updates,
    report,
    route_report,
    update_decoder,
    update_sections,
)
from bgpd.message.evpn_nlri import EvpnNlri
from bgpd.message.exabgp_codec import (
    HEADER_LENGTH,
    decode_notification,
    decode_open,
    decode_route_refresh,
    encode_message,
    encode_notification,
    encode_open,
    encode_route_refresh,
)
from bgpd.message.nlri import PrefixSplitter, RouteTargetNlri
from bgpd.message.notification import decode_communication, describe_notification, unwrap_hard_reset
from bgpd.message.open import GracefulRestart, LongLived, capability_names, negotiate
from bgpd.message.report import report_message
from bgpd.model.attributes import Attributes
from bgpd.model.evpn import parse_key, with_labels
from bgpd.model.iana import Family, MessageType, Role
from bgpd.model.wire import MalformedNlri, NlriCodec, NotificationError
from tests.fuzz.target import OF_NEIGHBORS, Target
from tests.message.decoding import AS_PATH, EVPN, MANDATORY, NEXT_HOP, ORIGIN, update
from tests.message.test_plain_updates import (
    EVPN_ROUTES,
    IPV6_PREFIXES,
    OTHERS,
    PATHS,
    PREFIXES,
    REACHED,
    SESSIONS,
    UNREACHED,
    assert_agree,
)
from tests.speaker.messages import open_of

LOCAL = open_of(65203, "10.0.0.5", graceful=True, multiprotocol=tuple((int(one.afi), int(one.safi)) for one in Family))
CUSTOMER = msgspec.structs.replace(LOCAL, role=Role.CUSTOMER, extended_next_hop=((1, 1, 2),), extended_message=True)
NOTHING = Attributes.of()
NEXT = b"\xff\xff\xff\xff"
"""Between the UPDATEs of a run."""
SHORTEST_UPDATE = 4
"""What is shorter than 23 bytes in all is refused before it is decoded (RFC 4271 section 6.1)."""


def refused(error: NotificationError) -> None:
    """What is sent for it can be encoded, and told."""
    encode_notification(error.code, error.subcode, error.data)
    describe_notification(error.code, error.subcode, error.data).encode()
    error.message.encode()


def run_open(data: bytes) -> None:
    """An OPEN is taken or refused, and what is taken can be negotiated and told."""
    try:
        found = decode_open(data)
    except NotificationError as error:
        refused(error)
        return
    ", ".join(capability_names(found)).encode()
    msgspec.json.encode(found)
    for local, expected, least_s in ((LOCAL, "external", 0), (LOCAL, "internal", 30), (CUSTOMER, 65201, 0)):
        try:
            agreed = negotiate(local, found, expected_asn=expected, min_hold_time_s=least_s, role_strict=True)
        except NotificationError as error:
            refused(error)
        else:
            msgspec.json.encode((agreed.in_use, agreed.capabilities, agreed.keepalive_time_s))


def run_update(data: bytes) -> None:
    """A run of UPDATEs, of the session that the first byte chooses: the fast decoder says what the general one does."""
    if data:
        bodies = [body for body in data[1:].split(NEXT) if len(body) >= SHORTEST_UPDATE]
        assert_agree(bodies, **SESSIONS[data[0] % len(SESSIONS)])


def _run_codec(codec: NlriCodec, field: bytes) -> None:
    try:
        found = codec.decode(field)
    except MalformedNlri as error:
        str(error).encode()
        return
    keys = [key for group in found.announced for key in group.keys]
    for group in found.announced:
        for place, key in enumerate(group.keys):
            overlay = with_labels(group.overlay, group.labels[place] if group.labels else b"")
            codec.why_unusable(key[0], overlay, NOTHING)
            (again,) = codec.decode(codec.encode(key, overlay)).announced
            assert list(again.keys) == [key]
    assert not {*keys} & {*found.malformed} or found.errors


def run_evpn(data: bytes) -> None:
    """Each route that is taken has a key that is encoded to the same route."""
    _run_codec(EvpnNlri(), data)
    try:
        for group in EvpnNlri().decode(data).announced:
            for key in group.keys:
                parse_key(key)
    except MalformedNlri:
        return


def run_route_targets(data: bytes) -> None:
    """Likewise memberships (RFC 4684)."""
    _run_codec(RouteTargetNlri(), data)


_SPLITTERS = (PrefixSplitter(32), PrefixSplitter(128))


def run_prefixes(data: bytes) -> None:
    """Prefixes of either family, with path identifiers or without: keys are split to themselves."""
    if not data:
        return
    splitter, field = _SPLITTERS[data[0] & 1], data[1:]
    try:
        keys = splitter.split_with_path_identifiers(field) if data[0] & 2 else splitter.split(field)
    except MalformedNlri:
        return
    assert list(splitter.split(b"".join(keys))) == list(keys)
    if not data[0] & 2:
        with_identifiers = b"".join(bytes(4) + key for key in keys)
        assert list(splitter.split_with_path_identifiers(with_identifiers)) == list(keys)


def run_notification(data: bytes) -> None:
    """A NOTIFICATION is told in one line."""
    found = decode_notification(data)
    text = describe_notification(found.code, found.subcode, found.data)
    assert text.isprintable()
    text.encode()
    assert decode_communication(found.data).isprintable()
    unwrap_hard_reset(found.code, found.subcode, found.data)


def run_refresh(data: bytes) -> None:
    """A ROUTE-REFRESH is taken as it would be sent."""
    try:
        found = decode_route_refresh(data)
    except NotificationError as error:
        refused(error)
        return
    assert decode_route_refresh(encode_route_refresh(found.afi, found.safi, found.subtype)[HEADER_LENGTH:]) == found


def run_report(data: bytes) -> None:
    """`bgpd decode`: any bytes get a report that can be written. The first byte chooses the options."""
    chosen = data[0] if data else 0
    told = report_message(
        data[1:].hex(),
        nlri_decoders=EVPN,
        session="ibgp" if chosen & 1 else "ebgp",
        two_octet_as=bool(chosen & 2),
        add_path=bool(chosen & 4),
        extended_next_hop=bool(chosen & 8),
    )
    msgspec.json.encode(told)


# What is right


def open_seeds() -> Iterator[bytes]:
    """With all capabilities, in parameters of either length (RFC 9072); and with few."""
    codes = tuple((int(one.afi), int(one.safi)) for one in Family)
    whole = open_of(
        4_200_000_001,
        multiprotocol=codes,
        extended_message=True,
        extended_next_hop=((1, 1, 2),),
        graceful_restart=GracefulRestart(
            restarting=True, notification=True, restart_time_s=120, families=tuple((*one, True) for one in codes)
        ),
        long_lived=tuple(LongLived(*one, True, 600) for one in codes),
        hostname="leaf1",
        domain="example",
        software_version="1.2",
        role=Role.PROVIDER,
    )
    twin = msgspec.structs.replace(LOCAL, hold_time_s=90, hostname="twin")
    for message in (whole, open_of(multiprotocol=()), open_of(four_octet_as=False, hold_time_s=0), LOCAL, twin):
        body = encode_open(message)[HEADER_LENGTH:]
        yield body
        yield body[:9] + b"\xff\xff" + len(body[10:]).to_bytes(2) + body[10:]
    add_path = bytes.fromhex("0206450400010103")
    yield encode_open(open_of())[HEADER_LENGTH : HEADER_LENGTH + 9] + bytes((len(add_path),)) + add_path


def _bodies() -> Iterator[bytes]:
    """UPDATEs of the parts that the tests of the decoder have."""
    for block in (*(MANDATORY + one for one in OTHERS), *(ORIGIN + one + NEXT_HOP for one in PATHS)):
        yield update(block, PREFIXES[0])
    for one in (*REACHED, *UNREACHED):
        yield update(one + ORIGIN + AS_PATH)
    for one in PREFIXES:
        yield update(MANDATORY, one, one)


def update_seeds() -> Iterator[bytes]:
    """A run of each kind of session."""
    bodies = list(_bodies())
    for number in range(len(SESSIONS)):
        for start in range(0, len(bodies), RUN):
            yield bytes((number,)) + NEXT.join(bodies[start : start + RUN])


RUN = 16
"""UPDATEs that stand in one seed."""


def report_seeds() -> Iterator[bytes]:
    """Of each type of message, and some UPDATEs."""
    for number, body in enumerate(islice(_bodies(), 0, None, 5)):
        yield bytes((number & 15,)) + encode_message(MessageType.UPDATE, body)
    for body in open_seeds():
        yield b"\0" + encode_message(MessageType.OPEN, body)
    yield b"\0" + encode_message(MessageType.KEEPALIVE, b"")
    yield b"\0" + encode_message(MessageType.ROUTE_REFRESH, b"\0\1\0\1")
    for body in notification_seeds():
        yield b"\0" + encode_message(MessageType.NOTIFICATION, body)


def notification_seeds() -> Iterator[bytes]:
    """With data of each kind."""
    for code in (1, 2, 3, 5, 6, 7):
        for subcode in range(12):
            yield bytes((code, subcode))
    yield b"\6\2\x04shut"
    yield b"\6\x09\6\4"
    yield b"\2\7" + bytes.fromhex("010400010001")
    yield b"\3\5" + MANDATORY[:4]


def evpn_seeds() -> Iterator[bytes]:
    """Routes alone, and of each type together."""
    yield from EVPN_ROUTES
    yield b"".join(EVPN_ROUTES[:3])
    yield b"".join(EVPN_ROUTES[6:9])
    yield b"".join(EVPN_ROUTES[:-1])


def prefix_seeds() -> Iterator[bytes]:
    """Of either family, with path identifiers and without."""
    for number, prefixes in enumerate((PREFIXES[:6], [IPV6_PREFIXES[0], IPV6_PREFIXES[3]])):
        yield bytes((number,)) + b"".join(prefixes)
        yield bytes((number | 2,)) + b"".join(bytes(4) + one for one in prefixes)


TARGETS = {
    "open": Target(
        run_open,
        (decode_open, exabgp_codec._split_parameters, exabgp_codec._open_from, negotiate),
        open_seeds,
        share=OF_NEIGHBORS,
    ),
    "update": Target(
        run_update,
        (plain_updates, update_decoder, attribute_decoder, update_sections, judgement),
        update_seeds,
        share=OF_NEIGHBORS,
    ),
    "evpn": Target(run_evpn, (evpn_nlri,), evpn_seeds, share=OF_NEIGHBORS),
    "route-targets": Target(run_route_targets, (RouteTargetNlri,)),
    "prefixes": Target(run_prefixes, (PrefixSplitter,), prefix_seeds),
    "notification": Target(run_notification, (decode_notification, notification), notification_seeds),
    "route-refresh": Target(run_refresh, (decode_route_refresh,)),
    "report": Target(run_report, (report, route_report), report_seeds),
}
