"""Prefix lists, community lists, AS path lists and route maps of FRR as statements of `filters`.

A list that is named and not there lets nothing through in FRR; here it is an error that closes the policy.
"""

from __future__ import annotations

import ipaddress
import itertools
import re
from collections.abc import Callable, Sequence

from bgpd.migrate.as_path_patterns import without_delimiters
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
from bgpd.migrate.frr_text import FrrText, Line, MapEntry, is_address
from bgpd.model.policy_syntax import parse_as_path_condition, parse_community, parse_large_community

_MOST_CHAIN = 2000
_COMMUNITY_NAMES = {"local-AS": "no-export-subconfed", "local-as": "no-export-subconfed", "llgr-stale": "llgr-stale"}
Told = Callable[[Line, str], None]
"""Called for what is left out of a filter without opening it: a preference that cannot be said, say."""


class FrrPolicies:
    """Answers what the lists and route maps of a configuration mean."""

    def __init__(self, text: FrrText, own_asn: int, told: Told) -> None:
        self._text = text
        self._own_asn = own_asn
        self._told = told

    def prefix_list(self, name: str, version: str) -> Condition:
        """Whether a route is in an "ip" or "ipv6" prefix list. Raises: Inexpressible: there is no such list."""
        lines = self._text.prefix_lists.get(f"{version} {name}", [])
        entries = [(line, line.words[3:]) for line in lines if "description" not in line.words[3:4]]
        if not entries:
            raise Inexpressible(f'there is no {version} prefix-list "{name}"')
        return _first_match(entries, lambda words, line: _prefix_entry(words, line, version))

    def access_list(self, name: str, version: str) -> Condition:
        """Whether a route is in an access list. Raises: Inexpressible."""
        lines = self._text.lists.get((f"{version} access-list", name), [])
        if not lines:
            raise Inexpressible(f'there is no access-list "{name}"')
        start = 3 if lines[0].words[0] in ("ip", "ipv6") else 2
        return _first_match([(line, line.words[start:]) for line in lines], _access_entry)

    def communities(self, kind: str, name: str) -> Condition:
        """Whether a route has communities of a list ("community-list", "large-community-list")."""
        lines = self._text.lists.get((kind, name), [])
        if not lines:
            raise Inexpressible(f'there is no {kind} "{name}"')
        large = kind.startswith("large")
        entries = [(line, line.words[line.words.index(name) + 1 :]) for line in lines]
        is_expanded = "expanded" in lines[0].words
        return _first_match(entries, lambda words, line: _communities(words, line, large, is_expanded))

    def as_path(self, name: str) -> Condition:
        """Whether the AS path of a route is matched by an access list. Raises: Inexpressible."""
        lines = self._text.lists.get(("as-path", name), [])
        if not lines:
            raise Inexpressible(f'there is no as-path access-list "{name}"')
        entries = [(line, line.words[line.words.index(name) + 1 :]) for line in lines]
        return _first_match(entries, _as_path_entry)

    def route_map(self, name: str) -> tuple[Statement, ...]:
        """What a route map does, ending in "reject". Raises: Inexpressible."""
        if name not in self._text.route_maps:
            raise Inexpressible(f'there is no route-map "{name}"')
        entries = sorted(self._text.route_maps[name], key=lambda entry: entry.number)
        return self._entries(entries, REJECT, 0)

    def _entries(self, entries: Sequence[MapEntry], default: End, depth: int) -> tuple[Statement, ...]:
        if depth > 20:
            raise Inexpressible("too many entries go on to others")
        made: list[Statement] = []
        for index, entry in enumerate(entries):
            condition = self._condition(entry)
            if not entry.permits:
                made.append(Branch(condition, (REJECT,)))
                continue
            rest = _goes_on_with(entry, entries[index + 1 :])
            # One that goes on is permitted where nothing follows, and denied where none of what follows matches.
            end = self._entries(rest, REJECT, depth + 1) if rest else (ACCEPT,)
            made.append(Branch(condition, (*self._changes(entry), *end)))
        return (*made, default)

    def _condition(self, entry: MapEntry) -> Condition:
        parts = [self._match(line) for line in entry.lines if line.words[0] == "match"]
        for line in entry.lines:
            if line.words[0] == "call":
                raise Inexpressible(f'"{line}"', line.place.line)
        return AllOf(tuple(parts)) if parts else ALWAYS

    def _match(self, line: Line) -> Condition:
        match line.words[1:]:
            case ("ip" | "ipv6" as version, "address", "prefix-list", name):
                return self.prefix_list(name, version)
            case ("ip" | "ipv6", "address", "prefix-len", _):  # its zebra alone looks at it
                raise Inexpressible(f'"{line}", which FRR overlooks in filters of neighbors', line.place.line)
            case ("ip" | "ipv6" as version, "address", name):
                return self.access_list(name, version)
            case ("community", name) | ("community", name, "any"):
                return self.communities("community-list", name)
            case ("large-community", name):
                return self.communities("large-community-list", name)
            case ("as-path", name):
                return self.as_path(name)
            case ("ip" | "ipv6", "next-hop", "address", address) if is_address(address):
                return Match("next_hop", (address,))
            case ("peer", "local"):
                return Match("local", ("local",))
        raise Inexpressible(f'"{line}" has no counterpart', line.place.line)

    def _changes(self, entry: MapEntry) -> list[Change]:
        return [change for line in entry.lines if line.words[0] == "set" for change in self._change(line)]

    def _change(self, line: Line) -> list[Change]:
        match line.words[1:]:
            case ("local-preference", number) if number.isdecimal():
                return [Change("local_pref", int(number))]
            case ("metric", number) if number.isdecimal():
                return [Change("med", int(number))]
            case ("community", *values):
                return self._added(line, list(values), "add_community")
            case ("large-community", *values):
                return self._added(line, list(values), "add_large_community")
            case ("comm-list", name, "delete"):
                found = self.communities("community-list", name)
                if not isinstance(found, Match):
                    raise Inexpressible(f'"{line}" has no counterpart', line.place.line)
                return [Change("remove_community", value) for value in found.values]
            case ("as-path", "prepend", *numbers) if numbers and set(numbers) == {str(self._own_asn)}:
                return [Change("prepend", len(numbers))]
            case ("community" | "large-community" | "extcommunity" | "comm-list" | "large-comm-list", *_):
                raise Inexpressible(f'"{line}" has no counterpart', line.place.line)
        self._told(line, f'"{line}" is left out: a policy here cannot say it')
        return []

    def _added(self, line: Line, values: list[str], key: str) -> list[Change]:
        additive = "additive" in values
        values = [value for value in values if value != "additive"]
        if values == ["none"]:
            raise Inexpressible(f'"{line}" has no counterpart', line.place.line)
        if not additive:
            self._told(line, f'"{line}" replaces the communities of a route in FRR; here it adds to them')
        parse = _community if key == "add_community" else _large_community
        return [Change(key, parse(value, line)) for value in values]


def _goes_on_with(entry: MapEntry, after: Sequence[MapEntry]) -> Sequence[MapEntry] | None:
    """The entries that a matching entry goes on with; None if it is the last word."""
    for line in entry.lines:
        match line.words:
            case ("continue",) | ("on-match", "next"):
                return after
            case ("continue", number) | ("on-match", "goto", number) if number.isdecimal():
                return [one for one in after if one.number >= int(number)]
    return None


def _first_match(
    entries: list[tuple[Line, tuple[str, ...]]], read: Callable[[tuple[str, ...], Line], Condition]
) -> Condition:
    """Whether the first entry that matches permits; entries are ordered by their "seq", if they have one."""
    numbered = []
    for position, (line, words) in enumerate(entries):
        number = position
        if words[:1] == ("seq",) and len(words) > 1 and words[1].isdecimal():
            number, words = int(words[1]), words[2:]
        if not words or words[0] not in ("permit", "deny"):
            raise Inexpressible(f'"{line}" cannot be understood', line.place.line)
        numbered.append((number, words[0] == "permit", read(words[1:], line)))
    numbered.sort(key=lambda entry: entry[0])
    if sum(left[1] != right[1] for left, right in itertools.pairwise(numbered)) > _MOST_CHAIN:
        raise Inexpressible("a list in which permit and deny take turns too often")
    return _decided(numbered)


def _decided(numbered: list[tuple[int, bool, Condition]]) -> Condition:
    runs: list[tuple[bool, list[Condition]]] = []
    for _, permits, condition in numbered:
        if runs and runs[-1][0] == permits:
            runs[-1][1].append(condition)
        else:
            runs.append((permits, [condition]))
    decided: Condition = NEVER
    for permits, conditions in reversed(runs):
        any_of = _any(conditions)
        decided = AnyOf((any_of, decided)) if permits else AllOf((Not(any_of), decided))
    match decided:
        case AnyOf(of=(only, AnyOf(of=()))):
            return only
    return decided


def _any(conditions: list[Condition]) -> Condition:
    fields = {condition.field for condition in conditions if isinstance(condition, Match)}
    if len(fields) == 1 and all(isinstance(condition, Match) for condition in conditions):
        values = [value for condition in conditions if isinstance(condition, Match) for value in condition.values]
        return Match(fields.pop(), tuple(dict.fromkeys(values)))
    return conditions[0] if len(conditions) == 1 else AnyOf(tuple(conditions))


def _prefix_entry(words: tuple[str, ...], line: Line, version: str) -> Condition:
    bits = 32 if version == "ip" else 128
    if words[:1] == ("any",):
        return Match("prefix", prefix_range(ipaddress.ip_network("0.0.0.0/0" if bits == 32 else "::/0"), 0, bits))
    try:
        network = ipaddress.ip_network(words[0], strict=False)
        least = int(words[words.index("ge") + 1]) if "ge" in words else network.prefixlen
        most = int(words[words.index("le") + 1]) if "le" in words else (bits if "ge" in words else network.prefixlen)
    except (ValueError, IndexError):
        raise Inexpressible(f'"{line}" cannot be understood', line.place.line) from None
    if network.max_prefixlen != bits:
        raise Inexpressible(f'"{line}" is of the other IP version', line.place.line)
    return Match("prefix", prefix_range(network, max(least, network.prefixlen), most))


def _access_entry(words: tuple[str, ...], line: Line) -> Condition:
    if words == ("any",):
        return Match("prefix", ("0.0.0.0/0 le 32",) if line.words[0] != "ipv6" else ("::/0 le 128",))
    try:
        network = ipaddress.ip_network(words[0], strict=False)
    except (ValueError, IndexError):
        raise Inexpressible(f'"{line}" cannot be understood', line.place.line) from None
    if "/" not in words[0] or (len(words) > 1 and words[1:] != ("exact-match",)):
        raise Inexpressible(f'"{line}" has no counterpart', line.place.line)
    most = network.prefixlen if len(words) > 1 else network.max_prefixlen
    return Match("prefix", prefix_range(network, network.prefixlen, most))


_DELIMITED = re.compile(r"(?:_|\^|\\b)([0-9]+(?::[0-9]+){1,2})(?:_|\$|\\b)")


def _communities(words: tuple[str, ...], line: Line, large: bool, is_expanded: bool) -> Condition:
    if is_expanded:
        found = _DELIMITED.fullmatch(words[0]) if len(words) == 1 else None
        if found is None or words[0].startswith("^") or words[0].endswith("$"):
            raise Inexpressible(f'"{line}": a regular expression over communities', line.place.line)
        words = (found[1],)
    if words == ("internet",) or not words:
        return ALWAYS
    parse = _large_community if large else _community
    parts = [Match("large_community" if large else "community", (parse(word, line),)) for word in words]
    return parts[0] if len(parts) == 1 else AllOf(tuple(parts))


def _community(text: str, line: Line) -> str:
    name = _COMMUNITY_NAMES.get(text, text.lower())
    try:
        parse_community(name)
    except ValueError as error:
        raise Inexpressible(f'"{line}": {error}', line.place.line) from None
    return name


def _large_community(text: str, line: Line) -> str:
    try:
        parse_large_community(text)
    except ValueError as error:
        raise Inexpressible(f'"{line}": {error}', line.place.line) from None
    return text


def _as_path_entry(words: tuple[str, ...], line: Line) -> Condition:
    return Match("as_path", (as_path_pattern(" ".join(words), line),))


def as_path_pattern(pattern: str, line: Line) -> str:
    """A regular expression over AS paths as rules have it: a bare number is no whole AS number.

    Raises: Inexpressible: it cannot be said.
    """
    written = without_delimiters(pattern)
    written = f"({written})" if written.isdecimal() else written
    try:
        parse_as_path_condition(written)
    except ValueError as error:
        raise Inexpressible(f'"{line}": {error}', line.place.line) from None
    return written
