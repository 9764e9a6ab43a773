"""gobgpd's configuration: what is converted, what is told, and what closes a neighbor."""

from __future__ import annotations

from pathlib import Path

import pytest

from bgpd.config.schema_policies import MatchConfig, RuleConfig, SetConfig
from bgpd.config.schema_sessions import GracefulRestartConfig
from bgpd.migrate.draft import ImportFailed
from bgpd.migrate.importing import Settings
from tests.migrate.converting import configured, imported, rules_of, written

GLOBAL = "global: {config: {as: 65001, router-id: 10.0.0.1}%s}\nzebra: {config: {enabled: true}}\n"
NEIGHBOR = "neighbors: [{config: {neighbor-address: 10.0.1.2, peer-as: 65201}}]\n"


def test_neighbors_groups_and_ranges(tmp_path: Path) -> None:
    config = configured("gobgp", "gobgpd.toml", settings=Settings(passwords=str(tmp_path)))
    assert (config.router.asn, config.router.router_id) == (65310, "10.255.3.10")
    leaf1, leaf2 = config.neighbor
    assert (leaf1.address, leaf1.asn, leaf1.source_address, leaf1.passive) == ("10.0.1.2", 65201, "10.0.1.3", True)
    assert (leaf1.hold_time_s, leaf1.max_prefixes, leaf1.max_prefixes_warn_percent) == (9, 3000, 80)
    assert leaf1.families == ("ipv4-unicast", "ipv6-unicast")
    assert leaf1.graceful_restart == GracefulRestartConfig(mode="both", restart_time_s=60)
    assert (leaf2.asn, leaf2.families, leaf2.hold_time_s) == (65202, ("ipv4-unicast",), 90)
    assert leaf2.graceful_restart.mode == "off", "GoBGP's default, not bgpd's"
    assert Path(leaf1.password_file).read_text() == "fabric-k3y\n"
    (listen,) = config.listen
    assert (listen.prefix, listen.asn) == ("10.64.10.0/28", 65201)


def test_a_statement_for_some_neighbors_is_in_their_policy_only() -> None:
    config = configured("gobgp", "gobgpd.toml")
    fabric, drained = ("10.64.0.0/12 ge 16 le 28", "0.0.0.0/0"), ("65535:0", "65000:66")
    preferred = RuleConfig(match=MatchConfig(community=drained, prefix=fabric), set=SetConfig(local_pref=10))
    assert rules_of(config, "from-fabric") == (
        RuleConfig(match=MatchConfig(as_path=(r"\b64999\b",)), action="reject"),
        preferred,
        RuleConfig(match=MatchConfig(community=drained), action="reject"),
        RuleConfig(match=MatchConfig(prefix=fabric)),
    )
    exported = SetConfig(med=20, add_community=("65310:1",))
    assert rules_of(config, "to-fabric") == (RuleConfig(match=MatchConfig(prefix=("10.255.3.10/32",)), set=exported),)


def test_without_zebra_nothing_is_installed() -> None:
    config = configured("gobgp", "gobgpd.yaml")
    (leaf,) = config.neighbor
    assert (leaf.import_, leaf.export, leaf.ttl_security, leaf.families) == ("none", "local", True, ("ipv6-unicast",))
    assert any("installs no routes" in loss for loss in imported("gobgp", "gobgpd.yaml").losses)


@pytest.mark.parametrize(
    ("conditions", "said"),
    [
        ("{match-prefix-set: {prefix-set: gone}}", 'no prefix-set "gone"'),
        ("{bgp-conditions: {rpki-validation-result: valid}}", "rpki-validation-result"),
        ("{bgp-conditions: {match-community-set: {community-set: c}}}", "regular expression"),
        ("{bgp-conditions: {match-community-set: {community-set: two, match-set-options: all}}}", "two conditions"),
        ("{match-prefix-set: [1]}", "no mapping"),
        ("{bgp-conditions: {route-type: internal}}", "internal"),
    ],
)
def test_a_policy_that_cannot_be_said_lets_nothing_through(tmp_path: Path, conditions: str, said: str) -> None:
    applied = ", apply-policy: {config: {import-policy-list: [p]}}"
    more = (
        "defined-sets: {bgp-defined-sets: {community-sets: [{community-set-name: c, community-list: ['65000:.*']},"
        " {community-set-name: two, community-list: ['65000:1', '65000:2']}]}}\n"
        f"policy-definitions: [{{name: p, statements: [{{name: s, conditions: {conditions},"
        " actions: {route-disposition: accept-route}}]}]\n"
    )
    file = written(tmp_path, GLOBAL % applied + NEIGHBOR + more, "g.yaml")
    assert configured("gobgp", file).neighbor[0].import_ == "none"
    assert any(said in loss for loss in imported("gobgp", file).losses)


def test_defaults_of_policies(tmp_path: Path) -> None:
    for applied, policies in (
        ("", ("all", "local")),
        (", apply-policy: {config: {default-import-policy: reject-route}}", ("none", "local")),
        (", apply-policy: {config: {default-export-policy: reject-route}}", ("all", "none")),
    ):
        (leaf,) = configured("gobgp", written(tmp_path, GLOBAL % applied + NEIGHBOR, "g.yaml")).neighbor
        assert (leaf.import_, leaf.export) == policies


def test_a_neighbor_in_a_vrf_stays_a_comment(tmp_path: Path) -> None:
    neighbor = NEIGHBOR.replace("peer-as: 65201", "peer-as: 65201, vrf: blue")
    file = written(tmp_path, GLOBAL % "" + neighbor, "g.yaml")
    assert configured("gobgp", file).neighbor == ()
    assert any("a neighbor in a VRF" in loss for loss in imported("gobgp", file).losses)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("g.toml", "[global.config]\nas = 1\n[[neighbors]\n", r"g\.toml:3: "),
        ("g.toml", "[neighbors]\n", "no AS number"),
        ("g.toml", "[global.config]\nas = 65001\n[neighbors]\nx = 1\n", r'g\.toml:3: "neighbors" is no list'),
        ("g.toml", "[global.config]\nas = 'x'\n", r'g\.toml:2: "as" is no whole number'),
        ("g.yaml", "global: {config: {as: [1]}}\n", r'g\.yaml:1: "as" is no whole number'),
        ("g.yaml", "global: 7\n", r'"global" is no mapping'),
        ("g.yaml", "a: 1\n---\nb: 2\n", "2 documents"),
        ("g.toml", "x = " + "[" * 5000, "nested|cannot"),
        ("g.toml", "", "is empty"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(tmp_path: Path, name: str, text: str, said: str) -> None:
    with pytest.raises(ImportFailed, match=said):
        imported("gobgp", written(tmp_path, text, name))
