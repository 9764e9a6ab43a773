"""Scenarios with a feed: those of other seeds, and an orchestrator that changes its mind on a broker with faults."""

from __future__ import annotations

import random

import msgspec

from bgpd.simulation.scenario import Event, Kind, Scenario

_WEIGHTS = {
    Kind.FEED_PUTS: 8,
    Kind.FEED_DELETES: 6,
    Kind.FEED_MOVES: 5,
    Kind.FEED_BEGINS_ANEW: 1,
    Kind.FEED_SAYS_OLD: 3,
    Kind.FEED_SAYS_HALF: 3,
    Kind.BROKER_DIES: 3,
    Kind.BROKER_FORGETS: 3,
    Kind.BROKER_DROPS: 3,
    Kind.BROKER_REPEATS: 2,
}
_VALUES: dict[Kind, tuple[float, ...]] = {
    Kind.FEED_SAYS_OLD: (0, 1, 4),
    Kind.BROKER_DIES: (0.1, 2, 20),
    Kind.BROKER_FORGETS: (0.1, 2, 20),
    Kind.BROKER_REPEATS: (0.1, 0.5),
}
_ADDRESSES = 3
_OTHERS = 100
"""Workloads from this number on come and go in gentle scenarios."""


def with_feed(scenario: Scenario) -> Scenario:
    """The same with a feed, of which something changes with each event, too. In a gentle one what is wanted at the
    start is wanted for ever: whatever the broker says, it stays."""
    chance = random.Random(f"feed {scenario.seed}")
    shape = msgspec.structs.replace(scenario.shape, has_feed=True)
    least = _OTHERS if scenario.is_gentle else 0
    fed = tuple(
        (f"host{host}", _address(host, number))
        for host in range(shape.hosts)
        for number in range(chance.randrange(1, _ADDRESSES + 1))
    )
    rounds = []
    for events in scenario.rounds:
        more = [_event(chance, shape.hosts, event.at_s, least) for event in events for _ in range(2)]
        rounds.append(tuple(sorted((*events, *more), key=lambda event: event.at_s)))
    return msgspec.structs.replace(scenario, shape=shape, fed=fed, rounds=tuple(rounds))


def _event(chance: random.Random, hosts: int, at_s: float, least: int) -> Event:
    (kind,) = chance.choices(list(_WEIGHTS), list(_WEIGHTS.values()))
    return Event(
        at_s=at_s + round(3 * chance.random(), 2),
        kind=kind,
        host=f"host{chance.randrange(hosts)}",
        address=_address(chance.randrange(hosts), least + chance.randrange(_ADDRESSES)),
        value=chance.choice(_VALUES.get(kind, (0,))),
    )


def _address(host: int, number: int) -> str:
    return f"10.66.{host}.{number + 1}/32"
