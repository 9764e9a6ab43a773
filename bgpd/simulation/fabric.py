"""A fabric: hosts with bgpd, routers that are modelled, and the links between them; all in one event loop."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

from bgpd.config.schema import Config
from bgpd.simulation import policies
from bgpd.simulation.host import SimulatedHost
from bgpd.simulation.loop import VirtualLoop
from bgpd.simulation.network import Link, Port
from bgpd.simulation.orchestrator import Orchestrator
from bgpd.simulation.router import Router, Style
from bgpd.simulation.tenants import Tenant
from bgpd.simulation.wire import EVPN, V4, V6, Codes

FAMILIES = {V4: "ipv4-unicast", V6: "ipv6-unicast", EVPN: "l2vpn-evpn"}
"""As configurations have them."""


class Fabric:
    """`hosts` and `routers` by name; `links` by the names of both ends, the router's first; one between two. `tenants`:
    those that hosts may have; `orchestrator`: who tells hosts by a broker what they have. `segments`: what hosts have
    on the VLANs that routers bridge: by router, number and packed address the host and the index of its interface."""

    def __init__(self, loop: VirtualLoop, *, chance: random.Random) -> None:
        self.loop = loop
        self.hosts: dict[str, SimulatedHost] = {}
        self.routers: dict[str, Router] = {}
        self.links: dict[tuple[str, str], Link] = {}
        self.tenants: tuple[Tenant, ...] = ()
        self.tenants_have_v6 = False
        self.orchestrator: Orchestrator | None = None
        self.segments: dict[tuple[str, int, bytes], tuple[str, int]] = {}
        self._routers_of: dict[str, list[str]] = {}
        self._chance = chance
        self.noted: Callable[[], None] = lambda: None
        """Called when packets may go another way from now on."""

    def note(self) -> None:
        """Something has changed that packets may notice."""
        self.noted()

    # What it is made of

    def add_router(self, name: str, *, asn: int, router_id: bytes, style: Style) -> Router:
        """A leaf or a spine, without neighbors yet."""
        made = Router(name, self.loop, asn=asn, router_id=router_id, style=style, chance=self._chance)
        made.noted = self.note
        self.routers[name] = made
        return made

    def add_host(self, name: str, *, config: Config, directory: Path, most_late_s: float) -> SimulatedHost:
        """A host with a configuration, without interfaces yet."""
        made = SimulatedHost(
            name, self.loop, config=config, directory=directory, chance=self._chance, most_late_s=most_late_s
        )
        made.kernel.noted = self.note
        self.hosts[name] = made
        return made

    def connect(self, above: Port, below: Port, *, delay_s: float) -> None:
        """A link, of which one end at least is a router's: that is `above`."""
        for port in (above, below):
            port.stack.ports.append(port)
        names = above.stack.name, below.stack.name
        self.links[names] = Link(above, below, chance=self._chance, delay_s=delay_s)
        self._routers_of.setdefault(names[1], []).append(names[0])

    def start(self) -> None:
        """Have all run."""
        for router in self.routers.values():
            router.start()
        for host in self.hosts.values():
            host.start()
            for guest in host.guests.values():
                guest.start()

    # What happens to links

    def link_between(self, one: str, two: str) -> Link:
        """Whichever is named first."""
        return self.links[(one, two) if (one, two) in self.links else (two, one)]

    def set_link(self, names: tuple[str, str], *, up: bool) -> None:
        """Pull the cable, or put it in again."""
        link = self.links[names]
        if link.is_up == up:
            return
        link.is_up = up
        self.note()
        for port in link.ports:
            name = port.stack.name
            if name in self.hosts:
                self.hosts[name].kernel.set_link(port.index, port.name, up=up)
            elif not up:
                self.routers[name].link_down(port)

    # What should be

    def is_connected(self, one: str, two: str) -> bool:
        """Whether a session between two neighbors has to be there; the names are those of a link."""
        peers = self.routers[one].peers
        theirs = self.routers[two].peers if two in self.routers else {}
        if two not in peers or peers[two].is_shut or (one in theirs and theirs[one].is_shut):
            return False
        ends = [self.routers.get(name) or self.hosts[name] for name in (one, two)]
        if two in self.hosts and not self._has_family(one, two):
            return False
        runs = all(end.is_running if isinstance(end, Router) else end.daemon is not None for end in ends)
        return runs and all(end.stack.is_there for end in ends) and self.links[one, two].is_whole

    def _has_family(self, router: str, host: str) -> bool:
        """Whether a host has a neighbor at a router, and a family in common with it: without, there is no session."""
        neighbor = self.hosts[host].neighbors.get(router)
        offered = [FAMILIES[codes] for codes in self.routers[router].peers[host].offered]
        return neighbor is not None and any(one in offered for one in neighbor.families)

    def carries(self, one: str, two: str, codes: Codes) -> bool:
        """Whether routes of a family go over a session between two, whichever is named first."""
        router, neighbor = (one, two) if one in self.routers and two in self.routers[one].peers else (two, one)
        if codes not in self.routers[router].peers[neighbor].offered:
            return False
        if neighbor in self.routers:
            return codes in self.routers[neighbor].peers[router].offered
        return FAMILIES[codes] in self.hosts[neighbor].neighbors[router].families

    def has_bfd(self, one: str, two: str) -> bool:
        """Whether both ends of a link between a router and a host have BFD."""
        host = self.hosts[two]
        has_it = host.bfd is not None and host.neighbors[one].bfd is not None
        return has_it and self.links[one, two].ports[0] in self.routers[one].bfd

    def leaves_of(self, host: str) -> list[str]:
        """The routers that it should have a session with."""
        return [router for router in self.routers_of(host) if self.is_connected(router, host)]

    def hears(self, host: str) -> list[str]:
        """Those of which it takes routes of tenants, whatever marks they have."""
        config, neighbors = self.hosts[host].config, self.hosts[host].neighbors
        return [router for router in self.leaves_of(host) if policies.takes_all(config, neighbors[router].import_)]

    def tells(self, host: str) -> list[str]:
        """Those that it announces routes of tenants to."""
        config, neighbors = self.hosts[host].config, self.hosts[host].neighbors
        return [
            router
            for router in self.leaves_of(host)
            if policies.said(config, neighbors[router].export, policies.PLAIN) is not None
        ]

    def routers_of(self, host: str) -> list[str]:
        """The routers that a host has a link to."""
        return self._routers_of.get(host, [])
