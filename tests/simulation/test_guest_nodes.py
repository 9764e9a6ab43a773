"""Guests of the hosts of a topology: who they are, what they say, and what is told of those that are nobody."""

from __future__ import annotations

from pathlib import Path

import pytest

from bgpd.cli.reports import SimulationReport
from bgpd.config.load import load_config
from bgpd.migrate.draft import ImportFailed
from bgpd.simulation.build import Built
from bgpd.simulation.clab import read_topology
from bgpd.simulation.guests import is_permitted
from bgpd.simulation.play import simulate
from bgpd.simulation.steps import Step
from tests.simulation.__main__ import quietly
from tests.simulation.topologies import CONFIG, TOPOLOGY, written

OWN = "10.9.3.1/32"
GUEST = """
[[workload.bgp]]
name = "box"
address = "10.70.0.2"
asn = 65303
prefixes = ["10.9.3.0/24 le 32", "2001:db8:9::/48 ge 64"]
max_prefixes = 10
hold_time_s = 9
"""
NODE = """
    box:
      kind: linux
      labels: { announces: "10.9.3.1/32, 10.8.0.0/16" }
      exec: [ip address add 10.70.0.2/24 dev eth0]
"""
WITH_GUEST = (
    TOPOLOGY.replace("    pod1: {kind: linux}\n", f"    pod1: {{kind: linux}}{NODE}")
    .replace("        - ip route", "        - ip address add 10.70.0.1/24 dev box\n        - ip route", 1)
    .replace("  links:\n", '  links:\n    - endpoints: ["host1:box", "box:eth0"]\n')
)
FRR = """
interface eth0
 ip address 10.70.0.2/24
interface lo
 ip address 10.9.3.1/32
router bgp 65303
 no bgp ebgp-requires-policy
 bgp graceful-restart
 neighbor 10.70.0.1 remote-as 65203
 redistribute connected
"""
OF_FRR = WITH_GUEST.replace(NODE, "\n    box: {image: frr, binds: [box.conf:/etc/frr/frr.conf]}\n")


def run(
    tmp_path: Path, *steps: Step, topology: str = WITH_GUEST, config: str = CONFIG + GUEST
) -> tuple[SimulationReport, list[str]]:
    """The report, and what the leaf has of the host in the end."""
    quietly()
    made: list[Built] = []
    routes: list[str] = []

    def look(_report: object) -> None:
        routes[:] = sorted(made[0].fabric.routers["leaf1"].peers["host1"].routes)
        steps_left.pop()
        if not steps_left:
            made.clear()  # nothing of it outlives the simulation

    steps_left = [None, *steps]
    report = simulate(
        read_topology(written(tmp_path, topology=topology, config=config)),
        lambda _: list(steps),
        seed=0,
        began=made.append,
        told=look,
    )
    assert report.good, report
    return report, routes


@pytest.mark.parametrize("address", ["10.70.0.2", "10.70.0.0/24"])
def test_guest_says_what_its_labels_say_as_far_as_it_may(address: str, tmp_path: Path) -> None:
    config = CONFIG + GUEST.replace("10.70.0.2", address)
    report, routes = run(tmp_path, config=config)
    assert routes == ["10.64.1.1/32", OWN]
    assert report.not_simulated == []


def test_guest_says_what_its_frr_conf_says(tmp_path: Path) -> None:
    (tmp_path / "box.conf").write_text(FRR)
    report, routes = run(tmp_path, topology=OF_FRR)
    assert routes == ["10.64.1.1/32", OWN]
    assert report.routers == 1, "it is no router of the fabric"
    assert report.not_simulated == []


@pytest.mark.parametrize(("is_graceful", "has_loss"), [(True, False), (False, True)])
def test_restart_of_a_guest_costs_nothing_if_it_is_graceful(is_graceful: bool, has_loss: bool, tmp_path: Path) -> None:
    (tmp_path / "box.conf").write_text(FRR)
    restart = Step(do="restart", node="box", graceful=is_graceful)
    report, routes = run(tmp_path, restart, topology=OF_FRR)
    assert any(OWN in loss.addresses for loss in report.steps[1].losses) is has_loss
    assert OWN in routes


def test_guest_dies_and_is_there_again(tmp_path: Path) -> None:
    died, routes = run(tmp_path, Step(do="dies", node="box"))
    assert OWN not in routes
    assert died.steps[1].losses == [], "it is not there to be reached"
    _, routes = run(tmp_path, Step(do="dies", node="box"), Step(do="boots", node="box"))
    assert OWN in routes


@pytest.mark.parametrize(
    ("topology", "config", "says"),
    [
        (WITH_GUEST, GUEST.replace("10.70.0.2", "127.0.0.2"), "host1: [[workload.bgp]] box: no node is at 127.0.0.2"),
        (WITH_GUEST.replace("announces: ", "x: "), GUEST, "box, a guest of host1, announces nothing: labels"),
    ],
)
def test_guests_that_are_nobody_or_say_nothing_are_told(topology: str, config: str, says: str, tmp_path: Path) -> None:
    report, routes = run(tmp_path, topology=topology, config=CONFIG + config)
    assert routes == ["10.64.1.1/32"]
    (remark,) = report.not_simulated
    assert remark.startswith(says)


def test_guest_without_a_neighbor_at_its_host_is_told(tmp_path: Path) -> None:
    (tmp_path / "box.conf").write_text(FRR.replace("10.70.0.1", "10.70.0.9"))
    report, _ = run(tmp_path, topology=OF_FRR)
    said = "box has no neighbor for host1 (eth0), whose guest it is: it is taken to have one"
    assert report.not_simulated == [said]


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("10.8.0.0/16", "10.8.0.300/16", "box announces 10.8.0.300/16"),
        ('{ announces: "', '{ asn: x, announces: "', 'the AS number of box is "x"'),
        ("ip address add 10.70.0.1/24 dev box", "true", "box of host1 has no address beside its guest box"),
    ],
)
def test_errors_of_guests_say_what_to_do(old: str, new: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(ImportFailed, match=says):
        run(tmp_path, topology=WITH_GUEST.replace(old, new))


def test_what_a_guest_may_say_is_what_its_host_permits(tmp_path: Path) -> None:
    path = tmp_path / "bgpd.toml"
    path.write_text(CONFIG + GUEST)
    (config,) = load_config(str(path)).config.workload.bgp
    may = ("10.9.3.1/32", "10.9.3.0/24", "2001:db8:9:1::/64")
    may_not = ("10.9.4.1/32", "2001:db8:9::/48", "10.0.0.0/8")
    assert [is_permitted(config, one) for one in (*may, *may_not)] == [True] * 3 + [False] * 3
