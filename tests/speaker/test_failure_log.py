"""What the log says of a neighbor that is down: each kind of failure once."""

from __future__ import annotations

import structlog

from bgpd.speaker.failure_log import MAX_KINDS, FailureLog
from bgpd.speaker.peering import NOT_HEARD


def lines(failures: FailureLog, *reasons: str) -> list[str]:
    """The reasons that are logged when these are noted in turn."""
    with structlog.testing.capture_logs() as records:
        for reason in reasons:
            failures.note(reason)
    return [record["reason"] for record in records]


def test_each_kind_is_logged_once_until_a_session_is_there() -> None:
    failures = FailureLog("leaf1")
    assert lines(failures, "refused", "refused", "reset", "refused", "reset") == ["refused", "reset"]
    assert failures.last == "reset"
    failures.recovered()
    assert lines(failures, "refused") == ["refused"]


def test_repeats_are_counted() -> None:
    failures = FailureLog("leaf1")
    lines(failures, "refused", "refused", "refused")
    with structlog.testing.capture_logs() as records:
        failures.note("reset")
    assert records[0]["repeats_before"] == 2


def test_nothing_heard_yet_is_logged_only_when_it_lasts() -> None:
    failures = FailureLog("leaf1")
    assert lines(failures, f"eth0: {NOT_HEARD}") == []
    assert failures.last.endswith(NOT_HEARD)
    assert lines(failures, f"eth0: {NOT_HEARD}", f"eth0: {NOT_HEARD}") == [f"eth0: {NOT_HEARD}"]


def test_texts_without_end_take_no_memory_without_end() -> None:
    failures = FailureLog("leaf1")
    lines(failures, *(f"the neighbor says {number}" for number in range(3 * MAX_KINDS)))
    assert len(failures._counts) <= MAX_KINDS + 1


def test_an_end_of_our_own_is_no_warning() -> None:
    failures = FailureLog("leaf1")
    with structlog.testing.capture_logs() as records:
        failures.closed("the neighbor closed the connection")
        failures.ending = True
        failures.closed("shut down")
    assert [record["log_level"] for record in records] == ["warning", "info"]
