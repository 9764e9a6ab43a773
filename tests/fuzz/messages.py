"""Targets: the messages of BGP, each by the decoders of the daemon."""

from __future__ import annotations

import msgspec

from bgpd.message.evpn_nlri import EvpnNlri
from bgpd.message.exabgp_codec import (
    HEADER_LENGTH,
    decode_notification,
    decode_open,
    decode_route_refresh,
    encode_notification,
    encode_route_refresh,
)
from bgpd.message.nlri import PrefixSplitter, RouteTargetNlri
from bgpd.message.notification import decode_communication, describe_notification, unwrap_hard_reset
from bgpd.message.open import capability_names, negotiate
from bgpd.message.report import report_message
from bgpd.model.attributes import Attributes
from bgpd.model.evpn import parse_key, with_labels
from bgpd.model.iana import Family
from bgpd.model.wire import MalformedNlri, NlriCodec, NotificationError
from tests.fuzz.target import OF_NEIGHBORS, Target
from tests.message.decoding import EVPN
from tests.message.test_plain_updates import SESSIONS, assert_agree
from tests.speaker.messages import open_of

LOCAL = open_of(65203, "10.0.0.5", graceful=True, multiprotocol=tuple((int(one.afi), int(one.safi)) for one in Family))
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
    for expected in ("external", "internal", 65201):
        try:
            agreed = negotiate(LOCAL, found, expected_asn=expected)
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
    report = report_message(
        data[1:].hex(),
        nlri_decoders=EVPN,
        session="ibgp" if chosen & 1 else "ebgp",
        two_octet_as=bool(chosen & 2),
        add_path=bool(chosen & 4),
        extended_next_hop=bool(chosen & 8),
    )
    msgspec.json.encode(report)


TARGETS = {
    "open": Target(run_open, share=OF_NEIGHBORS),
    "update": Target(run_update, share=OF_NEIGHBORS),
    "evpn": Target(run_evpn, share=OF_NEIGHBORS),
    "route-targets": Target(run_route_targets),
    "prefixes": Target(run_prefixes),
    "notification": Target(run_notification),
    "route-refresh": Target(run_refresh),
    "report": Target(run_report),
}
