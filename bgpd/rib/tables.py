"""All tables of the RIB, by VRF ("" is the main one) and family, and where their changes go.

Changes of small batches are gathered for the rest of the loop's turn, so that a thousand UPDATEs with one route each
cost the kernel's tables one call; large ones are passed on at once. They go to the kernel's tables, to EVPN, to the
aggregates, and as marked keys to the Adj-RIBs-Out, which are worked off after that (dissemination.py).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from bgpd.model.iana import Family
from bgpd.model.path import NextHop
from bgpd.rib.aggregates import Aggregation
from bgpd.rib.dissemination import Dissemination
from bgpd.rib.intruders import ContestedAddresses
from bgpd.rib.loc_rib import Changes, LocRib
from bgpd.rib.next_hops import NextHopTable
from bgpd.rib.ports import EvpnRoutes, KernelRoutes
from bgpd.runtime.shared_state import changes_shared_state

GATHERED = 512
"""Keys that one batch must have changed, or several together, to be passed on at once."""


class Tables:
    """The tables, each made when first asked for; whoever changes one calls `gathered` or `commit`.

    `exports_learned(vrf, family)`: whether a neighbor may be sent routes that were learned from another.
    `schedule(callback)` runs it soon. `kernel`, `evpn`, `aggregation` and `contested` are to be set once before the
    first change.
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
        self._next_hops: dict[str, NextHopTable] = {}
        self._crowded: set[str] = set()
        self._gathering: dict[LocRib, None] = {}
        self._is_scheduled = False

    def table(self, vrf: str, family: Family) -> LocRib:
        """The table of a VRF and family."""
        table = self.all.get((vrf, family))
        if table is None:
            table = self.all[vrf, family] = LocRib(self.next_hops(vrf), vrf, family)
            self._set_what_is_kept(table)
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
        return (self.evpn if next_hop.is_recursive else self.kernel).why_unreachable(vrf, next_hop)

    def exports_changed(self) -> None:
        """Sessions or policies changed: other tables may be exported now."""
        for table in self.all.values():
            self._set_what_is_kept(table)

    def _set_what_is_kept(self, table: LocRib) -> None:
        table.exports_learned = self._exports_learned(table.vrf, table.family)
        table.gathers_keys = table.exports_learned or table.family is Family.L2VPN_EVPN

    def gathered(self, table: LocRib) -> None:
        """A batch was added to what is pending in a table."""
        pending = table.pending
        if len(pending.next_hops) >= GATHERED or len(pending.keys) >= GATHERED:
            self.commit(table, Changes())
        elif table not in self._gathering and pending:
            self._gathering[table] = None
            self.wanted()
        if self._crowded:
            self._prune()

    @changes_shared_state
    def commit(self, table: LocRib, changes: Changes) -> None:
        """Pass on what is pending, and then these changes, as one."""
        if table.pending:
            changes = table.pending.followed_by(changes)
            table.pending = Changes()
        self._gathering.pop(table, None)
        vrf, family = table.vrf, table.family
        if changes.next_hops:
            if table.exports_learned:
                table.await_kernel(changes.next_hops)
            if vrf:
                self.evpn.routes_changed(vrf, family, changes.next_hops)
            self.kernel.update_learned(vrf, family, changes.next_hops)
        if changes.local:
            self._dissemination.mark(vrf, family, changes.local, local=True)
            self.aggregation.contributors_changed(vrf, family, changes.local)
            self.contested.look(table, changes.local)
            self.evpn.local_changed(vrf, family, changes.local)
        if changes.keys:
            self._dissemination.mark(vrf, family, changes.keys, local=False)

    def wanted(self) -> None:
        """There is something to flush."""
        if not self._is_scheduled:
            self._is_scheduled = True
            self._schedule(self._scheduled)

    def _scheduled(self) -> None:
        self._is_scheduled = False
        self.flush()

    def commit_gathered(self) -> None:
        """Pass on now what small batches changed, which else is passed on in the loop's next turn."""
        for table in list(self._gathering):
            self.commit(table, Changes())

    def flush(self) -> None:
        """Pass on what changed: all to the kernel, one slice to the neighbors; the rest is scheduled.

        Runs by itself through `schedule`, once in a turn of the loop.
        """
        self.commit_gathered()
        self._dissemination.flush()

    def _prune(self) -> None:
        """Forget next hops that no path has any more."""
        for vrf in self._crowded:
            decisions = [decision for table in self.of_vrf(vrf) for decision in table.distinct()]
            candidates = (path.next_hop for decision in decisions for path in decision.candidates)
            forgotten = self._next_hops[vrf].prune(
                (next_hop for next_hop in candidates if next_hop is not None),
                (decision.next_hops for decision in decisions if decision.next_hops is not None),
            )
            self.kernel.forget(vrf, forgotten)
        self._crowded.clear()
