"""Large fabrics: racks of hosts below two leaves each, and spines above all leaves, as RFC 7938 has them.

Each host has addresses of its own workloads; leaves tell it of a default route alone, or of all that there is.
Addresses: links from 10.0.0.0/9, workloads from 10.128.0.0/9.
"""

from __future__ import annotations

import random
from pathlib import Path

import msgspec

from bgpd.config.schema import Config, FibConfig, RouterConfig, StateConfig
from bgpd.config.schema_sessions import NeighborConfig
from bgpd.config.schema_workloads import KernelWorkloadConfig, WorkloadConfig
from bgpd.model.prefix import format_address
from bgpd.simulation.fabric import Fabric
from bgpd.simulation.loop import LOOK_S, VirtualLoop
from bgpd.simulation.network import Port
from bgpd.simulation.router import Router, Style
from bgpd.simulation.wire import Route

_HOST_ASN, _LEAF_ASN, _SPINE_ASN = 4_200_100_000, 4_200_010_000, 4_200_000_000
_LINKS, _WORKLOADS = 10 << 24, (10 << 24) + (128 << 16)
_LEAVES = 2
"""Of a rack."""
_UPLINK, _VETH = 2, 20
_HOSTS_AT_ONCE = 10
"""Of more hosts all looks at the clock together take no longer: each host has a processor of its own."""
_DEFAULT = "0.0.0.0/0"
_STYLE = Style(restarts=False, by_notification=False)
"""As FRR is without more words: it helps neighbors that restart, and does not do so itself."""


class Size(msgspec.Struct, frozen=True, kw_only=True):
    """`workloads`: of each host. `takes_all`: hosts have a route to each workload, not only a default route."""

    hosts: int
    workloads: int
    hosts_per_rack: int = 40
    spines: int = 2
    takes_all: bool = False
    delay_s: float = 0.0002
    kernel_late_s: float = 0.002

    @property
    def racks(self) -> int:
        """How many there are; the last one may not be full."""
        return -(-self.hosts // self.hosts_per_rack)

    @property
    def leaves(self) -> int:
        """How many there are in all racks."""
        return _LEAVES * self.racks


def large_fabric(size: Size, loop: VirtualLoop, *, chance: random.Random, directory: Path) -> Fabric:
    """One of this size; hosts keep their state in `directory`."""
    fabric = Fabric(loop, chance=chance)
    loop.look_s = LOOK_S / max(1.0, size.hosts / _HOSTS_AT_ONCE)
    spines = [_router(fabric, f"spine{number}", _SPINE_ASN, number) for number in range(size.spines)]
    for number in range(size.leaves):
        leaf = _router(fabric, f"leaf{number}", _LEAF_ASN + number, number + 250)
        leaf.own = {} if size.takes_all else {_DEFAULT: Route(peer=None)}
        for spine in spines:
            _join(fabric, spine, leaf, size)
    for number in range(size.hosts):
        _add_host(fabric, size, number, directory / f"host{number}")
    return fabric


def _router(fabric: Fabric, name: str, asn: int, number: int) -> Router:
    router_id = bytes((10, 255, *number.to_bytes(2)))
    return fabric.add_router(name, asn=asn, router_id=router_id, style=_STYLE)


def _join(fabric: Fabric, spine: Router, leaf: Router, size: Size) -> None:
    one = bytes((0xFE, 0x80, *bytes(10), 0xFF, *spine.router_id[1:]))  # the same on all links, as it may be
    two = bytes((0xFE, 0x80, *bytes(12), *len(fabric.links).to_bytes(2)))
    above = Port(spine.stack, len(spine.stack.ports) + 1, leaf.name, one)
    below = Port(leaf.stack, len(leaf.stack.ports) + 1, spine.name, two)
    fabric.connect(above, below, delay_s=size.delay_s)
    spine.add_peer(above, name=leaf.name, asn=leaf.asn, dials=True)
    leaf.add_peer(below, name=spine.name, asn=spine.asn, dials=False)


def _add_host(fabric: Fabric, size: Size, number: int, directory: Path) -> None:
    directory.mkdir()
    first = number // size.hosts_per_rack * _LEAVES
    leaves = [fabric.routers[f"leaf{first + at}"] for at in range(_LEAVES)]
    links = [_LINKS + 4 * number + 2 * at for at in range(_LEAVES)]
    name = f"host{number}"
    config = Config(
        router=RouterConfig(
            asn=_HOST_ASN + number, router_id=format_address(bytes((10, 254, *number.to_bytes(2)))), hostname=name
        ),
        neighbor=tuple(
            NeighborConfig(
                name=leaf.name,
                address=format_address(link.to_bytes(4)),
                asn=leaf.asn,
                families=("ipv4-unicast",),
                import_="all" if size.takes_all else "default-only",
            )
            for leaf, link in zip(leaves, links)
        ),
        fib=FibConfig(),
        workload=WorkloadConfig(kernel=KernelWorkloadConfig(interfaces=("veth*",))),
        state=StateConfig(directory=str(directory)),
    )
    host = fabric.add_host(name, config=config, directory=directory, most_late_s=size.kernel_late_s)
    for at, (leaf, link) in enumerate(zip(leaves, links)):
        there, here = link.to_bytes(4), (link + 1).to_bytes(4)
        index, interface = _UPLINK + at, f"eth{at}"
        host.kernel.set_link(index, interface, up=True)
        host.kernel.add_address(index, here, 31)
        above = Port(leaf.stack, len(leaf.stack.ports) + 1, name, there)
        fabric.connect(above, Port(host.stack, index, interface, here), delay_s=size.delay_s)
        leaf.add_peer(above, name=name, asn=config.router.asn, dials=True, sends_only_own=not size.takes_all)
    host.kernel.set_link(_VETH, "veth0", up=True)
    for at in range(size.workloads):
        host.claim(f"{format_address((_WORKLOADS + number * size.workloads + at).to_bytes(4))}/32")
