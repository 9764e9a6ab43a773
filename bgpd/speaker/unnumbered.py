"""Unnumbered neighbors: on which interfaces this host advertises itself, and which addresses are received.

Decides which Router Advertisements count. The messages and their socket are in router_discovery.py; a session begins as
soon as an address was received (neighbor.py).
"""

from __future__ import annotations

from collections.abc import Iterator

from bgpd.kernel.host import Host
from bgpd.model.prefix import is_link_local
from bgpd.speaker.connection import State
from bgpd.speaker.neighbor import Neighbor
from bgpd.speaker.neighbors import Neighbors
from bgpd.speaker.router_discovery import RouterDiscovery
from bgpd.speaker.transport import NewSocket


class Unnumbered:
    """Finds the addresses of unnumbered neighbors."""

    def __init__(self, neighbors: Neighbors, host: Host, *, new_socket: NewSocket) -> None:
        self._neighbors = neighbors
        self._host = host
        self._discovery = RouterDiscovery(
            advertised=self._router_advertised, solicited=self._advertise, new_socket=new_socket
        )

    @property
    def error(self) -> str:
        """What keeps neighbors from being found, "" if nothing."""
        return self._discovery.error

    def discover(self, interface: str) -> None:
        """Advertise our link-local address to the leaf, and ask for its."""
        link = self._host.named(interface)
        self.listen()
        if link is not None and link.up and self._discovery.open():
            self._discovery.solicit(link.index, link.mac)
            self._advertise(link.index)

    def discover_all(self, *, established_too: bool) -> None:
        """Do so for all whose session is not established; now and then for the others too."""
        self.listen()
        for neighbor in self._all():
            if established_too or neighbor.state is not State.ESTABLISHED:
                self.discover(neighbor.peering.interface)

    def link_usable(self, interface: str) -> None:
        """A link came up, or has an address to speak from."""
        if self._is_used(interface):
            self.discover(interface)

    def listen(self) -> None:
        """Listen to Router Advertisements only where unnumbered neighbors are."""
        indexes = map(self._host.index_of, {neighbor.peering.interface for neighbor in self._all()})
        self._discovery.listen(frozenset(filter(None, indexes)))

    def close(self) -> None:
        """Stop receiving and sending advertisements."""
        self._discovery.close()

    def _all(self) -> Iterator[Neighbor]:
        return (neighbor for neighbor in self._neighbors if neighbor.peering.is_unnumbered)

    def _is_used(self, interface: str) -> bool:
        return any(neighbor.peering.interface == interface for neighbor in self._all())

    def _advertise(self, index: int) -> None:
        link = self._host.links.get(index)
        if link is not None and self._is_used(link.name):
            self._discovery.advertise(index, link.mac)

    def _router_advertised(self, index: int, address: bytes) -> None:
        interface = self._host.name_of(index)
        if self._host.bears(interface, address) or not is_link_local(address):
            return
        for neighbor in self._all():
            if neighbor.peering.interface == interface:
                neighbor.address_learned(address)
