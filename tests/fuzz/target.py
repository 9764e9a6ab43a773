"""What a fuzz target is, and how it takes its input apart."""

from __future__ import annotations

import atexit
import os
import tempfile
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple, TypeVar

MEMORY = "/dev/shm"
_T = TypeVar("_T")


def _none() -> Iterable[bytes]:
    return ()


class Target(NamedTuple):
    """`run` takes any bytes, and raises where something is wrong that no peer, broker or file may bring about.

    `reads`: the modules, classes and functions that it is to try. `seeds` are inputs to begin with, beside those of
    `corpora/`: what is right, as the product itself or its tests write it. `messages`: an input may take as much time
    as so many messages. `share`: of the time of all, so many parts.
    """

    run: Callable[[bytes], None]
    reads: tuple[object, ...]
    seeds: Callable[[], Iterable[bytes]] = _none
    messages: int = 1
    share: int = 1


OF_NEIGHBORS = 4
"""The share of what sees the bytes of neighbors."""


@cache
def directory() -> Path:
    """Of this process, in memory; its end removes it."""
    kept = tempfile.TemporaryDirectory(prefix="bgpd-fuzz-", dir=MEMORY if os.path.isdir(MEMORY) else None)
    atexit.register(kept.cleanup)
    return Path(kept.name)


class Script:
    """An input read as a script of steps; at its end all numbers are 0."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def is_over(self) -> bool:
        return self._at >= len(self._data)

    def byte(self) -> int:
        """The next byte."""
        return self.take(1)[0] if not self.is_over else 0

    def take(self, most: int) -> bytes:
        """So many bytes, fewer at the end."""
        found = self._data[self._at : self._at + most]
        self._at += most
        return found

    def rest(self) -> bytes:
        """All that is left."""
        return self.take(len(self._data))

    def choice(self, of: Sequence[_T]) -> _T:
        """One of these."""
        return of[self.byte() % len(of)]
