"""Scenarios under strain: those of other seeds, and links that take their time, daemons that get no processor, kernels
of which a dump fails now and then, workloads that move while they run, and an address that two sources claim."""

from __future__ import annotations

import random

import msgspec

from bgpd.simulation.scenario import Event, Kind, Scenario

_VALUES: dict[Kind, tuple[float, ...]] = {
    Kind.SLOW: (0.1, 0.4, 1.0),
    Kind.STALL: (0.2, 2.0, 8.0, 20.0),
    Kind.UNREADABLE: (0.3, 0.8),
    Kind.MOVE_LIVE: (0.001, 0.1, 2.0),
    Kind.CONTEND: (0, 1),
}
_GENTLE: dict[Kind, tuple[float, ...]] = {Kind.SLOW: (0.1, 0.4), Kind.STALL: (0.2, 2.0)}
"""Shorter than what hold times allow."""


def with_strain(scenario: Scenario) -> Scenario:
    """The same, where with each event something of this happens, too."""
    chance = random.Random(f"strain {scenario.seed}")
    values = _GENTLE if scenario.is_gentle else _VALUES
    addresses = [address for _host, address in scenario.claims] or ["10.64.0.1/32"]
    rounds = []
    for events in scenario.rounds:
        more = []
        for event in events:
            kind = chance.choice(list(values))
            more.append(
                Event(
                    at_s=event.at_s + round(chance.random(), 2),
                    kind=kind,
                    host=f"host{chance.randrange(scenario.shape.hosts)}",
                    leaf=f"leaf{chance.randrange(scenario.shape.leaves)}",
                    address=chance.choice(addresses),
                    value=chance.choice(values[kind]),
                )
            )
        rounds.append(tuple(sorted((*events, *more), key=lambda event: event.at_s)))
    return msgspec.structs.replace(scenario, rounds=tuple(rounds))
