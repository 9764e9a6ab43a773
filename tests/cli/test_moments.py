"""Times as people write them."""

from __future__ import annotations

import time

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
