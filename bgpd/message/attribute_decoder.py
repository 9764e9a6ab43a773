"""Path attribute blocks as `Attributes`: identical blocks give the identical object (DESIGN section 2).

Decides what a malformed attribute costs: discard, treat-as-withdraw or reset (RFC 7606 sections 3, 4 and 7, and the RFC
that each rule names). Never sees NLRI: MP_REACH_NLRI and MP_UNREACH_NLRI are cut out by update_decoder.py.

A block is looked up as bytes, a long one by its digest, so that its bytes are kept once. The table holds its values
weakly, so that what no route refers to is dropped.
"""

from __future__ import annotations

import functools
import hashlib
import weakref
from collections.abc import Callable
from typing import Any

import msgspec

from bgpd.message import attribute_values as values
from bgpd.message.attribute_values import Malformed, merge_as4
from bgpd.message.open import Negotiated
from bgpd.model.attributes import Attributes, UnknownAttribute, segments_of, unpack_numbers
from bgpd.model.iana import AttributeFlag, AttributeType, UpdateSubcode
from bgpd.model.wire import Reaction, WireError

_KIND_FLAGS = int(AttributeFlag.OPTIONAL | AttributeFlag.TRANSITIVE)
_WELL_KNOWN = int(AttributeFlag.TRANSITIVE)
_OPTIONAL = int(AttributeFlag.OPTIONAL)
_OPTIONAL_TRANSITIVE = _KIND_FLAGS
_EXTENDED_LENGTH = int(AttributeFlag.EXTENDED_LENGTH)
_NEVER = -1
"""Flags that no attribute has: it is not accepted on the session at all."""

_PARTS = 16
"""Dicts that the blocks are dealt to, so that none holds the loop for long when it grows."""
_PLAIN_FACTS_KEPT = 4096
_AS_PATHS_KEPT = 4096
_LONGEST_PATH_KEPT = 128
"""Blocks differ in their communities more than in their paths: equal paths of usual length are shared."""
_LONGEST_KEY = 1024
"""Bytes of a block that is looked up by itself."""
_ERRORS_KEPT = 4
"""What is wrong with a block that is taken is told when it is first seen; some of it is kept for the next time."""
_BLOCK_BYTES = 600
"""What interned attributes take beside the bytes of their lists: objects and their place in the table."""
_UNKNOWN_BYTES = 100
_ERROR_BYTES = 300
_WITHDRAW = Reaction.TREAT_AS_WITHDRAW
_DISCARD = Reaction.ATTRIBUTE_DISCARD


class Rule(msgspec.Struct, frozen=True):
    """How one attribute type is read: its flags, what a malformed value and wrong flags cost, and its parser.

    `subcode` is that of the NOTIFICATION if the error has to reset the session. `field` is where the value goes; an
    attribute without one is validated, then passed on uninterpreted.
    """

    flags: int
    malformed: Reaction
    section: str
    subcode: int
    parse: Callable[[bytes], Any]
    field: str = ""
    wrong_flags: Reaction = Reaction.TREAT_AS_WITHDRAW


_LENGTH = UpdateSubcode.ATTRIBUTE_LENGTH_ERROR
_OPTIONAL_ERROR = UpdateSubcode.OPTIONAL_ATTRIBUTE_ERROR
_RULES: dict[int, Rule] = {
    AttributeType.ORIGIN: Rule(
        _WELL_KNOWN, _WITHDRAW, "RFC 7606 section 7.1", UpdateSubcode.INVALID_ORIGIN, values.parse_origin, "origin"
    ),
    AttributeType.AS_PATH: Rule(
        _WELL_KNOWN,
        _WITHDRAW,
        "RFC 7606 section 7.2",
        UpdateSubcode.MALFORMED_AS_PATH,
        values.parse_as_path,
        "packed_as_path",
    ),
    AttributeType.NEXT_HOP: Rule(
        _WELL_KNOWN, _WITHDRAW, "RFC 7606 section 7.3", UpdateSubcode.INVALID_NEXT_HOP, values.parse_4_bytes, "next_hop"
    ),
    AttributeType.MULTI_EXIT_DISC: Rule(
        _OPTIONAL, _WITHDRAW, "RFC 7606 section 7.4", _LENGTH, values.parse_number, "med"
    ),
    AttributeType.LOCAL_PREF: Rule(
        _WELL_KNOWN, _WITHDRAW, "RFC 7606 section 7.5", _LENGTH, values.parse_number, "local_pref"
    ),
    AttributeType.ATOMIC_AGGREGATE: Rule(
        _WELL_KNOWN,
        _DISCARD,
        "RFC 7606 section 7.6",
        _LENGTH,
        values.parse_empty,
        "atomic_aggregate",
        wrong_flags=_DISCARD,
    ),
    AttributeType.AGGREGATOR: Rule(
        _OPTIONAL_TRANSITIVE,
        _DISCARD,
        "RFC 7606 section 7.7",
        _LENGTH,
        values.parse_aggregator,
        "aggregator",
        wrong_flags=_DISCARD,
    ),
    AttributeType.COMMUNITIES: Rule(
        _OPTIONAL_TRANSITIVE,
        _WITHDRAW,
        "RFC 7606 section 7.8",
        _OPTIONAL_ERROR,
        values.parse_communities,
        "packed_communities",
    ),
    AttributeType.ORIGINATOR_ID: Rule(
        _OPTIONAL, _WITHDRAW, "RFC 7606 section 7.9", _LENGTH, values.parse_4_bytes, "originator_id"
    ),
    AttributeType.CLUSTER_LIST: Rule(
        _OPTIONAL, _WITHDRAW, "RFC 7606 section 7.10", _LENGTH, values.parse_cluster_list, "packed_cluster_list"
    ),
    AttributeType.EXTENDED_COMMUNITIES: Rule(
        _OPTIONAL_TRANSITIVE,
        _WITHDRAW,
        "RFC 7606 section 7.14",
        _OPTIONAL_ERROR,
        values.parse_extended_communities,
        "packed_extended_communities",
    ),
    AttributeType.AS4_PATH: Rule(
        _OPTIONAL_TRANSITIVE, _DISCARD, "RFC 6793 section 6", _OPTIONAL_ERROR, values.parse_as4_path, "as4_path"
    ),
    AttributeType.AS4_AGGREGATOR: Rule(
        _OPTIONAL_TRANSITIVE,
        _DISCARD,
        "RFC 6793 section 6",
        _LENGTH,
        values.parse_aggregator,
        "as4_aggregator",
        wrong_flags=_DISCARD,
    ),
    AttributeType.PMSI_TUNNEL: Rule(
        _OPTIONAL_TRANSITIVE, _WITHDRAW, "RFC 6514 section 5", _OPTIONAL_ERROR, values.check_pmsi_tunnel
    ),
    AttributeType.TUNNEL_ENCAPSULATION: Rule(
        _OPTIONAL_TRANSITIVE, _WITHDRAW, "RFC 9012 section 13", _OPTIONAL_ERROR, values.check_tunnels
    ),
    AttributeType.IPV6_EXTENDED_COMMUNITIES: Rule(
        _OPTIONAL_TRANSITIVE,
        _WITHDRAW,
        "RFC 7606 section 7.15",
        _OPTIONAL_ERROR,
        values.check_ipv6_extended_communities,
    ),
    AttributeType.AIGP: Rule(
        _OPTIONAL, _DISCARD, "RFC 7311 section 3", _OPTIONAL_ERROR, values.refuse_aigp, wrong_flags=_DISCARD
    ),
    AttributeType.LARGE_COMMUNITIES: Rule(
        _OPTIONAL_TRANSITIVE,
        _WITHDRAW,
        "RFC 8092 section 6",
        _OPTIONAL_ERROR,
        values.parse_large_communities,
        "packed_large_communities",
    ),
    AttributeType.ONLY_TO_CUSTOMER: Rule(
        _OPTIONAL_TRANSITIVE, _WITHDRAW, "RFC 9234 section 5", _OPTIONAL_ERROR, values.parse_4_bytes
    ),
    AttributeType.PREFIX_SID: Rule(
        _OPTIONAL_TRANSITIVE, _DISCARD, "RFC 8669 section 6", _OPTIONAL_ERROR, values.check_prefix_sid
    ),
    AttributeType.ATTR_SET: Rule(
        _OPTIONAL_TRANSITIVE, _WITHDRAW, "RFC 7606 section 7.16", _OPTIONAL_ERROR, values.check_attr_set
    ),
}
_INTERNAL_ONLY = frozenset((AttributeType.LOCAL_PREF, AttributeType.ORIGINATOR_ID, AttributeType.CLUSTER_LIST))
_FROM_TWO_OCTET_ONLY = (("as4_path", "AS4_PATH"), ("as4_aggregator", "AS4_AGGREGATOR"))
_AS_0 = b"\0\0\0\0"
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


def _key(block: bytes) -> bytes:
    """What a block is looked up by."""
    return block if len(block) <= _LONGEST_KEY else hashlib.blake2b(block, digest_size=32).digest()


def _weight(block: bytes, key: bytes, attributes: Attributes, facts: BlockFacts) -> int:
    """What a block takes: its values are nearly all of its bytes."""
    weight = _BLOCK_BYTES + len(block) + len(key)
    if attributes.unknown or facts.errors:
        weight += _UNKNOWN_BYTES * len(attributes.unknown) + _ERROR_BYTES * len(facts.errors)
    return weight


class AttributeDecoder:
    """The attribute blocks of one session."""

    def __init__(self, negotiated: Negotiated) -> None:
        self._is_ibgp = negotiated.is_ibgp
        self._peer_asn = negotiated.peer_asn
        self._four_octet_as = negotiated.four_octet_as
        self._rules = _rules_for(negotiated)
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

    def decode(self, block: bytes) -> tuple[Attributes, BlockFacts]:
        """Attributes of a block without MP_REACH_NLRI and MP_UNREACH_NLRI; what is malformed in it is left out.

        A block with errors worse than discard is not interned, since no route will refer to it.
        """
        key = _key(block)
        interned = self._interned[hash(key) % _PARTS]
        known = interned.get(key)
        if known is not None:
            attributes = known()
            if attributes is not None:
                return attributes, known.facts
        attributes, facts = self._parse(block)
        if not facts.errors or max(error.reaction.strength for error in facts.errors) <= _DISCARD.strength:
            reference = interned[key] = _Interned(attributes, _forget)
            kept = facts
            if len(facts.errors) > _ERRORS_KEPT:
                kept = msgspec.structs.replace(facts, errors=facts.errors[:_ERRORS_KEPT])
            reference.key, reference.facts, reference.among = key, kept, interned
            reference.kept, reference.weight = self._kept, _weight(block, key, attributes, kept)
            self._kept[0] += reference.weight
        return attributes, facts

    def is_known(self, block: bytes) -> bool:
        """Whether exactly these bytes were decoded as a block before and are still referred to."""
        key = _key(block)
        return key in self._interned[hash(key) % _PARTS]

    def _parse(self, block: bytes) -> tuple[Attributes, BlockFacts]:
        fields: dict[str, Any] = {}
        kept: list[UnknownAttribute] = []
        errors: list[WireError] = []
        seen: set[int] = set()
        repeated: set[int] = set()
        rules = self._rules
        attributes, overrun = values.split_attributes(block)
        for flags, kind, value in attributes:
            rule = rules.get(kind)
            if rule is None or flags & _KIND_FLAGS != rule.flags or kind in seen:
                if kind in seen:
                    repeated.add(kind)
                elif (error := self._irregular(flags, kind, value, kept)) is not None:
                    errors.append(error)
            else:
                try:
                    if rule.field:
                        fields[rule.field] = rule.parse(value)
                    else:
                        rule.parse(value)
                        kept.append(UnknownAttribute(flags & ~_EXTENDED_LENGTH, kind, value))
                except Malformed as malformed:
                    errors.append(self._malformed(kind, rule, str(malformed)))
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
        return Attributes(**fields), self._facts(next_hop, seen, errors)

    def _facts(self, next_hop: bytes, seen: set[int], errors: list[WireError]) -> BlockFacts:
        if not errors and seen >= _MANDATORY:
            facts = self._plain_facts.get(next_hop)
            if facts is None:
                if len(self._plain_facts) >= _PLAIN_FACTS_KEPT:
                    self._plain_facts.clear()
                facts = self._plain_facts[next_hop] = BlockFacts(next_hop)
            return facts
        return BlockFacts(next_hop, tuple(map(name_of, sorted(_MANDATORY - seen))), tuple(errors))

    def _irregular(self, flags: int, kind: int, value: bytes, kept: list[UnknownAttribute]) -> WireError | None:
        """What an attribute costs that is unknown, or has wrong flags."""
        rule = self._rules.get(kind)
        if rule is None:
            return _keep_unknown(flags, kind, value, kept)
        if rule.flags == _NEVER:
            return WireError(_DISCARD, "received from an external peer", rule.section, name_of(kind))
        return _wrong_flags(flags, kind, rule)

    def _malformed(self, kind: int, rule: Rule, message: str) -> WireError:
        return WireError(rule.malformed, message, rule.section, name_of(kind), rule.subcode)

    def _settle(self, fields: dict[str, Any], errors: list[WireError]) -> None:
        """AS4_PATH and AS4_AGGREGATOR: merged for a two-octet peer, else discarded (RFC 6793 sections 4.1, 4.2.3)."""
        if not self._four_octet_as:
            merge_as4(fields)
        elif not _FOR_TWO_OCTET.isdisjoint(fields):
            for field, name in _FROM_TWO_OCTET_ONLY:
                if field in fields:
                    del fields[field]
                    message = "received on a session with 4-octet AS numbers"
                    errors.append(WireError(_DISCARD, message, "RFC 6793 section 4.1", name))
        path = fields.get("packed_as_path")
        if path is not None:
            self._check_as_path(path, errors)

    def _check_as_path(self, path: bytes, errors: list[WireError]) -> None:
        """What makes an AS_PATH unacceptable beyond its syntax."""
        wrong = section = ""
        if path and (path[0] != values.AS_SEQUENCE or len(path) != 2 + 4 * path[1] or _AS_0 in path):
            wrong, section = self._wrong_segments(path)
        if not wrong and self._peer_asn and not self._is_ibgp:
            first = int.from_bytes(path[2:6]) if path and path[0] == values.AS_SEQUENCE else None
            if first != self._peer_asn:
                wrong = f"the path does not start with the peer's AS {self._peer_asn}"
                section = "RFC 4271 section 6.3"
        if wrong:
            errors.append(WireError(_WITHDRAW, wrong, section, "AS_PATH", UpdateSubcode.MALFORMED_AS_PATH))

    def _wrong_segments(self, path: bytes) -> tuple[str, str]:
        """What no segment may hold, with the RFC's section; "" twice if nothing is wrong."""
        for kind, count, at in segments_of(path):
            asns = path[at : at + 4 * count]
            if _AS_0 in asns and 0 in unpack_numbers(asns):
                return "AS 0 in the path", "RFC 7607 section 2"
            if kind in values.CONFEDERATION and not self._is_ibgp:
                return "confederation segment from a peer outside the confederation", "RFC 5065 section 5"
        return "", ""


def _shared_paths(parse: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    """The parser, which gives equal paths of usual length as one object."""
    shared = functools.lru_cache(_AS_PATHS_KEPT)(parse)
    return lambda value: shared(value) if len(value) <= _LONGEST_PATH_KEPT else parse(value)


def _rules_for(negotiated: Negotiated) -> dict[int, Rule]:
    """The rules of a session: 2-octet AS numbers, no internal attributes from external peers, its own shared paths."""
    parse_as_path = values.parse_as_path if negotiated.four_octet_as else values.parse_two_octet_as_path
    changes: dict[int, dict[str, Any]] = {AttributeType.AS_PATH: {"parse": _shared_paths(parse_as_path)}}
    if not negotiated.four_octet_as:
        changes[AttributeType.AGGREGATOR] = {"parse": values.parse_two_octet_aggregator}
    if not negotiated.is_ibgp:
        changes |= {kind: {"flags": _NEVER} for kind in _INTERNAL_ONLY}
    return {int(kind): msgspec.structs.replace(rule, **changes.get(kind, {})) for kind, rule in _RULES.items()}


def name_of(kind: int) -> str:
    """The RFC's name of an attribute type, such as "MULTI_EXIT_DISC"; "ATTRIBUTE_153" for one without a name here."""
    try:
        return AttributeType(kind).name
    except ValueError:
        return f"ATTRIBUTE_{kind}"


def _keep_unknown(flags: int, kind: int, value: bytes, kept: list[UnknownAttribute]) -> WireError | None:
    """An attribute without a rule: kept if transitive, ignored if not, fatal if well-known (RFC 4271 section 5)."""
    if not flags & _OPTIONAL:
        length = len(value).to_bytes(2 if flags & _EXTENDED_LENGTH else 1, "big")
        return WireError(
            Reaction.SESSION_RESET,
            "unrecognized well-known attribute",
            "RFC 4271 section 6.3",
            name_of(kind),
            UpdateSubcode.UNRECOGNIZED_WELL_KNOWN_ATTRIBUTE,
            bytes((flags, kind)) + length + value,
        )
    if not flags & _WELL_KNOWN:
        return WireError(_DISCARD, "unrecognized and not transitive: ignored", "RFC 4271 section 5", name_of(kind))
    kept.append(UnknownAttribute(flags & ~_EXTENDED_LENGTH, kind, value))
    return None


def _wrong_flags(flags: int, kind: int, rule: Rule) -> WireError:
    message = f"flags 0x{flags:02x}: Optional and Transitive must be 0x{rule.flags:02x}"
    section = "RFC 7606 section 3 c" if rule.wrong_flags is _WITHDRAW else rule.section
    return WireError(rule.wrong_flags, message, section, name_of(kind), UpdateSubcode.ATTRIBUTE_FLAGS_ERROR)
