"""Regular fabrics, for scenarios made of seeds: each host has a link to every leaf, and a spine is above the leaves.

Addresses: link of leaf L and host H 10.(L+1).0.(2H)/31, the leaf first; workloads of host H 10.64.H.0/24.
"""

from __future__ import annotations

import random
from pathlib import Path

import msgspec

from bgpd.config.schema import Config, DrainConfig, FibConfig, RouterConfig, StateConfig
from bgpd.config.schema_sessions import BfdConfig, GracefulRestartConfig, NeighborConfig
from bgpd.config.schema_workloads import (
    ApiWorkloadConfig,
    KernelWorkloadConfig,
    MqttWorkloadConfig,
    ServicesConfig,
    WorkloadConfig,
)
from bgpd.simulation import bandwidths, guests, own_addresses, policies, tenants, vrf_sessions
from bgpd.simulation.broker import Broker
from bgpd.simulation.fabric import FAMILIES, Fabric
from bgpd.simulation.host import SimulatedHost
from bgpd.simulation.leaf_bfd import Pace
from bgpd.simulation.loop import VirtualLoop
from bgpd.simulation.network import Port
from bgpd.simulation.orchestrator import Orchestrator
from bgpd.simulation.router import Router, Style
from bgpd.simulation.wire import EVPN, NO_LLGR, Codes, Route

HOST_ASN, LEAF_ASN, SPINE_ASN = 65100, 65001, 65000
_LOOPBACK, _UPLINK, VETH, _OTHER = 1, 2, 20, 30
VETHS = "veth0", "veth1"
_GUESTS_RETRY_S = 2.0


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """How large a fabric is, how each leaf behaves, how late kernels answer, and how busy processors are.
    `is_unnumbered`: sessions over link-local addresses that are found, for IPv4 and IPv6. `tenants`: VRFs of each host,
    whose EVPN routes are resolved by `resolve`; `tenants_have_v6`, too. `has_vrf_devices`: kernels can make them.
    `has_feed`: an orchestrator tells hosts by a broker what they have. `bfd`: "" for none, "loose", or "strict".
    `long_lived_s`: for how long hosts keep routes of a leaf that does not come back in time, and leaves theirs, if
    their style has that, too (RFC 9494). `has_policies`: hosts have policies that their neighbors may get.
    `bandwidths`: what each leaf says of what all announce, in units; 0: nothing. `guests`: BGP speakers of each host,
    who restart gracefully or not; `guests_communities`: whether what they say is announced with their communities.
    `vrf_sessions`: hosts have sessions with leaves in their VRFs, and say what they hear there by EVPN ("all"), or not
    ("local"); "": they have none. `has_own_addresses`: hosts announce addresses of their own.
    `has_probes`: they have a loopback interface, at which answers to probes arrive."""

    hosts: int
    styles: tuple[Style, ...]
    delay_s: float = 0.0005
    restart_time_s: int = 15
    kernel_late_s: float = 0.005
    slow_looks: float = 0.01
    is_unnumbered: bool = False
    tenants: int = 0
    tenants_have_v6: bool = False
    resolve: str = "gateway-ip"
    has_vrf_devices: bool = True
    has_feed: bool = False
    bfd: str = ""
    long_lived_s: int = 0
    has_policies: bool = False
    bandwidths: tuple[int, ...] = ()
    guests: int = 0
    guests_restart: bool = True
    guests_communities: str = "none"
    vrf_sessions: str = ""
    has_own_addresses: bool = False
    has_probes: bool = False

    @property
    def more(self) -> tuple[Codes, ...]:
        """Families beside those of the links."""
        return (EVPN,) if self.tenants else ()

    @property
    def leaves(self) -> int:
        """How many there are."""
        return len(self.styles)


def fabric_of(shape: Shape, loop: VirtualLoop, *, chance: random.Random, directory: Path) -> Fabric:
    """One of this shape; hosts keep their state in `directory`."""
    fabric = Fabric(loop, chance=chance)
    fabric.tenants = tenants.TENANTS[: shape.tenants]
    fabric.tenants_have_v6 = shape.tenants_have_v6
    fabric.orchestrator = Orchestrator(Broker(loop, chance)) if shape.has_feed else None
    spine = _router(fabric, "spine", SPINE_ASN, 100, Style())
    for number, style in enumerate(shape.styles):
        _add_leaf(fabric, shape, number, style, spine)
    for number in range(shape.hosts):
        _add_host(fabric, shape, number, directory / f"host{number}")
    return fabric


def _router(fabric: Fabric, name: str, asn: int, number: int, style: Style) -> Router:
    return fabric.add_router(name, asn=asn, router_id=bytes((10, 255, 1, number)), style=style)


def _add_leaf(fabric: Fabric, shape: Shape, number: int, style: Style, spine: Router) -> None:
    leaf = _router(fabric, f"leaf{number}", LEAF_ASN + number, 101 + number, style)
    anycast = bandwidths.ANYCAST[: 2 if shape.is_unnumbered else 1]
    leaf.own = {one: Route(peer=None) for one in (*anycast, f"198.51.{100 + number}.0/24")}
    if shape.long_lived_s:
        leaf.own[f"198.51.{200 + number}.0/24"] = Route(peer=None, communities=(NO_LLGR,))
    tenants.announce_elsewhere(fabric, leaf)
    if shape.vrf_sessions:
        vrf_sessions.add_instances(fabric, leaf)
    if number < len(shape.bandwidths):
        bandwidths.say(leaf, bandwidths.names(fabric, leaf), shape.bandwidths[number])
    ends = bytes((10, 100, 0, 2 * number)), bytes((10, 100, 0, 2 * number + 1))
    if shape.is_unnumbered:
        ends = _link_local(200 + number), _link_local(300 + number)
    above = Port(spine.stack, number + 1, leaf.name, ends[0])
    below = Port(leaf.stack, 1, spine.name, ends[1])
    fabric.connect(above, below, delay_s=shape.delay_s)
    spine.add_peer(above, name=leaf.name, asn=leaf.asn, dials=True, more=shape.more)
    leaf.add_peer(below, name=spine.name, asn=SPINE_ASN, dials=False, more=shape.more)


def _add_host(fabric: Fabric, shape: Shape, number: int, directory: Path) -> None:
    name = f"host{number}"
    directory.mkdir()
    config = _config(shape, number, directory)
    host = fabric.add_host(name, config=config, directory=directory, most_late_s=shape.kernel_late_s)
    for leaf in range(shape.leaves):
        _connect(fabric, shape, leaf, host, number)
    tenants.add_links(fabric, host, {leaf: _UPLINK + leaf for leaf in range(shape.leaves)})
    host.kernel.vrfs.has_devices = shape.has_vrf_devices
    if fabric.orchestrator is not None:
        host.follow(fabric.orchestrator)
    for at, interface in enumerate(VETHS):
        host.kernel.set_link(VETH + at, interface, up=True)
    host.kernel.set_link(_OTHER, "mgmt0", up=True)
    host.kernel.add_address(_OTHER, bytes((172, 16, 0, 2 + number)), 24)
    if shape.has_probes:
        host.kernel.set_link(_LOOPBACK, "lo", up=True)
    if shape.has_own_addresses:
        own_addresses.add(host)
    if shape.guests:
        style = Style(restarts=shape.guests_restart, retry_s=_GUESTS_RETRY_S)
        guests.add(fabric, host, number, [style] * shape.guests)


def _config(shape: Shape, number: int, directory: Path) -> Config:
    its = tenants.TENANTS[: shape.tenants]
    inside = vrf_sessions.configs(number, shape.leaves, its, has_devices=shape.has_vrf_devices)
    return Config(
        router=RouterConfig(asn=HOST_ASN + number, router_id=f"10.255.0.{number + 1}", hostname=f"host{number}"),
        neighbor=(
            *(_neighbor(shape, number, leaf) for leaf in range(shape.leaves)),
            *(inside if shape.vrf_sessions else ()),
        ),
        fib=FibConfig(reconcile_interval_s=10),
        workload=WorkloadConfig(
            kernel=KernelWorkloadConfig(interfaces=("veth*",)),
            api=ApiWorkloadConfig(),
            addresses=own_addresses.CONFIGS[0] if shape.has_own_addresses else None,
            mqtt=MqttWorkloadConfig(broker="mqtt://192.0.2.1") if shape.has_feed else None,
            services=ServicesConfig(damping_half_life_s=5),
            bgp=guests.configs(number, shape.guests, communities=shape.guests_communities),
        ),
        policy=policies.ALL if shape.has_policies else {},
        vrf=tenants.configs(its, shape.leaves, shape.resolve, originate=shape.vrf_sessions or "local"),
        state=StateConfig(directory=str(directory)),
        drain=DrainConfig(settle_s=4),
    )


def _neighbor(shape: Shape, number: int, leaf: int) -> NeighborConfig:
    return NeighborConfig(
        name=f"leaf{leaf}",
        address="" if shape.is_unnumbered else f"10.{leaf + 1}.0.{2 * number}",
        interface=f"eth{leaf}" if shape.is_unnumbered else "",
        asn=LEAF_ASN + leaf,
        import_="all",
        families=(
            *(("ipv4-unicast", "ipv6-unicast") if shape.is_unnumbered else ("ipv4-unicast",)),
            *(FAMILIES[one] for one in shape.more),
        ),
        bfd=BfdConfig(interval_ms=1000, multiplier=3, strict=shape.bfd == "strict") if shape.bfd else None,
        graceful_restart=GracefulRestartConfig(
            restart_time_s=shape.restart_time_s, stale_time_s=20, long_lived_s=shape.long_lived_s
        ),
    )


def _connect(fabric: Fabric, shape: Shape, leaf: int, host: SimulatedHost, number: int) -> None:
    router, index, interface = fabric.routers[f"leaf{leaf}"], _UPLINK + leaf, f"eth{leaf}"
    host.kernel.set_link(index, interface, up=True)
    here, there = bytes((10, leaf + 1, 0, 2 * number + 1)), bytes((10, leaf + 1, 0, 2 * number))
    if shape.is_unnumbered:
        here, there = _link_local(1000 + number), _link_local(10 * leaf + number)
    host.kernel.add_address(index, here, 31 if len(here) == 4 else 64)
    if shape.is_unnumbered and shape.tenants:  # EVPN routes need a next hop
        host.kernel.add_address(index, bytes((0xFD, 0x70, 0, leaf, *bytes(11), number + 1)), 128)
    above = Port(router.stack, 10 + number, host.name, there)
    fabric.connect(above, Port(host.stack, index, interface, here), delay_s=shape.delay_s)
    bfd = Pace() if shape.bfd else None
    peer = router.add_peer(above, name=host.name, asn=HOST_ASN + number, dials=True, more=shape.more, bfd=bfd)
    peer.next_hops = frozenset(one.packed for one in host.kernel.addresses if one.index == index)
    vrf_sessions.connect(fabric, router, above, host)


def _link_local(number: int) -> bytes:
    return bytes((0xFE, 0x80, *bytes(12), *number.to_bytes(2)))
