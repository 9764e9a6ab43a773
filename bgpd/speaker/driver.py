"""Runs the session of one neighbor in the event loop: bytes in, bytes out, dials, timers.

Performs what the session (session.py) wants, and gives received UPDATEs to the exchange of the established session.
Decides how much of one neighbor's input is worked off at a turn, and when it is read on. Never decides about the
state of the session, nor what follows from it for the daemon (neighbor.py).
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from functools import partial
from typing import Protocol

import msgspec

from bgpd.message.notification import describe_notification
from bgpd.message.open import Negotiated
from bgpd.model.iana import ErrorCode
from bgpd.runtime.turns import WINDOW_S, now_or_soon, processor_clock, soon, turns
from bgpd.speaker.chatter import Chatter
from bgpd.speaker.connection import KeepaliveReceived, RefreshReceived, State, UpdateReceived
from bgpd.speaker.defects import OUT_OF_RESOURCES
from bgpd.speaker.exchange import Exchange, RefusedUpdate, UnreadableUpdate
from bgpd.speaker.reach import Unreachable
from bgpd.speaker.session import AttemptFailed, Close, Dial, Notified, Output, Send, Session, SessionDown, SessionUp
from bgpd.speaker.socket_options import stuck_text
from bgpd.speaker.transport import Wire

STEP_S = 0.002
"""How long one neighbor's messages may keep the loop; then the others have their turn."""
STEP_BYTES = 24 * 1024
"""How much of one neighbor's messages is worked off at a turn: leaves that send the same table stay abreast, and most
routes go to the kernel once, with all their next hops."""
STEP_MESSAGES = 512
"""How many of one neighbor's messages, of any kind, are worked off at a turn."""
RUN_MESSAGES, RUN_BYTES = 128, 12 * 1024
"""Most UPDATEs that are decoded and passed on together; the time is looked at after each run."""
LEAST_RUN = 16
GATHERED_BYTES = 16 * 1024
"""Read at once, this is so much that what a turn costs beside its routes does not count: no more is gathered."""
MAX_UNSENT = 16 * 1024 * 1024
"""Bytes that may wait for a peer that does not read: more ends the session. Routes wait in the RIB before that."""
_MOST_DEFECTS = 3
"""At one turn: of the messages, and of what their end makes necessary."""


class SessionOwner(Protocol):
    """Whom the driver reports to."""

    async def connect(self) -> Wire:
        """Dial the neighbor.

        Raises: Unreachable: with the reason.
        """

    def established(self, wire: Wire, negotiated: Negotiated) -> None:
        """The session is established: `Driver.carry` begins its exchange."""

    def session_ended(self, exchange: Exchange | None, down: SessionDown) -> None:
        """The established session is over, by a NOTIFICATION if one was sent or received."""

    def attempt_failed(self, reason: str, notified: Notified | None) -> None:
        """A connection was not made, or ended before it was established; "": a dial had no answer in time."""

    def note_defect(self, error: Exception, *, is_update: bool = False) -> None:
        """An exception of bgpd's own was raised while it worked for the neighbor (`is_update`: decoding an UPDATE)."""

    def room_came(self, exchange: Exchange) -> None:
        """The connection takes more again."""


class RunLength:
    """How many UPDATEs of a session are worked off in one run, since nothing else happens until it ends.

    Some hundred microseconds each are possible: an UPDATE's few routes that each have another path already, on a slow
    host. Runs that take long become shorter, others longer again. By processor time, since that of others says nothing;
    no more than by the loop's clock, in which a simulated run takes no time.
    """

    def __init__(self) -> None:
        self.messages = LEAST_RUN

    def took(self, seconds: float) -> None:
        """A run took so long."""
        if seconds > STEP_S:
            self.messages = max(LEAST_RUN, self.messages // 2)
        elif seconds < STEP_S / 4:
            self.messages = min(RUN_MESSAGES, self.messages * 2)


class Driver:
    """The event loop's side of one session. `tasks` are those whose exceptions end the daemon. `is_held`: nothing is
    read of it, and no connection is begun.
    """

    def __init__(self, session: Session, owner: SessionOwner, *, tasks: asyncio.TaskGroup) -> None:
        self.exchange: Exchange | None = None
        self.state = State.IDLE
        self.state_since = time.time()
        self._session = session
        self._owner = owner
        self._tasks = tasks
        self._wires: dict[int, Wire] = {}
        self._dials: dict[int, asyncio.Task[None]] = {}
        self.wire: Wire | None = None
        """The connection of the established session."""
        self._timer: asyncio.TimerHandle | None = None
        self._is_pumping = False
        self._is_pump_planned = False
        self._is_reading_paused = False
        self._is_gathering = False
        self._readable_since = -math.inf
        self.is_held = False
        self._put_off: RefreshReceived | None = None
        self._run = RunLength()
        self._turns_owed = 0
        self._messages = 0
        self._bare_messages = 0  # of those of this turn, how many brought no routes
        self._chatter = Chatter()
        self._is_resting = False

    @property
    def wires(self) -> list[Wire]:
        """The neighbor's connections."""
        return list(self._wires.values())

    def resume_state(self, since: float) -> None:
        """The session was in this state already (wall clock, seconds)."""
        self.state, self.state_since = self._session.state, since

    def adopt(self, number: int, wire: Wire) -> None:
        """Take over a connection, under the number that the session gave it."""
        self._wires[number] = wire
        wire.attach(partial(self._received, number), partial(self._lost, number), self._drained)

    def hold(self, held: bool) -> None:
        """Leave unread all that comes, and unworked what has come, until told otherwise: the session is handed over."""
        self.is_held = held
        if held and self.wire is not None:
            self.wire.pause()
        elif not held:
            self._look_for_unread()
            put_off, self._put_off = self._put_off, None
            self._report(partial(self._perform, put_off) if put_off is not None else lambda: None)

    def settle(self) -> bool:
        """Pass on all that was taken of the session, which is held; whether it is as another process can go on with."""
        try:
            while self.exchange is not None and self.exchange.is_behind:
                self.exchange.catch_up()
        except Exception as error:
            self._owner.note_defect(error)
        self.pump()
        return self._session.is_settled and self.wire is not None and self.exchange is not None

    def carry(self, exchange: Exchange, wire: Wire) -> None:
        """Have the routes of the established session exchanged on this connection."""
        self.exchange, self.wire = exchange, wire

    def write(self, data: bytes) -> None:
        """Send whole messages to the established session's neighbor."""
        if self.wire is None:
            return
        self.wire.write(data)
        if self.wire.unsent > MAX_UNSENT:
            asyncio.get_running_loop().call_soon(self._end_unread, self.wire)

    def stop(self) -> None:
        """Perform all that the session still wants, and nothing after it."""
        self._pump(math.inf)
        if self._timer is not None:
            self._timer.cancel()

    # Turns

    def pump(self) -> None:
        """Perform what the session wants, for STEP_S at most; the rest in one of the loop's next rounds."""
        self._pump(_now() + STEP_S)

    def _pump(self, end: float) -> None:
        if self._is_pumping:
            return
        self._is_pumping = True
        try:
            if not self._try_work(end):
                self._plan_pump()
                return
        finally:
            self._is_pumping = False
            self._note_state()
        self._read_on()
        self.set_timer()

    def pause_reading(self, paused: bool) -> None:
        """Leave unread what the neighbor sends, or read on."""
        if self._is_reading_paused and not paused and not self.is_held:
            self._look_for_unread()
            self.set_timer()
        self._is_reading_paused = paused
        self._read_on()

    def _look_for_unread(self) -> None:
        """It is read on: a neighbor that has sent nothing meanwhile is as silent as if it had been read."""
        if self.wire is not None:
            self._session.put_off(_now(), is_unread=self.wire.has_unread)

    def _read_on(self) -> None:
        if self.wire is not None and not self._is_pump_planned:
            if self._is_reading_paused or self._is_gathering or self.is_held:
                self.wire.pause()
            else:
                self.wire.resume()

    def _note_pace(self, number: int, size: int) -> None:
        """So much was read. A neighbor that sends little, but again and again, is read on at the end of the window:
        what a turn of the loop costs beside its routes is paid for some dozen UPDATEs instead of each.

        What comes alone is worked off at once, and so is the next after it; much is not waited for, either.
        """
        now = _now()
        is_often, self._readable_since = now < self._readable_since + WINDOW_S, now
        is_little = is_often and size < GATHERED_BYTES and not self._is_gathering
        if is_little and self.wire is not None and self._wires.get(number) is self.wire:
            self._is_gathering = True
            turns().at_window_end(self._gathered)

    def _gathered(self) -> None:
        self._is_gathering, self._readable_since = False, _now()
        self._read_on()

    def _try_work(self, end: float) -> bool:
        """`_work`; what it raises costs this session. The session's end is performed now, if there is time."""
        for _ in range(_MOST_DEFECTS):
            try:
                return self._work(end)
            except Exception as error:
                self._owner.note_defect(error)
            if _now() > end:
                break
        return False

    def _work(self, end: float) -> bool:
        """Perform what the session wants, one thing at least; whether that was all before `end` and the limits."""
        clock, processor = asyncio.get_running_loop().time, processor_clock()
        now = clock()
        if self.is_held and end < math.inf:
            while self._session.has_outputs and (output := self._session.next_output(now)) is not None:
                self._perform(output)
            return True
        left, messages = STEP_BYTES, STEP_MESSAGES
        self._messages = self._bare_messages = 0
        while True:
            while self.exchange is not None and self.exchange.is_behind:
                self.exchange.catch_up()
                now = clock()
                if now > end:
                    return False
            bodies = self._session.updates(now, most=min(messages, self._run.messages), most_bytes=min(left, RUN_BYTES))
            if bodies:
                messages -= len(bodies)
                self._messages += len(bodies)
                left -= sum(map(len, bodies))
                began, before = processor(), now
                self._work_off(bodies, end)
                now = clock()
                self._run.took(min(processor() - began, now - before))
                if now > end or left <= 0 or messages <= 0:
                    return False
                continue
            output = self._session.next_output(now)
            if output is None:
                return True
            self._messages += 1
            self._perform(output)
            if self.is_held and end < math.inf:
                return True
            now = clock()
            messages -= 1
            if now > end or messages <= 0:
                return False

    def _work_off(self, bodies: list[bytes], end: float) -> None:
        """Have a run of UPDATEs taken, and passed on; after `end`, or where one leaves work, the rest waits."""
        while bodies:
            self._take(bodies)
            if bodies and ((self.exchange is not None and self.exchange.is_behind) or _now() > end):
                self._session.give_back(bodies)
                self._messages -= len(bodies)
                break
        self._updates_done()

    def _plan_pump(self) -> None:
        if not self._is_pump_planned:
            soon(self._planned_pump)
        self._wait_for_turn()

    def _wait_for_turn(self) -> None:
        self._is_pump_planned = True
        if self.wire is not None:
            self.wire.pause()

    def _planned_pump(self) -> None:
        """A turn. A message cannot be divided, and a long one takes the time of many turns: while others have work,
        these are theirs."""
        rest_s = 0.0 if self.is_held else self._chatter.rest_s(_now())
        if rest_s > 0:
            self._is_resting = True
            self._wait_for_turn()
            asyncio.get_running_loop().call_later(rest_s, self._rested)
            return
        if self._turns_owed and not self.is_held and turns():
            self._turns_owed -= 1
            soon(self._planned_pump)
            return
        self._is_pump_planned = False
        processor = processor_clock()
        cpu_s, began = processor(), _now()
        end = began + STEP_S
        try:
            self._pump(end)
        finally:
            took_s = processor() - cpu_s
            self._turns_owed = _steps_beyond(end, took_s)
            if 2 * self._bare_messages > self._messages:
                self._chatter.took(min(took_s, _now() - began), self._bare_messages, _now())

    def _rested(self) -> None:
        """What brings no routes has used its share of the time long enough ago."""
        self._is_resting = False
        self._look_for_unread()
        soon(self._planned_pump)

    def _note_state(self) -> None:
        if self._session.state is not self.state:
            self.state, self.state_since = self._session.state, time.time()

    # Timers

    def set_timer(self) -> None:
        """Have the timer expire when something is due next."""
        deadlines = self._session.deadline(), self.exchange.deadline() if self.exchange is not None else None
        deadline = min((one for one in deadlines if one is not None), default=None)
        if self.is_held and self.exchange is None:  # it is over; another one may be begun once it is held no more
            deadline = None
        if self._timer is not None and (deadline is None or deadline < self._timer.when() or self._timer.cancelled()):
            self._timer.cancel()
            self._timer = None
        if deadline is not None and self._timer is None:
            self._timer = asyncio.get_running_loop().call_at(deadline, self._timer_expired)

    def _timer_expired(self) -> None:
        self._timer = None
        self._report(self._tick)

    def _tick(self) -> None:
        if self.is_held or self._is_reading_paused or self._is_resting:
            self._session.put_off(_now(), is_unread=True)
        self._session.tick(_now())
        if self.exchange is not None:
            self.exchange.tick(_now())

    def _report(self, event: Callable[[], None]) -> None:
        """Report to the session what happened, and perform what it wants then."""
        try:
            event()
        except Exception as error:
            self._owner.note_defect(error)
        self.pump()

    # What the session wants

    def _perform(self, output: Output) -> None:
        match output:
            case UpdateReceived(body):
                self._take([body])
                self._updates_done()
            case Send(number, data):
                if number in self._wires:
                    self._wires[number].write(data)
            case Dial(number):
                self._dials[number] = self._tasks.create_task(self._dial(number))
            case Close(number):
                self._close(number)
            case SessionUp(number, negotiated):
                if number in self._wires:
                    self._owner.established(self._wires[number], negotiated)
            case SessionDown(reason, notified) as down:
                if notified and notified.notification.code == ErrorCode.HOLD_TIMER_EXPIRED and self.wire is not None:
                    down = msgspec.structs.replace(down, reason=reason + stuck_text(self.wire.socket))
                exchange, self.exchange, self.wire = self.exchange, None, None
                self._owner.session_ended(exchange, down)
            case AttemptFailed(reason, notified):
                self._owner.attempt_failed(reason, notified)
            case RefreshReceived(refresh) as received:
                self._bare_messages += 1
                if self.exchange is not None and self.exchange.must_wait(refresh):
                    self._put_off = received
                    self.hold(True)
                elif self.exchange is not None:
                    self.exchange.refresh_received(refresh, _now())
            case KeepaliveReceived():
                self._bare_messages += 1

    async def _dial(self, number: int) -> None:
        try:
            wire = await self._owner.connect()
        except Unreachable as unreachable:
            self._dialed(number, partial(self._session.dial_failed, number, _now(), str(unreachable)))
        except Exception as error:
            self._dialed(number, partial(self._owner.note_defect, error))
        else:
            self.adopt(number, wire)
            self._dialed(number, partial(self._session.connected, number, _now()))

    def _dialed(self, number: int, event: Callable[[], None]) -> None:
        self._dials.pop(number, None)
        self._report(event)

    def _close(self, number: int) -> None:
        task = self._dials.pop(number, None)
        if task is not None:
            task.cancel()
        wire = self._wires.pop(number, None)
        if wire is not None:
            wire.finish()

    # What the connections report

    def _received(self, number: int, data: bytes) -> None:
        self._session.received(number, data)
        self._note_pace(number, len(data))
        if not self._is_pump_planned and not now_or_soon(self._planned_pump):
            self._wait_for_turn()

    def _drained(self) -> None:
        if self.exchange is not None:
            self._owner.room_came(self.exchange)

    def _lost(self, number: int, reason: str) -> None:
        """The session ends at once: unprocessed input is discarded, except a NOTIFICATION."""
        if self._wires.pop(number, None) is self.wire:
            self.wire = None
        self._report(partial(self._session.closed, number, _now(), reason))

    def _take(self, bodies: list[bytes]) -> None:
        """Have some UPDATEs taken from the front of `bodies`; where one ends the session, the others stay unread."""
        if self.exchange is None or self.wire is None:
            bodies.clear()
            return
        before = self.exchange.bare_updates
        try:
            self.exchange.take(bodies)
            self._bare_messages += self.exchange.bare_updates - before
        except RefusedUpdate as refused:
            self._leave(bodies)
            sent = describe_notification(refused.notification.code, refused.notification.subcode)
            self._session.update_refused(_now(), refused.notification, f"we sent {sent}: {refused.reason}")
        except UnreadableUpdate as unreadable:
            self._leave(bodies)
            self._owner.note_defect(unreadable.error, is_update=True)

    def _leave(self, bodies: list[bytes]) -> None:
        self._session.give_back(bodies)
        bodies.clear()

    def _updates_done(self) -> None:
        if self.exchange is not None:
            self.exchange.updates_done()

    def _end_unread(self, wire: Wire) -> None:
        """The neighbor does not read. Not done while routes are sent: the RIB must not lose a session meanwhile."""
        if self.wire is wire:
            reason = f"the neighbor does not read: {wire.unsent} bytes wait for it"
            self._session.reset(_now(), OUT_OF_RESOURCES, reason)
            self.pump()


def _steps_beyond(end: float, cpu_s: float) -> int:
    """How many steps a turn has taken beyond the one that it had until `end`, by processor time; no more than by the
    loop's clock, in which a simulated turn takes no time."""
    beyond = int((_now() - end) / STEP_S)  # the clock is looked at in any case: a simulated one goes on by each look
    return max(0, min(int(cpu_s / STEP_S) - 1, beyond))


def _now() -> float:
    return asyncio.get_running_loop().time()
