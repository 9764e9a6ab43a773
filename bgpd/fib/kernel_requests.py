"""Single requests to the kernel, each acknowledged or refused in its words, and dumps: for what is done seldom.

Decides nothing. One socket, opened in the namespace that `start` is called in; the kernel's own echo of the changes is
to be ignored by the monitor (`port`).
"""

from __future__ import annotations

import asyncio
import errno
import threading

from bgpd.fib.netlink import DumpInterrupted, KernelError, MessageKind, dump, messages, open_socket, port_of, read_error

_TRIES = 20
_RECEIVE_BYTES = 4 << 20


class KernelRequests:
    """Requests that are answered one by one, in a worker thread."""

    def start(self) -> None:
        """Open the socket."""
        self._socket = open_socket(receive_bytes=_RECEIVE_BYTES)
        self._socket.settimeout(30)
        self._lock = threading.Lock()
        self.port = port_of(self._socket)

    def stop(self) -> None:
        """Close the socket."""
        self._socket.close()

    async def send(self, request: bytes) -> KernelError | None:
        """One message that asks for an acknowledgement; the kernel's refusal, or None."""
        return await asyncio.get_running_loop().run_in_executor(None, self._send, request)

    async def dump(self, request: bytes) -> list[bytes]:
        """The datagrams of one dump. Raises: OSError: the kernel refused, or what is dumped changed too often."""
        return await asyncio.get_running_loop().run_in_executor(None, self._dump, request)

    def _send(self, request: bytes) -> KernelError | None:
        with self._lock:
            self._socket.send(request)
            while True:
                data = self._socket.recv(1 << 16)
                for kind, flags, _sequence, start, end in messages(data):
                    if kind == MessageKind.ERROR:
                        return read_error(data, start, end, flags)

    def _dump(self, request: bytes) -> list[bytes]:
        with self._lock:
            for _ in range(_TRIES):
                try:
                    return list(dump(self._socket, request))
                except DumpInterrupted:
                    continue
        raise OSError(errno.EBUSY, f"what was asked for changed during each of {_TRIES} dumps")
