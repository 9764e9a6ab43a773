"""One BFD session (RFC 5880 section 6.8), in asynchronous mode and in the active role.

Sans-IO and clockless: the caller hands over packets that are the session's, with `now` in seconds of a monotonic clock,
calls `tick` at `deadline`, and sends what `take_output` gives. Which session a packet belongs to is the caller's
question. Never touches a socket.
"""

from __future__ import annotations

from collections.abc import Callable

from bgpd.bfd.packet import Diagnostic, Packet, State

SLOW_US = 1_000_000
"""The least interval that is offered while a session is not Up (section 6.8.3)."""
_SECOND_US = 1_000_000
_LEAST_SHARE, _LARGEST_SHARE_OF_ONE = 0.75, 0.9
"""Of the interval, between two packets; at most, where one that is missing is a failure (section 6.8.7)."""
_UP = State.UP
"""Looking a member up in its enumeration costs more than what is done with it here."""
_UNKNOWN_MIN_RX_US = 1
"""bfd.RemoteMinRxInterval until the remote system has said one (section 6.8.1)."""
_OWN = ("_random", "_output", "_said", "_said_bytes", "repeated")
"""What is not carried into another process."""


class Session:
    """A session with one remote system. `random` gives numbers from 0 to 1, for jitter (section 6.8.7).

    `ups` and `downs` count how often it went Up, and from Up to another state; `diagnostic` says why it did last.
    """

    def __init__(
        self, discriminator: int, *, interval_us: int, multiplier: int, random: Callable[[], float], now: float
    ) -> None:
        self.discriminator = discriminator
        self.interval_us = interval_us
        self.multiplier = multiplier
        self.state = State.DOWN
        self.diagnostic = Diagnostic.NONE
        self.remote_state = State.DOWN
        self.remote_diagnostic = 0
        self.remote_discriminator = 0
        self.remote_min_rx_us = _UNKNOWN_MIN_RX_US
        self.remote_min_tx_us = 0
        self.remote_multiplier = 0
        self.remote_is_independent = False
        self.ups = 0
        self.downs = 0
        self.sent = 0
        self.received_count = 0
        self.is_polling = False
        self._remote_demands = False
        self._is_poll_due_again = False
        self._random = random
        self._output: list[bytes] = []
        self._said: tuple[object, ...] = ()
        self._said_bytes = b""
        self.repeated = b""
        """What `repeat` would send; b"": another packet is due."""
        self._desired_min_tx_us = self._tx_in_use_us = self._slow_us
        self._required_min_rx_us = self._rx_in_use_us = interval_us
        self._last_sent = now
        self.next_send = now
        self.repeat_from = now
        self._scheduled_us = 0
        self.shortest_s = self._longest_s = 0.0
        """Between two packets that are sent."""
        self.spacing_s = self._silence_s = 0.0
        """Between two packets of the remote system: at least, and until it is silent. As `heard_until`, which is
        `detection_at`, as long as something is `repeated`."""
        self.heard_until = now
        self._last_received: float | None = None

    # What others ask

    @property
    def transmit_interval_us(self) -> int:
        """The time between packets before jitter (section 6.8.2); 0: the remote system wants none."""
        return max(self._tx_in_use_us, self.remote_min_rx_us) if self.remote_min_rx_us else 0

    @property
    def detection_time_us(self) -> int:
        """How long the remote system may be silent (section 6.8.4); 0: nothing was heard of it."""
        return self.remote_multiplier * max(self._rx_in_use_us, self.remote_min_tx_us)

    @property
    def detection_at(self) -> float:
        """When the remote system counts as silent."""
        if self._last_received is None:
            return float("inf")
        longest_us = max(self._rx_in_use_us, self.remote_min_tx_us)
        return self._last_received + self.remote_multiplier * longest_us / _SECOND_US

    def deadline(self) -> float:
        """When `tick` wants to be called."""
        send_at = self.next_send if self._sends_periodically else float("inf")
        return min(send_at, self.detection_at)

    def is_expired(self, now: float) -> bool:
        """Whether the remote system has been silent for the detection time."""
        return now >= self.detection_at

    def take_output(self) -> list[bytes]:
        """The packets to send now."""
        output, self._output = self._output, []
        return output

    # Into another process

    def saved(self) -> dict[str, float | None]:
        """All that it is, as numbers."""
        values = ((name, value) for name, value in vars(self).items() if name not in _OWN)
        return {name: int(value) if isinstance(value, int) else value for name, value in values}

    def resume(self, saved: dict[str, float | None]) -> None:
        """Be what another session was; of values that only one of the two knows nothing is taken.

        Raises: ValueError: it is none.
        """
        for name, value in saved.items():
            if name in vars(self) and name not in _OWN:
                if not isinstance(value, int | float) and (value is not None or name != "_last_received"):
                    raise ValueError(f"{name} is {value!r}")
                setattr(self, name, value)
        self.state, self.remote_state = State(self.state), State(self.remote_state)
        self.diagnostic = Diagnostic(self.diagnostic)

    # What happens

    def configure(self, *, interval_us: int, multiplier: int) -> None:
        """Take over other timers: the remote system hears of them by a Poll Sequence, and the session stays."""
        self.interval_us, self.multiplier = interval_us, multiplier
        self.repeated = b""
        self._propose(interval_us if self.state is State.UP else self._slow_us, interval_us)
        self._reschedule()

    def disable(self, now: float) -> None:
        """Go AdminDown (section 6.8.16), and say so at once, again with each call; what is received is ignored."""
        if self.state is not State.ADMIN_DOWN:
            self._enter(State.ADMIN_DOWN, Diagnostic.ADMINISTRATIVELY_DOWN)
            self._last_received = None
        self._send(now)

    def enable(self, now: float) -> None:
        """End AdminDown: the session begins again."""
        if self.state is State.ADMIN_DOWN:
            self._enter(State.DOWN, Diagnostic.NONE)
            self._send(now)

    def received(self, packet: Packet, now: float) -> None:
        """A packet of this session (section 6.8.6, from where the session is known)."""
        self.received_count += 1
        self.repeated = b""
        self.remote_discriminator = packet.my_discriminator
        self.remote_state = packet.state
        self.remote_diagnostic = packet.diagnostic
        self.remote_min_rx_us = packet.required_min_rx_us
        self.remote_min_tx_us = packet.desired_min_tx_us
        self.remote_multiplier = packet.multiplier
        self.remote_is_independent = packet.independent
        self._remote_demands = packet.demand
        if packet.final and self.is_polling:
            self._end_poll()
        if self.state is State.ADMIN_DOWN:
            self._reschedule()
            return
        self._last_received = max(now, self._last_received or now)
        has_changed = self._follow(packet.state)
        self._reschedule()
        if packet.poll:
            self._emit(final=True)
        elif has_changed:
            self._send(now)

    @property
    def is_steady(self) -> bool:
        """Whether one more packet like the last one changes nothing but when the remote system was heard."""
        return self.state is _UP and self.remote_state is _UP and not self.is_polling

    def heard(self, now: float) -> None:
        """A packet like the last one, without Poll and Final, while `is_steady`: most are."""
        self.received_count += 1
        if self._last_received is None or now > self._last_received:
            self._last_received = now
            self.heard_until = now + self._silence_s

    def repeat(self, now: float, jitter: float) -> bytes:
        """The packet before again, to be sent now, if that is all that there is to do, and jitter lets it be sent now,
        if only with others; else b"". The hot path: most packets are sent by this. `jitter` is from 0 to 1.

        Afterwards it is to be sent again at `next_send`, if that is before `heard_until`.
        """
        if now < self.repeat_from or now >= self.heard_until or not self.repeated:
            return b""
        self.sent += 1
        self._last_sent = now
        longest = self._longest_s
        self.next_send = now + longest - (longest - self.shortest_s) * jitter
        self.repeat_from = now + self.shortest_s
        return self.repeated

    def tick(self, now: float) -> None:
        """Let the timers that are due expire: detection, then transmission."""
        if self.is_expired(now):
            self._remote_is_silent(now)
        if self._sends_periodically and now >= self.next_send:
            self._send(now)

    # The state machine (section 6.2)

    def _follow(self, remote: State) -> bool:
        """The state that follows from the remote system's; whether it is another one."""
        before = self.state
        if remote is State.ADMIN_DOWN:
            if self.state is not State.DOWN:
                self._enter(State.DOWN, Diagnostic.NEIGHBOR_SIGNALED_DOWN)
        elif self.state is State.DOWN:
            if remote is State.DOWN:
                self._enter(State.INIT, self.diagnostic)
            elif remote is State.INIT:
                self._enter(State.UP, Diagnostic.NONE)
        elif self.state is State.INIT:
            if remote in (State.INIT, State.UP):
                self._enter(State.UP, Diagnostic.NONE)
        elif remote is State.DOWN:
            self._enter(State.DOWN, Diagnostic.NEIGHBOR_SIGNALED_DOWN)
        return self.state is not before

    def _remote_is_silent(self, now: float) -> None:
        """Sections 6.8.1 and 6.8.4: nothing of the remote system is known any more."""
        self.repeated = b""
        self._last_received = None
        self.remote_discriminator = 0
        self.remote_state = State.DOWN
        self.remote_min_rx_us = _UNKNOWN_MIN_RX_US
        self._remote_demands = False
        if self.state in (State.INIT, State.UP):
            self._enter(State.DOWN, Diagnostic.DETECTION_TIME_EXPIRED)
            self._send(now)
        else:
            self._reschedule()

    def _enter(self, state: State, diagnostic: Diagnostic) -> None:
        was_up = self.state is State.UP
        self.repeated = b""
        self.state, self.diagnostic = state, diagnostic
        self.ups += state is State.UP
        self.downs += was_up
        if was_up or state is State.UP:
            self._propose(self._slow_us if was_up else self.interval_us, self.interval_us)
        if was_up:  # the remote system goes down too: there is nothing that a change could break
            self._tx_in_use_us, self._rx_in_use_us = self._desired_min_tx_us, self._required_min_rx_us

    # Timers (sections 6.5, 6.8.2, 6.8.3, 6.8.7)

    @property
    def _slow_us(self) -> int:
        return max(SLOW_US, self.interval_us)

    @property
    def _sends_periodically(self) -> bool:
        if not self.remote_min_rx_us:
            return False
        both_up = self.state is State.UP and self.remote_state is State.UP
        return not (self._remote_demands and both_up) or self.is_polling

    def _propose(self, desired_min_tx_us: int, required_min_rx_us: int) -> None:
        """Offer other intervals. While Up, sending less often and expecting more often wait for the Final bit."""
        if (desired_min_tx_us, required_min_rx_us) == (self._desired_min_tx_us, self._required_min_rx_us):
            return
        self._desired_min_tx_us, self._required_min_rx_us = desired_min_tx_us, required_min_rx_us
        if self.state is not State.UP or desired_min_tx_us < self._tx_in_use_us:
            self._tx_in_use_us = desired_min_tx_us
        if self.state is not State.UP or required_min_rx_us > self._rx_in_use_us:
            self._rx_in_use_us = required_min_rx_us
        self._is_poll_due_again = self.is_polling
        self.is_polling = True

    def _end_poll(self) -> None:
        """The Final bit came. It may not be about what changed during the Poll Sequence: then another one follows."""
        self.is_polling, self._is_poll_due_again = self._is_poll_due_again, False
        if not self.is_polling:
            self._tx_in_use_us, self._rx_in_use_us = self._desired_min_tx_us, self._required_min_rx_us

    def _reschedule(self) -> None:
        """The transmit interval may be another one: the next packet keeps to it."""
        if self.transmit_interval_us not in (0, self._scheduled_us):
            self._plan()

    def _plan(self) -> None:
        self._scheduled_us = self.transmit_interval_us
        interval_s = self._scheduled_us / _SECOND_US
        self.shortest_s = _LEAST_SHARE * interval_s
        self._longest_s = longest = _LARGEST_SHARE_OF_ONE * interval_s if self.multiplier == 1 else interval_s
        self.next_send = self._last_sent + longest - (longest - self.shortest_s) * self._random()
        self.repeat_from = self._last_sent + self.shortest_s

    def _send(self, now: float) -> None:
        """Send a packet, from which the time to the next one counts."""
        self._last_sent = now
        self._emit(final=False)
        if self.is_steady and self._sends_periodically:
            self.repeated = self._said_bytes
            self._silence_s = self.detection_time_us / _SECOND_US
            self.spacing_s = _LEAST_SHARE * self._silence_s / self.remote_multiplier
            self.heard_until = self.detection_at
        self._plan()

    def _emit(self, *, final: bool) -> None:
        self.sent += 1
        polls = self.is_polling and not final
        said = (
            *(self.state, self.diagnostic, polls, final, self.multiplier),
            *(self.remote_discriminator, self._desired_min_tx_us, self._required_min_rx_us),
        )
        if said != self._said:
            self._said, self._said_bytes = said, self._packet(polls, final).encode()
        self._output.append(self._said_bytes)

    def _packet(self, polls: bool, final: bool) -> Packet:
        return Packet(
            state=self.state,
            diagnostic=self.diagnostic,
            poll=polls,
            final=final,
            independent=True,
            multiplier=self.multiplier,
            my_discriminator=self.discriminator,
            your_discriminator=self.remote_discriminator,
            desired_min_tx_us=self._desired_min_tx_us,
            required_min_rx_us=self._required_min_rx_us,
        )
