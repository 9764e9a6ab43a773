"""Defined sets and policy definitions of GoBGP as statements of `filters`.

In GoBGP policies are of all neighbors, and a statement may name a set of them; the rules of one neighbor have only what
concerns it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from bgpd.migrate.as_path_patterns import without_delimiters
from bgpd.migrate.draft import Draft, ImportFailed, Table
from bgpd.migrate.filters import (
    ACCEPT,
    ALWAYS,
    NEVER,
    REJECT,
    AllOf,
    AnyOf,
    Branch,
    Change,
    Condition,
    End,
    Inexpressible,
    Match,
    Not,
    Statement,
    prefix_range,
)
from bgpd.migrate.yaml_documents import Mapping
from bgpd.model.policy_syntax import parse_as_path_condition, parse_community, parse_large_community

_NAMES = {"no_export": "no-export", "no_advertise": "no-advertise", "no_export_subconfed": "no-export-subconfed"}
_CONDITIONS = {"match-prefix-set", "match-neighbor-set", "bgp-conditions"}
_BGP_CONDITIONS = {
    "match-community-set", "match-large-community-set", "match-as-path-set", "afi-safi-in-list", "next-hop-in-list",
    "route-type",
}  # fmt: skip
_FAMILIES = ("ipv4-unicast", "ipv6-unicast", "l2vpn-evpn")


class GobgpPolicies:
    """Answers what policies do for one neighbor."""

    def __init__(self, base: Mapping, own_asn: int, draft: Draft) -> None:
        self._own_asn = own_asn
        self._draft = draft
        sets = base.mapping("defined-sets")
        bgp = sets.mapping("bgp-defined-sets")
        self._prefixes = {one.text("prefix-set-name"): one for one in sets.mappings("prefix-sets")}
        self._neighbors = {one.text("neighbor-set-name"): one for one in sets.mappings("neighbor-sets")}
        self._communities = {one.text("community-set-name"): one for one in bgp.mappings("community-sets")}
        self._large = {one.text("large-community-set-name"): one for one in bgp.mappings("large-community-sets")}
        self._paths = {one.text("as-path-set-name"): one for one in bgp.mappings("as-path-sets")}
        self._policies = {one.text("name"): one for one in base.mappings("policy-definitions")}

    def default(self, word: str) -> End:
        """What becomes of a route that no statement decides about."""
        return ACCEPT if word == "accept-route" else REJECT

    def statements(self, names: Sequence[str], table: Table) -> tuple[Statement, ...]:
        """What these policies do with routes of the neighbor that a table describes. Raises: Inexpressible."""
        made: list[Statement] = []
        for name in names:
            if name not in self._policies:
                raise Inexpressible(f'there is no policy-definition "{name}"')
            made += [self._statement(one, table) for one in self._policies[name].mappings("statements")]
        return tuple(made)

    def _statement(self, statement: Mapping, table: Table) -> Branch:
        try:
            condition = self._condition(statement.mapping("conditions"), table)
            actions = statement.mapping("actions")
            changes = self._changes(actions.mapping("bgp-actions"), table)
            end = {"accept-route": (ACCEPT,), "reject-route": (REJECT,)}.get(actions.text("route-disposition"), ())
        except Inexpressible as error:
            raise Inexpressible(str(error), error.line or statement.place.line) from None
        except ImportFailed as error:
            raise Inexpressible(str(error), statement.place.line) from None
        return Branch(condition, (*changes, *end))

    def _condition(self, conditions: Mapping, table: Table) -> Condition:
        bgp = conditions.mapping("bgp-conditions")
        for key in conditions:
            if key not in _CONDITIONS:
                raise Inexpressible(f'"{key}" has no counterpart', conditions.lines.get(key, 0))
        for key in bgp:
            if key not in _BGP_CONDITIONS:
                raise Inexpressible(f'"{key}" has no counterpart', bgp.lines.get(key, 0))
        parts: list[Condition] = [
            self._neighbor_test(conditions.mapping("match-neighbor-set"), table),
            _set_test(conditions.mapping("match-prefix-set"), "prefix-set", self._prefixes, self._in_prefixes),
            _set_test(bgp.mapping("match-community-set"), "community-set", self._communities, _in_communities),
            _set_test(bgp.mapping("match-large-community-set"), "large-community-set", self._large, _in_large),
            _set_test(bgp.mapping("match-as-path-set"), "as-path-set", self._paths, _in_paths),
        ]
        if families := bgp.texts("afi-safi-in-list"):
            parts.append(Match("family", tuple(one if one in _FAMILIES else "route-target" for one in families)))
        if hops := bgp.texts("next-hop-in-list"):
            parts.append(Match("next_hop", tuple(hops)))
        kind = bgp.text("route-type")
        if kind not in ("", "none"):
            if kind not in ("local", "external"):
                raise Inexpressible(f'route-type "{kind}" has no counterpart', bgp.lines.get("route-type", 0))
            local = Match("local", ("local",))
            parts.append(local if kind == "local" else Not(local))
        return AllOf(tuple(parts))

    def _neighbor_test(self, test: Mapping, table: Table) -> Condition:
        """Whether the neighbor itself is meant: known now, and no rule."""
        name = test.text("neighbor-set")
        if not name:
            return ALWAYS
        if name not in self._neighbors:
            raise Inexpressible(f'there is no neighbor-set "{name}"', test.lines.get("neighbor-set", 0))
        who = table.text("address") or table.text("prefix")
        answers = {_is_inside(who, text) for text in self._neighbors[name].texts("neighbor-info-list")}
        if not who or (None in answers and True not in answers):
            what = f'whether this neighbor is in the neighbor-set "{name}" is not known before it connects'
            raise Inexpressible(what, test.lines.get("neighbor-set", 0))
        is_in = True in answers
        is_in = is_in != (test.text("match-set-options") == "invert")
        return ALWAYS if is_in else NEVER

    def _in_prefixes(self, one: Mapping, option: str) -> Condition:
        values: list[str] = []
        for entry in one.mappings("prefix-list"):
            try:
                network = ipaddress.ip_network(entry.text("ip-prefix"), strict=False)
                least, _, most = entry.text("masklength-range").partition("..")
                bounds = (int(least), int(most)) if least else (network.prefixlen, network.prefixlen)
            except ValueError:
                raise Inexpressible("a prefix set that cannot be understood", entry.place.line) from None
            values += prefix_range(network, max(bounds[0], network.prefixlen), bounds[1])
        return Match("prefix", tuple(dict.fromkeys(values)))

    def _changes(self, actions: Mapping, table: Table) -> list[Change]:
        made: list[Change] = []
        for key in actions:
            match key:
                case "set-local-pref" if (number := actions.number(key)) is not None:
                    made.append(Change("local_pref", number))
                case "set-med" if actions.text(key).isdecimal():
                    made.append(Change("med", int(actions.text(key))))
                case "set-community" | "set-large-community":
                    made += self._community_change(actions, key)
                case "set-as-path-prepend" if actions.mapping(key).text("as") == str(self._own_asn):
                    made.append(Change("prepend", actions.mapping(key).number("repeat-n") or 1))
                case "set-ext-community":
                    raise Inexpressible(f'"{key}" has no counterpart', actions.lines.get(key, 0))
                case _:
                    what = f'"{key}" is left out: a policy here cannot say it'
                    self._draft.lose(actions.at(key), what, at=table)
        return made

    def _community_change(self, actions: Mapping, key: str) -> list[Change]:
        change = actions.mapping(key)
        kind = key.removeprefix("set-").replace("-", "_")
        option = change.text("options").lower()
        method = change.mapping(f"{key}-method")
        verb = {"add": "add", "remove": "remove"}.get(option)
        if verb is None:
            raise Inexpressible(f'"{key}" with the option "{option}" has no counterpart', change.place.line)
        return [Change(f"{verb}_{kind}", _literal(text, kind)) for text in method.texts("communities-list")]


def _set_test(test: Mapping, key: str, sets: dict[str, Mapping], read: object) -> Condition:
    name = test.text(key)
    if not name:
        return ALWAYS
    if name not in sets:
        raise Inexpressible(f'there is no {key} "{name}"', test.lines.get(key, 0))
    option = test.text("match-set-options").lower() or "any"
    assert callable(read)
    if option not in ("any", "all", "invert"):
        raise Inexpressible(f'match-set-options "{option}"', test.lines.get("match-set-options", 0))
    condition: Condition = read(sets[name], option)
    return Not(condition) if option == "invert" else condition


def _in_communities(one: Mapping, option: str) -> Condition:
    return _of_communities(one, "community", option)


def _in_large(one: Mapping, option: str) -> Condition:
    return _of_communities(one, "large_community", option)


def _of_communities(one: Mapping, field: str, option: str) -> Condition:
    values = [_literal(text, field) for text in one.texts(f"{field.replace('_', '-')}-list")]
    if option == "all" and len(values) > 1:
        return AllOf(tuple(Match(field, (value,)) for value in values))
    return Match(field, tuple(values))


def _literal(text: str, field: str) -> str:
    """A community that is named in full; GoBGP takes regular expressions, too."""
    bare = text.removeprefix("^").removesuffix("$")
    bare = _NAMES.get(bare.lower().replace("-", "_"), bare)
    try:
        (parse_community if field == "community" else parse_large_community)(bare)
    except ValueError:
        raise Inexpressible(f'"{text}": a regular expression over communities') from None
    return bare


def _in_paths(one: Mapping, option: str) -> Condition:
    patterns = [_path_pattern(text) for text in one.texts("as-path-list")]
    if option == "all" and len(patterns) > 1:
        return AllOf(tuple(Match("as_path", (pattern,)) for pattern in patterns))
    return Match("as_path", tuple(patterns)) if patterns else AnyOf(())


def _path_pattern(text: str) -> str:
    pattern = without_delimiters(text)
    pattern = f"({pattern})" if pattern.isdecimal() else pattern
    try:
        parse_as_path_condition(pattern)
    except ValueError as error:
        raise Inexpressible(str(error)) from None
    return pattern


def _is_inside(who: str, text: str) -> bool | None:
    """Whether an address or prefix is inside a prefix; None if only a part of it is."""
    try:
        inner, outer = ipaddress.ip_network(who, strict=False), ipaddress.ip_network(text, strict=False)
    except ValueError:
        return False
    if inner.version != outer.version or not inner.overlaps(outer):
        return False
    return True if inner.prefixlen >= outer.prefixlen else None
