"""Which uplinks each VRF has, as the kernel and the sessions show them: state, addresses, MAC, and the leaf beyond.

Decides to which neighbor with EVPN an uplink leads: the one that the configuration names, the one whose session's
address is in the uplink's subnet, or the one whose session runs over the interface that the uplink is a sub-interface
of, as the kernel says (a VLAN device "blue-up" on "eth0") or its name ("eth0.101" of "eth0"). A neighbor whose session
is down is no gateway. Sans-IO: the kernel's events come in.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

import msgspec

from bgpd.config.schema import VrfConfig
from bgpd.evpn.resolve import Uplink, point_to_point_peer
from bgpd.kernel.host import Host
from bgpd.model.kernel import AddressChanged, KernelEvent, LinkChanged
from bgpd.model.prefix import parse_address
from bgpd.model.source import Source


class SavedGateway(msgspec.Struct, array_like=True, frozen=True):
    """The address that a neighbor reaches a VRF of this host by, packed, as one process leaves it to the next."""

    vrf: str
    neighbor: str
    address: bytes


class Uplinks:
    """The uplinks of the configured VRFs. Reads the host; keeps the established neighbors with EVPN."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._neighbors: dict[str, Source] = {}
        self._towards: dict[Source, frozenset[str]] = {}

    def look_again(self) -> None:
        """The interfaces towards neighbors are asked of the host anew: to be called before several are computed."""
        self._towards.clear()

    def may_lead(self, vrf: VrfConfig, uplinks: Iterable[Uplink], neighbor: Source) -> bool:
        """Whether the neighbor is, was, or may be beyond one of the uplinks of a VRF, which are these at present."""
        if neighbor.name in vrf.uplink_neighbors.values():
            return True
        if any(one.neighbor == neighbor.name or one.holds(neighbor.address) for one in uplinks):
            return True
        towards = self._interfaces_to(neighbor)
        return not all(towards.isdisjoint(self._stack(name)) for name in vrf.uplinks)

    def rest_on(self, event: KernelEvent, names: Collection[str]) -> bool:
        """Whether a change of the host may change one of these uplinks: it is of one, or of an interface below one."""
        match event:
            case LinkChanged(link, _):
                return link.name in self.below(names) or any(
                    uplink.parent == link.index for uplink in map(self._host.named, names) if uplink is not None
                )
            case AddressChanged(address, _):
                return address.interface in self.below(names)
        return False

    def neighbor_up(self, neighbor: Source) -> None:
        """The session of a neighbor is established, with EVPN."""
        self._neighbors[neighbor.name] = neighbor

    def neighbor_down(self, neighbor: Source) -> None:
        """That session ended."""
        if self._neighbors.get(neighbor.name) is neighbor:
            del self._neighbors[neighbor.name]

    def neighbor(self, name: str) -> Source | None:
        """The established session of a neighbor."""
        return self._neighbors.get(name)

    def below(self, names: Iterable[str]) -> set[str]:
        """These interfaces and those that they are sub-interfaces of: what a change of their uplinks rests on."""
        return {one for name in names for one in self._stack(name)}

    def mac(self, name: str) -> bytes:
        """MAC of an interface, 6 bytes; b"" if it has none."""
        link = self._host.named(name)
        return link.mac if link is not None and len(link.mac) == 6 else b""

    def of(
        self, config: VrfConfig, *, former: Iterable[Uplink] = (), announced_gateways: Iterable[bytes] = ()
    ) -> dict[str, Uplink]:
        """The uplinks of a VRF by name. `former` are the present ones, whose addresses in use stay so while they exist.

        `announced_gateways`: addresses of type 2 routes with the Default Gateway community (RFC 7432 section 10.1), of
        which those in an uplink's subnet are the leaf's.
        """
        gateways = tuple(announced_gateways)
        in_use = {one.name: (one.address_for(4), one.address_for(16)) for one in former}
        return {name: self._uplink(name, config, gateways, in_use.get(name, ())) for name in config.uplinks}

    def _uplink(self, name: str, config: VrfConfig, announced: tuple[bytes, ...], in_use: tuple[bytes, ...]) -> Uplink:
        own = sorted(self._host.addresses(name), key=lambda address: address.packed not in in_use)
        addresses = tuple((address.packed, address.prefix_length) for address in own)
        bare = Uplink(name=name, up=self._host.is_up(name), addresses=addresses)
        neighbor = self._neighbor_beyond(bare, config)
        found = dict.fromkeys(map(parse_address, config.uplink_gateways.get(name, ())))
        found.update(dict.fromkeys(filter(None, (point_to_point_peer(own, length) for own, length in addresses))))
        found.update(dict.fromkeys(address.peer for address in own if address.peer))
        if neighbor is not None and bare.holds(neighbor.address):
            found[neighbor.address] = None
        found.update(dict.fromkeys(address for address in announced if bare.holds(address)))
        return Uplink(
            name=name,
            up=bare.up,
            addresses=addresses,
            neighbor=neighbor.name if neighbor is not None else "",
            gateways=tuple(gateway for gateway in found if not self._host.bears(name, gateway)),
        )

    def _neighbor_beyond(self, uplink: Uplink, config: VrfConfig) -> Source | None:
        named = config.uplink_neighbors.get(uplink.name)
        if named is not None:
            return self._neighbors.get(named)
        for neighbor in self._neighbors.values():
            if uplink.holds(neighbor.address):
                return neighbor
        stack = self._stack(uplink.name)
        for neighbor in self._neighbors.values():
            if not self._interfaces_to(neighbor).isdisjoint(stack):
                return neighbor
        return None

    def _stack(self, name: str) -> set[str]:
        """An interface and those below it, as the kernel says; where it says none, as the dots of the name do."""
        found = {name}
        link = self._host.named(name)
        if link is None or not link.parent:
            return found.union(name[:at] for at, letter in enumerate(name) if letter == "." and at)
        while link is not None and link.parent and self._host.name_of(link.parent) not in found | {""}:
            link = self._host.links[link.parent]
            found.add(link.name)
        return found

    def _interfaces_to(self, neighbor: Source) -> frozenset[str]:
        """The interface of a neighbor's session: its own, or those whose subnet its address is in."""
        if neighbor.interface:
            return frozenset((neighbor.interface,))
        found = self._towards.get(neighbor)
        if found is None:
            found = self._towards[neighbor] = frozenset(self._interfaces_with(neighbor.address))
        return found

    def _interfaces_with(self, address: bytes) -> Iterator[str]:
        for link in self._host.links.values():
            addresses = tuple((one.packed, one.prefix_length) for one in self._host.addresses(link.name))
            if Uplink(name=link.name, up=True, addresses=addresses).holds(address):
                yield link.name
