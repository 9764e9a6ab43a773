"""Calico's objects: peers of one node, filters, pools, and what is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from bgpd.config.schema import Config
from bgpd.config.schema_policies import MatchConfig, RuleConfig, SetConfig
from bgpd.config.schema_sessions import GracefulRestartConfig
from bgpd.migrate.calico_selector import BadSelector, matches
from bgpd.migrate.draft import ImportFailed
from bgpd.migrate.importing import Settings
from tests.migrate.converting import configured, imported, rules_of, written

NODE7 = Settings(node="node7")
PEER = "{kind: BGPPeer, metadata: {name: leaf}, spec: {peerIP: 10.0.1.2, asNumber: 65201%s}}\n"
CONFIGURATION = "---\n{kind: BGPConfiguration, metadata: {name: default}, spec: {nodeToNodeMeshEnabled: false}}\n---\n"


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return configured("calico", "calico.yaml", settings=Settings(node="node7", passwords=str(tmp_path)))


def test_peers_of_the_node_only(config: Config) -> None:
    assert (config.router.asn, config.router.router_id, config.router.hostname) == (64607, "10.0.3.7", "node7")
    leaf, six, reflector = config.neighbor
    assert (leaf.name, leaf.address, leaf.source_address, leaf.families) == (
        "rack3-leaf1",
        "10.0.3.1",
        "10.0.3.7",
        ("ipv4-unicast",),
    )
    assert leaf.ttl_security
    assert leaf.graceful_restart == GracefulRestartConfig(mode="both", restart_time_s=90)
    assert Path(leaf.password_file).read_text() == "r3-s3cret\n"
    assert (six.address, six.port, six.families, six.source_address) == ("2001:db8:3::1", 1179, ("ipv6-unicast",), "")
    assert (six.import_, six.allow_own_as) == ("all", 1)
    assert (reflector.name, reflector.address, reflector.import_) == ("rr1", "10.0.3.250", "none")


def test_filters_and_pools_are_policies(config: Config) -> None:
    leaf, six, _ = config.neighbor
    assert rules_of(config, leaf.import_) == (
        RuleConfig(match=MatchConfig(prefix=("10.48.0.0/16 le 32",)), action="reject"),
        RuleConfig(match=MatchConfig(prefix=("10.0.0.0/8 le 24", "0.0.0.0/0"))),
    )
    own = ("^$",)
    added = SetConfig(add_community=("64600:100",), add_large_community=("64600:1:5",))
    assert rules_of(config, leaf.export) == (
        RuleConfig(match=MatchConfig(prefix=("10.48.200.0/24 le 32",), as_path=own), action="reject"),
        RuleConfig(match=MatchConfig(prefix=("10.48.0.0/16 le 32",), as_path=own), set=added),
    )
    assert rules_of(config, six.export) == (
        RuleConfig(match=MatchConfig(prefix=("2001:db8:48::/56 le 128",), as_path=own)),
    )


def test_blocks_and_pods(config: Config) -> None:
    assert [(one.prefix, one.summary_only, one.blackhole) for one in config.aggregate] == [("10.48.7.0/26", True, True)]
    assert config.workload.kernel is not None
    assert config.workload.kernel.interfaces == ("cali*",)


def test_everything_that_is_not_converted_is_told_with_its_line() -> None:
    losses = imported("calico", "calico.yaml", settings=NODE7).losses
    for line, words in ((9, "serviceClusterIPs"), (47, "keepOriginalNextHop"), (75, '"interface"'), (81, "vxlanMode")):
        assert any(f"calico.yaml:{line}: " in loss and words in loss for loss in losses), (line, words)


def test_several_nodes_need_a_name() -> None:
    with pytest.raises(ImportFailed, match=r"has 2 nodes; --node NAME says for which one: node7, rr1"):
        imported("calico", "calico.yaml")
    with pytest.raises(ImportFailed, match='has no node "nobody"'):
        imported("calico", "calico.yaml", settings=Settings(node="nobody"))


def test_a_peer_of_some_nodes_stays_a_comment_where_the_files_do_not_say(tmp_path: Path) -> None:
    file = written(tmp_path, CONFIGURATION + PEER % ", nodeSelector: rack == 'a'")
    assert configured("calico", file).neighbor == ()
    assert '#address = "10.0.1.2"' in imported("calico", file).text


@pytest.mark.parametrize(
    "rule",
    [
        "{action: Accept, interface: eth0}",
        "{action: Accept, source: Elsewhere}",
        "{action: Perhaps}",
        "{action: Accept, cidr: x}",
        "{action: Accept, cidr: 10.0.0.0/8, matchOperator: NotIn, prefixLength: {min: 9}}",
        "{action: Accept, cidr: 10.0.0.0/8, matchOperator: Near}",
        "{action: Accept, asPathPrefix: [65000]}",
        "{action: Accept, communities: {values: ['65000:1']}}",
    ],
)
def test_a_filter_that_cannot_be_said_lets_nothing_through(tmp_path: Path, rule: str) -> None:
    filters = f"---\n{{kind: BGPFilter, metadata: {{name: f}}, spec: {{importV4: [{rule}]}}}}\n"
    file = written(tmp_path, CONFIGURATION + PEER % ", filters: [f]" + filters)
    assert configured("calico", file).neighbor[0].import_ == "none"
    assert any("cannot be converted" in loss for loss in imported("calico", file).losses)


def test_a_filter_that_is_not_in_the_files_lets_nothing_through(tmp_path: Path) -> None:
    (leaf,) = configured("calico", written(tmp_path, CONFIGURATION + PEER % ", filters: [f]")).neighbor
    assert (leaf.import_, leaf.export) == ("none", "none")


def test_a_password_that_is_not_in_the_files_closes_the_neighbor(tmp_path: Path) -> None:
    peer = PEER % ", password: {secretKeyRef: {name: s, key: k}}"
    (leaf,) = configured(
        "calico", written(tmp_path, CONFIGURATION + peer), settings=Settings("", str(tmp_path))
    ).neighbor
    assert (leaf.import_, leaf.export, leaf.password_file) == ("none", "none", "")


def test_the_mesh_is_of_all_other_nodes(tmp_path: Path) -> None:
    nodes = "".join(
        f"---\n{{kind: Node, metadata: {{name: n{n}}}, spec: {{bgp: {{ipv4Address: 10.0.0.{n}/24}}}}}}\n"
        for n in (1, 2, 3)
    )
    config = configured("calico", written(tmp_path, PEER % "" + nodes), settings=Settings(node="n2"))
    assert [(one.name, one.address, one.asn) for one in config.neighbor] == [
        ("n1", "10.0.0.1", 64512),
        ("n3", "10.0.0.3", 64512),
        ("leaf", "10.0.1.2", 65201),
    ]


@pytest.mark.parametrize(
    ("selector", "fits"),
    [
        ("", True),
        ("all()", True),
        ("rack == 'a'", True),
        ("rack != 'a'", False),
        ("has(rack) && !has(gpu)", True),
        ("has(gpu) || rack in {'a', 'b'}", True),
        ("rack not in {'a'}", False),
        ("!(rack == 'a')", False),
        ("zone contains 'st' && zone starts with 'ea' && zone ends with 'st'", True),
        ('projectcalico.org/name == "n"', True),
        ("missing != 'x'", True),
    ],
)
def test_selectors(selector: str, fits: bool) -> None:
    assert matches(selector, {"rack": "a", "zone": "east", "projectcalico.org/name": "n"}) is fits


@pytest.mark.parametrize("selector", ["rack ==", "(", "rack", "rack == a", "has(", "a in {}", "all() all()", "(" * 99])
def test_bad_selectors(selector: str) -> None:
    with pytest.raises(BadSelector):
        matches(selector, {})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("kind: Pod\n", "has no BGPPeer"),
        ("spec: {}\n", r"given\.conf:1: an object without a kind"),
        ("kind: BGPPeer\nspec: 7\n", r'given\.conf:2: "spec" is no mapping'),
        ("kind: BGPPeer\nmetadata: {name: x}\nspec: {peerIP: 10.0.0.1}\n", "has no asNumber"),
        ("kind: List\nitems: 7\n", r'given\.conf:2: "items" is no list'),
        ("just words", "no mapping|no YAML"),
        ("", "is empty"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ImportFailed, match=said):
        imported("calico", written(tmp_path, text))
