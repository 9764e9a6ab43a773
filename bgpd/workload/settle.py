"""What the workload table asks of other parts, and in which order: withdrawals, kernel routes, announcements, states.

Decides nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from bgpd.model.iana import Family
from bgpd.model.next_hop import NextHops
from bgpd.model.prefix import VrfFamily
from bgpd.model.workload import Claim, ClaimInfo
from bgpd.workload.standing import ClaimStatus


class Announcer(Protocol):
    """Who announces this host's addresses (`routing.Routing`)."""

    def announce_workloads(self, vrf: str, family: Family, keys: list[bytes], info: ClaimInfo) -> None:
        """Announce these addresses; the kernel already has their routes."""

    def withdraw_workloads(self, vrf: str, family: Family, keys: list[bytes]) -> None:
        """Withdraw them; their kernel routes may go at once."""

    def workloads_gone(self, vrf: str, family: Family, keys: list[bytes]) -> None:
        """Nobody claims these addresses any more."""


class KernelRoutes(Protocol):
    """Who keeps their kernel routes (`fib.tables.KernelTables`)."""

    def set_workload_routes(self, vrf: str, family: Family, changes: Mapping[bytes, NextHops | None]) -> None:
        """Keep these kernel routes; None: no more. Answered by `WorkloadTable.route_acknowledged`, also for a route
        that is there already, or by `route_refused`.
        """

    def set_service_route(
        self, vrf: str, family: Family, key: bytes, members: NextHops, *, resilient: bool, yields: bool = False
    ) -> None:
        """Likewise, for the weighted members of a service address; `yields`: only while there is no learned route."""

    def reserved(self, vrf: str, family: Family, key: bytes) -> str:
        """What the host itself needs that a workload of this prefix would take, "" if nothing.

        When the answer changes, `WorkloadTable.look_again` is called.
        """


class StateListener(Protocol):
    """Who hears of other states of claims; also of claims that were given up, no longer announced."""

    def states_changed(self, changed: Sequence[ClaimStatus]) -> None:
        """These claims have another state now."""


class Settlement(msgspec.Struct, eq=False):
    """What one flush changes of one table, gathered so that it is carried out in bulk and in the safe order."""

    withdrawn: list[bytes] = []
    gone: list[bytes] = []
    routes: dict[bytes, NextHops | None] = {}
    services: list[tuple[bytes, NextHops, Claim]] = []
    announced: dict[ClaimInfo, list[bytes]] = {}
    states: list[ClaimStatus] = []

    def carry_out(self, table: VrfFamily, *, announcer: Announcer, kernel: KernelRoutes) -> None:
        """Withdraw before a route goes, announce after its message is on the way; `states` are reported after that."""
        vrf, family = table
        if self.withdrawn:
            announcer.withdraw_workloads(vrf, family, self.withdrawn)
        if self.gone:
            announcer.workloads_gone(vrf, family, self.gone)
        if self.routes:
            kernel.set_workload_routes(vrf, family, self.routes)
        for key, members, claim in self.services:
            kernel.set_service_route(vrf, family, key, members, resilient=claim.resilient, yields=claim.yields)
        for info, keys in self.announced.items():
            announcer.announce_workloads(vrf, family, keys, info)
