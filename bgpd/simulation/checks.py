"""What must hold once a fabric has come to rest, whatever happened before. Each finding is a sentence."""

from __future__ import annotations

from collections.abc import Iterator

from bgpd.model.iana import UNICAST
from bgpd.model.prefix import format_address, parse_prefix
from bgpd.model.source import Source
from bgpd.readiness import ESTABLISH_WAIT_S
from bgpd.simulation import contention, guest_checks, policies, service_checks, tenant_checks, tenant_paths
from bgpd.simulation.bandwidths import announced_by, shares
from bgpd.simulation.expected import Expected
from bgpd.simulation.fabric import Fabric
from bgpd.simulation.host import SimulatedHost
from bgpd.simulation.kernel import MAIN
from bgpd.simulation.linux import BLACKHOLE, METRIC, PROTOCOL, Place
from bgpd.simulation.offers import ADDRESSES
from bgpd.simulation.policies import Sort
from bgpd.simulation.reach import Packets
from bgpd.simulation.wire import EVPN, V6, codes_of

_ALL_HOSTS = 50
"""Up to so many, packets are followed from each of them."""
Hop = tuple[bytes, int]
"""Packed gateway, interface index."""
Shares = dict[Hop, int]
"""How much of the packets goes by each next hop."""


def findings(fabric: Fabric, *, is_foreseen: bool = True) -> list[str]:
    """All that is not as it should be. Not `is_foreseen`: policies say which routes there are, so that it is not known
    which there should be."""
    found = list(_sessions(fabric))
    expected = Expected(fabric)
    contested = {name: host.contested for name, host in fabric.hosts.items()}
    any_contested = any(contested.values())
    published = {one for host in fabric.hosts.values() for one in host.published}
    for host in fabric.hosts.values():
        found += host.new_errors()
        if host.daemon is not None:
            others = (prefixes for name, prefixes in contested.items() if name != host.name)
            elsewhere = published.union(*others) if any_contested else published
            found += _announced(fabric, host) if is_foreseen else ()
            found += _kernel(fabric, host, expected, elsewhere) if is_foreseen else ()
            found += _inside(fabric, host)
            found += _bfd(fabric, host)
        found += guest_checks.sessions(host)
        found += guest_checks.announced(fabric, host)
    found += _paths(fabric, expected) if is_foreseen else ()
    found += tenant_checks.findings(fabric, expected)
    found += tenant_paths.findings(fabric, expected) if is_foreseen else ()
    found += service_checks.findings(fabric, expected)
    found += fabric.loop.errors
    fabric.loop.errors = []
    return found


def _sessions(fabric: Fabric) -> Iterator[str]:
    """Sessions are established exactly where both ends run, and packets pass both ways."""
    for above, below in fabric.links:
        router = fabric.routers[above]
        is_there = router.is_running and below in router.peers and router.peers[below].session is not None
        if is_there != fabric.is_connected(above, below):
            yield f"{above} has {'a' if is_there else 'no'} session with {below}"


def _bfd(fabric: Fabric, host: SimulatedHost) -> Iterator[str]:
    """BFD is up wherever a session is, and the leaf's operator has not taken it AdminDown."""
    daemon = host.daemon
    assert daemon is not None
    states = {host.routers[view.neighbor]: view.state for view in daemon.routing.speaker.bfd.views()}
    for leaf in fabric.leaves_of(host.name) if host.bfd is not None and host.bfd.is_running else ():
        if not fabric.has_bfd(leaf, host.name) or states.get(leaf) == "up":
            continue
        router = fabric.routers[leaf]
        if not router.bfd[router.peers[host.name].port].is_shut:
            yield f"{host.name}: BFD of {leaf} is {states.get(leaf)}"


def _announced(fabric: Fabric, host: SimulatedHost) -> Iterator[str]:
    """Each leaf has just what its hosts own, nothing stale."""
    below, announced, neighbors = host.name, host.announced, host.neighbors
    for above in fabric.routers_of(below):
        if not fabric.is_connected(above, below):
            continue
        peer = fabric.routers[above].peers[below]
        passed_over = {*ADDRESSES, *host.published}
        owned = {one for one in announced if fabric.carries(above, below, codes_of(one))}
        export = neighbors[above].export
        wanted = {one: said for one in owned if (said := policies.said(host.config, export, Sort.of(one))) is not None}
        routes = {one: route for one, route in peer.routes.items() if codes_of(one) != EVPN and one not in passed_over}
        if routes.keys() - host.contested != wanted.keys() - host.contested:
            yield f"{above} has {sorted(routes)} of {below}, which owns {sorted(wanted)}"
        for one in sorted(routes.keys() & wanted.keys() if host.config.policy else ()):
            if not policies.is_as_said(routes[one], wanted[one]):
                yield f"{above} has of {below} {one} as {routes[one]}, and should have it as {wanted[one]}"
        if peer.strange_next_hops:
            named = sorted(one.hex() for one in peer.strange_next_hops)
            yield f"{above} was told next hops {named} by {below}, which are not its addresses there"
        if peer.stale:
            yield f"{above} keeps {sorted(peer.stale)} of {below} as stale"


def _kernel(fabric: Fabric, host: SimulatedHost, expected: Expected, contested: set[str]) -> Iterator[str]:
    """The kernel has exactly the routes that follow from the fabric as it is, by the right next hops. Of `contested`
    prefixes it is not said which host has them."""
    daemon = host.daemon
    assert daemon is not None
    kernel = host.kernel
    if not daemon.routing.converged:
        return  # old routes are the best that there is
    own = kernel.own_routes()
    yield from guest_checks.routes(host, own)
    away, managed, of_guests = host.sent_away(), host.managed, host.said_by_guests
    for prefix in contested:
        own.pop(_place(prefix), None)
    for prefix in sorted(managed - contested):
        target = own.pop(_place(prefix), None)
        is_needed = prefix not in host.claims and prefix not in away
        if target is None if is_needed else target is not None and target >= 0:
            yield f"{host.name}: {prefix} leads to {target}, not to its workload"
    yield from contention.findings(host)
    for prefix in sorted(host.originated.blackholes):
        if (target := own.pop(_place(prefix), None)) != BLACKHOLE:
            yield f"{host.name}: the kernel has no blackhole for {prefix}, but target {target}"
    own_ones = {*managed, *host.claims, *host.local}
    for prefix, leaves in expected.reached_by(host.name):
        if any(prefix in those for those in (contested, own_ones, away, of_guests)):
            continue
        said = {_next_hop(fabric, leaf, host, prefix): announced_by(fabric, host, leaf, prefix) for leaf in leaves}
        wanted = shares(said)
        target = own.pop(_place(prefix), None)
        hops = kernel.shares(target) if target is not None and target > 0 else Shares()
        if hops != wanted:
            has, should = f"{_shown(hops)} (target {target})", _shown(wanted)
            yield f"{host.name}: the kernel has {prefix} by {has}, and should have it by {should}"
    for prefix in ADDRESSES:
        own.pop(_place(prefix), None)
    for (_family, _table, key, metric), target in own.items():
        yield f"{host.name}: the kernel has a stale route {key.hex()} (metric {metric}, target {target})"


def _place(prefix: str) -> Place:
    family, key = parse_prefix(prefix)
    return family, MAIN, key, METRIC


def _inside(fabric: Fabric, host: SimulatedHost) -> Iterator[str]:
    """The daemon's parts are at rest, agree with each other and with the kernel."""
    daemon = host.daemon
    assert daemon is not None
    routing = daemon.routing
    is_connected = any(fabric.is_connected(above, host.name) for above in fabric.routers_of(host.name))
    reasons = daemon.readiness.reasons()
    is_waiting = not routing.converged and daemon.readiness.age_s < ESTABLISH_WAIT_S + 1
    if is_connected and not host.is_drained and not host.offers.is_lowered and not is_waiting and reasons:
        yield f"{host.name} is not ready: {'; '.join(reasons)}"
    if routing.tables.pending:
        yield f"{host.name}: {routing.tables.pending} routes wait for the kernel"
    if daemon.walks:
        yield f"{host.name}: {len(daemon.walks)} walks go on"
    fib, own = routing.tables.fibs[""], host.kernel.own_routes()
    for family in UNICAST if routing.converged else ():  # before, what an earlier run left may have died
        installed = fib.writer.families[family].installed
        kernel = {place[2]: target for place, target in own.items() if place[0] is family}
        believed = {key: installed.get(key) for key in _all_keys(installed)}
        if believed != kernel:
            keys = sorted(key.hex() for key in believed.keys() | kernel.keys() if believed.get(key) != kernel.get(key))
            yield f"{host.name}: the FIB's record of {keys} is not what the kernel has"
    used = host.kernel.targets()
    objects = host.kernel.objects
    groups = {one.id for one in objects.values() if one.members and one.protocol == PROTOCOL}
    if routing.converged and groups - used:
        yield f"{host.name}: nexthop groups {sorted(groups - used)} are left, and no route uses them"


def _all_keys(installed: object) -> list[bytes]:
    return [key for keys in installed.slices(1000) for key in keys]  # type: ignore[attr-defined]


def _paths(fabric: Fabric, expected: Expected) -> Iterator[str]:
    """Each way of each packet to a live address ends at an owner, without a loop.

    Of prefixes of the same owners that all routers forward alike, one is followed from the hosts on, and the others
    from the owners' doors; of many hosts behind the same routers, whose own routes are looked at one by one, the first.
    """
    sent_away = {one for host in fabric.hosts.values() for one in host.sent_away()}
    aggregates = {one for host in fabric.hosts.values() if host.config.aggregate for one in host.originated.aggregates}
    sources = list(_sources(fabric))
    for prefixes in expected.alike():
        followed = set()
        for prefix in prefixes:
            if prefix in sent_away or prefix in aggregates:
                continue
            packets = Packets(fabric, prefix)
            alike = tuple(router.fib.get(prefix) for router in fabric.routers.values())
            is_first = alike not in followed
            followed.add(alike)
            for host in sources if is_first else ():
                if expected.nearest(host, prefix):
                    yield from (f"from {host} to {prefix}: {wrong}" for wrong in packets.wrong_from(host))
            for owner in expected.owners[prefix] if not is_first else ():
                if owner in fabric.hosts:
                    yield from (f"to {prefix}: {wrong}" for wrong in packets.wrong_at(owner))
    yield from _paths_to_suppressed(fabric, expected, sources, sent_away)


def _paths_to_suppressed(fabric: Fabric, expected: Expected, sources: list[str], sent_away: set[str]) -> Iterator[str]:
    """Likewise to workloads that are announced by an aggregate only."""
    for owner in fabric.hosts.values():
        suppressed = owner.originated.suppressed if owner.config.aggregate and owner.announced else ()
        for address, aggregate in suppressed:
            if address in expected.owners or address in sent_away:
                continue
            packets = Packets(fabric, address)
            for host in sources:
                if host != owner.name and expected.nearest(host, aggregate):
                    yield from (f"from {host} to {address}: {wrong}" for wrong in packets.wrong_from(host))


def _sources(fabric: Fabric) -> Iterator[str]:
    """The hosts whose packets are followed."""
    is_large = len(fabric.hosts) > _ALL_HOSTS
    behind = set()
    for name, host in fabric.hosts.items():
        place = tuple(fabric.routers_of(name))
        if host.daemon is not None and not (is_large and place in behind):
            behind.add(place)
            yield name


def _next_hop(fabric: Fabric, leaf: str, host: SimulatedHost, prefix: str) -> Hop:
    there, here = fabric.links[leaf, host.name].ports
    return there.address6 if codes_of(prefix) == V6 and there.address6 else there.address, here.index


def _shown(hops: Shares) -> str:
    parts = sorted(hops.items())
    return ", ".join(f"{format_address(gateway)}%{index} x {part}" for (gateway, index), part in parts) or "nothing"


_OF_ROUTES = (
    *("received", "rejected", "interned", "stale", "gone", "unacknowledged", "refused"),
    *("suppressed", "suppressed_aggregates", "exceptions", "services"),
)
"""What tables have beside routes: by who said them, or of certain ones."""


def _left_in_memory(host: SimulatedHost) -> Iterator[str]:
    """Nothing is kept of sessions that have ended, nor of routes that are gone. What is counted of the host's own
    sources stays."""
    assert host.daemon is not None
    rib = host.daemon.routing.rib
    config = host.config
    for name in (*(one.name for one in config.neighbor), *(one.name for one in config.workload.bgp)):
        if places := rib.received.places(name):
            yield f"{host.name}: of former sessions with {name} {len(places)} tables are kept"
    for (place, family), table in (*rib.tables.items(), *rib.guests.items()):
        for what in _OF_ROUTES:
            left = [one for one in getattr(table, what) if not (isinstance(one, Source) and one.is_local)]
            if left:
                yield f"{host.name}: {len(left)} {what} are left in the table {place} of {family}: {left[0]!r}"


def leftovers(fabric: Fabric) -> list[str]:
    """What is left once nobody announces anything any more."""
    found = []
    for host in fabric.hosts.values():
        daemon = host.daemon
        if daemon is None:
            continue
        routing, kernel = daemon.routing, host.kernel
        if routing.routes != tenant_checks.left_in_rib(fabric, host):
            found.append(f"{host.name}: {routing.routes} routes are left in the RIB")
        if kernel.own_routes():
            found.append(f"{host.name}: {len(kernel.own_routes())} routes are left in the kernel")
        if any(one.protocol == PROTOCOL for one in kernel.objects.values()):
            found.append(f"{host.name}: nexthop objects {sorted(kernel.objects)} are left in the kernel")
        if routing.rib.received.stale.kept:
            found.append(f"{host.name}: stale routes of {list(routing.rib.received.stale.kept)} are left")
        found += _left_in_memory(host)
        found += host.new_errors()
    return found + fabric.loop.errors
