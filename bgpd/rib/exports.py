"""When the neighbors are told: the Adj-RIBs-Out of all sessions, worked off in slices, once per turn of the loop.

Decides only the turn; what a neighbor is told, and in which order, is adj_rib_out.py's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain

from bgpd.model.iana import Family
from bgpd.model.path import Source
from bgpd.rib.adj_rib_out import AdjRibOut

FLUSH_KEYS = 2048
"""Keys that one `flush` works off: a few milliseconds."""


class Exports:
    """`wanted` is called when there is something to flush. `synchronised`: End-of-RIB may go out.

    `send_end_of_rib`: the first table is sent; `refresh_sent`: all that a refresh asked for is.
    """

    def __init__(
        self,
        *,
        wanted: Callable[[], None],
        send_end_of_rib: Callable[[Source, Family], None],
        refresh_sent: Callable[[Source, Family], None],
    ) -> None:
        self.synchronised = False
        self._wanted = wanted
        self._send_end_of_rib = send_end_of_rib
        self._refresh_sent = refresh_sent
        self._exports: dict[tuple[str, Family], list[AdjRibOut]] = {}

    def add(self, vrf: str, export: AdjRibOut) -> None:
        """A session is up for a family: it is told everything."""
        self._exports.setdefault((vrf, export.family), []).append(export)
        export.mark_all()
        self._wanted()

    def remove(self, vrf: str, export: AdjRibOut) -> None:
        """Tell this session nothing more."""
        self._exports[vrf, export.family].remove(export)

    def mark(self, vrf: str, family: Family, keys: Sequence[bytes], *, local: bool) -> None:
        """These routes changed. `local`: their best path is or was this host's own."""
        for export in self._exports.get((vrf, family), ()):
            export.mark(keys, local=local)
            if not export.is_settled:
                self._wanted()

    def flush(self) -> None:
        """Tell the neighbors what changed: one slice; more is wanted if that was not all."""
        left = FLUSH_KEYS
        for export in chain.from_iterable(self._exports.values()):
            while left > 0 and not export.is_settled:
                left -= max(1, export.flush(left))
            if not export.is_settled:
                self._wanted()
                continue
            if export.refresh_owed:
                export.refresh_owed = False
                self._refresh_sent(export.source, export.family)
            if self.synchronised and not export.end_of_rib_sent:
                export.end_of_rib_sent = True
                self._send_end_of_rib(export.source, export.family)
