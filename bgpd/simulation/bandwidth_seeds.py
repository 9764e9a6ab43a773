"""Scenarios with link bandwidths: those of other seeds, and leaves that say another one in between, or none."""

from __future__ import annotations

import random

import msgspec

from bgpd.simulation.scenario import Event, Kind, Scenario

_UNITS = (0, 1, 2, 2, 3, 6)
"""What a leaf may say; nothing, once in a while."""


def with_bandwidths(scenario: Scenario) -> Scenario:
    """The same, where each leaf says how much of what all announce it takes, and one says something else each round."""
    chance = random.Random(f"bandwidths {scenario.seed}")
    leaves = scenario.shape.leaves
    shape = msgspec.structs.replace(scenario.shape, bandwidths=tuple(chance.choice(_UNITS) for _ in range(leaves)))
    rounds = tuple(
        tuple(sorted((*events, _event(chance, leaves, events)), key=lambda event: event.at_s))
        for events in scenario.rounds
    )
    return msgspec.structs.replace(scenario, shape=shape, rounds=rounds)


def _event(chance: random.Random, leaves: int, events: tuple[Event, ...]) -> Event:
    at_s = round(chance.uniform(0, max((one.at_s for one in events), default=0.0)), 2)
    leaf = f"leaf{chance.randrange(leaves)}"
    return Event(at_s=at_s, kind=Kind.LEAF_SAYS_BANDWIDTH, leaf=leaf, value=chance.choice(_UNITS))
