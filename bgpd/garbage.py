"""When Python's cyclic garbage collector runs: never by itself, since one pass over a large table holds the loop for
hundreds of milliseconds.

The hot path frees everything by reference counting. What little makes cycles (closed connections, exceptions) is
collected now and then. A pass looks at every container since `start` that is not set aside (gc.freeze); what is set
aside and becomes a cycle is lost, so that only large tables are, and not the connections of every minute.
"""

from __future__ import annotations

import gc
import time

INTERVAL_S = 60.0
TABLE = 20_000
"""So many new containers since the last pass are a table: set aside unlooked at. (A million routes with a few sets of
attributes are some hundred containers.)"""
LONG_PASS_S = 0.010


class GarbagePolicy:
    """Owns the collector of this process from `start` on."""

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
        began = time.perf_counter()
        gc.collect()
        if time.perf_counter() - began > LONG_PASS_S:
            gc.freeze()
