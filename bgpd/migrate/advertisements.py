"""Which interfaces have a router next door: asks by a router solicitation, and listens for some seconds."""

from __future__ import annotations

import asyncio
import contextlib

from bgpd.log import quiet
from bgpd.migrate.machine import Machine, Port
from bgpd.model.prefix import format_address
from bgpd.speaker.router_discovery import RouterDiscovery


def hear_routers(machine: Machine, seconds: float) -> None:
    """Note the routers that advertise themselves on interfaces that are up, within so many seconds."""
    ports = {port.link.index: port for port in machine.ports if port.link.up and port.link.name != "lo"}
    if not ports or seconds <= 0:
        machine.unseen.append("router advertisements: not listened for")
        return
    with quiet():
        why = asyncio.run(_hear(ports, seconds))
    if why:
        machine.unseen.append(f"router advertisements: {why}")


async def _hear(ports: dict[int, Port], seconds: float) -> str:
    """Why nothing could be heard; "" if it could."""
    all_heard = asyncio.Event()

    def advertised(index: int, source: bytes) -> None:
        port = ports.get(index)
        if port is not None:
            port.router = port.router or format_address(source)
        if all(one.router for one in ports.values()):
            all_heard.set()

    discovery = RouterDiscovery(advertised=advertised, solicited=lambda index: None)
    if not discovery.open():
        return discovery.error.rpartition(": ")[2]
    try:
        discovery.listen(frozenset(ports))
        for index, port in ports.items():
            discovery.solicit(index, port.link.mac)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(all_heard.wait(), seconds)
    finally:
        discovery.close()
    return ""
