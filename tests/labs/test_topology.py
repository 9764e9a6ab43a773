"""The topology reader: what it understands and refuses, and that the shipped files containerlab would accept."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from labs.process import LabError
from labs.topology import Endpoint, load

SHIPPED = Path(__file__).parents[2] / "labs" / "containerlab"
TWO_LEAF = SHIPPED / "two-leaf.clab.yml"

# Keys of containerlab's topology schema that a file of ours may use, and must spell so.
FILE_KEYS = {"name", "topology", "mgmt", "prefix"}
TOPOLOGY_KEYS = {"defaults", "kinds", "groups", "nodes", "links"}
NODE_KEYS = {"kind", "image", "network-mode", "binds", "exec", "entrypoint", "cmd", "labels", "env", "sysctls", "group"}
LINK_KEYS = {"endpoints", "mtu"}


def write(directory: Path, text: str) -> Path:
    path = directory / "lab.clab.yml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("file", sorted(SHIPPED.glob("*.clab.yml")), ids=lambda file: file.name)
def test_shipped_file_uses_only_keys_of_the_containerlab_schema(file: Path) -> None:
    raw = yaml.safe_load(file.read_text())
    topology = raw["topology"]
    assert set(raw) <= FILE_KEYS
    assert set(topology) <= TOPOLOGY_KEYS
    for node in [*topology["nodes"].values(), *topology["kinds"].values()]:
        assert set(node) <= NODE_KEYS
    for node in topology["nodes"].values():
        assert node["kind"] == "linux"
        assert node["image"]
        assert all(isinstance(value, str) for value in node["labels"].values())
    for link in topology["links"]:
        assert set(link) <= LINK_KEYS
        assert [end.count(":") for end in link["endpoints"]] == [1, 1]


def test_two_leaf_file_has_the_fabric_it_promises() -> None:
    topology = load(TWO_LEAF)
    roles = {
        role: [node.name for node in topology.with_role(role)] for role in ("spine", "leaf", "host", "pod", "server")
    }
    assert roles == {
        "spine": ["spine"],
        "leaf": ["leaf1", "leaf2"],
        "host": ["host1", "host2"],
        "pod": ["pod11", "pod12", "pod21", "pod22"],
        "server": ["server"],
    }
    for host in topology.with_role("host"):
        assert {"leaf1", "leaf2"} < {node.name for node in topology.neighbors(host.name)}
        assert host.bgpd_config is not None
        assert host.frr_config is None
    assert all(node.frr_config is not None for node in topology.with_role("leaf", "spine"))


def test_addresses_of_a_node_are_those_its_exec_lines_add() -> None:
    assert load(TWO_LEAF).nodes["pod11"].addresses == ["10.64.1.1", "2001:db8:64:1::1"]


def test_link_between_gives_the_asked_end_first() -> None:
    topology = load(TWO_LEAF)
    assert topology.link_between("leaf1", "host1") == (Endpoint("leaf1", "eth1"), Endpoint("host1", "eth0"))
    assert topology.link_between("host1", "leaf1") == (Endpoint("host1", "eth0"), Endpoint("leaf1", "eth1"))
    with pytest.raises(LabError, match="no link between leaf1 and leaf2"):
        topology.link_between("leaf1", "leaf2")


def test_kind_and_defaults_are_inherited_as_joined_lists(tmp_path: Path) -> None:
    text = """
name: small
topology:
  defaults: {kind: linux, exec: [a b]}
  kinds: {linux: {exec: [c]}}
  nodes: {n: {exec: ["d 'e f'"]}}
"""
    assert load(write(tmp_path, text)).nodes["n"].commands == (("a", "b"), ("c",), ("d", "e f"))


def test_sub_interfaces_of_one_vlan_are_linked() -> None:
    topology = load(SHIPPED / "evpn-two-tenant.clab.yml")
    assert topology.vlan_links(topology.links[0]) == [
        (Endpoint("leaf1", "eth1.101"), Endpoint("host1", "eth0.101")),
        (Endpoint("leaf1", "eth1.102"), Endpoint("host1", "eth0.102")),
    ]
    assert topology.vlan_links(topology.links[-1]) == []


def test_tenants_of_the_evpn_file_have_the_same_addresses() -> None:
    nodes = load(SHIPPED / "evpn-two-tenant.clab.yml").nodes
    for like in ("pod1", "vm"):
        assert nodes[f"blue-{like}"].addresses == nodes[f"red-{like}"].addresses


def test_program_of_a_node_is_run_from_where_its_file_is_bound_from() -> None:
    backend = load(SHIPPED / "feeds.clab.yml").nodes["pod11"]
    assert backend.program == ("python3", str(SHIPPED / "echo_server.py"), "pod11", "8000")
    assert load(TWO_LEAF).nodes["pod11"].program == ()


def test_address_on_loopback_is_not_one_to_be_pinged() -> None:
    backend = load(SHIPPED / "feeds.clab.yml").nodes["pod11"]
    assert backend.addresses == ["10.64.1.1"]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("name: [", "while parsing"),
        ("name: x\ntopology: {nodes: {a: {kind: srl}}}", 'kind "srl" is not supported'),
        ("name: x\ntopology: {nodes: {a: {kind: linux, licence: y}}}", "unknown field `licence`"),
        ("name: x\ntopology: {nodes: {a: {kind: linux, binds: [gone:/etc/x]}}}", "gone does not exist"),
        ("name: x\ntopology: {nodes: {a: {kind: linux, binds: [lab.clab.yml]}}}", "is not SOURCE:/TARGET"),
        ('name: x\ntopology: {nodes: {a: {kind: linux}}, links: [{endpoints: ["a:e", "b:e"]}]}', 'no node "b"'),
        ('name: x\ntopology: {nodes: {a: {kind: linux}}, links: [{endpoints: ["a:e", "a"]}]}', "1 to 15 characters"),
        ('name: x\ntopology: {nodes: {a: {kind: linux}}, links: [{endpoints: ["a:e", "a:e"]}]}', "used by 2 links"),
        ("topology: {nodes: {}}", "missing required field `name`"),
    ],
)
def test_bad_file_is_refused_with_its_name_and_the_reason(tmp_path: Path, text: str, complaint: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(LabError) as caught:
        load(path)
    assert str(path) in str(caught.value)
    assert complaint in str(caught.value)


def test_missing_file_is_refused_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"gone\.yml: No such file"):
        load(tmp_path / "gone.yml")
