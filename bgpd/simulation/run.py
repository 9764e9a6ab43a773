"""Runs scenarios: each in a loop of its own, to rest after each round, then healed, then emptied; and shortens those
that fail."""

from __future__ import annotations

import asyncio
import hashlib
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from bgpd.simulation import checks, guests, machines, own_addresses, services, tenant_checks
from bgpd.simulation.events import calm, carry_out, heal
from bgpd.simulation.fabric import Fabric
from bgpd.simulation.loop import FIRST_S, scratch, simulated_time
from bgpd.simulation.reach import lost
from bgpd.simulation.router import Style
from bgpd.simulation.scenario import Event, Scenario
from bgpd.simulation.shape import fabric_of

START_S = 12.0
REST_S = 55.0
"""Longer than hold, restart and stale times together, and than hold and restart times and the up to 20 s after which
groups go that no route uses any more."""
EMPTY_REST_S = 55.0
"""Longer than these 20 s and what the last routes take to go: in one fabric (seed 101) more than 15 s."""
_CALM_S = 25.0
"""The end of such a rest, in which no session may end: longer than hold time and pause between dials together."""
_LOOK_S = 0.01
"""After a change, so that many are one look."""
_LOOKS, _WALK_S = 3, 0.3
"""The self-check walks through the routes every few seconds: so often what may be its walk is waited for."""


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """`found`: what was wrong; `digest` of all that was sent and done; `simulated_s` and `cpu_s` it took."""

    scenario: Scenario
    found: tuple[str, ...]
    digest: str
    simulated_s: float
    cpu_s: float


def run(scenario: Scenario) -> Result:
    """Run one."""
    began = time.thread_time()
    random.seed(scenario.seed)
    chance = random.Random(scenario.seed)
    with (
        simulated_time(chance, slow_looks=scenario.shape.slow_looks) as loop,
        scratch() as directory,
    ):
        fabric = fabric_of(scenario.shape, loop, chance=chance, directory=Path(directory))
        found = loop.run_until_complete(_run(fabric, scenario))
        digest = _digest(fabric)
        del fabric
    return Result(
        scenario=scenario,
        found=tuple(found),
        digest=digest,
        simulated_s=loop.now - FIRST_S,
        cpu_s=time.thread_time() - began,
    )


def _digest(fabric: Fabric) -> str:
    trace = hashlib.sha256()
    for router in fabric.routers.values():
        trace.update(repr((fabric.loop.now, router.stack.digest)).encode())
    return trace.hexdigest()[:16]


async def _run(fabric: Fabric, scenario: Scenario) -> list[str]:
    found: list[str] = []
    for name, address in scenario.claims:
        fabric.hosts[name].claim(address)
    if fabric.orchestrator is not None:
        for name, address in scenario.fed:
            fabric.orchestrator.put(name, address)
    fabric.start()
    await asyncio.sleep(START_S)
    for name, tenant, address in scenario.machines:
        await machines.start(fabric, host=name, tenant=tenant, address=address)
    for name, address, backends in scenario.services:
        await services.start(fabric, host=name, address=address, backends=backends)
    if scenario.machines or scenario.services:
        await asyncio.sleep(START_S)
    if scenario.is_gentle:
        return await _gently(fabric, scenario)
    for number, events in enumerate(scenario.rounds):
        await _happen(fabric, events)
        await calm(fabric)
        found += [f"round {number}: {one}" for one in await _rest(fabric, _findings)]
        if found:
            break
    if not found:
        await heal(fabric)
        found += [f"healed: {one}" for one in await _rest(fabric, _findings)]
    if not found:
        await _empty(fabric)
        found += [f"emptied: {one}" for one in await _rest(fabric, checks.leftovers, EMPTY_REST_S)]
    return found


async def _gently(fabric: Fabric, scenario: Scenario) -> list[str]:
    """Look all the time, and at the end as after any other scenario."""
    found: dict[str, None] = {}
    addresses = [address for _host, address in (*scenario.claims, *scenario.fed)]
    addresses += [one for guest in guests.of(fabric).values() for one in guest.router.own]
    is_due = False

    def losses() -> list[str]:
        return [*lost(fabric, addresses), *tenant_checks.lost(fabric, scenario.machines)]

    def look() -> None:
        nonlocal is_due
        is_due = False
        found.update(dict.fromkeys(f"{fabric.loop.now - FIRST_S:.2f}: {one}" for one in losses()))

    def noted() -> None:
        nonlocal is_due
        if not is_due:
            is_due = True
            fabric.loop.call_later(_LOOK_S, look)

    fabric.noted = noted
    for events in scenario.rounds:
        await _happen(fabric, events)
    if scenario.bound_s:
        await asyncio.sleep(scenario.bound_s)
        found.clear()
        found.update(dict.fromkeys(f"after {scenario.bound_s:g} s: {one}" for one in losses()))
    rest = await _rest(fabric, _findings)
    if scenario.keeps_sessions:
        rest += [
            f"{router.name} has lost its session with {peer.name}"
            for router in fabric.routers.values()
            for peer in router.peers.values()
            if peer.ended
        ]
    return [*found, *rest]


async def _happen(fabric: Fabric, events: tuple[Event, ...]) -> None:
    began = fabric.loop.now
    for event in events:
        await asyncio.sleep(max(0.0, began + event.at_s - fabric.loop.now))
        await carry_out(fabric, event)


async def _rest(fabric: Fabric, look: Callable[[Fabric], list[str]], rest_s: float = REST_S) -> list[str]:
    await asyncio.sleep(_stalled_s(fabric) + rest_s)
    for _ in range(_LOOKS):
        if not any(host.daemon is not None and host.daemon.walks for host in fabric.hosts.values()):
            break
        await asyncio.sleep(_WALK_S)
    return look(fabric)


def _findings(fabric: Fabric) -> list[str]:
    routers = [one for router in fabric.routers.values() for one in (router, *router.instances.values())]
    return checks.findings(fabric) + [
        f"the session of {router.name} with {peer.name} has ended while all was at rest"
        for router in routers
        for peer in router.peers.values()
        if peer.ended and peer.ended_at > fabric.loop.now - _CALM_S
    ]


def _stalled_s(fabric: Fabric) -> float:
    """For how long yet a daemon gets no processor: it does not begin to come to rest before."""
    daemons = [host.daemon for host in fabric.hosts.values() if host.daemon is not None]
    return max((0.0, *(daemon.process.stalled_until - fabric.loop.now for daemon in daemons)))


async def _empty(fabric: Fabric) -> None:
    """Nobody announces anything any more."""
    for host in fabric.hosts.values():
        for address in list(host.claims):
            host.release(address)
        for address in list(host.put):
            await host.delete_workload(address)
        if host.static:
            await host.set_static([])
        for address in list(host.offers.backends):
            await services.end(fabric, host=host.name, address=address)
        for tenant, address in list(host.machines):
            await host.delete_machine(tenant, address)
        if fabric.orchestrator is not None:
            for address in host.fed:
                fabric.orchestrator.delete(host.name, address)
        own_addresses.take_all(host)
        for guest in host.guests.values():
            guest.router.stop(is_graceful=False)
    for router in fabric.routers.values():
        router.stop(is_graceful=False)


# Shortening


def shortened(scenario: Scenario, fails: Callable[[Scenario], bool]) -> Scenario:
    """A scenario that still fails, and does not without any of its events or claims."""
    is_shorter = True
    while is_shorter:
        is_shorter = False
        for shorter in _shorter(scenario):
            if fails(shorter):
                scenario, is_shorter = shorter, True
                break
    return scenario


def _shorter(scenario: Scenario) -> Iterator[Scenario]:
    rounds = scenario.rounds
    for at in range(len(rounds)):
        yield msgspec.structs.replace(scenario, rounds=(*rounds[:at], *rounds[at + 1 :]))
    for at, events in enumerate(rounds):
        half = len(events) // 2
        parts = [events[:half], events[half:]] if half > 1 else []
        parts += [(*events[:one], *events[one + 1 :]) for one in range(len(events))]
        for part in parts:
            yield msgspec.structs.replace(scenario, rounds=(*rounds[:at], part, *rounds[at + 1 :]))
    for at in range(len(scenario.claims)):
        yield msgspec.structs.replace(scenario, claims=(*scenario.claims[:at], *scenario.claims[at + 1 :]))
    for field in ("machines", "services", "fed"):
        there = getattr(scenario, field)
        for at in range(len(there)):
            yield msgspec.structs.replace(scenario, **{field: (*there[:at], *there[at + 1 :])})
    yield from _simpler(scenario)


def _simpler(scenario: Scenario) -> Iterator[Scenario]:
    """With a host less, or usual leaves."""
    shape, last = scenario.shape, f"host{scenario.shape.hosts - 1}"
    if shape.hosts > 1:
        yield msgspec.structs.replace(
            scenario,
            shape=msgspec.structs.replace(shape, hosts=shape.hosts - 1),
            claims=tuple(one for one in scenario.claims if one[0] != last),
            machines=tuple(one for one in scenario.machines if one[0] != last),
            services=tuple(one for one in scenario.services if one[0] != last),
            fed=tuple(one for one in scenario.fed if one[0] != last),
            rounds=tuple(tuple(one for one in events if one.host != last) for events in scenario.rounds),
        )
    for at, style in enumerate(shape.styles):
        if style != Style():
            styles = (*shape.styles[:at], Style(), *shape.styles[at + 1 :])
            yield msgspec.structs.replace(scenario, shape=msgspec.structs.replace(shape, styles=styles))
