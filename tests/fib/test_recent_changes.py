"""Whose changes the kernel gets first, by what each neighbor has caused lately and has waiting."""

from __future__ import annotations

from collections import Counter

import pytest

from bgpd.fib.recent_changes import AHEAD, HALF_LIFE_S, RecentChanges


@pytest.fixture
def waiting() -> Counter[str]:
    return Counter()


def test_who_is_alone_is_not_first(waiting: Counter[str]) -> None:
    recent = RecentChanges(waiting)
    assert not any(recent.add("leaf1", 10_000, 0.0) for _ in range(100))


def test_who_has_little_to_say_is_first_until_it_has_nearly_as_much(waiting: Counter[str]) -> None:
    recent = RecentChanges(waiting)
    recent.add("leaf1", 100_000, 0.0)
    assert not recent.add("leaf2", 1, 0.0), "nothing waits"
    waiting["leaf1"] = 1
    assert recent.add("leaf2", 100_000 - AHEAD - 2, 0.0)
    assert not recent.add("leaf2", 1, 0.0)


def test_who_has_the_most_waiting_is_not_first(waiting: Counter[str]) -> None:
    recent = RecentChanges(waiting)
    recent.add("leaf1", 1_000_000, 0.0)
    waiting.update(leaf1=1_000, leaf2=AHEAD + 1)
    assert not recent.add("leaf2", 1, 0.0)


def test_what_was_long_ago_does_not_count(waiting: Counter[str]) -> None:
    recent = RecentChanges(waiting)
    recent.add("leaf1", 1_000_000, 0.0)
    later = 8 * HALF_LIFE_S
    waiting["leaf3"] = 1
    assert not recent.add("leaf2", 1, later)
    assert not recent.add("leaf1", 1, later)


def test_who_has_less_waiting_is_first_though_it_is_as_busy(waiting: Counter[str]) -> None:
    recent = RecentChanges(waiting)
    recent.add("leaf1", 100_000, 0.0)
    waiting.update(leaf1=100_000, leaf2=50_000)
    assert recent.add("leaf2", 150_000, 0.0)
    assert not recent.add("leaf1", 1, 0.0)
    assert not recent.add("leaf2", 60_000, 0.0), "it is twice as busy"


def test_of_two_that_are_busy_without_end_none_takes_more_than_twice_as_much(waiting: Counter[str]) -> None:
    """leaf1 has much waiting; leaf2 says more at once, as fast as the kernel takes it."""
    recent, now = RecentChanges(waiting), 0.0
    recent.add("leaf1", 262_144, now)
    waiting["leaf1"] = 262_144
    taken: Counter[str] = Counter()
    for _ in range(2_000):
        now += 0.01
        if recent.add("leaf2", 5_000, now):
            taken["leaf2"] += 5_000
        else:
            taken["leaf1"] += 2_500
            taken["leaf2"] += 2_500
            recent.add("leaf1", 2_500, now)
    assert taken["leaf2"] < 3 * taken["leaf1"]


def test_the_busiest_have_the_most_waiting(waiting: Counter[str]) -> None:
    recent = RecentChanges(waiting)
    assert recent.busiest() == set()
    waiting.update(leaf1=100_000, leaf2=97_000, leaf3=10)
    assert recent.busiest() == {"leaf1", "leaf2"}
