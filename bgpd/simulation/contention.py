"""An address that two sources of a host claim, the configuration and the API, each on another interface: who came first
has it, also after a restart, and the other one follows when that one goes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING

from bgpd.model.prefix import parse_prefix
from bgpd.simulation.linux import METRIC
from bgpd.simulation.scenario import Event, Kind
from bgpd.simulation.shape import VETHS

if TYPE_CHECKING:
    from bgpd.simulation.fabric import Fabric
    from bgpd.simulation.host import SimulatedHost

STATIC, PUT = VETHS
"""The interfaces, which stand for the sources."""
_MAIN = 254


def address_of(host: str) -> str:
    """A host's."""
    return f"10.64.{host[4:]}.50/32"


async def _contend(fabric: Fabric, event: Event) -> None:
    """One of both claims it, or does so no more."""
    host, address = fabric.hosts[event.host], address_of(event.host)
    if host.daemon is None or not host.daemon.is_started:
        return
    if not event.value:
        others = [one for one in host.static if one != address]
        await host.set_static([*others, address] if address not in host.static else others)
        _note(host, STATIC, is_there=address in host.static)
        return
    if address in host.put:
        await host.delete_workload(address)
    else:
        await host.put_workload(address, PUT)
    _note(host, PUT, is_there=address in host.put)


def _note(host: SimulatedHost, interface: str, *, is_there: bool) -> None:
    if not is_there:
        host.contenders.pop(interface, None)
    else:
        host.contenders.setdefault(interface)


def findings(host: SimulatedHost) -> Iterator[str]:
    """It leads to where the first one says."""
    wanted = next(iter(host.contenders), None)
    if wanted is None:
        return
    family, key = parse_prefix(address_of(host.name))
    target = host.kernel.own_routes().get((family, _MAIN, key, METRIC))
    found = host.kernel.links[-target].name if target is not None and target < 0 else None
    if found != wanted:
        yield f"{host.name}: {address_of(host.name)} leads to {found}, and should lead to {wanted}"


CONTENTION: dict[Kind, Callable[[Fabric, Event], Awaitable[None]]] = {Kind.CONTEND: _contend}
