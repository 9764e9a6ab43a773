"""What must hold of guests once a fabric has come to rest: their sessions, and where the host sends what they say."""

from __future__ import annotations

from collections.abc import Iterator

from bgpd.model.prefix import format_address, parse_prefix
from bgpd.simulation.fabric import Fabric
from bgpd.simulation.guests import MARK
from bgpd.simulation.host import SimulatedHost
from bgpd.simulation.kernel import MAIN
from bgpd.simulation.linux import METRIC, Place


def sessions(host: SimulatedHost) -> Iterator[str]:
    """Sessions are established exactly where the guest runs, and packets pass both ways."""
    for name, guest in host.guests.items():
        is_there = guest.router.peers[host.name].session is not None and guest.router.is_running
        if is_there != guest.is_connected:
            yield f"{name} has {'a' if is_there else 'no'} session with {host.name}"


def announced(fabric: Fabric, host: SimulatedHost) -> Iterator[str]:
    """Leaves are told what guests say with their communities, or without, as the host's configuration says."""
    for prefix in sorted(host.said_by_guests):
        saying = [guest for guest in host.guests.values() if prefix in guest.says]
        is_marked = any(MARK in guest.router.own[prefix].communities for guest in saying)
        is_kept = any(guest.config is not None and guest.config.communities == "keep" for guest in saying)
        for leaf in fabric.leaves_of(host.name):
            route = fabric.routers[leaf].peers[host.name].routes.get(prefix)
            if route is not None and is_marked and (MARK in route.communities) is not is_kept:
                yield f"{leaf} has {prefix} of a guest of {host.name} as {route}"


def routes(host: SimulatedHost, own: dict[Place, int]) -> Iterator[str]:
    """What guests say leads to just those that say it; `own` is what the kernel has, and loses these."""
    for prefix in sorted(host.said_by_guests):
        family, key = parse_prefix(prefix)
        target = own.pop((family, MAIN, key, METRIC), None)
        wanted = {guest.hop(prefix) for guest in host.guests.values() if prefix in guest.says}
        found = host.kernel.next_hops(target) if target is not None and target > 0 else set[tuple[bytes, int]]()
        if found != wanted:
            shown = ", ".join(f"{format_address(gateway)}%{index}" for gateway, index in sorted(found))
            should = ", ".join(format_address(gateway) for gateway, _index in sorted(wanted))
            yield f"{host.name}: {prefix} leads to {shown or target}, not to its guests {should}"


def is_delivered(host: SimulatedHost, hops: set[tuple[bytes, int]], prefix: str) -> bool:
    """Whether packets that go by these next hops come to guests that have the address; their BGP need not run."""
    takers = {
        guest.hop(prefix)
        for guest in host.guests.values()
        if guest.router.stack.is_there and prefix in guest.router.own
    }
    return bool(hops) and hops <= takers
