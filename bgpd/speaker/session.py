"""The finite state machine of one neighbor (RFC 4271 section 8): which state, which connection lives, when to dial.

Sans-IO and clockless: the driver reports what happened, with `now` in seconds of a monotonic clock, performs the
outputs that `next_output` gives until there are none, and calls `tick` at `deadline`. A session has at most one
connection that it made and one that the peer made; connection.py speaks on them, collision.py says which of two lives.
The pauses between attempts are in retries.py. Never touches a socket.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from itertools import count

import msgspec

from bgpd.message.exabgp_codec import Notification
from bgpd.message.notification import describe_notification, unwrap_hard_reset
from bgpd.message.open import Negotiated, Open
from bgpd.model.iana import CeaseSubcode, ErrorCode
from bgpd.speaker.collision import COLLISION, keeps_ours, loser
from bgpd.speaker.connection import (
    Connection,
    ConnectionFailed,
    KeepaliveConfirmed,
    KeepaliveReceived,
    NotificationReceived,
    OpenReceived,
    RefreshReceived,
    State,
    UpdateReceived,
)
from bgpd.speaker.retries import FIRST_RETRY_S, Retries
from bgpd.speaker.saved import SavedRetries

DIAL_PATIENCE_S = 0.5
"""So long a connection of the peer waits for one that is being dialed, and would be kept."""


def may_go_on(negotiated: Negotiated | None, notified: Notified | None) -> bool:
    """Whether the end of a session lets the neighbor go on forwarding: it can restart gracefully, and no NOTIFICATION
    ended it, or one that RFC 8538 lets pass (both sides sent the N bit, and it is no Hard Reset)."""
    if negotiated is None or negotiated.graceful_restart is None:
        return False
    if notified is None:
        return True
    said = notified.notification
    is_hard = (said.code, said.subcode) == (ErrorCode.CEASE, CeaseSubcode.HARD_RESET)
    return negotiated.hard_reset and not is_hard


class SessionSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What the FSM must know of the configuration. `dials`: it connects by itself, not only the peer does."""

    local: Open
    expected_asn: int | str
    connect_retry_s: float
    dials: bool = True
    min_hold_time_s: int = 0
    role_strict: bool = False


class Dial(msgspec.Struct, frozen=True):
    """Connect; report `connected` or `dial_failed` with this connection's number."""

    connection: int


class Send(msgspec.Struct, frozen=True):
    """Write bytes to a connection."""

    connection: int
    data: bytes


class Close(msgspec.Struct, frozen=True):
    """Give a connection up, after what was sent before; `closed` need not be reported."""

    connection: int


class SessionUp(msgspec.Struct, frozen=True):
    """The session is established on this connection."""

    connection: int
    negotiated: Negotiated


class Notified(msgspec.Struct, frozen=True):
    """A NOTIFICATION that was sent (else received)."""

    notification: Notification
    sent: bool


class SessionDown(msgspec.Struct, frozen=True):
    """The established session ended. `notified`: one side said so, rather than that the connection was lost.

    `is_graceful`: the neighbor may go on forwarding, as far as the end of the session tells (RFC 4724, RFC 8538).
    """

    reason: str
    notified: Notified | None = None
    is_graceful: bool = False


class AttemptFailed(msgspec.Struct, frozen=True):
    """A connection was not made, or ended before it was established. `reason` is "" if a dial had no answer in time."""

    reason: str
    notified: Notified | None = None


Output = (
    Dial | Send | Close | SessionUp | SessionDown | AttemptFailed | UpdateReceived | RefreshReceived | KeepaliveReceived
)


class Session:
    """The FSM of one neighbor, over all its connections. `random` gives numbers from 0 to 1, for jitter."""

    def __init__(self, settings: SessionSettings, *, random: Callable[[], float]) -> None:
        self.settings = settings
        self.state = State.IDLE
        self.established: Connection | None = None
        self._random = random
        self._connections: dict[int, Connection] = {}
        self._dialing: int | None = None
        self._numbers = count()
        self._outputs: deque[Output] = deque()
        self._retries = Retries(random=random)
        self._running = False
        self._reading: Connection | None = None
        self._unconfirmed: tuple[int, float] | None = None
        """The peer's connection that waits for what is being dialed, and until when."""

    @property
    def is_refusing(self) -> bool:
        """Whether the peer may not connect for now."""
        return self._retries.is_refusing

    @property
    def held_off_until(self) -> float:
        """Until when the peer is refused for cause; a time that has passed if it is not."""
        return self._retries.held_off_until

    # Inputs: administrative (RFC 4271 section 8.1.2)

    def start(self, now: float) -> None:
        """Events 1 and 4: ManualStart, for a passive neighbor with PassiveTcpEstablishment."""
        if not self._running:
            self._running = True
            if not self.is_refusing:
                self._connect(now)

    def retries(self, now: float) -> SavedRetries:
        """How long it would pause, and refuse the peer, for another process."""
        return self._retries.saved(now)

    def resume(self, saved: SavedRetries, now: float) -> None:
        """Pause, and refuse the peer, as another process would have. Call before `start`."""
        self._retries.resume(saved, now)

    def stop(self, now: float, notification: Notification | None, reason: str) -> None:
        """Event 2: ManualStop. Without a notification the peer sees only the connection end (graceful restart)."""
        self._running = False
        self._give_up_dialing()
        for number in list(self._connections):
            self._fail(number, now, notification, reason, is_graceful=False)
        self._settle(now)

    def reset(self, now: float, notification: Notification, reason: str, *, hold_off_s: float = 0.0) -> None:
        """End all connections; after `hold_off_s`, in which the peer is refused too, start again."""
        self._give_up_dialing()
        for number in list(self._connections):
            self._fail(number, now, notification, reason, is_graceful=False)
        if self._running:
            self._retries.hold_off(now, hold_off_s, longest_s=self.settings.connect_retry_s)
            self._enter(State.IDLE)

    def end_hold_off(self, now: float) -> None:
        """The cause of a `reset` is gone: begin again, if the peer is being refused."""
        if self._retries.end_hold_off():
            self.connect_now(now)

    def connect_now(self, now: float) -> None:
        """Something changed that makes success likely (link up, address learned): do not wait for the retry timer."""
        if not self._running or self._connections or self.is_refusing:
            return
        if self._dialing is not None:
            deadline = self._retries.deadline
            if deadline is None or now < deadline - self.settings.connect_retry_s + FIRST_RETRY_S:
                return
            self._give_up_dialing()
        self._retries.forget_failures()
        self._connect(now)

    def transport_lost(self, now: float, reason: str) -> None:
        """The path to the peer is gone (link down): end everything at once, without a NOTIFICATION."""
        self._give_up_dialing()
        for number in list(self._connections):
            self._fail(number, now, None, reason, is_graceful=False)
        self._settle(now)

    def adopt(self, connection: Connection) -> int:
        """Begin as Established, on a connection that another process has brought there; its number."""
        self._running = True
        number = next(self._numbers)
        self._connections[number] = self.established = connection
        self._enter(State.ESTABLISHED)
        return number

    def unread(self, data: bytes) -> None:
        """What an adopted connection has received already."""
        if self.established is not None:
            self.established.feed(data)

    def put_off(self, now: float, *, is_unread: bool) -> None:
        """What the neighbor sent may be unread: its hold timer waits until that could be read. Or nothing is unread,
        and the timer waits no more."""
        if self.established is not None:
            self.established.put_off(now, is_unread=is_unread)

    @property
    def has_outputs(self) -> bool:
        """Whether `next_output` has something without reading."""
        return bool(self._outputs)

    @property
    def is_settled(self) -> bool:
        """Whether the session is established, and the driver has performed all that it wanted."""
        return self.established is not None and not self._outputs

    # Inputs: TCP (section 8.1.4)

    def connected(self, number: int, now: float) -> None:
        """Event 17: TcpConnectionConfirmed, for a Dial that was not given up."""
        if number == self._dialing:
            self._dialing = None
            self._open(number, now, incoming=False)

    def dial_failed(self, number: int, now: float, reason: str) -> None:
        """Event 18: TcpConnectionFails, before the connection was made."""
        if number == self._dialing:
            self._dialing = None
            if not self._connections:
                self._outputs.append(AttemptFailed(reason))
            self._settle(now)

    def accepted(self, now: float) -> int | None:
        """Event 16: the peer connected. Number of the connection, or None: refuse it."""
        if not self._running or self.is_refusing:
            return None
        for number, connection in list(self._connections.items()):
            if connection.incoming and connection.state is not State.ESTABLISHED:
                self._fail(number, now, COLLISION, "the peer connected again")
        number = next(self._numbers)
        self._open(number, now, incoming=True)
        return number

    def received(self, number: int, data: bytes) -> None:
        """Bytes came; `next_output` reads them."""
        if number in self._connections:
            self._connections[number].feed(data)

    def closed(self, number: int, now: float, reason: str) -> None:
        """Event 18: TcpConnectionFails, on a connection that had been made. What came last may say why."""
        connection = self._connections.get(number)
        if connection is None:
            return
        match connection.last_words(now):
            case NotificationReceived(notification):
                self._notification_received(number, notification, now)
            case ConnectionFailed(why):
                self._fail(number, now, None, why)
                self._settle(now, refusing=True)
            case None:
                if connection.negotiated is None:
                    reason += " before its OPEN: does it know this host as a neighbor, by this address?"
                self._fail(number, now, None, reason)
                self._settle(now)

    def update_refused(self, now: float, notification: Notification, reason: str) -> None:
        """Event 28: an UPDATE that the decoder answers with a session reset."""
        for number, connection in list(self._connections.items()):
            if connection is self.established:
                self._fail(number, now, notification, reason)
                self._settle(now, refusing=True)

    # Timers (section 8.1.3)

    def tick(self, now: float) -> None:
        """Let the timers that are due by `now` expire."""
        for number, connection in list(self._connections.items()):
            failed = connection.tick(now)
            if failed is not None:
                self._remove(number, now, failed.reason)
                self._settle(now)
            else:
                self._flush(number)
        if self._retries.deadline is not None and now >= self._retries.deadline:
            if self._dialing is not None:
                self._give_up_dialing()
                if not self._connections:
                    self._outputs.append(AttemptFailed(""))
                self._settle(now)
            else:
                self._connect(now)
        self._confirm_unless_dialing(now)

    def deadline(self) -> float | None:
        """When `tick` wants to be called; None: only when something happens."""
        times = [connection.deadline() for connection in self._connections.values()]
        times += self._retries.deadline, self._unconfirmed[1] if self._unconfirmed is not None else None
        return min((time for time in times if time is not None), default=None)

    # Outputs

    def updates(self, now: float, *, most: int, most_bytes: int) -> list[bytes]:
        """The bodies of received UPDATEs that are due before anything that `next_output` has: for the hot path."""
        if self._outputs or self.established is None:
            return []
        self._reading = self.established
        return self.established.updates(now, most=most, most_bytes=most_bytes)

    def give_back(self, bodies: Sequence[bytes]) -> None:
        """The last of the bodies that `updates` gave were not worked off, and are due again."""
        if self._reading is not None:
            self._reading.give_back(bodies)

    @property
    def worked_on(self) -> bytes:
        """The messages that were read last, headers included: what is being worked off, where something goes wrong."""
        return self._reading.worked_on if self._reading is not None else b""

    def next_output(self, now: float) -> Output | None:
        """What the driver has to do next; reads received bytes only as far as needed. None: nothing."""
        while not self._outputs:
            if not any(self._read(number, one, now) for number, one in list(self._connections.items())):
                break
        return self._outputs.popleft() if self._outputs else None

    # The machine

    def _read(self, number: int, connection: Connection, now: float) -> bool:
        """Handle the next message of one connection; whether there was one."""
        if self._unconfirmed is not None and number == self._unconfirmed[0]:
            return False
        self._reading = connection
        event = connection.next_event(now)
        if event is None:
            return False
        match event:
            case UpdateReceived() | RefreshReceived() | KeepaliveReceived():
                self._outputs.append(event)
            case OpenReceived():
                self._open_received(number, connection, now)
            case KeepaliveConfirmed():
                self._established(number, connection)
            case NotificationReceived(notification):
                self._notification_received(number, notification, now)
            case ConnectionFailed(reason):
                self._remove(number, now, reason)
                self._settle(now, refusing=True)
        return True

    def _open_received(self, number: int, connection: Connection, now: float) -> None:
        """Events 19 and 23: look for a collision before OpenConfirm (section 6.8)."""
        for other_number, other in list(self._connections.items()):
            if other is connection:
                continue
            if loser(connection, other) is connection:
                self._fail(number, now, COLLISION, "another connection with this neighbor is kept (RFC 4271 6.8)")
                return
            reason = (
                "the neighbor restarted" if other.state is State.ESTABLISHED else "the neighbor's connection is kept"
            )
            self._fail(other_number, now, None if other is self.established else COLLISION, reason)
        if connection.incoming and connection.negotiated is not None and self._dialing is not None:
            # Once the peer is established, it takes what is dialed for that of a host that has restarted.
            if keeps_ours(connection.negotiated):
                self._unconfirmed = number, now + DIAL_PATIENCE_S
                return
            self._give_up_dialing()
        connection.confirm(now)
        self._flush(number)
        self._settle(now)

    def _confirm_unless_dialing(self, now: float) -> None:
        """Accept the OPEN of the peer's connection once nothing comes of what was dialed, or not soon enough."""
        if self._unconfirmed is None:
            return
        number, until = self._unconfirmed
        if now < until and (self._dialing is not None or not all(one.incoming for one in self._connections.values())):
            return
        self._unconfirmed = None
        self._give_up_dialing()
        self._connections[number].confirm(now)
        self._flush(number)
        self._settle(now)

    def _established(self, number: int, connection: Connection) -> None:
        assert connection.negotiated is not None
        self.established = connection
        self._give_up_dialing()
        self._enter(State.ESTABLISHED)
        self._outputs.append(SessionUp(number, connection.negotiated))

    def _notification_received(self, number: int, notification: Notification, now: float) -> None:
        """Events 24 and 25."""
        code, subcode, data = notification.code, notification.subcode, notification.data
        reason = f"the neighbor sent {describe_notification(code, subcode, data)}"
        self._remove(number, now, reason, received=notification)
        final = unwrap_hard_reset(code, subcode, data)[0] != ErrorCode.CEASE
        self._settle(now, refusing=final and code != ErrorCode.HOLD_TIMER_EXPIRED)

    def _connect(self, now: float) -> None:
        """Idle or Active is over: Connect, or, for a passive neighbor, Active without a timer."""
        if not self.settings.dials:
            self._wait(State.ACTIVE, None)
            return
        self._dialing = next(self._numbers)
        self._retries.wait(now + self.settings.connect_retry_s)
        self._enter(State.CONNECT)
        self._outputs.append(Dial(self._dialing))

    def _open(self, number: int, now: float, *, incoming: bool) -> None:
        """A TCP connection is up: OpenSent."""
        connection = Connection(
            local=self.settings.local,
            expected_asn=self.settings.expected_asn,
            incoming=incoming,
            now=now,
            random=self._random,
            min_hold_time_s=self.settings.min_hold_time_s,
            role_strict=self.settings.role_strict,
        )
        self._connections[number] = connection
        connection.open()
        self._flush(number)
        self._settle(now)

    def _fail(
        self, number: int, now: float, notification: Notification | None, reason: str, *, is_graceful: bool = True
    ) -> None:
        """End a connection ourselves; `_settle` must follow."""
        if notification is not None:
            self._connections[number].fail(notification, reason)
        self._remove(number, now, reason, is_graceful=is_graceful)

    def _remove(
        self,
        number: int,
        now: float,
        reason: str,
        *,
        received: Notification | None = None,
        is_graceful: bool = True,
    ) -> None:
        """A connection has ended; report to the driver what that means. `is_graceful`: for all that this host knows.

        The session's end is reported before the last words are sent, so that no route follows them, however much later
        the driver comes to the rest.
        """
        connection = self._connections.pop(number)
        if self._unconfirmed is not None and number == self._unconfirmed[0]:
            self._unconfirmed = None
        connection.end()
        sent = connection.notification_sent
        notified = Notified(sent, True) if sent is not None else Notified(received, False) if received else None
        was_established = connection is self.established
        if was_established:
            self.established = None
            self._retries.session_ended(now - connection.established_at)
            is_graceful = is_graceful and may_go_on(connection.negotiated, notified)
            self._outputs.append(SessionDown(reason, notified, is_graceful))
        last_words = connection.take_output()
        if last_words:
            self._outputs.append(Send(number, last_words))
        self._outputs.append(Close(number))
        if not was_established and not self._connections:
            self._outputs.append(AttemptFailed(reason, notified))

    def _settle(self, now: float, *, refusing: bool = False) -> None:
        """State and retry timer after something came or went. `refusing`: nor may the peer come back at once."""
        self._confirm_unless_dialing(now)
        if self._connections:
            if self._dialing is None:
                self._retries.deadline = None
            self._enter(max((c.state for c in self._connections.values()), key=lambda state: state.progress))
        elif self._dialing is not None:
            self._enter(State.CONNECT)
        elif not self._running:
            self._wait(State.IDLE, None)
        elif self.state in (State.CONNECT, State.ACTIVE):
            self._wait(State.ACTIVE, now + self._pause_s())
        else:
            self._wait(State.IDLE, now + self._pause_s(), refusing=refusing or self._retries.is_oscillating)

    def _wait(self, state: State, deadline: float | None, *, refusing: bool = False) -> None:
        self._retries.wait(deadline, refusing=refusing)
        self._enter(state)

    def _pause_s(self) -> float:
        return self._retries.pause_s(self.settings.connect_retry_s)

    def _give_up_dialing(self) -> None:
        if self._dialing is not None:
            self._outputs.append(Close(self._dialing))
            self._dialing = None
            self._retries.deadline = None

    def _flush(self, number: int) -> None:
        data = self._connections[number].take_output()
        if data:
            self._outputs.append(Send(number, data))

    def _enter(self, state: State) -> None:
        self.state = state
