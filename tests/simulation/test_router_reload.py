"""A router that takes over another frr.conf: what that changes, which sessions end, and what it cannot take over."""

from __future__ import annotations

from pathlib import Path

import pytest

from bgpd.cli.reports import SimulationReport
from bgpd.migrate.draft import ImportFailed
from bgpd.simulation.build import Built
from bgpd.simulation.clab import read_topology
from bgpd.simulation.play import simulate
from bgpd.simulation.steps import Step
from tests.simulation.__main__ import quietly
from tests.simulation.topologies import CONFIG, TOPOLOGY, written

FRR = """
interface eth1
 ip address 10.0.11.0/31
ip route 198.51.100.0/24 blackhole
ip route 203.0.113.0/24 blackhole
ip prefix-list FEW permit 198.51.100.0/24
router bgp 65201
 no bgp ebgp-requires-policy
 network 198.51.100.0/24
 network 203.0.113.0/24
 neighbor 10.0.11.1 remote-as 65203
 address-family l2vpn evpn
  neighbor 10.0.11.1 activate
 exit-address-family
"""
BOUND = TOPOLOGY.replace(
    'leaf1: {kind: linux, labels: {role: leaf, announces: "198.51.100.0/24"}}',
    "leaf1: {kind: linux, binds: [frr.conf:/etc/frr/frr.conf]}",
)
WITH_EVPN = CONFIG.replace('import = "all"', 'import = "all"\nfamilies = ["ipv4-unicast", "l2vpn-evpn"]')
KEPT, OTHER, OWN = "198.51.100.0/24", "203.0.113.0/24", "10.64.1.1/32"


def run(
    tmp_path: Path, *others: str, topology: str = BOUND, config: str = WITH_EVPN
) -> tuple[SimulationReport, list[int]]:
    """After each of these configurations of the leaf, one after the other: the report, and how often its session with
    the host had ended."""
    quietly()
    (tmp_path / "frr.conf").write_text(FRR)
    steps = []
    for number, text in enumerate(others):
        path = tmp_path / f"other{number}.conf"
        path.write_text(text)
        steps.append(Step(do="reload", node="leaf1", file=str(path)))
    made: list[Built] = []
    ended: list[int] = []

    def look(_report: object) -> None:
        ended.append(made[0].fabric.routers["leaf1"].peers["host1"].ended)
        if len(ended) > len(steps):
            made.clear()  # nothing of it outlives the simulation

    report = simulate(
        read_topology(written(tmp_path, topology=topology, config=config)),
        lambda _: steps,
        seed=0,
        began=made.append,
        told=look,
    )
    assert report.good, report
    return report, ended


def lost(report: SimulationReport, step: int) -> set[str]:
    """What is lost by a step, and not there again."""
    return {one for loss in report.steps[step].losses if loss.seconds is None for one in loss.addresses}


def test_neighbor_is_shut_down_and_not_any_more(tmp_path: Path) -> None:
    shut = FRR.replace("remote-as 65203\n", "remote-as 65203\n neighbor 10.0.11.1 shutdown\n")
    report, ended = run(tmp_path, shut, FRR)
    assert ended == [0, 1, 1]
    assert lost(report, 1) == {KEPT, OTHER, OWN}
    assert {one for loss in report.steps[2].losses for one in loss.addresses if loss.goes_on} == {KEPT, OTHER, OWN}


def test_other_networks_and_policies_end_no_session(tmp_path: Path) -> None:
    report, ended = run(
        tmp_path,
        FRR.replace(" network 203.0.113.0/24\n", ""),
        FRR.replace(" address-family", " neighbor 10.0.11.1 prefix-list FEW out\n address-family"),
        FRR.replace(" address-family", " neighbor 10.0.11.1 prefix-list FEW in\n address-family"),
    )
    assert ended == [0, 0, 0, 0]
    assert report.steps[1].gone == [OTHER]
    assert lost(report, 2) == {OTHER}
    assert lost(report, 3) == {OWN}


def test_leaf_that_drops_a_family_ends_the_session(tmp_path: Path) -> None:
    report, ended = run(tmp_path, FRR.replace("  neighbor 10.0.11.1 activate\n", ""), FRR)
    assert ended == [0, 1, 2]
    assert lost(report, 1) == lost(report, 2) == set()
    assert report.steps[1].updates > 0


def test_there_is_no_session_without_a_family_in_common_and_none_is_missed(tmp_path: Path) -> None:
    only_evpn = WITH_EVPN.replace('"ipv4-unicast", ', "")
    report, ended = run(tmp_path, FRR.replace("  neighbor 10.0.11.1 activate\n", ""), config=only_evpn)
    assert ended == [0, 1]
    assert report.steps[1].step == "reload leaf1 other0.conf"


def test_what_of_it_is_not_simulated_is_told_before(tmp_path: Path) -> None:
    report, _ = run(tmp_path, FRR.replace(" network", " bgp dampening\n network", 1))
    assert report.not_simulated == ["leaf1 after its reload: bgp dampening"]


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("router bgp 65201", "router bgp 65299", "leaf1 is AS 65299 here, and was 65201"),
        ("router bgp 65201", "router ospf", "has no"),
    ],
)
def test_what_it_cannot_take_over_is_told(old: str, new: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(ImportFailed, match=says):
        run(tmp_path, FRR.replace(old, new))


def test_neighbor_that_was_not_there_is_an_error(tmp_path: Path) -> None:
    quietly()
    shut = FRR.replace("remote-as 65203\n", "remote-as 65203\n neighbor 10.0.11.1 shutdown\n")
    (tmp_path / "frr.conf").write_text(shut)
    (tmp_path / "other.conf").write_text(FRR)
    step = Step(do="reload", node="leaf1", file=str(tmp_path / "other.conf"))
    with pytest.raises(ImportFailed, match=r"leaf1 had no session with host1 \(eth1\) at the start"):
        simulate(
            read_topology(written(tmp_path, topology=BOUND, config=WITH_EVPN)),
            lambda _: [step],
            seed=0,
            began=lambda _: None,
            told=lambda _: None,
        )


def test_router_without_a_configuration_takes_over_none(tmp_path: Path) -> None:
    with pytest.raises(ImportFailed, match="leaf1 has no configuration that is read"):
        run(tmp_path, FRR, topology=TOPOLOGY)
