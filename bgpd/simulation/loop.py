"""An event loop whose time passes only when nothing is left to do: a minute of a fabric takes what its work takes.

It runs several simulated processes. Each has a loop of its own, as a process has, which hands on to the common one; one
that is killed never runs again: neither its tasks nor its timers. Sockets are those of `network.py`; work for threads
is done by the loop itself, a little later.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import random
import sys
from asyncio import events
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from bgpd.simulation.sockets import SimulatedSocket, Transport

FIRST_S = 1000.0
MOST_S = 3600.0
"""No scenario takes longer."""
LOOK_S = 2e-6
"""What each look at the clock takes, so that work that is bounded in time ends some day, ..."""
SLOW_LOOK_S = 0.003
"""... and what now and then one takes: a slice of work is at its end."""
_THREAD_S = 0.004


class _Waiting:
    """In place of a selector: what the loop would have waited for is added to its time."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[object]:
        if timeout is None:
            raise AssertionError("nothing is left that could happen")
        self._loop.now += max(timeout, 0.0)
        if self._loop.now > FIRST_S + MOST_S:
            raise AssertionError("a scenario does not end")
        return []

    def close(self) -> None:
        """Nothing is open."""


class VirtualLoop(asyncio.BaseEventLoop):
    """The common loop. `now` is its time in seconds, `errors` are exceptions that nobody has taken. `slow_looks`: the
    share of looks at the clock that take long."""

    def __init__(self, chance: random.Random, *, slow_looks: float = 0.01) -> None:
        super().__init__()
        self._slow_looks = slow_looks
        self.now = FIRST_S
        self.errors: list[str] = []
        self.chance = chance
        self._is_over = False
        self._selector = _Waiting(self)
        self.set_exception_handler(lambda _loop, context: self.note("the fabric", context))

    def time(self) -> float:
        self.now += SLOW_LOOK_S if self.chance.random() < self._slow_looks else LOOK_S
        return self.now

    def note(self, who: str, context: dict[str, Any]) -> None:
        """An exception that nobody has taken."""
        self.errors.append(f"{who}: {context.get('message')}: {context.get('exception')!r}")

    def abandon(self) -> None:
        """Drop all that would still run, and all that coroutines ask for while they are thrown away."""
        self._is_over = True
        self._ready.clear()
        self._scheduled.clear()

    def _check_closed(self) -> None:
        if not self._is_over:
            super()._check_closed()

    def _process_events(self, event_list: list[object]) -> None:
        """There are none."""

    def _write_to_self(self) -> None:
        """It never sleeps."""


class Process(asyncio.AbstractEventLoop):
    """A simulated process, as the event loop that all of its parts see."""

    def __init__(self, name: str, loop: VirtualLoop) -> None:
        self.name = name
        self.is_alive = True
        self._loop = loop
        self._awaited: list[asyncio.Future[None]] = []

    def call(self, callback: Callable[..., object], *arguments: Any) -> None:
        """Run something as part of it, now, if it is alive."""
        if not self.is_alive:
            return
        before = events._get_running_loop()
        events._set_running_loop(self)
        try:
            callback(*arguments)
        finally:
            events._set_running_loop(before)

    def start(self, work: Coroutine[Any, Any, object]) -> asyncio.Future[None]:
        """Run a coroutine as part of it; the answer, of the common loop, is done with it or with the process."""
        done: asyncio.Future[None] = self._loop.create_future()
        self._awaited.append(done)

        def ended(task: asyncio.Task[object]) -> None:
            if done.done():
                return
            error = None if task.cancelled() else task.exception()
            if error is None:
                done.set_result(None)
            else:
                done.set_exception(error)

        self.create_task(work).add_done_callback(ended)
        return done

    def kill(self) -> None:
        """It ends here and now."""
        self.is_alive = False
        for done in self._awaited:
            if not done.done():
                done.set_result(None)

    # What asyncio wants of a loop

    def time(self) -> float:
        return self._loop.time()

    def call_soon(
        self, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        return self._loop.call_soon(self.call, callback, *args, context=context)

    call_soon_threadsafe = call_soon

    def call_later(
        self, delay: float, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        return self._loop.call_later(delay, self.call, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        return self._loop.call_at(when, self.call, callback, *args, context=context)

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(self, coro: Any, *, name: str | None = None, context: Any = None) -> asyncio.Task[Any]:
        return asyncio.Task(coro, loop=self, name=name, context=context)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if self.is_alive:
            self._loop.note(self.name, context)

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def run_in_executor(self, executor: object, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        done: asyncio.Future[Any] = self.create_future()

        def work() -> None:
            if done.done():
                return
            try:
                done.set_result(func(*args))
            except Exception as error:
                done.set_exception(error)

        self.call_later(self._loop.chance.uniform(0, _THREAD_S), work)
        return done

    # Sockets

    def add_reader(self, fd: Any, callback: Callable[..., object], *args: Any) -> None:
        fd.readable = lambda: callback(*args)

    def remove_reader(self, fd: Any) -> bool:
        fd.readable = None
        return True

    async def sock_connect(self, sock: Any, address: Any) -> None:
        await sock.connect(address)

    async def create_connection(self, protocol_factory: Any, *_: Any, sock: Any = None, **_options: Any) -> Any:
        return await self._connected(protocol_factory(), sock)

    async def connect_accepted_socket(self, protocol_factory: Any, sock: Any, **_options: Any) -> Any:
        return await self._connected(protocol_factory(), sock)

    async def _connected(self, protocol: Any, sock: SimulatedSocket) -> tuple[Transport, Any]:
        transport = Transport(sock, protocol)
        await asyncio.sleep(0)
        transport.begin()
        return transport, protocol


@contextlib.contextmanager
def simulated_time(chance: random.Random, *, slow_looks: float = 0.01) -> Iterator[VirtualLoop]:
    """A common loop, as the one of this thread, until all in it is thrown away."""
    loop = VirtualLoop(chance, slow_looks=slow_looks)
    gc.disable()  # what is left of a killed process must not run at a moment of its own
    gc.freeze()
    asyncio.set_event_loop(loop)
    try:
        yield loop
    finally:
        asyncio.set_event_loop(None)
        loop.abandon()
        loop.close()
        _collect()
        gc.enable()


def _collect() -> None:
    """Throw away what killed processes were about to do; that it was never done is no news."""
    hook, sys.unraisablehook = sys.unraisablehook, lambda _unraisable: None
    try:
        gc.collect()
    finally:
        sys.unraisablehook = hook
