"""MetalLB's objects and its ConfigMap of before 0.13."""

from __future__ import annotations

from pathlib import Path

import pytest

from bgpd.config.schema import Config
from bgpd.config.schema_policies import MatchConfig, RuleConfig, SetConfig
from bgpd.config.schema_sessions import BfdConfig
from bgpd.migrate.draft import ImportFailed
from bgpd.migrate.importing import Settings
from tests.migrate.converting import configured, imported, rules_of, written

PEER = "{kind: BGPPeer, metadata: {name: leaf}, spec: {myASN: 65001, peerASN: 65201, peerAddress: 10.0.1.2%s}}\n"


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return configured("metallb", "metallb.yaml", settings=Settings(passwords=str(tmp_path)))


def test_peers_of_the_node(config: Config) -> None:
    assert (config.router.asn, config.router.router_id) == (64700, "10.0.3.7")
    leaf1, leaf2 = config.neighbor
    assert (leaf1.address, leaf1.port, leaf1.hold_time_s, leaf1.connect_retry_s) == ("10.0.3.1", 1179, 90, 5)
    assert (leaf1.import_, leaf2.import_) == ("none", "none")
    assert leaf1.bfd == BfdConfig(interval_ms=200, multiplier=5)
    assert Path(leaf1.password_file).read_text() == "m3tal\n"
    assert (leaf2.interface, leaf2.asn) == ("eth1", "external")
    assert (leaf1.graceful_restart.mode, leaf2.graceful_restart.mode) == ("both", "helper"), "FRR's default, not bgpd's"


def test_pools_and_advertisements_are_policies(config: Config) -> None:
    front = ("203.0.113.0/26 ge 32", "198.51.100.10/31 ge 32", "198.51.100.12/31 ge 32", "2001:db8:80::/120 ge 128")
    added = SetConfig(local_pref=150, add_community=("64700:80", "65535:65281"), add_large_community=("64700:1:2",))
    first = RuleConfig(match=MatchConfig(prefix=front, as_path=("^$",)), set=added)
    blocks = RuleConfig(match=MatchConfig(prefix=(*front, "10.80.0.0/23 ge 24 le 24"), as_path=("^$",)))
    leaf1, leaf2 = config.neighbor
    assert rules_of(config, leaf1.export) == (first, blocks)
    assert rules_of(config, leaf2.export) == (first,)
    assert [one.prefix for one in config.aggregate] == ["10.80.0.0/24", "10.80.1.0/24"]


def test_everything_that_is_not_converted_is_told_with_its_line() -> None:
    losses = imported("metallb", "metallb.yaml").losses
    for line, words in ((40, "echoMode"), (77, "L2Advertisement")):
        assert any(f"metallb.yaml:{line}: " in loss and words in loss for loss in losses), (line, words)
    assert "m3tal" not in "".join(losses) + imported("metallb", "metallb.yaml").text


def test_the_config_map_of_before(tmp_path: Path) -> None:
    result = imported("metallb", "metallb-configmap.yaml")
    (leaf,) = configured("metallb", "metallb-configmap.yaml").neighbor
    assert (leaf.address, leaf.asn, leaf.hold_time_s) == ("10.0.3.1", 65201, 3)
    assert "#local_asn = 64701" in result.text, "of other nodes, perhaps"
    assert any("metallb-configmap.yaml:30: address-pool lan" in loss for loss in result.losses)


def test_a_peer_that_is_told_nothing_and_a_bad_community(tmp_path: Path) -> None:
    (leaf,) = configured("metallb", written(tmp_path, PEER % "")).neighbor
    assert leaf.export == "none"
    more = (
        "---\n{kind: IPAddressPool, metadata: {name: p}, spec: {addresses: [203.0.113.0/24]}}\n---\n"
        "{kind: BGPAdvertisement, metadata: {name: a}, spec: {communities: [unknown]}}\n"
    )
    (leaf,) = configured("metallb", written(tmp_path, PEER % "" + more)).neighbor
    assert leaf.export == "none"


def test_a_peer_in_a_vrf_stays_a_comment(tmp_path: Path) -> None:
    assert configured("metallb", written(tmp_path, PEER % ", vrf: blue")).neighbor == ()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("kind: IPAddressPool\n", "has no BGPPeer"),
        (PEER.replace("65001", "x") % "", r'given\.conf:1: "myASN" is no whole number'),
        (PEER % ", nodeSelectors: 3", r'given\.conf:1: "nodeSelectors" is no list'),
        ("{kind: BGPPeer, metadata: {name: x}, spec: {peerAddress: 10.0.0.1}}\n", "no BGPPeer has a myASN"),
        ("{kind: ConfigMap, data: {config: 'peers: [}'}}\n", r"given\.conf:2: is no YAML"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ImportFailed, match=said):
        imported("metallb", written(tmp_path, text))


POOL = "---\n{kind: IPAddressPool, metadata: {name: p}, spec: {addresses: [%s]}}\n"
ADVERTISEMENT = "---\n{kind: BGPAdvertisement, metadata: {name: a}, spec: {%s}}\n"
NODES = "".join(f"---\n{{kind: Node, metadata: {{name: node{n}, labels: {{rack: r{n}}}}}}}\n" for n in (1, 2))
FOR_RACK_1 = "nodeSelectors: [{matchLabels: {rack: r1}}]"


def told(directory: Path, text: str, node: str = "") -> list[str]:
    return imported("metallb", written(directory, text), settings=Settings(node=node)).losses


def prefixes_of(directory: Path, addresses: str) -> tuple[str, ...]:
    config = configured("metallb", written(directory, PEER % "" + POOL % addresses + ADVERTISEMENT % ""))
    (rule,) = rules_of(config, config.neighbor[0].export)
    return rule.match.prefix


@pytest.mark.parametrize(
    ("addresses", "prefixes"),
    [
        ("203.0.113.0/30", ("203.0.113.0/30 ge 32",)),
        ("203.0.113.1-203.0.113.4", ("203.0.113.1/32", "203.0.113.2/31 ge 32", "203.0.113.4/32")),
        (" 203.0.113.1 - 203.0.113.1 ", ("203.0.113.1/32",)),
        ("'2001:db8::1-2001:db8::1'", ("2001:db8::1/128",)),
    ],
)
def test_addresses_of_pools(tmp_path: Path, addresses: str, prefixes: tuple[str, ...]) -> None:
    assert prefixes_of(tmp_path, addresses) == prefixes


@pytest.mark.parametrize(
    "addresses", ["wrong", "203.0.113.9-203.0.113.1", "'203.0.113.1-2001:db8::1'", "203.0.113.1-", "'::1-::ffff:0:0:0'"]
)
def test_what_is_no_range_of_addresses_is_told(tmp_path: Path, addresses: str) -> None:
    losses = told(tmp_path, PEER % "" + POOL % f"{addresses}, 203.0.113.0/24")
    if "ffff" not in addresses:
        assert any("is no range of addresses" in loss for loss in losses)
    assert prefixes_of(tmp_path, f"203.0.113.0/24, {addresses}")[0] == "203.0.113.0/24 ge 32"


def test_which_node_is_meant(tmp_path: Path) -> None:
    text = PEER % f", {FOR_RACK_1}" + NODES
    assert len(configured("metallb", written(tmp_path, text), settings=Settings(node="node1")).neighbor) == 1
    assert configured("metallb", written(tmp_path, PEER.replace("leaf", "x") % "" + "---\n" + text),
                      settings=Settings(node="node2")).neighbor[0].name == "x"  # fmt: skip
    assert any("the files do not say whether for this one" in loss for loss in told(tmp_path, text))
    with pytest.raises(ImportFailed, match='has no node "node3"'):
        told(tmp_path, text, "node3")


def test_advertisements_of_other_nodes_are_left_out(tmp_path: Path) -> None:
    text = PEER % "" + POOL % "203.0.113.0/24" + ADVERTISEMENT % FOR_RACK_1
    assert any("a BGPAdvertisement is for some nodes" in loss for loss in told(tmp_path, text))
    assert configured("metallb", written(tmp_path, text)).neighbor[0].export == "none"
    for node, policy in (("node1", "metallb-export"), ("node2", "none")):
        config = configured("metallb", written(tmp_path, text + NODES), settings=Settings(node=node))
        assert config.neighbor[0].export == policy


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (POOL % "203.0.113.0/24], avoidBuggyIPs: true, x: [", "avoidBuggyIPs is the controller's"),
        (
            POOL % "203.0.112.0/20" + ADVERTISEMENT % "aggregationLength: 27",
            "aggregates of /27 in 203.0.112.0/20 are not",
        ),
        (
            POOL % "203.0.113.0/30" + ADVERTISEMENT % "aggregationLength: 24",
            "aggregates of /24 in 203.0.113.0/30 are not",
        ),
    ],
)
def test_what_is_told(tmp_path: Path, more: str, said: str) -> None:
    assert any(said in loss for loss in told(tmp_path, PEER % "" + more))


def test_keys_of_peers(tmp_path: Path) -> None:
    (leaf,) = configured("metallb", written(tmp_path, PEER % ", disableMP: true, ebgpMultiHop: true")).neighbor
    assert leaf.families == ("ipv4-unicast",)
    file = written(tmp_path, PEER % ", bfdProfile: gone")
    assert configured("metallb", file).neighbor[0].bfd == BfdConfig()
    assert any("the files have no BFDProfile gone" in loss for loss in imported("metallb", file).losses)
    other = PEER.replace("10.0.1.2", "10.0.1.8")
    two = PEER % "" + "---\n" + (other % ", sourceAddress: 10.0.1.9").replace("65001", "65009").replace("leaf", "b")
    third = PEER.replace("10.0.1.2", "10.0.1.7").replace("leaf", "c") % ""
    config = configured("metallb", written(tmp_path, f"{third}---\n{two}"))
    assert [(leaf.local_asn, leaf.source_address) for leaf in config.neighbor] == [
        (0, ""),
        (0, ""),
        (65009, "10.0.1.9"),
    ]


@pytest.mark.parametrize("number", [2, 3, 60])
def test_of_peers_of_one_address_the_first_is_taken(tmp_path: Path, number: int) -> None:
    """Several nodes' peers in one file, say, without their selectors."""
    file = written(tmp_path, "---\n".join(PEER.replace("leaf", f"leaf{n}") % "" for n in range(number)))
    (leaf,) = configured("metallb", file).neighbor
    assert leaf.name == "leaf0"
    assert sum("all of it is commented out" in loss for loss in imported("metallb", file).losses) == number - 1
