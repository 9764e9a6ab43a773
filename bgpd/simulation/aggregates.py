"""Aggregates that hosts may have, and what is announced because of them: worked out with Python's ipaddress, and not
by bgpd's own aggregation."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from bgpd.config.schema import Config
from bgpd.config.schema_policies import AggregateConfig

KINDS: tuple[dict[str, object] | None, ...] = (
    None,
    {},
    {"summary_only": True},
    {"summary_only": True, "blackhole": True},
    {"auto": "exact"},
)
"""What of aggregates a configuration says, by number; None: it has none."""


class Announced(NamedTuple):
    """Of the prefixes of a host's workloads: what is announced, which of these are aggregates, which of them the kernel
    has as blackholes, and the workloads that are announced by an aggregate only, each with that."""

    prefixes: frozenset[str]
    aggregates: frozenset[str] = frozenset()
    blackholes: frozenset[str] = frozenset()
    suppressed: tuple[tuple[str, str], ...] = ()


def configs(host: int, kind: int, *, is_v6: bool, vrf: str = "") -> tuple[AggregateConfig, ...]:
    """The aggregates of a host, one of each family, all of a kind."""
    fields = KINDS[kind]
    blocks = (f"10.64.{host}.0/24", f"{'fd65' if vrf else 'fd64'}::{host + 1:x}:0/112")
    if fields is None:
        return ()
    return tuple(AggregateConfig(prefix=one, vrf=vrf, **fields) for one in (blocks if is_v6 else blocks[:1]))  # type: ignore[arg-type]


def with_kind(config: Config, host: int, kind: int, *, is_v6: bool, vrf: str = "") -> Config:
    """The same with other aggregates in a VRF, or in none."""
    kept = without(config, vrf).aggregate
    return msgspec.structs.replace(config, aggregate=(*kept, *configs(host, kind, is_v6=is_v6, vrf=vrf)))


def without(config: Config, vrf: str) -> Config:
    """The same without those of a VRF."""
    return msgspec.structs.replace(config, aggregate=tuple(one for one in config.aggregate if one.vrf != vrf))


def announced(config: Config, workloads: Iterable[str], *, vrf: str = "") -> Announced:
    """What a host announces for these workloads, of a VRF or of none."""
    prefixes = set(workloads)
    if not config.aggregate:
        return Announced(frozenset(prefixes))
    aggregates: set[str] = set()
    blackholes: set[str] = set()
    suppressed: list[tuple[str, str]] = []
    for one in (one for one in config.aggregate if one.vrf == vrf):
        block = ipaddress.ip_network(one.prefix)
        inside = [network for network in map(ipaddress.ip_network, sorted(prefixes)) if _is_inside(network, block)]
        if not inside:
            continue
        made = list(ipaddress.collapse_addresses(inside)) if one.auto else [block]  # type: ignore[type-var]
        if one.auto or one.summary_only:
            prefixes.difference_update(map(str, inside))
            within = ((each, outer) for each in inside for outer in made if each != outer and _is_inside(each, outer))
            suppressed += [(str(each), str(outer)) for each, outer in within]
        aggregates.update(str(outer) for outer in made if outer not in inside)
        prefixes.update(map(str, made))
        blackholes.update(map(str, made) if one.blackhole else ())
    return Announced(frozenset(prefixes), frozenset(aggregates), frozenset(blackholes), tuple(suppressed))


def is_inside(prefix: str, block: str) -> bool:
    """Whether a prefix is a part of a block, or all of it."""
    return _is_inside(ipaddress.ip_network(prefix), ipaddress.ip_network(block))


_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def _is_inside(one: _Network, outer: _Network) -> bool:
    return one.version == outer.version and one.subnet_of(outer)  # type: ignore[arg-type]
