"""How much of a session's input is worked off at once."""

from __future__ import annotations

from bgpd.speaker.driver import LEAST_RUN, RUN_MESSAGES, STEP_S, RunLength


def test_costly_runs_become_shorter_and_cheap_ones_longer_within_limits() -> None:
    run = RunLength()
    lengths = []
    for seconds in [STEP_S / 10] * 5 + [STEP_S / 2] + [2 * STEP_S] * 6 + [STEP_S / 10]:
        run.took(seconds)
        lengths.append(run.messages)
    assert lengths == [32, 64, 128, 128, 128, 128, 64, 32, 16, 16, 16, 16, 32]
    assert (LEAST_RUN, RUN_MESSAGES) == (16, 128)
