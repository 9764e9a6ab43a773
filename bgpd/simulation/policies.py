"""Policies that hosts may have for their neighbors, and what each means for a route: worked out from what it should
do, and not by bgpd's own policies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from bgpd.config.schema import Config
from bgpd.config.schema_policies import MatchConfig, PolicyConfig, RuleConfig, SetConfig
from bgpd.simulation.wire import Route

MARK = 64512 << 16 | 1
"""The community by which hosts mark routes."""
_MARK = "64512:1"
_FIRST = MatchConfig(prefix=("10.64.0.0/24 ge 32", "fd64::1:0/112 ge 128"))
"""The workloads of the first host."""
_SECOND = tuple(f"10.64.{host}.2/32" for host in range(8)) + tuple(f"fd64::{host:x}:2/128" for host in range(1, 9))
"""The second workload of each host."""
_OWN = MatchConfig(as_path=("^$",))
_ACCEPT = RuleConfig()
CHANGING = "changing"
"""A policy of which the rules change."""


def _policy(*rules: RuleConfig) -> PolicyConfig:
    return PolicyConfig(rules=rules)


def _reject(match: MatchConfig) -> RuleConfig:
    return RuleConfig(match=match, action="reject")


IMPORTS: Mapping[str, PolicyConfig] = {
    "prefer": _policy(RuleConfig(set=SetConfig(local_pref=200))),
    "avoid": _policy(RuleConfig(set=SetConfig(local_pref=50))),
    "without-first": _policy(_reject(_FIRST), _ACCEPT),
    "without-marked": _policy(_reject(MatchConfig(community=(_MARK,))), _ACCEPT),
}
EXPORTS: Mapping[str, PolicyConfig] = {
    "mark": _policy(RuleConfig(match=_OWN, set=SetConfig(add_community=(_MARK,)))),
    "prepend": _policy(RuleConfig(match=_OWN, set=SetConfig(prepend=1))),
    "without-second": _policy(_reject(MatchConfig(prefix=_SECOND)), RuleConfig(match=_OWN)),
}
ALL: dict[str, PolicyConfig] = {**IMPORTS, **EXPORTS, CHANGING: IMPORTS["prefer"]}
"""Those of each host's configuration."""
IMPORTED = ("all", *IMPORTS, CHANGING, "none")
EXPORTED = ("local", *EXPORTS, "none")
"""What a neighbor may have."""


class Sort(NamedTuple):
    """What policies see of a prefix."""

    is_first: bool = False
    is_second: bool = False

    @classmethod
    def of(cls, prefix: str) -> Sort:
        """What they see of this one."""
        is_first = prefix.startswith(("10.64.0.", "fd64::1:")) and prefix.endswith(("/32", "/128"))
        return cls(is_first, prefix in _SECOND)


PLAIN = Sort()


class Said(NamedTuple):
    """How a neighbor announces a prefix."""

    as_path: tuple[int, ...]
    is_marked: bool = False


def said(config: Config, export: str, sort: Sort) -> Said | None:
    """How a host announces what it owns to a neighbor; None: not at all."""
    asn, meaning = config.router.asn, _meaning(config, export, EXPORTS)
    if meaning == "none" or (meaning == "without-second" and sort.is_second):
        return None
    return Said((asn, asn) if meaning == "prepend" else (asn,), meaning == "mark")


def preference(config: Config, import_: str, sort: Sort, *, is_default: bool, is_marked: bool) -> int | None:
    """LOCAL_PREF of what a neighbor announces, at a host; None: it does not take it."""
    match _meaning(config, import_, IMPORTS):
        case "all":
            return 100
        case "prefer":
            return 200
        case "avoid":
            return 50
        case "default-only":
            return 100 if is_default else None
        case "without-first":
            return None if sort.is_first else 100
        case "without-marked":
            return None if is_marked else 100
        case _:
            return None


def takes_all(config: Config, import_: str) -> bool:
    """Whether a host takes all of a neighbor but what is about certain prefixes, which routes of tenants are not."""
    return all(
        preference(config, import_, PLAIN, is_default=False, is_marked=is_marked) is not None
        for is_marked in (False, True)
    )


def _meaning(config: Config, name: str, known: Mapping[str, PolicyConfig]) -> str:
    """The name in `known` of the policy that a configuration has by this name."""
    if name not in config.policy:
        return name
    return next((one for one, policy in known.items() if policy == config.policy[name]), "")


def is_as_said(route: Route, wanted: Said) -> bool:
    """Whether a router was told a route as it should be."""
    return route.as_path == wanted.as_path and (MARK in route.communities) is wanted.is_marked


def with_rules(config: Config, name: str) -> Config:
    """The same, where the policy whose rules change has those of another."""
    return msgspec.structs.replace(config, policy={**config.policy, CHANGING: IMPORTS[name]})
