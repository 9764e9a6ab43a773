"""The speeds of interfaces, as their drivers say them. A driver may hold whoever asks it, so that a thread does."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterable

from bgpd.kernel.interfaces import speed_mbps

FRESH_S = 5.0
"""A speed is not asked for again before it is so old."""
PATIENCE_S = 0.5
"""So long an answer that wants speeds waits for drivers; then it goes without."""


class Speeds:
    """Speeds in Mbit/s, None where the driver says none. `read` asks a driver.

    One thread at a time: while a driver holds it, the speeds stay what they were.
    """

    def __init__(self, read: Callable[[str], int | None] = speed_mbps) -> None:
        self._read = read
        self._known: dict[str, tuple[int | None, float]] = {}
        self._wanted: set[str] = set()
        self._reading: asyncio.Future[None] | None = None

    def known(self, interface: str) -> int | None:
        """As it was read last, None before that; it is read again if that is long ago."""
        speed, at = self._known.get(interface, (None, float("-inf")))
        if time.monotonic() - at >= FRESH_S:
            self._wanted.add(interface)
            if self._reading is None:
                self._begin()
        return speed

    async def read(self, interfaces: Iterable[str]) -> None:
        """Have them read, unless they are known, and wait for it, but not long."""
        for interface in interfaces:
            self.known(interface)
        if self._reading is not None:
            await asyncio.wait([self._reading], timeout=PATIENCE_S)

    def _begin(self) -> None:
        loop = asyncio.get_running_loop()
        self._reading = loop.create_future()
        loop.call_soon(self._start_thread, loop)  # when all that are wanted are known

    def _start_thread(self, loop: asyncio.AbstractEventLoop) -> None:
        names, self._wanted = sorted(self._wanted), set()

        def work() -> None:
            found = {name: self._read(name) for name in names}
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(self._take, found)

        # Not one of the loop's own threads: the end of the process waits for those.
        try:
            threading.Thread(target=work, name="speeds", daemon=True).start()
        except RuntimeError:  # there is no room for one more: the speeds stay what they were
            self._take({})

    def _take(self, found: dict[str, int | None]) -> None:
        now = time.monotonic()
        self._known = {name: (speed, now) for name, speed in found.items()} | {
            name: (speed, at) for name, (speed, at) in self._known.items() if name not in found and now - at < 60
        }
        if self._reading is not None:
            self._reading.set_result(None)
            self._reading = None
        if self._wanted:
            self._begin()
