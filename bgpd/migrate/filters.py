"""Filters of other daemons as rules of a [policy.NAME], exactly or not at all. Sans-IO.

A filter is read into statements: what is tested (with "and", "or", "not"), what is set, "accept", "reject". Its
branches are then written one after the other, each with all that must hold to come there. Since the first rule that
matches decides, "else" and "not" need no negation: they are what comes after. What cannot be said in rules raises
`Inexpressible`, and the caller lets nothing through.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import msgspec

from bgpd.model.iana import Family
from bgpd.model.policy_syntax import PrefixRange, parse_prefix_range
from bgpd.model.prefix import covers, format_key

MOST_RULES = 400
MOST_PREFIXES = 50_000
_MOST_STEPS = 20_000
_MOST_PAIRS = 200_000
LOCAL = "local"
"""A condition that is no field of `match`: the route is this host's own. Its AS path is empty."""
OWN_PATH = "^$"


class Inexpressible(Exception):
    """What stands in a filter that rules cannot say; `line` is where (0: unknown)."""

    def __init__(self, what: str, line: int = 0) -> None:
        super().__init__(what)
        self.line = line


class Match(msgspec.Struct, frozen=True):
    """One field of `match`: any of the values must hold. Without values nothing does."""

    field: str
    values: tuple[str, ...]


class AllOf(msgspec.Struct, frozen=True):
    """Each of these must hold."""

    of: tuple[Condition, ...]


class AnyOf(msgspec.Struct, frozen=True):
    """One of these must hold."""

    of: tuple[Condition, ...]


class Not(msgspec.Struct, frozen=True):
    """This must not hold."""

    of: Condition


Condition = Match | AllOf | AnyOf | Not
ALWAYS = AllOf(())
NEVER = AnyOf(())


class Change(msgspec.Struct, frozen=True):
    """One key of `set`."""

    key: str
    value: int | str


class End(msgspec.Struct, frozen=True):
    """The route is accepted or rejected."""

    accepts: bool


class Branch(msgspec.Struct, frozen=True):
    """What is done where a condition holds, and where not."""

    condition: Condition
    then: tuple[Statement, ...]
    otherwise: tuple[Statement, ...] = ()


Statement = Change | End | Branch
ACCEPT = End(True)
REJECT = End(False)
Rules = list[dict[str, Any]]


def compile_rules(statements: Sequence[Statement], *, default: End) -> Rules:
    """The rules that do what the statements do; a route that comes to their end is treated as `default` says.

    Raises: Inexpressible: rules cannot say it, or it would take too many of them.
    """
    compiler = _Compiler()
    try:
        compiler.run((*statements, default), _Known({}, (), frozenset()))
    except RecursionError:
        raise Inexpressible("its branches are nested too deeply") from None
    return _tidy(compiler.rules)


def followed_by(statements: Sequence[Statement], more: tuple[Statement, ...]) -> tuple[Statement, ...]:
    """A filter whose accepted routes go on to another one."""
    made: list[Statement] = []
    for statement in statements:
        match statement:
            case End(accepts=True):
                made += more
            case Branch():
                then = followed_by(statement.then, more)
                made.append(Branch(statement.condition, then, followed_by(statement.otherwise, more)))
            case _:
                made.append(statement)
    return tuple(made)


def of_learned(statements: Sequence[Statement]) -> tuple[Statement, ...]:
    """What a filter lets through of routes that were learned; what it sets is left out."""
    made: list[Statement] = []
    for statement in statements:
        match statement:
            case Branch():
                condition = _of_learned(statement.condition)
                made.append(Branch(condition, of_learned(statement.then), of_learned(statement.otherwise)))
            case End():
                made.append(statement)
    return tuple(made)


def _of_learned(condition: Condition) -> Condition:
    match condition:
        case AllOf(of=parts):
            return AllOf(tuple(map(_of_learned, parts)))
        case AnyOf(of=parts):
            return AnyOf(tuple(map(_of_learned, parts)))
        case Not(of=inner):
            return Not(_of_learned(inner))
        case Match(field=field) if field == LOCAL:
            return NEVER
    return condition


def named_policy(rules: Rules, *, exporting: bool) -> str | None:
    """The built-in policy that rules are the same as; None if there is none. [] rejects all."""
    if not rules:
        return "none"
    if rules == [{}] or rules == [{"action": "accept"}]:
        return "all"
    if exporting and rules == [{"match": {"as_path": [OWN_PATH]}, "action": "accept"}]:
        return "local"
    default = {"0.0.0.0/0", "::/0"}
    matches = [rule.get("match", {}) for rule in rules]
    if all(rule.keys() <= {"match", "action"} and rule.get("action") == "accept" for rule in rules) and all(
        match.keys() == {"prefix"} and set(match["prefix"]) <= default for match in matches
    ):
        return "default-only" if {one for match in matches for one in match["prefix"]} == default else None
    return None


class _Known(NamedTuple):
    """What is so where a statement stands: what holds, what was set, and which tests have failed."""

    match: dict[str, Any]
    changes: tuple[Change, ...]
    failed: frozenset[Match]


class _Compiler:
    def __init__(self) -> None:
        self.rules: Rules = []
        self._steps = 0

    def run(self, statements: tuple[Statement, ...], known: _Known) -> None:
        """Write the rules of these statements."""
        self._steps += 1
        if self._steps > _MOST_STEPS:
            raise Inexpressible("it has too many branches")
        for index, statement in enumerate(statements):
            match statement:
                case Change():
                    known = known._replace(changes=(*known.changes, statement))
                case End():
                    self._write(known.match, known.changes if statement.accepts else (), statement.accepts)
                    return
                case Branch():
                    self._branch(statement, statements[index + 1 :], known)
                    return

    def _branch(self, branch: Branch, rest: tuple[Statement, ...], known: _Known) -> None:
        then, otherwise = branch.then, branch.otherwise
        condition = _simple(branch.condition)
        match condition:
            case Not():
                self.run((Branch(condition.of, otherwise, then), *rest), known)
            case AllOf(of=()):
                self.run((*then, *rest), known)
            case AllOf(of=(first, *others)):
                inner = Branch(AllOf(tuple(others)), then, otherwise)
                self.run((Branch(first, (inner,), otherwise), *rest), known)
            case AnyOf(of=()):
                self.run((*otherwise, *rest), known)
            case AnyOf(of=(first, *others)):
                inner = Branch(AnyOf(tuple(others)), then, otherwise)
                self.run((Branch(first, then, (inner,)), *rest), known)
            case Match():
                _refuse_test_of_changed(condition, known.changes)
                narrowed = None if condition in known.failed else _narrowed(known.match, condition)
                if narrowed is not None:
                    self.run((*then, *rest), known._replace(match=narrowed))
                if narrowed != known.match:
                    self.run((*otherwise, *rest), known._replace(failed=known.failed | {condition}))

    def _write(self, match: dict[str, Any], changes: tuple[Change, ...], accepts: bool) -> None:
        rule: dict[str, Any] = {}
        if match:
            rule["match"] = _written(match)
        if accepts and (made := _set_of(changes)):
            rule["set"] = made
        rule["action"] = "accept" if accepts else "reject"
        self.rules.append(rule)
        if len(self.rules) > MOST_RULES * 10:
            raise Inexpressible(f"it would take more than {MOST_RULES} rules")


def _refuse_test_of_changed(test: Match, changes: tuple[Change, ...]) -> None:
    """Rules look at a route as it came. Raises: Inexpressible: the test looks at what was changed before it."""
    for change in changes:
        is_same_list = change.key.partition("_")[2] == test.field and change.value in test.values
        if is_same_list or (change.key.startswith("prepend") and test.field in ("as_path", LOCAL)):
            raise Inexpressible(f"it tests {test.field} after it has changed it")


def _simple(condition: Condition) -> Condition:
    """The same condition, with tests of one field in an "or" as one test, and "not" as far inside as it goes."""
    match condition:
        case AnyOf(of=parts):
            simple = [_simple(part) for part in parts]
            joined: list[Condition] = []
            for part in simple:
                last = joined[-1] if joined else None
                if isinstance(part, Match) and isinstance(last, Match) and part.field == last.field != LOCAL:
                    joined[-1] = Match(part.field, tuple(dict.fromkeys(last.values + part.values)))
                else:
                    joined.append(part)
            return joined[0] if len(joined) == 1 else AnyOf(tuple(joined))
        case AllOf(of=(only,)):
            return _simple(only)
        case Not(of=Not(of=inner)):
            return _simple(inner)
        case Match(values=()):
            return NEVER
    return condition


def _narrowed(match: dict[str, Any], test: Match) -> dict[str, Any] | None:
    """What must hold where it held before and the test holds, too; None if that cannot be. Raises: Inexpressible."""
    before = match.get(test.field)
    if before is None:
        narrowed = {**match, test.field: test.values}
    elif set(before) <= set(test.values):
        return match
    elif test.field == "prefix":
        if len(before) * len(test.values) > _MOST_PAIRS:
            raise Inexpressible("two large sets of prefixes that must both hold")
        both = tuple(dict.fromkeys(one for left in before for right in test.values for one in _meet(left, right)))
        if not both:
            return None
        narrowed = {**match, "prefix": both}
    elif test.field in ("family", "neighbor", LOCAL):
        both = tuple(value for value in before if value in test.values)
        if not both:
            return None
        narrowed = {**match, test.field: both}
    else:
        raise Inexpressible(f"two conditions on {test.field} that must both hold")
    return None if _is_impossible(narrowed) else narrowed


def _is_impossible(match: dict[str, Any]) -> bool:
    """Whether no route is of a named family and within a named prefix."""
    if "family" not in match or "prefix" not in match:
        return False
    return not {str(parse_prefix_range(text).family) for text in match["prefix"]} & set(match["family"])


def _meet(left: str, right: str) -> Iterable[str]:
    """The prefixes that two ranges share, as at most one range."""
    one, other = parse_prefix_range(left), parse_prefix_range(right)
    if one.family != other.family:
        return ()
    outer, inner = (one, other) if one.key[0] <= other.key[0] else (other, one)
    if not covers(outer.key, inner.key):
        return ()
    least, most = max(one.least, other.least), min(one.most, other.most)
    return (write_range(PrefixRange(one.family, inner.key, least, most)),) if least <= most else ()


def write_range(found: PrefixRange) -> str:
    """A range as rules write it."""
    prefix, length = format_key(found.family, found.key), found.key[0]
    longest = 32 if found.family is Family.IPV4_UNICAST else 128
    if found.least == found.most == length:
        return prefix
    least = f" ge {found.least}" if found.least != length else ""
    most = f" le {found.most}" if found.most != longest or not least else ""
    return f"{prefix}{least}{most}"


def prefix_range(network: ipaddress.IPv4Network | ipaddress.IPv6Network, least: int, most: int) -> tuple[str, ...]:
    """Routes inside a prefix, or that contain it, whose length is from `least` to `most`; as many texts as it takes."""
    longest = network.max_prefixlen
    least, most = max(0, least), min(longest, most)
    shorter = [network.supernet(new_prefix=length) for length in range(least, min(network.prefixlen, most + 1))]
    found = [str(one) for one in shorter]
    least = max(least, network.prefixlen)
    if least <= most:
        at_least = f" ge {least}" if least != network.prefixlen else ""
        at_most = "" if most == network.prefixlen or (at_least and most == longest) else f" le {most}"
        found.append(f"{network}{at_least}{at_most}")
    return tuple(found)


def _written(match: dict[str, Any]) -> dict[str, Any]:
    """The fields of `match`; "this host's own" by the AS path, which no learned route of another AS has empty."""
    written = {field: list(values) for field, values in match.items() if field != LOCAL}
    if LOCAL in match:
        if "as_path" in written:
            raise Inexpressible("routes of this host only, and a condition on the AS path")
        written["as_path"] = [OWN_PATH]
    return written


_NUMBERS = ("local_pref", "med")


def _set_of(changes: tuple[Change, ...]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for change in changes:
        if change.key in _NUMBERS:
            made[change.key] = change.value
        elif change.key == "prepend":
            made["prepend"] = made.get("prepend", 0) + int(change.value)
        else:
            _note_community(made, change)
    if made.get("prepend", 0) > 16:
        raise Inexpressible(f"the AS number put before the path {made['prepend']} times: 16 at most")
    return made


def _note_community(made: dict[str, Any], change: Change) -> None:
    """Rules take away first and add then: a later removal also undoes an earlier addition."""
    kind = change.key.partition("_")[2]
    added, removed = made.get(f"add_{kind}", []), made.get(f"remove_{kind}", [])
    if change.key.startswith("remove_"):
        added = [one for one in added if one != change.value]
        removed = list(dict.fromkeys((*removed, change.value)))
    else:
        added = list(dict.fromkeys((*added, change.value)))
    for key, values in ((f"add_{kind}", added), (f"remove_{kind}", removed)):
        made.pop(key, None)
        if values:
            made[key] = values


def _tidy(rules: Rules) -> Rules:
    """The same rules with neighbors joined that do the same, and without what the default does anyway."""
    joined: Rules = []
    for rule in rules:
        if joined and (both := _joined(joined[-1], rule)) is not None:
            joined[-1] = both
        else:
            joined.append(rule)
    while joined and joined[-1]["action"] == "reject":
        joined.pop()
    if len(joined) > MOST_RULES:
        raise Inexpressible(f"it would take {len(joined)} rules, more than {MOST_RULES}")
    if sum(len(rule.get("match", {}).get("prefix", ())) for rule in joined) > MOST_PREFIXES:
        raise Inexpressible(f"it would take more than {MOST_PREFIXES} prefixes")
    return joined


def _joined(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any] | None:
    """One rule for two that do the same where one field differs; None if there is none."""
    if first["action"] != second["action"] or first.get("set") != second.get("set"):
        return None
    one, other = first.get("match", {}), second.get("match", {})
    if all(field in one and set(one[field]) <= set(other[field]) for field in other):
        return second  # it matches all that the first one does
    differing = [field for field in one if one[field] != other.get(field)]
    if one.keys() != other.keys() or len(differing) != 1:
        return None
    field = differing[0]
    return {**first, "match": {**one, field: list(dict.fromkeys((*one[field], *other[field])))}}
