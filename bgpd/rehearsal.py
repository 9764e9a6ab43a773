"""Makes a change of this host in a copy of the process: RIB, EVPN and workloads do what they always do, and what they
would write to the kernel or say to neighbors is only noted (docs/decisions/0038).

Knows which parts are called by which change; what follows from it is theirs. Decides nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, cast

import msgspec

from bgpd.config.schema import Config
from bgpd.fib.tables import KernelTables
from bgpd.kernel.host import Host
from bgpd.model.drain import DrainStage
from bgpd.model.iana import Family
from bgpd.model.kernel import KernelEvent, LinkChanged, RouteChanged
from bgpd.model.next_hop import NextHop, NextHops
from bgpd.model.prefix import VrfKey, covers, family_of, host_key
from bgpd.reconfigure import rehearse
from bgpd.rib.rib import Rib
from bgpd.rib.what_if_changed import Around, Before, Outcome
from bgpd.routing import Routing
from bgpd.runtime.turns import Walks, turns
from bgpd.workload.guest_source import GuestSource


class Rehearsal:
    """The parts of a copy, whose kernel and neighbors are stood in for. `walks` are the daemon's."""

    def __init__(self, routing: Routing, walks: Walks) -> None:
        self._routing = routing
        self._walks = walks
        self._around = _Around(routing)

    async def outcome_of(self, change: Callable[[Rehearsal], None]) -> Outcome:
        """Makes the change, to its end."""
        self._around.stand_in()
        await self._settle()
        self._around.told.clear()
        before = Before(self._routing.rib)
        change(self)
        await self._settle()
        return before.compared(self._around.told)

    async def _settle(self) -> None:
        """Let all that follows come to its end."""
        is_busy = True
        while is_busy:
            self._walks.finish()
            await asyncio.sleep(0)
            is_busy = self._routing.workloads.settle()
            is_busy |= self._around.settle(self._routing.rib)
            is_busy |= bool(self._walks) or bool(turns())

    # Changes

    def reconfigure(self, config: Config) -> None:
        """This configuration is in force. Raises: PolicyError."""
        rehearse(self._routing, config)

    def drain(self, stage: DrainStage, kept: AbstractSet[VrfKey]) -> None:
        """This host is drained so far."""
        self._routing.rib.dissemination.drain(stage, kept)

    def sessions_lost(self, names: Collection[str]) -> None:
        """The sessions of these neighbors or guests have ended, and nothing is kept of them."""
        routing, received = self._routing, self._routing.rib.received
        for name in names:
            source = routing.sources.pop(name, None) or routing.guests.pop(name, None)
            if source is None:
                going = received.stale.forget(name)
            else:
                going = received.session_lost(source, is_graceful=False, now=0.0)
            for gone in dict.fromkeys(one for one, _ in going):
                routing.evpn.neighbor_down(gone)
            self._walks.run(received.remove(going))

    def interfaces_down(self, names: Collection[str]) -> None:
        """Interfaces are down: next hops behind them cannot be reached, the kernel has dropped their routes."""
        routing, host = self._routing, self._routing.host
        self._around.is_dead = is_dead = behind(names, host)
        for vrf in {vrf for vrf, _ in routing.rib.tables}:
            for hop, why in routing.rib.known_next_hops(vrf):
                if not why and not hop.is_recursive and is_dead(hop):
                    self._walks.run(routing.rib.next_hop_changed(hop, _DOWN, vrf=vrf))
        events: list[KernelEvent] = []
        host.tell(events.append)
        routes = [event for event in routing.monitor.routes.events() if event.route.interface in names]
        for name in names:
            link = host.named(name)
            if link is not None:
                host.link(msgspec.structs.replace(link, up=False))
        for event in routes:
            host.route_changed(event.route, gone=True)
            events.append(RouteChanged(event.route, gone=True))
        for one in events:
            routing.workloads.kernel.event(one)
            if isinstance(one, LinkChanged):
                routing.workloads.host_changed(one)
                routing.evpn.kernel_changed(one)


_DOWN = "its interface is down"


def behind(interfaces: Collection[str], host: Host) -> Callable[[NextHop], bool]:
    """Whether a next hop is reached by one of these interfaces: it names one, or is in a network of one."""
    networks = [place for interface in sorted(interfaces) for place in host.networks(interface)]

    def is_behind(hop: NextHop) -> bool:
        if hop.interface:
            return hop.interface in interfaces
        its = family_of(hop.address)
        return any(family is its and covers(network, host_key(hop.address)) for family, network in networks)

    return is_behind


class _Around(Around):
    """What is around RIB, EVPN and workloads. What it does not note itself it asks the kernel's tables."""

    def __init__(self, routing: Routing) -> None:
        super().__init__(routing.evpn, routing.tables)
        self.is_dead: Callable[[NextHop], bool] = lambda hop: False
        self.vrfs = _NoVrfs()
        self._routing = routing
        self._tables = routing.tables
        self.reserved = routing.tables.reserved
        self.probe_way = routing.tables.probe_way
        self._of_workloads: list[tuple[str, Family, list[bytes]]] = []

    def stand_in(self) -> None:
        """For kernel and neighbors."""
        routing = self._routing
        workloads = routing.workloads
        self.take_place(routing.rib, evpn=routing.evpn, workloads=workloads.table, guests=workloads.find(GuestSource))
        routing.tables = cast(KernelTables, self)
        routing.evpn.use_kernel(self)
        workloads.use_kernel(cast(Any, self))

    def settle(self, rib: Rib) -> bool:
        of_workloads, self._of_workloads = self._of_workloads, []
        for vrf, family, keys in of_workloads:
            self.acknowledge(rib, vrf, family, keys)
            self._routing.workloads.table.route_acknowledged(vrf, family, keys)
        return super().settle(rib) or bool(of_workloads)

    def acknowledge(self, rib: Rib, vrf: str, family: Family, keys: Sequence[bytes]) -> None:
        super().acknowledge(rib, vrf, family, keys)
        if vrf:
            self._routing.evpn.fib_acknowledged(vrf, family, keys)

    def why_unreachable(self, vrf: str, next_hop: NextHop) -> str:
        if not next_hop.is_recursive and self.is_dead(next_hop):
            return _DOWN
        return super().why_unreachable(vrf, next_hop)

    def resolution_changed(self, vrf: str, next_hop: NextHop) -> None: ...

    def set_workload_routes(self, vrf: str, family: Family, changes: Mapping[bytes, NextHops | None]) -> None:
        self._of_workloads.append((vrf, family, [key for key, hops in changes.items() if hops is not None]))

    def set_service_route(self, vrf: str, family: Family, key: bytes, members: NextHops, **how: bool) -> None:
        self._of_workloads.append((vrf, family, [key]))

    def set_probe_route(self, *given: object) -> None: ...

    def write_probe_route_again(self, *given: object) -> None: ...


class _NoVrfs:
    """The VRF devices of a copy."""

    def interfaces_changed(self, vrf: str) -> None: ...
