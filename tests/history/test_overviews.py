"""The overview of an earlier time is the one that was seen last, and it costs little."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from bgpd.history.overviews import overview
from bgpd.history.reading import NotKnown
from bgpd.history.recorder import History
from bgpd.history.segments import DIRECTORY
from bgpd.model.views.host import HealthView, OverviewView, TableOverview
from bgpd.model.views.orders import DrainView
from bgpd.overview_records import BYTES_PER_S, KEEP_S, OverviewRecords
from tests.history.rig import config, write_out
from tests.scripted_backend import LEAF1

BEGAN = 1_700_000_000.0


class Rig:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.now = BEGAN
        self.view = OverviewView(
            verdict="ready",
            health=HealthView(ready=True, hostname="host1", loop_stall_s=1.0),
            drain=DrainView(),
            neighbors=[msgspec.structs.replace(LEAF1, messages_sent=1)],
            tables=[TableOverview(desired=3, installed=3)],
        )
        self.start()

    def start(self, *, is_adopting: bool = False) -> None:
        self.history = History(self.directory / DIRECTORY, max_bytes=1 << 20, config=config().rib, now=lambda: self.now)
        self.history.started((), is_adopting=is_adopting)
        self.records = OverviewRecords(self.history, lambda: self.view, clock=lambda: self.now)

    def look(self, seconds: float, **fields: object) -> None:
        """So many seconds later something differs."""
        self.now += seconds
        self.view = msgspec.structs.replace(self.view, **fields)
        self.records.look()

    def write(self) -> None:
        write_out(self.history)

    def installed(self, at: float) -> int:
        return overview(self.directory, at).overview.tables[0].installed


def table(installed: int) -> list[TableOverview]:
    return [TableOverview(desired=3, installed=installed)]


def test_what_was_seen_last_is_shown_and_when(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.look(2)
    rig.look(2, tables=table(2))  # not yet: the verdict is the same
    rig.look(KEEP_S)
    rig.look(2, tables=table(1), verdict="not ready")  # at once
    rig.write()
    with pytest.raises(NotKnown, match="nobody had looked"):
        overview(tmp_path, BEGAN + 1)
    assert [rig.installed(BEGAN + after) for after in (2, 13.9, 14, 15.9, 16, 1000)] == [3, 3, 2, 2, 1, 1]
    view = overview(tmp_path, BEGAN + 13)
    assert (view.looked_at, view.overview.verdict, view.overview.health.hostname) == (BEGAN + 2, "ready", "host1")
    neighbor = view.overview.neighbors[0]
    assert (neighbor.name, neighbor.state, neighbor.families) == ("leaf1", "established", LEAF1.families)


def test_what_differs_each_second_is_not_kept(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.look(2)
    waiting = len(rig.history._gathered.waiting)
    busy = msgspec.structs.replace(LEAF1, messages_sent=9)
    rig.look(60, neighbors=[busy], health=msgspec.structs.replace(rig.view.health, loop_stall_s=2.0))
    assert len(rig.history._gathered.waiting) == waiting


def test_a_large_one_is_kept_less_often(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    leaves = [msgspec.structs.replace(LEAF1, name=f"leaf{number}") for number in range(64)]
    rig.look(2, neighbors=leaves)
    waiting = rig.history._gathered.waiting
    count, size = len(waiting), len(waiting[-1].view)  # type: ignore[union-attr]
    assert size > KEEP_S * BYTES_PER_S
    rig.look(size / BYTES_PER_S - 1, tables=table(1))
    assert len(waiting) == count
    rig.look(2)
    assert len(waiting) == count + 1


def test_a_base_says_it_again_and_a_hand_over_goes_on(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.look(2)
    rig.history.base_began((), ())
    rig.history.base_ended()
    rig.write()
    for path in sorted((tmp_path / DIRECTORY).iterdir())[:-1]:
        path.unlink()
    assert overview(tmp_path, BEGAN + 3).looked_at == BEGAN + 2
    rig.history.close(is_handed_over=True)
    rig.now += 5
    rig.start(is_adopting=True)
    rig.write()
    assert rig.installed(BEGAN + 8) == 3
    rig.history.close()
    rig.now += 5
    rig.start()
    rig.write()
    assert "bgpd did not run" in overview(tmp_path, BEGAN + 8).remark
    with pytest.raises(NotKnown, match="nobody had looked"):
        overview(tmp_path, BEGAN + 13)
