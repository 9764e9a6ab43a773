"""A running laboratory: VLANs work whether the kernel has them or not, and go down with their link."""

from __future__ import annotations

from pathlib import Path

import pytest

from labs.laboratory import Laboratory
from labs.process import LabError, wait_until
from labs.topology import Topology, load
from labs.traffic import Pair, reachable

TWO_NODES = """
name: vlans
topology:
  nodes:
    a:
      kind: linux
      exec:
        - ip link add link eth1 name eth1.101 type vlan id 101
        - ip link set eth1.101 up
        - ip address add 10.0.0.1/24 dev eth1.101
    b:
      kind: linux
      exec:
        - ip link add link eth2 name eth2.101 type vlan id 101
        - ip link set eth2.101 up
        - ip address add 10.0.0.2/24 dev eth2.101
  links: [{endpoints: ["a:eth1", "b:eth2"]}]
"""


@pytest.fixture
def topology(tmp_path: Path) -> Topology:
    path = tmp_path / "vlans.clab.yml"
    path.write_text(TWO_NODES)
    return load(path)


def carry_frames_and_follow_their_link(topology: Topology) -> list[str]:
    said: list[str] = []
    with Laboratory(topology, progress=said.append) as lab:
        a = lab.namespaces["a"]

        def answers() -> bool:
            """The kernel passes a change of carrier on to VLAN devices up to a second later."""
            return "1 received" in a.run("ping", "-c", "1", "-W", "1", "10.0.0.2")

        wait_until(answers, 10, "an answer over the new link")
        lab.set_link("b", "a", "down")
        with pytest.raises(LabError):
            a.run("ping", "-c", "1", "-W", "1", "10.0.0.2")
        assert "LOWER_UP" not in a.ip("link", "show", "eth1.101")
        lab.set_link("b", "a", "up")
        wait_until(answers, 10, "an answer over the link that is back")
    return said


@pytest.mark.netns
def test_sub_interfaces_carry_frames_and_go_down_with_their_link(topology: Topology) -> None:
    carry_frames_and_follow_their_link(topology)


@pytest.mark.netns
def test_silent_node_neither_hears_nor_is_heard_and_its_links_stay_up(tmp_path: Path) -> None:
    path = tmp_path / "pair.clab.yml"
    path.write_text("""
name: pair
topology:
  nodes:
    a: {kind: linux, exec: [ip address add 10.0.0.1/24 dev eth1]}
    b: {kind: linux, exec: [ip address add 10.0.0.2/24 dev eth2]}
  links: [{endpoints: ["a:eth1", "b:eth2"]}]
""")
    with Laboratory(load(path), progress=lambda text: None) as lab:
        a = lab.namespaces["a"]
        wait_until(lambda: reachable(Pair(a, "10.0.0.2")), 10, "an answer")
        lab.silence("b")
        assert not reachable(Pair(a, "10.0.0.2"))
        assert "LOWER_UP" in a.ip("link", "show", "eth1")
        lab.unsilence("b")
        wait_until(lambda: reachable(Pair(a, "10.0.0.2")), 10, "an answer again")


@pytest.mark.vm
def test_sub_interfaces_are_vlan_devices_where_the_kernel_has_them(topology: Topology) -> None:
    assert not any("veth pairs take their place" in line for line in carry_frames_and_follow_their_link(topology))
