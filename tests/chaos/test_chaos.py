"""Chaos on real parts, from fixed seeds: two minutes of it always, two more with the long tests.

`make chaos` is the same with a seed of its own, for as long as is wanted.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.run import Chaos

pytestmark = pytest.mark.netns

FOLDER = Path("labs/run/chaos")


def test_two_minutes_of_chaos_end_as_they_should() -> None:
    Chaos(17, FOLDER).run(seconds=120)


@pytest.mark.long
@pytest.mark.parametrize("seed", [1, 2])
def test_a_minute_of_chaos_ends_as_it_should(seed: int) -> None:
    Chaos(seed, FOLDER).run(seconds=60)
