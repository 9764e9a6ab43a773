"""Scenarios with services: those of other seeds, and backends that fail, work again, come and go in between."""

from __future__ import annotations

import random

import msgspec

from bgpd.simulation.offers import BOTH, KEPT, PLAIN, PROBED
from bgpd.simulation.scenario import Event, Kind, Scenario

_WEIGHTS = {
    Kind.SERVICE_STARTS: 5,
    Kind.SERVICE_ENDS: 3,
    Kind.BACKEND_SICK: 8,
    Kind.BACKENDS_SICK: 3,
    Kind.BACKEND_WELL: 6,
    Kind.BACKEND_ENDS: 3,
    Kind.BACKEND_STARTS: 4,
    Kind.DRAIN_SERVICES: 3,
    Kind.UNDRAIN: 3,
}
_MOST_BACKENDS = 2
_ADDRESSES = PLAIN, BOTH, KEPT
_OF_PROBED = {
    Kind.SERVICE_STARTS: 3,
    Kind.SERVICE_ENDS: 2,
    Kind.SERVICE_MUTE: 4,
    Kind.SERVICE_ANSWERS: 3,
    Kind.BACKENDS_SICK: 1,
}
_PROBED_SHARE = 0.5


def with_services(scenario: Scenario) -> Scenario:
    """The same with services, where for each event something happens to one of them, too."""
    chance = random.Random(f"services {scenario.seed}")
    hosts = scenario.shape.hosts
    offered = tuple(
        (f"host{host}", address, chance.randrange(1, _MOST_BACKENDS + 1))
        for address in _ADDRESSES
        for host in range(hosts)
        if chance.random() < 0.6
    )
    rounds = []
    for events in scenario.rounds:
        more = [_event(chance, hosts, event.at_s) for event in events]
        rounds.append(tuple(sorted((*events, *more), key=lambda event: event.at_s)))
    return _with_probes(msgspec.structs.replace(scenario, services=offered, rounds=tuple(rounds)))


def _with_probes(scenario: Scenario) -> Scenario:
    """The same, in some with a service whose address is probed, where with some events something happens to it."""
    chance, shape = random.Random(f"probes {scenario.seed}"), scenario.shape
    if chance.random() >= _PROBED_SHARE:
        return scenario
    offered = [(f"host{host}", PROBED, _MOST_BACKENDS) for host in range(shape.hosts) if chance.random() < 0.7]
    rounds = []
    for events in scenario.rounds:
        kinds = chance.choices(list(_OF_PROBED), list(_OF_PROBED.values()), k=len(events) // 3 + 1)
        more = [
            Event(
                at_s=round(chance.uniform(0, events[-1].at_s if events else 0), 2),
                kind=kind,
                host=f"host{chance.randrange(shape.hosts)}",
                address=PROBED,
                value=_MOST_BACKENDS,
            )
            for kind in kinds
        ]
        rounds.append(tuple(sorted((*events, *more), key=lambda event: event.at_s)))
    shape = msgspec.structs.replace(shape, has_probes=True)
    return msgspec.structs.replace(scenario, shape=shape, services=(*scenario.services, *offered), rounds=tuple(rounds))


def _event(chance: random.Random, hosts: int, at_s: float) -> Event:
    (kind,) = chance.choices(list(_WEIGHTS), list(_WEIGHTS.values()))
    is_count = kind is Kind.SERVICE_STARTS
    return Event(
        at_s=at_s + round(chance.random(), 2),
        kind=kind,
        host=f"host{chance.randrange(hosts)}",
        address=chance.choice(_ADDRESSES),
        value=chance.randrange(1, _MOST_BACKENDS + 1) if is_count else chance.randrange(_MOST_BACKENDS),
    )
