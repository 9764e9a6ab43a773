"""What happens to a fabric: events of a seed, at their times. A scenario is a value, to be run again and shortened.

Each event names what it is about; one that does not fit what is there by then (a second cut of a link, a restart of a
daemon that does not run) does nothing, so that any part of a scenario is a scenario.
"""

from __future__ import annotations

import asyncio
import enum
import random
from collections.abc import Awaitable, Callable

import msgspec

from bgpd.model.prefix import parse_prefix
from bgpd.speaker.transport import LINGER_S
from tests.daemon.wire_peer import CEASE
from tests.fib.fake_kernel import METRIC
from tests.simulation.fabric import Fabric, Shape
from tests.simulation.host import SimulatedHost
from tests.simulation.router import HOLD_S, ROUTE_REFRESH, Route, Style

ADDRESSES_PER_HOST = 3
REPAIR_S = 1.0
"""What a fabric takes to send elsewhere once a failure is known; all that is slow in it together is faster."""


class Kind(enum.StrEnum):
    """What can happen."""

    CUT = "cut"
    DEAF = "deaf"
    LOSSY = "lossy"
    MEND = "mend"
    LEAF_DIES = "leaf-dies"
    LEAF_BOOTS = "leaf-boots"
    LEAF_RESTARTS = "leaf-restarts"
    LEAF_RESTARTS_GRACEFULLY = "leaf-restarts-gracefully"
    KILL = "kill"
    START = "start"
    RESTART = "restart"
    HAND_OVER = "hand-over"
    STOP = "stop"
    POWER_LOSS = "power-loss"
    BOOT = "boot"
    CLAIM = "claim"
    RELEASE = "release"
    MOVE = "move"
    STATIC = "static"
    PUT = "put"
    DELETE = "delete"
    DRAIN = "drain"
    UNDRAIN = "undrain"
    FOREIGN = "foreign"
    FOREIGN_GONE = "foreign-gone"
    REFUSE = "refuse"
    LOSE_ANSWERS = "lose-answers"
    UNREADABLE = "unreadable"
    LOSE_EVENTS = "lose-events"
    NEXTHOP_GONE = "nexthop-gone"
    ROUTE_GONE = "route-gone"
    WALL_STEP = "wall-step"
    FLAP = "flap"
    BLINK = "blink"
    LEAF_RESETS = "leaf-resets"
    LEAF_ASKS = "leaf-asks"
    LEAF_ANNOUNCES = "leaf-announces"
    LEAF_WITHDRAWS = "leaf-withdraws"
    RELOAD_NEIGHBOR = "reload-neighbor"
    RELOAD_IMPORT = "reload-import"
    RELOAD_HOLD_TIME = "reload-hold-time"


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """`at_s` after the start of its round. `host` and `leaf`: whom it is about, `address` a workload's, `value` what
    the kind makes of it: a time, a share, a metric."""

    at_s: float
    kind: Kind
    host: str = ""
    leaf: str = ""
    address: str = ""
    value: float = 0.0

    def __str__(self) -> str:
        what = " ".join(filter(None, (self.host, self.leaf, self.address)))
        return f"{self.at_s:6.2f} {self.kind} {what}" + (f" {self.value:g}" if self.value else "")


class Scenario(msgspec.Struct, frozen=True, kw_only=True):
    """`rounds`: events, after each of which the fabric comes to rest. `claims` are there at the start."""

    seed: int
    shape: Shape
    claims: tuple[tuple[str, str], ...]
    rounds: tuple[tuple[Event, ...], ...]
    is_gentle: bool = False
    """Nothing breaks in it: no packet to the claims of the start may be lost at any moment ..."""
    bound_s: float = 0.0
    """... but for so long after the events."""

    @property
    def keeps_sessions(self) -> bool:
        """Whether no session may end."""
        kinds = {event.kind for events in self.rounds for event in events}
        return (
            self.is_gentle and not self.bound_s and not kinds & {Kind.RESTART, Kind.KILL, Kind.LEAF_RESTARTS_GRACEFULLY}
        )

    @property
    def events(self) -> int:
        return sum(map(len, self.rounds))


_WEIGHTS = {
    Kind.CUT: 6,
    Kind.DEAF: 3,
    Kind.LOSSY: 2,
    Kind.MEND: 8,
    Kind.LEAF_DIES: 2,
    Kind.LEAF_BOOTS: 4,
    Kind.LEAF_RESTARTS: 2,
    Kind.LEAF_RESTARTS_GRACEFULLY: 3,
    Kind.KILL: 2,
    Kind.START: 4,
    Kind.RESTART: 4,
    Kind.HAND_OVER: 4,
    Kind.STOP: 1,
    Kind.POWER_LOSS: 1,
    Kind.BOOT: 3,
    Kind.CLAIM: 8,
    Kind.RELEASE: 5,
    Kind.MOVE: 5,
    Kind.STATIC: 3,
    Kind.PUT: 5,
    Kind.DELETE: 4,
    Kind.DRAIN: 1,
    Kind.UNDRAIN: 2,
    Kind.FOREIGN: 2,
    Kind.FOREIGN_GONE: 3,
    Kind.REFUSE: 1,
    Kind.LOSE_ANSWERS: 1,
    Kind.UNREADABLE: 1,
    Kind.LOSE_EVENTS: 2,
    Kind.NEXTHOP_GONE: 2,
    Kind.ROUTE_GONE: 2,
    Kind.WALL_STEP: 1,
    Kind.FLAP: 4,
    Kind.BLINK: 2,
    Kind.LEAF_RESETS: 3,
    Kind.LEAF_ASKS: 2,
    Kind.LEAF_ANNOUNCES: 3,
    Kind.LEAF_WITHDRAWS: 3,
    Kind.RELOAD_NEIGHBOR: 3,
    Kind.RELOAD_IMPORT: 3,
    Kind.RELOAD_HOLD_TIME: 1,
}
_VALUES: dict[Kind, tuple[float, ...]] = {
    Kind.DEAF: (0, 1),
    Kind.LOSSY: (0.05, 0.3),
    Kind.LEAF_RESTARTS: (1, 8),
    Kind.LEAF_RESTARTS_GRACEFULLY: (1, 3, 8),
    Kind.RESTART: (0, 0.5, 4),
    Kind.HAND_OVER: (0.1, 2),
    Kind.FOREIGN: (METRIC, 5, 100),
    Kind.REFUSE: (0.2, 1.0),
    Kind.LOSE_ANSWERS: (0.1, 0.5),
    Kind.WALL_STEP: (-3600, 3600),
    Kind.FLAP: (0.001, 0.01, 0.1, 1.0),
    Kind.BLINK: (0.0001, 0.01, 0.5),
    Kind.LEAF_ANNOUNCES: (1, 3, 40),
    Kind.RELOAD_HOLD_TIME: (3, 9, 30),
}


def address_of(host: int, number: int, *, is_v6: bool = False) -> str:
    """A workload's."""
    return f"fd64::{host + 1:x}:{number + 1:x}/128" if is_v6 else f"10.64.{host}.{number + 1}/32"


def style_of(chance: random.Random) -> Style:
    """FRR and BIRD, as they are and as they may be configured."""
    return Style(
        dials=chance.random() < 0.8,
        retry_s=chance.choice((2.0, 5.0, 10.0)),
        mrai_s=chance.choice((0.0, 0.0, 1.0, 5.0)),
        helps=chance.random() < 0.8,
        restarts=chance.random() < 0.8,
        by_notification=chance.random() < 0.5,
    )


def scenario_of(seed: int) -> Scenario:
    """The scenario of a seed; every fourth is a gentle one, every eighth one failure."""
    if seed % 4 == 3:
        return failure_of(seed) if seed % 8 == 7 else gentle_scenario_of(seed)
    chance = random.Random(seed)
    shape = Shape(
        hosts=chance.choice((2, 2, 3, 4, 6)),
        styles=tuple(style_of(chance) for _ in range(chance.choice((1, 2, 2, 2, 2, 3, 4)))),
        delay_s=chance.choice((0.0002, 0.002, 0.02)),
        kernel_late_s=chance.choice((0.0005, 0.005, 0.05, 0.5)),
        slow_looks=chance.choice((0.0, 0.01, 0.2)),
        is_unnumbered=chance.random() < 0.5,
    )
    claims = tuple(
        (f"host{host}", address_of(host, number, is_v6=shape.is_unnumbered and number % 2 == 1))
        for host in range(shape.hosts)
        for number in range(chance.randrange(ADDRESSES_PER_HOST + 1))
    )
    rounds = tuple(_round(chance, shape) for _ in range(chance.choice((1, 2))))
    return Scenario(seed=seed, shape=shape, claims=claims, rounds=rounds)


_GENTLE = (
    Kind.RESTART,
    Kind.HAND_OVER,
    Kind.HAND_OVER,
    Kind.KILL,
    Kind.LEAF_RESTARTS_GRACEFULLY,
    Kind.LEAF_RESTARTS_GRACEFULLY,
    Kind.CLAIM,
    Kind.RELEASE,
    Kind.STATIC,
    Kind.PUT,
    Kind.DELETE,
    Kind.LOSE_EVENTS,
    Kind.WALL_STEP,
)
_OTHERS = 100
"""Workloads from this number on come and go in gentle scenarios."""


def gentle_scenario_of(seed: int) -> Scenario:
    """One of restarts that each side helps with, and of changes that concern other addresses."""
    chance = random.Random(seed)
    style = Style(mrai_s=chance.choice((0.0, 1.0)), retry_s=chance.choice((1.0, 5.0)))
    shape = Shape(
        hosts=chance.choice((2, 3)),
        styles=(style, style),
        delay_s=chance.choice((0.0002, 0.02)),
        kernel_late_s=chance.choice((0.0005, 0.05)),
        is_unnumbered=chance.random() < 0.5,
        slow_looks=chance.choice((0.0, 0.01, 0.2)),
    )
    claims = tuple((f"host{host}", address_of(host, 0)) for host in range(shape.hosts))
    events = []
    at_s = 0.0
    for _ in range(chance.randrange(1, 5)):
        kind = chance.choice(_GENTLE)
        host = chance.randrange(shape.hosts)
        event = Event(
            at_s=at_s,
            kind=kind,
            host=f"host{host}",
            leaf=f"leaf{chance.randrange(shape.leaves)}",
            address=address_of(host, _OTHERS + chance.randrange(2)),
            value=chance.choice(_VALUES.get(kind, (0,))),
        )
        events.append(event)
        if kind is Kind.KILL:
            events.append(msgspec.structs.replace(event, at_s=at_s + chance.choice((0.2, 4.0)), kind=Kind.START))
        at_s += 40.0
    return Scenario(seed=seed, shape=shape, claims=claims, rounds=(tuple(events),), is_gentle=True)


def failure_of(seed: int) -> Scenario:
    """One failure of a fabric at rest, and the time after which no packet may be lost because of it."""
    chance = random.Random(seed)
    style = Style(mrai_s=chance.choice((0.0, 5.0)), by_notification=chance.random() < 0.5, helps=chance.random() < 0.7)
    shape = Shape(
        hosts=chance.choice((2, 3)),
        styles=(style, style),
        delay_s=chance.choice((0.0002, 0.02)),
        kernel_late_s=chance.choice((0.0005, 0.05)),
        slow_looks=chance.choice((0.0, 0.01, 0.2)),
        is_unnumbered=chance.random() < 0.5,
    )
    is_kept = style.by_notification  # a hold timer that expires is a graceful restart then (RFC 8538)
    silent_s = HOLD_S + (style.restart_time_s if is_kept else 0) + REPAIR_S
    # The NOTIFICATION of who hears nothing waits behind what is not acknowledged; the reset after it says restart.
    deaf_s = HOLD_S + LINGER_S + (style.restart_time_s if style.helps or is_kept else 0) + REPAIR_S
    kind, bound_s = chance.choice(
        (
            (Kind.CUT, REPAIR_S),
            (Kind.LEAF_DIES, silent_s),
            (Kind.DEAF, deaf_s),
            (Kind.LEAF_RESTARTS, REPAIR_S),
            (Kind.LEAF_RESETS, REPAIR_S),
            (Kind.FLAP, REPAIR_S),
        )
    )
    event = Event(
        at_s=0.0,
        kind=kind,
        host=f"host{chance.randrange(shape.hosts)}",
        leaf=f"leaf{chance.randrange(shape.leaves)}",
        value=chance.choice(_VALUES.get(kind, (0,))),
    )
    claims = tuple(
        (f"host{host}", address_of(host, number, is_v6=shape.is_unnumbered and number == 1))
        for host in range(shape.hosts)
        for number in range(2)
    )
    return Scenario(seed=seed, shape=shape, claims=claims, rounds=((event,),), is_gentle=True, bound_s=bound_s)


def _round(chance: random.Random, shape: Shape) -> tuple[Event, ...]:
    spread_s = chance.choice((1.0, 10.0, 30.0))
    count = chance.choice((2, 4, 8, 16))
    kinds = chance.choices(list(_WEIGHTS), list(_WEIGHTS.values()), k=count)
    times = sorted(round(chance.uniform(0, spread_s), 2) for _ in kinds)
    return tuple(
        Event(
            at_s=at_s,
            kind=kind,
            host=f"host{chance.randrange(shape.hosts)}",
            leaf=f"leaf{chance.randrange(shape.leaves)}",
            address=_address(chance, shape),
            value=chance.choice(_VALUES.get(kind, (0,))),
        )
        for at_s, kind in zip(times, kinds)
    )


def _address(chance: random.Random, shape: Shape) -> str:
    number = chance.randrange(ADDRESSES_PER_HOST)
    return address_of(chance.randrange(shape.hosts), number, is_v6=shape.is_unnumbered and number % 2 == 1)


# What events do


async def carry_out(fabric: Fabric, event: Event) -> None:
    """Have it happen. What takes time, such as a restart, is waited for, but not for ever."""
    await _DOING[event.kind](fabric, event)


async def calm(fabric: Fabric) -> None:
    """End what is only for a while: loss, faults of kernels. What is broken stays so."""
    for link in fabric.links.values():
        link.loss = 0.0
    for host in fabric.hosts.values():
        host.kernel.refusing = host.kernel.losing = 0.0
        host.kernel.unreadable = False


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
    for host in fabric.hosts.values():
        if not host.stack.is_there:
            host.boot()
        host.start()
        await host.set_neighbors(host.all_neighbors)
        for prefix in [one for one in host.kernel.foreign if one.gateway]:
            host.kernel.remove_route(prefix)


def _host(fabric: Fabric, event: Event) -> SimulatedHost:
    return fabric.hosts[event.host]


async def _cut(fabric: Fabric, event: Event) -> None:
    fabric.set_link((event.leaf, event.host), up=False)


async def _deaf(fabric: Fabric, event: Event) -> None:
    fabric.links[event.leaf, event.host].ports[int(event.value)].is_deaf = True


async def _lossy(fabric: Fabric, event: Event) -> None:
    fabric.links[event.leaf, event.host].loss = event.value


async def _mend(fabric: Fabric, event: Event) -> None:
    link = fabric.links[event.leaf, event.host]
    link.loss = 0.0
    for port in link.ports:
        port.is_deaf = False
    fabric.set_link((event.leaf, event.host), up=True)


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
    await _host(fabric, event).hand_over(after_s=event.value)


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
    _host(fabric, event).kernel.unreadable = True


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
        kernel.delete_by_other_hand(family, key)


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


async def _leaf_resets(fabric: Fabric, event: Event) -> None:
    peer = fabric.routers[event.leaf].peers[event.host]
    if peer.session is not None:
        peer.session.notify(CEASE, 4, is_graceful=True)


async def _leaf_asks(fabric: Fabric, event: Event) -> None:
    peer = fabric.routers[event.leaf].peers[event.host]
    if peer.session is not None:
        peer.session.send(ROUTE_REFRESH, b"\0\1\0\1")


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


_DOING: dict[Kind, Callable[[Fabric, Event], Awaitable[None]]] = {
    Kind.CUT: _cut,
    Kind.DEAF: _deaf,
    Kind.LOSSY: _lossy,
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
    Kind.WALL_STEP: _wall_step,
    Kind.FLAP: _flap,
    Kind.BLINK: _blink,
    Kind.LEAF_RESETS: _leaf_resets,
    Kind.LEAF_ASKS: _leaf_asks,
    Kind.LEAF_ANNOUNCES: _leaf_announces,
    Kind.LEAF_WITHDRAWS: _leaf_withdraws,
    Kind.RELOAD_NEIGHBOR: _reload_neighbor,
    Kind.RELOAD_IMPORT: _reload_import,
    Kind.RELOAD_HOLD_TIME: _reload_hold_time,
}
