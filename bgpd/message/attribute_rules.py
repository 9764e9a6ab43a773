"""What each path attribute must look like, and the reaction when it does not: one table (RFC 7606 sections 3 and 7).

An attribute without a rule here is unknown to bgpd. The values themselves are read by attribute_values.py.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import msgspec

from bgpd.message import attribute_values as values
from bgpd.message.open import Negotiated
from bgpd.model.attributes import Attributes
from bgpd.model.iana import AttributeFlag, AttributeType, UpdateSubcode
from bgpd.model.wire import Reaction

KIND_FLAGS = int(AttributeFlag.OPTIONAL | AttributeFlag.TRANSITIVE)
"""The flags that a type has always: what they say otherwise is an error (RFC 7606 section 3 c)."""
WELL_KNOWN = int(AttributeFlag.TRANSITIVE)
OPTIONAL = int(AttributeFlag.OPTIONAL)
PASSED_FLAGS = KIND_FLAGS | int(AttributeFlag.PARTIAL)
"""The flags that are kept of an attribute: the low four bits mean nothing (RFC 4271 section 4.3)."""
NEVER = -1
"""Flags that no attribute has: the type is not accepted on the session at all."""
_BOTH = KIND_FLAGS
_AS_PATHS_KEPT = 4096
_LONGEST_PATH_KEPT = 128
"""Blocks differ in their communities more than in their paths: equal paths of usual length are shared."""
_WITHDRAW, _DISCARD = Reaction.TREAT_AS_WITHDRAW, Reaction.ATTRIBUTE_DISCARD


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


TOLD_WHOLE = frozenset(
    (
        UpdateSubcode.ATTRIBUTE_FLAGS_ERROR,
        UpdateSubcode.ATTRIBUTE_LENGTH_ERROR,
        UpdateSubcode.INVALID_ORIGIN,
        UpdateSubcode.INVALID_NEXT_HOP,
        UpdateSubcode.OPTIONAL_ATTRIBUTE_ERROR,
    )
)
"""Errors whose NOTIFICATION has the attribute in error as its data (RFC 4271 section 6.3)."""
_LENGTH = UpdateSubcode.ATTRIBUTE_LENGTH_ERROR
_OPTIONAL_ERROR = UpdateSubcode.OPTIONAL_ATTRIBUTE_ERROR
_ORIGIN, _PATH, _HOP = (
    UpdateSubcode.INVALID_ORIGIN,
    UpdateSubcode.MALFORMED_AS_PATH,
    UpdateSubcode.INVALID_NEXT_HOP,
)

# fmt: off
_RULES: dict[int, Rule] = {
    AttributeType.ORIGIN:
        Rule(WELL_KNOWN, _WITHDRAW, "RFC 7606 section 7.1", _ORIGIN, values.parse_origin, "origin"),
    AttributeType.AS_PATH:
        Rule(WELL_KNOWN, _WITHDRAW, "RFC 7606 section 7.2", _PATH, values.parse_as_path, "packed_as_path"),
    AttributeType.NEXT_HOP:
        Rule(WELL_KNOWN, _WITHDRAW, "RFC 7606 section 7.3", _HOP, values.parse_4_bytes, "next_hop"),
    AttributeType.MULTI_EXIT_DISC:
        Rule(OPTIONAL, _WITHDRAW, "RFC 7606 section 7.4", _LENGTH, values.parse_number, "med"),
    AttributeType.LOCAL_PREF:
        Rule(WELL_KNOWN, _WITHDRAW, "RFC 7606 section 7.5", _LENGTH, values.parse_number, "local_pref"),
    AttributeType.ATOMIC_AGGREGATE:
        Rule(WELL_KNOWN, _DISCARD, "RFC 7606 section 7.6", _LENGTH, values.parse_empty, "atomic_aggregate", _DISCARD),
    AttributeType.AGGREGATOR:
        Rule(_BOTH, _DISCARD, "RFC 7606 section 7.7", _LENGTH, values.parse_aggregator, "aggregator", _DISCARD),
    AttributeType.COMMUNITIES:
        Rule(_BOTH, _WITHDRAW, "RFC 7606 section 7.8", _OPTIONAL_ERROR, values.parse_communities, "packed_communities"),
    AttributeType.ORIGINATOR_ID:
        Rule(OPTIONAL, _WITHDRAW, "RFC 7606 section 7.9", _LENGTH, values.parse_4_bytes, "originator_id"),
    AttributeType.CLUSTER_LIST:
        Rule(OPTIONAL, _WITHDRAW, "RFC 7606 section 7.10", _LENGTH, values.parse_cluster_list, "packed_cluster_list"),
    AttributeType.EXTENDED_COMMUNITIES:
        Rule(_BOTH, _WITHDRAW, "RFC 7606 section 7.14", _OPTIONAL_ERROR, values.parse_extended_communities,
             "packed_extended_communities"),
    AttributeType.AS4_PATH:
        Rule(_BOTH, _DISCARD, "RFC 6793 section 6", _OPTIONAL_ERROR, values.parse_as4_path, "as4_path"),
    AttributeType.AS4_AGGREGATOR:
        Rule(_BOTH, _DISCARD, "RFC 6793 section 6", _LENGTH, values.parse_aggregator, "as4_aggregator", _DISCARD),
    AttributeType.PMSI_TUNNEL:
        Rule(_BOTH, _WITHDRAW, "RFC 6514 section 5", _OPTIONAL_ERROR, values.check_pmsi_tunnel),
    AttributeType.TUNNEL_ENCAPSULATION:
        Rule(_BOTH, _WITHDRAW, "RFC 9012 section 13", _OPTIONAL_ERROR, values.check_tunnels),
    AttributeType.IPV6_EXTENDED_COMMUNITIES:
        Rule(_BOTH, _WITHDRAW, "RFC 7606 section 7.15", _OPTIONAL_ERROR, values.check_ipv6_extended_communities),
    AttributeType.AIGP:
        Rule(OPTIONAL, _DISCARD, "RFC 7311 section 3", _OPTIONAL_ERROR, values.refuse_aigp, wrong_flags=_DISCARD),
    AttributeType.LARGE_COMMUNITIES:
        Rule(_BOTH, _WITHDRAW, "RFC 8092 section 6", _OPTIONAL_ERROR, values.parse_large_communities,
             "packed_large_communities"),
    AttributeType.ONLY_TO_CUSTOMER:
        Rule(_BOTH, _WITHDRAW, "RFC 9234 section 5", _OPTIONAL_ERROR, values.parse_4_bytes),
    AttributeType.PREFIX_SID:
        Rule(_BOTH, _DISCARD, "RFC 8669 section 6", _OPTIONAL_ERROR, values.check_prefix_sid),
    AttributeType.ATTR_SET:
        Rule(_BOTH, _WITHDRAW, "RFC 7606 section 7.16", _OPTIONAL_ERROR, values.check_attr_set),
}
# fmt: on
RECOGNISED = frozenset(map(int, _RULES))
"""The types that bgpd knows: what it passes on of any other has the Partial bit (RFC 4271 section 5)."""
_INTERNAL_ONLY = frozenset((AttributeType.LOCAL_PREF, AttributeType.ORIGINATOR_ID, AttributeType.CLUSTER_LIST))


def rules_for(negotiated: Negotiated) -> dict[int, Rule]:
    """The rules of a session: 2-octet AS numbers, no internal attributes from external peers, its own shared paths."""
    parse_as_path = values.parse_as_path if negotiated.four_octet_as else values.parse_two_octet_as_path
    changes: dict[int, dict[str, Any]] = {AttributeType.AS_PATH: {"parse": _shared(parse_as_path)}}
    if not negotiated.four_octet_as:
        changes[AttributeType.AGGREGATOR] = {"parse": values.parse_two_octet_aggregator}
    if not negotiated.is_ibgp:
        changes |= {kind: {"flags": NEVER} for kind in _INTERNAL_ONLY}
    return {int(kind): msgspec.structs.replace(rule, **changes.get(kind, {})) for kind, rule in _RULES.items()}


def _shared(parse: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    """The parser, which gives equal paths of usual length as one object."""
    shared = functools.lru_cache(_AS_PATHS_KEPT)(parse)
    return lambda value: shared(value) if len(value) <= _LONGEST_PATH_KEPT else parse(value)


def name_of(kind: int) -> str:
    """The RFC's name of an attribute type, such as "MULTI_EXIT_DISC"; "ATTRIBUTE_153" for one without a name here."""
    try:
        return AttributeType(kind).name
    except ValueError:
        return f"ATTRIBUTE_{kind}"


# The usual values, which are known to be good by their length alone, or by one more look.

PlainRule = tuple[int, int, int, int, int, bool, Callable[[bytes], Any] | None]
"""Bit and place of a type, the unit that its length must be a multiple of, the least and the most bytes, whether the
length has two bytes, and what makes the value of the bytes (None: they are the value). None as the value, or Malformed,
is not usual."""

PLAIN_FIELDS = (*Attributes.__struct_fields__, "next_hop")
"""The places of the values."""
_MOST = 65_535


def plain_rules_for(negotiated: Negotiated) -> dict[bytes, PlainRule]:
    """By flags and type byte, for the attributes that nearly all blocks are made of; empty on sessions of 2-octet AS
    numbers."""
    if not negotiated.four_octet_as:
        return {}
    usual: dict[int, tuple[int, int, int, Callable[[bytes], Any] | None]] = {
        AttributeType.ORIGIN: (1, 1, 1, values.ORIGINS.get),
        AttributeType.AS_PATH: (2, 0, _LONGEST_PATH_KEPT, _usual_path(negotiated)),
        AttributeType.NEXT_HOP: (4, 4, 4, None),
        AttributeType.MULTI_EXIT_DISC: (4, 4, 4, int.from_bytes),
        AttributeType.LOCAL_PREF: (4, 4, 4, int.from_bytes),
        AttributeType.ATOMIC_AGGREGATE: (1, 0, 0, values.parse_empty),
        AttributeType.AGGREGATOR: (8, 8, 8, values.parse_aggregator),
        AttributeType.COMMUNITIES: (4, 4, _MOST, None),
        AttributeType.ORIGINATOR_ID: (4, 4, 4, None),
        AttributeType.CLUSTER_LIST: (4, 4, _MOST, None),
        AttributeType.EXTENDED_COMMUNITIES: (8, 8, _MOST, None),
        AttributeType.LARGE_COMMUNITIES: (12, 12, _MOST, values.parse_large_communities),
    }
    found: dict[bytes, PlainRule] = {}
    for kind, rule in rules_for(negotiated).items():
        if kind in usual and rule.flags != NEVER:
            unit, least, most, make = usual[kind]
            place = PLAIN_FIELDS.index(rule.field)
            for extended in (0, int(AttributeFlag.EXTENDED_LENGTH)):
                found[bytes((rule.flags | extended, kind))] = (
                    1 << place,
                    place,
                    unit,
                    least,
                    most,
                    bool(extended),
                    make,
                )
    return found


def _usual_path(negotiated: Negotiated) -> Callable[[bytes], bytes | None]:
    """One sequence without AS 0 that starts with the external peer's AS, or nothing from an internal peer; equal ones
    are one object. Else None."""
    first = b"" if negotiated.is_ibgp or not negotiated.peer_asn else negotiated.peer_asn.to_bytes(4, "big")

    def usual(path: bytes) -> bytes | None:
        if not path:
            return None if first else path
        is_sequence = path[0] == values.AS_SEQUENCE and len(path) == 2 + 4 * path[1] > 2 and values.AS_0 not in path
        return path if is_sequence and path.startswith(first, 2) else None

    return functools.lru_cache(_AS_PATHS_KEPT)(usual)
