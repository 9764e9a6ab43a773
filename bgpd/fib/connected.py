"""Which interface reaches a next hop: it must be on-link by a connected prefix of an up link, or link-local by
interface.

Reads the host; keeps nothing, writes nothing. A next hop is never resolved through a learned route: that a gateway is a
neighbour must not depend on what neighbours say. Each VRF has interfaces of its own, and a next hop is reached by those
only: the same address may be another host in another VRF.
"""

from __future__ import annotations

from collections.abc import Collection

from bgpd.kernel.host import Host
from bgpd.model.iana import Family
from bgpd.model.path import NextHop
from bgpd.model.prefix import covers, format_address, is_link_local


class Connected:
    """What the host reaches directly."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def attached_prefixes(self, family: Family, *, vrf: str = "") -> set[bytes]:
        """Keys of this host's own addresses and their networks in one family and VRF."""
        size = 4 if family is Family.IPV4_UNICAST else 16
        found = set()
        for address in self._host.all_addresses(vrf):
            if len(address.packed) == size:
                found.add(bytes((size * 8,)) + address.packed)
                found.add(address.network)
        return found

    def networks(self, vrf: str) -> set[tuple[str, Family, bytes]]:
        """(interface, family, key) of the networks that addresses and the kernel attached to a VRF's interfaces."""
        found = {
            (one.interface, Family.IPV4_UNICAST if len(one.packed) == 4 else Family.IPV6_UNICAST, one.network)
            for one in self._host.all_addresses(vrf)
        }
        for link in self._host.interfaces(vrf):
            found.update((link.name, *place) for place in self._host.networks(link.name))
        return found

    def connected_networks(self, interfaces: Collection[str]) -> dict[Family, dict[bytes, str]]:
        """Networks that the kernel attached to these interfaces, each with its interface; link-local ones left out.

        Of several interfaces with one network the first that is up.
        """
        found: dict[Family, dict[bytes, str]] = {Family.IPV4_UNICAST: {}, Family.IPV6_UNICAST: {}}
        for name in sorted(interfaces, key=self._preference):
            for family, key in self._host.networks(name):
                found[family].setdefault(key, name)
        return found

    def _preference(self, interface: str) -> tuple[bool, int]:
        link = self._host.named(interface)
        return (not link.up, link.index) if link else (True, 0)

    def interface_of(self, hop: NextHop, *, table: int, vrf: str = "") -> tuple[int, str]:
        """(interface index, "") of a next hop that can be reached in `table`, or (0, why it cannot)."""
        if hop.interface:
            return self._scoped(hop, table, vrf)
        if not hop.address:
            return 0, "a next hop needs an address or an interface"
        if is_link_local(hop.address):
            return 0, f"link-local next hop {format_address(hop.address)} names no interface"
        if self._host.has_address(hop.address, vrf=vrf):
            return 0, f"next hop {format_address(hop.address)} is this host's own address"
        return self._on_link(hop, table, vrf)

    def _scoped(self, hop: NextHop, table: int, vrf: str) -> tuple[int, str]:
        link = self._host.named(hop.interface)
        if link is None:
            return 0, f"interface {hop.interface} does not exist"
        if not link.up:
            return 0, f"interface {hop.interface} is down"
        owner = self._host.vrf_of(hop.interface)
        if owner != vrf:
            return 0, f"interface {hop.interface} is in {_named(owner)}, not in {_named(vrf)}"
        if self._host.bears(hop.interface, hop.address):
            return 0, f"next hop {format_address(hop.address)} is this host's own address on {hop.interface}"
        if not hop.address or is_link_local(hop.address):
            return link.index, ""
        return self._on_link(hop, table, vrf)

    def _on_link(self, hop: NextHop, table: int, vrf: str) -> tuple[int, str]:
        """Longest connected prefix over the next hop; of equal ones the lowest interface index."""
        family, key = _host_key(hop.address)
        best: tuple[int, int] = (-1, 0)
        down = ""
        for place, name in self._host.attached(family, table):
            link = self._host.named(name)
            if not covers(place, key) or link is None or hop.interface not in ("", name):
                continue
            if self._host.vrf_of(name) != vrf:
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


def _named(vrf: str) -> str:
    return f"VRF {vrf}" if vrf else "the main table"


def _host_key(address: bytes) -> tuple[Family, bytes]:
    family = Family.IPV4_UNICAST if len(address) == 4 else Family.IPV6_UNICAST
    return family, bytes((len(address) * 8,)) + address
