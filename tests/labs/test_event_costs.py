"""The table of docs/event-costs.md: what is written of a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from labs import event_costs
from labs.event_costs import BEGIN, END, PAGE, EventCost, record
from labs.namespace import Namespace
from labs.traffic import FlowResult, Pair

PAIR = Pair(Namespace("pod1"), "10.0.0.1")


def cost(*results: FlowResult, passed: bool = True) -> EventCost:
    return EventCost.of("a fault", results, may_cost="a moment", passed=passed, detail="")


def test_cost_is_what_all_flows_lost_and_the_longest_outage_of_one() -> None:
    found = cost(FlowResult(PAIR, 100, 0, 0.0), FlowResult(PAIR, 100, 3, 30.0), FlowResult(PAIR, 50, 40, 400.0))
    assert (found.flows, found.hit, found.sent, found.lost, found.outage_ms) == (3, 2, 250, 43, 400.0)


def test_page_has_what_was_counted_between_its_marks_and_an_event_that_cost_more_is_marked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "costs.md"
    page.write_text(f"before\n{BEGIN}\nof an earlier run\n{END}\nafter\n")
    monkeypatch.setattr(event_costs, "PAGE", page)
    monkeypatch.setattr(event_costs, "run_command", lambda command: "bgpd version 8.4.4")
    record([cost(FlowResult(PAIR, 1000, 0, 0.0)), cost(FlowResult(PAIR, 1000, 7, 70.0), passed=False)])
    text = page.read_text()
    assert "| a fault | 0 | 1,000 |  |  | a moment |  |" in text
    assert "| a fault | 7 | 1,000 | 1 of 1 | 70 ms | a moment | **more** |" in text
    assert "FRR 8.4.4" in text
    assert "earlier" not in text
    assert text.startswith("before\n")
    assert text.endswith("after\n")


def test_page_of_the_project_has_a_run_in_it() -> None:
    assert PAGE.read_text().count("\n| ") > 10
