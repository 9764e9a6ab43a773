"""What each path attribute must look like, and the reaction when it does not: one table (RFC 7606 sections 3 and 7).

An attribute without a rule here is unknown to bgpd. The values themselves are read by attribute_values.py.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from bgpd.message import attribute_values as values
from bgpd.message import plain_updates as plain
from bgpd.message.open import Negotiated
from bgpd.message.plain_updates import PlainRules
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
_WITHDRAW, _DISCARD = Reaction.TREAT_AS_WITHDRAW, Reaction.ATTRIBUTE_DISCARD


class Rule(msgspec.Struct, frozen=True):
    """How one attribute type is read: its flags, what a malformed value and wrong flags cost, and its parser.

    `subcode` is that of the NOTIFICATION if the error has to reset the session. `field` is where the value goes; an
    attribute without one is validated, then passed on uninterpreted. `not_transitive` is what wrong flags cost if
    Transitive is among them (None: the same).
    """

    flags: int
    malformed: Reaction
    section: str
    subcode: int
    parse: Callable[[bytes], Any]
    field: str = ""
    wrong_flags: Reaction = Reaction.TREAT_AS_WITHDRAW
    not_transitive: Reaction | None = None


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
        Rule(_BOTH, _WITHDRAW, "RFC 9012 section 13", _OPTIONAL_ERROR, values.check_tunnels, not_transitive=_DISCARD),
    AttributeType.IPV6_EXTENDED_COMMUNITIES:
        Rule(_BOTH, _WITHDRAW, "RFC 7606 section 7.15", _OPTIONAL_ERROR, values.check_ipv6_extended_communities),
    AttributeType.AIGP:
        Rule(OPTIONAL, _DISCARD, "RFC 7311 section 3", _OPTIONAL_ERROR, values.refuse_aigp, wrong_flags=_DISCARD),
    AttributeType.LARGE_COMMUNITIES:
        Rule(_BOTH, _WITHDRAW, "RFC 8092 section 6", _OPTIONAL_ERROR, values.parse_large_communities,
             "packed_large_communities"),
    AttributeType.ONLY_TO_CUSTOMER:
        Rule(_BOTH, _WITHDRAW, "RFC 9234 section 5", _OPTIONAL_ERROR, values.parse_number, "only_to_customer"),
    AttributeType.PREFIX_SID:
        Rule(_BOTH, _DISCARD, "RFC 8669 section 6", _OPTIONAL_ERROR, values.check_prefix_sid),
    AttributeType.ATTR_SET:
        Rule(_BOTH, _WITHDRAW, "RFC 7606 section 7.16", _OPTIONAL_ERROR, values.check_attr_set),
}
# fmt: on
RECOGNISED = frozenset(map(int, _RULES))
"""The types that bgpd knows: what it passes on of any other has the Partial bit (RFC 4271 section 5)."""
_INTERNAL_ONLY = frozenset((AttributeType.LOCAL_PREF, AttributeType.ORIGINATOR_ID, AttributeType.CLUSTER_LIST))
_OUTSIDE_ITS_DOMAIN = "RFC 8669 section 4"
"""Of PREFIX_SID from external peers: none of them is configured to be in one SR domain with this host."""


def rules_for(negotiated: Negotiated) -> Mapping[int, Rule]:
    """The rules of a session: AS numbers of two octets or four, no internal attributes from external peers."""
    return _rules(four_octet_as=negotiated.four_octet_as, is_ibgp=negotiated.is_ibgp)


@functools.cache
def _rules(*, four_octet_as: bool, is_ibgp: bool) -> Mapping[int, Rule]:
    """One for all sessions of a kind: there may be hundreds."""
    changes: dict[int, dict[str, Any]] = {}
    if not four_octet_as:
        changes[AttributeType.AS_PATH] = {"parse": values.parse_two_octet_as_path}
        changes[AttributeType.AGGREGATOR] = {"parse": values.parse_two_octet_aggregator}
    if not is_ibgp:
        changes |= {kind: {"flags": NEVER} for kind in _INTERNAL_ONLY}
        changes[AttributeType.PREFIX_SID] = {"flags": NEVER, "section": _OUTSIDE_ITS_DOMAIN}
    return {int(kind): msgspec.structs.replace(rule, **changes.get(kind, {})) for kind, rule in _RULES.items()}


def name_of(kind: int) -> str:
    """The RFC's name of an attribute type, such as "MULTI_EXIT_DISC"; "ATTRIBUTE_153" for one without a name here."""
    try:
        return AttributeType(kind).name
    except ValueError:
        return f"ATTRIBUTE_{kind}"


# Usual values, which are known to be good by their length alone, or by one more look

_MOST = 65_535
_PATH_OF_ONE_SEGMENT = 1022


def plain_rules_for(negotiated: Negotiated) -> PlainRules:
    """What nearly all blocks are made of; nothing on sessions of 2-octet AS numbers."""
    short, long = _usual_heads(four_octet_as=negotiated.four_octet_as, is_ibgp=negotiated.is_ibgp)
    is_any = negotiated.is_ibgp or not negotiated.peer_asn
    return PlainRules(short, long, b"" if is_any else negotiated.peer_asn.to_bytes(4, "big"))


@functools.cache
def _usual_heads(
    *, four_octet_as: bool, is_ibgp: bool
) -> tuple[dict[bytes, tuple[int, int]], dict[bytes, tuple[int, int, int, int]]]:
    """`short` and `long` of PlainRules, one for all sessions of a kind."""
    # Bit, and the unit, the least and the most of the length.
    usual: dict[int, tuple[int, int, int, int]] = {
        AttributeType.ORIGIN: (plain.ORIGIN, 1, 1, 1),
        AttributeType.AS_PATH: (plain.AS_PATH, 2, 0, _PATH_OF_ONE_SEGMENT),
        AttributeType.NEXT_HOP: (plain.NEXT_HOP, 4, 4, 4),
        AttributeType.MULTI_EXIT_DISC: (plain.MED, 4, 4, 4),
        AttributeType.LOCAL_PREF: (plain.LOCAL_PREF, 4, 4, 4),
        AttributeType.ATOMIC_AGGREGATE: (1 << 8, 1, 0, 0),
        AttributeType.AGGREGATOR: (plain.AGGREGATOR, 8, 8, 8),
        AttributeType.COMMUNITIES: (1 << 9, 4, 4, _MOST),
        AttributeType.ORIGINATOR_ID: (1 << 17, 4, 4, 4),
        AttributeType.CLUSTER_LIST: (1 << 18, 4, 4, _MOST),
        AttributeType.EXTENDED_COMMUNITIES: (1 << 19, 8, 8, _MOST),
        AttributeType.LARGE_COMMUNITIES: (plain.LARGE_COMMUNITIES, 12, 12, _MOST),
        AttributeType.ONLY_TO_CUSTOMER: (1 << 10, 4, 4, 4),
    }
    short: dict[bytes, tuple[int, int]] = {}
    long: dict[bytes, tuple[int, int, int, int]] = {}
    rules = _rules(four_octet_as=True, is_ibgp=is_ibgp) if four_octet_as else {}
    for kind, (bit, unit, least, most) in usual.items():
        flags = rules[kind].flags if kind in rules else NEVER
        if flags == NEVER:
            continue
        for head in {flags, flags | int(AttributeFlag.PARTIAL) if flags == _BOTH else flags}:
            long[bytes((head | int(AttributeFlag.EXTENDED_LENGTH), kind))] = bit, unit, least, most
            for size in range(least, min(most, 255) + 1, unit):
                short[bytes((head, kind, size))] = bit, size
    return short, long
