"""What bgpd uses of `socket.socket` and `asyncio.Transport`, for simulated processes."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import struct
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from bgpd.simulation.network import End, Name, Stack, family_of

if TYPE_CHECKING:
    from bgpd.simulation.loop import Process

BUFFERED = 1 << 16
"""Bytes that wait in the kernel, before any wait in the process."""


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
        self._device = 0
        self._user_timeout_s = 0.0

    def setblocking(self, _flag: bool) -> None:
        """It never blocks."""

    def setsockopt(self, level: int, option: int, value: object = 0, _length: int = 0) -> None:
        """TCP_USER_TIMEOUT and SO_BINDTODEVICE count; all else is taken and changes nothing.

        Raises: OSError: there is no such device.
        """
        kernel = self._stack.kernel
        if (level, option) == (socket.SOL_SOCKET, socket.SO_BINDTODEVICE) and kernel is not None:
            assert isinstance(value, bytes)
            name = value.rstrip(b"\0").decode()
            self._device = next((one.index for one in kernel.links.values() if one.name == name), 0)
            if not self._device:
                raise OSError(errno.ENODEV, name)
        if level == socket.IPPROTO_TCP and option == socket.TCP_USER_TIMEOUT and isinstance(value, int):
            self._user_timeout_s = value / 1000
            if self.end is not None:
                self.end.user_timeout_s = self._user_timeout_s

    def getsockopt(self, _level: int, option: int, length: int = 0) -> bytes | int:
        """Nothing is set. Raises: OSError: TCP_INFO, which is not simulated; the device that it is bound to is gone."""
        if option == socket.TCP_INFO:
            raise OSError(errno.ENOPROTOOPT, "not simulated")
        kernel = self._stack.kernel
        if option == socket.SO_BINDTODEVICE and kernel is not None and self._device not in (0, *kernel.links):
            raise OSError(errno.ENODEV, "the device is gone")
        return b"" if length else 0

    def bind(self, address: tuple[str, int]) -> None:
        """Have a port; the address does not count."""
        self._port = address[1]

    def listen(self, _backlog: int) -> None:
        """Have connections to the port offered."""
        self._stack.listening[self.family, self._port, self._device] = self._offered

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
        """A connection that was offered, and by whom. Raises: BlockingIOError: there is none."""
        if not self._accepted:
            raise BlockingIOError
        made = SimulatedSocket(self._stack, self._process, self.family)
        made.end = self._accepted.popleft()
        return made, made.getpeername()

    async def connect(self, address: Name) -> None:
        """Connect. Raises: OSError: there is no way to it, or nobody listens."""
        packed = socket.inet_pton(self.family, address[0])
        index = self._device or (address[3] if len(address) == 4 else 0)
        self.end = await self._stack.dial(packed, address[1], self._process, index)

    def getsockname(self) -> Name:
        """Its own address and port. Raises: OSError: it is not connected."""
        end = self.end
        if end is None:
            raise OSError(errno.ENOTCONN, "not connected")
        return _name(end.port.address, end.number, end.port.index)

    def getpeername(self) -> Name:
        """The other end's address and port. Raises: OSError: it is not connected."""
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

    def recv(self, _size: int, flags: int = 0) -> bytes:
        """What came and was not read, also of a connection that is lost. Raises: BlockingIOError: nothing is unread."""
        if self.end is None or not self.end.unread:
            if self.end is not None and not self.end.is_over:
                raise BlockingIOError
            return b""
        return self.end.unread[0] if flags & socket.MSG_PEEK else self.end.unread.popleft()

    def close(self) -> None:
        """End the connection, or listen no more and reset what nobody has accepted."""
        door = (self.family, self._port, self._device)
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
        """Send over the link of the interface with the index in `address`."""
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
        """The oldest message, with its interface and hop limit. Raises: BlockingIOError: there is none."""
        if not self._waiting:
            raise BlockingIOError
        index, message, source = self._waiting.popleft()
        ancillary = [
            (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, struct.pack("=16sI", b"", index)),
            (socket.IPPROTO_IPV6, socket.IPV6_HOPLIMIT, struct.pack("=i", 255)),
        ]
        return message, ancillary, 0, _name(source, 0, index)

    def close(self) -> None:
        """Hear nothing any more."""
        if self._stack.discovery is self:
            self._stack.discovery = None


def new_socket(stack: Stack, process: Process) -> Callable[..., Any]:
    """What makes the sockets of a process."""

    def make(family: int, kind: int, protocol: int = 0) -> Any:
        if protocol == socket.IPPROTO_ICMPV6:
            return DiscoverySocket(stack, process)
        return SimulatedSocket(stack, process, family)

    return make


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
