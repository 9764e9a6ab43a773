"""The listening sockets of one port: connections are accepted some at a time, and refused before a byte is read where
there are too many (admission.py).

Knows no neighbor: an accepted connection goes to the owner of the socket. A socket that cannot be opened is reported
and retried.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import struct
from collections.abc import Callable
from functools import partial

from bgpd.model.prefix import socket_family
from bgpd.runtime.events import log
from bgpd.runtime.memory import connection_came
from bgpd.speaker.admission import Admission
from bgpd.speaker.authentication import Authentication, saved_keys, set_for_listening
from bgpd.speaker.saved import SavedKeys
from bgpd.speaker.socket_options import (
    TCP_SAVE_SYN,
    arrival_index,
    bind_to_device,
    is_bound_to_nothing,
    set_common,
)
from bgpd.speaker.transport import Endpoint, NewSocket, Wire

BACKLOG = 256
ACCEPTS = 32
"""Connections that are accepted at one turn of the loop."""
PAUSE_S = 1.0
"""Pause in accepting when no descriptor is left."""


class Listener:
    """The listening sockets of one port, one per IP version. `accept` is called with each new connection.

    `device`: a VRF device, to accept what comes in there; the main table's sockets do not. `inherited` are sockets that
    another process has opened so, by family, and `left` what they want signed.
    """

    def __init__(
        self,
        port: int,
        accept: Callable[[Wire], None],
        *,
        admission: Admission,
        device: str = "",
        new_socket: NewSocket = socket.socket,
    ) -> None:
        self.port = port
        self._device = device
        self.error = ""
        self._accept = accept
        self._admission = admission
        self._new_socket = new_socket
        self.inherited: dict[int, socket.socket] = {}
        self.left: dict[tuple[bytes, int], Authentication] = {}
        self._sockets: dict[socket.AddressFamily, socket.socket] = {}
        self._signed: dict[tuple[bytes, int], Authentication] = {}
        self._pauses: dict[socket.socket, asyncio.TimerHandle] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def open(self) -> bool:
        """Open what is not open yet, in a running loop; whether all is. `error` says why not."""
        self.error = ""
        self._admission.reserve.fill()
        for family in (socket.AF_INET, socket.AF_INET6):
            if family in self._sockets:
                continue
            try:
                sock = self.inherited.pop(family, None) or self._listening_socket(family)
            except OSError as error:
                if error.errno != errno.EAFNOSUPPORT:
                    self.error = _listen_error_text(error, family, self.port)
                continue
            self._sockets[family] = sock
            self._listen(sock)
        return not self.error

    def _listening_socket(self, family: socket.AddressFamily) -> socket.socket:
        sock = self._new_socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            set_common(sock)
            sock.setsockopt(socket.IPPROTO_TCP, TCP_SAVE_SYN, 1)
            if self._device:
                bind_to_device(sock, self._device)
            sock.bind(("", self.port))
            sock.listen(BACKLOG)
        except BaseException:
            sock.close()
            raise
        return sock

    @property
    def sockets(self) -> list[socket.socket]:
        """Those that are open."""
        return list(self._sockets.values())

    @property
    def is_deaf(self) -> bool:
        """Whether the device went, so that nobody can connect: made anew, it takes new sockets."""
        return bool(self._device) and any(map(is_bound_to_nothing, self._sockets.values()))

    def _listen(self, sock: socket.socket) -> None:
        self._pauses.pop(sock, None)
        asyncio.get_running_loop().add_reader(sock, self._take_waiting, sock)

    def _take_waiting(self, sock: socket.socket) -> None:
        """Accept what waits, a few connections at a turn; what is not admitted is closed before the next is taken."""
        for _ in range(ACCEPTS):
            try:
                connection, name = sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except (OSError, MemoryError) as error:
                self._pause(sock, error)
                return
            origin, interface = (self._device, Endpoint.of(name)), arrival_index(connection)
            connection_came()
            if self._admission.admit(origin, interface):
                self._take(connection, partial(self._admission.closed, origin, interface))
            else:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                connection.close()

    def _pause(self, sock: socket.socket, error: OSError | MemoryError) -> None:
        """No descriptor is left, or no memory: close waiting connections, and accept no more for a moment."""
        self._admission.shortage.note(error)
        for _ in range(ACCEPTS):
            if not self._admission.reserve.shed(sock):
                break
        loop = asyncio.get_running_loop()
        loop.remove_reader(sock)
        self._pauses[sock] = loop.call_later(PAUSE_S, self._listen, sock)

    def _take(self, connection: socket.socket, gone: Callable[[], None]) -> None:
        connection.setblocking(False)
        task = asyncio.get_running_loop().create_task(self._make_wire(connection, gone))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _make_wire(self, connection: socket.socket, gone: Callable[[], None]) -> None:
        wire = Wire(self._accept, gone=gone)
        try:
            await asyncio.get_running_loop().connect_accepted_socket(lambda: wire, connection)
        except Exception as error:
            if isinstance(error, OSError | MemoryError):
                self._admission.shortage.note(error)
            else:
                log.error("connection.defect", error=repr(error), exc_info=error)
            connection.close()
            gone()

    def authenticate(self, address: bytes, prefix_length: int, wanted: Authentication | None) -> None:
        """Want signed segments from a peer or range; None ends that.

        Raises: OSError: the kernel lacks TCP MD5, TCP-AO or the algorithm.
        """
        sock = self._sockets.get(socket_family(address))
        if sock is None:
            return
        left = self.left.pop((address, prefix_length), None)
        former = self._signed.pop((address, prefix_length), left)
        set_for_listening(sock, address, prefix_length, wanted, former=former)
        if wanted is not None:
            self._signed[address, prefix_length] = wanted

    def saved_keys(self, family: int) -> list[SavedKeys]:
        """What the socket of an IP version wants signed, for another process."""
        return [saved_keys(*who, keys) for who, keys in self._signed.items() if socket_family(who[0]) == family]

    def forget_left(self) -> None:
        """All is signed that is wanted: what another process wanted beside that is wanted no more."""
        for address, prefix_length in list(self.left):
            with contextlib.suppress(OSError):
                self.authenticate(address, prefix_length, None)
        self.left.clear()

    def close(self) -> None:
        """Stop accepting."""
        for pause in self._pauses.values():
            pause.cancel()
        for sock in self._sockets.values():
            asyncio.get_running_loop().remove_reader(sock)
            sock.close()
        for sock in self.inherited.values():
            sock.close()
        self._pauses.clear()
        self._sockets.clear()
        self.inherited.clear()
        self.left.clear()
        self._signed.clear()


def _listen_error_text(error: OSError, family: socket.AddressFamily, port: int) -> str:
    where = f"0.0.0.0:{port}" if family == socket.AF_INET else f"[::]:{port}"
    match error.errno:
        case errno.EADDRINUSE:
            return f"cannot listen on {where}: another program has the port; neighbors are still dialed"
        case errno.EACCES:
            return f"cannot listen on {where}: CAP_NET_BIND_SERVICE is missing; neighbors are still dialed"
        case _:
            return f"cannot listen on {where}: {error.strerror}; neighbors are still dialed"
