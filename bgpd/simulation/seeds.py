"""Scenarios made of seeds: any events at any time, restarts with which each side helps, and single failures."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping

import msgspec

from bgpd.simulation.absence_seeds import with_absences, with_long_absences
from bgpd.simulation.bandwidth_seeds import with_bandwidths
from bgpd.simulation.bfd_seeds import with_bfd
from bgpd.simulation.feed_seeds import with_feed
from bgpd.simulation.guest_seeds import with_guests
from bgpd.simulation.linux import METRIC
from bgpd.simulation.maintenance_seeds import with_maintenance
from bgpd.simulation.own_address_seeds import with_own_addresses
from bgpd.simulation.reload_seeds import with_aggregates, with_mild_policies, with_policies, with_tenant_aggregates
from bgpd.simulation.router import HOLD_S, Style
from bgpd.simulation.scenario import Event, Kind, Scenario
from bgpd.simulation.service_seeds import with_services
from bgpd.simulation.shape import Shape
from bgpd.simulation.strain_seeds import with_strain
from bgpd.simulation.tenant_seeds import with_tenants
from bgpd.simulation.vrf_session_seeds import with_vrf_sessions
from bgpd.speaker.transport import LINGER_S

ADDRESSES_PER_HOST = 3
REPAIR_S = 1.0
"""What a fabric takes to send elsewhere once a failure is known; all that is slow in it together is faster."""
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
    Kind.ROUTE_GONE: 3,
    Kind.ROUTE_TURNED: 1,
    Kind.WALL_STEP: 1,
    Kind.FLAP: 4,
    Kind.BLINK: 2,
    Kind.FLICKER: 2,
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
    Kind.FLICKER: (0.1, 0.6),
    Kind.ROUTE_GONE: (0, 1, 1),
    Kind.LEAF_ANNOUNCES: (1, 3, 40),
    Kind.RELOAD_HOLD_TIME: (3, 9, 30),
}


_WITH_BANDWIDTHS, _WITH_ADDRESSES, _WITH_MAINTENANCE = 3, 5, 7
"""Every third of the usual ones has link bandwidths, every fifth addresses of hosts themselves, every seventh a host
that is maintained."""


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
    """The scenario of a seed: every fourth is a gentle one, every eighth one failure. What beside addresses there is
    in it follows from the seed, too."""
    turn, kind = divmod(seed, 8)
    if kind == 7:
        return _with_more(failure_of(seed), _FAILURES, turn)
    if kind == 3:
        return _with_more(gentle_scenario_of(seed), _GENTLE_ONES, turn)
    usual = _with_more(usual_scenario_of(seed), _USUAL[kind], turn)
    usual = with_bandwidths(usual) if seed % _WITH_BANDWIDTHS == 0 else usual
    usual = with_own_addresses(usual) if seed % _WITH_ADDRESSES == 0 else usual
    return with_maintenance(usual) if seed % _WITH_MAINTENANCE == 0 else usual


def _with_more(scenario: Scenario, more: tuple[_More | None, ...], turn: int) -> Scenario:
    chosen = more[turn % len(more)]
    return scenario if chosen is None else chosen(scenario)


def _with_bfd(scenario: Scenario) -> Scenario:
    return with_bfd(scenario, repair_s=REPAIR_S)


def _both(one: _More, two: _More) -> _More:
    return lambda scenario: two(one(scenario))


_More = Callable[[Scenario], Scenario]
_with_vrfs = _both(with_tenants, with_vrf_sessions)
_FAILURES: tuple[_More | None, ...] = (_with_vrfs, _with_bfd, None, None)
_GENTLE_ONES: tuple[_More | None, ...] = (
    _with_vrfs,
    with_feed,
    _with_bfd,
    None,
    with_long_absences,
    with_policies,
    with_strain,
    with_guests,
)
_USUAL: Mapping[int, tuple[_More | None, ...]] = {
    0: (with_strain, with_policies, with_guests, _both(with_policies, with_guests)),
    1: (with_aggregates, with_absences, _both(with_policies, with_aggregates)),
    2: (_with_bfd, _both(_with_bfd, with_strain), _with_bfd, _both(_with_bfd, with_absences)),
    4: (with_feed, with_feed, _both(with_feed, with_strain)),
    5: (
        _with_vrfs,
        _both(with_tenants, with_policies),
        _both(_with_vrfs, with_tenant_aggregates),
        _both(_with_vrfs, with_strain),
    ),
    6: (with_services, _both(with_services, with_mild_policies), _both(with_services, with_strain)),
}
"""What there is beside addresses, by the seed modulo 8, in turn."""


def usual_scenario_of(seed: int) -> Scenario:
    """Whatever can happen, in one or two rounds."""
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
        at_s += chance.choice((2.0, 10.0, 40.0))
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
    # What the other end sends first still arrives.
    deaf_s = HOLD_S / 3 + HOLD_S + LINGER_S + (style.restart_time_s if style.helps or is_kept else 0) + REPAIR_S
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
