"""The collector's policy: cycles go, large tables are left alone."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from bgpd.runtime.memory import TABLE, GarbagePolicy


class Cycle:
    def __init__(self) -> None:
        self.itself = self


@pytest.fixture
def policy() -> Iterator[GarbagePolicy]:
    policy = GarbagePolicy()
    policy.start()
    yield policy
    gc.unfreeze()
    gc.enable()


def test_nothing_is_collected_unasked(policy: GarbagePolicy) -> None:
    gone = weakref.ref(Cycle())
    objects = [[] for _ in range(5_000)]
    assert gone() is not None
    del objects
    policy.collect_young()
    assert gone() is None


def test_what_outlives_passes_and_ends_as_a_cycle_is_collected(policy: GarbagePolicy) -> None:
    connection = Cycle()
    gone = weakref.ref(connection)
    for _ in range(3):
        policy.collect_young()
    del connection
    policy.collect_young()
    assert gone() is None


def test_large_table_is_set_aside(policy: GarbagePolicy) -> None:
    before = gc.get_freeze_count()
    table = [[] for _ in range(TABLE + 100)]
    policy.collect_young()
    assert gc.get_freeze_count() > before + TABLE
    assert gc.get_count()[0] < TABLE
    gone = weakref.ref(Cycle())
    policy.collect_young()
    assert gone() is None
    assert len(table) == TABLE + 100
