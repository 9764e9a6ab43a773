"""Scenarios with sessions inside VRFs: those of seeds with tenants, and leaves that announce and withdraw there."""

from __future__ import annotations

import random

import msgspec

from bgpd.simulation.scenario import Event, Kind, Scenario
from bgpd.simulation.tenants import TENANTS
from bgpd.simulation.vrf_sessions import first_of

_WEIGHTS = {
    Kind.VRF_LEAF_SAYS: 6,
    Kind.VRF_LEAF_WITHDRAWS: 5,
    Kind.VRF_LEAF_RESETS: 2,
    Kind.RELOAD_VRF_NEIGHBOR: 3,
}
_GENTLE = (Kind.VRF_LEAF_SAYS, Kind.VRF_LEAF_WITHDRAWS)
_SHARE, _PER_EVENT = 0.6, 0.5


def with_vrf_sessions(scenario: Scenario) -> Scenario:
    """The same, in some with sessions in all VRFs, where for every other event something happens to one of them."""
    chance = random.Random(f"sessions in VRFs {scenario.seed}")
    if chance.random() >= _SHARE:
        return scenario
    shape = msgspec.structs.replace(scenario.shape, vrf_sessions=chance.choice(("local", "all")))
    rounds = []
    for events in scenario.rounds:
        those = [event for event in events if chance.random() < _PER_EVENT and not scenario.bound_s]
        more = [_event(chance, scenario, event.at_s) for event in those]
        rounds.append(tuple(sorted((*events, *more), key=lambda event: event.at_s)))
    return msgspec.structs.replace(scenario, shape=shape, rounds=tuple(rounds))


def _event(chance: random.Random, scenario: Scenario, at_s: float) -> Event:
    shape, kinds = scenario.shape, dict.fromkeys(_GENTLE, 1) if scenario.is_gentle else _WEIGHTS
    (kind,) = chance.choices(list(kinds), list(kinds.values()))
    leaf = chance.randrange(shape.leaves)
    known = [] if scenario.is_gentle else first_of(leaf)
    return Event(
        at_s=at_s + round(chance.random(), 2),
        kind=kind,
        host=f"host{chance.randrange(shape.hosts)}",
        leaf=f"leaf{leaf}",
        tenant=chance.choice(TENANTS[: shape.tenants]).name,
        address=chance.choice([*known, f"10.68.{leaf}.1/32", "10.69.0.1/32"]),
    )
