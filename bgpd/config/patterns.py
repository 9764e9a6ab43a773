"""[[neighbor]] with a pattern for its interface (`interface = "eth*"`): which neighbors it makes on a host.

One for each interface that matches and is in the neighbor's VRF, with the name NAME-INTERFACE. An interface that
another [[neighbor]] names by itself is that one's; of several patterns the first has it. The parts of the daemon are
given the neighbors that were made and know of no pattern, but for one that matches nothing, which stays as it is: so it
is seen. Decides nothing else, and looks at nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple

import msgspec

from bgpd.config.schema import Config
from bgpd.config.schema_sessions import NeighborConfig

MOST_MATCHES = 64
"""Neighbors that one pattern makes; more is taken for a mistake."""
_WILD = frozenset("*?[")
_LOOPBACK = "lo"


class Matched(NamedTuple):
    """A configuration with the neighbors of its patterns, and what is wrong with them on this host."""

    config: Config
    problems: list[str]


def is_pattern(neighbor: NeighborConfig) -> bool:
    """Whether a [[neighbor]] stands for one on each interface that matches."""
    return not _WILD.isdisjoint(neighbor.interface)


def matches(neighbor: NeighborConfig, interface: str) -> bool:
    """Whether a pattern matches an interface, letter by letter (fnmatch(3)); never one whose name is no UTF-8, since
    such a neighbor could not be told of, nor handed over."""
    return interface != _LOOPBACK and _is_text(interface) and fnmatchcase(interface, neighbor.interface)


def _is_text(name: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in name)


def has_patterns(config: Config) -> bool:
    """Whether it matters which interfaces there are."""
    return any(map(is_pattern, config.neighbor))


def may_be_named(neighbors: Iterable[NeighborConfig], name: str) -> bool:
    """Whether a neighbor of a pattern may have the name."""
    return any(
        is_pattern(one) and name.startswith(f"{one.name}-") and matches(one, name.removeprefix(f"{one.name}-"))
        for one in neighbors
    )


def match_neighbors(config: Config, interfaces: Mapping[str, str]) -> Matched:
    """The configuration with neighbors in place of its patterns.

    `interfaces` are those of this host with their VRF ("" is the main table), the oldest first: with too many of them a
    new one takes no other's place.
    """
    if not has_patterns(config):
        return Matched(config, [])
    vrfs = {**interfaces, **{uplink: vrf.name for vrf in config.vrf for uplink in vrf.uplinks if uplink in interfaces}}
    used = {one.interface for one in config.neighbor if not is_pattern(one)}
    names = {one.name for one in config.neighbor}
    found: list[NeighborConfig] = []
    problems: list[str] = []
    for neighbor in config.neighbor:
        if not is_pattern(neighbor):
            found.append(neighbor)
            continue
        every = [name for name, vrf in vrfs.items() if vrf == neighbor.vrf and matches(neighbor, name)]
        free = [name for name in every if name not in used]
        if len(free) > MOST_MATCHES:
            problems.append(_too_many(neighbor, free))
        made = [_made(neighbor, interface) for interface in free[:MOST_MATCHES]]
        clashing = [one for one in made if one.name in names]
        problems += [f"neighbor {one.name}: two [[neighbor]] are to have this name; rename one" for one in clashing]
        made = [one for one in made if one.name not in names]
        used.update(one.interface for one in made)
        names.update(one.name for one in made)
        found += made if every else [neighbor]
    return Matched(msgspec.structs.replace(config, neighbor=tuple(found)), problems)


def _made(neighbor: NeighborConfig, interface: str) -> NeighborConfig:
    return msgspec.structs.replace(neighbor, name=f"{neighbor.name}-{interface}", interface=interface)


def _too_many(neighbor: NeighborConfig, interfaces: Sequence[str]) -> str:
    left_out = ", ".join(interfaces[MOST_MATCHES : MOST_MATCHES + 3])
    return (
        f'neighbor {neighbor.name}: interface = "{neighbor.interface}" matches {len(interfaces)} interfaces, of which'
        f" the {MOST_MATCHES} oldest have a neighbor ({left_out} and so on have none): write a narrower pattern"
    )


def no_match(neighbor: NeighborConfig) -> str:
    """Why a pattern has no neighbor."""
    where = f" in VRF {neighbor.vrf}" if neighbor.vrf else ""
    return f'no interface{where} matches "{neighbor.interface}" now'
