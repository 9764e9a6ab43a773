"""Tenants of users' topologies: who should have their routes, and where packets inside a VRF end, by VLANs that routers
bridge, or by what routers have of EVPN.

A router bridges what is on the same VLAN at its ports (0: untagged); to an address that no host has there it forwards
itself, inside the tenant.
"""

from __future__ import annotations

from collections.abc import Iterator

from bgpd.config.schema import Config, VrfConfig
from bgpd.model.communities import automatic_route_target, parse_route_target
from bgpd.model.prefix import key_address, parse_prefix
from bgpd.simulation import evpn
from bgpd.simulation.expected import Expected
from bgpd.simulation.fabric import Fabric
from bgpd.simulation.host import SimulatedHost
from bgpd.simulation.linux import FOREIGN
from bgpd.simulation.wire import EVPN

_MOST_HOPS = 6


def exported(config: Config, vrf: VrfConfig) -> set[bytes]:
    """The route targets that a VRF announces with."""
    return {_target(one, config, vrf) for one in vrf.export_rt}


def imported(config: Config, vrf: VrfConfig) -> set[bytes]:
    """Those that it takes in."""
    return {_target(one, config, vrf) for one in vrf.import_rt}


def _target(text: str, config: Config, vrf: VrfConfig) -> bytes:
    return automatic_route_target(config.router.asn, vrf.vni) if text == "auto" else parse_route_target(text)


def live(fabric: Fabric) -> dict[tuple[str, str], list[str]]:
    """The workloads of tenants, by VRF and address, each with the hosts that have it."""
    found: dict[tuple[str, str], list[str]] = {}
    for name, host in fabric.hosts.items():
        vrfs = {one.name for one in host.config.vrf}
        for vrf, address in host.machines if host.stack.is_there else ():
            if vrf in vrfs:
                found.setdefault((vrf, address), []).append(name)
    return found


def sources(fabric: Fabric, vrf: str, owners: list[str]) -> Iterator[tuple[str, VrfConfig]]:
    """Other hosts that are on, each with a VRF that takes in what the owners announce of theirs."""
    configs = [fabric.hosts[name].config for name in owners]
    told = {one for config in configs for its in config.vrf if its.name == vrf for one in exported(config, its)}
    for name, host in fabric.hosts.items():
        if name not in owners and host.stack.is_there:
            yield from ((name, one) for one in host.config.vrf if imported(host.config, one) & told)


def wrong_from(fabric: Fabric, host: str, vrf: VrfConfig, address: str) -> list[str]:
    """What is wrong with the ways from a workload of a VRF on a host to an address of the tenant."""
    return sorted(set(_sent(fabric, fabric.hosts[host], vrf, address)))


def _sent(fabric: Fabric, host: SimulatedHost, vrf: VrfConfig, address: str) -> Iterator[str]:
    found = host.kernel.lookup(key_address(*parse_prefix(address)), vrf.table)
    if found is None or found[1] <= FOREIGN:
        yield f"{host.name} has no route"
        return
    if found[1] < 0:
        yield f"{host.name} delivers it, and does not own it"
        return
    for gateway, index in sorted(host.kernel.next_hops(found[1])):
        link = host.kernel.links[index]
        port = next((one for one in host.stack.ports if one.index == (link.parent or index)), None)
        if index not in host.vlans or port is None or port.other is None or port.link is None:
            yield f"{host.name} sends it out of the fabric, by {link.name}"
        elif not port.link.is_whole or not port.other.stack.is_there:
            yield f"{host.name} sends into a broken link"
        else:
            router, vlan = port.other.stack.name, host.vlans[index]
            at = fabric.segments.get((router, vlan, gateway))
            if at is None:
                targets = imported(host.config, vrf)
                yield from (f"{host.name} {wrong}" for wrong in _forwarded(fabric, router, targets, address, ()))
            else:
                yield from (f"{host.name} {router} {wrong}" for wrong in _bridged(fabric, router, at, address))


def _bridged(fabric: Fabric, router: str, at: tuple[str, int], address: str) -> Iterator[str]:
    """A frame for the interface of a host."""
    host, index = fabric.hosts[at[0]], at[1]
    if not fabric.link_between(router, host.name).is_whole or not host.stack.is_there:
        yield f"sends into the broken link to {host.name}"
    else:
        yield from _received(host, host.kernel.vrfs.table_of(index), address)


def _received(host: SimulatedHost, table: int, address: str) -> Iterator[str]:
    """A packet that comes in by an interface of a table."""
    found = host.kernel.lookup(key_address(*parse_prefix(address)), table)
    vrf = next((one.name for one in host.config.vrf if one.table == table), "")
    if not vrf:
        yield f"{host.name} takes it out of its tenant: table {table}"
    elif found is None or found[1] <= FOREIGN:
        yield f"{host.name} has no route"
    elif found[1] > 0:
        yield f"{host.name} sends it back into the fabric"
    elif (vrf, address) not in host.machines:
        yield f"{host.name} delivers it, and does not own it"


def _forwarded(fabric: Fabric, name: str, targets: set[bytes], address: str, passed: tuple[str, ...]) -> Iterator[str]:
    """A packet that a router has to forward inside the tenant itself."""
    router = fabric.routers[name]
    here = (*passed, name)
    if name in passed or len(here) > _MOST_HOPS:
        yield f"{' '.join(here)}, a loop"
        return
    ways = {way for one in targets for way in evpn.forwards(router.installed, router.fib, one, address)}
    if not ways:
        yield f"{' '.join(here)} has no route"
    for way in sorted(ways):
        if way and not fabric.link_between(name, way).is_whole:
            yield f"{' '.join(here)} sends into the broken link to {way}"
        elif way in fabric.hosts:
            yield from (f"{' '.join(here)} {wrong}" for wrong in _handed_over(fabric.hosts[way], targets, address))
        elif way:
            yield from _forwarded(fabric, way, targets, address, here)


def _handed_over(host: SimulatedHost, targets: set[bytes], address: str) -> Iterator[str]:
    """A packet from a router for the VRF of a host that announced the address with one of these targets."""
    its = [one for one in host.config.vrf if exported(host.config, one) & targets]
    owning = [one for one in its if (one.name, address) in host.machines] or its
    if not owning:
        yield f"{host.name} has no VRF for it"
    else:
        yield from _received(host, owning[0].table, address)


# What must hold


def findings(fabric: Fabric, expected: Expected) -> Iterator[str]:
    """All that is not as it should be. Of an address that several hosts have nothing is said."""
    if not fabric.segments:
        return
    for host in fabric.hosts.values():
        if host.daemon is not None:
            yield from _announced(fabric, host)
    for (vrf, address), owners in live(fabric).items():
        (owner, *others) = owners
        if others or not _speaks(fabric.hosts[owner]):
            continue
        for source, its in sources(fabric, vrf, owners):
            daemon = fabric.hosts[source].daemon
            if daemon is not None and daemon.routing.converged and expected.nearest_to(source, owners, EVPN):
                wrongs = wrong_from(fabric, source, its, address)
                yield from (f"from {source} to {address} of {vrf}: {wrong}" for wrong in wrongs)


def _speaks(host: SimulatedHost) -> bool:
    return host.daemon is not None and not host.is_drained


def _announced(fabric: Fabric, host: SimulatedHost) -> Iterator[str]:
    """Each router that has EVPN with a host has a route of type 5 for just what the host's VRFs have."""
    several = {place for place, owners in live(fabric).items() if len(owners) > 1}
    for vrf in host.config.vrf:
        targets = exported(host.config, vrf)
        names = {one.name for one in host.config.vrf if exported(host.config, one) & targets}
        owned = {address for name, address in host.machines if name in names and (name, address) not in several}
        for router in fabric.leaves_of(host.name):
            routes = fabric.routers[router].peers[host.name].routes if fabric.carries(router, host.name, EVPN) else {}
            has = {
                evpn.prefix_of(name)
                for name, route in routes.items()
                if name.startswith(f"evpn {evpn.IP_PREFIX} ") and targets & set(route.extended)
            }
            has -= {address for name, address in several if name in names}
            wanted = owned if _speaks(host) else set()
            if fabric.carries(router, host.name, EVPN) and has != wanted:
                yield f"{router} has {sorted(has)} of {vrf.name} of {host.name}, which owns {sorted(wanted)}"
