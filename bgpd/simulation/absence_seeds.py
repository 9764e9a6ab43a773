"""Scenarios with long-lived graceful restart: those of other seeds, and leaves and hosts that are away for longer than
their Restart Time, or for ever."""

from __future__ import annotations

import random

import msgspec

from bgpd.simulation.reload_seeds import GENTLE
from bgpd.simulation.scenario import Event, Kind, Scenario
from bgpd.simulation.shape import Shape

_SHORT_S = 10
"""A long-lived stale time that is over when a fabric has come to rest, ..."""
_LONG_S = 600
"""... and one that is not."""
_CHANGES = (Kind.CLAIM, Kind.RELEASE, Kind.STATIC, Kind.PUT, Kind.DELETE, Kind.HAND_OVER, Kind.HAND_OVER, *GENTLE)
_OTHERS = 100
"""Workloads from this number on come and go in gentle scenarios."""


def with_absences(scenario: Scenario) -> Scenario:
    """The same, where leaves leave and return at any time."""
    chance = random.Random(f"absences {scenario.seed}")
    shape = _kept_for(scenario.shape, _SHORT_S, [chance.random() < 0.8 for _ in scenario.shape.styles])
    rounds = []
    for events in scenario.rounds:
        more = [
            Event(
                at_s=event.at_s + round(chance.random(), 2),
                kind=chance.choice((Kind.LEAF_LEAVES, Kind.LEAF_RETURNS)),
                leaf=f"leaf{chance.randrange(shape.leaves)}",
            )
            for event in events
            if chance.random() < 0.5
        ]
        rounds.append(tuple(sorted((*events, *more), key=lambda event: event.at_s)))
    return msgspec.structs.replace(scenario, shape=shape, rounds=tuple(rounds))


def with_long_absences(scenario: Scenario) -> Scenario:
    """In place of what happens in a gentle one: a leaf is away, for ever or not, while this and that changes. Where
    there is one leaf, hosts have nothing but what they keep of it; there a host is away before that. (Two leaves, one
    after the other, make its routes the last choice, and send to each other meanwhile: no packet arrives.)"""
    chance = random.Random(f"absences {scenario.seed}")
    is_for_ever = chance.random() < 0.5
    styles = scenario.shape.styles[: chance.choice((1, 2))]
    shape = msgspec.structs.replace(scenario.shape, styles=styles, has_policies=True)
    is_short = len(styles) > 1 and chance.random() < 0.3
    shape = _kept_for(shape, 2 * _SHORT_S if is_short else _LONG_S, [True] * len(styles))
    events, at_s = [], 0.0
    if len(styles) == 1 and chance.random() < 0.5:
        host = f"host{chance.randrange(shape.hosts)}"
        events += [Event(at_s=at_s, kind=Kind.KILL, host=host), Event(at_s=at_s + 20, kind=Kind.START, host=host)]
        at_s += 45
    away_s = chance.choice((10.0, 18.0, 30.0))
    events.append(Event(at_s=at_s, kind=Kind.LEAF_LEAVES, leaf="leaf0"))
    if not is_for_ever:
        events.append(Event(at_s=at_s + away_s, kind=Kind.LEAF_RETURNS, leaf="leaf0"))
    for _ in range(chance.randrange(5)):
        host_number, number = chance.randrange(shape.hosts), _OTHERS + chance.randrange(2)
        kind = chance.choice(_CHANGES)
        events.append(
            Event(
                at_s=at_s + round(chance.uniform(1, 40), 2),
                kind=kind,
                host=f"host{host_number}",
                leaf=f"leaf{chance.randrange(shape.leaves)}",
                address=f"10.64.{host_number}.{number + 1}/32",
                value=chance.choice(GENTLE.get(kind, (0.1, 2.0))),
            )
        )
    events.sort(key=lambda event: event.at_s)
    return msgspec.structs.replace(scenario, shape=shape, rounds=(tuple(events),))


def _kept_for(shape: Shape, seconds: int, leaves: list[bool]) -> Shape:
    styles = tuple(
        msgspec.structs.replace(style, long_lived_s=seconds if has else 0) for style, has in zip(shape.styles, leaves)
    )
    return msgspec.structs.replace(shape, long_lived_s=seconds, styles=styles)
