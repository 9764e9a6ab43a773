"""What the history says of each moment is what the tables had."""

from __future__ import annotations

from pathlib import Path

import pytest

from bgpd.history.answers import NotKnown, past
from bgpd.history.replay import Replay
from bgpd.history.segments import DIRECTORY, known_from, records_of, segments_of
from bgpd.rib.views import longest_match, route_view
from tests.history.rig import ADDRESS, Recorded, keys, said
from tests.rib.build import V4

STEPS = 150


def of_replay(replay: Replay) -> object:
    table = replay.prefixes.table
    found = longest_match(table, V4, ADDRESS) or longest_match(table, V4, ADDRESS, usable=False)
    return said(route_view(table, V4, found) if found is not None else None)


@pytest.mark.parametrize("seed", range(12))
def test_each_moment_is_as_it_was(seed: int, tmp_path: Path) -> None:
    recorded = Recorded(tmp_path, seed=seed)
    for _ in range(STEPS):
        recorded.act()
    recorded.write()
    records = [record for one in segments_of(tmp_path / DIRECTORY) for block in records_of(one) for record in block]
    replay = Replay("", V4, keys())
    taken = 0
    for at, state in recorded.states.items():
        while taken < len(records) and records[taken].at <= at:
            replay.take(records[taken])
            taken += 1
        assert not replay.problem
        assert of_replay(replay) == state, f"{at - 1_700_000_000:g}"


@pytest.mark.parametrize("seed", range(6))
def test_moments_are_found_from_any_base(seed: int, tmp_path: Path) -> None:
    recorded = Recorded(tmp_path, seed=100 + seed, max_bytes=8_000)
    for _ in range(2 * STEPS):
        recorded.act()
    recorded.write()
    since = known_from(segments_of(tmp_path / DIRECTORY))
    assert since is not None
    assert since > min(recorded.states), "nothing was dropped"
    for at, state in list(recorded.states.items())[:: STEPS // 8]:
        if at < since:
            with pytest.raises(NotKnown, match="begins at"):
                past(tmp_path, ADDRESS, "", at=at)
        else:
            assert said(past(tmp_path, ADDRESS, "", at=at).route) == state
