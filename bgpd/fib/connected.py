"""Which interface reaches a next hop: it must be on-link by a connected prefix of an up link, or link-local by
interface.

Follows links, addresses and routes as values; asks nothing, writes nothing. A next hop is never resolved through a
learned route: that a gateway is a neighbour must not depend on what neighbours say. Each VRF has interfaces of its own,
and a next hop is reached by those only: the same address may be another host in another VRF.
"""

from __future__ import annotations

from collections.abc import Collection

from bgpd.model.iana import Family
from bgpd.model.kernel import Address, AddressChanged, KernelEvent, KernelRoute, Link, LinkChanged, RouteChanged
from bgpd.model.path import NextHop
from bgpd.model.prefix import covers, format_address


class Connected:
    """The host's links, addresses and directly attached prefixes. `links` by interface index."""

    def __init__(self) -> None:
        self.links: dict[int, Link] = {}
        self._by_name: dict[str, Link] = {}
        self._vrfs: dict[str, str] = {}
        self._addresses: set[tuple[str, bytes, int]] = set()
        self._networks: dict[str, set[tuple[Family, bytes]]] = {}
        self._attached: dict[tuple[Family, int, bytes, str], int] = {}

    def apply(self, event: KernelEvent) -> None:
        """Follow one kernel event."""
        if isinstance(event, RouteChanged):  # of nearly all events
            self._route_changed(event.route, event.gone)
        elif isinstance(event, LinkChanged):
            self._link_changed(event.link, event.gone)
        elif isinstance(event, AddressChanged):
            self._address_changed(event.address, event.gone)

    def _route_changed(self, route: KernelRoute, gone: bool) -> None:
        if not route.interface or route.gateway or not route.key[0]:
            return
        self.attach(route, -1 if gone else 1)
        if route.protocol == _RTPROT_KERNEL and route.table == _MAIN:
            networks = self._networks.setdefault(route.interface, set())
            (networks.discard if gone else networks.add)((route.family, route.key))

    def attach(self, route: KernelRoute, count: int) -> None:
        """Count a directly attached route of any owner in (1) or out (-1)."""
        place = (route.family, route.table, route.key, route.interface)
        present = self._attached.get(place, 0) + count
        if present > 0:
            self._attached[place] = present
        else:
            self._attached.pop(place, None)

    def link_named(self, name: str) -> Link | None:
        """The link of that name."""
        return self._by_name.get(name)

    def assign(self, interface: str, vrf: str | None) -> None:
        """The interface belongs to a VRF ("" is the main table); None: to the one that the kernel has it in."""
        if vrf is None:
            self._vrfs.pop(interface, None)
        else:
            self._vrfs[interface] = vrf

    def vrf_of(self, interface: str) -> str:
        """The VRF that an interface belongs to, "" if to none. A VRF device belongs to itself."""
        assigned = self._vrfs.get(interface)
        if assigned is not None:
            return assigned
        link = self._by_name.get(interface)
        if link is None:
            return ""
        return link.name if link.kind == "vrf" else link.vrf

    def interfaces(self, vrf: str) -> list[Link]:
        """The links of a VRF, by index."""
        return [link for _index, link in sorted(self.links.items()) if self.vrf_of(link.name) == vrf]

    def has_address(self, packed: bytes, *, vrf: str = "") -> bool:
        """Whether it is one of this host's own addresses in a VRF."""
        return any(address == packed and self.vrf_of(name) == vrf for name, address, _length in self._addresses)

    def attached_prefixes(self, family: Family, *, vrf: str = "") -> set[bytes]:
        """Keys of this host's own addresses and their networks in one family and VRF."""
        size = 4 if family is Family.IPV4_UNICAST else 16
        found = set()
        for interface, packed, length in self._addresses:
            if len(packed) == size and self.vrf_of(interface) == vrf:
                found.add(bytes((size * 8,)) + packed)
                found.add(_network_key(packed, length))
        return found

    def networks(self, vrf: str) -> set[tuple[str, Family, bytes]]:
        """(interface, family, key) of the networks that addresses and the kernel attached to a VRF's interfaces."""
        found = {
            (name, Family.IPV4_UNICAST if len(packed) == 4 else Family.IPV6_UNICAST, _network_key(packed, length))
            for name, packed, length in self._addresses
        }
        found.update((name, *place) for name, places in self._networks.items() for place in places)
        return {place for place in found if self.vrf_of(place[0]) == vrf}

    def connected_networks(self, interfaces: Collection[str]) -> dict[Family, dict[bytes, str]]:
        """Networks that the kernel attached to these interfaces, each with its interface; link-local ones left out.

        Of several interfaces with one network the first that is up.
        """
        found: dict[Family, dict[bytes, str]] = {Family.IPV4_UNICAST: {}, Family.IPV6_UNICAST: {}}
        for name in sorted(interfaces, key=self._preference):
            for family, key in self._networks.get(name, ()):
                if key[1:3] != _LINK_LOCAL:
                    found[family].setdefault(key, name)
        return found

    def _preference(self, interface: str) -> tuple[bool, int]:
        link = self._by_name.get(interface)
        return (not link.up, link.index) if link else (True, 0)

    def interface_of(self, hop: NextHop, *, table: int, vrf: str = "") -> tuple[int, str]:
        """(interface index, "") of a next hop that can be reached in `table`, or (0, why it cannot)."""
        if hop.interface:
            return self._scoped(hop, table, vrf)
        if not hop.address:
            return 0, "a next hop needs an address or an interface"
        if _is_link_local(hop.address):
            return 0, f"link-local next hop {format_address(hop.address)} names no interface"
        if self.has_address(hop.address, vrf=vrf):
            return 0, f"next hop {format_address(hop.address)} is this host's own address"
        return self._on_link(hop, table, vrf)

    def _scoped(self, hop: NextHop, table: int, vrf: str) -> tuple[int, str]:
        link = self._by_name.get(hop.interface)
        if link is None:
            return 0, f"interface {hop.interface} does not exist"
        if not link.up:
            return 0, f"interface {hop.interface} is down"
        owner = self.vrf_of(hop.interface)
        if owner != vrf:
            return 0, f"interface {hop.interface} is in {_named(owner)}, not in {_named(vrf)}"
        if not hop.address or _is_link_local(hop.address):
            return link.index, ""
        return self._on_link(hop, table, vrf)

    def _on_link(self, hop: NextHop, table: int, vrf: str) -> tuple[int, str]:
        """Longest connected prefix over the next hop; of equal ones the lowest interface index."""
        family, key = _host_key(hop.address)
        best: tuple[int, int] = (-1, 0)
        down = ""
        for place, name in self._candidates(family, table):
            link = self._by_name.get(name)
            if not covers(place, key) or link is None or hop.interface not in ("", name):
                continue
            if self.vrf_of(name) != vrf:
                continue
            if link.up:
                best = max(best, (place[0], -link.index))
            else:
                down = name
        if best[0] >= 0:
            return -best[1], ""
        where = f" on {hop.interface}" if hop.interface else ""
        why = f"interface {down} is down" if down else f"no connected prefix{where} contains it"
        return 0, f"next hop {format_address(hop.address)} is unreachable: {why}"

    def _candidates(self, family: Family, table: int) -> list[tuple[bytes, str]]:
        """(prefix, interface) of what is directly attached: routes of the table and of main, and addresses."""
        found = [
            (key, interface)
            for of, of_table, key, interface in self._attached
            if of is family and of_table in (table, _MAIN)
        ]
        size = 4 if family is Family.IPV4_UNICAST else 16
        found += [
            (_network_key(packed, length), name) for name, packed, length in self._addresses if len(packed) == size
        ]
        return found

    def _link_changed(self, link: Link, gone: bool) -> None:
        before = self.links.pop(link.index, None)
        if before is not None:
            self._by_name.pop(before.name, None)
        if gone:
            self._networks.pop(link.name, None)
            self._addresses = {entry for entry in self._addresses if entry[0] != link.name}
            self._attached = {place: count for place, count in self._attached.items() if place[3] != link.name}
            return
        self.links[link.index] = link
        self._by_name[link.name] = link

    def _address_changed(self, address: Address, gone: bool) -> None:
        entry = (address.interface, address.packed, address.prefix_length)
        if gone or not address.usable:
            self._addresses.discard(entry)
        else:
            self._addresses.add(entry)


_MAIN = 254
_RTPROT_KERNEL = 2
_LINK_LOCAL = b"\xfe\x80"


def _named(vrf: str) -> str:
    return f"VRF {vrf}" if vrf else "the main table"


def _host_key(address: bytes) -> tuple[Family, bytes]:
    family = Family.IPV4_UNICAST if len(address) == 4 else Family.IPV6_UNICAST
    return family, bytes((len(address) * 8,)) + address


def _network_key(packed: bytes, length: int) -> bytes:
    bits = len(packed) * 8
    number = int.from_bytes(packed, "big") >> (bits - length) << (bits - length)
    return bytes((length,)) + number.to_bytes(len(packed), "big")[: (length + 7) >> 3]


def _is_link_local(address: bytes) -> bool:
    return len(address) == 16 and address[0] == 0xFE and address[1] & 0xC0 == 0x80
