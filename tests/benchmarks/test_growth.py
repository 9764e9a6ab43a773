"""A series is linear, or the step in it is named; it becomes a table and a chart."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks import charts, growth, peers, results
from benchmarks.cases.growth import SERIES, case_name, run_neighbors, run_vrfs
from benchmarks.crowd import Crowd
from benchmarks.evpn_routes import EvpnRouteSet
from benchmarks.measurement import Figures
from benchmarks.results import ResultFile, Run, Summary


def series(costs: dict[int, float]) -> Summary:
    runs = [
        Run(case=case_name("routes", count), contestant="bgpd", figures={"seconds": value, "peak_mb": 60.0 + value})
        for count, value in costs.items()
    ]
    machine = {"kernel": "6.18", "cpu": "some", "cores": 2, "python": "3.11"}
    file = ResultFile(
        name="growth", title="Growth", machine=machine, versions={}, repeat=1, quick=False, taken_on="", runs=runs
    )
    return Summary([file])


@pytest.mark.parametrize(
    ("cost", "said"),
    [
        (lambda n: 0.1 + n / 1e6, "linear, no step"),
        (lambda n: 0.1 + n / 1e6 * (0.9 if n > 300_000 else 1.1), "linear, no step"),
        (lambda n: (n / 1e6) ** 2, "step between 500k and 1M: 3.0 times the cost of one"),
        (lambda n: n / 1e6 + (1.0 if n > 600_000 else 0.0), "step between 500k and 1M: 3.0 times the cost of one"),
    ],
)
def test_a_step_is_named_and_noise_is_none(cost: object, said: str) -> None:
    assert callable(cost)
    assert growth.verdict([(n, cost(n)) for n in (1_000, 250_000, 500_000, 1_000_000, 2_000_000)]) == said


def test_two_points_say_nothing() -> None:
    assert growth.verdict([(1, 1.0), (2, 9.0)]) == ""


def test_a_table_has_sizes_figures_and_verdicts() -> None:
    text = "".join(growth.markdown(series({count: count / 1e6 for count in SERIES["routes"]})))
    assert "| 100k | 0.1 | 60.1 |" in text
    assert text.endswith("| | linear, no step | linear, no step |\n")


def test_a_chart_of_all_series_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    summary = series({1_000: 0.1, 10_000: 0.2})
    assert charts.draw(summary, summary.files[0]) == tmp_path / "growth.svg"
    assert (tmp_path / "growth.svg").read_text().startswith("<?xml")


def test_evpn_routes_of_vrfs_are_in_equal_shares() -> None:
    routes = EvpnRouteSet(count=300, vrfs=3)
    assert [len(routes.prefixes()[routes.of_vrf(number)]) for number in range(3)] == [100, 100, 100]
    assert len(list(routes.announcements(asn=65201, next_hop="10.0.0.2"))) >= 3


@pytest.mark.netns
@pytest.mark.parametrize("run", [run_vrfs, run_neighbors])
def test_vrfs_and_dynamic_neighbors_have_all_their_routes_in_the_kernel(run: Callable[[str, int], Figures]) -> None:
    assert run(peers.PLAIN, 3)["routes_per_s"] > 0


def test_peers_of_a_crowd_announce_routes_of_their_own() -> None:
    crowd = Crowd(count=5, routes=10)
    assert len(crowd.next_hops()) == 50
    assert len(set(crowd.next_hops().values())) == 5
