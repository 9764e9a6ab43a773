"""Which routes a neighbor may give us or get from us, and how they are changed on the way: built-ins and TOML rules.

A policy runs once per path, not once per route. Only where its rules look at prefixes are the keys of a batch split, by
the *trace*: the rules that matched. Routes with one trace share one verdict. Whoever has no policy has no routes:
`import` must be given (RFC 8212). Never sees a session or a table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from bgpd.config.schema_policies import EXPORT_POLICIES, IMPORT_POLICIES, PolicyConfig, RuleConfig, SetConfig
from bgpd.model.as_path import prepend_as
from bgpd.model.attributes import SIZES, AttributeFields, Attributes, in_pieces, pack_list
from bgpd.model.iana import Family
from bgpd.model.policy_syntax import (
    LONGEST_MATCHED_PATH,
    parse_community,
    parse_extended_community,
    parse_large_community,
)
from bgpd.rib.policy_match import (
    Condition,
    PolicyError,
    PrefixSet,
    Route,
    compile_conditions,
    compile_prefixes,
    signs_of,
)

__all__ = ["DEFAULT_KEY", "Policy", "PolicyError", "Route", "build_policy", "prepend"]

DEFAULT_KEY = b"\0"
"""Route key of 0.0.0.0/0 and of ::/0."""

Trace = tuple[int, ...]
"""The rules that matched, in order; of a built-in (0,) for accepted and () for not."""

Verdict = tuple[Attributes, str]
"""The attributes after the policy, and why it rejects ("" if it accepts)."""


class Policy(Protocol):
    """Two steps, so that the verdict of a trace is worked out once.

    `signs`: bytes of which one stands in the attribute block of each route that is not accepted as it is, so that
    nothing need be asked of others; (): every route is accepted as it is; None: nothing tells. `takes_learned`: whether
    routes learned from neighbors can be accepted at all (on export: false for "local").
    """

    name: str
    by_prefix: bool
    signs: tuple[bytes, ...] | None
    takes_learned: bool

    def split(self, route: Route, keys: Sequence[bytes]) -> list[tuple[Trace, Sequence[bytes]]]:
        """Group keys by the list of rules that match them."""

    def verdict(self, route: Route, trace: Trace) -> Verdict:
        """The verdict on routes with this trace."""


class BuiltInPolicy:
    """ "none", "all", "local" and "default-only"."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.by_prefix = name == "default-only"
        self.signs: tuple[bytes, ...] | None = () if name == "all" else None
        self.takes_learned = name in ("all", "default-only")

    def split(self, route: Route, keys: Sequence[bytes]) -> list[tuple[Trace, Sequence[bytes]]]:
        """Group keys by whether they are accepted: a trace of one rule, or an empty one."""
        if not self.by_prefix:
            accepted = self.name == "all" or (self.name == "local" and route.is_local)
            return [((0,) if accepted else (), keys)]
        if route.family in (Family.L2VPN_EVPN, Family.ROUTE_TARGET) or DEFAULT_KEY not in keys:
            return [((), keys)]
        return [((0,), (DEFAULT_KEY,)), ((), [key for key in keys if key != DEFAULT_KEY])]

    def verdict(self, route: Route, trace: Trace) -> Verdict:
        if trace:
            return route.attributes, ""
        reasons = {"default-only": "not a default route", "local": "not of this host", "none": "nothing is accepted"}
        return route.attributes, f'policy "{self.name}": {reasons[self.name]}'


class _Rule:
    def __init__(self, config: RuleConfig, where: str) -> None:
        if config.action not in ("accept", "reject", "next"):
            raise PolicyError(f"{where}.action", f'"{config.action}" is no action', "one of accept, reject, next")
        self.prefixes: Mapping[Family, PrefixSet] | None = None
        if config.match.prefix:
            self.prefixes = compile_prefixes(config.match.prefix, f"{where}.match.prefix")
        self.conditions: list[Condition] = compile_conditions(config.match, f"{where}.match")
        self.change = compile_change(config.set, f"{where}.set")
        self.action = config.action
        self.signs = signs_of(config.match)
        """Bytes of which one stands in the block of each route that it matches; None: nothing tells."""
        self.leaves_all = (
            config.action != "reject" and self.prefixes is None and not self.conditions and not self.change
        )
        """Whether it matches every route, and leaves it as it is."""

    def holds(self, route: Route) -> bool:
        """Whether the rule can match any route of this path."""
        if self.prefixes is not None and route.family not in self.prefixes:
            return False
        return all(condition(route) for condition in self.conditions)

    def prefix_test(self, family: Family) -> Callable[[bytes], bool] | None:
        """The condition on route keys; None if the rule has none."""
        return None if self.prefixes is None else self.prefixes[family].matches


class RulePolicy:
    """[policy.NAME]: the first rule with "accept" or "reject" that matches ends it; without one the route is rejected.

    With regular expressions over the AS path in any rule, so is a route whose path is longer than they are tried on.

    Raises: PolicyError: a rule cannot be understood.
    """

    def __init__(self, name: str, config: PolicyConfig) -> None:
        self.name = name
        self._rules = [_Rule(rule, f"policy.{name}.rules[{index}]") for index, rule in enumerate(config.rules)]
        self.takes_learned = True
        entries = [entry for rule in config.rules for entry in rule.match.as_path]
        self._has_patterns = not all(entry.isdecimal() for entry in entries)
        self.signs = None if self._has_patterns else self._signs()
        self.by_prefix = self.signs != () and any(rule.prefixes is not None for rule in self._rules)

    def _signs(self) -> tuple[bytes, ...] | None:
        """The signs of all rules up to the one that accepts what has none of them, if that is so."""
        found: list[bytes] = []
        for rule in self._rules:
            if rule.signs is not None:
                found += rule.signs
            elif not rule.leaves_all:
                return None
            elif rule.action == "accept":
                return tuple(dict.fromkeys(found))
        return None

    def split(self, route: Route, keys: Sequence[bytes]) -> list[tuple[Trace, Sequence[bytes]]]:
        if self._is_too_long(route):
            return [((), keys)]
        steps: list[tuple[int, Callable[[bytes], bool] | None, bool]] = []
        for index, rule in enumerate(self._rules):
            if rule.holds(route):
                steps.append((index, rule.prefix_test(route.family), rule.action != "next"))
                if rule.prefixes is None and rule.action != "next":
                    break
        if all(matches is None for _, matches, _ in steps):
            return [(tuple([index for index, _, _ in steps]), keys)]
        by_trace: dict[Trace, list[bytes]] = {}
        for key in keys:
            trace: Trace = ()
            for index, matches, final in steps:
                if matches is None or matches(key):
                    trace += (index,)
                    if final:
                        break
            by_trace.setdefault(trace, []).append(key)
        return list(by_trace.items())

    def _is_too_long(self, route: Route) -> bool:
        return self._has_patterns and route.attributes.asns_in_path > LONGEST_MATCHED_PATH

    def verdict(self, route: Route, trace: Trace) -> Verdict:
        if self._is_too_long(route):
            asns = route.attributes.asns_in_path
            why = f"AS path of {asns} AS numbers, its expressions are tried on {LONGEST_MATCHED_PATH} at most"
            return route.attributes, f'policy "{self.name}": {why}'
        if not trace or self._rules[trace[-1]].action == "next":
            return route.attributes, f'policy "{self.name}": no rule accepts it'
        if self._rules[trace[-1]].action == "reject":
            return route.attributes, f'policy "{self.name}": rejected by rule {trace[-1]}'
        changes = [change for index in trace for change in self._rules[index].change]
        if not changes:
            return route.attributes, ""
        fields = route.attributes.fields
        for change in changes:
            fields = change(fields, route)
        return fields.pack(), ""


Change = Callable[[AttributeFields, Route], AttributeFields]


def compile_change(config: SetConfig, where: str) -> list[Change]:
    """The changes of a rule's `set`, in the order: numbers, communities removed, communities added, AS path.

    Raises: PolicyError: a community cannot be understood.
    """
    changes: list[Change] = []
    numbers = {"local_pref": config.local_pref, "med": config.med}
    given = {name: value for name, value in numbers.items() if value is not None}
    if given:
        changes.append(lambda fields, _: fields.changed(**given))
    kinds: tuple[tuple[str, str, Callable[[str], object], tuple[str, ...], tuple[str, ...], str], ...] = (
        ("community", "communities", parse_community, config.remove_community, config.add_community, "65000:1"),
        (
            "extended_community",
            "extended_communities",
            parse_extended_community,
            config.remove_extended_community,
            config.add_extended_community,
            "rt:65000:1",
        ),
        (
            "large_community",
            "large_communities",
            parse_large_community,
            config.remove_large_community,
            config.add_large_community,
            "65000:1:2",
        ),
    )
    for kind, field, parse, remove, add, example in kinds:
        removed = frozenset(_parse_all(remove, parse, f"{where}.remove_{kind}", example))
        added = _parse_all(add, parse, f"{where}.add_{kind}", example)
        if removed or added:
            changes.append(_community_change(field, removed, tuple(added)))
    if config.prepend:
        count = config.prepend
        changes.append(lambda fields, route: prepend(fields, route.local_asn, count))
    return changes


def _parse_all(entries: tuple[str, ...], parse: Callable[[str], object], where: str, example: str) -> list[object]:
    values = []
    for index, entry in enumerate(entries):
        try:
            values.append(parse(entry))
        except ValueError as error:
            raise PolicyError(f"{where}[{index}]", str(error), f'write it as "{example}"') from None
    return values


def _community_change(field: str, removed: frozenset[object], added: tuple[object, ...]) -> Change:
    name, size = f"packed_{field}", SIZES[field]
    left_out = frozenset(pack_list(field, (value,)) for value in removed)
    appended = [pack_list(field, (value,)) for value in added]

    def change(fields: AttributeFields, _: Route) -> AttributeFields:
        kept = [one for one in in_pieces(getattr(fields, name), size) if one not in left_out]
        kept += [one for one in appended if one not in kept]
        return fields.changed(**{name: b"".join(kept)})

    return change


def prepend(fields: AttributeFields, asn: int, count: int = 1) -> AttributeFields:
    """The values with `asn` put before the AS path `count` times (RFC 4271 section 5.1.2)."""
    return fields.changed(packed_as_path=prepend_as(fields.packed_as_path, asn, count))


def build_policy(name: str, policies: Mapping[str, PolicyConfig], *, where: str, exporting: bool) -> Policy:
    """The policy called `name`: a built-in or one of `policies`.

    Raises: PolicyError: no such policy, or one of its rules cannot be understood.
    """
    built_ins = EXPORT_POLICIES if exporting else IMPORT_POLICIES
    if name in built_ins:
        return BuiltInPolicy(name)
    if name not in policies:
        known = ", ".join((*built_ins, *policies))
        raise PolicyError(where, f'there is no policy "{name}"', f"one of {known}, or add [policy.{name}]")
    return RulePolicy(name, policies[name])
