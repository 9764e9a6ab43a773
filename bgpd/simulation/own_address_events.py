"""What happens to addresses of hosts themselves: they come, go, and others of them are announced."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec

from bgpd.simulation.fabric import Fabric
from bgpd.simulation.own_addresses import CONFIGS, put, take
from bgpd.simulation.scenario import Event, Kind


async def _comes(fabric: Fabric, event: Event) -> None:
    put(fabric.hosts[event.host], event.address)


async def _goes(fabric: Fabric, event: Event) -> None:
    take(fabric.hosts[event.host], event.address)


async def _reload(fabric: Fabric, event: Event) -> None:
    """Others of them are announced from now on."""
    host = fabric.hosts[event.host]
    workload = msgspec.structs.replace(host.config.workload, addresses=CONFIGS[int(event.value)])
    await host.reload(msgspec.structs.replace(host.config, workload=workload))


OWN_ADDRESSES: dict[Kind, Callable[[Fabric, Event], Awaitable[None]]] = {
    Kind.ADDRESS_COMES: _comes,
    Kind.ADDRESS_GOES: _goes,
    Kind.RELOAD_ADDRESSES: _reload,
}
