"""The dashboard is one that Grafana takes and a person reads: what its linter asks for, and room for each panel."""

from __future__ import annotations

import json
import re
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

DASHBOARD: dict[str, Any] = json.loads((Path(__file__).parent.parent / "conf/dashboard.json").read_text())
ALL: list[dict[str, Any]] = DASHBOARD["panels"]
PANELS = [panel for panel in ALL if panel["type"] != "row"]
COLUMNS = 24
UNITS = {"none", "short", "ops", "bytes", "percentunit", "s"}


def test_dashboard_is_found_again_after_an_import() -> None:
    assert re.fullmatch(r"[\w-]{1,40}", DASHBOARD["uid"])
    assert DASHBOARD["title"]
    assert DASHBOARD["schemaVersion"] >= 36, "a data source is named by type and uid"
    names = [one["name"] for one in DASHBOARD["templating"]["list"]]
    assert names[:2] == ["datasource", "instance"]


def test_numbers_of_panels_are_their_own() -> None:
    numbers = [panel["id"] for panel in ALL]
    assert len(numbers) == len(set(numbers))


def test_panels_fit_and_lie_on_no_other() -> None:
    places = [(panel["title"], panel["gridPos"]) for panel in ALL]
    for title, place in places:
        assert place["x"] + place["w"] <= COLUMNS, title
    for (one, a), (other, b) in combinations(places, 2):
        apart = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
        assert apart or a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"], f"{one}, {other}"


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: str(panel["title"]))
def test_panel_says_what_it_shows_and_asks_the_chosen_source(panel: dict[str, Any]) -> None:
    assert panel["description"].endswith("."), "what a person reads beside it"
    assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    assert panel["fieldConfig"]["defaults"]["unit"] in UNITS
    references = [target["refId"] for target in panel["targets"]]
    assert len(references) == len(set(references))
    for target in panel["targets"]:
        assert "$instance" in target["expr"], "the hosts that are chosen"
        assert panel["type"] != "timeseries" or target["legendFormat"]
        for window in re.findall(r"\[([^\]]+)\]", target["expr"]):
            assert window == "$__rate_interval" or re.fullmatch(r"\d+[mhd]", window), "as long as a scrape at least"
