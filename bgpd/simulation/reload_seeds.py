"""Scenarios in which reloads change policies and aggregates: those of other seeds, and reloads in between."""

from __future__ import annotations

import random

import msgspec

from bgpd.simulation import aggregates
from bgpd.simulation.policies import EXPORTED, IMPORTED, IMPORTS
from bgpd.simulation.scenario import Event, Kind, Scenario
from bgpd.simulation.tenants import TENANTS

_POLICIES = {
    Kind.RELOAD_IMPORT_POLICY: 6,
    Kind.RELOAD_EXPORT_POLICY: 6,
    Kind.RELOAD_RULES: 3,
    Kind.LEAF_ASKS: 2,
    Kind.WORKLOADS_DOWN: 1,
    Kind.WORKLOADS_UP: 2,
}
_AGGREGATES = {
    Kind.RELOAD_AGGREGATES: 4,
    Kind.CLAIM: 4,
    Kind.RELEASE: 3,
    Kind.BLINK: 1,
    Kind.MOVE: 2,
    Kind.DRAIN: 1,
    Kind.WORKLOADS_DOWN: 1,
    Kind.WORKLOADS_UP: 2,
}
_CHOICES: dict[Kind, int] = {
    Kind.RELOAD_IMPORT_POLICY: len(IMPORTED),
    Kind.RELOAD_EXPORT_POLICY: len(EXPORTED),
    Kind.RELOAD_RULES: len(IMPORTS),
    Kind.RELOAD_AGGREGATES: len(aggregates.KINDS),
}
GENTLE: dict[Kind, tuple[int, ...]] = {
    Kind.RELOAD_IMPORT_POLICY: tuple(IMPORTED.index(one) for one in ("all", "prefer", "avoid", "changing")),
    Kind.RELOAD_EXPORT_POLICY: tuple(EXPORTED.index(one) for one in ("local", "mark", "prepend")),
    Kind.RELOAD_RULES: tuple(list(IMPORTS).index(one) for one in ("prefer", "avoid")),
}
"""What costs no way to anybody."""
_FOREIGN = (Kind.FOREIGN, Kind.FOREIGN_GONE)


def with_mild_policies(scenario: Scenario) -> Scenario:
    """The same, where policies reject nothing: who is to be drained is told of all others that offer a service."""
    return with_policies(scenario, is_mild=True)


def with_policies(scenario: Scenario, *, is_mild: bool = False) -> Scenario:
    """The same, where with each event a neighbor gets another policy, or a policy other rules. In a gentle one no
    policy rejects anything."""
    is_mild = is_mild or scenario.is_gentle
    chance = random.Random(f"policies {scenario.seed}")
    styles = tuple(msgspec.structs.replace(one, marks_refresh=chance.random() < 0.5) for one in scenario.shape.styles)
    shape = msgspec.structs.replace(scenario.shape, has_policies=True, styles=styles)
    kinds = dict.fromkeys(GENTLE, 1) if is_mild else _POLICIES
    return _with_events(msgspec.structs.replace(scenario, shape=shape), chance, kinds, is_mild=is_mild)


def with_aggregates(scenario: Scenario) -> Scenario:
    """The same, where aggregates come, go and change, and what is in them. Without routes of other programs: which of
    two has a workload's address is not said here, and so not whether it is in an aggregate."""
    chance = random.Random(f"aggregates {scenario.seed}")
    rounds = tuple(tuple(one for one in events if one.kind not in _FOREIGN) for events in scenario.rounds)
    at_first = tuple(
        Event(at_s=0.0, kind=Kind.RELOAD_AGGREGATES, host=f"host{host}", value=chance.randrange(len(aggregates.KINDS)))
        for host in range(scenario.shape.hosts)
    )
    scenario = _with_events(msgspec.structs.replace(scenario, rounds=rounds), chance, _AGGREGATES)
    return msgspec.structs.replace(scenario, rounds=(at_first + scenario.rounds[0], *scenario.rounds[1:]))


def with_tenant_aggregates(scenario: Scenario) -> Scenario:
    """The same, where aggregates of tenants come, go and change."""
    chance = random.Random(f"tenant aggregates {scenario.seed}")
    tenants = [one.name for one in TENANTS[: scenario.shape.tenants]]
    rounds = []
    for number, events in enumerate(scenario.rounds):
        hosts = range(scenario.shape.hosts)
        times = [0.0 for _ in hosts] if number == 0 else []
        times += [event.at_s + round(chance.random(), 2) for event in events[::3]]
        more = [
            Event(
                at_s=at_s,
                kind=Kind.RELOAD_AGGREGATES,
                host=f"host{at % len(hosts) if at_s == 0 else chance.randrange(len(hosts))}",
                tenant=chance.choice(tenants),
                value=chance.randrange(len(aggregates.KINDS)),
            )
            for at, at_s in enumerate(times)
        ]
        rounds.append(tuple(sorted((*events, *more), key=lambda event: event.at_s)))
    return msgspec.structs.replace(scenario, rounds=tuple(rounds))


def _with_events(
    scenario: Scenario, chance: random.Random, kinds: dict[Kind, int], *, is_mild: bool = False
) -> Scenario:
    addresses = [address for _host, address in scenario.claims] or ["10.64.0.1/32"]
    rounds = []
    for events in scenario.rounds:
        more = []
        for event in events:
            (kind,) = chance.choices(list(kinds), list(kinds.values()))
            choices = GENTLE[kind] if is_mild else range(_CHOICES.get(kind, 1))
            more.append(
                Event(
                    at_s=event.at_s + round(chance.random(), 2),
                    kind=kind,
                    host=f"host{chance.randrange(scenario.shape.hosts)}",
                    leaf=f"leaf{chance.randrange(scenario.shape.leaves)}",
                    address=chance.choice(addresses),
                    value=chance.choice(choices),
                )
            )
        rounds.append(tuple(sorted((*events, *more), key=lambda event: event.at_s)))
    return msgspec.structs.replace(scenario, rounds=tuple(rounds))
