"""How memory is given back: Python's cyclic garbage is collected when that is cheap, and free pages go to the system.

The collector never runs by itself, since one pass over a large table holds the loop for hundreds of milliseconds. The
hot path frees everything by reference counting. What little makes cycles (exceptions, requests) is collected now and
then, and after each hundred clients of the API. A pass looks at every container since `start` that is not set aside
(gc.freeze); what is set aside and becomes a cycle is lost, so that only large tables are.

glibc by its defaults keeps freed blocks of up to 32 MB for the next of that size, and has a heap for every thread: a
host would pay for a table's burst long after it. Where the C library has no such settings (musl), nothing is set.
mallopt(3), malloc_trim(3).
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
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
            self.collect_young()
            shrink()
            await asyncio.to_thread(return_free_memory)

    def start(self) -> None:
        """Everything that there is now stays: imported modules and the parts of the daemon."""
        gc.disable()
        gc.collect()
        gc.freeze()

    def collect_young(self) -> None:
        """To be called every `INTERVAL_S`."""
        if gc.get_count()[0] > TABLE:
            gc.freeze()
            return
        _collect()


def collect_some() -> None:
    """Collect what many clients have left, unless a table came meanwhile, which takes too long to be looked at. Where
    the collector runs by itself nothing is to be done."""
    if not gc.isenabled() and gc.get_count()[0] <= TABLE:
        _collect()


def _collect() -> None:
    """What made the pass long is set aside: the next one may come at once."""
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


def let_go(transport: asyncio.BaseTransport | None) -> None:
    """Have a connection that is over go at once: asyncio's transport refers to itself by the method that reads. With
    thousands of connections in a minute, as a stranger can make, these cycles would look like a table, and be lost."""
    if transport is not None:
        vars(transport)["_read_ready_cb"] = None


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
