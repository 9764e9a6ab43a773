"""Builds the fabric of a topology: hosts with their own configurations, routers by their frr.conf or by what hosts say
of them, and the links between them. What is not simulated is told (`Built.remarks`)."""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

import msgspec

from bgpd.config.facts import Facts
from bgpd.config.load import ConfigError, load_config
from bgpd.config.patterns import match_neighbors
from bgpd.config.schema import Config
from bgpd.config.schema_sessions import NeighborConfig
from bgpd.migrate.draft import ImportFailed, Place
from bgpd.model.prefix import is_link_local
from bgpd.simulation.adapted import adapted
from bgpd.simulation.clab import BGPD_CONFIG, FRR_CONFIG, Joint, Node, Topology
from bgpd.simulation.fabric import Fabric
from bgpd.simulation.frr_router import FrrRouter, read_frr_router
from bgpd.simulation.host import SimulatedHost
from bgpd.simulation.loop import VirtualLoop
from bgpd.simulation.network import Port
from bgpd.simulation.router import HOLD_S, Router, Style
from bgpd.simulation.wire import Route

DELAY_S = 0.0002
KERNEL_LATE_S = 0.002
_FIRST_ASN = 4_200_000_000
"""Of routers of which nobody says it (RFC 6996)."""
_LOOPBACK_INDEX, _FIRST_INDEX = 1, 2
_LABELS = 'labels: { asn: "65201" }'


class Built(msgspec.Struct, kw_only=True):
    """`remarks`: what differs from the real thing. `unforeseen`: why nobody can say which routes there should be."""

    fabric: Fabric
    remarks: list[str]
    unforeseen: list[str]


class _Session(msgspec.Struct, kw_only=True):
    """One neighbor of a host, and where the link is that it is at."""

    host: str
    neighbor: NeighborConfig
    interface: str
    router: str
    port: str


class Builder:
    """Builds one fabric. `directory`: where its hosts keep their state."""

    def __init__(self, topology: Topology, loop: VirtualLoop, *, chance: random.Random, directory: Path) -> None:
        self._topology = topology
        self._directory = directory
        self._fabric = Fabric(loop, chance=chance)
        self._remarks: list[str] = [*topology.outside]
        self._unforeseen: list[str] = []
        self._configs: dict[str, FrrRouter] = {}
        self._next_address = 1

    def build(self) -> Built:
        """Raises: ImportFailed: the topology, or what it names, has errors."""
        nodes = self._topology.nodes.values()
        hosts = [node for node in nodes if node.is_host]
        if not hosts:
            right = f"bind a configuration of bgpd into each host: binds: [FILE:{BGPD_CONFIG}]"
            raise ImportFailed(Place(self._topology.file), "has no host with bgpd", right)
        sessions = [one for node in hosts for one in self._add_host(node)]
        for number, node in enumerate(node for node in nodes if node.is_router):
            self._add_router(node, number, [one for one in sessions if one.router == node.name])
        for one in sessions:
            self._connect_host(one)
        for joint in self._topology.links:
            self._connect_routers(joint)
        return Built(fabric=self._fabric, remarks=self._remarks, unforeseen=self._unforeseen)

    # Hosts

    def _add_host(self, node: Node) -> list[_Session]:
        directory = self._directory / node.name
        directory.mkdir()
        config = match_neighbors(self.read(node, node.binds[BGPD_CONFIG]), dict.fromkeys(node.interfaces, "")).config
        fitted = adapted(config, directory=str(directory))
        self._remarks += [f"{node.name}: {one}" for one in fitted.left_out]
        self._unforeseen += [f"{node.name}: {one}" for one in fitted.unforeseen]
        host = self._fabric.add_host(node.name, config=fitted.config, directory=directory, most_late_s=KERNEL_LATE_S)
        sessions = [self._session(node, one) for one in fitted.config.neighbor]
        if not sessions:
            raise ImportFailed(Place(str(node.binds[BGPD_CONFIG])), "has no neighbor that can be simulated")
        host.routers = {one.neighbor.name: one.router for one in sessions}
        host.all_neighbors = host.neighbors
        self._set_up(node, host)
        return sessions

    def read(self, node: Node, path: Path) -> Config:
        """A host's configuration, as on that host. Raises: ImportFailed: it has errors."""
        given = {"hostname": node.name}
        loopback = node.interfaces.get("lo")
        for text in loopback.addresses if loopback is not None else ():
            address = ipaddress.ip_interface(text).ip
            if not address.is_link_local:
                given.setdefault(f"loopback{address.version}", str(address))
        try:
            return load_config(str(path), running=True, facts=Facts(given=given, hostname=node.name)).config
        except ConfigError as error:
            first, *rest = error.problems
            place, right = Place(first.file, first.line), f"bgpd check {path} tells all of it" if rest else first.right
            raise ImportFailed(place, f"{first.path}: {first.what}".removeprefix(": "), right) from None

    def another(self, name: str, file: str) -> Config:
        """What a host would reload from a file. Raises: ImportFailed: it has errors."""
        node = self._topology.nodes[name]
        config = match_neighbors(self.read(node, Path(file)), dict.fromkeys(node.interfaces, "")).config
        return adapted(config, directory=str(self._directory / name)).config

    def _session(self, node: Node, neighbor: NeighborConfig) -> _Session:
        interface = neighbor.interface or self._interface_to(node, neighbor)
        other = self._other_end(node.name, interface)
        if other is None or not self._topology.nodes[other[0]].is_router:
            what = f"neighbor {neighbor.name} of {node.name}: the link of {interface} leads to no router"
            right = "a router is bound to a frr.conf, has a kind or an image of one, or labels: { role: leaf }"
            raise ImportFailed(node.place, what, right)
        return _Session(host=node.name, neighbor=neighbor, interface=interface, router=other[0], port=other[1])

    def _interface_to(self, node: Node, neighbor: NeighborConfig) -> str:
        """The interface in whose network a neighbor is."""
        wanted = ipaddress.ip_address(neighbor.address)
        for interface in node.interfaces.values():
            networks = [ipaddress.ip_interface(text).network for text in interface.addresses]
            if any(wanted in network for network in networks):
                return interface.name
        what = f"no interface of {node.name} has an address beside neighbor {neighbor.name} ({neighbor.address})"
        raise ImportFailed(node.place, what, 'write it below exec: "ip address add ADDRESS/LENGTH dev INTERFACE"')

    def _other_end(self, name: str, interface: str) -> tuple[str, str] | None:
        for joint in self._topology.links:
            one, two = joint.ends
            if (name, interface) in joint.ends:
                return two if one == (name, interface) else one
        return None

    def _set_up(self, node: Node, host: SimulatedHost) -> None:
        """Interfaces, addresses and routes, and the workloads of the configuration."""
        kernel, config = host.kernel, host.config.workload
        names = ["lo", *(name for name in node.interfaces if name != "lo")]
        for index, name in enumerate(names, _LOOPBACK_INDEX):
            kernel.set_link(index, name, up=True)
            for text in node.interfaces[name].addresses if name in node.interfaces else ():
                address = ipaddress.ip_interface(text)
                kernel.add_address(index, address.packed, address.network.prefixlen)
        for one in config.static:
            host.static[one.prefix] = None
        patterns = config.kernel.interfaces if config.kernel is not None else ()
        for prefix, interface in node.routes:
            if any(fnmatchcase(interface, pattern) for pattern in patterns):
                host.claim(prefix, interface)
            elif interface in names:
                kernel.add_workload_route(prefix, interface)

    # Routers

    def _add_router(self, node: Node, number: int, sessions: list[_Session]) -> None:
        label = node.labels.get("asn", "")
        own = tuple(node.labels.get("announces", "").replace(",", " ").split())
        style, router_id = Style(), ""
        if FRR_CONFIG in node.binds:
            config = self._configs[node.name] = read_frr_router(node.binds[FRR_CONFIG])
            asn, style, router_id, own = config.asn, config.style, config.router_id, (*config.own, *own)
            self._remarks += [f"{node.name}: {one}: is not simulated" for one in config.unread]
        elif label and not label.isdecimal():
            raise ImportFailed(node.place, f'the AS number of {node.name} is "{label}"', f"write {_LABELS}")
        else:
            asn = int(label) if label else self._asn_by_hosts(node, sessions) or _FIRST_ASN + number
            style = Style(hold_s=HOLD_S)
        packed = ipaddress.IPv4Address(router_id or f"10.255.{255 - number // 250}.{1 + number % 250}").packed
        router = self._fabric.add_router(node.name, asn=asn, router_id=packed, style=style)
        for text in own:
            try:
                router.own[str(ipaddress.ip_network(text))] = Route(peer=None)
            except ValueError as error:
                right = 'write labels: { announces: "0.0.0.0/0" }'
                raise ImportFailed(node.place, f"{node.name} announces {text}: {error}", right) from None

    def _asn_by_hosts(self, node: Node, sessions: list[_Session]) -> int:
        """0: no host says it."""
        said = {one.neighbor.asn: one.host for one in sessions if isinstance(one.neighbor.asn, int)}
        if len(said) > 1:
            texts = ", ".join(f"{asn} for {host}" for asn, host in said.items())
            right = f"hosts must agree, or write {_LABELS}"
            raise ImportFailed(node.place, f"{node.name} is AS {texts}", right)
        return next(iter(said), 0)

    # Links

    def _connect_host(self, one: _Session) -> None:
        fabric, host = self._fabric, self._fabric.hosts[one.host]
        router, node = fabric.routers[one.router], self._topology.nodes[one.host]
        if (one.router, one.host) in fabric.links:
            what = f"{one.router} and {one.host} have two sessions"
            raise ImportFailed(node.place, what, "one link and one session between two nodes are simulated")
        index = next(link.index for link in host.kernel.links.values() if link.name == one.interface)
        if one.neighbor.address:
            there = ipaddress.ip_address(one.neighbor.address).packed
            addresses = [ipaddress.ip_interface(text) for text in node.interfaces[one.interface].addresses]
            here = next((one.packed for one in addresses if len(one.packed) == len(there)), b"")
            here6, there6 = self._second_addresses(one, addresses) if len(there) == 4 else (b"", b"")
        else:
            there, here = self._link_local(), self._link_local()
            here6 = there6 = b""
            host.kernel.add_address(index, here, 64)
        above = Port(router.stack, len(router.stack.ports) + 1, one.port, there, address6=there6)
        below = Port(host.stack, index, one.interface, here, address6=here6)
        fabric.connect(above, below, delay_s=DELAY_S)
        self._add_peer(router, above, one)

    def _second_addresses(
        self, one: _Session, addresses: list[ipaddress.IPv4Interface | ipaddress.IPv6Interface]
    ) -> tuple[bytes, bytes]:
        """The IPv6 addresses of host and router on a link whose session is over IPv4; b"" where there are none."""
        here = next((one for one in addresses if one.version == 6 and not one.is_link_local), None)
        if here is None:
            return b"", b""
        config = self._configs.get(one.router)
        for text in config.addresses.get(one.port, ()) if config is not None else ():
            if ipaddress.ip_interface(text).ip in here.network:
                return here.packed, ipaddress.ip_interface(text).packed
        others = (address for address in here.network.hosts() if address != here.ip)
        return here.packed, next(others).packed

    def _add_peer(self, router: Router, port: Port, one: _Session) -> None:
        config, host = self._configs.get(router.name), self._fabric.hosts[one.host].config
        asn = one.neighbor.local_asn or host.router.asn
        if asn == router.asn or one.neighbor.asn == "internal":
            place = self._topology.nodes[one.host].place
            what = f"{one.host} and {router.name} are of one AS, {asn}"
            raise ImportFailed(place, what, "only sessions between different AS are simulated")
        if isinstance(one.neighbor.asn, int) and one.neighbor.asn != router.asn:
            self._remarks.append(f"{one.host} expects AS {one.neighbor.asn} of {router.name}, which is {router.asn}")
        expected = config.neighbor_at(one.port) if config is not None else "external"
        if expected is None:
            self._remarks.append(f"{router.name} has no neighbor for {one.host} ({one.port}): no session")
            return
        if expected.isdecimal() and int(expected) != asn:
            self._remarks.append(f"{router.name} expects AS {expected} of {one.host}, which is {asn}")
        router.add_peer(port, name=one.host, asn=int(expected) if expected.isdecimal() else asn, dials=True)

    def _connect_routers(self, joint: Joint) -> None:
        routers = self._fabric.routers
        (one, its_port), (two, other_port) = joint.ends
        if one not in routers or two not in routers:
            return
        if (one, two) in self._fabric.links or (two, one) in self._fabric.links:
            self._remarks.append(f"{joint.place}: a second link between {one} and {two} is not simulated")
            return
        first, second = routers[one], routers[two]
        above = Port(first.stack, len(first.stack.ports) + 1, its_port, self._link_local())
        below = Port(second.stack, len(second.stack.ports) + 1, other_port, self._link_local())
        self._fabric.connect(above, below, delay_s=DELAY_S)
        configs = ((self._configs.get(one), its_port), (self._configs.get(two), other_port))
        if any(config is not None and config.neighbor_at(port) is None for config, port in configs):
            self._remarks.append(f"{joint.place}: {one} and {two} are not both neighbors of each other: no session")
            return
        first.add_peer(above, name=two, asn=second.asn, dials=True)
        second.add_peer(below, name=one, asn=first.asn, dials=False)

    def _link_local(self) -> bytes:
        """One that no other port has."""
        self._next_address += 1
        address = bytes((0xFE, 0x80, *bytes(10), *self._next_address.to_bytes(4)))
        assert is_link_local(address)
        return address


def takes_workloads(host: SimulatedHost) -> bool:
    """Whether there is a way by which a workload can come to a host."""
    return bool(workload_interface(host)) or host.config.workload.api is not None


def workload_interface(host: SimulatedHost) -> str:
    """An interface that the kernel's routes of workloads may lead to; "": there is none."""
    kernel = host.config.workload.kernel
    patterns = kernel.interfaces if kernel is not None else ()
    return next((one for one in inner_interfaces(host) if any(fnmatchcase(one, pattern) for pattern in patterns)), "")


def inner_interfaces(host: SimulatedHost) -> Iterator[str]:
    """Those that lead to no router, lo as the last resort."""
    uplinks = {port.index for port in host.stack.ports}
    names = {one.index: one.name for one in host.kernel.links.values() if one.index not in uplinks}
    loopback = names.pop(_LOOPBACK_INDEX)
    return iter((*names.values(), loopback))
