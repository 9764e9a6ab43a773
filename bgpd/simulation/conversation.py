"""One connection of a modelled router's session: OPEN, KEEPALIVE, UPDATEs, timers, and how it ends."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec

from bgpd.simulation.network import End
from bgpd.simulation.wire import CEASE, HARD_RESET, KEEPALIVE, NOTIFICATION, V4, Codes, capabilities, message

if TYPE_CHECKING:
    from bgpd.simulation.peer import Peer

_OPEN_HOLD_S = 30.0


class Conversation:
    """One connection of a session: OPEN, KEEPALIVE, then UPDATEs."""

    def __init__(self, peer: Peer, end: End, *, is_ours: bool) -> None:
        self.peer = peer
        self.end = end
        self.is_ours = is_ours
        self.state = "open-sent"
        self.router_id = b""
        self.restart: PeerRestart | None = None
        self.families: tuple[Codes, ...] = ()
        self.long_lived: dict[Codes, LongLived] | None = None
        """What the neighbor says of long-lived graceful restart (RFC 9494); None: it does not know that."""
        self.marks_refresh = False
        self._rest = b""
        self._loop = peer.router.loop
        self._hold: asyncio.TimerHandle | None = None
        self._expires_at = 0.0
        self._keepalive: asyncio.TimerHandle | None = None
        self._hold_s = _OPEN_HOLD_S
        end.on_data, end.on_eof = self._received, self._eof
        end.on_lost = lambda _error: self.over(is_graceful=True)
        end.send(peer.open_message())
        self._rearm()
        end.pause(False)

    def send(self, kind: int, body: bytes = b"") -> None:
        """Send one message (RFC 4271 section 4.1)."""
        self.end.send(message(kind, body))

    def notify(self, code: int, subcode: int, *, is_graceful: bool = False) -> None:
        """Tell the neighbor why, and end."""
        self.send(NOTIFICATION, bytes((code, subcode)))
        self.over(is_graceful=is_graceful and self.peer.notification_is_graceful(self))

    def over(self, *, is_graceful: bool) -> None:
        """The connection has ended, or ends now."""
        if self.state != "over":
            self.silence()
            self.peer.conversation_over(self, is_graceful=is_graceful)

    def silence(self) -> None:
        """The connection ends, and nobody here acts on it."""
        self.state = "over"
        for timer in (self._hold, self._keepalive):
            if timer is not None:
                timer.cancel()
        self.end.close()

    def _eof(self) -> None:
        self.over(is_graceful=True)

    def _rearm(self) -> None:
        """The hold timer begins anew. It is looked at when it would have expired: messages come far more often."""
        self._expires_at = self._loop.time() + self._hold_s
        if self._hold is None or self._hold.when() > self._expires_at:
            self._plan_hold()

    def _plan_hold(self) -> None:
        if self._hold is not None:
            self._hold.cancel()
        self._hold = self._loop.call_at(self._expires_at, self._hold_due)

    def _hold_due(self) -> None:
        if self._expires_at > self._loop.time():
            self._plan_hold()
        else:
            self.notify(4, 0, is_graceful=True)

    def _keep_alive(self) -> None:
        self.send(KEEPALIVE)
        self._keepalive = self._loop.call_later(self._hold_s / 3, self._keep_alive)

    def _received(self, data: bytes) -> None:
        self._rest += data
        while self.state != "over" and len(self._rest) >= 19:
            length, kind = struct.unpack_from("!HB", self._rest, 16)
            if len(self._rest) < length:
                return
            body, self._rest = self._rest[19:length], self._rest[length:]
            self._rearm()
            self._take(kind, body)

    def _take(self, kind: int, body: bytes) -> None:
        match self.state, kind:
            case "open-sent", 1:
                self._open(body)
            case "open-confirm", 4:
                self.state = "established"
                self.peer.established(self)
            case "established", 2:
                self.peer.update(body)
            case "established", 4:
                pass
            case _, 3:
                is_hard = tuple(body[:2]) == (CEASE, HARD_RESET)
                self.over(is_graceful=not is_hard and self.peer.notification_is_graceful(self))
            case _, 5:
                self.peer.refresh(body)
            case _:
                self.notify(5, 0)

    def _open(self, body: bytes) -> None:
        _version, asn, hold_s, self.router_id = struct.unpack_from("!BHH4s", body)
        for code, value in capabilities(body[10:]):
            if code == 1:
                self.families = (*self.families, (int.from_bytes(value[:2]), value[3]))
            elif code == 65:
                (asn,) = struct.unpack("!I", value)
            elif code == 64:
                self.restart = PeerRestart.of(value)
            elif code == 70:
                self.marks_refresh = self.peer.router.style.marks_refresh
            elif code == 71:
                self.long_lived = dict(LongLived.read(value))
        self.families = self.families or (V4,)  # RFC 4760 section 8
        if asn != self.peer.asn:
            self.notify(2, 2)
            return
        if not self.peer.wins_collision(self):
            self.notify(CEASE, 7)
            return
        self._hold_s = min(hold_s, self.peer.hold_s)
        self.state = "open-confirm"
        self._rearm()
        self._keep_alive()


class PeerRestart(msgspec.Struct, frozen=True):
    """A neighbor's Graceful Restart capability (RFC 4724 section 3)."""

    by_notification: bool
    time_s: int
    families: tuple[Codes, ...]
    forwarding: tuple[Codes, ...]

    @classmethod
    def of(cls, value: bytes) -> PeerRestart:
        """What a graceful restart capability says (RFC 4724 section 3)."""
        (head,) = struct.unpack_from("!H", value)
        listed = list(struct.iter_unpack("!HBB", value[2:]))
        families = tuple((afi, safi) for afi, safi, _flags in listed)
        forwarding = tuple((afi, safi) for afi, safi, flags in listed if flags & 0x80)
        return cls(bool(head & 0x4000), head & 0x0FFF, families, forwarding)


class LongLived(msgspec.Struct, frozen=True):
    """One family of a neighbor's Long-Lived Graceful Restart capability (RFC 9494 section 3)."""

    time_s: int
    forwarding: bool

    @classmethod
    def read(cls, value: bytes) -> Iterator[tuple[Codes, LongLived]]:
        """What the capability says of each family (RFC 9494 section 3.1)."""
        for at in range(0, len(value), 7):
            afi, safi, flags = struct.unpack_from("!HBB", value, at)
            yield (afi, safi), cls(int.from_bytes(value[at + 4 : at + 7]), bool(flags & 0x80))
