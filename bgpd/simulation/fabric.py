"""A fabric: hosts with bgpd, each with a link to every leaf, and a spine above the leaves; all in one event loop.

Addresses: link of leaf L and host H 10.(L+1).0.(2H)/31, the leaf first; workloads of host H 10.64.H.0/24.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import msgspec

from bgpd.simulation.host import SimulatedHost
from bgpd.simulation.loop import VirtualLoop
from bgpd.simulation.network import Link, Port
from bgpd.simulation.router import Router, Style
from bgpd.simulation.wire import Route

HOST_ASN, LEAF_ASN, SPINE_ASN = 65100, 65001, 65000
EVERYWHERE = "203.0.113.0/24"
EVERYWHERE_V6 = "2001:db8::/48"
"""What each leaf announces."""
_UPLINK, _VETH, _OTHER = 2, 20, 30
_CONFIG = """
[router]
asn = {asn}
router_id = "10.255.0.{number}"
hostname = "{name}"
[fib]
reconcile_interval_s = 10
[workload.kernel]
interfaces = ["veth*"]
[workload.api]
[state]
directory = "{directory}"
[drain]
settle_s = 4
"""
_UNNUMBERED = """
[[neighbor]]
name = "{name}"
interface = "{interface}"
asn = {asn}
import = "all"
graceful_restart = {{ restart_time_s = {restart_time_s}, stale_time_s = 20 }}
"""
_NEIGHBOR = """
[[neighbor]]
name = "{name}"
address = "{address}"
asn = {asn}
import = "all"
families = ["ipv4-unicast"]
graceful_restart = {{ restart_time_s = {restart_time_s}, stale_time_s = 20 }}
"""


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """How large a fabric is, how each leaf behaves, how late kernels answer, and how busy processors are.
    `is_unnumbered`: sessions over link-local addresses that are found, for IPv4 and IPv6."""

    hosts: int
    styles: tuple[Style, ...]
    delay_s: float = 0.0005
    restart_time_s: int = 15
    kernel_late_s: float = 0.005
    slow_looks: float = 0.01
    is_unnumbered: bool = False

    @property
    def leaves(self) -> int:
        return len(self.styles)


class Fabric:
    """`hosts` and `routers` by name; `links` by the names of both ends, the router's first."""

    def __init__(self, shape: Shape, loop: VirtualLoop, *, chance: random.Random, directory: Path) -> None:
        self.shape = shape
        self.loop = loop
        self.hosts: dict[str, SimulatedHost] = {}
        self.routers: dict[str, Router] = {}
        self.links: dict[tuple[str, str], Link] = {}
        self._chance = chance
        self._add_routers()
        for number in range(shape.hosts):
            self._add_host(number, directory)

    def _add_routers(self) -> None:
        spine = self._router("spine", SPINE_ASN, 100, Style())
        for number, style in enumerate(self.shape.styles):
            leaf = self._router(f"leaf{number}", LEAF_ASN + number, 101 + number, style)
            own = (EVERYWHERE, EVERYWHERE_V6, f"198.51.{100 + number}.0/24")
            leaf.own = {one: Route(peer=None) for one in (own if self.shape.is_unnumbered else (own[0], own[2]))}
            ends = bytes((10, 100, 0, 2 * number)), bytes((10, 100, 0, 2 * number + 1))
            if self.shape.is_unnumbered:
                ends = _link_local(200 + number), _link_local(300 + number)
            above = Port(spine.stack, number + 1, leaf.name, ends[0])
            below = Port(leaf.stack, 1, spine.name, ends[1])
            self._connect(above, below)
            spine.add_peer(above, name=leaf.name, asn=leaf.asn, dials=True)
            leaf.add_peer(below, name=spine.name, asn=SPINE_ASN, dials=False)

    def _router(self, name: str, asn: int, number: int, style: Style) -> Router:
        router_id = bytes((10, 255, 1, number))
        made = Router(name, self.loop, asn=asn, router_id=router_id, style=style, chance=self._chance)
        self.routers[name] = made
        return made

    def _add_host(self, number: int, directory: Path) -> None:
        name, leaves = f"host{number}", [f"leaf{leaf}" for leaf in range(self.shape.leaves)]
        own = directory / name
        own.mkdir()
        text = _CONFIG.format(asn=HOST_ASN + number, number=number + 1, name=name, directory=own)
        for leaf, router in enumerate(leaves):
            text += (_UNNUMBERED if self.shape.is_unnumbered else _NEIGHBOR).format(
                name=router,
                address=f"10.{leaf + 1}.0.{2 * number}",
                interface=f"eth{leaf}",
                asn=LEAF_ASN + leaf,
                restart_time_s=self.shape.restart_time_s,
            )
        late_s = self.shape.kernel_late_s
        host = SimulatedHost(name, self.loop, text=text, directory=own, chance=self._chance, most_late_s=late_s)
        self.hosts[name] = host
        for leaf, router in enumerate(leaves):
            index, interface = _UPLINK + leaf, f"eth{leaf}"
            host.kernel.set_link(index, interface, up=True)
            here, there = bytes((10, leaf + 1, 0, 2 * number + 1)), bytes((10, leaf + 1, 0, 2 * number))
            if self.shape.is_unnumbered:
                here, there = _link_local(1000 + number), _link_local(10 * leaf + number)
            host.kernel.add_address(index, here, 31 if len(here) == 4 else 64)
            above = Port(self.routers[router].stack, 10 + number, name, there)
            self._connect(above, Port(host.stack, index, interface, here))
            self.routers[router].add_peer(above, name=name, asn=HOST_ASN + number, dials=True)
        host.kernel.set_link(_VETH, "veth0", up=True)
        host.kernel.set_link(_OTHER, "mgmt0", up=True)
        host.kernel.add_address(_OTHER, bytes((172, 16, 0, 2 + number)), 24)

    def _connect(self, above: Port, below: Port) -> None:
        for port in (above, below):
            port.stack.ports.append(port)
        names = above.stack.name, below.stack.name
        self.links[names] = Link(above, below, chance=self._chance, delay_s=self.shape.delay_s)

    # What happens to links

    def set_link(self, names: tuple[str, str], *, up: bool) -> None:
        """Pull the cable, or put it in again."""
        link = self.links[names]
        if link.is_up == up:
            return
        link.is_up = up
        for port in link.ports:
            name = port.stack.name
            if name in self.hosts:
                self.hosts[name].kernel.set_link(port.index, port.name, up=up)
            elif not up:
                self.routers[name].link_down(port)

    # What should be

    def is_connected(self, one: str, two: str) -> bool:
        """Whether a session between two neighbors has to be there."""
        ends = [self.routers.get(name) or self.hosts[name] for name in (one, two)]
        if two in self.hosts and one not in self.hosts[two].neighbors:
            return False
        runs = all(end.is_running if isinstance(end, Router) else end.daemon is not None for end in ends)
        return runs and all(end.stack.is_there for end in ends) and self.links[one, two].is_whole

    def owners(self, prefix: str) -> list[str]:
        """The hosts that should announce it."""
        return [name for name, host in self.hosts.items() if prefix in host.announced]

    def prefixes(self) -> list[str]:
        """All that somebody should announce."""
        own = [prefix for router in self.routers.values() if router.is_running for prefix in router.own]
        return list(dict.fromkeys((*own, *(one for host in self.hosts.values() for one in sorted(host.announced)))))

    def distances(self, prefix: str) -> dict[str, int]:
        """The length of the AS path by which each router that can reach it has a prefix."""
        found: dict[str, int] = {}
        for name, router in self.routers.items():
            if router.is_running and prefix in router.own:
                found[name] = 0
            elif any((name, one) in self.links and self.is_connected(name, one) for one in self.owners(prefix)):
                found[name] = 1
        for _ in self.routers:
            for above, below in self._between_routers():
                for near, far in ((above, below), (below, above)):
                    if near in found and found[near] + 1 < found.get(far, 99):
                        found[far] = found[near] + 1
        return found

    def _between_routers(self) -> Iterator[tuple[str, str]]:
        return ((one, two) for one, two in self.links if two in self.routers and self.is_connected(one, two))

    def nearest(self, host: str, prefix: str) -> list[str]:
        """The leaves by which a host should send to a prefix."""
        distances = self.distances(prefix)
        taken = {one for one, config in self.hosts[host].neighbors.items() if config.import_ == "all"}
        leaves = [one for one, other in self.links if other == host and one in taken and one in distances]
        leaves = [one for one in leaves if self.is_connected(one, host)]
        least = min((distances[leaf] for leaf in leaves), default=0)
        return [leaf for leaf in leaves if distances[leaf] == least]


def _link_local(number: int) -> bytes:
    return bytes((0xFE, 0x80, *bytes(12), *number.to_bytes(2)))
