"""Scenarios with guests: those of other seeds, and guests that announce, withdraw, restart, hang and die in between."""

from __future__ import annotations

import random

import msgspec

from bgpd.simulation.guests import EVERYWHERE, PERMITTED, address_of, name_of
from bgpd.simulation.scenario import Event, Kind, Scenario

_WEIGHTS = {
    Kind.GUEST_SAYS: 6,
    Kind.GUEST_WITHDRAWS: 5,
    Kind.GUEST_RESTARTS: 2,
    Kind.GUEST_RESTARTS_GRACEFULLY: 4,
    Kind.GUEST_DIES: 2,
    Kind.GUEST_STARTS: 4,
    Kind.GUEST_HANGS: 2,
    Kind.RELOAD_GUESTS: 2,
}
_GENTLE = (Kind.GUEST_SAYS, Kind.GUEST_WITHDRAWS, Kind.GUEST_RESTARTS_GRACEFULLY)
_VALUES: dict[Kind, tuple[float, ...]] = {
    Kind.GUEST_RESTARTS: (0.5, 5),
    Kind.GUEST_RESTARTS_GRACEFULLY: (0.5, 3, 8),
    Kind.GUEST_HANGS: (0, 1, 1),
    Kind.RELOAD_GUESTS: tuple(range(len(PERMITTED))),
}
_LATER_S = 20.0
"""In gentle scenarios guests restart when hosts have done so: not both can help each other."""
_OTHERS = 100
"""Addresses from this number on come and go in gentle scenarios."""


def with_guests(scenario: Scenario) -> Scenario:
    """The same with guests of each host, where for each event something happens to one of them, too."""
    chance = random.Random(f"guests {scenario.seed}")
    is_gentle = scenario.is_gentle
    count = 1 if is_gentle else chance.choice((1, 2, 2))
    restarts = is_gentle or chance.random() < 0.7
    kept = chance.choice(("none", "keep"))
    shape = msgspec.structs.replace(scenario.shape, guests=count, guests_restart=restarts, guests_communities=kept)
    rounds = []
    for events in scenario.rounds:
        more = [_event(chance, shape.hosts, count, event.at_s, is_gentle=is_gentle) for event in events]
        rounds.append(tuple(sorted((*events, *more), key=lambda event: event.at_s)))
    return msgspec.structs.replace(scenario, shape=shape, rounds=tuple(rounds))


def _event(chance: random.Random, hosts: int, guests: int, at_s: float, *, is_gentle: bool) -> Event:
    host, guest = chance.randrange(hosts), chance.randrange(guests)
    kinds = dict.fromkeys(_GENTLE, 1) if is_gentle else _WEIGHTS
    (kind,) = chance.choices(list(kinds), list(kinds.values()))
    number = chance.randrange(3) + (_OTHERS if is_gentle else 0)
    address = address_of(host, number, is_v6=chance.random() < 0.3)
    return Event(
        at_s=at_s + (_LATER_S if is_gentle else round(chance.random(), 2)),
        kind=kind,
        host=f"host{host}",
        leaf=name_of(host, guest),
        address=EVERYWHERE if not is_gentle and chance.random() < 0.2 else address,
        value=chance.choice(_VALUES.get(kind, (0,))),
    )
