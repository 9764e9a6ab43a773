"""What FRR's aggregates, MED and local AS numbers make of paths, from one end of a fabric to the other."""

from __future__ import annotations

from pathlib import Path

import pytest

from bgpd.cli.reports import StepReport
from bgpd.simulation.build import Built
from bgpd.simulation.clab import read_topology
from bgpd.simulation.peer import LocalAs
from bgpd.simulation.play import simulate
from bgpd.simulation.router import by_med
from bgpd.simulation.steps import Step
from bgpd.simulation.wire import Route
from tests.simulation.__main__ import quietly
from tests.simulation.topologies import CONFIG, written

TOPOLOGY = """
name: small
topology:
  nodes:
    leaf1: {binds: [leaf1.conf:/etc/frr/frr.conf]}
    leaf2: {binds: [leaf2.conf:/etc/frr/frr.conf]}
    spine: {binds: [spine.conf:/etc/frr/frr.conf]}
    host1:
      binds: ["bgpd.toml:/etc/bgpd/bgpd.toml"]
      exec:
        - ip address add 10.0.11.1/31 dev eth0
        - ip route add 10.64.1.1/32 dev pod1
        - ip route add 10.64.1.2/32 dev pod1
    pod1: {kind: linux}
  links:
    - endpoints: ["leaf1:eth1", "host1:eth0"]
    - endpoints: ["host1:pod1", "pod1:eth0"]
    - endpoints: ["spine:eth1", "leaf1:eth9"]
    - endpoints: ["spine:eth2", "leaf2:eth9"]
"""
LEAF = """
interface eth1
 ip address 10.0.11.0/31
ip route 198.51.100.0/24 blackhole
route-map NEAR permit 10
 set metric 10
route-map FAR permit 10
 set metric 50
router bgp {asn}
 no bgp ebgp-requires-policy
 neighbor eth9 interface remote-as 65100
"""
SPINE = """
router bgp 65100
 no bgp ebgp-requires-policy
 bgp bestpath as-path multipath-relax
 neighbor eth1 interface remote-as external
 neighbor eth2 interface remote-as external
"""
TO_HOST = " neighbor 10.0.11.1 remote-as 65203\n"
NETWORK = "198.51.100.0/24"
SUMMARY, INSIDE, BESIDE = "10.64.1.0/31", "10.64.1.1/32", "10.64.1.2/32"


class Seen:
    """Of a fabric: best routes and ways by router and prefix, what routers are for each other, and what was told."""

    def __init__(self, built: Built) -> None:
        routers = built.fabric.routers
        self.best = {name: dict(one.best) for name, one in routers.items()}
        self.fib = {name: dict(one.fib) for name, one in routers.items()}
        peers = {(name, to): peer for name, one in routers.items() for to, peer in one.peers.items()}
        self.announced_as = {names: peer.announced_as for names, peer in peers.items()}
        self.local_as = {names: peer.local_as for names, peer in peers.items()}
        self.remarks, self.unforeseen = built.remarks, built.unforeseen


def run(
    tmp_path: Path,
    *steps: Step,
    leaf1: str = TO_HOST,
    leaf2: str = "",
    spine: str = "",
    second: int = 65202,
    config: str = CONFIG,
) -> Seen:
    """What has become of the fabric after these steps; each "router bgp" has these lines more. `second`: leaf2's AS."""
    quietly()
    seen: list[Seen] = []
    for name, text in (
        ("leaf1", LEAF.format(asn=65201) + leaf1),
        ("leaf2", LEAF.format(asn=second) + leaf2),
        ("spine", SPINE + spine),
    ):
        (tmp_path / f"{name}.conf").write_text(text)
    made: list[Built] = []

    def look(_report: StepReport) -> None:
        seen.append(Seen(made[0]))
        if len(seen) > len(steps):
            made.clear()  # nothing of it outlives the simulation

    report = simulate(
        read_topology(written(tmp_path, topology=TOPOLOGY, config=config)),
        lambda _fabric: list(steps),
        seed=0,
        began=made.append,
        told=look,
    )
    assert report.good, report
    return seen[-1]


def test_summary_is_announced_while_something_is_inside_and_in_its_place(tmp_path: Path) -> None:
    lines = f"{TO_HOST} aggregate-address {SUMMARY} summary-only\n"
    seen = run(tmp_path, leaf1=lines)
    assert seen.best["spine"].keys() == {SUMMARY, BESIDE}
    assert seen.best["leaf2"][SUMMARY].as_path == (65100, 65201)
    assert seen.remarks == []
    seen = run(tmp_path, Step(do="release", node="host1", address=INSIDE), leaf1=lines)
    assert seen.best["spine"].keys() == {BESIDE}
    seen = run(tmp_path, leaf1=lines.replace(" summary-only", ""))
    assert seen.best["spine"].keys() == {SUMMARY, INSIDE, BESIDE}


def test_what_an_aggregate_says_beside_is_told(tmp_path: Path) -> None:
    seen = run(tmp_path, leaf1=f"{TO_HOST} aggregate-address {SUMMARY} as-set\n")
    assert seen.remarks == [f"leaf1: aggregate-address {SUMMARY} as-set: it is announced without as-set"]


@pytest.mark.parametrize(
    ("second", "spine", "ways"),
    [(65201, "", ("leaf2",)), (65202, "", ("leaf1", "leaf2")), (65202, " bgp always-compare-med\n", ("leaf2",))],
)
def test_lower_med_wins_among_neighbors_of_one_as(
    second: int, spine: str, ways: tuple[str, ...], tmp_path: Path
) -> None:
    seen = run(
        tmp_path,
        leaf1=f"{TO_HOST} network {NETWORK} route-map FAR\n",
        leaf2=f" network {NETWORK} route-map NEAR\n",
        spine=spine,
        second=second,
    )
    assert seen.fib["spine"][NETWORK] == ways


def test_med_of_a_neighbor_goes_no_further(tmp_path: Path) -> None:
    seen = run(tmp_path, leaf1=f"{TO_HOST} network {NETWORK} route-map FAR\n")
    assert [seen.best[name][NETWORK].med for name in ("spine", "leaf2")] == [50, None]


@pytest.mark.parametrize(
    ("words", "path", "announced"),
    [
        ("", (65201, 65199, 65203), (65199, 65201)),
        (" no-prepend", (65201, 65203), (65199, 65201)),
        (" no-prepend replace-as", (65201, 65203), (65199,)),
    ],
)
def test_router_is_of_another_as_for_a_neighbor(
    words: str, path: tuple[int, ...], announced: tuple[int, ...], tmp_path: Path
) -> None:
    leaf = f"{TO_HOST} neighbor 10.0.11.1 local-as 65199{words}\n"
    seen = run(tmp_path, leaf1=leaf, config=CONFIG.replace("asn = 65201", "asn = 65199"))
    assert seen.best["spine"][INSIDE].as_path == path
    assert seen.announced_as["leaf1", "host1"] == announced
    assert seen.remarks == []
    assert seen.unforeseen == ["local-as of leaf1 for host1"]


def test_routers_that_expect_another_as_of_each_other_are_told(tmp_path: Path) -> None:
    spine = " neighbor eth2 interface remote-as 65299\n"
    with pytest.raises(AssertionError, match="spine has no session with leaf2"):
        run(tmp_path, spine=spine)
    seen = run(tmp_path, spine=spine, leaf2=" neighbor eth9 local-as 65299\n")
    assert seen.remarks == []
    assert seen.local_as["leaf2", "spine"] == LocalAs(65299)


def test_med_counts_after_the_path_and_before_what_comes_from_outside() -> None:
    long = Route(peer="a", as_path=(1, 2), med=0)
    inside, outside = (Route(peer=one, as_path=(1,), med=5, is_internal=one == "b") for one in "bc")
    cheap = Route(peer="d", as_path=(1,), is_internal=True)
    assert by_med([long, inside, outside, cheap], compares_all=False) == [cheap]
    assert by_med([long, inside, outside], compares_all=False) == [outside]
