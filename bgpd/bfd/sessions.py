"""All sessions of the BFD process: which there are, whose packet it is, whose timer is due.

Follows the set that the daemon wants (level-triggered): what is new begins, what goes is AdminDown for a while and then
removed, what stays is not touched, other timers are negotiated. Decides nothing about states (session.py).
"""

from __future__ import annotations

import errno
import heapq
import os
import select
import socket
import time
from collections.abc import Callable, Iterator

from bgpd.bfd import sockets
from bgpd.bfd.control import Desired, Key
from bgpd.bfd.live import Live, Receiver, ReceiverKey, Saved
from bgpd.bfd.packet import Discarded, Packet, State, decode
from bgpd.bfd.session import SLOW_US, Session

READ_AT_ONCE = 32
"""Packets of one socket; then the timers have their turn."""
SENT_TOGETHER = 16
"""Packets at most that are sent before their time, as far as jitter lets them, because the process is awake."""
LAST_LOOK = 256
"""Before a session is declared silent, that many packets are read that may have come in time: more than a full buffer
holds."""
RETRY_S = 1.0
"""Until sockets that could not be opened are tried again."""
_NEVER = float("inf")
_USUAL_ERRORS = (errno.ECONNREFUSED, errno.EAGAIN, errno.ENOBUFS)
"""Of sending: the peer has no BFD yet, or a queue is full."""


class Sessions:
    """The sessions by key. `changed` hears of each that is another one than before, `removed` of each that is gone.

    `clock` is monotonic, `host_clock` that of the kernel's time stamps; `poller` watches the receiving sockets, whose
    `readable` the caller calls.
    """

    def __init__(
        self,
        poller: select.epoll,
        *,
        changed: Callable[[Live], None],
        removed: Callable[[Key], None],
        clock: Callable[[], float] = time.monotonic,
        host_clock: Callable[[], float] = time.time,
    ) -> None:
        self.discarded: dict[str, int] = {}
        self._poller = poller
        self._changed = changed
        self._removed = removed
        self._clock = clock
        self._host_clock = host_clock
        self._numbers = _random_numbers()
        self._jitter = next(self._numbers)
        self._looked_at = -1.0
        self._by_key: dict[Key, Live] = {}
        self._by_discriminator: dict[int, Live] = {}
        self._receivers: dict[ReceiverKey, Receiver] = {}
        self._by_descriptor: dict[int, Receiver] = {}
        self._queue: list[tuple[float, int, Live]] = []
        self._number = 0

    def all(self) -> list[Live]:
        """Those that there are, the ones that are being removed too."""
        return list(self._by_key.values())

    # What the daemon wants

    def follow(self, all_desired: dict[Key, Desired]) -> None:
        """Have just these sessions."""
        now = self._clock()
        for key, live in list(self._by_key.items()):
            if key not in all_desired and live.ends_at == _NEVER:
                live.session.disable(now)
                live.ends_at = now + live.session.multiplier * max(SLOW_US, live.session.interval_us) / 1_000_000
                self._settle(live)
        for key, desired in all_desired.items():
            live = self._by_key.get(key) or self._begin(desired, now)
            live.ends_at = _NEVER
            live.session.enable(now)
            if (desired.interval_us, desired.multiplier) != (live.desired.interval_us, live.desired.multiplier):
                live.session.configure(interval_us=desired.interval_us, multiplier=desired.multiplier)
            live.desired = desired
            self._settle(live)

    def _begin(self, desired: Desired, now: float) -> Live:
        discriminator = 0
        while not discriminator or discriminator in self._by_discriminator:
            discriminator = int.from_bytes(os.urandom(4), "big")
        session = Session(
            discriminator, interval_us=desired.interval_us, multiplier=desired.multiplier, random=self._random, now=now
        )
        live = self._by_key[desired.key] = self._by_discriminator[discriminator] = Live(desired, session)
        self._open(live, now)
        return live

    def _end(self, live: Live) -> None:
        self._close(live)
        del self._by_key[live.desired.key], self._by_discriminator[live.session.discriminator]
        self._removed(live.desired.key)

    # Into another process

    def slow_down(self) -> None:
        """Negotiate intervals of a second at least: the start of a program may take longer than a detection time."""
        self._negotiate(SLOW_US)

    def speed_up(self) -> None:
        """Negotiate what is wanted again."""
        self._negotiate(0)

    @property
    def is_settled(self) -> bool:
        """Whether no session that is Up waits for an answer about its timers."""
        return not any(live.session.is_polling for live in self._by_key.values() if live.session.state is State.UP)

    def _negotiate(self, least_us: int) -> None:
        for live in list(self._by_key.values()):
            interval_us = max(live.desired.interval_us, least_us)
            live.session.configure(interval_us=interval_us, multiplier=live.desired.multiplier)
            self._settle(live)

    def saved(self) -> list[Saved]:
        """All sessions, with the numbers of their sockets' descriptors. Quiet sockets are not handed over."""
        for receiver in self._receivers.values():
            self._look(receiver, self._clock())
        return [
            (
                (*live.desired.key, live.desired.interval_us, live.desired.multiplier),
                live.session.saved(),
                (live.port, live.since, live.ends_at),
                (live.sender.fileno(), live.receiver.sock.fileno(), live.receiver.key[2]),
            )
            for live in self._by_key.values()
            if live.sender is not None and live.receiver is not None
        ]

    def descriptors(self) -> list[int]:
        """Of all sockets."""
        senders = [live.sender.fileno() for live in self._by_key.values() if live.sender is not None]
        return [*senders, *self._by_descriptor]

    def resume(self, saved: list[Saved]) -> str:
        """Go on with the sessions of another process, whose sockets this one has now; why not with all, "" if so."""
        problem = ""
        for one in saved:
            try:
                self._adopt(one, self._clock())
            except (ValueError, TypeError, AttributeError, OSError) as error:
                problem = str(error)
        self.speed_up()
        return problem

    def _adopt(self, saved: Saved, now: float) -> None:
        """Raises: ValueError, TypeError, AttributeError, OSError: that is not what was saved, and nothing is kept."""
        wanted, values, shown, (sender, listener, index) = saved
        local, peer, interface, interval_us, multiplier = wanted
        desired = Desired(local=local, peer=peer, interface=interface, interval_us=interval_us, multiplier=multiplier)
        session = Session(0, interval_us=interval_us, multiplier=multiplier, random=self._random, now=now)
        session.resume(values)
        live = Live(desired, session)
        live.port, live.since, live.ends_at = shown
        live.shown = (session.state,)
        key = (local, interface, index)
        live.sender = sockets.adopt(sender)
        live.receiver = self._receivers.get(key) or self._add_receiver(key, sockets.adopt(listener))
        live.receiver.members[peer] = self._by_key[desired.key] = self._by_discriminator[session.discriminator] = live
        self._settle(live)

    # Sockets

    def _open(self, live: Live, now: float) -> None:
        """Open its sockets, or say why that cannot be."""
        desired = live.desired
        try:
            index = sockets.index_of(desired.interface)
            key = (desired.local, desired.interface, index)
            receiver = self._receivers.get(key) or self._add_receiver(key, sockets.open_receiver(*key[:2]))
            receiver.members[desired.peer] = live
            live.receiver = receiver
            receiver.follow_members()
            live.sender = self._open_sender(live)
            live.problem = ""
        except OSError as error:
            self._close(live)
            self._fail(live, now, error)

    def _fail(self, live: Live, now: float, error: OSError) -> None:
        live.problem = _problem(error, live.desired.interface)
        live.retry_at = now + RETRY_S

    def _add_receiver(self, key: ReceiverKey, sock: socket.socket) -> Receiver:
        receiver = self._receivers[key] = Receiver(key, sock)
        self._by_descriptor[receiver.sock.fileno()] = receiver
        self._poller.register(receiver.sock.fileno(), select.EPOLLIN)
        return receiver

    def _open_sender(self, live: Live) -> socket.socket:
        """From a port that no other session has (RFC 5881 section 4): while there are enough of them."""
        used = {other.port for other in self._by_key.values() if other.sender is not None}
        first = int.from_bytes(os.urandom(2), "big")
        desired = live.desired
        for number in range(first, first + sockets.PORTS):
            port = sockets.FIRST_PORT + number % sockets.PORTS
            if port in used and len(used) < sockets.PORTS:
                continue
            try:
                sender = sockets.open_sender(desired.local, desired.peer, desired.interface, port)
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
                continue
            live.port = port
            return sender
        raise OSError(errno.EADDRINUSE, "no source port is left")

    def _close(self, live: Live) -> None:
        if live.sender is not None:
            live.sender.close()
            live.sender = None
        receiver, live.receiver, live.is_quiet = live.receiver, None, False
        if receiver is None:
            return
        receiver.members.pop(live.desired.peer, None)
        receiver.usual.pop(live.usual, None)
        if receiver.members:
            receiver.follow_members()
            return
        del self._receivers[receiver.key], self._by_descriptor[receiver.sock.fileno()]
        self._poller.unregister(receiver.sock.fileno())
        receiver.close()

    # Packets

    def readable(self, descriptor: int) -> None:
        """A receiving socket has packets; at most READ_AT_ONCE are read."""
        receiver = self._by_descriptor.get(descriptor)
        if receiver is not None:
            self._look(receiver, self._clock())
            self._read(receiver, READ_AT_ONCE)

    def _look(self, receiver: Receiver, now: float, *, enough_s: float = 0.0) -> None:
        """Read what came without waking the process, unless that has just been done; of one session no more is needed
        than a packet that came less than `enough_s` ago, after which there may be one more."""
        quiet = receiver.quiet
        if quiet is None or receiver.looked_at == now:
            return
        self._looked_at = now
        ahead = receiver.begin_look(now, self._host_clock())
        usual = receiver.usual
        enough = now - enough_s if len(receiver.members) == 1 else now
        for _ in range(LAST_LOOK):
            try:
                datagram, host_time = sockets.receive_quiet(quiet)
            except BlockingIOError:
                return
            except OSError:
                if quiet.fileno() < 0:
                    return
                continue
            came = min(now, host_time - ahead) if host_time and ahead != _NEVER else now
            found = usual.get(datagram[0])
            if found is not None and found[0][2] == datagram[2] and found[1].session.is_steady:
                found[1].session.heard(came)
                if enough < came < now:
                    return
                continue
            source = sockets.address_of(quiet, datagram[2])
            self._receive(receiver, datagram, source=source, ttl=sockets.MAX_TTL, now=came)

    def _read(self, receiver: Receiver, count: int) -> None:
        for _ in range(count):
            try:
                datagram = sockets.receive(receiver.sock)
            except BlockingIOError:
                return
            except OSError:
                if receiver.sock.fileno() < 0:
                    return
                continue
            usual = receiver.usual.get(datagram[0])
            if usual is not None and usual[0] == datagram and usual[1].session.is_steady:
                usual[1].session.heard(self._clock())
                continue
            source, ttl = sockets.source_of(receiver.sock, datagram)
            self._receive(receiver, datagram, source=source, ttl=ttl, now=self._clock())

    def _receive(self, receiver: Receiver, datagram: sockets.Datagram, *, source: bytes, ttl: int, now: float) -> None:
        try:
            live, packet = self._judge(receiver, datagram[0], source, ttl)
        except Discarded as discarded:
            self.discarded[discarded.cause] = self.discarded.get(discarded.cause, 0) + 1
            return
        live.session.received(packet, now)
        receiver.usual.pop(live.usual, None)
        if live.session.is_steady and not packet.poll and not packet.final:
            live.usual = datagram[0]
            receiver.usual[live.usual] = datagram, live
        self._settle(live)

    def _judge(self, receiver: Receiver, data: bytes, source: bytes, ttl: int) -> tuple[Live, Packet]:
        """Raises: Discarded: it is no packet of a session (RFC 5880 section 6.8.6, RFC 5881 sections 3 and 5)."""
        if ttl != sockets.MAX_TTL:
            raise Discarded("ttl")
        packet = decode(data)
        if packet.your_discriminator:
            live = self._by_discriminator.get(packet.your_discriminator)
            if live is None:
                raise Discarded("unknown")
            if live.receiver is not receiver or live.desired.peer != source:
                raise Discarded("stranger")
        else:
            live = receiver.members.get(source)
            if live is None:
                raise Discarded("stranger")
        return live, packet

    # Timers

    def deadline(self) -> float:
        """When `tick` wants to be called."""
        return self._queue[0][0] if self._queue else _NEVER

    def tick(self) -> float:
        """Do what is due: packets, detection, sockets to open, sessions to remove. Packets that may be sent already are
        sent with those that are due, and planned for one time again, so that the process wakes once for all."""
        now = self._clock()
        queue = self._queue
        if not queue or queue[0][0] > now:
            return now
        self._jitter = next(self._numbers)
        early = SENT_TOGETHER
        while queue:
            due, _, live = queue[0]
            is_early = due > now
            if due != live.due:
                heapq.heappop(queue)
                continue
            if is_early and (not early or now < live.session.repeat_from):
                break
            if self._repeat(live, now):
                early -= is_early
                continue
            if is_early:
                break
            heapq.heappop(queue)
            live.due = _NEVER
            if now >= live.ends_at:
                self._end(live)
            else:
                self._tick(live, now)
        return now

    def _repeat(self, live: Live, now: float) -> bool:
        """Have the first in the queue send the packet before again, which is all that there is to do for most; False if
        it is not. What the peer said is read when it has to be known, and not each time."""
        if live.sender is None or live.receiver is None or live.problem:
            return False
        one = live.session
        data = one.repeat(now, self._jitter)
        if not data:
            return False
        try:
            live.sender.send(data)
        except OSError as error:
            self._not_sent(live, error)
        due = one.next_send
        # Who has to look the next time looks with others.
        until = due + one.shortest_s if self._looked_at == now else due
        if until < one.heard_until and not live.problem:
            self._number += 1
            live.due = due
            heapq.heapreplace(self._queue, (due, self._number, live))
            return True
        heapq.heappop(self._queue)
        live.due = _NEVER
        if live.receiver is not None:
            self._look(live.receiver, now, enough_s=one.spacing_s)
        is_as_before = one.repeated is data and live.due == _NEVER and not live.problem
        if is_as_before and due < one.heard_until:
            self._queue_up(live)
        else:
            self._settle(live)
        return True

    def _tick(self, live: Live, now: float) -> None:
        if live.sender is None and now >= live.retry_at:
            self._open(live, now)
        if live.receiver is not None and live.session.is_expired(now):
            self._look(live.receiver, now)
            self._read(live.receiver, LAST_LOOK)
        live.session.tick(now)
        self._settle(live)

    def _settle(self, live: Live) -> None:
        """Send what it wants sent, say what changed, and have it called when it is due."""
        for data in live.session.take_output():
            self._send(live, data)
        one = live.session
        is_quiet = one.state is State.UP and one.remote_state is State.UP
        if live.is_quiet != is_quiet and live.receiver is not None:
            live.is_quiet = is_quiet
            live.receiver.follow_quiet()
        if live.shown[:1] != (one.state,):
            live.since = time.time()
        shown = (
            one.state,
            one.remote_state,
            one.diagnostic,
            one.transmit_interval_us,
            one.detection_time_us,
            live.problem,
            live.desired.interval_us,
            live.desired.multiplier,
        )
        if live.shown != shown:
            live.shown = shown
            self._changed(live)
        self._queue_up(live)

    def _queue_up(self, live: Live) -> None:
        due = live.deadline()
        if due < live.due or live.due == _NEVER:
            live.due = due
            self._number += 1
            heapq.heappush(self._queue, (due, self._number, live))

    def _send(self, live: Live, data: bytes) -> None:
        if live.sender is None:
            return
        try:
            live.sender.send(data)
            live.problem = ""
        except OSError as error:
            self._not_sent(live, error)

    def _not_sent(self, live: Live, error: OSError) -> None:
        """A packet could not be sent. Sockets of an interface that is gone, or is another one now, are opened anew."""
        now = self._clock()
        if error.errno in _USUAL_ERRORS or now < live.retry_at:
            return
        assert live.receiver is not None
        self._fail(live, now, error)
        try:
            is_same = sockets.index_of(live.desired.interface) == live.receiver.key[2]
        except OSError:
            is_same = False
        if not is_same:
            self._close(live)

    def _random(self) -> float:
        """One number for all packets that are planned at one time."""
        return self._jitter

    def end_all(self) -> None:
        """Tell all peers that this end is AdminDown, each time again: the process is about to end."""
        now = self._clock()
        for live in list(self._by_key.values()):
            live.session.disable(now)
            for data in live.session.take_output():
                self._send(live, data)


def _random_numbers() -> Iterator[float]:
    """From 0 to 1, without end; the kernel is asked for many at a time."""
    while True:
        for number in os.urandom(256):
            yield number / 0xFF


def _problem(error: OSError, interface: str) -> str:
    where = f" on {interface}" if interface else ""
    match error.errno:
        case errno.EADDRINUSE:
            return f"UDP port {sockets.PORT}{where} is in use: does another BFD program run on this host?"
        case errno.EADDRNOTAVAIL:
            return f"the local address is not there{where}"
        case errno.ENODEV | errno.ENXIO:
            return f"there is no interface {interface}"
        case errno.EPERM:
            return f"packets are not let out{where}: does a firewall drop UDP port {sockets.PORT}?"
    return f"{error.strerror or error}{where}"
