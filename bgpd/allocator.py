"""How glibc's malloc keeps freed memory: as little as it may, since a host pays for a table's burst long after it.

By its defaults, glibc keeps freed blocks of up to 32 MB for the next of that size, and has a heap for every thread.
Where the C library has no such settings (musl), nothing is set. mallopt(3), malloc_trim(3).
"""

from __future__ import annotations

import ctypes
from functools import cache

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
