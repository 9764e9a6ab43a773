"""What the events of a scenario do to a fabric, each by a function."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from bgpd.model.prefix import parse_prefix
from bgpd.simulation import bandwidths, feeds, guests
from bgpd.simulation.absences import ABSENCES
from bgpd.simulation.contention import CONTENTION
from bgpd.simulation.fabric import Fabric
from bgpd.simulation.feeds import FEEDS
from bgpd.simulation.guest_events import GUESTS
from bgpd.simulation.host import SimulatedHost
from bgpd.simulation.linux import METRIC
from bgpd.simulation.machines import MACHINES
from bgpd.simulation.own_address_events import OWN_ADDRESSES
from bgpd.simulation.reloads import RELOADS
from bgpd.simulation.scenario import Event, Kind
from bgpd.simulation.services import SERVICES
from bgpd.simulation.vrf_session_events import VRF_SESSIONS
from bgpd.simulation.wire import CEASE, KEEPALIVE, Route

_FLICKERS = 9
_TORN = 0.5
"""How many of the flights that come to a host during a hand-over come in parts."""


async def carry_out(fabric: Fabric, event: Event) -> None:
    """Have it happen. What takes time, such as a restart, is waited for, but not for ever."""
    await _DOING[event.kind](fabric, event)


async def calm(fabric: Fabric) -> None:
    """End what is only for a while: loss, slowness, faults of kernels. What is broken stays so."""
    for link in fabric.links.values():
        link.loss, link.delay_s = 0.0, link.usual_delay_s
    for host in fabric.hosts.values():
        host.kernel.refusing = host.kernel.losing = host.kernel.unreadable = 0.0
        if host.bfd is not None and host.stack.is_there:
            host.bfd.start()
    feeds.calm(fabric)


async def heal(fabric: Fabric) -> None:
    """Repair all, and have all run."""
    await calm(fabric)
    for names, link in fabric.links.items():
        fabric.set_link(names, up=True)
        for port in link.ports:
            port.is_deaf = False
    for router in fabric.routers.values():
        router.stack.is_there = True
        if not router.is_running:
            router.start()
        for session in router.bfd.values():
            session.shut(is_shut=False)
    for host in fabric.hosts.values():
        if not host.stack.is_there:
            host.boot()
        if host.are_workloads_down:
            host.set_workloads_link(up=True)
        host.start()
        await host.set_neighbors(host.all_neighbors)
        for vrf in host.all_vrfs:
            await host.set_vrf(vrf.name, is_there=True)
        await host.leave_out(frozenset())
        for prefix in [one for one in host.kernel.foreign if one.gateway]:
            host.kernel.remove_route(prefix)
    guests.heal(fabric)


def _host(fabric: Fabric, event: Event) -> SimulatedHost:
    return fabric.hosts[event.host]


async def _cut(fabric: Fabric, event: Event) -> None:
    fabric.set_link((event.leaf, event.host), up=False)


async def _deaf(fabric: Fabric, event: Event) -> None:
    fabric.links[event.leaf, event.host].ports[int(event.value)].is_deaf = True
    fabric.note()


async def _lossy(fabric: Fabric, event: Event) -> None:
    fabric.links[event.leaf, event.host].loss = event.value


async def _slow(fabric: Fabric, event: Event) -> None:
    link = fabric.links[event.leaf, event.host]
    link.delay_s = link.usual_delay_s + event.value


async def _mend(fabric: Fabric, event: Event) -> None:
    link = fabric.links[event.leaf, event.host]
    link.loss, link.delay_s = 0.0, link.usual_delay_s
    for port in link.ports:
        port.is_deaf = False
    fabric.set_link((event.leaf, event.host), up=True)
    fabric.note()


async def _leaf_dies(fabric: Fabric, event: Event) -> None:
    fabric.routers[event.leaf].crash()


async def _leaf_boots(fabric: Fabric, event: Event) -> None:
    leaf = fabric.routers[event.leaf]
    leaf.stack.is_there = True
    if not leaf.is_running:
        leaf.start()


async def _restart_leaf(fabric: Fabric, event: Event, *, is_graceful: bool) -> None:
    leaf = fabric.routers[event.leaf]
    if leaf.is_running:
        is_graceful = is_graceful and leaf.style.restarts
        leaf.stop(is_graceful=is_graceful)
        fabric.loop.call_later(event.value, _start_leaf, fabric, event.leaf, is_graceful)


def _start_leaf(fabric: Fabric, name: str, is_graceful: bool) -> None:
    leaf = fabric.routers[name]
    if leaf.stack.is_there and not leaf.is_running:
        leaf.start(is_graceful=is_graceful)


async def _leaf_restarts(fabric: Fabric, event: Event) -> None:
    await _restart_leaf(fabric, event, is_graceful=False)


async def _leaf_restarts_gracefully(fabric: Fabric, event: Event) -> None:
    await _restart_leaf(fabric, event, is_graceful=True)


async def _kill(fabric: Fabric, event: Event) -> None:
    _host(fabric, event).kill()


async def _start(fabric: Fabric, event: Event) -> None:
    _host(fabric, event).start()


async def _restart(fabric: Fabric, event: Event) -> None:
    host = _host(fabric, event)
    if host.daemon is not None:
        await host.stop(is_graceful=True)
        fabric.loop.call_later(event.value, host.start)


async def _hand_over(fabric: Fabric, event: Event) -> None:
    """What leaves say meanwhile comes in parts, and the first part to the process that leaves."""
    links = {above: link for (above, below), link in fabric.links.items() if below == event.host}
    for above, link in links.items():
        link.torn = _TORN
        session = fabric.routers[above].peers[event.host].session
        if session is not None:
            session.send(KEEPALIVE)
    await asyncio.sleep(max(2 * link.delay_s for link in links.values()))
    await _host(fabric, event).hand_over(after_s=event.value)
    for link in links.values():
        link.torn = 0.0


async def _stop(fabric: Fabric, event: Event) -> None:
    await _host(fabric, event).stop(is_graceful=False)


async def _power_loss(fabric: Fabric, event: Event) -> None:
    _host(fabric, event).crash()


async def _boot(fabric: Fabric, event: Event) -> None:
    host = _host(fabric, event)
    if not host.stack.is_there:
        host.boot()
    host.start()


async def _claim(fabric: Fabric, event: Event) -> None:
    if _host(fabric, event).stack.is_there:
        _host(fabric, event).claim(event.address)


async def _release(fabric: Fabric, event: Event) -> None:
    _host(fabric, event).release(event.address)


async def _move(fabric: Fabric, event: Event) -> None:
    for host in fabric.hosts.values():
        host.release(event.address)
    await _claim(fabric, event)


async def _move_live(fabric: Fabric, event: Event) -> None:
    """It is there on both sides for a while."""
    await _claim(fabric, event)
    await asyncio.sleep(event.value)
    for name, host in fabric.hosts.items():
        if name != event.host:
            host.release(event.address)


async def _static(fabric: Fabric, event: Event) -> None:
    host = _host(fabric, event)
    wanted = [one for one in host.static if one != event.address]
    if event.address not in host.static:
        wanted.append(event.address)
    await host.set_static(wanted)


async def _put(fabric: Fabric, event: Event) -> None:
    await _host(fabric, event).put_workload(event.address)


async def _delete(fabric: Fabric, event: Event) -> None:
    await _host(fabric, event).delete_workload(event.address)


async def _drain(fabric: Fabric, event: Event) -> None:
    await _host(fabric, event).order_drain(on=True)


async def _undrain(fabric: Fabric, event: Event) -> None:
    await _host(fabric, event).order_drain(on=False)


async def _foreign(fabric: Fabric, event: Event) -> None:
    host = _host(fabric, event)
    if not host.kernel.foreign_routes(event.address):
        host.kernel.add_foreign_route(event.address, metric=int(event.value), interface="mgmt0")


async def _foreign_gone(fabric: Fabric, event: Event) -> None:
    kernel = _host(fabric, event).kernel
    for route in [one for one in kernel.foreign_routes(event.address) if one.gateway]:
        kernel.remove_route(route)


async def _refuse(fabric: Fabric, event: Event) -> None:
    _host(fabric, event).kernel.refusing = event.value


async def _lose_answers(fabric: Fabric, event: Event) -> None:
    _host(fabric, event).kernel.losing = event.value


async def _unreadable(fabric: Fabric, event: Event) -> None:
    _host(fabric, event).kernel.unreadable = event.value or 1.0


async def _lose_events(fabric: Fabric, event: Event) -> None:
    host = _host(fabric, event)
    daemon = host.daemon
    if daemon is not None and daemon.is_started:
        daemon.process.call_soon(host.kernel.monitor.lose_events)


async def _nexthop_gone(fabric: Fabric, event: Event) -> None:
    kernel = _host(fabric, event).kernel
    if kernel.objects:
        kernel.delete_nexthop_by_other_hand(min(kernel.objects))


async def _route_gone(fabric: Fabric, event: Event) -> None:
    kernel = _host(fabric, event).kernel
    family, key = parse_prefix(event.address)
    if (family, 254, key, METRIC) in kernel.own_routes():
        kernel.delete_by_other_hand(family, key, is_told=not event.value)


async def _route_turned(fabric: Fabric, event: Event) -> None:
    _host(fabric, event).kernel.turn_by_other_hand(*parse_prefix(event.address))


async def _stall(fabric: Fabric, event: Event) -> None:
    """The daemon gets no processor: afterwards all that came and all timers are due at once."""
    host = _host(fabric, event)
    host.offers.changed()
    if host.daemon is not None:
        host.daemon.process.stalled_until = fabric.loop.now + event.value


async def _wall_step(fabric: Fabric, event: Event) -> None:
    _host(fabric, event).wall_step_s += event.value


async def _flap(fabric: Fabric, event: Event) -> None:
    """A loose cable: it ends as it began."""
    names = (event.leaf, event.host)
    was_up = fabric.links[names].is_up
    for up in (not was_up, was_up, not was_up, was_up):
        fabric.set_link(names, up=up)
        await asyncio.sleep(event.value * fabric.loop.chance.random())


async def _blink(fabric: Fabric, event: Event) -> None:
    """A workload that goes and is back at once, or comes and is gone."""
    host = _host(fabric, event)
    if not host.stack.is_there:
        return
    steps = (host.release, host.claim) if event.address in host.claims else (host.claim, host.release)
    for step in steps:
        step(event.address)
        await asyncio.sleep(event.value)


async def _flicker(fabric: Fabric, event: Event) -> None:
    """One that comes and goes so often that it is held back for a while, and comes to stay."""
    host = _host(fabric, event)
    for step in (host.claim, host.release) * _FLICKERS if host.stack.is_there else ():
        step(event.address)
        await asyncio.sleep(event.value)
    if host.stack.is_there:
        host.claim(event.address)


async def _workloads_down(fabric: Fabric, event: Event) -> None:
    """The interface to all workloads of a host, such as a bridge."""
    host = _host(fabric, event)
    if host.stack.is_there and not host.are_workloads_down:
        host.set_workloads_link(up=False)


async def _workloads_up(fabric: Fabric, event: Event) -> None:
    host = _host(fabric, event)
    if host.are_workloads_down:
        host.set_workloads_link(up=True)


async def _leaf_resets(fabric: Fabric, event: Event) -> None:
    peer = fabric.routers[event.leaf].peers[event.host]
    if peer.session is not None:
        peer.session.notify(CEASE, 4, is_graceful=True)


async def _leaf_asks(fabric: Fabric, event: Event) -> None:
    fabric.routers[event.leaf].peers[event.host].ask_again()


async def _leaf_announces(fabric: Fabric, event: Event) -> None:
    leaf = fabric.routers[event.leaf]
    prefixes = [f"192.0.2.{number}/32" for number in range(int(event.value))]
    leaf.own.update(dict.fromkeys(prefixes, Route(peer=None)))
    leaf.changed(prefixes)


async def _leaf_withdraws(fabric: Fabric, event: Event) -> None:
    leaf = fabric.routers[event.leaf]
    gone = [one for one in leaf.own if one.startswith("192.0.2.")]
    for prefix in gone:
        del leaf.own[prefix]
    leaf.changed(gone)


async def _leaf_says_bandwidth(fabric: Fabric, event: Event) -> None:
    leaf = fabric.routers[event.leaf]
    leaf.changed(bandwidths.say(leaf, bandwidths.names(fabric, leaf), int(event.value)))


async def _reload_neighbor(fabric: Fabric, event: Event) -> None:
    """The neighbor leaves the configuration, or is in it again."""
    host = _host(fabric, event)
    await host.set_neighbor(event.leaf, is_there=event.leaf not in host.neighbors)


async def _reload_import(fabric: Fabric, event: Event) -> None:
    host = _host(fabric, event)
    if event.leaf in host.neighbors:
        other = "all" if host.neighbors[event.leaf].import_ == "none" else "none"
        await host.change_neighbor(event.leaf, import_=other)


async def _reload_hold_time(fabric: Fabric, event: Event) -> None:
    host = _host(fabric, event)
    if event.leaf in host.neighbors:
        await host.change_neighbor(event.leaf, hold_time_s=int(event.value))


async def _bfd_restarts(fabric: Fabric, event: Event) -> None:
    _end_bfd(fabric, event, is_orderly=True)


async def _bfd_crashes(fabric: Fabric, event: Event) -> None:
    _end_bfd(fabric, event, is_orderly=False)


def _end_bfd(fabric: Fabric, event: Event, *, is_orderly: bool) -> None:
    """The BFD process ends, and is there again later."""
    host = _host(fabric, event)
    if host.bfd is not None and host.stack.is_there and host.bfd.is_running:
        host.bfd.stop(is_orderly=is_orderly)
        fabric.loop.call_later(event.value, host.bfd.start)


async def _bfd_shut(fabric: Fabric, event: Event) -> None:
    """The leaf's operator takes BFD AdminDown."""
    _shut_bfd(fabric, event, is_shut=True)


async def _bfd_opened(fabric: Fabric, event: Event) -> None:
    _shut_bfd(fabric, event, is_shut=False)


def _shut_bfd(fabric: Fabric, event: Event, *, is_shut: bool) -> None:
    leaf = fabric.routers[event.leaf]
    session = leaf.bfd.get(leaf.peers[event.host].port)
    if session is not None:
        session.shut(is_shut=is_shut)


_DOING: dict[Kind, Callable[[Fabric, Event], Awaitable[None]]] = {
    Kind.CUT: _cut,
    Kind.DEAF: _deaf,
    Kind.LOSSY: _lossy,
    Kind.SLOW: _slow,
    Kind.MEND: _mend,
    Kind.LEAF_DIES: _leaf_dies,
    Kind.LEAF_BOOTS: _leaf_boots,
    Kind.LEAF_RESTARTS: _leaf_restarts,
    Kind.LEAF_RESTARTS_GRACEFULLY: _leaf_restarts_gracefully,
    Kind.KILL: _kill,
    Kind.START: _start,
    Kind.RESTART: _restart,
    Kind.HAND_OVER: _hand_over,
    Kind.STOP: _stop,
    Kind.POWER_LOSS: _power_loss,
    Kind.BOOT: _boot,
    Kind.CLAIM: _claim,
    Kind.RELEASE: _release,
    Kind.MOVE: _move,
    Kind.MOVE_LIVE: _move_live,
    Kind.STATIC: _static,
    Kind.PUT: _put,
    Kind.DELETE: _delete,
    Kind.DRAIN: _drain,
    Kind.UNDRAIN: _undrain,
    Kind.FOREIGN: _foreign,
    Kind.FOREIGN_GONE: _foreign_gone,
    Kind.REFUSE: _refuse,
    Kind.LOSE_ANSWERS: _lose_answers,
    Kind.UNREADABLE: _unreadable,
    Kind.LOSE_EVENTS: _lose_events,
    Kind.NEXTHOP_GONE: _nexthop_gone,
    Kind.ROUTE_GONE: _route_gone,
    Kind.ROUTE_TURNED: _route_turned,
    Kind.STALL: _stall,
    Kind.WALL_STEP: _wall_step,
    Kind.FLAP: _flap,
    Kind.BLINK: _blink,
    Kind.FLICKER: _flicker,
    Kind.WORKLOADS_DOWN: _workloads_down,
    Kind.WORKLOADS_UP: _workloads_up,
    Kind.LEAF_RESETS: _leaf_resets,
    Kind.LEAF_ASKS: _leaf_asks,
    Kind.LEAF_ANNOUNCES: _leaf_announces,
    Kind.LEAF_WITHDRAWS: _leaf_withdraws,
    Kind.LEAF_SAYS_BANDWIDTH: _leaf_says_bandwidth,
    Kind.RELOAD_NEIGHBOR: _reload_neighbor,
    Kind.RELOAD_IMPORT: _reload_import,
    Kind.RELOAD_HOLD_TIME: _reload_hold_time,
    Kind.BFD_RESTARTS: _bfd_restarts,
    Kind.BFD_CRASHES: _bfd_crashes,
    Kind.BFD_SHUT: _bfd_shut,
    Kind.BFD_OPENED: _bfd_opened,
    **ABSENCES,
    **CONTENTION,
    **RELOADS,
    **MACHINES,
    **SERVICES,
    **FEEDS,
    **GUESTS,
    **OWN_ADDRESSES,
    **VRF_SESSIONS,
}
