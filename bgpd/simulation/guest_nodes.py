"""Guests of the hosts of a topology: nodes behind an interface of a host, from whose address its [[workload.bgp]] lets
a BGP speaker connect. They are what their frr.conf or their labels say."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

import msgspec

from bgpd.config.schema import Config
from bgpd.config.schema_workloads import GuestConfig
from bgpd.migrate.draft import ImportFailed
from bgpd.simulation.clab import Node, Topology
from bgpd.simulation.fabric import Fabric
from bgpd.simulation.frr_router import FrrRouter
from bgpd.simulation.guests import Guest
from bgpd.simulation.host import SimulatedHost
from bgpd.simulation.network import Link, Port
from bgpd.simulation.router import Router, Style
from bgpd.simulation.router_configs import router_config
from bgpd.simulation.wire import Route

_FIRST_ASN = 4_290_000_000
_DELAY_S = 0.0001
_Address = ipaddress.IPv4Interface | ipaddress.IPv6Interface


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where a guest is: its node, the interface of its host that leads to it, and its own one."""

    node: str
    host: str
    interface: str
    port: str
    config: GuestConfig


def places(topology: Topology, host: Node, config: Config) -> tuple[list[Place], list[GuestConfig]]:
    """The guests of a host, and the entries of its configuration that nobody is."""
    found: dict[str, Place] = {}
    for joint in topology.links:
        for (name, interface), (other, port) in (joint.ends, joint.ends[::-1]):
            node = topology.nodes[other]
            if name != host.name or node.is_host:
                continue
            entry = _entry(config, interface, _addresses(node, port))
            if entry is not None:
                found[other] = Place(node=other, host=name, interface=interface, port=port, config=entry)
    met = [one.config for one in found.values()]
    return list(found.values()), [one for one in config.workload.bgp if one not in met]


def _addresses(node: Node, port: str) -> list[_Address]:
    config = router_config(node)
    has = config.neighbors.addresses.get(port, []) if config is not None else node.interfaces[port].addresses
    return [ipaddress.ip_interface(one) for one in has]


def _entry(config: Config, interface: str, addresses: list[_Address]) -> GuestConfig | None:
    """Which one a node with these addresses behind an interface is."""
    for one in config.workload.bgp:
        network = ipaddress.ip_network(one.prefix)
        if one.interface in ("", interface) and not one.vrf and any(address.ip in network for address in addresses):
            return one
    return None


def add(fabric: Fabric, place: Place, node: Node, *, number: int) -> Iterator[str]:
    """Have a guest; what of it is not simulated. Raises: ImportFailed: its labels or its configuration have errors."""
    host, config = fabric.hosts[place.host], router_config(node)
    router = Router(
        node.name,
        fabric.loop,
        asn=config.asn if config is not None else _asn(node, place, host, number),
        router_id=bytes((10, 254, number // 250, 1 + number % 250)),
        style=config.style if config is not None else Style(restarts=False, by_notification=False),
        chance=fabric.loop.chance,
    )
    router.noted = fabric.note
    link = next(one for one in host.kernel.links.values() if one.name == place.interface)
    here = [one for one in host.kernel.addresses if one.index == link.index]
    theirs = {one.version: one.ip.packed for one in _addresses(node, place.port) if not one.ip.is_link_local}
    version = ipaddress.ip_network(place.config.prefix).version
    ours = {len(one.packed): one.packed for one in here}
    port = Port(router.stack, 1, place.port, theirs[version], address6=theirs.get(6, b"") if version == 4 else b"")
    size = len(port.address)
    if size not in ours:
        what = f"{place.interface} of {host.name} has no address beside its guest {node.name}"
        raise ImportFailed(node.place, what, f"write it below exec: of {host.name}")
    below = Port(host.stack, link.index, place.interface, ours[size], address6=ours.get(16, b"") if size == 4 else b"")
    for one in (port, below):
        one.stack.ports.append(one)
    Link(port, below, chance=fabric.loop.chance, delay_s=_DELAY_S)
    router.add_peer(port, name=host.name, asn=host.config.router.asn, dials=True)
    if config is not None:
        router.own.update(config.own)
        yield from (f"{node.name}: {one}" for one in config.unread)
        yield from _expected(config, place, host)
    else:
        router.own.update(dict.fromkeys(_announces(node), Route(peer=None)))
        if not router.own:
            right = 'labels: { announces: "10.9.3.1/32" } says what'
            yield f"{node.name}, a guest of {host.name}, announces nothing: {right}"
    host.guests[node.name] = Guest(router, host, port, expected_as=place.config.name)


def _expected(config: FrrRouter, place: Place, host: SimulatedHost) -> Iterator[str]:
    """Whether it has a neighbor at its host."""
    addresses = [str(ipaddress.ip_address(one.packed)) for one in host.kernel.addresses]
    if not any(one in addresses for one in config.neighbors.named) and place.port not in config.neighbors.named:
        yield f"{place.node} has no neighbor for {host.name} ({place.port}), whose guest it is: it is taken to have one"


def _announces(node: Node) -> list[str]:
    found = []
    for text in node.labels.get("announces", "").replace(",", " ").split():
        try:
            found.append(str(ipaddress.ip_network(text)))
        except ValueError as error:
            right = 'write labels: { announces: "10.9.3.1/32" }'
            raise ImportFailed(node.place, f"{node.name} announces {text}: {error}", right) from None
    return found


def _asn(node: Node, place: Place, host: SimulatedHost, number: int) -> int:
    """As its labels say, or as its host expects."""
    label = node.labels.get("asn", "")
    if label and not label.isdecimal():
        right = 'write labels: { asn: "65302" }'
        raise ImportFailed(node.place, f'the AS number of {node.name} is "{label}"', right)
    if label:
        return int(label)
    expected = place.config.asn
    return (
        expected
        if isinstance(expected, int)
        else host.config.router.asn
        if expected == "internal"
        else _FIRST_ASN + number
    )
