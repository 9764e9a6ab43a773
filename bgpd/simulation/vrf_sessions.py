"""BGP sessions of hosts inside VRFs: each leaf speaks to each host over its VLAN of a tenant, too, by an instance of
its own, and what must hold of it.

The instance of leaf L in a tenant announces 10.68.L.0/24 and what all of them do; a host announces its workloads of
the tenant to it and, where the VRF says so, what it is told there to other hosts by EVPN.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from bgpd.config.schema_sessions import GracefulRestartConfig, NeighborConfig
from bgpd.model.prefix import format_address
from bgpd.simulation import tenants
from bgpd.simulation.network import Port
from bgpd.simulation.router import Router
from bgpd.simulation.tenants import Tenant
from bgpd.simulation.wire import EVPN, Route

if TYPE_CHECKING:
    from bgpd.simulation.expected import Expected
    from bgpd.simulation.fabric import Fabric
    from bgpd.simulation.host import SimulatedHost

EVERYWHERE = "10.69.0.0/24"
"""What the instances of all leaves announce."""
_ASN, _LEAVES = 64900, 10
_FIRST_INDEX = 1000
Hop = tuple[bytes, int]


def first_of(leaf: int) -> list[str]:
    """What the instances of a leaf announce at first."""
    return [EVERYWHERE, f"10.68.{leaf}.0/24"]


def neighbor_of(leaf: str, tenant: str) -> str:
    """The name of a leaf's instance in a tenant, for hosts."""
    return f"{leaf}-{tenant}"


def configs(host: int, leaves: int, of: tuple[Tenant, ...], *, has_devices: bool) -> Iterator[NeighborConfig]:
    """Their part of a host's configuration: neighbors by the interface, or by the VRF's device where there is one."""
    for tenant in of:
        for leaf in range(leaves):
            yield NeighborConfig(
                name=neighbor_of(f"leaf{leaf}", tenant.name),
                address=format_address(tenants.leaf_end(leaf, host)),
                interface="" if has_devices and leaf % 2 == 0 else tenant.uplink_name(leaf),
                asn=_asn(leaf, tenant),
                import_="all",
                families=("ipv4-unicast",),
                vrf=tenant.name,
                graceful_restart=GracefulRestartConfig(restart_time_s=15, stale_time_s=20),
            )


def _asn(leaf: int, tenant: Tenant) -> int:
    return _ASN + _LEAVES * tenant.number + leaf


def add_instances(fabric: Fabric, leaf: Router) -> None:
    """Those of a leaf, without neighbors yet."""
    number = tenants.number_of(leaf.name)
    for tenant in fabric.tenants:
        made = Router(
            neighbor_of(leaf.name, tenant.name),
            fabric.loop,
            asn=_asn(number, tenant),
            router_id=leaf.router_id,
            style=leaf.style,
            chance=fabric.loop.chance,
            stack=leaf.stack,
        )
        made.noted = fabric.note
        made.own = dict.fromkeys(first_of(number), Route(peer=None))
        leaf.instances[tenant.name] = made


def connect(fabric: Fabric, leaf: Router, port: Port, host: SimulatedHost) -> None:
    """Their sessions with a host over VLANs of a link, the leaf's end of which is `port`."""
    at, to = tenants.number_of(leaf.name), tenants.number_of(host.name)
    for tenant in fabric.tenants if leaf.instances else ():
        other = tenant.uplink(at), tenant.uplink_name(at), tenants.host_end(at, to)
        index = _FIRST_INDEX * (1 + tenant.number) + port.index
        above, _below = port.add_vlan(index, tenant.name, tenants.leaf_end(at, to), other=other)
        asn = host.config.router.asn
        peer = leaf.instances[tenant.name].add_peer(above, name=host.name, asn=asn, dials=True, sends_only_own=True)
        peer.next_hops = frozenset((other[2],))


# What should be


def is_connected(fabric: Fabric, leaf: str, host: SimulatedHost, tenant: Tenant) -> bool:
    """Whether the session of a host with a leaf's instance has to be there."""
    router = fabric.routers[leaf]
    runs = router.is_running and router.stack.is_there and host.daemon is not None and host.stack.is_there
    name = neighbor_of(leaf, tenant.name)
    is_wanted = tenant.name in router.instances and any(one.name == name for one in host.config.neighbor)
    return runs and is_wanted and fabric.link_between(leaf, host.name).is_whole


def told(fabric: Fabric, host: SimulatedHost, tenant: Tenant) -> dict[str, list[str]]:
    """What instances announce to a host in a tenant, each with their leaves."""
    found: dict[str, list[str]] = {}
    for leaf in fabric.routers_of(host.name):
        if is_connected(fabric, leaf, host, tenant):
            for prefix in fabric.routers[leaf].instances[tenant.name].own:
                found.setdefault(prefix, []).append(leaf)
    return found


def passed_on(fabric: Fabric, host: SimulatedHost, tenant: Tenant) -> dict[str, list[str]]:
    """What of it the host announces by EVPN."""
    vrf = next((one for one in host.config.vrf if one.name == tenant.name), None)
    is_told = vrf is not None and vrf.originate == "all" and tenants.speaks(host)
    return told(fabric, host, tenant) if is_told else {}


def is_as_said(fabric: Fabric, host: SimulatedHost, tenant: Tenant, prefix: str, route: Route) -> bool:
    """Whether a leaf has of a host what instances have told it, as they did."""
    leaves = told(fabric, host, tenant).get(prefix, ())
    paths = {(host.config.router.asn, fabric.routers[leaf].instances[tenant.name].asn) for leaf in leaves}
    return route.as_path in paths


def ends_at(fabric: Fabric, node: str, tenant: Tenant, prefix: str) -> bool:
    """Whether packets to a prefix of a tenant have come where they should: to a leaf that announces it inside."""
    router = fabric.routers.get(node)
    return router is not None and tenant.name in router.instances and prefix in router.instances[tenant.name].own


def prefixes(fabric: Fabric, tenant: Tenant) -> list[str]:
    """All that instances announce in a tenant, or would if they ran."""
    its = [router.instances[tenant.name] for router in fabric.routers.values() if tenant.name in router.instances]
    return list(dict.fromkeys(prefix for instance in its for prefix in instance.own))


def targets(
    fabric: Fabric, host: SimulatedHost, tenant: Tenant, expected: Expected, hop: Callable[[str], Hop]
) -> Iterator[tuple[str, dict[Hop, int]]]:
    """Where what they announce should lead from a host: to those that tell it so, or else to leaves by which others
    that pass it on are reached."""
    said = told(fabric, host, tenant)
    others = {name: passed_on(fabric, other, tenant) for name, other in fabric.hosts.items() if other is not host}
    for prefix in prefixes(fabric, tenant):
        owners = [name for name, those in others.items() if prefix in those]
        leaves = said.get(prefix) or expected.nearest_to(host.name, owners, EVPN)
        if leaves:
            yield prefix, {hop(leaf): 1 for leaf in leaves}


def findings(fabric: Fabric, host: SimulatedHost, tenant: Tenant) -> Iterator[str]:
    """Sessions are established where they should be, and each instance has just the host's workloads."""
    for leaf in fabric.routers_of(host.name):
        router = fabric.routers[leaf]
        if tenant.name not in router.instances:
            continue
        instance, is_wanted = router.instances[tenant.name], is_connected(fabric, leaf, host, tenant)
        peer = instance.peers[host.name]
        if (peer.session is not None and instance.is_running) != is_wanted:
            yield f"{instance.name} has {'no' if is_wanted else 'a'} session with {host.name}"
        elif is_wanted:
            yield from _announced(fabric, host, tenant, instance)


def _announced(fabric: Fabric, host: SimulatedHost, tenant: Tenant, instance: Router) -> Iterator[str]:
    said, peer = tenants.originated(fabric, host, tenant), instance.peers[host.name]
    if said is None:
        return
    possible = {one for one in said.prefixes if tenants.is_contested(fabric, tenant, one) or ":" in one}
    wanted = said.prefixes - possible if tenants.speaks(host) else set[str]()
    if peer.routes.keys() - possible != wanted:
        yield f"{instance.name} has {sorted(peer.routes)} of {host.name}, which owns {sorted(wanted)}"
    if peer.strange_next_hops:
        yield f"{instance.name} was told next hops {sorted(peer.strange_next_hops)} by {host.name}"
    if peer.stale:
        yield f"{instance.name} keeps {sorted(peer.stale)} of {host.name} as stale"
