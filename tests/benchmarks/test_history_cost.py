"""The measurement of what the history costs runs, and what it measures is a history."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from benchmarks import history_cost
from bgpd.config.load import parse_config
from bgpd.history.segments import DIRECTORY, records_of, segments_of


def test_all_updates_are_in_the_history_that_is_measured(tmp_path: Path) -> None:
    config = parse_config(history_cost.NEIGHBOR, "leaf1.toml")[0]
    bodies = history_cost.updates(500)
    loop_s, _ = asyncio.run(history_cost.Round(tmp_path / DIRECTORY, config, is_on=True).run(bodies, 100))
    assert loop_s > 0
    blocks = [block for one in segments_of(tmp_path / DIRECTORY) for block in records_of(one)]
    assert [body for block in blocks for record in block for body in getattr(record, "bodies", ())] == bodies
    off = history_cost.Round(tmp_path / "off", config, is_on=False)
    asyncio.run(off.run(bodies, 100))
    assert not (tmp_path / "off").exists()


def test_a_share_is_printed_for_each_size_of_a_read(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(history_cost, "RATE", 200)
    assert history_cost.main(["--seconds", "1", "--rounds", "1"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[2:]] == ["100", "30", "1"]
