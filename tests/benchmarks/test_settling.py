"""A daemon has settled at the end of its last busy moment."""

from __future__ import annotations

import os
import time

import pytest

from benchmarks import settling
from benchmarks.kernel_watch import NotReached
from benchmarks.settling import Settling, last_busy_ns

MS = 1_000_000


def test_the_last_busy_moment_ends_where_little_was_used_after_it() -> None:
    spent = [0, 40, 80, 81, 82, 122, 123, 124]
    samples = [(50 * MS * number, one * MS) for number, one in enumerate(spent)]
    assert last_busy_ns(samples) == 250 * MS


def test_a_daemon_that_was_never_busy_has_settled_at_once() -> None:
    assert last_busy_ns([(7, 0), (50 * MS, 1), (100 * MS, 2)]) == 7


def test_a_process_that_stays_busy_is_said_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """One whose processor time goes on as the clock does."""
    monkeypatch.setattr(settling, "_spent_ns", lambda _path: time.monotonic_ns())
    monkeypatch.setattr(settling, "QUIET_S", 1.0)
    with pytest.raises(NotReached, match="still busy"):
        Settling([os.getpid()]).settled_ns(timeout_s=1.3)
