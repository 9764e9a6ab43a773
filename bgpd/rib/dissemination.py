"""What a changed table has others hear, and when: FIB, neighbors, and who follows this host's own routes.

Changes of small batches are gathered for the rest of the loop's turn, so that a thousand UPDATEs with one route each
cost the FIB one call; large ones are told at once. After that the neighbors are told: the Adj-RIBs-Out of all sessions
are worked off in slices, once per turn of the loop, one session after the other, and only as far as their connections
take it. Decides only the turn; what a neighbor is told, and in which order, is adj_rib_out.py's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import chain

from bgpd.model.iana import Family
from bgpd.rib.adj_rib_out import AdjRibOut
from bgpd.rib.aggregates import Aggregation
from bgpd.rib.loc_rib import Changes, LocRib
from bgpd.rib.ports import EvpnRoutes, KernelRoutes, Neighbors
from bgpd.runtime.shared_state import changes_shared_state

Schedule = Callable[[Callable[[], None]], object]

FLUSH_KEYS = 2048
"""Units of work (adj_rib_out.py: keys, and paths) that one `flush` does: a few milliseconds."""


class Exports:
    """`wanted` is called when there is something to flush; `schedule` runs a callback soon.

    While a neighbor's connection has no room nothing is made for it: changes merge by key until `Rib.room_came`. What
    is raised where a neighbor is served ends that neighbor's session.
    """

    def __init__(self, neighbors: Neighbors, *, wanted: Callable[[], None], schedule: Schedule) -> None:
        self._is_synchronised = False
        self._neighbors = neighbors
        self._wanted = wanted
        self._schedule = schedule
        self._exports: dict[tuple[str, Family], list[AdjRibOut]] = {}
        self._due: dict[AdjRibOut, None] = {}

    def add(self, vrf: str, export: AdjRibOut) -> None:
        """A session is up for a family: it is told everything."""
        self._exports.setdefault((vrf, export.family), []).append(export)
        export.mark_all()
        self.look_at(export)

    def remove(self, vrf: str, export: AdjRibOut) -> None:
        """Tell this session nothing more."""
        self._exports[vrf, export.family].remove(export)
        self._due.pop(export, None)

    def look_at(self, *exports: AdjRibOut) -> None:
        """These may have something to tell."""
        if exports:
            self._due.update(dict.fromkeys(exports))
            self._wanted()

    def all(self) -> Iterator[AdjRibOut]:
        """The Adj-RIBs-Out of all sessions."""
        return chain.from_iterable(self._exports.values())

    def look_at_all(self) -> None:
        """Any may have something to tell."""
        self.look_at(*self.all())

    def synchronised(self) -> None:
        """End-of-RIB may go out from now on."""
        self._is_synchronised = True
        self.look_at_all()

    def mark(self, vrf: str, family: Family, keys: Sequence[bytes], *, local: bool) -> None:
        """These routes changed. `local`: their best path is or was this host's own."""
        for export in self._exports.get((vrf, family), ()):
            export.mark(keys, local=local)
            if not export.is_settled:
                self.look_at(export)

    def flush(self) -> None:
        """Tell the neighbors what changed: one slice; more is wanted if that was not all. The others are next then."""
        left = FLUSH_KEYS
        while self._due and left > 0:
            export = next(iter(self._due))
            del self._due[export]
            if not self._neighbors.has_room(export.source):
                continue
            left -= max(1, self._flush_one(export, left))
            if not export.is_settled:
                self._due[export] = None
        if self._due:
            self._wanted()

    def _settled(self, export: AdjRibOut) -> None:
        if export.end_refresh():
            self._neighbors.send_refresh_ended(export.source, export.family)
        if self._is_synchronised and not export.end_of_rib_sent:
            export.end_of_rib_sent = True
            self._neighbors.send_end_of_rib(export.source, export.family)

    def _flush_one(self, export: AdjRibOut, most: int) -> int:
        """What it raises costs the session of that neighbor."""
        try:
            done = export.flush(most)
            if export.is_settled:
                self._settled(export)
            return done
        except Exception as error:
            self._schedule(partial(self._neighbors.fail, export.source, error))
            return most


GATHERED = 512
"""Keys that one batch must have changed, or several together, to be told at once."""


class Outlet:
    """What has changed in the tables goes from here to the kernel, EVPN, the aggregates and the neighbors."""

    def __init__(
        self,
        *,
        exports: Exports,
        kernel: KernelRoutes,
        evpn: EvpnRoutes,
        aggregation: Aggregation,
        schedule: Schedule,
    ) -> None:
        self._exports = exports
        self._kernel = kernel
        self._evpn = evpn
        self._aggregation = aggregation
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

    @changes_shared_state
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
            if vrf:
                self._evpn.routes_changed(vrf, family, changes.next_hops)
            self._kernel.update_learned(vrf, family, changes.next_hops)
        if changes.local:
            self._exports.mark(vrf, family, changes.local, local=True)
            self._aggregation.contributors_changed(vrf, family, changes.local)
            self._evpn.local_changed(vrf, family, changes.local)
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
