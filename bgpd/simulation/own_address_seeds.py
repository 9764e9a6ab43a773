"""Scenarios with addresses of hosts themselves: those of other seeds, and addresses that come and go in between."""

from __future__ import annotations

import random

import msgspec

from bgpd.simulation.own_addresses import CONFIGS, EVERYWHERE, address_of
from bgpd.simulation.scenario import Event, Kind, Scenario

_WEIGHTS = {Kind.ADDRESS_COMES: 6, Kind.ADDRESS_GOES: 4, Kind.RELOAD_ADDRESSES: 2}
_ADDRESSES = 3


def with_own_addresses(scenario: Scenario) -> Scenario:
    """The same with addresses of hosts, where for each event something happens to one of them, too."""
    chance = random.Random(f"addresses {scenario.seed}")
    shape = msgspec.structs.replace(scenario.shape, has_own_addresses=True)
    rounds = []
    for events in scenario.rounds:
        more = [_event(chance, shape.hosts, event.at_s, has_v6=shape.is_unnumbered) for event in events]
        rounds.append(tuple(sorted((*events, *more), key=lambda event: event.at_s)))
    return msgspec.structs.replace(scenario, shape=shape, rounds=tuple(rounds))


def _event(chance: random.Random, hosts: int, at_s: float, *, has_v6: bool) -> Event:
    (kind,) = chance.choices(list(_WEIGHTS), list(_WEIGHTS.values()))
    host = chance.randrange(hosts)
    address = address_of(host, chance.randrange(_ADDRESSES), is_v6=has_v6 and chance.random() < 0.4)
    return Event(
        at_s=at_s + round(chance.random(), 2),
        kind=kind,
        host=f"host{host}",
        address=EVERYWHERE if chance.random() < 0.3 else address,
        value=chance.randrange(len(CONFIGS)) if kind is Kind.RELOAD_ADDRESSES else 0,
    )
