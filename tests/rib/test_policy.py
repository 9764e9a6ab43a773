"""Policies: what the rules match and change, that they run once per path, and what their errors say."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgpd.config.check_sessions import check_policies
from bgpd.config.schema_policies import MatchConfig, PolicyConfig, RuleConfig, SetConfig
from bgpd.model.as_path import AsPathSegment, as_path_text, pack_as_path
from bgpd.model.attributes import Attributes
from bgpd.model.iana import COMMUNITY_NO_EXPORT, Family, SegmentType
from bgpd.model.next_hop import NextHop
from bgpd.model.prefix import key_of
from bgpd.rib.policy import DEFAULT_KEY, PolicyError, Route, RulePolicy, build_policy, prepend
from bgpd.rib.policy_match import compile_prefixes
from tests.rib.build import LOCAL_ASN, V4, Recorder, attributes, configuration, hop, key, leaf, session


def route(taken: Attributes, *, next_hop: NextHop | None = None, family: Family = V4, neighbor: str = "leaf1") -> Route:
    return Route(attributes=taken, next_hop=next_hop, family=family, neighbor=neighbor, local_asn=LOCAL_ASN)


def verdicts(policy: RulePolicy, seen: Route, *keys: bytes) -> dict[bytes, tuple[Attributes, str]]:
    return {
        one: policy.verdict(seen, trace) for trace, chosen in policy.split(seen, keys or (b"\0",)) for one in chosen
    }


def accepts(match: MatchConfig, seen: Route, one: bytes = b"\0") -> bool:
    policy = RulePolicy("p", PolicyConfig(rules=(RuleConfig(match=match),)))
    return not verdicts(policy, seen, one)[one][1]


@pytest.mark.parametrize(
    ("entry", "prefix", "expected"),
    [
        ("10.0.0.0/8", "10.0.0.0/8", True),
        ("10.0.0.0/8", "10.1.0.0/16", False),
        ("10.0.0.0/8 le 16", "10.1.0.0/16", True),
        ("10.0.0.0/8 le 16", "10.1.0.0/17", False),
        ("10.0.0.0/8 ge 17", "10.1.0.0/16", False),
        ("10.0.0.0/8 ge 17", "10.1.2.3/32", True),
        ("10.0.0.0/8 ge 9 le 12", "10.16.0.0/12", True),
        ("10.64.8.0/22 le 32", "10.64.12.0/32", False),
        ("0.0.0.0/0 le 32", "192.0.2.1/32", True),
        ("0.0.0.0/0", "0.0.0.0/0", True),
        ("10.64.8.0/22 le 32", "10.0.0.0/8", False),
    ],
)
def test_prefix_condition(entry: str, prefix: str, expected: bool) -> None:
    assert accepts(MatchConfig(prefix=(entry,)), route(attributes(1)), key(prefix)) is expected


@pytest.mark.parametrize(
    ("entry", "next_hop", "expected"),
    [
        ("10.0.1.2", hop("10.0.1.2"), True),
        ("10.0.1.2", hop("::10.0.1.2"), False),
        ("10.0.0.0/8", hop("a00:102::1"), False),
        ("0.0.0.0/0", hop("2001:db8::1"), False),
        ("0.0.0.0/0", hop("::1"), False),
        ("0.0.0.0/0", None, False),
        ("0.0.0.0/32", None, False),
        ("::/0", None, False),
        ("::/0", hop("2001:db8::1"), True),
        ("::10.0.1.2", hop("10.0.1.2"), False),
        ("2001:db8::/33", hop("2001:db8:7fff::1"), True),
        ("2001:db8::/33", hop("2001:db8:8000::1"), False),
        ("fe80::/10", hop("fe80::1", "eth0"), True),
        ("10.0.1.2/31", hop("10.0.1.3"), True),
        ("10.0.1.2/31", hop("10.0.1.4"), False),
        ("10.0.1.2/31", hop("10.0.1.1"), False),
    ],
)
@pytest.mark.parametrize("family", [Family.IPV4_UNICAST, Family.IPV6_UNICAST])
def test_condition_on_the_next_hop_looks_at_its_own_family_and_not_at_the_route_s(
    entry: str, next_hop: NextHop | None, expected: bool, family: Family
) -> None:
    seen = route(attributes(1), next_hop=next_hop, family=family)
    assert accepts(MatchConfig(next_hop=(entry,)), seen) is expected


@st.composite
def networks(draw: st.DrawFn) -> ipaddress.IPv4Network:
    value = draw(st.integers(0, 0xF)) << 28 | draw(st.integers(0, 15))
    return ipaddress.IPv4Network((value, draw(st.integers(0, 32))), strict=False)


@given(st.lists(st.tuples(networks(), st.integers(0, 32), st.integers(0, 32)), max_size=5), networks())
def test_prefix_sets_agree_with_ipaddress(
    entries: list[tuple[ipaddress.IPv4Network, int, int]], asked: ipaddress.IPv4Network
) -> None:
    valid = [(outer, low, high) for outer, low, high in entries if outer.prefixlen <= low <= high]
    sets = compile_prefixes(tuple(f"{outer} ge {low} le {high}" for outer, low, high in valid), "x")
    expected = any(asked.subnet_of(outer) and low <= asked.prefixlen <= high for outer, low, high in valid)
    assert (V4 in sets and sets[V4].matches(key_of(asked))) is expected


@pytest.mark.parametrize(
    ("match", "expected"),
    [
        (MatchConfig(as_path=("65301",)), True),
        (MatchConfig(as_path=("653",)), False),
        (MatchConfig(as_path=("^65201 65301$",)), True),
        (MatchConfig(as_path=("^65301",)), False),
        (MatchConfig(as_path=("9", "65201")), True),
        (MatchConfig(community=("65000:1",)), True),
        (MatchConfig(community=("no-export",)), True),
        (MatchConfig(community=("65000:2",)), False),
        (MatchConfig(extended_community=("rt:65000:7",)), True),
        (MatchConfig(extended_community=("soo:65000:7",)), False),
        (MatchConfig(extended_community=("0002fde800000007",)), True),
        (MatchConfig(large_community=("65000:1:2",)), True),
        (MatchConfig(large_community=("65000:1:3",)), False),
        (MatchConfig(next_hop=("10.0.1.2",)), True),
        (MatchConfig(next_hop=("10.0.0.0/23",)), True),
        (MatchConfig(next_hop=("::/0",)), False),
        (MatchConfig(family=("ipv4-unicast",)), True),
        (MatchConfig(family=("ipv6-unicast",)), False),
        (MatchConfig(neighbor=("leaf1",)), True),
        (MatchConfig(neighbor=("spine1", "leaf1")), True),
        (MatchConfig(as_path=("65301",), neighbor=("spine1",)), False),
        (MatchConfig(), True),
    ],
)
def test_conditions_on_the_path(match: MatchConfig, expected: bool) -> None:
    taken = attributes(
        65201,
        65301,
        communities=(65000 << 16 | 1, COMMUNITY_NO_EXPORT),
        extended_communities=(b"\0\2\xfd\xe8\0\0\0\7",),
        large_communities=((65000, 1, 2),),
    )
    assert accepts(match, route(taken, next_hop=hop("10.0.1.2"))) is expected


def test_changes_of_next_rules_add_up_and_the_first_accept_ends() -> None:
    policy = RulePolicy(
        "p",
        PolicyConfig(
            rules=(
                RuleConfig(set=SetConfig(local_pref=200, add_community=("1:1",)), action="next"),
                RuleConfig(match=MatchConfig(prefix=("10.0.0.0/8 le 32",)), set=SetConfig(med=4, prepend=1)),
                RuleConfig(match=MatchConfig(prefix=("11.0.0.0/8",)), action="reject"),
                RuleConfig(
                    match=MatchConfig(prefix=("12.0.0.0/8",)),
                    set=SetConfig(
                        remove_community=("2:2",), add_extended_community=("rt:1:1",), add_large_community=("1:1:1",)
                    ),
                ),
            )
        ),
    )
    seen = route(attributes(65201, communities=(2 << 16 | 2,)))
    tens, elevens, twelves, others = key("10.1.0.0/16"), key("11.0.0.0/8"), key("12.0.0.0/8"), key("13.0.0.0/8")
    found = verdicts(policy, seen, tens, elevens, twelves, others)
    both = (2 << 16 | 2, 1 << 16 | 1)
    assert found[tens][0].same_as(attributes(LOCAL_ASN, 65201, local_pref=200, med=4, communities=both))
    assert found[elevens][1] == 'policy "p": rejected by rule 2'
    assert found[others][1] == 'policy "p": no rule accepts it'
    assert found[twelves][0].same_as(
        attributes(
            65201,
            local_pref=200,
            communities=(1 << 16 | 1,),
            extended_communities=(b"\0\2\0\1\0\0\0\1",),
            large_communities=((1, 1, 1),),
        )
    )


def test_keys_are_not_looked_at_where_no_prefix_condition_can_decide() -> None:
    policy = RulePolicy(
        "p",
        PolicyConfig(
            rules=(
                RuleConfig(match=MatchConfig(prefix=("2001:db8::/32",)), action="reject"),
                RuleConfig(match=MatchConfig(community=("1:1",), prefix=("10.0.0.0/8",)), action="reject"),
                RuleConfig(),
                RuleConfig(match=MatchConfig(prefix=("10.0.0.0/8",)), action="reject"),
            )
        ),
    )
    keys = (b"\0", key("10.0.0.0/8"))
    assert policy.split(route(attributes(1)), keys) == [((2,), keys)]


@pytest.mark.parametrize(
    ("name", "exporting", "accepted"),
    [
        ("none", False, []),
        ("all", False, [DEFAULT_KEY, b"\x08\x0a"]),
        ("default-only", False, [DEFAULT_KEY]),
        ("local", True, []),
    ],
)
def test_built_in_policies(name: str, exporting: bool, accepted: list[bytes]) -> None:
    policy = build_policy(name, {}, where="x", exporting=exporting)
    seen = route(attributes(1))
    found = [
        one
        for trace, keys in policy.split(seen, [DEFAULT_KEY, b"\x08\x0a"])
        for one in keys
        if not policy.verdict(seen, trace)[1]
    ]
    assert found == accepted


def test_local_is_no_import_policy() -> None:
    with pytest.raises(PolicyError, match='there is no policy "local"'):
        build_policy("local", {}, where="neighbor[0].import", exporting=False)


@pytest.mark.parametrize(
    ("rule", "where", "what"),
    [
        (RuleConfig(match=MatchConfig(prefix=("10.0.0.1/8",))), "match.prefix[0]", "has host bits set"),
        (RuleConfig(match=MatchConfig(prefix=("10.0.0.0/8 lt 9",))), "match.prefix[0]", "is not a prefix with"),
        (RuleConfig(match=MatchConfig(prefix=("10.0.0.0/8 le x",))), "match.prefix[0]", "is not a prefix with"),
        (RuleConfig(match=MatchConfig(prefix=("",))), "match.prefix[0]", "is not a prefix with"),
        (RuleConfig(match=MatchConfig(prefix=("10.0.0.0/8 ge 8 ge 9",))), "match.prefix[0]", "is not a prefix with"),
        (RuleConfig(match=MatchConfig(prefix=("10.0.0.0/8 le 33",))), "match.prefix[0]", "takes no prefix at all"),
        (RuleConfig(match=MatchConfig(prefix=("10.0.0.0/8 ge 20 le 19",))), "match.prefix[0]", "takes no prefix"),
        (RuleConfig(match=MatchConfig(as_path=("1", "("))), "match.as_path[1]", "missing )"),
        (RuleConfig(match=MatchConfig(as_path=("_65001_",))), "match.as_path[0]", "word boundary"),
        (RuleConfig(match=MatchConfig(as_path=("4294967296",))), "match.as_path[0]", "from 0 to 4294967295"),
        (RuleConfig(match=MatchConfig(community=("1:65536",))), "match.community[0]", "from 0 to 65535"),
        (RuleConfig(match=MatchConfig(large_community=("1:2",))), "match.large_community[0]", "write ASN:A:B"),
        (RuleConfig(match=MatchConfig(extended_community=("rt:1",))), "match.extended_community[0]", "route target"),
        (RuleConfig(match=MatchConfig(extended_community=("00",))), "match.extended_community[0]", "16 hex digits"),
        (RuleConfig(match=MatchConfig(next_hop=("leaf1",))), "match.next_hop[0]", "leaf1"),
        (RuleConfig(match=MatchConfig(family=("ipv4",))), "match.family[0]", "ipv4"),
        (RuleConfig(set=SetConfig(add_community=("x",))), "set.add_community[0]", "write ASN:VALUE"),
        (RuleConfig(action="permit"), "action", '"permit" is no action'),
    ],
)
def test_bad_rule_is_told_with_its_place(rule: RuleConfig, where: str, what: str) -> None:
    policy = PolicyConfig(rules=(RuleConfig(), rule))
    with pytest.raises(PolicyError) as caught:
        RulePolicy("p", policy)
    assert caught.value.where == f"policy.p.rules[1].{where}"
    assert what in caught.value.what
    assert caught.value.right


def some(*texts: str) -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(st.sampled_from(texts), max_size=1).map(tuple)


COMMUNITIES = some("65000:1", "no-export", "NO_EXPORT", "1:65536", "65536:1", "1", ":", "1:2:3", "a:b", " 1:1", "1:+1")
EXTENDED = some("rt:1:1", "rt:65536:65536", "soo:10.0.0.1:7", "rt:1", "xx:1:1", "0002fde800000007", "00", "rt:1:-1", "")
LARGE = some("1:2:3", "1:2", "4294967296:1:1", "1:2:3:4", "x:1:1", "")
PREFIXES = some(
    "10.0.0.0/8", "10.0.0.1/8", "10.0.0.0/8 le 7", "10.0.0.0/8 le 24", "10.0.0.0/8 ge 9 le 8", "::/0 ge 64",
    "10.0.0.0/8 le", "", "10.0.0.0/8 eq 8", "10.0.0.1", "10.0.0.0/8 le 24 ge 9", "10.0.0.0/8 ge 8 ge 9", "::/0 le 129",
    "0.0.0.0/0 le 032", "10.0.0.0/8 le -1", "10.0.0.0/8 ge 9 le 9", " 10.0.0.0/8",
)  # fmt: skip
MATCHES = st.builds(
    MatchConfig,
    prefix=PREFIXES,
    as_path=some("65001", "(", "^1 2$", "4294967296", "_1_", "", "0"),
    community=COMMUNITIES,
    extended_community=EXTENDED,
    large_community=LARGE,
    next_hop=some("10.0.0.1", "10.0.0.0/24", "10.0.0.1/24", "x", "::1", ""),
    family=some("ipv4-unicast", "ipv4"),
)
SETS = st.builds(
    SetConfig, add_community=COMMUNITIES, remove_extended_community=EXTENDED, add_large_community=LARGE
)  # fmt: skip


@given(st.builds(RuleConfig, match=MATCHES, set=SETS, action=st.sampled_from(("accept", "accept", "reject", "permit"))))
def test_configuration_check_and_policy_agree_on_what_is_right(rule: RuleConfig) -> None:
    """`bgpd check` has checks of its own: what they let through must compile, what they refuse must not be needed."""
    policy = PolicyConfig(rules=(rule,))
    findings = list(check_policies(configuration(policy={"p": policy})))
    try:
        RulePolicy("p", policy)
        wrong = ""
    except PolicyError as error:
        wrong = str(error)
    assert bool(wrong) == bool(findings), (wrong, findings)


def test_path_too_long_for_expressions_is_rejected_whatever_the_rules_say() -> None:
    """Cut off, it could match what it does not; and a rule that rejects would let it by."""
    for condition, rejected in (("9", False), ("^9", True)):
        rules = (RuleConfig(match=MatchConfig(as_path=(condition,)), action="reject"), RuleConfig())
        policy = RulePolicy("p", PolicyConfig(rules=rules))
        kind = SegmentType.AS_SEQUENCE
        long = Attributes.of(as_path=(AsPathSegment(kind, (1,) * 255), AsPathSegment(kind, (2, 3))))
        why = 'policy "p": AS path of 257 AS numbers, its expressions are tried on 256 at most'
        one = key("10.0.0.0/8")
        assert verdicts(policy, route(long), one) == {one: (long, why if rejected else "")}


def test_as_path_text_shows_all_segment_types() -> None:
    kinds = (SegmentType.AS_CONFED_SEQUENCE, SegmentType.AS_CONFED_SET, SegmentType.AS_SEQUENCE, SegmentType.AS_SET)
    shown = as_path_text(pack_as_path(AsPathSegment(kind, (1, 2)) for kind in kinds))
    assert shown == "(1 2) [1,2] 1 2 {1,2}"


def test_prepending_to_a_set_or_a_full_segment_starts_a_new_one() -> None:
    ours = AsPathSegment(SegmentType.AS_SEQUENCE, (7, 7))
    as_set = AsPathSegment(SegmentType.AS_SET, (1, 2))
    assert prepend(Attributes.of(as_path=(as_set,)), 7, 2).as_path == (ours, as_set)
    full = attributes(*range(1, 255))
    assert prepend(full, 7, 2).as_path == (ours, *full.as_path)
    assert prepend(attributes(1), 7, 2).as_path == attributes(7, 7, 1).as_path


TAGGED = MatchConfig(community=("65000:1", "no-export"))
TAGS = (b"\xfd\xe8\0\1", b"\xff\xff\xff\1")


@pytest.mark.parametrize(
    ("rules", "signs"),
    [
        ((RuleConfig(),), ()),
        ((RuleConfig(), RuleConfig(match=MatchConfig(prefix=("10.0.0.0/8",)), action="reject")), ()),
        ((RuleConfig(action="next"), RuleConfig()), ()),
        ((RuleConfig(match=TAGGED, action="reject"), RuleConfig()), TAGS),
        ((RuleConfig(match=TAGGED, set=SetConfig(med=1)), RuleConfig(match=TAGGED), RuleConfig()), TAGS),
        (
            (
                RuleConfig(match=MatchConfig(large_community=("1:2:3",), prefix=("10.0.0.0/8",))),
                RuleConfig(match=MatchConfig(extended_community=("rt:1:2",)), action="next"),
                RuleConfig(match=MatchConfig(as_path=("65001",), family=("ipv4-unicast",)), action="reject"),
                RuleConfig(),
            ),
            (b"\0\0\0\1\0\0\0\2\0\0\0\3", b"\0\2\0\1\0\0\0\2", b"\0\0\xfd\xe9"),
        ),
        ((RuleConfig(action="reject"),), None),
        ((RuleConfig(match=TAGGED),), None),
        ((RuleConfig(match=TAGGED), RuleConfig(action="reject"), RuleConfig()), None),
        ((RuleConfig(match=TAGGED), RuleConfig(set=SetConfig(local_pref=50))), None),
        ((RuleConfig(match=MatchConfig(neighbor=("leaf1",)), action="reject"), RuleConfig()), None),
        ((RuleConfig(match=MatchConfig(next_hop=("10.0.0.1",)), action="reject"), RuleConfig()), None),
        ((RuleConfig(match=MatchConfig(prefix=("10.0.0.0/8",)), action="reject"), RuleConfig()), None),
        ((RuleConfig(), RuleConfig(match=MatchConfig(as_path=("^65201",)))), None),
        ((), None),
    ],
)
def test_signs_say_of_which_routes_nothing_need_be_asked(rules: tuple[RuleConfig, ...], signs: object) -> None:
    policy = build_policy("p", {"p": PolicyConfig(rules=rules)}, where="here", exporting=False)
    assert policy.signs == signs


SOME_RULES = st.builds(
    RuleConfig,
    match=st.one_of(
        st.just(MatchConfig()),
        st.builds(
            MatchConfig,
            prefix=some("10.0.0.0/8 le 32"),
            as_path=some("1", "2"),
            community=some("0:1", "0:2"),
            large_community=some("0:0:1"),
            family=some("ipv4-unicast", "ipv6-unicast"),
        ),
    ),
    set=st.builds(SetConfig, local_pref=st.sampled_from((None, None, 200)), add_community=some("0:2")),
    action=st.sampled_from(("accept", "reject", "next")),
)
SOME_ATTRIBUTES = st.builds(
    lambda asns, communities, large, pref: attributes(
        *asns, communities=communities, large_communities=large, local_pref=pref
    ),
    st.lists(st.integers(1, 3), max_size=3),
    st.sampled_from(((), (1,), (2,), (3, 1), (0x100, 0x10000))),
    st.sampled_from(((), ((0, 0, 1),), ((0, 1, 0),))),
    st.sampled_from((None, 100)),
)


@given(st.lists(SOME_RULES, max_size=3), SOME_ATTRIBUTES, st.sampled_from(("10.1.0.0/16", "11.0.0.0/8")))
def test_what_has_no_sign_is_accepted_as_it_is(rules: list[RuleConfig], seen: Attributes, prefix: str) -> None:
    policy = RulePolicy("p", PolicyConfig(rules=(*rules, RuleConfig())))
    one = key(prefix)
    if policy.signs is not None and not any(sign in seen.block for sign in policy.signs):
        assert verdicts(policy, route(seen), one)[one] == (seen, "")
    config = configuration(session("leaf1", import_="p"), policy={"p": PolicyConfig(rules=(*rules, RuleConfig()))})
    recorder = Recorder(config)
    leaf1 = recorder.up(leaf(1), config.neighbor[0])
    recorder.announce(leaf1, seen, hop("10.0.1.2"), prefix)
    decision = recorder.rib.decision("", V4, one)
    assert decision is not None
    accepted, rejected = verdicts(policy, route(seen.changed(local_pref=None)), one)[one]
    assert decision.candidates[0].rejected == rejected
    assert rejected or decision.candidates[0].attributes.same_as(accepted)
