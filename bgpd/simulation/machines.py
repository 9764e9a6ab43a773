"""What happens to the workloads of tenants: machines that start, end, move while they run, and are started twice."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from bgpd.simulation.fabric import Fabric
from bgpd.simulation.scenario import Event, Kind
from bgpd.simulation.tenants import TENANTS, mac_of


async def start(fabric: Fabric, *, host: str, tenant: str, address: str, is_sticky: bool = False) -> None:
    """A workload starts on a host, whoever has its address."""
    found = next(one for one in TENANTS if one.name == tenant)
    mac = mac_of(address).hex(":")
    await fabric.hosts[host].put_machine(
        tenant, address, interface=found.tap_name, mac=mac, is_sticky=is_sticky and bool(mac)
    )


async def _starts(fabric: Fabric, event: Event) -> None:
    await start(fabric, host=event.host, tenant=event.tenant, address=event.address)


async def _starts_sticky(fabric: Fabric, event: Event) -> None:
    await start(fabric, host=event.host, tenant=event.tenant, address=event.address, is_sticky=True)


async def _ends(fabric: Fabric, event: Event) -> None:
    await fabric.hosts[event.host].delete_machine(event.tenant, event.address)


async def _moves(fabric: Fabric, event: Event) -> None:
    """To this host: those that have it end it `value` seconds later, or as long before."""
    if event.value >= 0:
        await _starts(fabric, event)
        await asyncio.sleep(event.value)
    for name, host in fabric.hosts.items():
        if name != event.host:
            await host.delete_machine(event.tenant, event.address)
    if event.value < 0:
        await asyncio.sleep(-event.value)
        await _starts(fabric, event)


async def _reload_vrf(fabric: Fabric, event: Event) -> None:
    """The VRF leaves the configuration, or is in it again."""
    host = fabric.hosts[event.host]
    await host.set_vrf(event.tenant, is_there=event.tenant not in {one.name for one in host.config.vrf})


MACHINES: dict[Kind, Callable[[Fabric, Event], Awaitable[None]]] = {
    Kind.MACHINE_STARTS: _starts,
    Kind.MACHINE_STARTS_STICKY: _starts_sticky,
    Kind.MACHINE_ENDS: _ends,
    Kind.MACHINE_MOVES: _moves,
    Kind.RELOAD_VRF: _reload_vrf,
}
