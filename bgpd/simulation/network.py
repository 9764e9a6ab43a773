"""Links between simulated hosts, and TCP over them: bytes in order, retransmission, resets, user timeouts.

A link may be down, which both ends see, or lose all that goes one way, or some of what goes both ways, which nobody
sees. A flight of segments is sent again until the other end has it and has said so; nothing else of TCP matters here.
"""

from __future__ import annotations

import asyncio
import errno
import random
import socket
import zlib
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bgpd.simulation.kernel import Kernel
    from bgpd.simulation.loop import Process
    from bgpd.simulation.sockets import DiscoverySocket, SimulatedSocket

BGP_PORT = 179
RTO_S = 0.2
"""First retransmission (Linux: TCP_RTO_MIN), doubled each time."""
RTO_MOST_S = 3.0
"""Less than Linux has: sessions with a hold time of 9 s are over before."""
SYN_RTO_S = 1.0
Name = tuple[str, int] | tuple[str, int, int, int]
"""As getsockname has it."""
_HEADER, _UPDATE = 19, 2
"""Bytes of a BGP message before its body, and the type of one."""
_SOLICITATION = 133
_ADVERTISEMENT = bytes((134, 0, 0, 0, 64, 0, 0, 0)) + bytes(8)
"""RFC 4861 section 4.2, of lifetime 0."""
CLOSING_S = 20.0
"""How long a closed connection is kept whose end is not acknowledged."""
WINDOW = 1 << 17
"""Bytes that a reader may leave unread."""


class Port:
    """One end of a link: the interface of a node. `index` as the kernel numbers it, `address` packed IPv4, or the
    link-local one of an unnumbered link. `address6`: beside an IPv4 one, the next hop of IPv6 routes; b"": none.
    `carrier`: of a VLAN, the port that it is on, with which it shares its link; else the port itself."""

    def __init__(
        self,
        stack: Stack,
        index: int,
        name: str,
        address: bytes,
        *,
        address6: bytes = b"",
        carrier: Port | None = None,
    ) -> None:
        self.stack = stack
        self.index = index
        self.name = name
        self.address = address
        self.address6 = address6
        self.carrier = carrier or self
        self.link: Link | None = self.carrier.link if carrier is not None else None
        self.other: Port | None = None
        self.is_deaf = False
        """Nothing that is sent to it arrives."""

    @property
    def is_up(self) -> bool:
        """Whether its link has a carrier."""
        return self.link is not None and self.link.is_up

    def passes(self) -> bool:
        """Whether a packet that is sent here arrives at the other end."""
        other = self.other
        assert other is not None
        assert self.link is not None
        is_deaf = other.carrier.is_deaf
        return self.is_up and not is_deaf and other.stack.is_there and self.stack.is_there and self.link.spares()

    def add_vlan(self, index: int, name: str, address: bytes, *, other: tuple[int, str, bytes]) -> tuple[Port, Port]:
        """A VLAN on this link: its end here, and the one at the other end by that index, name and address."""
        assert self.other is not None
        here = Port(self.stack, index, name, address, carrier=self)
        there = Port(self.other.stack, other[0], other[1], other[2], carrier=self.other)
        here.other, there.other = there, here
        for port in (here, there):
            port.stack.ports.append(port)
        return here, there

    def send_bfd(self, data: bytes) -> None:
        """A packet of BFD, which arrives or does not."""
        if self.other is not None and self.link is not None and self.passes():
            stack = self.other.stack
            stack.loop.call_later(self.link.delay_s, stack.bfd_arrives, self.other, data)


class Link:
    """Two ports. `loss`: the share of flights that is lost, `torn`: of those that come in parts, `delay_s`: one way,
    `usual_delay_s`: as it was made."""

    def __init__(self, one: Port, two: Port, *, chance: random.Random, delay_s: float) -> None:
        self.ports = one, two
        self.is_up = True
        self.loss = 0.0
        self.torn = 0.0
        self.delay_s = self.usual_delay_s = delay_s
        self._chance = chance
        one.link = two.link = self
        one.other, two.other = two, one

    def spares(self) -> bool:
        """Whether this flight is not among the lost ones."""
        return not self.loss or self._chance.random() >= self.loss

    def tears(self, data: bytes | None) -> int:
        """How much of what a flight begins with arrives at first; 0: all of it, with the rest of the flight."""
        if not self.torn or not data or len(data) < 2 or self._chance.random() >= self.torn:
            return 0
        return self._chance.randrange(1, len(data))

    @property
    def is_whole(self) -> bool:
        """Whether packets pass both ways."""
        return self.is_up and not any(port.is_deaf for port in self.ports)

    def __str__(self) -> str:
        return f"{self.ports[0].stack.name}-{self.ports[1].stack.name}"


class Stack:
    """The TCP of one node. `is_there`: it answers; a node that is silently dead does not."""

    def __init__(self, name: str, loop: asyncio.AbstractEventLoop) -> None:
        self.name = name
        self.loop = loop
        self.is_there = True
        self.ports: list[Port] = []
        self.listening: dict[tuple[int, int, int], Callable[[End], None]] = {}
        """By socket family and port, and the index of the VRF device whose interfaces they come in by; 0: of none."""
        self.kernel: Kernel | None = None
        """What knows the node's interfaces; None: none of them is in a VRF."""
        self.ends: dict[End, None] = {}
        self.discovery: DiscoverySocket | None = None
        self.solicited: Callable[[Port], None] = lambda _port: None
        self.bfd_received: Callable[[Port, bytes], None] = lambda _port, _data: None
        self.descriptors: dict[int, SimulatedSocket] = {}
        self.digest = 0
        """Of all that was sent from here, and when."""
        self.updates = 0
        """How many UPDATEs were sent from here, ..."""
        self.updated_at = 0.0
        """... and when the last one."""
        self._next_port = 40_000

    def vrf_of(self, index: int) -> int:
        """The index of the VRF device that an interface is in; 0: of none."""
        return self.kernel.vrfs.device_of(index) if self.kernel is not None else 0

    def port_to(self, address: bytes, index: int = 0) -> Port | None:
        """The port whose link leads to an address: the one of this index, or one in the VRF device of this index; 0:
        one that is in none."""
        ports = [one for one in self.ports if one.other and address in (one.other.address, one.other.address6)]
        return next((port for port in ports if index in (self.vrf_of(port.index), port.index)), None)

    def advertise(self, port: Port) -> None:
        """Send a Router Advertisement; the other end may be listening."""
        other = port.other
        if other is not None and port.link is not None and port.passes():
            self.loop.call_later(port.link.delay_s, other.stack.heard, other, _ADVERTISEMENT, port.address)

    def bfd_arrives(self, port: Port, data: bytes) -> None:
        """A packet of BFD has come in; nobody listens on a dead node."""
        if self.is_there:
            self.bfd_received(port, data)

    def heard(self, port: Port, message: bytes, source: bytes) -> None:
        """A message of router discovery has come in."""
        if message[0] == _SOLICITATION:
            self.solicited(port)
        if self.discovery is not None:
            self.discovery.offer(port.index, message, source)

    def count(self, data: bytes, now: float) -> None:
        """Whole messages are sent from here (RFC 4271 section 4.1)."""
        at = 0
        while at + _HEADER <= len(data):
            if data[at + _HEADER - 1] == _UPDATE:
                self.updates += 1
                self.updated_at = now
            at += max(int.from_bytes(data[at + 16 : at + 18]), _HEADER)

    def ephemeral(self) -> int:
        """A port number that nothing has used yet."""
        self._next_port += 1
        return self._next_port

    async def dial(self, address: bytes, number: int, process: Process | None, index: int = 0) -> End:
        """Connect, by the interface or the VRF device of this index; 0: in no VRF.

        Raises: OSError: there is no way to it, or nobody listens.
        """
        port = self.port_to(address, index)
        if port is None or not port.is_up or port.other is None or port.link is None:
            raise OSError(errno.ENETUNREACH, "no way")
        pause_s = SYN_RTO_S
        while True:
            if port.passes():
                await asyncio.sleep(port.link.delay_s)
                if port.other.passes():
                    break
            if not port.is_up:
                raise OSError(errno.EHOSTUNREACH, "no carrier")
            await asyncio.sleep(pause_s)
            pause_s *= 2
        there = port.other.stack
        accept = there.listening.get((family_of(address), number, there.vrf_of(port.other.index)))
        if accept is None:
            raise OSError(errno.ECONNREFUSED, "refused")
        here, other = End(port, self.ephemeral(), process), End(port.other, number, None)
        here.peer, other.peer = other, here
        accept(other)
        try:
            await asyncio.sleep(port.link.delay_s)
        except asyncio.CancelledError:
            here.close(is_reset=True)
            raise
        return here

    def processes_ended(self, *, but: Iterable[SimulatedSocket] = ()) -> None:
        """The kernel closes the sockets of a process that is killed, `but` those that somebody else has, too."""
        kept = list(but)
        ends = [sock.end for sock in kept]
        self.discovery = None
        for door, offered in list(self.listening.items()):
            if not any(sock.offers(offered) for sock in kept):
                del self.listening[door]
        for end in list(self.ends):
            if end not in ends:
                end.close(is_reset=bool(end.unread))

    def crash(self) -> None:
        """The node has lost all that it knew; nobody is told."""
        self.listening.clear()
        self.discovery = None
        for end in list(self.ends):
            end.forget()


class End:
    """One end of a connection. `on_data`, `on_eof` and `on_lost` are its owner's, called by the owner's loop."""

    def __init__(self, port: Port, number: int, process: Process | None) -> None:
        self.port = port
        self.number = number
        self.process = process
        self.peer: End | None = None
        self.on_data: Callable[[bytes], None] | None = None
        self.on_eof: Callable[[], None] = lambda: None
        self.on_lost: Callable[[OSError | None], None] = lambda _error: None
        self.on_room: Callable[[], None] = lambda: None
        self.unread: deque[bytes] = deque()
        self.is_closed = False
        self.is_paused = False
        self.user_timeout_s = 0.0
        self.queued = 0
        self._loop = port.stack.loop
        self._waiting: deque[bytes | None] = deque()
        self._flight: list[bytes | None] = []
        self._there = 0
        """So much of the flight has arrived, and is not acknowledged."""
        self._flight_since = 0.0
        self._rto_s = RTO_S
        self._timer: asyncio.TimerHandle | None = None
        self._is_ended = False
        self._eof_came = False
        port.stack.ends[self] = None

    def _later(self, seconds: float, work: Callable[..., object], *arguments: object) -> asyncio.TimerHandle:
        return self._loop.call_later(seconds, work, *arguments)

    def _tell(self, work: Callable[..., object], *arguments: object) -> None:
        (self.process or self._loop).call_soon(work, *arguments)

    # What its owner does

    def send(self, data: bytes) -> None:
        """Bytes for the other end."""
        if not self.is_closed and not self._is_ended:
            stack, now = self.port.stack, self._loop.time()
            stack.count(data, now)
            stack.digest = zlib.crc32(data, stack.digest ^ int(now * 1e6) & 0xFFFFFFFF)
            self._waiting.append(data)
            self.queued += len(data)
            self._go_on()

    def end(self) -> None:
        """Nothing more will be sent."""
        if not self.is_closed and not self._is_ended:
            self._is_ended = True
            self._waiting.append(None)
            self._go_on()

    def close(self, *, is_reset: bool = False) -> None:
        """The owner is gone: what waits is still sent, with the end of it; or the other end is told by a reset."""
        if self.is_closed:
            return
        self.on_data, self.on_eof = None, lambda: None
        self.on_lost, self.on_room = (lambda _error: None), (lambda: None)
        if not is_reset:
            self.end()
            self.is_closed = True
            self.process = None
            self.user_timeout_s = CLOSING_S
            return
        self.forget()
        self._send_reset()

    def forget(self) -> None:
        """The end is no more, and nobody is told."""
        self.is_closed = True
        if self._timer is not None:
            self._timer.cancel()
        self._waiting.clear()
        self._flight.clear()
        self.port.stack.ends.pop(self, None)

    def pause(self, paused: bool) -> None:
        """Leave unread what comes, or read on."""
        self.is_paused = paused
        if not paused and (self.unread or self._eof_came):
            self._tell(self._read)

    # Sending

    def _go_on(self) -> None:
        if not self._flight and self._waiting and self._timer is None:
            self._flight, self._waiting = list(self._waiting), deque()
            self._there = 0
            self._flight_since, self._rto_s = self._loop.time(), RTO_S
            self._transmit()
        elif self._waiting and self._there and self.port.passes():
            # acknowledgements are lost, and TCP does not wait for them as long as there is room in its window
            self._flight += self._waiting
            self._waiting.clear()
            link = self.port.link
            assert link is not None
            self._later(link.delay_s, self._deliver)

    def _transmit(self) -> None:
        self._timer = None
        if not self._flight:
            return
        link = self.port.link
        assert link is not None
        if self.user_timeout_s and self._loop.time() - self._flight_since > self.user_timeout_s:
            self._lose(TimeoutError(errno.ETIMEDOUT, "timed out"))
            return
        if self.port.passes():
            self._timer = self._later(link.delay_s, self._arrive)
        else:
            self._again()

    def _again(self) -> None:
        self._timer = self._later(self._rto_s, self._transmit)
        self._rto_s = min(2 * self._rto_s, RTO_MOST_S)

    def _arrive(self) -> None:
        """The flight is at the other end, unless that is gone; its acknowledgement may be lost."""
        self._timer = None
        peer, other = self.peer, self.port.other
        if not self._flight or peer is None or other is None:
            return
        if peer not in peer.port.stack.ends:
            if other.passes():
                self._lose(ConnectionResetError(errno.ECONNRESET, "reset"))
            else:
                self._again()
            return
        if not self._deliver() or not other.passes():
            self._again()
            return
        self.queued -= sum(len(one) for one in self._flight if one is not None)
        has_ended = None in self._flight
        self._flight, self._there = [], 0
        if has_ended and self.is_closed:
            self.forget()
            return
        self._tell(self.on_room)
        self._go_on()

    def _deliver(self) -> bool:
        """Have the other end take what of the flight it has not; whether it has all."""
        peer, link, rest = self.peer, self.port.link, self._flight[self._there :]
        if not rest or peer is None or link is None or peer not in peer.port.stack.ends:
            return True
        if sum(map(len, peer.unread)) > WINDOW:
            return False
        first = rest[0]
        if first is not None and (size := link.tears(first)):
            peer._take([first[:size]])
            self._flight[self._there] = first[size:]
            self.queued -= size
            return False
        self._there = len(self._flight)
        peer._take(rest)
        return True

    def _lose(self, error: OSError) -> None:
        lost = self.on_lost
        self.forget()
        self._tell(lost, error)

    def _send_reset(self) -> None:
        peer, link = self.peer, self.port.link
        if peer is not None and link is not None and self.port.passes():
            self._later(link.delay_s, peer._reset)

    def _reset(self) -> None:
        if self in self.port.stack.ends:
            self._lose(ConnectionResetError(errno.ECONNRESET, "reset"))

    # Receiving

    @property
    def is_over(self) -> bool:
        """Whether nothing more comes: the peer has ended the connection, or it is lost."""
        return self._eof_came or self not in self.port.stack.ends

    def _take(self, flight: list[bytes | None]) -> None:
        if self.is_closed and any(one is not None for one in flight):
            self.forget()
            self._send_reset()
            return
        for one in flight:
            if one is None:
                self._eof_came = True
            else:
                self.unread.append(one)
        if not self.is_paused:
            self._tell(self._read)

    def _read(self) -> None:
        while self.unread and not self.is_paused and self.on_data is not None:
            self.on_data(self.unread.popleft())
        if self._eof_came and not self.unread and not self.is_paused and self.on_data is not None:
            self._eof_came = False
            self.on_eof()


def family_of(address: bytes) -> int:
    """The socket family of a packed address."""
    return int(socket.AF_INET if len(address) == 4 else socket.AF_INET6)
