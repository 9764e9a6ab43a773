"""What must hold of services once a fabric has come to rest: who announces each, and where packets to it go."""

from __future__ import annotations

from collections.abc import Iterator

from bgpd.model.prefix import format_address, parse_prefix
from bgpd.simulation import bandwidths, services
from bgpd.simulation.expected import Expected
from bgpd.simulation.fabric import Fabric
from bgpd.simulation.host import SimulatedHost
from bgpd.simulation.kernel import MAIN
from bgpd.simulation.linux import METRIC
from bgpd.simulation.offers import ADDRESSES, PROBED
from bgpd.simulation.shape import VETH
from bgpd.simulation.wire import V4

_MOST_HOPS = 6


def findings(fabric: Fabric, expected: Expected) -> Iterator[str]:
    """All that is not as it should be."""
    for address in ADDRESSES:
        announcers = services.announcers(fabric, address)
        for host in fabric.hosts.values():
            if host.daemon is None:
                continue
            yield from _announced(fabric, host, address, announcers)
            if host.daemon.routing.converged:
                yield from _way(fabric, host, address, announcers, expected)
                yield from _probed(host) if address == PROBED else ()


def _announced(fabric: Fabric, host: SimulatedHost, address: str, announcers: list[str]) -> Iterator[str]:
    for leaf in fabric.leaves_of(host.name):
        is_there = address in fabric.routers[leaf].peers[host.name].routes
        if is_there and host.name in announcers and not host.offers.may_be_kept(address):
            yield from _strength(fabric, host, address, leaf)
        if is_there != (host.name in announcers):
            yield f"{leaf} has {'a' if is_there else 'no'} route to {address} of {host.name}: {announcers} should be it"


def _strength(fabric: Fabric, host: SimulatedHost, address: str, leaf: str) -> Iterator[str]:
    """Its link bandwidth says how many backends serve, and of which weight."""
    found = bandwidths.said(fabric.routers[leaf].peers[host.name].routes[address].extended)
    if found != host.offers.strength(address):
        yield f"{leaf} is told {found} for {address} by {host.name}, where {host.offers.working(address)} serve"


def _way(fabric: Fabric, host: SimulatedHost, address: str, announcers: list[str], expected: Expected) -> Iterator[str]:
    """It leads to the local backends, or to where others announce it."""
    family, key = parse_prefix(address)
    target = host.kernel.own_routes().get(
        (family, MAIN, key, METRIC), 0
    )  # another covers it where a leaf has a default
    hops = host.kernel.shares(target) if target > 0 else dict[tuple[bytes, int], int]()
    working = host.offers.working(address) if address not in host.offers.sick else []
    leaves = () if working else expected.nearest_to_one(host.name, announcers, V4)
    is_kept = host.offers.may_be_kept(address)
    if is_kept and hops and hops.keys() <= _local(host, address, host.offers.present(address)).keys():
        return
    said: dict[tuple[bytes, int], int | None] = {}
    is_sure = True
    for leaf in leaves:
        there, here = fabric.links[leaf, host.name].ports
        offers = fabric.hosts[expected.brought_by(leaf, announcers, V4)].offers
        is_sure &= not offers.may_be_kept(address)
        said[there.address, here.index] = offers.strength(address)
    # too few serve on where nobody else does
    wanted = bandwidths.shares(said if leaves else _local(host, address, host.offers.usable(address)))
    if hops != wanted and (is_sure or hops.keys() != wanted.keys()):
        parts = sorted(hops.items())
        shown = ", ".join(f"{format_address(gateway)}%{index} x {part}" for (gateway, index), part in parts)
        should = f"here work {working}, elsewhere {announcers}: {sorted(wanted.items())}"
        yield f"{host.name}: {address} leads to {shown or 'nothing'}; {should}"
        return
    for leaf in leaves:
        yield from _walk(fabric, leaf, address, (host.name,))


def _probed(host: SimulatedHost) -> Iterator[str]:
    """Probes of an address come to backends of the host that work, whatever route everybody else takes."""
    offers = host.offers
    if PROBED in offers.backends and offers.usable(PROBED) and not offers.probe_leads_to():
        yield f"{host.name}: probes of {PROBED} do not come to {offers.usable(PROBED)}"


def _local(host: SimulatedHost, address: str, backends: list[str]) -> dict[tuple[bytes, int], int | None]:
    return {(parse_prefix(one)[1][1:], VETH): host.offers.weight(address, one) for one in backends}


def _walk(fabric: Fabric, node: str, address: str, passed: tuple[str, ...]) -> Iterator[str]:
    here = (*passed, node)
    if node in passed or len(here) > _MOST_HOPS:
        yield f"{address}: a loop: {' '.join(here)}"
    elif node in fabric.hosts:
        if not services.serving(fabric, node, address):
            yield f"{address}: {' '.join(here)} does not serve it"
    else:
        ways = fabric.routers[node].fib.get(address, ())
        if not ways:
            yield f"{address}: {' '.join(here)} has no route"
        for way in ways:
            yield from _walk(fabric, way, address, here)
