"""Whose changes the kernel gets first, by what each neighbor has caused lately."""

from __future__ import annotations

import pytest

from bgpd.fib.recent_changes import AHEAD, BUSIER, HALF_LIFE_S, RecentChanges


def test_who_is_alone_is_not_first() -> None:
    recent = RecentChanges()
    assert not any(recent.add("leaf1", 10_000, 0.0) for _ in range(100))
    assert recent.busy() == {"leaf1"}


@pytest.mark.parametrize("share", [1.0, 0.67, 1 / BUSIER])
def test_who_sends_its_table_at_the_same_time_is_not_first_though_not_each_route_changes_something(
    share: float,
) -> None:
    recent = RecentChanges()
    for number in range(500):
        now = number / 250
        assert not recent.add("leaf1", 2_000, now)
        assert not recent.add("leaf2", int(2_000 * share), now)
    assert recent.busy() == {"leaf1", "leaf2"}


def test_who_has_little_to_say_is_first_until_it_has_a_quarter_as_much() -> None:
    recent = RecentChanges()
    recent.add("leaf1", BUSIER * 100_000 + AHEAD, 0.0)
    assert recent.add("leaf2", 99_999, 0.0)
    assert recent.busy() == {"leaf1"}
    assert not recent.add("leaf2", 1, 0.0)
    assert recent.busy() == {"leaf1", "leaf2"}


def test_what_several_have_caused_is_not_first_and_makes_nobody_first() -> None:
    recent = RecentChanges()
    recent.add("leaf1", 100_000, 0.0)
    assert not recent.add("", 1, 0.0)
    recent.add("", 10_000_000, 0.0)
    assert not recent.add("leaf1", 1, 0.0)
    assert recent.busy() == {"leaf1"}


def test_what_was_long_ago_does_not_count() -> None:
    recent = RecentChanges()
    recent.add("leaf1", 1_000_000, 0.0)
    later = 8 * HALF_LIFE_S
    assert not recent.add("leaf2", 1, later)
    assert not recent.add("leaf1", 1, later)


def test_nobody_is_kept_whose_changes_do_not_count_any_more() -> None:
    recent = RecentChanges()
    recent.add("leaf1", 100, 0.0)
    recent.add("leaf2", 1, 10 * HALF_LIFE_S)
    assert recent.busy() == {"leaf2"}
