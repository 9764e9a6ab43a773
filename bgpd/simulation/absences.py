"""Leaves that are away for longer than their Restart Time (RFC 9494), which may be for ever."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from bgpd.simulation.fabric import Fabric
from bgpd.simulation.kept import Kept
from bgpd.simulation.scenario import Event, Kind


async def _leaves(fabric: Fabric, event: Event) -> None:
    """Its BGP ends, and the hardware forwards on."""
    leaf = fabric.routers[event.leaf]
    if not leaf.is_running or leaf.is_deferring:
        return
    for name, host in fabric.hosts.items():
        host.kept.pop(leaf.name, None)
        peer = leaf.peers.get(name)
        if peer is not None and peer.session is not None and leaf.style.restarts:
            last_choice_at = fabric.loop.now + leaf.style.restart_time_s
            host.kept[leaf.name] = Kept(dict(peer.sent), last_choice_at, leaf.style.long_lived_s)
    leaf.stop(is_graceful=True)


async def _returns(fabric: Fabric, event: Event) -> None:
    leaf = fabric.routers[event.leaf]
    if leaf.stack.is_there and not leaf.is_running:
        leaf.start(is_graceful=leaf.style.restarts)


ABSENCES: dict[Kind, Callable[[Fabric, Event], Awaitable[None]]] = {
    Kind.LEAF_LEAVES: _leaves,
    Kind.LEAF_RETURNS: _returns,
}
