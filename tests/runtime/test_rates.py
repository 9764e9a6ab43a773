"""Rests are a multiple of the work, and of nothing else."""

from __future__ import annotations

import time

import pytest

from bgpd.runtime.rates import Share


def work(seconds: float) -> str:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass
    return "done"


def test_a_rest_is_a_multiple_of_the_work() -> None:
    share = Share(10)
    assert share.pause_s(100.0) == 0.0
    assert share.spend(lambda: work(0.002)) == "done"
    share.spend(lambda: work(0.003))
    share.rest(100.0)
    assert share.pause_s(100.0) >= 0.05
    assert share.pause_s(1e6) == 0.0


def test_what_was_waited_for_does_not_count() -> None:
    share = Share(1000)
    share.spend(lambda: time.sleep(0.05))
    share.rest(100.0)
    assert share.pause_s(100.0) < 1000 * 0.05


def test_work_that_fails_counts_once() -> None:
    share = Share(10)
    with pytest.raises(ZeroDivisionError):
        share.spend(lambda: work(0.002) and 1 / 0)
    share.rest(100.0)
    assert share.pause_s(100.0) >= 0.02
    share.rest(100.0)
    assert share.pause_s(100.0) == 0.0
