"""Asks again what is desired of many prefixes: slice by slice, and never far ahead of the kernel.

Decides only the pace. What is asked, and what is done with the answer, is the caller's.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Iterator

from bgpd.model.iana import Family
from bgpd.runtime.turns import soon

SLICE = 1024
"""Keys asked for at once."""
_STEP_S = 0.002


class Rechecks:
    """`ask(family, keys, distrust=...)` is called for each slice while `has_room()`; `resume` after it had none."""

    def __init__(self, ask: Callable[..., None], *, has_room: Callable[[], bool]) -> None:
        self._ask = ask
        self._has_room = has_room
        self._waiting: deque[tuple[Family, bool, Iterator[list[bytes]]]] = deque()
        self._scheduled = False

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def add(self, family: Family, batches: Iterable[list[bytes]], *, distrust: bool = False) -> None:
        """Ask for all keys of the batches, which are made lazily.

        `distrust`: the kernel may have other routes than recorded.
        """
        self._waiting.append((family, distrust, _slices(batches)))
        self.resume()

    def resume(self) -> None:
        """Go on, if there is something to ask and room for the answers."""
        if self._waiting and not self._scheduled and self._has_room():
            self._scheduled = True
            soon(self._step)

    def ask_once(self) -> None:
        """Ask for a slice, if there is something to ask, though there is no room: what a neighbor says without end may
        leave none for ever. To be called when something else was written."""
        if self._waiting and not self._scheduled:
            self._ask_for_one()

    def clear(self) -> None:
        """Forget all."""
        self._waiting.clear()

    def _step(self) -> None:
        self._scheduled = False
        clock = asyncio.get_running_loop().time
        deadline = clock() + _STEP_S
        while self._waiting and self._has_room() and clock() < deadline:
            self._ask_for_one()
        self.resume()

    def _ask_for_one(self) -> None:
        family, distrust, slices = self._waiting[0]
        keys = next(slices, None)
        if keys is None:
            self._waiting.popleft()
        self._ask(family, keys or [], distrust=distrust)


def _slices(batches: Iterable[list[bytes]]) -> Iterator[list[bytes]]:
    for batch in batches:
        for start in range(0, len(batch), SLICE):
            yield batch[start : start + SLICE]
        if not batch:
            yield batch
