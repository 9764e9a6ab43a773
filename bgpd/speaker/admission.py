"""How many incoming connections there may be: of one address, and in all.

A neighbor needs one, and for moments a second: when it restarts, or both sides dial. One that opens hundreds and says
nothing on them would take the descriptors that others need. Decides by address only, before a byte is read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable

import structlog

from bgpd.runtime.descriptors import Reserve, Shortage, limit

log = structlog.get_logger()

MOST_OF_ONE = 8
"""Those that still say goodbye included (transport.LINGER_S)."""
SPARE = 64
"""Beyond two for every neighbor that there may be: those of strangers, until they are closed."""
_SHARE = 2
"""All together take no more than this part of the descriptors."""
_MAX_REMEMBERED = 256


class Admission:
    """The incoming connections of all listeners, by origin. `neighbors` is how many there may be at once."""

    def __init__(self, *, neighbors: int, shortage: Shortage) -> None:
        self.neighbors = neighbors
        self.shortage = shortage
        self.reserve = Reserve()
        self.refused = 0
        self._open: Counter[Hashable] = Counter()
        self._told: set[Hashable] = set()

    @property
    def most(self) -> int:
        """Connections in all."""
        return min(2 * self.neighbors + SPARE, limit() // _SHARE)

    def admit(self, origin: Hashable) -> bool:
        """Count a connection; False: it is one too many, and to be closed."""
        count, total = self._open[origin], self._open.total()
        if count < MOST_OF_ONE and total < self.most:
            self._open[origin] += 1
            return True
        self.refused += 1
        if origin not in self._told:
            if len(self._told) >= _MAX_REMEMBERED:
                self._told.clear()
            self._told.add(origin)
            log.warning("connection.too_many", origin=str(origin), of_this=count, in_all=total, most=self.most)
        return False

    def closed(self, origin: Hashable) -> None:
        """A connection that was admitted is closed."""
        self._open[origin] -= 1
        if not self._open[origin]:
            del self._open[origin]
            self._told.discard(origin)
