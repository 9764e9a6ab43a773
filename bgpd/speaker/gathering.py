"""Routes of consecutive UPDATEs that are alike become one batch: what a batch costs the RIB is paid once for all.

Leaves send a table as UPDATEs of a few hundred routes, or of one, with the attributes of the one before. Decides only
what is alike; nothing is put in another order, and nothing waits for an UPDATE that has not been received.
"""

from __future__ import annotations

from collections.abc import Callable

from bgpd.model.path import RouteBatch

MOST = 2048
"""Routes that are told at once: a few milliseconds of work."""


class Gathering:
    """`tell` is given each batch."""

    def __init__(self, tell: Callable[[RouteBatch], None]) -> None:
        self._tell = tell
        self._first: RouteBatch | None = None
        self._keys: list[bytes] = []

    def add(self, batch: RouteBatch) -> None:
        """Routes that were received; told now, or at the latest by `tell_all`."""
        if self._first is None:
            self._first = batch
        elif _alike(self._first, batch):
            self._keys += batch.announced or batch.withdrawn
        else:
            self.tell_all()
            self._first = batch
        if len(self._keys) + len(self._first.announced) + len(self._first.withdrawn) >= MOST:
            self.tell_all()

    def tell_all(self) -> None:
        """Tell what was gathered."""
        first, keys = self._first, self._keys
        if first is None:
            return
        self._first, self._keys = None, []
        if not keys:
            self._tell(first)
        elif first.announced:
            self._tell(
                RouteBatch(
                    family=first.family,
                    announced=[*first.announced, *keys],
                    attributes=first.attributes,
                    next_hop=first.next_hop,
                    overlay=first.overlay,
                )
            )
        else:
            self._tell(RouteBatch(family=first.family, withdrawn=[*first.withdrawn, *keys]))


def _alike(first: RouteBatch, second: RouteBatch) -> bool:
    """Whether both announce with the same attributes, or both withdraw, and do nothing else."""
    return (
        first.attributes is second.attributes
        and first.family is second.family
        and bool(first.announced) is not bool(first.withdrawn)
        and bool(second.announced) is not bool(second.withdrawn)
        and bool(first.announced) is bool(second.announced)
        and first.next_hop == second.next_hop
        and first.overlay == second.overlay
    )
