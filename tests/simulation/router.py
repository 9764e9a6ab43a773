"""Leaves and spines: routers that behave as FRR and BIRD do, written apart from bgpd, from the RFCs alone.

Sessions with collisions, hold timers and graceful restart (both roles); best path, ECMP, MRAI; links that end sessions
when they go down. A `Style` says in which of the usual ways one router does it.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from collections.abc import Callable, Iterable, Iterator

import msgspec

from tests.daemon.wire_peer import CEASE, KEEPALIVE, NOTIFICATION, UPDATE, Restart, attribute, message, open_message
from tests.simulation.network import BGP_PORT, End, Port, Stack

ROUTE_REFRESH = 5
HOLD_S = 9
END_OF_RIB = b"\0\0\0\0"
V4, V6 = (1, 1), (2, 1)
Codes = tuple[int, int]
"""AFI and SAFI."""
_EXTENDED_NEXT_HOP = bytes((5, 6)) + struct.pack("!HHH", 1, 1, 2)
"""IPv4 by IPv6 next hops (RFC 8950)."""
_ADVERTISE_S = 10.0
GRACEFUL_SHUTDOWN = 0xFFFF0000
"""RFC 8326."""
_OPEN_HOLD_S = 30.0
_HARD_RESET = 9
_MOST_PREFIXES = 200


class Style(msgspec.Struct, frozen=True, kw_only=True):
    """How a router does what is done in several ways. `mrai_s`: minimum interval between announcements to a neighbor;
    withdrawals do not wait. `helps`: it keeps routes of neighbors that restart gracefully; `restarts` so itself.
    `by_notification`: a NOTIFICATION restarts so, too (RFC 8538)."""

    dials: bool = True
    retry_s: float = 5.0
    mrai_s: float = 0.0
    helps: bool = True
    restarts: bool = True
    restart_time_s: int = 15
    by_notification: bool = True
    decides_after_s: float = 0.05


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """What one neighbor announces, or the router itself (`peer` None)."""

    peer: str | None
    as_path: tuple[int, ...] = ()
    communities: tuple[int, ...] = ()

    @property
    def rank(self) -> tuple[bool, int]:
        return GRACEFUL_SHUTDOWN in self.communities, len(self.as_path)


class Conversation:
    """One connection of a session: OPEN, KEEPALIVE, then UPDATEs."""

    def __init__(self, peer: Peer, end: End, *, is_ours: bool) -> None:
        self.peer = peer
        self.end = end
        self.is_ours = is_ours
        self.state = "open-sent"
        self.router_id = b""
        self.restart: PeerRestart | None = None
        self._rest = b""
        self._loop = peer.router.loop
        self._hold: asyncio.TimerHandle | None = None
        self._keepalive: asyncio.TimerHandle | None = None
        self._hold_s = _OPEN_HOLD_S
        end.on_data, end.on_eof = self._received, self._eof
        end.on_lost = lambda _error: self.over(is_graceful=True)
        end.send(peer.open_message())
        self._rearm()
        end.pause(False)

    def send(self, kind: int, body: bytes = b"") -> None:
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
        if self._hold is not None:
            self._hold.cancel()
        self._hold = self._loop.call_later(self._hold_s, self._hold_expired)

    def _hold_expired(self) -> None:
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
                is_hard = tuple(body[:2]) == (CEASE, _HARD_RESET)
                self.over(is_graceful=not is_hard and self.peer.notification_is_graceful(self))
            case _, 5:
                self.peer.refresh()
            case _:
                self.notify(5, 0)

    def _open(self, body: bytes) -> None:
        _version, asn, hold_s, self.router_id = struct.unpack_from("!BHH4s", body)
        for code, value in capabilities(body[10:]):
            if code == 65:
                (asn,) = struct.unpack("!I", value)
            elif code == 64:
                self.restart = PeerRestart.of(value)
        if asn != self.peer.asn:
            self.notify(2, 2)
            return
        if not self.peer.wins_collision(self):
            self.notify(CEASE, 7)
            return
        self._hold_s = min(hold_s, HOLD_S)
        self.state = "open-confirm"
        self._rearm()
        self._keep_alive()


class PeerRestart(msgspec.Struct, frozen=True):
    """A neighbor's Graceful Restart capability (RFC 4724 section 3)."""

    has_restarted: bool
    by_notification: bool
    time_s: int
    covers: bool
    forwards: bool

    @classmethod
    def of(cls, value: bytes) -> PeerRestart:
        (head,) = struct.unpack_from("!H", value)
        families = {value[at : at + 3]: value[at + 3] for at in range(2, len(value), 4)}
        flags = families.get(b"\0\1\1")
        return cls(bool(head & 0x8000), bool(head & 0x4000), head & 0x0FFF, flags is not None, bool(flags))


class Peer:
    """One neighbor of a router: its session, what it announces (`routes`), and what it was sent (`sent`). `ended`: how
    often a session with it has."""

    def __init__(self, router: Router, port: Port, *, name: str, asn: int, dials: bool) -> None:
        self.router = router
        self.port = port
        self.name = name
        self.asn = asn
        self.dials = dials
        self.routes: dict[str, Route] = {}
        self.stale: set[str] = set()
        self.session: Conversation | None = None
        self.sent: dict[str, Route] = {}
        self.ended = 0
        self.is_awaited = False
        self.families: tuple[Codes, ...] = (V4,) if len(port.address) == 4 else (V4, V6)
        self._ended_families: set[Codes] = set()
        self._conversations: list[Conversation] = []
        self._due: dict[str, None] = {}
        self._is_flush_planned = False
        self._not_before = 0.0
        self._stale_timer: asyncio.TimerHandle | None = None
        self._dialing: asyncio.Task[None] | None = None

    # Its session

    def open_message(self) -> bytes:
        router = self.router
        restart = Restart(
            restarted=router.is_restarting,
            notification=router.style.by_notification,
            time_s=router.style.restart_time_s if router.style.restarts else 0,
            forwarding=router.style.restarts and router.forwards_on,
            families=self.families if router.style.restarts else (),
        )
        is_offered = router.style.helps or router.style.restarts
        return open_message(
            router.asn,
            hold_time_s=HOLD_S,
            families=self.families,
            restart=restart if is_offered else None,
            router_id=tuple(router.router_id),
            more=_EXTENDED_NEXT_HOP if V6 in self.families else b"",
        )

    async def keep_dialing(self) -> None:
        """Connect whenever there is no connection, until cancelled."""
        router = self.router
        while True:
            await asyncio.sleep(router.style.retry_s * router.chance.uniform(0.75, 1.0))
            if self._conversations or not self.port.is_up or self.port.other is None:
                continue
            try:
                async with asyncio.timeout(router.style.retry_s):
                    end = await self.port.stack.dial(self.port.other.address, BGP_PORT, None, self.port.index)
            except (OSError, TimeoutError):
                continue
            if router.is_running:
                self.begin(end, is_ours=True)
            else:
                end.close(is_reset=True)

    def begin(self, end: End, *, is_ours: bool) -> None:
        """A connection was made."""
        self._conversations.append(Conversation(self, end, is_ours=is_ours))

    def wins_collision(self, new: Conversation) -> bool:
        """RFC 4271 section 6.8: of two connections the one stays that the speaker with the higher identifier began."""
        for other in list(self._conversations):
            if other is new or other.state == "open-sent":
                continue
            if other.state == "established":
                if other.restart is None or not self.router.style.helps:
                    return False
                other.over(is_graceful=True)  # RFC 4724 section 4.2: the neighbor has restarted
                continue
            ours_wins = self.router.router_id > new.router_id
            if new.is_ours is ours_wins:
                other.notify(CEASE, 7)
            else:
                return False
        return True

    def notification_is_graceful(self, conversation: Conversation) -> bool:
        restart = conversation.restart
        return restart is not None and restart.by_notification and self.router.style.by_notification

    def established(self, conversation: Conversation) -> None:
        restart = conversation.restart
        self.session = conversation
        self._ended_families.clear()
        if self._stale_timer is not None:
            self._stale_timer.cancel()
            self._stale_timer = None
        keeps = restart is not None and restart.covers and restart.forwards
        if self.stale and not keeps:
            self._drop(self.stale)
        elif self.stale:
            self._plan_stale(self.router.style.restart_time_s)
        self.sent.clear()
        self._not_before = 0.0
        self.router.session_changed(self)

    def conversation_over(self, conversation: Conversation, *, is_graceful: bool) -> None:
        self._conversations.remove(conversation)
        if self.session is not conversation:
            return
        self.session = None
        self.ended += 1
        self._due.clear()
        restart = conversation.restart
        if is_graceful and self.router.style.helps and restart is not None and restart.covers and restart.time_s:
            self.stale = set(self.routes)
            self._plan_stale(restart.time_s)
        else:
            self._drop(set(self.routes))
        self.router.session_changed(self)

    def link_down(self) -> None:
        """Fast external fallover."""
        for conversation in list(self._conversations):
            conversation.over(is_graceful=False)
        self._drop(set(self.routes))

    def end_all(self, how: Callable[[Conversation], None]) -> None:
        for conversation in list(self._conversations):
            how(conversation)

    def forget(self) -> None:
        """The router has lost its memory."""
        if self._stale_timer is not None:
            self._stale_timer.cancel()
        for conversation in self._conversations:
            conversation.silence()
        self.session, self._stale_timer = None, None
        self._conversations.clear()
        self.routes.clear()
        self.stale.clear()
        self.sent.clear()
        self._due.clear()

    def _plan_stale(self, seconds: float) -> None:
        if self._stale_timer is not None:
            self._stale_timer.cancel()
        self._stale_timer = self.router.loop.call_later(seconds, self._stale_over)

    def _stale_over(self) -> None:
        self._stale_timer = None
        self._drop(self.stale)

    def _drop(self, prefixes: Iterable[str]) -> None:
        gone = list(prefixes)
        for prefix in gone:
            self.routes.pop(prefix, None)
        self.stale = self.stale - set(gone)
        self.router.changed(gone)

    # What it says

    def update(self, body: bytes) -> None:
        ended = next((codes for codes in self.families if body == end_of_rib(codes)), None)
        if ended is not None:
            self._end_of_rib(ended)
            return
        withdrawn, announced, route = read_update(body, self.name)
        for prefix in withdrawn:
            self.routes.pop(prefix, None)
            self.stale.discard(prefix)
        for prefix in announced:
            self.stale.discard(prefix)
            if self.router.asn in route.as_path:
                self.routes.pop(prefix, None)
            else:
                self.routes[prefix] = route
        self.router.changed((*withdrawn, *announced))

    def _end_of_rib(self, ended: Codes) -> None:
        self._ended_families.add(ended)
        self._drop([one for one in self.stale if codes_of(one) == ended])
        if len(self._ended_families) == len(self.families):
            if self._stale_timer is not None:
                self._stale_timer.cancel()
                self._stale_timer = None
            self.router.end_of_rib(self)

    def refresh(self) -> None:
        """It wants all again (RFC 2918)."""
        self.sent.clear()
        self._due.update(dict.fromkeys(self.router.best))
        self._flush()

    # What it is sent

    def send_all(self) -> None:
        """The whole table, then End-of-RIB."""
        self._due.update(dict.fromkeys(self.router.best))
        self._flush()
        for codes in self.families if self.session is not None else ():
            self.session.send(UPDATE, end_of_rib(codes))

    def due(self, prefixes: Iterable[str]) -> None:
        """Their best route is another one: withdrawals go at once, announcements not before MRAI."""
        if self.session is None or self.router.is_deferring:
            return
        self._due.update(dict.fromkeys(prefixes))
        if self._is_flush_planned:
            self._withdraw()
            return
        wait_s = self._not_before - self.router.loop.time()
        if wait_s > 0:
            self._withdraw()
            self._is_flush_planned = True
            self.router.loop.call_later(wait_s, self._planned_flush)
        else:
            self._flush()

    def _planned_flush(self) -> None:
        self._is_flush_planned = False
        self._flush()

    def _wanted(self, prefix: str) -> Route | None:
        best = self.router.best.get(prefix)
        return None if best is None or best.peer == self.name or codes_of(prefix) not in self.families else best

    def _withdraw(self) -> None:
        gone = [one for one in self._due if one in self.sent and self._wanted(one) is None]
        for prefix in gone:
            del self._due[prefix], self.sent[prefix]
        for codes in V4, V6:
            packed = nlri(one for one in gone if codes_of(one) == codes)
            if packed and self.session is not None:
                self.session.send(UPDATE, withdrawal(codes, packed))

    def _flush(self) -> None:
        self._withdraw()
        due, self._due = self._due, {}
        if self.session is None:
            return
        groups: dict[tuple[Route, Codes], list[str]] = {}
        for prefix in due:
            route = self._wanted(prefix)
            if route is not None and self.sent.get(prefix) != route:
                self.sent[prefix] = route
                groups.setdefault((route, codes_of(prefix)), []).append(prefix)
        for (route, _codes), prefixes in groups.items():
            for start in range(0, len(prefixes), _MOST_PREFIXES):
                self.session.send(
                    UPDATE, self.router.encode(route, prefixes[start : start + _MOST_PREFIXES], self.port)
                )
        if groups and self.router.style.mrai_s:
            self._not_before = self.router.loop.time() + self.router.style.mrai_s * self.router.chance.uniform(0.75, 1)


class Router:
    """A leaf or spine. `best` is what it announces, `fib` where it forwards to: names of neighbors, "" for itself."""

    def __init__(
        self,
        name: str,
        loop: asyncio.AbstractEventLoop,
        *,
        asn: int,
        router_id: bytes,
        style: Style,
        chance: random.Random,
    ) -> None:
        self.name = name
        self.loop = loop
        self.asn = asn
        self.router_id = router_id
        self.style = style
        self.chance = chance
        self.stack = Stack(name, loop)
        self.peers: dict[str, Peer] = {}
        self.own: dict[str, Route] = {}
        self.best: dict[str, Route] = {}
        self.fib: dict[str, tuple[str, ...]] = {}
        self.is_running = False
        self.is_restarting = False
        self.is_deferring = False
        self.forwards_on = False
        self.changes = 0
        self._changed: dict[str, None] = {}
        self._is_decision_planned = False
        self._tasks: list[asyncio.Task[None]] = []
        self._deferral: asyncio.TimerHandle | None = None

    def add_peer(self, port: Port, *, name: str, asn: int, dials: bool) -> None:
        self.peers[name] = Peer(self, port, name=name, asn=asn, dials=dials)

    # Life

    def start(self, *, is_graceful: bool = False) -> None:
        """Begin; `is_graceful`: it has forwarded on (RFC 4724 section 4.1)."""
        self.is_running = True
        self.is_restarting = self.forwards_on = is_graceful
        for family in socket.AF_INET, socket.AF_INET6:
            self.stack.listening[family, BGP_PORT] = self._accept
        self.stack.solicited = self.stack.advertise
        self._tasks = [self.loop.create_task(self._advertise())]
        self._tasks += [
            self.loop.create_task(peer.keep_dialing())
            for peer in self.peers.values()
            if peer.dials and self.style.dials
        ]
        if is_graceful:
            self.is_deferring = True
            self._deferral = self.loop.call_later(self.style.restart_time_s, self._deferral_over)
        self.changed(self.own)

    async def _advertise(self) -> None:
        while True:
            for peer in self.peers.values():
                if V6 in peer.families:
                    self.stack.advertise(peer.port)
            await asyncio.sleep(_ADVERTISE_S * self.chance.uniform(0.75, 1.0))

    def stop(self, *, is_graceful: bool) -> None:
        """The process ends; with `is_graceful` it leaves its routes in the hardware, and tells nobody."""
        self._halt()
        for peer in self.peers.values():
            if not is_graceful:
                peer.end_all(lambda one: one.send(NOTIFICATION, bytes((CEASE, _HARD_RESET, CEASE, 2))))
            peer.forget()
        if not is_graceful:
            self.fib.clear()

    def crash(self) -> None:
        """The whole box stops, without a word to anybody."""
        self._halt()
        self.stack.is_there = False
        self.stack.crash()
        for peer in self.peers.values():
            peer.forget()
        self.fib.clear()

    def _halt(self) -> None:
        self.is_running = self.is_restarting = self.is_deferring = False
        for task in self._tasks:
            task.cancel()
        if self._deferral is not None:
            self._deferral.cancel()
        self.stack.listening.clear()
        self.stack.solicited = lambda _port: None
        self.best.clear()
        self._changed.clear()

    def _accept(self, end: End) -> None:
        peer = next((one for one in self.peers.values() if one.port is end.port), None)
        if peer is None or not self.is_running:
            end.close(is_reset=True)
        else:
            peer.begin(end, is_ours=False)

    def link_down(self, port: Port) -> None:
        for peer in self.peers.values():
            if peer.port is port:
                peer.link_down()

    # Routes

    def session_changed(self, peer: Peer) -> None:
        if peer.session is not None:
            if self.is_deferring:
                peer.is_awaited = True
            else:
                peer.send_all()
        elif self.is_deferring:
            peer.is_awaited = False

    def end_of_rib(self, peer: Peer) -> None:
        peer.is_awaited = False
        if self.is_deferring and not any(one.is_awaited or one.session is None for one in self.peers.values()):
            self._deferral_over()

    def _deferral_over(self) -> None:
        if self._deferral is not None:
            self._deferral.cancel()
            self._deferral = None
        self.is_deferring = self.is_restarting = False
        for prefix in dict.fromkeys((*self.fib, *self._changed, *self.own)):
            self._changed[prefix] = None
        self._decide()
        for peer in self.peers.values():
            peer.send_all()

    def changed(self, prefixes: Iterable[str]) -> None:
        """Routes of neighbors are others than before."""
        if not self.is_running:
            return
        self._changed.update(dict.fromkeys(prefixes))
        if self._changed and not self._is_decision_planned and not self.is_deferring:
            self._is_decision_planned = True
            self.loop.call_later(self.style.decides_after_s * self.chance.random(), self._planned_decision)

    def _planned_decision(self) -> None:
        self._is_decision_planned = False
        if self.is_running and not self.is_deferring:
            self._decide()

    def _decide(self) -> None:
        changed, self._changed = self._changed, {}
        self.changes += 1
        other = []
        for prefix in changed:
            found = [peer.routes[prefix] for peer in self.peers.values() if prefix in peer.routes]
            if prefix in self.own:
                found = [self.own[prefix]]
            ranked = sorted(found, key=lambda one: one.rank)  # stable: the first neighbor wins
            ways = tuple(one.peer or "" for one in ranked if one.rank == ranked[0].rank)
            if ways:
                self.fib[prefix] = ways
            else:
                self.fib.pop(prefix, None)
            best = ranked[0] if ranked else None
            if best != self.best.get(prefix):
                other.append(prefix)
                if best is None:
                    del self.best[prefix]
                else:
                    self.best[prefix] = best
        for peer in self.peers.values() if other else ():
            peer.due(other)

    def encode(self, route: Route, prefixes: list[str], port: Port) -> bytes:
        """An UPDATE's body: this router before the AS path, and as the next hop."""
        path = (self.asn, *route.as_path)
        codes, packed, plain = codes_of(prefixes[0]), nlri(prefixes), b""
        attributes = attribute(0x40, 1, b"\0")
        attributes += attribute(0x40, 2, struct.pack(f"!BB{len(path)}I", 2, len(path), *path))
        if len(port.address) == 4:
            attributes, plain = attributes + attribute(0x40, 3, port.address), packed
        else:
            head = struct.pack("!HBB", *codes, len(port.address)) + port.address + b"\0"
            attributes = attribute(0x80, 14, head + packed) + attributes
        if route.communities:
            attributes += attribute(0xC0, 8, struct.pack(f"!{len(route.communities)}I", *route.communities))
        return struct.pack("!HH", 0, len(attributes)) + attributes + plain


def nlri(prefixes: Iterable[str]) -> bytes:
    """Prefixes as they stand in an UPDATE."""
    out = b""
    for prefix in prefixes:
        address, _, length = prefix.partition("/")
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        out += bytes((int(length),)) + socket.inet_pton(family, address)[: (int(length) + 7) // 8]
    return out


def codes_of(prefix: str) -> Codes:
    """Which family a prefix is of."""
    return V6 if ":" in prefix else V4


def end_of_rib(codes: Codes) -> bytes:
    """The body of the marker (RFC 4724 section 2)."""
    return END_OF_RIB if codes == V4 else withdrawal(codes, b"")


def withdrawal(codes: Codes, packed: bytes) -> bytes:
    """An UPDATE's body that withdraws these."""
    if codes == V4:
        return struct.pack("!H", len(packed)) + packed + b"\0\0"
    attributes = attribute(0x80, 15, struct.pack("!HB", *codes) + packed)
    return struct.pack("!HH", 0, len(attributes)) + attributes


def read_nlri(data: bytes, codes: Codes = V4) -> Iterator[str]:
    """The prefixes of a family."""
    family, length = (socket.AF_INET, 4) if codes == V4 else (socket.AF_INET6, 16)
    at = 0
    while at < len(data):
        size = (data[at] + 7) // 8
        yield f"{socket.inet_ntop(family, data[at + 1 : at + 1 + size].ljust(length, bytes(1)))}/{data[at]}"
        at += 1 + size


def read_update(body: bytes, peer: str) -> tuple[list[str], list[str], Route]:
    """(withdrawn, announced, the route of these) of an UPDATE."""
    (length,) = struct.unpack_from("!H", body)
    withdrawn = list(read_nlri(body[2 : 2 + length]))
    at = 2 + length
    (length,) = struct.unpack_from("!H", body, at)
    attributes, announced = body[at + 2 : at + 2 + length], list(read_nlri(body[at + 2 + length :]))
    as_path: tuple[int, ...] = ()
    communities: tuple[int, ...] = ()
    at = 0
    while at < len(attributes):
        flags, kind = attributes[at], attributes[at + 1]
        long = flags & 0x10
        size = struct.unpack_from("!H", attributes, at + 2)[0] if long else attributes[at + 2]
        at += 4 if long else 3
        value = attributes[at : at + size]
        at += size
        if kind == 2 and value:
            as_path = struct.unpack(f"!{value[1]}I", value[2 : 2 + 4 * value[1]])
        elif kind == 14:
            announced += read_nlri(value[5 + value[3] :], (value[1], value[2]))
        elif kind == 15:
            withdrawn += read_nlri(value[3:], (value[1], value[2]))
        elif kind == 8:
            communities = struct.unpack(f"!{len(value) // 4}I", value)
    return withdrawn, announced, Route(peer=peer, as_path=as_path, communities=communities)


def capabilities(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Codes and values in the optional parameters of an OPEN, of either form (RFC 9072)."""
    at = 0
    while at + 2 <= len(data):
        kind, size = data[at], data[at + 1]
        parameter, at = data[at + 2 : at + 2 + size], at + 2 + size
        inner = 0
        while kind == 2 and inner + 2 <= len(parameter):
            code, length = parameter[inner], parameter[inner + 1]
            yield code, parameter[inner + 2 : inner + 2 + length]
            inner += 2 + length
