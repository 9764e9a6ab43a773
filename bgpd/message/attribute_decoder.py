"""Path attribute blocks as `Attributes`: identical blocks give the identical object.

A block that nothing is wrong with, as nearly all are, is read by one loop over a table. Any other is read attribute by
attribute, and judged: discard, treat-as-withdraw or reset (RFC 7606 sections 3, 4 and 7, and the RFC that each rule of
attribute_rules.py names). Never sees NLRI: MP_REACH_NLRI and MP_UNREACH_NLRI are cut out by update_sections.py.

A block is looked up as bytes, a long one by its digest, so that its bytes are kept once. The table holds its values
weakly, so that what no route refers to is dropped.
"""

from __future__ import annotations

import hashlib
import weakref
from typing import Any

import msgspec

from bgpd.message import attribute_values as values
from bgpd.message.attribute_rules import (
    KIND_FLAGS,
    NEVER,
    OPTIONAL,
    PASSED_FLAGS,
    PLAIN_FIELDS,
    TOLD_WHOLE,
    WELL_KNOWN,
    Rule,
    name_of,
    plain_rules_for,
    rules_for,
)
from bgpd.message.attribute_values import Malformed, merge_as4
from bgpd.message.open import Negotiated
from bgpd.model.attributes import Attributes, UnknownAttribute, segments_of, unpack_numbers
from bgpd.model.iana import AttributeFlag, AttributeType, SegmentType, UpdateSubcode
from bgpd.model.wire import Reaction, WireError

_EXTENDED_LENGTH, _PARTIAL = int(AttributeFlag.EXTENDED_LENGTH), int(AttributeFlag.PARTIAL)
_NO_SETS = "RFC 9774 section 3"
_PARTS = 16
"""Number of dicts that share the blocks, so that none blocks the loop for long when it grows."""
_PLAIN_FACTS_KEPT = 4096
_LONGEST_KEY = 1024
"""Bytes of a block that is looked up by itself."""
_ERRORS_KEPT = 4
"""Errors of a block that is taken are logged when it is first seen; some of them are kept for the next time."""
_BLOCK_BYTES = 600
"""What interned attributes take beside the bytes of their lists: objects and their place in the table."""
_UNKNOWN_BYTES = 100
_ERROR_BYTES = 300
_WITHDRAW = Reaction.TREAT_AS_WITHDRAW
_DISCARD = Reaction.ATTRIBUTE_DISCARD


_FROM_TWO_OCTET_ONLY = (("as4_path", "AS4_PATH"), ("as4_aggregator", "AS4_AGGREGATOR"))
_FOR_TWO_OCTET = frozenset(field for field, _ in _FROM_TWO_OCTET_ONLY)
_MANDATORY = frozenset((int(AttributeType.ORIGIN), int(AttributeType.AS_PATH)))
_NOTHING: list[Any] = [getattr(Attributes(), name, b"") for name in PLAIN_FIELDS]
"""The values of a block without attributes."""
_NEEDED = 1 << PLAIN_FIELDS.index("origin") | 1 << PLAIN_FIELDS.index("packed_as_path")


class BlockFacts(msgspec.Struct, frozen=True, gc=False):
    """What an attribute block says beside its Attributes.

    `next_hop` is the packed NEXT_HOP (b"" if absent), `missing` the mandatory attributes that are not there; whether
    they had to be is known only with the NLRI. `errors` are in the order of the attributes.
    """

    next_hop: bytes = b""
    missing: tuple[str, ...] = ()
    errors: tuple[WireError, ...] = ()

    @property
    def is_unusual(self) -> bool:
        """Whether something is wrong with the block, or with an UPDATE that announces routes with it."""
        return bool(self.errors or self.missing)


class _Interned(weakref.ref[Attributes]):
    """A weak reference to the Attributes of a block, with the block's key, its facts, and the dict that it is in.

    `weight` is what it all takes in memory, and `kept` where that is counted.
    """

    __slots__ = ("among", "facts", "kept", "key", "weight")

    kept: list[int]
    weight: int

    key: bytes
    facts: BlockFacts
    among: dict[bytes, _Interned]


def _forget(reference: weakref.ref[Attributes]) -> None:
    if isinstance(reference, _Interned):
        reference.kept[0] -= reference.weight
        if reference.among.get(reference.key) is reference:
            del reference.among[reference.key]


def _digest(block: bytes) -> bytes:
    """What a long block is looked up by."""
    return hashlib.blake2b(block, digest_size=32).digest()


class AttributeDecoder:
    """The attribute blocks of one session. Sets of AS numbers cost a route (RFC 9774) unless `accept_as_sets`."""

    def __init__(self, negotiated: Negotiated, *, accept_as_sets: bool = False) -> None:
        self._accept_as_sets = accept_as_sets
        self._is_ibgp = negotiated.is_ibgp
        self._peer_asn = negotiated.peer_asn
        self._four_octet_as = negotiated.four_octet_as
        self._rules = rules_for(negotiated)
        self._plain_rules = plain_rules_for(negotiated)
        self._interned: tuple[dict[bytes, _Interned], ...] = tuple({} for _ in range(_PARTS))
        self._kept = [0]
        self._plain_facts: dict[bytes, BlockFacts] = {}

    def __len__(self) -> int:
        """Blocks that routes refer to."""
        return sum(map(len, self._interned))

    @property
    def bytes_kept(self) -> int:
        """Bytes of memory that they take, nearly."""
        return self._kept[0]

    def plain(self, block: bytes) -> tuple[Attributes, BlockFacts] | None:
        """The attributes of a block that was decoded before, or that nothing is wrong with. None: `decode` it."""
        key = block if len(block) <= _LONGEST_KEY else _digest(block)
        among = self._interned[hash(key) % _PARTS]
        known = among.get(key)
        if known is not None:
            attributes = known()
            if attributes is not None:
                return attributes, known.facts
        found = self._read_plain(block)
        if found is not None:
            self._intern(block, key, among, *found)
        return found

    def decode(self, block: bytes) -> tuple[Attributes, BlockFacts]:
        """Attributes of a block without MP_REACH_NLRI and MP_UNREACH_NLRI; what is malformed in it is left out.

        A block with errors worse than discard is not interned, since no route will refer to it.
        """
        found = self.plain(block)
        if found is not None:
            return found
        attributes, facts = self._parse(block)
        if all(error.reaction.strength <= _DISCARD.strength for error in facts.errors):
            kept = facts
            if len(facts.errors) > _ERRORS_KEPT:
                kept = msgspec.structs.replace(facts, errors=facts.errors[:_ERRORS_KEPT])
            key = block if len(block) <= _LONGEST_KEY else _digest(block)
            self._intern(block, key, self._interned[hash(key) % _PARTS], attributes, kept)
        return attributes, facts

    def _intern(
        self, block: bytes, key: bytes, among: dict[bytes, _Interned], attributes: Attributes, facts: BlockFacts
    ) -> None:
        weight = _BLOCK_BYTES + len(block) + len(key)
        if attributes.unknown or facts.errors:
            weight += _UNKNOWN_BYTES * len(attributes.unknown) + _ERROR_BYTES * len(facts.errors)
        reference = among[key] = _Interned(attributes, _forget)
        reference.key, reference.facts, reference.among = key, facts, among
        reference.kept, reference.weight = self._kept, weight
        self._kept[0] += weight

    def _read_plain(self, block: bytes) -> tuple[Attributes, BlockFacts] | None:
        """The attributes of a block that has what every route needs, and nothing unusual; None for any other."""
        found = _NOTHING.copy()
        rules, seen, offset, end = self._plain_rules, 0, 0, len(block)
        try:
            while offset < end:
                rule = rules.get(block[offset : offset + 2])
                if rule is None:
                    return None
                bit, place, unit, least, most, is_long, make = rule
                if is_long:
                    start = offset + 4
                    size = block[offset + 2] << 8 | block[offset + 3]
                else:
                    start = offset + 3
                    size = block[offset + 2]
                offset = start + size
                if not least <= size <= most or size % unit or offset > end or seen & bit:
                    return None
                value: Any = block[start:offset]
                if make is not None:
                    value = make(value)
                    if value is None:
                        return None
                found[place] = value
                seen |= bit
        except (IndexError, Malformed):
            return None
        if seen & _NEEDED != _NEEDED:
            return None
        facts = self._facts_with(found.pop())
        return Attributes(*found), facts

    def _facts_with(self, next_hop: bytes) -> BlockFacts:
        """The facts of a block with nothing wrong."""
        facts = self._plain_facts.get(next_hop)
        if facts is None:
            if len(self._plain_facts) >= _PLAIN_FACTS_KEPT:
                self._plain_facts.clear()
            facts = self._plain_facts[next_hop] = BlockFacts(next_hop)
        return facts

    def is_known(self, block: bytes) -> bool:
        """Whether exactly these bytes were decoded as a block before and are still referred to."""
        key = block if len(block) <= _LONGEST_KEY else _digest(block)
        return key in self._interned[hash(key) % _PARTS]

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
                    data = _data(rule.malformed, rule.subcode, flags, kind, value)
                    errors.append(WireError(rule.malformed, str(malformed), section, name_of(kind), rule.subcode, data))
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
        return Attributes(**fields), self._facts(next_hop, seen, errors)

    def _facts(self, next_hop: bytes, seen: set[int], errors: list[WireError]) -> BlockFacts:
        if not errors and seen >= _MANDATORY:
            return self._facts_with(next_hop)
        return BlockFacts(next_hop, tuple(map(name_of, sorted(_MANDATORY - seen))), tuple(errors))

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
    section = "RFC 7606 section 3 c" if rule.wrong_flags is _WITHDRAW else rule.section
    subcode = UpdateSubcode.ATTRIBUTE_FLAGS_ERROR
    data = _data(rule.wrong_flags, subcode, flags, kind, value)
    return WireError(rule.wrong_flags, message, section, name_of(kind), subcode, data)


def _data(reaction: Reaction, subcode: int, flags: int, kind: int, value: bytes) -> bytes:
    """The data of the NOTIFICATION if the error resets the session."""
    return _as_received(flags, kind, value) if reaction is _WITHDRAW and subcode in TOLD_WHOLE else b""


def _as_received(flags: int, kind: int, value: bytes) -> bytes:
    return bytes((flags, kind)) + len(value).to_bytes(2 if flags & _EXTENDED_LENGTH else 1, "big") + value
