"""Rise and fall."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bgpd.workload.service.checker import Health


def test_rise_good_results_in_a_row_make_healthy_and_fall_bad_ones_unhealthy() -> None:
    health = Health(rise=2, fall=3)
    assert [health.result(r, now) for now, r in enumerate(["", "x", "", ""])] == [False, False, False, True]
    assert (health.healthy, health.reason, health.since) == (True, "", 3)
    assert [health.result("refused", now) for now in (4, 5, 6)] == [False, False, True]
    assert (health.healthy, health.reason, health.since) == (False, "refused", 6)


def test_unknown_until_enough_results_came() -> None:
    health = Health(rise=2, fall=2)
    health.result("", 1)
    assert health.healthy is None
    health.result("no", 2)
    assert (health.healthy, health.reason) == (None, "no")
    assert health.result("no", 3)
    assert health.healthy is False


@given(st.integers(1, 4), st.integers(1, 4), st.lists(st.booleans(), max_size=40))
def test_changes_only_after_as_many_results_in_a_row_as_configured(rise: int, fall: int, results: list[bool]) -> None:
    health = Health(rise=rise, fall=fall)
    for index, good in enumerate(results):
        before = health.healthy
        changed = health.result("" if good else "bad", index)
        assert changed is (health.healthy is not before)
        if changed:
            run = rise if health.healthy else fall
            assert results[index + 1 - run : index + 1] == [health.healthy] * run
