"""Interfaces of the hosts of a topology: what its exec lines make of them, and by which of them it has workloads."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from fnmatch import fnmatchcase

from bgpd.model.kernel import Link
from bgpd.simulation.clab import Interface, Node
from bgpd.simulation.host import SimulatedHost

_LOOPBACK_INDEX = 1


def set_up(node: Node, host: SimulatedHost) -> None:
    """Interfaces, addresses and routes, and the workloads of the configuration."""
    kernel, config = host.kernel, host.config.workload
    indexes = {name: index for index, name in enumerate(dict.fromkeys(("lo", *node.interfaces)), _LOOPBACK_INDEX)}
    for name, index in indexes.items():
        interface = node.interfaces.get(name) or Interface(name)
        if interface.vlan:
            mac = bytes((2, *index.to_bytes(2), *kernel.chance.randbytes(3)))
            parent = indexes[interface.parent]
            kernel.change_link(Link(index=index, name=name, up=True, mac=mac, kind="vlan", parent=parent))
        else:
            kernel.set_link(index, name, up=True)
        for text in interface.addresses:
            address = ipaddress.ip_interface(text)
            kernel.add_address(index, address.packed, address.network.prefixlen)
    for one in config.static:
        if one.vrf:
            host.machines[one.vrf, one.prefix] = False
        else:
            host.static[one.prefix] = None
    patterns = config.kernel.interfaces if config.kernel is not None else ()
    for prefix, name in node.routes:
        if any(fnmatchcase(name, pattern) for pattern in patterns):
            host.claim(prefix, name)
        elif name in indexes:
            kernel.add_workload_route(prefix, name)


def takes_workloads(host: SimulatedHost, vrf: str = "") -> bool:
    """Whether there is a way by which a workload can come to a host, in a VRF or the main table."""
    config = host.config.workload
    if vrf:
        return config.api is not None
    return bool(workload_interface(host)) or config.api is not None or config.mqtt is not None


def workload_interface(host: SimulatedHost) -> str:
    """An interface that the kernel's routes of workloads may lead to; "": there is none."""
    kernel = host.config.workload.kernel
    patterns = kernel.interfaces if kernel is not None else ()
    return next((one for one in inner_interfaces(host) if any(fnmatchcase(one, pattern) for pattern in patterns)), "")


def tenant_interface(host: SimulatedHost, vrf: str) -> str:
    """An interface for workloads of a VRF: one that has some, or that no other VRF has."""
    by_vrf: dict[str, str] = {}
    for one in host.config.workload.static:
        by_vrf.setdefault(one.vrf, one.interface)
    if vrf in by_vrf:
        return by_vrf[vrf]
    return next(one for one in inner_interfaces(host) if one not in by_vrf.values())


def inner_interfaces(host: SimulatedHost) -> Iterator[str]:
    """Those that lead to no router, lo as the last resort."""
    uplinks = {port.index for port in host.stack.ports}
    links = [one for one in host.kernel.links.values() if one.index not in uplinks and one.kind != "vrf"]
    names = {one.index: one.name for one in links if one.parent not in uplinks}
    loopback = names.pop(_LOOPBACK_INDEX)
    return iter((*names.values(), loopback))
