"""Times as people write them."""

from __future__ import annotations

import time
from argparse import ArgumentTypeError
from collections.abc import Iterator
from datetime import datetime

import pytest

from bgpd.cli.moments import moment


@pytest.mark.parametrize(
    ("given", "same"),
    [("2:51", "02:51"), ("2:51:07", "02:51:07"), ("2:51:07.25", "02:51:07.250"), ("0:00:00", "00:00:00")],
)
def test_hour_may_have_one_digit(given: str, same: str) -> None:
    assert (moment(given) - moment(same)) % 86_400 == 0  # midnight may have come between the two


def test_time_of_day_is_the_last_one() -> None:
    assert moment("23:59:59.9") <= time.time() + 1
    assert moment("0:00") > time.time() - 86_400 - 1


@pytest.fixture
def in_berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """There clocks went back from 3:00 to 2:00 at 2026-10-25T01:00Z, and forward from 2:00 to 3:00 on 2026-03-29."""
    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
    time.tzset()
    yield monkeypatch
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("now", "given", "then"),
    [
        ("2026-10-25T01:40:00Z", "02:30", "2026-10-25T01:30:00Z"),  # shown for the second time
        ("2026-10-25T00:40:00Z", "02:30", "2026-10-25T00:30:00Z"),  # ... and for the first
        ("2026-10-25T01:10:00Z", "02:50", "2026-10-25T00:50:00Z"),
        ("2026-10-25T01:10:00Z", "02:50:30.5", "2026-10-25T00:50:30.5Z"),
        ("2026-10-25T23:30:00Z", "02:10", "2026-10-25T01:10:00Z"),
        ("2026-03-29T01:10:00Z", "02:30", "2026-03-28T01:30:00Z"),  # left out today
        ("2026-03-29T01:10:00Z", "01:59", "2026-03-29T00:59:00Z"),
        ("2026-07-01T00:10:00Z", "02:05", "2026-07-01T00:05:00Z"),
        ("2026-07-01T00:10:00Z", "02:15", "2026-06-30T00:15:00Z"),
        ("2026-07-01T00:10:00Z", "00:05Z", "2026-07-01T00:05:00Z"),
        ("2026-07-01T00:10:00Z", "02:05Z", "2026-06-30T02:05:00Z"),
        ("2026-10-25T01:10:00Z", "2026-10-25T02:50+02:00", "2026-10-25T00:50:00Z"),
    ],
)
def test_time_of_day_is_the_last_one_also_when_clocks_are_changed(
    in_berlin: pytest.MonkeyPatch, now: str, given: str, then: str
) -> None:
    seconds = datetime.fromisoformat(now).timestamp()
    in_berlin.setattr(time, "time", lambda: seconds)
    assert moment(given) == datetime.fromisoformat(then).timestamp()


@pytest.mark.parametrize(
    "given", ["24:00", "02:60", "0:0", "02:51z", "-1", "", "now", "1e9", "2026-02-30", "9999999999"]
)
def test_what_is_no_time_is_told_with_what_is_one(given: str) -> None:
    with pytest.raises(ArgumentTypeError, match="is no time such as"):
        moment(given)
