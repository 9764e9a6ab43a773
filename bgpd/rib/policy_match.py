"""The conditions of a policy rule, compiled: which of them hold for a route, and the text forms they are written in.

Conditions look at the route as it was received (or, on export, as it is in the Loc-RIB), not as earlier rules changed
it. The condition on the prefix is kept apart, since it alone differs between the routes of one UPDATE.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from functools import lru_cache

import msgspec

from bgpd.config.schema_policies import MatchConfig
from bgpd.model.as_path import as_path_text
from bgpd.model.attributes import Attributes, pack_list
from bgpd.model.iana import Family
from bgpd.model.next_hop import NextHop
from bgpd.model.policy_syntax import (
    parse_as_path_condition,
    parse_community,
    parse_extended_community,
    parse_large_community,
)
from bgpd.model.prefix import address_length


class PolicyError(ValueError):
    """A policy that cannot be used: `where` is the key path in the configuration, `right` what would be right."""

    def __init__(self, where: str, what: str, right: str) -> None:
        super().__init__(f"{where}: {what}; {right}")
        self.where = where
        self.what = what
        self.right = right


class Route(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """What a policy sees of the routes of one path. `neighbor` is the name of the one it comes from or goes to.

    `local_asn` is the AS number this host shows to that neighbor. `is_local`: originated on this host.
    """

    attributes: Attributes
    next_hop: NextHop | None
    family: Family
    neighbor: str
    local_asn: int
    is_local: bool = False


Condition = Callable[[Route], bool]


class PrefixSet:
    """Prefixes of one family, each with the range of lengths it takes; one look-up per distinct length."""

    def __init__(self) -> None:
        self._ranges: dict[int, dict[int, list[tuple[int, int]]]] = {}

    def add(self, network: ipaddress.IPv4Network | ipaddress.IPv6Network, shortest: int, longest: int) -> None:
        """Take prefixes inside `network` whose length is `shortest` to `longest`."""
        value = int(network.network_address) >> (network.max_prefixlen - network.prefixlen)
        self._ranges.setdefault(network.prefixlen, {}).setdefault(value, []).append((shortest, longest))

    def matches(self, key: bytes) -> bool:
        """Whether the prefix of a route key is in the set."""
        length = key[0]
        value = int.from_bytes(key[1:], "big")
        bits = 8 * (len(key) - 1)
        for outer, networks in self._ranges.items():
            if outer <= length:
                for shortest, longest in networks.get(value >> (bits - outer), ()):
                    if shortest <= length <= longest:
                        return True
        return False


_PREFIX_RIGHT = 'write "10.0.0.0/8", "10.0.0.0/8 le 32" or "10.0.0.0/8 ge 24 le 32"'


def compile_prefixes(entries: tuple[str, ...], where: str) -> dict[Family, PrefixSet]:
    """Prefix sets by family of a rule's `prefix` condition.

    Raises: PolicyError: an entry is no prefix, or its range of lengths is empty.
    """
    sets: dict[Family, PrefixSet] = {}
    for index, entry in enumerate(entries):
        network, shortest, longest = _parse_prefix_range(entry, f"{where}[{index}]")
        family = Family.IPV4_UNICAST if network.version == 4 else Family.IPV6_UNICAST
        sets.setdefault(family, PrefixSet()).add(network, shortest, longest)
    return sets


def _parse_prefix_range(entry: str, where: str) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, int, int]:
    words = entry.split()
    bounds = dict(zip(words[1::2], words[2::2]))
    well_formed = len(words) % 2 and words[1::2] in ([], ["ge"], ["le"], ["ge", "le"])
    if not well_formed or not all(bound.isdecimal() for bound in bounds.values()):
        raise PolicyError(where, f'"{entry}" is not a prefix with optional ge and le', _PREFIX_RIGHT)
    try:
        network = ipaddress.ip_network(words[0])
    except ValueError as error:
        raise PolicyError(where, f'"{words[0]}": {error}', _PREFIX_RIGHT) from None
    length = network.prefixlen
    shortest = int(bounds.get("ge", length))
    longest = int(bounds.get("le", network.max_prefixlen if "ge" in bounds else length))
    if not length <= shortest <= longest <= network.max_prefixlen:
        right = f"lengths must rise: {length} <= ge <= le <= {network.max_prefixlen}"
        raise PolicyError(where, f'"{entry}" takes no prefix at all', right)
    return network, shortest, longest


def signs_of(match: MatchConfig) -> list[bytes] | None:
    """Bytes of which one stands in the attribute block of each route for which the conditions hold; None: no such."""
    if match.community:
        return [parse_community(entry).to_bytes(4, "big") for entry in match.community]
    if match.large_community:
        return [pack_list("large_communities", (parse_large_community(entry),)) for entry in match.large_community]
    if match.extended_community:
        return [parse_extended_community(entry) for entry in match.extended_community]
    if match.as_path and all(entry.isdecimal() for entry in match.as_path):
        return [int(entry).to_bytes(4, "big") for entry in match.as_path]
    return None


def compile_conditions(match: MatchConfig, where: str) -> list[Condition]:
    """All conditions of a rule but the one on the prefix; all must hold.

    Raises: PolicyError: an entry cannot be understood.
    """
    compilers: tuple[tuple[str, tuple[str, ...], Callable[[str], Condition], str], ...] = (
        ("as_path", match.as_path, _as_path, 'write an ASN ("65001") or a regular expression ("^65001 65002$")'),
        ("community", match.community, _community, 'write "65000:1" or a well-known name such as "no-export"'),
        (
            "extended_community",
            match.extended_community,
            _extended,
            'write "rt:65000:1", "soo:65000:1", "bandwidth:65000:1250000000" or hex digits',
        ),
        ("large_community", match.large_community, _large, 'write "65000:1:2"'),
        ("next_hop", match.next_hop, _next_hop, 'write an address or a prefix, such as "10.0.1.2"'),
        ("family", match.family, _family, f"one of {', '.join(Family)}"),
        ("neighbor", match.neighbor, _neighbor, "write a neighbor's name"),
    )
    conditions = []
    for name, entries, compiler, right in compilers:
        alternatives = []
        for index, entry in enumerate(entries):
            try:
                alternatives.append(compiler(entry))
            except ValueError as error:
                raise PolicyError(f"{where}.{name}[{index}]", str(error), right) from None
        if alternatives:
            conditions.append(_any_of(alternatives))
    return conditions


def _any_of(alternatives: list[Condition]) -> Condition:
    if len(alternatives) == 1:
        return alternatives[0]
    return lambda route: any(alternative(route) for alternative in alternatives)


_path_text = lru_cache(maxsize=8)(as_path_text)
"""Kept for a moment: all expressions of a policy look at one path after the other."""


def _as_path(entry: str) -> Condition:
    wanted = parse_as_path_condition(entry)
    if isinstance(wanted, int):
        return lambda route: route.attributes.count_as(wanted) > 0
    return lambda route: wanted.matches(_path_text(route.attributes.packed_as_path))


def _community(entry: str) -> Condition:
    value = parse_community(entry)
    return lambda route: route.attributes.has_community(value)


def _extended(entry: str) -> Condition:
    value = parse_extended_community(entry)
    return lambda route: route.attributes.has_extended_community(value)


def _large(entry: str) -> Condition:
    value = parse_large_community(entry)
    return lambda route: route.attributes.has_large_community(value)


def _next_hop(entry: str) -> Condition:
    network = ipaddress.ip_network(entry)
    length = address_length(Family.IPV4_UNICAST if network.version == 4 else Family.IPV6_UNICAST)
    shift = network.max_prefixlen - network.prefixlen
    value = int(network.network_address) >> shift

    def holds(route: Route) -> bool:
        address = b"" if route.next_hop is None else route.next_hop.address
        return len(address) == length and int.from_bytes(address, "big") >> shift == value

    return holds


def _family(entry: str) -> Condition:
    family = Family(entry)
    return lambda route: route.family is family


def _neighbor(entry: str) -> Condition:
    return lambda route: route.neighbor == entry
