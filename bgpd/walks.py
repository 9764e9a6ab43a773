"""Runs long work of the RIB beside everything else: generators, stepped for some milliseconds at a turn of the loop.

All walks advance in turn, so that a short one is not held up by a long one. Decides nothing else.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator

from bgpd.turns import soon

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

    def run(self, walk: Iterator[None]) -> None:
        """Step `walk` until it ends; its first step is taken in the loop's next turn."""
        self._walks.append(walk)
        self._schedule()

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            soon(self._step)

    def _step(self) -> None:
        self._scheduled = False
        end = time.perf_counter() + STEP_S
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
            if time.perf_counter() > end:
                self._schedule()
                return
