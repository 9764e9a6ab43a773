"""All tables of the RIB, by VRF ("" is the main one) and family, and where their changes go. Each guest of this host
has tables of its own, whose changes become claims, and nothing else.

Changes of small batches are gathered for the rest of the loop's turn, so that a thousand UPDATEs with one route each
cost the kernel's tables one call; large ones are passed on at once. They go to the kernel's tables, to EVPN, to the
aggregates, and as marked keys to the Adj-RIBs-Out, which are worked off after that (dissemination.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial

from bgpd.config.schema_sessions import SessionConfig
from bgpd.config.schema_workloads import GuestConfig
from bgpd.model.iana import Family
from bgpd.model.next_hop import NextHop
from bgpd.model.path import Path
from bgpd.rib.aggregates import Aggregation
from bgpd.rib.dissemination import Dissemination
from bgpd.rib.intruders import ContestedAddresses
from bgpd.rib.keyed_routes import Changes
from bgpd.rib.loc_rib import LocRib
from bgpd.rib.next_hops import NextHopTable
from bgpd.rib.ports import EvpnRoutes, Guests, KernelRoutes
from bgpd.rib.recording import Recorder
from bgpd.rib.stale import Kept, StaleOf
from bgpd.runtime.shared_state import changes_shared_state

GATHERED = 512
"""Keys that one batch must have changed, or several together, to be passed on at once."""


DecisionWatch = Callable[[LocRib, Sequence[bytes]], None]


class Tables:
    """The tables, each made when first asked for; whoever changes one calls `gathered` or `commit`.

    `exports_learned(vrf, family)`: whether a neighbor may be sent routes that were learned from another.
    `schedule(callback)` runs it soon. `kernel`, `evpn`, `aggregation` and `contested` are to be set once before the
    first change. `keeps_next_hops`: next hops that no route has may still be those of paths that are to be entered.
    `cause`: the neighbor whose routes are being taken, "" if none's: kernel tables are told whose changes they get.
    """

    kernel: KernelRoutes
    evpn: EvpnRoutes
    aggregation: Aggregation
    contested: ContestedAddresses

    def __init__(
        self,
        dissemination: Dissemination,
        *,
        exports_learned: Callable[[str, Family], bool],
        schedule: Callable[[Callable[[], None]], object],
    ) -> None:
        self.all: dict[tuple[str, Family], LocRib] = {}
        self._dissemination = dissemination
        self._exports_learned = exports_learned
        self._schedule = schedule
        self.guests: dict[tuple[str, Family], LocRib] = {}
        self.claims: Guests | None = None
        self.recorder = Recorder()
        self._next_hops: dict[str, NextHopTable] = {}
        self._guest_next_hops: dict[tuple[str, Family], NextHopTable] = {}
        self._crowded: set[str] = set()
        self._crowded_guests: set[tuple[str, Family]] = set()
        self._gathering: dict[LocRib, str] = {}
        self.cause = ""
        self._is_scheduled = False
        self.keeps_next_hops = False
        self._watchers: dict[object, DecisionWatch] = {}

    def watch(self, owner: object, watch: DecisionWatch) -> None:
        """Call it with the routes of a table, guests' left out, whose decision may have changed, until `unwatch`."""
        self._watchers[owner] = watch
        self.exports_changed()

    def unwatch(self, owner: object) -> None:
        """The owner hears no more."""
        if self._watchers.pop(owner, None) is not None:
            self.exports_changed()

    def table(self, vrf: str, family: Family) -> LocRib:
        """The table of a VRF and family."""
        table = self.all.get((vrf, family))
        if table is None:
            table = self.all[vrf, family] = LocRib(self.next_hops(vrf), vrf, family)
            table.stale_imports = partial(self._stale_imports, family) if vrf else None
            self._set_what_is_kept(table)
        return table

    def of_session(self, config: SessionConfig, family: Family) -> LocRib:
        """The table that the routes of a neighbor enter."""
        if isinstance(config, GuestConfig):
            table = self.guest_table(config.name, family)
            table.vrf = config.vrf
            return table
        return self.table(config.vrf, family)

    def guest_table(self, guest: str, family: Family) -> LocRib:
        """The table of a guest. Its next hops count as reachable: they are judged when claims are made of them."""
        table = self.guests.get((guest, family))
        if table is None:
            crowded = partial(self._crowded_guests.add, (guest, family))
            hops = self._guest_next_hops[guest, family] = NextHopTable(resolve=lambda _: "", crowded=crowded)
            table = self.guests[guest, family] = LocRib(hops, "", family, guest=guest)
            table.gathers_keys = True
        return table

    def of_vrf(self, vrf: str) -> list[LocRib]:
        """The tables of one VRF."""
        found = (self.all.get((vrf, family)) for family in Family)
        return [table for table in found if table is not None]

    def next_hops(self, vrf: str) -> NextHopTable:
        """The next hops of a VRF."""
        known = self._next_hops.get(vrf)
        if known is None:
            resolve, crowded = partial(self._resolve, vrf), partial(self._crowded.add, vrf)
            known = self._next_hops[vrf] = NextHopTable(resolve=resolve, crowded=crowded)
        return known

    def _resolve(self, vrf: str, next_hop: NextHop) -> str:
        why = (self.evpn if next_hop.is_recursive else self.kernel).why_unreachable(vrf, next_hop)
        self.recorder.next_hop(vrf, next_hop, why)
        return why

    def _stale_imports(self, family: Family) -> StaleOf:
        """Of the routes of VRFs, those are stale whose EVPN route is. The session of that is asked when somebody looks:
        in the VRF a neighbor that restarts is the source that it was before."""
        evpn = self.table("", Family.L2VPN_EVPN)
        if not evpn.stale:
            return lambda path, key: None
        key_of = self.evpn.received_keys({source.name for source in evpn.stale})

        def kept(path: Path, key: bytes) -> Kept | None:
            found = key_of(path.source, family, key)
            decision = None if found is None else evpn.routes.get(found[1])
            received = None if found is None or decision is None else decision.path_of(found[0])
            return None if received is None else evpn.stale.get(received.source)

        return kept

    def exports_changed(self) -> None:
        """Sessions or policies changed: other tables may be exported now."""
        for table in self.all.values():
            self._set_what_is_kept(table)

    def _set_what_is_kept(self, table: LocRib) -> None:
        table.exports_learned = self._exports_learned(table.vrf, table.family)
        table.gathers_keys = table.exports_learned or table.family is Family.L2VPN_EVPN or bool(self._watchers)
        if not table.exports_learned:
            table.unacknowledged.clear()
            table.refused.clear()

    def gathered(self, table: LocRib) -> None:
        """A batch was added to what is pending in a table."""
        pending, known = table.pending, self._gathering.get(table)
        if pending:
            self._gathering[table] = self.cause if known in (None, self.cause) else ""
        if len(pending.next_hops) >= GATHERED or len(pending.keys) >= GATHERED:
            self.commit(table, Changes())
        elif pending and known is None:
            self.wanted()
        if (self._crowded or self._crowded_guests) and not self.keeps_next_hops:
            self._prune()

    def separate(self, table: LocRib, sizes: Iterable[int]) -> None:
        """So many routes of the present cause are about to enter a table: if these are many, what others have changed
        there is passed on before, so that it does not wait with them."""
        if self._gathering.get(table, self.cause) != self.cause and sum(sizes) >= GATHERED:
            self.commit(table, Changes())

    @changes_shared_state
    def commit(self, table: LocRib, changes: Changes, *, cause: str = "") -> None:
        """Pass on what is pending, and then these changes, as one. `cause`: the neighbor whose routes these are."""
        gathered_by = self._gathering.get(table, cause)
        if gathered_by != cause and len(changes.next_hops) >= GATHERED:
            self.commit(table, Changes())
        elif gathered_by != cause:
            cause = "" if changes else gathered_by
        pending = table.pending
        if pending.next_hops or pending.keys or pending.local:
            changes = pending.followed_by(changes)
            table.pending = Changes()
        self._gathering.pop(table, None)
        if table.guest:
            self._tell_guests(table, changes)
            return
        vrf, family = table.vrf, table.family
        if changes.next_hops:
            if table.exports_learned:
                table.await_kernel(changes.next_hops)
            if table.refused:
                table.refused.difference_update([key for key, wanted in changes.next_hops.items() if wanted is None])
            if vrf:
                self.evpn.routes_changed(vrf, family, changes.next_hops)
            self.kernel.update_learned(vrf, family, changes.next_hops, cause=cause)
        if changes.local:
            self._dissemination.mark(vrf, family, changes.local, local=True)
            self.aggregation.contributors_changed(vrf, family, changes.local)
            self.contested.look(table, changes.local)
            self.evpn.local_changed(vrf, family, changes.local)
        if changes.keys and (table.exports_learned or family is Family.L2VPN_EVPN):
            self._dissemination.mark(vrf, family, changes.keys, local=False)
        for watch in self._watchers.values():
            watch(table, [*changes.keys, *changes.local])

    def _tell_guests(self, table: LocRib, changes: Changes) -> None:
        if changes.keys and self.claims is not None:
            self.claims.routes_changed(table.guest, table.family, changes.keys)

    def wanted(self) -> None:
        """There is something to flush."""
        if not self._is_scheduled:
            self._is_scheduled = True
            self._schedule(self._scheduled)

    def _scheduled(self) -> None:
        self._is_scheduled = False
        self.flush()

    def flush_after(self, change: Callable[[], bool]) -> bool:
        """Make a change, and flush at once what it answers that it has changed: no step is scheduled for that. Answers
        the same."""
        was_scheduled, self._is_scheduled = self._is_scheduled, True
        try:
            is_changed = change()
        finally:
            self._is_scheduled = was_scheduled
        if is_changed:
            self.flush()
        elif self._gathering or self._dissemination.is_due:
            self.wanted()
        return is_changed

    def commit_gathered(self) -> None:
        """Pass on now what small batches changed, which else is passed on in the loop's next turn."""
        for table in list(self._gathering):
            self.commit(table, Changes())

    def flush(self) -> None:
        """Pass on what changed: all to the kernel, one slice to the neighbors; the rest is scheduled.

        Runs by itself through `schedule`, once in a turn of the loop.
        """
        if self._gathering:
            self.commit_gathered()
        self._dissemination.flush()

    def _prune(self) -> None:
        """Forget next hops that no path has any more."""
        for vrf in self._crowded:
            forgotten = _prune(self._next_hops[vrf], self.of_vrf(vrf))
            self.kernel.forget(vrf, forgotten)
            self.evpn.forget_next_hops(vrf, forgotten)
        self._crowded.clear()
        for place in self._crowded_guests:
            _prune(self._guest_next_hops[place], [self.guests[place]])
        self._crowded_guests.clear()


def _prune(next_hops: NextHopTable, tables: Sequence[LocRib]) -> list[NextHop]:
    """Have next hops forgotten that no path of their tables has; answers which those are."""
    decisions = [decision for table in tables for decision in table.distinct()]
    candidates = (path.next_hop for decision in decisions for path in decision.candidates)
    return next_hops.prune(
        (next_hop for next_hop in candidates if next_hop is not None),
        (decision.next_hops for decision in decisions if decision.next_hops is not None),
    )
