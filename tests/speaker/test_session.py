"""The FSM of RFC 4271 section 8, one input at a time, and every input in every state."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from bgpd.message.exabgp_codec import KEEPALIVE, MARKER, Notification, encode_message, encode_notification
from bgpd.message.notification import encode_communication
from bgpd.model.iana import CeaseSubcode, ErrorCode, MessageType
from bgpd.speaker.connection import (
    INCOMING_OPEN_TIMEOUT_S,
    OPEN_TIMEOUT_S,
    KeepaliveReceived,
    RefreshReceived,
    State,
    UpdateReceived,
)
from bgpd.speaker.retries import SHORT_LIVED, STABLE_S
from bgpd.speaker.session import (
    AttemptFailed,
    Close,
    Dial,
    Output,
    Send,
    Session,
    SessionDown,
    SessionSettings,
    SessionUp,
)
from tests.speaker.checked_session import INPUTS, SHUTDOWN, CheckedSession
from tests.speaker.messages import REFRESH, UPDATE, open_bytes, settings, split


class Driver:
    """A Session with a clock, its outputs collected."""

    def __init__(self, chosen: SessionSettings | None = None) -> None:
        self.session = Session(chosen or settings(), random=lambda: 1.0)
        self.now = 1000.0

    def outputs(self) -> list[Output]:
        found = []
        while (output := self.session.next_output(self.now)) is not None:
            found.append(output)
        return found

    def wait(self, seconds: float) -> list[Output]:
        """Let time pass, ticking at every deadline."""
        end = self.now + seconds
        found: list[Output] = []
        while (deadline := self.session.deadline()) is not None and deadline <= end:
            self.now = max(self.now, deadline)
            self.session.tick(self.now)
            found += self.outputs()
        self.now = end
        return found

    def dial(self) -> Dial:
        """Start; the TCP connection that is asked for."""
        self.session.start(self.now)
        (dial,) = self.outputs()
        assert isinstance(dial, Dial)
        return dial

    def dialed(self) -> int:
        """Start, and the TCP connection is made."""
        number = self.dial().connection
        self.session.connected(number, self.now)
        return number

    def accepted(self) -> int:
        """The neighbor makes a TCP connection, which is taken."""
        number = self.session.accepted(self.now)
        assert number is not None
        return number

    def receive(self, number: int, data: bytes) -> list[Output]:
        self.session.received(number, data)
        return self.outputs()

    def established(self, **fields: object) -> int:
        number = self.dialed()
        self.receive(number, open_bytes(**fields) + KEEPALIVE)
        assert self.session.state is State.ESTABLISHED
        return number


def notification_of(outputs: list[Output]) -> tuple[int, int, bytes] | None:
    """The NOTIFICATION that was sent."""
    for output in outputs:
        if isinstance(output, Send):
            for kind, body in split(output.data):
                if kind is MessageType.NOTIFICATION:
                    return body[0], body[1], body[2:]
    return None


def test_start_dials_and_a_connection_sends_our_open() -> None:
    driver = Driver()
    number = driver.dialed()
    (send,) = driver.outputs()
    assert isinstance(send, Send)
    assert send.connection == number
    assert [kind for kind, _ in split(send.data)] == [MessageType.OPEN]
    assert driver.session.state is State.OPEN_SENT


def test_open_and_keepalive_establish_the_session() -> None:
    driver = Driver()
    number = driver.dialed()
    driver.outputs()
    outputs = driver.receive(number, open_bytes())
    assert outputs == [Send(number, KEEPALIVE)]
    assert driver.session.state is State.OPEN_CONFIRM
    (up,) = driver.receive(number, KEEPALIVE)
    assert isinstance(up, SessionUp)
    assert up.negotiated.peer_asn == 65201
    assert driver.session.state is State.ESTABLISHED


def test_messages_may_come_byte_by_byte() -> None:
    driver = Driver()
    number = driver.dialed()
    for byte in open_bytes() + KEEPALIVE + UPDATE:
        driver.session.received(number, bytes((byte,)))
    assert [type(output) for output in driver.outputs()] == [Send, Send, SessionUp, UpdateReceived]


def test_passive_session_waits_and_accepts() -> None:
    driver = Driver(settings(dials=False))
    driver.session.start(driver.now)
    assert driver.outputs() == []
    assert driver.session.state is State.ACTIVE
    assert driver.session.deadline() is None
    number = driver.accepted()
    driver.receive(number, open_bytes() + KEEPALIVE)
    assert driver.session.state is State.ESTABLISHED


def test_updates_and_refreshes_are_events_in_order() -> None:
    driver = Driver()
    number = driver.established()
    outputs = driver.receive(number, UPDATE + REFRESH + KEEPALIVE + UPDATE)
    assert [type(output) for output in outputs] == [
        UpdateReceived,
        RefreshReceived,
        KeepaliveReceived,
        UpdateReceived,
    ]
    assert outputs[0] == UpdateReceived(b"\0\0\0\0")


def test_first_retries_are_fast_and_the_configured_pause_is_the_ceiling() -> None:
    driver = Driver()
    driver.session.start(driver.now)
    pauses = []
    for _ in range(6):
        (dial,) = (output for output in driver.outputs() if isinstance(output, Dial))
        driver.session.dial_failed(dial.connection, driver.now, "refused")
        assert driver.session.state is State.ACTIVE
        deadline = driver.session.deadline()
        assert deadline is not None
        pauses.append(deadline - driver.now)
        driver.now = deadline
        driver.session.tick(driver.now)
    assert pauses == [0.5, 1.0, 2.0, 4.0, 5.0, 5.0]


def test_dial_without_answer_is_given_up_and_told() -> None:
    driver = Driver()
    driver.session.start(driver.now)
    driver.outputs()
    outputs = driver.wait(5.0)
    assert [type(output) for output in outputs] == [Close, AttemptFailed]
    assert driver.session.state is State.ACTIVE


def test_long_lived_session_forgets_earlier_failures() -> None:
    driver = Driver()
    number = driver.established()
    for _ in range(int(STABLE_S) + 1):
        driver.wait(1.0)
        driver.receive(number, KEEPALIVE)
    driver.session.closed(number, driver.now, "gone")
    assert driver.session.deadline() == driver.now + 0.5


def test_flapping_session_is_damped() -> None:
    driver = Driver()
    pauses = []
    driver.session.start(driver.now)
    for _ in range(4):
        dial = next(output for output in driver.outputs() if isinstance(output, Dial))
        driver.session.connected(dial.connection, driver.now)
        driver.receive(dial.connection, open_bytes() + KEEPALIVE)
        driver.session.closed(dial.connection, driver.now, "gone")
        assert driver.session.state is State.IDLE
        deadline = driver.session.deadline()
        assert deadline is not None
        pauses.append(deadline - driver.now)
        driver.now = deadline
        driver.session.tick(driver.now)
    assert pauses == [0.5, 1.0, 2.0, 4.0]


def test_neighbor_that_returns_is_accepted_at_once() -> None:
    driver = Driver()
    number = driver.established()
    driver.session.closed(number, driver.now, "gone")
    assert driver.session.accepted(driver.now) is not None


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (b"GET / HTTP/1.1\r\n\r\n\r\n", (1, 1, b"")),
        (MARKER + b"\x00\x12\x04", (1, 2, b"\x00\x12")),
        (MARKER + b"\x10\x01\x01", (1, 2, b"\x10\x01")),
        (MARKER + b"\x00\x14\x04\x00", (1, 2, b"\x00\x14")),
        (MARKER + b"\x00\x1c\x01", (1, 2, b"\x00\x1c")),
        (MARKER + b"\x00\x13\x09", (1, 3, b"\x09")),
        (KEEPALIVE, (5, 1, b"\x04")),
        (UPDATE, (5, 1, b"\x02")),
        (REFRESH, (5, 1, b"\x05")),
        (open_bytes(asn=65999), (2, 2, b"")),
        (open_bytes(router_id="0.0.0.0"), (2, 3, b"")),
        (open_bytes(hold_time_s=2), (2, 6, b"")),
        (open_bytes()[:19] + b"\x03" + open_bytes()[20:], (2, 1, b"\x00\x04")),
    ],
)
def test_error_in_open_sent_is_answered_with_its_codes(sent: bytes, expected: tuple[int, int, bytes]) -> None:
    driver = Driver()
    number = driver.dialed()
    driver.outputs()
    outputs = driver.receive(number, sent)
    assert notification_of(outputs) == expected
    assert [type(output) for output in outputs] == [Send, Close, AttemptFailed]
    assert driver.session.state is State.IDLE
    assert driver.session.accepted(driver.now) is None, "a neighbor that is wrong must not come back at once"


@pytest.mark.parametrize(("sent", "kind"), [(UPDATE, 2), (REFRESH, 5), (open_bytes(), 1)])
def test_unexpected_message_in_open_confirm(sent: bytes, kind: int) -> None:
    driver = Driver()
    number = driver.dialed()
    driver.receive(number, open_bytes())
    assert notification_of(driver.receive(number, sent)) == (5, 2, bytes((kind,)))


def test_open_in_established_is_an_fsm_error() -> None:
    driver = Driver()
    number = driver.established()
    outputs = driver.receive(number, open_bytes())
    assert notification_of(outputs) == (5, 3, b"\x01")
    assert any(isinstance(output, SessionDown) for output in outputs)


@pytest.mark.parametrize(
    ("asn", "expected", "accepted"),
    [(65201, "external", True), (65203, "internal", True), (65203, "external", False), (65201, "internal", False)],
)
def test_asn_by_kind(asn: int, expected: str, accepted: bool) -> None:
    driver = Driver(settings(expected))
    number = driver.dialed()
    driver.outputs()
    outputs = driver.receive(number, open_bytes(asn))
    assert (driver.session.state is State.OPEN_CONFIRM) == accepted
    assert accepted or notification_of(outputs) == (2, 2, b"")


def test_long_message_is_taken_only_if_we_offered_it() -> None:
    long = encode_message(MessageType.UPDATE, b"\0" * 5000)
    driver = Driver()
    assert notification_of(driver.receive(driver.established(), long)) == (1, 2, b"\x13\x9b")
    driver = Driver(settings(extended_message=True))
    assert driver.receive(driver.established(), long) == [UpdateReceived(b"\0" * 5000)]


def test_hold_timer_expires_without_keepalives() -> None:
    driver = Driver()
    driver.established()
    outputs = driver.wait(9.0)
    assert notification_of(outputs) == (4, 0, b"")
    (down,) = (output for output in outputs if isinstance(output, SessionDown))
    assert "hold timer expired" in down.reason


def test_keepalives_hold_the_session_and_are_sent_every_third() -> None:
    driver = Driver()
    number = driver.established()
    sent = 0
    for _ in range(30):
        sent += sum(output == Send(number, KEEPALIVE) for output in driver.wait(1.0))
        driver.receive(number, KEEPALIVE)
    assert driver.session.state is State.ESTABLISHED
    assert sent == 10


def test_unread_input_holds_the_hold_timer_back() -> None:
    driver = Driver()
    number = driver.established()
    driver.session.received(number, UPDATE)
    driver.now += 100
    driver.session.tick(driver.now)
    assert not any(isinstance(output, SessionDown) for output in driver.outputs())


def test_hold_time_zero_means_no_timers() -> None:
    driver = Driver()
    driver.established(hold_time_s=0)
    assert driver.session.deadline() is None


def test_silent_peer_in_open_sent_is_given_up() -> None:
    driver = Driver()
    driver.dialed()
    assert notification_of(driver.wait(OPEN_TIMEOUT_S)) == (4, 0, b"")


def test_notification_ends_the_session_with_its_text() -> None:
    driver = Driver()
    number = driver.established()
    data = encode_communication("maintenance until 04:00")
    outputs = driver.receive(number, encode_notification(6, 2, data))
    assert outputs[1:] == [Close(number)]
    (down,) = (output for output in outputs if isinstance(output, SessionDown))
    assert down.reason == "the neighbor sent cease/administrative-shutdown: maintenance until 04:00"
    assert down.notified


def expire(driver: Driver, number: int) -> list[Output]:
    return driver.wait(9)


ENDS = {
    "notification": lambda driver, number: driver.receive(number, encode_notification(6, 2)),
    "garbage": lambda driver, number: driver.receive(number, b"\0" * 19),
    "open again": lambda driver, number: driver.receive(number, open_bytes()),
    "hold timer": expire,
    "stop": lambda driver, number: driver.session.stop(driver.now, SHUTDOWN, "shut down"),
    "reset": lambda driver, number: driver.session.reset(driver.now, SHUTDOWN, "reset"),
    "refused": lambda driver, number: driver.session.update_refused(driver.now, SHUTDOWN, "refused"),
    "link": lambda driver, number: driver.session.transport_lost(driver.now, "link down"),
    "closed": lambda driver, number: driver.session.closed(number, driver.now, "closed"),
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_the_end_of_a_session_is_told_before_its_last_words_and_its_close(
    end: Callable[[Driver, int], list[Output] | None],
) -> None:
    driver = Driver()
    number = driver.established()
    outputs = [output for output in (end(driver, number) or []) + driver.outputs() if not is_keepalive(output)]
    assert isinstance(outputs[0], SessionDown)
    kinds = [type(output) for output in outputs[1:] if isinstance(output, Send | Close)]
    assert kinds in ([Close], [Send, Close])


def is_keepalive(output: Output) -> bool:
    return isinstance(output, Send) and split(output.data)[0][0] is MessageType.KEEPALIVE


def test_stop_sends_the_notification_and_stays_down() -> None:
    driver = Driver()
    driver.established()
    driver.session.stop(driver.now, SHUTDOWN, "shut down")
    outputs = driver.outputs()
    assert notification_of(outputs) == (6, 2, b"\x03bye")
    assert driver.wait(3600) == []
    assert driver.session.accepted(driver.now) is None


def test_stop_without_notification_says_nothing() -> None:
    driver = Driver()
    number = driver.established()
    driver.session.stop(driver.now, None, "restart")
    assert driver.outputs() == [SessionDown("restart"), Close(number)]


def test_final_shutdown_is_a_hard_reset_where_the_peer_would_keep_routes() -> None:
    driver = Driver(settings(graceful=True))
    driver.established(graceful=True)
    driver.session.stop(driver.now, SHUTDOWN, "shut down")
    assert notification_of(driver.outputs()) == (6, 9, b"\x06\x02\x03bye")


def test_bfd_down_is_a_hard_reset_where_the_peer_would_keep_routes() -> None:
    """What it would keep leads into a path that is down."""
    driver = Driver(settings(graceful=True))
    driver.established(graceful=True)
    driver.session.reset(driver.now, Notification(6, 10), "BFD down")
    assert notification_of(driver.outputs()) == (6, 9, b"\x06\x0a")


def test_refused_update_resets_the_session() -> None:
    driver = Driver()
    driver.established()
    driver.session.update_refused(driver.now, Notification(3, 1), "malformed")
    outputs = driver.outputs()
    assert notification_of(outputs) == (3, 1, b"")
    assert driver.session.accepted(driver.now) is None


def test_hold_off_refuses_the_neighbor_and_ends() -> None:
    driver = Driver()
    driver.established()
    driver.session.reset(driver.now, Notification(6, 1), "too many prefixes", hold_off_s=60)
    driver.outputs()
    driver.session.connect_now(driver.now)
    assert driver.wait(59) == []
    assert driver.session.accepted(driver.now) is None
    assert any(isinstance(output, Dial) for output in driver.wait(2))


def test_hold_off_goes_on_in_the_next_process_for_the_time_that_is_left() -> None:
    former, next_one = Driver(), Driver()
    former.established()
    former.session.reset(former.now, Notification(6, 1), "too many prefixes", hold_off_s=60)
    former.outputs()
    former.wait(40)
    next_one.now = former.now
    next_one.session.resume(former.session.retries(former.now), next_one.now)
    next_one.session.start(next_one.now)
    assert next_one.session.held_off_until == former.session.held_off_until
    next_one.session.connect_now(next_one.now)
    assert next_one.wait(19) == []
    assert next_one.session.accepted(next_one.now) is None
    assert any(isinstance(output, Dial) for output in next_one.wait(2))


def test_hold_off_that_is_over_does_not_go_on() -> None:
    former, next_one = Driver(), Driver()
    former.established()
    former.session.reset(former.now, Notification(6, 1), "too many prefixes", hold_off_s=60)
    former.outputs()
    saved = former.session.retries(former.now)
    next_one.now = former.now + 61
    next_one.session.resume(saved, next_one.now)
    next_one.session.start(next_one.now)
    assert [type(output) for output in next_one.outputs()] == [Dial]


def test_hold_off_ends_when_its_cause_is_gone() -> None:
    driver = Driver()
    driver.established()
    driver.session.end_hold_off(driver.now)
    assert driver.session.state is State.ESTABLISHED
    driver.session.reset(driver.now, Notification(6, 1), "too many prefixes", hold_off_s=60)
    driver.outputs()
    driver.session.end_hold_off(driver.now)
    assert [type(output) for output in driver.outputs()] == [Dial]


def test_lost_link_ends_at_once_and_its_return_dials_at_once() -> None:
    driver = Driver()
    number = driver.established()
    driver.session.transport_lost(driver.now, "link eth0 went down")
    assert driver.outputs() == [SessionDown("link eth0 went down"), Close(number)]
    driver.session.connect_now(driver.now)
    assert [type(output) for output in driver.outputs()] == [Dial]


class EveryInput(RuleBasedStateMachine):
    """Every input in every state: nothing raises, and what the driver sees stays consistent."""

    def __init__(self) -> None:
        super().__init__()
        self.checked = CheckedSession()

    @rule()
    def start(self) -> None:
        self.checked.start()

    @rule(loud=st.booleans())
    def stop(self, loud: bool) -> None:
        self.checked.stop(loud=loud)

    @rule(success=st.booleans())
    def dial_ends(self, success: bool) -> None:
        self.checked.dials_end(success=success)

    @rule(graceful=st.booleans())
    def come_up(self, graceful: bool) -> None:
        """What single inputs bring about too seldom."""
        self.checked.start()
        self.checked.dials_end(success=True)
        if self.checked.open and not self.checked.up:
            said = INPUTS["graceful open" if graceful else "open"] + INPUTS["keepalive"]
            self.checked.receive(max(self.checked.open), said)

    @rule()
    def accept(self) -> None:
        self.checked.accept()

    @rule(data=st.data(), inputs=st.lists(st.sampled_from(sorted(INPUTS)), min_size=1, max_size=3))
    def receive(self, data: st.DataObject, inputs: list[str]) -> None:
        if self.checked.open:
            number = data.draw(st.sampled_from(sorted(self.checked.open)))
            self.checked.receive(number, b"".join(INPUTS[name] for name in inputs))

    @rule(data=st.data(), noise=st.binary(min_size=1, max_size=64))
    def receive_noise(self, data: st.DataObject, noise: bytes) -> None:
        if self.checked.open:
            self.checked.receive_noise(data.draw(st.sampled_from(sorted(self.checked.open))), noise)

    @rule(data=st.data())
    def close(self, data: st.DataObject) -> None:
        if self.checked.open:
            self.checked.close(data.draw(st.sampled_from(sorted(self.checked.open))))

    @rule(seconds=st.floats(0.01, 40))
    def pass_time(self, seconds: float) -> None:
        self.checked.pass_time(seconds)

    @rule(hold_off=st.sampled_from([0.0, 60.0]))
    def reset(self, hold_off: float) -> None:
        self.checked.reset(hold_off)

    @rule()
    def refuse_update(self) -> None:
        self.checked.refuse_update()

    @rule()
    def lose_link(self) -> None:
        self.checked.lose_link()

    @rule()
    def connect_now(self) -> None:
        self.checked.connect_now()

    @invariant()
    def all_is_consistent(self) -> None:
        self.checked.check()


EveryInput.TestCase.settings = hypothesis_settings(max_examples=60, stateful_step_count=40, deadline=None)
TestEveryInput = EveryInput.TestCase


def encode_cease() -> bytes:
    return encode_notification(ErrorCode.CEASE, CeaseSubcode.ADMINISTRATIVE_SHUTDOWN, b"")


def test_of_what_came_before_the_loss_only_the_reason_is_read() -> None:
    driver = Driver()
    number = driver.established()
    driver.session.received(number, (REFRESH + UPDATE + KEEPALIVE) * 1000 + encode_cease() + UPDATE)
    driver.session.closed(number, driver.now, "reset")
    outputs = driver.outputs()
    assert [type(output) for output in outputs if not isinstance(output, Close)] == [SessionDown]
    (down,) = [output for output in outputs if isinstance(output, SessionDown)]
    assert down.reason == "the neighbor sent cease/administrative-shutdown"
    assert driver.session.state is State.IDLE


@pytest.mark.parametrize("rest", [b"", UPDATE[:20], MARKER + b"\0\0\2", MARKER + b"\0\x40\3", REFRESH * 2849])
def test_loss_with_whatever_was_not_read_ends_the_session(rest: bytes) -> None:
    driver = Driver()
    number = driver.established()
    driver.session.received(number, rest)
    driver.session.closed(number, driver.now, "reset")
    assert [output.reason for output in driver.outputs() if isinstance(output, SessionDown)] == ["reset"]


def test_open_that_was_not_read_before_the_loss_still_says_what_was_wrong() -> None:
    driver = Driver()
    number = driver.dialed()
    driver.outputs()
    driver.session.received(number, open_bytes(65299))
    driver.session.closed(number, driver.now, "reset")
    (failed,) = [output for output in driver.outputs() if isinstance(output, AttemptFailed)]
    assert "65299" in failed.reason
    assert driver.session.accepted(driver.now) is None, "it has the same OPEN again"
    assert any(isinstance(output, Dial) for output in driver.wait(5))


def test_good_open_of_a_lost_connection_brings_nothing_about() -> None:
    driver = Driver()
    number = driver.established(graceful=True)
    driver.now += 60.0
    second = driver.accepted()
    driver.session.received(second, open_bytes(graceful=True) + KEEPALIVE)
    driver.session.closed(second, driver.now, "reset")
    driver.outputs()
    assert driver.session.state is State.ESTABLISHED
    assert driver.receive(number, UPDATE) == [UpdateReceived(b"\0\0\0\0")]


def test_peer_that_connects_must_say_its_open_soon() -> None:
    driver = Driver(settings(dials=False))
    driver.session.start(driver.now)
    assert driver.session.accepted(driver.now) is not None
    driver.outputs()
    outputs = driver.wait(INCOMING_OPEN_TIMEOUT_S)
    assert notification_of(outputs) == (4, 0, b"")
    assert driver.session.state is not State.OPEN_SENT


def test_peer_that_comes_up_and_falls_again_and_again_has_to_wait() -> None:
    driver = Driver(settings(dials=False))
    driver.session.start(driver.now)
    refused = 0
    for _ in range(3 * SHORT_LIVED):
        number = driver.session.accepted(driver.now)
        if number is None:
            refused += 1
            driver.wait(5.0)
            continue
        driver.receive(number, open_bytes() + KEEPALIVE)
        driver.session.closed(number, driver.now, "reset")
        driver.outputs()
    assert refused >= SHORT_LIVED - 1
    number = driver.session.accepted(driver.now)
    if number is None:
        driver.wait(5.0)
        number = driver.session.accepted(driver.now)
    assert number is not None
    driver.receive(number, open_bytes() + KEEPALIVE)
    driver.now += STABLE_S
    driver.session.closed(number, driver.now, "reset")
    driver.outputs()
    assert driver.session.accepted(driver.now) is not None
