"""The BFD state machine and its timers, step by step (RFC 5880 section 6.8)."""

from __future__ import annotations

import pytest

from bgpd.bfd.packet import Diagnostic, Packet, State, decode
from bgpd.bfd.session import Session

MS = 1000


def session(*, interval_ms: int = 100, multiplier: int = 3, random: float = 0.0) -> Session:
    return Session(7, interval_us=interval_ms * MS, multiplier=multiplier, random=lambda: random, now=0.0)


def packet(state: State, **fields: int) -> Packet:
    values = {
        "multiplier": 3,
        "my_discriminator": 9,
        "your_discriminator": 7,
        "desired_min_tx_us": 100 * MS,
        "required_min_rx_us": 100 * MS,
        **fields,
    }
    return Packet(state=state, **values)  # type: ignore[arg-type]


def sent(one: Session) -> list[Packet]:
    return [decode(data) for data in one.take_output()]


def up(**settings: float) -> Session:
    """A session that went Up at 1.0 s, and has ended its Poll Sequence."""
    one = session(**settings)  # type: ignore[arg-type]
    one.received(packet(State.DOWN), 0.5)
    one.received(packet(State.UP), 1.0)
    one.received(packet(State.UP, final=1), 1.0)
    one.take_output()
    return one


def run(one: Session, until: float) -> list[float]:
    """Let the timers run; when packets were sent."""
    times = []
    while one.deadline() <= until:
        now = one.deadline()
        one.tick(now)
        times += [now] * len(one.take_output())
    return times


@pytest.mark.parametrize(
    ("states", "result"),
    [
        ([State.DOWN], State.INIT),
        ([State.INIT], State.UP),
        ([State.UP], State.DOWN),
        ([State.ADMIN_DOWN], State.DOWN),
        ([State.DOWN, State.DOWN], State.INIT),
        ([State.DOWN, State.INIT], State.UP),
        ([State.DOWN, State.UP], State.UP),
        ([State.DOWN, State.ADMIN_DOWN], State.DOWN),
        ([State.INIT, State.INIT], State.UP),
        ([State.INIT, State.UP], State.UP),
        ([State.INIT, State.DOWN], State.DOWN),
        ([State.INIT, State.ADMIN_DOWN], State.DOWN),
    ],
)
def test_state_follows_the_remote_state(states: list[State], result: State) -> None:
    one = session()
    for number, state in enumerate(states):
        one.received(packet(state), 0.1 * number)
    assert one.state is result


def test_first_packet_says_down_and_knows_nobody() -> None:
    one = session()
    one.tick(0.0)
    (first,) = sent(one)
    assert (first.state, first.your_discriminator, first.my_discriminator) == (State.DOWN, 0, 7)
    assert first.independent
    assert (first.desired_min_tx_us, first.required_min_rx_us) == (1_000 * MS, 100 * MS)


def test_not_up_means_no_faster_than_once_a_second() -> None:
    one = session()
    one.received(packet(State.DOWN), 0.0)
    one.received(packet(State.DOWN), 0.1)
    one.take_output()
    assert one.state is State.INIT
    assert one.transmit_interval_us == 1_000 * MS
    one = session(interval_ms=3000)
    assert one.transmit_interval_us == 3_000 * MS


def test_up_polls_for_the_fast_timers_and_final_ends_it() -> None:
    one = session()
    one.received(packet(State.INIT), 1.0)
    (said,) = sent(one)
    assert (said.state, said.poll, said.desired_min_tx_us) == (State.UP, True, 100 * MS)
    assert run(one, 1.15) == [1.1]
    one.received(packet(State.UP, final=1), 1.15)
    one.tick(1.21)
    assert [said.poll for said in sent(one)] == [False]


def test_poll_is_answered_at_once_by_final_without_poll() -> None:
    one = session()
    one.received(packet(State.INIT, poll=1), 1.0)
    (answer,) = sent(one)
    assert (answer.final, answer.poll, answer.state) == (True, False, State.UP)


def test_polls_without_end_do_not_keep_our_own_packets_back() -> None:
    one = up()
    times = []
    for step in range(1, 100):
        now = 1.0 + step * 0.01
        one.received(packet(State.UP, poll=1), now)
        one.take_output()
        times += run(one, now)
    assert len(times) == 9


def test_silence_ends_an_up_session_after_the_detection_time() -> None:
    one = up()
    assert one.detection_time_us == 300 * MS
    run(one, 1.29)
    assert one.state is State.UP
    one.tick(1.3)
    (said,) = sent(one)[-1:]
    assert (one.state, one.diagnostic, one.downs) == (State.DOWN, Diagnostic.DETECTION_TIME_EXPIRED, 1)
    assert (said.state, said.your_discriminator, said.diagnostic) == (State.DOWN, 0, 1)
    assert one.transmit_interval_us == 1_000 * MS


def test_detection_time_is_the_remote_multiplier_times_the_slower_interval() -> None:
    one = up(interval_ms=50)
    one.received(packet(State.UP, multiplier=5, desired_min_tx_us=20 * MS), 2.0)
    assert one.detection_time_us == 5 * 50 * MS
    one.received(packet(State.UP, multiplier=5, desired_min_tx_us=70 * MS), 2.0)
    assert one.detection_time_us == 5 * 70 * MS


@pytest.mark.parametrize("state", [State.DOWN, State.ADMIN_DOWN])
def test_remote_down_ends_an_up_session_at_once(state: State) -> None:
    one = up()
    one.received(packet(state, diagnostic=7), 1.1)
    assert (one.state, one.diagnostic) == (State.DOWN, Diagnostic.NEIGHBOR_SIGNALED_DOWN)
    assert (one.remote_state, one.remote_diagnostic) == (state, 7)
    assert [said.state for said in sent(one)] == [State.DOWN]


@pytest.mark.parametrize(("multiplier", "least", "most"), [(3, 0.075, 0.1), (1, 0.075, 0.09)])
def test_jitter(multiplier: int, least: float, most: float) -> None:
    for random, expected in ((0.0, most), (1.0, least)):
        one = up(multiplier=multiplier, random=random)
        one.received(packet(State.UP), 1.1)
        first, second = run(one, 1.3)[:2]
        assert second - first == pytest.approx(expected)


def test_remote_interval_slows_down_at_once_and_0_stops() -> None:
    one = up()
    one.received(packet(State.UP, required_min_rx_us=400 * MS, poll=1, multiplier=99), 1.05)
    one.take_output()
    assert run(one, 2.0) == [pytest.approx(1.4), pytest.approx(1.8)]
    one.received(packet(State.UP, required_min_rx_us=0, multiplier=99), 2.0)
    assert run(one, 5.0) == []
    one.received(packet(State.UP, multiplier=99), 5.0)
    one.tick(5.0)
    assert len(one.take_output()) == 1


def test_demand_mode_of_the_remote_system_stops_periodic_packets_but_not_polls() -> None:
    one = up()
    one.received(packet(State.UP, demand=1, multiplier=99), 1.05)
    assert run(one, 3.0) == []
    one.configure(interval_us=200 * MS, multiplier=3)
    assert run(one, 3.2)
    one.received(packet(State.UP, demand=1, multiplier=99, final=1), 3.2)
    assert run(one, 5.0) == []


def test_slower_transmission_waits_for_final() -> None:
    one = up()
    one.configure(interval_us=500 * MS, multiplier=3)
    assert one.transmit_interval_us == 100 * MS
    one.received(packet(State.UP), 1.05)
    assert one.transmit_interval_us == 100 * MS
    one.received(packet(State.UP, final=1), 1.1)
    assert one.transmit_interval_us == 500 * MS


def test_faster_reception_waits_for_final() -> None:
    one = up(interval_ms=500)
    one.received(packet(State.UP), 1.0)
    one.configure(interval_us=100 * MS, multiplier=3)
    assert one.detection_time_us == 1_500 * MS
    assert one.transmit_interval_us == 100 * MS
    one.received(packet(State.UP, final=1), 1.1)
    assert one.detection_time_us == 300 * MS


def test_change_during_a_poll_sequence_is_polled_for_once_more() -> None:
    one = up()
    one.configure(interval_us=500 * MS, multiplier=3)
    one.configure(interval_us=800 * MS, multiplier=3)
    one.received(packet(State.UP, final=1), 1.05)
    assert one.is_polling
    assert one.transmit_interval_us == 100 * MS
    one.received(packet(State.UP, final=1), 1.1)
    assert not one.is_polling
    assert one.transmit_interval_us == 800 * MS


def test_admin_down_is_said_at_once_and_ignores_the_remote_system() -> None:
    one = up()
    one.disable(1.1)
    (said,) = sent(one)
    assert (said.state, said.diagnostic) == (State.ADMIN_DOWN, Diagnostic.ADMINISTRATIVELY_DOWN)
    one.received(packet(State.DOWN), 1.2)
    assert one.state is State.ADMIN_DOWN
    assert run(one, 4.0)
    one.enable(4.0)
    one.received(packet(State.DOWN), 4.1)
    assert one.state is State.INIT


def test_silence_while_down_forgets_the_discriminator() -> None:
    one = session()
    one.received(packet(State.UP), 1.0)
    assert (one.state, one.remote_discriminator) == (State.DOWN, 9)
    run(one, 5.0)
    assert (one.state, one.remote_discriminator, one.downs) == (State.DOWN, 0, 0)


def test_remote_system_that_restarts_takes_the_session_down_and_up() -> None:
    one = up()
    one.received(packet(State.DOWN, my_discriminator=33, your_discriminator=0), 1.1)
    assert (one.state, one.remote_discriminator) == (State.DOWN, 33)
    one.received(packet(State.INIT, my_discriminator=33), 1.2)
    assert (one.state, one.ups) == (State.UP, 2)


def test_the_packet_before_is_repeated_within_the_jitter_and_not_after_a_change() -> None:
    one = up(random=0.5)
    assert not one.repeat(1.1, 0.5), "the Poll Sequence has ended: the next packet is another one"
    one.tick(1.1)
    (before,) = one.take_output()
    assert not one.repeat(1.174, 0.5)
    assert one.repeat(1.176, 0.5) == before
    assert one.deadline() == one.next_send == pytest.approx(1.176 + 0.0875)
    assert not one.repeat(1.2, 0.5)
    one.received(packet(State.UP, required_min_rx_us=200 * MS, poll=1), 1.22)
    assert not one.repeat(1.4, 0.5), "its timers are others"
    one.take_output()
    one.tick(1.4)
    one.take_output()
    one.configure(interval_us=50 * MS, multiplier=3)
    assert not one.repeat(1.6, 0.5), "it has to poll"


@pytest.mark.parametrize("state", [State.DOWN, State.ADMIN_DOWN, State.UP])
def test_what_is_not_usual_is_not_repeated(state: State) -> None:
    one = up()
    one.tick(1.1)
    assert one.repeat(1.2, 0.5)
    one.received(packet(state, demand=state is State.UP), 1.25)
    assert not one.repeat(1.3, 0.5)


def test_nothing_is_repeated_to_a_remote_system_that_may_be_silent() -> None:
    one = up()
    one.tick(1.1)
    assert one.repeat(one.detection_at - 0.001, 0.5)
    assert one.deadline() == one.detection_at
    assert not one.repeat(one.detection_at, 0.5), "what came has to be read first"
    one.heard(1.25)
    assert one.repeat(1.4, 0.5)


@pytest.mark.parametrize(("remote_ms", "spacing_s"), [(100, 0.075), (300, 0.225), (10, 0.075)])
def test_what_is_known_while_packets_are_repeated_is_that_of_the_timers(remote_ms: int, spacing_s: float) -> None:
    """The least time between two packets of the remote system, and until when it is not silent."""
    one = up()
    one.received(packet(State.UP, desired_min_tx_us=remote_ms * MS), 1.05)
    one.tick(1.1)
    assert one.repeated
    assert one.spacing_s == pytest.approx(spacing_s)
    assert one.heard_until == one.detection_at == pytest.approx(1.05 + 3 * max(remote_ms, 100) / 1000)
    one.heard(1.15)
    assert one.heard_until == pytest.approx(one.detection_at)


def test_packet_that_is_read_late_does_not_turn_back_when_the_remote_system_was_heard() -> None:
    one = up()
    one.heard(2.0)
    one.heard(1.5)
    assert one.detection_at == pytest.approx(2.3)
    one.received(packet(State.UP), 1.8)
    assert one.detection_at == pytest.approx(2.3)
