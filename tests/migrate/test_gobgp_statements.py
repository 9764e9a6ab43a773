"""Single settings of gobgpd: what each comes to, or why it does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bgpd.config.schema import Config
from bgpd.config.schema_policies import MatchConfig, RuleConfig, SetConfig
from bgpd.migrate.draft import ImportFailed
from tests.migrate.converting import config_of, imported, rules_of, written

LEAF = "{config: {neighbor-address: 10.0.1.2, peer-as: 65201%s}%s}"


def converted(
    directory: Path, *, config: str = "", more: str = "", neighbors: str = LEAF % ("", ""), top: str = ""
) -> tuple[Config, list[str]]:
    """The configuration, and what was told without its place."""
    text = (
        f"global: {{config: {{as: 65001{config}}}{more}}}\nzebra: {{config: {{enabled: true}}}}\n"
        f"neighbors: [{neighbors}]\n{top}"
    )
    found = imported("gobgp", written(directory, text, "g.yaml"))
    return config_of(found.text.replace('"auto"', '"10.0.0.1"')), [one.partition(": ")[2] for one in found.losses]


def filtered(directory: Path, statement: str, sets: str = "") -> tuple[Config, list[str]]:
    """With one statement in the import policy."""
    return converted(
        directory,
        more=", apply-policy: {config: {import-policy-list: [p], default-import-policy: reject-route}}",
        top=f"defined-sets: {{{sets}}}\npolicy-definitions: [{{name: p, statements: [{{name: s, {statement}}}]}}]\n",
    )


BGP_SETS = (
    "bgp-defined-sets: {community-sets: [{community-set-name: c, community-list: ['65000:1', no_export]}],"
    " large-community-sets: [{large-community-set-name: l, large-community-list: ['^65000:1:2$']}],"
    " as-path-sets: [{as-path-set-name: a, as-path-list: ['65201', '_65202$']}, {as-path-set-name: none}]}"
)
PREFIXES = (
    "prefix-sets: [{prefix-set-name: p, prefix-list: [{ip-prefix: 10.0.0.0/8, masklength-range: 16..24},"
    " {ip-prefix: 192.0.2.0/24}]}]"
)


@pytest.mark.parametrize(
    ("conditions", "sets", "match"),
    [
        (
            "match-prefix-set: {prefix-set: p}",
            PREFIXES,
            MatchConfig(prefix=("10.0.0.0/8 ge 16 le 24", "192.0.2.0/24")),
        ),
        (
            "bgp-conditions: {match-community-set: {community-set: c}}",
            BGP_SETS,
            MatchConfig(community=("65000:1", "no-export")),
        ),
        (
            "bgp-conditions: {match-large-community-set: {large-community-set: l, match-set-options: ANY}}",
            BGP_SETS,
            MatchConfig(large_community=("65000:1:2",)),
        ),
        (
            "bgp-conditions: {match-as-path-set: {as-path-set: a}}",
            BGP_SETS,
            MatchConfig(as_path=("(65201)", r"\b65202$")),
        ),
        ("bgp-conditions: {afi-safi-in-list: [ipv6-unicast]}", "", MatchConfig(family=("ipv6-unicast",))),
        ("bgp-conditions: {next-hop-in-list: [10.0.1.2]}", "", MatchConfig(next_hop=("10.0.1.2",))),
        (
            "match-neighbor-set: {neighbor-set: n}, bgp-conditions: {next-hop-in-list: [10.0.1.2]}",
            "neighbor-sets: [{neighbor-set-name: n, neighbor-info-list: [10.0.0.0/16]}]",
            MatchConfig(next_hop=("10.0.1.2",)),
        ),
    ],
)
def test_conditions(tmp_path: Path, conditions: str, sets: str, match: MatchConfig) -> None:
    statement = f"conditions: {{{conditions}}}, actions: {{route-disposition: accept-route}}"
    config, _ = filtered(tmp_path, statement, sets)
    assert rules_of(config, config.neighbor[0].import_) == (RuleConfig(match=match, action="accept"),)


@pytest.mark.parametrize(
    ("conditions", "sets", "policy"),
    [
        ("match-neighbor-set: {neighbor-set: n}", "10.0.1.2/32", "all"),
        ("match-neighbor-set: {neighbor-set: n, match-set-options: invert}", "10.0.1.2/32", "none"),
        ("match-neighbor-set: {neighbor-set: n}", "10.0.9.9", "none"),
        ("match-neighbor-set: {neighbor-set: n}", "2001:db8::/32", "none"),
        ("match-neighbor-set: {neighbor-set: n}", "wrong", "none"),
        ("bgp-conditions: {match-as-path-set: {as-path-set: none}}", "10.0.1.2", "none"),
        ("bgp-conditions: {route-type: none}", "10.0.1.2", "all"),
    ],
)
def test_what_is_known_before_a_route_comes(tmp_path: Path, conditions: str, sets: str, policy: str) -> None:
    named = f"neighbor-sets: [{{neighbor-set-name: n, neighbor-info-list: ['{sets}']}}], {BGP_SETS}"
    statement = f"conditions: {{{conditions}}}, actions: {{route-disposition: accept-route}}"
    config, _ = filtered(tmp_path, statement, named)
    assert config.neighbor[0].import_ == policy


def test_what_is_in_no_set_is_rejected_first(tmp_path: Path) -> None:
    statement = (
        "conditions: {match-prefix-set: {prefix-set: p, match-set-options: invert}}, "
        "actions: {route-disposition: accept-route}"
    )
    config, _ = filtered(tmp_path, statement, PREFIXES)
    first, second = rules_of(config, config.neighbor[0].import_)
    assert (first.match.prefix, first.action) == (("10.0.0.0/8 ge 16 le 24", "192.0.2.0/24"), "reject")
    assert second == RuleConfig()


@pytest.mark.parametrize(("kind", "policy"), [("local", "local"), ("external", "leaf")])
def test_routes_of_this_host(tmp_path: Path, kind: str, policy: str) -> None:
    config, _ = converted(
        tmp_path,
        more=", apply-policy: {config: {export-policy-list: [leaf], default-export-policy: reject-route}}",
        top="policy-definitions: [{name: leaf, statements: [{name: s, conditions: {bgp-conditions: {route-type: "
        f"{kind}}}}}, actions: {{route-disposition: accept-route}}}}]}}]\n",
    )
    assert config.neighbor[0].export == policy


@pytest.mark.parametrize(
    ("actions", "changes"),
    [
        ("set-local-pref: 300", SetConfig(local_pref=300)),
        ("set-med: '7'", SetConfig(med=7)),
        ("set-as-path-prepend: {as: '65001', repeat-n: 3}", SetConfig(prepend=3)),
        ("set-as-path-prepend: {as: '65001'}", SetConfig(prepend=1)),
        (
            "set-community: {options: ADD, set-community-method: {communities-list: ['65000:1', no-export]}}",
            SetConfig(add_community=("65000:1", "no-export")),
        ),
        (
            "set-large-community: {options: remove, set-large-community-method: {communities-list: ['65000:1:2']}}",
            SetConfig(remove_large_community=("65000:1:2",)),
        ),
    ],
)
def test_changes(tmp_path: Path, actions: str, changes: SetConfig) -> None:
    config, _ = filtered(tmp_path, f"actions: {{route-disposition: accept-route, bgp-actions: {{{actions}}}}}")
    (rule,) = rules_of(config, config.neighbor[0].import_)
    assert (rule.set, rule.action) == (changes, "accept")


@pytest.mark.parametrize("action", ["set-med: '+7'", "set-as-path-prepend: {as: last-as}", "set-next-hop: self"])
def test_what_cannot_be_said_and_opens_nothing_is_left_out(tmp_path: Path, action: str) -> None:
    config, losses = filtered(tmp_path, f"actions: {{route-disposition: accept-route, bgp-actions: {{{action}}}}}")
    assert config.neighbor[0].import_ == "all"
    assert any(f'"{action.partition(":")[0]}" is left out' in loss for loss in losses)


@pytest.mark.parametrize(
    ("statement", "sets", "said"),
    [
        ("conditions: {match-interface: eth0}", "", '"match-interface" has no counterpart'),
        ("conditions: {match-neighbor-set: {neighbor-set: gone}}", "", 'there is no neighbor-set "gone"'),
        (
            "conditions: {match-prefix-set: {prefix-set: p, match-set-options: some}}",
            PREFIXES,
            'match-set-options "some"',
        ),
        (
            "conditions: {match-prefix-set: {prefix-set: p}}",
            "prefix-sets: [{prefix-set-name: p, prefix-list: [{ip-prefix: 10.0.0.0/8, masklength-range: x}]}]",
            "a prefix set that cannot be understood",
        ),
        (
            "conditions: {bgp-conditions: {match-as-path-set: {as-path-set: a, match-set-options: all}}}",
            BGP_SETS,
            "two conditions on as_path that must both hold",
        ),
        (
            "conditions: {bgp-conditions: {match-as-path-set: {as-path-set: a}}}",
            "bgp-defined-sets: {as-path-sets: [{as-path-set-name: a, as-path-list: ['(']}]}",
            "import policies (p) cannot be converted",
        ),
        ("actions: {bgp-actions: {set-ext-community: {}}}", "", '"set-ext-community" has no counterpart'),
        (
            "actions: {bgp-actions: {set-community: {options: replace}}}",
            "",
            '"set-community" with the option "replace" has no counterpart',
        ),
    ],
)
def test_what_lets_nothing_through(tmp_path: Path, statement: str, sets: str, said: str) -> None:
    if "actions" not in statement:
        statement += ", actions: {route-disposition: accept-route}"
    config, losses = filtered(tmp_path, statement, sets)
    assert config.neighbor[0].import_ == "none"
    assert any(said in loss for loss in losses)


def test_a_policy_that_is_not_there(tmp_path: Path) -> None:
    config, losses = converted(tmp_path, more=", apply-policy: {config: {import-policy-list: [gone]}}")
    assert config.neighbor[0].import_ == "none"
    assert any('there is no policy-definition "gone"' in loss for loss in losses)


# Sessions


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (", timers: {config: {hold-time: 30, connect-retry: 7}}", {"hold_time_s": 30, "connect_retry_s": 7}),
        (", timers: {config: {hold-time: 30.0}}", {"hold_time_s": 30, "connect_retry_s": 120}),
        (
            ", transport: {config: {passive-mode: true, local-address: 10.0.1.3, remote-port: 1790}}",
            {"passive": True, "source_address": "10.0.1.3", "port": 1790},
        ),
        (", transport: {config: {local-address: 0.0.0.0, bind-interface: eth3}}", {"source_address": ""}),
        (", ttl-security: {config: {enabled: true, ttl-min: 255}}", {"ttl_security": True}),
        (", as-path-options: {config: {allow-own-as: 20}}", {"allow_own_as": 10}),
        (", afi-safis: [{config: {afi-safi-name: ipv6-unicast}}]", {"families": ("ipv6-unicast",)}),
    ],
)
def test_sessions(tmp_path: Path, settings: str, expected: dict[str, Any]) -> None:
    (leaf,) = converted(tmp_path, neighbors=LEAF % ("", settings))[0].neighbor
    assert {key: getattr(leaf, key) for key in expected} == expected


@pytest.mark.parametrize(
    ("settings", "mode"),
    [
        ("", "off"),
        (", graceful-restart: {config: {enabled: true}}", "both"),
        (", graceful-restart: {config: {enabled: true, helper-only: true}}", "helper"),
    ],
)
def test_graceful_restart(tmp_path: Path, settings: str, mode: str) -> None:
    (leaf,) = converted(tmp_path, neighbors=LEAF % ("", settings))[0].neighbor
    assert leaf.graceful_restart.mode == mode


@pytest.mark.parametrize(
    ("peer", "asn"),
    [("peer-type: internal", "internal"), ("peer-type: external", "external"), ("description: x", "external")],
)
def test_neighbors_without_an_as_number(tmp_path: Path, peer: str, asn: str) -> None:
    neighbor = f"{{config: {{neighbor-address: 10.0.1.2, {peer}}}}}"
    assert converted(tmp_path, neighbors=neighbor)[0].neighbor[0].asn == asn


def test_neighbors_by_interface_and_scope(tmp_path: Path) -> None:
    neighbors = (
        "{config: {neighbor-interface: eth1, peer-as: 65201}}, "
        "{config: {neighbor-address: 'fe80::1%eth2', peer-as: 65202, local-as: 65009}}"
    )
    first, second = converted(tmp_path, neighbors=neighbors)[0].neighbor
    assert (first.interface, first.address, first.families) == ("eth1", "", ("ipv4-unicast", "ipv6-unicast"))
    assert (second.interface, second.address, second.local_asn) == ("eth2", "fe80::1", 65009)
    assert second.families == ("ipv6-unicast",)


def test_neighbors_that_are_down_or_have_no_family_stay_comments(tmp_path: Path) -> None:
    config, losses = converted(
        tmp_path,
        neighbors=LEAF % (", admin-down: true", "") + ", " + LEAF % ("", ", afi-safis: [{config: {afi-safi-name: x}}]"),
    )
    assert config.neighbor == ()
    assert 'family "x" is not spoken here' in losses
    assert "no family is left that is spoken here" in losses


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"config": ", port: 1790"}, "another port to listen on than 179 is not converted"),
        ({"config": ", local-address-list: [10.0.0.1]"}, "addresses to listen on are not converted"),
        ({"more": ", confederation: {}"}, '"global.confederation" is not converted'),
        ({"top": "collector: {}\n"}, '"collector" is not converted'),
        ({"neighbors": "{config: {peer-as: 65201}}"}, "a neighbor without an address and without an interface"),
        ({"neighbors": LEAF % (", remove-private-as: all", "")}, "remove-private-as is not converted"),
        ({"neighbors": LEAF % ("", ", route-reflector: {}")}, '"route-reflector" of a neighbor is not converted'),
        (
            {"neighbors": LEAF % ("", ", apply-policy: {config: {x: 1}}")},
            "apply-policy of a neighbor counts for route server clients only",
        ),
        (
            {"neighbors": LEAF % ("", ", ttl-security: {config: {enabled: true, ttl-min: 250}}")},
            "ttl-min: here packets must have TTL 255",
        ),
        (
            {"neighbors": LEAF % ("", ", graceful-restart: {config: {enabled: true, long-lived-enabled: true}}")},
            "long-lived times are of each family in GoBGP; set graceful_restart.long_lived_s",
        ),
    ],
)
def test_what_is_told(tmp_path: Path, given: dict[str, str], said: str) -> None:
    assert any(said in loss for loss in converted(tmp_path, **given)[1])


def test_routes_of_zebra_are_told(tmp_path: Path) -> None:
    text = "global: {config: {as: 65001}}\nzebra: {config: {enabled: true, redistribute-route-type-list: [connect]}}\n"
    losses = imported("gobgp", written(tmp_path, text, "g.yaml")).losses
    assert any('g.yaml:2: "redistribute-route-type-list" of zebra is not converted' in loss for loss in losses)


def test_a_group_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ImportFailed, match='there is no peer group "gone"'):
        converted(tmp_path, neighbors=LEAF % (", peer-group: gone", ""))


def test_a_range_of_neighbors_that_only_a_part_of_a_set_is(tmp_path: Path) -> None:
    text = (
        "global: {config: {as: 65001}, apply-policy: {config: {import-policy-list: [p]}}}\n"
        "zebra: {config: {enabled: true}}\npeer-groups: [{config: {peer-group-name: g, peer-as: 65201}}]\n"
        "dynamic-neighbors: [{config: {prefix: 10.0.0.0/16, peer-group: g}}]\n"
        "defined-sets: {neighbor-sets: [{neighbor-set-name: n, neighbor-info-list: [10.0.1.0/24]}]}\n"
        "policy-definitions: [{name: p, statements: [{name: s, conditions: {match-neighbor-set: {neighbor-set: n}},"
        " actions: {route-disposition: accept-route}}]}]\n"
    )
    found = imported("gobgp", written(tmp_path, text, "g.yaml"))
    (listen,) = config_of(found.text.replace('"auto"', '"10.0.0.1"')).listen
    assert (listen.prefix, listen.asn, listen.import_) == ("10.0.0.0/16", 65201, "none")
    assert any("is not known before it connects" in loss for loss in found.losses)


def test_which_form_a_file_has_is_seen_by_its_text(tmp_path: Path) -> None:
    for text in ("global:\n  config: {as: 65001}\n", "# x\n[global.config]\nas = 65001\n"):
        assert "\nasn = 65001 " in imported("gobgp", written(tmp_path, text, "given")).text
