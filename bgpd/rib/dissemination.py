"""What a changed table has others hear, and when: FIB, neighbors, and who follows this host's own routes.

Changes of small batches are gathered for the rest of the loop's turn, so that a thousand UPDATEs with one route each
cost the FIB one call; large ones are told at once. Neighbors are told in slices, after that. Decides nothing else.

When the neighbors are told: the Adj-RIBs-Out of all sessions, worked off in slices, once per turn of the loop.

Decides only the turn; what a neighbor is told, and in which order, is adj_rib_out.py's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain

from bgpd.model.iana import Family
from bgpd.model.path import NextHops, Source
from bgpd.rib.adj_rib_out import AdjRibOut
from bgpd.rib.loc_rib import Changes, LocRib

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


GATHERED = 512
"""Keys that one batch must have changed, or several together, to be told at once."""

FibChanged = Callable[[str, Family, dict[bytes, NextHops | None]], None]


class Outlet:
    """`fib_changed` and `local_changed` are told VRF, family and changes; `schedule` runs a callback soon."""

    def __init__(
        self,
        *,
        exports: Exports,
        fib_changed: FibChanged,
        local_changed: Callable[[str, Family, Sequence[bytes]], None],
        schedule: Callable[[Callable[[], None]], object],
    ) -> None:
        self._exports = exports
        self._fib_changed = fib_changed
        self._local_changed = local_changed
        self._schedule = schedule
        self._gathering: dict[LocRib, None] = {}
        self._is_scheduled = False

    def gathered(self, table: LocRib) -> None:
        """A batch was added to what is pending in a table."""
        pending = table.pending
        if len(pending.next_hops) >= GATHERED or len(pending.keys) >= GATHERED:
            self.commit(table, Changes())
        elif pending:
            self._gathering[table] = None
            self.wanted()

    def commit(self, table: LocRib, changes: Changes) -> None:
        """Tell what is pending, and then these changes, as one."""
        if table.pending:
            changes = table.pending.followed_by(changes)
            table.pending = Changes()
        self._gathering.pop(table, None)
        vrf, family = table.vrf, table.family
        if changes.next_hops:
            if table.exports_learned:
                table.await_kernel(changes.next_hops)
            self._fib_changed(vrf, family, changes.next_hops)
        if changes.local:
            self._exports.mark(vrf, family, changes.local, local=True)
            self._local_changed(vrf, family, changes.local)
        if changes.keys:
            self._exports.mark(vrf, family, changes.keys, local=False)

    def wanted(self) -> None:
        """There is something to flush."""
        if not self._is_scheduled:
            self._is_scheduled = True
            self._schedule(self._scheduled)

    def _scheduled(self) -> None:
        self._is_scheduled = False
        self.flush()

    def tell_gathered(self) -> None:
        """Tell what was gathered."""
        for table in list(self._gathering):
            self.commit(table, Changes())

    def flush(self) -> None:
        """Tell what was gathered, then the neighbors: one slice of what they must hear."""
        self.tell_gathered()
        self._exports.flush()
