"""What the log says of a neighbor that is down: each kind of failure once."""

from __future__ import annotations

from bgpd.message.exabgp_codec import Notification
from bgpd.runtime.rates import BURST_LINES, LINE_EVERY_S, LineBudget
from bgpd.speaker.failure_log import MAX_KINDS, FailureLog
from bgpd.speaker.reach import NOT_HEARD
from bgpd.speaker.session import Notified
from tests.logs import capture_logs


def lines(failures: FailureLog, *reasons: str) -> list[str]:
    """The reasons that are logged when these are noted in turn."""
    with capture_logs() as records:
        for reason in reasons:
            failures.note(reason)
    return [record["reason"] for record in records]


def test_each_kind_is_logged_once_until_a_session_is_there() -> None:
    failures = FailureLog("leaf1", LineBudget())
    assert lines(failures, "refused", "refused", "reset", "refused", "reset") == ["refused", "reset"]
    assert failures.last == "reset"
    failures.recovered()
    assert lines(failures, "refused") == ["refused"]


def test_repeats_are_counted() -> None:
    failures = FailureLog("leaf1", LineBudget())
    lines(failures, "refused", "refused", "refused")
    with capture_logs() as records:
        failures.note("reset")
    assert records[0]["repeats_before"] == 2


def test_nothing_heard_yet_is_logged_only_when_it_lasts() -> None:
    failures = FailureLog("leaf1", LineBudget())
    assert lines(failures, f"eth0: {NOT_HEARD}") == []
    assert failures.last.endswith(NOT_HEARD)
    assert lines(failures, f"eth0: {NOT_HEARD}", f"eth0: {NOT_HEARD}") == [f"eth0: {NOT_HEARD}"]


def test_texts_without_end_take_no_memory_without_end() -> None:
    failures = FailureLog("leaf1", LineBudget())
    lines(failures, *(f"the neighbor says {number}" for number in range(3 * MAX_KINDS)))
    assert len(failures._counts) <= MAX_KINDS + 1


def test_reason_that_says_less_is_followed_by_the_one_with_a_notification() -> None:
    failures = FailureLog("leaf1", LineBudget())
    bad_as = Notified(Notification(2, 2, b"\xfe\xb3"), sent=False)
    failures.note("the neighbor sent open-message/bad-peer-as: AS 65203", bad_as)
    assert failures.text == failures.last == "the neighbor sent open-message/bad-peer-as: AS 65203"
    failures.note("connection refused")
    assert failures.last == "connection refused"
    assert failures.text == "connection refused; before that: the neighbor sent open-message/bad-peer-as: AS 65203"
    failures.note("hold timer expired", Notified(Notification(4, 0), sent=True))
    assert failures.text == "hold timer expired"
    assert (failures.received.text, failures.sent.text) == ("open-message/bad-peer-as: AS 65203", "hold-timer-expired")
    assert failures.received.at
    assert failures.sent.at
    failures.recovered()
    failures.closed("the neighbor closed the connection")
    assert failures.text == "the neighbor closed the connection"
    assert failures.received.text


def test_an_end_of_our_own_is_no_warning() -> None:
    failures = FailureLog("leaf1", LineBudget())
    with capture_logs() as records:
        failures.closed("the neighbor closed the connection")
        failures.ending = True
        failures.closed("shut down")
    assert [record["log_level"] for record in records] == ["warning", "info"]


def test_lines_without_end_are_left_out_and_counted() -> None:
    budget = LineBudget()
    written: list[dict[str, object]] = []

    def line(event: str, **fields: object) -> None:
        written.append(fields)

    for number in range(1000):
        budget.write(line, "x", now=100.0, number=number)
    assert [fields["number"] for fields in written] == list(range(BURST_LINES))
    budget.write(line, "x", now=100.0 + LINE_EVERY_S, number=1000)
    assert written[-1] == {"number": 1000, "left_out": 1000 - BURST_LINES}
    budget.write(line, "x", now=1e6, number=1001)
    assert written[-1] == {"number": 1001}
