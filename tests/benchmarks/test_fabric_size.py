"""The chart of simulated fabrics is the one of what was measured."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from benchmarks.fabric_size import DOCS, Event, Result, _ticks, chart, drawn, read, table


def test_chart_and_table_in_the_documents_are_of_the_results() -> None:
    assert (DOCS / "fabric-size.svg").read_text() == chart(drawn())
    assert table(read()) in (DOCS / "simulation.md").read_text()
    assert all(one.wrong == [] for one in read())


@pytest.mark.parametrize(
    ("values", "ticks"), [([0.02, 9.0], [0.01, 0.1, 1.0, 10.0]), ([3, 40_000], [1, 10, 100, 1_000, 10_000, 100_000])]
)
def test_ticks_are_around_all_values(values: list[float], ticks: list[float]) -> None:
    assert _ticks(values) == ticks


def test_chart_is_well_formed_whatever_is_measured() -> None:
    event = Event(seconds=0.0, updates=0)
    one = Result(
        hosts=10, leaves=2, spines=2, workloads=1, start=event, link=event, leaf=event, cpu_s=1, memory_mb=1, wrong=[]
    )
    for results in (
        [one],
        [one, Result(**{name: getattr(one, name) for name in one.__struct_fields__} | {"hosts": 20})],
    ):
        assert len(ET.fromstring(chart(results)).findall(".//{*}polyline")) == 9
