"""Many routes that a neighbor withdraws are one event, few are none."""

from __future__ import annotations

import pytest

from bgpd.model.source import Source, SourceKind
from bgpd.rib.losses import Loss, Losses


def session(name: str) -> Source:
    return Source(name=name, kind=SourceKind.EBGP)


LEAF1, LEAF2 = session("leaf1"), session("leaf2")


@pytest.mark.parametrize(
    ("counts", "told"),
    [
        ([1000, 1000, 1000], []),
        ([1000, 400, 400], [Loss("leaf1", 1000, 400, 0.0)]),
        ([1000, 700, 300, 0, 0], [Loss("leaf1", 1000, 0, 0.0)]),
        ([1000, 0, 500], [Loss("leaf1", 1000, 0, 0.0)]),
        ([1000, 0, 500, 100, 100], [Loss("leaf1", 1000, 0, 0.0), Loss("leaf1", 500, 100, 2.0)]),
        ([1000, 950, 960, 900, 910], []),
        ([99, 0, 0], []),
        ([100, 0, 0], [Loss("leaf1", 100, 0, 0.0)]),
        ([100_000, 90_001, 90_001], []),
        ([100_000, 90_000, 90_000], [Loss("leaf1", 100_000, 90_000, 0.0)]),
        ([1000, 500, None, 0, 0], []),
    ],
)
def test_what_falls_is_told_once_it_falls_no_more(counts: list[int | None], told: list[Loss]) -> None:
    losses, found = Losses(), []
    for now, count in enumerate(counts):
        found += losses.look({} if count is None else {LEAF1: count}, float(now))
    assert found == told


def test_neighbors_are_told_apart() -> None:
    losses = Losses()
    losses.look({LEAF1: 500, LEAF2: 500}, 1.0)
    losses.look({LEAF1: 0, LEAF2: 500}, 2.0)
    assert losses.look({LEAF1: 0, LEAF2: 0}, 3.0) == [Loss("leaf1", 500, 0, 1.0)]
    assert losses.look({LEAF1: 0, LEAF2: 0}, 4.0) == [Loss("leaf2", 500, 0, 2.0)]


def test_a_session_that_took_the_place_of_another_between_two_looks_has_lost_nothing() -> None:
    losses = Losses()
    losses.look({LEAF1: 1000}, 1.0)
    again = session("leaf1")
    assert [losses.look({again: count}, 2.0) for count in (0, 400, 1000, 1000)] == [[], [], [], []]
