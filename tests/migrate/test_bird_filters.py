"""Single conditions and statements of BIRD's filters: the rules that each comes to, or why none."""

from __future__ import annotations

from pathlib import Path

import pytest

from bgpd.config.schema import Config
from bgpd.config.schema_policies import MatchConfig, RuleConfig, SetConfig
from tests.migrate.converting import config_of, imported, rules_of, written

HEAD = "router id 10.0.0.1;\nprotocol kernel { ipv4 { export all; }; ipv6 { export all; }; }\n"


def converted(directory: Path, channel: str, above: str = "") -> tuple[Config, list[str]]:
    """The configuration of one neighbor with this in its channel, and what was told."""
    body = f"protocol bgp leaf {{ local as 65001; neighbor 10.0.1.2 as 65201; ipv4 {{ {channel} }}; }}\n"
    found = imported("bird", written(directory, HEAD + above + body))
    return config_of(found.text), found.losses


def rules(directory: Path, imported_by: str, above: str = "") -> tuple[RuleConfig, ...]:
    config, _ = converted(directory, f"import {imported_by}; export none;", above)
    return rules_of(config, config.neighbor[0].import_)


@pytest.mark.parametrize(
    ("condition", "match"),
    [
        ("net ~ 10.0.0.0/8", MatchConfig(prefix=("10.0.0.0/8 le 32",))),
        ("net = 10.0.0.0/8", MatchConfig(prefix=("10.0.0.0/8",))),
        ("net ~ [ 10.0.0.1 ]", MatchConfig(prefix=("10.0.0.1/32",))),
        ("net ~ [ 2001:db8::/32{48,64} ]", MatchConfig(prefix=("2001:db8::/32 ge 48 le 64",))),
        ("net.len < 3", MatchConfig(prefix=("0.0.0.0/0 le 2", "::/0 le 2"))),
        ("net.len <= 3", MatchConfig(prefix=("0.0.0.0/0 le 3", "::/0 le 3"))),
        ("net.len > 30", MatchConfig(prefix=("0.0.0.0/0 ge 31", "::/0 ge 31"))),
        ("net.len >= 33", MatchConfig(prefix=("::/0 ge 33",))),
        ("net.len = 24", MatchConfig(prefix=("0.0.0.0/0 ge 24 le 24", "::/0 ge 24 le 24"))),
        ("net.type = NET_IP4", MatchConfig(family=("ipv4-unicast",))),
        ("net.type = NET_IP6", MatchConfig(family=("ipv6-unicast",))),
        ("(65000, 7) ~ bgp_community", MatchConfig(community=("65000:7",))),
        ("bgp_community ~ [ (65535, 65281), (65000, 7) ]", MatchConfig(community=("no-export", "65000:7"))),
        ("bgp_community ~ [(65535, 666)]", MatchConfig(community=("blackhole",))),
        ("(65000, 7, 8) ~ bgp_large_community", MatchConfig(large_community=("65000:7:8",))),
        ("(rt, 65000, 7) ~ bgp_ext_community", MatchConfig(extended_community=("rt:65000:7",))),
        ("(ro, 10.0.0.1, 7) ~ bgp_ext_community", MatchConfig(extended_community=("soo:10.0.0.1:7",))),
        ("bgp_path ~ [ 65001, 65010..65012 ]", MatchConfig(as_path=("65001", "65010", "65011", "65012"))),
        ("bgp_path.first = 65201", MatchConfig(as_path=(r"^65201\b",))),
        ("bgp_path.last = 65201", MatchConfig(as_path=(r"\b65201$",))),
        ("(net ~ 10.0.0.0/8) && true", MatchConfig(prefix=("10.0.0.0/8 le 32",))),
        ("false || net ~ 10.0.0.0/8", MatchConfig(prefix=("10.0.0.0/8 le 32",))),
        ("! ! net ~ 10.0.0.0/8", MatchConfig(prefix=("10.0.0.0/8 le 32",))),
    ],
)
def test_conditions(tmp_path: Path, condition: str, match: MatchConfig) -> None:
    assert rules(tmp_path, f"where {condition}") == (RuleConfig(match=match, action="accept"),)


@pytest.mark.parametrize(
    ("condition", "match"),
    [
        ("net !~ 10.0.0.0/8", MatchConfig(prefix=("10.0.0.0/8 le 32",))),
        ("net != 10.0.0.0/8", MatchConfig(prefix=("10.0.0.0/8",))),
        ("net.type != NET_IP6", MatchConfig(family=("ipv6-unicast",))),
        ("(65000, 7) !~ bgp_community", MatchConfig(community=("65000:7",))),
        ("bgp_community !~ [(65000, 7)]", MatchConfig(community=("65000:7",))),
        ("bgp_path !~ [ 65009 ]", MatchConfig(as_path=("65009",))),
        ("bgp_path !~ [= 65009 =]", MatchConfig(as_path=("^65009$",))),
        ("bgp_path.last != 65201", MatchConfig(as_path=(r"\b65201$",))),
        ("! (net ~ 10.0.0.0/8)", MatchConfig(prefix=("10.0.0.0/8 le 32",))),
    ],
)
def test_what_must_not_hold_is_rejected_first(tmp_path: Path, condition: str, match: MatchConfig) -> None:
    assert rules(tmp_path, f"where {condition}") == (RuleConfig(match=match, action="reject"), RuleConfig())


@pytest.mark.parametrize(
    ("condition", "policy"),
    [
        ("source = RTS_STATIC", "local"),
        ("source ~ [ RTS_STATIC, RTS_BGP ]", "local"),
        ("source !~ [ RTS_BGP ]", "local"),
        ('proto = "own"', "local"),
        ('proto = "leaf"', "none"),
        ("source = RTS_OSPF", "none"),
    ],
)
def test_which_sources_go_out(tmp_path: Path, condition: str, policy: str) -> None:
    own = 'protocol static own { ipv4; route 10.0.0.9/32 via "lo"; }\n'
    config, _ = converted(tmp_path, f"import all; export where {condition};", own)
    assert config.neighbor[0].export == policy


@pytest.mark.parametrize("condition", ["source = RTS_BGP", "source != RTS_STATIC", 'proto != "own"'])
def test_what_was_learned_goes_out_only_if_that_is_said(tmp_path: Path, condition: str) -> None:
    own = 'protocol static own { ipv4; route 10.0.0.9/32 via "lo"; }\n'
    config, _ = converted(tmp_path, f"import all; export where {condition};", own)
    own_routes = RuleConfig(match=MatchConfig(as_path=("^$",)), action="reject")
    assert rules_of(config, config.neighbor[0].export) == (own_routes, RuleConfig())


@pytest.mark.parametrize(
    ("statement", "changes"),
    [
        ("bgp_local_pref = 300;", SetConfig(local_pref=300)),
        ("bgp_med = 7;", SetConfig(med=7)),
        ("bgp_community.add((65000, 7));", SetConfig(add_community=("65000:7",))),
        ("bgp_community.delete([(65000, 7), (65000, 8)]);", SetConfig(remove_community=("65000:7", "65000:8"))),
        ("bgp_large_community.add((65000, 7, 8));", SetConfig(add_large_community=("65000:7:8",))),
        ("bgp_path.prepend(65001); bgp_path.prepend(65001);", SetConfig(prepend=2)),
        ("{ bgp_med = 7; { bgp_med = 8; } }", SetConfig(med=8)),
        ('print "x", net; printn "y"; ; bgp_med = 7;', SetConfig(med=7)),
        ("seven();", SetConfig(med=7)),
        ("if net ~ 10.0.0.0/8 then bgp_med = 7; else reject;", SetConfig(med=7)),
    ],
)
def test_changes(tmp_path: Path, statement: str, changes: SetConfig) -> None:
    above = "function seven() { bgp_med = 7; }\n"
    (rule,) = rules(tmp_path, f"filter {{ {statement} accept; }}", above)
    assert (rule.set, rule.action) == (changes, "accept")


def test_a_preference_that_cannot_be_said_is_left_out(tmp_path: Path) -> None:
    config, losses = converted(tmp_path, "import filter { preference = 200; krt_metric = 5; accept; }; export none;")
    assert config.neighbor[0].import_ == "all"
    for statement in ("preference = 200", "krt_metric = 5"):
        assert any(f'"{statement}" is left out: a policy here cannot say it' in loss for loss in losses)


@pytest.mark.parametrize(
    ("body", "actions"),
    [
        ("return net ~ 10.0.0.0/8;", (("10.0.0.0/8 le 32", "accept"),)),
        ("if net ~ 10.0.0.0/8 then return true; return false;", (("10.0.0.0/8 le 32", "accept"),)),
        ("if net ~ 10.0.0.0/8 then return true; else return false;", (("10.0.0.0/8 le 32", "accept"),)),
        (
            "if net ~ 10.1.0.0/16 then { return false; } if net ~ 10.0.0.0/8 then return true; return false;",
            (("10.1.0.0/16 le 32", "reject"), ("10.0.0.0/8 le 32", "accept")),
        ),
    ],
)
def test_functions_that_return(tmp_path: Path, body: str, actions: tuple[tuple[str, str], ...]) -> None:
    found = rules(tmp_path, "where f()", f"function f() {{ {body} }}\n")
    assert tuple((rule.match.prefix[0], rule.action) for rule in found) == actions


@pytest.mark.parametrize(
    ("filter_", "said"),
    [
        ("where net < 10.0.0.0/8", "cannot be converted"),
        ("where net ~ 5", "is no prefix"),
        ("where net ~ [ 10.0.0.0/8 10.1.0.0/16 ]", "cannot be understood"),
        ("where net ~ 10.0.0.0/33", "stands behind what is no prefix"),
        ("where net.len != 24", "cannot be converted"),
        ("where net.len = x", "is no number"),
        ("where net.type = NET_VPN4", "cannot be converted"),
        ("where bgp_community = (65000, 7)", "cannot be converted"),
        ("where bgp_community ~ [ (65000, 7) (65000, 8) ]", "cannot be understood"),
        ("where (generic, 1, 2) ~ bgp_ext_community", "stands behind a generic community"),
        ("where (65000, 7) ~ bgp_path", "cannot be converted"),
        ("where bgp_path = 5", "cannot be converted"),
        ("where bgp_path ~ 65001", "cannot be converted"),
        ("where bgp_path ~ [ 1..9999 ]", "too many AS numbers"),
        ("where bgp_path ~ [ 1 2 ]", "cannot be understood"),
        ("where bgp_path.first < 65001", "cannot be converted"),
        ("where source ~ [ RTS_STATIC RTS_BGP ]", "cannot be understood"),
        ("where proto < 5", "cannot be converted"),
        ("where net ~ 10.0.0.0/8 net", "cannot be understood"),
        ("where unknown()", "cannot be converted"),
        ("filter { bgp_path = 5; accept; }", "cannot be converted"),
        ("filter { bgp_path.prepend(x); accept; }", "cannot be converted"),
        ("filter { bgp_path.delete(65001); accept; }", "cannot be converted"),
        ("filter { bgp_community.empty(); accept; }", "cannot be converted"),
        ("filter { returning(); accept; }", "calls a function that returns"),
        ("filter { if net ~ 10.0.0.0/8 }", 'stands where "then" should'),
        ("filter { if net ~ 10.0.0.0/8 then }", "stands where a statement should"),
        ("where odd()", "cannot be converted"),
    ],
)
def test_what_lets_nothing_through(tmp_path: Path, filter_: str, said: str) -> None:
    above = "function returning() { return true; }\nfunction odd() { bgp_med = 7; }\n"
    config, losses = converted(tmp_path, f"import {filter_}; export none;", above)
    assert config.neighbor[0].import_ == "none"
    assert any(said in loss for loss in losses)


@pytest.mark.parametrize("condition", ["(" * 3000 + "true" + ")" * 3000, "!" * 20_000 + "true"])
def test_what_is_nested_too_deeply(tmp_path: Path, condition: str) -> None:
    config, losses = converted(tmp_path, f"import where {condition}; export none;")
    assert config.neighbor[0].import_ == "none"
    assert any("nested" in loss for loss in losses)
