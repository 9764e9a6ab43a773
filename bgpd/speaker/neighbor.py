"""One neighbor at run time: drives its Session with real connections, and turns messages into route batches and back.

Decides what a person is told about failures, and the next hops that a session may offer. Never decides about the state
of the session (session.py), and knows no other neighbor (speaker.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
import time
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import msgspec
import structlog

from bgpd.config.schema import ListenConfig, RouterConfig, SessionConfig, attribute_limit
from bgpd.kernel.host import Host
from bgpd.message.exabgp_codec import Notification
from bgpd.message.notification import describe_notification
from bgpd.message.open import Negotiated, local_open
from bgpd.model.iana import CeaseSubcode, ErrorCode
from bgpd.model.path import Source, SourceKind
from bgpd.model.prefix import format_address
from bgpd.model.views import FamilyCounts, NeighborView
from bgpd.model.wire import NlriDecoders
from bgpd.runtime.rates import LineBudget
from bgpd.runtime.shared_state import SharedStateBroken
from bgpd.runtime.turns import now_or_soon, soon
from bgpd.speaker.connection import KeepaliveReceived, RefreshReceived, State, UpdateReceived
from bgpd.speaker.defects import LOGGED_BYTES, OUT_OF_RESOURCES, Defects
from bgpd.speaker.exchange import Exchange, RefusedUpdate, SpeakerEvents, UnreadableUpdate
from bgpd.speaker.failure_log import FailureLog
from bgpd.speaker.listening import SessionKey, VrfListeners
from bgpd.speaker.peering import NOT_HEARD, Peering, Unreachable, target_of
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
from bgpd.speaker.transport import (
    Listener,
    Target,
    Wire,
    bind_to_device,
    dial,
    explain_dial_error,
    no_answer_text,
    require_ttl_255,
    set_send_hold_time,
    ttl_mismatch,
)

log = structlog.get_logger()

STEP_S = 0.003
"""How long one neighbor's messages may hold the loop; then the others have their turn."""
STEP_BYTES = 24 * 1024
"""How much of one neighbor's messages is worked off at a turn: leaves that send the same table stay abreast, and most
routes go to the kernel once, with all their next hops."""
STEP_MESSAGES = 512
"""How many of one neighbor's messages, of any kind, are worked off at a turn."""
WITHOUT_HOLD_TIME_S = 240.0
"""In place of a hold time of 0, for how long the peer may take nothing: twice as long, 8 minutes (RFC 9687)."""
MAX_UNSENT = 16 * 1024 * 1024
"""Bytes that may wait for a peer that does not read: more ends the session. Routes wait in the RIB before that."""
REJECTED = Notification(ErrorCode.CEASE, CeaseSubcode.CONNECTION_REJECTED)
_MOST_DEFECTS = 3
"""At one turn: of the messages, and of what their end makes necessary."""


class Surroundings(msgspec.Struct, kw_only=True):
    """What all neighbors share. `restarting`: the daemon comes back from a graceful restart (R bit of RFC 4724).
    `held`: neighbors whose words are left unread for now.
    """

    router: RouterConfig
    hostname: str
    host: Host
    events: SpeakerEvents
    nlri_decoders: NlriDecoders
    listener: Listener
    vrf_listeners: VrfListeners
    defects: Defects
    spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]
    restarting: bool = False
    held: frozenset[str] = frozenset()
    lines: dict[str, LineBudget] = {}

    def lines_for(self, peering: Peering) -> LineBudget:
        """The log lines of a neighbor, or of a range: of the neighbors that come and go in it together."""
        config = peering.config
        name = config.prefix if isinstance(config, ListenConfig) else peering.name
        return self.lines.setdefault(name, LineBudget())


class Neighbor:
    """One neighbor. `ended` is called when a connection of it has ended, before any retry.

    `refused` is asked before a session counts: why it may not be, "" if it may.
    """

    def __init__(
        self,
        peering: Peering,
        around: Surroundings,
        *,
        ended: Callable[[Neighbor], None],
        refused: Callable[[Neighbor], str] = lambda _: "",
    ) -> None:
        self.peering = peering
        self.interface = ""
        self._around = around
        self._ended = ended
        self._refused = refused
        self._restarting = around.restarting
        self._session = Session(self._settings(), random=random.random)
        self._wires: dict[int, Wire] = {}
        self._dials: dict[int, asyncio.Task[None]] = {}
        self._target: Target | None = None
        self._key = SessionKey(around.listener, around.vrf_listeners)
        self._wire: Wire | None = None
        self._exchange: Exchange | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._pumping = False
        self._pump_planned = False
        self._state = State.IDLE
        self._since = time.time()
        self._established_count = 0
        self._martians = 0
        self._failures = FailureLog(peering.name, around.lines_for(peering))
        self._held_off_until = 0.0

    @property
    def state(self) -> State:
        return self._session.state

    # Administration

    def start(self) -> None:
        """Begin to dial, or to wait for the neighbor."""
        self.refresh_password()
        self._session.start(_now())
        self._pump()

    def stop(self, notification: Notification | None, reason: str) -> list[Wire]:
        """End for good; the connections that still say goodbye."""
        wires = list(self._wires.values())
        self._failures.ending = True
        self._session.stop(_now(), notification, reason)
        self._pump(whole=True)
        if self._timer is not None:
            self._timer.cancel()
        self._key.forget(self.peering)
        return wires

    def reset(self, notification: Notification, reason: str, *, hold_off_s: float) -> None:
        """End the session and refuse a new one for a while."""
        self._failures.note(reason)
        self._hold_off(notification, reason, hold_off_s)
        self._pump()

    def fail(self, error: Exception) -> None:
        """What was done for this neighbor alone raised: its session ends."""
        self._failed(error)
        self._pump()

    @property
    def held_off_until(self) -> float:
        """Until when (the loop's clock) it is refused for cause; 0 if it is not."""
        return self._held_off_until if self._held_off_until > _now() else 0.0

    def configure(self, config: SessionConfig) -> None:
        """Take over a changed configuration that needs no new session; a higher limit ends the hold-off at once."""
        old = self.peering.config
        raised = _is_raised(old.max_prefixes, config.max_prefixes)
        raised = raised or _is_raised(attribute_limit(old), attribute_limit(config))
        self.peering = msgspec.structs.replace(self.peering, config=config)
        self._session.settings = self._settings()
        if raised:
            self._held_off_until = 0.0
            self._session.end_hold_off(_now())
            self._pump()

    @property
    def lacks_password(self) -> bool:
        """Whether its password could not be read."""
        return self._key.is_missing(self.peering)

    def refresh_password(self) -> str:
        """Read the password and tell the listener; what is wrong with it, "" if nothing."""
        problem = self._key.read(self.peering)
        if problem:
            self._failures.note(problem)
        return problem

    # What happened outside

    def accept(self, wire: Wire) -> bool:
        """A connection of the neighbor; False if it is not wanted now."""
        if self.lacks_password and self.refresh_password():
            return False
        if self.peering.config.ttl_security:
            problem = ttl_mismatch(wire.socket)
            if problem:
                self._failures.note(f"connection refused: {problem}")
                return False
            require_ttl_255(wire.socket)
        if not self._keep_to_link(wire):
            return False
        number = self._session.accepted(_now())
        if number is None:
            return False
        self._adopt(number, wire)
        self._pump()
        return True

    def _keep_to_link(self, wire: Wire) -> bool:
        """Bind an accepted connection of a directly connected neighbor to its interface: no route leads it elsewhere.

        False if it is lost already. One of a VRF is bound to the VRF's device; without CAP_NET_RAW it stays so.
        """
        peering, host = self.peering, self._around.host
        try:
            local, peer = wire.local.address, wire.peer
            device = peering.interface or host.facing(peer.address, peering.config.vrf, local=local)
            if device and not peer.scope:
                with contextlib.suppress(PermissionError):
                    bind_to_device(wire.socket, device)
        except OSError as error:
            self._failures.note(f"connection refused: {error.strerror}")
            return False
        return True

    def transport_lost(self, reason: str) -> None:
        """The link or the local address of the session is gone."""
        self._session.transport_lost(_now(), reason)
        self._pump()

    def connect_now(self) -> None:
        """The path may be good again: do not wait for the retry timer."""
        self._session.connect_now(_now())
        self._pump()

    def addresses_changed(self, interface: str) -> None:
        """An interface has other addresses: the session's next hops follow."""
        if self._exchange is not None:
            self._exchange.addresses_changed(interface)

    def address_learned(self, address: bytes) -> None:
        """The link-local address of an unnumbered neighbor was heard."""
        if address == self.peering.address:
            if self.state in (State.IDLE, State.ACTIVE) and self._failures.last.endswith(NOT_HEARD):
                self.connect_now()
            return
        if self.state.progress >= State.OPEN_SENT.progress:
            return
        self.peering = msgspec.structs.replace(self.peering, address=address)
        self.refresh_password()
        self.connect_now()

    def uses(self, interface: str) -> bool:
        """Whether the session, or its next attempt, runs over a directly connected network of the interface."""
        return interface == (self.interface or self._expected_interface())

    def lost_address(self, address: bytes) -> bool:
        """Whether the session runs from this local address, which left an interface, and has it no more."""
        return self._exchange is not None and self._exchange.local == address and not self._exchange.has_local

    # What others ask

    @property
    def exchange(self) -> Exchange | None:
        """The routes of the session while it is established."""
        return self._exchange

    @property
    def takes_place(self) -> bool:
        """Whether it counts against the limits of its range: it is established, or refused for cause."""
        return self.state is State.ESTABLISHED or self._session.is_refusing

    @property
    def has_room(self) -> bool:
        """Whether its connection takes more now."""
        return self._wire is not None and not self._wire.is_full

    def view(self) -> NeighborView:
        """For `bgpd show neighbors`; route counts are the RIB's."""
        config, exchange = self.peering.config, self._exchange
        negotiated = exchange.negotiated if exchange else None
        connection = self._session.established
        asn = negotiated.peer_asn if negotiated else config.asn if isinstance(config.asn, int) else 0
        return NeighborView(
            name=self.peering.name,
            address=format_address(self.peering.address) if self.peering.address else "",
            interface=self.interface or self.peering.interface,
            asn=asn,
            local_asn=config.local_asn or self._around.router.asn,
            state=str(self.state),
            since=self._since,
            router_id=format_address(negotiated.peer_router_id) if negotiated else "",
            hostname=negotiated.hostname if negotiated else "",
            dynamic=self.peering.dynamic,
            hold_time_s=negotiated.hold_time_s if negotiated else 0,
            keepalive_time_s=negotiated.hold_time_s // 3 if negotiated else 0,
            families={str(family): FamilyCounts() for family in negotiated.families} if negotiated else {},
            capabilities=list(negotiated.capabilities) if negotiated else [],
            messages_received=connection.messages_received if connection else 0,
            messages_sent=connection.messages_sent + exchange.messages_sent if connection and exchange else 0,
            established_count=self._established_count,
            last_error=self._failures.last,
            last_error_at=self._failures.last_at,
            max_attribute_bytes=attribute_limit(config),
            end_of_rib=[str(family) for family in exchange.end_of_rib] if exchange else [],
            martians=self._martians + (exchange.martians if exchange else 0),
            without_next_hop=[str(family) for family in exchange.without_next_hop] if exchange else [],
            refused_until=time.time() + self.held_off_until - _now() if self.held_off_until else None,
            **self._around.defects.view_of(self.peering.name),
        )

    # Driving the session

    def _settings(self) -> SessionSettings:
        around, peering = self._around, self.peering
        return SessionSettings(
            local=local_open(
                around.router,
                peering.config,
                over_ipv6=peering.is_ipv6,
                restarting=self._restarting,
                hostname=around.hostname,
            ),
            expected_asn=peering.config.asn,
            connect_retry_s=getattr(peering.config, "connect_retry_s", 5),
            dials=peering.dials,
            min_hold_time_s=getattr(peering.config, "min_hold_time_s", 0),
        )

    def _pump(self, *, whole: bool = False) -> None:
        """Perform what the session wants, for STEP_S at most unless `whole`; the rest in the loop's next round."""
        if self._pumping:
            return
        self._pumping = True
        try:
            if not self._try_work(math.inf if whole else _now() + STEP_S):
                self._plan_pump()
                return
        finally:
            self._pumping = False
            self._note_state()
        self.read_on()
        self.set_timer()

    def read_on(self) -> None:
        """Read what the neighbor sends, or leave it unread while reading is held."""
        if self._wire is not None and not self._pump_planned:
            if self.peering.name in self._around.held:
                self._wire.pause()
            else:
                self._wire.resume()

    def _try_work(self, end: float) -> bool:
        """`_work`; what it raises costs this session. The session's end is told now, if there is time."""
        for _ in range(_MOST_DEFECTS):
            try:
                return self._work(end)
            except Exception as error:
                self._failed(error)
            if _now() > end:
                break
        return False

    def _failed(self, error: Exception, *, is_update: bool = False) -> None:
        """What was done for this neighbor raised: it is held off, and the messages are kept (defects.py).

        Only where state of all may be wrong the daemon has to end (runtime/shared_state.py).
        """
        messages = self._session.worked_on
        if isinstance(error, SharedStateBroken):
            log.error("session.messages", neighbor=self.peering.name, messages=messages[-LOGGED_BYTES:].hex())
            context = {"message": "shared state is broken", "exception": error}
            asyncio.get_running_loop().call_exception_handler(context)
            return
        known = self._around.defects
        found = known.note(self.peering.name, error, messages, now=_now(), is_update=is_update)
        self._hold_off(found.notification, found.reason, found.pause_s)

    def _hold_off(self, notification: Notification, reason: str, pause_s: float) -> None:
        self._held_off_until = _now() + pause_s
        self._session.reset(_now(), notification, reason, hold_off_s=pause_s)

    def _tell_session(self, tell: Callable[[], None]) -> None:
        """Tell the session what happened, and perform what it wants then."""
        try:
            tell()
        except Exception as error:
            self._failed(error)
        self._pump()

    def _work(self, end: float) -> bool:
        """Perform what the session wants, one thing at least; whether that was all before `end` and the limits."""
        clock = asyncio.get_running_loop().time
        now = clock()
        left, messages = STEP_BYTES, STEP_MESSAGES
        while True:
            while self._exchange is not None and self._exchange.is_behind:
                self._exchange.catch_up()
                now = clock()
                if now > end:
                    return False
            for body in self._session.updates(now):
                self._updated(body)
                now = clock()
                left -= len(body)
                messages -= 1
                if now > end or left < 0 or messages <= 0:
                    self._updates_done()
                    return False
                if self._exchange is not None and self._exchange.is_behind:
                    break
            self._updates_done()
            if self._exchange is not None and self._exchange.is_behind:
                continue
            output = self._session.next_output(now)
            if output is None:
                return True
            self._perform(output)
            now = clock()
            messages -= 1
            if now > end or messages <= 0:
                return False

    def _plan_pump(self) -> None:
        if not self._pump_planned:
            soon(self._planned_pump)
        self._wait_for_turn()

    def _wait_for_turn(self) -> None:
        self._pump_planned = True
        if self._wire is not None:
            self._wire.pause()

    def _planned_pump(self) -> None:
        self._pump_planned = False
        self._pump()

    def set_timer(self) -> None:
        """Have the timer expire when something is due next."""
        deadlines = self._session.deadline(), self._exchange.deadline() if self._exchange is not None else None
        deadline = min((one for one in deadlines if one is not None), default=None)
        if self._timer is not None and (deadline is None or deadline < self._timer.when() or self._timer.cancelled()):
            self._timer.cancel()
            self._timer = None
        if deadline is not None and self._timer is None:
            self._timer = asyncio.get_running_loop().call_at(deadline, self._timer_expired)

    def _timer_expired(self) -> None:
        self._timer = None
        self._tell_session(self._tick)

    def _tick(self) -> None:
        self._session.tick(_now())
        if self._exchange is not None:
            self._exchange.tick(_now())

    def _perform(self, output: Output) -> None:
        match output:
            case UpdateReceived(body):
                self._updated(body)
                self._updates_done()
            case Send(number, data):
                if number in self._wires:
                    self._wires[number].write(data)
            case Dial(number):
                self._dials[number] = self._around.spawn(self._dial(number))
            case Close(number):
                self._close(number)
            case SessionUp(number, negotiated):
                self._established(number, negotiated)
            case SessionDown(reason):
                self._down(reason)
            case AttemptFailed(reason):
                self._failures.note(reason or (no_answer_text(self._target) if self._target else "no answer"))
                self._ended(self)
            case RefreshReceived(refresh):
                if self._exchange is not None:
                    self._exchange.refresh_received(refresh, _now())
            case KeepaliveReceived():
                pass

    async def _dial(self, number: int) -> None:
        problem = self.refresh_password()
        wire = None
        try:
            self._target = None if problem else target_of(self.peering, self._around.host, password=self._key.value)
            if self._target is not None:
                wire = await dial(self._target)
        except Unreachable as unreachable:
            problem = str(unreachable)
        except OSError as error:
            assert self._target is not None
            problem = explain_dial_error(error, self._target)
        finally:
            self._dials.pop(number, None)
        if wire is None:
            self._session.dial_failed(number, _now(), problem)
        else:
            self._adopt(number, wire)
            self._session.connected(number, _now())
        self._pump()

    def _adopt(self, number: int, wire: Wire) -> None:
        self._wires[number] = wire
        wire.attach(lambda data: self._received(number, data), lambda reason: self._lost(number, reason), self._drained)

    def _received(self, number: int, data: bytes) -> None:
        self._session.received(number, data)
        if not self._pump_planned and not now_or_soon(self._planned_pump):
            self._wait_for_turn()

    def _drained(self) -> None:
        if self._exchange is not None:
            self._around.events.room_came(self._exchange.source)

    def _lost(self, number: int, reason: str) -> None:
        """The session ends at once: nothing that came before is worked off any more, but for a word why."""
        if self._wires.pop(number, None) is self._wire:
            self._wire = None
        self._tell_session(partial(self._session.closed, number, _now(), reason))

    def _close(self, number: int) -> None:
        task = self._dials.pop(number, None)
        if task is not None:
            task.cancel()
        wire = self._wires.pop(number, None)
        if wire is not None:
            wire.finish()

    # The established session

    def _established(self, number: int, negotiated: Negotiated) -> None:
        wire = self._wires.get(number)
        if wire is None:
            return
        why = self._refused(self)
        if why:
            self._session.reset(_now(), REJECTED, why)
            return
        try:
            local, peer = wire.local, wire.peer
            set_send_hold_time(wire.socket, negotiated.hold_time_s or WITHOUT_HOLD_TIME_S)
        except OSError:
            return  # already lost: the session hears of it next
        host, peering = self._around.host, self.peering
        scoped = host.name_of(peer.scope) if peer.scope else ""
        self.interface = scoped or peering.interface or host.facing(peer.address, peering.config.vrf)
        self._wire = wire
        self._exchange = self._new_exchange(negotiated, local=local.address, peer=peer.address)
        self._established_count += 1
        self._restarting = False
        self._session.settings = self._settings()
        self._failures.recovered(
            asn=negotiated.peer_asn,
            hold_time_s=negotiated.hold_time_s,
            families=[str(family) for family in negotiated.families],
        )
        self._around.events.session_established(self._exchange.source, negotiated, peering.config)

    def _new_exchange(self, negotiated: Negotiated, *, local: bytes, peer: bytes) -> Exchange:
        around = self._around
        source = Source(
            name=self.peering.name,
            kind=SourceKind.IBGP if negotiated.is_ibgp else SourceKind.EBGP,
            asn=negotiated.peer_asn,
            router_id=negotiated.peer_router_id,
            address=peer,
            interface=self.interface,
        )
        return Exchange(
            source,
            negotiated,
            local=local,
            host=around.host,
            vrf=self.peering.config.vrf,
            nlri_decoders=around.nlri_decoders,
            events=around.events,
            write=self._write,
            accept_martians=self.peering.config.accept_martians,
        )

    def _down(self, reason: str) -> None:
        exchange, self._exchange, self._wire = self._exchange, None, None
        self.interface = ""
        self._failures.closed(reason)
        if exchange is not None:
            self._martians += exchange.martians
            self._around.events.session_closed(exchange.source, reason)
        self._ended(self)

    def _updated(self, body: bytes) -> None:
        if self._exchange is None or self._wire is None:
            return
        try:
            self._exchange.update_received(body)
        except RefusedUpdate as refused:
            sent = describe_notification(refused.notification.code, refused.notification.subcode)
            self._session.update_refused(_now(), refused.notification, f"we sent {sent}: {refused.reason}")
        except UnreadableUpdate as unreadable:
            self._failed(unreadable.error, is_update=True)

    def _updates_done(self) -> None:
        if self._exchange is not None:
            self._exchange.updates_done()

    def _write(self, data: bytes) -> None:
        if self._wire is None:
            return
        self._wire.write(data)
        if self._wire.unsent > MAX_UNSENT:
            asyncio.get_running_loop().call_soon(self._end_unread, self._wire)

    def _end_unread(self, wire: Wire) -> None:
        """The neighbor does not read. Not done while routes are sent: the RIB must not lose a session meanwhile."""
        if self._wire is wire:
            reason = f"the neighbor does not read: {wire.unsent} bytes wait for it"
            self._session.reset(_now(), OUT_OF_RESOURCES, reason)
            self._pump()

    # What people are told

    def _expected_interface(self) -> str:
        peering = self.peering
        if peering.interface or not peering.address:
            return peering.interface
        return self._around.host.facing(peering.address, peering.config.vrf)

    def _note_state(self) -> None:
        if self.state is not self._state:
            self._state, self._since = self.state, time.time()


def _is_raised(old: int, new: int) -> bool:
    """Whether a limit allows more than before; 0 is none."""
    return bool(old) and (not new or new > old)


def _now() -> float:
    return asyncio.get_running_loop().time()
