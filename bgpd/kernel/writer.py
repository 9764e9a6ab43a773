"""One kernel socket and its thread: sends prepared batches in order, and brings each batch's errors to the event loop.

Decides nothing about routes. `send` on a netlink socket is synchronous and releases the GIL: when it returns, the
kernel has run every message of the batch and queued every error. A NLMSG_NOOP that asks for an acknowledgement ends
each batch: its ACK is the mark that all before it was parsed. The thread only sends, and the event loop reads the
answers, which are there by then: each call that releases the GIL may cost the thread a switch interval to get it back,
as long as the loop is busy with the next routes. An eventfd wakes the loop, which costs half of what asyncio's own
socket pair does. A steady stream of few messages the loop sends by itself.
"""

from __future__ import annotations

import asyncio
import os
import queue
import socket
import threading
from collections import deque
from collections.abc import Callable
from typing import Protocol

import msgspec

from bgpd.kernel.netlink import (
    KernelError,
    MessageFlag,
    MessageKind,
    message,
    messages,
    open_socket,
    port_of,
    read_error,
)
from bgpd.runtime.turns import soon

_SEND_BYTES = 8 << 20
_RECEIVE_BYTES = 16 << 20
"""An error costs 832 bytes of the receive buffer: room for twice the messages of any batch, so that none is lost."""
_READ_BYTES = 1 << 16
_TOGETHER = 3
"""Batches in one call, if as many wait."""
_DELIVER_S = 0.003
"""How long answers are delivered at once: what follows from one batch may take some milliseconds."""


class Outcome(msgspec.Struct, frozen=True):
    """What became of one batch: the kernel's errors; `lost`: why the fate of its messages is unknown ("" if
    known).
    """

    errors: list[KernelError]
    lost: str = ""


Done = Callable[[Outcome], None]


class Writer(Protocol):
    """Sends batches: KernelWriter, or a scripted kernel in tests."""

    outstanding: int

    def submit(self, data: bytes, done: Done) -> None:
        """Queue one batch of whole netlink messages; `done` is called in the event loop."""

    def submit_now(self, data: bytes, done: Done) -> None:
        """The same for a few cheap messages that are not to wait for a thread to wake: sent now if nothing waits."""


class KernelWriter:
    """A thread that owns one netlink socket. `outstanding` counts batches whose `done` has not run yet."""

    def __init__(self, name: str) -> None:
        self.outstanding = 0
        self.batches = 0
        self.port = 0
        self._name = name
        self._jobs: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._unanswered: deque[tuple[int, Done]] = deque()
        self._sent_whys: deque[str] = deque()
        """Of each batch that was sent, in order, why the kernel did not run it ("" if it did); the thread appends."""
        self._is_delivering = False

    def start(self) -> None:
        """Open the socket in the caller's network namespace and start the thread. Call in the event loop."""
        self._loop = asyncio.get_running_loop()
        self._socket = open_socket(send_bytes=_SEND_BYTES, receive_bytes=_RECEIVE_BYTES)
        self.port = port_of(self._socket)
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._loop.add_reader(self._wake, self._woken)
        self._thread = threading.Thread(target=self._run, name=f"fib-{self._name}", daemon=True)
        self._thread.start()

    def submit(self, data: bytes, done: Done) -> None:
        """Queue one batch of whole netlink messages; `done` is called in the event loop."""
        self._jobs.put(self._marked(data, done))

    def submit_now(self, data: bytes, done: Done) -> None:
        """The same for a few cheap messages that are not to wait for a thread to wake: sent now if nothing waits."""
        if self.outstanding:
            self.submit(data, done)
            return
        self._sent_whys.append(self._send([self._marked(data, done)]))
        if not self._is_delivering:
            self._is_delivering = True
            soon(self._deliver)

    def _marked(self, data: bytes, done: Done) -> bytes:
        """The batch with its marker; it is outstanding from now on."""
        self.outstanding += 1
        self.batches += 1
        sequence = self.batches & 0xFFFFFFFF
        self._unanswered.append((sequence, done))
        return data + message(MessageKind.NOOP, MessageFlag.REQUEST | MessageFlag.ACK, b"", sequence=sequence)

    async def stop(self) -> None:
        """End the thread after what is queued; results are still delivered."""
        self._jobs.put(None)
        await self._loop.run_in_executor(None, self._thread.join)
        while self._sent_whys:
            self._deliver()
        self._loop.remove_reader(self._wake)
        os.close(self._wake)
        self._socket.close()

    def _run(self) -> None:
        ended = False
        while not ended:
            jobs = [self._jobs.get()]
            while len(jobs) < _TOGETHER and not self._jobs.empty():
                jobs.append(self._jobs.get())
            ended = None in jobs
            batches = [job for job in jobs if job is not None]
            why = self._send(batches)
            self._sent_whys.extend([why] * len(batches))
            os.eventfd_write(self._wake, 1)

    def _send(self, batches: list[bytes]) -> str:
        """Have the kernel run the batches; why it did not, or ""."""
        try:
            self._socket.sendmsg(batches)
        except OSError as error:
            return str(error)
        return ""

    def _woken(self) -> None:
        """Batches were sent."""
        os.eventfd_read(self._wake)
        if not self._is_delivering:
            self._deliver()

    def _deliver_soon(self) -> None:
        if not self._is_delivering:
            self._is_delivering = True
            self._loop.call_soon(self._deliver)

    def _deliver(self) -> None:
        """Say what became of batches, in order; of many, the rest in the loop's next turn."""
        self._is_delivering = False
        end = self._loop.time() + _DELIVER_S
        try:
            while self._sent_whys:
                why = self._sent_whys.popleft()
                sequence, done = self._unanswered.popleft()
                outcome = Outcome([], lost=why) if why else self._read_answer(sequence)
                self.outstanding -= 1
                done(outcome)
                if self._loop.time() >= end:
                    break
        finally:
            if self._sent_whys:
                self._deliver_soon()

    def _read_answer(self, sequence: int) -> Outcome:
        """A batch's errors, up to the acknowledgement of its marker."""
        errors: list[KernelError] = []
        try:
            while True:
                reply = self._socket.recv(_READ_BYTES, socket.MSG_DONTWAIT)
                for kind, flags, answered, start, end in messages(reply):
                    if kind != MessageKind.ERROR:
                        continue
                    error = read_error(reply, start, end, flags)
                    if error is not None:
                        errors.append(error)
                    elif answered == sequence:
                        return Outcome(errors)
        except OSError as error:
            return Outcome(errors, lost=str(error))
