"""Which uplinks each VRF has, as the kernel and the sessions show them: state, addresses, MAC, and the leaf beyond.

Decides to which neighbor an uplink leads: the one that the configuration names, the one whose session's address is in
the uplink's subnet, or the one whose session runs over the interface that the uplink is a sub-interface of, as the
kernel says (a VLAN device "blue-up" on "eth0") or its name ("eth0.101" of "eth0"). A neighbor whose session is down is
no gateway. Sans-IO: it is told the kernel's events.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from bgpd.config.schema import VrfConfig
from bgpd.evpn.resolve import Uplink, point_to_point_peer
from bgpd.model.kernel import AddressChanged, KernelEvent, Link, LinkChanged
from bgpd.model.path import Source
from bgpd.model.prefix import parse_address


class Uplinks:
    """Links, addresses and established neighbors."""

    def __init__(self) -> None:
        self._links: dict[str, Link] = {}
        self._names: dict[int, str] = {}
        self._addresses: dict[str, dict[bytes, int]] = {}
        self._neighbors: dict[str, Source] = {}

    def kernel_changed(self, event: KernelEvent) -> bool:
        """Take a kernel event in; whether it may change an uplink."""
        match event:
            case LinkChanged(link, gone):
                former = self._names.pop(link.index, "")
                if self._links.get(former, link).index == link.index:
                    self._links.pop(former, None)
                if gone:
                    self._addresses.pop(link.name, None)
                else:
                    self._links[link.name] = link
                    self._names[link.index] = link.name
                return True
            case AddressChanged(address, gone):
                known = self._addresses.setdefault(address.interface, {})
                if gone or not address.usable:
                    known.pop(address.packed, None)
                else:
                    known[address.packed] = address.prefix_length
                return True
        return False

    def neighbor_up(self, neighbor: Source) -> None:
        """The session of a neighbor is established."""
        self._neighbors[neighbor.name] = neighbor

    def neighbor_down(self, neighbor: Source) -> None:
        """That session ended."""
        if self._neighbors.get(neighbor.name) is neighbor:
            del self._neighbors[neighbor.name]

    def below(self, names: Iterable[str]) -> set[str]:
        """These interfaces and those that they are sub-interfaces of: what a change of their uplinks rests on."""
        return {one for name in names for one in self._stack(name)}

    def mac(self, name: str) -> bytes:
        """MAC of an interface, 6 bytes; b"" if it has none."""
        link = self._links.get(name)
        return link.mac if link is not None and len(link.mac) == 6 else b""

    def of(self, config: VrfConfig, *, announced_gateways: Iterable[bytes] = ()) -> dict[str, Uplink]:
        """The uplinks of a VRF by name. `announced_gateways`: addresses of type 2 routes with the Default Gateway
        community (RFC 7432 section 10.1), of which those in an uplink's subnet are the leaf's.
        """
        gateways = tuple(announced_gateways)
        return {name: self._uplink(name, config, gateways) for name in config.uplinks}

    def _uplink(self, name: str, config: VrfConfig, announced: tuple[bytes, ...]) -> Uplink:
        link = self._links.get(name)
        addresses = tuple(sorted(self._addresses.get(name, {}).items()))
        bare = Uplink(name=name, up=link is not None and link.up, addresses=addresses)
        neighbor = self._neighbor_beyond(bare, config)
        found = dict.fromkeys(map(parse_address, config.uplink_gateways.get(name, ())))
        found.update(dict.fromkeys(filter(None, (point_to_point_peer(own, length) for own, length in addresses))))
        if neighbor is not None and bare.holds(neighbor.address):
            found[neighbor.address] = None
        found.update(dict.fromkeys(address for address in announced if bare.holds(address)))
        own = {address for address, _ in addresses}
        return Uplink(
            name=name,
            up=bare.up,
            addresses=addresses,
            neighbor=neighbor.name if neighbor is not None else "",
            gateways=tuple(gateway for gateway in found if gateway not in own),
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
            if not stack.isdisjoint(self._interfaces_to(neighbor)):
                return neighbor
        return None

    def _stack(self, name: str) -> set[str]:
        """An interface and those below it, as the kernel says; where it says none, as the dots of the name do."""
        found = {name}
        link = self._links.get(name)
        if link is None or not link.parent:
            return found.union(name[:at] for at, letter in enumerate(name) if letter == "." and at)
        while link is not None and link.parent and self._names.get(link.parent, name) not in found:
            found.add(self._names[link.parent])
            link = self._links.get(self._names[link.parent])
        return found

    def _interfaces_to(self, neighbor: Source) -> Iterator[str]:
        """The interface of a neighbor's session: its own, or those whose subnet its address is in."""
        if neighbor.interface:
            yield neighbor.interface
            return
        for name, addresses in self._addresses.items():
            if Uplink(name=name, up=True, addresses=tuple(addresses.items())).holds(neighbor.address):
                yield name
