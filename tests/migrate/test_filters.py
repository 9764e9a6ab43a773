"""What a filter does, its rules do: random filters are run step by step, and by the policy engine after conversion."""

from __future__ import annotations

import ipaddress
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bgpd.config.schema_policies import PolicyConfig
from bgpd.migrate.filters import (
    ACCEPT,
    ALWAYS,
    LOCAL,
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
    compile_rules,
    named_policy,
    prefix_range,
)
from bgpd.model.iana import Family
from bgpd.model.policy_syntax import parse_community, parse_prefix_range
from bgpd.model.prefix import covers, parse_prefix
from bgpd.rib.policy import Route, build_policy
from tests.rib.build import attributes as attributes_of

PREFIXES = ("10.0.0.0/8", "10.1.0.0/16", "10.1.2.0/24", "192.0.2.1/32", "0.0.0.0/0", "2001:db8::/32", "2001:db8:1::/48")
RANGES = ("10.0.0.0/8 le 32", "10.1.0.0/16 le 24", "10.0.0.0/8 ge 16 le 24", "0.0.0.0/0", "::/0 le 128", "192.0.2.1/32")
COMMUNITIES = ("65000:1", "65000:2")
ONE_FIELD = st.one_of(
    st.lists(st.sampled_from(RANGES), min_size=0, max_size=3).map(lambda values: Match("prefix", tuple(values))),
    st.sampled_from(COMMUNITIES).map(lambda value: Match("community", (value,))),
    st.sampled_from([Match("family", ("ipv4-unicast",)), Match("family", ("ipv6-unicast",)), Match(LOCAL, (LOCAL,))]),
    st.sampled_from([ALWAYS, NEVER]),
)
CONDITIONS: st.SearchStrategy[Condition] = st.recursive(
    ONE_FIELD,
    lambda inner: st.one_of(
        inner.map(Not),
        st.lists(inner, max_size=3).map(lambda parts: AllOf(tuple(parts))),
        st.lists(inner, max_size=3).map(lambda parts: AnyOf(tuple(parts))),
    ),
    max_leaves=5,
)
SIMPLE: st.SearchStrategy[Statement] = st.one_of(
    st.sampled_from([ACCEPT, REJECT]),
    st.sampled_from([Change("local_pref", 50), Change("local_pref", 70), Change("med", 3)]),
    st.sampled_from([Change("add_community", "65000:9"), Change("remove_community", "65000:1")]),
)
STATEMENTS: st.SearchStrategy[tuple[Statement, ...]] = st.lists(
    st.recursive(
        SIMPLE,
        lambda inner: st.builds(
            Branch, CONDITIONS, st.lists(inner, max_size=2).map(tuple), st.lists(inner, max_size=2).map(tuple)
        ),
        max_leaves=5,
    ),
    max_size=4,
).map(tuple)


def holds(condition: Condition, prefix: str, communities: set[str], is_local: bool) -> bool:
    match condition:
        case AllOf(of=parts):
            return all(holds(part, prefix, communities, is_local) for part in parts)
        case AnyOf(of=parts):
            return any(holds(part, prefix, communities, is_local) for part in parts)
        case Not(of=inner):
            return not holds(inner, prefix, communities, is_local)
        case Match(field="prefix", values=values):
            family, key = parse_prefix(prefix)
            found = [parse_prefix_range(text) for text in values]
            return any(
                one.family == family and covers(one.key, key) and one.least <= key[0] <= one.most for one in found
            )
        case Match(field="community", values=values):
            return bool(communities & set(values))
        case Match(field="family", values=values):
            return str(parse_prefix(prefix)[0]) in values
    return is_local


class Outcome(msgspec.Struct, frozen=True):
    accepted: bool
    local_pref: int | None
    med: int | None
    communities: frozenset[str]


def run(statements: tuple[Statement, ...], prefix: str, communities: frozenset[str], is_local: bool) -> Outcome:
    """What a router would do that reads the statements one by one. Tests see the route as it came."""
    changes: dict[str, Any] = {}
    given_communities = set(communities)
    now = set(communities)

    def walk(steps: tuple[Statement, ...]) -> bool | None:
        for step in steps:
            match step:
                case End(accepts=accepts):
                    return accepts
                case Change(key="add_community", value=value):
                    now.add(str(value))
                case Change(key="remove_community", value=value):
                    now.discard(str(value))
                case Change(key=key, value=value):
                    changes[key] = value
                case Branch(condition=condition, then=then, otherwise=otherwise):
                    taken = then if holds(condition, prefix, given_communities, is_local) else otherwise
                    ended = walk(taken)
                    if ended is not None:
                        return ended
        return None

    if not walk(statements):
        return Outcome(False, None, None, frozenset())
    return Outcome(True, changes.get("local_pref"), changes.get("med"), frozenset(now))


def judged(rules: list[dict[str, Any]], prefix: str, communities: frozenset[str], is_local: bool) -> Outcome:
    """What the policy engine does."""
    config = msgspec.convert({"rules": rules}, PolicyConfig)
    policy = build_policy("p", {"p": config}, where="", exporting=False)
    family, key = parse_prefix(prefix)
    path = () if is_local else (65201, 65100)
    attributes = attributes_of(*path, communities=tuple(sorted(map(parse_community, communities))))
    route = Route(
        attributes=attributes,
        next_hop=None,
        family=Family(family),
        neighbor="leaf1",
        local_asn=65203,
        is_local=is_local,
    )
    ((trace, _),) = policy.split(route, [key])
    after, why = policy.verdict(route, trace)
    if why:
        return Outcome(False, None, None, frozenset())
    now = frozenset(f"{value >> 16}:{value & 0xFFFF}" for value in after.communities)
    return Outcome(True, after.local_pref, after.med, now)


@settings(max_examples=300)
@given(STATEMENTS, st.sampled_from(PREFIXES), st.sets(st.sampled_from(COMMUNITIES)).map(frozenset), st.booleans())
def test_rules_do_what_the_statements_do(
    statements: tuple[Statement, ...], prefix: str, communities: frozenset[str], is_local: bool
) -> None:
    try:
        rules = compile_rules(statements, default=REJECT)
    except Inexpressible:
        return
    assert judged(rules, prefix, communities, is_local) == run(statements, prefix, communities, is_local)


def test_two_conditions_on_communities_cannot_be_said() -> None:
    both = AllOf((Match("community", ("65000:1",)), Match("community", ("65000:2",))))
    with pytest.raises(Inexpressible, match="two conditions on community"):
        compile_rules((Branch(both, (ACCEPT,)),), default=REJECT)


def test_ranges_that_must_both_hold_become_what_they_share() -> None:
    both = AllOf((Match("prefix", ("10.0.0.0/8 le 24",)), Match("prefix", ("10.1.0.0/16 le 32", "192.0.2.0/24"))))
    rules = compile_rules((Branch(both, (ACCEPT,)),), default=REJECT)
    assert rules == [{"match": {"prefix": ["10.1.0.0/16 le 24"]}, "action": "accept"}]


def test_a_filter_of_too_many_branches_is_refused_and_does_not_take_for_ever() -> None:
    steps = tuple(
        Branch(Match("community", (f"65000:{number}",)), (Change("local_pref", number),)) for number in range(40)
    )
    with pytest.raises(Inexpressible):
        compile_rules((*steps, ACCEPT), default=REJECT)


def test_a_filter_that_is_nested_without_end_is_refused() -> None:
    condition: Condition = Match("community", ("65000:1",))
    for _ in range(5000):
        condition = AllOf((condition, Match("family", ("ipv4-unicast",))))
    with pytest.raises(Inexpressible, match="nested"):
        compile_rules((Branch(condition, (ACCEPT,)),), default=REJECT)


@pytest.mark.parametrize(
    ("statements", "name"),
    [
        ((ACCEPT,), "all"),
        ((REJECT,), "none"),
        ((Branch(Match(LOCAL, (LOCAL,)), (ACCEPT,)),), "local"),
        ((Branch(Match("prefix", ("0.0.0.0/0", "::/0")), (ACCEPT,)),), "default-only"),
        ((Branch(Match("prefix", ("0.0.0.0/0",)), (ACCEPT,)),), None),
        ((Branch(Match(LOCAL, (LOCAL,)), (Change("med", 1), ACCEPT)),), None),
    ],
)
def test_rules_that_a_built_in_policy_has_get_its_name(statements: tuple[Statement, ...], name: str | None) -> None:
    assert named_policy(compile_rules(statements, default=REJECT), exporting=True) == name


def test_prefixes_that_contain_a_prefix_are_listed() -> None:
    assert prefix_range(ipaddress.ip_network("10.0.0.0/8"), 6, 9) == ("8.0.0.0/6", "10.0.0.0/7", "10.0.0.0/8 le 9")
    assert prefix_range(ipaddress.ip_network("10.0.0.0/8"), 8, 8) == ("10.0.0.0/8",)
    assert prefix_range(ipaddress.ip_network("10.0.0.0/8"), 24, 32) == ("10.0.0.0/8 ge 24",)
