"""How sessions and attempts end: what it means for the neighbor's routes, for what is under way, and for its return."""

from __future__ import annotations

import msgspec
import pytest

from bgpd.message.exabgp_codec import KEEPALIVE, Notification, encode_notification
from bgpd.model.iana import CeaseSubcode, ErrorCode, Role
from bgpd.speaker.collision import SIMULTANEOUS_S
from bgpd.speaker.connection import Connection, State, UpdateReceived
from bgpd.speaker.retries import FIRST_RETRY_S
from bgpd.speaker.session import (
    DIAL_PATIENCE_S,
    AttemptFailed,
    Close,
    Dial,
    Notified,
    Output,
    Send,
    SessionDown,
    SessionUp,
    may_go_on,
)
from tests.message.decoding import negotiated
from tests.speaker.checked_session import SHUTDOWN
from tests.speaker.messages import UPDATE, open_bytes, settings
from tests.speaker.test_session import Driver

GRACEFUL = settings(graceful=True)
HARD = Notification(ErrorCode.CEASE, CeaseSubcode.HARD_RESET, b"\6\2")
MALFORMED = Notification(ErrorCode.UPDATE_MESSAGE, 1)


def graceful_driver() -> tuple[Driver, int]:
    """Established, and both sides have the N bit of RFC 8538."""
    driver = Driver(GRACEFUL)
    return driver, driver.established(graceful=True)


def graceful_connection() -> tuple[Driver, Connection]:
    """The same with the connection that the session is established on."""
    driver, _ = graceful_driver()
    connection = driver.session.established
    assert connection is not None
    return driver, connection


def the_down(outputs: list[Output]) -> SessionDown:
    (down,) = [one for one in outputs if isinstance(one, SessionDown)]
    return down


@pytest.mark.parametrize(
    ("graceful", "hard_reset", "said", "goes_on"),
    [
        (True, True, None, True),
        (True, False, None, True),
        (False, False, None, False),
        (True, True, SHUTDOWN, True),
        (True, False, SHUTDOWN, False),
        (True, True, HARD, False),
        (True, True, Notification(ErrorCode.HOLD_TIMER_EXPIRED, 0), True),
        (True, True, Notification(ErrorCode.UPDATE_MESSAGE, CeaseSubcode.HARD_RESET), True),
    ],
)
def test_neighbor_may_go_on_forwarding(
    graceful: bool, hard_reset: bool, said: Notification | None, goes_on: bool
) -> None:
    """RFC 4724 section 4, RFC 8538 section 4."""
    driver, _ = graceful_driver()
    assert driver.session.established is not None
    agreed = driver.session.established.negotiated
    assert agreed is not None
    assert agreed.graceful_restart is not None
    restart = agreed.graceful_restart if graceful else None
    notified = None if said is None else Notified(said, sent=False)
    assert may_go_on(negotiated(graceful_restart=restart, hard_reset=hard_reset), notified) is goes_on
    assert not may_go_on(None, None)


def test_lost_connection_lets_the_neighbor_go_on() -> None:
    driver, number = graceful_driver()
    driver.session.closed(number, driver.now, "reset")
    assert the_down(driver.outputs()).is_graceful


def test_what_this_host_ends_does_not_let_the_neighbor_go_on() -> None:
    for end in ("stop", "reset", "transport_lost"):
        driver, _ = graceful_driver()
        match end:
            case "stop":
                driver.session.stop(driver.now, None, "stopped")
            case "reset":
                driver.session.reset(driver.now, SHUTDOWN, "reset")
            case _:
                driver.session.transport_lost(driver.now, "link down")
        assert not the_down(driver.outputs()).is_graceful, end


def test_who_said_so_is_told() -> None:
    driver, number = graceful_driver()
    down = the_down(driver.receive(number, encode_notification(6, 2)))
    assert down.notified == Notified(Notification(6, 2, b""), sent=False)
    driver, _ = graceful_driver()
    driver.session.update_refused(driver.now, MALFORMED, "malformed")
    assert the_down(driver.outputs()).notified == Notified(Notification(3, 1, b""), sent=True)


@pytest.mark.parametrize(
    ("said", "is_refusing"),
    [
        (encode_notification(6, 2), False),
        (encode_notification(4, 0), False),
        (encode_notification(3, 1), True),
        (encode_notification(2, 2), True),
        (encode_notification(6, 9, b"\6\2"), False),
        (encode_notification(6, 9, b"\3\1"), True),
    ],
)
def test_neighbor_that_complains_is_refused_for_a_while_and_one_that_leaves_is_not(
    said: bytes, is_refusing: bool
) -> None:
    driver, number = graceful_driver()
    driver.receive(number, said)
    assert driver.session.is_refusing is is_refusing
    assert (driver.session.accepted(driver.now) is None) is is_refusing


def test_what_is_dialed_is_given_up_by_a_reset_and_by_a_lost_link() -> None:
    for end in ("reset", "transport_lost"):
        driver = Driver()
        dial = driver.dial()
        if end == "reset":
            driver.session.reset(driver.now, SHUTDOWN, "reset", hold_off_s=60)
        else:
            driver.session.transport_lost(driver.now, "link down")
        assert Close(dial.connection) in driver.outputs()
        driver.session.connected(dial.connection, driver.now)
        assert not driver.outputs()


def test_what_is_dialed_is_given_up_once_the_neighbor_has_connected() -> None:
    driver = Driver()
    dial = driver.dial()
    number = driver.accepted()
    outputs = driver.receive(number, open_bytes() + KEEPALIVE) + driver.wait(DIAL_PATIENCE_S)
    assert Close(dial.connection) in outputs
    assert any(isinstance(one, SessionUp) for one in outputs)
    assert driver.session.deadline() is not None


@pytest.mark.parametrize(("peer_id", "is_given_up"), [("10.0.0.200", True), ("10.0.0.1", False)])
def test_what_is_dialed_is_given_up_once_the_neighbors_connection_is_sure_to_win(
    peer_id: str, is_given_up: bool
) -> None:
    driver = Driver()
    driver.session.start(driver.now)
    (dial,) = driver.outputs()
    assert isinstance(dial, Dial)
    number = driver.session.accepted(driver.now)
    assert number is not None
    outputs = driver.receive(number, open_bytes(router_id=peer_id))
    assert (Close(dial.connection) in outputs) is is_given_up
    assert driver.session.state is (State.OPEN_CONFIRM if is_given_up else State.OPEN_SENT)
    driver.session.closed(number, driver.now, "closed")
    driver.now += 60
    driver.session.tick(driver.now)
    assert is_given_up is any(isinstance(one, Dial) for one in driver.outputs())


def crossing() -> tuple[Driver, int, int]:
    """Both sides dial, and the neighbor, which has the lower router ID, has connected and sent its OPEN: the numbers
    of our connection and of that one."""
    driver = Driver(GRACEFUL)
    ours = driver.dial().connection
    its = driver.accepted()
    outputs = driver.receive(its, open_bytes(router_id="10.0.0.1", graceful=True))
    assert KEEPALIVE not in [one.data for one in outputs if isinstance(one, Send)]
    assert driver.session.state is State.OPEN_SENT
    return driver, ours, its


def test_neighbors_connection_waits_for_the_one_that_is_being_dialed_and_will_be_kept() -> None:
    """Else a leaf that helps a restart is established already when ours comes, and takes it for the next restart."""
    driver, ours, its = crossing()
    driver.receive(its, KEEPALIVE)
    driver.session.connected(ours, driver.now)
    outputs = driver.receive(ours, open_bytes(router_id="10.0.0.1", graceful=True) + KEEPALIVE)
    assert Close(its) in outputs
    assert [one.connection for one in outputs if isinstance(one, SessionUp)] == [ours]
    assert not [one for one in driver.wait(1.0) if isinstance(one, SessionDown)]


@pytest.mark.parametrize("end", ["not made", "lost", "silent", "never made"])
def test_neighbors_connection_is_taken_once_nothing_comes_of_what_is_dialed(end: str) -> None:
    driver, ours, its = crossing()
    driver.receive(its, KEEPALIVE)
    match end:
        case "not made":
            driver.session.dial_failed(ours, driver.now, "refused")
        case "lost":
            driver.session.connected(ours, driver.now)
            driver.session.closed(ours, driver.now, "reset")
        case "silent":
            driver.session.connected(ours, driver.now)
    outputs = driver.outputs() + driver.wait(DIAL_PATIENCE_S)
    assert [one.connection for one in outputs if isinstance(one, SessionUp)] == [its]
    assert (Close(ours) in outputs) is (end in ("lost", "never made"))
    driver.session.stop(driver.now, None, "stopped")


def test_neighbors_connection_that_ends_while_it_waits_leaves_nothing() -> None:
    driver, ours, its = crossing()
    driver.session.closed(its, driver.now, "reset")
    assert Close(its) in driver.outputs()
    driver.session.connected(ours, driver.now)
    driver.receive(ours, open_bytes(router_id="10.0.0.1", graceful=True) + KEEPALIVE)
    assert driver.session.state is State.ESTABLISHED


def test_dial_that_fails_beside_a_connection_is_not_told() -> None:
    driver = Driver()
    dial = driver.dial()
    driver.accepted()
    driver.outputs()
    driver.session.dial_failed(dial.connection, driver.now, "refused")
    assert not any(isinstance(one, AttemptFailed) for one in driver.outputs())
    assert driver.session.state is State.OPEN_SENT


def test_dial_without_answer_beside_a_connection_is_given_up_and_not_told() -> None:
    driver = Driver()
    dial = driver.dial()
    number = driver.accepted()
    driver.outputs()
    driver.receive(number, open_bytes())
    outputs = driver.wait(5.0)
    assert Close(dial.connection) in outputs
    assert not any(isinstance(one, AttemptFailed | Dial) for one in outputs)
    assert driver.session.state is State.OPEN_CONFIRM


def test_neighbor_that_connects_within_a_pause_is_not_dialed_at_its_end() -> None:
    driver, number = graceful_driver()
    driver.session.closed(number, driver.now, "reset")
    assert driver.session.deadline() is not None
    second = driver.accepted()
    driver.outputs()
    driver.receive(second, open_bytes(graceful=True))
    assert not any(isinstance(one, Dial) for one in driver.wait(5.0))
    assert driver.session.state is State.OPEN_CONFIRM


def test_dial_goes_on_when_a_connection_that_came_meanwhile_is_lost() -> None:
    driver = Driver()
    driver.session.start(driver.now)
    (dial,) = driver.outputs()
    assert isinstance(dial, Dial)
    number = driver.session.accepted(driver.now)
    assert number is not None
    driver.session.closed(number, driver.now, "reset")
    assert Close(dial.connection) not in driver.outputs()
    assert driver.session.state is State.CONNECT
    driver.session.connected(dial.connection, driver.now)
    driver.receive(dial.connection, open_bytes() + KEEPALIVE)
    assert driver.session.state is State.ESTABLISHED


def test_connection_that_is_lost_waits_for_nothing_more() -> None:
    driver, number = graceful_driver()
    connection = driver.session.established
    assert connection is not None
    driver.session.received(number, UPDATE * 1000)
    driver.session.closed(number, driver.now, "reset")
    assert (connection.state, connection.deadline()) == (State.IDLE, None)
    assert connection.next_event(driver.now) is None


def test_a_role_may_be_unanswered_unless_it_is_said_otherwise() -> None:
    """RFC 9234 section 4.2."""
    driver = Driver(settings(role=Role.CUSTOMER))
    driver.established()


def test_attempt_of_long_ago_makes_way_for_a_new_one_and_one_of_just_now_does_not() -> None:
    for waited_s, is_new in ((FIRST_RETRY_S * 0.9, False), (FIRST_RETRY_S, True), (FIRST_RETRY_S * 1.1, True)):
        driver = Driver()
        dial = driver.dial()
        driver.now += waited_s
        driver.session.connect_now(driver.now)
        outputs = driver.outputs()
        assert (Close(dial.connection) in outputs) is is_new
        assert any(isinstance(one, Dial) for one in outputs) is is_new


@pytest.mark.parametrize(("waited_s", "is_replaced"), [(SIMULTANEOUS_S, False), (SIMULTANEOUS_S + 0.1, True)])
def test_connection_that_was_dialed_at_the_same_time_is_no_restart(waited_s: float, is_replaced: bool) -> None:
    driver, old = graceful_driver()
    driver.now += waited_s
    number = driver.accepted()
    outputs = driver.receive(number, open_bytes(graceful=True))
    assert (Close(old) in outputs) is is_replaced
    assert (Close(number) in outputs) is not is_replaced


def test_session_that_is_adopted_goes_on_reading_and_ends_as_any() -> None:
    _, connection = graceful_connection()
    driver = Driver(GRACEFUL)
    number = driver.session.adopt(connection)
    assert driver.session.is_settled
    assert driver.session.state is State.ESTABLISHED
    driver.session.unread(UPDATE)
    (update,) = driver.outputs()
    assert isinstance(update, UpdateReceived)
    driver.session.closed(number, driver.now, "reset")
    assert the_down(driver.outputs()).is_graceful
    deadline = driver.session.deadline()
    assert deadline is not None
    driver.now = deadline
    driver.session.tick(driver.now)
    assert any(isinstance(one, Dial) for one in driver.outputs())


def test_updates_of_an_adopted_session_may_be_given_back_before_anything_else_was_read() -> None:
    _, connection = graceful_connection()
    driver = Driver(GRACEFUL)
    driver.session.adopt(connection)
    driver.session.unread(UPDATE + UPDATE)
    found = driver.session.updates(driver.now, most=8, most_bytes=4096)
    assert len(found) == 2
    driver.session.give_back(found)
    assert driver.session.updates(driver.now, most=8, most_bytes=4096) == found
    assert driver.session.worked_on == UPDATE + UPDATE


def test_messages_of_another_connection_are_not_read_before_there_is_need() -> None:
    driver, number = graceful_driver()
    second = driver.accepted()
    driver.outputs()
    driver.session.received(number, UPDATE)
    driver.session.received(second, b"\0" * 19)
    assert isinstance(driver.session.next_output(driver.now), UpdateReceived)
    assert not driver.session.has_outputs
    assert Close(second) in driver.outputs()


def test_session_is_settled_once_nothing_is_left_to_do() -> None:
    driver = Driver()
    assert not driver.session.is_settled
    number = driver.dialed()
    driver.outputs()
    assert not driver.session.is_settled
    driver.session.received(number, open_bytes() + KEEPALIVE)
    while not isinstance(driver.session.next_output(driver.now), SessionUp):
        pass
    assert driver.session.is_settled
    driver.session.update_refused(driver.now, MALFORMED, "malformed")
    assert not driver.session.is_settled


def test_runs_of_updates_come_after_what_is_to_be_done_first() -> None:
    driver = Driver()
    driver.session.give_back([b"\0\0\0\0"])  # nothing was read yet
    assert driver.session.updates(driver.now, most=8, most_bytes=4096) == []
    number = driver.dialed()
    driver.session.received(number, open_bytes() + KEEPALIVE + UPDATE)
    assert driver.session.updates(driver.now, most=8, most_bytes=4096) == []
    assert driver.session.next_output(driver.now) is not None
    assert driver.session.has_outputs or driver.session.next_output(driver.now) is not None
    driver.outputs()
    driver.session.received(number, UPDATE + UPDATE)
    found = driver.session.updates(driver.now, most=8, most_bytes=4096)
    assert len(found) == 2
    driver.session.give_back(found[1:])
    assert len(driver.session.updates(driver.now, most=8, most_bytes=4096)) == 1


def test_reset_is_no_graceful_end_whatever_is_said() -> None:
    driver, _ = graceful_driver()
    driver.session.reset(driver.now, Notification(ErrorCode.CEASE, CeaseSubcode.CONNECTION_REJECTED), "rejected")
    down = the_down(driver.outputs())
    assert down.notified is not None
    assert down.notified.notification.subcode == CeaseSubcode.CONNECTION_REJECTED
    assert not down.is_graceful


def test_dial_that_fails_is_told_and_tried_again_ever_more_slowly_until_something_changes() -> None:
    driver = Driver()
    driver.session.start(driver.now)
    pauses = []
    for _ in range(3):
        (dial,) = driver.outputs()
        assert isinstance(dial, Dial)
        driver.session.dial_failed(dial.connection, driver.now, "refused")
        assert driver.outputs() == [AttemptFailed("refused")]
        deadline = driver.session.deadline()
        assert deadline is not None
        pauses.append(deadline - driver.now)
        driver.now = deadline
        driver.session.tick(driver.now)
    assert pauses == sorted(set(pauses))
    driver.outputs()
    driver.now += 1
    driver.session.connect_now(driver.now)
    (_, dial) = driver.outputs()
    assert isinstance(dial, Dial)
    driver.session.dial_failed(dial.connection, driver.now, "refused")
    assert driver.session.deadline() == driver.now + pauses[0]


def test_connection_that_ends_before_the_open_is_told_what_to_look_for() -> None:
    driver = Driver()
    driver.session.closed(driver.dialed(), driver.now, "closed")
    (failed,) = [one for one in driver.outputs() if isinstance(one, AttemptFailed)]
    assert failed.reason.startswith("closed before its OPEN: does it know this host")
    driver, number = graceful_driver()
    driver.session.closed(number, driver.now, "closed")
    assert the_down(driver.outputs()).reason == "closed"


def test_hold_timer_that_is_due_waits_until_what_was_left_unread_could_be_read() -> None:
    driver, _ = graceful_driver()
    driver.now += 8
    driver.session.put_off(driver.now, is_unread=True)
    driver.now += 2.9
    driver.session.tick(driver.now)
    assert driver.session.state is State.ESTABLISHED
    driver.now += 0.2
    driver.session.tick(driver.now)
    assert driver.session.state is State.IDLE


def test_hold_timer_does_not_begin_anew_because_something_was_left_unread() -> None:
    driver, _ = graceful_driver()
    driver.now += 5
    driver.session.put_off(driver.now, is_unread=True)
    driver.now += 4
    driver.session.tick(driver.now)
    assert driver.session.state is State.IDLE


@pytest.mark.parametrize(("unread_s", "expires_s"), [(1.0, 9.0), (5.9, 9.0), (8.0, 11.0), (100.0, 103.0)])
def test_hold_timer_of_an_adopted_connection_goes_on(unread_s: float, expires_s: float) -> None:
    """Seconds after the last message: a neighbor that is dead by then is not taken for alive for longer."""
    former, before = graceful_connection()
    last = former.now
    former.now += 0.5
    saved = before.saved(b"")
    connection = Connection.adopt(saved, "external", now=last + unread_s, random=lambda: 0.5)
    assert connection.tick(last + expires_s - 0.1) is None
    assert connection.tick(last + expires_s + 0.1) is not None


def test_hold_timer_that_has_waited_waits_no_more_once_it_is_known_that_nothing_is_unread() -> None:
    driver, _ = graceful_driver()
    driver.now += 8
    driver.session.put_off(driver.now, is_unread=True)
    driver.session.put_off(driver.now, is_unread=False)
    driver.session.tick(driver.now)
    assert driver.session.state is State.ESTABLISHED
    driver.now += 1
    driver.session.tick(driver.now)
    assert driver.session.state is State.IDLE


def test_hand_overs_one_after_the_other_do_not_keep_a_dead_neighbor() -> None:
    """Each within a third of the hold time, for which the one before would have waited."""
    former, connection = graceful_connection()
    last = former.now
    for seconds in (2.0, 4.0, 6.0, 8.0, 10.0):
        saved = connection.saved(b"")
        connection = Connection.adopt(saved, "external", now=last + seconds, random=lambda: 0.5)
        assert connection.tick(last + seconds + 0.1) is None
        connection.put_off(last + seconds + 0.5, is_unread=False)
    assert saved.hold_deadline == last + 9
    assert connection.tick(last + 10.6) is not None


def test_hold_timer_of_a_connection_that_an_earlier_version_has_left_begins_anew() -> None:
    former, before = graceful_connection()
    saved = msgspec.structs.replace(before.saved(b""), hold_deadline=None)
    connection = Connection.adopt(saved, "external", now=former.now + 5, random=lambda: 0.5)
    assert connection.tick(former.now + 13.9) is None
    assert connection.tick(former.now + 14.1) is not None


def test_what_is_worked_on_is_the_message_that_was_read_last() -> None:
    driver, number = graceful_driver()
    driver.session.received(number, UPDATE + KEEPALIVE)
    driver.session.next_output(driver.now)
    assert driver.session.worked_on == UPDATE
    driver.outputs()
    driver.session.received(number, UPDATE + UPDATE)
    driver.session.updates(driver.now, most=8, most_bytes=4096)
    assert driver.session.worked_on == UPDATE + UPDATE
    assert Driver().session.worked_on == b""
