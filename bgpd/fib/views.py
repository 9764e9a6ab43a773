"""Views of a table for `bgpd show fib`, `bgpd explain` and the metrics: built on demand from the table and the kernel.

Decides nothing, changes nothing.
"""

from __future__ import annotations

import ipaddress
import itertools
from collections.abc import Iterator
from collections.abc import Set as AbstractSet

from bgpd.fib.group_room import NO_ROOM
from bgpd.fib.protocol import protocol_name
from bgpd.fib.routes import FamilyRoutes
from bgpd.fib.table import Fib
from bgpd.kernel.nexthop_messages import NexthopObject
from bgpd.kernel.route_decoder import RouteRun
from bgpd.kernel.route_messages import BLACKHOLE
from bgpd.model.iana import Family
from bgpd.model.kernel import KernelRoute
from bgpd.model.next_hop import NextHop, NextHops
from bgpd.model.prefix import family_of, format_address, format_key, in_address_order, key_of, parse_address
from bgpd.model.views.routes import FibRouteView, KernelRouteView, NextHopView

RT_TABLE_LOCAL = 255
_LOCAL_TYPES = (2, 3, 4)
"""RTN_LOCAL, RTN_BROADCAST, RTN_ANYCAST. Without policy rules the kernel keeps the local table inside the main one."""
_DROPS = "the route drops what it matches"
_RT_TABLE_MAIN = 254
_DROPS_OF = {
    b"\x06": "a blackhole route: packets are dropped",
    b"\x07": "an unreachable route: packets are refused as unreachable",
    b"\x08": "a prohibit route: packets are refused as prohibited",
    b"\x09": "a throw route: the look-up leaves the table, and no other table has a route",
}
"""By rtm_type: RTN_BLACKHOLE, RTN_UNREACHABLE, RTN_PROHIBIT, RTN_THROW."""


_LISTED = 1024
"""Keys that are looked up at once."""


def routes(fib: Fib, only: Family | None = None) -> Iterator[FibRouteView | None]:
    """Every route of the table that is installed, waits, failed or is blocked, in order of address; lazily, to be read
    in slices, with None where there is none yet.

    The table may change between two of them: routes that went meanwhile are left out, ones that came may be.
    """
    for family, table in fib.families.items():
        if only not in (None, family):
            continue
        views: dict[int, list[NextHopView]] = {}
        last = b""
        for keys in in_address_order(itertools.chain(table.installed.slices(_LISTED), _not_installed(table))):
            yield None
            writing = fib.writer.being_written(family)
            for key in keys:
                known = (table.installed, table.failed, table.blocked, table.pending)
                if key != last and any(key in one for one in known):
                    yield _route_view(fib, family, key, views, writing)
                last = key


def _not_installed(table: FamilyRoutes) -> Iterator[list[bytes]]:
    """Keys that wait, failed or are blocked, in slices; some twice."""
    for keys in itertools.chain(table.pending.slices(_LISTED), [list(table.failed)], table.blocked.slices(_LISTED)):
        yield [key for key in keys if key not in table.installed]


def route(fib: Fib, family: Family, key: bytes) -> FibRouteView | None:
    """One route of the table; None if there is none, and none is wanted."""
    table = fib.families[family]
    if not any(key in keys for keys in (table.installed, table.pending, table.failed, table.blocked)):
        return None
    return _route_view(fib, family, key, {}, fib.writer.being_written(family))


def _route_view(
    fib: Fib, family: Family, key: bytes, views: dict[int, list[NextHopView]], writing: AbstractSet[bytes]
) -> FibRouteView:
    """`views` has the next hops of targets seen before, and gets new ones; `writing` are on their way to the kernel."""
    table = fib.families[family]
    target = table.installed.get(key)
    error = table.failed.get(key) or table.blocked.get(key) or ""
    state = "failed" if key in table.failed else "blocked" if key in table.blocked else "installed"
    if target is not None and target in fib.dataplane.objects.dead:
        state, error, target = "failed", "the kernel dropped it: its last next hop is gone", None
    if not error and (target is None or key in table.pending or key in table.changing or key in writing):
        state = "pending"
    if target is not None and target not in views:
        views[target] = next_hops(fib, target)
    return FibRouteView(
        family=family.value,
        prefix=format_key(family, key),
        table=fib.form.table,
        state=state,
        group=target if target is not None and target > 0 else 0,
        next_hops=views[target] if target is not None else [],
        error=error,
        resilient=target is not None and _is_resilient(fib, target),
        note=_note(fib, target),
        source=_source(fib, target),
    )


def _source(fib: Fib, target: int | None) -> str:
    """The preferred source that routes by a target name."""
    source = fib.dataplane.objects.sources.get(target or 0, b"")
    return format_address(source) if len(source) > 1 else ""


def _is_resilient(fib: Fib, target: int) -> bool:
    group = fib.dataplane.objects.groups.get(target)
    return group is not None and group.resilient


def _note(fib: Fib, target: int | None) -> str:
    """How the installed route differs from the desired one although it works."""
    why = fib.dataplane.objects.not_resilient
    if not why or target is None or _is_resilient(fib, target):
        return ""
    name = fib.targets.bound.name_of(target)
    wanted = name is not None and fib.targets.is_resilient(name[1])
    return f"flows may change their backend: the kernel makes no resilient groups ({why})" if wanted else ""


async def lookup(fib: Fib, address: bytes) -> KernelRouteView | None:
    """The kernel's route for a packed address, its group resolved into members; dead ones with the reason."""
    run = await _look_up(fib, address)
    if run is None:
        return _dropped(fib, address)
    key, target = run.keys[0], run.targets[0]
    view = KernelRouteView(
        prefix=format_key(run.family, key),
        table=RT_TABLE_LOCAL if run.route_type in _LOCAL_TYPES else run.table,
        protocol=protocol_name(run.protocol, fib.form.protocol),
        metric=run.metrics[0],
        ours=run.protocol == fib.form.protocol and run.table == fib.form.table,
        group=target if target > 0 else 0,
        source=format_address(run.sources[0]) if run.sources else "",
    )
    if target > 0:
        view.next_hops = _members(fib, target, await fib.dataplane.reader.nexthops())
    else:
        view.next_hops = _plain_hops(fib, run)
    if target == BLACKHOLE:
        view.error = _DROPS
    if view.ours:
        live = {(hop.address, hop.interface) for hop in view.next_hops}
        view.next_hops += _absent(fib, live, fib.writer.desired(run.family, key))
    return view


async def add_neighbors(fib: Fib, view: KernelRouteView) -> None:
    """Beside each next hop what the kernel's neighbor table has for it."""
    for hop in view.next_hops:
        link = fib.dataplane.host.named(hop.interface)
        if hop.address and link is not None:
            hop.neighbor = await fib.dataplane.reader.neighbor(parse_address(hop.address), link.index)


def _dropped(fib: Fib, address: bytes) -> KernelRouteView | None:
    """The route that drops packets to an address: the kernel names no such route, it answers an error."""
    found = [view for view in (_own_blackhole(fib, address), _foreign_drop(fib, address)) if view is not None]
    return min(found, key=lambda view: (-int(view.prefix.rpartition("/")[2]), view.metric), default=None)


def _foreign_drop(fib: Fib, address: bytes) -> KernelRouteView | None:
    """The most specific blackhole, unreachable, prohibit or throw route of another program over an address."""
    family = family_of(address)
    known = fib.dataplane.monitor.routes.routes
    tables = [fib.form.table] if fib.vrf else list(dict.fromkeys((fib.form.table, _RT_TABLE_MAIN)))
    for length in range(8 * len(address), -1, -1):
        key = key_of(ipaddress.ip_network((address, length), strict=False))
        routes = [route for table in tables for route in known.get((family, table, key), ()) if _drop_of(route)]
        if routes:
            route = min(routes, key=lambda route: route.metric)
            return KernelRouteView(
                prefix=format_key(family, key),
                table=route.table,
                protocol=protocol_name(route.protocol, fib.form.protocol),
                metric=route.metric,
                ours=False,
                error=_drop_of(route),
            )
    return None


def _drop_of(route: KernelRoute) -> str:
    """What a route does with packets instead of forwarding them; "" if it forwards."""
    return _DROPS_OF.get(route.details[:1], "") if route.drops else ""


def _own_blackhole(fib: Fib, address: bytes) -> KernelRouteView | None:
    """The blackhole of ours that drops packets to an address."""
    family = family_of(address)
    installed = fib.families[family].installed
    for length in range(8 * len(address), -1, -1):
        key = key_of(ipaddress.ip_network((address, length), strict=False))
        if installed.get(key) == BLACKHOLE:
            return KernelRouteView(
                prefix=format_key(family, key),
                table=fib.form.table,
                protocol=protocol_name(fib.form.protocol, fib.form.protocol),
                metric=fib.form.metric,
                ours=True,
                error=_DROPS,
            )
    return None


async def _look_up(fib: Fib, address: bytes) -> RouteRun | None:
    """In a VRF without a device the answer depends on the interface: the most specific of those of its interfaces."""
    host = fib.dataplane.host
    device = host.named(fib.vrf) if fib.vrf else None
    if not fib.vrf:
        indexes = [0]
    elif device is not None and device.kind == "vrf":
        indexes = [device.index]
    else:
        indexes = [link.index for link in host.interfaces(fib.vrf) if link.up]
    best: RouteRun | None = None
    for index in indexes:
        run = await fib.dataplane.reader.lookup(address, index)
        if isinstance(run, OSError) or (fib.vrf and run.table != fib.form.table):
            continue
        if best is None or run.keys[0][0] > best.keys[0][0]:
            best = run
    return best


def next_hops(fib: Fib, target: int) -> list[NextHopView]:
    """Of what routes point at: a group by its id, or an interface by its negative index."""
    if target > 0:
        return [_hop_view(fib, hop) for hop in fib.dataplane.objects.next_hops(target)]
    link = fib.dataplane.host.links.get(-target)
    return [NextHopView(address="", interface=link.name)] if link else []


def _members(fib: Fib, group: int, objects: list[NexthopObject]) -> list[NextHopView]:
    """The kernel's own members of a group; an object without members is itself the one."""
    by_id = {found.id: found for found in objects}
    found = by_id.get(group)
    if found is None:
        return []
    views = []
    for identifier, weight in found.members or ((group, 1),):
        member = by_id.get(identifier)
        if member is None:
            continue
        link = fib.dataplane.host.links.get(member.ifindex)
        name = link.name if link else f"interface {member.ifindex}"
        why = "" if link and link.up else f"{name} is down"
        address = format_address(member.gateway) if member.gateway else ""
        views.append(NextHopView(address=address, interface=name, weight=weight, live=not why, why=why))
    return views


def _plain_hops(fib: Fib, run: RouteRun) -> list[NextHopView]:
    link = fib.dataplane.host.links.get(run.interfaces[0]) if run.interfaces else None
    gateway = run.gateways[0] if run.gateways else b""
    if link is None and not gateway:
        return []
    address = format_address(gateway) if gateway else ""
    why = "" if link is None or link.up else f"{link.name} is down"
    return [NextHopView(address=address, interface=link.name if link else "", live=not why, why=why)]


def _absent(fib: Fib, live: set[tuple[str, str]], desired: NextHops | None) -> list[NextHopView]:
    """Next hops that are desired and that the kernel does not have, with why."""
    absent = []
    for hop in fib.targets.gateways(desired or ()):
        view = _hop_view(fib, hop)
        if hop.address and (view.address, view.interface) not in live:
            view.live = False
            view.why = fib.targets.resolve(hop)[1] or _why_left_out(fib)
            absent.append(view)
    return absent


def _why_left_out(fib: Fib) -> str:
    """Why a next hop that can be reached is in no group."""
    return NO_ROOM if fib.dataplane.objects.room.wanted else "not in the kernel's group"


def _hop_view(fib: Fib, hop: NextHop) -> NextHopView:
    ifindex, why = fib.targets.resolve(hop)
    link = fib.dataplane.host.links.get(ifindex)
    address = format_address(hop.address) if hop.address else ""
    return NextHopView(
        address=address, interface=link.name if link else hop.interface, weight=hop.weight, live=not why, why=why
    )
