"""Bulk work, in steps of a few milliseconds, for so long at each turn of the event loop that the loop is never held.

Each part of the daemon that has much to do asks for a step, does a slice of it, and asks again: neighbors with messages
to read, the FIB with routes to write, walks over a table. However many ask, a turn ends after `TURN_S` and the step
that runs then; the others are first in the next turn, when what came from outside has been heard. What a step asks for
runs in the same turn only if that is young: the small work that follows from a few routes needs no turn of the loop for
each part that it passes through. Who gathers what comes little by little waits for the end of a window. Walks, the
long work of the RIB, are generators that share one step and advance one after the other, so that a short one is not
held up by a long one. Decides only that.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from typing import Protocol, TypeVar

TURN_S = 0.004
"""No step is begun later in a turn than this."""
YOUNG_S = 0.002
"""What is asked for in a turn begins no later in it than this."""
WINDOW_S = 0.005
"""How long at most it is before `at_window_end` runs something."""

Step = Callable[[], object]
T = TypeVar("T")


class Turns:
    """The steps that wait in one event loop, in order."""

    def __init__(self) -> None:
        self._steps: deque[Step] = deque()
        self._is_scheduled = False
        self._is_used = False
        self._at_window_end: list[Step] = []

    def __bool__(self) -> bool:
        return bool(self._steps)

    def add(self, step: Step) -> None:
        """Run `step` in the loop's next turn, or in the first after it that has time left; if a step of a turn that is
        young asks for it, in that turn."""
        self._steps.append(step)
        if not self._is_scheduled:
            self._schedule()

    def now_or_add(self, step: Step) -> bool:
        """Run `step` at once if nothing waits and this turn was not used yet, else `add` it; whether it was run.

        What comes from outside alone is worked off without delay; what comes from many at the same time is not more
        than a turn takes.
        """
        if self._steps or self._is_used:
            self.add(step)
            return False
        self._use()
        step()
        return True

    def at_window_end(self, step: Step) -> None:
        """Run `step` when the window ends that is open now, or else one that begins: one timer for all who gather what
        comes little by little, and what they have gathered comes in one turn."""
        if not self._at_window_end:
            asyncio.get_running_loop().call_later(WINDOW_S, self._window_ended)
        self._at_window_end.append(step)

    def _window_ended(self) -> None:
        steps, self._at_window_end = self._at_window_end, []
        for step in steps:
            asyncio.get_running_loop().call_soon(step)

    def _use(self) -> None:
        """The turn's time is used, until the loop's next one."""
        if not self._is_used:
            self._is_used = True
            asyncio.get_running_loop().call_soon(self._renew)

    def _renew(self) -> None:
        self._is_used = False

    def _schedule(self) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self._run)

    def _run(self) -> None:
        self._use()
        clock = asyncio.get_running_loop().time
        began = clock()
        waited = len(self._steps)
        try:
            while self._steps:
                self._steps.popleft()()
                waited -= 1
                if clock() - began > (TURN_S if waited > 0 else YOUNG_S):
                    break
        finally:
            self._is_scheduled = False
            if self._steps:
                self._schedule()


class _Latest:
    """The loop that asked last, and its turns: a process has one loop, and only tests have several in a row."""

    loop: asyncio.AbstractEventLoop | None = None
    turns = Turns()


_turns: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Turns] = weakref.WeakKeyDictionary()


def turns() -> Turns:
    """Those of the running event loop; true while a step waits."""
    loop = asyncio.get_running_loop()
    if loop is _Latest.loop:
        return _Latest.turns
    found = _turns.get(loop)
    if found is None:
        found = _turns[loop] = Turns()
    _Latest.loop, _Latest.turns = loop, found
    return found


def soon(step: Step) -> None:
    """Run `step` of bulk work in the loop's next turn, or in the first after it that has time left."""
    (_Latest.turns if asyncio.get_running_loop() is _Latest.loop else turns()).add(step)


def now_or_soon(step: Step) -> bool:
    """Run `step` now if no other bulk work waits or ran in this turn of the loop, else `soon`; whether it was run."""
    return turns().now_or_add(step)


async def at_rest(walks: Walks, *, patience_s: float) -> None:
    """Return in a moment when no bulk work waits, and no walk is going on; if none comes in time, whenever."""
    loop = asyncio.get_running_loop()
    end = loop.time() + patience_s
    while (turns() or len(walks)) and loop.time() < end:  # noqa: ASYNC110 (nobody tells)
        await asyncio.sleep(0)


async def in_turn(step: Callable[[], T]) -> T:
    """What `step` answers, or raises, once it has run as a step of bulk work."""
    done: asyncio.Future[T] = asyncio.get_running_loop().create_future()

    def run() -> None:
        if done.done():  # the caller was cancelled
            return
        try:
            done.set_result(step())
        except Exception as error:
            done.set_exception(error)

    soon(run)
    return await done


class Clock(Protocol):
    """What tells the time, for parts that tests drive."""

    def time(self) -> float:
        """Monotonic seconds."""

    def call_at(self, when: float, callback: Callable[[], None]) -> object:
        """Call it at that time."""


class LoopClock:
    """The clock of the running event loop, for parts that are made before it runs."""

    def time(self) -> float:
        """Monotonic seconds."""
        return asyncio.get_running_loop().time()

    def call_at(self, when: float, callback: Callable[[], None]) -> object:
        """Call it at that time."""
        return asyncio.get_running_loop().call_at(when, callback)


def processor_clock() -> Callable[[], float]:
    """What tells the seconds that this thread has had of a processor: a simulated loop says them itself, so that a run
    does not depend on the machine."""
    return getattr(asyncio.get_running_loop(), "processor_time", time.thread_time)


STEP_S = 0.004
"""How long one turn of the loop is used, while other things wait."""


class Walks:
    """The walks that are going on. `failed` is told an exception that a walk raised: its work is lost, a bug."""

    def __init__(self, *, failed: Callable[[BaseException], None]) -> None:
        self._walks: deque[Iterator[None]] = deque()
        self._failed = failed
        self._scheduled = False

    def __len__(self) -> int:
        return len(self._walks)

    def run(self, walk: Iterator[None], *, done: Callable[[], None] | None = None) -> None:
        """Step `walk` until it ends, then call `done`; its first step is taken in the loop's next turn."""
        self._walks.append(walk if done is None else _then(walk, done))
        self._schedule()

    async def run_to_end(self, walk: Iterator[None]) -> None:
        """Step `walk` and return when it has ended; raises what it raises, which `failed` is not told."""
        over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.run(_ending(walk, over))
        await over

    def finish(self) -> None:
        """Step all walks to their ends, at once: in a copy of the process, which nobody waits for."""
        while self._walks:
            walk = self._walks.popleft()
            with contextlib.suppress(StopIteration):
                next(walk)
                self._walks.append(walk)

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            soon(self._step)

    def _step(self) -> None:
        self._scheduled = False
        clock = asyncio.get_running_loop().time
        end = clock() + STEP_S
        while self._walks:
            walk = self._walks.popleft()
            try:
                next(walk)
            except StopIteration:
                continue
            except Exception as error:
                self._failed(error)
                continue
            self._walks.append(walk)
            if clock() > end:
                self._schedule()
                return


def _then(walk: Iterator[None], done: Callable[[], None]) -> Iterator[None]:
    yield from walk
    done()


def _ending(walk: Iterator[None], over: asyncio.Future[None]) -> Iterator[None]:
    """A walk that tells `over` how it ended; it is not stepped further once nobody waits for it."""
    try:
        for _ in walk:
            yield
            if over.cancelled():
                return
    except Exception as error:
        if over.cancelled():
            raise
        over.set_exception(error)
    else:
        if not over.cancelled():
            over.set_result(None)
