"""Cases of malformed UPDATEs: their frame, each attribute, and NLRI."""

from __future__ import annotations

import struct
from functools import partial
from typing import Any

from bgpd.model.iana import AttributeType
from bgpd.model.wire import Reaction
from tests.message.decoding import (
    AS_PATH,
    GLOBAL,
    MANDATORY,
    NEXT_HOP,
    ORIGIN,
    attribute,
    reach,
    unreach,
    update,
)
from tests.message.malformed_case import ACCEPT, DISCARD, OWN_ADDRESS, RESET, WITHDRAW, Case, whole

TWO_OCTET_PATH = attribute(2, b"\2\1" + struct.pack("!H", 65201), 0x40)
PREFIX = b"\x10\x0a\x09"
"""10.9.0.0/16."""


def updating(
    about: str,
    what: str,
    rfc: str,
    body: bytes,
    reaction: Reaction,
    notification: tuple[int, int] | None = None,
    **session: Any,
) -> Case:
    """`rfc` is number and section."""
    section = "RFC {} section {}".format(*rfc.split(maxsplit=1))
    return Case(about, what, section, whole(2, body), reaction, notification, session=session)


def of(kind: int, what: str, rfc: str, value: bytes, reaction: Reaction, *, flags: int = 0xC0, **session: Any) -> Case:
    """A route with one attribute more."""
    block = MANDATORY if session.get("four_octet_as", True) else ORIGIN + TWO_OCTET_PATH + NEXT_HOP
    body = update(block + attribute(kind, value, flags), PREFIX)
    return updating(AttributeType(kind).name, what, rfc, body, reaction, **session)


def instead(about: str, what: str, rfc: str, block: bytes, reaction: Reaction = WITHDRAW, **session: Any) -> Case:
    """A route with other mandatory attributes."""
    return updating(about, what, rfc, update(block, PREFIX), reaction, **session)


def as_path(packed: bytes, flags: int = 0x40) -> bytes:
    return ORIGIN + attribute(2, packed, flags) + NEXT_HOP


ASN = struct.pack("!I", 65201)
FLAGS = "7606 3 c"
NO_ROUTE = ORIGIN + AS_PATH
TOO_LONG = b"\x81" + bytes(17)
PARTIAL, LOW_BITS = (attribute(1, b"\0", flags) + AS_PATH + NEXT_HOP for flags in (0x60, 0x4F))
EXTENDED = b"\x50\1\0\1\0" + AS_PATH + NEXT_HOP
RESERVED = attribute(14, b"\0\2\1\x10" + GLOBAL + b"\7\0", 0x80)
"""MP_REACH_NLRI whose reserved byte is 7."""
NO_HOP = attribute(3, b"\0", 0x40)
framed = partial(updating, "UPDATE")
reaching = partial(updating, "MP_REACH_NLRI")
unreaching = partial(updating, "MP_UNREACH_NLRI")
sid = partial(of, 40, ibgp=True)
FRAMES = [
    framed("withdrawn routes overrun the message", "4271 6.3", b"\0\x09\0\0", RESET, (3, 1)),
    framed("path attributes overrun the message", "4271 6.3", b"\0\0\0\x09", RESET, (3, 1)),
    framed("attribute that overruns the others", "7606 4", update(MANDATORY + b"\xc0\x08\x09\0", PREFIX), WITHDRAW),
    framed("one or two bytes left for an attribute", "7606 4", update(MANDATORY + b"\xc0\x08", PREFIX), WITHDRAW),
    framed("what would withdraw, and no NLRI", "7606 5.2", update(ORIGIN + b"\xc0\x08\x09\0"), RESET, (3, 1)),
    framed("routes without any attribute", "7606 3 d", update(b"", PREFIX), WITHDRAW),
    framed("Partial bit where it means nothing: ignored", "7606 3 c", update(PARTIAL, PREFIX), ACCEPT),
    framed("low four bits of flags: ignored", "4271 4.3", update(LOW_BITS, PREFIX), ACCEPT),
    framed("extended length of a short attribute: taken", "4271 4.3", update(EXTENDED, PREFIX), ACCEPT),
    framed("ORIGIN is missing", "7606 3 d", update(AS_PATH + NEXT_HOP, PREFIX), WITHDRAW),
    framed("AS_PATH is missing", "7606 3 d", update(ORIGIN + NEXT_HOP, PREFIX), WITHDRAW),
    framed("NEXT_HOP is missing", "7606 3 d", update(ORIGIN + AS_PATH, PREFIX), WITHDRAW),
    framed("repeated attribute: the first counts", "7606 3 g", update(MANDATORY + ORIGIN, PREFIX), DISCARD),
    framed("unknown well-known attribute", "4271 6.3", update(MANDATORY + b"\x40\x63\0", PREFIX), RESET, (3, 2)),
    framed("unknown attribute that is not transitive", "4271 5", update(MANDATORY + b"\x80\x63\0", PREFIX), DISCARD),
    framed("prefix longer than 32 bits", "7606 5.3", update(MANDATORY, b"\x21\x0a\0\0\0\0"), RESET, (3, 10)),
    framed("prefix longer than what is left", "7606 5.3", update(MANDATORY, b"\x18\x0a"), RESET, (3, 10)),
    framed("withdrawn prefix longer than what is left", "7606 5.3", update(withdrawn=b"\x18\x0a"), RESET, (3, 10)),
    framed("martian prefix: ignored", "4271 6.3", update(MANDATORY, b"\x08\x7f"), WITHDRAW),
]  # fmt: skip
FRAMES += [
    framed(f"{what}, and only withdrawn routes", "7606 5.2", update(block, b"", PREFIX), RESET, (3, subcode))
    for what, block, subcode in (
        ("flags of an attribute", attribute(1, b"\0", 0xC0), 4),
        ("length of an attribute", attribute(4, bytes(3), 0x80), 5),
        ("ORIGIN over 2", attribute(1, b"\3", 0x40), 6),
        ("NEXT_HOP that is no IPv4 address", attribute(3, b"\x0a", 0x40), 8),
        ("communities of 5 bytes", attribute(8, bytes(5), 0xC0), 9),
        ("AS_PATH with an unknown segment", attribute(2, b"\5\1" + ASN, 0x40), 11),
    )
]
MULTIPROTOCOL = [
    reaching("flags", "7606 5.3", update(b"\xc0\x0e\x05\0\1\1\0\0"), RESET, (3, 9)),
    reaching("fewer than 5 bytes", "7606 5.3", update(attribute(14, b"\0\2\1\0", 0x80)), RESET, (3, 1)),
    reaching("next hop that overruns it", "7606 5.3", update(attribute(14, b"\0\2\1\x10\0", 0x80)), RESET, (3, 1)),
    reaching("next hop of a wrong length", "7606 7.11", update(reach(2, 1, bytes(5), b"\0") + NO_ROUTE), RESET, (3, 9)),
    reaching("prefix over 128 bits", "7606 5.3", update(reach(2, 1, GLOBAL, TOO_LONG) + NO_ROUTE), RESET, (3, 9)),
    reaching("overruns the attributes", "7606 3 j", update(b"\x80\x0e\xff\0\2\1"), RESET, (3, 1)),
    reaching("repeated", "7606 3 g", update(2 * reach(2, 1, GLOBAL, b"\0") + NO_ROUTE), RESET, (3, 1)),
    reaching("family not negotiated: ignored", "4760 8", update(reach(1, 128, bytes(4), b"\0") + NO_ROUTE), DISCARD),
    reaching("not the first attribute: taken", "7606 5.1", update(NO_ROUTE + reach(2, 1, GLOBAL, b"\0")), ACCEPT),
    reaching("reserved byte that is not 0: ignored", "4760 3", update(RESERVED + NO_ROUTE), ACCEPT),
    reaching("NEXT_HOP beside it: ignored", "4760 3", update(reach(2, 1, GLOBAL, b"\0") + MANDATORY), ACCEPT),
    reaching("bad NEXT_HOP beside it", "7606 7.3", update(reach(2, 1, GLOBAL, b"\0") + NO_ROUTE + NO_HOP), WITHDRAW),
    unreaching("flags", "7606 5.3", update(b"\xc0\x0f\x03\0\2\1"), RESET, (3, 9)),
    unreaching("fewer than 3 bytes", "7606 5.3", update(attribute(15, b"\0\2", 0x80)), RESET, (3, 9)),
    unreaching("overruns the attributes", "7606 3 j", update(b"\x80\x0f\xff\0\2\1"), RESET, (3, 1)),
    unreaching("repeated", "7606 3 g", update(2 * unreach(2, 1, b"\0")), RESET, (3, 1)),
    unreaching("family not negotiated: ignored", "4760 8", update(unreach(1, 128, b"\0")), DISCARD),
    unreaching("End-of-RIB of such a family: ignored", "4724 2", update(unreach(1, 128, b"")), ACCEPT),
    unreaching("prefix longer than what is left", "7606 5.3", update(unreach(2, 1, b"\x40\0")), RESET, (3, 9)),
]  # fmt: skip
ATTRIBUTES = [
    instead("ORIGIN", "value over 2", "7606 7.1", attribute(1, b"\3", 0x40) + AS_PATH + NEXT_HOP),
    instead("ORIGIN", "length other than 1", "7606 7.1", attribute(1, b"\0\0", 0x40) + AS_PATH + NEXT_HOP),
    instead("ORIGIN", "flags", FLAGS, attribute(1, b"\0", 0xC0) + AS_PATH + NEXT_HOP),
    instead("AS_PATH", "unknown segment type", "7606 7.2", as_path(b"\5\1" + ASN)),
    instead("AS_PATH", "segment that overruns the attribute", "7606 7.2", as_path(b"\2\2" + ASN)),
    instead("AS_PATH", "one byte left for a segment", "7606 7.2", as_path(b"\2\1" + ASN + b"\2")),
    instead("AS_PATH", "segment without AS numbers", "7606 7.2", as_path(b"\2\1" + ASN + b"\2\0")),
    instead("AS_PATH", "flags", FLAGS, as_path(b"\2\1" + ASN, 0xC0)),
    instead("AS_PATH", "does not begin with the neighbor's AS", "4271 6.3", as_path(b"\2\1\0\0\0\1")),
    instead("AS_PATH", "empty, from an external neighbor", "4271 6.3", as_path(b"")),
    instead("AS_PATH", "AS 0", "7607 2", as_path(b"\2\2" + ASN + bytes(4))),
    instead("AS_PATH", "AS_SET, without accept_as_sets", "9774 3", as_path(b"\2\1" + ASN + b"\1\1" + ASN)),
    instead("AS_PATH", "confederation segment from an external neighbor", "5065 5", as_path(b"\3\1" + ASN)),
    instead("AS_PATH", "confederation set", "9774 3", as_path(b"\4\1" + ASN)),
    instead("AS_PATH", "AS numbers of four octets, not two", "7606 7.2", as_path(b"\2\1" + ASN), four_octet_as=False),
    instead("NEXT_HOP", "length other than 4", "7606 7.3", ORIGIN + AS_PATH + attribute(3, b"\x0a\0\1", 0x40)),
    instead("NEXT_HOP", "flags", FLAGS, ORIGIN + AS_PATH + attribute(3, b"\x0a\0\1\2", 0xC0)),
    instead("NEXT_HOP", "no address of a host", "4271 6.3", ORIGIN + AS_PATH + attribute(3, bytes(4), 0x40)),
    instead("NEXT_HOP", "this host's own address", "4271 6.3", ORIGIN + AS_PATH + attribute(3, OWN_ADDRESS, 0x40)),
    of(4, "length other than 4", "7606 7.4", bytes(3), WITHDRAW, flags=0x80),
    of(4, "flags", FLAGS, bytes(4), WITHDRAW),
    of(5, "length other than 4", "7606 7.5", bytes(3), WITHDRAW, flags=0x40, ibgp=True),
    of(5, "from an external neighbor", "7606 7.5", bytes(4), DISCARD, flags=0x40),
    of(5, "flags", FLAGS, bytes(4), WITHDRAW, ibgp=True),
    of(6, "length other than 0", "7606 7.6", b"\0", DISCARD, flags=0x40),
    of(6, "flags", "7606 7.6", b"", DISCARD),
    of(7, "length other than 8", "7606 7.7", bytes(6), DISCARD),
    of(7, "length other than 6 where AS numbers have two octets", "7606 7.7", bytes(8), DISCARD, four_octet_as=False),
    of(7, "AS 0", "7607 2", bytes(8), DISCARD),
    of(7, "flags", "7606 7.7", ASN + bytes(4), DISCARD, flags=0x80),
    of(8, "length that is no multiple of 4", "7606 7.8", bytes(5), WITHDRAW),
    of(8, "length 0", "7606 7.8", b"", WITHDRAW),
    of(8, "flags", FLAGS, bytes(4), WITHDRAW, flags=0x80),
    of(9, "length other than 4", "7606 7.9", bytes(3), WITHDRAW, flags=0x80, ibgp=True),
    of(9, "from an external neighbor", "7606 7.9", bytes(4), DISCARD, flags=0x80),
    of(9, "flags", FLAGS, bytes(4), WITHDRAW, ibgp=True),
    of(10, "length that is no multiple of 4", "7606 7.10", bytes(5), WITHDRAW, flags=0x80, ibgp=True),
    of(10, "from an external neighbor", "7606 7.10", bytes(4), DISCARD, flags=0x80),
    of(10, "flags", FLAGS, bytes(4), WITHDRAW, ibgp=True),
    of(16, "length that is no multiple of 8", "7606 7.14", bytes(9), WITHDRAW),
    of(16, "length 0", "7606 7.14", b"", WITHDRAW),
    of(16, "flags", FLAGS, bytes(8), WITHDRAW, flags=0x40),
    of(17, "segment that overruns the attribute", "6793 6", b"\2\2" + ASN, DISCARD, four_octet_as=False),
    of(17, "fewer than 6 bytes", "6793 6", b"\2\1\0\0", DISCARD, four_octet_as=False),
    of(17, "one byte left for a segment", "6793 6", b"\2\1" + ASN + b"\2", DISCARD, four_octet_as=False),
    of(17, "unknown segment type", "6793 6", b"\5\1" + ASN, DISCARD, four_octet_as=False),
    of(17, "segment without AS numbers", "6793 6", b"\2\1" + ASN + b"\2\0", DISCARD, four_octet_as=False),
    of(17, "AS 0", "7607 2", b"\2\1" + bytes(4), DISCARD, four_octet_as=False),
    of(17, "where AS numbers have four octets", "6793 4.1", b"\2\1" + ASN, DISCARD),
    of(17, "flags", FLAGS, b"\2\1" + ASN, WITHDRAW, flags=0x80, four_octet_as=False),
    of(18, "length other than 8", "6793 6", bytes(6), DISCARD, four_octet_as=False),
    of(18, "AS 0", "7607 2", bytes(8), DISCARD, four_octet_as=False),
    of(18, "where AS numbers have four octets", "6793 4.1", ASN + bytes(4), DISCARD),
    of(18, "flags", "6793 6", ASN + bytes(4), DISCARD, flags=0x80, four_octet_as=False),
    of(22, "fewer than 5 bytes", "6514 5", bytes(4), WITHDRAW),
    of(22, "flags", FLAGS, bytes(5), WITHDRAW, flags=0x80),
    of(23, "TLV that overruns the attribute", "9012 13", b"\0\x08\0\5x", WITHDRAW),
    of(23, "too few bytes for a TLV", "9012 13", b"\0\x08\0", WITHDRAW),
    of(23, "sub-TLV that overruns its TLV", "9012 13", b"\0\x08\0\3\4\2x", WITHDRAW),
    of(23, "long sub-TLV that overruns its TLV", "9012 13", b"\0\x08\0\4\x80\0\2x", WITHDRAW),
    of(23, "too few bytes for a sub-TLV", "9012 13", b"\0\x08\0\1\4", WITHDRAW),
    of(23, "no TLV", "9012 13", b"", DISCARD),
    of(23, "not transitive", "9012 13", b"\0\x08\0\0", DISCARD, flags=0x80),
    of(23, "flags", FLAGS, b"\0\x08\0\0", WITHDRAW, flags=0x40),
    of(25, "length that is no multiple of 20", "7606 7.15", bytes(19), WITHDRAW),
    of(25, "flags", FLAGS, bytes(20), WITHDRAW, flags=0x80),
    of(26, "not enabled, which it never is: ignored", "7311 3", b"\1\0\x0b" + bytes(8), DISCARD, flags=0x80),
    of(26, "flags", "7311 3", b"\1\0\x0b" + bytes(8), DISCARD),
    of(32, "length that is no multiple of 12", "8092 6", bytes(13), WITHDRAW),
    of(32, "length 0", "8092 6", b"", WITHDRAW),
    of(32, "flags", FLAGS, bytes(12), WITHDRAW, flags=0x80),
    of(35, "length other than 4", "9234 5", bytes(3), WITHDRAW),
    of(35, "flags", FLAGS, bytes(4), WITHDRAW, flags=0x80),
    sid("no TLV", "8669 6", b"", DISCARD),
    sid("TLV that overruns the attribute", "8669 6", b"\1\0\7\0", DISCARD),
    sid("Label-Index of a length other than 7", "8669 6", b"\1\0\6" + bytes(6), DISCARD),
    sid("Originator SRGB that is not 2 bytes and SRGBs of 6", "8669 6", b"\3\0\7" + bytes(7), DISCARD),
    sid("flags", FLAGS, b"\1\0\7" + bytes(7), WITHDRAW, flags=0x80),
    sid("SRv6 Service TLV of length 0", "9252 7", b"\5\0\0", WITHDRAW),
    sid("SRv6 Service TLV that overruns the attribute", "9252 7", b"\6\0\5\0", WITHDRAW),
    sid("sub-TLV that overruns its SRv6 Service TLV", "9252 7", b"\5\0\5\0\2\0\2x", WITHDRAW),
    sid("SRv6 SID of fewer than 21 bytes", "9252 7", b"\5\0\x18\0\1\0\x14" + bytes(20), WITHDRAW),
    sid("sub-sub-TLV that overruns its SRv6 SID", "9252 7", b"\5\0\x1c\0\1\0\x18" + bytes(21) + b"\1\0\6", WITHDRAW),
    sid("SRv6 Service TLV of length 0, after another error", "9252 7", b"\1\0\6" + bytes(6) + b"\5\0\0", WITHDRAW),
    of(40, "from an external neighbor", "8669 4", b"\1\0\7" + bytes(7), DISCARD),
    of(128, "fewer than 4 bytes", "7606 7.16", bytes(3), WITHDRAW),
    of(128, "attribute that overruns it", "7606 7.16", ASN + b"\x40\1\5\0", WITHDRAW),
    of(128, "flags", FLAGS, ASN, WITHDRAW, flags=0x80),
]  # fmt: skip


def evpn(what: str, rfc: str, nlri: bytes, reaction: Reaction = WITHDRAW, notification: Any = None) -> Case:
    block = reach(25, 70, b"\x0a\0\1\2", nlri) + NO_ROUTE
    return updating("EVPN", what, rfc, update(block), reaction, notification)


RD = b"\0\1\x0a\0\0\1\0\1"


def type_5(esi: bytes, gateway: bytes) -> bytes:
    """10.0.0.1/32 without a label."""
    return b"\5\x22" + RD + esi + bytes(4) + b"\x20\x0a\0\0\1" + gateway + bytes(3)


EVPN = [
    evpn("route longer than what is left", "7606 5.3", b"\5\x22\0", RESET, (3, 9)),
    evpn("type that is not known: ignored", "7606 5.4", b"\x63\1x", ACCEPT),
    evpn("type 1 of another length", "7432 7.1", b"\1\x18" + bytes(24)),
    evpn("type 2 of another length", "7432 7.2", b"\2\x20" + bytes(32)),
    evpn("type 2 with another MAC length", "7432 7.2", b"\2\x21" + RD + bytes(14) + b"\x2f" + bytes(10)),
    evpn("type 3 of another length", "7432 7.3", b"\3\x0c" + RD + bytes(4)),
    evpn("type 4 of another length", "7432 7.4", b"\4\x12" + RD + bytes(10)),
    evpn("type 5 of another length", "9136 3.1", b"\5\x21" + bytes(33)),
    evpn("type 5 with a prefix longer than 32 bits", "9136 3.1", b"\5\x22" + RD + bytes(14) + b"\x21" + bytes(11)),
    evpn("type 5 with ESI and gateway IP", "9136 3.2", type_5(b"\1" * 10, b"\x0a\0\0\2")),
    evpn("type 5 without ESI, gateway IP, Router's MAC and label", "9136 3.2", type_5(bytes(10), bytes(4))),
]  # fmt: skip
MEMBERSHIPS = [
    updating(
        "Route target membership",
        "length between 1 and 31 bits",
        "4684 4",
        update(reach(1, 132, b"\x0a\0\1\2", b"\x10\0\0") + NO_ROUTE),
        WITHDRAW,
    ),
    updating(
        "Route target membership",
        "length over 96 bits",
        "4684 4",
        update(reach(1, 132, b"\x0a\0\1\2", b"\x70" + bytes(14)) + NO_ROUTE),
        WITHDRAW,
    ),
]
