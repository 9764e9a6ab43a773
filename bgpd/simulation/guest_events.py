"""What happens to guests of hosts: they announce, withdraw, restart, hang and die, and may announce something else."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec

from bgpd.simulation import guests
from bgpd.simulation.fabric import Fabric
from bgpd.simulation.scenario import Event, Kind


async def _says(fabric: Fabric, event: Event) -> None:
    router = guests.of(fabric)[event.leaf].router
    router.own[event.address] = guests.ROUTE
    router.changed([event.address])


async def _withdraws(fabric: Fabric, event: Event) -> None:
    router = guests.of(fabric)[event.leaf].router
    if router.own.pop(event.address, None) is not None:
        router.changed([event.address])


async def _restarts(fabric: Fabric, event: Event) -> None:
    _restart(fabric, event, is_graceful=False)


async def _restarts_gracefully(fabric: Fabric, event: Event) -> None:
    _restart(fabric, event, is_graceful=True)


def _restart(fabric: Fabric, event: Event, *, is_graceful: bool) -> None:
    guest = guests.of(fabric)[event.leaf]
    if guest.router.is_running:
        guest.restart(event.value, is_graceful=is_graceful)


async def _dies(fabric: Fabric, event: Event) -> None:
    """Without a word."""
    guests.of(fabric)[event.leaf].router.crash()


async def _starts(fabric: Fabric, event: Event) -> None:
    guests.of(fabric)[event.leaf].start()


async def _hangs(fabric: Fabric, event: Event) -> None:
    """It hears nothing any more, and speaks on."""
    guests.of(fabric)[event.leaf].port.is_deaf = bool(event.value)


async def _reload(fabric: Fabric, event: Event) -> None:
    """They may announce something else from now on."""
    host = fabric.hosts[event.host]
    permitted = guests.PERMITTED[int(event.value)]
    those = tuple(msgspec.structs.replace(one, prefixes=permitted) for one in host.config.workload.bgp)
    workload = msgspec.structs.replace(host.config.workload, bgp=those)
    await host.reload(msgspec.structs.replace(host.config, workload=workload))


GUESTS: dict[Kind, Callable[[Fabric, Event], Awaitable[None]]] = {
    Kind.GUEST_SAYS: _says,
    Kind.GUEST_WITHDRAWS: _withdraws,
    Kind.GUEST_RESTARTS: _restarts,
    Kind.GUEST_RESTARTS_GRACEFULLY: _restarts_gracefully,
    Kind.GUEST_DIES: _dies,
    Kind.GUEST_STARTS: _starts,
    Kind.GUEST_HANGS: _hangs,
    Kind.RELOAD_GUESTS: _reload,
}
