"""What the speaker knows of this host's interfaces: names, indexes, states and addresses, from the kernel's events.

Decides which interface a neighbor is reached by and which of its addresses a session may offer as a next hop. Asks the
kernel nothing; the daemon replays a snapshot as events.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable

from bgpd.model.kernel import Address, AddressChanged, KernelEvent, Link, LinkChanged

_LINK_LOCAL = ipaddress.IPv6Network("fe80::/10")


def is_link_local(address: bytes) -> bool:
    """Whether a packed address is an IPv6 link-local one."""
    return len(address) == 16 and ipaddress.IPv6Address(address) in _LINK_LOCAL


class Interfaces:
    """Links by name and their usable addresses."""

    def __init__(self) -> None:
        self.links: dict[str, Link] = {}
        self._addresses: dict[tuple[str, bytes], Address] = {}
        self._own: frozenset[bytes] = frozenset()

    def apply(self, event: KernelEvent) -> None:
        """Take a kernel event in."""
        match event:
            case LinkChanged(link, gone):
                self._forget_renamed(link)
                if gone:
                    self.links.pop(link.name, None)
                    self._addresses = {key: value for key, value in self._addresses.items() if key[0] != link.name}
                else:
                    self.links[link.name] = link
            case AddressChanged(address, gone):
                key = (address.interface, address.packed)
                if gone:
                    self._addresses.pop(key, None)
                else:
                    self._addresses[key] = address
        self._own = frozenset(packed for _, packed in self._addresses)

    def __contains__(self, address: object) -> bool:
        """Whether a packed address is this host's own. Asked with every UPDATE."""
        return address in self._own

    def index(self, name: str) -> int:
        """Interface index, 0 if there is no such interface."""
        link = self.links.get(name)
        return link.index if link else 0

    def name(self, index: int) -> str:
        """Interface name, "" if there is no such interface."""
        return next((link.name for link in self.links.values() if link.index == index), "")

    def is_up(self, name: str) -> bool:
        """Whether the interface is up, with carrier."""
        link = self.links.get(name)
        return link is not None and link.up

    def vrf_device(self, vrf: str) -> str:
        """The device of a VRF, which bears its name; "" where the kernel has none."""
        link = self.links.get(vrf)
        return vrf if link is not None and link.kind == "vrf" else ""

    def facing(self, address: bytes, vrf: str = "") -> str:
        """The interface whose network a (global) address is in; "" if it is more than one hop away or unknown.

        Only interfaces of the VRF's device are looked at, or those of none.
        """
        value = int.from_bytes(address)
        best = -1
        found = ""
        for entry in self._addresses.values():
            shift = 8 * len(address) - entry.prefix_length
            if len(entry.packed) != len(address) or entry.packed == address or entry.prefix_length <= best:
                continue
            link = self.links.get(entry.interface)
            if link is not None and link.vrf != vrf:
                continue
            if int.from_bytes(entry.packed) >> shift == value >> shift:
                best, found = entry.prefix_length, entry.interface
        return found

    def owner(self, address: bytes) -> str:
        """The interface that bears an address of this host."""
        return next((name for name, packed in self._addresses if packed == address), "")

    def ipv4(self, interface: str) -> bytes | None:
        """An IPv4 address of the interface."""
        return self._pick(interface, lambda packed: len(packed) == 4)

    def ipv6(self, interface: str) -> bytes | None:
        """A global IPv6 address of the interface."""
        return self._pick(interface, lambda packed: len(packed) == 16 and not is_link_local(packed))

    def link_local(self, interface: str) -> bytes | None:
        """The link-local address of the interface."""
        return self._pick(interface, is_link_local)

    def _pick(self, interface: str, wanted: Callable[[bytes], bool]) -> bytes | None:
        """The lowest usable address, so that the choice is the same after a restart."""
        found = [
            entry.packed
            for entry in self._addresses.values()
            if entry.interface == interface and entry.usable and wanted(entry.packed)
        ]
        return min(found, default=None)

    def _forget_renamed(self, link: Link) -> None:
        for old in [other for other in self.links.values() if other.index == link.index and other.name != link.name]:
            del self.links[old.name]
