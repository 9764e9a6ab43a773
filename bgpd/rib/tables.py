"""All tables of the RIB, by VRF ("" is the main one) and family, and what each must keep for those who follow it.

Decides which tables exist, which next hops a VRF knows, and whether a table is exported beyond this host's own routes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import chain

from bgpd.model.iana import Family
from bgpd.model.path import NextHop
from bgpd.rib.loc_rib import LocRib
from bgpd.rib.next_hops import NextHopTable


class Tables:
    """`resolve(vrf, next_hop)`: why it is unreachable, or ""; in a VRF it also knows which addresses are this host's,
    elsewhere `is_own_address(packed)` does. `exports_learned(vrf, family)`: whether a session may be told routes that
    were learned from another. `follows_evpn`: somebody follows each neighbor's EVPN routes.
    """

    def __init__(
        self,
        *,
        resolve: Callable[[str, NextHop], str],
        is_own_address: Callable[[bytes], bool],
        exports_learned: Callable[[str, Family], bool],
        follows_evpn: bool,
    ) -> None:
        self.all: dict[tuple[str, Family], LocRib] = {}
        self._resolve = resolve
        self._is_own_address = is_own_address
        self._exports_learned = exports_learned
        self._follows_evpn = follows_evpn
        self._next_hops: dict[str, NextHopTable] = {}

    def table(self, vrf: str, family: Family) -> LocRib:
        """The table of a VRF and family, made when first asked for."""
        table = self.all.get((vrf, family))
        if table is None:
            table = self.all[vrf, family] = LocRib(self.next_hops(vrf), vrf, family)
            self._set_what_is_kept(table)
        return table

    def of_vrf(self, vrf: str) -> list[LocRib]:
        """The tables of one VRF."""
        return [table for table in self.all.values() if table.vrf == vrf]

    def next_hops(self, vrf: str) -> NextHopTable:
        """The next hops of a VRF."""
        known = self._next_hops.get(vrf)
        if known is None:
            is_own_address = _of_nobody if vrf else self._is_own_address
            known = NextHopTable(resolve=partial(self._resolve, vrf), is_own_address=is_own_address)
            self._next_hops[vrf] = known
        return known

    def look_at_exports(self) -> None:
        """Sessions or policies changed: other tables may be exported now."""
        for table in self.all.values():
            self._set_what_is_kept(table)

    def _set_what_is_kept(self, table: LocRib) -> None:
        table.exports_learned = self._exports_learned(table.vrf, table.family)
        follows = self._follows_evpn and table.family is Family.L2VPN_EVPN
        table.gathers_keys = table.exports_learned or follows

    def prune(self) -> None:
        """Forget next hops that no path has any more."""
        for vrf, next_hops in self._next_hops.items():
            if next_hops.is_crowded:
                tables = self.of_vrf(vrf)
                next_hops.prune(
                    chain.from_iterable(table.live_next_hops() for table in tables),
                    chain.from_iterable(table.live_sets() for table in tables),
                )


def _of_nobody(_: bytes) -> bool:
    return False
