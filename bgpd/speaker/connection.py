"""The messages on one TCP connection of a session: framing, the OPEN exchange, keepalives and the errors of each state.

The part of the RFC 4271 FSM from OpenSent on. Sans-IO and clockless: the session feeds bytes, passes `now` (seconds of
a monotonic clock), takes one event at a time, and sends what `take_output` gives. Never decides between two
connections (session.py), nor when to connect (session.py). RFC 4271 sections 6 and 8, RFC 6608, RFC 8654.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence

import msgspec

from bgpd.message.exabgp_codec import (
    HEADER_LENGTH,
    KEEPALIVE,
    MARKER,
    Notification,
    RouteRefresh,
    bad_length,
    decode_notification,
    decode_open,
    decode_route_refresh,
    encode_message,
    encode_notification,
    encode_open,
)
from bgpd.message.notification import describe_notification, wrap_hard_reset
from bgpd.message.open import (
    MAX_EXTENDED_MESSAGE_LENGTH,
    MAX_MESSAGE_LENGTH,
    Negotiated,
    Open,
    negotiate,
)
from bgpd.message.plain_updates import cut_updates
from bgpd.model.iana import CeaseSubcode, ErrorCode, FsmSubcode, HeaderSubcode, MessageType
from bgpd.model.wire import NotificationError
from bgpd.speaker.saved import SavedConnection

OPEN_TIMEOUT_S = 30.0
"""Patience for the peer's OPEN and its first KEEPALIVE: the "large value" of RFC 4271 section 8.2.2. Four minutes are
suggested; a stuck leaf should not cost a data centre that much."""

INCOMING_OPEN_TIMEOUT_S = 5.0
"""Patience for the OPEN of a peer that has connected: it sends it at once."""

_TIME_TO_READ = 1 / 3
"""Of the hold time: so long what came while nothing was read may wait on until it is read."""

_MIN_LENGTH = {
    MessageType.OPEN: 29,
    MessageType.UPDATE: 23,
    MessageType.NOTIFICATION: 21,
    MessageType.KEEPALIVE: 19,
    MessageType.ROUTE_REFRESH: 23,
}


class State(enum.StrEnum):
    """The states of RFC 4271 section 8.2.2, by their names in lower case."""

    IDLE = "idle"
    CONNECT = "connect"
    ACTIVE = "active"
    OPEN_SENT = "opensent"
    OPEN_CONFIRM = "openconfirm"
    ESTABLISHED = "established"

    @property
    def progress(self) -> int:
        """Order of the states from Idle to Established."""
        return _PROGRESS[self]


_PROGRESS = {state: progress for progress, state in enumerate(State)}

_UNEXPECTED = {
    State.OPEN_SENT: FsmSubcode.UNEXPECTED_IN_OPEN_SENT,
    State.OPEN_CONFIRM: FsmSubcode.UNEXPECTED_IN_OPEN_CONFIRM,
    State.ESTABLISHED: FsmSubcode.UNEXPECTED_IN_ESTABLISHED,
}


class OpenReceived(msgspec.Struct, frozen=True):
    """A valid OPEN came; the session looks for a collision and then calls `confirm` or `fail`."""

    negotiated: Negotiated


class KeepaliveConfirmed(msgspec.Struct, frozen=True):
    """The connection became Established."""


class UpdateReceived(msgspec.Struct, frozen=True):
    """An UPDATE without its header."""

    body: bytes


class RefreshReceived(msgspec.Struct, frozen=True):
    """A ROUTE-REFRESH (RFC 2918) or one of its markers (RFC 7313)."""

    refresh: RouteRefresh


class KeepaliveReceived(msgspec.Struct, frozen=True):
    """A KEEPALIVE of an established session: nothing is to be done, but it was a message to work off."""


class NotificationReceived(msgspec.Struct, frozen=True):
    """The peer ended the session."""

    notification: Notification


class ConnectionFailed(msgspec.Struct, frozen=True):
    """We ended the session: the NOTIFICATION is already in the output."""

    reason: str


Event = (
    OpenReceived
    | KeepaliveConfirmed
    | KeepaliveReceived
    | UpdateReceived
    | RefreshReceived
    | NotificationReceived
    | ConnectionFailed
)


class Connection:
    """One TCP connection, from the moment it is up. `incoming`: the peer made it.

    `state` is OPEN_SENT, OPEN_CONFIRM or ESTABLISHED, and IDLE once it has failed: then nothing is read any more.
    `peer_open` is the body of the peer's OPEN.
    """

    def __init__(
        self,
        *,
        local: Open,
        expected_asn: int | str,
        incoming: bool,
        now: float,
        random: Callable[[], float],
        min_hold_time_s: int = 0,
        role_strict: bool = False,
    ) -> None:
        self.incoming = incoming
        self.state = State.OPEN_SENT
        self.negotiated: Negotiated | None = None
        self.messages_received = 0
        self.messages_sent = 0
        self.opened_at = now
        self.established_at = now
        self.notification_sent: Notification | None = None
        self.peer_open = b""
        self._local = local
        self._expected_asn = expected_asn
        self._min_hold_time_s = min_hold_time_s
        self._role_strict = role_strict
        self._random = random
        self._longest = MAX_EXTENDED_MESSAGE_LENGTH if local.extended_message else MAX_MESSAGE_LENGTH
        self._input = b""
        self._offset = 0
        self._worked_from = 0
        self._output: list[bytes] = []
        self._hold_deadline: float | None = now + (INCOMING_OPEN_TIMEOUT_S if incoming else OPEN_TIMEOUT_S)
        self._unread_until = 0.0
        self._keepalive_deadline: float | None = None

    def open(self) -> None:
        """Send our OPEN."""
        self._send(encode_open(self._local))

    def feed(self, data: bytes) -> None:
        """Take received bytes; `next_event` reads messages from them."""
        if self.state is not State.IDLE:
            self._input = self._input[self._offset :] + data
            self._offset = self._worked_from = 0

    def next_event(self, now: float) -> Event | None:
        """Read the next message; None if none is complete."""
        if self.state is State.IDLE:
            return None
        try:
            message = self._next_message()
            return None if message is None else self._message_received(*message, now)
        except NotificationError as error:
            sent = describe_notification(error.code, error.subcode)
            return self.fail(Notification(error.code, error.subcode, error.data), f"we sent {sent}: {error.message}")

    def last_words(self, now: float) -> NotificationReceived | ConnectionFailed | None:
        """Why the peer ended the connection: look for a NOTIFICATION in unread input; discard the rest.

        Messages are skipped by their headers, as long as these are valid, so that much input costs little time.
        """
        if self.negotiated is None:
            event = self.next_event(now)
            if isinstance(event, NotificationReceived | ConnectionFailed):
                return event
        data, start = self._input, self._offset
        while data.startswith(MARKER, start) and len(data) >= start + HEADER_LENGTH:
            length = int.from_bytes(data[start + 16 : start + 18])
            if data[start + 18] == MessageType.NOTIFICATION:
                self._offset = start
                event = self.next_event(now)
                return event if isinstance(event, NotificationReceived | ConnectionFailed) else None
            start += max(length, HEADER_LENGTH)
        return None

    def updates(self, now: float, *, most: int, most_bytes: int) -> list[bytes]:
        """The bodies of the UPDATEs that are next in the input, about so many: the hot path of `next_event`, which has
        all the rest. What is not worked off after all is given back by `give_back`."""
        self._worked_from = self._offset
        bodies: list[bytes] = []
        if self.state is State.ESTABLISHED:
            self._offset = cut_updates(self._input, self._offset, self._longest, most, most_bytes, bodies)
            if bodies:
                self._restart_hold_timer(now)
                self.messages_received += len(bodies)
        return bodies

    def give_back(self, bodies: Sequence[bytes]) -> None:
        """The last of the bodies that `updates` gave were not worked off: they are next in the input again."""
        self._offset -= sum(map(len, bodies)) + HEADER_LENGTH * len(bodies)
        self.messages_received -= len(bodies)

    @property
    def worked_on(self) -> bytes:
        """The messages, headers included, that were read last and may still be worked off: a run of UPDATEs, or one."""
        return self._input[self._worked_from : self._offset]

    def confirm(self, now: float) -> None:
        """The OPEN is accepted and no collision speaks against it: OpenConfirm (RFC 4271 event 19)."""
        assert self.negotiated is not None
        self._enter(State.OPEN_CONFIRM)
        self._send(KEEPALIVE)
        self._hold_deadline = now + (self.negotiated.hold_time_s or OPEN_TIMEOUT_S)
        self._restart_keepalive_timer(now)

    def fail(self, notification: Notification, reason: str) -> ConnectionFailed:
        """End with a NOTIFICATION. Where RFC 8538 is in use, a Cease that must drop the routes becomes a Hard Reset."""
        code, subcode, data = notification.code, notification.subcode, notification.data
        hard = self.state is State.ESTABLISHED and self.negotiated is not None and self.negotiated.hard_reset
        if hard and code == ErrorCode.CEASE and subcode in _HARD:
            subcode, data = CeaseSubcode.HARD_RESET, wrap_hard_reset(subcode, data)
        longest = self.negotiated.max_message_length if self.negotiated is not None else MAX_MESSAGE_LENGTH
        data = data[: longest - HEADER_LENGTH - 2]
        self._send(encode_notification(code, subcode, data))
        self.notification_sent = Notification(code, subcode, data)
        self.end()
        return ConnectionFailed(reason)

    def end(self) -> None:
        """Stop reading and stop the timers."""
        self._enter(State.IDLE)
        self._input = self.worked_on
        self._worked_from, self._offset = 0, len(self._input)
        self._hold_deadline = self._keepalive_deadline = None

    def tick(self, now: float) -> ConnectionFailed | None:
        """Let the timers that are due by `now` expire. Unread input delays the hold timer."""
        if self._hold_deadline is not None and now >= max(self._hold_deadline, self._unread_until):
            if self._has_message():
                self._hold_deadline = now + 1.0
                return None
            waited = "OPEN" if self.state is State.OPEN_SENT else "KEEPALIVE or UPDATE"
            return self.fail(Notification(ErrorCode.HOLD_TIMER_EXPIRED, 0), f"hold timer expired: no {waited} in time")
        if self._keepalive_deadline is not None and now >= self._keepalive_deadline:
            self._send(KEEPALIVE)
            self._restart_keepalive_timer(now)
        return None

    def deadline(self) -> float | None:
        """When `tick` wants to be called."""
        expires = None if self._hold_deadline is None else max(self._hold_deadline, self._unread_until)
        return min((t for t in (expires, self._keepalive_deadline) if t is not None), default=None)

    def take_output(self) -> bytes:
        """Bytes to send, b"" if there are none."""
        data = b"".join(self._output)
        self._output.clear()
        return data

    def _negotiate(self, body: bytes) -> Negotiated:
        """Judge the peer's OPEN. Raises: NotificationError."""
        found = negotiate(
            self._local,
            decode_open(body),
            expected_asn=self._expected_asn,
            min_hold_time_s=self._min_hold_time_s,
            role_strict=self._role_strict,
        )
        self.peer_open, self.negotiated = body, found
        return found

    def put_off(self, now: float, *, is_unread: bool) -> None:
        """Whether something that came may be unread: the hold timer does not expire before that could be read, and does
        not begin anew. Nobody hears of that wait after this process: what comes next is asked for again then."""
        hold_time_s = self.negotiated.hold_time_s if self.negotiated else 0
        self._unread_until = now + hold_time_s * _TIME_TO_READ if is_unread else 0.0

    # From one process to the next

    def keep_alive(self, now: float) -> None:
        """Send a KEEPALIVE though none is due."""
        self._send(KEEPALIVE)
        self._restart_keepalive_timer(now)

    @property
    def opens(self) -> tuple[bytes, bytes]:
        """The OPEN that was sent, and the one that was received, as whole messages."""
        return encode_open(self._local), encode_message(MessageType.OPEN, self.peer_open)

    def saved(self, unsent: bytes) -> SavedConnection:
        """The established connection for another process. `unsent`: what was taken as output and waits to be sent."""
        return SavedConnection(
            incoming=self.incoming,
            local_open=encode_open(self._local)[HEADER_LENGTH:],
            peer_open=self.peer_open,
            opened_at=self.opened_at,
            established_at=self.established_at,
            messages_received=self.messages_received,
            messages_sent=self.messages_sent,
            unread=self._input[self._offset :],
            unsent=unsent,
            keepalive_time_s=self.negotiated.keepalive_time_s if self.negotiated else 0,
            hold_deadline=self._hold_deadline,
        )

    @classmethod
    def adopt(
        cls, saved: SavedConnection, expected_asn: int | str, *, now: float, random: Callable[[], float]
    ) -> Connection:
        """Go on with a connection that another process has brought to Established.

        Raises: NotificationError: it could not have been negotiated so.
        """
        local, incoming = decode_open(saved.local_open), saved.incoming
        connection = cls(local=local, expected_asn=expected_asn, incoming=incoming, now=saved.opened_at, random=random)
        connection._negotiate(saved.peer_open)
        connection._enter(State.ESTABLISHED)
        connection.established_at = saved.established_at
        connection.messages_received, connection.messages_sent = saved.messages_received, saved.messages_sent
        connection._restart_hold_timer(now)
        if connection._hold_deadline is not None and saved.hold_deadline is not None:
            connection._hold_deadline = min(connection._hold_deadline, saved.hold_deadline)
        connection.put_off(now, is_unread=True)
        connection._restart_keepalive_timer(now)
        return connection

    def _enter(self, state: State) -> None:
        self.state = state

    def _send(self, message: bytes) -> None:
        self.messages_sent += 1
        self._output.append(message)

    def _restart_hold_timer(self, now: float) -> None:
        hold_time_s = self.negotiated.hold_time_s if self.negotiated else 0
        self._hold_deadline = now + hold_time_s if hold_time_s else None

    def _restart_keepalive_timer(self, now: float) -> None:
        interval_s = self.negotiated.keepalive_time_s if self.negotiated else 0
        self._keepalive_deadline = now + interval_s * (0.75 + 0.25 * self._random()) if interval_s else None

    def _has_message(self) -> bool:
        rest = len(self._input) - self._offset
        return rest >= HEADER_LENGTH and rest >= int.from_bytes(self._input[self._offset + 16 : self._offset + 18])

    def _next_message(self) -> tuple[MessageType, bytes] | None:
        """Cut one message from the input (RFC 4271 section 6.1).

        Raises: NotificationError: marker, length or type.
        """
        start = self._worked_from = self._offset
        header = self._input[start : start + HEADER_LENGTH]
        if not MARKER.startswith(header[:16]):
            raise NotificationError(
                ErrorCode.MESSAGE_HEADER,
                HeaderSubcode.CONNECTION_NOT_SYNCHRONIZED,
                message="the peer sent something that is not BGP (marker not all ones)",
            )
        if len(header) < HEADER_LENGTH:
            return None
        length = int.from_bytes(header[16:18])
        kind = self._check_header(length, header[18])
        if len(self._input) - start < length:
            return None
        self._offset = start + length
        return kind, self._input[start + HEADER_LENGTH : start + length]

    def _check_header(self, length: int, code: int) -> MessageType:
        if not HEADER_LENGTH <= length <= MAX_EXTENDED_MESSAGE_LENGTH:
            raise bad_length(length, "a message has at least 19 bytes")
        try:
            kind = MessageType(code)
        except ValueError:
            raise NotificationError(
                ErrorCode.MESSAGE_HEADER,
                HeaderSubcode.BAD_MESSAGE_TYPE,
                bytes((code,)),
                message=f"message type {code} is unknown",
            ) from None
        longest = {MessageType.OPEN: MAX_MESSAGE_LENGTH, MessageType.KEEPALIVE: HEADER_LENGTH}.get(kind, self._longest)
        if not _MIN_LENGTH[kind] <= length <= longest:
            raise bad_length(length, f"not possible for {kind.name}")
        return kind

    def _message_received(self, kind: MessageType, body: bytes, now: float) -> Event:
        self.messages_received += 1
        match self.state, kind:
            case _, MessageType.NOTIFICATION:
                self.end()
                return NotificationReceived(decode_notification(body))
            case State.ESTABLISHED, MessageType.UPDATE:
                self._restart_hold_timer(now)
                return UpdateReceived(body)
            case State.ESTABLISHED, MessageType.KEEPALIVE:
                self._restart_hold_timer(now)
                return KeepaliveReceived()
            case State.ESTABLISHED, MessageType.ROUTE_REFRESH:
                return RefreshReceived(decode_route_refresh(body))
            case State.OPEN_SENT, MessageType.OPEN if self.negotiated is None:
                return OpenReceived(self._negotiate(body))
            case State.OPEN_CONFIRM, MessageType.KEEPALIVE:
                self._enter(State.ESTABLISHED)
                self.established_at = now
                self._restart_hold_timer(now)
                return KeepaliveConfirmed()
        raise NotificationError(
            ErrorCode.FINITE_STATE_MACHINE,
            _UNEXPECTED[self.state],
            bytes((kind,)),
            message=f"{kind.name} is not expected in state {self.state}",
        )


_HARD = frozenset(
    (
        CeaseSubcode.MAXIMUM_PREFIXES,
        CeaseSubcode.ADMINISTRATIVE_SHUTDOWN,
        CeaseSubcode.PEER_DECONFIGURED,
        CeaseSubcode.ADMINISTRATIVE_RESET,
        CeaseSubcode.BFD_DOWN,
    )
)
"""Ceases after which the peer must not keep our routes (RFC 8538 section 4)."""
