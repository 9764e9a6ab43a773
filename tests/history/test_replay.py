"""What the history says of each moment is what the tables had, and what neighbors had been sent."""

from __future__ import annotations

from pathlib import Path

import pytest

from bgpd.history.answers import past
from bgpd.history.reading import NotKnown, of_tables, replayed
from bgpd.history.replay import Replay
from bgpd.history.segments import DIRECTORY, known_from, records_of, segments_of
from tests.history.rig import ADDRESS, VRF, Recorded, of_table, said, wanted
from tests.rib.build import V4

STEPS = 150


def of_replays(main: Replay, red: Replay) -> object:
    sent = {(name, key, one.told.block) for (name, key), one in main.audience._sent.items() if one.told is not None}
    return of_table(main.prefixes.table), of_table(red.prefixes.table), sent


@pytest.mark.parametrize("seed", range(12))
def test_each_moment_is_as_it_was(seed: int, tmp_path: Path) -> None:
    recorded = Recorded(tmp_path, seed=seed)
    for _ in range(STEPS):
        recorded.act()
    recorded.write()
    blocks = (block for one in segments_of(tmp_path / DIRECTORY) for block in records_of(one, wanted()))
    records = [record for block in blocks for record in block]
    replays = Replay("", V4, wanted()), Replay(VRF, V4, wanted())
    taken = 0
    for at, state in recorded.states.items():
        while taken < len(records) and records[taken].at <= at:
            for replay in replays:
                replay.take(records[taken])
            taken += 1
        assert not replays[0].problem
        assert of_replays(*replays) == state, f"{at - 1_700_000_000:g}"


@pytest.mark.parametrize("seed", range(6))
def test_moments_are_found_from_any_base(seed: int, tmp_path: Path) -> None:
    recorded = Recorded(tmp_path, seed=100 + seed, max_bytes=16_000)
    for _ in range(2 * STEPS):
        recorded.act()
    recorded.write()
    segments = segments_of(tmp_path / DIRECTORY)
    since = known_from(segments)
    assert since is not None
    assert since > min(recorded.states), "nothing was dropped"
    for at, state in list(recorded.states.items())[:: STEPS // 8]:
        if at < since:
            with pytest.raises(NotKnown, match="begins at"):
                past(tmp_path, ADDRESS, "", at=at)
        else:
            found = replayed(segments, of_tables(("", VRF), V4, wanted()), wanted(), since=at, until=at)
            assert of_replays(*found) == state
            view = past(tmp_path, ADDRESS, VRF, at=at)
            assert said(view.route) == of_table(found[1].prefixes.table)
