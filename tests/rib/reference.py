"""A naive RIB to hold the real one against: remembers what was said, and works everything out anew when asked."""

from __future__ import annotations

import ipaddress

import msgspec

from bgpd.config.schema import Config
from bgpd.config.schema_policies import RuleConfig
from bgpd.model.attributes import Attributes
from bgpd.model.iana import COMMUNITY_LLGR_STALE, COMMUNITY_NO_ADVERTISE, COMMUNITY_NO_EXPORT
from bgpd.model.next_hop import NextHop
from bgpd.model.policy_syntax import parse_community
from bgpd.model.prefix import format_key
from bgpd.model.source import Source, SourceKind
from tests.rib.build import LOCAL_ASN, V4

Said = tuple[Attributes, NextHop | None]


class Candidate(msgspec.Struct):
    source: Source
    attributes: Attributes
    next_hop: NextHop | None


def _prefix_holds(entry: str, key: bytes) -> bool:
    words = entry.split()
    outer = ipaddress.ip_network(words[0])
    inner = ipaddress.ip_network(format_key(V4, key))
    least = most = outer.prefixlen
    if "ge" in words:
        least, most = int(words[words.index("ge") + 1]), 32
    if "le" in words:
        most = int(words[words.index("le") + 1])
    return inner.subnet_of(outer) and least <= inner.prefixlen <= most  # type: ignore[arg-type]


def _rule_holds(rule: RuleConfig, attributes: Attributes, key: bytes, neighbor: str) -> bool:
    match = rule.match
    if match.prefix and not any(_prefix_holds(entry, key) for entry in match.prefix):
        return False
    if match.community and not any(parse_community(entry) in attributes.communities for entry in match.community):
        return False
    return not match.neighbor or neighbor in match.neighbor


def apply_policy(
    config: Config, name: str, attributes: Attributes, key: bytes, *, neighbor: str, is_local: bool
) -> Attributes | None:
    """The attributes after the policy, or None: rejected."""
    if name == "all" or (name == "local" and is_local) or (name == "default-only" and key == b"\0"):
        return attributes
    if name not in config.policy:
        return None
    changed = attributes
    for rule in config.policy[name].rules:
        if not _rule_holds(rule, attributes, key, neighbor):
            continue
        if rule.action == "reject":
            return None
        if rule.set.local_pref is not None:
            changed = changed.changed(local_pref=rule.set.local_pref)
        if rule.set.add_community:
            added = tuple(parse_community(entry) for entry in rule.set.add_community)
            kept = changed.communities
            changed = changed.changed(communities=(*kept, *[one for one in added if one not in kept]))
        if rule.action == "accept":
            return changed
    return None


def _lowest(candidates: list[Candidate], value) -> list[Candidate]:  # type: ignore[no-untyped-def]
    least = min(value(one) for one in candidates)
    return [one for one in candidates if value(one) == least]


class Reference:
    """What the RIB must come to, from what was said alone."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.said: dict[Source, dict[bytes, Said]] = {}
        self.unreachable: set[NextHop] = set()

    def keys(self) -> set[bytes]:
        return {key for routes in self.said.values() for key in routes}

    def _settings(self, source: Source):  # type: ignore[no-untyped-def]
        return next(one for one in self.config.neighbor if one.name == source.name)

    def candidates(self, key: bytes) -> list[Candidate]:
        """The usable ones."""
        found = []
        for source, routes in self.said.items():
            if key not in routes:
                continue
            attributes, next_hop = routes[key]
            if not source.is_local:
                settings = self._settings(source)
                if attributes.count_as(LOCAL_ASN) > settings.allow_own_as or next_hop in self.unreachable:
                    continue
                if source.kind is SourceKind.EBGP:
                    attributes = attributes.changed(local_pref=None)
                accepted = apply_policy(
                    self.config, settings.import_, attributes, key, neighbor=source.name, is_local=False
                )
                if accepted is None:
                    continue
                attributes = accepted
            found.append(Candidate(source, attributes, next_hop))
        return found

    def multipath(self, key: bytes) -> list[Candidate]:
        """The multipath set, best first."""
        left = self.candidates(key)
        if not left:
            return []
        left = _lowest(left, lambda one: not one.source.is_local)
        left = _lowest(left, lambda one: not one.source.is_local and COMMUNITY_LLGR_STALE in one.attributes.communities)
        left = _lowest(left, lambda one: -(100 if one.attributes.local_pref is None else one.attributes.local_pref))
        left = _lowest(left, lambda one: one.attributes.as_path_length)
        left = _lowest(left, lambda one: one.attributes.origin)
        for one in list(left):
            rivals = [rival for rival in left if rival.attributes.first_asn == one.attributes.first_asn]
            if any((rival.attributes.med or 0) < (one.attributes.med or 0) for rival in rivals):
                left = [other for other in left if other is not one]
        left = _lowest(left, lambda one: one.source.kind is SourceKind.IBGP)
        left.sort(key=lambda one: (one.source.router_id, one.source.address, one.source.name))
        return left if left[0].source.kind is SourceKind.EBGP else left[:1]

    def fib(self) -> dict[bytes, tuple[NextHop, ...]]:
        view = {}
        for key in self.keys():
            chosen = self.multipath(key)
            if chosen and not chosen[0].source.is_local:
                view[key] = tuple(sorted({one.next_hop for one in chosen if one.next_hop is not None}))
        return view

    def told(self, source: Source) -> dict[bytes, tuple[object, ...]]:
        """Contents of the attributes that a neighbor must have been told, by key."""
        told = {}
        for key in self.keys():
            chosen = self.multipath(key)
            if chosen:
                sent = self._sent(source, chosen[0], key)
                if sent is not None:
                    told[key] = msgspec.structs.astuple(sent)
        return told

    def _sent(self, to: Source, best: Candidate, key: bytes) -> Attributes | None:
        local = best.source.is_local
        ibgp = to.kind is SourceKind.IBGP
        communities = best.attributes.communities
        if best.source.name == to.name or (not local and COMMUNITY_NO_ADVERTISE in communities):
            return None
        if not local and (
            (ibgp and best.source.kind is SourceKind.IBGP) or (not ibgp and COMMUNITY_NO_EXPORT in communities)
        ):
            return None
        accepted = apply_policy(
            self.config, self._settings(to).export, best.attributes, key, neighbor=to.name, is_local=local
        )
        if accepted is None:
            return None
        if not local and COMMUNITY_LLGR_STALE in communities:
            return (
                accepted.changed(local_pref=0, communities=(*accepted.communities, COMMUNITY_NO_EXPORT))
                if ibgp
                else None
            )
        if ibgp or local:
            return accepted
        return accepted.changed(med=None)
