"""Services of a fabric: addresses that backends on several hosts answer for, what happens to them, who should announce
them."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable

import msgspec

from bgpd.api.backend import Rejected
from bgpd.model.iana import COMMUNITY_GRACEFUL_SHUTDOWN
from bgpd.model.prefix import parse_prefix
from bgpd.model.views.orders import DrainRequest
from bgpd.simulation.fabric import Fabric
from bgpd.simulation.host import SimulatedHost
from bgpd.simulation.offers import ADDRESSES, CHECK, TERMS
from bgpd.simulation.scenario import Event, Kind

_FIRST_BACKEND = 201


def backend(host: str, number: int) -> str:
    """The address of one of a host's backends."""
    return f"10.64.{host[4:]}.{_FIRST_BACKEND + number}/32"


async def start(fabric: Fabric, *, host: str, address: str, backends: int) -> None:
    """A host offers a service from now on, by so many backends."""
    it = fabric.hosts[host]
    addresses = tuple(backend(host, number) for number in range(backends))
    for one in addresses:
        await it.put_workload(one)
    body = {
        "addresses": [address.partition("/")[0]],
        "backends": [
            {"id": f"b{at}", "addresses": [one.partition("/")[0]], "weight": at + 1} for at, one in enumerate(addresses)
        ],
        "check": CHECK,
        **TERMS[address],
    }
    if await it.put_service(_name(address), msgspec.json.encode(body)):
        it.offers.backends[address] = addresses


def _name(address: str) -> str:
    return f"service-{address.partition('/')[0]}"


async def end(fabric: Fabric, *, host: str, address: str) -> None:
    """It does so no more; its backends go on."""
    it = fabric.hosts[host]
    if address in it.offers.backends and await it.delete_service(_name(address)):
        del it.offers.backends[address]


# Events


async def _starts(fabric: Fabric, event: Event) -> None:
    await start(fabric, host=event.host, address=event.address, backends=int(event.value))


async def _ends(fabric: Fabric, event: Event) -> None:
    await end(fabric, host=event.host, address=event.address)


async def _sick(fabric: Fabric, event: Event) -> None:
    offers = fabric.hosts[event.host].offers
    offers.changed()
    offers.sick.add(backend(event.host, int(event.value)))


async def _well(fabric: Fabric, event: Event) -> None:
    offers = fabric.hosts[event.host].offers
    offers.changed()
    offers.sick.discard(backend(event.host, int(event.value)))


async def _mute(fabric: Fabric, event: Event) -> None:
    """The address of a service answers no probe on a host any more, whatever its backends do."""
    offers = fabric.hosts[event.host].offers
    offers.changed()
    offers.sick.add(event.address)


async def _answers(fabric: Fabric, event: Event) -> None:
    offers = fabric.hosts[event.host].offers
    offers.changed()
    offers.sick.discard(event.address)


async def _all_sick(fabric: Fabric, event: Event) -> None:
    fabric.hosts[event.host].offers.all_fail(event.address)


async def _backend_ends(fabric: Fabric, event: Event) -> None:
    await fabric.hosts[event.host].delete_workload(backend(event.host, int(event.value)))


async def _backend_starts(fabric: Fabric, event: Event) -> None:
    await fabric.hosts[event.host].put_workload(backend(event.host, int(event.value)))


async def _drain_services(fabric: Fabric, event: Event) -> None:
    """`bgpd drain`: refused where this host is the last that announces a service. A host that is drained already stays
    so, whatever has become of the others since; a service that begins on it waits for the end of the drain."""
    host = fabric.hosts[event.host]
    daemon = host.daemon
    if daemon is None or not daemon.is_started:
        return
    offers = host.offers
    left = {one for one in ADDRESSES if not _is_last(fabric, event.host, one)}
    with contextlib.suppress(Rejected):
        await daemon.process.start(daemon.drain.on(DrainRequest(), who="test"))
        offers.left_to_others = left | (offers.left_to_others if offers.is_lowered else set[str]())
        offers.is_lowered = True


def _is_last(fabric: Fabric, host: str, address: str) -> bool:
    """Whether a host serves an address and nobody else should announce it, still does, or does as far as the host was
    told: that backends fail, or a leaf is dead, is found out later."""
    those = announcers(fabric, address)
    still = (
        name
        for name in fabric.hosts
        for leaf in fabric.leaves_of(name)
        if address in fabric.routers[leaf].peers[name].routes
    )
    is_alone = not any(name != host for name in (*those, *still))
    return host in those and is_alone and not _is_told_of_others(fabric.hosts[host], address)


def _is_told_of_others(host: SimulatedHost, address: str) -> bool:
    """Whether a leaf has told a host of another one that stays with a service."""
    entry = host.daemon.routing.rib.decision("", *parse_prefix(address)) if host.daemon is not None else None
    return any(
        not (path.source.is_local or path.received.has_community(COMMUNITY_GRACEFUL_SHUTDOWN))
        for path in (entry.candidates if entry is not None else ())
    )


SERVICES: dict[Kind, Callable[[Fabric, Event], Awaitable[None]]] = {
    Kind.SERVICE_STARTS: _starts,
    Kind.SERVICE_ENDS: _ends,
    Kind.BACKEND_SICK: _sick,
    Kind.BACKEND_WELL: _well,
    Kind.BACKENDS_SICK: _all_sick,
    Kind.SERVICE_MUTE: _mute,
    Kind.SERVICE_ANSWERS: _answers,
    Kind.BACKEND_ENDS: _backend_ends,
    Kind.BACKEND_STARTS: _backend_starts,
    Kind.DRAIN_SERVICES: _drain_services,
}


# What should be


def serving(fabric: Fabric, name: str, address: str) -> list[str]:
    """The backends on a host that serve; of those that were kept since all failed, those that may be; none where the
    address itself does not answer."""
    offers = fabric.hosts[name].offers
    if address in offers.sick:
        return []
    is_kept = address in offers.must_keep or (
        offers.may_be_kept(address)
        and any(address in fabric.routers[leaf].peers[name].routes for leaf in fabric.leaves_of(name))
    )
    return offers.present(address) if is_kept else offers.working(address)


def announcers(fabric: Fabric, address: str) -> list[str]:
    """The hosts that should announce a service: those that serve it; of those that are being drained only while no
    other does. Once a host says that it is drained, and has left the address to others, it does not come back to it
    (docs/decisions/0022)."""
    those = [
        name
        for name, host in fabric.hosts.items()
        if host.daemon is not None
        and not host.is_drained
        and not (address in host.offers.left_to_others and host.daemon.drain.view().state == "drained")
        and serving(fabric, name, address)
    ]
    others = [name for name in those if not fabric.hosts[name].offers.is_lowered]
    if not any(fabric.leaves_of(name) for name in others):
        return those
    return [name for name in those if name in others or not fabric.leaves_of(name)]
