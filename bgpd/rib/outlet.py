"""What a changed table has others hear, and when: FIB, neighbors, and who follows this host's own routes.

Changes of small batches are gathered for the rest of the loop's turn, so that a thousand UPDATEs with one route each
cost the FIB one call; large ones are told at once. Neighbors are told in slices, after that. Decides nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bgpd.model.iana import Family
from bgpd.model.path import NextHops
from bgpd.rib.exports import Exports
from bgpd.rib.loc_rib import Changes, LocRib

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
