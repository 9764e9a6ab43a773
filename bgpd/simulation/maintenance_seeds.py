"""Scenarios with maintenance: those of other seeds, and a host that is drained, restarted or upgraded meanwhile, taken
back, and restarted once more: what was ordered must outlive that, and what was ended must not come back."""

from __future__ import annotations

import random

import msgspec

from bgpd.simulation.scenario import Event, Kind, Scenario

_PAUSES_S = (0.5, 3.0, 12.0)
_DOWN_S = (0.0, 0.5, 4.0)


def with_maintenance(scenario: Scenario) -> Scenario:
    """The same, where that happens to one host in the first round, up to some point."""
    chance = random.Random(f"maintenance {scenario.seed}")
    host = f"host{chance.randrange(scenario.shape.hosts)}"
    steps = [Kind.DRAIN, *_again(chance), Kind.UNDRAIN, *_again(chance)]
    at_s, more = 0.0, []
    for kind in steps[: chance.randrange(2, len(steps) + 1)]:
        at_s += chance.choice(_PAUSES_S)
        more.append(Event(at_s=at_s, kind=kind, host=host, value=chance.choice(_DOWN_S)))
    events = tuple(sorted((*scenario.rounds[0], *more), key=lambda event: event.at_s))
    return msgspec.structs.replace(scenario, rounds=(events, *scenario.rounds[1:]))


def _again(chance: random.Random) -> tuple[Kind, ...]:
    ways = ((Kind.RESTART,), (Kind.HAND_OVER,), (Kind.KILL, Kind.START), (Kind.POWER_LOSS, Kind.BOOT))
    return chance.choice(ways)
