"""One neighbor at run time: its session, from the first attempt to the end, and what each step means for the daemon.

Decides what becomes of the neighbor when its session, its configuration or this host changes. Never decides about the
state of the session (session.py), and knows no other neighbor (neighbors.py).
"""

from __future__ import annotations

import asyncio
import random
from typing import Protocol

import msgspec

from bgpd.config.effects import resets_session
from bgpd.config.schema_sessions import SessionConfig
from bgpd.message.exabgp_codec import Notification
from bgpd.message.open import Negotiated
from bgpd.model.iana import CeaseSubcode, ErrorCode
from bgpd.model.prefix import format_address
from bgpd.model.unreadable import UNREADABLE
from bgpd.runtime.events import log
from bgpd.runtime.shared_state import SharedStateBroken
from bgpd.speaker.beginning import ends_hold_off, new_exchange, settings, tell_tap
from bgpd.speaker.connection import Connection, State
from bgpd.speaker.defects import LOGGED_BYTES
from bgpd.speaker.driver import Driver
from bgpd.speaker.exchange import Exchange
from bgpd.speaker.failure_log import FailureLog
from bgpd.speaker.peering import Peering
from bgpd.speaker.reach import NOT_HEARD, Reach, Unreachable
from bgpd.speaker.saved import SavedSession, SavedWait
from bgpd.speaker.session import Notified, Session, SessionDown, SessionSettings
from bgpd.speaker.socket_options import set_send_hold_time
from bgpd.speaker.surroundings import Surroundings
from bgpd.speaker.transport import Wire

WITHOUT_HOLD_TIME_S = 240.0
"""In place of a hold time of 0, for how long the peer may take nothing: twice as long, 8 minutes (RFC 9687)."""
REJECTED = Notification(ErrorCode.CEASE, CeaseSubcode.CONNECTION_REJECTED)
BFD_DOWN = Notification(ErrorCode.CEASE, CeaseSubcode.BFD_DOWN)


class NeighborOwner(Protocol):
    """Who keeps the neighbors."""

    def why_refused(self, neighbor: Neighbor) -> str:
        """Why a session that could begin now may not, "" if it may."""

    def connection_ended(self, neighbor: Neighbor) -> None:
        """A connection of the neighbor has ended; another attempt may follow."""


class Neighbor:
    """One neighbor of this host. `failures` and the counters cover all sessions with it."""

    def __init__(self, peering: Peering, around: Surroundings, owner: NeighborOwner) -> None:
        self.interface = ""
        self.established_count = 0
        self.flaps = 0
        self.failures = FailureLog(peering.name, around.lines_for(peering))
        self._former_martians = 0
        self._around = around
        self._owner = owner
        self._is_first = True
        self._reach = Reach(peering, around.host, around.listening, new_socket=around.new_socket)
        self._session = Session(self._settings_now(), random=random.random)
        self._driver = Driver(self._session, self, tasks=around.tasks)

    # What others ask

    @property
    def peering(self) -> Peering:
        """Who it is."""
        return self._reach.peering

    @property
    def state(self) -> State:
        """The state of its session."""
        return self._session.state

    @property
    def state_since(self) -> float:
        """Since when (wall clock, seconds)."""
        return self._driver.state_since

    @property
    def exchange(self) -> Exchange | None:
        """The routes of the session while it is established."""
        return self._driver.exchange

    @property
    def connection(self) -> Connection | None:
        """The connection of the established session."""
        return self._session.established

    @property
    def wire(self) -> Wire | None:
        """The TCP connection of the established session."""
        return self._driver.wire

    @property
    def has_room(self) -> bool:
        """Whether its connection takes more now."""
        wire = self._driver.wire
        return wire is not None and not wire.is_full

    @property
    def martians(self) -> int:
        """Prefixes that were ignored as martians, in all sessions."""
        return self._former_martians + (self.exchange.martians if self.exchange is not None else 0)

    @property
    def takes_place(self) -> bool:
        """Whether it counts against the limits of its range: it is established, refused for cause, or restarts while
        its routes are kept."""
        is_there = self.state is State.ESTABLISHED or self._session.is_refusing
        return is_there or self._around.events.keeps_routes(self.peering.name)

    @property
    def held_off_until(self) -> float:
        """Until when (the loop's clock) it is refused for cause; 0 if it is not."""
        return self._session.held_off_until if self._session.held_off_until > _now() else 0.0

    @property
    def lacks_keys(self) -> bool:
        """Whether its keys could not be read."""
        return self._reach.lacks_keys

    @property
    def restarts_gracefully(self) -> bool:
        """Whether the neighbor keeps this host's routes if the connection ends without a word (RFC 4724)."""
        configured, exchange = self.peering.config.graceful_restart, self.exchange
        if not configured.restarts or exchange is None:
            return False
        return exchange.negotiated.graceful_restart is not None

    # Administration

    def start(self) -> None:
        """Begin to dial, or to wait for the neighbor."""
        self.read_keys()
        self._session.start(_now())
        self._driver.pump()

    def stop(self, notification: Notification | None, reason: str) -> list[Wire]:
        """End for good; the connections that are closing."""
        wires = self._driver.wires
        self.failures.ending = True
        self._session.stop(_now(), notification, reason)
        self._driver.stop()
        self._reach.forget_keys()
        return wires

    def path_failed(self, reason: str, *, is_independent: bool = True) -> None:
        """Nothing reaches the neighbor any more, as BFD says: its next hops leave the kernel, then the session ends
        (RFC 5882 section 4.2, RFC 9384).

        While it restarts, BFD tells of its forwarding only where that `is_independent` of it (C bit, section 4.3).
        """
        exchange = self.exchange
        if exchange is None and is_independent:
            self._around.events.forwarding_lost(self.peering.name, f"BFD down: {reason}")
        if exchange is not None:
            self._around.events.path_failed(exchange.source)
            self._session.reset(_now(), BFD_DOWN, f"BFD down: {reason}")
            self._driver.pump()

    def reset(self, notification: Notification, reason: str, *, hold_off_s: float) -> None:
        """End the session, and refuse a new one for a while."""
        self.failures.note(reason)
        self._session.reset(_now(), notification, reason, hold_off_s=hold_off_s)
        self._driver.pump()

    def fail(self, error: Exception) -> None:
        """What was done for this neighbor alone raised: its session ends."""
        self.note_defect(error)
        self._driver.pump()

    def configure(self, config: SessionConfig) -> None:
        """Take over a changed configuration that needs no new session.

        A higher limit, or another answer to what is beyond it, ends a hold-off at once.
        """
        old = self.peering.config
        raised = ends_hold_off(old, config)
        self._reach.peering = msgspec.structs.replace(self.peering, config=config)
        self._session.settings = self._settings_now()
        if old.tcp_ao != config.tcp_ao and not self.read_keys():
            self.roll_keys()
        if raised:
            self._session.end_hold_off(_now())
            self._driver.pump()

    def read_keys(self) -> str:
        """Read its keys again; returns what is wrong with them, "" if nothing."""
        problem = self._reach.read_keys()
        if problem:
            self.failures.note(problem)
        return problem

    def roll_keys(self) -> None:
        """Give the established session the TCP-AO keys that were read last; it goes on."""
        if self.wire is not None and (problem := self._reach.roll(self.wire)):
            self.failures.note(problem)

    def start_is_over(self) -> None:
        """All neighbors were heard since the daemon's start: its next OPEN is not one of a restart any more."""
        self._session.settings = self._settings_now()

    def pause_reading(self, paused: bool) -> None:
        """Leave unread what it sends, or read on."""
        self._driver.pause_reading(paused)

    def set_timer(self) -> None:
        """The exchange was given something that is due later."""
        self._driver.set_timer()

    # What happened outside

    def accept(self, wire: Wire) -> bool:
        """A connection of the neighbor; False if it is not wanted now."""
        if self.lacks_keys and self.read_keys():
            return False
        if held := self._around.paths.why_held(self.peering):
            self.failures.note(f"connection refused: {held}")
            return False
        if problem := self._reach.why_unusable(wire):
            self.failures.note(f"connection refused: {problem}")
            return False
        number = self._session.accepted(_now())
        if number is None:
            return False
        self._driver.adopt(number, wire)
        self._driver.pump()
        return True

    def transport_lost(self, reason: str) -> None:
        """The link or the local address of the session is gone: nor can a neighbor that restarts forward on."""
        self._session.transport_lost(_now(), reason)
        self._driver.pump()
        self._around.events.forwarding_lost(self.peering.name, reason)

    def connect_now(self) -> None:
        """The path may be good again: do not wait for the retry timer."""
        if not self._driver.is_held:
            self._session.connect_now(_now())
            self._driver.pump()

    def addresses_changed(self, interface: str) -> None:
        """An interface has other addresses: the session's next hops follow."""
        if self.exchange is not None:
            self.exchange.addresses_changed(interface)

    def address_learned(self, address: bytes) -> None:
        """The link-local address of an unnumbered neighbor was received."""
        if address == self.peering.address:
            if self.state in (State.IDLE, State.ACTIVE) and self.failures.last.endswith(NOT_HEARD):
                self.connect_now()
            return
        if self.state.progress >= State.OPEN_SENT.progress:
            return
        self._reach.learn(address)
        self.read_keys()
        self.connect_now()

    @property
    def path(self) -> str:
        """The interface to the neighbor that the session, or its next attempt, runs over; "" if it is routed."""
        return self.interface or self._reach.expected_interface()

    def uses(self, interface: str) -> bool:
        """Whether the session, or its next attempt, runs over a directly connected network of the interface."""
        return interface == self.path

    def lost_address(self, address: bytes) -> bool:
        """Whether the session runs from this local address, which left an interface, and has it no more."""
        return self.exchange is not None and self.exchange.local == address and not self.exchange.has_local

    # What its session does (SessionOwner)

    async def connect(self) -> Wire:
        """Dial it.

        Raises: Unreachable: with the reason.
        """
        if held := self._around.paths.why_held(self.peering):
            raise Unreachable(held)
        return await self._reach.connect()

    def established(self, wire: Wire, negotiated: Negotiated) -> None:
        """Begin to exchange routes, unless others took its place in the range meanwhile."""
        why = self._owner.why_refused(self)
        if why:
            self._session.reset(_now(), REJECTED, why)
            return
        try:
            set_send_hold_time(wire.socket, negotiated.hold_time_s or WITHOUT_HOLD_TIME_S)
            self.interface = self._reach.interface_of(wire)
            exchange = self._new_exchange(negotiated, wire)
        except OSError:
            return  # already lost, which the session learns next
        self._driver.carry(exchange, wire)
        self._reach.roll(wire, is_new=True)
        self.established_count += 1
        self._is_first = False
        self._session.settings = self._settings_now()
        self.failures.recovered(
            asn=negotiated.peer_asn,
            hold_time_s=negotiated.hold_time_s,
            families=[str(family) for family in negotiated.families],
        )
        self._around.events.session_established(exchange.source, negotiated, self.peering.config)
        tell_tap(self.peering, exchange, self._session.established, wire, self._around)
        self._around.names.session_changed(self.peering.name)

    # From one process to the next

    @property
    def is_held(self) -> bool:
        """Whether nothing is read of it."""
        return self._driver.is_held

    def hold(self, held: bool) -> None:
        """Leave unread all that it sends, until told otherwise; its hold timer waits."""
        self._driver.hold(held)

    def saved_wait(self, now: float) -> SavedWait:
        """What it is without a session, for another process."""
        return SavedWait(
            name=self.peering.name,
            section=self.peering.section,
            config=msgspec.msgpack.encode(self.peering.config),
            established_count=self.established_count,
            flaps=self.flaps,
            former_martians=self._former_martians,
            failures=self.failures.saved,
            retries=self._session.retries(now),
        )

    def resume(self, saved: SavedWait) -> None:
        """Go on as another process has left it without a session; a change that would have ended a hold-off there ends
        it here. Call before `start`."""
        self.established_count, self.flaps = saved.established_count, saved.flaps
        self._former_martians = saved.former_martians
        self.failures.restore(saved.failures)
        try:
            before = saved.settings
        except UNREADABLE:  # of a version that had other keys
            return
        config = self.peering.config
        is_same = type(before) is type(config) and not resets_session(saved.section, before, config)
        if is_same and not ends_hold_off(before, config):
            self._session.resume(saved.retries, _now())

    def saved(self, descriptor: str, now: float) -> tuple[SavedSession, int] | None:
        """The established session, which is held, for another process, and its socket; a KEEPALIVE is sent before.
        None: there is no session that could be gone on with."""
        if not self._driver.settle():
            return None
        connection, exchange, wire = self._session.established, self.exchange, self._driver.wire
        assert connection is not None
        assert exchange is not None
        assert wire is not None
        if connection.negotiated is not None and connection.negotiated.keepalive_time_s:
            connection.keep_alive(now)
            wire.write(connection.take_output())
        peering = self.peering
        saved = SavedSession(
            name=peering.name,
            descriptor=descriptor,
            section=peering.section,
            config=msgspec.msgpack.encode(peering.config),
            router=msgspec.msgpack.encode(self._around.router),
            address=peering.address,
            interface=peering.interface,
            arrival=peering.arrival,
            runs_over=self.interface,
            state_since=self.state_since,
            established_count=self.established_count,
            flaps=self.flaps,
            former_martians=self._former_martians,
            failures=self.failures.saved,
            retries=self._session.retries(now),
            connection=connection.saved(wire.unsent_bytes),
            exchange=exchange.saved,
        )
        return saved, wire.socket.fileno()

    def adopt(self, saved: SavedSession, wire: Wire) -> None:
        """Begin with an established session that another process has left; it is held, and knows no route yet.

        Raises: OSError: the connection is already gone. NotificationError: what was negotiated is not possible.
        """
        now, former = _now(), saved.connection
        connection = Connection.adopt(former, self._session.settings.expected_asn, now=now, random=random.random)
        negotiated = connection.negotiated
        assert negotiated is not None
        self.read_keys()
        self.interface = self._reach.interface_of(wire)
        exchange = self._new_exchange(negotiated, wire)
        exchange.resume(saved.exchange)
        if not exchange.has_local:
            raise OSError(f"local address {format_address(exchange.local)} is gone")
        self._session.resume(saved.retries, now)
        self._driver.adopt(self._session.adopt(connection), wire)
        self._driver.carry(exchange, wire)
        self._reach.roll(wire, is_new=True)
        self._driver.hold(True)
        self._driver.resume_state(saved.state_since)
        self.established_count, self.flaps = saved.established_count, saved.flaps
        self._former_martians = saved.former_martians
        self._is_first = False
        self._session.settings = self._settings_now()
        self.failures.restore(saved.failures)
        self.failures.adopted(established_at=saved.state_since, families=[str(one) for one in negotiated.families])
        wire.write(former.unsent)
        self._around.events.session_adopted(exchange.source, negotiated, self.peering.config)
        tell_tap(self.peering, exchange, connection, wire, self._around)
        self._driver.pump()

    def go_on(self, saved: SavedSession) -> None:
        """What an adopted session was sent is known: read on, where the other process has stopped. If the session has
        ended since, another one may begin."""
        if self.exchange is not None:
            for family in self.exchange.given_otherwise(saved.exchange):
                self._around.routes.refresh_requested(self.exchange.source, family)
            self._session.unread(saved.connection.unread)
        self._driver.hold(False)

    def _new_exchange(self, negotiated: Negotiated, wire: Wire) -> Exchange:
        """Raises: OSError: the connection is already gone."""
        write = self._driver.write
        return new_exchange(self.peering, negotiated, wire, self._around, interface=self.interface, write=write)

    def _settings_now(self) -> SessionSettings:
        return settings(self.peering, self._around, is_first=self._is_first)

    def session_ended(self, exchange: Exchange | None, down: SessionDown) -> None:
        """The established session is over; `exchange` is None if it had ended before routes were exchanged."""
        self.interface = ""
        self.flaps += 1
        self.failures.closed(down.reason, down.notified)
        if exchange is not None:
            self._former_martians += exchange.martians
            self._around.events.session_closed(exchange.source, down.reason, is_graceful=down.is_graceful)
            if self._around.tap is not None:
                told = down.notified
                sent = told is not None and told.sent
                self._around.tap.session_down(exchange.source, told.notification if told else None, sent=sent)
        self._around.names.session_changed(self.peering.name)
        self._owner.connection_ended(self)

    def attempt_failed(self, reason: str, notified: Notified | None) -> None:
        """A connection was not made, or ended before it was established; "": a dial had no answer in time."""
        self.failures.note(reason or self._reach.no_answer(), notified)
        self._owner.connection_ended(self)

    def note_defect(self, error: Exception, *, is_update: bool = False) -> None:
        """What was done for this neighbor raised: it is refused for a time, and the messages are kept (defects.py).

        Only where state of all may be wrong the daemon has to end (runtime/shared_state.py).
        """
        name, messages = self.peering.name, self._session.worked_on
        if isinstance(error, SharedStateBroken):
            log.error("session.fatal_defect_messages", neighbor=name, messages=messages[-LOGGED_BYTES:].hex())
            context = {"message": "shared state is broken", "exception": error}
            asyncio.get_running_loop().call_exception_handler(context)
            return
        found = self._around.defects.note(name, error, messages, now=_now(), is_update=is_update)
        self._session.reset(_now(), found.notification, found.reason, hold_off_s=found.pause_s)

    def room_came(self, exchange: Exchange) -> None:
        """Its connection takes more again."""
        self._around.routes.room_came(exchange.source)


def _now() -> float:
    return asyncio.get_running_loop().time()
