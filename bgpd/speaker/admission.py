"""Limits on incoming connections: per address, per interface, and in total.

A neighbor needs one connection, and sometimes briefly a second: when it restarts, or when both sides dial. A host that
opens hundreds and sends nothing would use up the descriptors that others need. One interface may have as many
connections as are left for all others: a workload with many addresses leaves half, two leave a third. Decides before a
byte is read.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Hashable

from bgpd.runtime.descriptors import Reserve, Shortage, limit
from bgpd.runtime.events import log
from bgpd.runtime.rates import LineBudget

MOST_OF_ONE = 8
"""Those that are closing included (transport.LINGER_S)."""
SPARE = 64
"""Beyond two for every neighbor that there may be: those of strangers, until they are closed."""
_SHARE = 2
"""All incoming connections together use at most this share of the descriptors."""
_MAX_REMEMBERED = 256


class Admission:
    """The incoming connections of all listeners, by origin. `neighbors` is how many there may be at once."""

    def __init__(self, *, neighbors: int, shortage: Shortage) -> None:
        self.neighbors = neighbors
        self.shortage = shortage
        self.reserve = Reserve()
        self.refused = 0
        self._open: Counter[Hashable] = Counter()
        self._by_interface: Counter[int] = Counter()
        self._lines = LineBudget()
        self._logged: set[Hashable] = set()

    @property
    def most(self) -> int:
        """Connections in all."""
        return min(2 * self.neighbors + SPARE, limit() // _SHARE)

    def admit(self, origin: Hashable, interface: int = 0) -> bool:
        """Count a connection that came in by an interface (its index, 0: not known); False: it is one too many."""
        count, total = self._open[origin], self._open.total()
        crowded = interface != 0 and self._by_interface[interface] >= self.most - total
        if count < MOST_OF_ONE and total < self.most and not crowded:
            self._open[origin] += 1
            self._by_interface[interface] += 1
            return True
        self.refused += 1
        if origin not in self._logged:
            if len(self._logged) >= _MAX_REMEMBERED:
                self._logged.clear()
            self._logged.add(origin)
            fields = {"origin": str(origin), "interface_index": interface, "of_this": count, "in_all": total}
            self._lines.write(log.warning, "connection.too_many", now=time.monotonic(), **fields, most=self.most)
        return False

    def closed(self, origin: Hashable, interface: int = 0) -> None:
        """A connection that was admitted is closed."""
        self._by_interface[interface] -= 1
        if not self._by_interface[interface]:
            del self._by_interface[interface]
        self._open[origin] -= 1
        if not self._open[origin]:
            del self._open[origin]
            self._logged.discard(origin)
