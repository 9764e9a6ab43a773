"""An event loop whose time passes only when nothing is left to do: a minute of a fabric takes what its work takes.

It runs several simulated processes. Each has a loop of its own, as a process has, which hands on to the common one; one
that is killed never runs again: neither its tasks nor its timers. Sockets are those of `network.py`; work for threads
is done by the loop itself, a little later.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import fcntl
import gc
import heapq
import os
import random
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

from bgpd.simulation.sockets import SimulatedSocket, Transport

FIRST_S = 1000.0
MOST_S = 3600.0
"""No scenario of a seed takes longer."""
LOOK_S = 2e-6
"""What each look at the clock takes, so that work that is bounded in time ends some day, ..."""
SLOW_LOOK_S = 0.003
"""... and what now and then one takes: a slice of work is at its end."""
_RESOLUTION_S = 1e-9
"""Of the clock, as Linux has it: what is due so soon is due."""
_THREAD_S = 0.004
_MEMORY = "/dev/shm"  # noqa: S108 (a directory of its own is made in it)
_SCRATCH = "bgpd-simulated-"
_YOUNG_S = 60.0


class Handle:
    """What is to be run: as part of a process, or of none. `at`: the loop's time, of timers."""

    __slots__ = ("arguments", "at", "callback", "context", "process")

    def __init__(
        self,
        callback: Callable[..., object],
        arguments: tuple[Any, ...],
        process: Process | None,
        context: contextvars.Context | None,
        at: float = 0.0,
    ) -> None:
        self.callback: Callable[..., object] | None = callback
        self.arguments = arguments
        self.process = process
        self.context = context if context is not None else contextvars.copy_context()
        self.at = at

    def cancel(self) -> None:
        """It does not happen."""
        self.callback = None
        self.arguments = ()

    def cancelled(self) -> bool:
        """Whether it is not to be run any more."""
        return self.callback is None

    def when(self) -> float:
        """The loop's time at which it is run, in seconds."""
        return self.at


_Loop: Any = asyncio.AbstractEventLoop
"""Of which there is here what bgpd uses."""


class VirtualLoop(_Loop):  # type: ignore[misc]
    """The common loop. `now` is its time in seconds, `errors` are exceptions that nobody has taken. `slow_looks`: the
    share of looks at the clock that take long; `look_s`: what any other one takes."""

    def __init__(self, chance: random.Random, *, slow_looks: float = 0.01) -> None:
        self._slow_looks = slow_looks
        self.now = FIRST_S
        self.look_s = LOOK_S
        self.most_s = MOST_S
        self.errors: list[str] = []
        self.chance = chance
        self.ready: deque[Handle] = deque()
        """What is to be run next, in order."""
        self._timers: list[tuple[float, int, Handle]] = []
        self._count = 0
        self._random = chance.random
        self._left: list[Handle] = []
        """What killed processes were about to do: it goes with all else at the end, and not in the midst of others."""

    def time(self) -> float:
        self.now += SLOW_LOOK_S if self._random() < self._slow_looks else self.look_s
        return self.now

    def processor_time(self) -> float:
        """What it has had of a processor, in seconds: all of its time. To ask takes none."""
        return self.now

    def note(self, who: str, context: dict[str, Any]) -> None:
        """An exception that nobody has taken."""
        self.errors.append(f"{who}: {context.get('message')}: {context.get('exception')!r}")

    # Running

    def run_until_complete(self, future: Any) -> Any:
        """Have all happen that does until a coroutine has returned; its value, or its exception.

        Raises: AssertionError: nothing is left that could happen, or it takes longer than any scenario.
        """
        work = self.create_task(future)
        events._set_running_loop(self)
        try:
            while not work.done():
                self._turn()
        finally:
            events._set_running_loop(None)
        return work.result()

    def _turn(self) -> None:
        """What is ready by now, or else what is next."""
        ready, timers = self.ready, self._timers
        while timers and timers[0][2].callback is None:
            heapq.heappop(timers)
        now = self.now
        if not ready:
            now = self._waited(now)
        now += SLOW_LOOK_S if self._random() < self._slow_looks else self.look_s  # as `time`, which costs more
        self.now = now
        end = now + _RESOLUTION_S
        while timers and timers[0][0] < end:
            ready.append(heapq.heappop(timers)[2])
        running: Process | None = None
        for _ in range(len(ready)):
            handle = ready.popleft()
            callback, process = handle.callback, handle.process
            if callback is None:
                continue
            if not (process is None or process.is_alive):
                self._left.append(handle)
                continue
            if process is not None and process.stalled_until > end:
                self._count += 1
                heapq.heappush(timers, (process.stalled_until, self._count, handle))
                continue
            if process is not running:
                events._set_running_loop(process or self)
                running = process
            try:
                handle.context.run(callback, *handle.arguments)
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as error:
                (process or self).call_exception_handler({"message": f"in {callback!r}", "exception": error})
        if running is not None:
            events._set_running_loop(self)

    def _waited(self, now: float) -> float:
        """The time when the next timer is due; it is looked at the clock once."""
        if not self._timers:
            raise AssertionError("nothing is left that could happen")
        now += SLOW_LOOK_S if self._random() < self._slow_looks else self.look_s
        pause_s = self._timers[0][0] - now
        if pause_s > 0.0:
            now += pause_s
        if now > FIRST_S + self.most_s:
            raise AssertionError("a scenario does not end")
        return now

    def abandon(self) -> None:
        """Drop all that would still run."""
        self.ready.clear()
        self._timers.clear()
        self._left.clear()

    def plan(
        self,
        process: Process | None,
        when: float,
        callback: Callable[..., object],
        arguments: tuple[Any, ...],
        context: contextvars.Context | None,
    ) -> Any:
        """Have something happen at a time, as part of a process."""
        handle = Handle(callback, arguments, process, context, when)
        self._count += 1
        heapq.heappush(self._timers, (when, self._count, handle))
        return handle

    # What asyncio wants of a loop

    def call_soon(self, callback: Callable[..., object], *args: Any, context: Any = None) -> Any:
        handle = Handle(callback, args, None, context)
        self.ready.append(handle)
        return handle

    def call_later(self, delay: float, callback: Callable[..., object], *args: Any, context: Any = None) -> Any:
        return self.plan(None, self.time() + delay, callback, args, context)

    def call_at(self, when: float, callback: Callable[..., object], *args: Any, context: Any = None) -> Any:
        return self.plan(None, when, callback, args, context)

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(self, coro: Any, *, name: str | None = None, context: Any = None) -> asyncio.Task[Any]:
        return asyncio.Task(coro, loop=self, name=name, context=context)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.note("the fabric", context)

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False


def _refuse(path: str, _protocol: object) -> None:
    raise FileNotFoundError(path)


class Process(_Loop):  # type: ignore[misc]
    """A simulated process, as the event loop that all of its parts see."""

    def __init__(self, name: str, loop: VirtualLoop) -> None:
        self.name = name
        self.is_alive = True
        self.stalled_until = 0.0
        """It gets no processor before, whatever is due."""
        self.unix_connect: Callable[[str, Any], Any] = _refuse
        self.time, self.processor_time = loop.time, loop.processor_time  # asked most often of all
        self._loop = loop
        self._ready = loop.ready
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

    def call_soon(self, callback: Callable[..., object], *args: Any, context: Any = None) -> Any:
        handle = Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    call_soon_threadsafe = call_soon

    def call_later(self, delay: float, callback: Callable[..., object], *args: Any, context: Any = None) -> Any:
        return self._loop.plan(self, self._loop.time() + delay, callback, args, context)

    def call_at(self, when: float, callback: Callable[..., object], *args: Any, context: Any = None) -> Any:
        return self._loop.plan(self, when, callback, args, context)

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

    async def create_unix_connection(self, protocol_factory: Any, path: Any = None, **_options: Any) -> Any:
        await asyncio.sleep(0)
        protocol = protocol_factory()
        return self.unix_connect(path, protocol), protocol

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
    """A common loop, as the one of this thread, until all in it is thrown away, also where an error ends it: what the
    functions hold that the error has passed is let go."""
    loop = VirtualLoop(chance, slow_looks=slow_looks)
    thresholds = gc.get_threshold()
    gc.set_threshold(0)  # what is left of a killed process must not run at a moment of its own
    gc.freeze()
    asyncio.set_event_loop(loop)
    try:
        with _nothing_unraised(loop):
            yield loop
    except BaseException as error:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # a coroutine that had not begun yet
            traceback.clear_frames(error.__traceback__)
        raise
    finally:
        asyncio.set_event_loop(None)
        _collect(loop)
        gc.set_threshold(*thresholds)


@contextlib.contextmanager
def _nothing_unraised(loop: VirtualLoop) -> Iterator[None]:
    """What Python would print only, such as a coroutine that nobody awaits, is an error like any other."""

    def note(unraisable: Any) -> None:
        loop.errors.append(f"{unraisable.err_msg}: {unraisable.exc_value!r} in {unraisable.object!r}")

    hook, sys.unraisablehook = sys.unraisablehook, note
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)
            yield
    finally:
        sys.unraisablehook = hook


@contextlib.contextmanager
def scratch(place: str = _MEMORY) -> Iterator[str]:
    """Where simulated hosts keep their state: in memory, where there is such a place, since they write it to disk.

    It is locked for as long as it is used: what runs have left that were killed is deleted first.
    """
    base = place if os.access(place, os.W_OK) else tempfile.gettempdir()
    for left in Path(base).glob(f"{_SCRATCH}*"):
        _delete_left(left)
    with tempfile.TemporaryDirectory(prefix=_SCRATCH, dir=base) as directory:
        lock = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield directory
        finally:
            os.close(lock)


def _delete_left(directory: Path) -> None:
    """Delete a directory that nobody uses; a young one may not be locked yet."""
    with contextlib.suppress(OSError):
        if time.time() < directory.stat().st_mtime + _YOUNG_S:
            return
        lock = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(directory, ignore_errors=True)
        finally:
            os.close(lock)


def _collect(loop: VirtualLoop) -> None:
    """Throw away what killed processes were about to do, tasks among it that had not begun; that it was never done is
    no news."""
    hook, sys.unraisablehook = sys.unraisablehook, lambda _unraisable: None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            loop.abandon()
            gc.collect()
    finally:
        sys.unraisablehook = hook
