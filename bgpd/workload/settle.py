"""What the workload table tells the other parts, and in which order: withdrawals, kernel routes, announcements, states.

Decides nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from bgpd.model.iana import Family
from bgpd.model.path import NextHops
from bgpd.model.workload import ClaimInfo, Presence
from bgpd.workload.standing import Held, Table


class TableOutputs(msgspec.Struct, frozen=True, kw_only=True):
    """What the table tells, as plain callables.

    announce(vrf, family, keys, info) and withdraw(vrf, family, keys): to the RIB, the kernel already has the routes.
    host_routes(vrf, family, {key: next hops or None}): to the FIB, which answers with `route_acknowledged`, also for a
    route that it finds unchanged, or with `route_refused`.
    service_route(vrf, family, key, members, resilient): likewise, for the weighted members of a service address.
    states_changed(held claims): for whoever publishes states; also those that were given up, no longer announced.
    resumed(vrf, family, key, info, presence): to EVPN: what an earlier run gave up stays given up.
    schedule_flush(): `flush` should be called soon; asked once until it is.
    synchronised(): once: all sources told their first state and the kernel acknowledged it.
    """

    announce: Callable[[str, Family, list[bytes], ClaimInfo], None]
    withdraw: Callable[[str, Family, list[bytes]], None]
    host_routes: Callable[[str, Family, Mapping[bytes, NextHops | None]], None]
    service_route: Callable[[str, Family, bytes, NextHops, bool], None]
    states_changed: Callable[[list[Held]], None]
    resumed: Callable[[str, Family, bytes, ClaimInfo, Presence], None]
    schedule_flush: Callable[[], None]
    synchronised: Callable[[], None]


class Changes:
    """What one flush of one table will tell, gathered so that it is told in bulk and in the safe order."""

    def __init__(self) -> None:
        self.withdrawn: list[bytes] = []
        self.routes: dict[bytes, NextHops | None] = {}
        self.services: list[tuple[bytes, NextHops, bool]] = []
        self.announced: dict[ClaimInfo, list[bytes]] = {}
        self.states: list[Held] = []

    def tell(self, table: Table, outputs: TableOutputs) -> None:
        vrf, family = table
        if self.withdrawn:
            outputs.withdraw(vrf, family, self.withdrawn)
        if self.routes:
            outputs.host_routes(vrf, family, self.routes)
        for key, members, resilient in self.services:
            outputs.service_route(vrf, family, key, members, resilient)
        for info, keys in self.announced.items():
            outputs.announce(vrf, family, keys, info)
        if self.states:
            outputs.states_changed(self.states)
