"""What happens to the feed of a fabric: what its orchestrator wants, and what its broker does to it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from bgpd.simulation.broker import Broker
from bgpd.simulation.fabric import Fabric
from bgpd.simulation.orchestrator import Orchestrator
from bgpd.simulation.scenario import Event, Kind


def _parts(fabric: Fabric) -> tuple[Orchestrator, Broker]:
    assert fabric.orchestrator is not None
    return fabric.orchestrator, fabric.orchestrator.broker


async def _put(fabric: Fabric, event: Event) -> None:
    _parts(fabric)[0].put(event.host, event.address)


async def _delete(fabric: Fabric, event: Event) -> None:
    _parts(fabric)[0].delete(event.host, event.address)


async def _move(fabric: Fabric, event: Event) -> None:
    orchestrator, _broker = _parts(fabric)
    for name in fabric.hosts:
        if name != event.host:
            orchestrator.delete(name, event.address)
    orchestrator.put(event.host, event.address)


async def _anew(fabric: Fabric, _event: Event) -> None:
    _parts(fabric)[0].begin_anew()


async def _dies(fabric: Fabric, event: Event) -> None:
    _parts(fabric)[1].die(forgets=False, back_in_s=event.value)


async def _forgets(fabric: Fabric, event: Event) -> None:
    _parts(fabric)[1].die(forgets=True, back_in_s=event.value)


async def _drops(fabric: Fabric, _event: Event) -> None:
    _parts(fabric)[1].drop_all()


async def _repeats(fabric: Fabric, event: Event) -> None:
    broker = _parts(fabric)[1]
    broker.repeats, broker.shuffles = event.value, True


async def _says_old(fabric: Fabric, event: Event) -> None:
    _parts(fabric)[0].say_old(int(event.value))


async def _says_half(fabric: Fabric, _event: Event) -> None:
    _parts(fabric)[0].say_half()


FEEDS: dict[Kind, Callable[[Fabric, Event], Awaitable[None]]] = {
    Kind.FEED_PUTS: _put,
    Kind.FEED_DELETES: _delete,
    Kind.FEED_MOVES: _move,
    Kind.FEED_BEGINS_ANEW: _anew,
    Kind.FEED_SAYS_OLD: _says_old,
    Kind.FEED_SAYS_HALF: _says_half,
    Kind.BROKER_DIES: _dies,
    Kind.BROKER_FORGETS: _forgets,
    Kind.BROKER_DROPS: _drops,
    Kind.BROKER_REPEATS: _repeats,
}


def calm(fabric: Fabric) -> None:
    """The broker works, and has what its orchestrator wants."""
    if fabric.orchestrator is not None:
        broker = fabric.orchestrator.broker
        broker.repeats, broker.shuffles = 0.0, False
        broker.start()
        fabric.orchestrator.say_all()
