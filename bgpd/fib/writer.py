"""One kernel socket and its thread: sends prepared batches in order, and tells each batch's errors to the event loop.

Decides nothing about routes. `send` on a netlink socket is synchronous and releases the GIL: when it returns, the
kernel has run every message of the batch and queued every error. A NLMSG_NOOP that asks for an acknowledgement ends
each batch: its ACK is the mark that all before it was parsed.
"""

from __future__ import annotations

import asyncio
import queue
import socket
import threading
from collections.abc import Callable
from typing import Protocol

import msgspec

from bgpd.fib.netlink import KernelError, MessageFlag, MessageKind, message, messages, open_socket, port_of, read_error

_SEND_BYTES = 8 << 20
_RECEIVE_BYTES = 16 << 20
"""An error costs 832 bytes of the receive buffer: room for twice the messages of any batch, so that none is lost."""
_READ_BYTES = 1 << 16
_MARKER_SEQUENCE = 0x62677064


class Outcome(msgspec.Struct, frozen=True):
    """What became of one batch: the kernel's errors; `lost` says why the fate of its messages is unknown ("" if
    known).
    """

    errors: list[KernelError]
    lost: str = ""


Done = Callable[[Outcome], None]


class Writer(Protocol):
    """What sends batches: KernelWriter, or a scripted kernel in tests."""

    outstanding: int

    def submit(self, data: bytes, done: Done) -> None:
        """Queue one batch of whole netlink messages; `done` is called in the event loop."""


class KernelWriter:
    """A thread that owns one netlink socket. `outstanding` counts batches whose `done` has not run yet."""

    def __init__(self, name: str) -> None:
        self.outstanding = 0
        self.batches = 0
        self.port = 0
        self._name = name
        self._jobs: queue.SimpleQueue[tuple[bytes, Done] | None] = queue.SimpleQueue()

    def start(self) -> None:
        """Open the socket in the caller's network namespace and start the thread. Call in the event loop."""
        self._loop = asyncio.get_running_loop()
        self._socket = open_socket(send_bytes=_SEND_BYTES, receive_bytes=_RECEIVE_BYTES)
        self.port = port_of(self._socket)
        self._thread = threading.Thread(target=self._run, name=f"fib-{self._name}", daemon=True)
        self._thread.start()

    def submit(self, data: bytes, done: Done) -> None:
        """Queue one batch of whole netlink messages; `done` is called in the event loop."""
        self.outstanding += 1
        self.batches += 1
        self._jobs.put((data, done))

    async def stop(self) -> None:
        """End the thread after what is queued; results are still delivered."""
        self._jobs.put(None)
        await self._loop.run_in_executor(None, self._thread.join)
        self._socket.close()

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            data, done = job
            outcome = _send(self._socket, data)
            try:
                self._loop.call_soon_threadsafe(self._deliver, done, outcome)
            except RuntimeError:
                return  # the loop is closed: nobody waits for results

    def _deliver(self, done: Done, outcome: Outcome) -> None:
        self.outstanding -= 1
        done(outcome)


_MARKER = message(MessageKind.NOOP, MessageFlag.REQUEST | MessageFlag.ACK, b"", sequence=_MARKER_SEQUENCE)


def _send(opened: socket.socket, data: bytes) -> Outcome:
    """Send one batch and read its errors up to the marker's acknowledgement."""
    errors: list[KernelError] = []
    try:
        opened.sendmsg((data, _MARKER))
        while True:
            reply = opened.recv(_READ_BYTES)
            for kind, flags, sequence, start, end in messages(reply):
                if kind != MessageKind.ERROR:
                    continue
                error = read_error(reply, start, end, flags)
                if error is not None:
                    errors.append(error)
                elif sequence == _MARKER_SEQUENCE:
                    return Outcome(errors)
    except OSError as error:
        return Outcome(errors, lost=str(error))
