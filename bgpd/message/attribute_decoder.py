"""Path attribute blocks as `Attributes`.

A block that nothing is wrong with, as nearly all are, is read by one loop (plain_updates.py) and kept as it is. Any
other is read attribute by attribute, and judged: discard, treat-as-withdraw or reset (RFC 7606 sections 3, 4 and 7, and
the RFC that each rule of attribute_rules.py names); what is left of it is packed again. Never sees NLRI: MP_REACH_NLRI
and MP_UNREACH_NLRI are cut out by update_sections.py.

Blocks are remembered for a while, so that the UPDATEs of one table mostly share one object. Nothing depends on that:
who keeps routes compares blocks (bgpd/rib/adj_rib_in.py).
"""

from __future__ import annotations

from typing import Any

import msgspec

from bgpd.message import attribute_values as values
from bgpd.message.attribute_rules import (
    KIND_FLAGS,
    NEVER,
    OPTIONAL,
    PASSED_FLAGS,
    TOLD_WHOLE,
    WELL_KNOWN,
    Rule,
    name_of,
    plain_rules_for,
    rules_for,
)
from bgpd.message.attribute_values import Malformed, merge_as4
from bgpd.message.open import Negotiated
from bgpd.message.plain_updates import PlainBlocks
from bgpd.model.as_path import segments_of, unpack_numbers
from bgpd.model.attributes import AttributeFields, Attributes, UnknownAttribute
from bgpd.model.iana import AttributeFlag, AttributeType, SegmentType, UpdateSubcode
from bgpd.model.wire import Reaction, WireError

_EXTENDED_LENGTH, _PARTIAL = int(AttributeFlag.EXTENDED_LENGTH), int(AttributeFlag.PARTIAL)
_NO_SETS = "RFC 9774 section 3"
_BLOCKS_KEPT = 512
"""Blocks that are not usual, and that a session remembers."""
_LONGEST_KEPT = 1024
_ERRORS_KEPT = 4
"""Errors of a block that is taken are logged when it is first seen; some of them are kept for the next time."""
_WITHDRAW = Reaction.TREAT_AS_WITHDRAW
_DISCARD = Reaction.ATTRIBUTE_DISCARD


_FROM_TWO_OCTET_ONLY = (("as4_path", "AS4_PATH"), ("as4_aggregator", "AS4_AGGREGATOR"))
_FOR_TWO_OCTET = frozenset(field for field, _ in _FROM_TWO_OCTET_ONLY)
_MANDATORY = frozenset((int(AttributeType.ORIGIN), int(AttributeType.AS_PATH)))


class BlockFacts(msgspec.Struct, frozen=True, gc=False):
    """What an attribute block says beside its Attributes.

    `next_hop` is the packed NEXT_HOP (b"" if absent), `missing` the mandatory attributes that are not there; whether
    they had to be is known only with the NLRI. `errors` are in the order of the attributes.
    """

    next_hop: bytes = b""
    missing: tuple[str, ...] = ()
    errors: tuple[WireError, ...] = ()


class AttributeDecoder:
    """The attribute blocks of one session. Sets of AS numbers cost a route (RFC 9774) unless `accept_as_sets`.

    `plain` are the usual ones.
    """

    def __init__(self, negotiated: Negotiated, *, accept_as_sets: bool = False) -> None:
        self._accept_as_sets = accept_as_sets
        self._is_ibgp = negotiated.is_ibgp
        self._peer_asn = negotiated.peer_asn
        self._four_octet_as = negotiated.four_octet_as
        self._rules = rules_for(negotiated)
        self.plain = PlainBlocks(plain_rules_for(negotiated))
        self._others: dict[bytes, tuple[Attributes, BlockFacts]] = {}

    def decode(self, block: bytes) -> tuple[Attributes, BlockFacts]:
        """Attributes of a block without MP_REACH_NLRI and MP_UNREACH_NLRI; what is malformed in it is left out."""
        found = self.plain.find(block)
        if found is not None:
            return found[0], BlockFacts(found[1])
        known = self._others.get(block)
        if known is not None:
            return known
        attributes, facts = self._parse(block)
        if len(block) <= _LONGEST_KEPT:
            if len(self._others) >= _BLOCKS_KEPT:
                self._others.clear()
            kept = msgspec.structs.replace(facts, errors=facts.errors[:_ERRORS_KEPT])
            self._others[block] = attributes, kept
        return attributes, facts

    def _parse(self, block: bytes) -> tuple[Attributes, BlockFacts]:
        fields: dict[str, Any] = {}
        kept: list[UnknownAttribute] = []
        partial: list[int] = []
        errors: list[WireError] = []
        seen: set[int] = set()
        repeated: set[int] = set()
        rules = self._rules
        attributes, overrun = values.split_attributes(block)
        for flags, kind, value in attributes:
            rule = rules.get(kind)
            if rule is None or flags & KIND_FLAGS != rule.flags or kind in seen:
                if kind in seen:
                    repeated.add(kind)
                elif (error := self._irregular(flags, kind, value, kept)) is not None:
                    errors.append(error)
            else:
                try:
                    if rule.field:
                        fields[rule.field] = rule.parse(value)
                        if flags & _PARTIAL and rule.flags == KIND_FLAGS:
                            partial.append(kind)
                    else:
                        rule.parse(value)
                        kept.append(UnknownAttribute(flags & PASSED_FLAGS, kind, value))
                except Malformed as malformed:
                    section = malformed.section or rule.section
                    reaction = malformed.reaction or rule.malformed
                    data = _data(reaction, rule.subcode, flags, kind, value)
                    errors.append(WireError(reaction, str(malformed), section, name_of(kind), rule.subcode, data))
            seen.add(kind)
        errors += [
            WireError(_DISCARD, "repeated; the first is used", "RFC 7606 section 3 g", name_of(kind))
            for kind in sorted(repeated)
        ]
        if overrun:
            subcode = UpdateSubcode.MALFORMED_ATTRIBUTE_LIST
            errors.append(WireError(_WITHDRAW, overrun, "RFC 7606 section 4", subcode=subcode))
        self._settle(fields, errors)
        next_hop = fields.pop("next_hop", b"")
        if kept:
            fields["unknown"] = tuple(kept)
        if partial:
            fields["partial"] = tuple(partial)
        facts = BlockFacts(next_hop, tuple(map(name_of, sorted(_MANDATORY - seen))), tuple(errors))
        return AttributeFields(**fields).pack(), facts

    def _irregular(self, flags: int, kind: int, value: bytes, kept: list[UnknownAttribute]) -> WireError | None:
        """What an attribute costs that is unknown, or has wrong flags."""
        rule = self._rules.get(kind)
        if rule is None:
            return _keep_unknown(flags, kind, value, kept)
        if rule.flags == NEVER:
            return WireError(_DISCARD, "received from an external peer", rule.section, name_of(kind))
        return _wrong_flags(flags, kind, rule, value)

    def _settle(self, fields: dict[str, Any], errors: list[WireError]) -> None:
        """AS4_PATH and AS4_AGGREGATOR: merged for a two-octet peer, else discarded (RFC 6793 sections 4.1, 4.2.3)."""
        if not self._four_octet_as:
            self._check_as_path(fields.get("as4_path") or b"", errors, "AS4_PATH")
            merge_as4(fields)
        elif not _FOR_TWO_OCTET.isdisjoint(fields):
            for field, name in _FROM_TWO_OCTET_ONLY:
                if field in fields:
                    del fields[field]
                    message = "received on a session with 4-octet AS numbers"
                    errors.append(WireError(_DISCARD, message, "RFC 6793 section 4.1", name))
        path = fields.get("packed_as_path")
        if path is not None:
            self._check_as_path(path, errors, "AS_PATH")

    def _check_as_path(self, path: bytes, errors: list[WireError], name: str) -> None:
        """What makes an AS_PATH or AS4_PATH unacceptable beyond its syntax."""
        wrong = section = ""
        if path and (path[0] != values.AS_SEQUENCE or len(path) != 2 + 4 * path[1] or values.AS_0 in path):
            wrong, section = self._wrong_segments(path)
        if not wrong and self._peer_asn and not self._is_ibgp and name == "AS_PATH":
            first = int.from_bytes(path[2:6]) if path and path[0] == values.AS_SEQUENCE else None
            if first != self._peer_asn:
                wrong = f"the path does not start with the peer's AS {self._peer_asn}"
                section = "RFC 4271 section 6.3"
        if wrong:
            subcode, readable = UpdateSubcode.MALFORMED_AS_PATH, section is _NO_SETS
            errors.append(WireError(_WITHDRAW, wrong, section, name, subcode, is_readable=readable))

    def _wrong_segments(self, path: bytes) -> tuple[str, str]:
        """What no segment may hold, with the RFC's section; "" twice if nothing is wrong."""
        for kind, count, at in segments_of(path):
            asns = path[at : at + 4 * count]
            if values.AS_0 in asns and 0 in unpack_numbers(asns):
                return "AS 0 in the path", "RFC 7607 section 2"
            if kind in values.SETS and not self._accept_as_sets:
                return f"{SegmentType(kind).name} in the path: such routes are refused without accept_as_sets", _NO_SETS
            if kind in values.CONFEDERATION and not self._is_ibgp:
                return "confederation segment from a peer outside the confederation", "RFC 5065 section 5"
        return "", ""


def _keep_unknown(flags: int, kind: int, value: bytes, kept: list[UnknownAttribute]) -> WireError | None:
    """An attribute without a rule: kept if transitive, ignored if not, fatal if well-known (RFC 4271 section 5)."""
    if not flags & OPTIONAL:
        return WireError(
            Reaction.SESSION_RESET,
            "unrecognized well-known attribute",
            "RFC 4271 section 6.3",
            name_of(kind),
            UpdateSubcode.UNRECOGNIZED_WELL_KNOWN_ATTRIBUTE,
            _as_received(flags, kind, value),
        )
    if not flags & WELL_KNOWN:
        return WireError(_DISCARD, "unrecognized and not transitive: ignored", "RFC 4271 section 5", name_of(kind))
    kept.append(UnknownAttribute(flags & PASSED_FLAGS, kind, value))
    return None


def _wrong_flags(flags: int, kind: int, rule: Rule, value: bytes) -> WireError:
    message = f"flags 0x{flags:02x}: Optional and Transitive must be 0x{rule.flags:02x}"
    reaction = rule.wrong_flags if flags & WELL_KNOWN else rule.not_transitive or rule.wrong_flags
    section = "RFC 7606 section 3 c" if reaction is _WITHDRAW else rule.section
    subcode = UpdateSubcode.ATTRIBUTE_FLAGS_ERROR
    data = _data(reaction, subcode, flags, kind, value)
    return WireError(reaction, message, section, name_of(kind), subcode, data)


def _data(reaction: Reaction, subcode: int, flags: int, kind: int, value: bytes) -> bytes:
    """The data of the NOTIFICATION if the error resets the session."""
    return _as_received(flags, kind, value) if reaction is _WITHDRAW and subcode in TOLD_WHOLE else b""


def _as_received(flags: int, kind: int, value: bytes) -> bytes:
    return bytes((flags, kind)) + len(value).to_bytes(2 if flags & _EXTENDED_LENGTH else 1, "big") + value
