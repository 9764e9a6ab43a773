"""Links between simulated hosts, and TCP over them: bytes in order, retransmission, resets, user timeouts.

A link may be down, which both ends see, or lose all that goes one way, or some of what goes both ways, which nobody
sees. A flight of segments is sent again until the other end has it and has said so; nothing else of TCP matters here.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import random
import socket
import struct
import zlib
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.simulation.loop import Process

BGP_PORT = 179
RTO_S = 0.2
"""First retransmission (Linux: TCP_RTO_MIN), doubled each time."""
RTO_MOST_S = 3.0
"""Less than Linux has: sessions with a hold time of 9 s are over before."""
SYN_RTO_S = 1.0
Name = tuple[str, int] | tuple[str, int, int, int]
"""As getsockname has it."""
_SOLICITATION = 133
_ADVERTISEMENT = bytes((134, 0, 0, 0, 64, 0, 0, 0)) + bytes(8)
"""RFC 4861 section 4.2, of lifetime 0."""
CLOSING_S = 20.0
"""How long a closed connection is kept whose end is not acknowledged."""
WINDOW = 1 << 17
"""Bytes that a reader may leave unread."""
BUFFERED = 1 << 16
"""Bytes that wait in the kernel, before any wait in the process."""


class Port:
    """One end of a link: the interface of a node. `index` as the kernel numbers it, `address` packed IPv4, or the
    link-local one of an unnumbered link."""

    def __init__(self, stack: Stack, index: int, name: str, address: bytes) -> None:
        self.stack = stack
        self.index = index
        self.name = name
        self.address = address
        self.link: Link | None = None
        self.other: Port | None = None
        self.is_deaf = False
        """Nothing that is sent to it arrives."""

    @property
    def is_up(self) -> bool:
        return self.link is not None and self.link.is_up

    def passes(self) -> bool:
        """Whether a packet that is sent here arrives at the other end."""
        other = self.other
        assert other is not None
        assert self.link is not None
        return self.is_up and not other.is_deaf and other.stack.is_there and self.stack.is_there and self.link.spares()


class Link:
    """Two ports. `loss`: the share of flights that is lost, `delay_s`: one way."""

    def __init__(self, one: Port, two: Port, *, chance: random.Random, delay_s: float) -> None:
        self.ports = one, two
        self.is_up = True
        self.loss = 0.0
        self.delay_s = delay_s
        self._chance = chance
        one.link = two.link = self
        one.other, two.other = two, one

    def spares(self) -> bool:
        """Whether this flight is not among the lost ones."""
        return not self.loss or self._chance.random() >= self.loss

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
        self.listening: dict[tuple[int, int], Callable[[End], None]] = {}
        """By socket family and port."""
        self.ends: dict[End, None] = {}
        self.discovery: DiscoverySocket | None = None
        self.solicited: Callable[[Port], None] = lambda _port: None
        self.descriptors: dict[int, SimulatedSocket] = {}
        self.digest = 0
        """Of all that was sent from here, and when."""
        self._next_port = 40_000

    def port_to(self, address: bytes, index: int = 0) -> Port | None:
        """The port whose link leads to an address, or if that is link-local the one of this index."""
        ports = [port for port in self.ports if port.other is not None and port.other.address == address]
        return next((port for port in ports if index in (0, port.index)), None)

    def advertise(self, port: Port) -> None:
        """Send a Router Advertisement; the other end may be listening."""
        other = port.other
        if other is not None and port.link is not None and port.passes():
            self.loop.call_later(port.link.delay_s, other.stack.heard, other, _ADVERTISEMENT, port.address)

    def heard(self, port: Port, message: bytes, source: bytes) -> None:
        """A message of router discovery has come in."""
        if message[0] == _SOLICITATION:
            self.solicited(port)
        if self.discovery is not None:
            self.discovery.offer(port.index, message, source)

    def ephemeral(self) -> int:
        self._next_port += 1
        return self._next_port

    async def dial(self, address: bytes, number: int, process: Process | None, index: int = 0) -> End:
        """Connect. Raises: OSError: there is no way to it, or nobody listens."""
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
        accept = there.listening.get((family_of(address), number))
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
        self._flight_is_there = False
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
            stack = self.port.stack
            stack.digest = zlib.crc32(data, stack.digest ^ int(self._loop.time() * 1e6) & 0xFFFFFFFF)
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
            self._flight_is_there = False
            self._flight_since, self._rto_s = self._loop.time(), RTO_S
            self._transmit()

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
        if not self._flight_is_there:
            if sum(map(len, peer.unread)) > WINDOW:
                self._again()
                return
            self._flight_is_there = True
            peer._take(list(self._flight))
        if not other.passes():
            self._again()
            return
        self.queued -= sum(len(one) for one in self._flight if one is not None)
        has_ended = None in self._flight
        self._flight = []
        if has_ended and self.is_closed:
            self.forget()
            return
        self._tell(self.on_room)
        self._go_on()

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


class SimulatedSocket:
    """What a process has of a connection, or of a port that it listens on: the part of `socket.socket` that bgpd uses.

    `readable` is called when a connection can be accepted.
    """

    def __init__(self, stack: Stack, process: Process, family: int) -> None:
        self.family = family
        self.end: End | None = None
        self.readable: Callable[[], None] | None = None
        self._stack = stack
        self._process = process
        self._accepted: deque[End] = deque()
        self._port = 0
        self._user_timeout_s = 0.0

    def setblocking(self, _flag: bool) -> None:
        """It never blocks."""

    def setsockopt(self, level: int, option: int, value: object = 0, _length: int = 0) -> None:
        if level == socket.IPPROTO_TCP and option == socket.TCP_USER_TIMEOUT and isinstance(value, int):
            self._user_timeout_s = value / 1000
            if self.end is not None:
                self.end.user_timeout_s = self._user_timeout_s

    def getsockopt(self, _level: int, option: int, length: int = 0) -> bytes | int:
        if option == socket.TCP_INFO:
            raise OSError(errno.ENOPROTOOPT, "not simulated")
        return b"" if length else 0

    def bind(self, address: tuple[str, int]) -> None:
        self._port = address[1]

    def listen(self, _backlog: int) -> None:
        self._stack.listening[self.family, self._port] = self._offered

    def _offered(self, end: End) -> None:
        end.process = self._process
        self._accepted.append(end)
        if self.readable is not None:
            self._process.call_soon(self._now_readable)

    def offers(self, accept: Callable[[End], None]) -> bool:
        """Whether it is this socket that connections are offered to so."""
        return accept == self._offered

    def _now_readable(self) -> None:
        if self.readable is not None:
            self.readable()

    def accept(self) -> tuple[SimulatedSocket, Name]:
        if not self._accepted:
            raise BlockingIOError
        made = SimulatedSocket(self._stack, self._process, self.family)
        made.end = self._accepted.popleft()
        return made, made.getpeername()

    async def connect(self, address: Name) -> None:
        packed = socket.inet_pton(self.family, address[0])
        index = address[3] if len(address) == 4 else 0
        self.end = await self._stack.dial(packed, address[1], self._process, index)

    def getsockname(self) -> Name:
        end = self.end
        if end is None:
            raise OSError(errno.ENOTCONN, "not connected")
        return _name(end.port.address, end.number, end.port.index)

    def getpeername(self) -> Name:
        end = self._known()
        assert end.peer is not None
        return _name(end.peer.port.address, end.peer.number, end.port.index)

    def _known(self) -> End:
        if self.end is None or self.end.is_closed:
            raise OSError(errno.ENOTCONN, "not connected")
        return self.end

    def dup(self) -> contextlib.AbstractContextManager[SimulatedSocket]:
        """Another descriptor of it, to be closed after use."""
        return contextlib.nullcontext(self)

    def recv(self, _size: int) -> bytes:
        """What came and was not read, also of a connection that is lost."""
        return self.end.unread.popleft() if self.end is not None and self.end.unread else b""

    def close(self) -> None:
        door = (self.family, self._port)
        if self._stack.listening.get(door) == self._offered:
            del self._stack.listening[door]
        for end in self._accepted:
            end.close(is_reset=True)
        if self.end is not None:
            self.end.close()

    def fileno(self) -> int:
        """A number by which another process finds it (`Stack.descriptors`)."""
        number = next((one for one, sock in self._stack.descriptors.items() if sock is self), 0)
        if not number:
            number = len(self._stack.descriptors) + 1
            self._stack.descriptors[number] = self
        return number

    def leave(self) -> None:
        """The process ends, and the socket stays: what comes waits in the kernel."""
        self.readable = None
        if self.end is not None:
            self.end.pause(True)
            self.end.on_data, self.end.on_eof = None, lambda: None
            self.end.on_lost, self.end.on_room = (lambda _error: None), (lambda: None)
            self.end.process = None

    def pass_to(self, process: Process) -> None:
        """Another process has it now."""
        self._process = process
        for end in filter(None, (self.end, *self._accepted)):
            end.process = process


class DiscoverySocket:
    """A raw ICMPv6 socket, as router discovery uses it."""

    def __init__(self, stack: Stack, process: Process) -> None:
        self.readable: Callable[[], None] | None = None
        self._stack = stack
        self._process = process
        self._waiting: deque[tuple[int, bytes, bytes]] = deque()
        stack.discovery = self

    def setsockopt(self, *_arguments: object) -> None:
        """Filters and groups make no difference here."""

    def sendmsg(
        self, buffers: list[bytes], _ancillary: object, _flags: int, address: tuple[str, int, int, int]
    ) -> None:
        port = next((one for one in self._stack.ports if one.index == address[3]), None)
        if port is not None and port.other is not None and port.link is not None and port.passes():
            other, message = port.other, b"".join(buffers)
            self._stack.loop.call_later(port.link.delay_s, other.stack.heard, other, message, port.address)

    def offer(self, index: int, message: bytes, source: bytes) -> None:
        """A message has come in by the interface of this index."""
        self._waiting.append((index, message, source))
        self._process.call_soon(self._now_readable)

    def _now_readable(self) -> None:
        if self.readable is not None and self._waiting:
            self.readable()

    def recvmsg(self, _size: int, _ancillary: int) -> tuple[bytes, list[tuple[int, int, bytes]], int, Name]:
        if not self._waiting:
            raise BlockingIOError
        index, message, source = self._waiting.popleft()
        ancillary = [
            (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, struct.pack("=16sI", b"", index)),
            (socket.IPPROTO_IPV6, socket.IPV6_HOPLIMIT, struct.pack("=i", 255)),
        ]
        return message, ancillary, 0, _name(source, 0, index)

    def close(self) -> None:
        if self._stack.discovery is self:
            self._stack.discovery = None


def new_socket(stack: Stack, process: Process) -> Callable[..., Any]:
    """What makes the sockets of a process."""

    def make(family: int, kind: int, protocol: int = 0) -> Any:
        if protocol == socket.IPPROTO_ICMPV6:
            return DiscoverySocket(stack, process)
        return SimulatedSocket(stack, process, family)

    return make


def family_of(address: bytes) -> int:
    """The socket family of a packed address."""
    return int(socket.AF_INET if len(address) == 4 else socket.AF_INET6)


def _name(address: bytes, number: int, index: int) -> Name:
    text = socket.inet_ntop(family_of(address), address)
    return (text, number) if len(address) == 4 else (text, number, 0, index)


class Transport(asyncio.Transport):
    """asyncio's side of a connection, for a BufferedProtocol."""

    def __init__(self, sock: SimulatedSocket, protocol: Any) -> None:
        super().__init__()
        self._sock = sock
        assert sock.end is not None
        self._end = sock.end
        self._protocol = protocol
        self._loop = asyncio.get_running_loop()
        self._high, self._low = 1 << 16, 1 << 14
        self._is_full = False
        self._is_closing = False
        self._is_lost = False
        self._is_paused = False

    def begin(self) -> None:
        """The protocol is told of the connection, then of what comes by it."""
        end = self._end
        self._protocol.connection_made(self)
        end.on_eof, end.on_lost, end.on_room = self._eof, self._lose, self._room
        end.on_data = self._data
        if end not in end.port.stack.ends:
            self._lose(ConnectionResetError(errno.ECONNRESET, "reset"))
        else:
            end.pause(self._is_paused)

    @property
    def _buffer(self) -> bytes:
        """As asyncio's own transport has it: what waits in the process."""
        return b""

    def _data(self, data: bytes) -> None:
        if self._is_lost:
            return
        buffer = memoryview(self._protocol.get_buffer(-1))
        chunk, rest = data[: len(buffer)], data[len(buffer) :]
        if rest:
            self._end.unread.appendleft(rest)
        buffer[: len(chunk)] = chunk
        self._protocol.buffer_updated(len(chunk))

    def _eof(self) -> None:
        if not self._protocol.eof_received():
            self.close()

    def _room(self) -> None:
        if self._is_full and self.get_write_buffer_size() <= self._low:
            self._is_full = False
            self._protocol.resume_writing()

    def _lose(self, error: OSError | None) -> None:
        self._is_closing = True
        if not self._is_lost:
            self._is_lost = True
            self._loop.call_soon(self._protocol.connection_lost, error)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._sock if name == "socket" else default

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._high, self._low = high or self._high, low or self._low

    def get_write_buffer_size(self) -> int:
        return max(0, self._end.queued - BUFFERED)

    def write(self, data: Any) -> None:
        self._end.send(bytes(data))
        if not self._is_full and self.get_write_buffer_size() > self._high:
            self._is_full = True
            self._protocol.pause_writing()

    def write_eof(self) -> None:
        self._end.end()

    def pause_reading(self) -> None:
        self._is_paused = True
        self._end.pause(True)

    def resume_reading(self) -> None:
        self._is_paused = False
        self._end.pause(False)

    def is_reading(self) -> bool:
        return not self._is_paused and not self._is_closing

    def is_closing(self) -> bool:
        return self._is_closing

    def close(self) -> None:
        self._end.close()
        self._lose(None)

    def abort(self) -> None:
        self._end.close(is_reset=bool(self._end.queued or self._end.unread))
        self._lose(None)
