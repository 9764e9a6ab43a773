"""Scenarios with BFD on all links to hosts: those of other seeds, and BFD processes that end and begin in between."""

from __future__ import annotations

import random

import msgspec

from bgpd.simulation.leaf_bfd import INTERVAL_S, MULTIPLIER
from bgpd.simulation.scenario import Event, Kind, Scenario

DETECTION_S = MULTIPLIER * INTERVAL_S + 0.2
"""After which either end knows that nothing of the other arrives, and has said so."""
_GENTLE = (Kind.BFD_RESTARTS, Kind.BFD_SHUT, Kind.BFD_OPENED)
_ROUGH = (Kind.BFD_RESTARTS, Kind.BFD_CRASHES, Kind.BFD_SHUT, Kind.BFD_OPENED)
_AWAY_S = (0.0, 0.5, 5.0)


def with_bfd(scenario: Scenario, *, repair_s: float) -> Scenario:
    """The same with BFD. What was found by hold timers is found in the detection time."""
    chance = random.Random(f"bfd {scenario.seed}")
    kind = "loose" if scenario.is_gentle else chance.choice(("loose", "strict"))
    shape = msgspec.structs.replace(scenario.shape, bfd=kind)
    bound_s = DETECTION_S + repair_s if scenario.bound_s > repair_s else scenario.bound_s
    rounds = []
    for events in scenario.rounds:
        more = [
            Event(
                at_s=event.at_s + (20.0 if scenario.is_gentle else round(chance.random(), 2)),
                kind=chance.choice(_GENTLE if scenario.is_gentle else _ROUGH),
                host=f"host{chance.randrange(shape.hosts)}",
                leaf=f"leaf{chance.randrange(shape.leaves)}",
                value=chance.choice(_AWAY_S),
            )
            for event in (events if not scenario.bound_s else ())
            if chance.random() < 0.4
        ]
        rounds.append(tuple(sorted((*events, *more), key=lambda event: event.at_s)))
    return msgspec.structs.replace(scenario, shape=shape, bound_s=bound_s, rounds=tuple(rounds))
