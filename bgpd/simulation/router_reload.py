"""A router takes over another configuration while it runs: what it announces, its policies, and the families of its
neighbors. A session ends where its families or timers are others, or its neighbor is shut down; else what is known is
looked at again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from bgpd.migrate.draft import ImportFailed, Place
from bgpd.simulation.clab import FRR_CONFIG, Node
from bgpd.simulation.frr_neighbors import FrrNeighbor
from bgpd.simulation.frr_router import FrrRouter
from bgpd.simulation.peer import Peer
from bgpd.simulation.router import Router
from bgpd.simulation.router_configs import read_config
from bgpd.simulation.wire import CEASE

_SHUT_DOWN, _OTHER_CONFIGURATION = 2, 6
"""Subcodes of CEASE (RFC 4486)."""
Expects = Callable[[FrrRouter, Peer], FrrNeighbor | None]
"""What a configuration says of a neighbor."""


def read(node: Node, file: Path, router: Router) -> FrrRouter:
    """What it takes over. Raises: ImportFailed: it cannot, or the file has errors."""
    config = read_config(node, file)
    if config is None:
        right = f"bind its frr.conf into it: binds: [FILE:{FRR_CONFIG}]"
        raise ImportFailed(node.place, f"{node.name} has no configuration that is read", right)
    if config.asn != router.asn:
        what = f"{node.name} is AS {config.asn} here, and was {router.asn}"
        raise ImportFailed(Place(str(file)), what, "a reload keeps the AS number")
    for port in router.stack.ports:
        there = port.other.stack.name if port.other is not None else ""
        interface = config.neighbors.at(port.name)
        if there not in router.peers and interface is not None and not interface.is_shut:
            what = f"{node.name} had no session with {there} ({port.name}) at the start"
            raise ImportFailed(Place(str(file)), what, "give it one in the first configuration, too")
    return config


def change(router: Router, config: FrrRouter, expects: Expects, offer: Callable[[Peer, FrrNeighbor], None]) -> None:
    """Have a router take it over. `offer`: gives a neighbor its families and filters."""
    router.set_style(config.style)
    before = list(router.own)
    router.own = {**config.own, **config.tenants}
    router.default_to.clear()
    router.summaries.configured = config.aggregates
    router.summaries.active.intersection_update(config.aggregates)
    for peer in router.peers.values():
        found = expects(config, peer)
        was, negotiated = (peer.is_shut, peer.offered, peer.hold_s), peer.families
        peer.is_shut = found is None or found.is_shut
        if found is None or found.is_shut:
            peer.end_all(lambda one: one.notify(CEASE, _SHUT_DOWN))
            continue
        peer.hold_s = router.style.hold_s
        offer(peer, found)
        if was == (False, peer.offered, peer.hold_s):
            peer.families = negotiated
            peer.ask_again()
        else:
            peer.end_all(lambda one: one.notify(CEASE, _OTHER_CONFIGURATION))
    router.changed((*before, *router.own, *router.best))
    for peer in router.peers.values():
        peer.due(router.best)
