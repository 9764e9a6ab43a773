"""A Session whose driver checks, after each input, that what it is told is consistent."""

from __future__ import annotations

from bgpd.message.exabgp_codec import KEEPALIVE, MARKER, Notification, encode_notification
from bgpd.message.notification import encode_communication
from bgpd.model.iana import CeaseSubcode, ErrorCode
from bgpd.speaker.connection import KeepaliveReceived, RefreshReceived, State, UpdateReceived
from bgpd.speaker.session import Close, Dial, Output, Send, Session, SessionDown, SessionSettings, SessionUp
from tests.speaker.messages import REFRESH, UPDATE, open_bytes, settings, split

SHUTDOWN = Notification(ErrorCode.CEASE, CeaseSubcode.ADMINISTRATIVE_SHUTDOWN, encode_communication("bye"))
INPUTS = {
    "open": open_bytes(),
    "graceful open": open_bytes(graceful=True),
    "wrong as": open_bytes(asn=65999),
    "keepalive": KEEPALIVE,
    "update": UPDATE,
    "refresh": REFRESH,
    "notification": encode_notification(6, 4),
    "garbage": b"\0" * 25,
    "part": KEEPALIVE[:10],
}


class CheckedSession:
    """`open` and `dialing` are the numbers of the connections that the session has, `up` whether it is established."""

    def __init__(self, chosen: SessionSettings | None = None) -> None:
        self.session = Session(chosen or settings(graceful=True), random=lambda: 0.5)
        self.now = 0.0
        self.running = False
        self.dialing: set[int] = set()
        self.open: set[int] = set()
        self.up = False

    def take(self, output: Output) -> None:
        """One thing that the driver has to do."""
        match output:
            case Dial(number):
                assert not self.dialing
                self.dialing.add(number)
            case Send(number, data):
                assert number in self.open
                split(data)
            case Close(number):
                assert number in self.open | self.dialing
                self.open.discard(number)
                self.dialing.discard(number)
            case SessionUp(number):
                assert not self.up
                assert number in self.open
                self.up = True
            case SessionDown():
                assert self.up
                self.up = False
            case UpdateReceived() | RefreshReceived() | KeepaliveReceived():
                assert self.up

    def drain(self) -> None:
        """All that the driver has to do."""
        while (output := self.session.next_output(self.now)) is not None:
            self.take(output)

    def start(self) -> None:
        self.session.start(self.now)
        self.running = True
        self.drain()

    def stop(self, *, loud: bool) -> None:
        self.session.stop(self.now, SHUTDOWN if loud else None, "stop")
        self.running = False
        self.drain()
        assert not self.open
        assert not self.dialing

    def dials_end(self, *, success: bool) -> None:
        for number in list(self.dialing):
            self.dialing.discard(number)
            if success:
                self.open.add(number)
                self.session.connected(number, self.now)
            else:
                self.session.dial_failed(number, self.now, "refused")
        self.drain()

    def accept(self) -> None:
        number = self.session.accepted(self.now)
        if number is not None:
            self.open.add(number)
        self.drain()

    def receive(self, number: int, data: bytes) -> None:
        self.session.received(number, data)
        self.drain()

    def receive_noise(self, number: int, noise: bytes) -> None:
        self.receive(number, MARKER + noise)

    def close(self, number: int) -> None:
        self.session.closed(number, self.now, "gone")
        self.drain()

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.session.tick(self.now)
        self.drain()

    def reset(self, hold_off_s: float) -> None:
        self.session.reset(self.now, Notification(6, 1), "reset", hold_off_s=hold_off_s)
        self.drain()

    def refuse_update(self) -> None:
        self.session.update_refused(self.now, Notification(3, 1), "malformed")
        self.drain()

    def lose_link(self) -> None:
        self.session.transport_lost(self.now, "link down")
        self.drain()

    def connect_now(self) -> None:
        self.session.connect_now(self.now)
        self.drain()

    def check(self) -> None:
        """The state tells the truth, and a session that is wanted is never stuck."""
        state = self.session.state
        assert (state is State.ESTABLISHED) == self.up
        assert (self.session.established is not None) == self.up
        assert bool(self.open) == (state.progress >= State.OPEN_SENT.progress)
        assert len(self.open) <= 2 + self.up
        if state is State.CONNECT:
            assert self.dialing
        is_waiting = not (self.session.settings.dials or self.open or self.session.is_refusing)
        if self.running and not self.up and not is_waiting:
            assert self.session.deadline() is not None
        if not self.running:
            assert state is State.IDLE
            assert self.session.deadline() is None
