"""Files that a newcomer gets wrong: each is told by what is wrong, where, and what to do."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from bgpd.migrate.draft import ImportFailed
from bgpd.simulation.build import Builder
from bgpd.simulation.clab import read_topology
from bgpd.simulation.fabric import Fabric
from bgpd.simulation.loop import simulated_time
from bgpd.simulation.play import simulate
from bgpd.simulation.steps import read_steps
from tests.simulation.topologies import TOPOLOGY, written

SCENARIOS = [
    (
        'do = "explode"\nnode = "leaf1"',
        'scenario.toml:2: do = "explode" is nothing that can be done; one of: link-down',
    ),
    ('do = "Link_Down"\nlink = ["leaf1", "host1"]', 'did you mean "link-down"? one of'),
    ("do = 3", "scenario.toml:2: do = 3 is no text; one of: link-down"),
    ('do = ["wait"]', "scenario.toml:2: do = ['wait'] is no text; one of: link-down"),
    ('do = "wait"\nafter_s = -1', "scenario.toml:3: after_s = -1 is no number from 0 to 86400; write seconds"),
    ('do = "wait"\nafter_s = 1e300', "scenario.toml:3: after_s = 1e+300 is no number from 0 to 86400"),
    ('do = "wait"\nafter_s = nan', "scenario.toml:3: after_s = nan is no number"),
    ('do = "restart"\nnode = "leaf1"\ndown_s = inf', "scenario.toml:4: down_s = inf is no number"),
    ('do = "restart"\nnode = "leaf1"\ndown_s = "5s"', "down_s = '5s' is no number from 0 to 86400; write seconds"),
    ('do = "restart"\nnode = "leaf1"\ndown_s = true', "down_s = True is no number"),
    ('do = "link-lossy"\nlink = ["leaf1", "host1"]\nloss = 50', "loss = 50 is no number from 0 to 1; write a share"),
    ('do = "dies"\nnode = "pod1"', 'there is no host and no router "pod1"; one of: host1, leaf1'),
    (
        'do = "link-down"\nlink = ["host1", "pod1"]',
        'is no link of two nodes that is simulated; one of: ["leaf1", "host1"]',
    ),
    ('do = "link-down"\nlink = "leaf1-host1"', 'is no link of two nodes that is simulated; one of: ["leaf1", "host1"]'),
    ('do = "link-down"\nnode = "leaf1"', 'link-down has no key "node"; one of: do, after_s'),
    ('do = "wait"\ndo = "wait"', "scenario.toml:3: is not valid TOML"),
    ('do = "reload"\nnode = "host1"\nfile = "scenario.toml"', 'scenario.toml:1: step: unknown key "step"'),
    ('do = "boots"\nnode = "leaf1"', 'scenario.toml:3: leaf1 is not dead; it boots after a step with do = "dies"'),
    (
        'do = "dies"\nnode = "host1"\n[[step]]\ndo = "drain"\nnode = "host1"',
        'scenario.toml:6: host1 is dead since line 1; it needs a step before with do = "boots"',
    ),
    ('do = "claim"\nnode = "host1"\naddress = "10.64.1.3/24"', "10.64.1.3/24 has host bits set; such as"),
    ('do = "claim"\nnode = "host1"\naddress = "10.9.9.9"\nmac = "02:00"', 'mac = "02:00" is none; such as "02:00'),
    ('do = "claim"\nnode = "host1"\naddress = "10.9.9.9"\nvrf = "blue"', 'host1 has no VRF "blue"; there is none'),
    ('do = "bfd-dies"\nnode = "host1"', "host1 has no BFD; one of its neighbors needs bfd = {...}"),
    ('do = "broker-dies"', "there is no broker; a host needs [workload.mqtt]"),
    ('do = "publish"\nnode = "host1"\ntopic = "x"\nfile = "bgpd.toml"', "takes no messages; its configuration needs"),
]


def build(file: str, directory: Path) -> Fabric:
    with simulated_time(random.Random(1)) as loop:
        return Builder(read_topology(file), loop, chance=random.Random(1), directory=directory).build().fabric


def played(topology: str, scenario: str) -> None:
    simulate(
        read_topology(topology),
        lambda fabric: read_steps(scenario, fabric),
        seed=0,
        began=lambda _built: pytest.fail("it is run, though something is wrong"),
        told=lambda _report: None,
    )


@pytest.mark.parametrize(("step", "says"), SCENARIOS)
def test_error_of_a_step_is_told_before_anything_is_run(step: str, says: str, tmp_path: Path) -> None:
    scenario = tmp_path / "scenario.toml"
    scenario.write_text(f"[[step]]\n{step}\n")
    with pytest.raises(ImportFailed) as failed:
        played(written(tmp_path), str(scenario))
    assert says in str(failed.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('do = "wait"\n', 'scenario.toml:1: there is no key "do"; write it below [[step]]'),
        ('[step]\ndo = "wait"\n', "[step] is one table; write [[step]], with two brackets, for each step"),
        ('[[steps]]\ndo = "wait"\n', 'there is no key "steps"; a scenario has [[step]], one for each'),
        ("expect = 1\n", "scenario.toml:1: expect is no table; write [expect] with max_lost_s"),
        ("[expect]\nmax_lost = 1\n", 'scenario.toml:2: expect has no key "max_lost"; it has max_lost_s'),
        ("[expect]\nmax_lost_s = -1\n", "scenario.toml:2: max_lost_s = -1 is no number from 0 to 86400"),
        ("- do: wait\n", "scenario.toml:1: is not valid TOML"),
        (b"\xff\xfe\x00", "scenario.toml: is no text in UTF-8; a scenario is TOML"),
    ],
)
def test_error_of_a_scenario_is_told(text: str | bytes, says: str, tmp_path: Path) -> None:
    scenario = tmp_path / "scenario.toml"
    scenario.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ImportFailed) as failed:
        played(written(tmp_path), str(scenario))
    assert says in str(failed.value)


def test_endpoints_may_name_a_link_as_in_the_topology(tmp_path: Path) -> None:
    scenario = tmp_path / "scenario.toml"
    scenario.write_text('[[step]]\ndo = "link-down"\nlink = ["host1:eth0", "leaf1:eth1"]\n')
    (step,) = read_steps(str(scenario), build(written(tmp_path), tmp_path))
    assert step.link == ("leaf1", "host1")


TOPOLOGIES = [
    ("  nodes:", "\tnodes:", "small.clab.yml:4: is no YAML: .*; the line has a tab: write spaces"),
    ("pod1: {kind: linux}", "pod1: linux", '"pod1" is no mapping; it takes keys with values'),
    ("pod1: {kind: linux}", "pod1: {kind: [linux]}", '"kind" is no text; it takes one value'),
    ("pod1: {kind: linux}", "pod1: {group: none}", 'there is no group "none"; write it below groups'),
    ("[bgpd.toml:/etc/bgpd/bgpd.toml:ro]", "bgpd.toml:/etc/x", '"binds" is no list; it takes a list, even of one'),
    ("- ip address add 10", "- ip: address add 10", "each item is a text; one with a colon"),
    ('- endpoints: ["leaf1:eth1", "host1:eth0"]', "- leaf1:eth1", "no mapping; each item has keys with values"),
    ('"host1:eth0"]', '"host1:eth0", "pod1:eth1"]', "a link has two endpoints; write endpoints:"),
    ('["host1:pod1", "pod1:eth0"]', '["host1:a", "host1:b"]', "both ends of the link are at host1"),
    ('["host1:pod1", "pod1:eth0"]', "[{node: host1}, 2]", "node 'host1', interface '' is no endpoint; write"),
    ("pod1: {kind: linux}", "pod1: &x {kind: *x}", "stands inside what it names"),
    ("role: leaf,", "role: leaf, asn: 0,", 'the AS number of leaf1 is "0"; write labels'),
    ("role: leaf,", "role: leaf, asn: 99999999999,", 'the AS number of leaf1 is "99999999999"; write labels'),
    ("198.51.100.0/24", "198.51.100.1/24", "198.51.100.1/24 has host bits set; write labels"),
    ("- ip route add", "- ip link add link eth0 name v type vlan id 5000\n        - ip route add", "makes no VLAN"),
    ("- ip route add", "- ip link add link v name v type vlan id 5\n        - ip route add", "makes no VLAN"),
]


@pytest.mark.parametrize(("old", "new", "says"), TOPOLOGIES)
def test_error_of_a_topology_is_told(old: str, new: str, says: str, tmp_path: Path) -> None:
    assert TOPOLOGY.count(old) == 1
    file = written(tmp_path, topology=TOPOLOGY.replace(old, new))
    with pytest.raises(ImportFailed, match=says):
        build(file, tmp_path)


@pytest.mark.parametrize("key", ["endpoint: {node: host1, interface: eth9}", 'endpoints: ["host1:eth9"]'])
def test_link_with_one_end_leads_out_of_the_topology(key: str, tmp_path: Path) -> None:
    topology = f"{TOPOLOGY}    - type: mgmt-net\n      {key}\n"
    (told,) = read_topology(written(tmp_path, topology=topology)).outside
    assert told.endswith("small.clab.yml:17: leads out of the topology")
