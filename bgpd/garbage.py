"""When Python's cyclic garbage collector runs: never by itself, since one pass over a million routes holds the loop for
hundreds of milliseconds.

The hot path frees everything by reference counting. What little makes cycles (exceptions, HTTP requests) is collected
by `collect_young` now and then, which first waits until tables have stopped growing and sets them aside (gc.freeze), so
that a pass only ever sees what came since the last one.
"""

from __future__ import annotations

import gc

INTERVAL_S = 60.0
GROWTH = 50_000
"""Routes more than at the last pass: the tables are set aside unlooked at."""


class GarbagePolicy:
    """Owns the collector of this process from `start` on."""

    def __init__(self) -> None:
        self._routes = 0

    def start(self) -> None:
        """Everything that there is now stays: imported modules and the parts of the daemon."""
        gc.disable()
        gc.collect()
        gc.freeze()

    def collect_young(self, routes: int) -> None:
        """To be called every `INTERVAL_S` with the number of routes: set aside what grew, collect what is young."""
        grew = routes > self._routes + GROWTH
        self._routes = routes
        if not grew:
            gc.collect()
        gc.freeze()
