"""Tenants of a fabric: VRFs with the same addresses on all hosts and leaves, what hosts announce of them by EVPN, and
where packets of a tenant should go.

Of each host, VLANs to each leaf, one for each tenant, the same subnets in all: `172.20.LEAF.0/24`, where tenants have
IPv6 also `fd72:20:LEAF::/48`. A workload's address is 10.64.HOST.NUMBER or fd65::HOST:NUMBER; one that ends in 3 is a
container's, of any number of hosts, others are machines with a MAC.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from bgpd.config.schema import VrfConfig
from bgpd.model.kernel import Link
from bgpd.simulation import aggregates, evpn
from bgpd.simulation.aggregates import Announced
from bgpd.simulation.wire import Route

if TYPE_CHECKING:
    from bgpd.simulation.fabric import Fabric
    from bgpd.simulation.host import SimulatedHost
    from bgpd.simulation.router import Router

ELSEWHERE, ELSEWHERE_V6 = "203.0.113.0/24", "2001:db8::/48"
"""What each leaf announces in each tenant; the second where tenants have IPv6."""
_BITS = {False: 31, True: 127}
_UPLINKS, _TAPS = 100, 200
_ASN = 65000


class Tenant(msgspec.Struct, frozen=True):
    """One of them."""

    name: str
    number: int

    @property
    def table(self) -> int:
        """Its kernel table."""
        return 1001 + self.number

    @property
    def vni(self) -> int:
        """Its VNI."""
        return 5001 + self.number

    @property
    def target(self) -> bytes:
        """Its route target."""
        return evpn.target(_ASN, self.vni)

    @property
    def label(self) -> bytes:
        """Its VNI as a label."""
        return self.vni.to_bytes(3, "big")

    @property
    def tap(self) -> int:
        """The interface of its workloads, on each host."""
        return _TAPS + self.number

    @property
    def tap_name(self) -> str:
        """The interface of its machines, on each host."""
        return f"tap{self.number}"

    def uplink(self, leaf: int) -> int:
        """The VLAN to a leaf, on each host."""
        return _UPLINKS + 10 * self.number + leaf

    def uplink_name(self, leaf: int) -> str:
        """The interface of the VLAN to a leaf, on each host."""
        return f"eth{leaf}.{101 + self.number}"

    def uplink_mac(self, leaf: int, host: int) -> bytes:
        """The MAC address of a host's end of the VLAN to a leaf."""
        return bytes((2, 1, self.number, leaf, 0, host))


TENANTS = Tenant("blue", 0), Tenant("red", 1)


def host_end(leaf: int, host: int, *, is_v6: bool = False) -> bytes:
    """The address of a host on its VLANs to a leaf; one less is the leaf's."""
    last = 2 * host + 1
    return bytes((0xFD, 0x72, 0, 0x20, 0, leaf, *bytes(9), last)) if is_v6 else bytes((172, 20, leaf, last))


def leaf_end(leaf: int, host: int, *, is_v6: bool = False) -> bytes:
    """The leaf's address on its VLAN to a host."""
    packed = host_end(leaf, host, is_v6=is_v6)
    return packed[:-1] + bytes((packed[-1] - 1,))


def leaf_of(end: bytes) -> int:
    """The leaf of such an address, by number."""
    return end[5] if len(end) == 16 else end[2]


def mac_of(address: str) -> bytes:
    """A workload's; b"" of a container."""
    packed = _packed(address)
    return b"" if packed[-1] == 3 else bytes((2, len(packed))) + packed[-4:]


def _packed(address: str) -> bytes:
    bare = address.partition("/")[0]
    return socket.inet_pton(socket.AF_INET6 if ":" in bare else socket.AF_INET, bare)


def families(fabric: Fabric) -> tuple[bool, ...]:
    """Of IPv4 (False) and IPv6 (True) those that tenants have."""
    return (False, True) if fabric.tenants_have_v6 else (False,)


def number_of(name: str) -> int:
    """3 of "host3" and "leaf3"."""
    return int(name[4:])


def configs(
    tenants: tuple[Tenant, ...], leaves: int, resolve: str, *, originate: str = "local"
) -> tuple[VrfConfig, ...]:
    """Their part of a host's configuration."""
    return tuple(
        VrfConfig(
            name=one.name,
            table=one.table,
            vni=one.vni,
            import_rt=(f"{_ASN}:{one.vni}",),
            export_rt=(f"{_ASN}:{one.vni}",),
            uplinks=tuple(one.uplink_name(leaf) for leaf in range(leaves)),
            resolve=resolve,
            originate=originate,
        )
        for one in tenants
    )


def add_links(fabric: Fabric, host: SimulatedHost, parents: dict[int, int]) -> None:
    """Their VLANs, by the indexes of the links to leaves, and the interfaces of their workloads."""
    kernel, number = host.kernel, number_of(host.name)
    for one in fabric.tenants:
        for leaf, parent in parents.items():
            index, name, mac = one.uplink(leaf), one.uplink_name(leaf), one.uplink_mac(leaf, number)
            kernel.change_link(Link(index=index, name=name, up=True, mac=mac, kind="vlan", parent=parent))
            for is_v6 in families(fabric):
                kernel.add_address(index, host_end(leaf, number, is_v6=is_v6), _BITS[is_v6])
        kernel.set_link(one.tap, one.tap_name, up=True)


def announce_elsewhere(fabric: Fabric, leaf: Router) -> None:
    """What a leaf announces of its own."""
    for one in fabric.tenants:
        for is_v6 in families(fabric):
            name = elsewhere(leaf, one, is_v6=is_v6)
            leaf.own[name] = Route(peer=None, extended=evpn.carried(one.target), label=one.label)


def elsewhere(leaf: Router, tenant: Tenant, *, is_v6: bool) -> str:
    """The route that a leaf announces of its own in a tenant."""
    return evpn.ip_prefix(evpn.distinguisher(leaf.router_id, tenant.table), ELSEWHERE_V6 if is_v6 else ELSEWHERE)


# What should be


def of(fabric: Fabric, host: SimulatedHost) -> Iterator[Tenant]:
    """The tenants that a host has now, by its configuration."""
    names = {vrf.name for vrf in host.config.vrf}
    return (one for one in fabric.tenants if one.name in names)


def claimants(fabric: Fabric, tenant: Tenant, address: str) -> list[str]:
    """The hosts that have a workload of this address, and may announce it."""
    return [
        name
        for name, host in fabric.hosts.items()
        if (tenant.name, address) in host.machines and tenant in of(fabric, host) and speaks(host)
    ]


def speaks(host: SimulatedHost) -> bool:
    """Whether it announces anything."""
    return host.daemon is not None and not host.is_drained


def addresses(fabric: Fabric, tenant: Tenant) -> list[str]:
    """All that somebody has."""
    found = (one for host in fabric.hosts.values() for name, one in host.machines if name == tenant.name)
    return sorted(dict.fromkeys(found))


def is_contested(fabric: Fabric, tenant: Tenant, address: str) -> bool:
    """Whether several hosts say that they have a machine, of which one should in the end."""
    return bool(mac_of(address)) and len(claimants(fabric, tenant, address)) > 1


def holders(fabric: Fabric, tenant: Tenant, address: str) -> list[str]:
    """The hosts of which some leaf has it as a machine's."""
    found = []
    for name in claimants(fabric, tenant, address):
        route = evpn.mac_ip(distinguisher(fabric, name, tenant), mac_of(address), address)
        if any(route in fabric.routers[leaf].peers[name].routes for leaf in fabric.leaves_of(name)):
            found.append(name)
    return found


def owners(fabric: Fabric, tenant: Tenant, address: str) -> list[str]:
    """Where packets to it should go."""
    if is_contested(fabric, tenant, address):
        return holders(fabric, tenant, address)
    return claimants(fabric, tenant, address)


def is_settled(fabric: Fabric, tenant: Tenant, address: str) -> bool:
    """Whether all that have it know of each other, and it is known which of them has it."""
    those = claimants(fabric, tenant, address)
    return all(fabric.hears(one) and fabric.tells(one) for one in those) and not is_frozen(fabric, tenant, address)


def originated(fabric: Fabric, host: SimulatedHost, tenant: Tenant) -> Announced | None:
    """What follows from a host's workloads of a tenant and its aggregates there; None: nobody can say, since it is not
    known which host has one of them."""
    its = [address for name, address in host.machines if name == tenant.name]
    if not any(one.vrf == tenant.name for one in host.config.aggregate):
        return Announced(frozenset(its))
    if not all(map(partial(_is_clear, fabric, host, tenant), its)):
        return None
    own = [one for one in its if host.is_drained or host.name in owners(fabric, tenant, one)]
    return aggregates.announced(host.config, own, vrf=tenant.name)


def _is_clear(fabric: Fabric, host: SimulatedHost, tenant: Tenant, address: str) -> bool:
    """Whether it can be said if a host that says so has a workload; one that is drained says it to nobody."""
    if host.is_drained and mac_of(address):
        return not owners(fabric, tenant, address)
    return not is_contested(fabric, tenant, address) or is_settled(fabric, tenant, address)


def unclear_blocks(fabric: Fabric, tenant: Tenant) -> list[str]:
    """The blocks of which nobody can say what is announced of them."""
    return [
        one.prefix
        for host in fabric.hosts.values()
        if tenant in of(fabric, host) and originated(fabric, host, tenant) is None
        for one in host.config.aggregate
        if one.vrf == tenant.name
    ]


def is_frozen(fabric: Fabric, tenant: Tenant, address: str) -> bool:
    """Whether a host counts it as a duplicate: then nobody can say who has it."""
    packed = _packed(address)
    return any(
        verdict.state.value == "frozen"
        for host in fabric.hosts.values()
        if host.daemon is not None
        for endpoint, verdict in host.daemon.routing.evpn.endpoints.all()
        if (endpoint.vrf, endpoint.ip) == (tenant.name, packed)
    )


def distinguisher(fabric: Fabric, host: str, tenant: Tenant) -> bytes:
    """The route distinguisher of a host's VRF."""
    return evpn.distinguisher(bytes((10, 255, 0, number_of(host) + 1)), tenant.table)


def uplinks_up(fabric: Fabric, host: str) -> list[int]:
    """The leaves, by number, whose VLANs are up at a host."""
    return [number_of(above) for (above, below), link in fabric.links.items() if below == host and link.is_up]
