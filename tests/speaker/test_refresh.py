"""When requests for all routes are answered: one at a time, one waiting, with pauses."""

from __future__ import annotations

from bgpd.model.iana import Family
from bgpd.speaker.refresh import LEAST_PAUSE_S, MOST_PAUSE_S, PAUSES_PER_ANSWER, RefreshRequests

V4, V6 = Family.IPV4_UNICAST, Family.IPV6_UNICAST


def test_thousands_of_requests_are_two_answers() -> None:
    requests = RefreshRequests()
    assert [requests.requested(V4, 100.0) for _ in range(2849)].count(True) == 1
    assert requests.deadline() is None
    requests.answered(V4, 100.0)
    assert requests.deadline() == 100.0 + LEAST_PAUSE_S
    assert requests.due(100.0) == []
    assert requests.due(100.0 + LEAST_PAUSE_S) == [V4]
    requests.answered(V4, 101.0)
    assert (requests.deadline(), requests.due(200.0)) == (None, [])


def test_the_pause_grows_with_the_answer_up_to_a_minute() -> None:
    requests = RefreshRequests()
    for took_s, pause_s in ((0.0, LEAST_PAUSE_S), (2.0, 2.0 * PAUSES_PER_ANSWER), (600.0, MOST_PAUSE_S)):
        assert requests.requested(V4, 1000.0)
        requests.answered(V4, 1000.0 + took_s)
        assert not requests.requested(V4, 1000.0 + took_s)
        assert requests.deadline() == 1000.0 + took_s + pause_s
        requests = RefreshRequests()


def test_a_family_does_not_wait_for_another() -> None:
    requests = RefreshRequests()
    assert requests.requested(V4, 1.0)
    assert requests.requested(V6, 1.0)
    assert not requests.requested(V6, 1.0)
    requests.answered(V6, 1.0)
    assert requests.due(50.0) == [V6]


def test_a_request_long_after_the_last_answer_is_answered_at_once() -> None:
    requests = RefreshRequests()
    assert requests.requested(V4, 1.0)
    requests.answered(V4, 1.1)
    assert requests.requested(V4, 10.0)


def test_an_answer_that_nobody_asked_for_changes_nothing() -> None:
    requests = RefreshRequests()
    requests.answered(V4, 1.0)
    assert requests.deadline() is None
    assert requests.requested(V4, 1.0)
