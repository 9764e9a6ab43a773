"""What must hold of tenants once a fabric has come to rest: who announces what, where the VRFs' tables lead, that no
packet leaves its tenant."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from bgpd.kernel.route_messages import LAST_RESORT_METRIC
from bgpd.model.iana import UNICAST
from bgpd.model.prefix import format_address, format_key, key_address, parse_prefix
from bgpd.simulation import evpn, policies, tenants, vrf_sessions
from bgpd.simulation.aggregates import Announced, is_inside
from bgpd.simulation.bandwidths import announced_by, shares
from bgpd.simulation.expected import Expected
from bgpd.simulation.fabric import Fabric
from bgpd.simulation.host import SimulatedHost
from bgpd.simulation.linux import BLACKHOLE, FOREIGN, METRIC
from bgpd.simulation.policies import PLAIN
from bgpd.simulation.tenants import Tenant
from bgpd.simulation.wire import EVPN

MAIN = 254
_MOST_HOPS = 6
Hop = tuple[bytes, int]
Shares = dict[Hop, int]


def findings(fabric: Fabric, expected: Expected) -> Iterator[str]:
    """All that is not as it should be."""
    for tenant in fabric.tenants:
        yield from _held_once(fabric, tenant)
    for host in fabric.hosts.values() if fabric.tenants else ():
        if host.daemon is None:
            continue
        yield from _announced(fabric, host)
        for tenant in fabric.tenants:
            if tenant in tenants.of(fabric, host):
                yield from _links(fabric, host, tenant)
                yield from _table(fabric, host, tenant, expected)
                yield from _record(host, tenant)
                yield from _paths(fabric, host, tenant, expected)
            else:
                yield from _gone(fabric, host, tenant)
            yield from vrf_sessions.findings(fabric, host, tenant)


# Who announces what


def _held_once(fabric: Fabric, tenant: Tenant) -> Iterator[str]:
    """A machine that several hosts have is announced by one of them, by a sticky one if there is one."""
    for address in tenants.addresses(fabric, tenant):
        claimants = tenants.claimants(fabric, tenant, address)
        if not tenants.is_contested(fabric, tenant, address):
            continue
        if not all(fabric.hears(name) and fabric.tells(name) for name in claimants):
            continue
        holders = tenants.holders(fabric, tenant, address)
        if tenants.is_frozen(fabric, tenant, address):
            continue
        sticky = [name for name in claimants if fabric.hosts[name].machines[tenant.name, address]]
        if len(holders) != 1:
            yield f"{tenant.name} {address} is announced by {holders}, and {claimants} have it"
        elif sticky and holders != sticky[:1]:
            yield f"{tenant.name} {address} is announced by {holders}, and sticky on {sticky}"


def _announced(fabric: Fabric, host: SimulatedHost) -> Iterator[str]:
    """Each leaf has just what its hosts should announce, each route with what belongs to it."""
    for leaf in fabric.leaves_of(host.name):
        routes = fabric.routers[leaf].peers[host.name].routes
        found = {name for name in routes if name.startswith("evpn ")}
        said = policies.said(host.config, host.neighbors[leaf].export, PLAIN)
        for tenant in fabric.tenants:
            rd = tenants.distinguisher(fabric, host.name, tenant).hex()
            its = {name for name in found if name.split(" ")[2] == rd}
            certain, possible = _wanted(fabric, host, tenant) if said is not None else (set[str](), set[str]())
            if tenants.originated(fabric, host, tenant) is None:
                certain, possible = {one for one in certain if evpn.is_host(one)}, possible | its
            found -= its
            if its - certain - possible or certain - its:
                yield f"{leaf} has of {host.name} in {tenant.name} {sorted(its)}, and should have {sorted(certain)}"
            for name in its:
                route = routes[name]
                is_v6 = ":" in evpn.prefix_of(name)
                gateway = tenants.host_end(tenants.number_of(leaf), tenants.number_of(host.name), is_v6=is_v6)
                wanted = (tenant.label, b"" if evpn.is_host(name) else gateway)
                is_as_said = said is None or policies.is_as_said(route, said)
                if (prefix := evpn.prefix_of(name)) in vrf_sessions.prefixes(fabric, tenant):
                    is_as_said = vrf_sessions.is_as_said(fabric, host, tenant, prefix, route)
                if (route.label, route.gateway) != wanted or tenant.target not in route.extended or not is_as_said:
                    yield f"{leaf} has {name} of {host.name} as {route}, and should have it as {said}"
                sticky = host.machines.get((tenant.name, evpn.prefix_of(name)))
                if evpn.is_host(name) and sticky is not None and evpn.mobility(route)[0] is not sticky:
                    yield f"{leaf} has {name} of {host.name} as {route}, and it is {'' if sticky else 'not '}sticky"
        if found:
            yield f"{leaf} has {sorted(found)} of {host.name}, which are of no tenant"


def _wanted(fabric: Fabric, host: SimulatedHost, tenant: Tenant) -> tuple[set[str], set[str]]:
    """The routes that a host must announce, and those that it may."""
    certain: set[str] = set()
    possible: set[str] = set()
    if tenant not in tenants.of(fabric, host) or not tenants.speaks(host):
        return certain, possible
    number, rd = tenants.number_of(host.name), tenants.distinguisher(fabric, host.name, tenant)
    for leaf in tenants.uplinks_up(fabric, host.name):
        for is_v6 in tenants.families(fabric):
            address = _text(tenants.host_end(leaf, number, is_v6=is_v6))
            certain.add(evpn.mac_ip(rd, tenant.uplink_mac(leaf, number), address))
    said = tenants.originated(fabric, host, tenant)
    certain |= {evpn.ip_prefix(rd, one) for one in said.aggregates} if said is not None else set[str]()
    certain |= {evpn.ip_prefix(rd, one) for one in vrf_sessions.passed_on(fabric, host, tenant)}
    suppressed = {address for address, _aggregate in said.suppressed} if said is not None else set[str]()
    for name, address in host.machines:
        if name == tenant.name:
            routes = {evpn.ip_prefix(rd, address)} if address not in suppressed else set[str]()
            if mac := tenants.mac_of(address):
                routes.add(evpn.mac_ip(rd, mac, address))
            if tenants.is_contested(fabric, tenant, address):
                possible |= routes
            else:
                certain |= routes
    return certain, possible


# What the kernel has


def _links(fabric: Fabric, host: SimulatedHost, tenant: Tenant) -> Iterator[str]:
    """What comes in by a tenant's links is looked up in its table: by those of workloads, if this host has one."""
    indexes = [tenant.uplink(tenants.number_of(leaf)) for leaf in fabric.routers_of(host.name)]
    its = (address for name, address in host.machines if name == tenant.name)
    if any(host.name in tenants.owners(fabric, tenant, address) for address in its):
        indexes.append(tenant.tap)
    for index in indexes:
        table = host.kernel.vrfs.table_of(index)
        if table != tenant.table:
            yield f"{host.name}: {host.kernel.links[index].name} of {tenant.name} is looked up in table {table}"


def _table(fabric: Fabric, host: SimulatedHost, tenant: Tenant, expected: Expected) -> Iterator[str]:
    """A VRF's table has exactly the routes that follow from the fabric as it is."""
    daemon, kernel = host.daemon, host.kernel
    assert daemon is not None
    if not daemon.routing.converged:
        return
    own = kernel.own_routes(tenant.table)
    for family in UNICAST:
        if own.pop((family, tenant.table, b"\0", LAST_RESORT_METRIC), None) is None:
            yield f"{host.name}: {family} of {tenant.name} has no unreachable default"
    for prefix, hops in _targets(fabric, host, tenant, expected):
        family, key = parse_prefix(prefix)
        target = own.pop((family, tenant.table, key, METRIC), None)
        if hops is None:
            continue
        if isinstance(hops, int):
            if target != hops:
                yield f"{host.name}: {prefix} of {tenant.name} leads to {target}, not to {hops}"
            continue
        found = kernel.shares(target) if target is not None and target > 0 else Shares()
        if found != hops:
            shown = f"{_hops(found)} (target {target})"
            yield f"{host.name}: {prefix} of {tenant.name} leads to {shown}, not to {_hops(hops)}"
    unclear = tenants.unclear_blocks(fabric, tenant)
    for (family, _table, key, metric), target in own.items():
        prefix = format_key(family, key)
        if not any(is_inside(prefix, block) for block in unclear):
            yield f"{host.name}: {tenant.name} has a stale route {prefix} (metric {metric}, target {target})"


def _targets(
    fabric: Fabric, host: SimulatedHost, tenant: Tenant, expected: Expected
) -> Iterator[tuple[str, Shares | int | None]]:
    """Prefixes of a tenant, and where they should lead from a host: by next hops, or to an interface (its index with a
    minus); None: nobody can say."""
    number = tenants.number_of(host.name)

    def hop(leaf: str, *, is_v6: bool) -> Hop:
        return tenants.leaf_end(tenants.number_of(leaf), number, is_v6=is_v6), tenant.uplink(tenants.number_of(leaf))

    def by(owners: list[str], *, is_v6: bool) -> Shares:
        return {hop(leaf, is_v6=is_v6): 1 for leaf in expected.nearest_to(host.name, owners, EVPN)}

    leaves = [name for name in fabric.routers if name != "spine"]
    nearest = expected.nearest_to(host.name, leaves, EVPN)

    for is_v6 in tenants.families(fabric):
        said = {
            hop(leaf, is_v6=is_v6): announced_by(
                fabric, host, leaf, tenants.elsewhere(fabric.routers[leaf], tenant, is_v6=is_v6)
            )
            for leaf in nearest
        }
        yield tenants.ELSEWHERE_V6 if is_v6 else tenants.ELSEWHERE, shares(said)
    for other in fabric.hosts.values():
        if other is not host and tenant in tenants.of(fabric, other) and tenants.speaks(other):
            for leaf in tenants.uplinks_up(fabric, other.name):
                for is_v6 in tenants.families(fabric):
                    end = tenants.host_end(leaf, tenants.number_of(other.name), is_v6=is_v6)
                    yield _text(end), by([other.name], is_v6=is_v6)
    for leaf in tenants.uplinks_up(fabric, host.name) if not host.kernel.vrfs.has_devices else ():
        for is_v6 in tenants.families(fabric):
            end = tenants.leaf_end(leaf, number, is_v6=is_v6)
            yield f"{format_address(end)}/{8 * len(end) - 1}", -tenant.uplink(leaf)
    yield from vrf_sessions.targets(fabric, host, tenant, expected, partial(hop, is_v6=False))
    said_by = {name: tenants.originated(fabric, other, tenant) for name, other in fabric.hosts.items()}
    for name, its in said_by.items():
        other = fabric.hosts[name]
        if its is None or tenant not in tenants.of(fabric, other):
            continue
        if other is host:
            yield from ((prefix, BLACKHOLE) for prefix in its.blackholes)
        elif tenants.speaks(other):
            yield from ((prefix, by([name], is_v6=":" in prefix)) for prefix in its.aggregates)
    for address in tenants.addresses(fabric, tenant):
        owners = tenants.owners(fabric, tenant, address)
        is_own = (tenant.name, address) in host.machines
        is_unsure = tenants.is_contested(fabric, tenant, address) and not tenants.is_settled(fabric, tenant, address)
        if is_unsure or (is_own and host.is_drained and owners and tenants.mac_of(address)):
            yield address, None
        elif is_own and (host.name in owners or host.is_drained):
            yield address, -tenant.tap
        elif any(said_by[name] is None for name in owners):
            yield address, None
        else:
            telling = [name for name in owners if tenants.mac_of(address) or not _is_suppressed(said_by[name], address)]
            yield address, by(telling, is_v6=":" in address)


def _is_suppressed(said: Announced | None, address: str) -> bool:
    return said is not None and any(one == address for one, _aggregate in said.suppressed)


def _record(host: SimulatedHost, tenant: Tenant) -> Iterator[str]:
    """The FIB's record of a VRF's table is what the kernel has."""
    daemon = host.daemon
    assert daemon is not None
    fib = daemon.routing.tables.fibs.get(tenant.name)
    if fib is None:
        yield f"{host.name}: {tenant.name} has no table"
        return
    for family in UNICAST if daemon.routing.converged else ():
        installed = fib.writer.families[family].installed
        believed = {key: installed.get(key) for keys in installed.slices(1000) for key in keys}
        own = host.kernel.own_routes(tenant.table)
        kernel = {place[2]: target for place, target in own.items() if place[0] is family and place[3] == METRIC}
        if believed != kernel:
            yield f"{host.name}: the FIB's record of {tenant.name} is {believed}, and the kernel has {kernel}"


def _gone(fabric: Fabric, host: SimulatedHost, tenant: Tenant) -> Iterator[str]:
    """Of a VRF that is not configured nothing is left, once what an earlier run left is looked at."""
    if host.daemon is None or not host.daemon.routing.converged:
        return
    if host.kernel.own_routes(tenant.table):
        yield f"{host.name}: routes of {tenant.name} are left: {host.kernel.own_routes(tenant.table)}"
    for index in (*(tenant.uplink(tenants.number_of(leaf)) for leaf in fabric.routers_of(host.name)), tenant.tap):
        if host.kernel.vrfs.table_of(index) != MAIN:
            yield f"{host.name}: {host.kernel.links[index].name} is still in a VRF"
    if any(one.name == tenant.name for one in host.kernel.links.values()):
        yield f"{host.name}: the VRF device {tenant.name} is left"


# Where packets go


def _paths(fabric: Fabric, host: SimulatedHost, tenant: Tenant, expected: Expected) -> Iterator[str]:
    for address in tenants.addresses(fabric, tenant):
        owners = tenants.owners(fabric, tenant, address)
        is_reachable = host.name in owners or bool(expected.nearest_to(host.name, owners, EVPN))
        if owners and is_reachable and tenants.is_settled(fabric, tenant, address):
            for wrong in sorted(set(walk(fabric, host.name, tenant, address))):
                yield f"from {host.name} to {address} of {tenant.name}: {wrong}"
    for prefix in vrf_sessions.told(fabric, host, tenant):
        for wrong in sorted(set(walk(fabric, host.name, tenant, prefix))):
            yield f"from {host.name} to {prefix} of {tenant.name}: {wrong}"


def lost(fabric: Fabric, machines: tuple[tuple[str, str, str], ...]) -> list[str]:
    """Packets to these workloads (host, tenant, address), and to what all leaves announce inside tenants, that are lost
    now, from whichever host."""
    its = [(tenant, address) for _host, name, address in machines for tenant in fabric.tenants if tenant.name == name]
    inside = [(one, vrf_sessions.EVERYWHERE) for one in fabric.tenants if vrf_sessions.prefixes(fabric, one)]
    return [
        f"from {name} to {address} of {tenant.name}: {wrong}"
        for name in fabric.hosts
        for tenant, address in (*its, *inside)
        for wrong in sorted(set(walk(fabric, name, tenant, address)))
    ]


def walk(fabric: Fabric, host: str, tenant: Tenant, address: str) -> Iterator[str]:
    """What is wrong with the ways from a workload of a tenant on a host to an address."""
    return _walk(fabric, host, tenant, address, (), tenant.tap)


def _walk(
    fabric: Fabric, node: str, tenant: Tenant, address: str, passed: tuple[str, ...], index: int
) -> Iterator[str]:
    here = (*passed, node)
    if node in passed or len(here) > _MOST_HOPS:
        yield f"a loop: {' '.join(here)}"
        return
    if node in fabric.hosts:
        yield from _walk_host(fabric, node, tenant, address, here, index)
        return
    router = fabric.routers[node]
    if vrf_sessions.ends_at(fabric, node, tenant, address):
        return
    ways = evpn.forwards(router.installed, router.fib, tenant.target, address)
    if not ways:
        yield f"{' '.join(here)} has no route"
    for way in ways:
        names = (node, way) if (node, way) in fabric.links else (way, node)
        if way and not fabric.links[names].is_whole:
            yield f"{' '.join(here)} sends into the broken link to {way}"
        elif way in fabric.hosts:
            yield from _walk(fabric, way, tenant, address, here, tenant.uplink(tenants.number_of(node)))
        elif way:
            yield from _walk(fabric, way, tenant, address, here, 0)


def _walk_host(
    fabric: Fabric, node: str, tenant: Tenant, address: str, here: tuple[str, ...], index: int
) -> Iterator[str]:
    host = fabric.hosts[node]
    family, key = parse_prefix(address)
    is_first = len(here) == 1
    table = tenant.table if is_first else host.kernel.vrfs.table_of(index)
    if table != tenant.table:
        yield f"{' '.join(here)} leaves its tenant: table {table}"
        return
    found = host.kernel.lookup(key_address(family, key), table)
    if found is None or found[1] <= FOREIGN:
        yield f"{' '.join(here)} has no route"
    elif found[1] < 0:
        if found[1] != -tenant.tap or (tenant.name, address) not in host.machines:
            yield f"{' '.join(here)} delivers it, and does not own it"
    elif not is_first and address not in vrf_sessions.prefixes(fabric, tenant):
        yield f"{' '.join(here)} sends it back into the fabric"
    else:
        for gateway, way in sorted(host.kernel.next_hops(found[1])):
            leaf = tenants.leaf_of(gateway)
            link = fabric.links.get((f"leaf{leaf}", node))
            if way != tenant.uplink(leaf):
                yield f"{' '.join(here)} leaves its tenant by {host.kernel.links[way].name}"
            elif link is None or not link.is_whole:
                yield f"{' '.join(here)} sends into a broken link"
            else:
                yield from _walk(fabric, f"leaf{leaf}", tenant, address, here, 0)


def left_in_rib(fabric: Fabric, host: SimulatedHost) -> int:
    """The routes of the RIB that stay when nobody has anything any more: of the uplinks, and the targets wanted."""
    uplinks = len(tenants.families(fabric)) * len(tenants.uplinks_up(fabric, host.name))
    return len(fabric.tenants) * (1 + uplinks)


def _text(packed: bytes) -> str:
    return f"{format_address(packed)}/{8 * len(packed)}"


def _hops(hops: Shares) -> str:
    parts = sorted(hops.items())
    return ", ".join(f"{format_address(gateway)}%{index} x {part}" for (gateway, index), part in parts)
