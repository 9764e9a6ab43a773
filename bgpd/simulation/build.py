"""Builds the fabric of a topology: hosts with their own configurations, routers by their frr.conf or by what hosts say
of them, and the links between them. What is not simulated is told (`Built.remarks`)."""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Iterator
from pathlib import Path

import msgspec

from bgpd.config.patterns import match_neighbors
from bgpd.config.schema import Config
from bgpd.config.schema_sessions import NeighborConfig
from bgpd.migrate.draft import ImportFailed, Place
from bgpd.model.prefix import is_link_local
from bgpd.simulation import guest_nodes, router_reload
from bgpd.simulation.adapted import Adapted, adapted, read_host
from bgpd.simulation.broker import Broker
from bgpd.simulation.clab import BGPD_CONFIG, Joint, Node, Topology, interface_of
from bgpd.simulation.fabric import FAMILIES, Fabric
from bgpd.simulation.frr_filters import overriding
from bgpd.simulation.frr_neighbors import FrrNeighbor
from bgpd.simulation.frr_router import FrrRouter
from bgpd.simulation.host import SimulatedHost
from bgpd.simulation.interfaces import inner_interfaces, set_up
from bgpd.simulation.leaf_bfd import Pace
from bgpd.simulation.loop import VirtualLoop
from bgpd.simulation.network import Port
from bgpd.simulation.orchestrator import Orchestrator
from bgpd.simulation.peer import Peer
from bgpd.simulation.router import Router, Style
from bgpd.simulation.router_configs import router_config, unread_files
from bgpd.simulation.wire import DEFAULTS, EVPN, V4, V6, Codes, Route

DELAY_S = 0.0002
KERNEL_LATE_S = 0.002
_FIRST_ASN = 4_200_000_000
"""Of routers of which nobody says it (RFC 6996)."""
_USUAL = Style(restarts=False, by_notification=False)
"""As FRR is without more words: it helps neighbors that restart, and does not do so itself."""
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


def _asn(router: Router, expected: FrrNeighbor | None) -> int:
    """Which AS a router is for a neighbor that it expects so."""
    return expected.local_as.asn if expected is not None and expected.local_as is not None else router.asn


class Builder:
    """Builds one fabric. `directory`: where its hosts keep their state."""

    def __init__(self, topology: Topology, loop: VirtualLoop, *, chance: random.Random, directory: Path) -> None:
        self._topology = topology
        self._directory = directory
        self._fabric = Fabric(loop, chance=chance)
        self._broker = Broker(loop, chance)
        self._remarks: list[str] = [*topology.outside]
        self._unforeseen: list[str] = []
        self._configs: dict[str, FrrRouter] = {}
        self._next_address = 1
        self._has_evpn = False
        self._guests: dict[str, guest_nodes.Place] = {}

    def build(self) -> Built:
        """Raises: ImportFailed: the topology, or what it names, has errors."""
        nodes = self._topology.nodes.values()
        hosts = [node for node in nodes if node.is_host]
        if not hosts:
            right = f"bind a configuration of bgpd into each host: binds: [FILE:{BGPD_CONFIG}]"
            raise ImportFailed(Place(self._topology.file), "has no host with bgpd", right)
        sessions = [one for node in hosts for one in self._add_host(node)]
        self._has_evpn = any("l2vpn-evpn" in one.neighbor.families for one in sessions)
        self._find_guests(hosts)
        for number, node in enumerate(node for node in nodes if node.is_router and node.name not in self._guests):
            self._add_router(node, number, [one for one in sessions if one.router == node.name])
        for one in sessions:
            self._connect_host(one)
        for joint in self._topology.links:
            self._connect_routers(joint)
        self._remarks += self._unmet()
        for node in hosts:
            self._add_segments(node)
        for number, guest in enumerate(self._guests.values()):
            self._remarks += guest_nodes.add(self._fabric, guest, self._topology.nodes[guest.node], number=number)
        self._feed([self._fabric.hosts[node.name] for node in hosts])
        return Built(fabric=self._fabric, remarks=self._remarks, unforeseen=self._unforeseen)

    # Hosts

    def _add_host(self, node: Node) -> list[_Session]:
        directory = self._directory / node.name
        directory.mkdir()
        fitted, sessions = self._fitted(node, node.binds[BGPD_CONFIG])
        self._remarks += [f"{node.name}: {one}" for one in fitted.left_out]
        self._unforeseen += [f"{node.name}: {one}" for one in fitted.unforeseen]
        host = self._fabric.add_host(node.name, config=fitted.config, directory=directory, most_late_s=KERNEL_LATE_S)
        if not sessions:
            right = f"a [[neighbor]] of the main table with one of: {', '.join(FAMILIES.values())}"
            raise ImportFailed(Place(str(node.binds[BGPD_CONFIG])), "has no neighbor that can be simulated", right)
        host.routers = {one.neighbor.name: one.router for one in sessions}
        host.all_neighbors = host.neighbors
        for one in fitted.config.workload.static:
            if one.interface and one.interface not in ("lo", *node.interfaces):
                interface_of(node, one.interface)
                self._remarks.append(f"{node.name}: {one.interface} of {one.prefix} is not in the topology: it is made")
        for _prefix, interface in node.routes:  # it could not lead there if there were none
            interface_of(node, interface)
        set_up(node, host)
        return sessions

    def _fitted(self, node: Node, file: Path) -> tuple[Adapted, list[_Session]]:
        """The configuration of a host as it is run, and its sessions. Raises: ImportFailed: it has errors."""
        config = match_neighbors(read_host(node, file), dict.fromkeys(node.interfaces, "")).config
        fitted = adapted(config, name=node.name, directory=str(self._directory / node.name))
        sessions: dict[str, _Session] = {}
        for found in sorted(
            (self._session(node, one) for one in fitted.config.neighbor), key=lambda one: ":" in one.neighbor.address
        ):
            first = sessions.setdefault(found.router, found)
            if first is found:
                continue
            names = f"neighbors {first.neighbor.name} and {found.neighbor.name} are both {found.router}"
            if first.interface == found.interface:
                families = tuple(dict.fromkeys((*first.neighbor.families, *found.neighbor.families)))
                first.neighbor = msgspec.structs.replace(first.neighbor, families=families)
                fitted.left_out.append(f"{names}: they are simulated as one, {first.neighbor.name}, with all families")
            else:
                fitted.left_out.append(f"{names}: the second link ({found.interface}) is not simulated")
        by_name = {one.neighbor.name: one for one in sessions.values()}
        neighbors = tuple(by_name[one.name].neighbor for one in fitted.config.neighbor if one.name in by_name)
        fitted.config = msgspec.structs.replace(fitted.config, neighbor=neighbors)
        return fitted, [by_name[one.name] for one in neighbors]

    def _find_guests(self, hosts: list[Node]) -> None:
        """Nodes that are guests of hosts; what hosts expect that nobody is, is told."""
        for node in hosts:
            found, unmet = guest_nodes.places(self._topology, node, self._fabric.hosts[node.name].config)
            self._guests.update((one.node, one) for one in found)
            for one in unmet:
                where = f"in VRF {one.vrf}" if one.vrf else f"at {one.prefix}"
                self._remarks.append(f"{node.name}: [[workload.bgp]] {one.name}: no node is {where}: nobody connects")

    def _add_segments(self, node: Node) -> None:
        """What a host has on the VLANs of its links, and untagged beside them."""
        host = self._fabric.hosts[node.name]
        routers = {port.index: port.other.stack.name for port in host.stack.ports if port.other is not None}
        for address in host.kernel.addresses:
            link = host.kernel.links[address.index]
            router = routers.get(link.parent or link.index)
            if router is not None:
                vlan = node.interfaces[link.name].vlan
                self._fabric.segments[router, vlan, address.packed] = node.name, link.index
                host.vlans[link.index] = vlan
        for vrf in host.config.vrf:
            for uplink in vrf.uplinks:
                if uplink not in [host.kernel.links[index].name for index in host.vlans]:
                    self._remarks.append(f"{node.name}: uplink {uplink} of [[vrf]] {vrf.name}: is no link of a session")

    def _feed(self, hosts: list[SimulatedHost]) -> None:
        """One orchestrator and one broker tell hosts with [workload.mqtt] what they have: nothing yet."""
        fed = [host for host in hosts if host.config.workload.mqtt is not None]
        if not fed:
            return
        orchestrator = self._fabric.orchestrator = Orchestrator(self._broker)
        for host in fed:
            host.follow(orchestrator)
            orchestrator.wanted[host.name] = {}
            orchestrator.interfaces[host.name] = next(inner_interfaces(host))
        orchestrator.say_all()

    def another(self, name: str, file: str) -> Config:
        """What a host would reload from a file. Raises: ImportFailed: it has errors."""
        fitted, sessions = self._fitted(self._topology.nodes[name], Path(file))
        host = self._fabric.hosts[name]
        for one in sessions:
            if one.router not in self._fabric.routers_of(name):
                right = "give it one in the first configuration, too"
                what = f"neighbor {one.neighbor.name}: {name} has no session with {one.router} at the start"
                raise ImportFailed(Place(file), what, right)
            host.routers[one.neighbor.name] = one.router
        return fitted.config

    def check_reload(self, name: str, file: str) -> None:
        """Raises: ImportFailed: a node cannot take over what is in a file; what of it is not simulated is told."""
        if name in self._fabric.hosts:
            self.another(name, file)
            return
        config = router_reload.read(self._topology.nodes[name], Path(file), self._fabric.routers[name])
        known = self._configs[name].unread
        self._remarks += [f"{name} after its reload: {one}" for one in config.unread if one not in known]

    def change_router(self, name: str, file: Path) -> None:
        """Have a router take over what is in a file. Raises: ImportFailed: it has errors."""
        router = self._fabric.routers[name]
        config = self._configs[name] = router_reload.read(self._topology.nodes[name], file, router)
        self._unforeseen += [f"{one} of {name}" for one in config.unforeseen]
        router_reload.change(router, config, self._at, lambda peer, found: self._offer(peer, found.families, found))

    def _at(self, config: FrrRouter, peer: Peer) -> FrrNeighbor | None:
        """What a configuration says of a neighbor."""
        there = peer.port.other
        assert there is not None
        node = self._topology.nodes[there.stack.name]
        has = node.interfaces[there.name].addresses if node.is_host else self._beside(node.name, there.name)
        return config.neighbors.at(peer.port.name, has)

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

    # Routers

    def _add_router(self, node: Node, number: int, sessions: list[_Session]) -> None:
        label = node.labels.get("asn", "")
        own = tuple(node.labels.get("announces", "").replace(",", " ").split())
        style, router_id = Style(), ""
        config = router_config(node)
        if config is not None:
            self._configs[node.name] = config
            asn, style, router_id = config.asn, config.style, config.router_id
            self._remarks += [f"{node.name}: {one}" for one in config.unread]
            self._unforeseen += [f"{one} of {node.name}" for one in config.unforeseen]
        elif label and not (label.isdecimal() and 0 < int(label) < 1 << 32):
            raise ImportFailed(node.place, f'the AS number of {node.name} is "{label}"', f"write {_LABELS}")
        else:
            asn = int(label) if label else self._asn_by_hosts(node, sessions) or _FIRST_ASN + number
            style = _USUAL
            self._remarks += [f"{node.name}: {one}" for one in unread_files(node)]
        packed = ipaddress.IPv4Address(router_id or f"10.255.{255 - number // 250}.{1 + number % 250}").packed
        router = self._fabric.add_router(node.name, asn=asn, router_id=packed, style=style)
        if config is not None:
            router.own.update({**config.own, **config.tenants})
            router.summaries.configured = config.aggregates
        for text in own:
            try:
                router.own[str(ipaddress.ip_network(text))] = Route(peer=None)
            except ValueError as error:
                right = 'write labels: { announces: "0.0.0.0/0" }'
                raise ImportFailed(node.place, f"{node.name} announces {text}: {error}", right) from None

    def _asn_by_hosts(self, node: Node, sessions: list[_Session]) -> int:
        """0: no host says it."""
        said: dict[int, str] = {}
        for one in sessions:
            if one.neighbor.asn == "internal":
                said[self._fabric.hosts[one.host].config.router.asn] = one.host
            elif isinstance(one.neighbor.asn, int):
                said[one.neighbor.asn] = one.host
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
        for text in config.neighbors.addresses.get(one.port, ()) if config is not None else ():
            if ipaddress.ip_interface(text).ip in here.network:
                return here.packed, ipaddress.ip_interface(text).packed
        others = (address for address in here.network.hosts() if address != here.ip)
        return here.packed, next(others).packed

    def _add_peer(self, router: Router, port: Port, one: _Session) -> None:
        config, host = self._configs.get(router.name), self._fabric.hosts[one.host].config
        asn = one.neighbor.local_asn or host.router.asn
        expected = self._expected(config, one) if config is not None else None
        local_as = expected.local_as if expected is not None else None
        its = local_as.asn if local_as is not None else router.asn
        self._expects(one.host, str(one.neighbor.asn), router.name, its, asn)
        if expected is None and config is not None:
            return
        remote_as = expected.remote_as if expected is not None else str(asn)
        self._expects(router.name, remote_as, one.host, asn, its)
        peer = router.add_peer(
            port,
            name=one.host,
            asn=int(remote_as) if remote_as.isdecimal() else asn,
            dials=expected is None or not expected.is_passive,
            bfd=self._bfd(one, expected),
            local_as=local_as,
        )
        if peer.is_internal:
            self._unforeseen.append(f"iBGP of {one.host} and {router.name}")
        own = tuple(codes for codes, name in FAMILIES.items() if name in one.neighbor.families)
        self._offer(peer, expected.families if expected is not None else (*peer.offered, *own), expected)
        if not set(own) & set(peer.offered):
            offered = ", ".join(FAMILIES[codes] for codes in peer.offered)
            self._remarks.append(f"{one.host} has no family that {router.name} has, which are {offered or 'none'}")

    def _expected(self, config: FrrRouter, one: _Session) -> FrrNeighbor | None:
        """What a frr.conf says of a host; None, which is told: there is no session."""
        interface = self._topology.nodes[one.host].interfaces[one.interface]
        has = [str(ipaddress.ip_interface(text).ip) for text in config.neighbors.addresses.get(one.port, ())]
        address, where = one.neighbor.address, f"{one.router} ({one.port})"
        found = config.neighbors.at(one.port, interface.addresses)
        why = ""
        if found is None:
            why = f"{one.router} has no neighbor for {one.host} ({one.port})"
        elif found.is_shut:
            why = f"{one.router} has shut its neighbor {one.host} ({one.port}) down"
        elif address and has and address not in has:
            why = f"{one.host} expects {where} to be {address}, which is {', '.join(has)}"
        if why:
            self._remarks.append(f"{why}: no session")
        return None if why else found

    def _expects(self, who: str, expected: str, whom: str, asn: int, own: int) -> None:
        """Told, where a neighbor is of another AS than it should be; `own`: of who expects it."""
        if expected.isdecimal() and int(expected) != asn:
            self._remarks.append(f"{who} expects AS {expected} of {whom}, which is {asn}")
        elif expected == ("external" if asn == own else "internal"):
            self._remarks.append(f"{who} expects {expected} BGP of {whom}, which is AS {asn}, as {who} is {own}")

    def _bfd(self, one: _Session, expected: FrrNeighbor | None) -> Pace | None:
        """BFD of the router for a host; one that no frr.conf is of does as the host says."""
        own = one.neighbor.bfd
        if expected is None:
            return Pace(own.interval_ms / 1000, own.multiplier) if own is not None else None
        if (own is None) != (expected.bfd is None):
            with_it, without = (one.host, one.router) if own is not None else (one.router, one.host)
            self._remarks.append(f"{with_it} has BFD with {without}, which has none: it stays down")
        return expected.bfd if own is not None else None

    def _offer(self, peer: Peer, families: tuple[Codes, ...], expected: FrrNeighbor | None) -> None:
        """Families and filters of a router for a neighbor; IPv6 only where the link has addresses of it."""
        port = peer.port
        has_v6 = len(port.address) == 16 or port.address6
        peer.offer(tuple(codes for codes in (V4, V6, EVPN) if codes in families and (codes != V6 or has_v6)))
        if expected is None:
            peer.is_client = True
        else:
            peer.is_client, peer.own_as = expected.is_client, expected.own_as
            peer.hold_s = expected.hold_s or peer.hold_s
            for codes in expected.with_default:
                self._tell_default(peer, DEFAULTS[codes == V6])
            if expected.keeps_next_hops and peer.is_internal:
                self._remarks.append(f"{peer.router.name} tells {peer.name} its own next hop (next-hop-self force)")
            filters, router = expected.filters, peer.router.name
            peer.takes, peer.tells = filters.takes, filters.tells
            self._unforeseen += [f"{one} of {router} for {peer.name}" for one in filters.names]
            self._remarks += [one for text in filters.unread if (one := f"{router}: {text}") not in self._remarks]
            if expected.local_as is not None:
                self._unforeseen.append(f"local-as of {router} for {peer.name}")
            if expected.overrides_as:
                peer.tells = overriding(peer.tells, old=peer.asn, new=peer.router.asn)
                self._unforeseen.append(f"as-override of {router} for {peer.name}")

    def _tell_default(self, peer: Peer, prefix: str) -> None:
        """`default-originate`: to this neighbor, unless all are told a default route of this router anyway."""
        router = peer.router
        if prefix not in router.own:
            router.default_to[prefix] = set()
        router.own.setdefault(prefix, Route(peer=None))
        if prefix in router.default_to:
            router.default_to[prefix].add(peer.name)

    def _connect_routers(self, joint: Joint) -> None:
        routers = self._fabric.routers
        (one, its_port), (two, other_port) = joint.ends
        if one not in routers or two not in routers:
            return
        configs = (self._configs.get(one), its_port), (self._configs.get(two), other_port)
        theirs = self._beside(two, other_port), self._beside(one, its_port)
        expected = [
            config.neighbors.at(port, others) if config is not None else None
            for (config, port), others in zip(configs, theirs)
        ]
        has_no_session = expected == [None, None] and all(config is not None for config, _ in configs)
        if (one, two) in self._fabric.links or (two, one) in self._fabric.links:
            if not has_no_session:
                self._remarks.append(f"{joint.place}: a second link between {one} and {two} is not simulated")
            return
        first, second = routers[one], routers[two]
        above = Port(first.stack, len(first.stack.ports) + 1, its_port, self._link_local())
        below = Port(second.stack, len(second.stack.ports) + 1, other_port, self._link_local())
        self._fabric.connect(above, below, delay_s=DELAY_S)
        if has_no_session:
            return
        if any(found.is_shut for found in expected if found is not None):
            self._remarks.append(f"{joint.place}: {one} or {two} has shut the other down: no session")
            return
        if any(config is not None and found is None for (config, _), found in zip(configs, expected)):
            self._remarks.append(f"{joint.place}: {one} and {two} are not both neighbors of each other: no session")
            return
        has_bfd = all(found is not None and found.bfd is not None for found in expected)
        ends = (first, second, above), (second, first, below)
        for (router, other, port), found, facing in zip(ends, expected, reversed(expected)):
            bfd, local_as = (found.bfd if has_bfd else None, found.local_as) if found is not None else (None, None)
            asn, own = _asn(other, facing), _asn(router, found)
            remote_as = found.remote_as if found is not None else str(asn)
            self._expects(router.name, remote_as, other.name, asn, own)
            asn = int(remote_as) if remote_as.isdecimal() else asn
            peer = router.add_peer(port, name=other.name, asn=asn, dials=router is first, bfd=bfd, local_as=local_as)
            self._offer(peer, found.families if found is not None else self._usual(), found)

    def _beside(self, router: str, port: str) -> list[str] | None:
        """The addresses by which a router is a neighbor at an interface, those of its loopbacks too: a session between
        loopbacks of two that have a link goes over it. None: nobody says which."""
        config = self._configs.get(router)
        if config is None:
            return None
        ports = self._topology.nodes[router].interfaces
        inner = [one for name, those in config.neighbors.addresses.items() if name not in ports for one in those]
        inner += config.neighbors.addresses.get("lo", []) if "lo" in ports else []
        return [*config.neighbors.addresses.get(port, []), *inner]

    def _unmet(self) -> Iterator[str]:
        """Neighbors of routers that no link leads to."""
        for name, config in self._configs.items():
            for one, found in config.neighbors.named.items():
                if one not in config.neighbors.met and not found.is_shut:
                    yield f"{name}: neighbor {one}: no link leads to one that is simulated: no session"

    def _usual(self) -> tuple[Codes, ...]:
        """The families between routers of which nobody says them."""
        return (V4, V6, EVPN) if self._has_evpn else (V4, V6)

    def _link_local(self) -> bytes:
        """One that no other port has."""
        self._next_address += 1
        address = bytes((0xFE, 0x80, *bytes(10), *self._next_address.to_bytes(4)))
        assert is_link_local(address)
        return address
