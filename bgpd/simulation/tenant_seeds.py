"""Scenarios with tenants: those of other seeds, and machines that start, move and end in between."""

from __future__ import annotations

import random

import msgspec

from bgpd.simulation.scenario import Event, Kind, Scenario
from bgpd.simulation.tenants import TENANTS

_WEIGHTS = {
    Kind.MACHINE_STARTS: 8,
    Kind.MACHINE_STARTS_STICKY: 2,
    Kind.MACHINE_ENDS: 5,
    Kind.MACHINE_MOVES: 10,
    Kind.RELOAD_VRF: 1,
}
_GENTLE = (Kind.MACHINE_STARTS, Kind.MACHINE_ENDS, Kind.MACHINE_MOVES)
_MOVES_S = (-1.0, 0.0, 0.1, 2.0)
_ADDRESSES = 3
_TAKEN_OVER = 0.5
_OTHERS = 100
"""Machines from this number on come and go in gentle scenarios."""


def with_tenants(scenario: Scenario) -> Scenario:
    """The same with tenants, where for each event something happens to a machine, too."""
    chance = random.Random(f"tenants {scenario.seed}")
    shape = msgspec.structs.replace(
        scenario.shape,
        tenants=chance.choice((1, 2, 2)),
        resolve=chance.choice(("gateway-ip", "gateway-ip", "peer")),
        has_vrf_devices=chance.random() < 0.7,
        tenants_have_v6=chance.random() < 0.4,
    )
    styles = tuple(msgspec.structs.replace(one, marks_refresh=chance.random() < 0.3) for one in shape.styles)
    shape = msgspec.structs.replace(shape, styles=styles)
    v6 = 0.5 if shape.tenants_have_v6 else 0.0
    tenants = [one.name for one in TENANTS[: shape.tenants]]
    is_gentle = scenario.is_gentle
    machines = [
        (f"host{host}", tenant, _address(host, number, is_v6=chance.random() < v6))
        for host in range(shape.hosts)
        for tenant in tenants
        for number in range(1 if is_gentle else chance.randrange(_ADDRESSES + 1))
    ]
    rounds = []
    for events in scenario.rounds:
        more = []
        for event in events if not scenario.bound_s else ():
            kinds = _GENTLE if is_gentle else tuple(_WEIGHTS)
            weights = None if is_gentle else list(_WEIGHTS.values())
            (kind,) = chance.choices(kinds, weights)
            host = chance.randrange(shape.hosts)
            number = chance.randrange(2 if is_gentle else _ADDRESSES)
            more.append(
                Event(
                    at_s=event.at_s + (20.0 if is_gentle else round(chance.random(), 2)),
                    kind=kind,
                    host=f"host{chance.randrange(shape.hosts)}",
                    tenant=chance.choice(tenants),
                    address=_address(host, number + (_OTHERS if is_gentle else 0), is_v6=chance.random() < v6),
                    value=chance.choice(_MOVES_S) if kind is Kind.MACHINE_MOVES else 0.0,
                )
            )
        rounds.append(tuple(sorted((*events, *more), key=lambda event: event.at_s)))
    if not is_gentle and chance.random() < _TAKEN_OVER:
        taken_over = _taken_over(chance, shape.hosts, tenants)
        rounds[0] = tuple(sorted((*rounds[0], *taken_over), key=lambda event: event.at_s))
    return msgspec.structs.replace(scenario, shape=shape, machines=tuple(machines), rounds=tuple(rounds))


def _taken_over(chance: random.Random, hosts: int, tenants: list[str]) -> list[Event]:
    """A machine is started twice, the host that had it first starts anew, and the other one has it no more."""
    first, second = (f"host{one}" for one in chance.sample(range(hosts), 2))
    tenant, address = chance.choice(tenants), _address(chance.randrange(hosts), 0, is_v6=False)
    ends_s = chance.choice((7.0, 7.0, 9.0, 20.0))
    steps = (
        (0.0, Kind.MACHINE_STARTS, first),
        (3.0, Kind.MACHINE_STARTS, second),
        (6.0, Kind.KILL, first),
        (8.0, Kind.START, first),
        (ends_s, Kind.MACHINE_ENDS, second),
    )
    return [Event(at_s=at_s, kind=kind, host=host, tenant=tenant, address=address) for at_s, kind, host in steps]


def _address(host: int, number: int, *, is_v6: bool) -> str:
    return f"fd65::{host + 1:x}:{number + 1:x}/128" if is_v6 else f"10.64.{host}.{number + 1}/32"
