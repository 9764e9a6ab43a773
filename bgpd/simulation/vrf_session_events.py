"""What happens to sessions inside VRFs: instances of leaves that announce, withdraw and reset, and neighbors in VRFs
that leave the configuration."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from bgpd.simulation.fabric import Fabric
from bgpd.simulation.router import Router
from bgpd.simulation.scenario import Event, Kind
from bgpd.simulation.vrf_sessions import neighbor_of
from bgpd.simulation.wire import CEASE, Route


def _instance(fabric: Fabric, event: Event) -> Router:
    return fabric.routers[event.leaf].instances[event.tenant]


async def _says(fabric: Fabric, event: Event) -> None:
    instance = _instance(fabric, event)
    instance.own[event.address] = Route(peer=None)
    instance.changed([event.address])


async def _withdraws(fabric: Fabric, event: Event) -> None:
    instance = _instance(fabric, event)
    if instance.own.pop(event.address, None) is not None:
        instance.changed([event.address])


async def _resets(fabric: Fabric, event: Event) -> None:
    session = _instance(fabric, event).peers[event.host].session
    if session is not None:
        session.notify(CEASE, 4, is_graceful=True)


async def _reload(fabric: Fabric, event: Event) -> None:
    """The neighbor leaves the configuration, or is in it again."""
    host = fabric.hosts[event.host]
    await host.leave_out(host.left_out ^ {neighbor_of(event.leaf, event.tenant)})


VRF_SESSIONS: dict[Kind, Callable[[Fabric, Event], Awaitable[None]]] = {
    Kind.VRF_LEAF_SAYS: _says,
    Kind.VRF_LEAF_WITHDRAWS: _withdraws,
    Kind.VRF_LEAF_RESETS: _resets,
    Kind.RELOAD_VRF_NEIGHBOR: _reload,
}
