"""How memory is given back: Python's cyclic garbage is collected when that is cheap, and free pages go to the system.

The collector never runs by itself, since one pass over a large table holds the loop for hundreds of milliseconds. The
hot path frees everything by reference counting. What little makes cycles (exceptions, connections) is collected now and
then, and after each hundred connections that come in; what is left of each message or health check by passes over what
is new, since thousands of them would be taken for a table. A whole pass looks at every container since `start` that is
not set aside (gc.freeze); what is set aside and becomes a cycle is lost, so that only large tables are.

glibc by its defaults keeps freed blocks of up to 32 MB for the next of that size, and has a heap for every thread: a
host would pay for a table's burst long after it. Where the C library has no such settings (musl), nothing is set.
mallopt(3), malloc_trim(3).
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import itertools
import time
from collections.abc import Callable
from functools import cache

INTERVAL_S = 60.0
SETTLE_S = 2.0
"""From the end of a large table in the RIB until its memory is given back: the kernel's routes go meanwhile."""
TABLE = 20_000
"""So many new containers since the last pass are a table: set aside unlooked at. (A million routes with a few sets of
attributes are some hundred containers.)"""
LONG_PASS_S = 0.010
MANY_CYCLES = 500
"""Times that something left a cycle, after which these are collected: a message of MQTT, a connection that is over."""
MANY = 100
"""Connections, of all listeners, after which what is left of them is collected."""


class GarbagePolicy:
    """Owns the collector of this process from `start` on."""

    def __init__(self) -> None:
        self._much_is_free = asyncio.Event()

    def much_was_freed(self) -> None:
        """A large table ended: its memory is given back soon."""
        self._much_is_free.set()

    async def run(self, shrink: Callable[[], None]) -> None:
        """Collect and give back, now and then, and soon after much was freed; `shrink()` gives back room of tables."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(INTERVAL_S):
                    await self._much_is_free.wait()
                await asyncio.sleep(SETTLE_S)
            self._much_is_free.clear()
            collect()
            shrink()
            await asyncio.to_thread(return_free_memory)

    def start(self) -> None:
        """Everything that there is now stays: imported modules and the parts of the daemon."""
        gc.disable()
        gc.collect()
        gc.freeze()


_connections = itertools.count(1)


def connection_came() -> None:
    """To be called for each connection of whoever may connect: asyncio's transport refers to itself when it is over, so
    that what is left of it goes only with a pass. A client can make thousands in a second."""
    if next(_connections) % MANY == 0 and not gc.isenabled():
        collect()


_cycles = itertools.count(1)


class _Young:
    """`kept`: containers that came since the last whole pass, and outlived the passes over what was new."""

    kept = 0


def cycle_left() -> None:
    """To be called each time that a library leaves a cycle, where that may be often."""
    if next(_cycles) % MANY_CYCLES == 0 and not gc.isenabled():
        new = gc.get_count()[0]
        if new > TABLE:
            collect()
        else:
            _Young.kept += max(0, new - gc.collect(0))


def collect() -> None:
    """One pass; what makes it long is set aside: a table that came since the last one, unlooked at, with what little
    garbage there is beside it, and else what was looked at."""
    is_table = gc.get_count()[0] + _Young.kept > TABLE
    _Young.kept = 0
    if is_table:
        gc.freeze()
        return
    began = time.perf_counter()
    gc.collect()
    if time.perf_counter() - began > LONG_PASS_S:
        gc.freeze()


_TRIM_THRESHOLD = (-1, 1 << 20)
"""Free bytes at the heap's end that are kept."""
_MMAP_THRESHOLD = (-3, 128 << 10)
"""Blocks from this size on are mapped on their own and go back to the system when freed: dicts, kernel batches."""
_ARENA_MAX = (-8, 1)
"""One heap for all threads: they take turns in the interpreter anyway."""


def keep_little_memory() -> None:
    """To be called once, before there are threads."""
    mallopt = getattr(_libc(), "mallopt", None)
    if mallopt is not None:
        for parameter, value in (_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX):
            mallopt(parameter, value)


def return_free_memory() -> None:
    """Whole free pages go back to the system. Takes milliseconds: to be called in a thread."""
    trim = getattr(_libc(), "malloc_trim", None)
    if trim is not None:
        trim(ctypes.c_size_t(0))


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None)
